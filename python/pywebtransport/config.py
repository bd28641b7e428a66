"""Configuration of clients and servers.

Configurations are validated when they are made and when `update()` makes a new one from them. Assigning to a field
afterwards is possible; call `validate()` then. Times are seconds, sizes are bytes. Every default has its home in
`pywebtransport.constants`.
"""

from __future__ import annotations

import copy
import ssl
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Self

from pywebtransport import _config_rules as rules
from pywebtransport.constants import (
    DEFAULT_ACCESS_LOG,
    DEFAULT_ALLOW_MIGRATION,
    DEFAULT_ALLOW_POOLING,
    DEFAULT_ALLOWED_ORIGINS,
    DEFAULT_ALPN_PROTOCOLS,
    DEFAULT_AUTO_RECONNECT,
    DEFAULT_BIND_HOST,
    DEFAULT_BUFFER_SIZE,
    DEFAULT_CERTFILE,
    DEFAULT_CLIENT_MAX_CONNECTIONS,
    DEFAULT_CLIENT_VERIFY_MODE,
    DEFAULT_CLOSE_TIMEOUT,
    DEFAULT_CONGESTION_CONTROL_ALGORITHM,
    DEFAULT_CONNECT_TIMEOUT,
    DEFAULT_CONNECTION_CLEANUP_INTERVAL,
    DEFAULT_CONNECTION_IDLE_CHECK_INTERVAL,
    DEFAULT_CONNECTION_IDLE_TIMEOUT,
    DEFAULT_CONNECTION_KEEPALIVE_TIMEOUT,
    DEFAULT_DATAGRAM_OVERFLOW,
    DEFAULT_DATAGRAM_QUEUE_SIZE,
    DEFAULT_DEBUG,
    DEFAULT_DEV_PORT,
    DEFAULT_DRIVER,
    DEFAULT_ENABLE_DRAFT15,
    DEFAULT_FLOW_CONTROL_WINDOW_AUTO_SCALE,
    DEFAULT_FLOW_CONTROL_WINDOW_SIZE,
    DEFAULT_HANDSHAKE_TIMEOUT,
    DEFAULT_HTTP_TIMEOUT,
    DEFAULT_INITIAL_MAX_DATA,
    DEFAULT_INITIAL_MAX_STREAMS_BIDI,
    DEFAULT_INITIAL_MAX_STREAMS_UNI,
    DEFAULT_KEEP_ALIVE,
    DEFAULT_KEYFILE,
    DEFAULT_LOG_LEVEL,
    DEFAULT_MAX_DATAGRAM_SIZE,
    DEFAULT_MAX_INCOMING_STREAMS,
    DEFAULT_MAX_PENDING_EVENTS_PER_SESSION,
    DEFAULT_MAX_PENDING_HANDSHAKES,
    DEFAULT_MAX_RETRIES,
    DEFAULT_MAX_RETRY_DELAY,
    DEFAULT_MAX_SESSIONS,
    DEFAULT_MAX_STREAMS,
    DEFAULT_MAX_STREAMS_PER_CONNECTION,
    DEFAULT_MAX_TOTAL_PENDING_EVENTS,
    DEFAULT_PENDING_EVENT_TTL,
    DEFAULT_PRESET,
    DEFAULT_PROXY_CONNECT_TIMEOUT,
    DEFAULT_READ_TIMEOUT,
    DEFAULT_RETRY_BACKOFF,
    DEFAULT_RETRY_DELAY,
    DEFAULT_RETRY_THRESHOLD,
    DEFAULT_RPC_CONCURRENCY_LIMIT,
    DEFAULT_SERVER_MAX_CONNECTIONS,
    DEFAULT_SERVER_VERIFY_MODE,
    DEFAULT_SESSION_CLEANUP_INTERVAL,
    DEFAULT_STATELESS_RESET_KEY,
    DEFAULT_STREAM_CLEANUP_INTERVAL,
    DEFAULT_STREAM_CREATION_TIMEOUT,
    DEFAULT_STREAM_FLOW_CONTROL_INCREMENT_BIDI,
    DEFAULT_STREAM_FLOW_CONTROL_INCREMENT_UNI,
    DEFAULT_WRITE_TIMEOUT,
    MAX_BUFFER_SIZE,
    MAX_DATAGRAM_SIZE,
    SUPPORTED_CONGESTION_CONTROL_ALGORITHMS,
    SUPPORTED_DATAGRAM_OVERFLOWS,
    SUPPORTED_DRIVERS,
    SUPPORTED_PRESETS,
    USER_AGENT_HEADER,
)
from pywebtransport.exceptions import invalid_config
from pywebtransport.types import Headers, MiddlewareProtocol
from pywebtransport.utils import generate_dev_certificate, get_logger
from pywebtransport.version import __version__

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    _Base = DataclassInstance
else:
    _Base = object

__all__: list[str] = ["ClientConfig", "ProxyConfig", "ServerConfig"]

logger = get_logger(__name__)


class _Config(_Base):
    """What client and server configurations have in common."""

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any]) -> Self:
        """Make a configuration from a dictionary, such as `to_dict()` returns; unknown keys are dropped.

        Raises:
            ConfigurationError: a value is not valid.
            CertificateError: a named file does not exist.
        """
        known = {item.name for item in fields(cls)}
        values = {key: value for key, value in config_dict.items() if key in known}
        if values.get("verify_mode") in ssl.VerifyMode.__members__:
            values["verify_mode"] = ssl.VerifyMode[values["verify_mode"]]
        return cls(**values)

    def copy(self) -> Self:
        """Return a deep copy; only middleware objects are shared."""
        shared = {id(item): item for item in getattr(self, "middleware", ())}
        return copy.deepcopy(self, shared)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields: `verify_mode` as its name, everything else as it is (not copied)."""
        result = {item.name: getattr(self, item.name) for item in fields(self)}
        if isinstance(result["verify_mode"], ssl.VerifyMode):
            result["verify_mode"] = result["verify_mode"].name
        return result

    def update(self, **kwargs: Any) -> Self:
        """Return a validated copy with other values; this configuration stays as it is.

        Raises:
            ConfigurationError: a key is not a field, or a value is not valid.
            CertificateError: a named file does not exist.
        """
        known = {item.name for item in fields(self)}
        result = self.copy()
        for key, value in kwargs.items():
            if key not in known:
                raise invalid_config(key, value, "unknown configuration key")
            setattr(result, key, value)
        result._normalize(self)
        result.validate()
        return result

    def validate(self) -> None:
        """Raise ConfigurationError or CertificateError for the first value that is not valid."""
        if not self.alpn_protocols:
            raise invalid_config("alpn_protocols", self.alpn_protocols, "cannot be empty")
        rules.check_choice(self, "congestion_control_algorithm", SUPPORTED_CONGESTION_CONTROL_ALGORITHMS)
        rules.check_choice(self, "datagram_overflow", SUPPORTED_DATAGRAM_OVERFLOWS)
        rules.check_choice(self, "driver", SUPPORTED_DRIVERS)
        rules.check_choice(self, "preset", SUPPORTED_PRESETS)
        rules.check_timeouts(
            self,
            "close_timeout",
            "connection_cleanup_interval",
            "connection_idle_check_interval",
            "connection_idle_timeout",
            "connection_keepalive_timeout",
            "pending_event_ttl",
            "read_timeout",
            "stream_cleanup_interval",
            "stream_creation_timeout",
            "write_timeout",
        )
        rules.check_positive(
            self,
            "datagram_queue_size",
            "flow_control_window_size",
            "max_connections",
            "max_incoming_streams",
            "max_pending_events_per_session",
            "max_total_pending_events",
            "rpc_concurrency_limit",
            "stream_buffer_size",
            "stream_flow_control_increment_bidi",
            "stream_flow_control_increment_uni",
        )
        rules.check_minimum(self, "max_datagram_size", 1, "must be 1-65535")
        if self.max_datagram_size > MAX_DATAGRAM_SIZE:
            raise invalid_config("max_datagram_size", self.max_datagram_size, "must be 1-65535")
        rules.check_minimum(self, "max_stream_buffer_size", self.stream_buffer_size, "must be >= stream_buffer_size")
        rules.check_subprotocols(self)
        rules.check_certificates(self)

    def _apply_logging(self) -> None:
        """Set the level of the logger "pywebtransport"; clients and servers call it when they start."""
        level = "DEBUG" if self.debug else self.log_level
        try:
            get_logger("pywebtransport").setLevel(level.upper())
        except (AttributeError, TypeError, ValueError):
            logger.warning("Unknown log level %r", level)

    def _normalize(self, previous: Self | None = None) -> None:
        """Bring the values into their one form; `previous` is the configuration that `update()` started from."""

    if TYPE_CHECKING:  # the fields that both dataclasses declare
        alpn_protocols: list[str]
        debug: bool
        log_level: str
        max_datagram_size: int
        stream_buffer_size: int
        subprotocols: list[str]


@dataclass(kw_only=True)
class ClientConfig(_Config):
    """Configuration of a client.

    Attributes:
        allow_pooling: let sessions share a connection with other sessions to the same host and port whose settings are
            equal (headers may differ), also those of other clients on this event loop. Needs flow control at both ends:
            set `initial_max_data` or an `initial_max_streams_*`, here and at the server; else every session has a
            connection of its own.
        alpn_protocols: ALPN names offered or accepted; WebTransport over HTTP/3 needs "h3".
        auto_reconnect: reconnect after a lost session. Without effect until `ReconnectingClient` is in.
        ca_certs: PEM file of the authorities to trust; None: those of the operating system.
        certfile: PEM file of the client's certificate; together with `keyfile`.
        close_timeout: bound of a graceful close, in seconds; what is not delivered by then is given up.
        congestion_control_algorithm: "cubic" or "reno".
        connect_timeout: seconds for name resolution, handshake and the server's answer together.
        connection_cleanup_interval: seconds between two sweeps of the connection manager over closed connections.
        connection_idle_check_interval: seconds between two sweeps of the connection manager over idle connections.
        connection_idle_timeout: QUIC's idle timeout: a connection without any traffic for so many seconds is lost. The
            shorter one of both ends holds. None: this end has none.
        connection_keepalive_timeout: seconds between two QUIC PINGs when `keep_alive` is on; at most half of
            `connection_idle_timeout`, which holds when this is longer. To keep the connection alive it must be below
            the idle timeout of the other end too.
        datagram_overflow: what `send()` does when the outgoing queue is full: "drop_oldest" evicts the oldest entry of
            priority 0, "wait" waits for room (use it for bulk), "error" raises DatagramError. A full incoming queue
            always drops its oldest entry and counts it.
        datagram_queue_size: entries that wait for sending, and for receiving, per session; besides 4 MiB each way.
        debug: log at level DEBUG, whatever `log_level` says.
        driver: where the transport runs: "loop" (on the event loop's own thread, for the lowest latency; while Python
            blocks that, a thread stands in for it), "thread" (always on one I/O thread of the process, which leaves
            more of a busy event loop to the handlers if another core is idle) or "auto": loop.
        enable_draft15: announce draft-15 and -16 (SETTINGS 0x2c7cf000 = 1) besides the older dialects that browsers
            speak. Peers that know only the newest drafts need it. Those drafts also demand the QUIC extension
            RESET_STREAM_AT, so a peer that insists on it may pick draft-15 and give up where an older dialect would
            have worked: then switch it off.
        flow_control_window_auto_scale: let the receive window grow while the reader keeps up.
        flow_control_window_size: receive window at the start, in bytes: what a peer may send before it is read.
        headers: sent with every session request, before those of the client and of the call. Names become lower case;
            `user-agent` is added when missing.
        initial_max_data: stream bytes that the server may send on a session before any of them is read; then
            `flow_control_window_size` holds. 0: no session limit is announced, QUIC's limits hold. This or one of the
            next two above 0 turns WebTransport flow control on, with servers that announce theirs; with others the
            same limit holds through QUIC.
        initial_max_streams_bidi: bidirectional streams of the server that may be open on a session. 0: none announced.
        initial_max_streams_uni: unidirectional streams of the server that may be open on a session. 0: none announced.
        keep_alive: send QUIC PINGs on an idle connection (nothing to do with TCP keep-alive).
        keyfile: PEM file of the client's key.
        log_level: level of the logger "pywebtransport", by name. Not validated.
        max_connections: connections of one client at the same time.
        max_datagram_size: 1 to 65535; checked, but without effect: the core always announces the QUIC transport
            parameter max_datagram_frame_size as 65535. What fits a packet is `max_datagram_size` of the transport.
        max_incoming_streams: streams of the peer, per kind, that may be open at once when no session limit is set;
            beyond it the peer's next stream waits (Chromium's fails at once), the connection goes on. QUIC's credit
            begins at 104 and doubles as it is used, so that a large limit costs no memory unused.
        max_pending_events_per_session: early streams and datagrams kept for one session whose request has not arrived
            yet.
        max_retries: failed attempts in a row after which `ReconnectingClient` stops. Without effect until it is in.
        max_retry_delay: longest pause between two attempts, in seconds. Without effect as `max_retries`.
        max_stream_buffer_size: bytes that wait for sending, per stream; `write()` waits above it.
        max_streams: streams of its own that a session may have open.
        max_total_pending_events: early streams and datagrams kept in all.
        pending_event_ttl: seconds that an early stream or datagram is kept.
        preset: transport values for a purpose, of which no other field speaks; a field always does what it says, and
            presets change none. None or "default": networks of any kind. "throughput": bulk over long paths; windows
            grow to 16 MiB per stream and 64 MiB per connection instead of 4 and 16 (unless
            `flow_control_window_auto_scale` is off), and memory with them. "low_latency": little waits in the
            transport; windows stay at `flow_control_window_size`, so that a slow reader is felt early, and datagrams
            stay longer in their queue, where priorities and ages count, on a slow path above all. "jumbo": packets of
            up to 6000 bytes, for networks with jumbo frames and for loopback; about twice the speed of bulk. Both ends
            need it, else packets stay as they are. A path that does not carry them is found out: they start at 1200
            bytes and grow only to what arrives, as `connection.diagnostics.mtu` tells.
        proxy: HTTP proxy. A connect with one fails with a clear text until CONNECT-UDP (RFC 9298) is in.
        read_timeout: seconds a stream read waits before TimeoutError; None: no limit.
        retry_backoff: factor between two pauses, at least 1. Without effect as `max_retries`.
        retry_delay: first pause, in seconds. Without effect as `max_retries`.
        rpc_concurrency_limit: RPC calls of a peer that run at the same time. Without effect until `pywebtransport.rpc`
            is in.
        server_certificate_hashes: SHA-256 of the DER certificates to accept instead of checking a chain, as browsers do
            it: bytes, or hex text with or without colons. Empty: check the chain.
        stream_buffer_size: bytes read ahead of the application, per stream.
        stream_cleanup_interval: seconds between two sweeps of a stream manager; closed streams stop counting at once,
            without it.
        stream_creation_timeout: seconds to wait for the peer's credit when opening a stream.
        stream_flow_control_increment_bidi: bidirectional streams granted at a time under a session limit.
        stream_flow_control_increment_uni: unidirectional streams granted at a time under a session limit.
        subprotocols: names of the application's protocols to offer, the most preferred first; the server picks one of
            them or none, see `session.subprotocol`. Printable ASCII, 1 to 512 characters each.
        user_agent: value of the `user-agent` header when `headers` has none.
        verify_mode: CERT_NONE checks neither the chain nor the host name; all else, and None, checks both.
        write_timeout: seconds a stream write waits for room before TimeoutError; None: no limit.
    """

    allow_pooling: bool = DEFAULT_ALLOW_POOLING
    alpn_protocols: list[str] = field(default_factory=lambda: list(DEFAULT_ALPN_PROTOCOLS))
    auto_reconnect: bool = DEFAULT_AUTO_RECONNECT
    ca_certs: str | None = None
    certfile: str | None = None
    close_timeout: float = DEFAULT_CLOSE_TIMEOUT
    congestion_control_algorithm: str = DEFAULT_CONGESTION_CONTROL_ALGORITHM
    connect_timeout: float = DEFAULT_CONNECT_TIMEOUT
    connection_cleanup_interval: float = DEFAULT_CONNECTION_CLEANUP_INTERVAL
    connection_idle_check_interval: float = DEFAULT_CONNECTION_IDLE_CHECK_INTERVAL
    connection_idle_timeout: float = DEFAULT_CONNECTION_IDLE_TIMEOUT
    connection_keepalive_timeout: float = DEFAULT_CONNECTION_KEEPALIVE_TIMEOUT
    datagram_overflow: str = DEFAULT_DATAGRAM_OVERFLOW
    datagram_queue_size: int = DEFAULT_DATAGRAM_QUEUE_SIZE
    debug: bool = DEFAULT_DEBUG
    driver: str = DEFAULT_DRIVER
    enable_draft15: bool = DEFAULT_ENABLE_DRAFT15
    flow_control_window_auto_scale: bool = DEFAULT_FLOW_CONTROL_WINDOW_AUTO_SCALE
    flow_control_window_size: int = DEFAULT_FLOW_CONTROL_WINDOW_SIZE
    headers: Headers = field(default_factory=dict)
    initial_max_data: int = DEFAULT_INITIAL_MAX_DATA
    initial_max_streams_bidi: int = DEFAULT_INITIAL_MAX_STREAMS_BIDI
    initial_max_streams_uni: int = DEFAULT_INITIAL_MAX_STREAMS_UNI
    keep_alive: bool = DEFAULT_KEEP_ALIVE
    keyfile: str | None = None
    log_level: str = DEFAULT_LOG_LEVEL
    max_connections: int = DEFAULT_CLIENT_MAX_CONNECTIONS
    max_datagram_size: int = DEFAULT_MAX_DATAGRAM_SIZE
    max_incoming_streams: int = DEFAULT_MAX_INCOMING_STREAMS
    max_pending_events_per_session: int = DEFAULT_MAX_PENDING_EVENTS_PER_SESSION
    max_retries: int = DEFAULT_MAX_RETRIES
    max_retry_delay: float = DEFAULT_MAX_RETRY_DELAY
    max_stream_buffer_size: int = MAX_BUFFER_SIZE
    max_streams: int = DEFAULT_MAX_STREAMS
    max_total_pending_events: int = DEFAULT_MAX_TOTAL_PENDING_EVENTS
    pending_event_ttl: float = DEFAULT_PENDING_EVENT_TTL
    preset: str | None = DEFAULT_PRESET
    proxy: ProxyConfig | None = None
    read_timeout: float | None = DEFAULT_READ_TIMEOUT
    retry_backoff: float = DEFAULT_RETRY_BACKOFF
    retry_delay: float = DEFAULT_RETRY_DELAY
    rpc_concurrency_limit: int = DEFAULT_RPC_CONCURRENCY_LIMIT
    server_certificate_hashes: list[bytes] = field(default_factory=list)
    stream_buffer_size: int = DEFAULT_BUFFER_SIZE
    stream_cleanup_interval: float = DEFAULT_STREAM_CLEANUP_INTERVAL
    stream_creation_timeout: float = DEFAULT_STREAM_CREATION_TIMEOUT
    stream_flow_control_increment_bidi: int = DEFAULT_STREAM_FLOW_CONTROL_INCREMENT_BIDI
    stream_flow_control_increment_uni: int = DEFAULT_STREAM_FLOW_CONTROL_INCREMENT_UNI
    subprotocols: list[str] = field(default_factory=list)
    user_agent: str = f"pywebtransport/{__version__}"
    verify_mode: ssl.VerifyMode | None = DEFAULT_CLIENT_VERIFY_MODE
    write_timeout: float | None = DEFAULT_WRITE_TIMEOUT

    def __post_init__(self) -> None:
        """Normalise headers and hashes, then validate."""
        self._normalize()
        self.validate()

    @classmethod
    def create_for_development(cls, verify_ssl: bool = False) -> Self:
        """Return a configuration that logs at DEBUG and, unless `verify_ssl`, accepts any certificate."""
        return cls(
            verify_mode=ssl.CERT_REQUIRED if verify_ssl else ssl.CERT_NONE,
            debug=True,
            log_level="DEBUG",
        )

    @classmethod
    def create_for_production(
        cls, ca_certs: str | None = None, certfile: str | None = None, keyfile: str | None = None
    ) -> Self:
        """Return a configuration that checks the server's certificate.

        Args:
            ca_certs: PEM file of the authorities to trust; None: those of the operating system.
            certfile: PEM file of the client's certificate.
            keyfile: PEM file of its key.

        Raises:
            CertificateError: a named file does not exist.
            ConfigurationError: certificate and key do not come together.
        """
        return cls(ca_certs=ca_certs, certfile=certfile, keyfile=keyfile, verify_mode=ssl.CERT_REQUIRED)

    def validate(self) -> None:
        """Raise ConfigurationError or CertificateError for the first value that is not valid."""
        super().validate()
        rules.check_timeouts(self, "connect_timeout")
        if self.proxy is not None:
            rules.check_timeout("proxy.connect_timeout", self.proxy.connect_timeout)
        rules.check_minimum(self, "max_retries", 0, "must be non-negative")
        rules.check_positive(self, "max_retry_delay")
        rules.check_minimum(self, "retry_backoff", 1, "must be >= 1.0")
        rules.check_positive(self, "retry_delay", "max_streams")
        rules.check_verify_mode(self, optional=True)

    def _with_request(self, headers: Headers, subprotocols: list[str] | None) -> Self:
        """Return a copy for one request, with these headers besides and these subprotocols instead.

        Nothing else is copied or checked again: a connect needs no look at the disk.

        Raises:
            ConfigurationError: a subprotocol is not valid.
        """
        result = copy.copy(self)
        result.headers = {**self.headers, **rules.normalize_headers(headers)}
        if subprotocols is not None:
            result.subprotocols = subprotocols
            rules.check_subprotocols(result)
        return result

    def _normalize(self, previous: Self | None = None) -> None:
        self.headers = rules.normalize_headers(self.headers)
        self.server_certificate_hashes = rules.normalize_hashes(self.server_certificate_hashes)
        # A header that was only a copy of the old user_agent follows the new one.
        if previous is not None and self.headers.get(USER_AGENT_HEADER) == previous.user_agent:
            del self.headers[USER_AGENT_HEADER]
        self.headers.setdefault(USER_AGENT_HEADER, self.user_agent)


@dataclass(kw_only=True)
class ProxyConfig:
    """An HTTP proxy to connect through.

    Attributes:
        url: URL of the proxy, with host and port.
        headers: sent to the proxy.
        connect_timeout: seconds to reach it.
    """

    url: str
    headers: Headers = field(default_factory=dict)
    connect_timeout: float = DEFAULT_PROXY_CONNECT_TIMEOUT


@dataclass(kw_only=True)
class ServerConfig(_Config):
    """Configuration of a server.

    Attributes:
        access_log: log one line per session request.
        allow_migration: let clients go on from another address, as when a phone leaves the wifi or a router forgets its
            mapping; the new one is validated first. False: packets from elsewhere are dropped, and such a connection
            ends by its idle timeout.
        allowed_origins: the web pages that may open sessions, by the Origin header that every browser sends. None: all
            pages, as in 0.8.1; right only for a service that is open to everybody. "same-origin": pages of the host and
            port that they connect to; choose it when the pages come from there. A list: pages of these origins, such as
            ["https://example.org", "https://*.example.org", "https://localhost:*"]; choose it for everything else,
            above all when cookies, the client's address or a private network decide who may do what. "*." stands for
            one or more subdomains, ":*" for every port, "null" for files and sandboxed frames. Others are refused with
            403, before middleware and handlers. A request without Origin passes: it comes from a program that is no
            browser and could send whatever it liked.
        alpn_protocols: ALPN names offered or accepted; WebTransport over HTTP/3 needs "h3".
        bind_host: address or name to listen on.
        bind_port: UDP port to listen on, 1 to 65535. For a free port of the system call `listen(port=0)`.
        ca_certs: PEM file of the authorities that client certificates must come from.
        certfile: PEM file of the certificate chain. Without one the configuration is valid, but `listen()` fails.
        close_timeout: bound of a graceful close, in seconds; what is not delivered by then is given up.
        congestion_control_algorithm: "cubic" or "reno".
        connection_cleanup_interval: seconds between two sweeps of the connection manager over closed connections.
        connection_idle_check_interval: seconds between two sweeps of the connection manager over idle connections.
        connection_idle_timeout: QUIC's idle timeout: a connection without any traffic for so many seconds is lost. The
            shorter one of both ends holds. None: this end has none.
        connection_keepalive_timeout: seconds between two QUIC PINGs when `keep_alive` is on; at most half of
            `connection_idle_timeout`, which holds when this is longer. To keep the connection alive it must be below
            the idle timeout of the other end too.
        datagram_overflow: what `send()` does when the outgoing queue is full: "drop_oldest" evicts the oldest entry of
            priority 0, "wait" waits for room (use it for bulk), "error" raises DatagramError. A full incoming queue
            always drops its oldest entry and counts it.
        datagram_queue_size: entries that wait for sending, and for receiving, per session; besides 4 MiB each way.
        debug: log at level DEBUG, whatever `log_level` says.
        driver: where the transport runs: "loop" (on the event loop's own thread, for the lowest latency; while Python
            blocks that, a thread stands in for it), "thread" (always on one I/O thread of the process, which leaves
            more of a busy event loop to the handlers if another core is idle) or "auto": loop.
        enable_draft15: announce draft-15 and -16 (SETTINGS 0x2c7cf000 = 1) besides the older dialects that browsers
            speak. Peers that know only the newest drafts need it. Those drafts also demand the QUIC extension
            RESET_STREAM_AT, so a peer that insists on it may pick draft-15 and give up where an older dialect would
            have worked: then switch it off.
        flow_control_window_auto_scale: let the receive window grow while the reader keeps up.
        flow_control_window_size: receive window at the start, in bytes: what a peer may send before it is read.
        handshake_timeout: seconds after which a handshake that is not over is forgotten, whatever the idle timeout is.
        http_timeout: seconds that a client may take for each part of a request: its SETTINGS, a header section (of a
            session request too), the content of a plain request once its handler is known, and each piece of the
            answer to one.
        initial_max_data: stream bytes that the client may send on a session before any of them is read; then
            `flow_control_window_size` holds. 0: no session limit is announced, QUIC's limits hold. This or one of the
            next two above 0 turns WebTransport flow control on, with clients that announce theirs, and lets those put
            several sessions on a connection; with other clients the same limit holds through QUIC. Safari takes the
            announcement for a newer draft and then needs RESET_STREAM_AT, which is not in yet: leave all three at 0
            to reach it.
        initial_max_streams_bidi: bidirectional streams of the client that may be open on a session. 0: none announced.
            Of a client without flow control plain HTTP requests count too.
        initial_max_streams_uni: unidirectional streams of the client that may be open on a session. 0: none announced.
        keep_alive: send QUIC PINGs on an idle connection (nothing to do with TCP keep-alive).
        keyfile: PEM file of the key.
        log_level: level of the logger "pywebtransport", by name. Not validated.
        max_connections: connections at the same time.
        max_datagram_size: 1 to 65535; checked, but without effect: the core always announces the QUIC transport
            parameter max_datagram_frame_size as 65535. What fits a packet is `max_datagram_size` of the transport.
        max_incoming_streams: streams of the peer, per kind, that may be open at once when no session limit is set,
            plain HTTP requests among them; beyond it the peer's next stream waits (Chromium's fails at once), the
            connection goes on. QUIC's credit begins at 104 and doubles as it is used, so that a large limit
            costs no memory unused.
        max_pending_events_per_session: early streams and datagrams kept for one session whose request has not arrived
            yet.
        max_pending_handshakes: unfinished handshakes at the same time; they are no connections yet. Beyond it a client
            whose address is validated is refused, and another one gets no answer: it asks again after a second or so.
        max_sessions: sessions at the same time, in all and on one connection. Without flow control a connection carries
            one.
        max_stream_buffer_size: bytes that wait for sending, per stream; `write()` waits above it.
        max_streams_per_connection: streams of its own that a session may have open.
        max_total_pending_events: early streams and datagrams kept in all.
        middleware: checks that ServerApp runs before it accepts a session. `copy()` shares them.
        pending_event_ttl: seconds that an early stream or datagram is kept.
        preset: transport values for a purpose, of which no other field speaks; a field always does what it says, and
            presets change none. None or "default": networks of any kind. "throughput": bulk over long paths; windows
            grow to 16 MiB per stream and 64 MiB per connection instead of 4 and 16 (unless
            `flow_control_window_auto_scale` is off), and memory with them. "low_latency": little waits in the
            transport; windows stay at `flow_control_window_size`, so that a slow reader is felt early, and datagrams
            stay longer in their queue, where priorities and ages count, on a slow path above all. "jumbo": packets of
            up to 6000 bytes, for networks with jumbo frames and for loopback; about twice the speed of bulk. Both ends
            need it, else packets stay as they are. A path that does not carry them is found out: they start at 1200
            bytes and grow only to what arrives, as `connection.diagnostics.mtu` tells.
        read_timeout: seconds a stream read waits before TimeoutError; None: no limit.
        retry_threshold: from so many unfinished handshakes on, a client has to show that it receives at its address
            before the server does anything else for it (QUIC's Retry; one more round trip). At most half of
            `max_pending_handshakes`, so that packets with spoofed addresses leave room for real clients. 0: always.
            None: never; then such a flood keeps real clients out for as long as it lasts.
        rpc_concurrency_limit: RPC calls of a peer that run at the same time. Without effect until `pywebtransport.rpc`
            is in.
        session_cleanup_interval: seconds between two sweeps of the session manager over closed sessions.
        stateless_reset_key: 32 secret bytes or more, such as `secrets.token_bytes(64)` that are kept somewhere. A
            server that is started again with the same key ends the connections of its predecessor at their next packet,
            and the clients can connect anew; without it they wait for their idle timeout. One server at a time may have
            the key: whoever sends packets for one server to another one with its key could end their connections (RFC
            9000 section 21.11). None: random. The text of the configuration does not show it, `to_dict()` does.
        stream_buffer_size: bytes read ahead of the application, per stream.
        stream_cleanup_interval: seconds between two sweeps of a stream manager; closed streams stop counting at once,
            without it.
        stream_creation_timeout: seconds to wait for the peer's credit when opening a stream.
        stream_flow_control_increment_bidi: bidirectional streams granted at a time under a session limit.
        stream_flow_control_increment_uni: unidirectional streams granted at a time under a session limit.
        subprotocols: names of the application's protocols, the most preferred first. The first that the client offers
            is `session.subprotocol`; when it offers none of them, the session has none. Printable ASCII, 1 to 512
            characters each. A route may have its own.
        verify_mode: whether clients need a certificate; asks for none when `ca_certs` is missing.
        write_timeout: seconds a stream write waits for room before TimeoutError; None: no limit.
    """

    access_log: bool = DEFAULT_ACCESS_LOG
    allow_migration: bool = DEFAULT_ALLOW_MIGRATION
    allowed_origins: str | list[str] | None = DEFAULT_ALLOWED_ORIGINS
    alpn_protocols: list[str] = field(default_factory=lambda: list(DEFAULT_ALPN_PROTOCOLS))
    bind_host: str = DEFAULT_BIND_HOST
    bind_port: int = DEFAULT_DEV_PORT
    ca_certs: str | None = None
    certfile: str = DEFAULT_CERTFILE
    close_timeout: float = DEFAULT_CLOSE_TIMEOUT
    congestion_control_algorithm: str = DEFAULT_CONGESTION_CONTROL_ALGORITHM
    connection_cleanup_interval: float = DEFAULT_CONNECTION_CLEANUP_INTERVAL
    connection_idle_check_interval: float = DEFAULT_CONNECTION_IDLE_CHECK_INTERVAL
    connection_idle_timeout: float = DEFAULT_CONNECTION_IDLE_TIMEOUT
    connection_keepalive_timeout: float = DEFAULT_CONNECTION_KEEPALIVE_TIMEOUT
    datagram_overflow: str = DEFAULT_DATAGRAM_OVERFLOW
    datagram_queue_size: int = DEFAULT_DATAGRAM_QUEUE_SIZE
    debug: bool = DEFAULT_DEBUG
    driver: str = DEFAULT_DRIVER
    enable_draft15: bool = DEFAULT_ENABLE_DRAFT15
    flow_control_window_auto_scale: bool = DEFAULT_FLOW_CONTROL_WINDOW_AUTO_SCALE
    flow_control_window_size: int = DEFAULT_FLOW_CONTROL_WINDOW_SIZE
    handshake_timeout: float = DEFAULT_HANDSHAKE_TIMEOUT
    http_timeout: float = DEFAULT_HTTP_TIMEOUT
    initial_max_data: int = DEFAULT_INITIAL_MAX_DATA
    initial_max_streams_bidi: int = DEFAULT_INITIAL_MAX_STREAMS_BIDI
    initial_max_streams_uni: int = DEFAULT_INITIAL_MAX_STREAMS_UNI
    keep_alive: bool = DEFAULT_KEEP_ALIVE
    keyfile: str = DEFAULT_KEYFILE
    log_level: str = DEFAULT_LOG_LEVEL
    max_connections: int = DEFAULT_SERVER_MAX_CONNECTIONS
    max_datagram_size: int = DEFAULT_MAX_DATAGRAM_SIZE
    max_incoming_streams: int = DEFAULT_MAX_INCOMING_STREAMS
    max_pending_events_per_session: int = DEFAULT_MAX_PENDING_EVENTS_PER_SESSION
    max_pending_handshakes: int = DEFAULT_MAX_PENDING_HANDSHAKES
    max_sessions: int = DEFAULT_MAX_SESSIONS
    max_stream_buffer_size: int = MAX_BUFFER_SIZE
    max_streams_per_connection: int = DEFAULT_MAX_STREAMS_PER_CONNECTION
    max_total_pending_events: int = DEFAULT_MAX_TOTAL_PENDING_EVENTS
    middleware: list[MiddlewareProtocol] = field(default_factory=list)
    pending_event_ttl: float = DEFAULT_PENDING_EVENT_TTL
    preset: str | None = DEFAULT_PRESET
    read_timeout: float | None = DEFAULT_READ_TIMEOUT
    retry_threshold: int | None = DEFAULT_RETRY_THRESHOLD
    rpc_concurrency_limit: int = DEFAULT_RPC_CONCURRENCY_LIMIT
    session_cleanup_interval: float = DEFAULT_SESSION_CLEANUP_INTERVAL
    stateless_reset_key: bytes | None = field(default=DEFAULT_STATELESS_RESET_KEY, repr=False)
    stream_buffer_size: int = DEFAULT_BUFFER_SIZE
    stream_cleanup_interval: float = DEFAULT_STREAM_CLEANUP_INTERVAL
    stream_creation_timeout: float = DEFAULT_STREAM_CREATION_TIMEOUT
    stream_flow_control_increment_bidi: int = DEFAULT_STREAM_FLOW_CONTROL_INCREMENT_BIDI
    stream_flow_control_increment_uni: int = DEFAULT_STREAM_FLOW_CONTROL_INCREMENT_UNI
    subprotocols: list[str] = field(default_factory=list)
    verify_mode: ssl.VerifyMode = DEFAULT_SERVER_VERIFY_MODE
    write_timeout: float | None = DEFAULT_WRITE_TIMEOUT

    def __post_init__(self) -> None:
        """Validate."""
        self.validate()

    @classmethod
    def create_for_development(
        cls,
        host: str = "localhost",
        port: int = 4433,
        certfile: str | None = None,
        keyfile: str | None = None,
    ) -> Self:
        """Return a configuration that logs at DEBUG, with a fresh development certificate when none is given.

        The fresh certificate is for `host`, localhost, 127.0.0.1 and ::1, lives 13 days and is removed when the
        interpreter exits; `pywebtransport.utils.generate_dev_certificate` also tells its hash for browsers. Given
        paths are used as they are; `listen()` finds out whether the files exist.

        Args:
            host: address or name to listen on.
            port: UDP port.
            certfile: PEM file of the certificate chain.
            keyfile: PEM file of its key.

        Raises:
            ConfigurationError: a value is not valid, or only one of certificate and key is given.
        """
        config = cls(bind_host=host, bind_port=port, debug=True, log_level="DEBUG")
        if bool(certfile) != bool(keyfile):
            value = f"certfile={certfile}, keyfile={keyfile}"
            raise invalid_config("certfile/keyfile", value, "both must be provided together")
        if certfile and keyfile:
            config.certfile, config.keyfile = certfile, keyfile
        else:
            names = dict.fromkeys([host, "localhost", "127.0.0.1", "::1"])
            certificate = generate_dev_certificate([name for name in names if name not in WILDCARD_HOSTS])
            config.certfile, config.keyfile = certificate.certfile, certificate.keyfile
        return config

    @classmethod
    def create_for_production(
        cls, host: str, port: int, certfile: str, keyfile: str, ca_certs: str | None = None
    ) -> Self:
        """Return a configuration that checks client certificates when `ca_certs` is given.

        Args:
            host: address or name to listen on.
            port: UDP port.
            certfile: PEM file of the certificate chain.
            keyfile: PEM file of its key.
            ca_certs: PEM file of the authorities that client certificates must come from.

        Raises:
            CertificateError: a named file does not exist.
            ConfigurationError: a value is not valid.
        """
        return cls(
            bind_host=host,
            bind_port=port,
            certfile=certfile,
            keyfile=keyfile,
            ca_certs=ca_certs,
            verify_mode=ssl.CERT_OPTIONAL if ca_certs else ssl.CERT_NONE,
        )

    def validate(self) -> None:
        """Raise ConfigurationError or CertificateError for the first value that is not valid."""
        super().validate()
        if not self.bind_host:
            raise invalid_config("bind_host", self.bind_host, "cannot be empty")
        rules.check_origins(self)
        rules.check_port(self, "bind_port")
        rules.check_timeouts(self, "handshake_timeout", "http_timeout", "session_cleanup_interval")
        rules.check_positive(self, "max_pending_handshakes", "max_sessions", "max_streams_per_connection")
        rules.check_count_or_none(self, "retry_threshold")
        rules.check_stateless_reset_key(self)
        rules.check_verify_mode(self, optional=False)


WILDCARD_HOSTS = ("0.0.0.0", "::")  # addresses to listen on, but nothing a client connects to
