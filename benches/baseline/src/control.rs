//! The control channel: one JSON command per line from standard input, one JSON line as its answer.

use std::{io::Write, time::Duration};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::{
    library::{Client, Fallible, Options, version},
    rows::Rows,
};

/// Answers commands until standard input ends.
pub(crate) async fn obey<C: Client>(
    client: Option<C>,
    options: &Options,
    port: Option<u16>,
    library: &str,
) -> Fallible<()> {
    answer(&json!({ "versions": { library: version(library) }, "port": port }))?;
    let mut rows = client.map(|client| Rows::new(client, options.waits));
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let command: Value = serde_json::from_str(&line)?;
        let limit = Duration::from_secs_f64(command["limit"].as_f64().unwrap_or(30.0));
        let result = match (command["do"].as_str(), rows.as_mut()) {
            (Some("status"), _) => status(),
            (Some(name), Some(rows)) => match tokio::time::timeout(limit, rows.run(name, &command)).await {
                Ok(result) => result,
                Err(_) => Err(format!("{name} took longer than {limit:?}").into()),
            },
            _ => Err("a server only tells its status".into()),
        };
        answer(&result.unwrap_or_else(|error| json!({ "error": error.to_string() })))?;
    }
    Ok(())
}

/// Writes one line.
pub(crate) fn answer(value: &Value) -> Fallible<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{value}")?;
    Ok(output.flush()?)
}

/// Memory and CPU time of this process.
pub(crate) fn status() -> Fallible<Value> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let rss = line
        .and_then(|line| line.trim().strip_suffix(" kB"))
        .ok_or("no VmRSS")?;
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let cpu = time.tv_sec as f64 + time.tv_nsec as f64 / 1e9;
    Ok(json!({ "rss_kb": rss.parse::<u64>()?, "cpu": cpu, "counters": {} }))
}
