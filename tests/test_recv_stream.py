"""The receiving half of a stream, and what bidirectional streams add."""

from __future__ import annotations

import asyncio

import pytest

from pywebtransport import StreamError, TimeoutError, WebTransportClient
from pywebtransport.types import EventType, StreamDirection, StreamState
from pywebtransport.utils import DevCertificate
from tests.harness import SECONDS, Pair, client_config, running_server


async def test_read_returns_what_is_there(pair: Pair) -> None:
    near, far = await pair.uni()
    await near.write(b"hello")
    assert await far.read(2) == b"he"
    assert await far.read() == b"llo"
    await near.close()
    assert await far.read() == b""
    assert await far.read() == b""
    assert await far.read(0) == b""


async def test_read_everything_that_has_arrived(pair: Pair) -> None:
    near, far = await pair.uni()
    await near.write(b"x" * 50_000, end_stream=True)
    received = b""
    while chunk := await far.read(-1):
        received += chunk
    assert received == b"x" * 50_000


async def test_readexactly(pair: Pair) -> None:
    near, far = await pair.uni()
    reading = asyncio.create_task(far.readexactly(10))
    for _ in range(4):
        await near.write(b"abc")
    assert await reading == b"abcabcabca"
    assert await far.readexactly(0) == b""
    await near.close()
    with pytest.raises(asyncio.IncompleteReadError) as caught:
        await far.readexactly(3)
    assert caught.value.partial == b"bc"
    with pytest.raises(asyncio.IncompleteReadError):
        await far.readexactly(1)
    with pytest.raises(ValueError, match="negative"):
        await far.readexactly(-1)


async def test_readline_and_readuntil(pair: Pair) -> None:
    near, far = await pair.uni()
    await near.write(b"one\ntwo\nthree--four-")
    assert await far.readline() == b"one\n"
    assert await far.readline() == b"two\n"
    assert await far.readuntil(b"--") == b"three--"
    reading = asyncio.create_task(far.readuntil(b"--"))
    await asyncio.sleep(0)
    await near.write(b"-rest", end_stream=True)
    assert await reading == b"four--"
    assert await far.readline() == b"rest"
    assert await far.readline() == b""
    with pytest.raises(ValueError, match="empty"):
        await far.readuntil(b"")


async def test_readuntil_over_its_limit_keeps_the_bytes(pair: Pair) -> None:
    near, far = await pair.uni()
    await near.write(b"0123456789\n", end_stream=True)
    with pytest.raises(StreamError, match="within 5 bytes"):
        await far.readuntil(limit=5)
    with pytest.raises(StreamError, match="within 10 bytes"):
        await far.readline(10)
    assert await far.readline(11) == b"0123456789\n"


async def test_read_all_over_its_limit_keeps_the_bytes(pair: Pair) -> None:
    near, far = await pair.uni()
    await near.write(b"x" * 1000, end_stream=True)
    with pytest.raises(StreamError, match="limit of 999 bytes"):
        await far.read_all(max_size=999)
    assert await far.read_all(max_size=1000) == b"x" * 1000


async def test_iterating(pair: Pair) -> None:
    near, far = await pair.uni()
    await near.write_all(b"z" * 200_000)
    assert b"".join([chunk async for chunk in far]) == b"z" * 200_000

    near, far = await pair.uni()
    await near.write_all(b"abcdef")
    chunks = [chunk async for chunk in far.read_iter(chunk_size=2)]
    assert b"".join(chunks) == b"abcdef"
    assert max(map(len, chunks)) <= 2


async def test_readinto(pair: Pair) -> None:
    near, far = await pair.uni()
    await near.write(b"0123456789\nrest")
    assert await far.readline() == b"0123456789\n"  # leaves "rest" to be found by the next read
    buffer = bytearray(3)
    assert await far.readinto(buffer) == 3
    assert buffer == b"res"
    assert await far.readinto(memoryview(buffer)) == 1
    reading = asyncio.create_task(far.readinto(buffer))
    await asyncio.sleep(0)
    await near.write(b"!", end_stream=True)
    assert await reading == 1
    assert await far.readinto(buffer) == 0


async def test_a_silent_peer_makes_reads_time_out(certificate: DevCertificate, driver: str) -> None:
    config = client_config(certificate, driver=driver, read_timeout=0.05)
    async with running_server(certificate, driver=driver) as server, WebTransportClient(config=config) as client:
        session = await client.connect(server.url())
        stream = await session.create_bidirectional_stream()
        for read in (stream.read, stream.readline, stream.read_all):
            with pytest.raises(TimeoutError) as caught:
                await read()
            assert caught.value.operation == "stream_read"
        with pytest.raises(TimeoutError):
            await stream.readexactly(1)
        assert stream.diagnostics.stats.read_errors == 4
        assert stream.diagnostics.stats.max_read_time >= 0.05


async def test_a_timeout_loses_nothing(certificate: DevCertificate, driver: str) -> None:
    async with (
        running_server(certificate, driver=driver, read_timeout=0.05) as server,
        WebTransportClient(config=client_config(certificate, driver=driver)) as client,
    ):
        session = await client.connect(server.url())
        near = await session.create_unidirectional_stream()
        await near.write(b"par")
        far = await anext((await server.next_session()).incoming_streams())
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await far.readexactly(4)
            with pytest.raises(TimeoutError):
                await far.readline()
            with pytest.raises(TimeoutError):
                await far.read_all()
        await near.write(b"tial", end_stream=True)
        assert await far.readexactly(7) == b"partial"


async def test_a_reset_wakes_the_reader_with_its_code(pair: Pair) -> None:
    near, far = await pair.uni()
    reading = asyncio.create_task(far.read())
    await asyncio.sleep(0)
    await near.abort(code=31)
    with pytest.raises(StreamError) as caught:
        async with asyncio.timeout(SECONDS):
            await reading
    assert caught.value.application_code == 31
    assert caught.value.ended_by == "peer"
    assert far.state is StreamState.RESET_RECEIVED
    assert far.is_closed
    with pytest.raises(StreamError):
        await far.read()


async def test_what_was_taken_before_a_reset_can_still_be_read(pair: Pair) -> None:
    near, far = await pair.uni()
    await near.write(b"half a li")
    reading = asyncio.create_task(far.readline())
    while far.diagnostics.stats.bytes_received + far.diagnostics.read_buffer_size < 10:
        await asyncio.sleep(0)
    await near.abort(1)
    with pytest.raises(StreamError):
        async with asyncio.timeout(SECONDS):
            await reading
    assert await far.read() == b"half a li"
    with pytest.raises(StreamError):
        await far.read()


async def test_reading_after_the_own_abort_is_the_end(pair: Pair) -> None:
    near, far = await pair.bidi()
    reading = asyncio.create_task(far.read())
    await asyncio.sleep(0)
    await far.abort(2)
    async with asyncio.timeout(SECONDS):
        assert await reading == b""
    assert await far.read() == b""
    assert far.state is StreamState.RESET_SENT
    assert not far.is_readable
    with pytest.raises(StreamError):
        async with asyncio.timeout(SECONDS):
            await near.read()


async def test_leaving_async_with_aborts_an_unfinished_stream(pair: Pair) -> None:
    near, far = await pair.uni()
    async with far:
        pass
    async with asyncio.timeout(SECONDS):
        await near.wait_closed()
    assert near.state is StreamState.RESET_RECEIVED


async def test_data_that_arrived_is_read_before_the_sessions_end(pair: Pair) -> None:
    unfinished, far_unfinished = await pair.bidi()
    finished, far_finished = await pair.uni()
    await unfinished.write(b"a truncated")
    await finished.write(b"a complete stream", end_stream=True)
    await pair.client.close(6)
    async with asyncio.timeout(SECONDS):
        await pair.server.wait_closed()
        assert await far_finished.read_all() == b"a complete stream"
        assert await far_unfinished.readexactly(11) == b"a truncated"
        for operation in (far_unfinished.read(), far_unfinished.write(b"nobody is there")):
            with pytest.raises(StreamError) as caught:
                await operation
            assert caught.value.close_code == 6


async def test_the_loss_of_the_connection_is_not_the_end_of_a_stream(pair: Pair) -> None:
    near, far = await pair.uni()
    await near.write(b"part")
    assert await far.readexactly(4) == b"part"
    assert pair.client.connection is not None
    await pair.client.connection.close()
    async with asyncio.timeout(SECONDS):
        with pytest.raises(StreamError):
            await far.read()


async def test_the_two_directions_end_independently(pair: Pair) -> None:
    near, far = await pair.bidi()
    assert near.direction is StreamDirection.BIDIRECTIONAL
    await near.close()
    assert [near.state, far.state] == [StreamState.HALF_CLOSED_LOCAL, StreamState.OPEN]
    assert await far.read_all() == b""
    assert [far.state, far.is_writable] == [StreamState.HALF_CLOSED_REMOTE, True]
    assert not far.is_readable
    await far.write_all(b"answer")
    assert await near.read_all() == b"answer"
    assert near.is_closed
    assert [near.state, far.state] == [StreamState.CLOSED, StreamState.CLOSED]


async def test_leaving_async_with_of_a_bidirectional_stream_leaves_reading(pair: Pair) -> None:
    near, far = await pair.bidi()
    async with near:
        await near.write(b"question")
    assert await far.read_all() == b"question"
    await far.write_all(b"answer")
    assert await near.read_all() == b"answer"


async def test_a_large_echo_through_small_windows(certificate: DevCertificate, driver: str) -> None:
    limits = {
        "initial_max_data": 16384,
        "flow_control_window_size": 65536,
        "flow_control_window_auto_scale": False,
        "driver": driver,
    }
    payload = bytes(range(256)) * 4096
    async with (
        running_server(certificate, **limits) as server,
        WebTransportClient(config=client_config(certificate, **limits)) as client,
    ):
        session = await client.connect(server.url("/echo"))
        stream = await session.create_bidirectional_stream()
        writing = asyncio.create_task(stream.write_all(payload))
        assert await stream.read_all() == payload
        await writing


async def test_statistics_and_health(pair: Pair) -> None:
    near, far = await pair.bidi()
    await near.write(b"123")
    assert await far.readexactly(3) == b"123"
    stats = far.diagnostics.stats
    assert stats.bytes_received == 4
    assert stats.reads_count >= 2
    assert far.diagnose_issues() == []
    assert len(far.diagnose_issues(stale_threshold=0.0, latency_threshold=-1.0)) >= 1
    monitoring = asyncio.create_task(far.monitor_health(check_interval=0.01))
    await asyncio.sleep(0)
    await far.abort()
    async with asyncio.timeout(SECONDS):
        await monitoring
    assert far.diagnose_issues() == ["Stream was reset locally"]


async def test_data_is_an_event_for_those_who_listen(pair: Pair) -> None:
    near, far = await pair.uni()
    seen: list[dict[str, object]] = []
    far.on(EventType.STREAM_DATA_RECEIVED, lambda event: seen.append(event.data))
    closed = asyncio.create_task(far.wait_for(EventType.STREAM_CLOSED, timeout=SECONDS))
    await asyncio.sleep(0)
    await near.write_all(b"data")
    assert await far.read_all() == b"data"
    await closed
    assert b"".join(event["data"] for event in seen) == b"data"  # type: ignore[misc]  # mypy cannot infer a default of a lambda
    assert seen[-1] == {"stream_id": far.stream_id, "data": b"", "end_stream": True}
