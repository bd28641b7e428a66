//! Transport presets: packets of the size they promise on any path, windows and queues as they say.

mod common;

use common::{Net, Pair, Peer, both_drivers, common_config, eventually, pattern, relay::Relay};
use wt_io::{
    config::{ClientConfig, CommonConfig, Preset, ServerConfig},
    error::DatagramError,
};

both_drivers!(
    jumbo_packets_grow_to_6000_bytes,
    jumbo_at_one_end_changes_nothing,
    jumbo_on_an_ordinary_path_is_as_good_as_none,
    jumbo_on_a_path_that_becomes_narrow_goes_on_with_small_packets,
    datagrams_of_low_latency_wait_where_their_priority_counts,
);

fn server_with(net: &Net, preset: Preset) -> ServerConfig {
    let mut config = net.server_config();
    config.common.preset = preset;
    config
}

fn client_with(net: &Net, preset: Preset) -> ClientConfig {
    let mut config = net.client_config();
    config.common.preset = preset;
    config
}

fn mtu(peer: &Peer) -> usize {
    usize::from(peer.connection().quic().stats().path.current_mtu)
}

/// A megabyte goes each way, and the largest datagram.
async fn assert_works(pair: &Pair) {
    let data = pattern(1 << 20);
    for (here, there) in [(&pair.client, &pair.server), (&pair.server, &pair.client)] {
        let stream = here.open_uni().await;
        here.write(&stream, &data, true).await.expect("open");
        let received = there.accept_uni().await;
        assert!(there.read_to_end(&received).await.expect("finished") == data);
        let size = here.max_datagram_size();
        here.send(&pattern(size)).await.expect("it fits");
        assert!(there.datagram().await.expect("received") == pattern(size));
    }
}

async fn jumbo_packets_grow_to_6000_bytes(net: Net) {
    let (server, client) = (server_with(&net, Preset::Jumbo), client_with(&net, Preset::Jumbo));
    let (relay, pair) = net.relayed_pair(server, client).await;
    // A packet that is larger would show.
    relay.limit(6000);
    for peer in [&pair.client, &pair.server] {
        eventually("the largest packet is found", || mtu(peer) == 6000).await;
        assert!((5900..6000).contains(&peer.max_datagram_size()));
        let refused = peer.send_datagram(&pattern(6000), 0, None);
        assert!(matches!(refused, Err(DatagramError::TooLarge { .. })));
    }
    assert_works(&pair).await;
    assert_eq!((mtu(&pair.client), mtu(&pair.server)), (6000, 6000));
    assert_eq!(relay.too_large(), 0);
    pair.finish().await;
}

async fn jumbo_at_one_end_changes_nothing(net: Net) {
    for (server, client) in [(Preset::Jumbo, Preset::Default), (Preset::Default, Preset::Jumbo)] {
        let (server, client) = (server_with(&net, server), client_with(&net, client));
        let (relay, pair) = net.relayed_pair(server, client).await;
        for peer in [&pair.client, &pair.server] {
            eventually("the largest packet is found", || mtu(peer) >= 1452).await;
        }
        assert_works(&pair).await;
        // Each end takes what it has announced: 1472 bytes without the preset.
        assert!(mtu(&pair.client) <= 1472 && mtu(&pair.server) <= 1472);
        assert_eq!(relay.too_large(), 0);
        pair.finish().await;
    }
}

async fn jumbo_on_an_ordinary_path_is_as_good_as_none(net: Net) {
    let listener = net.listen(server_with(&net, Preset::Jumbo)).await;
    let relay = Relay::to(listener.address()).await;
    relay.limit(1472);
    let dialer = net.dialer(client_with(&net, Preset::Jumbo));
    let (client, server) = dialer.session_through(relay.port(), &listener).await;
    let pair = Pair {
        listener,
        dialer,
        client,
        server,
    };
    assert_works(&pair).await;
    for peer in [&pair.client, &pair.server] {
        // The search ends when less than 20 bytes can be won.
        eventually("what fits is found", || mtu(peer) > 1452).await;
        assert!(mtu(peer) <= 1472);
    }
    assert!(relay.too_large() > 0);
    assert_works(&pair).await;
    pair.finish().await;
}

async fn jumbo_on_a_path_that_becomes_narrow_goes_on_with_small_packets(net: Net) {
    let (server, client) = (server_with(&net, Preset::Jumbo), client_with(&net, Preset::Jumbo));
    let (relay, pair) = net.relayed_pair(server, client).await;
    for peer in [&pair.client, &pair.server] {
        eventually("the largest packet is found", || mtu(peer) == 6000).await;
    }
    relay.limit(1472);
    // Some datagrams before it is noticed: streams repeat what was lost, datagrams are gone.
    for (here, there) in [(&pair.client, &pair.server), (&pair.server, &pair.client)] {
        let stream = here.open_uni().await;
        here.write(&stream, &pattern(1 << 20), true).await.expect("open");
        let received = there.accept_uni().await;
        assert!(there.read_to_end(&received).await.expect("finished") == pattern(1 << 20));
        assert!(mtu(here) <= 1472, "{}", mtu(here));
    }
    assert_works(&pair).await;
    pair.finish().await;
}

async fn datagrams_of_low_latency_wait_where_their_priority_counts(net: Net) {
    let waiting = async |preset, most| {
        let (relay, pair) = net
            .relayed_pair(server_with(&net, preset), client_with(&net, preset))
            .await;
        // Nothing is acknowledged any more: what the congestion window does not let out waits.
        relay.limit(0);
        for _ in 0..400 {
            pair.client.send(&pattern(1000)).await.expect("there is room");
        }
        let queue = pair.client.datagrams();
        eventually("QUIC holds what it wants", || queue.queues().outgoing_bytes <= most).await;
        let waiting = queue.queues().outgoing_bytes;
        relay.limit(usize::MAX);
        pair.finish().await;
        waiting
    };
    // By default QUIC has 128 KiB of the 400 kB, where neither priority nor age counts.
    assert!(waiting(Preset::Default, 400_000 - (128 << 10)).await <= 400_000 - (128 << 10));
    // The window lets some out too; it begins with 14 kB.
    assert!(waiting(Preset::LowLatency, 400_000).await >= 400_000 - (100 << 10));
}

/// The configuration with a preset, and with other windows.
fn window(preset: Preset, change: impl FnOnce(&mut CommonConfig)) -> u64 {
    let mut config = CommonConfig {
        preset,
        ..common_config()
    };
    change(&mut config);
    config.receive_window()
}

#[test]
fn windows_are_those_of_the_preset_unless_a_field_says_otherwise() {
    assert_eq!(window(Preset::Default, |_| ()), 16 << 20);
    assert_eq!(window(Preset::Jumbo, |_| ()), 16 << 20);
    assert_eq!(window(Preset::Throughput, |_| ()), 64 << 20);
    // Four streams of the 1 MiB that the field says.
    assert_eq!(window(Preset::LowLatency, |_| ()), 4 << 20);
    for preset in [Preset::Default, Preset::Throughput, Preset::LowLatency, Preset::Jumbo] {
        assert_eq!(window(preset, |config| config.window_auto_scale = false), 4 << 20);
        assert_eq!(window(preset, |config| config.window_size = 32 << 20), 128 << 20);
        assert_eq!(window(preset, |config| config.initial_max_data = 5000), 5000);
    }
}
