//! WebTransport flow control between both ends, and several sessions on one connection.

mod common;

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use common::{Dialer, Listener, Net, Pair, Peer, both_drivers, eventually, pattern};
use wt_io::{
    config::{ClientConfig, CommonConfig, ServerConfig},
    connection::Connection,
    error::{CloseCause, OpenError},
    proto::{error_code::Code, flow_control::Usage},
    session::Stream,
};

both_drivers!(
    it_is_off_unless_both_sides_announce_it,
    megabytes_pass_a_limit_of_kilobytes,
    megabytes_pass_a_window_that_may_grow,
    a_limit_that_begins_at_zero_rises,
    credit_shows_and_shrinks_while_nobody_reads,
    streams_beyond_the_limit_open_as_others_close,
    an_opener_that_waits_for_credit_may_be_cancelled,
    streams_that_end_early_give_their_credit_back,
    a_stream_that_is_not_read_holds_up_no_other_within_the_window,
    a_stop_reaches_a_writer_that_waits_for_credit,
    a_close_waits_for_credit_and_then_gives_up,
    nobody_accepts_and_the_peer_is_held_up,
    sessions_share_a_connection,
    a_session_that_is_not_read_holds_up_no_other,
    a_session_more_than_the_server_wants_is_refused,
    the_connection_outlives_all_sessions_but_the_last,
);

/// Limits so small that every test meets them.
fn small(common: CommonConfig) -> CommonConfig {
    CommonConfig {
        window_auto_scale: false,
        window_size: 20_000,
        initial_max_data: 1_000,
        initial_max_streams_bidi: 3,
        initial_max_streams_uni: 2,
        ..common
    }
}

fn server_config(net: &Net) -> ServerConfig {
    let config = net.server_config();
    ServerConfig {
        common: small(config.common),
        max_sessions: 5,
        ..config
    }
}

fn client_config(net: &Net) -> ClientConfig {
    let config = net.client_config();
    ClientConfig {
        common: small(config.common),
        ..config
    }
}

async fn pair(net: &Net) -> Pair {
    net.pair_with(server_config(net), client_config(net)).await
}

fn sent(peer: &Peer, kind: usize) -> Usage {
    peer.credits().expect("flow control is on").sending[kind]
}

fn received(peer: &Peer, kind: usize) -> Usage {
    peer.credits().expect("flow control is on").receiving[kind]
}

/// A second session on the connection of the pair.
async fn second(dialer: &Dialer, listener: &Listener, connection: &Arc<Connection>, path: &str) -> (Peer, Peer) {
    let client = dialer.request(connection, path);
    let server = listener.accept().await;
    client.established().await;
    (client, server)
}

async fn close(client: Peer, server: Peer) {
    client.close(0, "");
    client.closed().await;
    server.closed().await;
    client.abandon();
    server.abandon();
}

async fn it_is_off_unless_both_sides_announce_it(net: Net) {
    for (server, client) in [
        (net.server_config(), client_config(&net)),
        (server_config(&net), net.client_config()),
    ] {
        let pair = net.pair_with(server, client).await;
        for end in [&pair.client, &pair.server] {
            assert!(!end.connection().has_flow_control());
            assert_eq!(end.credits(), None);
        }
        let send = pair.client.open_uni().await;
        let data = pattern(100_000);
        pair.client.write(&send, &data, true).await.expect("written");
        let recv = pair.server.accept_uni().await;
        assert!(pair.server.read_to_end(&recv).await.expect("read") == data);
        pair.finish().await;
    }
    let pair = pair(&net).await;
    assert!(pair.client.connection().has_flow_control() && pair.server.connection().has_flow_control());
    pair.finish().await;
}

async fn megabytes_pass_a_limit_of_kilobytes(net: Net) {
    let pair = pair(&net).await;
    let data = pattern(2 << 20);
    for (here, there) in [(&pair.client, &pair.server), (&pair.server, &pair.client)] {
        let send = here.open_uni().await;
        let write = here.write(&send, &data, true);
        let read = async {
            let recv = there.accept_uni().await;
            there.read_to_end(&recv).await
        };
        let (written, read) = tokio::join!(write, read);
        written.expect("written");
        assert!(read.expect("read") == data);
        // The header of the stream needs no credit.
        assert_eq!(sent(here, 0).used, data.len() as u64);
        assert_eq!(received(there, 0).used, data.len() as u64);
    }
    pair.finish().await;
}

async fn megabytes_pass_a_window_that_may_grow(net: Net) {
    let grown = |mut common: CommonConfig| {
        common.window_auto_scale = true;
        common
    };
    let (server, client) = (server_config(&net), client_config(&net));
    let server = ServerConfig {
        common: grown(server.common),
        ..server
    };
    let pair = net.pair_with(server, client).await;
    let data = pattern(8 << 20);
    let send = pair.client.open_uni().await;
    let recv = async {
        let recv = pair.server.accept_uni().await;
        pair.server.read_to_end(&recv).await
    };
    let (written, read) = tokio::join!(pair.client.write(&send, &data, true), recv);
    written.expect("written");
    assert!(read.expect("read") == data);
    // The last grant leaves when the CONNECT stream's task has its turn, which may be after the reader's.
    eventually("three quarters of the window are free again", || {
        let Usage { limit, used } = received(&pair.server, 0);
        limit - used >= 20_000 - 20_000 / 4
    })
    .await;
    pair.finish().await;
}

async fn a_limit_that_begins_at_zero_rises(net: Net) {
    let only_streams = |common: CommonConfig| CommonConfig {
        initial_max_data: 0,
        initial_max_streams_bidi: 0,
        initial_max_streams_uni: 1,
        ..small(common)
    };
    let (server, client) = (net.server_config(), net.client_config());
    let server = ServerConfig {
        common: only_streams(server.common),
        ..server
    };
    let client = ClientConfig {
        common: only_streams(client.common),
        ..client
    };
    let pair = net.pair_with(server, client).await;
    let (send, recv) = pair.client.open_bi().await;
    let data = pattern(100_000);
    let echo = async {
        let (answer, question) = pair.server.accept_bi().await;
        let asked = pair.server.read_to_end(&question).await.expect("read");
        pair.server.write(&answer, &asked, true).await.expect("written");
    };
    let ask = async {
        pair.client.write(&send, &data, true).await.expect("written");
        pair.client.read_to_end(&recv).await.expect("read")
    };
    let ((), answer) = tokio::join!(echo, ask);
    assert!(answer == data);
    pair.finish().await;
}

async fn credit_shows_and_shrinks_while_nobody_reads(net: Net) {
    let pair = pair(&net).await;
    assert_eq!(
        (pair.client.send_credit(), pair.server.receive_credit()),
        (1_000, 1_000)
    );
    let send = pair.client.open_uni().await;
    pair.client.write(&send, &[1; 400], false).await.expect("written");
    assert_eq!(pair.client.send_credit(), 600);
    let recv = pair.server.accept_uni().await;
    eventually("it has arrived", || pair.server.receive_credit() == 600).await;
    assert_eq!(pair.server.read_exact(&recv, 400).await.len(), 400);
    // One read, and the window replaces the initial limit.
    eventually("the client heard of more", || pair.client.send_credit() == 20_000).await;
    pair.finish().await;
}

async fn streams_beyond_the_limit_open_as_others_close(net: Net) {
    let pair = pair(&net).await;
    for bidirectional in [true, false] {
        let limit = if bidirectional { 3 } else { 2 };
        let mut open = Vec::new();
        for _ in 0..limit {
            let stream = pair
                .client
                .try_open(bidirectional)
                .expect("open")
                .expect("within the limit");
            open.push(stream);
        }
        assert!(
            pair.client.try_open(bidirectional).expect("open").is_none(),
            "the limit is exact"
        );
        open.iter().for_each(|stream| finish(stream, b"one of the first"));
        let server = async {
            for _ in 0..limit + 20 {
                let stream = pair.server.accept_stream().await.expect("open");
                let (send, recv) = match &stream {
                    Stream::Bidirectional(send, recv) => (Some(send), recv),
                    Stream::Recv(recv) => (None, recv),
                    Stream::Send(_) => panic!("not a stream of the peer"),
                };
                pair.server.read_to_end(recv).await.expect("read");
                if let Some(send) = send {
                    send.finish();
                }
            }
        };
        let client = async {
            for _ in 0..20 {
                let stream = pair.client.open(bidirectional).await.expect("opened in the end");
                finish(&stream, b"one more");
                open.push(stream);
            }
            for stream in &open {
                if let Stream::Bidirectional(_, recv) = stream {
                    assert!(pair.client.read_to_end(recv).await.expect("read").is_empty());
                }
            }
        };
        tokio::join!(server, client);
    }
    assert_eq!(pair.client.stats().streams_created.get(), 3 + 2 + 40);
    pair.finish().await;
}

fn finish(stream: &Stream, data: &[u8]) {
    match stream {
        Stream::Bidirectional(send, _) | Stream::Send(send) => {
            send.write(data, true).expect("open");
        }
        Stream::Recv(_) => panic!("not a stream of this side"),
    }
}

async fn an_opener_that_waits_for_credit_may_be_cancelled(net: Net) {
    let pair = pair(&net).await;
    let (first, second) = (pair.client.open_uni().await, pair.client.open_uni().await);
    for _ in 0..10 {
        let waiting = tokio::time::timeout(std::time::Duration::from_millis(1), pair.client.open(false));
        assert!(waiting.await.is_err(), "there is no credit");
    }
    for send in [&first, &second] {
        send.finish();
        pair.server
            .read_to_end(&pair.server.accept_uni().await)
            .await
            .expect("read");
    }
    for _ in 0..2 {
        pair.client.open_uni().await.finish();
        pair.server
            .read_to_end(&pair.server.accept_uni().await)
            .await
            .expect("read");
    }
    pair.finish().await;
}

async fn streams_that_end_early_give_their_credit_back(net: Net) {
    let pair = pair(&net).await;
    for round in 0..60 {
        let send = pair.client.open_uni().await;
        pair.client.write(&send, &[7; 700], false).await.expect("written");
        let recv = pair.server.accept_uni().await;
        match round % 3 {
            // Stopped unread, reset by the sender, and dropped after a part was read.
            0 => recv.stop(1),
            1 => {
                send.reset(2);
                let end = pair.server.read_to_end(&recv).await.expect_err("reset");
                assert_eq!(end.application_code(), Some(2));
            }
            _ => {
                pair.server.read(&recv, 10).await.expect("read");
                recv.stop(3);
            }
        }
    }
    let send = pair.client.open_uni().await;
    let data = pattern(100_000);
    let recv = async {
        let recv = pair.server.accept_uni().await;
        pair.server.read_to_end(&recv).await
    };
    let (written, read) = tokio::join!(pair.client.write(&send, &data, true), recv);
    written.expect("written");
    assert!(read.expect("read") == data);
    pair.finish().await;
}

async fn a_stream_that_is_not_read_holds_up_no_other_within_the_window(net: Net) {
    let pair = pair(&net).await;
    let (idle, _) = pair.client.open_bi().await;
    pair.client.write(&idle, &[1; 500], false).await.expect("written");
    let (busy, _) = pair.client.open_bi().await;
    let data = pattern(300_000);
    let reader = async {
        let _idle = pair.server.accept_bi().await;
        let (_, recv) = pair.server.accept_bi().await;
        pair.server.read_to_end(&recv).await
    };
    let (written, read) = tokio::join!(pair.client.write(&busy, &data, true), reader);
    written.expect("written");
    assert!(read.expect("read") == data);
    pair.finish().await;
}

async fn a_stop_reaches_a_writer_that_waits_for_credit(net: Net) {
    let pair = pair(&net).await;
    let send = pair.client.open_uni().await;
    pair.client.write(&send, &[1; 50_000], false).await.expect("queued");
    let recv = pair.server.accept_uni().await;
    eventually("the credit is used up", || {
        pair.client.credits().is_some_and(|all| all.sending[0].used == 1_000)
    })
    .await;
    recv.stop(9);
    pair.client.event_loop().ready(send.ended()).await;
    assert_eq!(send.end().and_then(|end| end.application_code()), Some(9));
    pair.finish().await;
}

async fn a_close_waits_for_credit_and_then_gives_up(net: Net) {
    let mut client = client_config(&net);
    client.common.close_timeout = std::time::Duration::from_millis(300);
    let pair = net.pair_with(server_config(&net), client).await;
    let send = pair.client.open_uni().await;
    pair.client.write(&send, &[1; 50_000], true).await.expect("queued");
    // Nobody reads: what the credit holds back is given up, the code and the reason arrive.
    pair.client.close(5, "enough");
    let info = pair.server.closed().await;
    assert_eq!((info.code, info.reason.as_str()), (5, "enough"));
    pair.client.closed().await;
    pair.finish().await;
}

async fn nobody_accepts_and_the_peer_is_held_up(net: Net) {
    let mut server = net.server_config();
    server.common.max_incoming_streams = 10;
    let pair = net.pair_with(server, net.client_config()).await;
    let mut opened = 0;
    // Small streams that are finished at once: nothing but the queue of the other side can stop them.
    while let Ok(Some(Stream::Send(send))) = pair.client.try_open(false) {
        send.write(b"x", true).expect("open");
        opened += 1;
        eventually("it is sent or held up", || send.buffered() == 0).await;
        assert!(
            opened < 1000,
            "a session that accepts nothing takes streams without end"
        );
    }
    assert!(opened >= 10, "{opened}");
    let accept = async {
        for _ in 0..opened + 50 {
            let recv = pair.server.accept_uni().await;
            assert_eq!(pair.server.read_to_end(&recv).await.expect("read"), b"x");
        }
    };
    let open = async {
        for _ in 0..50 {
            pair.client.open_uni().await.write(b"x", true).expect("open");
        }
    };
    tokio::join!(accept, open);
    pair.finish().await;
}

async fn sessions_share_a_connection(net: Net) {
    let listener = net.listen(server_config(&net)).await;
    let dialer = net.dialer(client_config(&net));
    let connection = dialer.connect("127.0.0.1", listener.port()).await.expect("connected");
    let mut pairs = Vec::new();
    for number in 0..5 {
        let (client, server) = second(&dialer, &listener, &connection, &format!("/{number}")).await;
        assert_eq!(
            server.request().map(|request| request.path.clone()),
            Some(format!("/{number}"))
        );
        pairs.push((client, server));
    }
    let ids: HashSet<u64> = pairs.iter().map(|(client, _)| client.id()).collect();
    assert_eq!(ids.len(), 5);
    for (number, (client, server)) in pairs.iter().enumerate() {
        let data = pattern(5_000 + number);
        let send = client.open_uni().await;
        let recv = async {
            let recv = server.accept_uni().await;
            server.read_to_end(&recv).await
        };
        let (written, read) = tokio::join!(client.write(&send, &data, true), recv);
        written.expect("written");
        assert!(read.expect("read") == data);
        let datagram = Bytes::from(format!("for {number}"));
        client.send(&datagram).await.expect("sent");
        assert_eq!(server.datagram().await.expect("received"), datagram);
    }
    let mut pairs = pairs.into_iter();
    let (client, server) = pairs.next().expect("five of them");
    for (client, server) in pairs {
        close(client, server).await;
    }
    let pair = Pair {
        listener,
        dialer,
        client,
        server,
    };
    pair.finish().await;
}

async fn a_session_that_is_not_read_holds_up_no_other(net: Net) {
    let pair = pair(&net).await;
    let connection = pair.client.connection().clone();
    let (client, server) = second(&pair.dialer, &pair.listener, &connection, "/unread").await;
    // As many streams as it may, each with as much as it takes.
    for bidirectional in [true, false] {
        while let Some(stream) = client.try_open(bidirectional).expect("open") {
            match stream {
                Stream::Bidirectional(send, _) | Stream::Send(send) => send.write(&[0; 500_000], false).expect("open"),
                Stream::Recv(_) => panic!("not a stream of this side"),
            };
        }
    }
    eventually("its credit is used up", || {
        client.credits().is_some_and(|all| all.sending[0].used == 1_000)
    })
    .await;
    let data = pattern(1 << 20);
    let send = pair.client.open_uni().await;
    let recv = async {
        let recv = pair.server.accept_uni().await;
        pair.server.read_to_end(&recv).await
    };
    let (written, read) = tokio::join!(pair.client.write(&send, &data, true), recv);
    written.expect("written");
    assert!(read.expect("read") == data);
    client.close(0, "");
    server.close(0, "");
    client.closed().await;
    server.closed().await;
    client.abandon();
    server.abandon();
    drop((client, server));
    pair.finish().await;
}

async fn a_session_more_than_the_server_wants_is_refused(net: Net) {
    let mut server = server_config(&net);
    server.max_sessions = 2;
    let pair = net.pair_with(server, client_config(&net)).await;
    let connection = pair.client.connection().clone();
    let (client, server) = second(&pair.dialer, &pair.listener, &connection, "/second").await;
    let third = pair.dialer.request(&connection, "/third");
    let info = third.closed().await;
    assert_eq!(info.cause, CloseCause::Reset(Code::H3_REQUEST_REJECTED));
    assert_eq!(pair.listener.server.stats().requests_rejected.get(), 1);
    assert!(pair.client.is_connected() && client.is_connected());
    close(client, server).await;
    // The place is free again.
    let (client, server) = second(&pair.dialer, &pair.listener, &connection, "/fourth").await;
    close(client, server).await;
    drop(third);
    pair.finish().await;
}

async fn the_connection_outlives_all_sessions_but_the_last(net: Net) {
    let pair = pair(&net).await;
    let connection = pair.client.connection().clone();
    let (client, server) = second(&pair.dialer, &pair.listener, &connection, "/second").await;
    close(client, server).await;
    connection.release();
    assert!(connection.end().is_none(), "another session lives on it");
    let send = pair.client.open_uni().await;
    send.write(b"still here", true).expect("open");
    let recv = pair.server.accept_uni().await;
    assert_eq!(pair.server.read_to_end(&recv).await.expect("read"), b"still here");
    pair.client.close(0, "");
    pair.client.closed().await;
    connection.release();
    assert!(connection.end().is_some());
    let late = connection.request_session("localhost".into(), "/late".into(), Vec::new());
    assert!(matches!(late, Err(OpenError::SessionClosed(_))));
    pair.server.closed().await;
    drop(connection);
    pair.finish().await;
}
