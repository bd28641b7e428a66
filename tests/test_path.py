"""The path between two ends changes: other addresses, other sizes of packets."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from pywebtransport import ClientConfig, DatagramError, WebTransportClient, WebTransportSession
from pywebtransport.utils import DevCertificate
from tests.harness import SECONDS, Pair, Server, running_server
from tests.relay import Relay, relayed

LARGEST = 1452
"""What quinn tries at most: the payload of an Ethernet packet on IPv6."""


@contextlib.asynccontextmanager
async def relayed_pair(server: Server, config: ClientConfig, largest: int = 65535) -> AsyncIterator[tuple[Relay, Pair]]:
    """Both ends of a session, with a relay between them."""
    async with relayed(server.port) as relay, WebTransportClient(config=config) as client:
        relay.largest = largest
        near = await client.connect(f"https://127.0.0.1:{relay.port}/hold")
        yield relay, Pair(near, await server.next_session())


async def until(condition: Callable[[], Any]) -> None:
    """Wait for what nobody announces."""
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0.005)


def mtu(session: WebTransportSession) -> int:
    assert session.connection is not None
    return session.connection.diagnostics.mtu


def _is_mtu(session: WebTransportSession, least: int, most: int) -> bool:
    return least <= mtu(session) <= most


async def test_a_nat_rebinding_does_not_hurt_a_stream(server: Server, config: ClientConfig) -> None:
    lively = config.update(connection_keepalive_timeout=0.05)
    part = bytes(range(256)) * 500
    async with relayed_pair(server, lively) as (relay, pair):
        near, far = await pair.bidi()
        for _ in range(4):
            for source, sink in ((near, far), (far, near)):
                writing = asyncio.create_task(source.write(part))
                await sink.readexactly(1000)
                await relay.rebind()
                rest = await sink.readexactly(len(part) - 1000)
                assert rest == part[1000:]
                await writing
        connection = pair.server.connection
        assert connection is not None
        await until(lambda: connection.remote_address == relay.outside)


async def test_a_nat_rebinding_of_a_quiet_session(server: Server, config: ClientConfig) -> None:
    lively = config.update(connection_keepalive_timeout=0.05)
    async with relayed_pair(server, lively) as (relay, pair):
        connection = pair.server.connection
        assert connection is not None
        assert connection.remote_address == relay.outside
        await relay.rebind()
        await until(lambda: connection.remote_address == relay.outside)
        # The server can reach it again.
        await pair.server.datagrams.send(b"found")
        assert await pair.client.datagrams.receive(timeout=SECONDS) == b"found"


async def test_a_server_that_allows_no_migration(
    certificate: DevCertificate, config: ClientConfig, driver: str
) -> None:
    brief = config.update(connection_idle_timeout=0.4)
    async with (
        running_server(certificate, driver=driver, allow_migration=False) as server,
        relayed_pair(server, brief) as (relay, pair),
    ):
        connection, before = pair.server.connection, relay.outside
        assert connection is not None
        await relay.rebind()
        async with asyncio.timeout(SECONDS):
            await pair.client.wait_closed()
            await pair.server.wait_closed()
        assert connection.remote_address == before
        # Or a stateless reset, if the client tries once more when the server has given up.
        assert "idle timeout" in (pair.server.close_reason or "")


async def test_datagrams_grow_with_the_path(server: Server, config: ClientConfig) -> None:
    async with relayed_pair(server, config) as (_, pair):
        for here, there in ((pair.client, pair.server), (pair.server, pair.client)):
            await until(functools.partial(_is_mtu, here, LARGEST, LARGEST))
            await assert_maximum(here, there)


async def test_datagrams_stay_within_a_narrow_path(server: Server, config: ClientConfig) -> None:
    async with relayed_pair(server, config, largest=1300) as (_, pair):
        for here, there in ((pair.client, pair.server), (pair.server, pair.client)):
            # The search ends when less than 20 bytes can be won.
            await until(functools.partial(_is_mtu, here, 1281, 1300))
            await assert_maximum(here, there)


async def test_datagrams_shrink_with_the_path(server: Server, config: ClientConfig) -> None:
    async with relayed_pair(server, config) as (relay, pair):
        here, there = pair.server, pair.client
        await until(lambda: mtu(here) == LARGEST)
        size = here.datagrams.max_datagram_size
        relay.largest = 1250
        for _ in range(2000):
            await here.datagrams.send(bytes(size))
        await until(lambda: here.datagrams.max_datagram_size < size)
        assert mtu(here) == 1200
        await until(lambda: here.datagrams.diagnostics.queue_stats["outgoing"]["size"] == 0)
        assert here.datagrams.diagnostics.stats.send_failures > 0
        await assert_maximum(here, there)


async def assert_maximum(here: WebTransportSession, there: WebTransportSession) -> None:
    """The largest payload arrives, and one more byte is refused at once."""
    size = here.datagrams.max_datagram_size
    assert size < mtu(here)
    with pytest.raises(DatagramError) as caught:
        await here.datagrams.send(bytes(size + 1))
    assert (caught.value.datagram_size, caught.value.max_size) == (size + 1, size)
    await here.datagrams.send(b"x" * size)
    assert await there.datagrams.receive(timeout=SECONDS) == b"x" * size
