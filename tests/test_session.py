"""Sessions: their life, their close seen from both ends, their counters and their streams."""

from __future__ import annotations

import asyncio
import time

import pytest

from pywebtransport import (
    ClientConfig,
    Event,
    SessionError,
    StreamError,
    TimeoutError,
    WebTransportClient,
    WebTransportReceiveStream,
    WebTransportSession,
    WebTransportStream,
)
from pywebtransport.connection import WebTransportConnection
from pywebtransport.types import EventType, SessionState
from pywebtransport.utils import DevCertificate
from tests.harness import SECONDS, Pair, Server, client_config, connected_pair, next_stream, running_server


async def test_both_ends_are_connected_after_connect(pair: Pair) -> None:
    for session in (pair.client, pair.server):
        assert session.state is SessionState.CONNECTED
        assert session.is_ready
        assert not session.is_closed
        assert session.close_code is None
        assert session.close_reason is None
        await session.ready()
    assert pair.client.path == pair.server.path == "/hold"


async def test_session_ids_are_random_tokens(pair: Pair) -> None:
    assert pair.client.session_id != pair.server.session_id
    assert len(pair.client.session_id) == 22
    assert pair.client.control_stream_id == pair.server.control_stream_id == 0


async def test_headers_are_copies(server: Server, client: WebTransportClient) -> None:
    session = await client.connect(server.url("/hold?a=1"), headers={"X-Token": "abc"})
    other = await server.next_session()
    assert other.path == "/hold?a=1"
    assert other.headers["x-token"] == "abc"
    other.headers["x-token"] = "changed"
    assert other.headers["x-token"] == "abc"
    assert session.headers["x-token"] == "abc"


async def test_close_reaches_the_peer_with_code_and_reason(pair: Pair) -> None:
    await pair.client.close(code=4242, reason="müde")
    async with asyncio.timeout(SECONDS):
        await pair.server.wait_closed()
    for session in (pair.client, pair.server):
        assert session.is_closed
        assert (session.close_code, session.close_reason) == (4242, "müde")


async def test_close_by_the_server_reaches_the_client(pair: Pair) -> None:
    await pair.server.close(7, "enough")
    async with asyncio.timeout(SECONDS):
        await pair.client.wait_closed()
    assert (pair.client.close_code, pair.client.close_reason) == (7, "enough")


async def test_the_first_close_wins(pair: Pair) -> None:
    await asyncio.gather(pair.client.close(1, "first"), pair.client.close(2, "second"))
    await pair.client.close(3, "third")
    assert (pair.client.close_code, pair.client.close_reason) == (1, "first")


async def test_closing_what_the_peer_has_closed_is_harmless(pair: Pair) -> None:
    await pair.server.close(5)
    async with asyncio.timeout(SECONDS):
        await pair.client.wait_closed()
    await pair.client.close(6)
    assert pair.client.close_code == 5


async def test_a_long_reason_is_cut_on_a_character_boundary(pair: Pair) -> None:
    await pair.client.close(reason="ü" * 2000)
    async with asyncio.timeout(SECONDS):
        await pair.server.wait_closed()
    assert pair.server.close_reason == "ü" * 512


@pytest.mark.parametrize("code", [-1, 2**32])
async def test_a_close_code_out_of_range_is_refused(pair: Pair, code: int) -> None:
    with pytest.raises(ValueError, match="32-bit"):
        await pair.client.close(code)
    assert pair.client.is_ready


async def test_operations_after_the_close_name_its_code(pair: Pair) -> None:
    await pair.server.close(99, "gone")
    async with asyncio.timeout(SECONDS):
        await pair.client.wait_closed()
    for operation in (pair.client.ready, pair.client.create_bidirectional_stream):
        with pytest.raises(SessionError) as caught:
            await operation()
        assert caught.value.close_code == 99
        assert caught.value.close_reason == "gone"
        assert caught.value.ended_by == "peer"


async def test_waiters_of_every_kind_wake_at_the_peers_close(pair: Pair) -> None:
    near, _far = await pair.bidi()
    waiting = [
        asyncio.create_task(near.read()),
        asyncio.create_task(pair.client.datagrams.receive()),
        asyncio.create_task(pair.client.wait_closed()),
        asyncio.create_task(_collect(pair.client)),
    ]
    await asyncio.sleep(0)
    await pair.server.close(8, "bye")
    async with asyncio.timeout(SECONDS):
        read, received, closed, streams = await asyncio.gather(*waiting, return_exceptions=True)
    assert getattr(read, "close_code", None) == 8
    assert getattr(received, "close_code", None) == 8
    assert closed is None
    assert streams == []


async def test_waiters_wake_at_the_own_close(pair: Pair) -> None:
    near, _far = await pair.bidi()
    reading = asyncio.create_task(near.read())
    receiving = asyncio.create_task(pair.client.datagrams.receive())
    iterating = asyncio.create_task(_collect(pair.client))
    await asyncio.sleep(0)
    await pair.client.close()
    async with asyncio.timeout(1):
        outcomes = await asyncio.gather(reading, receiving, iterating, return_exceptions=True)
    assert isinstance(outcomes[0], StreamError)
    assert isinstance(outcomes[1], Exception)
    assert outcomes[2] == []


async def test_the_loss_of_the_connection_ends_the_session(pair: Pair) -> None:
    connection = pair.server.connection
    assert connection is not None
    receiving = asyncio.create_task(pair.client.datagrams.receive())
    await asyncio.sleep(0)
    await connection.close()
    async with asyncio.timeout(SECONDS):
        await pair.client.wait_closed()
        with pytest.raises(Exception, match=r"."):
            await receiving
    assert pair.client.is_closed
    assert not (await pair.client.diagnostics()).is_connection_active


async def test_closing_a_session_closes_its_connection(pair: Pair) -> None:
    connection = pair.client.connection
    assert connection is not None
    await pair.client.close()
    assert connection.is_closed


async def test_the_peers_close_of_the_last_session_closes_the_connection(pair: Pair) -> None:
    connection = pair.client.connection
    assert connection is not None
    await pair.server.close(close_connection=False)
    async with asyncio.timeout(SECONDS):
        await connection.wait_closed()


async def test_close_connection_false_leaves_the_connection(pair: Pair) -> None:
    connection = pair.client.connection
    assert connection is not None
    # The server's handler would close the connection with the last session; it waits for that close first.
    await pair.client.close(close_connection=False)
    assert pair.client.is_closed


async def test_methods_before_initialize_raise(server: Server, client: WebTransportClient) -> None:
    session = await client.connect(server.url())
    assert session.connection is not None
    bare = WebTransportSession(session.connection, session_id="unknown")
    for operation in (bare.ready, bare.close, bare.wait_closed, bare.create_datagram_transport, bare.initialize):
        with pytest.raises(SessionError):
            await operation()
    with pytest.raises(SessionError):
        await bare.create_bidirectional_stream()
    with pytest.raises(SessionError):
        await anext(bare.incoming_streams())
    assert bare.state is SessionState.CONNECTING


async def test_events_arrive_before_close_returns(pair: Pair) -> None:
    closed: list[Event] = []
    pair.client.on(EventType.SESSION_CLOSED, closed.append)
    await pair.client.close(3, "done")
    assert [event.data for event in closed] == [
        {"session_id": pair.client.session_id, "code": 3, "reason": "done"},
    ]


async def test_the_peers_close_is_an_event_too(pair: Pair) -> None:
    waiting = asyncio.create_task(pair.client.wait_for(EventType.SESSION_CLOSED, timeout=SECONDS))
    await asyncio.sleep(0)
    await pair.server.close(4, "over")
    event = await waiting
    assert event.data == {"session_id": pair.client.session_id, "code": 4, "reason": "over"}


async def test_counters_are_live(pair: Pair) -> None:
    before = time.time()
    near, far = await pair.bidi()
    sender, _receiver = await pair.uni()
    await pair.client.datagrams.send(b"x")
    await pair.server.datagrams.receive(timeout=SECONDS)
    for session in (pair.client, pair.server):
        stats = (await session.diagnostics()).stats
        assert stats.session_id == session.session_id
        assert stats.streams_created == 2
        assert stats.bidirectional_streams == 1
        assert stats.unidirectional_streams == 1
        assert stats.streams_closed == 0
        assert stats.active_streams == 2
        assert stats.ready_at is not None
        assert stats.created_at <= stats.ready_at <= before + 1
        assert stats.closed_at is None
        assert stats.uptime > 0
    assert (await pair.client.diagnostics()).stats.datagrams_sent == 1
    assert (await pair.server.diagnostics()).stats.datagrams_received == 1

    await near.close()
    await sender.close()
    assert await far.read_all() == b""
    await far.close()
    assert await near.read_all() == b""
    await asyncio.gather(near.wait_closed(), far.wait_closed())
    assert (await pair.client.diagnostics()).stats.streams_closed >= 1
    await pair.client.close()
    stats = (await pair.client.diagnostics()).stats
    assert stats.closed_at is not None
    assert stats.uptime == stats.closed_at - (stats.ready_at or 0)


async def test_diagnostics_are_a_snapshot(pair: Pair) -> None:
    snapshot = await pair.client.diagnostics()
    await pair.client.datagrams.send(b"later")
    assert snapshot.stats.datagrams_sent == 0
    assert snapshot.issues == []
    assert snapshot.is_connection_active
    assert snapshot.send_credit_available > 0
    assert snapshot.receive_credit_available > 0


async def test_unread_datagrams_show_in_the_diagnostics(pair: Pair) -> None:
    for number in range(3):
        await pair.client.datagrams.send(bytes([number]))
    # A stream behind them: once it is here, they are, give or take what UDP on loopback reorders (nothing).
    await pair.uni()
    assert (await pair.server.diagnostics()).datagram_receive_buffer_size == 3


async def test_incoming_streams_yields_both_kinds_in_order(pair: Pair) -> None:
    for bidirectional in (True, False, True):
        if bidirectional:
            await (await pair.client.create_bidirectional_stream()).write(b"b", end_stream=True)
        else:
            await (await pair.client.create_unidirectional_stream()).write(b"u", end_stream=True)
    async with asyncio.timeout(SECONDS):
        kinds = []
        async for stream in pair.server.incoming_streams():
            kinds.append((type(stream), await stream.read_all()))
            if len(kinds) == 3:
                break
    assert sorted(data for _kind, data in kinds) == [b"b", b"b", b"u"]
    assert all((kind is WebTransportStream) == (data == b"b") for kind, data in kinds)


async def test_dropped_iterators_lose_no_stream(pair: Pair) -> None:
    for _ in range(3):
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(anext(pair.server.incoming_streams()), 0.01)
    stream = await pair.client.create_unidirectional_stream()
    await stream.write_all(b"still here")
    assert await (await next_stream(pair.server)).read_all() == b"still here"


async def test_a_stream_written_just_before_the_close_arrives(pair: Pair) -> None:
    stream = await pair.client.create_unidirectional_stream()
    await stream.write_all(b"last words")
    closing = asyncio.create_task(pair.client.close())
    async with asyncio.timeout(SECONDS):
        received = [await incoming.read_all() async for incoming in pair.server.incoming_streams()]
    await closing
    assert received == [b"last words"]


async def test_own_streams_are_limited(certificate: DevCertificate, server: Server, driver: str) -> None:
    config = client_config(certificate, driver=driver, max_streams=2)
    async with connected_pair(server, config) as pair:
        streams = [await pair.client.create_bidirectional_stream() for _ in range(2)]
        with pytest.raises(StreamError, match=r"stream limit \(2\) reached"):
            await pair.client.create_unidirectional_stream()
        await streams.pop().abort()
        await pair.client.create_unidirectional_stream()
        assert (await pair.client.diagnostics()).stats.stream_errors >= 1


async def test_openers_wait_for_the_peers_limit(certificate: DevCertificate, driver: str) -> None:
    async with (
        running_server(certificate, driver=driver, initial_max_streams_bidi=5) as server,
        WebTransportClient(config=client_config(certificate, driver=driver)) as client,
    ):
        session = await client.connect(server.url("/echo"))

        async def use(number: int) -> bytes:
            stream = await session.create_bidirectional_stream(timeout=SECONDS)
            await stream.write_all(b"%d" % number)
            return await stream.read_all()

        async with asyncio.timeout(SECONDS):
            answers = await asyncio.gather(*map(use, range(10)))
        assert answers == [b"%d" % number for number in range(10)]


async def test_an_opener_beyond_the_peers_limit_times_out(certificate: DevCertificate, driver: str) -> None:
    async with (
        running_server(certificate, driver=driver, initial_max_streams_bidi=1) as server,
        connected_pair(server, client_config(certificate, driver=driver)) as pair,
    ):
        _open = await pair.bidi()
        with pytest.raises(StreamError, match="allowed no further bidirectional stream"):
            await pair.client.create_bidirectional_stream(timeout=0.05)


async def test_a_stream_that_is_dropped_is_reset(pair: Pair) -> None:
    near, far = await pair.bidi()
    del near
    async with asyncio.timeout(SECONDS):
        with pytest.raises(StreamError) as caught:
            await far.read()
    assert caught.value.application_code == 0


async def test_ready_times_out_while_the_server_decides(server: Server, config: ClientConfig) -> None:
    decided = asyncio.Event()

    async def slow(session: WebTransportSession) -> bool:
        return await decided.wait()

    server.app.add_middleware(slow)
    async with await WebTransportConnection.create_client(config, "127.0.0.1", server.port, "/hold") as connection:
        (info,) = connection.get_all_sessions()
        session = WebTransportSession(connection, info.session_id)
        await session.initialize()
        assert session.state is SessionState.CONNECTING
        with pytest.raises(SessionError, match="not ready"):
            await session.create_bidirectional_stream()
        with pytest.raises(TimeoutError) as caught:
            await session.ready(timeout=0.01)
        assert caught.value.timeout_duration == 0.01
        decided.set()
        await session.ready(timeout=SECONDS)
        assert session.is_ready


async def test_monitor_health_ends_with_the_session(pair: Pair) -> None:
    monitoring = asyncio.create_task(pair.client.monitor_health(check_interval=0.01))
    await asyncio.sleep(0)
    await pair.client.close()
    async with asyncio.timeout(SECONDS):
        await monitoring


async def test_async_with_closes_the_session(server: Server, client: WebTransportClient) -> None:
    async with await client.connect(server.url()) as session:
        assert session.is_ready
        other = await server.next_session()
    assert session.is_closed
    async with asyncio.timeout(SECONDS):
        await other.wait_closed()


async def test_parameters_may_be_positional(pair: Pair) -> None:
    await pair.client.ready(5.0)
    stream = await pair.client.create_unidirectional_stream(5.0)
    assert not isinstance(stream, WebTransportReceiveStream)
    await pair.client.close(0, "", True)


async def _collect(session: WebTransportSession) -> list[object]:
    return [stream async for stream in session.incoming_streams()]


async def test_a_burst_of_streams_leaves_turns_to_others(pair: Pair) -> None:
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    for _ in range(64):
        stream = await pair.client.create_unidirectional_stream()
        await stream.write_all(b"x")
    async with asyncio.timeout(SECONDS):
        while (await pair.server.diagnostics()).stats.streams_created < 64:
            await asyncio.sleep(0)
    turning = asyncio.create_task(turn())
    taken = 0
    async for _ in pair.server.incoming_streams():
        taken += 1
        if taken == 64:
            break
    turning.cancel()
    assert turns >= 3
