"""One HTTP/3 connection: its state, its diagnostics, and the sessions on it.

The life of a connection is kept by the core. This class adds what only Python has: the random session ids, the events,
and the states before there is a core connection (IDLE, CONNECTING) or when none came to be (FAILED).
"""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from pywebtransport import _core
from pywebtransport._bridge import WeakCallback, current_bridge, finished, never_expires, parked
from pywebtransport.config import ClientConfig, ServerConfig
from pywebtransport.connection.info import ConnectionDiagnostics, ConnectionInfo
from pywebtransport.constants import DEFAULT_SECURE_PORT, ErrorCodes
from pywebtransport.events import EventEmitter
from pywebtransport.exceptions import (
    ClientError,
    ConnectionError,
    ConnectionTimeoutError,
    WebTransportError,
)
from pywebtransport.protocol.session_info import WebTransportSessionInfo
from pywebtransport.types import Address, ConnectionState, EventType, Headers, SessionId, SessionState
from pywebtransport.utils import generate_session_id, get_logger, get_timestamp, random_uuid

if TYPE_CHECKING:
    from pywebtransport.protocol.handler import WebTransportProtocolHandler

__all__: list[str] = ["ConnectionDiagnostics", "ConnectionInfo", "WebTransportConnection"]

logger = get_logger(__name__)


class WebTransportConnection(EventEmitter):
    """A QUIC connection with HTTP/3 on it, made by `create_client` or by a `WebTransportServer`.

    Events: CONNECTION_ESTABLISHED `{connection_id}` after the handshake; CONNECTION_LOST `{connection_id, exception}`
    when the peer or the network ended it; CONNECTION_CLOSED `{connection_id}` whenever it has ended;
    SETTINGS_RECEIVED `{settings}`; on servers SESSION_REQUEST with the fields of `WebTransportSessionInfo`.
    """

    __slots__ = (
        "_close_callbacks",
        "_closing",
        "_config",
        "_connection_id",
        "_core",
        "_early_state",
        "_ended",
        "_handler",
        "_manual_activity",
        "_requested",
        "_sessions",
        "_settings_seen",
        "_subscription",
        "idle_timeout",
    )

    def __init__(self, config: ClientConfig | ServerConfig) -> None:
        """Make a connection object in state IDLE; `create_client` makes one that is connected."""
        super().__init__()
        self._config = config
        self._connection_id = f"conn_{random_uuid()}"
        self._core: _core.Connection | None = None
        self._subscription: _core.Subscription | None = None
        self._early_state = ConnectionState.IDLE
        self._closing = False
        self._ended = False
        self._settings_seen = False
        self._manual_activity = 0.0
        self._requested: SessionId | None = None
        self._sessions: dict[SessionId, _core.Session] = {}
        self._close_callbacks: tuple[Callable[[WebTransportConnection], None], ...] = ()
        self._handler: WebTransportProtocolHandler | None = None
        self.idle_timeout: float = config.connection_idle_timeout

    @classmethod
    async def create_client(
        cls, config: ClientConfig, host: str, port: int, path: str = "/", proxy_addr: Address | None = None
    ) -> Self:
        """Connect to a server and ask for a session on `path`.

        Waits for name resolution, the QUIC and TLS handshakes and the peer's SETTINGS, at most
        `config.connect_timeout` seconds. It does not wait for the answer to the session request: use
        `wait_for_ready_session`. Cancelling it abandons the attempt and leaves nothing behind.

        Args:
            config: certificates, limits and the headers to send.
            host: DNS name or IP address without brackets; also the name the certificate must have.
            port: UDP port.
            path: path and query of the session request.
            proxy_addr: not supported, see `PROXY_UNSUPPORTED`.

        Raises:
            ConnectionError: anything failed; when it was the time limit, also a TimeoutError.
        """
        if proxy_addr is not None:
            raise ConnectionError(PROXY_UNSUPPORTED, remote_address=proxy_addr)
        try:
            async with asyncio.timeout(config.connect_timeout):
                return await cls._open(_core.Client(current_bridge(), config), config, host, port, path)
        except ConnectionError:
            raise
        except builtins.TimeoutError as error:
            raise connect_timeout(host, port, config.connect_timeout) from error
        except (WebTransportError, OSError, ValueError) as error:
            raise connection_failed(error, host, port) from error

    @classmethod
    async def create_server(cls, config: ServerConfig, transport: Any, protocol: Any) -> Self:
        """Not offered: took asyncio and aioquic objects. `WebTransportServer` accepts connections."""
        raise ConnectionError(f"create_server {_USE_SERVER}")

    @classmethod
    async def _open(cls, client: _core.Client, config: ClientConfig, host: str, port: int, path: str) -> Self:
        """Connect without a time limit, with a core client that the caller may keep for more connections."""
        connection = cls(config)
        connection._early_state = ConnectionState.CONNECTING
        connection._attach(await finished(client.connect(host, port)))
        try:
            connection._requested = connection._request_session(config, host, port, path)
        except BaseException:
            await connection.close()
            raise
        return connection

    def _request_session(self, config: ClientConfig, host: str, port: int, path: str) -> SessionId:
        """Send a session request; `_wait_for_session` waits for its answer."""
        assert self._core is not None, "only a connection that was made is asked"
        authority, headers = _request_headers(config.headers, host, port)
        # RFC 9110 7.1: a fragment is for the client only.
        path = path.partition("#")[0]
        return self._add_session(self._core.request_session(authority, path, headers, config.subprotocols))

    def _has_room(self) -> bool:
        """Tell whether another session may be requested: the two ends flow-control each of them."""
        return self._core is not None and not self._closing and self._core.can_request_session()

    @classmethod
    def _accepted(cls, core: _core.Connection, config: ServerConfig) -> Self:
        """Wrap a connection that a server has accepted."""
        connection = cls(config)
        connection._attach(core)
        return connection

    async def __aenter__(self) -> Self:
        """Return the connection itself."""
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        """Close the connection."""
        await self.close()

    # --- what it is ---

    @property
    def config(self) -> ClientConfig | ServerConfig:
        """The configuration it was made with."""
        return self._config

    @property
    def connection_id(self) -> str:
        """`conn_` and a random UUID; not a QUIC connection id."""
        return self._connection_id

    @property
    def state(self) -> ConnectionState:
        """The current state; FAILED only when no connection came to be."""
        if self._core is None:
            return self._early_state
        if self._core.close_info is not None:
            return ConnectionState.CLOSED
        return ConnectionState.CLOSING if self._closing else ConnectionState.CONNECTED

    @property
    def is_connected(self) -> bool:
        """Whether the handshake is done and the connection lives."""
        return self.state is ConnectionState.CONNECTED

    @property
    def is_closing(self) -> bool:
        """Whether `close` is at work."""
        return self.state is ConnectionState.CLOSING

    @property
    def is_closed(self) -> bool:
        """Whether it has ended, by whomever."""
        return self.state in (ConnectionState.CLOSED, ConnectionState.FAILED)

    @property
    def local_address(self) -> Address | None:
        """Own host and port, None before the connection exists."""
        return self._core.local_address if self._core is not None else None

    @property
    def remote_address(self) -> Address | None:
        """The peer's host and port; changes when the peer migrates."""
        return self._core.remote_address if self._core is not None else None

    @property
    def dialect(self) -> str | None:
        """The WebTransport draft that is spoken, such as "draft-07"; None before the peer's SETTINGS arrived."""
        return self._core.dialect if self._core is not None else None

    @property
    def driver(self) -> str | None:
        """Where its packets are handled: "loop" (the event loop's thread) or "thread" (the I/O thread)."""
        return self._core.driver if self._core is not None else None

    @property
    def protocol_handler(self) -> WebTransportProtocolHandler | None:
        """A read-only view of the protocol state; None before the connection exists."""
        if self._core is None:
            return None
        if self._handler is None:
            from pywebtransport.protocol.handler import WebTransportProtocolHandler

            self._handler = WebTransportProtocolHandler._view(self)
        return self._handler

    @property
    def last_activity_time(self) -> float:
        """When a packet was last sent or received, or `record_activity` called; seconds since the epoch."""
        if self._core is None:
            return self._manual_activity
        return max(self._core.stats()["last_activity"], self._manual_activity)

    @property
    def diagnostics(self) -> ConnectionDiagnostics:
        """A snapshot of counters and transport values."""
        info = ConnectionInfo(connection_id=self._connection_id, state=self.state)
        if self._core is None:
            return ConnectionDiagnostics(stats=info, rtt=0.0, cwnd=0, packets_in_flight=0, packet_loss_rate=0.0)
        values = self._core.stats()
        info.local_address, info.remote_address = self.local_address, self.remote_address
        info.established_at = values["established_at"] or None
        info.closed_at = values["closed_at"] or None
        info.last_activity = self.last_activity_time or None
        for name in ("bytes_sent", "bytes_received", "packets_sent", "packets_received"):
            setattr(info, name, int(values[name]))
        closed = self._core.close_info
        info.error_count = int(values["protocol_errors"]) + (closed is not None and closed.ended_by == "transport")
        return ConnectionDiagnostics(
            stats=info,
            rtt=values["rtt"],
            cwnd=int(values["cwnd"]),
            packets_in_flight=int(values["packets_in_flight"]),
            packet_loss_rate=values["packets_lost"] / max(1.0, values["packets_sent"]),
            mtu=int(values["mtu"]),
            gso_segments=int(values["gso_segments"]),
            gro_segments=int(values["gro_segments"]),
            send_buffer_size=int(values["send_buffer_size"]),
            receive_buffer_size=int(values["receive_buffer_size"]),
        )

    # --- its life ---

    async def accept(self, transport: Any, protocol: Any) -> None:
        """Not offered: took asyncio and aioquic objects. `WebTransportServer` accepts connections."""
        raise ConnectionError(f"accept {_USE_SERVER}")

    async def close(self, code: int = 0, reason: str = "") -> None:
        """Close the connection and everything on it.

        Waits until the close packet was handed to the socket; data that is still queued is lost, so close the sessions
        first. Idempotent: a second call waits for the first. Cancelling it does not undo the close.

        Args:
            code: HTTP/3 error code; 0 means H3_NO_ERROR.
            reason: text for the peer's log.
        """
        core = self._core
        if core is None:
            self._early_state = ConnectionState.CLOSED
            return
        if core.close_info is not None:
            self._finish(soon=True)
            return
        if self._closing:
            await self.wait_closed()
            return
        self._closing = True
        try:
            # RFC 9114 8.1: endpoints that close without an error use H3_NO_ERROR.
            core.close(code or ErrorCodes.H3_NO_ERROR, reason)
            if not core.has_ended:
                await parked(core.closed(), lambda _ticket: core.has_ended or None, None, never_expires)
        except BaseException:
            self._finish(soon=True)
            raise
        if self._finish(soon=False):
            await self.emit(EventType.CONNECTION_CLOSED, {"connection_id": self._connection_id})

    async def wait_ready(self, timeout: float = 30.0) -> None:
        """Return once the handshake is done; a connection from `create_client` or a server is at that point already.

        Args:
            timeout: kept for compatibility, nothing waits here.

        Raises:
            ConnectionError: there is no connection, or it has ended.
        """
        if not self.is_connected:
            raise ConnectionError(f"Connection is not connected, its state is {self.state}")

    async def wait_closed(self) -> None:
        """Wait until the connection has ended: closed by either side, timed out or reset. Returns at once when IDLE."""
        core = self._core
        if core is not None and core.close_info is None:
            await parked(core.closed(), lambda _ticket: core.close_info, None, never_expires)

    async def wait_for_ready_session(self, timeout: float = 30.0) -> SessionId:
        """Wait for the server's answer to the session request of `create_client`.

        Cancelling it loses nothing; it may be called again.

        Args:
            timeout: limit in seconds.

        Returns:
            The id to make a `WebTransportSession` with.

        Raises:
            ClientError: the server refused; the text names the status: `HTTP status 404`.
            ConnectionError: the connection ended first, or the limit passed (then it is also a TimeoutError).
        """
        if self._requested is None:
            raise ConnectionError("No session was requested on this connection")
        return await self._wait_for_session(self._requested, timeout)

    async def _wait_for_session(self, session_id: SessionId, timeout: float | None) -> SessionId:
        """Do the work of `wait_for_ready_session` for any session, with None for no limit."""
        core = self._sessions[session_id]
        if core.state == "connecting":
            await parked(
                core.established(),
                lambda _ticket: True if core.state != "connecting" else None,
                timeout,
                lambda: connect_timeout(*(self.remote_address or ("", 0)), timeout),
            )
        # A session that was accepted and closed in the same packet is still a session: its error names the close.
        if not core.was_established and (info := core.close_info) is not None:
            raise self._not_established(core, info)
        return session_id

    async def monitor_health(self, check_interval: float = 30.0, rtt_timeout: float = 5.0) -> None:
        """Log a warning for everything that looks wrong, until the connection has ended. May be cancelled at any time.

        Args:
            check_interval: seconds between two looks.
            rtt_timeout: warn when the round-trip time is longer, in seconds.
        """
        while self._core is not None and not self.is_closed:
            try:
                async with asyncio.timeout(check_interval):
                    await self.wait_closed()
            except builtins.TimeoutError:
                diagnostics = self.diagnostics
                issues = diagnostics.issues
                if diagnostics.rtt > rtt_timeout:
                    issues.append(f"Round-trip time {diagnostics.rtt:.2f} s exceeds {rtt_timeout} s")
                for issue in issues:
                    logger.warning("Connection %s: %s", self._connection_id, issue)

    async def drain(self) -> None:
        """Wind the connection down: GOAWAY for new sessions, and `drain` for each session on it.

        The peer asks for no new session on this connection; a server refuses those under way, and a client that gets
        the refusal may repeat its request on another connection. What lives goes on. Does not wait. Idempotent, and
        harmless on a connection that has ended. RFC 9114 section 5.2.

        Raises:
            ConnectionError: there is no connection yet.
        """
        if self._core is None:
            raise ConnectionError(f"Connection is not connected, its state is {self.state}")
        self._core.go_away()

    def record_activity(self) -> None:
        """Count now as activity. All traffic counts by itself; this is for callers who know better."""
        self._manual_activity = get_timestamp()

    # --- its sessions ---

    def get_all_sessions(self) -> list[WebTransportSessionInfo]:
        """Return what is known about the sessions that are not closed."""
        return [_session_info(session_id, core) for session_id, core in self._sessions.items()]

    def get_ready_session_id(self) -> SessionId | None:
        """Return the id of a connected session, the oldest first, or None."""
        return next((session_id for session_id, core in self._sessions.items() if core.state == "connected"), None)

    def get_session_info(self, session_id: SessionId) -> WebTransportSessionInfo | None:
        """Return what is known about one session; None for an unknown or forgotten one."""
        core = self._sessions.get(session_id)
        return _session_info(session_id, core) if core is not None else None

    def _add_session(self, core: _core.Session) -> SessionId:
        """Give a core session its id."""
        session_id = generate_session_id()
        self._sessions[session_id] = core
        return session_id

    def _core_session(self, session_id: SessionId) -> _core.Session | None:
        """Return the core's half of a session: how `WebTransportSession` finds it."""
        return self._sessions.get(session_id)

    def _forget_session(self, session_id: SessionId) -> None:
        """Drop a closed session. A long-lived connection may see millions of them."""
        self._sessions.pop(session_id, None)

    async def _release(self) -> None:
        """Close the connection after a session of it was closed here, unless another session lives on it.

        A client waits for the close packet. A server leaves it to the core, which gives the peer a moment to read the
        session's close: browsers report a lost connection when CONNECTION_CLOSE comes too close behind it.
        """
        if self._core is None or self._carries_sessions():
            return
        if isinstance(self._config, ClientConfig):
            await self.close()
        else:
            self._core.release()

    def _carries_sessions(self) -> bool:
        """Tell whether a session lives on it."""
        return self._core is not None and self._core.session_count() > 0

    async def _give_up(self, session_id: SessionId) -> None:
        """Cancel a session request that failed or is not wanted any more; other sessions go on."""
        core = self._sessions.get(session_id)
        if core is not None:
            core.close(0, "")
        self._forget_session(session_id)
        await self._release()

    def _session_gone(self) -> None:
        """Close a client's connection after the peer has closed its last session: nobody will use it again.

        A server leaves that to the handler of the session, and to the peer, who may request another session.
        """
        if self._core is not None and isinstance(self._config, ClientConfig):
            self._core.release()

    # --- the end ---

    def _attach(self, core: _core.Connection) -> None:
        self._core = core
        self._subscription = core.subscribe(WeakCallback(self._on_core_change))
        self._note(EventType.CONNECTION_ESTABLISHED, WebTransportConnection._id_data)
        self._on_core_change()

    def _on_close(self, callback: Callable[[WebTransportConnection], None]) -> None:
        """Call back once the connection has ended; at once when it already has."""
        if self._ended:
            callback(self)
        else:
            self._close_callbacks += (callback,)

    def _on_core_change(self) -> None:
        """Look what changed: the peer's SETTINGS, or the end."""
        core = self._core
        if core is None:
            return
        if not self._settings_seen and core.settings():
            self._settings_seen = True
            self._note(EventType.SETTINGS_RECEIVED, WebTransportConnection._settings_data)
            if self._handler is not None:
                self._handler._emit_soon(EventType.SETTINGS_RECEIVED, self._settings_data())
        if core.close_info is not None and not self._closing:
            self._finish(soon=True)

    def _finish(self, soon: bool) -> bool:
        """Tell everybody that the connection has ended, once. With `soon` the last event is queued here as well."""
        if self._ended:
            return False
        self._ended = True
        info = self._core.close_info if self._core is not None else None
        if info is not None and info.ended_by != "local":
            data = {"connection_id": self._connection_id, "exception": self._lost(info)}
            self._emit_soon(EventType.CONNECTION_LOST, data)
        if soon:
            self._emit_soon(EventType.CONNECTION_CLOSED, {"connection_id": self._connection_id})
        callbacks, self._close_callbacks = self._close_callbacks, ()
        for callback in callbacks:
            callback(self)
        return True

    def _id_data(self) -> dict[str, Any]:
        return {"connection_id": self._connection_id}

    def _settings_data(self) -> dict[str, Any]:
        return {"settings": self._core.settings() if self._core is not None else None}

    def _lost(self, info: _core.CloseInfo) -> ConnectionError:
        """Make the error that says how the connection ended."""
        reason = f": {info.reason}" if info.reason else ""
        if info.cause == "timeout":
            text = "Connection timed out, the peer has stopped answering"
        elif info.ended_by == "peer":
            text = f"Connection closed by the peer with code {info.code:#x}{reason}"
        elif info.ended_by == "local":
            text = f"Connection was closed with code {info.code:#x}{reason}"
        else:
            text = f"Connection lost{reason}"
        return _with_close(ConnectionError(text, remote_address=self.remote_address), info)

    def _not_established(self, core: _core.Session, info: _core.CloseInfo) -> WebTransportError:
        """Make the error for a session that was never accepted."""
        if info.status is not None:
            error = ClientError(f"Session request rejected with HTTP status {info.status}")
            error.status, error.response_headers = info.status, dict(core.response_headers)
            return _with_close(error, info)
        if info.cause == "protocol":
            return _with_close(ClientError(f"Session request given up: {info.reason}"), info)
        if info.cause in ("reset", "rejected"):
            reason = f": {info.reason}" if info.reason else ""
            return _with_close(ClientError(f"Session request refused{reason}"), info)
        closed = self._core.close_info if self._core is not None else None
        return self._lost(closed or info)

    def __str__(self) -> str:
        """Return id, state and peer for logs."""
        return f"WebTransportConnection({self._connection_id}, state={self.state}, remote={self.remote_address})"


def connect_timeout(host: str, port: int, seconds: float | None) -> ConnectionTimeoutError:
    """Return the error for a connect that was not answered in time."""
    return ConnectionTimeoutError(
        f"Connection to {host}:{port} timed out after {seconds} s",
        timeout_duration=seconds,
        operation="connect",
        remote_address=(host, port),
    )


def connection_failed(error: Exception, host: str, port: int) -> ConnectionError:
    """Return the error for a connection that could not be made because of `error`."""
    text = error.message if isinstance(error, WebTransportError) else str(error)
    return ConnectionError(f"Connection to {host}:{port} failed: {text}", remote_address=(host, port))


ErrorT = TypeVar("ErrorT", bound=WebTransportError)


def _with_close(error: ErrorT, info: _core.CloseInfo) -> ErrorT:
    """Put how it ended into the attributes of the error."""
    error.close_code, error.close_reason, error.ended_by = info.code, info.reason, info.ended_by
    error.wire_code = info.wire_code
    return error


def _request_headers(headers: Headers, host: str, port: int) -> tuple[str, list[tuple[str, str]]]:
    """Return `:authority` and the headers to send beside it.

    RFC 9114 4.3.1: `:authority` must not disagree with a `host` header, so a caller's `host` becomes it.
    """
    name = f"[{host}]" if ":" in host else host
    authority = name if port == DEFAULT_SECURE_PORT else f"{name}:{port}"
    pairs = [(key.lower(), value) for key, value in headers.items()]
    return dict(pairs).get("host", authority), [pair for pair in pairs if pair[0] != "host"]


def _session_info(session_id: SessionId, core: _core.Session) -> WebTransportSessionInfo:
    values, closed = core.counters(), core.close_info
    return WebTransportSessionInfo(
        session_id=session_id,
        control_stream_id=core.stream_id,
        state=SessionState(core.state),
        path=core.path,
        created_at=values["created_at"],
        headers=dict(core.headers),
        ready_at=values["ready_at"] or None,
        closed_at=values["closed_at"] or None,
        close_code=closed.code if closed is not None else None,
        close_reason=closed.reason if closed is not None else None,
        **(core.flow_control() or {}),
    )


PROXY_UNSUPPORTED = (
    "Proxies are not supported: WebTransport through an HTTP proxy needs CONNECT-UDP (RFC 9298); "
    "remove `proxy` from the configuration or route UDP another way"
)

_USE_SERVER = "is not offered: there are no asyncio or aioquic objects to give; use WebTransportServer"
