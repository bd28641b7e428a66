//! The registry of a connection under any list of events: nothing is lost or doubled, the bounds hold, the counters add up.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use bytes::Bytes;
use wt_proto::dialect::Role;
use wt_proto::error_code::Code;
use wt_proto::registry::{Counters, DatagramRoute, Early, Limits, Registry, StreamRoute};

/// Bounds and events.
#[derive(Debug, Arbitrary)]
pub struct Input {
    per_session: u8,
    total: u8,
    datagram_bytes: u8,
    ttl: u8,
    remembered: u8,
    steps: Vec<Step>,
}

#[derive(Clone, Copy, Debug, Arbitrary)]
enum Step {
    Insert(u8),
    Remove(u8),
    Discard(u8),
    Stream(u8),
    Datagram(u8, u8),
    Wait(u8),
    Expire,
}

/// What went in and came out, kept beside the registry.
#[derive(Default)]
struct Ledger {
    open: BTreeSet<u64>,
    streams: Vec<u32>,
    delivered: u64,
    datagrams_delivered: u64,
    /// Early streams and datagrams that their session took, or that went with it.
    taken: u64,
    datagrams_taken: u64,
    bytes_in: usize,
    bytes_out: usize,
}

impl Input {
    /// Applies the events one by one.
    pub fn check(self) {
        let limits = Limits {
            per_session: usize::from(self.per_session % 8),
            total: usize::from(self.total % 16),
            datagram_bytes: usize::from(self.datagram_bytes),
            ttl: Duration::from_secs(u64::from(self.ttl % 8)),
            remembered: usize::from(self.remembered % 4),
        };
        let mut registry = Registry::new(Role::Server, limits);
        let mut ledger = Ledger::default();
        let mut now = Instant::now();
        let (mut streams, mut datagrams) = (0u32, 0u64);
        for step in &self.steps {
            match *step {
                Step::Insert(id) => {
                    let id = session(id);
                    ledger.take(registry.insert(id, id));
                    ledger.open.insert(id);
                }
                Step::Remove(id) => {
                    let id = session(id);
                    assert_eq!(registry.remove(id).is_some(), ledger.open.remove(&id));
                }
                Step::Discard(id) => {
                    let id = session(id);
                    ledger.take(registry.discard(id));
                    ledger.open.remove(&id);
                }
                Step::Stream(id) => {
                    let id = session(id);
                    let is_open = ledger.open.contains(&id);
                    match registry.stream(id, streams, now) {
                        StreamRoute::Deliver(to, stream) => {
                            assert!(is_open && to == id);
                            ledger.delivered += 1;
                            ledger.streams.push(stream);
                        }
                        StreamRoute::Reject(stream, code) => {
                            assert!(!is_open);
                            assert!([Code::WT_SESSION_GONE, Code::WT_BUFFERED_STREAM_REJECTED].contains(&code));
                            ledger.streams.push(stream);
                        }
                        StreamRoute::Buffered => assert!(!is_open),
                    }
                    streams += 1;
                }
                Step::Datagram(id, length) => {
                    let id = session(id);
                    let is_open = ledger.open.contains(&id);
                    let length = usize::from(length % 64);
                    match registry.datagram(id, vec![id as u8; length].into(), now) {
                        DatagramRoute::Deliver(to, payload) => {
                            assert!(is_open && to == id && payload == vec![id as u8; length]);
                            ledger.datagrams_delivered += 1;
                        }
                        DatagramRoute::Buffered => {
                            assert!(!is_open);
                            ledger.bytes_in += length;
                        }
                        DatagramRoute::Dropped => assert!(!is_open),
                        DatagramRoute::Meaningless(_) => panic!("there are no plain requests"),
                    }
                    datagrams += 1;
                }
                Step::Wait(seconds) => now += Duration::from_secs(u64::from(seconds % 4)),
                Step::Expire => {
                    ledger.streams.extend(registry.expire(now));
                    assert!(registry.next_timeout().is_none_or(|deadline| deadline > now));
                }
            }
            assert!(registry.early_len() <= limits.total);
            assert!(registry.iter().map(|(id, _)| id).eq(ledger.open.iter().copied()));
            ledger.check(&registry, u64::from(streams), datagrams);
        }
        now += limits.ttl;
        ledger.streams.extend(registry.expire(now));
        assert_eq!((registry.early_len(), registry.next_timeout()), (0, None));
        ledger.streams.sort_unstable();
        assert!(ledger.streams.into_iter().eq(0..streams), "each came out once");
        // Nothing waits, so there is room for everybody, and for as much as ever.
        for id in (0..8).map(session).filter(|id| !ledger.open.contains(id)) {
            let (stream, datagram) = (registry.stream(id, 0, now), vec![0; limits.datagram_bytes]);
            let has_room = limits.per_session > 0 && limits.total > 0;
            let is_late = matches!(stream, StreamRoute::Reject(_, Code::WT_SESSION_GONE));
            assert_eq!(stream == StreamRoute::Buffered, has_room && !is_late);
            now += limits.ttl;
            registry.expire(now);
            let datagram = registry.datagram(id, datagram.into(), now);
            assert_eq!(datagram == DatagramRoute::Buffered, has_room && !is_late);
            now += limits.ttl;
            registry.expire(now);
        }
    }
}

impl Ledger {
    fn take(&mut self, early: Early<u32>) {
        let Early { streams, datagrams } = early;
        assert!(streams.is_sorted(), "in order of arrival");
        self.taken += streams.len() as u64;
        self.streams.extend(streams);
        self.datagrams_taken += datagrams.len() as u64;
        self.bytes_out += datagrams.iter().map(Bytes::len).sum::<usize>();
    }

    fn check(&self, registry: &Registry<u64, u32>, streams: u64, datagrams: u64) {
        let Counters {
            streams_buffered,
            streams_rejected,
            streams_late,
            streams_expired,
            datagrams_buffered,
            datagrams_dropped,
            datagrams_late,
            datagrams_expired,
        } = registry.counters();
        assert_eq!(
            self.delivered + streams_buffered + streams_rejected + streams_late,
            streams
        );
        assert_eq!(
            self.datagrams_delivered + datagrams_buffered + datagrams_dropped + datagrams_late,
            datagrams
        );
        let waiting = (streams_buffered - self.taken - streams_expired)
            + (datagrams_buffered - self.datagrams_taken - datagrams_expired);
        assert_eq!(waiting, registry.early_len() as u64);
        assert!(self.bytes_out <= self.bytes_in);
    }
}

/// Few, so that they meet.
fn session(id: u8) -> u64 {
    u64::from(id % 8) * 4
}
