"""The sending half of a stream.

Writing strategy
    `write` hands the data to the core in one call and returns; the core sends it and repeats it until it is
    acknowledged. Only while more than `max_stream_buffer_size` bytes are waiting there, `write` waits too.

    A single write may be larger than that buffer. It goes in pieces, under a lock, so that the pieces of two tasks do
    not mix: each `write` is contiguous on the stream. While a writer holds the lock, all others queue behind it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

from pywebtransport import _core
from pywebtransport._core import NO_ROOM, SENT, SENT_YIELD
from pywebtransport.exceptions import StreamError
from pywebtransport.stream._base import _StreamBase
from pywebtransport.types import Data, StreamDirection

__all__: list[str] = ["WebTransportSendStream"]


class WebTransportSendStream(_StreamBase):
    """A stream to send on.

    Leaving `async with` closes it (FIN), or resets it with code 0 when an exception passes. Dropping the object
    without `close` resets it too: the peer never takes a truncated stream for a complete one.
    """

    __slots__ = ()

    _direction = StreamDirection.SEND_ONLY

    async def __aenter__(self) -> Self:
        """Return the stream itself."""
        await self.initialize()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        """Close it, or abort it when an exception passes."""
        if self.is_closed:
            return
        if exc_type is None:
            await self.close()
        else:
            await self.abort()

    @property
    def is_writable(self) -> bool:
        """Whether `write` would accept data: not closed, not aborted, not stopped by the peer, session alive."""
        return self._send is not None and self._send.state == "open"

    @property
    def priority(self) -> int:
        """The stream's place among all streams of the connection; may be set at any time, also behind the last write.

        Of the data that waits for the network, that of the streams with the largest number goes first, and streams of
        the same number take turns: the send order of the W3C API. It counts among all sessions that share the
        connection; datagrams go before all streams. What waits because the peer's limits are used up is not ordered.

        A number from -(2**31 - 1) to 2**31 - 2; 0 for a new stream.

        Raises:
            ValueError: set to a number out of range.
            StreamError: not initialized.
        """
        if self._send is None:
            self._refuse()
        return self._send.priority

    @priority.setter
    def priority(self, value: int) -> None:
        if self._send is None:
            self._refuse()
        if not -MAX_PRIORITY - 1 <= value <= MAX_PRIORITY:
            raise ValueError(f"The priority of a stream is a number from {-MAX_PRIORITY - 1} to {MAX_PRIORITY}.")
        self._send.priority = value

    async def write(self, data: Data, end_stream: bool = False, wait_flush: bool = True) -> None:
        """Send data.

        Returns as soon as the core has all of it; waits only while more than `max_stream_buffer_size` bytes are
        queued on the stream, at most `write_timeout` seconds. Each call is contiguous on the stream, also among tasks.
        Cancelling a call that fits the buffer sends all or nothing; of a larger one a first part may be sent already.

        Args:
            data: bytes, bytearray, memoryview, or text to send as UTF-8. Empty data without `end_stream` does nothing.
            end_stream: end the stream (FIN) after this data.
            wait_flush: kept for compatibility. The core owns what it has accepted and sends it by itself, so both
                values return at the same point; `flush` waits for the hand-over to QUIC.

        Raises:
            TypeError: `data` is None or of another type.
            StreamError: the stream is closed or aborted, the peer stopped it (`application_code` has its code), or the
                session ended.
            TimeoutError: no room within `config.write_timeout`.
        """
        if self._writers or len(data) > self._piece:
            await self._write_in_pieces(data, end_stream)
        else:
            try:
                status = self._core_write(data, end_stream)
            except StreamError:
                self._count("write_errors")
                raise
            if status != SENT:
                if status == SENT_YIELD:
                    await asyncio.sleep(0)
                else:
                    await self._write_in_pieces(data, end_stream)
        self._writes += 1
        if end_stream:
            self._side_done()

    async def write_all(self, data: Data, chunk_size: int = 8192) -> None:
        """Send data and end the stream (FIN), always.

        Waits and fails as `write`; on StreamError the stream is aborted with code 1 first.

        Args:
            data: what to send.
            chunk_size: kept for compatibility; the core cuts packets by itself.
        """
        try:
            await self.write(data, end_stream=True)
        except StreamError:
            await self.abort(code=1)
            raise

    async def flush(self) -> None:
        """Wait until everything written was handed to QUIC; that is not yet acknowledged by the peer.

        Waits at most `write_timeout` seconds. Cancelling it loses nothing.

        Raises:
            StreamError: the stream was aborted, stopped by the peer, or its session ended.
            TimeoutError: `config.write_timeout` passed.
        """
        send = self._send
        if send is None:
            self._refuse()

        def flushed(_ticket: int = 0) -> bool | None:
            # A stream that ended badly has dropped its buffer: empty, but not delivered.
            if send.state not in ("finished", "sent", "acknowledged") and (error := send.error()) is not None:
                raise error
            return True if send.buffered == 0 else None

        if not flushed():
            await self._wait("write", send.flushed(), flushed)

    async def close(self) -> None:
        """End the stream after what was written (FIN).

        Does not wait; the core delivers what is queued, also when the session is closed right after. Idempotent, and
        harmless on a stream that has ended otherwise.
        """
        send = self._send
        if send is None:
            self._refuse()
        if self._writers:
            # A large write is in the middle of its pieces: the FIN belongs behind the last one.
            async with self._lock():
                send.finish()
        else:
            send.finish()
        self._side_done()

    async def _write_in_pieces(self, data: Data, end_stream: bool) -> None:
        """Write what does not go in one call: it is larger than the buffer, the buffer is full, or others wait."""
        send = self._send
        if send is None:
            self._refuse()
        view = memoryview(data.encode() if isinstance(data, str) else data).cast("B")
        self._writers += 1
        try:
            async with self._lock():
                start, size = 0, len(view)
                while True:
                    piece = view[start : start + self._piece]
                    start += len(piece)
                    await self._write_piece(send.writable, piece, end_stream and start >= size)
                    if start >= size:
                        return
        finally:
            self._writers -= 1

    async def _write_piece(self, writable: Callable[[], _core.Readiness], piece: memoryview, finish: bool) -> None:
        def attempt(_ticket: int = 0) -> int | None:
            status = self._core_write(piece, finish)
            return status if status != NO_ROOM else None

        try:
            status = attempt()
        except StreamError:
            self._count("write_errors")
            raise
        if status is None:
            status = await self._wait("write", writable(), attempt)
        if status == SENT_YIELD:
            await asyncio.sleep(0)

    def _lock(self) -> asyncio.Lock:
        """Return the lock of the writers, made when the first one has to wait."""
        if self._write_lock is None:
            self._write_lock = asyncio.Lock()
        return self._write_lock


MAX_PRIORITY = 2**31 - 2  # 32 bits, but both ends are the core's
