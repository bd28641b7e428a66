"""Python objects over datagrams.

Datagram: type id (u16, big-endian), payload. The type ids are agreed between the two ends by a registry, the payload
is the serializer's.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from pywebtransport.exceptions import SerializationError
from pywebtransport.serializer._registry import TypeRegistry
from pywebtransport.types import Serializer

if TYPE_CHECKING:
    from pywebtransport.datagram.transport import WebTransportDatagramTransport

__all__: list[str] = ["StructuredDatagramTransport"]


class StructuredDatagramTransport:
    """Sends and receives objects of registered classes, each in one datagram: unordered, and some may be lost."""

    def __init__(
        self,
        datagram_transport: WebTransportDatagramTransport,
        serializer: Serializer,
        registry: dict[int, type[Any]],
    ) -> None:
        """Wrap a datagram transport.

        Args:
            datagram_transport: a session's transport, or anything with its members.
            serializer: turns objects into payloads and back.
            registry: type id (0 to 65535) to class; both ends need the same.

        Raises:
            ConfigurationError: a class appears twice, or an id does not fit the datagram.
        """
        self._types = TypeRegistry(registry, serializer, "datagram")
        self._transport = datagram_transport

    @property
    def is_closed(self) -> bool:
        """Whether the datagram transport is closed."""
        return self._transport.is_closed

    async def close(self) -> None:
        """Close the datagram transport."""
        await self._transport.close()

    async def receive_obj(self, timeout: float | None = None) -> Any:
        """Return the next object that arrives.

        Waits for a datagram. Cancelling it loses nothing. A datagram that cannot be decoded is used up by the error
        it raises; the next call takes the next one.

        Args:
            timeout: limit in seconds; None for none.

        Raises:
            SerializationError: the datagram has no type id or an unknown one, or cannot be decoded.
            DatagramError: the transport is closed.
            TimeoutError: the limit passed.
        """
        datagram = await self._transport.receive(timeout=timeout)
        if len(datagram) < _HEADER.size:
            raise SerializationError(f"Received a datagram of {len(datagram)} bytes, too short for a type ID.")
        (type_id,) = _HEADER.unpack_from(datagram)
        return self._types.decode(type_id, datagram[_HEADER.size :])

    async def send_obj(self, obj: Any, priority: int = 0, ttl: float | None = None) -> None:
        """Send an object, as the transport's `send()` does.

        Args:
            obj: an instance of exactly one of the registered classes.
            priority: 0 to 2; 2 goes first.
            ttl: seconds after which it is not worth sending any more; None for ever.

        Raises:
            SerializationError: the class is not registered, or the object cannot be encoded.
            DatagramError: the object does not fit a datagram, the queue is full or the transport is closed.
        """
        type_id, payload = self._types.encode(obj)
        await self._transport.send(data=_HEADER.pack(type_id) + payload, priority=priority, ttl=ttl)


_HEADER = struct.Struct("!H")
