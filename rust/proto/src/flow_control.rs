//! WebTransport's own flow control (§5): how many streams and bytes each side of a session lets the other send.
//!
//! QUIC's limits go on underneath; this one bounds a session, so that several can share a connection. It is on exactly
//! when both sides announced it ([`is_enabled`]).
//!
//! # Theory of operation
//!
//! Every limit is a sum over the life of the session and only grows. For what this side sends, the peer sets the limit:
//! [`reserve`](FlowControl::reserve) before sending, [`give_back`](FlowControl::give_back) what was not sent after all. For
//! what the peer sends, this side sets it: `receive_*` when something arrives, and `consume_data`, `stream_lost` and
//! `stream_closed` when it is gone again; that moves the limit, and [`poll_capsule`](FlowControl::poll_capsule) tells the
//! peer. What it returns is made at that moment from the latest numbers: updates are coalesced by asking late, and each
//! is greater than the one before.
//!
//! The bytes of a stream that was reset or stopped before its end are the one inexact number: QUIC keeps its final size to
//! itself. What the peer may have sent of it unseen is granted anew, so that credit is never lost. A stream that this side
//! stopped goes on taking credit until the peer hears of it, credit that did not exist yet when it was stopped: when the
//! peer says that it has used up all of it, that is made good too.

use std::time::{Duration, Instant};

use crate::capsule::Capsule;
use crate::dialect::Dialect;
use crate::error::StreamError;
use crate::error_code::Code;
use crate::settings::{Settings, id};
use crate::varint;

/// What a limit counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Bytes of stream bodies, over all streams.
    Data,
    /// Bidirectional streams.
    StreamsBidi,
    /// Unidirectional streams.
    StreamsUni,
}

impl Kind {
    /// The kind that counts streams.
    pub fn streams(bidi: bool) -> Kind {
        if bidi { Kind::StreamsBidi } else { Kind::StreamsUni }
    }
}

/// Limits with which every session of a connection begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Limits {
    /// Bytes of stream bodies.
    pub data: u64,
    /// Bidirectional streams.
    pub streams_bidi: u64,
    /// Unidirectional streams.
    pub streams_uni: u64,
}

impl Limits {
    /// What one side announced; an absent setting is 0 (§5.5).
    pub fn announced(settings: &Settings) -> Limits {
        let get = |id| settings.get(id).unwrap_or(0);
        Limits {
            data: get(id::WT_INITIAL_MAX_DATA),
            streams_bidi: get(id::WT_INITIAL_MAX_STREAMS_BIDI),
            streams_uni: get(id::WT_INITIAL_MAX_STREAMS_UNI),
        }
    }

    fn of(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Data => self.data,
            Kind::StreamsBidi => self.streams_bidi,
            Kind::StreamsUni => self.streams_uni,
        }
    }
}

/// Whether sessions of a connection are flow controlled.
///
/// §5.1: both sides sent at least one of the three settings with a value other than 0. Drafts before 07 have no such
/// capsules.
pub fn is_enabled(dialect: Dialect, local: &Settings, peer: &Settings) -> bool {
    dialect >= Dialect::D07
        && [local, peer]
            .iter()
            .all(|settings| Limits::announced(settings) != Limits::default())
}

/// How this side grants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Bytes the peer may be ahead of the application.
    pub window: u64,
    /// What `window` may grow to when it proves too small. Equal to it: no growth.
    pub max_window: u64,
    /// Bytes of one stream that may have been sent and never be seen, when it ends early: QUIC's stream window.
    pub unseen: u64,
    /// Bidirectional streams of the peer that may be open at once.
    pub streams_bidi: u64,
    /// Unidirectional streams of the peer that may be open at once.
    pub streams_uni: u64,
    /// Bidirectional streams granted at a time.
    pub increment_bidi: u64,
    /// Unidirectional streams granted at a time.
    pub increment_uni: u64,
}

/// What happened so far; sums over the life of the session.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// The limit in force.
    pub limit: u64,
    /// What was used of it.
    pub used: u64,
}

/// The flow control of one session, both directions.
#[derive(Debug)]
pub struct FlowControl {
    outgoing: [Outgoing; 3],
    data: DataGrant,
    streams: [StreamGrant; 2],
    blocked_received: u64,
}

impl FlowControl {
    /// The state at the start of a session: `local` is what this side announced, `peer` what the other one did.
    pub fn new(local: Limits, peer: Limits, policy: &Policy) -> Self {
        let grant = |announced: u64, open: u64, increment: u64| StreamGrant {
            announced,
            opened: 0,
            closed: 0,
            open: open.max(1),
            // Half of what may be open: the peer must not run dry before it hears of more.
            step: increment.clamp(1, (open / 2).max(1)),
        };
        FlowControl {
            outgoing: [Kind::Data, Kind::StreamsBidi, Kind::StreamsUni].map(|kind| Outgoing::new(peer.of(kind))),
            data: DataGrant {
                announced: local.data,
                received: 0,
                consumed: 0,
                window: policy.window.max(1),
                max_window: policy.max_window,
                unseen: policy.unseen,
                owed: 0,
                // §5.5.3: a setting of 0 means that the session needs a capsule before the peer may send anything.
                due: local.data == 0,
                granted_at: None,
            },
            streams: [
                grant(local.streams_bidi, policy.streams_bidi, policy.increment_bidi),
                grant(local.streams_uni, policy.streams_uni, policy.increment_uni),
            ],
            blocked_received: 0,
        }
    }

    // What this side sends.

    /// Takes up to `want` of what the peer still allows. None left: a *_BLOCKED capsule is due, once per limit.
    pub fn reserve(&mut self, kind: Kind, want: u64) -> u64 {
        let outgoing = &mut self.outgoing[kind as usize];
        let take = want.min(outgoing.limit - outgoing.used);
        outgoing.used += take;
        outgoing.is_blocked = take == 0 && want > 0;
        take
    }

    /// Returns what was reserved and not sent.
    pub fn give_back(&mut self, kind: Kind, unused: u64) {
        let outgoing = &mut self.outgoing[kind as usize];
        outgoing.used -= unused.min(outgoing.used);
    }

    /// What can be sent now.
    pub fn available(&self, kind: Kind) -> u64 {
        let outgoing = &self.outgoing[kind as usize];
        outgoing.limit - outgoing.used
    }

    /// The peer's limit, and what this side used of it.
    pub fn sending(&self, kind: Kind) -> Usage {
        let Outgoing { limit, used, .. } = self.outgoing[kind as usize];
        Usage { limit, used }
    }

    // What the peer sends.

    /// Counts bytes of a stream body that arrived.
    ///
    /// # Errors
    ///
    /// §5.6.4: more than was granted MUST close the session with WT_FLOW_CONTROL_ERROR.
    pub fn receive_data(&mut self, bytes: u64) -> Result<(), StreamError> {
        self.data.received = self.data.received.saturating_add(bytes);
        if self.data.received > self.data.announced {
            return Err(violation("more stream data than WT_MAX_DATA allows"));
        }
        Ok(())
    }

    /// Counts bytes that the application has taken, or that were dropped for it. `round_trip` is that of the path.
    pub fn consume_data(&mut self, bytes: u64, now: Instant, round_trip: Duration) {
        self.data.consume(bytes);
        if self.data.is_low() && !self.data.due {
            self.data.due = true;
            self.data.scale(now, round_trip);
        }
    }

    /// A stream of the peer ended before all of it was read: what of it is on its way, nobody will see. If it was this side
    /// that stopped it, more of it may follow.
    pub fn stream_lost(&mut self, is_stopped: bool) {
        let granted = self.data.unseen.min(self.data.outstanding());
        self.data.consume(granted);
        self.data.due |= self.data.is_low();
        if is_stopped {
            self.data.owed = self.data.owed.saturating_add(self.data.unseen - granted);
        }
    }

    /// Counts a stream that the peer opened.
    ///
    /// # Errors
    ///
    /// §5.6.2: one more than was granted MUST close the session with WT_FLOW_CONTROL_ERROR.
    pub fn receive_stream(&mut self, bidi: bool) -> Result<(), StreamError> {
        let streams = &mut self.streams[usize::from(!bidi)];
        streams.opened += 1;
        if streams.opened > streams.announced {
            return Err(violation("more streams than WT_MAX_STREAMS allows"));
        }
        Ok(())
    }

    /// A stream of the peer is closed in every direction it has.
    pub fn stream_closed(&mut self, bidi: bool) {
        self.streams[usize::from(!bidi)].closed += 1;
    }

    /// The limit that this side set, and what the peer used of it, as far as it has arrived.
    pub fn receiving(&self, kind: Kind) -> Usage {
        let (limit, used) = match kind {
            Kind::Data => (self.data.announced, self.data.received),
            Kind::StreamsBidi => (self.streams[0].announced, self.streams[0].opened),
            Kind::StreamsUni => (self.streams[1].announced, self.streams[1].opened),
        };
        Usage { limit, used }
    }

    /// Bytes that the peer may be ahead of the application now; QUIC's own window has to let them through.
    pub fn window(&self) -> u64 {
        self.data
            .window
            .max(self.data.announced.saturating_sub(self.data.consumed))
    }

    /// *_BLOCKED capsules of the peer: it had more to send. Grants never wait for them (§5.6, a MUST NOT), but for what
    /// streams took after they were stopped, of which there is no other sign.
    pub fn blocked_received(&self) -> u64 {
        self.blocked_received
    }

    // Capsules.

    /// Takes a capsule of the peer; tells which limit of this side it raised. Others than those of flow control are ignored.
    ///
    /// # Errors
    ///
    /// §5.6: a limit that does not increase, and a number of streams above 2^60, MUST close the session with
    /// WT_FLOW_CONTROL_ERROR.
    pub fn handle_capsule(&mut self, capsule: &Capsule) -> Result<Option<Kind>, StreamError> {
        let (kind, limit) = match *capsule {
            Capsule::MaxData(limit) => (Kind::Data, limit),
            Capsule::MaxStreams { bidi, limit } if limit <= MAX_STREAMS => (Kind::streams(bidi), limit),
            Capsule::MaxStreams { .. } => return Err(violation("WT_MAX_STREAMS above 2^60")),
            Capsule::StreamsBlocked { limit, .. } if limit > MAX_STREAMS => {
                return Err(violation("WT_STREAMS_BLOCKED above 2^60"));
            }
            Capsule::DataBlocked(limit) => {
                self.blocked_received += 1;
                self.data.make_good(limit);
                return Ok(None);
            }
            Capsule::StreamsBlocked { .. } => {
                self.blocked_received += 1;
                return Ok(None);
            }
            Capsule::Close { .. } | Capsule::Drain | Capsule::Datagram(_) => return Ok(None),
        };
        let outgoing = &mut self.outgoing[kind as usize];
        if limit <= outgoing.limit {
            return Err(violation("a WT_MAX capsule that does not increase its limit"));
        }
        outgoing.limit = limit;
        outgoing.is_blocked = false;
        Ok(Some(kind))
    }

    /// Whether [`poll_capsule`](Self::poll_capsule) has something.
    pub fn has_capsule(&self) -> bool {
        self.data.due || self.streams.iter().any(StreamGrant::is_due) || self.outgoing.iter().any(Outgoing::is_due)
    }

    /// The next capsule to send. Ask when the CONNECT stream takes more: what changes until then goes into the same one.
    pub fn poll_capsule(&mut self) -> Option<Capsule> {
        if let Some(limit) = self.data.grant() {
            return Some(Capsule::MaxData(limit));
        }
        for (streams, bidi) in self.streams.iter_mut().zip([true, false]) {
            if let Some(limit) = streams.grant() {
                return Some(Capsule::MaxStreams { bidi, limit });
            }
        }
        // §5.6: SHOULD be sent when a limit holds something up.
        let kinds = [Kind::Data, Kind::StreamsBidi, Kind::StreamsUni];
        for (outgoing, kind) in self.outgoing.iter_mut().zip(kinds) {
            if outgoing.is_due() {
                outgoing.told_at = Some(outgoing.limit);
                let limit = outgoing.limit;
                return Some(match kind {
                    Kind::Data => Capsule::DataBlocked(limit),
                    Kind::StreamsBidi => Capsule::StreamsBlocked { bidi: true, limit },
                    Kind::StreamsUni => Capsule::StreamsBlocked { bidi: false, limit },
                });
            }
        }
        None
    }
}

/// One limit of the peer.
#[derive(Debug)]
struct Outgoing {
    limit: u64,
    used: u64,
    is_blocked: bool,
    /// The limit for which the peer has heard that it holds something up.
    told_at: Option<u64>,
}

impl Outgoing {
    fn new(limit: u64) -> Self {
        Outgoing {
            limit,
            used: 0,
            is_blocked: false,
            told_at: None,
        }
    }

    fn is_due(&self) -> bool {
        self.is_blocked && self.told_at != Some(self.limit) && self.limit <= varint::MAX
    }
}

/// This side's limit on stream bytes.
#[derive(Debug)]
struct DataGrant {
    announced: u64,
    received: u64,
    /// Runs ahead of `received` by what was granted for bytes nobody saw.
    consumed: u64,
    window: u64,
    max_window: u64,
    unseen: u64,
    /// What streams that were stopped may have taken since then.
    owed: u64,
    due: bool,
    granted_at: Option<Instant>,
}

impl DataGrant {
    fn consume(&mut self, bytes: u64) {
        self.consumed = self.consumed.saturating_add(bytes);
    }

    /// What the peer may have sent and has not arrived.
    fn outstanding(&self) -> u64 {
        self.announced.saturating_sub(self.received)
    }

    /// The peer has used up `limit`. Unless it has heard of a higher one meanwhile, all of it that has not arrived is on its
    /// way or went to stopped streams.
    fn make_good(&mut self, limit: u64) {
        let lost = self.owed.min(self.outstanding());
        if limit >= self.announced && lost > 0 {
            self.owed -= lost;
            self.consume(lost);
            self.due = true;
        }
    }

    /// A quarter of the window is used up: early enough that a sender at full speed does not wait for the update.
    fn is_low(&self) -> bool {
        self.announced.saturating_sub(self.consumed) < self.window - self.window / 4
    }

    /// Doubles the window when a quarter of it was used up within half a round trip: then it is the window that limits the
    /// peer, or soon will.
    fn scale(&mut self, now: Instant, round_trip: Duration) {
        let before = self.granted_at.replace(now);
        if before.is_some_and(|at| now.saturating_duration_since(at) < round_trip / 2) {
            self.window = self.window.saturating_mul(2).min(self.max_window.max(self.window));
        }
    }

    fn grant(&mut self) -> Option<u64> {
        if !std::mem::take(&mut self.due) {
            return None;
        }
        let limit = self.consumed.saturating_add(self.window).min(varint::MAX);
        // §5.6.4: the limit MUST increase. It does not when more was announced at the start than the window holds.
        (limit > self.announced).then(|| {
            self.announced = limit;
            limit
        })
    }
}

/// This side's limit on streams of one kind.
#[derive(Debug)]
struct StreamGrant {
    announced: u64,
    opened: u64,
    closed: u64,
    /// How many may be open at once.
    open: u64,
    step: u64,
}

impl StreamGrant {
    fn target(&self) -> u64 {
        self.closed.saturating_add(self.open).min(MAX_STREAMS)
    }

    /// In steps; at once when the peer has none left.
    fn is_due(&self) -> bool {
        let more = self.target().saturating_sub(self.announced);
        more >= self.step || (more > 0 && self.opened >= self.announced)
    }

    fn grant(&mut self) -> Option<u64> {
        self.is_due().then(|| {
            self.announced = self.target();
            self.announced
        })
    }
}

fn violation(reason: &'static str) -> StreamError {
    StreamError {
        code: Code::WT_FLOW_CONTROL_ERROR,
        reason,
    }
}

/// §5.6.2: no limit on streams can exceed 2^60, because stream ids end at 2^62 - 1.
const MAX_STREAMS: u64 = 1 << 60;
