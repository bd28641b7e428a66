//! Connections: listening, connecting, and what is left afterwards.

mod common;

use std::{
    net::UdpSocket,
    sync::Arc,
    time::{Duration, Instant},
};

use common::{Dialer, Net, Peer, both_drivers, eventually, pattern};
use wt_io::{
    config::{CongestionControl, ServerConfig},
    connection::Connection,
    driver::DriverKind,
    error::{CloseCause, ConnectError, Initiator, ListenError},
    proto::error_code::Code,
    server::Accepted,
};

both_drivers!(
    port_zero_is_any_free_port,
    a_port_in_use_is_reported,
    a_closed_server_releases_its_port_at_once,
    a_cancelled_close_goes_on,
    a_server_that_nobody_accepts_from_is_freed,
    a_closed_server_ends_its_connections_and_accepts,
    connections_beyond_the_maximum_are_refused,
    another_application_protocol_is_refused,
    an_unknown_host_is_reported,
    an_unanswered_port_is_tried_until_a_server_appears,
    an_unanswered_port_is_tried_beyond_the_idle_timeout,
    a_cancelled_connect_leaves_nothing,
    a_dropped_lease_closes_the_connection,
    localhost_finds_a_server_on_ipv4,
    localhost_finds_a_server_on_ipv6,
    a_dual_stack_server_shows_ipv4_addresses_as_such,
    the_first_close_of_a_connection_wins,
    a_close_leaves_while_data_fills_the_congestion_window,
    waiters_for_the_end_of_a_connection_are_woken,
    keep_alive_holds_an_idle_connection,
    the_shorter_idle_timeout_ends_a_quiet_connection,
    answers_to_a_keep_alive_are_activity,
    every_congestion_controller_works,
    many_connections_leave_nothing,
    a_closed_loop_leaves_no_socket,
);

async fn port_zero_is_any_free_port(net: Net) {
    let first = net.listen(net.server_config()).await;
    let second = net.listen(net.server_config()).await;
    assert_ne!(first.port(), 0);
    assert_ne!(first.port(), second.port());
    first.close().await;
    second.close().await;
}

async fn a_port_in_use_is_reported(net: Net) {
    let first = net.listen(net.server_config()).await;
    let refused = net.listen_on("127.0.0.1", first.port(), net.server_config()).await;
    let Err(ListenError::Bind { address, reason }) = refused.map(drop) else {
        panic!("two servers share a port");
    };
    assert_eq!(address, format!("127.0.0.1:{}", first.port()));
    assert!(reason.contains("in use"), "{reason}");
    // The first one is not disturbed.
    let dialer = net.dialer(net.client_config());
    dialer.session(&first).await;
    first.close().await;
}

async fn a_closed_server_releases_its_port_at_once(net: Net) {
    let listener = net.listen(net.server_config()).await;
    let port = listener.port();
    let dialers = [net.dialer(net.client_config()), net.dialer(net.client_config())];
    let mut sessions = Vec::new();
    for dialer in &dialers {
        sessions.push(dialer.session(&listener).await);
    }
    listener.close().await;
    UdpSocket::bind(("127.0.0.1", port)).expect("the port is free, though handles are held");
    for (client, server) in &sessions {
        let info = client.closed().await;
        assert_eq!((info.cause, info.by), (CloseCause::ConnectionLost, Initiator::Peer));
        assert_eq!(server.closed().await.by, Initiator::Local);
    }
    let again = net
        .listen_on("127.0.0.1", port, net.server_config())
        .await
        .expect("free");
    let (client, server) = dialers[0].session(&again).await;
    client.close(0, "");
    assert_eq!(server.closed().await.code, 0);
    again.close().await;
}

async fn a_cancelled_close_goes_on(net: Net) {
    let listener = net.listen(net.server_config()).await;
    let dialer = net.dialer(net.client_config());
    let _sessions = dialer.session(&listener).await;
    let soon = Duration::from_micros(1);
    let cancelled = tokio::time::timeout(soon, listener.close()).await;
    assert!(cancelled.is_err(), "it takes longer than that");
    listener.close().await;
    UdpSocket::bind(("127.0.0.1", listener.port())).expect("the port is free");
}

async fn a_server_that_nobody_accepts_from_is_freed(net: Net) {
    let listener = net.listen(net.server_config()).await;
    let dialer = net.dialer(net.client_config());
    let connection = dialer.connect("127.0.0.1", listener.port()).await.expect("connected");
    let request = dialer.request(&connection, "/");
    let server = &listener.server;
    eventually("the request waits", || server.stats().connections_accepted.get() == 1).await;
    let stats = Arc::downgrade(server);
    listener.close().await;
    request.closed().await;
    drop(listener);
    eventually("the server is freed", || stats.strong_count() == 0).await;
}

async fn a_closed_server_ends_its_connections_and_accepts(net: Net) {
    let listener = net.listen(net.server_config()).await;
    let dialer = net.dialer(net.client_config());
    let (client, server) = dialer.session(&listener).await;
    let (next, ()) = tokio::join!(listener.next(), listener.close());
    assert!(next.is_none(), "a waiting accept is woken");
    assert_eq!(listener.server.connection_count(), 0);
    let end = client.connection().end().cloned();
    let info = client.closed().await;
    let end = end
        .or_else(|| client.connection().end().cloned())
        .expect("the connection ended");
    assert_eq!(end.code, Code::H3_NO_ERROR.0);
    assert!(end.reason.contains("shutting down"), "{}", end.reason);
    assert_eq!(info.reason, end.reason);
    server.closed().await;
}

async fn connections_beyond_the_maximum_are_refused(net: Net) {
    let config = ServerConfig {
        max_connections: 1,
        ..net.server_config()
    };
    let listener = net.listen(config).await;
    let first = net.dialer(net.client_config());
    let (client, server) = first.session(&listener).await;
    let second = net.dialer(net.client_config());
    let refused = second.connect("127.0.0.1", listener.port()).await;
    let Err(ConnectError::Connection { message, code }) = refused else {
        panic!("not refused: {refused:?}");
    };
    assert!(message.contains("refused the connection"), "{message}");
    assert_eq!(code, Some(2), "CONNECTION_REFUSED, RFC 9000 section 20.1");
    let stats = listener.server.stats();
    assert_eq!(
        (stats.connections_accepted.get(), stats.connections_rejected.get()),
        (1, 1)
    );
    client.connection().close(0x100, "");
    server.connection().lost().await;
    eventually("the place is free", || listener.server.connection_count() == 0).await;
    let connected = loop {
        // The place counts until the connection's task has ended, a moment after its end.
        if let Ok(connection) = second.connect("127.0.0.1", listener.port()).await {
            break connection;
        }
    };
    assert!(connected.dialect().is_some());
    listener.close().await;
}

async fn another_application_protocol_is_refused(net: Net) {
    let listener = net.listen(net.server_config()).await;
    let mut config = net.client_config();
    config.common.alpn_protocols = vec!["hq".into()];
    let refused = net.dialer(config).connect("127.0.0.1", listener.port()).await;
    let Err(ConnectError::Connection { message, .. }) = refused else {
        panic!("not refused: {refused:?}");
    };
    assert!(message.contains("does not speak HTTP/3"), "{message}");
    listener.close().await;
}

async fn an_unknown_host_is_reported(net: Net) {
    let dialer = net.dialer(net.client_config());
    // RFC 6761 section 6.4: no resolver knows a name below "invalid".
    let refused = dialer.connect("no-such-host.invalid", 1).await;
    let Err(ConnectError::Resolve { host, .. }) = refused else {
        panic!("resolved: {refused:?}");
    };
    assert_eq!(host, "no-such-host.invalid");
}

async fn an_unanswered_port_is_tried_until_a_server_appears(net: Net) {
    let (port, first_packet) = silent_port();
    let dialer = Arc::new(net.dialer(net.client_config()));
    let connecting = connecting(&dialer, port);
    wait_for(first_packet).await;
    assert!(!connecting.is_finished());
    serve_late(&net, port, connecting).await;
}

async fn an_unanswered_port_is_tried_beyond_the_idle_timeout(net: Net) {
    let (port, first_packet) = silent_port();
    let mut config = net.client_config();
    config.common.idle_timeout = Duration::from_millis(400);
    let dialer = Arc::new(net.dialer(config));
    let connecting = connecting(&dialer, port);
    let socket = wait_for(first_packet).await;
    tokio::time::sleep(Duration::from_millis(1000)).await;
    assert!(!connecting.is_finished(), "the caller decides when to give up");
    drop(socket);
    serve_late(&net, port, connecting).await;
}

type Connecting = tokio::task::JoinHandle<Result<Arc<Connection>, ConnectError>>;

fn connecting(dialer: &Arc<Dialer>, port: u16) -> Connecting {
    let dialer = dialer.clone();
    tokio::spawn(async move { dialer.connect("127.0.0.1", port).await })
}

/// A port on which nobody answers; the thread ends with the first packet and gives the socket back.
fn silent_port() -> (u16, std::thread::JoinHandle<UdpSocket>) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let port = socket.local_addr().expect("bound").port();
    let receiver = std::thread::spawn(move || {
        socket.recv(&mut [0; 2048]).expect("a packet");
        socket
    });
    (port, receiver)
}

async fn wait_for(packet: std::thread::JoinHandle<UdpSocket>) -> UdpSocket {
    eventually("the first packet is sent", || packet.is_finished()).await;
    packet.join().expect("received")
}

async fn serve_late(net: &Net, port: u16, connecting: Connecting) {
    let listener = net
        .listen_on("127.0.0.1", port, net.server_config())
        .await
        .expect("the port is free");
    let connection = connecting.await.expect("no panic").expect("connected");
    assert!(connection.dialect().is_some());
    connection.close(0x100, "");
    listener.close().await;
}

async fn a_cancelled_connect_leaves_nothing(net: Net) {
    let dialer = net.dialer(net.client_config());
    let (port, first_packet) = silent_port();
    let connect = dialer.connect("127.0.0.1", port);
    tokio::select! {
        _ = connect => panic!("nobody answers"),
        _socket = wait_for(first_packet) => {}
    }
    eventually("the attempt is abandoned", || dialer.endpoint().open_connections() == 0).await;

    // Cancelled at any moment of a connect that succeeds, too.
    let listener = net.listen(net.server_config()).await;
    for micros in (0..30).map(|step| step * 200) {
        let connect = dialer.lease("127.0.0.1", listener.port());
        let _ = tokio::time::timeout(Duration::from_micros(micros), connect).await;
    }
    eventually("the client has no connection", || {
        dialer.endpoint().open_connections() == 0
    })
    .await;
    while let Ok(Some(Accepted::Connection(connection))) = listener.server.try_accept() {
        connection.lost().await;
    }
    eventually("the server has no connection", || {
        listener.server.connection_count() == 0
    })
    .await;
    listener.close().await;
}

async fn a_dropped_lease_closes_the_connection(net: Net) {
    let listener = net.listen(net.server_config()).await;
    let dialer = net.dialer(net.client_config());
    let lease = dialer.lease("127.0.0.1", listener.port()).await.expect("connected");
    let client = dialer.request(lease.connection(), "/");
    let server = listener.accept().await;
    client.established().await;
    drop(lease);
    assert_eq!(client.closed().await.cause, CloseCause::ConnectionLost);
    assert_eq!(server.closed().await.cause, CloseCause::ConnectionLost);
    listener.close().await;
}

async fn localhost_finds_a_server_on_ipv4(net: Net) {
    localhost_finds(&net, "127.0.0.1").await;
}

async fn localhost_finds_a_server_on_ipv6(net: Net) {
    localhost_finds(&net, "::1").await;
}

async fn localhost_finds(net: &Net, host: &str) {
    let listener = net
        .listen_on(host, 0, net.server_config())
        .await
        .expect("loopback of both families");
    let dialer = net.dialer(net.client_config());
    let began = Instant::now();
    for name in ["localhost", host] {
        let connection = dialer.connect(name, listener.port()).await.expect("connected");
        assert_eq!(connection.remote_address(), listener.address());
        connection.close(0x100, "");
        connection.lost().await;
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    eventually("the attempts that lost are abandoned", || {
        dialer.endpoint().open_connections() == 0
    })
    .await;
    listener.close().await;
}

async fn a_dual_stack_server_shows_ipv4_addresses_as_such(net: Net) {
    let listener = net.listen_on("::", 0, net.server_config()).await.expect("IPv6");
    let dialer = net.dialer(net.client_config());
    for (host, is_ipv4) in [("127.0.0.1", true), ("::1", false)] {
        let connection = dialer.connect(host, listener.port()).await.expect("connected");
        let server = listener.connection().await;
        assert_eq!(server.remote_address().is_ipv4(), is_ipv4);
        assert_eq!(server.local_address().expect("Linux tells").is_ipv4(), is_ipv4);
        assert_eq!(connection.remote_address().is_ipv4(), is_ipv4);
    }
    listener.close().await;
}

async fn the_first_close_of_a_connection_wins(net: Net) {
    let pair = net.pair().await;
    let connection = pair.client.connection();
    connection.close(0x100, "first");
    connection.close(0x101, "second");
    for (end, by) in [(&pair.client, Initiator::Local), (&pair.server, Initiator::Peer)] {
        end.connection().lost().await;
        let ended = end.connection().end().expect("it ended");
        assert_eq!((ended.code, &*ended.reason, ended.by), (0x100, "first", by));
        assert!(end.connection().stats().closed_at.get() > 0.0);
    }
    pair.finish().await;
}

/// quinn alone holds it back, and the peer learns of nothing but its own idle timeout.
async fn a_close_leaves_while_data_fills_the_congestion_window(net: Net) {
    for by_server in [true, false] {
        let pair = net.pair().await;
        let (here, there) = if by_server {
            (&pair.server, &pair.client)
        } else {
            (&pair.client, &pair.server)
        };
        let send = here.open_uni().await;
        // A hundred times what may be in flight at the beginning.
        here.write(&send, &pattern(1 << 20), false).await.expect("taken");
        let frames = || there.connection().quic().stats().frame_rx.stream;
        let before = frames();
        eventually("the first of it arrives", || frames() > before).await;
        here.connection().close(Code::H3_FRAME_ERROR.0, "in the middle of it");
        there.connection().lost().await;
        let end = there.connection().end().expect("it ended");
        assert_eq!((end.code, end.by), (Code::H3_FRAME_ERROR.0, Initiator::Peer));
        pair.finish().await;
    }
}

async fn waiters_for_the_end_of_a_connection_are_woken(net: Net) {
    let pair = net.pair().await;
    let waits = [&pair.client, &pair.server].map(|end: &Peer| {
        let end = end.clone();
        tokio::spawn(async move { end.event_loop().ready(end.connection().closed()).await })
    });
    eventually("both wait", || {
        pair.client.event_loop().waiting() + pair.server.event_loop().waiting() == 2
    })
    .await;
    pair.server.connection().close(0x100, "");
    for wait in waits {
        wait.await.expect("woken");
    }
    pair.finish().await;
}

async fn keep_alive_holds_an_idle_connection(net: Net) {
    let idle_timeout = Duration::from_secs(1);
    // The interval of the client and of the server. One PING keeps both ends alive, and an interval that is too long for that is
    // shortened.
    let soon = Some(Duration::from_millis(100));
    let late = Some(Duration::from_secs(3600));
    let mut pairs = Vec::new();
    for (of_client, of_server) in [(soon, None), (None, soon), (late, None), (None, late)] {
        let (mut server, mut client) = (net.server_config(), net.client_config());
        (client.common.idle_timeout, server.common.idle_timeout) = (idle_timeout, idle_timeout);
        (client.common.keep_alive, server.common.keep_alive) = (of_client, of_server);
        pairs.push(net.pair_with(server, client).await);
    }
    tokio::time::sleep(idle_timeout * 5 / 2).await;
    for pair in pairs {
        assert!(pair.client.is_connected());
        assert!(pair.server.is_connected());
        pair.finish().await;
    }
}

async fn the_shorter_idle_timeout_ends_a_quiet_connection(net: Net) {
    let short = Duration::from_millis(300);
    for of_server in [false, true] {
        let (mut server, mut client) = (net.server_config(), net.client_config());
        let common = if of_server {
            &mut server.common
        } else {
            &mut client.common
        };
        common.idle_timeout = short;
        let pair = net.pair_with(server, client).await;
        for end in [&pair.client, &pair.server] {
            let info = end.closed().await;
            assert_eq!(
                (info.cause, info.by),
                (CloseCause::ConnectionLost, Initiator::Transport)
            );
            assert_eq!(end.connection().end().expect("it ended").cause, "timeout");
        }
        pair.finish().await;
    }
}

async fn answers_to_a_keep_alive_are_activity(net: Net) {
    let mut client = net.client_config();
    client.common.keep_alive = Some(Duration::from_millis(20));
    let pair = net.pair_with(net.server_config(), client).await;
    for end in [&pair.client, &pair.server] {
        let before = end.connection().last_activity();
        eventually("a PING or its answer has come", || {
            end.connection().last_activity() > before
        })
        .await;
    }
    pair.finish().await;
}

async fn every_congestion_controller_works(net: Net) {
    for controller in [
        CongestionControl::Cubic,
        CongestionControl::NewReno,
        CongestionControl::Bbr,
    ] {
        let (mut server, mut client) = (net.server_config(), net.client_config());
        server.common.congestion_control = controller;
        client.common.congestion_control = controller;
        let pair = net.pair_with(server, client).await;
        let data = common::pattern(1 << 20);
        let send = pair.client.open_uni().await;
        let writer = tokio::spawn({
            let (client, data) = (pair.client.clone(), data.clone());
            async move { client.write(&send, &data, true).await }
        });
        let recv = pair.server.accept_uni().await;
        assert!(pair.server.read_to_end(&recv).await.expect("read") == data);
        writer.await.expect("no panic").expect("written");
        pair.finish().await;
    }
}

async fn many_connections_leave_nothing(net: Net) {
    let listener = net.listen(net.server_config()).await;
    let dialer = net.dialer(net.client_config());
    for _ in 0..30 {
        let lease = dialer.lease("127.0.0.1", listener.port()).await.expect("connected");
        let client = dialer.request(lease.connection(), "/");
        let server = listener.accept().await;
        client.established().await;
        client.close(0, "");
        server.closed().await;
    }
    eventually("the client has no connection", || {
        dialer.endpoint().open_connections() == 0
    })
    .await;
    eventually("the server has no connection", || {
        listener.server.connection_count() == 0
    })
    .await;
    assert_eq!(listener.server.stats().connections_accepted.get(), 30);
    listener.close().await;
}

async fn a_closed_loop_leaves_no_socket(net: Net) {
    let listener = net.listen(net.server_config()).await;
    let dialer = net.dialer(net.client_config());
    let sessions = dialer.session(&listener).await;
    let client_address = dialer.endpoint().local_addr().expect("bound");
    let ports = [listener.port(), client_address.port()];
    // The end of `asyncio.run`: everything is forgotten at once, and nobody waits for farewells.
    drop((sessions, listener, dialer));
    net.client_loop.stop();
    net.server_loop.stop();
    if net.client_loop.driver.kind() == DriverKind::Loop {
        for port in ports {
            UdpSocket::bind(("127.0.0.1", port)).expect("with the loop its sockets are closed");
        }
    }
}
