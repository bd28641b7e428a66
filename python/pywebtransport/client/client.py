"""The client: connects to WebTransport servers and keeps the connections."""

from __future__ import annotations

import asyncio
import builtins
import urllib.parse
import weakref
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self

from pywebtransport import _core
from pywebtransport._bridge import current_bridge
from pywebtransport._logging import apply_log_level
from pywebtransport.client._pooling import SharedConnections
from pywebtransport.client.utils import parse_webtransport_url
from pywebtransport.config import ClientConfig, ProxyConfig
from pywebtransport.connection.connection import (
    PROXY_UNSUPPORTED,
    WebTransportConnection,
    connect_timeout,
    connection_failed,
)
from pywebtransport.constants import ErrorCodes
from pywebtransport.events import Event, EventEmitter
from pywebtransport.exceptions import (
    ClientError,
    ConfigurationError,
    ConnectionError,
    HandshakeError,
    SessionError,
    TimeoutError,
    WebTransportError,
)
from pywebtransport.manager.connection import ConnectionManager
from pywebtransport.session.session import WebTransportSession
from pywebtransport.types import URL, ConnectionState, EventType, Headers, SessionId
from pywebtransport.utils import get_logger, get_timestamp

__all__: list[str] = ["ClientDiagnostics", "ClientStats", "WebTransportClient"]

logger = get_logger(__name__)


@dataclass(kw_only=True)
class ClientStats:
    """Counters of a client; times in seconds."""

    created_at: float = field(default_factory=get_timestamp)
    connections_attempted: int = 0
    connections_successful: int = 0
    connections_failed: int = 0
    total_connect_time: float = 0.0
    min_connect_time: float = float("inf")
    max_connect_time: float = 0.0

    @property
    def avg_connect_time(self) -> float:
        """Seconds per successful connect."""
        return self.total_connect_time / max(1, self.connections_successful)

    @property
    def success_rate(self) -> float:
        """Share of the attempts that succeeded; 1.0 before the first."""
        return self.connections_successful / self.connections_attempted if self.connections_attempted else 1.0

    def to_dict(self) -> dict[str, Any]:
        """Return created_at, uptime, connections {…} and performance {…}."""
        return {
            "created_at": self.created_at,
            "uptime": get_timestamp() - self.created_at,
            "connections": {
                "attempted": self.connections_attempted,
                "successful": self.connections_successful,
                "failed": self.connections_failed,
                "success_rate": self.success_rate,
            },
            "performance": {
                "avg_connect_time": self.avg_connect_time,
                "min_connect_time": self.min_connect_time if self.min_connect_time != float("inf") else 0.0,
                "max_connect_time": self.max_connect_time,
            },
        }


@dataclass(frozen=True, kw_only=True)
class ClientDiagnostics:
    """A snapshot of a client: its counters, and how many connections are in which state."""

    stats: ClientStats
    connection_states: dict[ConnectionState, int]

    @property
    def issues(self) -> list[str]:
        """One sentence for everything that looks wrong; empty for a healthy client."""
        stats, issues = self.stats, []
        if stats.connections_attempted > 10 and stats.success_rate < 0.9:
            issues.append(f"Low connection success rate: {stats.success_rate:.1%}")
        if stats.avg_connect_time > 5.0:
            issues.append(f"Slow connects: {stats.avg_connect_time:.2f} s on average")
        return issues


class WebTransportClient(EventEmitter):
    """Connects to servers; use it as `async with`.

    Every `connect` makes a new QUIC connection with one session, unless `ClientConfig(allow_pooling=True)` lets it
    share one.

    Events: CONNECTION_ESTABLISHED, CONNECTION_LOST and CONNECTION_CLOSED of its connections, with their data.
    """

    def __init__(
        self,
        config: ClientConfig | None = None,
        connection_factory: Callable[..., Awaitable[WebTransportConnection]] | None = None,
        session_factory: Callable[..., Awaitable[WebTransportSession]] | None = None,
    ) -> None:
        """Make a client that is not active yet.

        Args:
            config: it is read, never changed; several clients may share it. None: the defaults.
            connection_factory: makes a connection from the keywords config, host, port, path, proxy_addr; instead of
                `WebTransportConnection.create_client`.
            session_factory: makes a session from the keywords connection, session_id, max_streams,
                max_incoming_streams, stream_cleanup_interval; instead of `WebTransportSession`.

        Raises:
            ConfigurationError: the configuration is not valid.
        """
        super().__init__()
        self._config = config or ClientConfig()
        self._config.validate()
        apply_log_level(self._config)
        self._connection_factory = connection_factory
        self._session_factory = session_factory
        self._connections = ConnectionManager(
            max_connections=self._config.max_connections,
            connection_cleanup_interval=self._config.connection_cleanup_interval,
            connection_idle_check_interval=self._config.connection_idle_check_interval,
            connection_idle_timeout=self._config.connection_idle_timeout,
        )
        self._sessions: weakref.WeakSet[WebTransportSession] = weakref.WeakSet()
        self._default_headers: Headers = {}
        self._stats = ClientStats()
        self._active = False
        self._closed = False
        self._core: tuple[_core.Bridge, _core.Client] | None = None
        self._listeners: weakref.WeakKeyDictionary[WebTransportConnection, Callable[[Event], None]] = (
            weakref.WeakKeyDictionary()
        )

    async def __aenter__(self) -> Self:
        """Activate it."""
        if self._closed:
            raise ClientError("Client is closed")
        await self._connections.__aenter__()
        self._active = True
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        """Close it."""
        await self.close()

    @property
    def config(self) -> ClientConfig:
        """The configuration it was made with."""
        return self._config

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    async def close(self) -> None:
        """Close every session and connection; a shared connection only when no other client uses it.

        What the sessions have written is delivered first, as with `WebTransportSession.close`. Idempotent.
        """
        if self._closed:
            return
        self._closed = True
        sessions = [session for session in self._sessions if not session.is_closed]
        for outcome in await asyncio.gather(*(session.close() for session in sessions), return_exceptions=True):
            if isinstance(outcome, Exception):
                logger.warning("Closing a session failed: %s", outcome)
        for connection in await self._connections.get_all_resources():
            if connection._carries_sessions():
                await self._let_go(connection)
        await self._connections.shutdown()
        self._active = False
        self._core = None

    async def connect(
        self,
        url: URL,
        timeout: float | None = None,
        headers: Headers | None = None,
        subprotocols: list[str] | None = None,
    ) -> WebTransportSession:
        """Connect to a server and return the session, ready for use.

        Waits for name resolution, the handshakes and the server's answer. A port where nobody listens yet is tried
        until the limit. Cancelling it abandons the attempt and leaves nothing behind.

        Args:
            url: `https://host[:port]/path?query`.
            timeout: limit for all of it, in seconds; None or 0: `config.connect_timeout`.
            headers: sent with the request, after those of the configuration and the default headers; a `host` header
                replaces the authority of the URL.
            subprotocols: instead of `config.subprotocols`. What the server chose is `session.subprotocol`; who cannot
                do without one closes the session when that is None, with the code WT_ALPN_ERROR for example.

        Raises:
            ConfigurationError: the URL, the URL of the proxy or a subprotocol is not valid; not counted as an attempt.
            ConnectionError: no connection: unreachable, certificate not accepted, `max_connections` reached, the client
                was never activated; when the limit passed, the error is also a TimeoutError.
            ClientError: the server refused the session ("HTTP status 404", also in `status`, with the headers of the
                answer in `response_headers`), it chose a subprotocol that was not offered, the headers are larger than
                the server takes, the client is closed, or anything else.
        """
        if self._closed:
            raise ClientError("Client is closed", target_url=url)
        if not self._active:
            raise ConnectionError("Client is not activated: use it as `async with`")
        host, port, path = parse_webtransport_url(url)
        if self._config.proxy is not None:
            _check_proxy(self._config.proxy)
        config = self._with_request(headers or {}, subprotocols)

        self._stats.connections_attempted += 1
        limit = timeout or self._config.connect_timeout
        clock = asyncio.get_running_loop().time
        started = clock()
        made: list[WebTransportConnection] = []
        try:
            async with asyncio.timeout(limit):
                session = await self._establish(made, host, port, path, config, limit)
        except BaseException as error:
            self._stats.connections_failed += 1
            for connection in made:
                await connection.close()
            if isinstance(error, (ConnectionError, TimeoutError)) or not isinstance(error, Exception):
                raise
            if isinstance(error, builtins.TimeoutError):
                raise connect_timeout(host, port, limit) from error
            raise _client_error(error, url) from error

        seconds = clock() - started
        stats = self._stats
        stats.connections_successful += 1
        stats.total_connect_time += seconds
        stats.min_connect_time = min(stats.min_connect_time, seconds)
        stats.max_connect_time = max(stats.max_connect_time, seconds)
        return session

    async def diagnostics(self) -> ClientDiagnostics:
        """Return a snapshot of counters and connection states. Does not wait."""
        connections = await self._connections.get_all_resources()
        states = Counter(connection.state for connection in connections)
        return ClientDiagnostics(stats=replace(self._stats), connection_states=dict(states))

    def set_default_headers(self, headers: Headers) -> None:
        """Send these headers with every request from now on, after those of the configuration."""
        self._default_headers = dict(headers)

    def __str__(self) -> str:
        """Return the state for logs."""
        state = "closed" if self._closed else "active" if self._active else "inactive"
        return f"WebTransportClient({state}, connections={len(self._connections)})"

    async def _establish(
        self,
        made: list[WebTransportConnection],
        host: str,
        port: int,
        path: str,
        config: ClientConfig,
        limit: float | None,
    ) -> WebTransportSession:
        """Make connection and session; `made` tells the caller what to close when something fails."""
        if self._config.proxy is not None:
            raise HandshakeError(PROXY_UNSUPPORTED, handshake_stage="proxy")
        if config.allow_pooling and self._connection_factory is None:
            connection, session_id = await self._share(config, host, port, path, limit)
        else:
            factory = self._connection_factory or self._connect
            connection = await factory(config=config, host=host, port=port, path=path, proxy_addr=None)
            made.append(connection)
            await self._hold(connection)
            session_id = await connection.wait_for_ready_session(timeout=limit or A_LONG_TIME)
        make_session = self._session_factory or _make_session
        session = await make_session(
            connection=connection,
            session_id=session_id,
            max_streams=config.max_streams,
            max_incoming_streams=config.max_incoming_streams,
            stream_cleanup_interval=config.stream_cleanup_interval,
        )
        await session.initialize()
        self._sessions.add(session)
        return session

    async def _connect(
        self, config: ClientConfig, host: str, port: int, path: str, proxy_addr: None
    ) -> WebTransportConnection:
        """Do what `create_client` does, with TLS and transport settings that are parsed once per client."""
        try:
            bridge = current_bridge()
            if self._core is None or self._core[0] is not bridge:
                self._core = (bridge, _core.Client(bridge, self._config))
            return await WebTransportConnection._open(self._core[1], config, host, port, path)
        except (ConnectionError, ClientError):
            raise
        except (WebTransportError, OSError, ValueError) as error:
            raise connection_failed(error, host, port) from error

    def _with_request(self, headers: Headers, subprotocols: list[str] | None) -> ClientConfig:
        """Return the configuration with the default headers, and the headers and subprotocols of the call."""
        if not self._default_headers and not headers and subprotocols is None:
            return self._config
        return self._config._with_request({**self._default_headers, **headers}, subprotocols)

    async def _share(
        self, config: ClientConfig, host: str, port: int, path: str, limit: float | None
    ) -> tuple[WebTransportConnection, SessionId]:
        """Request a session on a connection that other sessions use, or on a new one that they may use."""
        shared = SharedConnections.of(config, host, port)
        full: list[WebTransportConnection] = []
        while True:
            async with shared.opening:
                connection = shared.find(full)
                is_new = connection is None
                if connection is None:
                    connection = await self._connect(config, host, port, path, None)
                    shared.add(connection)
                    assert connection._requested is not None, "a new connection has requested its session"
                    session_id = connection._requested
                else:
                    try:
                        session_id = connection._request_session(config, host, port, path)
                    except (ConnectionError, SessionError):
                        # It has begun to drain since `find`, or the server's word that QUIC lets one more request
                        # through is still on its way. Waiting for that could last longer than a new connection.
                        full.append(connection)
                        continue
            try:
                await self._hold(connection)
                return connection, await connection._wait_for_session(session_id, limit)
            except BaseException as error:
                await connection._give_up(session_id)
                # The server has enough sessions on this connection. RFC 9114 8.1: it processed nothing, so ask again.
                if is_new or not isinstance(error, ClientError) or error.wire_code != ErrorCodes.H3_REQUEST_REJECTED:
                    raise
                shared.remove(connection)

    async def _hold(self, connection: WebTransportConnection) -> None:
        """Keep a connection until it ends or the client is closed, and emit its events as the client's own."""
        await self._connections.add_connection(connection)
        if connection in self._listeners:
            return

        def forward(event: Event) -> None:
            self._emit_soon(event.type, event.data)  # type: ignore[arg-type]  # only EventTypes are registered

        self._listeners[connection] = forward
        connection.on(EventType.CONNECTION_LOST, forward)
        connection.on(EventType.CONNECTION_CLOSED, forward)
        # It was emitted before anybody could listen to the new object.
        self._emit_soon(EventType.CONNECTION_ESTABLISHED, {"connection_id": connection.connection_id})

    async def _let_go(self, connection: WebTransportConnection) -> None:
        """Leave a shared connection to the others."""
        await self._connections.remove_connection(connection.connection_id)
        forward = self._listeners.pop(connection, None)
        if forward is not None:
            connection.off(EventType.CONNECTION_LOST, forward)
            connection.off(EventType.CONNECTION_CLOSED, forward)


async def _make_session(connection: WebTransportConnection, **keywords: Any) -> WebTransportSession:
    return WebTransportSession(connection, **keywords)


def _check_proxy(proxy: ProxyConfig) -> None:
    try:
        parts = urllib.parse.urlsplit(proxy.url)
        complete = bool(parts.hostname and parts.port)
    except ValueError:
        complete = False
    if not complete:
        raise ConfigurationError(
            f"Proxy URL must have a host and a port: {proxy.url!r}", config_key="proxy", config_value=proxy.url
        )


def _client_error(error: Exception, url: URL) -> ClientError:
    text = error.message if isinstance(error, WebTransportError) else f"{type(error).__name__}: {error}"
    result = ClientError(f"Failed to connect to {url}: {text}", target_url=url)
    if isinstance(error, WebTransportError):
        result.close_code, result.close_reason = error.close_code, error.close_reason
        result.ended_by, result.wire_code = error.ended_by, error.wire_code
    if isinstance(error, ClientError):
        result.status, result.response_headers = error.status, error.response_headers
    return result


A_LONG_TIME = 86_400.0  # seconds; for objects that want a number where no limit was asked for
