"""Python objects over a stream.

Frame: type id (u16), length (u32), payload; all big-endian. The type ids are agreed between the two ends by a
registry, the payload is the serializer's.
"""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING, Any, Self

from pywebtransport.constants import DEFAULT_MAX_MESSAGE_SIZE
from pywebtransport.exceptions import SerializationError, StreamError
from pywebtransport.serializer._registry import TypeRegistry
from pywebtransport.types import Serializer

if TYPE_CHECKING:
    from pywebtransport.stream.stream import WebTransportStream

__all__: list[str] = ["StructuredStream"]


class StructuredStream:
    """Sends and receives objects of registered classes over a stream.

    Iterating yields objects until the stream ends. Tasks may share it: objects are sent and received one at a time.
    """

    def __init__(
        self,
        stream: WebTransportStream,
        serializer: Serializer,
        registry: dict[int, type[Any]],
        max_message_size: int = DEFAULT_MAX_MESSAGE_SIZE,
    ) -> None:
        """Wrap an open stream.

        Args:
            stream: a bidirectional stream, or anything with its members.
            serializer: turns objects into payloads and back.
            registry: type id (0 to 65535) to class; both ends need the same.
            max_message_size: greatest payload in bytes, in both directions.

        Raises:
            ConfigurationError: a class appears twice, or an id does not fit the frame.
        """
        self._types = TypeRegistry(registry, serializer, "stream")
        self._stream = stream
        self._max_message_size = max_message_size
        self._receiving = asyncio.Lock()
        # A header that was read while its payload was not: a cancelled receive_obj() leaves it for the next one.
        self._header: tuple[int, int] | None = None
        self._to_skip = 0  # bytes of a payload that nobody wants

    @property
    def is_closed(self) -> bool:
        """Whether the stream is closed."""
        return self._stream.is_closed

    @property
    def stream_id(self) -> int:
        """The id of the stream."""
        return self._stream.stream_id

    async def close(self) -> None:
        """Close the stream, as its own `close()` does: what was sent still arrives."""
        await self._stream.close()

    async def receive_obj(self) -> Any:
        """Return the next object.

        Waits until all its bytes are here. Cancelling it loses nothing: the next call goes on where this one was.

        Raises:
            StreamError: the stream ended or was reset, between two objects or inside one.
            SerializationError: the type id is unknown or the payload cannot be decoded (the stream stays usable), or
                the object is larger than `max_message_size` (the stream is aborted).
            TimeoutError: the stream's read timeout passed.
        """
        async with self._receiving:
            await self._skip()
            if self._header is None:
                self._header = _HEADER.unpack(await self._read(_HEADER.size, "waiting for a message header"))
            type_id, size = self._header

            if size > self._max_message_size:
                self._header = None
                await self._stream.abort()
                raise SerializationError(
                    f"Incoming message size {size} exceeds the configured limit of {self._max_message_size}."
                )
            try:
                self._types.class_of(type_id)
            except SerializationError:
                self._header, self._to_skip = None, size
                raise

            payload = await self._read(size, f"reading payload of size {size} for type ID {type_id}")
            self._header = None
        return self._types.decode(type_id, payload)

    async def send_obj(self, obj: Any) -> None:
        """Send an object.

        Waits as the stream's `write()` does: for room, not for the peer. Cancelling it may leave the object sent or
        not sent, as with `write()`.

        Args:
            obj: an instance of exactly one of the registered classes.

        Raises:
            SerializationError: the class is not registered, or the object cannot be encoded or is larger than
                `max_message_size`; nothing was sent.
            StreamError: the stream is not writable.
            TimeoutError: the stream's write timeout passed.
        """
        type_id, payload = self._types.encode(obj)
        if len(payload) > self._max_message_size:
            raise SerializationError(
                f"Outgoing message size {len(payload)} exceeds the configured limit of {self._max_message_size}."
            )
        await self._stream.write(data=_HEADER.pack(type_id, len(payload)) + payload)

    def __aiter__(self) -> Self:
        """Return self."""
        return self

    async def __anext__(self) -> Any:
        """Return the next object; the iteration ends when the stream does, for whatever reason."""
        try:
            return await self.receive_obj()
        except StreamError:
            raise StopAsyncIteration from None

    async def _skip(self) -> None:
        while self._to_skip:
            step = min(self._to_skip, _SKIP_STEP)
            await self._read(step, "skipping a message of unknown type")
            self._to_skip -= step

    async def _read(self, size: int, doing: str) -> bytes:
        try:
            return await self._stream.readexactly(n=size)
        except asyncio.IncompleteReadError as error:
            raise StreamError(f"Stream closed while {doing}.") from error


_HEADER = struct.Struct("!HI")
_SKIP_STEP = 64 * 1024
