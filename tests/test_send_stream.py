"""The sending half of a stream."""

from __future__ import annotations

import asyncio

import pytest

from pywebtransport import StreamError, TimeoutError, WebTransportSendStream
from pywebtransport.types import EventType, StreamDirection, StreamState
from pywebtransport.utils import DevCertificate
from tests.harness import SECONDS, Pair, Server, client_config, connected_pair


async def test_every_kind_of_data_arrives(pair: Pair) -> None:
    near, far = await pair.uni()
    await near.write(b"bytes ")
    await near.write("täxt ")
    await near.write(bytearray(b"bytearray "))
    await near.write(memoryview(b"memoryview"))
    await near.write(b"")
    await near.close()
    assert await far.read_all() == "bytes täxt bytearray memoryview".encode()


@pytest.mark.parametrize("data", [None, 5, ["a"]])
async def test_other_types_are_a_type_error(pair: Pair, data: object) -> None:
    near, _far = await pair.uni()
    with pytest.raises(TypeError):
        await near.write(data=data)  # type: ignore[arg-type]  # wrong on purpose
    assert near.is_writable


async def test_write_all_ends_the_stream(pair: Pair) -> None:
    near, far = await pair.uni()
    await near.write_all(b"x" * 100_000, chunk_size=10)
    assert await far.read_all() == b"x" * 100_000
    assert not near.is_writable
    assert near.is_closed


async def test_write_after_close_raises(pair: Pair) -> None:
    near, _far = await pair.uni()
    await near.close()
    await near.close()
    with pytest.raises(StreamError):
        await near.write(b"more")
    with pytest.raises(StreamError):
        await near.write_all(b"more")


async def test_states_of_a_one_way_stream(pair: Pair) -> None:
    near, far = await pair.uni()
    assert near.direction is StreamDirection.SEND_ONLY
    assert far.direction is StreamDirection.RECEIVE_ONLY
    assert [near.state, far.state] == [StreamState.OPEN, StreamState.OPEN]
    await near.close()
    assert near.state == StreamState.HALF_CLOSED_LOCAL
    assert await far.read_all() == b""
    assert far.state == StreamState.HALF_CLOSED_REMOTE
    async with asyncio.timeout(SECONDS):
        await near.wait_closed()
        await far.wait_closed()


async def test_a_priority_can_change_at_any_time(pair: Pair) -> None:
    near, far = await pair.bidi()
    assert near.priority == far.priority == 0
    for number in (7, -7, 2**31 - 2, -(2**31) + 1):
        near.priority = number
        assert near.priority == number
        await near.write(b"x")
    far.priority = 1
    await far.write_all(b"answer")
    assert await near.read_all() == b"answer"
    await near.close()
    near.priority = 5
    async with asyncio.timeout(SECONDS):
        await near.wait_closed()
    near.priority = 6
    assert await far.read_all() == b"x" * 4


@pytest.mark.parametrize("number", [2**31 - 1, -(2**31), 2**70])
async def test_a_priority_out_of_range_is_refused(pair: Pair, number: int) -> None:
    near, _far = await pair.uni()
    with pytest.raises(ValueError, match="-2147483647 to 2147483646"):
        near.priority = number
    assert near.priority == 0


async def test_a_write_larger_than_the_buffer_goes_in_pieces(
    certificate: DevCertificate, server: Server, driver: str
) -> None:
    config = client_config(certificate, driver=driver, max_stream_buffer_size=65536)
    payload = bytes(range(256)) * 8192
    async with connected_pair(server, config) as pair:
        near, far = await pair.uni()
        writing = asyncio.create_task(near.write(payload, end_stream=True))
        assert await far.read_all() == payload
        await writing


async def test_writes_of_two_tasks_stay_contiguous(certificate: DevCertificate, server: Server, driver: str) -> None:
    config = client_config(certificate, driver=driver, max_stream_buffer_size=65536)
    async with connected_pair(server, config) as pair:
        near, far = await pair.uni()
        sizes = [300_000, 10, 200_000, 5, 100_000]

        async def write_all() -> None:
            await asyncio.gather(*(near.write(bytes([n]) * size) for n, size in enumerate(sizes)))
            await near.close()

        writing = asyncio.create_task(write_all())
        received = await far.read_all()
        await writing
    runs = [(received[0], 0)]
    for byte in received:
        if byte == runs[-1][0]:
            runs[-1] = (byte, runs[-1][1] + 1)
        else:
            runs.append((byte, 1))
    assert sorted(runs) == list(enumerate(sizes))


async def test_close_comes_after_a_large_write_of_another_task(
    certificate: DevCertificate, server: Server, driver: str
) -> None:
    config = client_config(certificate, driver=driver, max_stream_buffer_size=65536)
    async with connected_pair(server, config) as pair:
        near, far = await pair.uni()
        writing = asyncio.create_task(near.write(b"x" * 1_000_000))
        await asyncio.sleep(0)
        closing = asyncio.create_task(near.close())
        assert len(await far.read_all()) == 1_000_000
        await asyncio.gather(writing, closing)


async def test_a_reader_that_never_reads_makes_write_time_out(
    certificate: DevCertificate, server: Server, driver: str
) -> None:
    config = client_config(certificate, driver=driver, max_stream_buffer_size=65536, write_timeout=0.2)
    async with connected_pair(server, config) as pair:
        near, _far = await pair.uni()
        with pytest.raises(TimeoutError) as caught:
            while True:
                await near.write(b"x" * 65536)
        assert caught.value.operation == "stream_write"
        assert near.diagnostics.stats.write_errors == 1
        await near.abort()


async def test_flush_waits_for_an_empty_buffer(pair: Pair) -> None:
    near, far = await pair.uni()
    await near.write(b"x" * 500_000)
    reading = asyncio.create_task(far.readexactly(500_000))
    await near.flush()
    assert near.diagnostics.write_buffer_size == 0
    assert len(await reading) == 500_000


async def test_stop_by_the_peer_surfaces_with_its_code(pair: Pair) -> None:
    near, far = await pair.uni()
    await far.abort(code=77)
    async with asyncio.timeout(SECONDS):
        await near.wait_closed()
    with pytest.raises(StreamError) as caught:
        await near.write(b"nobody listens")
    assert caught.value.application_code == 77
    assert caught.value.ended_by == "peer"
    assert near.state is StreamState.RESET_RECEIVED
    with pytest.raises(StreamError):
        await near.write_all(b"still nobody")


async def test_stop_by_the_peer_wakes_a_waiting_write(certificate: DevCertificate, server: Server, driver: str) -> None:
    config = client_config(certificate, driver=driver, max_stream_buffer_size=65536)
    async with connected_pair(server, config) as pair:
        near, far = await pair.uni()
        writing = asyncio.create_task(near.write(b"x" * 50_000_000))
        await far.readexactly(100_000)
        await far.abort(5)
        with pytest.raises(StreamError) as caught:
            async with asyncio.timeout(SECONDS):
                await writing
        assert caught.value.application_code == 5


async def test_abort_resets_with_a_code(pair: Pair) -> None:
    near, far = await pair.uni()
    await near.abort(123456)
    assert near.state is StreamState.RESET_SENT
    with pytest.raises(StreamError):
        await near.write(b"more")
    with pytest.raises(StreamError) as caught:
        async with asyncio.timeout(SECONDS):
            await far.read()
    assert caught.value.application_code == 123456


@pytest.mark.parametrize("code", [-1, 2**32])
async def test_an_abort_code_out_of_range_is_refused(pair: Pair, code: int) -> None:
    near, _far = await pair.uni()
    with pytest.raises(ValueError, match="32-bit"):
        await near.abort(code)
    assert near.is_writable


async def test_leaving_async_with_closes_or_aborts(pair: Pair) -> None:
    near, far = await pair.uni()
    async with near:
        await near.write(b"end")
    assert await far.read_all() == b"end"

    near, far = await pair.uni()
    with pytest.raises(RuntimeError):
        async with near:
            raise RuntimeError
    with pytest.raises(StreamError):
        async with asyncio.timeout(SECONDS):
            await far.read()


async def test_write_after_the_sessions_end_raises(pair: Pair) -> None:
    near, _far = await pair.uni()
    await pair.server.close(11, "closed")
    async with asyncio.timeout(SECONDS):
        await pair.client.wait_closed()
    with pytest.raises(StreamError) as caught:
        await near.write(b"late")
    assert caught.value.close_code == 11
    assert near.state is StreamState.CLOSED
    await near.close()


async def test_statistics_count(pair: Pair) -> None:
    near, _far = await pair.uni()
    await near.write(b"12345")
    stats = near.diagnostics.stats
    assert (stats.bytes_sent, stats.writes_count, stats.write_errors) == (6, 2, 0)
    assert stats.stream_id == near.stream_id
    assert stats.uptime >= 0
    assert stats.closed_at is None
    await near.close()
    assert near.diagnostics.stats.closed_at is not None


async def test_an_object_without_a_stream_refuses(pair: Pair) -> None:
    stream = WebTransportSendStream(stream_id=400, session=pair.client)
    for operation in (stream.initialize, stream.close, stream.flush, stream.abort, stream.wait_closed):
        with pytest.raises(StreamError):
            await operation()
    with pytest.raises(StreamError):
        await stream.write(b"x")


async def test_the_end_is_an_event_for_those_who_listen(pair: Pair) -> None:
    near, far = await pair.uni()
    closed = asyncio.create_task(near.wait_for(EventType.STREAM_CLOSED, timeout=SECONDS))
    failed = asyncio.create_task(near.wait_for(EventType.STREAM_ERROR, timeout=SECONDS))
    await asyncio.sleep(0)
    await far.abort(9)
    assert (await closed).data == {"stream_id": near.stream_id}
    error = (await failed).data["error"]
    assert isinstance(error, StreamError)
    assert error.application_code == 9
