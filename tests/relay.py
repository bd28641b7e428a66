"""The network between a client and a server: a relay of UDP packets that can do what routers do."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

Address = tuple[str, int]


class Relay:
    """Forwards between one client and one server. The server sees it as the client, as it sees a NAT."""

    def __init__(self, target: Address) -> None:
        self.largest = 65535
        self._target = target
        self._client: Address | None = None
        self._inside: asyncio.DatagramTransport
        self._outside: asyncio.DatagramTransport

    @property
    def port(self) -> int:
        """Where the client connects to."""
        port: int = self._inside.get_extra_info("sockname")[1]
        return port

    @property
    def outside(self) -> Address:
        """The client as the server sees it."""
        address: Address = self._outside.get_extra_info("sockname")
        return address

    async def start(self) -> None:
        self._inside = await _bind(self._from_client)
        self._outside = await _bind(self._from_server)

    async def rebind(self) -> None:
        """Forget the mapping: the client has another address now, and what is sent to the old one is lost."""
        self._outside.close()
        self._outside = await _bind(self._from_server)

    def close(self) -> None:
        self._inside.close()
        self._outside.close()

    def _from_client(self, data: bytes, address: Address) -> None:
        self._client = address
        if len(data) <= self.largest:
            self._outside.sendto(data, self._target)

    def _from_server(self, data: bytes, address: Address) -> None:
        if self._client is not None and len(data) <= self.largest:
            self._inside.sendto(data, self._client)


class _Receiver(asyncio.DatagramProtocol):
    def __init__(self, forward: Callable[[bytes, Address], None]) -> None:
        self._forward = forward

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self._forward(data, addr)


async def _bind(forward: Callable[[bytes, Address], None]) -> asyncio.DatagramTransport:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: _Receiver(forward), local_addr=("127.0.0.1", 0))
    return transport


@contextlib.asynccontextmanager
async def relayed(port: int) -> AsyncIterator[Relay]:
    """A relay to a server on this port of 127.0.0.1."""
    relay = Relay(("127.0.0.1", port))
    await relay.start()
    try:
        yield relay
    finally:
        relay.close()
