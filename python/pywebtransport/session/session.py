"""A WebTransport session: streams and datagrams between two applications.

The state of a session is the core's: it knows the CONNECT stream, the limits and the close. This class gives it a name
(the random session id), the objects that applications hold, and events. No task runs for an idle session; the core
calls `_on_core_change` when something changes.

The end. Whoever ends a session, everything that waits on it wakes with an error that carries `close_code`,
`close_reason` and `ended_by`. What had arrived before is delivered first: bytes to reads, streams to
`incoming_streams()`, datagrams to `receive()`.
"""

from __future__ import annotations

import asyncio
import builtins
import weakref
from collections.abc import AsyncIterator, Callable, Mapping
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from pywebtransport import _core
from pywebtransport._bridge import ACCEPTED_IN_A_ROW, WeakCallback, finished, never_expires, parked
from pywebtransport.connection.info import STALE_AFTER
from pywebtransport.constants import (
    DEFAULT_MAX_INCOMING_STREAMS,
    DEFAULT_MAX_STREAMS,
    DEFAULT_READ_TIMEOUT,
    DEFAULT_STREAM_CLEANUP_INTERVAL,
    DEFAULT_STREAM_CREATION_TIMEOUT,
    DEFAULT_WRITE_TIMEOUT,
    MAX_BUFFER_SIZE,
)
from pywebtransport.datagram.transport import WebTransportDatagramTransport
from pywebtransport.events import EventEmitter
from pywebtransport.exceptions import SessionError, StreamError, TimeoutError, session_ended, session_not_ready
from pywebtransport.manager.stream import StreamManager
from pywebtransport.session.stats import SessionDiagnostics, SessionStats
from pywebtransport.stream._base import MAX_APPLICATION_CODE
from pywebtransport.stream.stream import WebTransportReceiveStream, WebTransportSendStream, WebTransportStream
from pywebtransport.types import EventType, Headers, SessionId, SessionState, StreamId
from pywebtransport.utils import get_logger, get_timestamp

if TYPE_CHECKING:
    from pywebtransport.client.client import WebTransportClient
    from pywebtransport.connection.connection import WebTransportConnection
    from pywebtransport.protocol.handler import WebTransportProtocolHandler

__all__: list[str] = ["SessionDiagnostics", "SessionStats", "WebTransportSession"]

logger = get_logger(__name__)

StreamType: TypeAlias = WebTransportStream | WebTransportReceiveStream
"""What the peer can open."""

Halves: TypeAlias = tuple[_core.SendStream, _core.RecvStream | None]
"""What this side opens."""


class WebTransportSession(EventEmitter):
    """One WebTransport session, as `WebTransportClient.connect` returns it and as server handlers get it.

    Events: SESSION_READY `{session_id}`, SESSION_DRAINING `{session_id}` once when either side asks to wind down,
    SESSION_CLOSED `{session_id, code, reason}`.

    Attributes:
        path_params: the groups of the pattern route that matched; empty otherwise.
        stream_manager: the open streams.
    """

    # With a dictionary besides, made when a program sets an attribute of its own: one for all of these takes 1.5 KB.
    __slots__ = (
        "__dict__",
        "_answer_headers",
        "_answered",
        "_cleanup_interval",
        "_close_callbacks",
        "_closers",
        "_connection",
        "_core",
        "_created_at",
        "_creation_timeout",
        "_datagrams",
        "_draining_told",
        "_ended",
        "_failed_openings",
        "_halves",
        "_headers",
        "_initialized",
        "_limits_told",
        "_loop",
        "_max_stream_buffer_size",
        "_max_streams",
        "_on_answer",
        "_orphans",
        "_owner",
        "_owner_closing",
        "_path",
        "_read_timeout",
        "_ready_told",
        "_session_id",
        "_subprotocols",
        "_subscription",
        "_write_timeout",
        "stream_manager",
    )

    path_params: tuple[str, ...] = ()
    stream_manager: StreamManager

    def __init__(
        self,
        connection: WebTransportConnection,
        session_id: SessionId,
        max_streams: int = DEFAULT_MAX_STREAMS,
        max_incoming_streams: int = DEFAULT_MAX_INCOMING_STREAMS,
        stream_cleanup_interval: float = DEFAULT_STREAM_CLEANUP_INTERVAL,
        path: str | None = None,
        headers: Headers | None = None,
        control_stream_id: StreamId | None = None,
    ) -> None:
        """Make the object for a session that the connection has requested or received; then `initialize` it.

        Clients and servers do this. Afterwards the connection is referred to weakly.

        Args:
            connection: the connection with a session of this id.
            session_id: the id the connection gave it.
            max_streams: own streams that may be open at a time.
            max_incoming_streams: kept for compatibility: `config.max_incoming_streams` bounds the queue in the core.
            stream_cleanup_interval: kept for compatibility: streams are cleaned up as they close.
            path: instead of the path of the request.
            headers: instead of the headers of the request.
            control_stream_id: kept for compatibility; see the property.
        """
        self._emitter = None  # or it is asked for in vain, which takes time with `__getattr__`
        super().__init__()
        self._connection = weakref.ref(connection)
        self._session_id, self._path, self._headers = session_id, path, headers
        find = getattr(connection, "_core_session", None)
        self._core: _core.Session | None = find(session_id) if find is not None else None
        self._subscription: _core.Subscription | None = None
        self._initialized = self._ready_told = self._draining_told = self._ended = False
        self._limits_told: Mapping[str, int] = _NOTHING  # those of the peer
        # Server: the answer to the request. What is set here before it goes with it.
        self._answered: int | None = None
        self._answer_headers: Mapping[str, str] = _NOTHING
        self._subprotocols: list[str] = []
        self._on_answer: Callable[[int], None] | None = None
        self._closers = self._failed_openings = 0  # calls of close() at work; those that the core does not know of
        self._created_at = get_timestamp()
        self._close_callbacks: tuple[Callable[[WebTransportSession], None], ...] = ()
        self._datagrams: WebTransportDatagramTransport | None = None
        self._halves: dict[StreamId, Halves] | None = None
        self._orphans: list[_core.SendStream] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        # Set by `connect`: a client that exists only for this session, and the task that closes it.
        self._owner: WebTransportClient | None = None
        self._owner_closing: asyncio.Task[None] | None = None

        config = getattr(connection, "config", None)
        self._read_timeout: float | None = getattr(config, "read_timeout", DEFAULT_READ_TIMEOUT)
        self._write_timeout: float | None = getattr(config, "write_timeout", DEFAULT_WRITE_TIMEOUT)
        self._max_stream_buffer_size: int = getattr(config, "max_stream_buffer_size", MAX_BUFFER_SIZE)
        self._creation_timeout: float = getattr(config, "stream_creation_timeout", DEFAULT_STREAM_CREATION_TIMEOUT)
        self._max_streams, self._cleanup_interval = max_streams, stream_cleanup_interval

    if not TYPE_CHECKING:  # a type checker would take it for a promise that every name exists

        def __getattr__(self, name: str) -> Any:
            """Make the stream manager when somebody asks for it: 500 bytes that a session without streams spares."""
            if name != "stream_manager":
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)
            self.stream_manager = StreamManager._view_of(self, self._max_streams, self._cleanup_interval)
            return self.stream_manager

    async def __aenter__(self) -> Self:
        """Initialize it and wait until it is ready."""
        await self.initialize()
        await self.ready()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        """Close it."""
        await self.close()

    # --- what it is ---

    @property
    def session_id(self) -> SessionId:
        """A random token; not the id of the CONNECT stream, which is `control_stream_id`."""
        return self._session_id

    @property
    def control_stream_id(self) -> StreamId | None:
        """The id of the CONNECT stream, which names the session on the wire."""
        return self._core.stream_id if self._core is not None else None

    @property
    def connection(self) -> WebTransportConnection | None:
        """The connection underneath; None once it has been closed and released."""
        return self._connection()

    @property
    def protocol_handler(self) -> WebTransportProtocolHandler | None:
        """A read-only view of the connection's protocol state; None without a connection."""
        connection = self._connection()
        return connection.protocol_handler if connection is not None else None

    @property
    def path(self) -> str:
        """Path and query of the request."""
        if self._path is not None:
            return self._path
        return self._core.path if self._core is not None else ""

    @property
    def headers(self) -> Headers:
        """A copy of the request's headers, names in lower case; a repeated header has its last value."""
        if self._headers is not None:
            return dict(self._headers)
        return dict(self._core.headers) if self._core is not None else {}

    @property
    def response_headers(self) -> Headers:
        """A copy of the response's headers, names in lower case; empty before it arrived or was sent."""
        return dict(self._core.response_headers) if self._core is not None else {}

    @property
    def authority(self) -> str:
        """Host and port that the client asked for, as in the URL."""
        return self._core.authority if self._core is not None else ""

    @property
    def origin(self) -> str | None:
        """The Origin header of the request, which browsers send; see `ServerConfig.allowed_origins`."""
        return self.headers.get("origin")

    @property
    def offered_subprotocols(self) -> list[str]:
        """The subprotocols that the client offers, the most preferred first."""
        return self._core.offered_subprotocols if self._core is not None else []

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that the server chose; None without one, and before the session is established."""
        return self._core.subprotocol if self._core is not None else None

    @property
    def state(self) -> SessionState:
        """The current state."""
        return SessionState(self._core.state) if self._core is not None else SessionState.CONNECTING

    @property
    def is_ready(self) -> bool:
        """Whether it is connected."""
        return self.state is SessionState.CONNECTED

    @property
    def is_closed(self) -> bool:
        """Whether it is fully closed."""
        return self.state is SessionState.CLOSED

    @property
    def close_code(self) -> int | None:
        """The application code of the close, whoever closed; None while open."""
        info = self._core.close_info if self._core is not None else None
        return info.code if info is not None else None

    @property
    def close_reason(self) -> str | None:
        """The reason of the close; None while open."""
        info = self._core.close_info if self._core is not None else None
        return info.reason if info is not None else None

    @property
    def datagrams(self) -> WebTransportDatagramTransport:
        """The datagram transport, ready for use; the same one until it is closed.

        Raises:
            SessionError: not initialized.
        """
        if self._datagrams is None or self._datagrams._is_closed:
            self._datagrams = WebTransportDatagramTransport._of(self._session_id, self._started())
        return self._datagrams

    # --- its life ---

    async def initialize(self) -> None:
        """Connect the object to its session in the core. Clients and servers do it; idempotent.

        Raises:
            SessionError: the connection has no session with this id.
        """
        if self._initialized:
            return
        if self._core is None:
            raise SessionError(
                f"Connection has no session {self._session_id}",
                session_id=self._session_id,
                session_state=self.state,
            )
        self._initialized = True
        self._loop = asyncio.get_running_loop()
        self._limits_told = self._core.flow_control() or _NOTHING
        self._subscription = self._core.subscribe(WeakCallback(self._on_core_change))
        self._on_core_change()

    async def ready(self, timeout: float = 30.0) -> None:
        """Wait until the session is established.

        Cancelling it loses nothing.

        Args:
            timeout: limit in seconds.

        Raises:
            SessionError: it was rejected, or has ended; or it is not initialized.
            TimeoutError: no answer within the limit.
        """
        core = self._started()
        if core.state == "connecting":
            await parked(
                core.established(),
                lambda _ticket: True if core.state != "connecting" else None,
                timeout,
                lambda: TimeoutError(
                    f"Session {self._session_id} not ready after {timeout} s",
                    timeout_duration=timeout,
                    operation="session_ready",
                ),
            )
        if core.close_info is not None:
            raise self._closed_error()

    def accept(self, headers: Headers | None = None, subprotocol: str | None = None) -> None:
        """Server: answer the request with 200; the session is ready at once. Does not wait.

        ServerApp does it before it calls the handler, unless the route has `auto_accept=False`.

        Args:
            headers: for the response, besides those of `add_response_headers`.
            subprotocol: one of `offered_subprotocols`; None: the first of the route's or the configuration's
                subprotocols that the client offers (draft-ietf-webtrans-http3, section "Application Protocol
                Negotiation").

        Raises:
            ValueError: the subprotocol was not offered, a header is not valid, or the headers are larger than the
                client takes (SETTINGS_MAX_FIELD_SECTION_SIZE); the request is not answered then.
            SessionError: the request was answered before, or its client has gone.
        """
        core = self._started()
        self._check_unanswered()
        if subprotocol is not None and subprotocol not in core.offered_subprotocols:
            raise ValueError(f"The client does not offer the subprotocol {subprotocol!r}")
        choices = self._subprotocols if subprotocol is None else [subprotocol]
        core.accept(self._header_list(headers), list(choices))
        self._answer(200)

    def reject(self, status: int = 403, headers: Headers | None = None) -> None:
        """Server: refuse the request. Does not wait; does nothing when the client has gone.

        For middleware, which returns False afterwards, and for handlers of routes with `auto_accept=False`.

        Args:
            status: HTTP status, 300 to 599. Clients do not follow redirections by themselves.
            headers: for the response, besides those of `add_response_headers`. All are left out when they are larger
                than the client takes: the status matters most.

        Raises:
            ValueError: the status or a header is not valid.
            SessionError: the request was answered before.
        """
        core = self._started()
        self._check_unanswered()
        if not 300 <= status <= 599:
            raise ValueError(f"A refusal has a status from 300 to 599, not {status}")
        core.reject(status, self._header_list(headers))
        self._answer(status)

    def add_response_headers(self, headers: Headers) -> None:
        """Server: send these headers with the answer, whichever it will be; middleware may add some for the handler.

        Raises:
            SessionError: the request was answered before.
        """
        self._check_unanswered()
        self._answer_headers = {**self._answer_headers, **{name.lower(): value for name, value in headers.items()}}

    def _check_unanswered(self) -> None:
        core = self._core
        if self._answered is not None or (core is not None and core.state != "connecting"):
            raise (
                self._closed_error()
                if self.is_closed
                else SessionError(
                    "The session request was answered before", session_id=self._session_id, session_state=self.state
                )
            )

    def _header_list(self, headers: Headers | None) -> list[tuple[str, str]]:
        own = {name.lower(): value for name, value in (headers or {}).items()}
        return list({**self._answer_headers, **own}.items())

    def _answer(self, status: int) -> None:
        self._answered = status
        on_answer, self._on_answer = self._on_answer, None
        if on_answer is not None:
            on_answer(status)

    async def close(self, code: int = 0, reason: str = "", close_connection: bool = True) -> None:
        """Close the session and everything on it.

        What was written and the datagrams that were accepted go first, then the code and the reason (the
        CLOSE_WEBTRANSPORT_SESSION capsule of draft-ietf-webtrans-http3, section "Session Termination"). The peer can
        read everything; streams that were not finished then fail with the close, they do not end. Waits until the peer
        has answered, at most `config.close_timeout` seconds. Idempotent; the first close wins, and closing what the
        peer has closed is harmless. Cancelling it does not undo the close.

        Args:
            code: application code for the peer, 0 to 2**32 - 1.
            reason: text for the peer, cut to 1024 bytes of UTF-8.
            close_connection: close the connection too, when no other session lives on it. A server does that a moment
                later, so that the peer reads the session's close first.

        Raises:
            ValueError: the code is out of range.
            SessionError: not initialized.
        """
        core = self._started()
        if not 0 <= code <= MAX_APPLICATION_CODE:
            raise ValueError(f"Session close code must be a 32-bit unsigned integer, got {code}")
        core.close(code, reason)
        self._closers += 1
        try:
            await self._wait_core_closed(core)
        except BaseException:
            self._closers -= 1
            self._on_core_change()
            raise
        self._closers -= 1
        # Delivered before this returns; for closes that nobody awaits, `_on_core_change` queues the event.
        if self._end():
            await self.emit(EventType.SESSION_CLOSED, self._close_data())
        connection = self._connection()
        if close_connection and connection is not None:
            await connection._release()

    async def drain(self) -> None:
        """Ask the peer to finish its work and end the session soon.

        A hint: the state becomes DRAINING on both sides, each emits SESSION_DRAINING, and everything works as before,
        also new streams and datagrams. Who sees it closes the session when its work is done. Does not wait. Idempotent,
        and harmless on a session that has ended. The WT_DRAIN_SESSION capsule of draft-ietf-webtrans-http3, section
        "Interaction with the HTTP/3 GOAWAY frame".

        Raises:
            SessionError: not initialized, or not established yet.
        """
        core = self._started()
        if core.state == "connecting":
            raise self._not_ready()
        core.drain()

    async def export_keying_material(self, label: bytes | str, length: int, context: bytes = b"") -> bytes:
        """Derive secret bytes that the peer's end of this session derives too, and nobody else.

        They come from the secrets of the TLS connection; other labels, contexts, lengths or sessions give unrelated
        bytes. What they are good for: keys of an own protocol, or proof that a token was made for this very session.
        Does not wait. draft-ietf-webtrans-http3, section "Use of Keying Material Exporters".

        Args:
            label: what the bytes are for, 1 to 255 bytes; text goes as UTF-8.
            length: how many bytes, 1 to 8160.
            context: whatever both ends want to bind the bytes to, at most 255 bytes.

        Raises:
            SessionError: not initialized, not established yet, or ended.
            ValueError: label, length or context is out of range.
        """
        core = self._started()
        if core.state not in ("connected", "draining"):
            raise self._not_ready()
        if not 0 < length < 2**32:  # the core knows the bound, but no other integers
            raise ValueError(f"an exporter gives no {length} bytes")
        return core.export_keying_material(label.encode() if isinstance(label, str) else label, context, length)

    async def wait_closed(self) -> None:
        """Wait until the session is closed: by either side, or by the loss of the connection. Cancelling loses nothing.

        Raises:
            SessionError: not initialized.
        """
        await self._wait_core_closed(self._started())

    async def monitor_health(self, check_interval: float = 60.0) -> None:
        """Log a warning for everything that looks wrong, until the session ends. May be cancelled at any time.

        Args:
            check_interval: seconds between two looks.
        """
        while not self.is_closed:
            try:
                async with asyncio.timeout(check_interval):
                    await self.wait_closed()
            except builtins.TimeoutError:
                diagnostics = await self.diagnostics()
                issues = diagnostics.issues
                connection = self._connection()
                if connection is not None and (idle := get_timestamp() - connection.last_activity_time) > STALE_AFTER:
                    issues.append(f"No activity for {idle:.0f} s")
                for issue in issues:
                    logger.warning("Session %s: %s", self._session_id, issue)

    async def diagnostics(self) -> SessionDiagnostics:
        """Return a snapshot of state, counters and credits. Does not wait."""
        return SessionDiagnostics._of(self)

    # --- streams ---

    async def create_bidirectional_stream(self, timeout: float | None = None) -> WebTransportStream:
        """Open a stream in both directions.

        Returns at once while the peer allows another stream; else waits for that, first come, first served. The peer
        learns of the stream before anything is written. Cancelling it gives the place, or the stream, back.

        Args:
            timeout: limit in seconds; None: `config.stream_creation_timeout`, on servers 10 s.

        Raises:
            SessionError: the session is not ready, or has ended.
            StreamError: `max_streams` own streams are open ("stream limit (N) reached"), or the peer allowed none
                within the limit.
        """
        opened = self._open_now(True)
        if opened is None:
            opened = await self._open_later(True, timeout)
        stream = WebTransportStream._of(self, *opened)
        self.stream_manager._track(stream, own=True)
        return stream

    async def create_unidirectional_stream(self, timeout: float | None = None) -> WebTransportSendStream:
        """Open a stream to send on; everything else is as with `create_bidirectional_stream`."""
        opened = self._open_now(False)
        if opened is None:
            opened = await self._open_later(False, timeout)
        stream = WebTransportSendStream._of(self, *opened)
        self.stream_manager._track(stream, own=True)
        return stream

    async def incoming_streams(self) -> AsyncIterator[StreamType]:
        """Yield the streams that the peer opens, both kinds in one sequence, until the session ends.

        Waits for the next one without a limit. Streams that have arrived come before the end. Iterations share one
        queue, so several may run at once; one that is dropped or cancelled loses no stream.

        Yields:
            `WebTransportStream` for bidirectional, `WebTransportReceiveStream` for unidirectional streams.

        Raises:
            SessionError: not initialized.
        """
        core, taken = self._started(), 0
        while True:
            taken += 1
            if taken % ACCEPTED_IN_A_ROW == 0:
                await asyncio.sleep(0)
            try:
                halves = core.try_accept()
                if halves is None:  # as `parked`, without a coroutine that each idle session would hold
                    readiness = core.acceptable()
                    try:
                        while halves is None:
                            await readiness
                            halves = core.try_accept(readiness.ticket)
                    finally:
                        readiness.leave()
            except SessionError:
                return
            yield self._incoming(*halves)

    def _incoming(self, send: _core.SendStream | None, recv: _core.RecvStream) -> StreamType:
        """Make the object for a stream that the peer opened."""
        kind = WebTransportReceiveStream if send is None else WebTransportStream
        stream = kind._of(self, send, recv)
        self.stream_manager._track(stream, own=False)
        handler = self._existing_handler()
        if handler is not None and handler._wants(EventType.STREAM_OPENED):
            handler._stream_opened(stream)
        return stream

    def _open_now(self, bidirectional: bool) -> Halves | None:
        """Open a stream in the core; None when the peer does not allow one now."""
        core = self._core
        if core is None or not self._initialized or not core.is_connected:
            raise self._not_ready()
        if not self.stream_manager._has_room():
            self._failed_openings += 1
            raise self.stream_manager._limit_error()
        return core.try_open(bidirectional)

    async def _open_later(self, bidirectional: bool, timeout: float | None) -> Halves:
        """Wait until the peer allows another stream, and open it."""
        core = self._started()
        limit = self._creation_timeout if timeout is None else timeout
        kind = "bidirectional" if bidirectional else "unidirectional"

        def expired() -> StreamError:
            self._failed_openings += 1
            return StreamError(f"The peer allowed no further {kind} stream within {limit} s")

        opening = core.openable(bidirectional)
        self.stream_manager._opening += 1
        try:
            return await finished(opening, limit, expired)
        finally:
            self.stream_manager._opening -= 1

    async def _open_id(self, is_unidirectional: bool) -> StreamId:
        """Open a stream and keep its halves for the object that will claim them: StreamManager's stream factory."""
        opened = self._open_now(not is_unidirectional)
        if opened is None:
            opened = await self._open_later(not is_unidirectional, None)
        if self._halves is None:
            self._halves = {}
        self._halves[opened[0].id] = opened
        return opened[0].id

    def _claim(self, stream_id: StreamId) -> Halves | None:
        """Give out the halves of a stream that `_open_id` has opened."""
        return self._halves.pop(stream_id, None) if self._halves is not None else None

    def _stream_done(self, stream_id: StreamId) -> None:
        """Forget a stream that is closed in every direction."""
        self.stream_manager._untrack(stream_id)
        handler = self._existing_handler()
        if handler is not None and handler._wants(EventType.STREAM_CLOSED):
            handler._emit_soon(EventType.STREAM_CLOSED, {"stream_id": stream_id})

    def _abandon(self, send: _core.SendStream) -> None:
        """Take over the unfinished sending half of a stream object that was dropped; decide one loop turn later."""
        loop = self._loop
        if loop is None or loop.is_closed():
            return
        try:
            here = asyncio.get_running_loop() is loop
        except RuntimeError:
            here = False  # the garbage collector runs in whatever thread allocates
        (loop.call_soon if here else loop.call_soon_threadsafe)(self._decide_abandoned, send)

    def _decide_abandoned(self, send: _core.SendStream) -> None:
        """Reset the stream, or keep it while the session closes: that delivers what was written."""
        if self._core is not None and self._core.state == "closing":
            self._orphans = [*(self._orphans or ()), send]
        else:
            send.reset(0)

    # --- datagrams ---

    async def create_datagram_transport(self) -> WebTransportDatagramTransport:
        """Return the datagram transport: the same as the property `datagrams`. Does not wait.

        Datagrams that arrived before are kept, up to `config.datagram_queue_size`.

        Raises:
            SessionError: not initialized.
        """
        return self.datagrams

    # --- changes ---

    def _on_core_change(self) -> None:
        """Look what changed: the state, or single datagrams that somebody listens to."""
        core = self._core
        if core is None:
            return
        state = core.state
        if self._datagrams is not None:
            self._datagrams._emit_recorded()
        if not self._ready_told and state in ("connected", "draining"):
            self._ready_told = True
            self._tell(EventType.SESSION_READY)
        if not self._draining_told and state == "draining":
            self._draining_told = True
            self._tell(EventType.SESSION_DRAINING)
        self._tell_limits(core)
        if state == "closed" and not self._closers and self._end():
            self._emit_soon(EventType.SESSION_CLOSED, self._close_data())
            connection = self._connection()
            if connection is not None and core.close_info is not None and core.close_info.ended_by == "peer":
                connection._session_gone()

    def _end(self) -> bool:
        """Clean up after the session, once; True for the caller who has to emit SESSION_CLOSED."""
        if self._ended:
            return False
        self._ended = True
        self._orphans = self._halves = None
        handler = self._existing_handler()
        if handler is not None:
            handler._emit_soon(EventType.SESSION_CLOSED, self._close_data())
        if self._datagrams is not None:
            self._datagrams._session_ended()
        connection = self._connection()
        if connection is not None:
            connection._forget_session(self._session_id)
        callbacks, self._close_callbacks = self._close_callbacks, ()
        for callback in callbacks:
            callback(self)
        return True

    def _on_close(self, callback: Callable[[WebTransportSession], None]) -> None:
        """Call back once the session is closed; at once when it already is."""
        if self._ended:
            callback(self)
        else:
            self._close_callbacks += (callback,)

    def _tell(self, event_type: EventType) -> None:
        """Emit on the session, and on the protocol handler when somebody looked at it."""
        self._note(event_type, WebTransportSession._id_data)
        handler = self._existing_handler()
        if handler is not None:
            info = self._info() if event_type is EventType.SESSION_READY else self._id_data()
            handler._emit_soon(event_type, info)

    def _id_data(self) -> dict[str, Any]:
        return {"session_id": self._session_id}

    def _tell_limits(self, core: _core.Session) -> None:
        """Emit the limits of flow control that the peer has raised since the last look, when somebody listens."""
        handler = self._existing_handler()
        if handler is None or not any(map(handler._wants, _LIMITS)):
            return
        limits = core.flow_control() or _NOTHING
        for event_type, field in _LIMITS.items():
            limit = limits.get(f"peer_{field}", 0)
            if limit > self._limits_told.get(f"peer_{field}", 0):
                handler._emit_soon(event_type, {"session_id": self._session_id, field: limit})
        self._limits_told = limits

    def _existing_handler(self) -> WebTransportProtocolHandler | None:
        connection = self._connection()
        return getattr(connection, "_handler", None)

    def _info(self) -> dict[str, Any]:
        """Return the fields of WebTransportSessionInfo."""
        connection = self._connection()
        info = connection.get_session_info(self._session_id) if connection is not None else None
        return info.to_dict() if info is not None else {"session_id": self._session_id}

    def _close_data(self) -> dict[str, Any]:
        """Return the data of SESSION_CLOSED; a rejected request has code 1 and its status as reason."""
        info = self._core.close_info if self._core is not None else None
        code, reason = (info.code, info.reason) if info is not None else (0, "")
        if info is not None and info.status is not None:
            code, reason = 1, f"HTTP status {info.status}"
        return {"session_id": self._session_id, "code": code, "reason": reason}

    # --- errors ---

    def _started(self) -> _core.Session:
        """Return the core session, or raise when there is none yet."""
        if self._core is None or not self._initialized:
            raise SessionError(
                f"Session {self._session_id} is not initialized",
                session_id=self._session_id,
                session_state=self.state,
            )
        return self._core

    def _not_ready(self) -> SessionError:
        """Return the error for an operation that needs a connected session."""
        if self._core is not None and self._core.close_info is not None:
            return self._closed_error()
        return session_not_ready(self._session_id, self.state)

    def _closed_error(self) -> SessionError:
        """Return the error that says how the session ended."""
        info = self._core.close_info if self._core is not None else None
        if info is None:
            return session_not_ready(self._session_id, self.state)
        return session_ended(self._session_id, self.state, info)

    async def _wait_core_closed(self, core: _core.Session) -> None:
        if core.state != "closed":
            await parked(core.closed(), lambda _ticket: True if core.state == "closed" else None, None, never_expires)

    def __str__(self) -> str:
        """Return id, state and path for logs."""
        return f"WebTransportSession({self._session_id}, state={self.state}, path={self.path})"


_NOTHING: Mapping[str, Any] = MappingProxyType({})
_LIMITS = {
    EventType.SESSION_MAX_DATA_UPDATED: "max_data",
    EventType.SESSION_MAX_STREAMS_BIDI_UPDATED: "max_streams_bidi",
    EventType.SESSION_MAX_STREAMS_UNI_UPDATED: "max_streams_uni",
}
