"""A program that blocks the event loop: what the loop driver tells about it."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from pywebtransport import WebTransportClient
from pywebtransport._bridge import current_bridge
from pywebtransport.utils import DevCertificate
from tests.harness import SECONDS, client_config, running_server


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
