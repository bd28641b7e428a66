//! One WebTransport session: the CONNECT stream as a state machine (§3.2, §6).
//!
//! # Theory of operation
//!
//! ```text
//!               accept / 2xx            DRAIN, either way
//! Connecting ----------------> Open ------------------------> Draining
//!     |                         |                                |
//!     |                         +--------- close() --------------+----> Closing
//!     |                         |                                |         | FIN, reset or time-out
//!     +-- reject, non-2xx, -----+-- CLOSE, FIN, reset, stop, ----+---------+----> Closed
//!         close, FIN, reset,        protocol error, connection lost
//!         stop, error, lost
//! ```
//!
//! Three things are kept apart:
//!
//! * the **state**, which is what the application may do;
//! * the **verdict** ([`CloseInfo`]): who ended the session and why. The first one wins, and exactly one
//!   [`SessionEvent::Closed`] announces it;
//! * the two **halves** of the stream. Each ends once: the sending half with `Finish` or `Reset`, the receiving half with
//!   the peer's FIN or reset or with our `Stop`. When both have ended, [`SessionEvent::Finished`] says so, once, and
//!   nothing more will come.
//!
//! Rules of this file:
//!
//! * The state is written in the section "Transitions" and nowhere else.
//! * The state `Closed` is never left, `Closing` only towards `Closed`.
//! * A fault of the peer is either a `ConnectionError`, returned, or of stream width, and then handled inside: reset,
//!   stop, closed.
//! * After CLOSE this side sends FIN and nothing else. STOP_SENDING or RESET_STREAM in the same flight make browsers lose
//!   code and reason, so they come only when the wait for the peer's FIN has timed out.
//!
//! # Calling order
//!
//! After any `handle_*` or application call, drain [`Session::poll_event`] and [`Session::poll_transmit`]; forget the
//! session after `Finished` only when both are empty. A session that is `Closing` or `Closed` without `Finished` waits
//! for the peer: bound that wait and call [`Session::handle_close_timeout`].
//!
//! Flow control is kept in `flow_control`, shared by the session's streams: this file only passes its capsules on.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::capsule::{self, Capsule, CapsuleParser};
use crate::dialect::{Dialect, Role};
use crate::error::{ConnectionError, Error, StreamError};
use crate::error_code::{Code, from_http};
use crate::frame::{self, Frame, FrameContext, FrameParser};
use crate::headers::{self, ConnectRequest, HeaderList, PlainRequest, Request, Response};
use crate::http::Exchange;
use crate::subprotocol;

mod vocabulary;

pub use vocabulary::{CloseCause, CloseInfo, Initiator, SessionEvent, State, Transmit};

/// A WebTransport session on its CONNECT stream.
///
/// Input: the `handle_*` methods. Application: [`accept`](Self::accept), [`reject`](Self::reject),
/// [`close`](Self::close), [`abort`](Self::abort), [`drain`](Self::drain); each is a no-op in a state where it makes no
/// sense. Output: the `poll_*` methods. See the module for the order.
#[derive(Debug)]
pub struct Session {
    id: u64,
    role: Role,
    max_field_section: u64,
    /// Server: what the peer announced for the response.
    peer_max_field_section: u64,
    flow_control: bool,
    state: State,
    verdict: Option<CloseInfo>,
    recv: RecvHalf,
    send: SendHalf,
    frames: FrameParser,
    /// From the first one on; most sessions never see any.
    capsules: Option<Box<CapsuleParser>>,
    /// Server: capsules that came before the answer.
    held: BytesMut,
    /// Server: the request carried the header of draft-02.
    draft02_request: bool,
    /// Client: the subprotocols of the request.
    offered: Vec<String>,
    /// Client: the peer stopped our half before it answered.
    stopped: Option<Code>,
    has_sent_drain: bool,
    has_seen_drain: bool,
    /// Client: the peer goes away, and has not answered yet.
    has_seen_goaway: bool,
    is_finished: bool,
    events: VecDeque<SessionEvent>,
    transmits: VecDeque<Transmit>,
}

/// What the receiving half waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum RecvHalf {
    /// The HEADERS frame of the request or the final response.
    Headers,
    /// Capsules; on a server that did not accept yet they are held.
    Capsules,
    /// The end, whatever comes before it: a body nobody wants.
    Discard,
    /// The end, and nothing before it: the peer's CLOSE was read.
    OnlyFin,
    /// Nothing: the request is plain HTTP, and the stream goes to an [`Exchange`].
    Plain,
    /// Nothing.
    Ended,
}

/// How far the sending half is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum SendHalf {
    Open,
    Finished,
    Reset,
}

impl Session {
    /// A client's session on the stream `id`. Queues the request.
    pub fn client(id: u64, request: &ConnectRequest, max_field_section: u64) -> Self {
        let mut session = Session::new(Role::Client, id, max_field_section);
        let mut out = BytesMut::new();
        request.encode_frame(&mut out);
        session.offered = subprotocol::offered(&request.headers);
        session.transmits.push_back(Transmit::Data(out.freeze()));
        session
    }

    /// A server's view of the request stream `id`. `max_field_section` is the limit that was announced, here as in
    /// [`Session::client`].
    pub fn server(id: u64, max_field_section: u64) -> Self {
        Session::new(Role::Server, id, max_field_section)
    }

    fn new(role: Role, id: u64, max_field_section: u64) -> Self {
        Session {
            id,
            role,
            max_field_section,
            peer_max_field_section: u64::MAX,
            flow_control: false,
            state: State::Connecting,
            verdict: None,
            recv: RecvHalf::Headers,
            send: SendHalf::Open,
            frames: FrameParser::new(frame_context(role)).with_headers_limit(max_field_section),
            capsules: None,
            held: BytesMut::new(),
            draft02_request: false,
            offered: Vec::new(),
            stopped: None,
            has_sent_drain: false,
            has_seen_drain: false,
            has_seen_goaway: false,
            is_finished: false,
            events: VecDeque::new(),
            transmits: VecDeque::new(),
        }
    }

    /// Server: keeps the response within the peer's SETTINGS_MAX_FIELD_SECTION_SIZE.
    pub fn with_peer_limit(mut self, max_field_section: u64) -> Self {
        self.peer_max_field_section = max_field_section;
        self
    }

    /// Server: goes on with the stream after [`SessionEvent::Plain`]. What was read behind the header section is in it.
    pub fn into_exchange(self, request: &PlainRequest) -> Exchange {
        Exchange::new(request, self.frames, self.max_field_section)
    }

    /// Reads the capsules of flow control, which both sides announced. Say so before the first input.
    pub fn with_flow_control(mut self) -> Self {
        self.flow_control = true;
        self
    }

    // Input from the stream and the connection.

    /// Bytes of the CONNECT stream.
    ///
    /// # Errors
    ///
    /// Only what ends the connection. Close it, then report that to every session with
    /// [`handle_connection_lost`](Self::handle_connection_lost).
    pub fn handle_data(&mut self, chunk: Bytes) -> Result<(), ConnectionError> {
        if chunk.is_empty() {
            return Ok(());
        }
        match self.recv {
            RecvHalf::Ended | RecvHalf::Discard | RecvHalf::Plain => return Ok(()),
            RecvHalf::OnlyFin => {
                // §6: stream data after WT_CLOSE_SESSION: the stream MUST be reset with H3_MESSAGE_ERROR.
                self.fail(malformed("bytes after WT_CLOSE_SESSION"));
                return Ok(());
            }
            RecvHalf::Headers | RecvHalf::Capsules => self.frames.push(chunk),
        }
        while matches!(self.recv, RecvHalf::Headers | RecvHalf::Capsules) {
            let step = match self.frames.next() {
                Ok(Some(frame)) => self.handle_frame(frame),
                Ok(None) => return Ok(()),
                Err(error) => Err(error),
            };
            match step {
                Ok(()) => {}
                Err(Error::Stream(error)) => self.fail(error),
                Err(Error::Connection(error)) => {
                    self.discard();
                    return Err(error);
                }
            }
        }
        if self.recv == RecvHalf::OnlyFin && self.frames.has_input() {
            self.fail(malformed("bytes after WT_CLOSE_SESSION"));
        }
        Ok(())
    }

    /// The peer finished its half of the CONNECT stream.
    ///
    /// # Errors
    ///
    /// RFC 9114 7.1: a FIN inside a frame MUST be the connection error H3_FRAME_ERROR.
    pub fn handle_fin(&mut self) -> Result<(), ConnectionError> {
        let was = self.recv;
        let frames_end = self.frames.finish();
        let capsules_end = self.capsules.as_ref().map_or(Ok(()), |capsules| capsules.finish());
        if matches!(was, RecvHalf::Headers | RecvHalf::Capsules | RecvHalf::OnlyFin)
            && let Err(Error::Connection(error)) = frames_end
        {
            self.discard();
            return Err(error);
        }
        self.recv = RecvHalf::Ended;
        match was {
            RecvHalf::Headers => {
                // RFC 9114 4.1: a stream that ends without a complete message is H3_REQUEST_INCOMPLETE. A response that
                // never came is the same to a client.
                let reason = match self.role {
                    Role::Client => "CONNECT stream ended before the response",
                    Role::Server => "CONNECT stream ended before the request",
                };
                self.fail(StreamError {
                    code: Code::H3_REQUEST_INCOMPLETE,
                    reason,
                });
            }
            RecvHalf::Capsules => match capsules_end {
                Ok(()) => self.end_cleanly(),
                Err(error) => self.fail(error),
            },
            RecvHalf::Discard | RecvHalf::OnlyFin | RecvHalf::Plain | RecvHalf::Ended => {}
        }
        self.end_recv();
        Ok(())
    }

    /// The peer reset its half of the CONNECT stream.
    pub fn handle_reset(&mut self, code: Code) {
        if self.recv == RecvHalf::Ended {
            return;
        }
        self.end(CloseInfo {
            code: from_http(code).unwrap_or(0),
            reason: format!("CONNECT stream reset by the peer: {code}"),
            by: Initiator::Peer,
            cause: CloseCause::Reset(code),
        });
        self.end_recv();
        if self.send == SendHalf::Open {
            self.reset(Code::H3_REQUEST_CANCELLED);
        }
    }

    /// The peer stopped our half of the CONNECT stream.
    pub fn handle_stopped(&mut self, code: Code) {
        match self.send {
            SendHalf::Reset => return,
            // What is left of the response or the CLOSE is not wanted.
            SendHalf::Finished => {}
            // RFC 9114 4.1: a server may answer early and stop the rest of the request; the client MUST NOT discard
            // the response for that.
            SendHalf::Open if self.role == Role::Client && self.state == State::Connecting => {
                self.stopped = Some(code);
            }
            SendHalf::Open => self.end_stopped(code),
        }
        // RFC 9000 3.5: STOP_SENDING is answered with RESET_STREAM and the same code.
        self.reset(code);
    }

    /// The connection is gone, with the code of its CONNECTION_CLOSE if there was one.
    pub fn handle_connection_lost(&mut self, reason: String, code: Option<u64>, by: Initiator) {
        self.end(CloseInfo {
            code: code.and_then(|code| u32::try_from(code).ok()).unwrap_or(0),
            reason,
            by,
            cause: CloseCause::ConnectionLost,
        });
        self.transmits.clear();
        self.send = SendHalf::Reset;
        self.end_recv();
    }

    /// The peer's GOAWAY with this id. §4.7: the same hint as WT_DRAIN_SESSION.
    ///
    /// RFC 9114 5.2: the server has not processed requests at or above the id; an unanswered one ends here.
    pub fn handle_goaway(&mut self, id: u64) {
        if self.role == Role::Server || self.state != State::Connecting {
            self.handle_drain();
        } else if self.id < id {
            self.has_seen_goaway = true;
        } else {
            self.end(CloseInfo {
                code: 0,
                reason: "the server is going away and did not process the request".to_owned(),
                by: Initiator::Peer,
                cause: CloseCause::Reset(Code::H3_REQUEST_REJECTED),
            });
            self.reset(Code::H3_REQUEST_CANCELLED);
            self.stop(Code::H3_REQUEST_CANCELLED);
        }
    }

    /// The wait for the peer's FIN is over: gives the stream up. A no-op unless the session ended.
    pub fn handle_close_timeout(&mut self) {
        if self.verdict.is_some() {
            // A peer that withholds credit must not keep a stream alive whose CLOSE cannot be written.
            self.reset(Code::H3_REQUEST_CANCELLED);
            self.stop(Code::H3_REQUEST_CANCELLED);
        }
    }

    // What the application decides.

    /// Server: answers the request with 200 and opens the session.
    ///
    /// A client that speaks draft-02 is told so. Capsules that came early are read now.
    pub fn accept(&mut self, dialect: Dialect, mut headers: HeaderList) {
        let has_request = self.role == Role::Server && self.recv == RecvHalf::Capsules;
        if self.state != State::Connecting || !has_request {
            return;
        }
        if self.draft02_request || dialect.has_draft02_header() {
            headers::acknowledge_draft02(&mut headers);
        }
        self.respond(200, headers);
        self.open();
        let held = std::mem::take(&mut self.held).freeze();
        if let Err(error) = self.handle_capsules(held) {
            self.fail(error);
        }
    }

    /// Server: answers the request, WebTransport or not, with `status` and ends the session. Headers that the peer does
    /// not take are left out.
    pub fn reject(&mut self, status: u16, headers: HeaderList) {
        self.reject_with(status, headers, 0, format!("HTTP status {status}"));
    }

    /// Ends the session with a code and a reason, which is cut at 1024 bytes.
    ///
    /// Established: CLOSE and FIN; then the peer's FIN is awaited. Before that a client cancels its request and a server
    /// answers 503.
    pub fn close(&mut self, code: u32, reason: &str) {
        let reason = capsule::truncate_reason(reason);
        let closed = || CloseInfo {
            code,
            reason: reason.to_owned(),
            by: Initiator::Local,
            cause: CloseCause::Closed,
        };
        match self.state {
            State::Closing | State::Closed => {}
            State::Open | State::Draining => {
                self.end(closed());
                self.await_fin();
                let mut payload = BytesMut::new();
                capsule::encode_close(code, reason, &mut payload);
                self.send_capsule(&payload);
                // §6: the sender of WT_CLOSE_SESSION MUST FIN right after it.
                self.finish();
                self.discard();
            }
            State::Connecting if self.role == Role::Server && self.recv != RecvHalf::Headers => {
                self.reject_with(503, HeaderList::new(), code, reason.to_owned());
            }
            State::Connecting => {
                self.end(closed());
                let code = match self.role {
                    Role::Client => Code::H3_REQUEST_CANCELLED,
                    Role::Server => Code::H3_REQUEST_REJECTED,
                };
                self.reset(code);
                self.stop(code);
            }
        }
    }

    /// Ends the session by resetting and stopping the CONNECT stream with `code`: H3_REQUEST_REJECTED for a surplus
    /// session, H3_MESSAGE_ERROR for a client that lacks a required setting, WT_ALPN_ERROR.
    pub fn abort(&mut self, code: Code, reason: &'static str) {
        if self.verdict.is_none() {
            self.fail(StreamError { code, reason });
        }
    }

    /// Tells the peer to wind down. Once; before the session is established it does nothing.
    pub fn drain(&mut self) {
        if !matches!(self.state, State::Open | State::Draining) || self.has_sent_drain {
            return;
        }
        self.has_sent_drain = true;
        self.mark_draining();
        let mut payload = BytesMut::new();
        capsule::encode_drain(&mut payload);
        self.send_capsule(&payload);
    }

    /// Sends a capsule of flow control. Before the session is established, and after its end, it does nothing.
    pub fn send_flow_control(&mut self, capsule: &Capsule) {
        if matches!(self.state, State::Open | State::Draining) {
            let mut payload = BytesMut::new();
            capsule.encode(&mut payload);
            self.send_capsule(&payload);
        }
    }

    // Output.

    /// The next thing to know.
    pub fn poll_event(&mut self) -> Option<SessionEvent> {
        pop(&mut self.events)
    }

    /// The next thing to do with the stream.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        pop(&mut self.transmits)
    }

    /// The session id: the id of the CONNECT stream.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// What the application may do.
    pub fn state(&self) -> State {
        self.state
    }

    /// Who ended the session and why, once it has ended.
    pub fn close_info(&self) -> Option<&CloseInfo> {
        self.verdict.as_ref()
    }

    // Frames and capsules.

    fn handle_frame(&mut self, frame: Frame) -> Result<(), Error> {
        match (self.recv, frame) {
            (RecvHalf::Headers, Frame::Headers(section)) => match self.role {
                Role::Server => self.handle_request(&section),
                Role::Client => self.handle_response(&section),
            },
            (RecvHalf::Capsules, Frame::Data(payload)) => {
                if self.state == State::Connecting {
                    self.hold(&payload)?;
                } else {
                    self.handle_capsules(payload)?;
                }
                Ok(())
            }
            // RFC 9114 4.1: DATA before HEADERS; 4.4: HEADERS after the exchange. Both are H3_FRAME_UNEXPECTED. Nothing
            // else leaves the parser of a request stream.
            _ => Err(ConnectionError {
                code: Code::H3_FRAME_UNEXPECTED,
                reason: "frame out of order on a CONNECT stream",
            }
            .into()),
        }
    }

    fn handle_request(&mut self, section: &[u8]) -> Result<(), Error> {
        match Request::decode(section, self.max_field_section)? {
            Request::WebTransport(request) => {
                self.draft02_request = request.has_draft02_header();
                self.recv = RecvHalf::Capsules;
                self.events.push_back(SessionEvent::Request(request));
            }
            Request::Connect { protocol } => {
                self.discard();
                self.events.push_back(SessionEvent::Foreign { protocol });
            }
            Request::Plain(request) => {
                self.recv = RecvHalf::Plain;
                self.events.push_back(SessionEvent::Plain(request));
            }
        }
        Ok(())
    }

    fn handle_response(&mut self, section: &[u8]) -> Result<(), Error> {
        let response = Response::decode(section, self.max_field_section)?;
        match response.status {
            // RFC 9114 4.1: interim responses precede the final one and are skipped.
            100..200 => {}
            200..300 => {
                response.check_capsules()?;
                subprotocol::check(&self.offered, &response.headers)?;
                self.recv = RecvHalf::Capsules;
                if let Some(code) = self.stopped {
                    self.end_stopped(code);
                    return Ok(());
                }
                self.open();
                self.events.push_back(SessionEvent::Established(response));
                if self.has_seen_goaway {
                    self.handle_drain();
                }
            }
            // §3.2: a client MUST NOT follow redirects, so 3xx is a refusal like the others.
            status => {
                self.events.push_back(SessionEvent::Refused(response));
                self.end(CloseInfo {
                    code: 0,
                    reason: format!("HTTP status {status}"),
                    by: Initiator::Peer,
                    cause: CloseCause::Rejected { status },
                });
                self.finish();
                // The body of a refusal is of no use.
                self.stop(Code::H3_REQUEST_CANCELLED);
            }
        }
        Ok(())
    }

    /// §3.2: a server MUST NOT process capsules before its 2xx. They are copied, so that many small pieces cannot hold
    /// on to many large buffers.
    fn hold(&mut self, payload: &[u8]) -> Result<(), StreamError> {
        if payload.len() > HELD_LIMIT - self.held.len() {
            return Err(StreamError {
                code: Code::H3_EXCESSIVE_LOAD,
                reason: "too many capsules before the response",
            });
        }
        self.held.extend_from_slice(payload);
        Ok(())
    }

    fn handle_capsules(&mut self, payload: Bytes) -> Result<(), StreamError> {
        if self.capsules.is_none() && payload.is_empty() {
            return Ok(());
        }
        let flow_control = self.flow_control;
        let parser = || Box::new(CapsuleParser::new(flow_control));
        self.capsules.get_or_insert_with(parser).push(payload);
        while let Some(capsules) = &mut self.capsules
            && let Some(capsule) = capsules.next()?
        {
            match capsule {
                Capsule::Close { code, reason } => {
                    self.end(CloseInfo {
                        code,
                        reason,
                        by: Initiator::Peer,
                        cause: CloseCause::Closed,
                    });
                    self.recv = RecvHalf::OnlyFin;
                    // §6: the recipient MUST close or reset its half.
                    self.finish();
                }
                Capsule::Drain => self.handle_drain(),
                Capsule::Datagram(payload) => self.events.push_back(SessionEvent::Datagram(payload)),
                Capsule::MaxData(_)
                | Capsule::MaxStreams { .. }
                | Capsule::DataBlocked(_)
                | Capsule::StreamsBlocked { .. } => self.events.push_back(SessionEvent::FlowControl(capsule)),
            }
        }
        Ok(())
    }

    fn handle_drain(&mut self) {
        if matches!(self.state, State::Open | State::Draining) && !self.has_seen_drain {
            self.has_seen_drain = true;
            self.mark_draining();
            self.events.push_back(SessionEvent::Draining);
        }
    }

    // Transitions.

    fn open(&mut self) {
        self.state = State::Open;
    }

    fn mark_draining(&mut self) {
        self.state = State::Draining;
    }

    /// The session is over: the first verdict stays.
    fn end(&mut self, info: CloseInfo) {
        if self.verdict.is_none() {
            self.verdict = Some(info.clone());
            self.state = State::Closed;
            self.held = BytesMut::new();
            self.events.push_back(SessionEvent::Closed(info));
        }
    }

    /// Our CLOSE is on its way: what [`end`](Self::end) ended is not settled yet.
    fn await_fin(&mut self) {
        self.state = State::Closing;
    }

    /// The receiving half is at its end.
    fn settle(&mut self) {
        if self.state == State::Closing {
            self.state = State::Closed;
        }
    }

    // Verdicts.

    /// A FIN of the peer and no CLOSE before it.
    fn end_cleanly(&mut self) {
        let is_answered = self.state != State::Connecting;
        // §6: a clean FIN without WT_CLOSE_SESSION equals code 0 and an empty message.
        self.end(CloseInfo {
            code: 0,
            reason: String::new(),
            by: Initiator::Peer,
            cause: CloseCause::Closed,
        });
        if is_answered {
            self.finish();
        } else {
            // A server that has not answered has no message it could finish. RFC 9114 4.1.1: cancel.
            self.reset(Code::H3_REQUEST_CANCELLED);
        }
    }

    fn end_stopped(&mut self, code: Code) {
        self.end(CloseInfo {
            code: from_http(code).unwrap_or(0),
            reason: format!("CONNECT stream stopped by the peer: {code}"),
            by: Initiator::Peer,
            cause: CloseCause::Reset(code),
        });
        // §6: the session ends when the stream closes in either direction, so the other half is given up too.
        self.stop(Code::H3_REQUEST_CANCELLED);
    }

    /// A fault of stream width.
    fn fail(&mut self, error: StreamError) {
        self.end(CloseInfo {
            code: 0,
            reason: error.reason.to_owned(),
            by: Initiator::Local,
            cause: CloseCause::Protocol(error),
        });
        self.reset(error.code);
        self.stop(error.code);
    }

    fn reject_with(&mut self, status: u16, mut headers: HeaderList, code: u32, reason: String) {
        let has_request = self.role == Role::Server && self.recv != RecvHalf::Headers;
        if self.state != State::Connecting || !has_request {
            return;
        }
        // RFC 9114 4.2.2: what is above the peer's limit SHOULD NOT be sent. The status says more than a reset would.
        if headers::response_size(&headers) > self.peer_max_field_section {
            headers.clear();
        }
        self.respond(status, headers);
        self.end(CloseInfo {
            code,
            reason,
            by: Initiator::Local,
            cause: CloseCause::Rejected { status },
        });
        self.finish();
        // No STOP_SENDING: in the flight of the response it would make clients lose it.
        self.discard();
    }

    fn respond(&mut self, status: u16, mut headers: HeaderList) {
        // RFC 9114 4.1.2: a length that the content does not have makes the message malformed; there is none.
        headers.retain(|(name, _)| name != "content-length");
        let mut out = BytesMut::new();
        Response::new(status, headers).encode_frame(&mut out);
        self.transmits.push_back(Transmit::Data(out.freeze()));
    }

    /// Capsules go inside DATA frames (RFC 9297 section 3.1).
    fn send_capsule(&mut self, payload: &[u8]) {
        let mut out = BytesMut::new();
        frame::data_frame(payload, &mut out);
        self.transmits.push_back(Transmit::Data(out.freeze()));
    }

    // The two halves.

    fn finish(&mut self) {
        if self.send == SendHalf::Open {
            self.send = SendHalf::Finished;
            self.transmits.push_back(Transmit::Finish);
            self.check_finished();
        }
    }

    /// Resets the sending half; what was queued for it is void.
    fn reset(&mut self, code: Code) {
        if self.send != SendHalf::Reset {
            self.send = SendHalf::Reset;
            self.transmits.retain(|transmit| matches!(transmit, Transmit::Stop(_)));
            self.transmits.push_back(Transmit::Reset(code));
            self.check_finished();
        }
    }

    fn stop(&mut self, code: Code) {
        if self.recv != RecvHalf::Ended {
            self.transmits.push_back(Transmit::Stop(code));
            self.end_recv();
        }
    }

    /// From now on the receiving half only waits for its end.
    fn discard(&mut self) {
        if self.recv != RecvHalf::Ended {
            self.recv = RecvHalf::Discard;
            self.drop_parsers();
        }
    }

    fn end_recv(&mut self) {
        self.recv = RecvHalf::Ended;
        self.drop_parsers();
        self.settle();
        self.check_finished();
    }

    fn drop_parsers(&mut self) {
        self.frames = FrameParser::new(frame_context(self.role));
        self.capsules = None;
        self.held = BytesMut::new();
    }

    fn check_finished(&mut self) {
        let has_ended = self.send != SendHalf::Open && self.recv == RecvHalf::Ended;
        if has_ended && self.verdict.is_some() && !self.is_finished {
            self.is_finished = true;
            self.events.push_back(SessionEvent::Finished);
        }
    }
}

/// What this side reads on the CONNECT stream.
fn frame_context(role: Role) -> FrameContext {
    match role {
        Role::Client => FrameContext::Response,
        Role::Server => FrameContext::Request,
    }
}

/// Take the first; an idle session holds no buffer.
fn pop<T>(queue: &mut VecDeque<T>) -> Option<T> {
    let first = queue.pop_front();
    if first.is_none() {
        *queue = VecDeque::new();
    }
    first
}

fn malformed(reason: &'static str) -> StreamError {
    StreamError {
        code: Code::H3_MESSAGE_ERROR,
        reason,
    }
}

/// Capsule bytes a server holds before it answers. One CLOSE capsule is about 1 KiB; a client that sends more than 64
/// times that without an answer wants something else.
const HELD_LIMIT: usize = 65536;
