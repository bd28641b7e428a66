//! Sessions of a connection, early and late arrivals.

mod common;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;
use wt_proto::dialect::Role;
use wt_proto::error_code::Code;
use wt_proto::registry::{Counters, DatagramRoute, Early, Limits, Registry, StreamRoute};

const LIMITS: Limits = Limits {
    per_session: 4,
    total: 10,
    datagram_bytes: 100,
    ttl: Duration::from_secs(5),
    remembered: 3,
};

type Streams = Registry<&'static str, u32>;

fn registry() -> (Streams, Instant) {
    (Registry::new(Role::Server, LIMITS), Instant::now())
}

fn nothing() -> Early<u32> {
    Early {
        streams: vec![],
        datagrams: vec![],
    }
}

#[test]
fn streams_and_datagrams_reach_their_session() {
    let (mut registry, now) = registry();
    assert_eq!(registry.insert(0, "a"), nothing());
    assert_eq!(registry.insert(4, "b"), nothing());
    assert_eq!(registry.stream(4, 1, now), StreamRoute::Deliver("b", 1));
    let payload = Bytes::from_static(b"x");
    assert_eq!(
        registry.datagram(0, payload.clone(), now),
        DatagramRoute::Deliver("a", payload)
    );
    assert_eq!(registry.iter().collect::<Vec<_>>(), [(0, &"a"), (4, &"b")]);
    assert_eq!(
        (registry.len(), registry.get(4), registry.get(8)),
        (2, Some(&"b"), None)
    );
    assert_eq!(registry.counters(), Counters::default());
}

#[test]
fn what_comes_early_waits_in_order() {
    let (mut registry, now) = registry();
    for stream in [3, 1, 2] {
        assert_eq!(registry.stream(0, stream, now), StreamRoute::Buffered);
        assert_eq!(
            registry.datagram(4, Bytes::from(vec![stream as u8]), now),
            DatagramRoute::Buffered
        );
    }
    assert_eq!(
        registry.insert(0, "a"),
        Early {
            streams: vec![3, 1, 2],
            datagrams: vec![]
        }
    );
    let datagrams = vec![
        Bytes::from_static(&[3]),
        Bytes::from_static(&[1]),
        Bytes::from_static(&[2]),
    ];
    assert_eq!(
        registry.insert(4, "b"),
        Early {
            streams: vec![],
            datagrams
        }
    );
    assert_eq!((registry.early_len(), registry.next_timeout()), (0, None));
}

#[test]
fn one_session_cannot_fill_the_buffer() {
    let (mut registry, now) = registry();
    for stream in 0..4 {
        assert_eq!(registry.stream(0, stream, now), StreamRoute::Buffered);
    }
    assert_eq!(
        registry.stream(0, 9, now),
        StreamRoute::Reject(9, Code::WT_BUFFERED_STREAM_REJECTED)
    );
    assert_eq!(registry.datagram(0, Bytes::new(), now), DatagramRoute::Dropped);
    assert_eq!(registry.stream(4, 5, now), StreamRoute::Buffered);
    let counters = registry.counters();
    assert_eq!(
        (
            counters.streams_buffered,
            counters.streams_rejected,
            counters.datagrams_dropped
        ),
        (5, 1, 1)
    );
}

#[test]
fn many_sessions_cannot_fill_more_than_the_buffer() {
    let (mut registry, now) = registry();
    let kept = (0..100)
        .filter(|id| registry.stream(id * 4, 0, now) == StreamRoute::Buffered)
        .count();
    assert_eq!((kept, registry.early_len()), (10, 10));
}

#[test]
fn early_datagrams_are_bounded_by_bytes() {
    let (mut registry, now) = registry();
    assert_eq!(registry.datagram(0, vec![0; 60].into(), now), DatagramRoute::Buffered);
    assert_eq!(registry.datagram(0, vec![0; 41].into(), now), DatagramRoute::Dropped);
    assert_eq!(registry.datagram(4, vec![0; 40].into(), now), DatagramRoute::Buffered);
    registry.insert(0, "a");
    assert_eq!(registry.datagram(4, vec![0; 60].into(), now), DatagramRoute::Buffered);
}

#[test]
fn an_early_datagram_keeps_no_packet_alive() {
    let (mut registry, now) = registry();
    let packet = Bytes::from(vec![7; 1200]);
    assert_eq!(registry.datagram(4, packet.slice(..2), now), DatagramRoute::Buffered);
    assert!(packet.is_unique());
    assert_eq!(registry.insert(4, "a").datagrams, [packet.slice(..2)]);
}

#[test]
fn what_waits_too_long_is_given_back() {
    let (mut registry, now) = registry();
    registry.stream(0, 1, now);
    registry.datagram(0, Bytes::from_static(b"old"), now);
    let later = now + Duration::from_secs(3);
    registry.stream(4, 2, later);
    assert_eq!(registry.next_timeout(), Some(now + LIMITS.ttl));
    assert_eq!(registry.expire(later), Vec::<u32>::new());
    assert_eq!(registry.expire(now + LIMITS.ttl), [1]);
    assert_eq!(registry.next_timeout(), Some(later + LIMITS.ttl));
    assert_eq!(registry.insert(0, "a"), nothing());
    let counters = registry.counters();
    assert_eq!((counters.streams_expired, counters.datagrams_expired), (1, 1));
}

#[test]
fn a_late_stream_of_a_closed_session_is_turned_away() {
    let (mut registry, now) = registry();
    registry.insert(0, "a");
    assert_eq!(registry.remove(0), Some("a"));
    assert_eq!(registry.remove(0), None);
    assert_eq!(
        registry.stream(0, 1, now),
        StreamRoute::Reject(1, Code::WT_SESSION_GONE)
    );
    assert_eq!(registry.datagram(0, Bytes::new(), now), DatagramRoute::Dropped);
    let counters = registry.counters();
    assert_eq!((counters.streams_late, counters.datagrams_late), (1, 1));
    assert!(registry.is_empty());
}

#[test]
fn only_the_last_closed_sessions_are_remembered() {
    let (mut registry, now) = registry();
    for id in [0, 4, 8, 12] {
        registry.insert(id, "x");
        registry.remove(id);
    }
    assert_eq!(
        registry.stream(0, 1, now),
        StreamRoute::Buffered,
        "forgotten: it will expire"
    );
    assert_eq!(
        registry.stream(4, 1, now),
        StreamRoute::Reject(1, Code::WT_SESSION_GONE)
    );
}

#[test]
fn a_rejected_session_leaves_nothing_behind() {
    let (mut registry, now) = registry();
    registry.stream(0, 7, now);
    registry.datagram(0, Bytes::from_static(b"x"), now);
    assert_eq!(
        registry.discard(0),
        Early {
            streams: vec![7],
            datagrams: vec![Bytes::from_static(b"x")]
        }
    );
    assert_eq!(
        registry.stream(0, 8, now),
        StreamRoute::Reject(8, Code::WT_SESSION_GONE)
    );
    assert_eq!(registry.early_len(), 0);
}

#[test]
fn no_limits_at_all_keep_nothing() {
    let limits = Limits {
        per_session: 0,
        total: 0,
        datagram_bytes: 0,
        ttl: Duration::MAX,
        remembered: 0,
    };
    let mut registry: Streams = Registry::new(Role::Client, limits);
    let now = Instant::now();
    registry.insert(0, "a");
    registry.remove(0);
    assert_eq!(
        registry.stream(0, 1, now),
        StreamRoute::Reject(1, Code::WT_BUFFERED_STREAM_REJECTED)
    );
    assert_eq!(registry.datagram(0, Bytes::new(), now), DatagramRoute::Dropped);
}

#[test]
fn an_endless_age_does_not_overflow_the_clock() {
    let mut registry: Streams = Registry::new(
        Role::Client,
        Limits {
            ttl: Duration::MAX,
            ..LIMITS
        },
    );
    assert_eq!(registry.stream(0, 1, Instant::now()), StreamRoute::Buffered);
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u64),
    Remove(u64),
    Discard(u64),
    Stream(u64),
    Datagram(u64, usize),
    Wait(u64),
    Expire,
}

fn step() -> impl Strategy<Value = Step> {
    let id = (0u64..8).prop_map(|id| id * 4);
    prop_oneof![
        1 => id.clone().prop_map(Step::Insert),
        1 => id.clone().prop_map(Step::Remove),
        1 => id.clone().prop_map(Step::Discard),
        4 => id.clone().prop_map(Step::Stream),
        4 => (id, 0usize..60).prop_map(|(id, length)| Step::Datagram(id, length)),
        1 => (0u64..4).prop_map(Step::Wait),
        1 => Just(Step::Expire),
    ]
}

proptest! {
    /// Every stream comes out exactly once, whatever happens; nothing exceeds its bound.
    #[test]
    fn no_stream_is_lost_or_doubled(steps in proptest::collection::vec(step(), 0..200)) {
        let (mut registry, mut now) = registry();
        let (mut sent, mut out) = (0u32, Vec::new());
        let mut open = HashSet::new();
        for step in steps {
            match step {
                Step::Insert(id) => {
                    out.extend(registry.insert(id, "x").streams);
                    open.insert(id);
                }
                Step::Remove(id) => prop_assert_eq!(registry.remove(id).is_some(), open.remove(&id)),
                Step::Discard(id) => {
                    out.extend(registry.discard(id).streams);
                    open.remove(&id);
                }
                Step::Stream(id) => {
                    match registry.stream(id, sent, now) {
                        StreamRoute::Deliver(_, stream) => {
                            prop_assert!(open.contains(&id));
                            out.push(stream);
                        }
                        StreamRoute::Reject(stream, _) => {
                            prop_assert!(!open.contains(&id));
                            out.push(stream);
                        }
                        StreamRoute::Buffered => prop_assert!(!open.contains(&id)),
                    }
                    sent += 1;
                }
                Step::Datagram(id, length) => {
                    let route = registry.datagram(id, vec![0; length].into(), now);
                    prop_assert_eq!(matches!(route, DatagramRoute::Deliver(..)), open.contains(&id));
                }
                Step::Wait(seconds) => now += Duration::from_secs(seconds),
                Step::Expire => {
                    out.extend(registry.expire(now));
                    prop_assert!(registry.next_timeout().is_none_or(|deadline| deadline > now));
                }
            }
            prop_assert!(registry.early_len() <= LIMITS.total);
            prop_assert_eq!(registry.len(), open.len());
        }
        out.extend(registry.expire(now + LIMITS.ttl));
        out.sort_unstable();
        prop_assert_eq!(out, (0..sent).collect::<Vec<_>>());
        prop_assert_eq!((registry.early_len(), registry.next_timeout()), (0, None));
    }
}

#[test]
fn a_request_of_plain_http_is_no_session() {
    let (mut registry, now) = registry();
    let payload = Bytes::from_static(b"x");
    registry.stream(0, 1, now);
    registry.datagram(0, payload.clone(), now);
    // What came early is for the caller to judge, what comes now is told apart.
    let early = registry.insert_exchange(0);
    assert_eq!((early.streams, early.datagrams), (vec![1], vec![payload.clone()]));
    assert_eq!((registry.exchanges(), registry.len()), (1, 0));
    assert_eq!(
        registry.datagram(0, payload.clone(), now),
        DatagramRoute::Meaningless(0)
    );
    assert_eq!(
        registry.stream(0, 2, now),
        StreamRoute::Reject(2, Code::WT_SESSION_GONE)
    );
    assert_eq!(registry.datagram(4, payload.clone(), now), DatagramRoute::Buffered);
    // When it is over, everything is late.
    registry.remove_exchange(0);
    assert_eq!(registry.exchanges(), 0);
    assert_eq!(registry.datagram(0, payload, now), DatagramRoute::Dropped);
    assert_eq!(
        registry.stream(0, 3, now),
        StreamRoute::Reject(3, Code::WT_SESSION_GONE)
    );
    assert_eq!(registry.counters().datagrams_late, 1);
}
