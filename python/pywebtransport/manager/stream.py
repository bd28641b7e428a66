"""The registry of the streams of a session, and the limit for own streams.

The registry of a session knows its streams weakly: a stream object that nobody uses any more must go, because that is
what tells the peer (see `stream/_base.py`). Streams that were added by hand are held.

Closed streams leave when this side notices: at the end of a read, a close, an abort. Those that the peer ended unseen
are swept when somebody counts, when the limit is reached, and when the table has doubled; so a stream costs constant
time however many there are.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from pywebtransport.constants import DEFAULT_MAX_STREAMS, DEFAULT_STREAM_CLEANUP_INTERVAL
from pywebtransport.exceptions import StreamError
from pywebtransport.manager._base import _BaseResourceManager
from pywebtransport.stream.stream import WebTransportReceiveStream, WebTransportSendStream, WebTransportStream
from pywebtransport.types import StreamId

if TYPE_CHECKING:
    from pywebtransport.session.session import WebTransportSession

__all__: list[str] = ["StreamManager", "StreamType"]

StreamType: TypeAlias = WebTransportStream | WebTransportReceiveStream | WebTransportSendStream


class StreamManager(_BaseResourceManager[StreamId, StreamType]):
    """The open streams of a session. The manager of a session is active as it is; others need `async with`."""

    def __init__(
        self,
        stream_factory: Callable[[bool], Awaitable[StreamId]],
        session_factory: Callable[[], WebTransportSession],
        max_streams: int = DEFAULT_MAX_STREAMS,
        stream_cleanup_interval: float = DEFAULT_STREAM_CLEANUP_INTERVAL,
    ) -> None:
        """Make a registry that is not active yet.

        Args:
            stream_factory: opens a stream (True: unidirectional) and returns its id.
            session_factory: returns the session of the streams.
            max_streams: streams made by this manager that may be open at a time.
            stream_cleanup_interval: kept for compatibility: streams are cleaned up as they close.
        """
        super().__init__("stream", max_streams, stream_cleanup_interval)
        self._stream_factory: Callable[[bool], Awaitable[StreamId]] | None = stream_factory
        self._session_factory: Callable[[], WebTransportSession | None] = session_factory
        self._own: dict[StreamId, weakref.ref[StreamType]] = {}
        self._others: dict[StreamId, weakref.ref[StreamType]] = {}
        self._opening = 0  # own streams that wait for the peer's credit
        self._sweep_at = FIRST_SWEEP
        self._check_at = 0  # the smaller one of the greatest number so far and of that

    @classmethod
    def _view_of(cls, session: WebTransportSession, max_streams: int, cleanup_interval: float) -> Self:
        """Make the manager of a session: active, and without keeping the session alive."""
        find: Any = weakref.ref(session)
        manager = cls(find, find, max_streams, cleanup_interval)
        manager._stream_factory = None  # the session opens them itself
        manager._active = True
        return manager

    async def __aenter__(self) -> Self:
        """Activate it."""
        self._active = True
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        """Close its streams."""
        await self.shutdown()

    async def shutdown(self) -> None:
        """Close every open stream: FIN for what is being sent, STOP_SENDING for what is being received. Idempotent."""
        for stream in self._sweep_now():
            await self._close_resource(stream)
        self._active = False
        self._own.clear()
        self._others.clear()
        self._resources.clear()

    async def create_bidirectional_stream(self) -> WebTransportStream:
        """Open a stream in both directions; see `WebTransportSession.create_bidirectional_stream`.

        Raises:
            StreamError: "stream limit (N) reached", the peer allowed none in time, or the manager is not activated.
            SessionError: the session is not ready, or has ended.
        """
        stream = WebTransportStream(await self._create(False), self._session())
        await stream.initialize()
        self._track(stream, own=True)
        return stream

    async def create_unidirectional_stream(self) -> WebTransportSendStream:
        """Open a stream to send on; everything else is as with `create_bidirectional_stream`."""
        stream = WebTransportSendStream(await self._create(True), self._session())
        await stream.initialize()
        self._track(stream, own=True)
        return stream

    async def _create(self, is_unidirectional: bool) -> StreamId:
        self._require_active()
        if not self._has_room():
            raise self._limit_error()
        if self._stream_factory is None:
            return await self._session()._open_id(is_unidirectional)
        return await self._stream_factory(is_unidirectional)

    def _session(self) -> WebTransportSession:
        session = self._session_factory()
        if session is None:
            raise StreamError("The session of this stream manager is gone")
        return session

    async def add_stream(self, stream: StreamType) -> None:
        """Register a stream that was made elsewhere, and hold it; it does not count against the limit.

        Raises:
            StreamError: the manager is not activated.
        """
        self._require_active()
        if stream not in self:
            self._track(stream, own=False)
        self._resources[stream.stream_id] = stream

    async def remove_stream(self, stream_id: StreamId) -> StreamType | None:
        """Take a stream out, without closing it; return it, or None for an unknown id."""
        stream = self._find(stream_id)
        self._untrack(stream_id)
        return stream

    async def cleanup_closed_streams(self) -> int:
        """Remove the streams that are closed; return how many."""
        before = len(self._own) + len(self._others)
        return before - len(self._sweep_now())

    async def cleanup_closed_resources(self) -> int:
        """Do the same as `cleanup_closed_streams`."""
        return await self.cleanup_closed_streams()

    async def get_all_resources(self) -> list[StreamType]:
        """Return the open streams."""
        return self._sweep_now()

    async def get_resource(self, resource_id: StreamId) -> StreamType | None:
        """Return the stream with this id, or None."""
        return self._find(resource_id)

    async def get_stats(self) -> dict[str, Any]:
        """Return the statistics of every manager and semaphore_locked, semaphore_value (own streams that may still be
        opened), directions (open streams per direction)."""
        stats = await super().get_stats()
        if stats:
            free = self._max_resources - self._opening - len(self._own)
            stats["semaphore_locked"] = free <= 0
            stats["semaphore_value"] = max(0, free)
            stats["directions"] = dict(Counter(stream.direction for stream in self._sweep_now()))
        return stats

    async def __aiter__(self) -> AsyncIterator[StreamType]:
        """Iterate over the streams that are open now."""
        self._require_active()
        for stream in self._sweep_now():
            yield stream

    def __contains__(self, item: object) -> bool:
        """Tell whether a stream, or a stream id, is registered."""
        if isinstance(item, int):
            return self._find(item) is not None
        stream_id = getattr(item, "stream_id", None)
        return isinstance(stream_id, int) and self._find(stream_id) is item

    def __len__(self) -> int:
        """Return the number of open streams."""
        return len(self._sweep_now())

    # --- for the session ---

    def _has_room(self) -> bool:
        """Tell whether another own stream may be opened."""
        if len(self._own) + self._opening < self._max_resources:
            return True
        self._sweep_now()
        return len(self._own) + self._opening < self._max_resources

    def _limit_error(self) -> StreamError:
        return StreamError(f"Cannot open another stream: stream limit ({self._max_resources}) reached")

    def _track(self, stream: StreamType, own: bool) -> None:
        """Register a new stream, weakly."""
        table = self._own if own else self._others
        table[stream._stream_id] = weakref.ref(stream)
        self._total_created += 1
        count = len(self._own) + len(self._others)
        if count > self._check_at:
            self._check_growth(count)

    def _check_growth(self, count: int) -> None:
        """Note that there are more than ever before, or sweep because the table has doubled."""
        if count > self._sweep_at:
            count = len(self._sweep_now())
        self._max_concurrent = max(self._max_concurrent, count)
        self._check_at = min(self._max_concurrent, self._sweep_at)

    def _untrack(self, stream_id: StreamId) -> None:
        """Forget a stream."""
        if self._own.pop(stream_id, None) is not None or self._others.pop(stream_id, None) is not None:
            self._total_closed += 1
        if self._resources:
            self._resources.pop(stream_id, None)

    def _find(self, stream_id: StreamId) -> StreamType | None:
        reference = self._own.get(stream_id) or self._others.get(stream_id)
        return reference() if reference is not None else None

    def _sweep_now(self) -> list[StreamType]:
        """Forget what is closed or dropped; return the rest."""
        living: list[StreamType] = []
        for table in (self._own, self._others):
            for stream_id, reference in list(table.items()):
                stream = reference()
                if stream is None or stream.is_closed:
                    self._untrack(stream_id)
                else:
                    living.append(stream)
        self._sweep_at = max(FIRST_SWEEP, 2 * len(living))
        self._check_at = min(self._max_concurrent, self._sweep_at)
        return living

    def _require_active(self) -> None:
        if not self._active:
            raise StreamError("Stream manager is not activated: use it as `async with`")

    async def _close_resource(self, resource: StreamType) -> None:
        if isinstance(resource, WebTransportSendStream):
            await resource.close()
        if isinstance(resource, WebTransportReceiveStream) and not resource.is_closed:
            await WebTransportReceiveStream.abort(resource)

    def _key_of(self, resource: StreamType) -> StreamId:
        return resource.stream_id

    def _is_resource_closed(self, resource: StreamType) -> bool:
        return resource.is_closed


FIRST_SWEEP = 64
