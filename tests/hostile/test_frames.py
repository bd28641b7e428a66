"""Floods of frames and instructions that are allowed and mean nothing (RFC 9114 section 10.5).

Memory: none. Frames are read from where QUIC left them, reserved ones and pieces of DATA dropped as they come, a
PRIORITY_UPDATE is checked and forgotten; of GOAWAY and MAX_PUSH_ID the last number is kept.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.hostile import wire
from tests.hostile.server import ServerProcess
from tests.hostile.wire import FrameType, StreamType, frame, varint

_GREASE = b"".join(frame(kind, b"grease") for kind in wire.GREASE)
_CONTROL: dict[str, Callable[[int], bytes]] = {
    "reserved frames": lambda _: _GREASE,
    "empty frames": lambda _: frame(0x5000),
    "updates of one priority": lambda _: frame(FrameType.PRIORITY_UPDATE, varint(0) + b"u=1, i"),
    "updates of many priorities": lambda n: frame(FrameType.PRIORITY_UPDATE, varint(4 * n) + b"u=7"),
    "push ids": lambda n: frame(FrameType.MAX_PUSH_ID, varint(n)),
    "goaway": lambda _: frame(FrameType.GOAWAY, varint(0)),
}


@pytest.mark.parametrize("case", _CONTROL)
async def test_on_the_control_stream(either_server: ServerProcess, case: str) -> None:
    """20 000 frames; a session on the same connection goes on and so do the others."""
    make = _CONTROL[case]
    async with either_server.bystander() as bystander, either_server.connect(wire.FLOW_CONTROL) as peer:
        session = await peer.session()
        with either_server.grows_less_than(8):
            for number in bystander.during(200):
                peer.write(peer.control, b"".join(make(100 * number + n) for n in range(100)))
                await peer.turn(number)
            await peer.sent()
        await peer.echoes(session)


@pytest.mark.parametrize(
    ("stream", "instruction"),
    [
        # Set Dynamic Table Capacity 0, Stream Cancellation (RFC 9204 sections 4.3.1, 4.4.2).
        pytest.param(StreamType.QPACK_ENCODER, b"\x20", id="capacities"),
        pytest.param(StreamType.QPACK_DECODER, b"\x40", id="cancellations"),
        pytest.param(StreamType.QPACK_DECODER, b"\x7f\x80\x80\x80\x00", id="cancellations of long ids"),
    ],
)
async def test_on_qpack_streams(server: ServerProcess, stream: StreamType, instruction: bytes) -> None:
    """The same with instructions that are allowed without a table."""
    async with server.bystander() as bystander, server.connect() as peer:
        session, instructions = await peer.session(), peer.uni(varint(stream))
        with server.grows_less_than(8):
            for number in bystander.during(100):
                peer.write(instructions, instruction * 1_000)
                await peer.turn(number)
            await peer.sent()
        await peer.echoes(session)


_REQUEST = {
    "reserved frames": _GREASE,
    "empty frames": frame(0x5000),
    "empty data": wire.data(),
    "data of one byte": wire.data(b"\x40") + wire.data(b"\x17") + wire.data(b"\x00"),
}


@pytest.mark.parametrize("case", _REQUEST)
async def test_in_a_session(either_server: ServerProcess, case: str) -> None:
    """20 000 frames on a CONNECT stream; a DATA frame of length 0 is not the end of anything."""
    async with either_server.bystander() as bystander, either_server.connect(wire.FLOW_CONTROL) as peer:
        session = await peer.session()
        with either_server.grows_less_than(8):
            for number in bystander.during(200):
                peer.write(session, _REQUEST[case] * 100)
                await peer.turn(number)
            await peer.sent()
        await peer.echoes(session)


async def test_before_a_request(server: ServerProcess) -> None:
    """20 000 reserved frames come before HEADERS: RFC 9114 section 9 allows them, and the session is opened."""
    async with server.bystander() as bystander, server.connect() as peer:
        session = peer.bidi()
        with server.grows_less_than(8):
            for number in bystander.during(200):
                peer.write(session, frame(wire.GREASE[number % 3]) * 100)
                await peer.turn(number)
        peer.write(session, peer.request())
        assert (await peer.response(session))[b":status"] == b"200"
        await peer.echoes(session)


async def test_streams_of_unknown_kinds(server: ServerProcess) -> None:
    """2 000 unidirectional streams of reserved types: each is stopped, none is remembered."""
    async with server.bystander() as bystander, server.connect() as peer:
        session, unknown = await peer.session(), []
        with server.grows_less_than(8):
            for number in bystander.during(2_000):
                await peer.until_room(unidirectional=True)
                unknown.append(peer.uni(varint(wire.GREASE[number % 3]) + b"grease"))
                await peer.turn(number)
            for stream in unknown:
                assert await peer.stop_code(stream) == wire.Code.STREAM_CREATION_ERROR
        await peer.echoes(session)
