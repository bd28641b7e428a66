//! One HTTP/3 connection: its sessions, its settings and its end.
//!
//! Tasks of a connection, all of them running whatever the application does: `incoming` accepts streams and reads
//! datagrams, each CONNECT stream has its task, and `supervise` waits for the end, sees to this side's control stream and
//! turns away what waited too long for its session. A session's close never closes the connection; the application or an
//! error of connection width does.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{
            AtomicU64, AtomicUsize,
            Ordering::{AcqRel, Acquire, Relaxed, Release},
        },
    },
    task::Poll,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use wt_proto::{
    control::{ControlEvent, PeerStreams},
    datagram,
    dialect::{Dialect, LocalOptions, Role, Unsupported, local_settings, negotiate},
    error::ConnectionError,
    error_code::Code,
    flow_control,
    goaway::LocalGoaway,
    headers::{ConnectRequest, HeaderList},
    registry::{DatagramRoute, Limits, Registry, StreamRoute},
    session::Initiator,
    settings::Settings,
};
use wt_quic::stream_limits::StreamLimits;

use crate::{
    bridge::{
        port::{Port, Token},
        ring::{WaitPoint, WaitQueue, wait_point},
    },
    config::{
        CLOSE_LINGER, CommonConfig, DATAGRAM_QUEUE_BYTES, LINGERING_SESSIONS, MAX_FIELD_SECTION_SIZE, QuicLimits,
        canonical,
    },
    connect_stream::{self, ConnectStream},
    driver::{Driver, poll_once, select},
    endpoint::SocketInfo,
    error::{ConnectionEnd, OpenError},
    flow_control::FlowControl,
    gate::Gate,
    incoming,
    server::{Active, ServerShared},
    session::{Arrived, Session, reject},
    stats::ConnectionStats,
};

mod control_stream;
mod requests;

use control_stream::NO_GOAWAY;
pub(crate) use control_stream::{ControlStream, begin, preface};
use requests::Exchanges;
pub(crate) use requests::Refusal;

/// Ended sessions whose late streams and datagrams are turned away at once.
const REMEMBERED_SESSIONS: usize = 64;

/// Draft-16 section 5.1: without flow control there is one session at a time. SETTINGS tell older dialects the same number.
const SESSIONS_WITHOUT_FLOW_CONTROL: u64 = 1;

/// Datagrams routed before other tasks get their turn.
pub(crate) const DATAGRAM_BATCH: usize = 256;

/// Where a connection lives: its driver, its event loop, its socket.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) driver: Driver,
    pub(crate) port: Arc<Port>,
    pub(crate) socket: Arc<SocketInfo>,
}

/// An HTTP/3 connection that speaks WebTransport.
#[derive(Debug)]
pub struct Connection {
    quic: wt_quic::Connection,
    stream_limits: Arc<StreamLimits>,
    driver: Driver,
    port: Arc<Port>,
    socket: Arc<SocketInfo>,
    role: Role,
    limits: Arc<CommonConfig>,
    max_sessions: u64,
    server: Option<Arc<ServerShared>>,
    local_settings: Arc<Settings>,
    peer_settings: OnceLock<Settings>,
    negotiated: OnceLock<Result<Dialect, Unsupported>>,
    /// Opens with the peer's SETTINGS.
    ready: Gate,
    registry: Mutex<Registry<Arc<Session>, Arrived>>,
    exchanges: Exchanges,
    pub(crate) peer_streams: Mutex<PeerStreams>,
    goaway: Mutex<LocalGoaway>,
    /// For the control stream, once `goaway_due` is open.
    goaway_frame: Mutex<Bytes>,
    goaway_due: Gate,
    /// The id in the peer's GOAWAY, or [`NO_GOAWAY`].
    peer_goaway: AtomicU64,
    early_bell: Notify,
    half_open: AtomicUsize,
    end: OnceLock<ConnectionEnd>,
    ended: Gate,
    changes: WaitQueue,
    subscriber: AtomicU64,
    /// Packets that had been received when somebody last looked, for `last_activity`.
    packets_seen: AtomicU64,
    stats: ConnectionStats,
}

impl Connection {
    /// Take over a connection whose handshake is done, and start its tasks.
    pub(crate) fn start(
        quic: wt_quic::Connection,
        place: Place,
        role: Role,
        limits: Arc<CommonConfig>,
        max_sessions: u64,
        server: Option<Active>,
        control: Option<ControlStream>,
    ) -> Arc<Self> {
        let Place { driver, port, socket } = place;
        let shared = server.as_ref().map(Active::server);
        let local_settings = match &shared {
            Some(server) => server.settings.clone(),
            None => Arc::new(settings_of(role, &limits)),
        };
        let registry = Registry::new(
            role,
            Limits {
                per_session: limits.max_pending_per_session,
                total: limits.max_pending_total,
                datagram_bytes: DATAGRAM_QUEUE_BYTES,
                ttl: limits.pending_ttl,
                remembered: REMEMBERED_SESSIONS,
            },
        );
        let (bidi, uni) = limits.stream_limits(role);
        let connection = Arc::new(Self {
            stream_limits: StreamLimits::new(quic.clone(), bidi, uni),
            quic,
            driver: driver.clone(),
            port,
            socket,
            role,
            limits,
            max_sessions,
            server: shared,
            local_settings,
            peer_settings: OnceLock::new(),
            negotiated: OnceLock::new(),
            ready: Gate::default(),
            registry: Mutex::new(registry),
            exchanges: Exchanges::default(),
            peer_streams: Mutex::new(PeerStreams::new(role)),
            goaway: Mutex::new(LocalGoaway::new(role)),
            goaway_frame: Mutex::default(),
            goaway_due: Gate::default(),
            peer_goaway: AtomicU64::new(NO_GOAWAY),
            early_bell: Notify::new(),
            half_open: AtomicUsize::new(0),
            end: OnceLock::new(),
            ended: Gate::default(),
            changes: WaitQueue::default(),
            subscriber: AtomicU64::new(0),
            packets_seen: AtomicU64::new(0),
            stats: ConnectionStats::default(),
        });
        connection.stats.established_at.set_once();
        connection.touch();
        driver.spawn(supervise(connection.clone(), server, control));
        driver.spawn(incoming::receive(connection.clone()));
        connection
    }

    /// quinn's connection.
    pub fn quic(&self) -> &wt_quic::Connection {
        &self.quic
    }

    /// How many streams the peer may have open.
    pub(crate) fn stream_limits(&self) -> &Arc<StreamLimits> {
        &self.stream_limits
    }

    /// Who runs its tasks.
    pub fn driver(&self) -> &Driver {
        &self.driver
    }

    /// This side's role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The draft that both sides speak; None before the peer's SETTINGS, or if there is none.
    pub fn dialect(&self) -> Option<Dialect> {
        self.negotiated.get()?.as_ref().ok().copied()
    }

    /// Whether sessions have WebTransport flow control, and may therefore be several.
    pub fn has_flow_control(&self) -> bool {
        let (Some(dialect), Some(peer)) = (self.dialect(), self.peer_settings()) else {
            return false;
        };
        flow_control::is_enabled(dialect, &self.local_settings, peer)
    }

    /// Sessions that may live here at once.
    pub fn session_limit(&self) -> u64 {
        if self.has_flow_control() {
            self.max_sessions
        } else {
            SESSIONS_WITHOUT_FLOW_CONTROL.min(self.max_sessions)
        }
    }

    /// This side's SETTINGS.
    pub fn local_settings(&self) -> &Settings {
        &self.local_settings
    }

    /// The peer's SETTINGS.
    pub fn peer_settings(&self) -> Option<&Settings> {
        self.peer_settings.get()
    }

    /// This side's address: the interface the peer reaches, where the system tells, and the socket's port.
    pub fn local_address(&self) -> Option<SocketAddr> {
        let ip = self.quic.local_ip()?.to_canonical();
        Some(SocketAddr::new(ip, self.socket.port))
    }

    /// What there is to know of its socket.
    pub fn socket(&self) -> &SocketInfo {
        &self.socket
    }

    /// The peer's address.
    pub fn remote_address(&self) -> SocketAddr {
        canonical(self.quic.remote_address())
    }

    /// Counters that QUIC does not keep.
    pub fn stats(&self) -> &ConnectionStats {
        &self.stats
    }

    /// When application data last moved, or when somebody first saw that packets had come, in unix seconds: the answers to a
    /// keep-alive are activity too. quinn counts packets, but does not tell when the last one came.
    pub fn last_activity(&self) -> f64 {
        let packets = self.quic.stats().udp_rx.datagrams;
        if self.packets_seen.swap(packets, Relaxed) != packets {
            self.touch();
        }
        self.stats.last_activity.get()
    }

    /// What the early buffers dropped: (streams, datagrams).
    pub fn early_drops(&self) -> (u64, u64) {
        let counters = self.registry.lock().counters();
        (
            counters.streams_rejected + counters.streams_expired + counters.streams_late,
            counters.datagrams_dropped + counters.datagrams_expired + counters.datagrams_late,
        )
    }

    /// Sessions that are not over.
    pub fn session_count(&self) -> usize {
        // Sessions that have ended stay registered until the peer's FIN has come.
        self.registry
            .lock()
            .iter()
            .filter(|(_, session)| !session.has_ended())
            .count()
    }

    /// Whether a server takes one more. Sessions that have ended stay registered until the peer's FIN has come, for a second
    /// at most: a peer that never sends it must not have any number of them.
    fn has_room_for_session(&self) -> bool {
        let (live, all) = (self.session_count(), self.registry.lock().len());
        (live as u64) < self.session_limit() && ((all - live.min(all)) as u64) < LINGERING_SESSIONS
    }

    /// How the connection ended; None while it lives.
    pub fn end(&self) -> Option<&ConnectionEnd> {
        if self.end.get().is_none() {
            let reason = self.quic.close_reason()?;
            let _ = self.end.set(ConnectionEnd::new(&reason));
        }
        self.end.get()
    }

    /// Whether the stream of any request is not done, answered or not.
    pub(crate) fn has_requests(&self) -> bool {
        let registry = self.registry.lock();
        !registry.is_empty() || registry.exchanges() > 0
    }

    /// Ring this token when the SETTINGS or a GOAWAY arrive, and when the connection ends.
    pub fn subscribe(&self, token: Token) {
        self.subscriber.store(token.0, Release);
    }

    /// Whether it has ended on this side: the close packet is then with the socket.
    pub fn has_ended(&self) -> bool {
        self.ended.is_open()
    }

    /// Ready once the connection has ended.
    pub fn closed(self: &Arc<Self>) -> Box<dyn WaitPoint> {
        wait_point(self.clone(), |this| &this.changes, |this| this.has_ended())
    }

    /// Wait for the peer's SETTINGS, or the end of the connection. Cancel safe.
    pub async fn settings_received(&self) -> Result<Dialect, Unready> {
        let _ = select(self.ready.passed(), self.ended.passed()).await;
        match self.negotiated.get() {
            Some(Ok(dialect)) => Ok(*dialect),
            Some(Err(unsupported)) => Err(Unready::Unsupported(*unsupported)),
            None => Err(Unready::Ended(self.end_now())),
        }
    }

    /// Whether one more session may be asked for: draft-16 section 5.1 allows a client one at a time without flow control, and
    /// section 4.7 none after GOAWAY.
    pub fn can_request_session(&self) -> bool {
        self.end().is_none() && !self.is_going_away() && (self.session_count() as u64) < self.session_limit()
    }

    /// Client: send an extended CONNECT.
    pub fn request_session(
        self: &Arc<Self>,
        authority: String,
        path: String,
        headers: HeaderList,
    ) -> Result<Arc<Session>, OpenError> {
        let dialect = self.dialect().ok_or(OpenError::SessionClosed(None))?;
        if self.end().is_some() {
            return Err(OpenError::SessionClosed(None));
        }
        // RFC 9114 section 5.2: no new requests after GOAWAY.
        if self.is_going_away() {
            return Err(OpenError::GoingAway);
        }
        if !self.can_request_session() {
            return Err(OpenError::TooManySessions);
        }
        let request = ConnectRequest::new(dialect, authority, path, headers);
        // RFC 9114 section 4.2.2: what the peer will not take SHOULD NOT be sent.
        let (size, limit) = (request.section_size(), self.peer_field_limit());
        if size > limit {
            return Err(OpenError::HeadersTooLarge { size, limit });
        }
        let (send, recv) = match wt_quic::try_open_bi(&self.quic, Code::H3_REQUEST_CANCELLED.0) {
            Some(Ok(halves)) => halves,
            // The server's QUIC limit leaves no room for a request.
            None => return Err(OpenError::TooManySessions),
            Some(Err(_)) => return Err(OpenError::SessionClosed(None)),
        };
        let id = send.id();
        let machine = wt_proto::session::Session::client(id, &request, MAX_FIELD_SECTION_SIZE);
        let machine = self.flow_controlled(machine);
        let session = Session::new(id, self.clone());
        session.set_request(request);
        self.adopt(&session);
        self.tell_goaway(&session);
        self.driver.spawn(connect_stream::run(
            session.clone(),
            machine,
            ConnectStream { send, recv },
            None,
        ));
        Ok(session)
    }

    /// Send CONNECTION_CLOSE. The first close wins.
    pub fn close(&self, code: u64, reason: &str) {
        let _ = self.end.set(ConnectionEnd {
            code,
            reason: reason.to_owned(),
            by: Initiator::Local,
            cause: "closed",
        });
        wt_quic::close(&self.quic, code, reason.as_bytes());
    }

    /// The application is done with a session: close the connection if no other lives on it, and no plain request. A
    /// server gives the peer time to read the session's close first.
    pub fn release(self: &Arc<Self>) {
        if self.is_in_use() {
            return;
        }
        match self.role {
            Role::Client => self.close(Code::H3_NO_ERROR.0, ""),
            Role::Server => {
                let connection = self.clone();
                self.driver.spawn(async move {
                    let _ = select(connection.lost(), connection.driver.sleep(CLOSE_LINGER)).await;
                    if !connection.is_in_use() && connection.end().is_none() {
                        connection.close(Code::H3_NO_ERROR.0, "");
                    }
                });
            }
        }
    }

    /// Wait until the connection has ended on this side; the close packet is then with the socket. Cancel safe.
    pub async fn lost(&self) {
        self.ended.passed().await;
    }

    // For the I/O tasks.

    pub(crate) fn port(&self) -> &Arc<Port> {
        &self.port
    }

    pub(crate) fn limits(&self) -> &CommonConfig {
        &self.limits
    }

    /// Application data moved.
    pub(crate) fn touch(&self) {
        self.stats.last_activity.touch();
    }

    pub(crate) fn end_now(&self) -> ConnectionEnd {
        self.end().cloned().unwrap_or_else(|| ConnectionEnd {
            code: 0,
            reason: "the connection is closing".into(),
            by: Initiator::Transport,
            cause: "lost",
        })
    }

    /// An error of connection width.
    pub(crate) fn fail(&self, error: &ConnectionError) {
        self.stats.protocol_errors.add(1);
        if let Some(server) = &self.server {
            server.stats.protocol_errors.add(1);
        }
        tracing::debug!(%error, peer = %self.remote_address(), "closing the connection");
        self.close(error.code.0, error.reason);
    }

    /// Count one more stream whose header is not known, unless there are too many.
    pub(crate) fn admit_half_open(&self) -> bool {
        let admitted = self.half_open.fetch_add(1, AcqRel) < crate::config::MAX_HALF_OPEN_STREAMS;
        if !admitted {
            self.half_open.fetch_sub(1, AcqRel);
        }
        admitted
    }

    pub(crate) fn leave_half_open(&self) {
        self.half_open.fetch_sub(1, AcqRel);
    }

    /// Give a stream to its session, keep it for one that is still unknown, or turn it away.
    pub(crate) fn route_stream(&self, session: u64, arrived: Arrived) -> Option<(Arc<Session>, Arrived)> {
        let route = self.registry.lock().stream(session, arrived, self.driver.now());
        match route {
            StreamRoute::Deliver(session, arrived) => return Some((session, arrived)),
            StreamRoute::Buffered => self.early_bell.notify_one(),
            StreamRoute::Reject(arrived, code) => {
                self.stats.streams_rejected.add(1);
                reject(arrived, code);
            }
        }
        None
    }

    /// Give datagrams to their sessions; `batch` is emptied.
    pub(crate) fn route_datagrams(&self, batch: &mut Vec<Bytes>) -> Result<(), ConnectionError> {
        self.touch();
        let now = self.driver.now();
        let mut run: Vec<Bytes> = Vec::with_capacity(batch.len());
        let mut current: Option<Arc<Session>> = None;
        let mut buffered = false;
        for packet in batch.drain(..) {
            let (id, payload) = datagram::decode(packet)?;
            if current.as_ref().is_none_or(|session| session.id() != id)
                && let Some(session) = current.take()
            {
                session.push_datagrams(&mut run);
            }
            if current.is_some() {
                run.push(payload);
                continue;
            }
            let route = self.registry.lock().datagram(id, payload, now);
            match route {
                DatagramRoute::Deliver(session, payload) => {
                    run.push(payload);
                    current = Some(session);
                }
                DatagramRoute::Buffered => buffered = true,
                DatagramRoute::Meaningless(id) => self.refuse_datagram(id),
                // The registry counts.
                DatagramRoute::Dropped => {}
            }
        }
        if let Some(session) = current {
            session.push_datagrams(&mut run);
        }
        if buffered {
            self.early_bell.notify_one();
        }
        Ok(())
    }

    /// Let what has arrived find its session before that session ends: datagrams at once, streams in the two turns that
    /// accepting and reading a header take.
    pub(crate) async fn settle(&self) {
        let mut batch = Vec::new();
        for _ in 0..3 {
            while let Some(Ok(packet)) = poll_once(self.quic.read_datagram()).await {
                batch.push(packet);
            }
            // An error here is found by the reader too, with the next datagram.
            let _ = self.route_datagrams(&mut batch);
            yield_now().await;
        }
    }

    /// Register a session and give it what arrived before it.
    fn adopt(&self, session: &Arc<Session>) {
        let early = self.registry.lock().insert(session.id(), session.clone());
        self.fit_quic_limits();
        session.max_datagram_size();
        for arrived in early.streams {
            if let Some((recv, quic)) = session.arrive(arrived) {
                self.driver.spawn(crate::recv_stream::pump(recv, quic));
            }
        }
        session.push_datagrams(&mut early.datagrams.into_iter().collect());
    }

    /// With flow control QUIC's limits only have to stay above the sum of what the sessions allow (protocol.md 9.3): a
    /// session that is not read must not take the room of another. Without it they are the limits themselves and stay.
    pub(crate) fn fit_quic_limits(&self) {
        if !self.has_flow_control() {
            return;
        }
        let (sessions, windows) = {
            let registry = self.registry.lock();
            let windows = registry.iter().filter_map(|(_, session)| session.flow_control());
            (registry.len() as u64, windows.map(FlowControl::window).sum())
        };
        let QuicLimits {
            streams_bidi,
            streams_uni,
            window,
        } = self.limits.quic_limits(self.role, sessions, windows);
        self.stream_limits.want(streams_bidi, streams_uni);
        self.quic.set_receive_window(window);
    }

    /// A session is over: late streams and datagrams of it are turned away from now on.
    pub(crate) fn forget(&self, id: u64) {
        let early = self.registry.lock().discard(id);
        self.fit_quic_limits();
        early
            .streams
            .into_iter()
            .for_each(|arrived| reject(arrived, Code::WT_SESSION_GONE));
        if let Some(server) = &self.server {
            server.count_ended_request();
        }
        self.changed();
    }

    pub(crate) fn handle_control(&self, event: ControlEvent) {
        match event {
            ControlEvent::Settings(settings) => {
                let negotiated = negotiate(self.role, &self.local_settings, &settings);
                // Draft-16 section 3.1 requires the transport parameter max_datagram_frame_size as well.
                let has_datagrams = self.quic.max_datagram_size().is_some();
                let _ = self.negotiated.set(
                    negotiated.and_then(|dialect| has_datagrams.then_some(dialect).ok_or(Unsupported::QuicDatagrams)),
                );
                let _ = self.peer_settings.set(settings);
                self.fit_quic_limits();
                self.ready.open();
                self.changed();
            }
            ControlEvent::Goaway(id) => self.handle_goaway(id),
            // RFC 9218: a hint that may be ignored.
            ControlEvent::PriorityUpdate { .. } => {}
        }
    }

    fn changed(&self) {
        self.changes.notify_all(&self.port);
        let token = self.subscriber.load(Acquire);
        if token != 0 {
            self.port.ring(Token(token));
        }
    }

    /// Streams that wait for a header; for tests and diagnostics.
    pub fn half_open_streams(&self) -> usize {
        self.half_open.load(Relaxed)
    }
}

/// What this side announces.
pub(crate) fn settings_of(role: Role, limits: &CommonConfig) -> Settings {
    let options = LocalOptions {
        max_sessions: SESSIONS_WITHOUT_FLOW_CONTROL,
        draft15: limits.draft15,
        max_field_section_size: MAX_FIELD_SECTION_SIZE,
        initial_max_data: limits.initial_max_data,
        initial_max_streams_bidi: limits.initial_max_streams_bidi,
        initial_max_streams_uni: limits.initial_max_streams_uni,
    };
    local_settings(role, &options)
}

/// Why a connection cannot carry sessions.
#[derive(Debug, Clone)]
pub enum Unready {
    /// The peer's SETTINGS name no dialect of ours.
    Unsupported(Unsupported),
    /// It ended before the SETTINGS came.
    Ended(ConnectionEnd),
}

/// Wait for the end of the connection; meanwhile see to this side's control stream, and turn away what waited too long for
/// its session.
fn supervise(
    connection: Arc<Connection>,
    place: Option<Active>,
    control: Option<ControlStream>,
) -> impl Future<Output = ()> + Send + 'static {
    // What is soon over takes no room for as long as the connection lives.
    let opened = Box::pin(control_stream::open(connection.clone(), control));
    async move {
        let _ = select(
            connection.quic.closed(),
            select(control_stream::send(&connection, opened), expire(&connection)),
        )
        .await;
        // Fills in who ended it, if it was not this side.
        let _ = connection.end();
        connection.stats.closed_at.set_once();
        connection.ended.open();
        connection.changed();
        if let Some(server) = &connection.server {
            server.connection_ended(&connection);
        }
        drop(place);
    }
}

/// Turn away what waited too long for its session.
async fn expire(connection: &Connection) -> Infallible {
    loop {
        let next = connection.registry.lock().next_timeout();
        let mut timer = next.map(|at| {
            connection
                .driver
                .sleep(at.saturating_duration_since(connection.driver.now()))
        });
        let due = poll_fn(|cx| timer.as_mut().map_or(Poll::Pending, |timer| Pin::new(timer).poll(cx)));
        let _ = select(connection.early_bell.notified(), due).await;
        let expired = connection.registry.lock().expire(connection.driver.now());
        for arrived in expired {
            connection.stats.streams_rejected.add(1);
            reject(arrived, Code::WT_BUFFERED_STREAM_REJECTED);
        }
    }
}

/// Go to the end of the driver's queue once.
pub(crate) async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return std::task::Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}
