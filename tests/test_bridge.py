"""What the bridge of an event loop tells: what it copied, and that something blocked the loop."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from pywebtransport import WebTransportClient
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
