//! What holds for a session whatever happens to it, in whatever order.

mod common;

use bytes::Bytes;
use common::{MAX_SECTION, bytewise, cut, data, encoded, hex, request, tlv};
use proptest::prelude::*;
use wt_proto::dialect::{Dialect, Role};
use wt_proto::error::ConnectionError;
use wt_proto::error_code::Code;
use wt_proto::headers::{HeaderList, Response};
use wt_proto::session::{CloseInfo, Initiator, Session, SessionEvent, State, Transmit};

/// Anything that can happen to a session.
#[derive(Clone, Debug)]
enum Step {
    Data(Vec<u8>),
    Fin,
    Reset(u64),
    Stopped(u64),
    Lost(Option<u64>),
    Accept,
    Reject(u16),
    Close(u32, String),
    Abort,
    Drain,
    Goaway(u64),
    CloseTimeout,
    /// Output is taken.
    Poll,
}

fn piece() -> impl Strategy<Value = Vec<u8>> {
    let response = |status| encoded(|out| Response::new(status, HeaderList::new()).encode_frame(out));
    prop_oneof![
        Just(encoded(|out| request(Dialect::D02).encode_frame(out))),
        prop_oneof![Just(100u16), Just(200), Just(404)].prop_map(response),
        Just(data(&hex("68 43 07 00 00 00 07 62 79 65"))),
        Just(data(&hex("80 00 78 ae 00"))),
        Just(data(&tlv(0x00, b"datagram"))),
        Just(tlv(0x21, b"grease")),
        // GET https://a/
        Just(hex("01 08 00 00 d1 d7 c1 50 01 61")),
        common::noise(20).prop_map(|noise| data(&noise)),
        common::noise(20),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let code = prop_oneof![Just(0x10c), Just(0x52e4_a40f_a8db), any::<u64>()];
    prop_oneof![
        8 => piece().prop_map(Step::Data),
        1 => Just(Step::Fin),
        1 => code.clone().prop_map(Step::Reset),
        1 => code.clone().prop_map(Step::Stopped),
        1 => proptest::option::of(code).prop_map(Step::Lost),
        2 => Just(Step::Accept),
        1 => (400u16..600).prop_map(Step::Reject),
        1 => (any::<u32>(), ".{0,10}").prop_map(|(code, reason)| Step::Close(code, reason)),
        1 => Just(Step::Abort),
        1 => Just(Step::Drain),
        1 => prop_oneof![Just(0), Just(4), Just(1 << 20)].prop_map(Step::Goaway),
        1 => Just(Step::CloseTimeout),
        3 => Just(Step::Poll),
    ]
}

fn new(role: Role) -> Session {
    match role {
        Role::Client => Session::client(4, &request(Dialect::D15), MAX_SECTION),
        Role::Server => Session::server(4, MAX_SECTION),
    }
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Client), Just(Role::Server)]
}

fn apply(session: &mut Session, step: Step) -> Result<(), ConnectionError> {
    match step {
        Step::Data(bytes) => session.handle_data(bytes.into())?,
        Step::Fin => session.handle_fin()?,
        Step::Reset(code) => session.handle_reset(Code(code)),
        Step::Stopped(code) => session.handle_stopped(Code(code)),
        Step::Lost(code) => session.handle_connection_lost("lost".to_owned(), code, Initiator::Transport),
        Step::Accept => session.accept(Dialect::D15, HeaderList::new()),
        Step::Reject(status) => session.reject(status, HeaderList::new()),
        Step::Close(code, reason) => session.close(code, &reason),
        Step::Abort => session.abort(Code::H3_REQUEST_REJECTED, "surplus"),
        Step::Drain => session.drain(),
        Step::Goaway(id) => session.handle_goaway(id),
        Step::CloseTimeout => session.handle_close_timeout(),
        Step::Poll => {}
    }
    Ok(())
}

/// Everything a session said, and whether that makes sense.
#[derive(Default)]
struct Witness {
    verdict: Option<CloseInfo>,
    is_finished: bool,
    has_ended_sending: bool,
    has_reset: bool,
    has_stopped: bool,
    is_established: bool,
}

impl Witness {
    fn listen(&mut self, session: &mut Session) -> Result<(), TestCaseError> {
        while let Some(event) = session.poll_event() {
            prop_assert!(!self.is_finished, "nothing follows Finished: {event:?}");
            match event {
                SessionEvent::Closed(info) => {
                    prop_assert_eq!(self.verdict.replace(info), None, "one verdict");
                }
                SessionEvent::Finished => {
                    prop_assert!(self.verdict.is_some(), "Finished follows Closed");
                    self.is_finished = true;
                }
                _ => prop_assert!(self.verdict.is_none(), "news after the end: {event:?}"),
            }
        }
        while let Some(transmit) = session.poll_transmit() {
            match transmit {
                Transmit::Data(bytes) => prop_assert!(!self.has_ended_sending && !bytes.is_empty()),
                Transmit::Finish => prop_assert!(!std::mem::replace(&mut self.has_ended_sending, true)),
                Transmit::Reset(_) => {
                    self.has_ended_sending = true;
                    prop_assert!(!std::mem::replace(&mut self.has_reset, true));
                }
                Transmit::Stop(_) => prop_assert!(!std::mem::replace(&mut self.has_stopped, true)),
            }
        }
        self.is_established |= matches!(session.state(), State::Open | State::Draining);
        prop_assert_eq!(session.close_info(), self.verdict.as_ref(), "the first verdict stays");
        let is_over = matches!(session.state(), State::Closing | State::Closed);
        prop_assert_eq!(is_over, self.verdict.is_some());
        Ok(())
    }
}

/// What a session made of bytes, as seen from outside.
fn hear(
    role: Role,
    accept_after: Option<usize>,
    pieces: Vec<Bytes>,
    fin: bool,
) -> (Vec<SessionEvent>, Vec<Transmit>, Option<ConnectionError>) {
    let mut session = new(role);
    let (mut events, mut transmits, mut error) = (Vec::new(), Vec::new(), None);
    let mut seen = 0;
    for piece in pieces {
        seen += piece.len();
        if let Err(connection) = session.handle_data(piece) {
            error = Some(connection);
            break;
        }
        if accept_after.is_some_and(|after| seen >= after) {
            session.accept(Dialect::D15, HeaderList::new());
        }
    }
    if fin && error.is_none() {
        error = session.handle_fin().err();
    }
    events.extend(std::iter::from_fn(|| session.poll_event()));
    transmits.extend(std::iter::from_fn(|| session.poll_transmit()));
    (events, transmits, error)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_list_of_events_keeps_the_promises(role in role(), steps in proptest::collection::vec(step(), 0..40)) {
        let mut session = new(role);
        let mut witness = Witness::default();
        for step in steps {
            let is_poll = matches!(step, Step::Poll);
            if let Err(error) = apply(&mut session, step) {
                session.handle_connection_lost(error.to_string(), Some(error.code.0), Initiator::Local);
            }
            if is_poll {
                witness.listen(&mut session)?;
            }
        }
        witness.listen(&mut session)?;
        session.handle_connection_lost("the end".to_owned(), None, Initiator::Transport);
        witness.listen(&mut session)?;
        prop_assert!(witness.verdict.is_some() && witness.is_finished);
    }

    #[test]
    fn any_cut_of_a_server_stream_is_heard_alike(
        pieces in proptest::collection::vec(piece(), 0..6),
        cuts in common::cuts(),
        fin: bool,
        is_accepted: bool,
    ) {
        let request = encoded(|out| request(Dialect::D02).encode_frame(out));
        let accept = is_accepted.then_some(request.len());
        let rest = pieces.concat();
        // The answer is given when the request is there, so the cut at its end is a must.
        let with_request = |rest: Vec<Bytes>| [vec![Bytes::from(request.clone())], rest].concat();
        let whole = hear(Role::Server, accept, with_request(vec![rest.clone().into()]), fin);
        prop_assert_eq!(&hear(Role::Server, accept, with_request(cut(&rest, &cuts)), fin), &whole);
        prop_assert_eq!(&hear(Role::Server, accept, with_request(bytewise(&rest)), fin), &whole);
    }

    #[test]
    fn any_cut_of_a_client_stream_is_heard_alike(
        pieces in proptest::collection::vec(piece(), 0..8),
        cuts in common::cuts(),
        fin: bool,
    ) {
        let bytes = pieces.concat();
        let whole = hear(Role::Client, None, vec![bytes.clone().into()], fin);
        prop_assert_eq!(&hear(Role::Client, None, cut(&bytes, &cuts), fin), &whole);
        prop_assert_eq!(&hear(Role::Client, None, bytewise(&bytes), fin), &whole);
    }
}

/// The queues hold what one call put there, not what the peer sent over time.
#[test]
fn a_chatty_peer_does_not_make_an_unpolled_session_grow() {
    let mut session = new(Role::Client);
    session
        .handle_data(encoded(|out| Response::new(200, HeaderList::new()).encode_frame(out)).into())
        .expect("valid");
    for _ in 0..10_000 {
        session.handle_data(data(&hex("80 00 78 ae 00")).into()).expect("valid");
        session
            .handle_data(data(&tlv(0x1234, b"unknown")).into())
            .expect("valid");
        session.drain();
        session.handle_goaway(0);
    }
    for _ in 0..10_000 {
        session.close(1, "again");
        session.handle_data(Bytes::from_static(b"late")).expect("ignored");
        session.handle_close_timeout();
    }
    assert!(std::iter::from_fn(|| session.poll_event()).count() <= 4);
    assert!(std::iter::from_fn(|| session.poll_transmit()).count() <= 5);
}
