//! The floor of a round trip: two processes that bounce 64 bytes over UDP, without QUIC and without a runtime.

use std::{
    io::BufRead,
    net::UdpSocket,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    control::{answer, status},
    library::{Fallible, Options, socket},
    rows::{MESSAGE, WARM_UP, times_report},
};

pub(crate) fn run(options: &Options) -> Fallible<()> {
    let socket = socket()?;
    let started = json!({ "versions": {}, "port": socket.local_addr()?.port() });
    if options.is_server() {
        let echo = socket.try_clone()?;
        std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok((count, from)) = echo.recv_from(&mut buffer) {
                let _ = echo.send_to(&buffer[..count], from);
            }
        });
    }
    answer(&started)?;
    for line in std::io::stdin().lock().lines() {
        let command: Value = serde_json::from_str(&line?)?;
        let result = match command["do"].as_str() {
            Some("status") => status(),
            Some("stream_round_trip" | "datagram_round_trip") => round_trips(&socket, &command),
            other => Err(format!("no row {other:?}").into()),
        };
        answer(&result.unwrap_or_else(|error| json!({ "error": error.to_string() })))?;
    }
    // The echo still waits.
    std::process::exit(0)
}

fn round_trips(socket: &UdpSocket, command: &Value) -> Fallible<Value> {
    let port = command["port"].as_u64().ok_or("no port")? as u16;
    let seconds = command["seconds"].as_f64().unwrap_or(1.0);
    socket.connect(("127.0.0.1", port))?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    let exchange = |seconds: f64| {
        let (mut times, mut buffer) = (Vec::new(), [0; 2048]);
        let end = Instant::now() + Duration::from_secs_f64(seconds);
        while Instant::now() < end {
            let started = Instant::now();
            socket.send(&MESSAGE)?;
            socket.recv(&mut buffer)?;
            times.push(started.elapsed().as_secs_f64() * 1e6);
        }
        Fallible::Ok(times)
    };
    let warm = exchange(seconds * WARM_UP)?.len();
    times_report(exchange(seconds)?, warm)
}
