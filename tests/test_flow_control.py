"""WebTransport flow control and shared connections, from Python."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

import pywebtransport
from pywebtransport import ClientConfig, ClientError, StreamError, WebTransportClient, WebTransportSession
from pywebtransport.protocol.session_info import WebTransportSessionInfo
from pywebtransport.types import EventType
from pywebtransport.utils import DevCertificate
from tests.harness import SECONDS, Pair, Server, client_config, next_stream, running_server

SMALL: dict[str, Any] = {
    "initial_max_data": 1_000,
    "initial_max_streams_bidi": 2,
    "initial_max_streams_uni": 3,
    "flow_control_window_size": 20_000,
    "flow_control_window_auto_scale": False,
}


@pytest.fixture
async def small_server(certificate: DevCertificate, driver: str) -> AsyncIterator[Server]:
    """A server with small limits that takes five sessions on a connection."""
    async with running_server(certificate, driver=driver, max_sessions=5, **SMALL) as server:
        yield server


@pytest.fixture
def small_config(certificate: DevCertificate, driver: str) -> ClientConfig:
    """A client with small limits that shares connections."""
    return client_config(certificate, driver=driver, allow_pooling=True, **SMALL)


@pytest.fixture
async def small_pair(small_server: Server, small_config: ClientConfig) -> AsyncIterator[Pair]:
    """Both ends of a session with small limits."""
    async with WebTransportClient(small_config) as client:
        near = await client.connect(small_server.url())
        yield Pair(near, await small_server.next_session())


def session_info(session: WebTransportSession) -> WebTransportSessionInfo:
    """What the connection knows of the session."""
    assert session.connection is not None
    info = session.connection.get_session_info(session.session_id)
    assert info is not None
    return info


async def echo_once(session: WebTransportSession, data: bytes) -> bytes:
    """Send on a stream of its own to /echo, and read what comes back."""
    stream = await session.create_bidirectional_stream()
    _, answer = await asyncio.gather(stream.write_all(data), stream.read_all())
    return bytes(answer)


# Limits


async def test_a_megabyte_passes_a_limit_of_a_kilobyte(small_server: Server, small_config: ClientConfig) -> None:
    data = bytes(range(256)) * 4096
    async with pywebtransport.connect(small_server.url("/echo"), config=small_config) as session:
        assert await echo_once(session, data) == data


async def test_the_credit_of_the_session_shows_and_shrinks(small_pair: Pair) -> None:
    before = await small_pair.client.diagnostics()
    assert (before.send_credit_available, before.receive_credit_available) == (1_000, 1_000)
    stream = await small_pair.client.create_unidirectional_stream()
    await stream.write(b"x" * 400)
    # Bytes on their way to QUIC count twice for a moment: as queued, and as used.
    async with asyncio.timeout(SECONDS):
        while (await small_pair.client.diagnostics()).send_credit_available != 600:
            await asyncio.sleep(0)
    far = await next_stream(small_pair.server)
    assert await far.readexactly(400) == b"x" * 400
    info = session_info(small_pair.server)
    assert (info.peer_data_sent, info.peer_streams_uni_opened, info.local_max_streams_uni) == (400, 1, 3)


async def test_without_flow_control_the_limits_are_0(pair: Pair) -> None:
    info = session_info(pair.client)
    assert (info.peer_max_data, info.peer_max_streams_bidi, info.local_max_data) == (0, 0, 0)


async def test_an_opener_beyond_the_limit_waits_then_fails(small_pair: Pair) -> None:
    streams = [await small_pair.client.create_unidirectional_stream() for _ in range(3)]
    with pytest.raises(StreamError, match="allowed no further unidirectional stream"):
        await small_pair.client.create_unidirectional_stream(timeout=0.05)
    waiting = asyncio.create_task(small_pair.client.create_unidirectional_stream())
    await streams[0].write_all(b"done")
    arrived = [await next_stream(small_pair.server) for _ in range(3)]
    assert await arrived[0].read_all() == b"done"
    async with asyncio.timeout(SECONDS):
        await (await waiting).write_all(b"in the end")
    assert await (await next_stream(small_pair.server)).read_all() == b"in the end"


async def test_a_raised_limit_is_an_event_of_the_handler(small_pair: Pair) -> None:
    handler = small_pair.client.protocol_handler
    assert handler is not None
    raised: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    def listen(event: Any) -> None:
        if not raised.done():
            raised.set_result(event.data)

    handler.on(EventType.SESSION_MAX_DATA_UPDATED, listen)
    stream = await small_pair.client.create_unidirectional_stream()
    await stream.write(b"x" * 500)
    far = await next_stream(small_pair.server)
    await far.readexactly(500)
    async with asyncio.timeout(SECONDS):
        data = await raised
    assert data == {"session_id": small_pair.client.session_id, "max_data": 20_500}
    assert session_info(small_pair.server).local_max_data == 20_500  # what was read, and the window


# Shared connections


@contextlib.asynccontextmanager
async def five_sessions(server: Server, config: ClientConfig) -> AsyncIterator[list[WebTransportSession]]:
    """Sessions to /echo, each by a client of its own: one, then four at once.

    The first makes the connection. Until it is answered, QUIC's limit may leave no room for further requests: the
    server raises it once it knows that the client announces flow control. Whoever comes before that takes a connection
    of its own (`WebTransportClient._share`).
    """
    async with contextlib.AsyncExitStack() as stack:
        connecting = [pywebtransport.connect(server.url("/echo"), config=config) for _ in range(5)]
        first = await stack.enter_async_context(connecting[0])
        yield [first, *await asyncio.gather(*map(stack.enter_async_context, connecting[1:]))]


async def test_sessions_to_one_server_share_a_connection(small_server: Server, small_config: ClientConfig) -> None:
    async with five_sessions(small_server, small_config) as sessions:
        assert len({session.connection for session in sessions}) == 1
        assert len({session.control_stream_id for session in sessions}) == 5
        datas = [bytes([number]) * 30_000 for number in range(5)]
        assert await asyncio.gather(*map(echo_once, sessions, datas)) == datas
        for number, session in enumerate(sessions):
            await session.datagrams.send(b"%d" % number)
            assert await session.datagrams.receive(timeout=SECONDS) == b"%d" % number
    assert (await small_server.app.server.diagnostics()).stats.connections_accepted == 1


async def test_closing_one_session_leaves_the_others(small_server: Server, small_config: ClientConfig) -> None:
    async with five_sessions(small_server, small_config) as sessions:
        first, *others = sessions
        connection = first.connection
        assert connection is not None
        await first.close()  # close_connection=True is for the last one
        assert connection.is_connected
        for session in others:
            assert await echo_once(session, b"still here") == b"still here"
        for session in others:
            await session.close()
        assert connection.is_closed


async def test_a_client_that_closes_leaves_the_connection_to_others(
    small_server: Server, small_config: ClientConfig
) -> None:
    async with WebTransportClient(small_config) as stays:
        async with WebTransportClient(small_config) as leaves:
            theirs = await leaves.connect(small_server.url("/echo"))
            ours = await stays.connect(small_server.url("/echo"))
            connection = ours.connection
            assert connection is not None and theirs.connection is connection
        assert theirs.is_closed and connection.is_connected
        assert await echo_once(ours, b"data") == b"data"
    assert connection.is_closed


async def test_without_flow_control_every_session_has_its_connection(
    server: Server, certificate: DevCertificate, driver: str
) -> None:
    config = client_config(certificate, driver=driver, allow_pooling=True, **SMALL)
    async with WebTransportClient(config) as client:
        sessions = [await client.connect(server.url("/echo")) for _ in range(3)]
        assert len({session.connection for session in sessions}) == 3


async def test_sharing_is_asked_for(small_server: Server, small_config: ClientConfig) -> None:
    async with WebTransportClient(small_config.update(allow_pooling=False)) as client:
        sessions = [await client.connect(small_server.url("/echo")) for _ in range(2)]
        assert len({session.connection for session in sessions}) == 2


async def test_other_settings_are_another_connection(small_server: Server, small_config: ClientConfig) -> None:
    other = small_config.update(connection_idle_timeout=17.0)
    same = small_config.update(headers={"x-user": "somebody"})
    async with (
        pywebtransport.connect(small_server.url("/echo"), config=small_config) as first,
        pywebtransport.connect(small_server.url("/echo"), config=other) as second,
        pywebtransport.connect(small_server.url("/echo"), config=same) as third,
    ):
        assert first.connection is not second.connection
        assert first.connection is third.connection
        assert third.headers["x-user"] == "somebody"


async def test_a_session_too_many_gets_another_connection(small_server: Server, small_config: ClientConfig) -> None:
    async with WebTransportClient(small_config) as client, asyncio.timeout(SECONDS):
        sessions = [await client.connect(small_server.url("/echo")) for _ in range(5)]
        assert len({session.connection for session in sessions}) == 1
        # The server counts its sessions over all connections too, so one has to go; on the shared connection the place
        # is free again then.
        await sessions.pop().close()
        sessions.append(await client.connect(small_server.url("/echo")))
        for session in sessions:
            assert await echo_once(session, b"data") == b"data"


async def test_a_refused_request_leaves_the_other_sessions(small_server: Server, small_config: ClientConfig) -> None:
    async with WebTransportClient(small_config) as client:
        session = await client.connect(small_server.url("/echo"))
        with pytest.raises(ClientError, match="404"):
            await client.connect(small_server.url("/nowhere"))
        assert await echo_once(session, b"data") == b"data"


async def test_a_request_that_is_cancelled_leaves_the_other_sessions(
    small_server: Server, small_config: ClientConfig
) -> None:
    async with WebTransportClient(small_config) as client:
        session = await client.connect(small_server.url("/echo"))
        for delay in (0, 0.0005, 0.002):
            waiting = asyncio.create_task(client.connect(small_server.url("/echo")))
            await asyncio.sleep(delay)  # wherever it is by then
            waiting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await (await waiting).close()
        assert await echo_once(session, b"data") == b"data"


async def test_a_session_that_writes_all_the_time_leaves_room_for_the_others(
    small_server: Server, small_config: ClientConfig
) -> None:
    async with WebTransportClient(small_config.update(flow_control_window_size=1_000_000)) as client:
        busy = await client.connect(small_server.url("/echo"))
        other = await client.connect(small_server.url("/echo"))
        assert busy.connection is other.connection
        echoed = 0

        async def write_and_read() -> None:
            nonlocal echoed
            stream = await busy.create_bidirectional_stream()

            async def write() -> None:
                while True:
                    await stream.write(bytes(100_000))

            writing = asyncio.create_task(write())
            try:
                async for chunk in stream:
                    echoed += len(chunk)
            finally:
                writing.cancel()
                await stream.abort()

        working = [asyncio.create_task(write_and_read()) for _ in range(2)]
        for number in range(50):
            before = echoed
            assert await echo_once(other, b"%d" % number) == b"%d" % number
            while echoed == before:  # the busy one goes on too
                await asyncio.sleep(0)
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)
