"""Event loops that are blocked again and again, on both ends: their stand-ins take turns with them and lose nothing."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter

import pytest

from pywebtransport import WebTransportClient, WebTransportSession
from pywebtransport._bridge import current_bridge
from pywebtransport.utils import DevCertificate
from tests.harness import client_config, running_server

pytestmark = pytest.mark.stress

_STREAMS = 6
_BYTES = 3_000_000
_REQUESTS = 300
_LONGEST_BLOCK = 0.04  # seconds; a stand-in waits for 0.01


async def _block_again_and_again(seed: int) -> None:
    chance = random.Random(seed)
    while True:
        await asyncio.sleep(chance.uniform(0, 0.005))
        time.sleep(chance.uniform(0, _LONGEST_BLOCK))


async def _echo_stream(session: WebTransportSession, seed: int) -> None:
    chance = random.Random(seed)
    sent = chance.randbytes(_BYTES)
    stream = await session.create_bidirectional_stream()

    async def write() -> None:
        at = 0
        while at < len(sent):
            size = chance.randint(1, 200_000)
            await stream.write(sent[at : at + size])
            at += size
        await stream.close()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(write())
        assert await stream.read_all() == sent


async def _requests(session: WebTransportSession) -> None:
    for number in range(_REQUESTS):
        stream = await session.create_bidirectional_stream()
        await stream.write_all(b"%d" % number)
        assert await stream.read_all() == b"%d" % number


@pytest.mark.timeout(180)
async def test_blocked_event_loops_lose_nothing(certificate: DevCertificate, driver: str) -> None:
    listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    stop, here, stats = threading.Event(), asyncio.get_running_loop(), Counter[str]()

    async def serve() -> None:
        async with running_server(certificate, driver=driver) as server:
            here.call_soon_threadsafe(listening.set_result, server.url("/echo"))
            blocker = asyncio.create_task(_block_again_and_again(1))
            await asyncio.to_thread(stop.wait)
            blocker.cancel()
            stats.update(current_bridge().stats())

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        async with WebTransportClient(config=client_config(certificate, driver=driver)) as client:
            session = await client.connect(await listening)
            blocker = asyncio.create_task(_block_again_and_again(2))
            async with asyncio.TaskGroup() as tasks:
                for seed in range(_STREAMS):
                    tasks.create_task(_echo_stream(session, seed))
                tasks.create_task(_requests(session))
            blocker.cancel()
            stats.update(current_bridge().stats())
    finally:
        stop.set()
        await asyncio.to_thread(thread.join)
    assert (stats["stand_ins"] > 10) == (driver == "loop"), stats
