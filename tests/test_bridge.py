"""What an event loop's bridge tells: what it copied, and that something blocked the loop, which costs no session."""

from __future__ import annotations

import asyncio
import logging
import threading
import time

import pytest

from pywebtransport import WebTransportClient, WebTransportSession, WebTransportStream
from pywebtransport._bridge import current_bridge
from pywebtransport.utils import DevCertificate
from tests.harness import SECONDS, Pair, client_config, next_stream, running_server


async def test_every_byte_is_copied_once_into_the_core_and_once_out_of_it(pair: Pair) -> None:
    def copied() -> int:
        return current_bridge().stats()["bytes_copied"]

    before = copied()
    stream = await pair.client.create_unidirectional_stream()
    await stream.write_all(bytes(100_000))
    far = await next_stream(pair.server)
    async with asyncio.timeout(SECONDS):
        assert await far.read_all() == bytes(100_000)
    assert copied() - before == 2 * 100_000
    await pair.client.datagrams.send(bytes(700))
    async with asyncio.timeout(SECONDS):
        assert await pair.server.datagrams.receive() == bytes(700)
        assert copied() - before == 2 * 100_700
        await pair.server.datagrams.send(bytes(300))
        assert await pair.client.datagrams.receive_multiple(4) == [bytes(300)]
    assert copied() - before == 2 * 101_000


@pytest.mark.parametrize("driver", ["loop"], indirect=True)
async def test_a_request_on_a_new_stream_is_one_packet_each_way(pair: Pair) -> None:
    """Opening, writing and ending leave together in the turn of the loop that does them, without a wake for each."""

    async def answer() -> None:
        async for stream in pair.server.incoming_streams():
            assert isinstance(stream, WebTransportStream)
            await stream.write(await stream.read_all())
            await stream.close()

    def packets_sent(session: WebTransportSession) -> int:
        connection = session.connection
        assert connection is not None
        return connection.diagnostics.stats.packets_sent

    answering = asyncio.create_task(answer())
    wakes = current_bridge().stats()["writes"]
    client, server = packets_sent(pair.client), packets_sent(pair.server)
    for _ in range(200):
        stream = await pair.client.create_bidirectional_stream()
        await stream.write_all(b"question")
        async with asyncio.timeout(SECONDS):
            assert await stream.read_all() == b"question"
    # One of these needed a wake or a packet more for each request. Some acknowledgements, probes for larger packets and
    # limits of streams come besides, and drives that the machine has made longer than their budget.
    assert current_bridge().stats()["writes"] - wakes < 100
    assert packets_sent(pair.client) - client < 300
    assert packets_sent(pair.server) - server < 300
    answering.cancel()


@pytest.mark.parametrize(("blocked", "level"), [(0.2, logging.INFO), (1.2, logging.ERROR)])
async def test_a_blocked_loop_is_told(
    certificate: DevCertificate, caplog: pytest.LogCaptureFixture, blocked: float, level: int
) -> None:
    caplog.set_level(logging.INFO, "pywebtransport")
    config = client_config(certificate, driver="loop", connection_idle_timeout=3.0)
    async with (
        running_server(certificate, driver="thread") as server,
        WebTransportClient(config=config) as client,
    ):
        session = await client.connect(server.url("/echo"))
        before = current_bridge().stats()
        # The timer for the answer's loss is set; nobody looks at it in time.
        await session.datagrams.send(b"ping")
        time.sleep(blocked)
        async with asyncio.timeout(SECONDS):
            assert await session.datagrams.receive() == b"ping"
        after = current_bridge().stats()
        assert after["late_drives"] > before["late_drives"]
        assert after["longest_gap_us"] >= before["longest_gap_us"]
    told = [record for record in caplog.records if "event loop was blocked" in record.message]
    assert max(record.levelno for record in told) == level


@pytest.mark.parametrize("driver", ["loop"], indirect=True)
async def test_nobody_stands_in_for_a_loop_that_has_little_to_do(pair: Pair) -> None:
    late = 0
    before = current_bridge().stats()["stand_ins"]
    for _ in range(100):
        began = time.monotonic()
        await pair.client.datagrams.send(b"ping")
        await pair.server.datagrams.receive()
        await asyncio.sleep(0.015)  # longer than the stand-in is patient
        late += time.monotonic() - began > 0.02  # the machine kept the loop from its work
    assert current_bridge().stats()["stand_ins"] - before <= late


IDLE_TIMEOUT = 1.0


async def block(session: WebTransportSession) -> None:
    """Block the event loop for two idle timeouts with each datagram, then answer it."""
    async for data in session.datagrams:
        time.sleep(2 * IDLE_TIMEOUT)
        await session.datagrams.send(data)


async def test_a_handler_that_blocks_for_longer_than_the_idle_timeout_keeps_its_sessions(
    certificate: DevCertificate, driver: str
) -> None:
    listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    stop, here = threading.Event(), asyncio.get_running_loop()

    async def serve() -> None:
        async with running_server(certificate, driver=driver, connection_idle_timeout=IDLE_TIMEOUT) as server:
            server.app.route("/block")(block)
            here.call_soon_threadsafe(listening.set_result, server.url("/block"))
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        async with asyncio.timeout(SECONDS), WebTransportClient(config=client_config(certificate)) as client:
            session = await client.connect(await listening)
            began = time.monotonic()
            await session.datagrams.send(b"still there?")
            answer = asyncio.create_task(session.datagrams.receive())
            stream = await session.create_unidirectional_stream()
            await stream.write_all(bytes(100_000))
            await stream.wait_closed()  # all of it is acknowledged while the handler still computes
            assert not answer.done()
            assert await answer == b"still there?"
            assert time.monotonic() - began > 1.5 * IDLE_TIMEOUT
    finally:
        stop.set()
        await asyncio.to_thread(thread.join)
