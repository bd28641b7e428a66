//! The sessions of one connection, and what arrived for sessions that are not there (§4.6).
//!
//! Streams and datagrams overtake the CONNECT stream they belong to. They are kept for a while, bounded by count, bytes
//! and age; ids of sessions that ended are remembered, so that what comes late is turned away at once.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::dialect::Role;
use crate::error_code::Code;

/// Bounds of a [`Registry`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Early streams and datagrams of one unknown session.
    pub per_session: usize,
    /// Early streams and datagrams altogether.
    pub total: usize,
    /// Payload bytes of early datagrams altogether.
    pub datagram_bytes: usize,
    /// How long an early stream or datagram is kept.
    pub ttl: Duration,
    /// How many ids of ended sessions are remembered. Searched one by one: keep it small.
    pub remembered: usize,
}

/// What arrived before its session, in order of arrival.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Early<T> {
    /// Streams.
    pub streams: Vec<T>,
    /// Datagram payloads.
    pub datagrams: Vec<Bytes>,
}

/// Where a stream goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamRoute<S, T> {
    /// To this session.
    Deliver(S, T),
    /// Kept until its session appears or [`Registry::expire`] hands it out.
    Buffered,
    /// Reset and stop it with this code.
    Reject(T, Code),
}

/// Where a datagram goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatagramRoute<S> {
    /// To this session.
    Deliver(S, Bytes),
    /// Kept until its session appears or it is too old.
    Buffered,
    /// Dropped and counted.
    Dropped,
    /// For this request of plain HTTP, which gives it no meaning.
    Meaningless(u64),
}

/// What the bounds did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Streams kept for a session that was not there yet.
    pub streams_buffered: u64,
    /// Streams turned away because a bound was reached.
    pub streams_rejected: u64,
    /// Streams turned away because their session had ended.
    pub streams_late: u64,
    /// Streams whose session did not appear in time.
    pub streams_expired: u64,
    /// Datagrams kept for a session that was not there yet.
    pub datagrams_buffered: u64,
    /// Datagrams dropped because a bound was reached.
    pub datagrams_dropped: u64,
    /// Datagrams dropped because their session had ended.
    pub datagrams_late: u64,
    /// Datagrams whose session did not appear in time.
    pub datagrams_expired: u64,
}

/// The sessions of one connection.
///
/// `S` is a cheap handle of a session, `T` a stream whose header was read.
#[derive(Debug)]
pub struct Registry<S, T> {
    role: Role,
    limits: Limits,
    /// In the order of their ids. Mostly one, for which a map would have room for eleven.
    sessions: Vec<(u64, S)>,
    /// Ids of requests of plain HTTP.
    exchanges: BTreeSet<u64>,
    /// Ids of ended sessions, oldest first.
    ended: VecDeque<u64>,
    /// Early arrivals of all sessions, oldest first. Age is constant, so this is the order of deadlines too.
    early: VecDeque<Waiting<T>>,
    early_per_session: HashMap<u64, usize>,
    early_bytes: usize,
    counters: Counters,
}

#[derive(Debug)]
struct Waiting<T> {
    session: u64,
    deadline: Instant,
    item: Item<T>,
}

#[derive(Debug)]
enum Item<T> {
    Stream(T),
    Datagram(Bytes),
}

impl<S: Clone, T> Registry<S, T> {
    /// An empty registry. `role` is this side's.
    pub fn new(role: Role, limits: Limits) -> Self {
        Registry {
            role,
            limits: Limits {
                ttl: limits.ttl.min(LONGEST_TTL),
                ..limits
            },
            sessions: Vec::new(),
            exchanges: BTreeSet::new(),
            ended: VecDeque::new(),
            early: VecDeque::new(),
            early_per_session: HashMap::new(),
            early_bytes: 0,
            counters: Counters::default(),
        }
    }

    /// Adds a session and hands out what has been waiting for it.
    pub fn insert(&mut self, id: u64, session: S) -> Early<T> {
        self.ended.retain(|ended| *ended != id);
        match self.place(id) {
            Ok(place) => self.sessions[place].1 = session,
            Err(place) => self.sessions.insert(place, (id, session)),
        }
        self.take_early(id)
    }

    /// Takes a session out and remembers its id, known or not, as ended.
    pub fn remove(&mut self, id: u64) -> Option<S> {
        self.remember(id);
        let place = self.place(id).ok()?;
        Some(self.sessions.remove(place).1)
    }

    /// Ends a session that never came to be, a rejected one: remembers its id and hands out what has been waiting for
    /// it. The caller turns the streams away.
    pub fn discard(&mut self, id: u64) -> Early<T> {
        self.remove(id);
        self.take_early(id)
    }

    /// Adds a request of plain HTTP and hands out what has been waiting for a session of its id. The caller turns the
    /// streams away, and ends the request if there are datagrams.
    pub fn insert_exchange(&mut self, id: u64) -> Early<T> {
        self.exchanges.insert(id);
        self.take_early(id)
    }

    /// Takes a request of plain HTTP out and remembers its id as ended.
    pub fn remove_exchange(&mut self, id: u64) {
        self.exchanges.remove(&id);
        self.remember(id);
    }

    /// Routes a stream of the session `id`.
    pub fn stream(&mut self, id: u64, stream: T, now: Instant) -> StreamRoute<S, T> {
        if let Some(session) = self.get(id) {
            return StreamRoute::Deliver(session.clone(), stream);
        }
        // §4.6 leaves the code for late streams open; §6 has one that says why. It fits what never was a session too.
        if self.ended.contains(&id) || self.exchanges.contains(&id) {
            self.counters.streams_late += 1;
            return StreamRoute::Reject(stream, Code::WT_SESSION_GONE);
        }
        // §4.6: the number of buffered streams MUST be limited; excess ones are closed with
        // WT_BUFFERED_STREAM_REJECTED.
        if !self.has_room(id) {
            self.counters.streams_rejected += 1;
            return StreamRoute::Reject(stream, Code::WT_BUFFERED_STREAM_REJECTED);
        }
        self.counters.streams_buffered += 1;
        self.keep(id, Item::Stream(stream), now);
        StreamRoute::Buffered
    }

    /// Routes a datagram of the session `id`.
    pub fn datagram(&mut self, id: u64, payload: Bytes, now: Instant) -> DatagramRoute<S> {
        if let Some(session) = self.get(id) {
            return DatagramRoute::Deliver(session.clone(), payload);
        }
        // RFC 9297 2: a datagram for a request that gives it no meaning MUST end that request.
        if self.exchanges.contains(&id) {
            self.counters.datagrams_dropped += 1;
            return DatagramRoute::Meaningless(id);
        }
        if self.ended.contains(&id) {
            self.counters.datagrams_late += 1;
            return DatagramRoute::Dropped;
        }
        // §4.6: the number of buffered datagrams MUST be limited; excess ones are dropped.
        if !self.has_room(id) || payload.len() > self.limits.datagram_bytes - self.early_bytes {
            self.counters.datagrams_dropped += 1;
            return DatagramRoute::Dropped;
        }
        self.counters.datagrams_buffered += 1;
        self.early_bytes += payload.len();
        // Copied: a few bytes must not keep the packets alive that they came with, which no limit counts.
        self.keep(id, Item::Datagram(Bytes::copy_from_slice(&payload)), now);
        DatagramRoute::Buffered
    }

    /// Drops what is too old. The caller turns the streams away with WT_BUFFERED_STREAM_REJECTED.
    pub fn expire(&mut self, now: Instant) -> Vec<T> {
        let mut streams = Vec::new();
        while self.next_timeout().is_some_and(|deadline| deadline <= now) {
            let Some(waiting) = self.early.pop_front() else { break };
            if let Some(count) = self.early_per_session.get_mut(&waiting.session) {
                *count -= 1;
                if *count == 0 {
                    self.early_per_session.remove(&waiting.session);
                }
            }
            match waiting.item {
                Item::Stream(stream) => {
                    self.counters.streams_expired += 1;
                    streams.push(stream);
                }
                Item::Datagram(payload) => {
                    self.counters.datagrams_expired += 1;
                    self.early_bytes -= payload.len();
                }
            }
        }
        streams
    }

    /// The side of the connection.
    pub fn role(&self) -> Role {
        self.role
    }

    fn place(&self, id: u64) -> Result<usize, usize> {
        self.sessions.binary_search_by_key(&id, |(id, _)| *id)
    }

    /// The session with this id.
    pub fn get(&self, id: u64) -> Option<&S> {
        self.place(id).ok().map(|place| &self.sessions[place].1)
    }

    /// How many sessions there are.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// How many requests of plain HTTP there are.
    pub fn exchanges(&self) -> usize {
        self.exchanges.len()
    }

    /// Whether there is no session.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// The sessions in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &S)> {
        self.sessions.iter().map(|(id, session)| (*id, session))
    }

    /// How many early streams and datagrams are kept.
    pub fn early_len(&self) -> usize {
        self.early.len()
    }

    /// When to call [`expire`](Self::expire) next.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.early.front().map(|waiting| waiting.deadline)
    }

    /// What the bounds did so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn has_room(&self, id: u64) -> bool {
        let waiting = self.early_per_session.get(&id).copied().unwrap_or(0);
        self.early.len() < self.limits.total && waiting < self.limits.per_session
    }

    fn keep(&mut self, session: u64, item: Item<T>, now: Instant) {
        *self.early_per_session.entry(session).or_default() += 1;
        self.early.push_back(Waiting {
            session,
            deadline: now + self.limits.ttl,
            item,
        });
    }

    /// Takes out what waits for `id`: one pass over the bounded queue, and only when there is something.
    fn take_early(&mut self, id: u64) -> Early<T> {
        let mut found = Early {
            streams: Vec::new(),
            datagrams: Vec::new(),
        };
        if self.early_per_session.remove(&id).is_none() {
            return found;
        }
        let (mine, others): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.early)
            .into_iter()
            .partition(|waiting| waiting.session == id);
        self.early = others;
        for waiting in mine {
            match waiting.item {
                Item::Stream(stream) => found.streams.push(stream),
                Item::Datagram(payload) => {
                    self.early_bytes -= payload.len();
                    found.datagrams.push(payload);
                }
            }
        }
        found
    }

    fn remember(&mut self, id: u64) {
        if self.limits.remembered == 0 || self.ended.contains(&id) {
            return;
        }
        if self.ended.len() >= self.limits.remembered {
            self.ended.pop_front();
        }
        self.ended.push_back(id);
    }
}

/// Keeps the sum of a clock and an age from overflowing, whatever was configured.
const LONGEST_TTL: Duration = Duration::from_secs(24 * 60 * 60);
