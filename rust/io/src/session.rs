//! One WebTransport session as the application and the I/O tasks share it.
//!
//! Who runs what: `connect_stream` owns the CONNECT stream and the state machine of wt-proto and is the only one that ends
//! the session; every stream half has a pump; the datagram pump feeds QUIC. They meet in [`Session`].
//!
//! Order of an end: the verdict is stored, the state becomes closed, every waiter wakes, the streams are told. Reads give
//! what had arrived first; everything else fails with the verdict.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, OnceLock,
        atomic::{
            AtomicBool, AtomicU8, AtomicU64, AtomicUsize,
            Ordering::{AcqRel, Acquire, Relaxed, Release},
        },
    },
};

use parking_lot::Mutex;
use tokio::sync::Notify;
use wt_proto::{
    dialect::Dialect,
    error::StreamError,
    exporter,
    headers::{self, ConnectRequest, HeaderList, Response},
    session::{CloseCause, CloseInfo, Initiator},
    subprotocol,
};

use crate::{
    bridge::{
        port::{Port, Token},
        ring::{WaitPoint, WaitQueue, wait_point},
    },
    config::{CommonConfig, SESSION_SEND_BUDGET},
    connection::Connection,
    datagram::Datagrams,
    error::{AnswerError, ExportError, StreamEnd},
    flow_control::{Credits, FlowControl},
    gate::Gate,
    stats::SessionStats,
};

mod streams;

use streams::Entry;
pub use streams::Stream;
pub(crate) use streams::{Arrived, Half, reject};

/// What the application may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum SessionState {
    /// The request is unanswered.
    Connecting,
    /// Established.
    Connected,
    /// Established; one side asked to wind down.
    Draining,
    /// This side is closing: what was written goes out, nothing new is taken.
    Closing,
    /// Over.
    Closed,
}

impl SessionState {
    /// The name the binding shows.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Draining => "draining",
            Self::Closing => "closing",
            Self::Closed => "closed",
        }
    }

    fn from_u8(value: u8) -> Self {
        [
            Self::Connecting,
            Self::Connected,
            Self::Draining,
            Self::Closing,
            Self::Closed,
        ][usize::from(value).min(4)]
    }
}

/// What the application asked of the CONNECT stream's task.
#[derive(Debug)]
pub(crate) enum Command {
    Accept(HeaderList),
    Reject(u16, HeaderList),
    Close(u32, String),
    /// Ask the peer to wind down.
    Drain,
    /// The peer's GOAWAY.
    Goaway(u64),
    /// The peer broke a rule that only its streams could tell.
    Abort(StreamError),
}

/// A WebTransport session.
#[derive(Debug)]
pub struct Session {
    id: u64,
    connection: Arc<Connection>,
    request: OnceLock<ConnectRequest>,
    response: OnceLock<HeaderList>,
    state: AtomicU8,
    verdict: OnceLock<CloseInfo>,
    /// Opens with the verdict.
    end: Gate,
    commands: Mutex<Vec<Command>>,
    pub(crate) command_bell: Notify,
    /// Rung by pumps; only a closing session listens.
    pub(crate) flush_bell: Notify,
    /// In the order of their ids, so that the end of a session tells them in the same order every time.
    streams: Mutex<BTreeMap<u64, Entry>>,
    accepted: Mutex<VecDeque<Stream>>,
    /// Nobody will accept any more.
    abandoned: AtomicBool,
    acceptable: WaitQueue,
    changes: WaitQueue,
    subscriber: AtomicU64,
    datagrams: Datagrams,
    /// None: it is off on this connection, as it is by default.
    flow_control: Option<Box<FlowControl>>,
    /// Openings that wait for the peer's limit: unidirectional, bidirectional.
    openings: [AtomicUsize; 2],
    queued: AtomicUsize,
    unread: AtomicUsize,
    stats: SessionStats,
}

impl Session {
    pub(crate) fn new(id: u64, connection: Arc<Connection>) -> Arc<Self> {
        let limits = connection.limits();
        let datagrams = Datagrams::new(id, limits.datagram_queue_size, limits.datagram_overflow);
        let flow_control = FlowControl::of(&connection).map(Box::new);
        let session = Self {
            id,
            connection,
            request: OnceLock::new(),
            response: OnceLock::new(),
            state: AtomicU8::new(SessionState::Connecting as u8),
            verdict: OnceLock::new(),
            end: Gate::default(),
            commands: Mutex::default(),
            command_bell: Notify::new(),
            flush_bell: Notify::new(),
            streams: Mutex::default(),
            accepted: Mutex::default(),
            abandoned: AtomicBool::new(false),
            acceptable: WaitQueue::default(),
            changes: WaitQueue::default(),
            subscriber: AtomicU64::new(0),
            datagrams,
            flow_control,
            openings: [AtomicUsize::new(0), AtomicUsize::new(0)],
            queued: AtomicUsize::new(0),
            unread: AtomicUsize::new(0),
            stats: SessionStats::default(),
        };
        session.stats.created_at.set_once();
        Arc::new(session)
    }

    /// The id of the CONNECT stream.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The connection it lives on.
    pub fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// The request that began it; None until its headers have arrived.
    pub fn request(&self) -> Option<&ConnectRequest> {
        self.request.get()
    }

    /// Headers of the response, once there is one; a server's view has those of a 2xx.
    pub fn response_headers(&self) -> Option<&HeaderList> {
        self.response.get()
    }

    /// The subprotocols that the request offers, the most preferred first.
    pub fn offered_subprotocols(&self) -> Vec<String> {
        self.request()
            .map(|request| subprotocol::offered(&request.headers))
            .unwrap_or_default()
    }

    /// The subprotocol that both sides agreed on.
    pub fn subprotocol(&self) -> Option<String> {
        let is_established = self.stats.ready_at.get() > 0.0;
        self.response_headers()
            .filter(|_| is_established)
            .and_then(subprotocol::answered)
    }

    /// What the application may do.
    pub fn state(&self) -> SessionState {
        SessionState::from_u8(self.state.load(Acquire))
    }

    /// Whether streams can be opened and datagrams sent.
    pub fn is_connected(&self) -> bool {
        matches!(self.state(), SessionState::Connected | SessionState::Draining)
    }

    /// Whether the verdict is there.
    pub fn has_ended(&self) -> bool {
        self.end.is_open()
    }

    /// Who ended it and why.
    pub fn close_info(&self) -> Option<CloseInfo> {
        self.verdict.get().cloned()
    }

    /// Counters; those of datagrams are in [`Session::datagrams`].
    pub fn stats(&self) -> &SessionStats {
        &self.stats
    }

    /// The datagram side.
    pub fn datagrams(&self) -> &Datagrams {
        &self.datagrams
    }

    /// Bytes that streams and datagrams can take now: the peer's credit where flow control is on, else the free part of the
    /// send budget.
    pub fn send_credit(&self) -> usize {
        if let Some(Credits {
            sending: [data, ..], ..
        }) = self.credits()
        {
            return clamp(data.limit - data.used).saturating_sub(self.queued.load(Relaxed));
        }
        SESSION_SEND_BUDGET.saturating_sub(self.queued.load(Relaxed) + self.datagrams.queues().outgoing_bytes)
    }

    /// Bytes that the peer can send now: its credit where flow control is on, else the free part of the receive window.
    pub fn receive_credit(&self) -> usize {
        if let Some(Credits {
            receiving: [data, ..], ..
        }) = self.credits()
        {
            return clamp(data.limit.saturating_sub(data.used));
        }
        let unread = self.unread.load(Relaxed) + self.datagrams.queues().incoming_bytes;
        clamp(self.limits().receive_window()).saturating_sub(unread)
    }

    /// Ring this token at every change of state, and when recorded events wait.
    pub fn subscribe(&self, token: Token) {
        self.subscriber.store(token.0, Release);
    }

    /// Ready once the session is connected, or over.
    pub fn established(self: &Arc<Self>) -> Box<dyn WaitPoint> {
        wait_point(
            self.clone(),
            |this| &this.changes,
            |this| this.state() != SessionState::Connecting,
        )
    }

    /// Ready once the session is over.
    pub fn closed(self: &Arc<Self>) -> Box<dyn WaitPoint> {
        wait_point(
            self.clone(),
            |this| &this.changes,
            |this| this.state() == SessionState::Closed,
        )
    }

    /// Server: answer 200. False when that cannot be.
    pub fn accept(&self, headers: HeaderList) -> bool {
        self.accept_with(headers, &[]).is_ok()
    }

    /// Server: answer 200 with the first of these subprotocols that the client offers, if there is one.
    pub fn accept_with(&self, mut headers: HeaderList, subprotocols: &[String]) -> Result<(), AnswerError> {
        let request = self.request();
        let chosen = request.and_then(|request| subprotocol::choose(&request.headers, subprotocols));
        subprotocol::answer(&mut headers, chosen.as_deref());
        let (size, limit) = (self.acceptance_size(&headers), self.connection.peer_field_limit());
        if size > limit {
            return Err(AnswerError::HeadersTooLarge { size, limit });
        }
        self.state
            .compare_exchange(
                SessionState::Connecting as u8,
                SessionState::Connected as u8,
                AcqRel,
                Acquire,
            )
            .map_err(|_| AnswerError::Gone)?;
        self.set_response(headers.clone());
        self.stats.ready_at.set_once();
        self.command(Command::Accept(headers));
        self.changed();
        if self.connection.is_going_away() {
            // The request came before this side's GOAWAY, the answer after it.
            self.drain();
        }
        Ok(())
    }

    /// The size of a 200 with these headers, and with the one that the state machine adds for draft-02.
    fn acceptance_size(&self, headers: &HeaderList) -> u64 {
        let mut headers = headers.clone();
        let in_request = self.request().is_some_and(ConnectRequest::has_draft02_header);
        if in_request || self.connection.dialect().is_some_and(Dialect::has_draft02_header) {
            headers::acknowledge_draft02(&mut headers);
        }
        Response::new(200, headers).section_size()
    }

    /// Server: answer with a status outside 2xx. Headers beyond what the client takes are left out, all of them: a
    /// refusal is for the most part its status.
    pub fn reject(&self, status: u16, headers: HeaderList) {
        self.command(Command::Reject(status, headers));
    }

    /// Ask the peer to wind down (WT_DRAIN_SESSION, draft-16 section 4.7); everything still works on both sides. Once;
    /// before the session is established and after its end it does nothing.
    pub fn drain(&self) {
        if self.is_connected() {
            self.command(Command::Drain);
            self.set_draining();
        }
    }

    /// Derive `length` bytes that both ends of this session can derive, and nobody else (draft-16 section 4.8).
    pub fn export_keying_material(&self, label: &[u8], context: &[u8], length: usize) -> Result<Vec<u8>, ExportError> {
        let ended = || ExportError::SessionClosed(self.close_info());
        if !self.is_connected() {
            return Err(ended());
        }
        let context = exporter::encode_context(self.id, label, context, length)?;
        let mut output = vec![0; length];
        // The length is one that TLS can derive, so only a connection without its keys is left as a reason.
        let derived = self
            .connection
            .quic()
            .export_keying_material(&mut output, exporter::LABEL, &context);
        derived.map(|()| output).map_err(|_| ended())
    }

    /// Begin the close. The first close wins; later ones do nothing.
    pub fn close(&self, code: u32, reason: &str) {
        let before = self.state.fetch_max(SessionState::Closing as u8, AcqRel);
        if before < SessionState::Closing as u8 {
            self.command(Command::Close(code, reason.to_owned()));
            self.wake_all();
        }
    }

    // For the I/O tasks.

    pub(crate) fn port(&self) -> &Arc<Port> {
        self.connection.port()
    }

    pub(crate) fn limits(&self) -> &CommonConfig {
        self.connection.limits()
    }

    pub(crate) fn flow_control(&self) -> Option<&FlowControl> {
        self.flow_control.as_deref()
    }

    pub(crate) fn set_request(&self, request: ConnectRequest) {
        // A session has one request; the state machine gives no second one.
        let _ = self.request.set(request);
    }

    pub(crate) fn set_response(&self, headers: HeaderList) {
        // There is one final response.
        let _ = self.response.set(headers);
    }

    pub(crate) fn set_established(&self, response: HeaderList) {
        self.set_response(response);
        if self
            .state
            .compare_exchange(
                SessionState::Connecting as u8,
                SessionState::Connected as u8,
                AcqRel,
                Acquire,
            )
            .is_ok()
        {
            self.stats.ready_at.set_once();
            self.changed();
        }
    }

    pub(crate) fn set_draining(&self) {
        if self
            .state
            .compare_exchange(
                SessionState::Connected as u8,
                SessionState::Draining as u8,
                AcqRel,
                Acquire,
            )
            .is_ok()
        {
            self.changed();
        }
    }

    pub(crate) fn take_commands(&self) -> Vec<Command> {
        std::mem::take(&mut *self.commands.lock())
    }

    pub(crate) fn command(&self, command: Command) {
        self.commands.lock().push(command);
        self.command_bell.notify_one();
    }

    /// Something that subscribers or waiters for a state want to see has changed.
    pub(crate) fn changed(&self) {
        self.changes.notify_all(self.port());
        let token = self.subscriber.load(Acquire);
        if token != 0 {
            self.port().ring(Token(token));
        }
    }

    fn wake_all(&self) {
        self.acceptable.notify_all(self.port());
        self.wake_datagram_waiters();
        self.changed();
    }

    /// A pump made progress that a closing session may be waiting for.
    pub(crate) fn flush_progress(&self) {
        if self.state() == SessionState::Closing {
            self.flush_bell.notify_one();
        }
    }

    /// Whether the peer closed this session: what it sent before may still be under way.
    pub(crate) fn closed_by_peer(&self) -> bool {
        self.verdict
            .get()
            .is_some_and(|info| info.by == Initiator::Peer && info.cause == CloseCause::Closed)
    }

    /// Wait for the verdict. Cancel safe.
    pub(crate) async fn ended(&self) {
        self.end.passed().await;
    }

    /// The verdict, once it is there. The CONNECT stream's task always gives one.
    pub(crate) async fn close_info_after_end(&self) -> CloseInfo {
        self.end.passed().await;
        self.close_info().unwrap_or_else(gone)
    }

    /// The verdict if it comes soon after a WT_SESSION_GONE, a general one otherwise.
    pub(crate) async fn close_info_or_gone(&self) -> CloseInfo {
        let driver = self.connection.driver();
        driver
            .timeout(crate::config::CLOSE_ANSWER_TIMEOUT, self.close_info_after_end())
            .await
            .unwrap_or_else(gone)
    }

    /// Store the verdict and tell everybody; only the CONNECT stream's task calls this. The first verdict wins.
    pub(crate) fn end_with(&self, info: CloseInfo) {
        if self.verdict.set(info.clone()).is_err() {
            return;
        }
        if matches!(info.cause, CloseCause::Protocol(_)) {
            self.stats.protocol_errors.add(1);
        }
        self.stats.closed_at.set_once();
        self.state.store(SessionState::Closed as u8, Release);
        self.end.open();
        let streams: Vec<_> = {
            let streams = self.streams.lock();
            streams
                .values()
                .map(|entry| (entry.send.clone(), entry.recv.clone()))
                .collect()
        };
        for (send, recv) in streams {
            if let Some(send) = send {
                send.session_closed(StreamEnd::SessionClosed(info.clone()));
            }
            if let Some(recv) = recv {
                recv.session_closed();
            }
        }
        self.wake_all();
    }
}

fn clamp(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn gone() -> CloseInfo {
    CloseInfo {
        code: 0,
        reason: "the session is gone".into(),
        by: Initiator::Peer,
        cause: CloseCause::Closed,
    }
}
