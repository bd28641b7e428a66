//! Flow control of two sides that talk to each other, in any order: credit is never exceeded and never lost. And of one
//! side whose peer sends what it likes.

use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use wt_proto::capsule::Capsule;
use wt_proto::error_code::Code;
use wt_proto::flow_control::{FlowControl, Kind, Limits, Policy};

/// What the two sides announced, and what they do.
#[derive(Debug, Arbitrary)]
pub struct Input {
    limits: [u8; 6],
    window: u16,
    max_window: u16,
    increments: [u8; 2],
    steps: Vec<(bool, Step, u8)>,
    hostile: Vec<Hostile>,
}

#[derive(Clone, Copy, Debug, Arbitrary)]
enum Step {
    /// Reserve, and give a part of it back.
    Send { kind: Which, want: u16, unused: u8 },
    /// What was sent arrives.
    Arrive,
    /// The application takes some of what arrived.
    Consume(u16),
    /// A stream ends early: so many bytes of it are never seen.
    Lose(u8),
    /// A stream of the other side closes.
    CloseStream(bool),
    /// Capsules that are due are written.
    Write,
    /// Written capsules arrive.
    Read,
}

#[derive(Clone, Copy, Debug, Arbitrary)]
enum Which {
    Data,
    Bidi,
    Uni,
}

/// What a peer without manners does, and what the application does meanwhile.
#[derive(Clone, Copy, Debug, Arbitrary)]
enum Hostile {
    MaxData(u64),
    MaxStreams(bool, u64),
    DataBlocked(u64),
    StreamsBlocked(bool, u64),
    Data(u64),
    Stream(bool),
    Consume(u64),
    Lost(bool),
    StreamClosed(bool),
    Reserve(Which, u64),
    GiveBack(Which, u64),
    Poll,
}

impl Input {
    /// Both situations.
    pub fn check(self) {
        self.two_sides();
        one_side(&self.hostile);
    }

    fn two_sides(&self) {
        let limit = |at: usize| Limits {
            data: u64::from(self.limits[at] % 32) * 50,
            streams_bidi: u64::from(self.limits[at + 1] % 20),
            streams_uni: u64::from(self.limits[at + 2] % 20),
        };
        let window = u64::from(self.window % 2000).max(1);
        let policy = |limits: Limits| Policy {
            window,
            max_window: u64::from(self.max_window),
            unseen: UNSEEN,
            streams_bidi: if limits.streams_bidi > 0 {
                limits.streams_bidi
            } else {
                3
            },
            streams_uni: if limits.streams_uni > 0 { limits.streams_uni } else { 3 },
            increment_bidi: u64::from(self.increments[0]),
            increment_uni: u64::from(self.increments[1]),
        };
        let (a, b) = (limit(0), limit(3));
        let mut sides = [Side::new(a, b, &policy(a)), Side::new(b, a, &policy(b))];
        let mut now = Instant::now();
        for (is_first, step, passed) in &self.steps {
            now += Duration::from_millis(u64::from(*passed));
            act(&mut sides, usize::from(!is_first), *step, now);
        }
        settle(&mut sides, now);
        for (side, peer) in [(&sides[0], b), (&sides[1], a)] {
            // Three quarters of the window, or what is left of a larger initial limit.
            let data = side.flow.available(Kind::Data);
            assert!(
                data >= (window - window / 4).min(peer.data.max(1)),
                "{data} of {window}"
            );
            for kind in [Kind::StreamsBidi, Kind::StreamsUni] {
                assert!(side.flow.available(kind) > 0, "{kind:?}");
            }
        }
    }
}

/// One side and what is on its way to the other one.
struct Side {
    flow: FlowControl,
    /// Used by this side and not yet seen by the other: bytes, bidirectional and unidirectional streams.
    sent: [u64; 3],
    capsules: Vec<Capsule>,
    /// Arrived here and still in use.
    held: [u64; 3],
    /// The latest limits that this side told.
    told: [u64; 3],
}

impl Side {
    fn new(local: Limits, peer: Limits, policy: &Policy) -> Self {
        Side {
            flow: FlowControl::new(local, peer, policy),
            sent: [0; 3],
            capsules: Vec::new(),
            held: [0; 3],
            told: [local.data, local.streams_bidi, local.streams_uni],
        }
    }
}

fn act(sides: &mut [Side; 2], who: usize, step: Step, now: Instant) {
    let [first, second] = sides;
    let (side, other) = if who == 0 { (first, second) } else { (second, first) };
    match step {
        Step::Send { kind, want, unused } => {
            let (at, kind) = (kind as usize, KINDS[kind as usize]);
            let want = if at == 0 {
                u64::from(want)
            } else {
                u64::from(want).min(1)
            };
            let before = side.flow.available(kind);
            let got = side.flow.reserve(kind, want);
            assert_eq!(got, want.min(before));
            let back = u64::from(unused).min(got);
            side.flow.give_back(kind, back);
            assert_eq!(side.flow.available(kind), before - got + back);
            side.sent[at] += got - back;
        }
        Step::Arrive => {
            let bytes = std::mem::take(&mut side.sent[0]);
            other.flow.receive_data(bytes).expect("credit is never exceeded");
            other.held[0] += bytes;
            for at in [1, 2] {
                for _ in 0..std::mem::take(&mut side.sent[at]) {
                    other.flow.receive_stream(at == 1).expect("credit is never exceeded");
                    other.held[at] += 1;
                }
            }
        }
        Step::Consume(bytes) => {
            let bytes = u64::from(bytes).min(side.held[0]);
            side.held[0] -= bytes;
            side.flow.consume_data(bytes, now, Duration::from_millis(50));
        }
        Step::Lose(unseen) => {
            // A stream has no more unseen bytes than QUIC's window lets through.
            let unseen = u64::from(unseen).min(side.sent[0]).min(UNSEEN);
            side.sent[0] -= unseen;
            // Reset by its sender: nothing follows.
            other.flow.stream_lost(false);
        }
        Step::CloseStream(bidi) => {
            let at = if bidi { 1 } else { 2 };
            if side.held[at] > 0 {
                side.held[at] -= 1;
                side.flow.stream_closed(bidi);
            }
        }
        Step::Write => {
            for capsule in drain(&mut side.flow) {
                let (at, limit) = match capsule {
                    Capsule::MaxData(limit) => (0, limit),
                    Capsule::MaxStreams { bidi: true, limit } => (1, limit),
                    Capsule::MaxStreams { bidi: false, limit } => (2, limit),
                    _ => {
                        side.capsules.push(capsule);
                        continue;
                    }
                };
                assert!(limit > side.told[at], "a limit that does not increase");
                side.told[at] = limit;
                side.capsules.push(capsule);
            }
        }
        Step::Read => {
            for capsule in side.capsules.drain(..) {
                other.flow.handle_capsule(&capsule).expect("limits increase");
            }
        }
    }
}

/// Everything arrives, is read and is closed.
fn settle(sides: &mut [Side; 2], now: Instant) {
    for _ in 0..3 {
        for who in [0, 1] {
            act(sides, who, Step::Arrive, now);
        }
        for who in [0, 1] {
            while sides[who].held[0] > 0 {
                act(sides, who, Step::Consume(u16::MAX), now);
            }
            for bidi in [true, false] {
                while sides[who].held[if bidi { 1 } else { 2 }] > 0 {
                    act(sides, who, Step::CloseStream(bidi), now);
                }
            }
            act(sides, who, Step::Write, now);
            act(sides, who, Step::Read, now);
        }
    }
}

/// All capsules that are due; few, whatever has happened since the last time.
fn drain(flow: &mut FlowControl) -> Vec<Capsule> {
    let has_some = flow.has_capsule();
    let capsules: Vec<_> = std::iter::from_fn(|| flow.poll_capsule()).take(7).collect();
    assert!(capsules.len() <= 6, "one of each kind: {capsules:?}");
    assert!(has_some || capsules.is_empty(), "unannounced: {capsules:?}");
    assert!(!flow.has_capsule());
    capsules
}

fn one_side(steps: &[Hostile]) {
    let limits = Limits {
        data: 1000,
        streams_bidi: 10,
        streams_uni: 0,
    };
    let policy = Policy {
        window: 1000,
        max_window: 64_000,
        unseen: UNSEEN,
        streams_bidi: 10,
        streams_uni: 3,
        increment_bidi: 2,
        increment_uni: 2,
    };
    let mut flow = FlowControl::new(limits, limits, &policy);
    let now = Instant::now();
    for step in steps {
        let before = KINDS.map(|kind| flow.sending(kind).limit);
        let result = match *step {
            Hostile::MaxData(limit) => flow.handle_capsule(&Capsule::MaxData(limit)).map(drop),
            Hostile::MaxStreams(bidi, limit) => flow.handle_capsule(&Capsule::MaxStreams { bidi, limit }).map(drop),
            Hostile::DataBlocked(limit) => flow.handle_capsule(&Capsule::DataBlocked(limit)).map(drop),
            Hostile::StreamsBlocked(bidi, limit) => {
                flow.handle_capsule(&Capsule::StreamsBlocked { bidi, limit }).map(drop)
            }
            Hostile::Data(bytes) => flow.receive_data(bytes),
            Hostile::Stream(bidi) => flow.receive_stream(bidi),
            Hostile::Consume(bytes) => {
                flow.consume_data(bytes, now, Duration::from_millis(50));
                Ok(())
            }
            Hostile::Lost(is_stopped) => {
                flow.stream_lost(is_stopped);
                Ok(())
            }
            Hostile::StreamClosed(bidi) => {
                flow.stream_closed(bidi);
                Ok(())
            }
            Hostile::Reserve(kind, want) => {
                let kind = KINDS[kind as usize];
                let before = flow.available(kind);
                assert_eq!(flow.reserve(kind, want), want.min(before));
                Ok(())
            }
            Hostile::GiveBack(kind, unused) => {
                flow.give_back(KINDS[kind as usize], unused);
                Ok(())
            }
            Hostile::Poll => {
                drain(&mut flow);
                Ok(())
            }
        };
        for (kind, before) in KINDS.into_iter().zip(before) {
            let usage = flow.sending(kind);
            assert!(usage.used <= usage.limit && usage.limit >= before);
        }
        match result {
            Ok(()) => {
                for kind in KINDS {
                    let usage = flow.receiving(kind);
                    assert!(usage.used <= usage.limit, "let through: {usage:?}");
                }
            }
            // The session ends.
            Err(error) => {
                assert_eq!(error.code, Code::WT_FLOW_CONTROL_ERROR);
                return;
            }
        }
    }
}

const KINDS: [Kind; 3] = [Kind::Data, Kind::StreamsBidi, Kind::StreamsUni];
const UNSEEN: u64 = 50;
