"""Fixtures of the hostile-client suite: two server processes for the whole run, each checked after every case."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from pywebtransport.utils import DevCertificate
from tests.hostile.server import ServerProcess, running


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The memory is looked at when everything else has been done to the servers."""
    items.sort(key=lambda item: item.path.name == "test_memory.py")


TIMES = {"connection_idle_timeout": 10.0, "close_timeout": 1.0, "pending_event_ttl": 1.0}
"""Shorter than by default: what is given up after a time is waited for in some cases, and by test_memory.py for all."""

MAX_SESSIONS = 20
"""Of the server with flow control: on one connection, and in all."""


@pytest.fixture(scope="session")
def server_process(certificate: DevCertificate) -> Iterator[ServerProcess]:
    """With the default limits: no flow control, one session per connection, transport in its own thread."""
    with running(certificate, **TIMES) as process:
        yield process


@pytest.fixture(scope="session")
def flow_server_process(certificate: DevCertificate) -> Iterator[ServerProcess]:
    """With flow control, transport on the event loop."""
    limits = {"initial_max_data": 100_000, "initial_max_streams_bidi": 10, "initial_max_streams_uni": 10}
    with running(certificate, driver="loop", max_sessions=MAX_SESSIONS, **limits, **TIMES) as process:
        yield process


@pytest.fixture
async def server(server_process: ServerProcess) -> AsyncIterator[ServerProcess]:
    """The default server; after the case a normal session must work on it at once."""
    await server_process.warm_up()
    yield server_process
    await server_process.works()


@pytest.fixture
async def flow_server(flow_server_process: ServerProcess) -> AsyncIterator[ServerProcess]:
    """The server with flow control, checked in the same way."""
    await flow_server_process.warm_up()
    yield flow_server_process
    await flow_server_process.works()


@pytest.fixture(params=["server", "flow_server"])
def either_server(request: pytest.FixtureRequest) -> ServerProcess:
    """One after the other."""
    server: ServerProcess = request.getfixturevalue(request.param)
    return server
