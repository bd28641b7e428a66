"""The receiving half of a stream.

Reading strategy
    A read asks the core first and waits only when nothing is there. The core hands out what it has as one object.

    Reads that need more than one piece (`readexactly`, `readuntil`, `readline`) collect it in `_pending`, a buffer of
    the stream and not of the call. So a call that is cancelled or times out leaves its bytes for the next one, whatever
    kind that is. Every read empties `_pending` before it asks the core.

    One task reads at a time. Two that read at once each get whole pieces, but nobody can say which.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

from pywebtransport.constants import DEFAULT_STREAM_LINE_LIMIT
from pywebtransport.exceptions import StreamError
from pywebtransport.stream._base import _StreamBase
from pywebtransport.types import StreamDirection

__all__: list[str] = ["WebTransportReceiveStream"]


class WebTransportReceiveStream(_StreamBase):
    """A stream that the peer sends on. Iterating yields its bytes in pieces until it ends.

    Leaving `async with` asks the peer to stop (STOP_SENDING, code 0) unless the end was read. So does dropping the
    object. When the session ends, what had arrived can still be read; then reads raise StreamError.
    """

    __slots__ = ()

    _direction = StreamDirection.RECEIVE_ONLY

    async def __aenter__(self) -> Self:
        """Return the stream itself."""
        await self.initialize()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        """Abort what was not read."""
        if not self.is_closed:
            await self.abort()

    @property
    def is_readable(self) -> bool:
        """Whether data can still come, or is here already."""
        recv = self._recv
        return bool(self._pending) or (recv is not None and (recv.state == "open" or recv.buffered > 0))

    async def read(self, size: int = 8192) -> bytes:
        """Read what is there, at most `size` bytes.

        Waits only while nothing is there, at most `read_timeout` seconds. At the end of the stream, and after an own
        `abort`, it returns b"". Cancelling it loses nothing.

        Args:
            size: greatest number of bytes; -1 for everything that has arrived.

        Returns:
            At least one byte, or b"" at the end.

        Raises:
            StreamError: the peer reset the stream (`application_code` has its code), or the session ended.
            TimeoutError: nothing came within `config.read_timeout`.
        """
        if self._pending:
            return self._take(size)
        try:
            data = self._core_read(size)
            if data is None and size:
                data = await self._read_later(size)
        except StreamError as error:
            return self._failed(error)
        if data:
            self._reads += 1
            return data
        return self._read_end(size)

    async def readinto(self, buffer: bytearray | memoryview) -> int:
        """Read into a buffer, as many bytes as are there and fit: `read` without a new object.

        Waits, ends, times out and fails as `read` does.

        Args:
            buffer: anything writable and contiguous.

        Returns:
            The number of bytes, 0 at the end of the stream.
        """
        recv = self._recv
        if recv is None:
            self._refuse()
        view = memoryview(buffer).cast("B")
        if not view:
            return 0
        if self._pending or self._core_read != recv.try_read:
            # Bytes that were put back, or a listener that wants to see them.
            data = await self.read(len(view))
            view[: len(data)] = data
            return len(data)
        try:
            count = recv.try_read_into(buffer)
            if count is None:
                count = await self._wait("read", recv.readable(), lambda _ticket: recv.try_read_into(buffer))
        except StreamError as error:
            return len(self._failed(error))
        self._reads += 1
        if count == 0:
            self._side_done()
        return int(count)

    async def readexactly(self, n: int) -> bytes:
        """Read exactly `n` bytes.

        Waits as long as data keeps coming, at most `read_timeout` seconds for each piece. Cancelling it, or a timeout,
        leaves what had come for the next read.

        Args:
            n: number of bytes.

        Raises:
            ValueError: `n` is negative.
            asyncio.IncompleteReadError: the stream ended before; `partial` has the bytes.
            StreamError: the peer reset the stream, or the session ended.
            TimeoutError: nothing came within `config.read_timeout`.
        """
        if n < 0:
            raise ValueError("readexactly size must not be negative")
        if not self._pending and n:
            data = await self.read(n)
            if len(data) == n:
                return data
            if not data:
                raise asyncio.IncompleteReadError(b"", n)
            self._keep(data)
        while len(self._pending) < n:
            if not await self._fill(n - len(self._pending)):
                partial = self._take(-1)
                raise asyncio.IncompleteReadError(partial, n)
        return self._take(n)

    async def readuntil(self, separator: bytes = b"\n", limit: int | None = None) -> bytes:
        """Read up to and including the separator; at the end of the stream whatever is left.

        Waits, times out and may be cancelled as `readexactly`.

        Args:
            separator: what to look for.
            limit: greatest size of the result in bytes; None for none. With None a peer can make this process hold as
                much as it likes to send.

        Returns:
            The bytes with the separator, or without it at the end of the stream; b"" when nothing is left.

        Raises:
            ValueError: the separator is empty.
            StreamError: the result would exceed the limit (the bytes stay readable), the peer reset the stream, or the
                session ended.
            TimeoutError: nothing came within `config.read_timeout`.
        """
        if not separator:
            raise ValueError("Separator cannot be empty")
        searched = 0
        while True:
            pending = self._pending
            found = pending.find(separator, searched)
            size = len(pending) if found < 0 else found + len(separator)
            if limit is not None and size > limit:
                self._count("read_errors")
                raise StreamError(f"Separator not found within {limit} bytes", stream_id=self._stream_id)
            if found >= 0:
                return self._take(size)
            # The separator may begin in the last bytes and end in the next piece.
            searched = max(0, size - len(separator) + 1)
            if not await self._fill(READ_SIZE):
                return self._take(-1)

    async def readline(self, limit: int = DEFAULT_STREAM_LINE_LIMIT) -> bytes:
        """Read one line with its line feed; see `readuntil`.

        Args:
            limit: greatest length in bytes.
        """
        return await self.readuntil(b"\n", limit)

    async def read_all(self, max_size: int | None = None) -> bytes:
        """Read until the end of the stream.

        Waits, times out and may be cancelled as `readexactly`: called again, it returns everything.

        Args:
            max_size: greatest size in bytes; None for none, and then a peer decides how much memory this takes.

        Raises:
            StreamError: more came than `max_size` (it stays readable), the peer reset the stream, or the session ended.
            TimeoutError: nothing came within `config.read_timeout`.
        """
        parts = [self._take(-1)] if self._pending else []
        total = len(parts[0]) if parts else 0
        try:
            while max_size is None or total <= max_size:
                size = -1 if max_size is None else max_size - total + 1
                data = self._core_read(size)
                if data is None:
                    data = await self._read_later(size)
                if not data:
                    self._read_end(size)
                    return parts[0] if len(parts) == 1 else b"".join(parts)
                self._reads += 1
                parts.append(data)
                total += len(data)
        except StreamError as error:
            self._keep_first(parts)
            self._failed(error)
            return self._take(-1)  # this side has given the stream up: that is all there is
        except BaseException:
            self._keep_first(parts)
            raise
        self._keep_first(parts)
        self._count("read_errors")
        raise StreamError(f"Stream data exceeds the limit of {max_size} bytes", stream_id=self._stream_id)

    async def read_iter(self, chunk_size: int = 8192) -> AsyncIterator[bytes]:
        """Yield what `read(chunk_size)` returns, until the end of the stream."""
        while data := await self.read(chunk_size):
            yield data

    def __aiter__(self) -> Self:
        """Return self: `async for chunk in stream`."""
        return self

    async def __anext__(self) -> bytes:
        """Return the next piece as `read(65536)` does; stop at the end of the stream."""
        data = await self.read(READ_SIZE)
        if not data:
            raise StopAsyncIteration
        return data

    async def _read_later(self, size: int) -> bytes:
        """Wait for data, or for the end. `parked` in line: most requests come by here."""
        recv = self._recv
        assert recv is not None, "_core_read refuses without a receiving half"
        readiness = recv.readable(self._session._read_timeout)
        try:
            while True:
                await readiness
                data = self._core_read(size)
                if data is not None:
                    return data
                if readiness.expired:
                    self._count("read_errors")
                    raise self._late("read", self._session._read_timeout)
        finally:
            readiness.leave()

    def _read_end(self, size: int) -> bytes:
        """Note the end of the stream, unless nothing was asked for."""
        if size:
            self._reads += 1
            self._side_done()
        return b""

    async def _fill(self, size: int) -> bool:
        """Read more into `_pending`; False at the end of the stream."""
        try:
            data = self._core_read(size)
            if data is None:
                data = await self._read_later(size)
        except StreamError as error:
            self._failed(error)
            return False
        if not data:
            self._read_end(size)
            return False
        self._reads += 1
        self._keep(data)
        return True

    def _keep(self, data: bytes) -> None:
        """Put bytes behind `_pending`."""
        if not isinstance(self._pending, bytearray):
            self._pending = bytearray()
        self._pending += data

    def _keep_first(self, parts: list[bytes]) -> None:
        """Put bytes before `_pending`."""
        self._pending = bytearray().join([*parts, self._pending])

    def _take(self, size: int) -> bytes:
        """Take up to `size` bytes (-1: all) from the front of `_pending`."""
        pending = self._pending
        if size < 0 or size >= len(pending):
            self._pending = b""
            return bytes(pending)
        assert isinstance(pending, bytearray), "what is not empty was made by `_keep`"
        data = bytes(memoryview(pending)[:size])
        del pending[:size]
        return data

    def _failed(self, error: StreamError) -> bytes:
        """Return b"" for a read after an own `abort`, raise the error for everything else."""
        recv = self._recv
        if recv is not None and recv.state == "stopped":
            return b""
        self._count("read_errors")
        raise error


READ_SIZE = 65536
