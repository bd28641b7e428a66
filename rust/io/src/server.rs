//! Listening: one bound port, its handshakes, and the queue of what the application accepts.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc, Weak,
        atomic::{
            AtomicBool, AtomicUsize,
            Ordering::{AcqRel, Acquire},
        },
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use quinn::crypto::rustls::QuicServerConfig;
use tokio::sync::Notify;
use wt_proto::{dialect::Role, error_code::Code, origin::OriginPolicy, settings::Settings};

use crate::{
    bridge::{
        port::Port,
        ring::{WaitPoint, WaitQueue, wait_point},
    },
    config::{MAX_PENDING_REQUESTS, ServerConfig, canonical},
    connection::{Connection, Place, preface, settings_of},
    driver::Driver,
    endpoint::{self, Bound, SocketInfo},
    error::{ListenError, TlsConfigError},
    gate::Gate,
    http::Exchange,
    operation::Operation,
    session::Session,
    socket::ReleasableSocket,
    stateless_reset,
    stats::ServerStats,
    tls,
};

mod drain;
mod handshake;

pub(crate) use handshake::Active;

/// How long a closing server waits for its connections to be forgotten.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(1);

/// Something for the application.
#[derive(Debug)]
pub enum Accepted {
    /// A new connection; its sessions come after it.
    Connection(Arc<Connection>),
    /// A session request that waits for an answer.
    Request(Arc<Session>),
    /// A request of plain HTTP that waits for an answer.
    Exchange(Arc<Exchange>),
}

/// A bound server.
#[derive(Debug)]
pub struct Server {
    endpoint: quinn::Endpoint,
    socket: Arc<ReleasableSocket>,
    info: Arc<SocketInfo>,
    driver: Driver,
    address: SocketAddr,
    shared: Arc<ServerShared>,
}

/// What a server's connections see of it.
#[derive(Debug)]
pub struct ServerShared {
    port: Arc<Port>,
    queue: Mutex<VecDeque<Accepted>>,
    acceptable: WaitQueue,
    connections: Mutex<Vec<Weak<Connection>>>,
    /// Unfinished handshakes.
    pending: AtomicUsize,
    active: AtomicUsize,
    /// No new connections and sessions; it closes when those it has are done.
    draining: AtomicBool,
    request_ended: Notify,
    /// Requests of plain HTTP.
    pub(crate) exchanges: AtomicUsize,
    closed: AtomicBool,
    /// Opens when the port is released.
    released: Gate,
    /// Of its connections.
    pub(crate) settings: Arc<Settings>,
    /// What its control streams begin with, if that may be told before the handshake is over.
    early_preface: Option<Bytes>,
    pub(crate) origins: OriginPolicy,
    pub(crate) request_timeout: Duration,
    /// Counters.
    pub stats: ServerStats,
}

impl Server {
    /// [`Server::listen`] as an operation.
    pub fn listening(
        driver: &Driver,
        port: Arc<Port>,
        config: ServerConfig,
        host: String,
        number: u16,
    ) -> Arc<Operation<Result<Arc<Self>, ListenError>>> {
        let listen = Self::listen(driver.clone(), port.clone(), config, host, number);
        Operation::start(driver, port, listen, |listening| {
            if let Ok(server) = listening {
                server.driver.spawn(server.clone().close());
            }
        })
    }

    /// Load the certificate, resolve, bind, accept.
    pub async fn listen(
        driver: Driver,
        port: Arc<Port>,
        config: ServerConfig,
        host: String,
        number: u16,
    ) -> Result<Arc<Self>, ListenError> {
        let stats = ServerStats::default();
        let tls = QuicServerConfig::try_from(tls::server(&config, &stats.handshakes_resumed)?)
            .map_err(|error| TlsConfigError::Setting(error.to_string()))?;
        let mut crypto = quinn::ServerConfig::with_crypto(Arc::new(tls));
        crypto.transport_config(config.common.transport(Role::Server, &driver));
        handshake::configure(&mut crypto, &config);
        let failed = |reason: String| ListenError::Bind {
            address: format!("{host}:{number}"),
            reason,
        };
        let addresses = endpoint::resolve(&host, number)
            .await
            .map_err(|error| failed(error.to_string()))?;
        let mut last = failed("the name has no address".into());
        for address in prefer_v4(addresses) {
            let Bound { socket, buffers } = match driver.bind(address, address.ip().is_unspecified()) {
                Ok(bound) => bound,
                Err(error) => {
                    last = failed(explain(&error));
                    continue;
                }
            };
            let failed = |error: std::io::Error| failed(error.to_string());
            let info = SocketInfo::new(&socket, buffers);
            let socket = ReleasableSocket::new(socket).map_err(failed)?;
            let endpoint = driver
                .endpoint(
                    socket.clone(),
                    Some(crypto),
                    config
                        .common
                        .preset
                        .endpoint_config(stateless_reset::endpoint_config(config.stateless_reset_key.as_ref())),
                )
                .map_err(failed)?;
            endpoint::remember(&endpoint);
            let address = canonical(endpoint.local_addr().map_err(failed)?);
            let settings = Arc::new(settings_of(Role::Server, &config.common));
            let shared = Arc::new(ServerShared {
                port,
                queue: Mutex::default(),
                acceptable: WaitQueue::default(),
                connections: Mutex::default(),
                pending: AtomicUsize::new(0),
                active: AtomicUsize::new(0),
                draining: AtomicBool::new(false),
                request_ended: Notify::new(),
                exchanges: AtomicUsize::new(0),
                closed: AtomicBool::new(false),
                released: Gate::default(),
                early_preface: (!tls::asks_clients(&config.common)).then(|| preface(&settings)),
                settings,
                origins: config.allowed_origins.clone(),
                request_timeout: config.request_timeout,
                stats,
            });
            driver.spawn(accept(
                endpoint.clone(),
                driver.clone(),
                shared.clone(),
                Arc::new(config),
                info.clone(),
            ));
            return Ok(Arc::new(Self {
                endpoint,
                socket,
                info,
                driver,
                address,
                shared,
            }));
        }
        Err(last)
    }

    /// Who runs it.
    pub fn driver(&self) -> &Driver {
        &self.driver
    }

    /// The address it listens on, with the real port.
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// What there is to know of its socket.
    pub fn socket(&self) -> &SocketInfo {
        &self.info
    }

    /// Counters.
    pub fn stats(&self) -> &ServerStats {
        &self.shared.stats
    }

    /// Connections that live.
    pub fn connection_count(&self) -> usize {
        self.shared
            .connections
            .lock()
            .iter()
            .filter(|connection| connection.strong_count() > 0)
            .count()
    }

    /// Handshakes that are under way.
    pub fn pending_handshakes(&self) -> usize {
        self.shared.pending.load(Acquire)
    }

    /// The next new connection or session request; `Err` once the server is closed and nothing is left.
    pub fn try_accept(&self) -> Result<Option<Accepted>, Closed> {
        match self.shared.queue.lock().pop_front() {
            Some(accepted) => Ok(Some(accepted)),
            None if self.shared.closed.load(Acquire) => Err(Closed),
            None => Ok(None),
        }
    }

    /// Whether somebody waits already.
    pub fn has_accept_waiters(&self) -> bool {
        self.shared.acceptable.has_waiters()
    }

    /// Ready when `try_accept` has something, or the server is closed.
    pub fn acceptable(self: &Arc<Self>) -> Box<dyn WaitPoint> {
        wait_point(
            self.shared.clone(),
            |this| &this.acceptable,
            |this| !this.queue.lock().is_empty() || this.closed.load(Acquire),
        )
    }

    /// Stop accepting, close every connection and release the port. Idempotent.
    ///
    /// # Cancel safety
    /// The release goes on without the caller.
    pub async fn close(self: Arc<Self>) {
        if !self.shared.closed.swap(true, AcqRel) {
            // Each by itself first: the endpoint's close does not leave while data fills the congestion window.
            for connection in self.shared.live() {
                connection.close(Code::H3_NO_ERROR.0, "the server is shutting down");
            }
            self.endpoint
                .close(quinn_code(Code::H3_NO_ERROR), b"the server is shutting down");
            endpoint::forget(&self.endpoint);
            self.driver.spawn(self.clone().release());
        }
        self.shared.released.passed().await;
    }

    async fn release(self: Arc<Self>) {
        let connections: Vec<_> = std::mem::take(&mut *self.shared.connections.lock());
        for connection in connections.iter().filter_map(Weak::upgrade) {
            connection.close(Code::H3_NO_ERROR.0, "the server is shutting down");
            connection.lost().await;
        }
        self.shared.acceptable.notify_all(&self.shared.port);
        // Closed connections answer late packets for three probe timeouts (RFC 9000 section 10.2), then they are gone.
        self.driver.timeout(RELEASE_TIMEOUT, self.endpoint.wait_idle()).await;
        self.socket.release();
        self.shared.released.open();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nobody can accept any more. What waits in the queue would keep it, and itself, for ever.
        self.endpoint
            .close(quinn_code(Code::H3_NO_ERROR), b"the server is shutting down");
        endpoint::forget(&self.endpoint);
        let unwanted = std::mem::take(&mut *self.shared.queue.lock());
        drop(unwanted);
    }
}

/// The server is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed;

impl ServerShared {
    /// A request of either kind; an error when too many wait.
    pub(crate) fn push_request(&self, request: Accepted) -> Result<(), ()> {
        {
            let mut queue = self.queue.lock();
            if queue.len() >= MAX_PENDING_REQUESTS || self.closed.load(Acquire) {
                self.stats.requests_rejected.add(1);
                return Err(());
            }
            queue.push_back(request);
        }
        self.acceptable.notify_one(&self.port);
        Ok(())
    }

    pub(crate) fn connection_ended(&self, ended: &Arc<Connection>) {
        self.connections
            .lock()
            .retain(|connection| connection.upgrade().is_some_and(|live| !Arc::ptr_eq(&live, ended)));
    }

    fn push_connection(&self, connection: Arc<Connection>) {
        self.connections.lock().push(Arc::downgrade(&connection));
        self.queue.lock().push_back(Accepted::Connection(connection));
        self.acceptable.notify_one(&self.port);
    }
}

/// Take connection attempts until the endpoint is closed.
async fn accept(
    endpoint: quinn::Endpoint,
    driver: Driver,
    shared: Arc<ServerShared>,
    config: Arc<ServerConfig>,
    socket: Arc<SocketInfo>,
) {
    let limits = Arc::new(config.common.clone());
    let place = Place {
        driver: driver.clone(),
        port: shared.port.clone(),
        socket,
    };
    let (max_connections, max_sessions) = (config.max_connections, config.max_sessions);
    let handshake_timeout = config.handshake_timeout;
    while let Some(incoming) = endpoint.accept().await {
        let Some((incoming, pending)) = shared.admit(incoming, &config) else {
            continue;
        };
        let (place, limits, shared) = (place.clone(), limits.clone(), shared.clone());
        driver.spawn(async move {
            let handshake = shared.handshake(incoming, pending, &place.driver, handshake_timeout);
            let Some((quic, control)) = handshake.await else {
                return;
            };
            let Some(active) = shared.take_place(&quic, max_connections) else {
                return;
            };
            shared.stats.connections_accepted.add(1);
            let connection = Connection::start(
                quic,
                place.clone(),
                Role::Server,
                limits,
                max_sessions,
                Some(active),
                control,
            );
            shared.push_connection(connection.clone());
            if shared.is_draining() {
                // It began while this was under way.
                connection.go_away();
            }
        });
    }
}

fn quinn_code(code: Code) -> quinn::VarInt {
    quinn::VarInt::from_u64(code.0).unwrap_or(quinn::VarInt::MAX)
}

/// A name such as `localhost` listens on IPv4, as in 0.8.1, where clients of any kind reach it.
fn prefer_v4(mut addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    addresses.sort_by_key(SocketAddr::is_ipv6);
    addresses
}

fn explain(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => "the port is in use by another program".into(),
        std::io::ErrorKind::PermissionDenied => "no permission: ports below 1024 need privileges".into(),
        std::io::ErrorKind::AddrNotAvailable => "this machine has no such address".into(),
        _ => error.to_string(),
    }
}
