"""Winding down: `session.drain()`, `connection.drain()` and `server.close(drain=seconds)`."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pywebtransport import ClientConfig, ConnectionError, SessionError, WebTransportClient, WebTransportSession
from pywebtransport.client._pooling import SharedConnections
from pywebtransport.connection import WebTransportConnection
from pywebtransport.types import EventType, SessionState
from pywebtransport.utils import DevCertificate
from tests.harness import SECONDS, Pair, Server, client_config, next_stream, running_server

POOLING: dict[str, Any] = {"initial_max_data": 100_000, "initial_max_streams_bidi": 5, "initial_max_streams_uni": 5}


def draining(session: WebTransportSession) -> asyncio.Future[Any]:
    """A future with the data of SESSION_DRAINING."""
    told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    session.on(EventType.SESSION_DRAINING, lambda event: told.set_result(event.data))
    return told


async def works(pair: Pair) -> None:
    """A stream in one direction and a datagram in the other."""
    near = await pair.client.create_unidirectional_stream()
    await near.write_all(b"still here")
    assert await (await next_stream(pair.server)).read_all() == b"still here"
    await pair.server.datagrams.send(b"me too")
    assert await pair.client.datagrams.receive(SECONDS) == b"me too"


@pytest.mark.parametrize("by_client", [True, False])
async def test_either_side_drains_and_all_goes_on(pair: Pair, by_client: bool) -> None:
    near, far = (pair.client, pair.server) if by_client else (pair.server, pair.client)
    told = [draining(near), draining(far)]
    await near.drain()
    assert near.state is SessionState.DRAINING
    async with asyncio.timeout(SECONDS):
        assert await asyncio.gather(*told) == [{"session_id": near.session_id}, {"session_id": far.session_id}]
    assert far.state is SessionState.DRAINING
    await near.drain()
    await far.drain()
    await works(pair)
    await near.close(3, "done")
    async with asyncio.timeout(SECONDS):
        await far.wait_closed()
    assert far.close_code == 3
    await far.drain()
    assert far.is_closed


async def test_a_session_that_is_not_established_cannot_drain(server: Server, config: ClientConfig) -> None:
    decided = asyncio.Event()

    async def slow(session: WebTransportSession) -> bool:
        return await decided.wait()

    server.app.add_middleware(slow)
    async with await WebTransportConnection.create_client(config, "127.0.0.1", server.port, "/hold") as connection:
        (info,) = connection.get_all_sessions()
        session = WebTransportSession(connection, info.session_id)
        with pytest.raises(SessionError, match="not initialized"):
            await session.drain()
        await session.initialize()
        with pytest.raises(SessionError, match="not ready"):
            await session.drain()
        decided.set()
        await session.ready(SECONDS)
        await session.drain()
        assert session.state is SessionState.DRAINING


async def test_a_connection_that_drains_takes_no_new_sessions(certificate: DevCertificate, driver: str) -> None:
    config = client_config(certificate, driver=driver, allow_pooling=True, **POOLING)
    async with (
        running_server(certificate, driver=driver, max_sessions=5, **POOLING) as server,
        WebTransportClient(config) as client,
    ):
        first = await client.connect(server.url())
        pair = Pair(first, await server.next_session())
        assert pair.server.connection is not None
        told = draining(first)
        await pair.server.connection.drain()
        async with asyncio.timeout(SECONDS):
            await told
        assert pair.server.state is SessionState.DRAINING
        second = await client.connect(server.url())
        assert second.connection is not first.connection
        assert second.state is SessionState.CONNECTED
        await works(pair)


async def test_a_request_on_its_way_when_the_server_drains_goes_to_another_connection(
    certificate: DevCertificate, driver: str
) -> None:
    config = client_config(certificate, driver=driver, allow_pooling=True, **POOLING)
    async with (
        running_server(certificate, driver=driver, max_sessions=5, **POOLING) as server,
        WebTransportClient(config) as client,
    ):
        first = await client.connect(server.url())
        connection = (await server.next_session()).connection
        assert connection is not None
        # The GOAWAY and the request pass each other.
        _, second = await asyncio.gather(connection.drain(), client.connect(server.url()))
        assert second.connection is not first.connection
        assert second.state is SessionState.CONNECTED


async def test_a_connection_may_drain_between_looking_and_asking(
    certificate: DevCertificate, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The I/O thread reads the GOAWAY after the client has found room on a shared connection."""
    find = SharedConnections.find

    def find_too_late(shared: SharedConnections, full: list[WebTransportConnection]) -> WebTransportConnection | None:
        connection = find(shared, full)
        if connection is not None and connection._core is not None:
            connection._core.go_away()
        return connection

    config = client_config(certificate, driver=driver, allow_pooling=True, **POOLING)
    async with (
        running_server(certificate, driver=driver, max_sessions=5, **POOLING) as server,
        WebTransportClient(config) as client,
    ):
        first = await client.connect(server.url())
        monkeypatch.setattr(SharedConnections, "find", find_too_late)
        second = await client.connect(server.url())
        assert second.connection is not first.connection
        assert second.state is SessionState.CONNECTED


async def test_a_connection_that_was_never_made_cannot_drain(config: ClientConfig) -> None:
    with pytest.raises(ConnectionError, match="not connected"):
        await WebTransportConnection(config).drain()


async def test_a_server_that_drains_lets_its_sessions_end(
    server: Server, client: WebTransportClient, config: ClientConfig
) -> None:
    finished: list[str] = []

    @server.app.route("/work")
    async def work(session: WebTransportSession) -> None:
        await draining(session)
        stream = await session.create_unidirectional_stream()
        await stream.write_all(b"the rest of the work")
        finished.append(session.path)

    near = await client.connect(server.url("/work"))
    held = Pair(await client.connect(server.url()), await server.next_session())
    closing = asyncio.create_task(server.app.server.close(drain=SECONDS))
    assert await (await next_stream(near)).read_all() == b"the rest of the work"
    async with asyncio.timeout(SECONDS):
        await near.wait_closed()
    assert (near.close_code, finished) == (0, ["/work"])

    # The other session holds the server up, which takes nobody else meanwhile.
    await works(held)
    assert held.client.state is SessionState.DRAINING
    with pytest.raises(ConnectionError, match="refused"):
        await client.connect(server.url())
    assert not closing.done()
    await held.client.close(5, "finished")
    async with asyncio.timeout(SECONDS):
        await closing
    assert held.server.close_code == 5
    assert not server.app.server.is_serving


async def test_a_server_drains_no_longer_than_it_was_told(server: Server, pair: Pair) -> None:
    told = draining(pair.client)
    async with asyncio.timeout(SECONDS):
        await server.app.server.close(drain=0.05)
        await told
        await pair.client.wait_closed()
    assert not server.app.server.is_serving


async def test_a_close_ends_the_drain(server: Server, pair: Pair) -> None:
    told = draining(pair.client)
    closing = asyncio.create_task(server.app.server.close(drain=float("inf")))
    async with asyncio.timeout(SECONDS):
        await told
        assert not closing.done()
        await server.app.server.close()
        await closing
        await pair.client.wait_closed()


async def test_a_drain_without_sessions_is_over_at_once(server: Server) -> None:
    async with asyncio.timeout(SECONDS):
        await server.app.server.close(drain=float("inf"))
    await server.app.server.close(drain=1)


@pytest.mark.parametrize("seconds", [-1, float("nan")])
async def test_a_time_that_cannot_be_is_refused(server: Server, seconds: float) -> None:
    with pytest.raises(ValueError, match="not negative"):
        await server.app.server.close(drain=seconds)
    assert server.app.server.is_serving
