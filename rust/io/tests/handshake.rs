//! Handshakes that are under way: Retry, their number, their time, and floods of packets with spoofed addresses.

mod common;

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use common::{Listener, Net, both_drivers, eventually, raw::initials};
use wt_io::{config::ServerConfig, error::ConnectError};

both_drivers!(
    a_threshold_of_zero_makes_every_client_retry,
    a_dual_stack_server_knows_the_address_in_its_token,
    without_a_threshold_no_client_retries,
    a_flood_of_spoofed_initials_does_not_lock_clients_out,
    a_spoofed_initial_too_many_gets_no_answer,
    a_validated_client_too_many_is_refused,
    a_handshake_that_does_not_end_is_forgotten,
    simultaneous_clients_get_the_places_there_are,
    a_retry_is_smaller_than_what_it_answers,
);

/// A server with so many places, and these limits of handshakes.
async fn listen(net: &Net, retry_threshold: Option<usize>, max_pending_handshakes: usize) -> Listener {
    let config = ServerConfig {
        max_connections: 2,
        handshake_timeout: Duration::from_secs(60),
        max_pending_handshakes,
        retry_threshold,
        ..net.server_config()
    };
    net.listen(config).await
}

/// Send each packet from an address of its own, and return the sockets: who is at those addresses hears what comes back.
fn send_spoofed(packets: &[Vec<u8>], server: SocketAddr) -> Vec<UdpSocket> {
    let from = packets.iter().enumerate().map(|(number, packet)| {
        let address = Ipv4Addr::new(127, 66, (number >> 8) as u8, number as u8);
        let socket = UdpSocket::bind((address, 0)).expect("all of 127.0.0.0/8 is this machine");
        socket.send_to(packet, server).expect("sent");
        socket.set_nonblocking(true).expect("a socket can be so");
        socket
    });
    from.collect()
}

/// Bytes of the packets that have come back.
fn answers(socket: &UdpSocket) -> Vec<usize> {
    let mut buffer = [0; 2000];
    std::iter::from_fn(|| socket.recv(&mut buffer).ok()).collect()
}

async fn a_threshold_of_zero_makes_every_client_retry(net: Net) {
    let listener = listen(&net, Some(0), 8).await;
    let dialer = net.dialer(net.client_config());
    for number in 1..=2 {
        let (client, server) = dialer.session(&listener).await;
        client.send(b"through").await.expect("accepted");
        assert_eq!(&server.datagram().await.expect("received")[..], b"through");
        assert_eq!(listener.server.stats().retries_sent.get(), number);
    }
    assert_eq!(listener.server.stats().handshakes_failed.get(), 0);
    listener.close().await;
}

async fn a_dual_stack_server_knows_the_address_in_its_token(net: Net) {
    let config = ServerConfig {
        retry_threshold: Some(0),
        ..net.server_config()
    };
    let listener = net.listen_on("::", 0, config).await.expect("a free port");
    let dialer = net.dialer(net.client_config());
    // From 127.0.0.1, which is ::ffff:127.0.0.1 to it, and from ::1.
    dialer.session(&listener).await;
    let connection = dialer.connect("::1", listener.port()).await.expect("connected");
    assert!(connection.dialect().is_some());
    assert_eq!(listener.server.stats().retries_sent.get(), 2);
    listener.close().await;
}

async fn without_a_threshold_no_client_retries(net: Net) {
    let listener = listen(&net, None, 100).await;
    let spoofed = send_spoofed(&initials(&net, 50).await, listener.address());
    let server = &listener.server;
    eventually("all of them have begun", || server.pending_handshakes() == 50).await;
    let dialer = net.dialer(net.client_config());
    dialer.session(&listener).await;
    assert_eq!(server.stats().retries_sent.get(), 0);
    drop(spoofed);
    listener.close().await;
}

async fn a_flood_of_spoofed_initials_does_not_lock_clients_out(net: Net) {
    let (threshold, flood) = (8, 300);
    let listener = listen(&net, Some(threshold), 16).await;
    let spoofed = send_spoofed(&initials(&net, flood).await, listener.address());
    let (server, stats) = (&listener.server, listener.server.stats());
    let retries = (flood - threshold) as u64;
    eventually("all have been looked at", || stats.retries_sent.get() == retries).await;
    // Not one of those beyond the threshold holds anything, and none of them has a place of the two.
    assert_eq!(server.pending_handshakes(), threshold);
    let dialer = net.dialer(net.client_config());
    for number in 1..=2 {
        let (client, server) = dialer.session(&listener).await;
        client.send(b"real").await.expect("accepted");
        assert_eq!(&server.datagram().await.expect("received")[..], b"real");
        assert_eq!(stats.retries_sent.get(), retries + number);
    }
    assert_eq!(server.connection_count(), 2);
    assert_eq!(
        (
            stats.handshakes_ignored.get(),
            stats.handshakes_refused.get(),
            stats.handshakes_failed.get()
        ),
        (0, 0, 0)
    );
    drop(spoofed);
    listener.close().await;
}

async fn a_spoofed_initial_too_many_gets_no_answer(net: Net) {
    let listener = listen(&net, None, 5).await;
    let spoofed = send_spoofed(&initials(&net, 20).await, listener.address());
    let (server, stats) = (&listener.server, listener.server.stats());
    eventually("all have been looked at", || stats.handshakes_ignored.get() == 15).await;
    assert_eq!(server.pending_handshakes(), 5);
    let answered: Vec<bool> = spoofed.iter().map(|socket| !answers(socket).is_empty()).collect();
    assert!(answered[5..].iter().all(|answered| !answered), "{answered:?}");
    listener.close().await;
}

async fn a_retry_is_smaller_than_what_it_answers(net: Net) {
    let listener = listen(&net, Some(0), 5).await;
    let packets = initials(&net, 1).await;
    let spoofed = send_spoofed(&packets, listener.address());
    let mut heard = Vec::new();
    eventually("the Retry has come", || {
        heard.extend(answers(&spoofed[0]));
        !heard.is_empty()
    })
    .await;
    assert!(heard.len() == 1 && heard[0] < packets[0].len() / 3, "{heard:?}");
    assert_eq!(listener.server.pending_handshakes(), 0);
    listener.close().await;
}

async fn a_validated_client_too_many_is_refused(net: Net) {
    let listener = listen(&net, Some(0), 0).await;
    let refused = net
        .dialer(net.client_config())
        .connect("127.0.0.1", listener.port())
        .await;
    let Err(ConnectError::Connection { code, .. }) = refused else {
        panic!("not refused: {refused:?}");
    };
    assert_eq!(code, Some(2), "CONNECTION_REFUSED, RFC 9000 section 20.1");
    let stats = listener.server.stats();
    assert_eq!((stats.retries_sent.get(), stats.handshakes_refused.get()), (1, 1));
    listener.close().await;
}

async fn a_handshake_that_does_not_end_is_forgotten(net: Net) {
    let config = ServerConfig {
        handshake_timeout: Duration::from_millis(100),
        max_pending_handshakes: 5,
        retry_threshold: None,
        ..net.server_config()
    };
    let idle_timeout = config.common.idle_timeout;
    let listener = net.listen(config).await;
    let began = tokio::time::Instant::now();
    let spoofed = send_spoofed(&initials(&net, 5).await, listener.address());
    let (server, stats) = (&listener.server, listener.server.stats());
    eventually("none is left", || stats.handshakes_timed_out.get() == 5).await;
    assert!(began.elapsed() < idle_timeout);
    assert_eq!(server.pending_handshakes(), 0);
    assert_eq!(stats.handshakes_failed.get(), 5);
    let dialer = net.dialer(net.client_config());
    dialer.session(&listener).await;
    drop(spoofed);
    listener.close().await;
}

async fn simultaneous_clients_get_the_places_there_are(net: Net) {
    let listener = listen(&net, Some(128), 100).await;
    let dialers: Vec<_> = (0..6).map(|_| net.dialer(net.client_config())).collect();
    let connecting = dialers
        .iter()
        .map(|dialer| dialer.connect("127.0.0.1", listener.port()));
    let mut connected = Vec::new();
    for attempt in futures(connecting).await {
        match attempt {
            Ok(connection) => connected.push(connection),
            // CONNECTION_REFUSED, or H3_EXCESSIVE_LOAD when others were quicker.
            Err(ConnectError::Connection { message, code }) => {
                assert!(matches!(code, Some(0x2 | 0x107)), "{message}");
            }
            Err(other) => panic!("{other}"),
        }
    }
    // The SETTINGS come before the server knows that it has no place left: then a connection ends that had begun.
    let alive = || connected.iter().filter(|connection| connection.end().is_none());
    eventually("two have a place", || alive().count() == 2).await;
    for end in connected.iter().filter_map(|connection| connection.end()) {
        assert_eq!(end.code, 0x107, "{end:?}");
    }
    let stats = listener.server.stats();
    assert_eq!(
        (stats.connections_accepted.get(), stats.connections_rejected.get()),
        (2, 4)
    );
    listener.close().await;
}

/// Run them at the same time.
async fn futures<T>(all: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut all: Vec<_> = all.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(move |cx| {
        let mut done = true;
        for (future, result) in &mut all {
            if result.is_none() {
                match future.as_mut().poll(cx) {
                    std::task::Poll::Ready(value) => *result = Some(value),
                    std::task::Poll::Pending => done = false,
                }
            }
        }
        if done {
            std::task::Poll::Ready(all.iter_mut().filter_map(|(_, result)| result.take()).collect())
        } else {
            std::task::Poll::Pending
        }
    })
    .await
}
