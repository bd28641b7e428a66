"""Cancelling any await, at any moment, loses nothing and leaves everything usable."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from pywebtransport import ClientConfig, WebTransportClient
from pywebtransport.utils import DevCertificate
from tests.harness import SECONDS, Pair, Server, client_config, connected_pair, running_server


async def cancel_everywhere(operation: Callable[[], Coroutine[Any, Any, Any]], turns: int = 6) -> None:
    """Run the operation again and again, cancelled after 0, 1, 2, … turns of the event loop."""
    for turn in range(turns):
        task = asyncio.create_task(operation())
        for _ in range(turn):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_cancelled_receive_loses_no_datagram(pair: Pair) -> None:
    """The peer sends numbers while receives are cancelled at random moments: every number arrives, in order."""
    count = 2000
    random_ = random.Random(7)

    async def send() -> None:
        for number in range(count):
            await pair.client.datagrams.send(b"%d" % number)
            if number % 50 == 0:
                # Kept below the receiver's queue, which drops when it is full.
                while len(received) + 500 < number:
                    await asyncio.sleep(0)

    received: list[int] = []
    sending = asyncio.create_task(send())
    while len(received) < count:
        try:
            async with asyncio.timeout(random_.choice([0, 0, 0.00005, 0.0002, 0.001])):
                received.append(int(await pair.server.datagrams.receive()))
        except TimeoutError:
            pass
    await sending
    assert received == list(range(count))


async def test_a_cancelled_read_loses_no_bytes(pair: Pair) -> None:
    near, far = await pair.uni()
    payload = random.Random(3).randbytes(300_000)
    random_ = random.Random(5)

    async def write() -> None:
        for start in range(0, len(payload), 1000):
            await near.write(payload[start : start + 1000])
            await asyncio.sleep(0)
        await near.close()

    writing = asyncio.create_task(write())
    received = bytearray()
    while len(received) < len(payload):
        size = min(random_.randint(1, 5000), len(payload) - len(received))
        reads: list[Callable[[], Awaitable[bytes]]] = [
            lambda size=size: far.readexactly(size),  # type: ignore[misc]  # mypy cannot infer a default of a lambda
            lambda size=size: far.read(size),  # type: ignore[misc]  # mypy cannot infer a default of a lambda
            lambda: far.readuntil(b"\x07"),
        ]
        try:
            async with asyncio.timeout(random_.choice([0, 0.0001, 0.001, 1])):
                received += await random_.choice(reads)()
        except TimeoutError:
            pass
    await writing
    assert received == payload
    assert await far.read() == b""


async def test_a_cancelled_read_all_starts_over_with_everything(pair: Pair) -> None:
    near, far = await pair.uni()
    await near.write(b"first ")
    await cancel_everywhere(far.read_all)
    await near.write_all(b"second")
    assert await far.read_all() == b"first second"


async def test_a_cancelled_accept_loses_no_stream(pair: Pair) -> None:
    async def accept() -> object:
        return await anext(pair.server.incoming_streams())

    await cancel_everywhere(accept)
    numbers = set()
    accepting: list[asyncio.Task[Any]] = [asyncio.create_task(accept()) for _ in range(4)]
    await asyncio.sleep(0)
    for task in accepting[:3]:
        task.cancel()
    for number in range(5):
        stream = await pair.client.create_unidirectional_stream()
        await stream.write_all(b"%d" % number)
    async with asyncio.timeout(SECONDS):
        numbers.add(await (await accepting[3]).read_all())
        async for incoming in pair.server.incoming_streams():
            numbers.add(await incoming.read_all())
            if len(numbers) == 5:
                break
    assert numbers == {b"%d" % number for number in range(5)}


async def test_a_cancelled_receiver_passes_its_turn_on(pair: Pair) -> None:
    receivers = [asyncio.create_task(pair.server.datagrams.receive(timeout=SECONDS)) for _ in range(3)]
    await asyncio.sleep(0)
    receivers[0].cancel()
    await pair.client.datagrams.send(b"1")
    await pair.client.datagrams.send(b"2")
    assert await asyncio.gather(*receivers[1:]) == [b"1", b"2"]


async def test_a_receiver_cancelled_after_its_wake_passes_the_datagram_on(pair: Pair) -> None:
    first = asyncio.create_task(pair.server.datagrams.receive(timeout=SECONDS))
    second = asyncio.create_task(pair.server.datagrams.receive(timeout=SECONDS))
    await asyncio.sleep(0)
    await pair.client.datagrams.send(b"only one")
    while pair.server.datagrams.get_receive_buffer_size() == 0 and not first.done():
        await asyncio.sleep(0)
    if not first.done():
        first.cancel()
        assert await second == b"only one"
    else:
        second.cancel()
        assert await first == b"only one"


async def test_a_cancelled_opening_gives_its_place_back(
    certificate: DevCertificate, config: ClientConfig, driver: str
) -> None:
    async with (
        running_server(certificate, driver=driver, initial_max_streams_bidi=1) as server,
        connected_pair(server, config) as pair,
    ):
        near, far = await pair.bidi()
        await cancel_everywhere(pair.client.create_bidirectional_stream)
        waiting = asyncio.create_task(pair.client.create_bidirectional_stream(timeout=SECONDS))
        await asyncio.sleep(0)
        await asyncio.gather(near.close(), far.close())
        assert await near.read_all() == await far.read_all() == b""
        stream = await waiting
        await stream.write(b"mine")


async def test_a_cancelled_write_sends_all_or_nothing(certificate: DevCertificate, server: Server, driver: str) -> None:
    config = client_config(certificate, driver=driver, max_stream_buffer_size=65536)
    async with connected_pair(server, config) as pair:
        near, far = await pair.uni()
        block = b"0123456789" * 1000
        written = 0
        try:
            while True:  # fills the buffers up to a peer that does not read
                async with asyncio.timeout(0.1):
                    await near.write(block)
                written += 1
        except TimeoutError:
            pass
        for turn in range(6):
            task = asyncio.create_task(near.write(block))
            for _ in range(turn):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            written += not task.cancelled()
        closing = asyncio.create_task(near.close())
        data = await far.read_all()
        await closing
    assert data == block * written


async def test_other_waits_can_be_cancelled(pair: Pair) -> None:
    near, _far = await pair.bidi()
    connection = pair.client.connection
    assert connection is not None
    for operation in (
        near.wait_closed,
        pair.client.wait_closed,
        pair.client.monitor_health,
        connection.wait_closed,
        connection.monitor_health,
        near.monitor_health,
        pair.client.datagrams.receive_multiple,
        pair.client.datagrams.receive_with_metadata,
    ):
        await cancel_everywhere(operation)
    await near.write(b"still works")
    assert pair.client.is_ready


async def test_a_cancelled_connect_leaves_no_connection(server: Server, client: WebTransportClient) -> None:
    await cancel_everywhere(lambda: client.connect(server.url()))
    assert (await client.diagnostics()).connection_states == {}
    assert (await client.connect(server.url())).is_ready


async def test_a_cancelled_close_still_closes(pair: Pair) -> None:
    closing = asyncio.create_task(pair.client.close(5, "cancelled"))
    await asyncio.sleep(0)
    if closing.cancel():  # the I/O thread may be through with it before this thread comes back
        with pytest.raises(asyncio.CancelledError):
            await closing
    async with asyncio.timeout(SECONDS):
        await asyncio.gather(pair.client.wait_closed(), pair.server.wait_closed())
    assert pair.server.close_code == 5


async def test_wait_for_around_everything(pair: Pair) -> None:
    near, far = await pair.bidi()
    for wait in (far.read(), pair.server.datagrams.receive(), anext(pair.server.incoming_streams())):
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(wait, 0.001)
    await near.write(b"a")
    await pair.client.datagrams.send(b"b")
    sender = await pair.client.create_unidirectional_stream()
    await sender.write_all(b"c")
    assert await asyncio.wait_for(far.read(), SECONDS) == b"a"
    assert await asyncio.wait_for(pair.server.datagrams.receive(), SECONDS) == b"b"
    incoming = await asyncio.wait_for(anext(pair.server.incoming_streams()), SECONDS)
    assert await asyncio.wait_for(incoming.read_all(), SECONDS) == b"c"
