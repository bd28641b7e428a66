//! WebTransport flow control: one side by itself, and two sides that never disagree.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use wt_proto::capsule::Capsule;
use wt_proto::dialect::Dialect;
use wt_proto::error_code::Code;
use wt_proto::flow_control::{FlowControl, Kind, Limits, Policy, Usage, is_enabled};
use wt_proto::settings::{Settings, id};

const KINDS: [Kind; 3] = [Kind::Data, Kind::StreamsBidi, Kind::StreamsUni];

const POLICY: Policy = Policy {
    window: 1000,
    max_window: 1000,
    unseen: 100,
    streams_bidi: 4,
    streams_uni: 6,
    increment_bidi: 10,
    increment_uni: 10,
};

const LOCAL: Limits = Limits {
    data: 1000,
    streams_bidi: 4,
    streams_uni: 6,
};

const PEER: Limits = Limits {
    data: 500,
    streams_bidi: 1,
    streams_uni: 2,
};

const SLOW: Duration = Duration::ZERO;

fn fresh() -> FlowControl {
    FlowControl::new(LOCAL, PEER, &POLICY)
}

fn settings(values: &[(u64, u64)]) -> Settings {
    let mut settings = Settings::default();
    values.iter().for_each(|(id, value)| settings.set(*id, *value));
    settings
}

fn capsules(flow: &mut FlowControl) -> Vec<Capsule> {
    let has_some = flow.has_capsule();
    let all: Vec<_> = std::iter::from_fn(|| flow.poll_capsule()).collect();
    assert!(has_some || all.is_empty(), "unannounced: {all:?}");
    assert!(!flow.has_capsule());
    all
}

fn assert_violation<T: std::fmt::Debug>(result: Result<T, wt_proto::error::StreamError>) {
    assert_eq!(result.expect_err("must be refused").code, Code::WT_FLOW_CONTROL_ERROR);
}

#[test]
fn it_is_on_when_both_sides_announce_any_positive_limit() {
    let ids = [
        id::WT_INITIAL_MAX_DATA,
        id::WT_INITIAL_MAX_STREAMS_BIDI,
        id::WT_INITIAL_MAX_STREAMS_UNI,
    ];
    let none = settings(&[]);
    let zero = settings(&ids.map(|id| (id, 0)));
    for local in ids {
        for peer in ids {
            let (local, peer) = (settings(&[(local, 1)]), settings(&[(peer, 7)]));
            for dialect in [Dialect::D07, Dialect::D14, Dialect::D15] {
                assert!(is_enabled(dialect, &local, &peer));
                for off in [&none, &zero] {
                    assert!(!is_enabled(dialect, &local, off));
                    assert!(!is_enabled(dialect, off, &peer));
                    assert!(!is_enabled(dialect, off, off));
                }
            }
            assert!(!is_enabled(Dialect::D02, &local, &peer));
        }
    }
}

#[test]
fn nothing_to_say_at_the_start_when_all_limits_were_announced() {
    assert_eq!(capsules(&mut fresh()), []);
}

#[test]
fn a_limit_that_was_not_announced_is_granted_by_a_capsule() {
    let mut flow = FlowControl::new(
        Limits {
            data: 1,
            ..Limits::default()
        },
        PEER,
        &POLICY,
    );
    let bidi = Capsule::MaxStreams { bidi: true, limit: 4 };
    let uni = Capsule::MaxStreams { bidi: false, limit: 6 };
    assert_eq!(capsules(&mut flow), [bidi, uni]);
    let mut flow = FlowControl::new(Limits { data: 0, ..LOCAL }, PEER, &POLICY);
    assert_eq!(capsules(&mut flow), [Capsule::MaxData(1000)]);
}

#[test]
fn sending_stops_at_the_limit_and_says_so_once() {
    let mut flow = fresh();
    assert_eq!(flow.reserve(Kind::Data, 300), 300);
    assert_eq!(flow.reserve(Kind::Data, 300), 200);
    assert_eq!(capsules(&mut flow), [], "not blocked while something could be sent");
    assert_eq!(flow.reserve(Kind::Data, 1), 0);
    assert_eq!(flow.reserve(Kind::Data, 1), 0);
    assert_eq!(capsules(&mut flow), [Capsule::DataBlocked(500)]);
    assert_eq!(flow.reserve(Kind::Data, 1), 0);
    assert_eq!(capsules(&mut flow), [], "once per limit");
    assert_eq!(flow.handle_capsule(&Capsule::MaxData(600)), Ok(Some(Kind::Data)));
    assert_eq!(flow.reserve(Kind::Data, 1000), 100);
    assert_eq!(flow.reserve(Kind::Data, 1), 0);
    assert_eq!(capsules(&mut flow), [Capsule::DataBlocked(600)]);
}

#[test]
fn what_was_not_sent_can_be_sent_later() {
    let mut flow = fresh();
    assert_eq!(flow.reserve(Kind::Data, 500), 500);
    flow.give_back(Kind::Data, 100);
    assert_eq!(flow.available(Kind::Data), 100);
    assert_eq!(flow.sending(Kind::Data), Usage { limit: 500, used: 400 });
}

#[test]
fn streams_of_the_two_kinds_have_limits_of_their_own() {
    let mut flow = fresh();
    assert_eq!(flow.reserve(Kind::StreamsBidi, 1), 1);
    assert_eq!(flow.reserve(Kind::StreamsBidi, 1), 0);
    assert_eq!(flow.reserve(Kind::StreamsUni, 1), 1);
    assert_eq!(capsules(&mut flow), [Capsule::StreamsBlocked { bidi: true, limit: 1 }]);
    let more = Capsule::MaxStreams { bidi: true, limit: 2 };
    assert_eq!(flow.handle_capsule(&more), Ok(Some(Kind::StreamsBidi)));
    assert_eq!(flow.reserve(Kind::StreamsBidi, 5), 1);
}

#[test]
fn more_data_than_granted_is_a_violation() {
    let mut flow = fresh();
    assert_eq!(flow.receive_data(1000), Ok(()));
    assert_violation(flow.receive_data(1));
}

#[test]
fn more_streams_than_granted_are_a_violation() {
    for (bidi, limit) in [(true, 4), (false, 6)] {
        let mut flow = fresh();
        for _ in 0..limit {
            assert_eq!(flow.receive_stream(bidi), Ok(()));
        }
        assert_violation(flow.receive_stream(bidi));
    }
}

#[test]
fn a_limit_must_increase() {
    for (limit, first) in [(500, 499), (500, 500)] {
        let mut flow = fresh();
        assert_violation(flow.handle_capsule(&Capsule::MaxData(first)));
        assert_eq!(flow.sending(Kind::Data).limit, limit);
    }
    for bidi in [true, false] {
        for limit in [0, 1] {
            assert_violation(fresh().handle_capsule(&Capsule::MaxStreams { bidi, limit }));
        }
    }
}

#[test]
fn stream_counts_end_at_2_to_60() {
    for bidi in [true, false] {
        for (limit, is_fine) in [(1 << 60, true), ((1 << 60) + 1, false)] {
            let raised = fresh().handle_capsule(&Capsule::MaxStreams { bidi, limit });
            let blocked = fresh().handle_capsule(&Capsule::StreamsBlocked { bidi, limit });
            if is_fine {
                assert_eq!(raised, Ok(Some(Kind::streams(bidi))));
                assert_eq!(blocked, Ok(None));
            } else {
                assert_violation(raised);
                assert_violation(blocked);
            }
        }
    }
}

#[test]
fn blocked_capsules_are_counted_and_change_nothing() {
    let mut flow = fresh();
    assert_eq!(flow.handle_capsule(&Capsule::DataBlocked(0)), Ok(None));
    let blocked = Capsule::StreamsBlocked { bidi: true, limit: 0 };
    assert_eq!(flow.handle_capsule(&blocked), Ok(None));
    assert_eq!(flow.blocked_received(), 2);
    assert_eq!(capsules(&mut flow), []);
}

#[test]
fn data_is_granted_as_it_is_consumed_in_one_update() {
    let mut flow = fresh();
    flow.receive_data(900).expect("granted");
    flow.consume_data(250, Instant::now(), SLOW);
    assert_eq!(capsules(&mut flow), [], "three quarters of the window are left");
    flow.consume_data(1, Instant::now(), SLOW);
    flow.consume_data(100, Instant::now(), SLOW);
    assert_eq!(capsules(&mut flow), [Capsule::MaxData(1351)]);
}

#[test]
fn a_small_initial_limit_gives_way_to_the_window_once_something_is_read() {
    let mut flow = FlowControl::new(Limits { data: 10, ..LOCAL }, PEER, &POLICY);
    assert_eq!(capsules(&mut flow), []);
    flow.receive_data(10).expect("granted");
    assert_eq!(
        capsules(&mut flow),
        [],
        "nothing is granted to a peer that nobody reads"
    );
    flow.consume_data(1, Instant::now(), SLOW);
    assert_eq!(capsules(&mut flow), [Capsule::MaxData(1001)]);
}

#[test]
fn an_initial_limit_above_the_window_is_used_up_first() {
    let mut flow = FlowControl::new(Limits { data: 5000, ..LOCAL }, PEER, &POLICY);
    flow.receive_data(5000).expect("granted");
    flow.consume_data(4000, Instant::now(), SLOW);
    assert_eq!(capsules(&mut flow), []);
    flow.consume_data(300, Instant::now(), SLOW);
    assert_eq!(capsules(&mut flow), [Capsule::MaxData(5300)]);
}

#[test]
fn the_window_grows_when_it_is_used_up_within_a_round_trip() {
    let policy = Policy {
        max_window: 3000,
        ..POLICY
    };
    let mut flow = FlowControl::new(LOCAL, PEER, &policy);
    let mut now = Instant::now();
    let round_trip = Duration::from_millis(100);
    let mut windows = Vec::new();
    for _ in 0..6 {
        let quarter = 300;
        flow.receive_data(quarter).expect("granted");
        flow.consume_data(quarter, now, round_trip);
        for capsule in capsules(&mut flow) {
            let Capsule::MaxData(limit) = capsule else {
                panic!("{capsule:?}")
            };
            windows.push(limit - flow.receiving(Kind::Data).used);
        }
        now += Duration::from_millis(10);
    }
    assert_eq!(windows.first(), Some(&1000), "one use tells nothing");
    assert_eq!(windows.last(), Some(&3000), "{windows:?}");

    let mut slow = FlowControl::new(LOCAL, PEER, &policy);
    for _ in 0..20 {
        slow.receive_data(300).expect("granted");
        slow.consume_data(300, now, round_trip);
        capsules(&mut slow);
        now += Duration::from_millis(60);
    }
    let Usage { limit, used } = slow.receiving(Kind::Data);
    assert_eq!(limit - used, 1000, "a peer with time to spare needs no more");
}

#[test]
fn the_unseen_rest_of_a_lost_stream_is_granted_anew_but_no_more_than_was_out() {
    let mut flow = fresh();
    flow.receive_data(950).expect("granted");
    flow.consume_data(950, Instant::now(), SLOW);
    assert_eq!(capsules(&mut flow), [Capsule::MaxData(1950)]);
    flow.stream_lost(false);
    assert_eq!(capsules(&mut flow), [], "not worth a capsule yet");
    flow.stream_lost(false);
    flow.stream_lost(false);
    assert_eq!(capsules(&mut flow), [Capsule::MaxData(2250)]);
    let mut flow = FlowControl::new(
        LOCAL,
        PEER,
        &Policy {
            unseen: 1 << 40,
            ..POLICY
        },
    );
    flow.stream_lost(false);
    assert_eq!(capsules(&mut flow), [Capsule::MaxData(2000)]);
}

#[test]
fn a_stopped_stream_takes_credit_until_the_peer_hears_of_the_stop() {
    let mut flow = FlowControl::new(LOCAL, PEER, &Policy { unseen: 1500, ..POLICY });
    flow.stream_lost(true);
    assert_eq!(capsules(&mut flow), [Capsule::MaxData(2000)]);
    // The peer hears of the credit before it hears of the stop, and the stream takes half of the new credit too.
    flow.receive_data(500).expect("granted");
    flow.consume_data(500, Instant::now(), SLOW);
    assert_eq!(capsules(&mut flow), [Capsule::MaxData(2500)]);
    assert_eq!(flow.receiving(Kind::Data), Usage { limit: 2500, used: 500 });
    flow.handle_capsule(&Capsule::DataBlocked(2000)).expect("valid");
    assert_eq!(capsules(&mut flow), [], "it has not heard of the latest limit");
    flow.handle_capsule(&Capsule::DataBlocked(2500)).expect("valid");
    assert_eq!(capsules(&mut flow), [Capsule::MaxData(3000)]);
    flow.handle_capsule(&Capsule::DataBlocked(3000)).expect("valid");
    assert_eq!(capsules(&mut flow), [], "no more than QUIC let the stream send");
}

#[test]
fn streams_are_granted_in_steps_and_at_once_when_none_are_left() {
    let mut flow = fresh();
    for _ in 0..2 {
        flow.receive_stream(false).expect("granted");
    }
    flow.stream_closed(false);
    flow.stream_closed(false);
    assert_eq!(capsules(&mut flow), [], "less than a step, and the peer has some left");
    flow.receive_stream(false).expect("granted");
    flow.stream_closed(false);
    assert_eq!(capsules(&mut flow), [Capsule::MaxStreams { bidi: false, limit: 9 }]);
    for _ in 0..4 {
        flow.receive_stream(true).expect("granted");
    }
    assert_eq!(capsules(&mut flow), [], "all four are open");
    flow.stream_closed(true);
    assert_eq!(capsules(&mut flow), [Capsule::MaxStreams { bidi: true, limit: 5 }]);
}

/// Something one of two sides does.
#[derive(Clone, Debug)]
enum Step {
    /// Reserve, and give a part of it back.
    Send { kind: usize, want: u64, unused: u64 },
    /// What was sent arrives.
    Arrive,
    /// The application takes some of what arrived.
    Consume(u64),
    /// A stream ends early: what arrived of it is dropped, the rest is never seen.
    Lose(u64),
    /// A stream of the other side closes.
    CloseStream(bool),
    /// Capsules that are due are written.
    Write,
    /// Written capsules arrive.
    Read,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0usize..3, 0u64..600, 0u64..100).prop_map(|(kind, want, unused)| Step::Send { kind, want, unused }),
        3 => Just(Step::Arrive),
        3 => (0u64..600).prop_map(Step::Consume),
        1 => (0u64..50).prop_map(Step::Lose),
        2 => any::<bool>().prop_map(Step::CloseStream),
        3 => Just(Step::Write),
        3 => Just(Step::Read),
    ]
}

/// One side and what is on its way to the other one.
struct Side {
    flow: FlowControl,
    /// Used by this side and not yet seen by the other: bytes, streams.
    sent: [u64; 3],
    capsules: Vec<Capsule>,
    /// Arrived here and still in use: bytes, bidirectional and unidirectional streams.
    held: [u64; 3],
}

impl Side {
    fn new(local: Limits, peer: Limits, policy: &Policy) -> Self {
        Side {
            flow: FlowControl::new(local, peer, policy),
            sent: [0; 3],
            capsules: Vec::new(),
            held: [0; 3],
        }
    }

    fn apply(&mut self, other: &mut Side, step: &Step, now: Instant) {
        match *step {
            Step::Send { kind, want, unused } => {
                let want = if kind == 0 { want } else { want.min(1) };
                let got = self.flow.reserve(KINDS[kind], want);
                let back = unused.min(got);
                self.flow.give_back(KINDS[kind], back);
                self.sent[kind] += got - back;
            }
            Step::Arrive => {
                let bytes = std::mem::take(&mut self.sent[0]);
                other.flow.receive_data(bytes).expect("credit is never exceeded");
                other.held[0] += bytes;
                for kind in [1, 2] {
                    for _ in 0..std::mem::take(&mut self.sent[kind]) {
                        other.flow.receive_stream(kind == 1).expect("credit is never exceeded");
                        other.held[kind] += 1;
                    }
                }
            }
            Step::Consume(bytes) => {
                let bytes = bytes.min(self.held[0]);
                self.held[0] -= bytes;
                self.flow.consume_data(bytes, now, Duration::from_millis(50));
            }
            Step::Lose(unseen) => {
                // Bytes of this side's stream that were handed to QUIC and will never be read by the other side. A stream has
                // no more of them than QUIC's window lets through.
                let unseen = unseen.min(self.sent[0]);
                self.sent[0] -= unseen;
                other.flow.stream_lost(false);
            }
            Step::CloseStream(bidi) => {
                let kind = if bidi { 1 } else { 2 };
                if self.held[kind] > 0 {
                    self.held[kind] -= 1;
                    self.flow.stream_closed(bidi);
                }
            }
            Step::Write => {
                let mut latest = [0; 3];
                for capsule in capsules(&mut self.flow) {
                    match capsule {
                        Capsule::MaxData(limit) => assert!(limit > std::mem::replace(&mut latest[0], limit)),
                        Capsule::MaxStreams { bidi, limit } => {
                            let slot = &mut latest[if bidi { 1 } else { 2 }];
                            assert!(limit > std::mem::replace(slot, limit));
                        }
                        _ => {}
                    }
                    self.capsules.push(capsule);
                }
            }
            Step::Read => {
                for capsule in self.capsules.drain(..) {
                    other.flow.handle_capsule(&capsule).expect("limits increase");
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn two_sides_never_exceed_and_never_lose_credit(
        steps in proptest::collection::vec((any::<bool>(), step(), 0u64..40), 0..200),
        limits in proptest::array::uniform6(0u64..20),
        window in 1u64..2000,
        max_window in 1u64..8000,
    ) {
        let limit = |at: usize| Limits {
            data: limits[at] * 50,
            streams_bidi: limits[at + 1],
            streams_uni: limits[at + 2],
        };
        let policy = |limits: Limits| Policy {
            window,
            max_window,
            unseen: 50,
            streams_bidi: if limits.streams_bidi > 0 { limits.streams_bidi } else { 3 },
            streams_uni: if limits.streams_uni > 0 { limits.streams_uni } else { 3 },
            increment_bidi: 10,
            increment_uni: 2,
        };
        let (a, b) = (limit(0), limit(3));
        let mut a_side = Side::new(a, b, &policy(a));
        let mut b_side = Side::new(b, a, &policy(b));
        let mut now = Instant::now();
        for (is_a, step, passed) in &steps {
            now += Duration::from_millis(*passed);
            let (side, other) = if *is_a { (&mut a_side, &mut b_side) } else { (&mut b_side, &mut a_side) };
            side.apply(other, step, now);
        }
        // When everything has arrived and was read and closed, each side may send again: no credit was lost.
        for _ in 0..3 {
            for step in [
                Step::Arrive, Step::Consume(u64::MAX), Step::Write, Step::Read,
            ] {
                a_side.apply(&mut b_side, &step, now);
                b_side.apply(&mut a_side, &step, now);
            }
            while a_side.held[1] + a_side.held[2] + b_side.held[1] + b_side.held[2] > 0 {
                for bidi in [true, false] {
                    a_side.apply(&mut b_side, &Step::CloseStream(bidi), now);
                    b_side.apply(&mut a_side, &Step::CloseStream(bidi), now);
                }
            }
        }
        for (side, theirs) in [(&a_side, b), (&b_side, a)] {
            // At least three quarters of the window, or what is left of a larger initial limit.
            let data = side.flow.available(Kind::Data);
            prop_assert!(data >= (window - window / 4).min(theirs.data.max(1)), "{data} of {window}");
            for kind in [Kind::StreamsBidi, Kind::StreamsUni] {
                prop_assert!(side.flow.available(kind) > 0);
            }
        }
    }
}
