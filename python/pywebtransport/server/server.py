"""The server: binds a UDP port, accepts connections, and hands session requests on.

One task takes what the core has accepted, connections and session requests in their order. A request is handled in a
task of its own, which becomes the task of the session's handler; apart from that nothing runs per connection or
session. Who decides about requests is `ServerApp`, or listeners of SESSION_REQUEST.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pywebtransport import _core
from pywebtransport._bridge import current_bridge, finished, never_expires, parked
from pywebtransport._logging import apply_log_level
from pywebtransport._socket import socket_issues
from pywebtransport.config import ServerConfig
from pywebtransport.connection.connection import WebTransportConnection
from pywebtransport.constants import ErrorCodes
from pywebtransport.events import EventEmitter
from pywebtransport.exceptions import ConnectionError, ServerError, WebTransportError
from pywebtransport.manager.connection import ConnectionManager
from pywebtransport.manager.session import SessionManager
from pywebtransport.server import http
from pywebtransport.types import Address, ConnectionId, ConnectionState, EventType, SessionId, SessionState
from pywebtransport.utils import get_logger, get_timestamp

__all__: list[str] = ["ServerDiagnostics", "ServerStats", "WebTransportServer"]

logger = get_logger(__name__)

RequestHandler = Callable[[WebTransportConnection, SessionId, _core.Session], Coroutine[Any, Any, None]]
ExchangeHandler = Callable[[WebTransportConnection, _core.Exchange], Coroutine[Any, Any, None]]


@dataclass(kw_only=True)
class ServerStats:
    """Counters of a server.

    Attributes:
        connections_accepted: connections that finished their handshake.
        connections_rejected: connections refused because of `max_connections`.
        connection_errors: handshakes that failed or were not over in time.
        protocol_errors: violations of HTTP/3 or WebTransport by peers.
        uptime: seconds since `listen`.
    """

    connections_accepted: int = 0
    connections_rejected: int = 0
    connection_errors: int = 0
    protocol_errors: int = 0
    uptime: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return all fields."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class ServerDiagnostics:
    """A snapshot of a server.

    Attributes:
        origins_refused: session requests refused with 403 because of `ServerConfig.allowed_origins`.
        handshakes_pending: handshakes that are under way now.
        handshakes_resumed: handshakes of clients that came back with a ticket of an earlier connection, which spares
            both ends the certificate and its signatures. None where client certificates are checked.
        handshakes_ignored: clients that got no answer because of `ServerConfig.max_pending_handshakes`.
        handshakes_refused: clients with a validated address that were refused because of it.
        handshakes_timed_out: handshakes that were not over after `ServerConfig.handshake_timeout`.
        retries_sent: clients that had to show their address first because of `ServerConfig.retry_threshold`. Most of
            them are connections a moment later; those of a flood with spoofed addresses never are.
        http_requests: requests of plain HTTP.
        requests_rejected: requests that the core refused by itself: surplus ones, those of foreign origins (also in
            `origins_refused`), those that came while the server winds down.
        requests_timed_out: requests whose client was slower than `ServerConfig.http_timeout`.
        gso_segments: packets that the system takes in one call; 1: no GSO, 0: unknown, as after the end.
        gro_segments: packets that the system hands over in one piece; 1: no GRO, 0: unknown.
        send_buffer_size: the socket's send buffer in bytes, as the system gave it; 0: unknown.
        receive_buffer_size: the same for receiving. What does not fit is lost.
    """

    stats: ServerStats
    connection_states: dict[ConnectionState, int]
    session_states: dict[SessionState, int]
    is_serving: bool
    certfile_path: str
    keyfile_path: str
    max_connections: int
    origins_refused: int = 0
    handshakes_pending: int = 0
    handshakes_resumed: int = 0
    handshakes_ignored: int = 0
    handshakes_refused: int = 0
    handshakes_timed_out: int = 0
    retries_sent: int = 0
    http_requests: int = 0
    requests_rejected: int = 0
    requests_timed_out: int = 0
    gso_segments: int = 0
    gro_segments: int = 0
    send_buffer_size: int = 0
    receive_buffer_size: int = 0

    @property
    def issues(self) -> list[str]:
        """One sentence for everything that looks wrong; empty for a healthy server."""
        stats, issues = self.stats, []
        if not self.is_serving:
            issues.append("Server is not currently serving")
        attempts = stats.connections_accepted + stats.connections_rejected
        if attempts > 20 and (rate := stats.connections_rejected / attempts) > 0.1:
            issues.append(f"High connection rejection rate: {rate:.1%}")
        connections = sum(self.connection_states.values())
        if self.max_connections and connections / self.max_connections > 0.9:
            issues.append(f"High connection usage: {connections} of {self.max_connections}")
        if turned_away := self.handshakes_ignored + self.handshakes_refused:
            issues.append(f"Handshakes turned away: {turned_away}; see max_pending_handshakes")
        begun = stats.connections_accepted + self.handshakes_timed_out
        if begun > 20 and (rate := self.handshakes_timed_out / begun) > 0.1:
            issues.append(f"Handshakes that never ended: {rate:.1%}; spoofed addresses, or a lossy network")
        if self.origins_refused:
            issues.append(f"Session requests refused for their origin: {self.origins_refused}; see allowed_origins")
        for name, path in (("Certificate", self.certfile_path), ("Key", self.keyfile_path)):
            if not path or not Path(path).is_file():
                issues.append(f"{name} file not found: {path or '(none configured)'}")
        return issues

    @property
    def socket_issues(self) -> list[str]:
        """One sentence for everything about this machine that makes the UDP socket slow or lossy."""
        return socket_issues(self.gso_segments, self.send_buffer_size, self.receive_buffer_size)


class WebTransportServer(EventEmitter):
    """Listens for WebTransport connections; use it as `async with`. `ServerApp` adds routes and middleware.

    Events: CONNECTION_ESTABLISHED `{connection_id, connection}`; SESSION_REQUEST with the fields of
    `WebTransportSessionInfo` and `connection`. The event history keeps `connection` as long as it lives. Without a
    ServerApp, a listener of SESSION_REQUEST decides through `connection.protocol_handler`; without a listener every
    request is answered with 404, and so is plain HTTP.
    """

    def __init__(self, config: ServerConfig | None = None) -> None:
        """Make a server that does not listen yet; needs no event loop.

        Args:
            config: None: the defaults, which have no certificate.

        Raises:
            ConfigurationError: the configuration is not valid.
        """
        super().__init__()
        self._config = config or ServerConfig()
        self._config.validate()
        apply_log_level(self._config)
        self._connection_manager = ConnectionManager(
            max_connections=self._config.max_connections,
            connection_cleanup_interval=self._config.connection_cleanup_interval,
            connection_idle_check_interval=self._config.connection_idle_check_interval,
            connection_idle_timeout=self._config.connection_idle_timeout,
        )
        self._session_manager = SessionManager(
            max_sessions=self._config.max_sessions,
            session_cleanup_interval=self._config.session_cleanup_interval,
        )
        self._active = False
        self._listening = False
        self._core: _core.Server | None = None
        self._started_at = 0.0
        self._refused = 0
        self._last_stats = ServerStats()
        self._core_counts: dict[str, int] = {}
        self._by_core: dict[_core.Connection, WebTransportConnection] = {}
        self._accepting: asyncio.Task[None] | None = None
        self._requests: set[asyncio.Task[None]] = set()
        # One object each for all of them, that does not keep the server.
        self._request_done = self._requests.discard
        self._connection_ended = partial(_forget, self._by_core)
        self._request_handler: RequestHandler | None = None
        self._exchange_handler: ExchangeHandler | None = None
        self._stopped: asyncio.Event | None = None

    async def __aenter__(self) -> Self:
        """Activate it; binds nothing."""
        await self._connection_manager.__aenter__()
        await self._session_manager.__aenter__()
        self._active = True
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        """Close it."""
        await self.close()
        await self._connection_manager.shutdown()
        await self._session_manager.shutdown()
        self._active = False

    # --- what it is ---

    @property
    def config(self) -> ServerConfig:
        """The configuration it was made with."""
        return self._config

    @property
    def connection_manager(self) -> ConnectionManager:
        """Its connections."""
        return self._connection_manager

    @property
    def session_manager(self) -> SessionManager:
        """The sessions that ServerApp has made."""
        return self._session_manager

    @property
    def is_serving(self) -> bool:
        """Whether it listens."""
        return self._core is not None

    @property
    def local_address(self) -> Address | None:
        """Host and port it listens on, None while it does not."""
        return self._core.local_address if self._core is not None else None

    @property
    def driver(self) -> str | None:
        """Where packets are handled: "loop" (the event loop's thread) or "thread" (the I/O thread)."""
        return self._core.driver if self._core is not None else None

    # --- its life ---

    async def listen(self, host: str | None = None, port: int | None = None) -> None:
        """Load the certificate, bind the port and begin to accept.

        Args:
            host: address or name; None: `config.bind_host`.
            port: UDP port; None: `config.bind_port`; 0: a free one, see `local_address`.

        Raises:
            ServerError: the server listens already or is not activated, the certificate is missing or bad, or the port
                cannot be bound.
        """
        host = self._config.bind_host if host is None else host
        port = self._config.bind_port if port is None else port
        address = (host, port)
        if not self._active:
            raise ServerError("Server is not activated: use it as `async with`", bind_address=address)
        if self._listening:
            raise ServerError("Server is already listening", bind_address=self.local_address or address)
        if not self._config.certfile or not self._config.keyfile:
            raise ServerError(
                "A server needs a certificate: set certfile and keyfile (generate_dev_certificate makes a pair)",
                bind_address=address,
            )
        self._listening = True
        try:
            self._core = await finished(_core.Server.listen(current_bridge(), self._config, host, port))
        except BaseException as error:
            self._listening = False
            if isinstance(error, ServerError):
                error.bind_address = address
                raise
            if not isinstance(error, (WebTransportError, OSError, ValueError)):
                raise
            text = error.message if isinstance(error, WebTransportError) else str(error)
            raise ServerError(f"Cannot listen on {host}:{port}: {text}", bind_address=address) from error
        self._started_at = get_timestamp()
        self._stopped = asyncio.Event()
        self._accepting = asyncio.get_running_loop().create_task(self._accept(self._core), name="webtransport-accept")
        logger.info("Listening on %s:%d", *self._core.local_address)

    async def serve_forever(self) -> None:
        """Wait until the server is closed. When cancelled, it closes the server and returns.

        Raises:
            ServerError: the server does not listen.
        """
        if self._stopped is None or self._core is None:
            raise ServerError("Server is not listening: call listen() first")
        try:
            await self._stopped.wait()
        except asyncio.CancelledError:
            logger.info("Server task cancelled, closing")
            await self.close()

    async def close(self, drain: float | None = None) -> None:
        """Close all connections and release the port. Does nothing unless the server listens.

        With `drain` the sessions get time to end first, and plain HTTP to be answered. From then on new connections and
        requests are refused; each connection gets GOAWAY and each session WT_DRAIN_SESSION, so clients and the handlers
        here see SESSION_DRAINING. When all sessions have ended, or the time is up, the server closes. A call of
        `close()` meanwhile ends the wait. RFC 9114 section 5.2.

        Waits until the close packets were handed to the socket. Cancelling it while it drains leaves the server
        draining: call it again.

        Args:
            drain: seconds that sessions may take to end; None or 0: close at once.

        Raises:
            ValueError: `drain` is negative.
        """
        if drain is not None and not drain >= 0:
            raise ValueError(f"drain must be a number of seconds that is not negative, got {drain}")
        if drain and self._core is not None:
            logger.info("Draining for at most %s s", drain)
            await finished(self._core.drain(drain))
        core, self._core = self._core, None
        if core is None:
            return
        self._last_stats = self._read_stats(core)
        accepting, self._accepting = self._accepting, None
        if accepting is not None:
            accepting.cancel()
            await asyncio.wait([accepting])
        try:
            await self._connection_manager.shutdown()
            await self._session_manager.shutdown()
        finally:
            await finished(core.close())
            self._by_core.clear()
            self._listening = False
            if self._stopped is not None:
                self._stopped.set()
        logger.info("Server closed")

    async def diagnostics(self) -> ServerDiagnostics:
        """Return a snapshot of counters and states. Does not wait."""
        connections = await self._connection_manager.get_all_resources()
        sessions = await self._session_manager.get_all_resources()
        if self._core is not None:
            self._last_stats = self._read_stats(self._core)
        return ServerDiagnostics(
            stats=self._last_stats,
            connection_states=dict(Counter(connection.state for connection in connections)),
            session_states=dict(Counter(session.state for session in sessions)),
            is_serving=self.is_serving,
            certfile_path=self._config.certfile,
            keyfile_path=self._config.keyfile,
            max_connections=self._config.max_connections,
            **{name: self._core_counts.get(name, 0) for name in _CORE_COUNTS},
        )

    def __str__(self) -> str:
        """Return address and state for logs."""
        address = self.local_address
        where = f"{address[0]}:{address[1]}" if address is not None else "not listening"
        return f"WebTransportServer({where}, connections={len(self._connection_manager)})"

    # --- accepting ---

    async def _accept(self, core: _core.Server) -> None:
        """Take what arrives, until the server is closed."""
        readiness = core.acceptable()
        while True:
            try:
                arrived = core.try_accept()
                while arrived is None:
                    arrived = await parked(readiness, core.try_accept, None, never_expires)
            except ServerError:
                return
            try:
                if isinstance(arrived, _core.Connection):
                    await self._on_connection(arrived)
                elif isinstance(arrived, _core.Exchange):
                    self._on_exchange(arrived)
                else:
                    await self._on_request(arrived)
            except Exception:
                logger.exception("Accepting a connection or session failed")

    async def _on_connection(self, core: _core.Connection) -> None:
        connection = WebTransportConnection._accepted(core, self._config)
        try:
            await self._connection_manager.add_connection(connection)
        except ConnectionError as error:
            self._refused += 1
            logger.warning("Connection from %s refused: %s", connection.remote_address, error.message)
            self._start(connection.close(ErrorCodes.H3_EXCESSIVE_LOAD, error.message))
            return
        self._by_core[core] = connection
        connection._on_close(self._connection_ended)
        self._emit_established(connection)

    async def _on_request(self, core: _core.Session) -> None:
        connection = self._by_core.get(core.connection)
        if connection is None:
            # Refused above, or closed meanwhile: there is nobody to answer.
            core.reject(503, [])
            return
        session_id = connection._add_session(core)
        heard = self._announce(connection, session_id)
        if self._request_handler is not None:
            self._start(self._request_handler(connection, session_id, core))
        elif not heard:
            core.reject(404, [])
            connection._forget_session(session_id)

    def _on_exchange(self, core: _core.Exchange) -> None:
        connection = self._by_core.get(core.connection)
        if connection is None:
            # Refused above, or closed meanwhile: there is nobody to answer.
            return
        if self._exchange_handler is not None:
            self._start(self._exchange_handler(connection, core))
        else:
            http.not_found(core)

    def _announce(self, connection: WebTransportConnection, session_id: SessionId) -> bool:
        """Emit SESSION_REQUEST to whoever listens: handler, connection, server. Tell whether anybody does."""
        emitters = [emitter for emitter in (connection._handler, connection, self) if emitter is not None]
        listening = [emitter for emitter in emitters if emitter._wants(EventType.SESSION_REQUEST)]
        if listening:
            info = connection.get_session_info(session_id)
            data: dict[str, Any] = info.to_dict() if info is not None else {"session_id": session_id}
            for emitter in listening:
                if emitter is self:
                    self._emit_about(connection, EventType.SESSION_REQUEST, data)
                else:
                    emitter._emit_soon(EventType.SESSION_REQUEST, dict(data))
        return bool(listening)

    def _emit_established(self, connection: WebTransportConnection) -> None:
        connection_id, find = connection.connection_id, weakref.ref(connection)
        if self._wants(EventType.CONNECTION_ESTABLISHED):
            self._emit_about(connection, EventType.CONNECTION_ESTABLISHED, {"connection_id": connection_id})
        else:
            self._note(EventType.CONNECTION_ESTABLISHED, _established_data, connection_id, find)

    def _emit_about(self, connection: WebTransportConnection, event_type: EventType, data: dict[str, Any]) -> None:
        """Emit an event that names its connection.

        The history lets the connection go when it has ended: a thousand of them would hold all that QUIC knew of
        theirs, which is 50 KiB each.
        """
        remembered = _with_connection(data, connection)
        self._emit_soon(event_type, {**data, "connection": connection}, remembered=remembered)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something in a task that lives as long as it needs."""
        task = asyncio.get_running_loop().create_task(work)
        self._requests.add(task)
        task.add_done_callback(self._request_done)

    async def _stop_requests(self) -> None:
        """Cancel the running handlers and wait for them."""
        tasks = [task for task in self._requests if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _read_stats(self, core: _core.Server) -> ServerStats:
        values = core.stats()
        self._core_counts = values
        return ServerStats(
            connections_accepted=values["connections_accepted"] - self._refused,
            connections_rejected=values["connections_rejected"] + self._refused,
            connection_errors=values["handshakes_failed"],
            protocol_errors=values["protocol_errors"],
            uptime=get_timestamp() - self._started_at,
        )


def _forget(connections: dict[_core.Connection, WebTransportConnection], connection: WebTransportConnection) -> None:
    if connection._core is not None:
        connections.pop(connection._core, None)


def _with_connection(data: dict[str, Any], connection: WebTransportConnection) -> dict[str, Any]:
    """Return the data and the connection, which they lose when it has ended."""
    remembered = {**data, "connection": connection}
    connection._on_close(lambda _: remembered.pop("connection", None))
    return remembered


def _established_data(
    _server: WebTransportServer, connection_id: ConnectionId, find: weakref.ref[WebTransportConnection]
) -> dict[str, Any]:
    data, connection = {"connection_id": connection_id}, find()
    return data if connection is None else _with_connection(data, connection)


# Values of the core that diagnostics show as they are.
_CORE_COUNTS = (
    "origins_refused",
    "handshakes_pending",
    "handshakes_resumed",
    "handshakes_ignored",
    "handshakes_refused",
    "handshakes_timed_out",
    "retries_sent",
    "http_requests",
    "requests_rejected",
    "requests_timed_out",
    "gso_segments",
    "gro_segments",
    "send_buffer_size",
    "receive_buffer_size",
)
