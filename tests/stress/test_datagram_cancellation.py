"""Datagrams with sequence numbers while their receiver is cancelled again and again: none is lost, none comes twice."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

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


@dataclass
class _Run:
    sent: int = 0
    received: list[int] = field(default_factory=list)
    cancelled: int = 0
    moved: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def enough(self) -> bool:
        return len(self.received) >= _COUNT and self.cancelled >= _CANCELLATIONS

    async def send_numbers(self, session: WebTransportSession) -> None:
        while not self.enough:
            async with self.moved:
                while self.sent - len(self.received) >= _WINDOW:
                    await self.moved.wait()
            number = self.sent
            self.sent += 1
            await session.datagrams.send(number.to_bytes(4, "big"))
        await session.wait_closed()

    async def receive_numbers(
        self, session: WebTransportSession, receive: Callable[[WebTransportSession], Awaitable[list[bytes]]]
    ) -> None:
        """Receive with timeouts that often strike, until enough came and nothing is under way."""
        chance = random.Random(1)
        while not (self.enough and len(self.received) >= self.sent):
            try:
                # 0 cancels before the first step, the others anywhere between the park and the wake.
                batch = await asyncio.wait_for(receive(session), chance.choice((0, 1e-6, 1e-5, 1e-4, 1e-3)))
            except TimeoutError:
                self.cancelled += 1
                continue
            self.received += [int.from_bytes(datagram, "big") for datagram in batch]
            async with self.moved:
                self.moved.notify_all()


async def _one(session: WebTransportSession) -> list[bytes]:
    return [await session.datagrams.receive()]


async def _batch(session: WebTransportSession) -> list[bytes]:
    return await session.datagrams.receive_multiple(max_count=8)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("driver", ["loop", "thread"])
@pytest.mark.parametrize("receive", [_one, _batch], ids=["receive", "receive_multiple"])
async def test_cancelled_receivers_lose_no_datagram(
    driver: str, receive: Callable[[WebTransportSession], Awaitable[list[bytes]]]
) -> None:
    certificate = generate_dev_certificate()
    config = ServerConfig(
        certfile=certificate.certfile, keyfile=certificate.keyfile, driver=driver, datagram_overflow="wait"
    )
    run = _Run()
    async with ServerApp(config=config) as app:
        app.route("/numbers")(run.send_numbers)
        await app.server.listen("127.0.0.1", 0)
        assert app.server.local_address is not None
        url = f"https://127.0.0.1:{app.server.local_address[1]}/numbers"
        client_config = ClientConfig(server_certificate_hashes=[certificate.sha256], driver=driver)
        async with WebTransportClient(config=client_config) as client:
            session = await client.connect(url)
            try:
                async with asyncio.timeout(120):
                    await run.receive_numbers(session, receive)
            finally:
                stats = session.datagrams.diagnostics.stats
                missing = sorted(set(range(run.sent)) - set(run.received))
                assert not missing, f"{len(missing)} never came, such as {missing[:10]}; {stats}"
            await session.close()

    assert sorted(run.received) == list(range(run.sent)), "a datagram was delivered twice"
    assert run.cancelled >= _CANCELLATIONS
    assert stats.receive_drops == 0
