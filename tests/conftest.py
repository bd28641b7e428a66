"""Fixtures: a certificate for the whole run, and per test a server, a client and both ends of a session."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pywebtransport import ClientConfig, WebTransportClient
    from pywebtransport.utils import DevCertificate
    from tests.harness import Pair, Server

# The library is imported inside the fixtures: the tests of pure Python modules run without the Rust core too.

TIME_LIMIT = 30  # seconds per test; a wait that never ends is a failure of the library, not of the machine


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every test the time limit, unless it has one of its own."""
    for item in items:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TIME_LIMIT))


@pytest.fixture(scope="session")
def certificate() -> DevCertificate:
    """A certificate for localhost, 127.0.0.1 and ::1."""
    from pywebtransport import generate_dev_certificate

    return generate_dev_certificate()


@pytest.fixture(params=["loop", "thread"])
def driver(request: pytest.FixtureRequest) -> Any:
    """Where the transport runs, at both ends."""
    return request.param


@pytest.fixture
def config(certificate: DevCertificate, driver: str) -> ClientConfig:
    """A client configuration that accepts the server's certificate."""
    from tests.harness import client_config

    return client_config(certificate, driver=driver)


@pytest.fixture
async def server(certificate: DevCertificate, driver: str) -> AsyncIterator[Server]:
    """A server that listens on 127.0.0.1."""
    from tests.harness import running_server

    async with running_server(certificate, driver=driver) as server:
        yield server


@pytest.fixture
async def client(config: ClientConfig) -> AsyncIterator[WebTransportClient]:
    """A client that is active."""
    from pywebtransport import WebTransportClient

    async with WebTransportClient(config=config) as client:
        yield client


@pytest.fixture
async def pair(server: Server, client: WebTransportClient) -> AsyncIterator[Pair]:
    """Both ends of one session."""
    from tests.harness import Pair

    near = await client.connect(server.url())
    yield Pair(near, await server.next_session())
