"""One demo server per module, in this process: what the browser did is read from its Python objects and its log."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from pywebtransport._demo.server import DemoServer, demo_server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[DemoServer]:
    # Under load Chromium leaves a page without a word to the server: the idle timeout notices, soon.
    async with demo_server(page_port=0, connection_idle_timeout=5.0) as demo:
        yield demo


@pytest.fixture(autouse=True)
def nothing_logged_as_error(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A browser that leaves in whatever way is everyday life: no error line and no traceback on the server."""
    yield
    for phase in ("setup", "call"):
        loud = [record for record in caplog.get_records(phase) if record.levelno >= logging.ERROR or record.exc_info]
        assert not loud, f"the server logged {[record.getMessage() for record in loud]}"
