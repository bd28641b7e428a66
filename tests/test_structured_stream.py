"""Structured streams: objects in frames, over anything with the members of a stream."""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pywebtransport.exceptions import ConfigurationError, SerializationError, StreamError
from pywebtransport.serializer.json import JSONSerializer
from pywebtransport.stream.structured import StructuredStream


@dataclass
class Ping:
    number: int


@dataclass
class Text:
    text: str


REGISTRY: dict[int, type[Any]] = {1: Ping, 2: Text}


class Pipe:
    """A stream whose written bytes can be read again: asyncio's own reader behind the members of a stream."""

    def __init__(self) -> None:
        self.reader = asyncio.StreamReader()
        self.stream_id = 4
        self.is_closed = False
        self.aborted = False

    async def write(self, *, data: bytes, end_stream: bool = False, wait_flush: bool = True) -> None:
        if self.is_closed:
            raise StreamError("not writable")
        self.reader.feed_data(data)

    async def readexactly(self, *, n: int) -> bytes:
        return await self.reader.readexactly(n)

    async def close(self) -> None:
        self.is_closed = True
        self.reader.feed_eof()

    async def abort(self, *, code: int = 0) -> None:
        self.is_closed = self.aborted = True


def structured(pipe: Any, **kwargs: Any) -> StructuredStream:
    return StructuredStream(pipe, JSONSerializer(), REGISTRY, **kwargs)


async def test_objects_arrive_in_order_until_the_stream_ends() -> None:
    stream = structured(Pipe())
    sent = [Ping(1), Text("two"), Ping(3)]
    for item in sent:
        await stream.send_obj(item)
    assert not stream.is_closed and stream.stream_id == 4
    await stream.close()
    assert [item async for item in stream] == sent
    assert stream.is_closed


async def test_frame_is_type_length_payload_in_network_order() -> None:
    pipe = Pipe()
    await structured(pipe).send_obj(obj=Ping(7))
    payload = b'{"number": 7}'
    assert await pipe.readexactly(n=6 + len(payload)) == b"\x00\x01\x00\x00\x00\x0d" + payload


async def test_object_of_unknown_class_is_refused_and_nothing_is_sent() -> None:
    pipe = Pipe()
    with pytest.raises(SerializationError, match="'int' is not registered"):
        await structured(pipe).send_obj(5)
    await pipe.close()
    assert await pipe.reader.read() == b""


async def test_stream_stays_usable_after_an_unknown_type_id() -> None:
    pipe = Pipe()
    stream = structured(pipe)
    pipe.reader.feed_data(struct.pack("!HI", 99, 200_000))
    with pytest.raises(SerializationError, match="unknown message type ID: 99"):
        await stream.receive_obj()  # at once, although the payload is not here yet
    pipe.reader.feed_data(bytes(200_000))
    await stream.send_obj(Ping(1))
    assert await stream.receive_obj() == Ping(1)


async def test_stream_stays_usable_after_a_payload_that_cannot_be_decoded() -> None:
    pipe = Pipe()
    stream = structured(pipe)
    pipe.reader.feed_data(struct.pack("!HI", 1, 3) + b"{{{")
    with pytest.raises(SerializationError, match="not valid JSON"):
        await stream.receive_obj()
    await stream.send_obj(Ping(1))
    assert await stream.receive_obj() == Ping(1)


async def test_too_large_message_aborts_the_stream_before_it_is_read() -> None:
    pipe = Pipe()
    pipe.reader.feed_data(struct.pack("!HI", 1, 0xFFFFFFFF))
    with pytest.raises(SerializationError, match="4294967295 exceeds the configured limit of 1048576"):
        await structured(pipe).receive_obj()
    assert pipe.aborted


async def test_too_large_message_is_not_sent_and_harms_nothing() -> None:
    pipe = Pipe()
    stream = structured(pipe, max_message_size=20)
    with pytest.raises(SerializationError, match="exceeds the configured limit of 20"):
        await stream.send_obj(Text("x" * 20))
    assert not pipe.aborted
    await stream.send_obj(Ping(1))
    assert await stream.receive_obj() == Ping(1)


@pytest.mark.parametrize("data", [b"", b"\x00\x01\x00", struct.pack("!HI", 1, 10) + b"{"])
async def test_end_of_stream_is_a_stream_error_wherever_it_comes(data: bytes) -> None:
    pipe = Pipe()
    pipe.reader.feed_data(data)
    await pipe.close()
    with pytest.raises(StreamError, match="closed while"):
        await structured(pipe).receive_obj()


async def test_iteration_lets_other_errors_through() -> None:
    pipe = Pipe()
    pipe.reader.feed_data(struct.pack("!HI", 99, 0))
    with pytest.raises(SerializationError):
        await anext(structured(pipe))


async def test_receive_cancelled_between_header_and_payload_loses_nothing() -> None:
    pipe = Pipe()
    stream = structured(pipe)
    pipe.reader.feed_data(struct.pack("!HI", 1, 13))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(stream.receive_obj(), 0.01)
    pipe.reader.feed_data(b'{"number": 7}')
    assert await stream.receive_obj() == Ping(7)


async def test_two_tasks_may_receive_from_one_stream() -> None:
    pipe = Pipe()
    stream = structured(pipe)
    tasks = [asyncio.create_task(stream.receive_obj()) for _ in range(2)]
    await asyncio.sleep(0)
    for byte in struct.pack("!HI", 1, 13) + b'{"number": 1}' + struct.pack("!HI", 1, 13) + b'{"number": 2}':
        pipe.reader.feed_data(bytes([byte]))
        await asyncio.sleep(0)
    assert await asyncio.gather(*tasks) == [Ping(1), Ping(2)]


@settings(deadline=None)
@given(st.lists(st.text(max_size=30), max_size=8), st.lists(st.integers(1, 40), min_size=1, max_size=8))
def test_any_chunking_gives_the_same_objects(texts: list[str], sizes: list[int]) -> None:
    async def run() -> list[Any]:
        source, sink = Pipe(), Pipe()
        for text in texts:
            await structured(source).send_obj(Text(text))
        await source.close()
        data = await source.reader.read()

        async def feed() -> None:
            position = turn = 0
            while position < len(data):
                size = sizes[turn % len(sizes)]
                sink.reader.feed_data(data[position : position + size])
                position, turn = position + size, turn + 1
                await asyncio.sleep(0)
            await sink.close()

        feeding = asyncio.create_task(feed())
        received = [item async for item in structured(sink)]
        await feeding
        return received

    assert asyncio.run(run()) == [Text(text) for text in texts]


@pytest.mark.parametrize(
    ("registry", "reason"),
    [({1: Ping, 2: Ping}, "unique"), ({-1: Ping}, "-1"), ({0x10000: Ping}, "65536"), ({"1": Ping}, "'1'")],
)
async def test_registry_that_cannot_work_is_refused(registry: Any, reason: str) -> None:
    pipe: Any = Pipe()
    with pytest.raises(ConfigurationError, match=reason):
        StructuredStream(stream=pipe, serializer=JSONSerializer(), registry=registry)
