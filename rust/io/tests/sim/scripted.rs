//! Situations on networks that leave nothing to chance.

use std::{future::Future, time::Duration};

use wt_io::{
    config::{ClientConfig, CommonConfig, ServerConfig},
    error::{CloseCause, CloseInfo, Initiator},
    send_stream::{SendState, Written},
};

use crate::{
    common::{self, Pair, Peer},
    network::{Link, Network},
    random::{difference, fill},
    setting::{Stage, play},
};

/// Longer than a round trip and all that follows from one packet.
const A_WHILE: Duration = Duration::from_secs(1);

/// Play `story` on a network that loses nothing, until the story has it otherwise.
fn on_a_good_network<F>(limit: Duration, story: impl FnOnce(Stage) -> F + Send + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    on(|_| {}, limit, story);
}

fn on<F>(
    prepare: impl FnOnce(&mut Network) + Send + 'static,
    limit: Duration,
    story: impl FnOnce(Stage) -> F + Send + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    crate::diary::begin();
    common::limited(move || {
        if let Err(message) = play(0, limit, prepare, story) {
            panic!("{message}");
        }
    });
}

impl Stage {
    fn configs(&self, change: impl Fn(&mut CommonConfig)) -> (ServerConfig, ClientConfig) {
        let (mut server, mut client) = (self.net.server_config(), self.net.client_config());
        change(&mut server.common);
        change(&mut client.common);
        (server, client)
    }

    async fn pair(&self, change: impl Fn(&mut CommonConfig)) -> Pair {
        let (server, client) = self.configs(change);
        self.pair_with(server, client).await
    }
}

async fn sleep(peer: &Peer, duration: Duration) {
    peer.event_loop().driver.sleep(duration).await;
}

/// Close the session, the connection, the server.
async fn finish(pair: Pair) {
    pair.client.close(0, "");
    pair.client.closed().await;
    pair.server.closed().await;
    close_all(pair).await;
}

/// The same when the session is over already.
async fn close_all(pair: Pair) {
    let Pair {
        listener,
        dialer,
        client,
        server,
    } = pair;
    client.abandon();
    server.abandon();
    drop(dialer);
    server.connection().lost().await;
    listener.close().await;
}

/// A stream of `len` bytes from one end to the other, and nothing but them.
async fn transfer(from: &Peer, to: &Peer, number: u64, len: usize) {
    let mut data = vec![0; len];
    fill(number, 0, &mut data);
    let send = from.open_uni().await;
    let writing = {
        let from = from.clone();
        async move { from.write(&send, &data, true).await.expect("written") }
    };
    from.event_loop().driver.spawn(writing);
    let recv = to.accept_uni().await;
    let arrived = to.read_to_end(&recv).await.expect("read");
    assert_eq!(arrived.len(), len);
    assert_eq!(difference(number, 0, &arrived), None);
}

/// The largest datagram that may be sent arrives.
async fn largest_datagram_arrives(from: &Peer, to: &Peer) -> usize {
    let size = from.max_datagram_size();
    let mut data = vec![0; size];
    fill(size as u64, 0, &mut data);
    from.send(&data).await.expect("it is not too large");
    let arrived = to.datagram().await.expect("it arrives");
    assert!(arrived == data);
    size
}

#[test]
fn a_session_is_there_after_two_round_trips() {
    const ONE_WAY: Duration = Duration::from_millis(100);
    let far = |network: &mut Network| {
        network.up = Link::perfect(ONE_WAY);
        network.down = Link::perfect(ONE_WAY);
    };
    on(far, Duration::from_secs(60), |stage| async move {
        let driver = stage.net.client_loop.driver.clone();
        let began = driver.now();
        let pair = stage.pair(|_| {}).await;
        // One for the handshake, with which the SETTINGS come, one for the request.
        let round_trips = driver.now().duration_since(began).as_secs_f64() / (2 * ONE_WAY).as_secs_f64();
        assert!((2.0..2.4).contains(&round_trips), "{round_trips}");
        finish(pair).await;
    });
}

#[test]
fn a_stream_goes_on_through_rebindings() {
    let prepare = |network: &mut Network| {
        network.up.rate = 1_000_000;
        network.down.rate = 1_000_000;
    };
    on(prepare, Duration::from_secs(60), |stage| async move {
        // When the server alone sends, it is the client's keep-alive that tells where the client is now.
        let pair = stage
            .pair(|common| common.keep_alive = Some(Duration::from_secs(2)))
            .await;
        let mut seen = vec![pair.server.connection().remote_address()];
        for (from, to) in [(&pair.client, &pair.server), (&pair.server, &pair.client)] {
            for new_ip in [false, true] {
                let world = stage.world.clone();
                let driver = from.event_loop().driver.clone();
                from.event_loop().driver.spawn(async move {
                    // A quarter of the time that the transfer takes.
                    driver.sleep(Duration::from_millis(500)).await;
                    world.network.lock().rebind(new_ip);
                });
                transfer(from, to, 1, 2_000_000).await;
                seen.push(pair.server.connection().remote_address());
            }
        }
        seen.dedup();
        assert_eq!(
            seen.len(),
            5,
            "each rebinding was in the middle of a transfer: {seen:?}"
        );
        finish(pair).await;
    });
}

#[test]
fn the_largest_datagram_follows_the_path() {
    on_a_good_network(Duration::from_secs(1000), |stage| async move {
        let pair = stage
            .pair(|common| common.keep_alive = Some(Duration::from_secs(5)))
            .await;
        let ends = [(&pair.client, &pair.server), (&pair.server, &pair.client)];
        sleep(&pair.client, A_WHILE).await;
        let mut large = [0; 2];
        for (index, (from, to)) in ends.into_iter().enumerate() {
            large[index] = largest_datagram_arrives(from, to).await;
            assert!((1380..1452).contains(&large[index]), "{large:?}");
        }
        // Streams find out that the path has become narrower, a datagram would only be lost.
        stage.world.network.lock().set_mtu(1250);
        for (index, (from, to)) in ends.into_iter().enumerate() {
            transfer(from, to, 2, 1 << 20).await;
            let small = largest_datagram_arrives(from, to).await;
            assert!((1120..1250).contains(&small), "{small}");
            assert!(small < large[index]);
        }
        // quinn tries again ten minutes after a search, one minute after it found the path narrower.
        stage.world.network.lock().set_mtu(1500);
        sleep(&pair.client, Duration::from_secs(700)).await;
        for (index, (from, to)) in ends.into_iter().enumerate() {
            assert_eq!(largest_datagram_arrives(from, to).await, large[index]);
        }
        finish(pair).await;
    });
}

#[test]
fn an_outage_beyond_the_idle_timeout_ends_both_ends() {
    on_a_good_network(Duration::from_secs(200), |stage| async move {
        let pair = stage
            .pair(|common| {
                common.idle_timeout = Duration::from_secs(20);
                common.keep_alive = Some(Duration::from_secs(5));
            })
            .await;
        let stream = pair.client.open_uni().await;
        assert_eq!(stream.write(b"begun", false), Ok(Written::Sent));
        sleep(&pair.client, A_WHILE).await;
        let now = stage.world.now();
        stage.world.network.lock().go_dark(now, Duration::from_secs(25));
        for end in [&pair.client, &pair.server] {
            let info = end.closed().await;
            assert_eq!(
                (info.cause, info.by),
                (CloseCause::ConnectionLost, Initiator::Transport)
            );
            assert!(info.reason.contains("idle timeout"), "{}", info.reason);
            assert_eq!(end.connection().end().expect("it has ended").cause, "timeout");
        }
        assert!(
            stage.world.now() - now <= Duration::from_secs(25),
            "before the network was back"
        );
        pair.client.event_loop().ready(stream.ended()).await;
        assert_eq!(stream.state(), SendState::Closed);
        close_all(pair).await;
    });
}

#[test]
fn keep_alive_holds_a_session_through_an_idle_hour() {
    on_a_good_network(Duration::from_secs(4000), |stage| async move {
        let (server, mut client) = stage.configs(|common| common.idle_timeout = Duration::from_secs(30));
        // That of one side is enough, also for the idle timeout of the other.
        client.common.keep_alive = Some(Duration::from_secs(15));
        let pair = stage.pair_with(server, client).await;
        for _ in 0..6 {
            sleep(&pair.client, Duration::from_secs(600)).await;
            stage.world.network.lock().rebind(true);
        }
        assert!(pair.client.is_connected());
        transfer(&pair.client, &pair.server, 3, 100_000).await;
        transfer(&pair.server, &pair.client, 4, 100_000).await;
        let packets = stage.world.network.lock().traffic.packets;
        assert!(packets < 2_000, "it was idle: {packets}");
        finish(pair).await;
    });
}

#[test]
fn without_keep_alive_an_idle_session_ends() {
    on_a_good_network(Duration::from_secs(100), |stage| async move {
        let pair = stage.pair(|common| common.idle_timeout = Duration::from_secs(30)).await;
        sleep(&pair.client, Duration::from_secs(29)).await;
        assert!(pair.client.is_connected());
        for end in [&pair.client, &pair.server] {
            assert_eq!(end.closed().await.cause, CloseCause::ConnectionLost);
        }
        close_all(pair).await;
    });
}

#[test]
fn duplicated_packets_deliver_nothing_twice() {
    let prepare = |network: &mut Network| {
        for link in [&mut network.up, &mut network.down] {
            link.duplication = 1.0;
            link.jitter = Duration::from_millis(2);
        }
    };
    on(prepare, Duration::from_secs(60), |stage| async move {
        let pair = stage.pair(|_| {}).await;
        for (from, to) in [(&pair.client, &pair.server), (&pair.server, &pair.client)] {
            for number in 0..200_u8 {
                from.send(&[number; 100]).await.expect("sent");
            }
            let mut seen = [false; 200];
            for _ in 0..200 {
                let datagram = to.datagram().await.expect("nothing is lost");
                assert_eq!(datagram.len(), 100);
                let number = usize::from(datagram[0]);
                assert!(!seen[number], "datagram {number} came twice");
                seen[number] = true;
            }
            transfer(from, to, 5, 300_000).await;
            sleep(to, A_WHILE).await;
            assert!(to.try_receive_datagram().expect("open").is_none(), "one came twice");
            assert_eq!(to.datagrams().stats().received, 200);
        }
        let traffic = stage.world.network.lock().traffic;
        assert_eq!(traffic.duplicated, traffic.packets);
        finish(pair).await;
    });
}

#[test]
fn a_close_that_is_lost_is_sent_again() {
    on_a_good_network(Duration::from_secs(60), |stage| async move {
        for client_closes in [true, false] {
            let pair = stage.pair(|_| {}).await;
            let (closing, other) = if client_closes {
                (&pair.client, &pair.server)
            } else {
                (&pair.server, &pair.client)
            };
            sleep(closing, A_WHILE).await;
            // Longer than the second that the closing end waits for an answer.
            let now = stage.world.now();
            stage.world.network.lock().go_dark(now, Duration::from_secs(3));
            closing.close(7, "the network is down");
            let closed = |by| CloseInfo {
                code: 7,
                reason: "the network is down".into(),
                by,
                cause: CloseCause::Closed,
            };
            assert_eq!(closing.closed().await, closed(Initiator::Local));
            assert!(
                stage.world.now() - now < Duration::from_secs(3),
                "it waits no longer than before"
            );
            assert_eq!(other.closed().await, closed(Initiator::Peer));
            close_all(pair).await;
        }
    });
}

/// quinn holds ACKs back while data waits for congestion window: see `wt_quic::congestion`, without which the second
/// transfer took half as long again and was not over here.
#[test]
fn two_senders_on_a_bad_path_get_through() {
    let prepare = |network: &mut Network| {
        for link in [&mut network.up, &mut network.down] {
            *link = Link {
                loss: 0.05,
                ..Link::perfect(Duration::from_millis(50))
            };
        }
    };
    on(prepare, Duration::from_secs(300), |stage| async move {
        let pair = stage
            .pair(|common| common.keep_alive = Some(Duration::from_secs(5)))
            .await;
        for (number, (from, to)) in [(&pair.client, &pair.server), (&pair.server, &pair.client)]
            .into_iter()
            .enumerate()
        {
            let (from, to) = (from.clone(), to.clone());
            let transfer = async move { transfer(&from, &to, number as u64, 4 << 20).await };
            pair.client.event_loop().driver.spawn(transfer);
        }
        for second in 0..130 {
            sleep(&pair.client, Duration::from_secs(1)).await;
            if second % 10 == 5 {
                let now = stage.world.now();
                stage.world.network.lock().go_dark(now, Duration::from_millis(1500));
            }
        }
        for end in [&pair.client, &pair.server] {
            let stats = end.stats();
            assert_eq!(stats.streams_closed.get(), 2, "both transfers are over");
        }
        finish(pair).await;
    });
}
