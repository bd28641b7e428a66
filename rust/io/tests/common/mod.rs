//! Both ends of a connection on loopback, on either driver.
//!
//! A test is an `async fn situation(net: Net)`, listed in [`both_drivers!`]; it runs once with the thread driver and once
//! with the loop driver, each time with a time limit. Server and client have an event loop each, as two processes have.

#![allow(
    dead_code,
    unused_imports,
    unused_macros,
    unreachable_pub,
    reason = "each test file uses its part"
)]

pub mod event_loop;
pub mod peer;
pub mod raw;
pub mod relay;

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use wt_io::{
    certificate::{Certificate, generate_ecdsa},
    config::{ClientConfig, CommonConfig, CongestionControl, DatagramOverflow, Preset, ServerConfig, VerifyMode},
    connection::Connection,
    driver::DriverKind,
    proto::origin::OriginPolicy,
    session::Session,
};

pub use event_loop::EventLoop;
pub use peer::{Dialer, Listener, Pair, Peer};

/// No test needs more than a few seconds, on a machine that builds something else meanwhile.
const LIMIT: Duration = Duration::from_secs(60);

/// A pair of tests per situation, one for each driver.
macro_rules! both_drivers {
    ($($name:ident),* $(,)?) => {$(
        mod $name {
            #[test]
            fn on_the_io_thread() {
                crate::common::run(wt_io::driver::DriverKind::Thread, super::$name);
            }
            #[test]
            fn on_the_event_loop() {
                crate::common::run(wt_io::driver::DriverKind::Loop, super::$name);
            }
        }
    )*};
}
pub(crate) use both_drivers;

/// Run one situation with a time limit, on a thread of its own.
pub fn run<F: Future<Output = ()>>(kind: DriverKind, situation: impl FnOnce(Net) -> F + Send + 'static) {
    limited(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let net = Net::new(kind);
        let (born, loops) = (net.born.clone(), [net.server_loop.clone(), net.client_loop.clone()]);
        runtime.block_on(async {
            situation(net).await;
            born.all_freed().await;
        });
        drop(loops);
    });
}

/// Run `test` on a thread of its own; it fails when it takes too long, also when it blocks.
pub fn limited(test: impl FnOnce() + Send + 'static) {
    let (done, finished) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        test();
        let _ = done.send(());
    });
    if finished.recv_timeout(LIMIT) == Err(mpsc::RecvTimeoutError::Timeout) {
        panic!("not over after {LIMIT:?}");
    }
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Wait for a condition that nobody announces, such as memory that is freed.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < LIMIT / 4, "not reached: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Two event loops and a throw-away certificate.
pub struct Net {
    pub server_loop: Arc<EventLoop>,
    pub client_loop: Arc<EventLoop>,
    pub identity: Identity,
    born: Arc<Born>,
}

/// The connections and sessions of a test. When it is over and has dropped its handles, none of them must be left.
#[derive(Default)]
pub struct Born {
    connections: Mutex<Vec<Weak<Connection>>>,
    sessions: Mutex<Vec<Weak<Session>>>,
}

impl Born {
    pub fn connection(&self, connection: &Arc<Connection>) {
        let connection = Arc::downgrade(connection);
        self.connections.lock().expect("not poisoned").push(connection);
    }

    pub fn session(&self, session: &Arc<Session>) {
        self.sessions
            .lock()
            .expect("not poisoned")
            .push(Arc::downgrade(session));
    }

    async fn all_freed(&self) {
        eventually("the sessions are freed", || self.left().0 == 0).await;
        eventually("the connections are freed", || self.left().1 == 0).await;
    }

    /// Those that live: sessions, connections.
    pub fn left(&self) -> (usize, usize) {
        fn count<T>(born: &Mutex<Vec<Weak<T>>>) -> usize {
            let born = born.lock().expect("not poisoned");
            born.iter().filter(|one| one.strong_count() > 0).count()
        }
        (count(&self.sessions), count(&self.connections))
    }
}

impl Net {
    fn new(kind: DriverKind) -> Self {
        Self::on(EventLoop::start(kind), EventLoop::start(kind), Identity::new())
    }

    /// On loops of the caller's making, for the simulation.
    pub fn on(server_loop: EventLoop, client_loop: EventLoop, identity: Identity) -> Self {
        Self {
            born: Arc::default(),
            server_loop: Arc::new(server_loop),
            client_loop: Arc::new(client_loop),
            identity,
        }
    }

    /// What came to life on it.
    pub fn born(&self) -> Arc<Born> {
        self.born.clone()
    }

    pub fn server_config(&self) -> ServerConfig {
        ServerConfig {
            common: CommonConfig {
                certfile: Some(self.identity.certfile()),
                keyfile: Some(self.identity.keyfile()),
                verify_mode: VerifyMode::None,
                ..common_config()
            },
            max_connections: 100,
            max_sessions: 1,
            allowed_origins: OriginPolicy::Any,
            handshake_timeout: Duration::from_secs(10),
            max_pending_handshakes: 3000,
            retry_threshold: Some(128),
            stateless_reset_key: None,
            allow_migration: true,
            request_timeout: Duration::from_secs(30),
        }
    }

    /// Trusts the server's certificate by its hash.
    pub fn client_config(&self) -> ClientConfig {
        ClientConfig {
            common: common_config(),
            certificate_hashes: vec![self.identity.certificate.sha256],
        }
    }
}

/// The values that the Python configurations have by default, with a shorter idle timeout.
pub fn common_config() -> CommonConfig {
    CommonConfig {
        alpn_protocols: vec!["h3".into()],
        ca_certs: None,
        certfile: None,
        keyfile: None,
        verify_mode: VerifyMode::Required,
        close_timeout: Duration::from_secs(5),
        congestion_control: CongestionControl::Cubic,
        idle_timeout: Duration::from_secs(20),
        keep_alive: None,
        window_auto_scale: true,
        window_size: 1 << 20,
        initial_max_data: 0,
        initial_max_streams_bidi: 0,
        initial_max_streams_uni: 0,
        stream_increment_bidi: 10,
        stream_increment_uni: 10,
        max_incoming_streams: 100,
        max_pending_per_session: 16,
        max_pending_total: 1000,
        pending_ttl: Duration::from_secs(5),
        stream_buffer_size: 64 << 10,
        max_stream_buffer_size: 1 << 20,
        datagram_queue_size: 1000,
        datagram_overflow: DatagramOverflow::DropOldest,
        draft15: true,
        preset: Preset::Default,
    }
}

/// A certificate and its key, in files as the configurations want them. The files go when it is dropped.
pub struct Identity {
    pub certificate: Certificate,
    directory: PathBuf,
}

impl Identity {
    /// For `localhost` and both loopback addresses.
    pub fn new() -> Self {
        let names = ["localhost".into(), "127.0.0.1".into(), "::1".into()];
        Self::save(generate_ecdsa(&names, 10.0).expect("valid names"))
    }

    pub fn save(certificate: Certificate) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("identity-{}-{number}", std::process::id());
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&directory).expect("cargo's directory for tests is writable");
        let identity = Self { certificate, directory };
        std::fs::write(identity.certfile(), &identity.certificate.certificate).expect("writable");
        std::fs::write(identity.keyfile(), &identity.certificate.key).expect("writable");
        identity
    }

    pub fn certfile(&self) -> PathBuf {
        self.directory.join("certificate.pem")
    }

    pub fn keyfile(&self) -> PathBuf {
        self.directory.join("key.pem")
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Bytes that differ everywhere, so that a lost or doubled piece shows.
pub fn pattern(len: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut bytes: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .take(len.div_ceil(8))
    .flatten()
    .collect();
    bytes.truncate(len);
    bytes
}
