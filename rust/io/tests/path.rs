//! The path between two ends changes: other addresses, other sizes of packets.

mod common;

use std::{
    net::{Ipv6Addr, UdpSocket},
    time::Duration,
};

use common::{Net, Pair, both_drivers, eventually, pattern, relay::Relay};
use wt_io::{
    config::ServerConfig,
    error::{CloseCause, DatagramError},
};

both_drivers!(
    a_nat_rebinding_does_not_hurt_a_stream,
    a_nat_rebinding_of_a_quiet_session_is_found_by_its_keep_alive,
    a_client_that_moves_to_another_socket_keeps_its_session,
    a_server_without_migration_ignores_other_addresses,
    datagrams_grow_with_the_path,
    datagrams_stay_within_a_narrow_path,
    datagrams_shrink_with_the_path_and_those_that_wait_are_dropped,
);

/// Both directions work, and the server knows where the client is.
async fn assert_alive(pair: &Pair) {
    for (here, there) in [(&pair.client, &pair.server), (&pair.server, &pair.client)] {
        let stream = here.open_uni().await;
        here.write(&stream, b"alive", true).await.expect("open");
        let received = there.accept_uni().await;
        assert_eq!(there.read_to_end(&received).await.expect("finished"), b"alive");
    }
}

async fn a_nat_rebinding_does_not_hurt_a_stream(net: Net) {
    let mut client = net.client_config();
    // What the server sends finds the new address only after the client has sent something, if only a PING.
    client.common.keep_alive = Some(Duration::from_millis(50));
    let (relay, pair) = net.relayed_pair(net.server_config(), client).await;
    let data = pattern(6 << 20);
    let parts: Vec<&[u8]> = data.chunks(1 << 20).collect();
    for (here, there) in [(&pair.client, &pair.server), (&pair.server, &pair.client)] {
        let stream = here.open_uni().await;
        here.write(&stream, parts[0], false).await.expect("open");
        let received = there.accept_uni().await;
        for (number, part) in parts.iter().enumerate() {
            let last = number + 1 == parts.len();
            let sending = async {
                if !last {
                    here.write(&stream, parts[number + 1], number + 2 == parts.len())
                        .await
                        .expect("open");
                }
            };
            let receiving = there.read_exact(&received, part.len());
            let (bytes, ()) = tokio::join!(receiving, sending);
            assert!(bytes == *part, "part {number}");
            if !last {
                // Acknowledgements and data of the next part are on their way.
                let before = relay.outside();
                relay.rebind().await;
                assert_ne!(relay.outside(), before);
            }
        }
        assert!(there.read_to_end(&received).await.expect("finished").is_empty());
    }
    assert_alive(&pair).await;
    let connection = pair.server.connection();
    eventually("the server follows", || connection.remote_address() == relay.outside()).await;
    pair.finish().await;
}

async fn a_nat_rebinding_of_a_quiet_session_is_found_by_its_keep_alive(net: Net) {
    let mut client = net.client_config();
    client.common.keep_alive = Some(Duration::from_millis(50));
    let (relay, pair) = net.relayed_pair(net.server_config(), client).await;
    assert_eq!(pair.server.connection().remote_address(), relay.outside());
    for _ in 0..3 {
        relay.rebind().await;
        let connection = pair.server.connection();
        eventually("the server follows", || connection.remote_address() == relay.outside()).await;
    }
    assert_alive(&pair).await;
    pair.finish().await;
}

async fn a_client_that_moves_to_another_socket_keeps_its_session(net: Net) {
    let pair = net.pair().await;
    let before = pair.server.connection().remote_address();
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).expect("a socket for both families");
    let port = socket.local_addr().expect("bound").port();
    pair.dialer.endpoint().rebind(socket).expect("rebound");
    assert_alive(&pair).await;
    let connection = pair.server.connection();
    eventually("the server follows", || connection.remote_address().port() == port).await;
    assert_eq!(connection.remote_address().ip(), before.ip());
    pair.finish().await;
}

async fn a_server_without_migration_ignores_other_addresses(net: Net) {
    let server = ServerConfig {
        allow_migration: false,
        ..net.server_config()
    };
    let mut client = net.client_config();
    client.common.idle_timeout = Duration::from_millis(400);
    let (relay, pair) = net.relayed_pair(server, client).await;
    assert_alive(&pair).await;
    let before = relay.outside();
    relay.rebind().await;
    pair.client.send(b"from elsewhere").await.expect("accepted");
    let (client, server) = (pair.client.closed().await, pair.server.closed().await);
    assert_eq!(server.cause, CloseCause::ConnectionLost);
    assert!(server.reason.contains("idle timeout"), "{}", server.reason);
    // The same, or a stateless reset, if it tries once more when the server has given up.
    assert_eq!(client.cause, CloseCause::ConnectionLost);
    assert_eq!(pair.server.connection().remote_address(), before);
    assert_eq!(pair.server.datagrams().stats().received, 0);
    pair.finish().await;
}

/// A payload of exactly the maximum gets through, and one more byte is refused at once.
async fn assert_maximum(pair: &Pair) {
    for (here, there) in [(&pair.client, &pair.server), (&pair.server, &pair.client)] {
        let size = here.max_datagram_size();
        let before = here.datagrams().stats();
        let refused = here.send_datagram(&pattern(size + 1), 0, None);
        assert_eq!(
            refused,
            Err(DatagramError::TooLarge {
                size: size + 1,
                max: size
            })
        );
        let after = here.datagrams().stats();
        assert_eq!((after.sent, after.send_drops), (before.sent, before.send_drops + 1));
        here.send(&pattern(size)).await.expect("it fits");
        assert!(there.datagram().await.expect("received") == pattern(size));
    }
}

fn mtu(peer: &common::Peer) -> usize {
    usize::from(peer.connection().quic().stats().path.current_mtu)
}

async fn datagrams_grow_with_the_path(net: Net) {
    let (relay, pair) = net.relayed_pair(net.server_config(), net.client_config()).await;
    for peer in [&pair.client, &pair.server] {
        // quinn looks for packets of up to 1452 bytes, which Ethernet carries on IPv4 and IPv6.
        eventually("the largest packet is found", || mtu(peer) == 1452).await;
        let overhead = 1452 - peer.max_datagram_size();
        assert!((20..60).contains(&overhead), "{overhead}");
    }
    assert_maximum(&pair).await;
    assert_eq!(relay.too_large(), 0);
    pair.finish().await;
}

async fn datagrams_stay_within_a_narrow_path(net: Net) {
    let listener = net.listen(net.server_config()).await;
    let relay = Relay::to(listener.address()).await;
    relay.limit(1300);
    let dialer = net.dialer(net.client_config());
    let (client, server) = dialer.session_through(relay.port(), &listener).await;
    let pair = Pair {
        listener,
        dialer,
        client,
        server,
    };
    for peer in [&pair.client, &pair.server] {
        // The search stops when less than 20 bytes can be won.
        eventually("what fits is found", || mtu(peer) > 1280).await;
        assert!(mtu(peer) <= 1300);
        assert!(peer.max_datagram_size() < 1300);
    }
    // Steps upwards may still be tried; those are lost and change nothing.
    assert!(relay.too_large() > 0);
    assert_maximum(&pair).await;
    pair.finish().await;
}

async fn datagrams_shrink_with_the_path_and_those_that_wait_are_dropped(net: Net) {
    let (mut server, mut client) = (net.server_config(), net.client_config());
    for common in [&mut server.common, &mut client.common] {
        common.datagram_queue_size = 5000;
    }
    let (relay, pair) = net.relayed_pair(server, client).await;
    // Both before the path changes: a search that ends is not repeated for ten minutes.
    eventually("the largest packet is found", || {
        mtu(&pair.client) == 1452 && mtu(&pair.server) == 1452
    })
    .await;
    relay.limit(1250);
    for (here, there) in [(&pair.client, &pair.server), (&pair.server, &pair.client)] {
        let size = here.max_datagram_size();
        // More than the congestion window, so that some wait here.
        let before = here.datagrams().stats();
        for _ in 0..3000 {
            here.send(&pattern(size))
                .await
                .expect("it fits, as far as anybody knows");
        }
        eventually("the smaller path is noticed", || here.max_datagram_size() < size).await;
        assert_eq!(mtu(here), 1200);
        assert!(matches!(
            here.send_datagram(&pattern(size), 0, None),
            Err(DatagramError::TooLarge { .. })
        ));
        // What waited is not in the way of what fits.
        here.send(b"small").await.expect("accepted");
        assert_eq!(&there.datagram().await.expect("received")[..], b"small");
        let after = here.datagrams().stats();
        assert_eq!(here.datagrams().queues().outgoing_bytes, 0);
        assert!(after.send_failures > before.send_failures, "{after:?}");
        assert_eq!(after.sent - before.sent, 3001);
    }
    pair.finish().await;
}
