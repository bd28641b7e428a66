//! The rows, as `benches/peers/measure.py` has them.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde_json::{Value, json};

use crate::library::{Client, Fallible, Reader, Session, Writer};

type Stream<C> = (
    <<C as Client>::Session as Session>::Writer,
    <<C as Client>::Session as Session>::Reader,
);

/// A client, and the sessions and streams that it was told to keep.
pub(crate) struct Rows<C: Client> {
    client: C,
    /// Whether the sender of datagrams waits for room.
    waits: bool,
    held: Vec<(C::Session, Vec<Stream<C>>)>,
}

impl<C: Client> Rows<C> {
    pub(crate) fn new(client: C, waits: bool) -> Self {
        let held = Vec::new();
        Self { client, waits, held }
    }

    /// Runs the command of that name.
    pub(crate) async fn run(&mut self, name: &str, command: &Value) -> Fallible<Value> {
        let port = command["port"].as_u64().unwrap_or(0) as u16;
        let seconds = command["seconds"].as_f64().unwrap_or(1.0);
        let number = |name: &str| command[name].as_u64().unwrap_or(0) as usize;
        let connect = |path| self.client.connect(port, path);
        match name {
            "stream_round_trip" => {
                let session = connect("/echo").await?;
                let (mut writer, mut reader) = session.open().await?;
                latency(seconds, async || exchange(&mut writer, &mut reader).await).await
            }
            "datagram_round_trip" => {
                let session = connect("/echo").await?;
                latency(seconds, async || exchange_datagram(&session).await).await
            }
            "new_stream_round_trip" => {
                let session = connect("/echo").await?;
                latency(seconds, async || echo(&session, &MESSAGE).await).await
            }
            "small_echoes" => {
                let session = connect("/echo").await?;
                let work = move |end| {
                    let session = session.clone();
                    async move {
                        let mut count = 0;
                        while Instant::now() < end {
                            echo(&session, &SMALL).await?;
                            count += 1;
                        }
                        Ok(count)
                    }
                };
                rate(number("at_once"), seconds, work).await
            }
            "upload" => {
                let session = connect("/sink").await?;
                bulk(seconds, async |seconds| upload(&session, seconds).await).await
            }
            "download" => {
                let session = connect("/source").await?;
                bulk(seconds, async |seconds| download(&session, seconds).await).await
            }
            "datagrams" => self.datagrams(port, number("size"), seconds).await,
            "connect" => {
                let connect = async || {
                    let started = Instant::now();
                    let session = connect("/echo").await?;
                    let time = started.elapsed();
                    session.close();
                    Ok(time)
                };
                let mut result = latencies(seconds, connect).await?;
                for name in ["value", "p99"] {
                    result[name] = json!(result[name].as_f64().unwrap_or(0.0) / 1e3);
                }
                Ok(result)
            }
            "first_connect" => {
                let started = Instant::now();
                let _session = connect("/echo").await?;
                Ok(json!({ "value": started.elapsed().as_secs_f64() * 1e3, "operations": 1 }))
            }
            "connect_rate" => {
                let client = self.client.clone();
                let work = move |end| {
                    let client = client.clone();
                    async move {
                        let mut count = 0;
                        while Instant::now() < end {
                            client.connect(port, "/echo").await?.close();
                            count += 1;
                        }
                        Ok(count)
                    }
                };
                rate(number("at_once"), seconds, work).await
            }
            "hold" => self.hold(port, number("sessions"), number("streams")).await,
            "held_round_trips" => {
                let datagrams = command["datagrams"].as_bool().unwrap_or(false);
                self.held_round_trips(datagrams, number("active"), seconds).await
            }
            "wait" => {
                tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
                Ok(json!({ "operations": 1 }))
            }
            "stall" => self.stall(port, number("streams"), seconds).await,
            other => Err(format!("no row {other}").into()),
        }
    }

    async fn datagrams(&self, port: u16, size: usize, seconds: f64) -> Fallible<Value> {
        let session = self.client.connect(port, "/count").await?;
        let warm = self.send_datagrams(&session, size, seconds * WARM_UP).await?;
        tokio::time::sleep(SETTLE).await;
        report(&session).await?;
        let sent = self.send_datagrams(&session, size, seconds).await?;
        tokio::time::sleep(SETTLE).await;
        let (delivered, time) = report(&session).await?;
        Ok(json!({
            "value": delivered as f64 / time, "sent": sent, "delivered": delivered, "operations": warm + sent,
        }))
    }

    async fn send_datagrams(&self, session: &C::Session, size: usize, seconds: f64) -> Fallible<u64> {
        let (payload, mut sent) = (Bytes::from(vec![0; size]), 0);
        let end = Instant::now() + Duration::from_secs_f64(seconds);
        while Instant::now() < end {
            for _ in 0..64 {
                if self.waits {
                    session.send_datagram_wait(payload.clone()).await?;
                } else {
                    session.send_datagram(payload.clone())?;
                }
            }
            sent += 64;
            tokio::task::yield_now().await;
        }
        Ok(sent)
    }

    async fn hold(&mut self, port: u16, sessions: usize, streams: usize) -> Fallible<Value> {
        for _ in 0..sessions {
            let session = self.client.connect(port, "/echo").await?;
            let mut opened = Vec::new();
            for _ in 0..streams {
                let (mut writer, mut reader) = session.open().await?;
                exchange(&mut writer, &mut reader).await?;
                opened.push((writer, reader));
            }
            self.held.push((session, opened));
        }
        tokio::time::sleep(SETTLE).await;
        Ok(json!({ "held": self.held.len(), "operations": sessions.max(1) }))
    }

    /// Round trips on the first `active` of the held sessions (or of the streams of a single one), one after the other.
    async fn held_round_trips(&mut self, datagrams: bool, active: usize, seconds: f64) -> Fallible<Value> {
        let mut next = 0;
        if datagrams {
            return latency(seconds, async || {
                let session = &self.held[next % active].0;
                next += 1;
                exchange_datagram(session).await
            })
            .await;
        }
        let mut streams: Vec<_> = self
            .held
            .iter_mut()
            .flat_map(|(_, streams)| streams)
            .take(active)
            .collect();
        let active = streams.len();
        latency(seconds, async || {
            let (writer, reader) = &mut streams[next % active];
            next += 1;
            exchange(writer, reader).await
        })
        .await
    }

    /// Asks for bytes on many streams and reads none of them.
    async fn stall(&self, port: u16, streams: usize, seconds: f64) -> Fallible<Value> {
        let session = self.client.connect(port, "/source").await?;
        let mut unread = Vec::new();
        for _ in 0..streams {
            let (mut writer, reader) = session.open().await?;
            writer.write_all(seconds.to_string().as_bytes()).await?;
            writer.finish();
            unread.push(reader);
        }
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        Ok(json!({ "operations": streams }))
    }
}

async fn exchange(writer: &mut impl Writer, reader: &mut impl Reader) -> Fallible<()> {
    writer.write_all(&MESSAGE).await?;
    reader.read_exact(&mut [0; 64]).await
}

async fn exchange_datagram(session: &impl Session) -> Fallible<()> {
    session.send_datagram(Bytes::from_static(&MESSAGE))?;
    session.receive_datagram().await?;
    Ok(())
}

async fn echo(session: &impl Session, message: &[u8]) -> Fallible<()> {
    let (mut writer, mut reader) = session.open().await?;
    writer.write_all(message).await?;
    writer.finish();
    let (mut buffer, mut received) = ([0; 2048], 0);
    while let Some(count) = reader.read(&mut buffer).await? {
        received += count;
    }
    if received == message.len() {
        Ok(())
    } else {
        Err(format!("{received} of {} bytes came back", message.len()).into())
    }
}

async fn upload(session: &impl Session, seconds: f64) -> Fallible<u64> {
    let (mut writer, mut reader) = session.open().await?;
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    while Instant::now() < end {
        writer.write_all(&CHUNK).await?;
    }
    writer.finish();
    Ok(reader.text().await?.parse()?)
}

async fn download(session: &impl Session, seconds: f64) -> Fallible<u64> {
    let (mut writer, mut reader) = session.open().await?;
    writer.write_all(seconds.to_string().as_bytes()).await?;
    writer.finish();
    Ok(reader.count().await? as u64)
}

/// What the server has received since the last report, and within which time.
async fn report(session: &impl Session) -> Fallible<(u64, f64)> {
    let (mut writer, mut reader) = session.open().await?;
    writer.write_all(b"report").await?;
    writer.finish();
    Ok(serde_json::from_str(&reader.text().await?)?)
}

/// Repeats an operation for `seconds`, after a warm-up, and reports on the time that each took.
async fn latency(seconds: f64, mut operation: impl AsyncFnMut() -> Fallible<()>) -> Fallible<Value> {
    latencies(seconds, async || {
        let started = Instant::now();
        operation().await?;
        Ok(started.elapsed())
    })
    .await
}

async fn latencies(seconds: f64, mut operation: impl AsyncFnMut() -> Fallible<Duration>) -> Fallible<Value> {
    let mut warm = 0;
    let end = Instant::now() + Duration::from_secs_f64(seconds * WARM_UP);
    while Instant::now() < end {
        operation().await?;
        warm += 1;
    }
    let mut times = Vec::new();
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    while Instant::now() < end {
        times.push(operation().await?.as_secs_f64() * 1e6);
    }
    times_report(times, warm)
}

/// The same numbers as `measure.py`; times in microseconds.
pub(crate) fn times_report(mut times: Vec<f64>, warm: usize) -> Fallible<Value> {
    if times.len() < 2 {
        return Err(format!("only {} sample(s)", times.len()).into());
    }
    let samples = times.len();
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((samples - 1) as f64 * share).round() as usize];
    let curve: Vec<f64> = (0..=100).map(|step| at(f64::from(step) / 100.0)).collect();
    Ok(json!({
        "value": at(0.5), "p99": at(0.99), "p999": at(0.999), "curve": curve,
        "samples": samples, "operations": warm + samples,
    }))
}

async fn bulk(seconds: f64, mut transfer: impl AsyncFnMut(f64) -> Fallible<u64>) -> Fallible<Value> {
    let warm = transfer(seconds * WARM_UP).await?;
    let started = Instant::now();
    let size = transfer(seconds).await?;
    let rate = size as f64 / started.elapsed().as_secs_f64() / 1e6;
    Ok(json!({ "value": rate, "bytes": size, "operations": (warm + size) as f64 / 1e6 }))
}

/// Runs `at_once` tasks until an end; what was begun before it counts, and so does the time that took.
async fn rate<F>(at_once: usize, seconds: f64, work: impl Fn(Instant) -> F) -> Fallible<Value>
where
    F: Future<Output = Fallible<usize>> + Send + 'static,
{
    let round = async |seconds: f64| {
        let started = Instant::now();
        let end = started + Duration::from_secs_f64(seconds);
        let tasks: Vec<_> = (0..at_once).map(|_| tokio::spawn(work(end))).collect();
        let mut count = 0;
        for task in tasks {
            count += task.await??;
        }
        Fallible::Ok((count, started.elapsed().as_secs_f64()))
    };
    let (warm, _) = round(seconds * WARM_UP).await?;
    let (count, time) = round(seconds).await?;
    Ok(json!({ "value": count as f64 / time, "operations": warm + count }))
}

pub(crate) static CHUNK: [u8; 65536] = [b'c'; 65536];

pub(crate) static MESSAGE: [u8; 64] = [b'm'; 64];
static SMALL: [u8; 1024] = [b's'; 1024];

/// Share of the measured time, before it.
pub(crate) const WARM_UP: f64 = 0.25;

/// Until the last datagram has arrived, or the memory of new sessions has settled.
const SETTLE: Duration = Duration::from_millis(400);
