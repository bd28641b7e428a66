"""What the three stream classes share: the two core halves, the state, the counters, the events.

Ownership
    A stream object owns its core halves; the session knows the object only weakly. An object that is dropped takes its
    halves with it: the core answers with RESET_STREAM or STOP_SENDING, code 0, never with a silent FIN. One case is
    milder: a handler that wrote and returned. Its stream is dropped in the same loop turn in which the server closes
    the session, and what was written before a session's close is delivered. Therefore an unfinished sending half is
    handed to the session, which decides one turn later (`WebTransportSession._abandon`).

Layout
    All `__slots__` of the three classes are here, because CPython cannot lay out a class that inherits from two bases
    with slots of their own, as `WebTransportStream` does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import time
from typing import TYPE_CHECKING, Any, NoReturn, Self

from pywebtransport import _core
from pywebtransport._bridge import never_expires, parked
from pywebtransport.events import EventEmitter
from pywebtransport.exceptions import StreamError, TimeoutError
from pywebtransport.stream.stats import StreamDiagnostics, StreamStats
from pywebtransport.types import EventType, StreamDirection, StreamId, StreamState
from pywebtransport.utils import get_logger

if TYPE_CHECKING:
    from pywebtransport.session.session import WebTransportSession

__all__: list[str] = []

logger = get_logger(__name__)


class _StreamBase(EventEmitter):
    """The common part of `WebTransportReceiveStream`, `WebTransportSendStream` and `WebTransportStream`.

    Events, emitted when somebody listens: STREAM_DATA_RECEIVED `{stream_id, data, end_stream}` when data was read,
    STREAM_ERROR `{stream_id, error}` when it ended by a reset, a stop or the loss of its session,
    STREAM_CLOSED `{stream_id}` when both directions are done. A stream that somebody listens to lives until its end.
    """

    __slots__ = (
        "_closed_at",
        "_core_read",
        "_core_write",
        "_created_at",
        "_failures",
        "_pending",
        "_piece",
        "_reads",
        "_recv",
        "_send",
        "_session",
        "_stream_id",
        "_watcher",
        "_write_lock",
        "_writers",
        "_writes",
    )

    _direction: StreamDirection

    _stream_id: StreamId
    _send: _core.SendStream | None
    _recv: _core.RecvStream | None
    _core_read: Callable[[int], bytes | None]
    _core_write: Callable[..., int]
    # Bytes that a read took from the core without returning them; every read looks here first.
    _pending: bytes | bytearray
    _closed_at: float | None
    _failures: dict[str, int] | None
    _watcher: asyncio.Task[None] | None
    _write_lock: asyncio.Lock | None

    def __init__(self, stream_id: StreamId, session: WebTransportSession) -> None:
        """Make a stream object for a stream that the session has opened under this id; then `initialize` it.

        Applications get their streams from the session, ready for use.
        """
        super().__init__()
        self._bind(session, None, None)
        self._stream_id = stream_id

    @classmethod
    def _of(cls, session: WebTransportSession, send: _core.SendStream | None, recv: _core.RecvStream | None) -> Self:
        """Make a stream object over core halves, ready for use."""
        self = cls.__new__(cls)
        self._emitter = None
        self._bind(session, send, recv)
        return self

    def _bind(self, session: WebTransportSession, send: _core.SendStream | None, recv: _core.RecvStream | None) -> None:
        self._session = session
        self._piece = session._max_stream_buffer_size
        self._send, self._recv = send, recv
        if recv is not None:
            self._core_read, self._stream_id = recv.try_read, recv.id
        else:
            self._core_read = _uninitialized
        if send is not None:
            self._core_write, self._stream_id = send.write, send.id
        else:
            self._core_write = _uninitialized
        self._created_at = time()
        self._pending = b""
        self._reads = self._writes = self._writers = 0
        # In one statement: a stream may live for a single message.
        self._closed_at = self._write_lock = self._failures = self._watcher = None

    async def initialize(self) -> None:
        """Take the core halves from the session. Done by the session for the streams it gives out; idempotent.

        Raises:
            StreamError: the session has not opened such a stream, or another object has it already.
        """
        if self._send is not None or self._recv is not None:
            return
        halves = self._session._claim(self._stream_id)
        if halves is None:
            raise StreamError(
                f"Stream {self._stream_id} is not waiting for an object in its session", stream_id=self._stream_id
            )
        self._bind(self._session, *halves)

    def __del__(self) -> None:
        """Let the session decide about a sending half that was not finished; see the module's docstring."""
        send = getattr(self, "_send", None)
        try:
            if send is not None and send.is_open:
                self._session._abandon(send)
        except RuntimeError:
            pass  # the core is shut down, or belongs to the parent of this process: nobody to tell

    # --- what it is ---

    @property
    def stream_id(self) -> StreamId:
        """The QUIC stream id."""
        return self._stream_id

    @property
    def direction(self) -> StreamDirection:
        """Which way data flows, seen from here."""
        return self._direction

    @property
    def session(self) -> WebTransportSession:
        """The session it belongs to."""
        return self._session

    @property
    def state(self) -> StreamState:
        """The state of both directions in one word.

        A reset in either direction shows first. A one-way stream that ended regularly stays HALF_CLOSED_LOCAL or
        HALF_CLOSED_REMOTE: it has no other half to close. `is_closed` says that it is done.
        """
        send = self._send.state if self._send is not None else None
        recv = self._recv.state if self._recv is not None else None
        if send == "reset" or recv == "stopped":
            return StreamState.RESET_SENT
        if recv == "reset" or (send == "stopped" and recv is None):
            return StreamState.RESET_RECEIVED
        if send == "closed" or recv == "closed":
            return StreamState.CLOSED
        sent, received = send not in (None, "open"), recv not in (None, "open")
        if sent and received:
            return StreamState.CLOSED
        if sent:
            return StreamState.HALF_CLOSED_LOCAL
        return StreamState.HALF_CLOSED_REMOTE if received else StreamState.OPEN

    @property
    def is_closed(self) -> bool:
        """Whether nothing more can be sent or received on it: every direction it has is done."""
        send, recv = self._send, self._recv
        if send is not None:
            return not send.is_open and (recv is None or not recv.is_open)
        return recv is not None and not recv.is_open

    @property
    def diagnostics(self) -> StreamDiagnostics:
        """A snapshot of its counters and buffers."""
        stats = StreamStats(stream_id=self._stream_id, created_at=self._created_at)
        stats.writes_count, stats.reads_count = self._writes, self._reads
        if self.is_closed:
            self._closed_at = stats.closed_at = self._closed_at or time()
        for name, count in (self._failures or {}).items():
            setattr(stats, name, count)
        pending = len(self._pending)
        buffered = pending
        if self._recv is not None:
            stats.bytes_received = self._recv.bytes_received - pending
            stats.total_read_time, stats.max_read_time = self._recv.wait_times
            buffered += self._recv.buffered
        if self._send is not None:
            stats.bytes_sent = self._send.bytes_sent
            stats.total_write_time, stats.max_write_time = self._send.wait_times
        return StreamDiagnostics(
            stats=stats,
            read_buffer_size=buffered,
            write_buffer_size=self._send.buffered if self._send is not None else 0,
        )

    # --- its end ---

    async def abort(self, code: int = 0) -> None:
        """Give up the stream at once: RESET_STREAM for what was sent, STOP_SENDING for what was to come.

        Does not wait. Unsent and unread data is dropped; the peer's reads and writes fail with the code. Harmless on a
        stream that has ended. draft-ietf-webtrans-http3, section "Resetting Data Streams".

        Args:
            code: application error code, 0 to 2**32 - 1.

        Raises:
            ValueError: the code is out of range.
            StreamError: not initialized.
        """
        if not 0 <= code <= MAX_APPLICATION_CODE:
            raise ValueError("Application error code must be a 32-bit unsigned integer.")
        if self._send is None and self._recv is None:
            self._refuse()
        if self._send is not None:
            self._send.reset(code)
        if self._recv is not None:
            self._pending = b""
            self._recv.stop(code)
        self._side_done()

    async def wait_closed(self) -> None:
        """Wait until every direction is done.

        The sending direction is done when the peer has acknowledged everything up to the FIN, which says that its QUIC
        stack has it, not that its application read it. The receiving direction is done when the end of the stream was
        read. Both are also done by a reset, a stop or the end of the session (if the FIN was sent by then: of the
        connection). It does not read by itself. Cancelling it loses nothing.

        Raises:
            StreamError: not initialized.
        """
        if self._send is None and self._recv is None:
            self._refuse()
        if (send := self._send) is not None and send.state in ("open", "finished", "sent"):
            await parked(
                send.ended(),
                lambda _ticket: True if send.state not in ("open", "finished", "sent") else None,
                None,
                never_expires,
            )
        if (recv := self._recv) is not None and recv.state == "open":
            await parked(recv.ended(), lambda _ticket: True if recv.state != "open" else None, None, never_expires)
        self._side_done()

    def _side_done(self) -> None:
        """Note that a direction may have ended: a closed stream stops counting against the limit at once."""
        send, recv = self._send, self._recv
        if (send is None or not send.is_open) and (recv is None or not recv.is_open):
            if self._closed_at is None:
                self._closed_at = time()
            self._session._stream_done(self._stream_id)

    # --- for the two halves ---

    async def _wait(self, kind: str, readiness: _core.Readiness, attempt: Callable[[int], Any]) -> Any:
        """Park for a "read" or a "write" within the configured timeout."""
        timeout = self._session._read_timeout if kind == "read" else self._session._write_timeout
        try:
            return await parked(readiness, attempt, timeout, lambda: self._late(kind, timeout))
        except (StreamError, TimeoutError):
            self._count(f"{kind}_errors")
            raise

    def _late(self, kind: str, timeout: float | None) -> TimeoutError:
        """Return the error for a "read" or a "write" that took too long."""
        return TimeoutError(
            f"Stream {kind} timed out after {timeout} s (stream_id={self._stream_id})",
            timeout_duration=timeout,
            operation=f"stream_{kind}",
        )

    def _count(self, name: str) -> None:
        """Count a failure under its name in StreamStats."""
        if self._failures is None:
            self._failures = {}
        self._failures[name] = self._failures.get(name, 0) + 1

    def _refuse(self) -> NoReturn:
        """Raise the error for a stream without core halves."""
        raise StreamError(f"Stream {self._stream_id} is not initialized", stream_id=self._stream_id)

    # --- events ---

    def _state(self) -> Any:
        """Start to observe the stream when somebody listens for the first time; free until then."""
        if self._peek() is None and (self._send is not None or self._recv is not None):
            state = super()._state()
            if self._recv is not None:
                self._core_read = self._heard_read
            try:
                self._watcher = asyncio.get_running_loop().create_task(self._watch())
            except RuntimeError:
                logger.debug("No running event loop: stream %d emits no STREAM_CLOSED", self._stream_id)
            return state
        return super()._state()

    def _heard_read(self, size: int) -> bytes | None:
        """Read, and tell about it."""
        recv = self._recv
        assert recv is not None, "set as _core_read only with a receiving half"
        data = recv.try_read(size)
        if data is not None and self._wants(EventType.STREAM_DATA_RECEIVED):
            info = {"stream_id": self._stream_id, "data": data, "end_stream": data == b""}
            self._emit_soon(EventType.STREAM_DATA_RECEIVED, info)
        return data

    async def _watch(self) -> None:
        """Wait for the end and emit it."""
        await self.wait_closed()
        error = next((half.error() for half in (self._recv, self._send) if half is not None and half.error()), None)
        if error is not None:
            self._emit_soon(EventType.STREAM_ERROR, {"stream_id": self._stream_id, "error": error})
        self._emit_soon(EventType.STREAM_CLOSED, {"stream_id": self._stream_id})

    def __str__(self) -> str:
        """Return class, id, direction and state for logs."""
        return f"{type(self).__name__}({self._stream_id}, {self._direction}, {self.state})"


def _uninitialized(*_args: Any) -> NoReturn:
    """Stand in for the methods of a core half that is not there.

    A function and not a method: a stream that refers to itself would live until the garbage collector comes.
    """
    raise StreamError("Stream is not initialized")


MAX_APPLICATION_CODE = 0xFFFF_FFFF
