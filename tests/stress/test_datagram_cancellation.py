"""Datagrams with sequence numbers while their receiver is cancelled again and again: none is lost, none comes twice."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Literal

import pytest

from pywebtransport import (
    ClientConfig,
    ServerApp,
    ServerConfig,
    WebTransportClient,
    WebTransportSession,
    generate_dev_certificate,
)

pytestmark = pytest.mark.stress

_COUNT = 10_000
_CANCELLATIONS = 1_000
# Under way at a time: far below every queue and socket buffer, so that nothing may be dropped on the way.
_WINDOW = 50


async def _one(session: WebTransportSession) -> list[bytes]:
    return [await session.datagrams.receive()]


async def _batch(session: WebTransportSession) -> list[bytes]:
    return await session.datagrams.receive_multiple(max_count=8)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("driver", ["loop", "thread"])
@pytest.mark.parametrize("receive", [_one, _batch], ids=["receive", "receive_multiple"])
async def test_cancelled_receivers_lose_no_datagram(
    driver: Literal["loop", "thread"], receive: Callable[[WebTransportSession], Awaitable[list[bytes]]]
) -> None:
    certificate = generate_dev_certificate()
    sending = asyncio.Event()
    received: list[int] = []
    room = asyncio.Condition()

    async def send_numbers(session: WebTransportSession) -> None:
        await sending.wait()
        for number in range(_COUNT):
            async with room:
                while number - len(received) >= _WINDOW:
                    await room.wait()
            await session.datagrams.send(number.to_bytes(4, "big"))
        await session.wait_closed()

    config = ServerConfig(
        certfile=certificate.certfile, keyfile=certificate.keyfile, driver=driver, datagram_overflow="wait"
    )
    async with ServerApp(config=config) as app:
        app.route("/numbers")(send_numbers)
        await app.server.listen("127.0.0.1", 0)
        assert app.server.local_address is not None
        url = f"https://127.0.0.1:{app.server.local_address[1]}/numbers"
        client_config = ClientConfig(server_certificate_hashes=[certificate.sha256], driver=driver)
        async with WebTransportClient(config=client_config) as client:
            session = await client.connect(url)
            sending.set()
            cancelled = await _receive_all(session, receive, received, room)
            stats = session.datagrams.diagnostics.stats
            await session.close()

    assert cancelled >= _CANCELLATIONS
    assert stats.receive_drops == 0
    assert sorted(received) == list(range(_COUNT)), _difference(received)


async def _receive_all(
    session: WebTransportSession,
    receive: Callable[[WebTransportSession], Awaitable[list[bytes]]],
    received: list[int],
    room: asyncio.Condition,
) -> int:
    """Receive with timeouts that often strike; the number of times one did."""
    chance = random.Random(1)
    cancelled = 0
    async with asyncio.timeout(120):
        while len(received) < _COUNT:
            try:
                # 0 cancels before the first step, the others anywhere between the park and the wake.
                batch = await asyncio.wait_for(receive(session), chance.choice((0, 1e-6, 1e-5, 1e-4, 1e-3)))
            except TimeoutError:
                cancelled += 1
                continue
            received += [int.from_bytes(datagram, "big") for datagram in batch]
            async with room:
                room.notify_all()
    return cancelled


def _difference(received: list[int]) -> str:
    missing = sorted(set(range(_COUNT)) - set(received))
    twice = sorted({number for number in received if received.count(number) > 1}) if len(received) > _COUNT else []
    return f"missing {missing[:20]}, twice {twice[:20]}"
