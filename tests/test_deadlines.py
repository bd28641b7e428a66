"""Time limits of waits: they end in order, never early, and those that have ended leave nothing behind."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref

import pytest

from pywebtransport import TimeoutError, WebTransportClient
from pywebtransport._bridge import current_bridge
from pywebtransport.utils import DevCertificate
from tests.harness import Pair, client_config, running_server


async def expire(pair: Pair, limit: float, order: list[float]) -> None:
    """Wait for a datagram that does not come."""
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        await pair.client.datagrams.receive(timeout=limit)
    assert time.monotonic() - started >= limit
    order.append(limit)


async def test_waits_expire_in_the_order_of_their_limits_and_never_early(pair: Pair) -> None:
    order: list[float] = []
    limits = [0.3, 0.1, 0.5, 0.2, 0.4]
    await asyncio.gather(*(expire(pair, limit, order) for limit in limits))
    assert order == sorted(limits)


async def test_a_shorter_limit_does_not_wait_for_a_longer_one(pair: Pair) -> None:
    order: list[float] = []
    async with asyncio.TaskGroup() as tasks:
        long = tasks.create_task(pair.client.datagrams.receive(timeout=60.0))
        await asyncio.sleep(0)
        await expire(pair, 0.05, order)
        await pair.server.datagrams.send(b"in time")
        assert await long == b"in time"


async def test_many_waits_with_a_limit_leave_nothing(pair: Pair) -> None:
    """One that has ended is forgotten at once, not when its time would be up."""
    before = current_bridge().stats()["waiters"]
    for _ in range(1000):
        waiting = asyncio.ensure_future(pair.client.datagrams.receive(timeout=3600.0))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert current_bridge().stats()["waiters"] == before


async def test_limits_without_end(pair: Pair) -> None:
    """Infinity, and numbers that no clock reaches, are no limit."""
    for limit in (float("inf"), 1e30, 1e10):
        waiting = asyncio.ensure_future(pair.client.datagrams.receive(timeout=limit))
        await asyncio.sleep(0)
        await pair.server.datagrams.send(b"x")
        assert await waiting == b"x"


async def test_what_is_there_when_the_time_is_up_is_taken(pair: Pair) -> None:
    await pair.server.datagrams.send(b"first")
    assert await pair.client.datagrams.receive(timeout=5.0) == b"first"
    for limit in (0.0, -1.0):
        with pytest.raises(TimeoutError):
            await pair.client.datagrams.receive(timeout=limit)


def test_a_closed_loop_is_forgotten_with_its_timer(certificate: DevCertificate, driver: str) -> None:
    """The timer of a limit that is far away does not keep the loop, nor its bridge."""

    async def use() -> None:
        async with (
            running_server(certificate, driver=driver) as server,
            WebTransportClient(config=client_config(certificate, driver=driver)) as client,
        ):
            session = await client.connect(server.url())
            waiting = asyncio.ensure_future(session.datagrams.receive(timeout=3600.0))
            await asyncio.sleep(0)
            waiting.cancel()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(use())
    loop.close()
    reference = weakref.ref(loop)
    del loop
    asyncio.run(use())  # the next bridge clears away what belongs to closed loops
    gc.collect()
    assert reference() is None
