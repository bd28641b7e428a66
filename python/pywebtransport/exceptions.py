"""Every exception of the library.

    WebTransportError
    ├── AuthenticationError
    ├── CertificateError
    ├── ClientError
    ├── ConfigurationError
    ├── ConnectionError             (also the builtin ConnectionError)
    │   └── ConnectionTimeoutError  (also TimeoutError: a connect that never became ready)
    ├── DatagramError
    │   └── DatagramTooLargeError   (also the builtin ValueError; shows itself as DatagramError)
    ├── FlowControlError
    ├── HandshakeError
    ├── ProtocolError
    ├── SerializationError
    ├── ServerError
    ├── SessionError
    ├── StreamError
    └── TimeoutError                (also the builtin TimeoutError)

`ConnectionTimeoutError` and `DatagramTooLargeError` say that two `except` clauses apply; catch the documented bases.

Three widths of failure exist: a stream ends (`StreamError`), a session ends (`SessionError`), a connection ends
(`ConnectionError`). Who ended it and with which code stands in five attributes of every exception, None when unknown:
`close_code`, `close_reason`, `ended_by`, `application_code`, `wire_code`. The Rust core sets them after construction,
so they are neither constructor parameters nor part of `to_dict()`.

The library's exceptions survive `pickle` and `copy`, with all attributes.
"""

from __future__ import annotations

import builtins
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar

from pywebtransport.constants import ErrorCodes
from pywebtransport.types import Headers, SessionState, StreamState

if TYPE_CHECKING:
    from pywebtransport._core import CloseInfo

__all__: list[str] = [
    "AuthenticationError",
    "CertificateError",
    "ClientError",
    "ConfigurationError",
    "ConnectionError",
    "DatagramError",
    "FlowControlError",
    "HandshakeError",
    "ProtocolError",
    "SerializationError",
    "ServerError",
    "SessionError",
    "StreamError",
    "TimeoutError",
    "WebTransportError",
    "certificate_not_found",
    "datagram_too_large",
    "get_error_category",
    "invalid_config",
    "is_fatal_error",
    "is_retriable_error",
    "session_not_ready",
    "stream_closed",
]


class WebTransportError(Exception):
    """The base of all exceptions of the library.

    Attributes:
        message: what happened, without the code.
        error_code: an `ErrorCodes` value or any other integer; 0 and None count as "not given" and become the
            default of the class.
        details: anything else worth knowing, for machines.
        close_code: the code of the close that ended the session or connection.
        close_reason: the reason text of that close.
        ended_by: "local", "peer" or "transport" (the connection failed by itself).
        application_code: the peer's reset or stop code, mapped back to the 32-bit WebTransport range; None when the
            code on the wire lies outside that range.
        wire_code: the HTTP/3 or QUIC code as it was on the wire.
    """

    close_code: int | None = None
    close_reason: str | None = None
    ended_by: str | None = None
    application_code: int | None = None
    wire_code: int | None = None

    _default_code: ClassVar[ErrorCodes] = ErrorCodes.INTERNAL_ERROR
    _fields: ClassVar[tuple[str, ...]] = ()  # the attributes that repr() and to_dict() show, in constructor order
    _shown_as: ClassVar[str | None] = None  # the class name that repr() and to_dict() show, when not the real one

    def __init__(
        self,
        message: str,
        error_code: int | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        """Store the message, the code (or the default of the class) and the details (or an empty dict)."""
        super().__init__(message)
        self.message = message
        self.error_code: int = error_code or self._default_code
        self.details: dict[str, Any] = details or {}

    def to_dict(self) -> dict[str, Any]:
        """Return type, message, error_code, details and the attributes of the class, for logs and JSON."""
        result: dict[str, Any] = {
            "type": self._shown_as or type(self).__name__,
            "message": self.message,
            "error_code": self.error_code,
            "details": self.details,
        }
        for name in self._fields:
            value = getattr(self, name)
            result[name] = value.value if isinstance(value, Enum) else value
        return result

    def __repr__(self) -> str:
        """Return `Class(message='...', error_code=0x..., attribute=...)`."""
        parts = [f"message='{self.message}'", f"error_code={hex(self.error_code)}"]
        parts += [f"{name}={getattr(self, name)!r}" for name in self._fields]
        return f"{self._shown_as or type(self).__name__}({', '.join(parts)})"

    def __str__(self) -> str:
        """Return `[0x...] message`."""
        return f"[{hex(self.error_code)}] {self.message}"


class AuthenticationError(WebTransportError):
    """A peer could not prove who it is."""

    _default_code = ErrorCodes.APP_AUTHENTICATION_FAILED
    _fields = ("auth_method",)

    def __init__(
        self,
        message: str,
        error_code: int | None = None,
        auth_method: str | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        """Store what the base stores, and the method of authentication."""
        super().__init__(message, error_code, details)
        self.auth_method = auth_method


class CertificateError(WebTransportError):
    """A certificate or key is missing, unreadable or not acceptable."""

    _default_code = ErrorCodes.APP_AUTHENTICATION_FAILED
    _fields = ("certificate_path", "certificate_error")

    def __init__(
        self,
        message: str,
        error_code: int | None = None,
        certificate_path: str | None = None,
        certificate_error: str | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        """Store what the base stores, the file and a short name of the problem."""
        super().__init__(message, error_code, details)
        self.certificate_path = certificate_path
        self.certificate_error = certificate_error


class ClientError(WebTransportError):
    """The client could not do what was asked; a rejected connect says `HTTP status <code>` in its text.

    Attributes:
        status: the HTTP status of a server that refused the session, such as 403; None for anything else.
        response_headers: the headers of that response, names in lower case; `location` when it was a redirection,
            which is never followed.
    """

    status: int | None = None
    response_headers: Headers | None = None

    _default_code = ErrorCodes.APP_INVALID_REQUEST
    _fields = ("target_url",)

    def __init__(
        self,
        message: str,
        error_code: int | None = None,
        target_url: str | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        """Store what the base stores, and the URL."""
        super().__init__(message, error_code, details)
        self.target_url = target_url


class ConfigurationError(WebTransportError):
    """A configuration value is wrong, or an optional package is missing."""

    _default_code = ErrorCodes.APP_INVALID_REQUEST
    _fields = ("config_key", "config_value")

    def __init__(
        self,
        message: str,
        error_code: int | None = None,
        config_key: str | None = None,
        config_value: Any | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        """Store what the base stores, the key and its value."""
        super().__init__(message, error_code, details)
        self.config_key = config_key
        self.config_value = config_value


class ConnectionError(WebTransportError, builtins.ConnectionError):
    """The connection could not be made, or is gone. Also caught by `except builtins.ConnectionError`."""

    _default_code = ErrorCodes.CONNECTION_REFUSED
    _fields: ClassVar[tuple[str, ...]] = ("remote_address",)

    def __init__(
        self,
        message: str,
        error_code: int | None = None,
        remote_address: tuple[str, int] | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        """Store what the base stores, and the peer's host and port."""
        super().__init__(message, error_code, details)
        self.remote_address = remote_address


class DatagramError(WebTransportError):
    """A datagram could not be sent or received."""

    _default_code = ErrorCodes.INTERNAL_ERROR
    _fields = ("datagram_size", "max_size")

    def __init__(
        self,
        message: str,
        error_code: int | None = None,
        datagram_size: int | None = None,
        max_size: int | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        """Store what the base stores, the size of the datagram and the greatest size allowed, in bytes."""
        super().__init__(message, error_code, details)
        self.datagram_size = datagram_size
        self.max_size = max_size


class DatagramTooLargeError(DatagramError, ValueError):
    """A datagram does not fit the path: 0.8.1 documented ValueError and raised DatagramError, so this is both."""

    _shown_as = "DatagramError"


class FlowControlError(WebTransportError):
    """A flow control limit was broken."""

    _default_code = ErrorCodes.FLOW_CONTROL_ERROR
    _fields = ("stream_id", "limit_exceeded", "current_value")

    def __init__(
        self,
        message: str,
        error_code: int | None = None,
        stream_id: int | None = None,
        limit_exceeded: int | None = None,
        current_value: int | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        """Store what the base stores, the stream, the limit and the value that broke it."""
        super().__init__(message, error_code, details)
        self.stream_id = stream_id
        self.limit_exceeded = limit_exceeded
        self.current_value = current_value


class HandshakeError(WebTransportError):
    """The QUIC, TLS, HTTP/3 or proxy handshake failed."""

    _default_code = ErrorCodes.INTERNAL_ERROR
    _fields = ("handshake_stage",)

    def __init__(
        self,
        message: str,
        error_code: int | None = None,
        handshake_stage: str | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        """Store what the base stores, and the stage that failed."""
        super().__init__(message, error_code, details)
        self.handshake_stage = handshake_stage


class ProtocolError(WebTransportError):
    """A rule of HTTP/3 or WebTransport was broken."""

    _default_code = ErrorCodes.PROTOCOL_VIOLATION
    _fields = ("frame_type",)

    def __init__(
        self,
        message: str,
        error_code: int | None = None,
        frame_type: int | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        """Store what the base stores, and the frame type concerned."""
        super().__init__(message, error_code, details)
        self.frame_type = frame_type


class SerializationError(WebTransportError):
    """An object could not be turned into bytes or back. Neither a TypeError nor a ValueError."""

    _default_code = ErrorCodes.INTERNAL_ERROR
    _fields = ("original_exception",)

    def __init__(
        self,
        message: str,
        error_code: int | None = None,
        details: dict[str, Any] | None = None,
        original_exception: Exception | None = None,
    ) -> None:
        """Store what the base stores, and the exception of the serializer underneath."""
        super().__init__(message, error_code, details)
        self.original_exception = original_exception

    def to_dict(self) -> dict[str, Any]:
        """Return the same as the base; the original exception as text."""
        return {**super().to_dict(), "original_exception": str(self.original_exception)}


class ServerError(WebTransportError):
    """The server could not do what was asked."""

    _default_code = ErrorCodes.APP_SERVICE_UNAVAILABLE
    _fields = ("bind_address",)

    def __init__(
        self,
        message: str,
        error_code: int | None = None,
        bind_address: tuple[str, int] | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        """Store what the base stores, and the address to bind."""
        super().__init__(message, error_code, details)
        self.bind_address = bind_address


class SessionError(WebTransportError):
    """The session is not in a state for this, or has ended."""

    _default_code = ErrorCodes.INTERNAL_ERROR
    _fields = ("session_id", "session_state")

    def __init__(
        self,
        message: str,
        session_id: str | None = None,
        error_code: int | None = None,
        session_state: SessionState | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        """Store what the base stores, the session and its state."""
        super().__init__(message, error_code, details)
        self.session_id = session_id
        self.session_state = session_state


class StreamError(WebTransportError):
    """The stream is not in a state for this, was reset or stopped, or could not be opened."""

    _default_code = ErrorCodes.STREAM_STATE_ERROR
    _fields = ("stream_id", "stream_state")

    def __init__(
        self,
        message: str,
        stream_id: int | None = None,
        error_code: int | None = None,
        stream_state: StreamState | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        """Store what the base stores, the stream and its state."""
        super().__init__(message, error_code, details)
        self.stream_id = stream_id
        self.stream_state = stream_state

    def __str__(self) -> str:
        """Return `[0x...] message`, with ` (stream_id=N)` when the stream is known."""
        suffix = "" if self.stream_id is None else f" (stream_id={self.stream_id})"
        return super().__str__() + suffix


class TimeoutError(WebTransportError, builtins.TimeoutError):
    """Something took longer than allowed. Also caught by `except builtins.TimeoutError`."""

    _default_code = ErrorCodes.APP_CONNECTION_TIMEOUT
    _fields: ClassVar[tuple[str, ...]] = ("timeout_duration", "operation")

    def __init__(
        self,
        message: str,
        error_code: int | None = None,
        timeout_duration: float | None = None,
        operation: str | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        """Store what the base stores, the limit in seconds and what was being done."""
        WebTransportError.__init__(self, message, error_code, details)
        self.timeout_duration = timeout_duration
        self.operation = operation


class ConnectionTimeoutError(TimeoutError, ConnectionError):
    """A connect did not become ready in time.

    0.8.1 documented `TimeoutError` and raised `ConnectionError`; this is both, and so are the builtins.
    """

    _fields = ("timeout_duration", "operation", "remote_address")

    def __init__(
        self,
        message: str,
        error_code: int | None = None,
        timeout_duration: float | None = None,
        operation: str | None = None,
        remote_address: tuple[str, int] | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        """Store what both bases store."""
        super().__init__(message, error_code, timeout_duration, operation, details)
        self.remote_address = remote_address


def certificate_not_found(path: str) -> CertificateError:
    """Return the error for a certificate, key or CA file that does not exist."""
    return CertificateError(
        f"Certificate file not found: {path}", certificate_path=path, certificate_error="file_not_found"
    )


def datagram_too_large(size: int, max_size: int) -> DatagramError:
    """Return the error for a datagram of `size` bytes where `max_size` are possible."""
    return DatagramTooLargeError(
        f"Datagram size {size} exceeds maximum {max_size}", datagram_size=size, max_size=max_size
    )


def get_error_category(exception: Exception) -> str:
    """Return a short word for logs and metrics, such as "stream" or "timeout"; "unknown" for foreign exceptions."""
    for cls in type(exception).__mro__:
        if cls in _CATEGORIES:
            return _CATEGORIES[cls]
    return "unknown"


def invalid_config(key: str, value: Any, reason: str) -> ConfigurationError:
    """Return the error for the configuration value `value` of `key`."""
    return ConfigurationError(f"Invalid configuration for '{key}': {reason}", config_key=key, config_value=value)


def is_fatal_error(exception: Exception) -> bool:
    """Tell whether to give up the connection. True for every exception that is not the library's."""
    return exception.error_code in _FATAL_CODES if isinstance(exception, WebTransportError) else True


def is_retriable_error(exception: Exception) -> bool:
    """Tell whether the same operation may succeed later. False for every exception that is not the library's."""
    return isinstance(exception, WebTransportError) and exception.error_code in _RETRIABLE_CODES


def session_not_ready(session_id: str, current_state: SessionState) -> SessionError:
    """Return the error for an operation on a session that is not CONNECTED."""
    return SessionError(
        f"Session {session_id} not ready, current state: {current_state}",
        session_id=session_id,
        session_state=current_state,
    )


def session_ended(session_id: str, current_state: SessionState, info: CloseInfo) -> SessionError:
    """Return the error that says how a session ended."""
    reason = f": {info.reason}" if info.reason else ""
    if info.status is not None:
        text = f"Session request rejected with HTTP status {info.status}"
    elif info.cause == "connection_lost":
        text = f"Session {session_id} ended with its connection{reason}"
    else:
        who = {"local": "here", "peer": "by the peer"}.get(info.ended_by, "by the transport")
        text = f"Session {session_id} was closed {who} with code {info.code}{reason}"
    error = SessionError(text, session_id=session_id, session_state=current_state)
    error.close_code, error.close_reason, error.ended_by = info.code, info.reason, info.ended_by
    return error


def stream_closed(stream_id: int, reason: str = "Stream was closed") -> StreamError:
    """Return the error for an operation on a stream that has ended."""
    return StreamError(f"Stream {stream_id} closed: {reason}", stream_id=stream_id)


_CATEGORIES: dict[type, str] = {
    AuthenticationError: "authentication",
    CertificateError: "certificate",
    ClientError: "client",
    ConfigurationError: "configuration",
    ConnectionError: "connection",
    DatagramError: "datagram",
    FlowControlError: "flow_control",
    HandshakeError: "handshake",
    ProtocolError: "protocol",
    SerializationError: "serialization",
    ServerError: "server",
    SessionError: "session",
    StreamError: "stream",
    TimeoutError: "timeout",
}

_FATAL_CODES = frozenset(
    {
        ErrorCodes.PROTOCOL_VIOLATION,
        ErrorCodes.FRAME_ENCODING_ERROR,
        ErrorCodes.CRYPTO_BUFFER_EXCEEDED,
        ErrorCodes.APP_AUTHENTICATION_FAILED,
        ErrorCodes.APP_PERMISSION_DENIED,
    }
)

_RETRIABLE_CODES = frozenset(
    {
        ErrorCodes.APP_CONNECTION_TIMEOUT,
        ErrorCodes.APP_SERVICE_UNAVAILABLE,
        ErrorCodes.FLOW_CONTROL_ERROR,
    }
)
