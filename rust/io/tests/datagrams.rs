//! Datagrams between both ends of a session.

mod common;

use std::{collections::VecDeque, time::Duration};

use common::{Net, Pair, both_drivers, eventually, pattern};
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{RngAlgorithm, TestRng, TestRunner},
};
use wt_io::{config::DatagramOverflow, error::DatagramError, send_stream::Written};

both_drivers!(
    both_directions_carry_every_size,
    a_payload_of_exactly_the_maximum_goes_out_and_one_more_byte_does_not,
    higher_priorities_go_first,
    a_datagram_that_is_too_old_is_dropped,
    a_full_queue_drops_the_oldest_of_priority_zero,
    a_full_queue_refuses_by_policy,
    a_full_queue_makes_the_sender_wait_by_policy,
    a_receiver_that_is_behind_loses_the_oldest,
    what_arrived_before_the_close_can_be_read_after_it,
    nothing_is_sent_after_the_close,
    a_cleared_queue_sends_nothing,
    batches_give_the_same_as_single_receives,
    events_are_recorded_while_somebody_listens,
    any_sequence_of_sends_behaves_as_the_model,
);

/// A pair whose sides queue at most `size` datagrams.
async fn pair_with_queues(net: &Net, size: usize, overflow: DatagramOverflow) -> Pair {
    let (mut server, mut client) = (net.server_config(), net.client_config());
    for common in [&mut server.common, &mut client.common] {
        common.datagram_queue_size = size;
        common.datagram_overflow = overflow;
    }
    net.pair_with(server, client).await
}

async fn both_directions_carry_every_size(net: Net) {
    let pair = net.pair().await;
    for (here, there) in [(&pair.client, &pair.server), (&pair.server, &pair.client)] {
        let sizes = [0, 1, 500, 1000];
        for size in sizes {
            here.send(&pattern(size)).await.expect("accepted");
            assert!(there.datagram().await.expect("received") == pattern(size));
        }
        let (sent, received) = (here.datagrams().stats(), there.datagrams().stats());
        assert_eq!((sent.sent, sent.bytes_sent), (4, 1501));
        assert_eq!(
            (received.received, received.bytes_received, received.delivered),
            (4, 1501, 4)
        );
        assert_eq!((sent.min_size, sent.max_size), (0, 1000));
        assert_eq!((sent.send_drops, sent.send_failures, sent.expired), (0, 0, 0));
        assert_eq!(received.receive_drops, 0);
        let queues = here.datagrams().queues();
        assert_eq!((queues.outgoing, queues.outgoing_bytes), ([0; 3], 0));
        let queues = there.datagrams().queues();
        assert_eq!((queues.incoming, queues.incoming_bytes), (0, 0));
    }
    pair.finish().await;
}

async fn a_payload_of_exactly_the_maximum_goes_out_and_one_more_byte_does_not(net: Net) {
    let pair = net.pair().await;
    for (here, there) in [(&pair.client, &pair.server), (&pair.server, &pair.client)] {
        // The path's MTU may still grow between two looks at it, so the refusal says what counts.
        let size = here.max_datagram_size();
        assert!(size > 1000);
        here.send(&pattern(size)).await.expect("it fits");
        assert!(there.datagram().await.expect("received") == pattern(size));
        let drops = here.datagrams().stats().send_drops;
        let refused = here.send_datagram(&pattern(here.max_datagram_size() + 1), 0, None);
        if let Err(DatagramError::TooLarge { size, max }) = refused {
            assert_eq!(size, max + 1);
            assert_eq!(here.datagrams().stats().send_drops, drops + 1);
        } else {
            assert_eq!(refused, Ok(Written::Sent), "only a larger MTU explains this");
            assert!(there.datagram().await.is_ok());
        }
        let refused = here.send_datagram(&pattern(2000), 0, None);
        assert!(
            matches!(refused, Err(DatagramError::TooLarge { size: 2000, .. })),
            "{refused:?}"
        );
        assert_eq!(here.datagrams().queues().outgoing_bytes, 0, "never queued");
    }
    pair.finish().await;
}

async fn higher_priorities_go_first(net: Net) {
    let pair = net.pair().await;
    let paused = pair.client.event_loop().pause().await;
    for (number, priority) in [0, 1, 2, 0, 1, 2, 9].into_iter().enumerate() {
        let sent = pair.client.send_datagram(&[number as u8], priority, None);
        assert_eq!(sent, Ok(Written::Sent));
    }
    assert_eq!(pair.client.datagrams().queues().outgoing, [2, 2, 3]);
    drop(paused);
    for number in [2, 5, 6, 1, 4, 0, 3] {
        assert_eq!(pair.server.datagram().await.expect("received"), vec![number]);
    }
    pair.finish().await;
}

async fn a_datagram_that_is_too_old_is_dropped(net: Net) {
    let pair = net.pair().await;
    let paused = pair.client.event_loop().pause().await;
    let send = |data: &[u8], ttl| pair.client.send_datagram(data, 0, ttl).expect("accepted");
    let ttl = Duration::from_millis(20);
    send(b"too old", Some(ttl));
    send(b"in time", Some(Duration::from_secs(30)));
    send(b"for ever", Some(Duration::MAX));
    send(b"ageless", None);
    tokio::time::sleep(ttl).await;
    drop(paused);
    for data in ["in time", "for ever", "ageless"] {
        assert_eq!(pair.server.datagram().await.expect("received"), data);
    }
    let stats = pair.client.datagrams().stats();
    assert_eq!((stats.sent, stats.expired, stats.send_drops), (4, 1, 0));
    pair.finish().await;
}

async fn a_full_queue_drops_the_oldest_of_priority_zero(net: Net) {
    let pair = pair_with_queues(&net, 4, DatagramOverflow::DropOldest).await;
    let paused = pair.client.event_loop().pause().await;
    let send = |number: u8, priority| pair.client.send_datagram(&[number], priority, None);
    for number in 0..6 {
        assert_eq!(send(number, 0), Ok(Written::Sent));
    }
    for number in 6..10 {
        assert_eq!(send(number, 1), Ok(Written::Sent), "lower ones make room");
    }
    assert_eq!(send(10, 2), Err(DatagramError::Full), "nothing may be dropped for it");
    assert_eq!(pair.client.datagrams().stats().send_drops, 7);
    drop(paused);
    for number in 6..10 {
        assert_eq!(pair.server.datagram().await.expect("received"), vec![number]);
    }
    pair.finish().await;
}

async fn a_full_queue_refuses_by_policy(net: Net) {
    let pair = pair_with_queues(&net, 2, DatagramOverflow::Error).await;
    let paused = pair.client.event_loop().pause().await;
    let send = |number: u8| pair.client.send_datagram(&[number], 0, None);
    assert_eq!([send(0), send(1)], [Ok(Written::Sent), Ok(Written::Sent)]);
    assert_eq!(send(2), Err(DatagramError::Full));
    let stats = pair.client.datagrams().stats();
    assert_eq!((stats.sent, stats.send_drops), (2, 1));
    drop(paused);
    for number in 0..2 {
        assert_eq!(pair.server.datagram().await.expect("received"), vec![number]);
    }
    pair.finish().await;
}

async fn a_full_queue_makes_the_sender_wait_by_policy(net: Net) {
    let pair = pair_with_queues(&net, 16, DatagramOverflow::Wait).await;
    let paused = pair.client.event_loop().pause().await;
    for _ in 0..16 {
        assert_eq!(pair.client.send_datagram(b"first", 0, None), Ok(Written::Sent));
    }
    assert_eq!(pair.client.send_datagram(b"next", 0, None), Ok(Written::NoRoom));
    drop(paused);
    for _ in 0..16 {
        assert_eq!(pair.server.datagram().await.expect("received"), "first");
    }
    // In bursts that the receiver's queue of the same size can take.
    for number in 0..20_u8 {
        for _ in 0..10 {
            pair.client.send(&[number]).await.expect("accepted");
        }
        for _ in 0..10 {
            assert_eq!(pair.server.datagram().await.expect("received"), vec![number]);
        }
    }
    let stats = pair.client.datagrams().stats();
    assert_eq!((stats.sent, stats.send_drops), (216, 0));
    pair.finish().await;
}

async fn a_receiver_that_is_behind_loses_the_oldest(net: Net) {
    let pair = pair_with_queues(&net, 10, DatagramOverflow::Wait).await;
    for number in 0..30 {
        pair.client.send(&[number]).await.expect("accepted");
    }
    eventually("all have arrived", || pair.server.datagrams().stats().received == 30).await;
    let stats = pair.server.datagrams().stats();
    assert_eq!((stats.receive_drops, stats.delivered), (20, 0));
    for number in 20..30 {
        assert_eq!(pair.server.datagram().await.expect("received"), vec![number]);
    }
    assert!(matches!(pair.server.try_receive_datagram(), Ok(None)));
    pair.finish().await;
}

async fn what_arrived_before_the_close_can_be_read_after_it(net: Net) {
    let pair = net.pair().await;
    for (here, there) in [(&pair.client, &pair.server)] {
        for number in 0..20 {
            here.send(&[number]).await.expect("accepted");
        }
        here.close(3, "sent all");
        let info = there.closed().await;
        for number in 0..20 {
            assert_eq!(there.datagram().await.expect("received"), vec![number]);
        }
        assert_eq!(there.datagram().await, Err(DatagramError::SessionClosed(Some(info))));
    }
    pair.finish().await;
}

async fn nothing_is_sent_after_the_close(net: Net) {
    let pair = net.pair().await;
    pair.client.close(0, "");
    let refused = pair.client.send_datagram(b"late", 0, None);
    assert!(matches!(refused, Err(DatagramError::SessionClosed(_))));
    pair.server.closed().await;
    let refused = pair.server.send_datagram(b"late", 0, None);
    assert!(matches!(refused, Err(DatagramError::SessionClosed(Some(_)))));
    pair.finish().await;
}

async fn a_cleared_queue_sends_nothing(net: Net) {
    let pair = net.pair().await;
    let paused = pair.client.event_loop().pause().await;
    for _ in 0..5 {
        pair.client.send_datagram(b"in vain", 1, None).expect("accepted");
    }
    assert_eq!(pair.client.clear_datagrams(false), 5);
    assert_eq!(pair.client.datagrams().queues().outgoing_bytes, 0);
    pair.client.send_datagram(b"last", 0, None).expect("accepted");
    drop(paused);
    eventually("it has arrived", || pair.server.datagrams().stats().received == 1).await;
    pair.server.clear_datagrams(true);
    assert_eq!(pair.server.datagrams().queues().incoming_bytes, 0);
    assert!(matches!(pair.server.try_receive_datagrams(10), Ok(None)));
    pair.finish().await;
}

async fn batches_give_the_same_as_single_receives(net: Net) {
    let pair = net.pair().await;
    for number in 0..100 {
        pair.client.send(&[number]).await.expect("accepted");
    }
    let mut numbers: Vec<u8> = Vec::new();
    while numbers.len() < 100 {
        let batch = pair
            .server
            .event_loop()
            .until(pair.server.datagram_available(), || {
                pair.server.try_receive_datagrams(7).transpose()
            })
            .await
            .expect("received");
        assert!((1..=7).contains(&batch.len()));
        numbers.extend(batch.iter().map(|data| data[0]));
    }
    assert_eq!(numbers, (0..100).collect::<Vec<_>>());
    assert_eq!(pair.server.datagrams().stats().delivered, 100);
    assert_eq!(pair.server.datagrams().queues().incoming_bytes, 0);
    pair.finish().await;
}

async fn events_are_recorded_while_somebody_listens(net: Net) {
    let pair = net.pair().await;
    let names = |end: &common::Peer| -> Vec<_> {
        let events = end.datagrams().take_events();
        events.iter().map(|event| (event.kind, event.size)).collect()
    };
    pair.client.send(b"unheard").await.expect("accepted");
    assert_eq!(pair.server.datagram().await.expect("received"), "unheard");
    pair.client.datagrams().record_events(true);
    pair.server.datagrams().record_events(true);
    pair.client.send(b"heard").await.expect("accepted");
    assert_eq!(pair.server.datagram().await.expect("received"), "heard");
    assert_eq!(names(&pair.server), [("received", 5)]);
    let mut sent = Vec::new();
    eventually("the sender recorded it", || {
        sent.extend(names(&pair.client));
        !sent.is_empty()
    })
    .await;
    assert_eq!(sent, [("sent", 5)]);
    pair.finish().await;
}

#[derive(Debug, Clone)]
enum Op {
    Send { size: usize, priority: u8 },
    Clear,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        30 => (1..40_usize, 0..4_u8).prop_map(|(size, priority)| Op::Send { size, priority }),
        1 => Just(Op::Clear),
    ];
    proptest::collection::vec(op, 0..40)
}

/// Queues by priority, as the module's documentation tells.
#[derive(Default)]
struct Model {
    queues: [VecDeque<Vec<u8>>; 3],
    drops: u64,
}

impl Model {
    fn len(&self) -> usize {
        self.queues.iter().map(VecDeque::len).sum()
    }

    fn send(&mut self, data: Vec<u8>, priority: u8, bound: usize) -> Result<Written, DatagramError> {
        if self.len() == bound {
            self.drops += 1;
            if self.queues[0].pop_front().is_none() {
                return Err(DatagramError::Full);
            }
        }
        self.queues[usize::from(priority.min(2))].push_back(data);
        Ok(Written::Sent)
    }
}

async fn any_sequence_of_sends_behaves_as_the_model(net: Net) {
    const BOUND: usize = 12;
    let pair = pair_with_queues(&net, BOUND, DatagramOverflow::DropOldest).await;
    let mut runner = TestRunner::new_with_rng(
        ProptestConfig::default(),
        TestRng::deterministic_rng(RngAlgorithm::ChaCha),
    );
    let mut drops = 0;
    let mut number = 0_u8;
    for _ in 0..100 {
        let ops = ops().new_tree(&mut runner).expect("no filters").current();
        let mut model = Model::default();
        let paused = pair.client.event_loop().pause().await;
        for op in &ops {
            match *op {
                Op::Send { size, priority } => {
                    number = number.wrapping_add(1);
                    let data = vec![number; size];
                    let sent = pair.client.send_datagram(&data, priority, None).map(|_| Written::Sent);
                    assert_eq!(sent, model.send(data, priority, BOUND), "{ops:?}");
                }
                Op::Clear => {
                    assert_eq!(pair.client.clear_datagrams(false), model.len(), "{ops:?}");
                    model.queues = Default::default();
                }
            }
            let queues = pair.client.datagrams().queues();
            assert_eq!(queues.outgoing, [0, 1, 2].map(|priority| model.queues[priority].len()));
            // Each packet has a prefix of one byte in front of its payload.
            let bytes: usize = model.queues.iter().flatten().map(|data| data.len() + 1).sum();
            assert_eq!(queues.outgoing_bytes, bytes, "{ops:?}");
        }
        drops += model.drops;
        assert_eq!(pair.client.datagrams().stats().send_drops, drops, "{ops:?}");
        drop(paused);
        for data in model.queues.iter().rev().flatten() {
            assert_eq!(pair.server.datagram().await.expect("received"), data, "{ops:?}");
        }
    }
    pair.finish().await;
}
