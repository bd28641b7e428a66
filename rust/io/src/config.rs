//! Transport values and their arithmetic: the one home of every limit that is not a public field of the Python configs.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use quinn::{EndpointConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt, congestion};
use wt_proto::{dialect::Role, flow_control::Policy, origin::OriginPolicy};
use wt_quic::{
    congestion::{SharedFactory, with_room},
    stream_limits::at_first,
};

use crate::{driver::Driver, stateless_reset::ResetKey};

/// Bytes of datagrams that may wait in one session, each way. 4 MiB is 3 600 full-sized datagrams, about 30 ms at 1 Gbit/s.
pub const DATAGRAM_QUEUE_BYTES: usize = 4 << 20;

/// Bytes that all streams of a session may hold in their send queues before the advertised send credit is 0: 16 streams
/// at the default high-water mark of 1 MiB.
pub const SESSION_SEND_BUDGET: usize = 16 << 20;

/// Streams that may fill their windows at the same time before QUIC's limit on a connection's unread data holds.
const FULL_STREAMS: u64 = 4;

/// Stream window with auto-scaling: 2-4 MiB per stream suffice for full speed on a path of 1 Gbit/s and 30 ms
/// (1 Gbit/s x 30 ms = 3.75 MB; performance.md 3).
const STREAM_WINDOW: u64 = 4 << 20;

/// The same for the preset `throughput`: 1 Gbit/s x 130 ms (Frankfurt to San Francisco) = 16 MB.
const LONG_STREAM_WINDOW: u64 = 16 << 20;

/// Data in flight or unacknowledged per connection: as much as a peer with the same windows lets through.
const SEND_WINDOW: u64 = FULL_STREAMS * STREAM_WINDOW;

/// The same for the preset `low_latency`: 100 Mbit/s x 80 ms. What is beyond it waits in front of QUIC, where the writer
/// feels it.
const SHORT_SEND_WINDOW: u64 = 1 << 20;

/// quinn's own datagram buffer. Small, because the session's queue before it knows priorities and ages: 128 KiB holds
/// about 110 packets, a few times the 20 that quinn sends per drive.
const DATAGRAM_SEND_BUFFER: usize = 128 << 10;

/// The same for the preset `low_latency`: 14 packets, which leave within 130 ms at 1 Mbit/s where 128 KiB take a second.
const SHORT_DATAGRAM_SEND_BUFFER: usize = 16 << 10;

/// Largest packets of the preset `jumbo`. Jumbo frames of Ethernet carry 9000 bytes; but quinn hands up to 10 packets to
/// the kernel at once, and UDP with GSO takes 65 507 bytes: 10 x 6000 fit, and above 6550 every large send fails.
const JUMBO_MTU: u16 = 6000;

/// How long the preset `jumbo` waits after a black hole before it looks for large packets again; quinn's own 60 s are
/// for paths of which nothing is known.
const JUMBO_COOLDOWN: Duration = Duration::from_secs(10);

/// Arrived datagrams that quinn holds for us: one full drain of the socket (32 receive buffers of 64 KiB) fits twice.
const DATAGRAM_RECEIVE_BUFFER: usize = 4 << 20;

/// Socket buffers: the default of 208 KiB loses packets in a burst. The kernel may grant less; see the statistics.
pub const SOCKET_BUFFER: usize = 4 << 20;

/// First guess of the round-trip time: the QUIC default of 333 ms makes the first retry of a lost Initial come after a second.
const INITIAL_RTT: Duration = Duration::from_millis(100);

/// Unidirectional streams that HTTP/3 itself needs from the peer: control, QPACK encoder, QPACK decoder (RFC 9114 6.2).
const HTTP3_UNI_STREAMS: u64 = 3;

/// Requests that QUIC lets a client open beyond the sessions it has: the next sessions, and plain HTTP. RFC 9114
/// section 6.1 wants at least 100. Each costs quinn an entry, so it is not `max_sessions`.
const SPARE_REQUESTS: u64 = 100;

/// Sessions of a connection that have ended and wait for the client's FIN, a second at most. A client that never sends it
/// cannot have more of them: each holds a stream, and with flow control raises QUIC's limits.
pub(crate) const LINGERING_SESSIONS: u64 = 16;

/// What the CONNECT streams of a connection may hold unread besides the sessions' data: capsules and header sections.
const CONNECT_WINDOW: u64 = 256 << 10;

/// Streams whose header has not arrived yet, per connection.
pub const MAX_HALF_OPEN_STREAMS: usize = 256;

/// How long a stream may take to say what it is.
pub const STREAM_HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a closed session waits for the peer's FIN on the CONNECT stream (protocol.md 10: about a second).
pub const CLOSE_ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a server keeps a connection after its last session was closed: Chromium handles the CLOSE capsule in a task of its
/// own and reports a lost connection if CONNECTION_CLOSE overtakes that (13 of 60 closes). Browsers close first.
pub const CLOSE_LINGER: Duration = Duration::from_millis(100);

/// Largest header section this side accepts, announced as SETTINGS_MAX_FIELD_SECTION_SIZE.
pub const MAX_FIELD_SECTION_SIZE: u64 = 64 << 10;

/// Session requests that wait for the application, per server; beyond that they are refused as retryable.
pub const MAX_PENDING_REQUESTS: usize = 1024;

/// Connection attempts that have arrived and that the accepting task has not seen. It sees all of them whenever it runs,
/// so this is what a burst within one turn of the driver may bring: 1024 Initial packets of 1.5 kB, with what quinn
/// remembers of each less than 3 MB. quinn drops further ones, and clients send them again.
pub const MAX_INCOMING: usize = 1024;

/// What may arrive behind the Initial packet of such an attempt. A ClientHello with a post-quantum key share takes two
/// packets, one with client certificates in its session ticket some more; nobody sends 0-RTT data, as it is not accepted.
pub const INCOMING_BUFFER: u64 = 16 << 10;

/// The same for all of them: as much as their first packets.
pub const INCOMING_BUFFERS: u64 = 2 << 20;

/// Least time between two stateless resets of a server. A restarted server tells its 3 000 clients within 3 s that it
/// does not know them any more, and sends less than 1.5 MB/s to whoever throws garbage at it (a reset is smaller than the
/// packet that it answers, RFC 9000 section 10.3.3).
pub const RESET_INTERVAL: Duration = Duration::from_millis(1);

/// Requests of plain HTTP in progress, per connection: more than the 121 streams that a client may open by default, so
/// that none is refused that QUIC has let in, and more than the 100 of RFC 9114 section 6.1.
pub const MAX_EXCHANGES: usize = 128;

/// Requests of plain HTTP in progress, per server: half the queue, so that session requests find room beside a flood.
/// Each may hold a header section and the content that its handler lets in: 512 x (64 KiB + 64 KiB) = 64 MiB by
/// default.
pub const MAX_SERVER_EXCHANGES: usize = MAX_PENDING_REQUESTS / 2;

/// Head start of a connection attempt before the next address is tried too (RFC 8305 section 5).
pub const CONNECTION_ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Longer than any process needs to wait, and short enough to be added to a clock.
pub(crate) const LONGEST_TIMER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Congestion controllers on offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CongestionControl {
    /// RFC 9438.
    Cubic,
    /// RFC 9002 section 7.
    NewReno,
    /// BBR version 1; 25 % slower on loopback.
    Bbr,
}

/// Transport values for a purpose; only what no field of [`CommonConfig`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Preset {
    /// Networks of any kind.
    #[default]
    Default,
    /// Bulk over long paths: windows of 16 MiB per stream and 64 MiB per connection, which may take as much memory.
    Throughput,
    /// Little that waits before it is sent: `window_size` is never exceeded, and what quinn holds is short, so that back-pressure,
    /// priorities and ages of datagrams count.
    LowLatency,
    /// Packets of up to 6000 bytes between ends that both have it. The endpoint's receive buffer is 12 MiB instead of 3.
    Jumbo,
}

impl Preset {
    fn stream_window(self) -> u64 {
        match self {
            Self::Default | Self::Jumbo => STREAM_WINDOW,
            Self::Throughput => LONG_STREAM_WINDOW,
            Self::LowLatency => 0,
        }
    }

    fn send_window(self) -> u64 {
        match self {
            Self::Default | Self::Jumbo => SEND_WINDOW,
            Self::Throughput => FULL_STREAMS * LONG_STREAM_WINDOW,
            Self::LowLatency => SHORT_SEND_WINDOW,
        }
    }

    fn datagram_send_buffer(self) -> usize {
        match self {
            Self::LowLatency => SHORT_DATAGRAM_SEND_BUFFER,
            Self::Default | Self::Throughput | Self::Jumbo => DATAGRAM_SEND_BUFFER,
        }
    }

    /// What the endpoint has to know besides: the size of packets that it takes, which it announces.
    pub fn endpoint_config(self, mut config: EndpointConfig) -> EndpointConfig {
        if self == Self::Jumbo {
            // Fails only below 1200.
            let _ = config.max_udp_payload_size(JUMBO_MTU);
        }
        config
    }

    /// Whether clients with these two can share a socket.
    pub fn shares_endpoint(self, other: Self) -> bool {
        (self == Self::Jumbo) == (other == Self::Jumbo)
    }
}

/// What `send_datagram` does when the queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatagramOverflow {
    /// The oldest entry of priority 0 makes room; with none, the new one is refused.
    DropOldest,
    /// The caller waits.
    Wait,
    /// The new one is refused.
    Error,
}

/// Peer certificates: whether and against what they are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifyMode {
    /// Not at all.
    None,
    /// Client: as `Required`. Server: a client certificate is checked when there is one.
    Optional,
    /// The peer must have a valid one.
    Required,
}

/// Fields that clients and servers share.
#[derive(Debug, Clone)]
pub struct CommonConfig {
    /// TLS application protocols, normally just `h3`.
    pub alpn_protocols: Vec<String>,
    /// PEM file of trusted roots; None: the system's.
    pub ca_certs: Option<PathBuf>,
    /// PEM file of this side's certificate chain.
    pub certfile: Option<PathBuf>,
    /// PEM file of its private key.
    pub keyfile: Option<PathBuf>,
    /// How peer certificates are checked.
    pub verify_mode: VerifyMode,
    /// Bound of a graceful close.
    pub close_timeout: Duration,
    /// Congestion controller.
    pub congestion_control: CongestionControl,
    /// QUIC idle timeout.
    pub idle_timeout: Duration,
    /// Interval of QUIC PINGs, at most half of the idle timeout; None: none.
    pub keep_alive: Option<Duration>,
    /// Let the windows be larger than `flow_control_window_size`.
    pub window_auto_scale: bool,
    /// Stream window in bytes.
    pub window_size: u64,
    /// Session limit on unread stream bytes; 0: none beyond QUIC's.
    pub initial_max_data: u64,
    /// Limit on concurrent bidirectional streams of the peer; 0: `max_incoming_streams`.
    pub initial_max_streams_bidi: u64,
    /// Limit on concurrent unidirectional streams of the peer; 0: `max_incoming_streams`.
    pub initial_max_streams_uni: u64,
    /// Bidirectional streams granted at a time, with flow control.
    pub stream_increment_bidi: u64,
    /// Unidirectional streams granted at a time, with flow control.
    pub stream_increment_uni: u64,
    /// Streams of the peer that may be open at once, per kind, when no session limit is set.
    pub max_incoming_streams: u64,
    /// Early streams and datagrams per unknown session.
    pub max_pending_per_session: usize,
    /// The same over all sessions of a connection.
    pub max_pending_total: usize,
    /// Their largest age.
    pub pending_ttl: Duration,
    /// Read-ahead per stream in bytes.
    pub stream_buffer_size: usize,
    /// High-water mark of a stream's send queue in bytes.
    pub max_stream_buffer_size: usize,
    /// Datagrams per session that may wait, each way.
    pub datagram_queue_size: usize,
    /// What a full send queue does.
    pub datagram_overflow: DatagramOverflow,
    /// Announce draft-15/16 (SETTINGS 0x2c7cf000).
    pub draft15: bool,
    /// Transport values that are none of the fields above.
    pub preset: Preset,
}

/// A client's configuration.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Shared fields.
    pub common: CommonConfig,
    /// SHA-256 hashes of the only certificates that are accepted; empty: ordinary verification.
    pub certificate_hashes: Vec<[u8; 32]>,
}

/// A server's configuration.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Shared fields.
    pub common: CommonConfig,
    /// Connections at once; further ones are refused.
    pub max_connections: usize,
    /// Sessions at once on one connection that flow control or an older dialect allows.
    pub max_sessions: u64,
    /// Which web pages may open sessions.
    pub allowed_origins: OriginPolicy,
    /// How long a handshake may take, whatever the idle timeout is.
    pub handshake_timeout: Duration,
    /// Unfinished handshakes at once; further ones are turned away.
    pub max_pending_handshakes: usize,
    /// From so many unfinished handshakes on, or half of `max_pending_handshakes`, a client has to show first that it receives at
    /// its address (Retry); None: never.
    pub retry_threshold: Option<usize>,
    /// What the tokens of stateless resets are derived from; None: something random.
    pub stateless_reset_key: Option<ResetKey>,
    /// Whether clients may change their address.
    pub allow_migration: bool,
    /// How long a client may take for each part of a request: its SETTINGS, a header section, the content of a plain
    /// request, and each piece of the response to one.
    pub request_timeout: Duration,
}

/// Limits of a QUIC connection that carries sessions with flow control.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QuicLimits {
    pub(crate) streams_bidi: u64,
    pub(crate) streams_uni: u64,
    pub(crate) window: VarInt,
}

impl CommonConfig {
    /// Concurrent streams of the peer: (bidirectional, unidirectional), as QUIC counts them.
    ///
    /// A configured limit is exact. The default has an eighth on top: quinn announces new credit only when an eighth of the
    /// limit has been given back, and a browser refuses to open a stream that it has no credit for. And some more: what it
    /// has beyond [`stream_limits::AT_FIRST`](wt_quic::stream_limits::AT_FIRST) must be more than an eighth as well.
    pub fn stream_limits(&self, role: Role) -> (u64, u64) {
        let slack = self.max_incoming_streams / 8 + 8;
        let or_default = |limit: u64| {
            if limit == 0 {
                self.max_incoming_streams.saturating_add(slack)
            } else {
                limit
            }
        };
        // One session per connection: its CONNECT stream comes on top on the server.
        let connect = u64::from(role == Role::Server);
        (
            or_default(self.initial_max_streams_bidi).saturating_add(connect),
            or_default(self.initial_max_streams_uni).saturating_add(HTTP3_UNI_STREAMS),
        )
    }

    /// The bytes that the peer may send before the application reads: QUIC's connection window.
    pub fn receive_window(&self) -> u64 {
        let window = FULL_STREAMS.saturating_mul(self.stream_window());
        if self.initial_max_data > 0 {
            window.min(self.initial_max_data)
        } else {
            window
        }
    }

    /// How sessions with flow control grant: each begins with the configured limits, or with QUIC's where none is set.
    pub(crate) fn flow_control(&self) -> Policy {
        let or_default = |limit: u64| if limit == 0 { self.max_incoming_streams } else { limit };
        Policy {
            window: self.window_size,
            max_window: if self.window_auto_scale {
                FULL_STREAMS * self.preset.stream_window()
            } else {
                0
            },
            unseen: self.stream_window(),
            streams_bidi: or_default(self.initial_max_streams_bidi),
            streams_uni: or_default(self.initial_max_streams_uni),
            increment_bidi: self.stream_increment_bidi,
            increment_uni: self.stream_increment_uni,
        }
    }

    /// What QUIC must let through for so many sessions with flow control, whose windows have this sum.
    pub(crate) fn quic_limits(&self, role: Role, sessions: u64, windows: u64) -> QuicLimits {
        let Policy {
            streams_bidi,
            streams_uni,
            ..
        } = self.flow_control();
        // quinn announces new credit in steps of an eighth of the limit; the session's limit must be the one that holds.
        let sum = |each: u64| {
            let sum = each.saturating_mul(sessions.max(1));
            sum.saturating_add(sum / 8 + 1)
        };
        let requests = match role {
            Role::Server => sessions + SPARE_REQUESTS,
            Role::Client => 0,
        };
        let varint = |value: u64| VarInt::from_u64(value).unwrap_or(VarInt::MAX);
        QuicLimits {
            streams_bidi: sum(streams_bidi).saturating_add(requests),
            streams_uni: sum(streams_uni).saturating_add(HTTP3_UNI_STREAMS),
            window: varint(windows.max(self.window_size).saturating_add(CONNECT_WINDOW)),
        }
    }

    fn stream_window(&self) -> u64 {
        if self.window_auto_scale {
            self.window_size.max(self.preset.stream_window())
        } else {
            self.window_size
        }
    }

    /// quinn's transport configuration, for connections of this driver.
    pub fn transport(&self, role: Role, driver: &Driver) -> Arc<TransportConfig> {
        let mut transport = TransportConfig::default();
        let (bidi, uni) = self.stream_limits(role);
        let varint = |value: u64| VarInt::from_u64(value).unwrap_or(VarInt::MAX);
        transport
            .max_concurrent_bidi_streams(at_first(bidi))
            .max_concurrent_uni_streams(at_first(uni))
            .stream_receive_window(varint(self.stream_window()))
            .receive_window(varint(self.receive_window()))
            .send_window(self.preset.send_window())
            .datagram_receive_buffer_size(Some(DATAGRAM_RECEIVE_BUFFER))
            .datagram_send_buffer_size(self.preset.datagram_send_buffer())
            .initial_rtt(INITIAL_RTT)
            // An idle timeout beyond 2^62 ms is no timeout.
            .max_idle_timeout(IdleTimeout::try_from(self.idle_timeout).ok())
            // A PING that comes after the end keeps nothing alive, and one that comes just before may be lost.
            .keep_alive_interval(
                self.keep_alive
                    .map(|interval| interval.min(self.idle_timeout / 2).min(LONGEST_TIMER)),
            )
            .congestion_controller_factory(self.congestion_controllers(driver));
        if self.preset == Preset::Jumbo {
            // They begin at 1200 bytes and grow to what arrives, in about ten round trips. A larger beginning, or a
            // larger minimum, would leave a path that is too narrow without an answer, and bulk no faster.
            let mut discovery = MtuDiscoveryConfig::default();
            discovery.upper_bound(JUMBO_MTU).black_hole_cooldown(JUMBO_COOLDOWN);
            transport.mtu_discovery_config(Some(discovery));
        }
        Arc::new(transport)
    }

    fn congestion_controllers(&self, driver: &Driver) -> SharedFactory {
        let factory: SharedFactory = match self.congestion_control {
            CongestionControl::Cubic => Arc::new(congestion::CubicConfig::default()),
            CongestionControl::NewReno => Arc::new(congestion::NewRenoConfig::default()),
            CongestionControl::Bbr => Arc::new(congestion::BbrConfig::default()),
        };
        let driver = driver.clone();
        with_room(factory, Arc::new(move || driver.now()))
    }
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// Host name or address.
    pub host: String,
    /// UDP port; 0: any free one.
    pub port: u16,
}

/// `::ffff:127.0.0.1` is 127.0.0.1 to everybody but the kernel.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
