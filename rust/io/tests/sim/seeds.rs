//! A whole life from one seed: what the network does, what the applications do, and that nothing is lost or left.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use wt_io::{
    config::{ClientConfig, CommonConfig, CongestionControl, ServerConfig},
    connection::Connection,
    error::{CloseCause, Initiator, OpenError},
};

use crate::{
    common::Net,
    network::{Link, Network, Traffic},
    random::Random,
    setting::{Stage, play},
    workload::{Actor, Ledger, Sums},
    world::World,
};

/// Time that a world has to come to an end after the last action: the slowest stream with the slowest reader.
const AFTERMATH: Duration = Duration::from_secs(900);

const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Sessions at once, where flow control allows several.
const MAX_SESSIONS: u64 = 4;

/// UDP payloads that networks let through: the least that QUIC wants, a tunnel or two, Ethernet.
const MTUS: [usize; 5] = [1200, 1280, 1350, 1420, 1472];

/// What one seed did.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    pub traffic: Traffic,
    pub sums: Sums,
    pub trace: u64,
}

/// Live through one seed; the message of its failure otherwise.
pub fn run(seed: u64, duration: Duration) -> Result<Outcome, String> {
    let ledger = Arc::<Mutex<Ledger>>::default();
    let failure = match catch_unwind(AssertUnwindSafe(|| live(seed, duration, &ledger))) {
        Ok(Ok(outcome)) => return Ok(outcome),
        Ok(Err(message)) => message,
        Err(panic) => match panic.downcast::<String>() {
            Ok(message) => *message,
            Err(panic) => panic
                .downcast_ref::<&str>()
                .map_or("it panicked", |text| *text)
                .to_owned(),
        },
    };
    // The panic of a task may have come while it wrote to the ledger.
    let open_ends = ledger.try_lock().map(|ledger| ledger.open_ends());
    Err(format!("{failure}\n{}", open_ends.unwrap_or_default()))
}

fn live(seed: u64, duration: Duration, ledger: &Arc<Mutex<Ledger>>) -> Result<Outcome, String> {
    let mut random = Random::new(seed, "links");
    let prepare = |network: &mut Network| {
        let latency = random.millis(5..120);
        network.up = link(&mut random, latency);
        network.down = link(&mut random, latency);
        network.mtu = random.one_of(&MTUS);
    };
    let story = |stage| story(seed, duration, stage, ledger.clone());
    let world = play(seed, duration + AFTERMATH, prepare, story)?;
    let network = world.network.lock();
    let sums = ledger.lock().sums;
    Ok(Outcome {
        traffic: network.traffic,
        sums,
        trace: network.trace(),
    })
}

fn link(random: &mut Random, latency: Duration) -> Link {
    Link {
        // Packets of one burst are a fraction of a millisecond apart: this mixes them well.
        jitter: Duration::from_micros(random.within(1..3_000)),
        rate: random.within(100_000..5_000_000),
        queue: Duration::from_millis(300),
        loss: 0.05,
        duplication: 0.01,
        reordering: 0.02,
        ..Link::perfect(latency)
    }
}

async fn story(seed: u64, duration: Duration, stage: Stage, ledger: Arc<Mutex<Ledger>>) {
    let Stage { world, net, host } = stage;
    let mut random = Random::new(seed, "story");
    let scene = |text: String| ledger.lock().scene = text;
    let (server, client) = configs(&net, &mut random);
    tracing::info!(?server, ?client, "the configurations");
    scene("connecting".into());
    let listener = net.listen_on(&host, 443, server).await.expect("the port is free");
    let dialer = net.dialer(client);
    let connection = dialer.connect(&host, 443).await.expect("connected");
    let driver = connection.driver().clone();
    ledger.lock().has_early_resets = !connection.has_flow_control();
    let sessions = match connection.session_limit() {
        1 => 1,
        _ => random.within(1..MAX_SESSIONS + 1),
    };
    let quiet = Arc::new(quiet_periods(&mut random, duration));
    let pace = random.within(300..3_000) * sessions;
    let mut pairs = Vec::new();
    let mut actors = Vec::new();
    for number in 0..sessions {
        scene(format!("session {number} of {sessions} is requested"));
        let path = format!("/{number}");
        let client = loop {
            match dialer.try_request(&connection, "localhost", &path, Vec::new()) {
                // The MAX_STREAMS that lets one more request through was lost, or is on its way.
                Err(OpenError::TooManySessions) if number > 0 => driver.sleep(Duration::from_millis(50)).await,
                requested => break requested.expect("the connection lives"),
            }
        };
        let server = listener.accept().await;
        scene(format!("session {number} of {sessions} is accepted"));
        client.established().await;
        assert!(client.is_connected(), "session {number}: {:?}", client.close_info());
        for (peer, name) in [(&client, "client"), (&server, "server")] {
            let actor = Actor::new(peer, &ledger, name, pace, quiet.clone());
            actor.serve();
            actors.push(actor);
        }
        pairs.push((client, server));
    }
    let ends = [pairs[0].0.connection().clone(), pairs[0].1.connection().clone()];
    driver.spawn(weather(seed, duration, world, ends));
    let mut acting = Vec::new();
    scene("acting".into());
    for (number, actor) in actors.into_iter().enumerate() {
        let random = Random::new(seed, &format!("actor {number}"));
        let (done, finished) = tokio::sync::oneshot::channel();
        let act = actor.act(random, duration);
        driver.spawn(async move {
            act.await;
            let _ = done.send(());
        });
        acting.push(finished);
    }
    for finished in acting {
        finished.await.expect("it runs to its end");
    }
    for (number, (client, server)) in pairs.iter().enumerate() {
        for end in [client, server] {
            assert_eq!(end.close_info(), None, "session {number} was lost");
            assert_eq!(end.connection().end(), None, "the connection was lost");
        }
        let (first, second) = if random.chance(0.5) {
            (client, server)
        } else {
            (server, client)
        };
        scene(format!("session {number} closes"));
        let code = random.next() as u32;
        let reason = format!("the end of session {number}");
        first.close(code, &reason);
        for (end, by) in [(first, Initiator::Local), (second, Initiator::Peer)] {
            let info = end.closed().await;
            assert_eq!((info.code, &info.reason, info.by), (code, &reason, by));
            assert_eq!(info.cause, CloseCause::Closed);
            end.abandon();
        }
        // No half was left: all are acknowledged, reset or stopped at both ends.
        for end in [client, server] {
            let stats = end.stats();
            assert_eq!(stats.streams_created.get(), stats.streams_closed.get());
        }
    }
    while pairs.iter().any(|(client, _)| client.connection().session_count() > 0) {
        driver.sleep(Duration::from_millis(100)).await;
    }
    scene("the connection closes".into());
    drop(dialer);
    let (_, server) = pairs.swap_remove(0);
    server.connection().lost().await;
    let end = server.connection().end().cloned().expect("it has ended");
    // CONNECTION_CLOSE is sent once, and repeated only to a peer that sends something soon (RFC 9000 section 10.2.1).
    assert!(
        matches!(
            (end.cause, end.by),
            ("closed", Initiator::Peer) | ("timeout", Initiator::Transport)
        ),
        "{end:?}"
    );
    scene("the server closes".into());
    listener.close().await;
}

fn configs(net: &Net, random: &mut Random) -> (ServerConfig, ClientConfig) {
    let has_flow_control = random.chance(0.5);
    let mut common = |common: CommonConfig| CommonConfig {
        idle_timeout: IDLE_TIMEOUT,
        keep_alive: Some(random.millis(4_000..10_000)),
        congestion_control: random.one_of(&[CongestionControl::Cubic, CongestionControl::NewReno]),
        window_auto_scale: random.chance(0.5),
        window_size: random.one_of(&[20_000, 200_000, 1 << 20]),
        max_incoming_streams: random.one_of(&[2, 10, 100]),
        initial_max_data: if has_flow_control {
            random.within(1_000..500_000)
        } else {
            0
        },
        initial_max_streams_bidi: if has_flow_control { random.within(1..20) } else { 0 },
        initial_max_streams_uni: if has_flow_control { random.within(1..20) } else { 0 },
        stream_buffer_size: random.one_of(&[2_000, 64 << 10]),
        max_stream_buffer_size: random.one_of(&[4_000, 1 << 20]),
        ..common
    };
    let server = net.server_config();
    let client = net.client_config();
    (
        ServerConfig {
            common: common(server.common),
            max_sessions: MAX_SESSIONS,
            ..server
        },
        ClientConfig {
            common: common(client.common),
            ..client
        },
    )
}

/// Two in ten minutes, of one to two minutes, in which only keep-alive keeps the connection.
fn quiet_periods(random: &mut Random, duration: Duration) -> Vec<(Duration, Duration)> {
    let mut periods = Vec::new();
    let mut at = random.millis(30_000..240_000);
    while at < duration {
        let end = at + random.millis(60_000..120_000);
        periods.push((at, end));
        at = end + random.millis(60_000..240_000);
    }
    periods
}

/// What happens to the path, at random times, until `duration` is over or the connection has ended.
///
/// The path never becomes narrower than what an end already sends. quinn-proto 0.11.19 finds that out by four separate bursts
/// of lost packets, and until then every acknowledgement of an end that also has data to send goes along in a packet that
/// is too large: two such ends hear each other by probes alone, whose timeout doubles, and of 400 simulated hours two lost
/// their session to that. No setting of quinn's changes it. Paths that become narrower are in `scripted`.
async fn weather(seed: u64, duration: Duration, world: Arc<World>, ends: [Arc<Connection>; 2]) {
    let mut random = Random::new(seed, "weather");
    let [_, server] = &ends;
    let driver = server.driver();
    let end = driver.now() + duration;
    while driver.now() < end && server.end().is_none() {
        driver.sleep(random.millis(1_000..60_000)).await;
        let mut network = world.network.lock();
        match random.below(4) {
            // Most NATs keep their outside address.
            0 | 1 => network.rebind(random.chance(0.3)),
            2 => {
                let in_use = ends.iter().map(|end| usize::from(end.quic().stats().path.current_mtu));
                let mtu = random.one_of(&MTUS);
                if in_use.max().is_some_and(|in_use| in_use <= mtu) {
                    network.set_mtu(mtu);
                }
            }
            _ => network.go_dark(driver.now(), random.millis(100..3_000)),
        }
    }
}
