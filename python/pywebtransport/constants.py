"""Protocol numbers, error codes and every default of the configuration.

Each default has its home here; `pywebtransport.config` refers to it. Numbers of the protocol are written in hex as
the drafts write them.
"""

from __future__ import annotations

import ssl
from dataclasses import MISSING, fields
from enum import IntEnum
from typing import Any, TypedDict, cast

from pywebtransport.types import Headers

__all__: list[str] = [
    "ALPN_H3",
    "BIDIRECTIONAL_STREAM",
    "CLOSE_WEBTRANSPORT_SESSION_TYPE",
    "DEFAULT_ACCESS_LOG",
    "DEFAULT_ALLOWED_ORIGINS",
    "DEFAULT_ALLOW_MIGRATION",
    "DEFAULT_ALLOW_POOLING",
    "DEFAULT_ALPN_PROTOCOLS",
    "DEFAULT_AUTO_RECONNECT",
    "DEFAULT_BIND_HOST",
    "DEFAULT_BUFFER_SIZE",
    "DEFAULT_CERTFILE",
    "DEFAULT_CLIENT_MAX_CONNECTIONS",
    "DEFAULT_CLIENT_VERIFY_MODE",
    "DEFAULT_CLOSE_TIMEOUT",
    "DEFAULT_CONGESTION_CONTROL_ALGORITHM",
    "DEFAULT_CONNECTION_CLEANUP_INTERVAL",
    "DEFAULT_CONNECTION_IDLE_CHECK_INTERVAL",
    "DEFAULT_CONNECTION_IDLE_TIMEOUT",
    "DEFAULT_CONNECTION_KEEPALIVE_TIMEOUT",
    "DEFAULT_CONNECT_TIMEOUT",
    "DEFAULT_DATAGRAM_OVERFLOW",
    "DEFAULT_DATAGRAM_QUEUE_SIZE",
    "DEFAULT_DEBUG",
    "DEFAULT_DEV_PORT",
    "DEFAULT_DRIVER",
    "DEFAULT_ENABLE_DRAFT15",
    "DEFAULT_FLOW_CONTROL_WINDOW_AUTO_SCALE",
    "DEFAULT_FLOW_CONTROL_WINDOW_SIZE",
    "DEFAULT_HANDSHAKE_TIMEOUT",
    "DEFAULT_HTTP_MAX_BODY",
    "DEFAULT_HTTP_TIMEOUT",
    "DEFAULT_INITIAL_MAX_DATA",
    "DEFAULT_INITIAL_MAX_STREAMS_BIDI",
    "DEFAULT_INITIAL_MAX_STREAMS_UNI",
    "DEFAULT_KEEP_ALIVE",
    "DEFAULT_KEYFILE",
    "DEFAULT_LOG_LEVEL",
    "DEFAULT_MAX_DATAGRAM_SIZE",
    "DEFAULT_MAX_INCOMING_STREAMS",
    "DEFAULT_MAX_MESSAGE_SIZE",
    "DEFAULT_MAX_PENDING_EVENTS_PER_SESSION",
    "DEFAULT_MAX_PENDING_HANDSHAKES",
    "DEFAULT_MAX_RETRIES",
    "DEFAULT_MAX_RETRY_DELAY",
    "DEFAULT_MAX_SESSIONS",
    "DEFAULT_MAX_STREAMS",
    "DEFAULT_MAX_STREAMS_PER_CONNECTION",
    "DEFAULT_MAX_TOTAL_PENDING_EVENTS",
    "DEFAULT_PENDING_EVENT_TTL",
    "DEFAULT_PRESET",
    "DEFAULT_PROXY_CONNECT_TIMEOUT",
    "DEFAULT_PUBSUB_SUBSCRIPTION_QUEUE_SIZE",
    "DEFAULT_READ_TIMEOUT",
    "DEFAULT_RETRY_BACKOFF",
    "DEFAULT_RETRY_DELAY",
    "DEFAULT_RETRY_THRESHOLD",
    "DEFAULT_RPC_CONCURRENCY_LIMIT",
    "DEFAULT_SECURE_PORT",
    "DEFAULT_SERVER_MAX_CONNECTIONS",
    "DEFAULT_SERVER_VERIFY_MODE",
    "DEFAULT_SESSION_CLEANUP_INTERVAL",
    "DEFAULT_STATELESS_RESET_KEY",
    "DEFAULT_STREAM_CLEANUP_INTERVAL",
    "DEFAULT_STREAM_CREATION_TIMEOUT",
    "DEFAULT_STREAM_FLOW_CONTROL_INCREMENT_BIDI",
    "DEFAULT_STREAM_FLOW_CONTROL_INCREMENT_UNI",
    "DEFAULT_STREAM_LINE_LIMIT",
    "DEFAULT_WEBTRANSPORT_PATH",
    "DEFAULT_WRITE_TIMEOUT",
    "DRAIN_WEBTRANSPORT_SESSION_TYPE",
    "H3_FRAME_TYPE_CANCEL_PUSH",
    "H3_FRAME_TYPE_DATA",
    "H3_FRAME_TYPE_GOAWAY",
    "H3_FRAME_TYPE_HEADERS",
    "H3_FRAME_TYPE_MAX_PUSH_ID",
    "H3_FRAME_TYPE_PUSH_PROMISE",
    "H3_FRAME_TYPE_SETTINGS",
    "H3_FRAME_TYPE_WEBTRANSPORT_STREAM",
    "H3_STREAM_TYPE_CONTROL",
    "H3_STREAM_TYPE_PUSH",
    "H3_STREAM_TYPE_QPACK_DECODER",
    "H3_STREAM_TYPE_QPACK_ENCODER",
    "H3_STREAM_TYPE_WEBTRANSPORT",
    "MAX_BUFFER_SIZE",
    "MAX_DATAGRAM_SIZE",
    "MAX_STREAM_ID",
    "MIN_STATELESS_RESET_KEY_SIZE",
    "SETTINGS_ENABLE_CONNECT_PROTOCOL",
    "SETTINGS_H3_DATAGRAM",
    "SETTINGS_QPACK_BLOCKED_STREAMS",
    "SETTINGS_QPACK_MAX_TABLE_CAPACITY",
    "SETTINGS_WT_ENABLED",
    "SETTINGS_WT_INITIAL_MAX_DATA",
    "SETTINGS_WT_INITIAL_MAX_STREAMS_BIDI",
    "SETTINGS_WT_INITIAL_MAX_STREAMS_UNI",
    "SETTINGS_WT_MAX_SESSIONS",
    "SUPPORTED_CONGESTION_CONTROL_ALGORITHMS",
    "SUPPORTED_DATAGRAM_OVERFLOWS",
    "SUPPORTED_DRIVERS",
    "SUPPORTED_PRESETS",
    "UNIDIRECTIONAL_STREAM",
    "USER_AGENT_HEADER",
    "WEBTRANSPORT_SCHEME",
    "WT_DATA_BLOCKED_TYPE",
    "WT_MAX_DATA_TYPE",
    "WT_MAX_STREAMS_BIDI_TYPE",
    "WT_MAX_STREAMS_UNI_TYPE",
    "WT_STREAMS_BLOCKED_BIDI_TYPE",
    "WT_STREAMS_BLOCKED_UNI_TYPE",
    "ClientConfigDefaults",
    "ErrorCodes",
    "ServerConfigDefaults",
    "get_default_client_config",
    "get_default_server_config",
]

# --- HTTP/3 and WebTransport -----------------------------------------------------------------------

ALPN_H3: str = "h3"
USER_AGENT_HEADER: str = "user-agent"
WEBTRANSPORT_SCHEME: str = "https"

# Bits 0x2 of a stream id (RFC 9000, 2.1).
BIDIRECTIONAL_STREAM: int = 0x0
UNIDIRECTIONAL_STREAM: int = 0x2

# Capsule types.
CLOSE_WEBTRANSPORT_SESSION_TYPE: int = 0x2843
DRAIN_WEBTRANSPORT_SESSION_TYPE: int = 0x78AE
WT_DATA_BLOCKED_TYPE: int = 0x190B4D41
WT_MAX_DATA_TYPE: int = 0x190B4D3D
WT_MAX_STREAMS_BIDI_TYPE: int = 0x190B4D3F
WT_MAX_STREAMS_UNI_TYPE: int = 0x190B4D40
WT_STREAMS_BLOCKED_BIDI_TYPE: int = 0x190B4D43
WT_STREAMS_BLOCKED_UNI_TYPE: int = 0x190B4D44

# Frame types (RFC 9114, 7.2); 0x41 opens a bidirectional WebTransport stream.
H3_FRAME_TYPE_DATA: int = 0x0
H3_FRAME_TYPE_HEADERS: int = 0x1
H3_FRAME_TYPE_CANCEL_PUSH: int = 0x3
H3_FRAME_TYPE_SETTINGS: int = 0x4
H3_FRAME_TYPE_PUSH_PROMISE: int = 0x5
H3_FRAME_TYPE_GOAWAY: int = 0x7
H3_FRAME_TYPE_MAX_PUSH_ID: int = 0xD
H3_FRAME_TYPE_WEBTRANSPORT_STREAM: int = 0x41

# Types of unidirectional streams (RFC 9114, 6.2).
H3_STREAM_TYPE_CONTROL: int = 0x0
H3_STREAM_TYPE_PUSH: int = 0x1
H3_STREAM_TYPE_QPACK_ENCODER: int = 0x2
H3_STREAM_TYPE_QPACK_DECODER: int = 0x3
H3_STREAM_TYPE_WEBTRANSPORT: int = 0x54

# SETTINGS. 0x14e9cd29 belongs to draft-13 and draft-14; 0x2c7cf000 replaced it in draft-15.
SETTINGS_ENABLE_CONNECT_PROTOCOL: int = 0x8
SETTINGS_H3_DATAGRAM: int = 0x33
SETTINGS_QPACK_BLOCKED_STREAMS: int = 0x7
SETTINGS_QPACK_MAX_TABLE_CAPACITY: int = 0x1
SETTINGS_WT_ENABLED: int = 0x2C7CF000
SETTINGS_WT_INITIAL_MAX_DATA: int = 0x2B61
SETTINGS_WT_INITIAL_MAX_STREAMS_BIDI: int = 0x2B65
SETTINGS_WT_INITIAL_MAX_STREAMS_UNI: int = 0x2B64
SETTINGS_WT_MAX_SESSIONS: int = 0x14E9CD29

MAX_DATAGRAM_SIZE: int = 65535
MAX_STREAM_ID: int = 2**62 - 1
# The output size of HMAC-SHA256: RFC 2104 section 3 calls shorter keys strongly discouraged.
MIN_STATELESS_RESET_KEY_SIZE: int = 32

# --- defaults of the configuration -----------------------------------------------------------------
#
# Times are seconds, sizes are bytes.

DEFAULT_ACCESS_LOG: bool = True
DEFAULT_ALLOW_MIGRATION: bool = True
DEFAULT_ALLOW_POOLING: bool = False
DEFAULT_ALLOWED_ORIGINS: str | list[str] | None = None
DEFAULT_ALPN_PROTOCOLS: tuple[str] = (ALPN_H3,)
DEFAULT_AUTO_RECONNECT: bool = False
DEFAULT_BIND_HOST: str = "localhost"
DEFAULT_BUFFER_SIZE: int = 65536
DEFAULT_CERTFILE: str = ""
DEFAULT_CLIENT_MAX_CONNECTIONS: int = 100
DEFAULT_CLIENT_VERIFY_MODE: ssl.VerifyMode = ssl.CERT_REQUIRED
DEFAULT_CLOSE_TIMEOUT: float = 5.0
DEFAULT_CONNECT_TIMEOUT: float = 30.0
DEFAULT_CONGESTION_CONTROL_ALGORITHM: str = "cubic"
DEFAULT_CONNECTION_CLEANUP_INTERVAL: float = 30.0
DEFAULT_CONNECTION_IDLE_CHECK_INTERVAL: float = 5.0
DEFAULT_CONNECTION_IDLE_TIMEOUT: float = 60.0
# Half of the idle timeout: a PING that is lost is sent again in time. Most NATs remember a flow of UDP for 30 s (RFC
# 9000 section 10.1.2).
DEFAULT_CONNECTION_KEEPALIVE_TIMEOUT: float = 30.0
DEFAULT_DATAGRAM_OVERFLOW: str = "drop_oldest"
# 4096 entries: one receive batch alone can bring more than 1 000 small datagrams, so a queue of a few hundred would
# drop on the first burst. At 1 200 bytes a full queue is 4096 * 1200 = 4.9 MB; the core's bound of 4 MiB bites first.
DEFAULT_DATAGRAM_QUEUE_SIZE: int = 4096
DEFAULT_DEBUG: bool = False
DEFAULT_DEV_PORT: int = 4433
DEFAULT_DRIVER: str = "auto"
DEFAULT_ENABLE_DRAFT15: bool = True
DEFAULT_FLOW_CONTROL_WINDOW_AUTO_SCALE: bool = True
DEFAULT_FLOW_CONTROL_WINDOW_SIZE: int = 1024 * 1024
# Google's server gives up after 10 s too. By then quinn has sent the server's part of the handshake six times: after 0,
# 0.3, 0.9, 2.1, 4.5 and 9.3 s, where it learns nothing of the path.
DEFAULT_HANDSHAKE_TIMEOUT: float = 10.0
# A form or a small document. 512 requests at once (the core's bound) x 64 KiB = 32 MiB, whoever sends them.
DEFAULT_HTTP_MAX_BODY: int = 64 * 1024
# 64 KiB in 30 s are 17 kbit/s: slower than any network that carries WebTransport.
DEFAULT_HTTP_TIMEOUT: float = 30.0
# 0: no session limit is announced, QUIC's own limits hold.
DEFAULT_INITIAL_MAX_DATA: int = 0
DEFAULT_INITIAL_MAX_STREAMS_BIDI: int = 0
DEFAULT_INITIAL_MAX_STREAMS_UNI: int = 0
DEFAULT_KEEP_ALIVE: bool = True
DEFAULT_KEYFILE: str = ""
DEFAULT_LOG_LEVEL: str = "INFO"
DEFAULT_MAX_DATAGRAM_SIZE: int = 65535
DEFAULT_MAX_INCOMING_STREAMS: int = 100
DEFAULT_MAX_MESSAGE_SIZE: int = 1024 * 1024
DEFAULT_MAX_PENDING_EVENTS_PER_SESSION: int = 16
# As many as there are connections by default: after an outage all clients come back at once, and must get in. Each
# costs 57 kB, so 3000 cost 170 MB, but only for clients at real addresses: a flood of spoofed ones stops at
# `retry_threshold`, 7 MB.
DEFAULT_MAX_PENDING_HANDSHAKES: int = 3000
DEFAULT_MAX_RETRIES: int = 3
DEFAULT_MAX_RETRY_DELAY: float = 30.0
DEFAULT_MAX_SESSIONS: int = 10000
DEFAULT_MAX_STREAMS: int = 100
DEFAULT_MAX_STREAMS_PER_CONNECTION: int = 100
DEFAULT_MAX_TOTAL_PENDING_EVENTS: int = 1000
DEFAULT_PENDING_EVENT_TTL: float = 5.0
DEFAULT_PRESET: str | None = None
DEFAULT_PROXY_CONNECT_TIMEOUT: float = 10.0
DEFAULT_PUBSUB_SUBSCRIPTION_QUEUE_SIZE: int = 16
DEFAULT_READ_TIMEOUT: float = 60.0
DEFAULT_RETRY_BACKOFF: float = 2.0
DEFAULT_RETRY_DELAY: float = 1.0
# 1 000 new clients per second that are 100 ms away have 100 handshakes under way: a busy server sends no Retry, and its
# clients save a round trip. A flood of spoofed addresses holds 128 handshakes at most, and makes the server sign 13
# times per second, as each place is free again after `DEFAULT_HANDSHAKE_TIMEOUT`.
DEFAULT_RETRY_THRESHOLD: int | None = 128
DEFAULT_RPC_CONCURRENCY_LIMIT: int = 100
DEFAULT_SECURE_PORT: int = 443
DEFAULT_SERVER_MAX_CONNECTIONS: int = 3000
DEFAULT_SERVER_VERIFY_MODE: ssl.VerifyMode = ssl.CERT_OPTIONAL
DEFAULT_SESSION_CLEANUP_INTERVAL: float = 60.0
DEFAULT_STATELESS_RESET_KEY: bytes | None = None
DEFAULT_STREAM_CLEANUP_INTERVAL: float = 15.0
DEFAULT_STREAM_CREATION_TIMEOUT: float = 10.0
DEFAULT_STREAM_FLOW_CONTROL_INCREMENT_BIDI: int = 10
DEFAULT_STREAM_FLOW_CONTROL_INCREMENT_UNI: int = 10
DEFAULT_STREAM_LINE_LIMIT: int = 65536
DEFAULT_WEBTRANSPORT_PATH: str = "/webtransport"
DEFAULT_WRITE_TIMEOUT: float = 30.0
MAX_BUFFER_SIZE: int = 1024 * 1024

SUPPORTED_CONGESTION_CONTROL_ALGORITHMS: tuple[str, str] = ("reno", "cubic")
SUPPORTED_DATAGRAM_OVERFLOWS: tuple[str, ...] = ("drop_oldest", "wait", "error")
SUPPORTED_DRIVERS: tuple[str, ...] = ("auto", "loop", "thread")
SUPPORTED_PRESETS: tuple[str | None, ...] = (None, "default", "throughput", "low_latency", "jumbo")


class ClientConfigDefaults(TypedDict):
    """The fields of `ClientConfig`, as a dictionary."""

    allow_pooling: bool
    alpn_protocols: list[str]
    auto_reconnect: bool
    ca_certs: str | None
    certfile: str | None
    close_timeout: float
    congestion_control_algorithm: str
    connect_timeout: float
    connection_cleanup_interval: float
    connection_idle_check_interval: float
    connection_idle_timeout: float
    connection_keepalive_timeout: float
    datagram_overflow: str
    datagram_queue_size: int
    debug: bool
    driver: str
    enable_draft15: bool
    flow_control_window_auto_scale: bool
    flow_control_window_size: int
    headers: Headers
    initial_max_data: int
    initial_max_streams_bidi: int
    initial_max_streams_uni: int
    keep_alive: bool
    keyfile: str | None
    log_level: str
    max_connections: int
    max_datagram_size: int
    max_incoming_streams: int
    max_pending_events_per_session: int
    max_retries: int
    max_retry_delay: float
    max_stream_buffer_size: int
    max_streams: int
    max_total_pending_events: int
    pending_event_ttl: float
    preset: str | None
    proxy: Any
    read_timeout: float | None
    retry_backoff: float
    retry_delay: float
    rpc_concurrency_limit: int
    server_certificate_hashes: list[bytes]
    stream_buffer_size: int
    stream_cleanup_interval: float
    stream_creation_timeout: float
    stream_flow_control_increment_bidi: int
    stream_flow_control_increment_uni: int
    subprotocols: list[str]
    user_agent: str
    verify_mode: ssl.VerifyMode | None
    write_timeout: float | None


class ServerConfigDefaults(TypedDict):
    """The fields of `ServerConfig`, as a dictionary."""

    access_log: bool
    allow_migration: bool
    allowed_origins: str | list[str] | None
    alpn_protocols: list[str]
    bind_host: str
    bind_port: int
    ca_certs: str | None
    certfile: str
    close_timeout: float
    congestion_control_algorithm: str
    connection_cleanup_interval: float
    connection_idle_check_interval: float
    connection_idle_timeout: float
    connection_keepalive_timeout: float
    datagram_overflow: str
    datagram_queue_size: int
    debug: bool
    driver: str
    enable_draft15: bool
    flow_control_window_auto_scale: bool
    flow_control_window_size: int
    handshake_timeout: float
    http_timeout: float
    initial_max_data: int
    initial_max_streams_bidi: int
    initial_max_streams_uni: int
    keep_alive: bool
    keyfile: str
    log_level: str
    max_connections: int
    max_datagram_size: int
    max_incoming_streams: int
    max_pending_events_per_session: int
    max_pending_handshakes: int
    max_sessions: int
    max_stream_buffer_size: int
    max_streams_per_connection: int
    max_total_pending_events: int
    middleware: list[Any]
    pending_event_ttl: float
    preset: str | None
    read_timeout: float | None
    retry_threshold: int | None
    rpc_concurrency_limit: int
    session_cleanup_interval: float
    stateless_reset_key: bytes | None
    stream_buffer_size: int
    stream_cleanup_interval: float
    stream_creation_timeout: float
    stream_flow_control_increment_bidi: int
    stream_flow_control_increment_uni: int
    subprotocols: list[str]
    verify_mode: ssl.VerifyMode
    write_timeout: float | None


class ErrorCodes(IntEnum):
    """Error codes of QUIC, HTTP/3, QPACK and WebTransport, and this library's own (0x1000 and above)."""

    # QUIC transport (RFC 9000, 20.1)
    NO_ERROR = 0x0
    INTERNAL_ERROR = 0x1
    CONNECTION_REFUSED = 0x2
    FLOW_CONTROL_ERROR = 0x3
    STREAM_LIMIT_ERROR = 0x4
    STREAM_STATE_ERROR = 0x5
    FINAL_SIZE_ERROR = 0x6
    FRAME_ENCODING_ERROR = 0x7
    TRANSPORT_PARAMETER_ERROR = 0x8
    CONNECTION_ID_LIMIT_ERROR = 0x9
    PROTOCOL_VIOLATION = 0xA
    INVALID_TOKEN = 0xB
    APPLICATION_ERROR = 0xC
    CRYPTO_BUFFER_EXCEEDED = 0xD
    KEY_UPDATE_ERROR = 0xE
    AEAD_LIMIT_REACHED = 0xF
    NO_VIABLE_PATH = 0x10
    # HTTP/3 (RFC 9114, 8.1; 0x33: RFC 9297)
    H3_DATAGRAM_ERROR = 0x33
    H3_NO_ERROR = 0x100
    H3_GENERAL_PROTOCOL_ERROR = 0x101
    H3_INTERNAL_ERROR = 0x102
    H3_STREAM_CREATION_ERROR = 0x103
    H3_CLOSED_CRITICAL_STREAM = 0x104
    H3_FRAME_UNEXPECTED = 0x105
    H3_FRAME_ERROR = 0x106
    H3_EXCESSIVE_LOAD = 0x107
    H3_ID_ERROR = 0x108
    H3_SETTINGS_ERROR = 0x109
    H3_MISSING_SETTINGS = 0x10A
    H3_REQUEST_REJECTED = 0x10B
    H3_REQUEST_CANCELLED = 0x10C
    H3_REQUEST_INCOMPLETE = 0x10D
    H3_MESSAGE_ERROR = 0x10E
    H3_CONNECT_ERROR = 0x10F
    H3_VERSION_FALLBACK = 0x110
    # WebTransport over HTTP/3
    WT_SESSION_GONE = 0x170D7B68
    WT_BUFFERED_STREAM_REJECTED = 0x3994BD84
    WT_FLOW_CONTROL_ERROR = 0x045D4487
    WT_ALPN_ERROR = 0x0817B3DD
    WT_REQUIREMENTS_NOT_MET = 0x212C0D48
    WT_APPLICATION_ERROR_FIRST = 0x52E4A40FA8DB
    # QPACK (RFC 9204, 6)
    QPACK_DECOMPRESSION_FAILED = 0x200
    QPACK_ENCODER_STREAM_ERROR = 0x201
    QPACK_DECODER_STREAM_ERROR = 0x202
    # this library
    APP_CONNECTION_TIMEOUT = 0x1000
    APP_AUTHENTICATION_FAILED = 0x1001
    APP_PERMISSION_DENIED = 0x1002
    APP_RESOURCE_EXHAUSTED = 0x1003
    APP_INVALID_REQUEST = 0x1004
    APP_SERVICE_UNAVAILABLE = 0x1005


def get_default_client_config() -> ClientConfigDefaults:
    """Return the default of every field of `ClientConfig`, in a fresh dictionary."""
    from pywebtransport.config import ClientConfig  # config imports this module

    return cast(ClientConfigDefaults, _field_defaults(ClientConfig))


def get_default_server_config() -> ServerConfigDefaults:
    """Return the default of every field of `ServerConfig`, in a fresh dictionary."""
    from pywebtransport.config import ServerConfig  # config imports this module

    return cast(ServerConfigDefaults, _field_defaults(ServerConfig))


def _field_defaults(config_class: type[Any]) -> dict[str, Any]:
    return {
        item.name: item.default if item.default_factory is MISSING else item.default_factory()
        for item in fields(config_class)
    }
