//! One session, whatever happens to it and in whatever order: the promises of its module.

use arbitrary::Arbitrary;
use bytes::Bytes;
use wt_proto::capsule::Capsule;
use wt_proto::dialect::Dialect;
use wt_proto::error::ConnectionError;
use wt_proto::error_code::Code;
use wt_proto::headers::{ConnectRequest, HeaderList, Response};
use wt_proto::session::{CloseInfo, Initiator, Session, SessionEvent, State, Transmit};

use crate::{all_equal, cuts, encoded};

/// A session and its life.
#[derive(Debug, Arbitrary)]
pub struct Input {
    is_client: bool,
    has_flow_control: bool,
    steps: Vec<Step>,
}

#[derive(Clone, Debug, Arbitrary)]
enum Step {
    Data(Piece),
    Fin,
    Reset(u64),
    Stopped(u64),
    Lost(Option<u64>),
    Accept,
    Reject(u16),
    Close(u32, String),
    Abort,
    Drain,
    Goaway(u8),
    CloseTimeout,
    FlowControl(u32),
    /// Output is taken.
    Poll,
}

/// Bytes of the CONNECT stream: mostly such that lead somewhere.
#[derive(Clone, Debug, Arbitrary)]
enum Piece {
    Request,
    Response(u16),
    Close(u32, String),
    /// And a datagram in the same frame.
    CloseAndMore(u32),
    Drain,
    MaxData(u32),
    Datagram(Vec<u8>),
    /// A DATA frame with these bytes as capsules.
    Capsules(Vec<u8>),
    UnknownFrame(Vec<u8>),
    /// As they are.
    Raw(Vec<u8>),
}

impl Piece {
    fn bytes(&self) -> Bytes {
        let capsule = |capsule: Capsule| {
            let payload = encoded(|out| capsule.encode(out));
            encoded(|out| wt_proto::frame::data_frame(&payload, out))
        };
        match self {
            Piece::Request => encoded(|out| request().encode_frame(out)),
            Piece::Response(status) => {
                let status = if *status % 2 == 0 { 200 } else { 100 + status % 500 };
                encoded(|out| Response::new(status, HeaderList::new()).encode_frame(out))
            }
            Piece::Close(code, reason) => capsule(Capsule::Close {
                code: *code,
                reason: reason.clone(),
            }),
            Piece::CloseAndMore(code) => {
                let reason = String::new();
                let close = Capsule::Close { code: *code, reason };
                let more = Capsule::Datagram(Bytes::from_static(b"more"));
                let payload = encoded(|out| [close, more].iter().for_each(|capsule| capsule.encode(out)));
                encoded(|out| wt_proto::frame::data_frame(&payload, out))
            }
            Piece::Drain => capsule(Capsule::Drain),
            Piece::MaxData(limit) => capsule(Capsule::MaxData(u64::from(*limit))),
            Piece::Datagram(payload) => capsule(Capsule::Datagram(payload.clone().into())),
            Piece::Capsules(payload) => encoded(|out| wt_proto::frame::data_frame(payload, out)),
            Piece::UnknownFrame(payload) => encoded(|out| {
                wt_proto::varint::encode(0x21, out);
                wt_proto::varint::encode(payload.len() as u64, out);
                out.extend_from_slice(payload);
            }),
            Piece::Raw(bytes) => bytes.clone().into(),
        }
    }
}

impl Input {
    /// The promises, and that cuts of the stream make no difference.
    pub fn check(self) {
        self.keep_promises();
        let bytes: Vec<u8> = self
            .steps
            .iter()
            .filter_map(|step| match step {
                Step::Data(piece) => Some(piece.bytes()),
                _ => None,
            })
            .flatten()
            .collect();
        let _ = all_equal(cuts(&bytes).map(|pieces| self.hear(pieces)));
    }

    fn session(&self) -> Session {
        let session = if self.is_client {
            Session::client(ID, &request(), LIMIT)
        } else {
            Session::server(ID, LIMIT)
        };
        if self.has_flow_control {
            session.with_flow_control()
        } else {
            session
        }
    }

    fn keep_promises(&self) {
        let mut session = self.session();
        let mut witness = Witness::default();
        let mut read = 0;
        for step in &self.steps {
            if let Err(error) = apply(&mut session, step, &mut read) {
                session.handle_connection_lost(error.to_string(), Some(error.code.0), Initiator::Local);
            }
            if matches!(step, Step::Poll) {
                witness.listen(&mut session);
            }
        }
        witness.listen(&mut session);
        assert!(
            witness.payload <= read,
            "{} bytes of events out of {read}",
            witness.payload
        );
        session.handle_connection_lost("the end".to_owned(), None, Initiator::Transport);
        witness.listen(&mut session);
        assert!(witness.verdict.is_some() && witness.is_finished);
    }

    /// What a session makes of its stream. A server answers when the stream has ended, so that the cut cannot matter.
    fn hear(&self, pieces: Vec<Bytes>) -> (Vec<SessionEvent>, Vec<Transmit>, Result<(), ConnectionError>) {
        let mut session = self.session();
        let mut result = pieces.into_iter().try_for_each(|piece| session.handle_data(piece));
        session.accept(Dialect::D15, HeaderList::new());
        if result.is_ok() {
            result = session.handle_fin();
        }
        let events = std::iter::from_fn(|| session.poll_event()).collect();
        let transmits = std::iter::from_fn(|| session.poll_transmit()).collect();
        (events, transmits, result)
    }
}

fn apply(session: &mut Session, step: &Step, read: &mut usize) -> Result<(), ConnectionError> {
    match step {
        Step::Data(piece) => {
            let bytes = piece.bytes();
            *read += bytes.len();
            session.handle_data(bytes)?;
        }
        Step::Fin => session.handle_fin()?,
        Step::Reset(code) => session.handle_reset(Code(*code)),
        Step::Stopped(code) => session.handle_stopped(Code(*code)),
        Step::Lost(code) => session.handle_connection_lost("lost".to_owned(), *code, Initiator::Transport),
        Step::Accept => session.accept(Dialect::D02, HeaderList::new()),
        Step::Reject(status) => session.reject(300 + status % 300, HeaderList::new()),
        Step::Close(code, reason) => session.close(*code, reason),
        Step::Abort => session.abort(Code::H3_REQUEST_REJECTED, "surplus"),
        Step::Drain => session.drain(),
        Step::Goaway(id) => session.handle_goaway(u64::from(*id)),
        Step::CloseTimeout => session.handle_close_timeout(),
        Step::FlowControl(limit) => session.send_flow_control(&Capsule::MaxData(u64::from(*limit))),
        Step::Poll => {}
    }
    Ok(())
}

/// Everything a session said, and whether that makes sense.
#[derive(Default)]
pub(crate) struct Witness {
    pub(crate) verdict: Option<CloseInfo>,
    pub(crate) is_finished: bool,
    payload: usize,
    has_ended_sending: bool,
    has_reset: bool,
    has_stopped: bool,
}

impl Witness {
    /// Takes all output.
    fn listen(&mut self, session: &mut Session) {
        while let Some(event) = session.poll_event() {
            self.hear(&event);
        }
        while let Some(transmit) = session.poll_transmit() {
            self.see(&transmit);
        }
        self.compare(session);
    }

    pub(crate) fn hear(&mut self, event: &SessionEvent) {
        assert!(!self.is_finished, "nothing follows Finished: {event:?}");
        match event {
            SessionEvent::Closed(info) => {
                assert_eq!(self.verdict.replace(info.clone()), None, "one verdict");
            }
            SessionEvent::Finished => {
                assert!(self.verdict.is_some(), "Finished follows Closed");
                self.is_finished = true;
            }
            event => {
                assert!(self.verdict.is_none(), "news after the end: {event:?}");
                if let SessionEvent::Datagram(payload) = event {
                    self.payload += payload.len();
                }
            }
        }
    }

    pub(crate) fn see(&mut self, transmit: &Transmit) {
        match transmit {
            Transmit::Data(bytes) => assert!(!self.has_ended_sending && !bytes.is_empty()),
            Transmit::Finish => assert!(!std::mem::replace(&mut self.has_ended_sending, true)),
            Transmit::Reset(_) => {
                self.has_ended_sending = true;
                assert!(!std::mem::replace(&mut self.has_reset, true));
            }
            Transmit::Stop(_) => assert!(!std::mem::replace(&mut self.has_stopped, true)),
        }
    }

    pub(crate) fn compare(&self, session: &Session) {
        assert_eq!(session.close_info(), self.verdict.as_ref(), "the first verdict stays");
        let is_over = matches!(session.state(), State::Closing | State::Closed);
        assert_eq!(is_over, self.verdict.is_some());
    }
}

pub(crate) fn request() -> ConnectRequest {
    let headers = vec![
        ("origin".to_owned(), "https://example.org".to_owned()),
        ("wt-available-protocols".to_owned(), "\"chat\"".to_owned()),
    ];
    ConnectRequest::new(Dialect::D02, "example.org", "/chat?room=1", headers)
}

const ID: u64 = 4;
/// For field sections.
const LIMIT: u64 = 4096;
