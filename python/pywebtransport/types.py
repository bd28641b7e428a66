"""Type aliases, enumerations and protocols shared by the whole package.

This module imports nothing of the package, so everything else may import it.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager as AsyncContextManager
from enum import StrEnum
from typing import Any, Protocol, TypeAlias, runtime_checkable

__all__: list[str] = [
    "URL",
    "Address",
    "AsyncContextManager",
    "AsyncGenerator",
    "AsyncIterator",
    "AuthHandlerProtocol",
    "Buffer",
    "ConnectionId",
    "ConnectionState",
    "Data",
    "ErrorCode",
    "EventData",
    "EventType",
    "Headers",
    "MiddlewareProtocol",
    "Priority",
    "SSLContext",
    "Serializer",
    "SessionId",
    "SessionState",
    "StreamDirection",
    "StreamId",
    "StreamState",
    "Timeout",
    "Timestamp",
    "URLParts",
    "WebTransportProtocol",
    "Weight",
]


# --- aliases -------------------------------------------------------------------------------------

Address: TypeAlias = tuple[str, int]
"""Host and port. IPv6 addresses come without brackets, flow label and scope id."""

Buffer: TypeAlias = bytes | bytearray | memoryview
ConnectionId: TypeAlias = str

Data: TypeAlias = bytes | bytearray | memoryview | str
"""What streams and datagrams accept; `str` is sent as UTF-8."""

ErrorCode: TypeAlias = int
EventData: TypeAlias = Any

Headers: TypeAlias = dict[str, str]
"""Lower-case names to values; a repeated header keeps its last value."""

Priority: TypeAlias = int
SSLContext: TypeAlias = ssl.SSLContext
SessionId: TypeAlias = str
StreamId: TypeAlias = int

Timestamp: TypeAlias = float
"""Seconds since the epoch, as from `time.time()`."""

Timeout: TypeAlias = float | None
"""Seconds; None waits without a limit."""

URL: TypeAlias = str

URLParts: TypeAlias = tuple[str, int, str]
"""Host (no brackets), port, and path with query and fragment."""

Weight: TypeAlias = int


# --- enumerations --------------------------------------------------------------------------------


class ConnectionState(StrEnum):
    """The life of a connection: IDLE -> CONNECTING -> CONNECTED -> CLOSING -> CLOSED."""

    IDLE = "idle"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    CLOSING = "closing"
    CLOSED = "closed"
    FAILED = "failed"
    DRAINING = "draining"


class EventType(StrEnum):
    """Everything an `EventEmitter` of this library emits."""

    CAPSULE_RECEIVED = "capsule_received"
    CONNECTION_ESTABLISHED = "connection_established"
    CONNECTION_LOST = "connection_lost"
    CONNECTION_FAILED = "connection_failed"
    CONNECTION_CLOSED = "connection_closed"
    DATAGRAM_ERROR = "datagram_error"
    DATAGRAM_RECEIVED = "datagram_received"
    DATAGRAM_SENT = "datagram_sent"
    PROTOCOL_ERROR = "protocol_error"
    SETTINGS_RECEIVED = "settings_received"
    SESSION_CLOSED = "session_closed"
    SESSION_DRAINING = "session_draining"
    SESSION_MAX_DATA_UPDATED = "session_max_data_updated"
    SESSION_MAX_STREAMS_BIDI_UPDATED = "session_max_streams_bidi_updated"
    SESSION_MAX_STREAMS_UNI_UPDATED = "session_max_streams_uni_updated"
    SESSION_READY = "session_ready"
    SESSION_REQUEST = "session_request"
    STREAM_CLOSED = "stream_closed"
    STREAM_DATA_RECEIVED = "stream_data_received"
    STREAM_ERROR = "stream_error"
    STREAM_OPENED = "stream_opened"
    TIMEOUT_ERROR = "timeout_error"


class SessionState(StrEnum):
    """The life of a session: CONNECTING -> CONNECTED -> (DRAINING ->) CLOSING -> CLOSED."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    CLOSING = "closing"
    DRAINING = "draining"
    CLOSED = "closed"


class StreamDirection(StrEnum):
    """Which way data flows on a stream, seen from this endpoint."""

    BIDIRECTIONAL = "bidirectional"
    SEND_ONLY = "send_only"
    RECEIVE_ONLY = "receive_only"


class StreamState(StrEnum):
    """The life of a stream: OPEN -> HALF_CLOSED_LOCAL / HALF_CLOSED_REMOTE -> CLOSED, or a reset."""

    OPEN = "open"
    HALF_CLOSED_LOCAL = "half_closed_local"
    HALF_CLOSED_REMOTE = "half_closed_remote"
    CLOSED = "closed"
    RESET_SENT = "reset_sent"
    RESET_RECEIVED = "reset_received"


# --- protocols -----------------------------------------------------------------------------------
#
# The first three are implemented by applications and called by the library, always with keywords.
# Their parameters stay keyword-only here: that accepts `def f(*, session)` as well as `def f(session)`,
# whereas a positional parameter would refuse the first form in a type checker.


@runtime_checkable
class AuthHandlerProtocol(Protocol):
    """Decides from the request headers whether a session may be opened."""

    async def __call__(self, *, headers: Headers) -> bool:
        """Return True to let the session in. An exception counts as False."""
        ...


@runtime_checkable
class MiddlewareProtocol(Protocol):
    """A check that runs on the server before a session is accepted."""

    async def __call__(self, *, session: Any) -> bool:
        """Return True to pass the session on, False to reject it with status 403."""
        ...


@runtime_checkable
class Serializer(Protocol):
    """Turns Python objects into bytes and back."""

    def serialize(self, *, obj: Any) -> bytes:
        """Return `obj` as bytes; raise `SerializationError` when it cannot be expressed."""
        ...

    def deserialize(self, *, data: bytes, obj_type: Any = None) -> Any:
        """Return the object in `data`, as an instance of `obj_type` when one is given."""
        ...


@runtime_checkable
class WebTransportProtocol(Protocol):
    """The callbacks of an asyncio datagram protocol."""

    def connection_made(self, transport: Any) -> None:
        """Receive the transport once it is up."""
        ...

    def connection_lost(self, exc: Exception | None) -> None:
        """Learn that the transport is gone; `exc` is None after a clean close."""
        ...

    def datagram_received(self, data: bytes, addr: Address) -> None:
        """Receive one packet."""
        ...

    def error_received(self, exc: Exception) -> None:
        """Learn of an error of the operating system."""
        ...
