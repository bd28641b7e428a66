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

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::Notify;
use wt_proto::{
    headers::{ConnectRequest, HeaderList},
    session::{CloseCause, CloseInfo, Initiator},
    stream_header::{encode_bi_header, encode_uni_header},
};

use crate::{
    bridge::{
        port::{Port, Token},
        ring::{WaitPoint, WaitQueue, wait_point},
    },
    config::{CommonConfig, SESSION_SEND_BUDGET},
    connection::Connection,
    datagram::{self, Datagrams},
    error::{OpenError, StreamEnd},
    gate::Gate,
    recv_stream::{self, RecvStream},
    send_stream::{self, SendStream},
    stats::SessionStats,
};

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

/// One direction of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Half {
    Send,
    Recv,
}

/// A stream of the peer, or one that was opened.
#[derive(Debug, Clone)]
pub enum Stream {
    /// Both directions.
    Bidirectional(Arc<SendStream>, Arc<RecvStream>),
    /// Opened by this side.
    Send(Arc<SendStream>),
    /// Opened by the peer.
    Recv(Arc<RecvStream>),
}

impl Stream {
    /// Reset and stop it: nobody wants it.
    pub(crate) fn turn_away(&self) {
        let (send, recv) = match self {
            Self::Bidirectional(send, recv) => (Some(send), Some(recv)),
            Self::Send(send) => (Some(send), None),
            Self::Recv(recv) => (None, Some(recv)),
        };
        if let Some(send) = send {
            send.reset(0);
        }
        if let Some(recv) = recv {
            recv.stop(0);
        }
    }
}

/// QUIC's side of a stream whose header is known, on its way to its session.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) send: Option<wt_quic::SendStream>,
    pub(crate) recv: wt_quic::RecvStream,
    /// What came with the header.
    pub(crate) rest: Bytes,
}

/// What the application asked of the CONNECT stream's task.
#[derive(Debug)]
pub(crate) enum Command {
    Accept(HeaderList),
    Reject(u16, HeaderList),
    Close(u32, String),
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
    /// Openings that wait for the peer's limit: unidirectional, bidirectional.
    openings: [AtomicUsize; 2],
    queued: AtomicUsize,
    unread: AtomicUsize,
    stats: SessionStats,
}

#[derive(Debug)]
struct Entry {
    send: Option<Arc<SendStream>>,
    recv: Option<Arc<RecvStream>>,
    send_done: bool,
    recv_done: bool,
    errored: bool,
}

impl Session {
    pub(crate) fn new(id: u64, connection: Arc<Connection>) -> Arc<Self> {
        let limits = connection.limits();
        let datagrams = Datagrams::new(id, limits.datagram_queue_size, limits.datagram_overflow);
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

    /// Headers of the 2xx response, once there is one.
    pub fn response_headers(&self) -> Option<&HeaderList> {
        self.response.get()
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

    /// Bytes that streams and datagrams can take now: the free part of the send budget.
    pub fn send_credit(&self) -> usize {
        SESSION_SEND_BUDGET.saturating_sub(self.queued.load(Relaxed) + self.datagrams.queues().outgoing_bytes)
    }

    /// Bytes that the peer can send now: the free part of the receive window.
    pub fn receive_credit(&self) -> usize {
        let unread = self.unread.load(Relaxed) + self.datagrams.queues().incoming_bytes;
        usize::try_from(self.limits().receive_window())
            .unwrap_or(usize::MAX)
            .saturating_sub(unread)
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

    /// Server: answer 200. False when the request is gone or answered.
    pub fn accept(&self, headers: HeaderList) -> bool {
        if self
            .state
            .compare_exchange(
                SessionState::Connecting as u8,
                SessionState::Connected as u8,
                AcqRel,
                Acquire,
            )
            .is_err()
        {
            return false;
        }
        self.stats.ready_at.set_once();
        self.command(Command::Accept(headers));
        self.changed();
        true
    }

    /// Server: answer with a status outside 2xx.
    pub fn reject(&self, status: u16, headers: HeaderList) {
        self.command(Command::Reject(status, headers));
    }

    /// Begin the close. The first close wins; later ones do nothing.
    pub fn close(&self, code: u32, reason: &str) {
        let before = self.state.fetch_max(SessionState::Closing as u8, AcqRel);
        if before < SessionState::Closing as u8 {
            self.command(Command::Close(code, reason.to_owned()));
            self.wake_all();
        }
    }

    // Streams.

    /// Open a stream if the peer's limit allows one more right now and nobody waits for that already.
    pub fn try_open(self: &Arc<Self>, bidirectional: bool) -> Result<Option<Stream>, OpenError> {
        self.check_open()?;
        if self.openings[usize::from(bidirectional)].load(Acquire) > 0 {
            return Ok(None);
        }
        let quic = self.connection.quic();
        let opened = if bidirectional {
            wt_quic::try_open_bi(quic, DROP_CODE).map(|opened| opened.map(|(send, recv)| (send, Some(recv))))
        } else {
            wt_quic::try_open_uni(quic, DROP_CODE).map(|opened| opened.map(|send| (send, None)))
        };
        match opened {
            None => Ok(None),
            Some(Ok((send, recv))) => Ok(Some(self.begin(send, recv))),
            Some(Err(_)) => Err(OpenError::SessionClosed(self.close_info())),
        }
    }

    /// Open a stream; waits for the peer's limit. First come, first served.
    ///
    /// # Cancel safety
    /// Dropping it before the end opens nothing.
    pub(crate) async fn open(self: &Arc<Self>, bidirectional: bool) -> Result<Stream, OpenError> {
        self.check_open()?;
        let quic = self.connection.quic();
        let opened = async {
            if bidirectional {
                wt_quic::open_bi(quic, DROP_CODE)
                    .await
                    .map(|(send, recv)| (send, Some(recv)))
            } else {
                wt_quic::open_uni(quic, DROP_CODE).await.map(|send| (send, None))
            }
        };
        match crate::driver::select(opened, self.end.passed()).await {
            crate::driver::Either::Left(Ok((send, recv))) => {
                self.check_open()?;
                Ok(self.begin(send, recv))
            }
            _ => Err(OpenError::SessionClosed(self.close_info())),
        }
    }

    pub(crate) fn count_opening(&self, bidirectional: bool, begins: bool) {
        let openings = &self.openings[usize::from(bidirectional)];
        if begins {
            openings.fetch_add(1, AcqRel)
        } else {
            openings.fetch_sub(1, AcqRel)
        };
    }

    /// An opening that failed counts as a stream error.
    pub fn count_failed_opening(&self) {
        self.stats.stream_errors.add(1);
    }

    /// The next stream that the peer opened.
    pub fn try_accept(&self) -> Result<Option<Stream>, OpenError> {
        match self.accepted.lock().pop_front() {
            Some(stream) => Ok(Some(stream)),
            None if self.state() >= SessionState::Closing => Err(OpenError::SessionClosed(self.close_info())),
            None => Ok(None),
        }
    }

    /// The application has let the session go: streams that it did not accept are turned away, now and later. Otherwise they
    /// and the session would keep each other for ever.
    pub fn abandon(&self) {
        self.abandoned.store(true, Release);
        let unwanted = std::mem::take(&mut *self.accepted.lock());
        unwanted.iter().for_each(Stream::turn_away);
    }

    /// Whether somebody waits for a stream already.
    pub fn has_accept_waiters(&self) -> bool {
        self.acceptable.has_waiters()
    }

    /// Ready when a stream of the peer waits, or the session is closing.
    pub fn acceptable(self: &Arc<Self>) -> Box<dyn WaitPoint> {
        wait_point(
            self.clone(),
            |this| &this.acceptable,
            |this| !this.accepted.lock().is_empty() || this.state() >= SessionState::Closing,
        )
    }

    fn check_open(&self) -> Result<(), OpenError> {
        if self.is_connected() {
            Ok(())
        } else {
            Err(OpenError::SessionClosed(self.close_info()))
        }
    }

    /// A stream that this side opened: its header is the first thing on it.
    fn begin(self: &Arc<Self>, quic_send: wt_quic::SendStream, quic_recv: Option<wt_quic::RecvStream>) -> Stream {
        let mut header = BytesMut::with_capacity(16);
        match quic_recv {
            Some(_) => encode_bi_header(self.id, &mut header),
            None => encode_uni_header(self.id, &mut header),
        }
        let id = quic_send.id();
        let send = SendStream::new(id, self.clone(), header.freeze());
        let recv = quic_recv
            .as_ref()
            .map(|_| RecvStream::new(id, self.clone(), Bytes::new()));
        self.register(id, Some(send.clone()), recv.clone());
        let driver = self.connection.driver();
        driver.spawn(send_stream::pump(send.clone(), quic_send));
        match (recv, quic_recv) {
            (Some(recv), Some(quic_recv)) => {
                driver.spawn(recv_stream::pump(recv.clone(), quic_recv));
                Stream::Bidirectional(send, recv)
            }
            _ => Stream::Send(send),
        }
    }

    /// A stream of the peer. The caller runs the pump of the receiving half, if it gets one.
    pub(crate) fn arrive(self: &Arc<Self>, arrived: Arrived) -> (Arc<RecvStream>, wt_quic::RecvStream) {
        let id = arrived.recv.id();
        let recv = RecvStream::new(id, self.clone(), arrived.rest);
        let stream = match arrived.send {
            Some(quic_send) => {
                let send = SendStream::new(id, self.clone(), Bytes::new());
                self.register(id, Some(send.clone()), Some(recv.clone()));
                self.connection
                    .driver()
                    .spawn(send_stream::pump(send.clone(), quic_send));
                Stream::Bidirectional(send, recv.clone())
            }
            None => {
                self.register(id, None, Some(recv.clone()));
                Stream::Recv(recv.clone())
            }
        };
        self.accepted.lock().push_back(stream);
        self.acceptable.notify_one(self.port());
        if self.abandoned.load(Acquire) {
            self.abandon();
        }
        (recv, arrived.recv)
    }

    fn register(&self, id: u64, send: Option<Arc<SendStream>>, recv: Option<Arc<RecvStream>>) {
        self.stats.streams_created.add(1);
        match (&send, &recv) {
            (Some(_), Some(_)) => self.stats.bidirectional_streams.add(1),
            _ => self.stats.unidirectional_streams.add(1),
        }
        let entry = Entry {
            send_done: send.is_none(),
            recv_done: recv.is_none(),
            send,
            recv,
            errored: false,
        };
        self.streams.lock().insert(id, entry);
    }

    /// The sending half is done: all with QUIC, or ended early.
    pub(crate) fn send_half_done(&self, id: u64, errored: bool) {
        self.half_done(id, Half::Send, errored);
    }

    /// The receiving half is done: everything up to its end has arrived, or it ended early.
    pub(crate) fn recv_half_done(&self, id: u64, errored: bool) {
        self.half_done(id, Half::Recv, errored);
    }

    fn half_done(&self, id: u64, half: Half, errored: bool) {
        let mut streams = self.streams.lock();
        let Some(entry) = streams.get_mut(&id) else { return };
        if errored && !entry.errored {
            entry.errored = true;
            self.stats.stream_errors.add(1);
        }
        let done = match half {
            Half::Send => &mut entry.send_done,
            Half::Recv => &mut entry.recv_done,
        };
        // A half may end twice: finished first, stopped by the peer later. It counts once.
        if !std::mem::replace(done, true) && entry.send_done && entry.recv_done {
            self.stats.streams_closed.add(1);
        }
    }

    /// The pump of a half has ended: nothing waits for it any more.
    pub(crate) fn release(&self, id: u64, half: Half) {
        {
            let mut streams = self.streams.lock();
            let Some(entry) = streams.get_mut(&id) else { return };
            match half {
                Half::Send => entry.send = None,
                Half::Recv => entry.recv = None,
            }
            if entry.send.is_none() && entry.recv.is_none() {
                streams.remove(&id);
            }
        }
        self.flush_progress();
    }

    pub(crate) fn stream_queued(&self, bytes: usize) {
        self.queued.fetch_add(bytes, Relaxed);
        self.connection.touch();
    }

    pub(crate) fn stream_unqueued(&self, bytes: usize) {
        // Stream headers are in the stream's queue but not in this sum.
        let _ = self
            .queued
            .fetch_update(Relaxed, Relaxed, |queued| Some(queued.saturating_sub(bytes)));
    }

    pub(crate) fn stream_unread(&self, bytes: usize) {
        self.unread.fetch_add(bytes, Relaxed);
        self.connection.touch();
    }

    pub(crate) fn stream_read(&self, bytes: usize) {
        self.unread.fetch_sub(bytes, Relaxed);
    }

    // For the I/O tasks.

    pub(crate) fn port(&self) -> &Port {
        self.connection.port()
    }

    pub(crate) fn limits(&self) -> &CommonConfig {
        self.connection.limits()
    }

    pub(crate) fn set_request(&self, request: ConnectRequest) {
        // A session has one request; the state machine gives no second one.
        let _ = self.request.set(request);
    }

    pub(crate) fn set_established(&self, response: HeaderList) {
        let _ = self.response.set(response);
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

    fn command(&self, command: Command) {
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

    /// Wait until everything that was accepted is with the peer (streams that were finished) or at least with QUIC (the
    /// others, and datagrams). The caller bounds the wait.
    pub(crate) async fn flushed(&self) {
        loop {
            let flushed = self.datagrams_flushed()
                && self
                    .streams
                    .lock()
                    .values()
                    .all(|entry| entry.send.as_ref().is_none_or(|send| send.is_flushed()));
            if flushed {
                return;
            }
            self.flush_bell.notified().await;
        }
    }

    /// Whether a stream was written to and not finished: only QUIC knows how much of it the peer has.
    pub(crate) fn has_unfinished_data(&self) -> bool {
        self.streams
            .lock()
            .values()
            .any(|entry| entry.send.as_ref().is_some_and(|send| send.is_unfinished()))
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

    pub(crate) fn spawn_datagram_pump(self: &Arc<Self>) {
        self.max_datagram_size();
        self.connection.driver().spawn(datagram::pump(self.clone()));
    }
}

/// What a stream half is reset or stopped with when its pump is dropped: a panic, or a driver that was shut down.
pub(crate) const DROP_CODE: u64 = wt_proto::error_code::Code::WT_SESSION_GONE.0;

fn gone() -> CloseInfo {
    CloseInfo {
        code: 0,
        reason: "the session is gone".into(),
        by: Initiator::Peer,
        cause: CloseCause::Closed,
    }
}
