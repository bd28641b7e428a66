"""Control, QPACK and push streams that break the rules of RFC 9114 section 6.2 and RFC 9204 section 4.2.

Each of these ends the connection, with the code the RFC names; nobody else notices. Memory: one connection's, gone with
it. A frame of the control stream is collected up to 4 KiB, everything else is judged by its header.
"""

from __future__ import annotations

import pytest

from tests.hostile import wire
from tests.hostile.server import ServerProcess
from tests.hostile.wire import LARGEST, Code, FrameType, StreamType, frame, settings, varint

CRITICAL = [StreamType.CONTROL, StreamType.QPACK_ENCODER, StreamType.QPACK_DECODER]
SETTINGS = settings(wire.DRAFT_15)


@pytest.mark.parametrize("how", ["finished", "reset"])
@pytest.mark.parametrize("kind", CRITICAL)
async def test_a_critical_stream_that_is_closed(server: ServerProcess, kind: StreamType, how: str) -> None:
    async with server.connect() as peer:
        stream = peer.control if kind == StreamType.CONTROL else peer.uni(varint(kind))
        # The server has seen its type: a reset before that would close a stream of no type.
        await peer.echoes(await peer.session())
        if how == "finished":
            peer.write(stream, b"", fin=True)
        else:
            peer.reset(stream)
        assert await peer.close_code() == Code.CLOSED_CRITICAL_STREAM


@pytest.mark.parametrize("kind", CRITICAL)
async def test_a_second_critical_stream(server: ServerProcess, kind: StreamType) -> None:
    async with server.connect() as peer:
        if kind != StreamType.CONTROL:
            peer.uni(varint(kind))
        peer.uni(varint(kind))
        assert await peer.close_code() == Code.STREAM_CREATION_ERROR


@pytest.mark.parametrize(
    "first",
    [
        frame(FrameType.GOAWAY, varint(0)),
        frame(FrameType.MAX_PUSH_ID, varint(0)),
        frame(FrameType.DATA),
        frame(FrameType.HEADERS),
        # RFC 9114 section 6.2.1 makes no exception for types that are ignored elsewhere.
        *(frame(kind) for kind in wire.GREASE),
        frame(0x5000, announced=LARGEST),
    ],
    ids=lambda first: first.hex(),
)
async def test_a_control_stream_that_does_not_begin_with_settings(server: ServerProcess, first: bytes) -> None:
    async with server.connect(settings=None) as peer:
        peer.uni(varint(StreamType.CONTROL) + first + SETTINGS)
        assert await peer.close_code() == Code.MISSING_SETTINGS


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        # Settings of HTTP/2 (RFC 9114 section 7.2.4.1).
        *(([(number, 1)], Code.SETTINGS_ERROR) for number in (0x00, 0x02, 0x03, 0x04, 0x05)),
        # Values that are neither 0 nor 1 (RFC 9220, RFC 9297 section 2.1.1).
        ([(0x08, 2)], Code.SETTINGS_ERROR),
        ([(0x33, 2)], Code.SETTINGS_ERROR),
        # The same one twice, known and unknown (RFC 9114 section 7.2.4).
        ([(0x33, 1), (0x33, 1)], Code.SETTINGS_ERROR),
        ([(0x4321, 0), (0x4321, 1)], Code.SETTINGS_ERROR),
    ],
    ids=str,
)
async def test_settings_that_are_not_allowed(server: ServerProcess, bad: list[tuple[int, int]], code: Code) -> None:
    async with server.connect(settings=None) as peer:
        peer.uni(varint(StreamType.CONTROL) + settings(bad))
        assert await peer.close_code() == code


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        pytest.param(frame(FrameType.SETTINGS, varint(0x33)), Code.FRAME_ERROR, id="ends inside a setting"),
        pytest.param(frame(FrameType.SETTINGS, announced=LARGEST), Code.EXCESSIVE_LOAD, id="2^62-1 bytes"),
        pytest.param(frame(FrameType.SETTINGS, announced=5000) + bytes(100), Code.EXCESSIVE_LOAD, id="5000 bytes"),
        pytest.param(SETTINGS + SETTINGS, Code.FRAME_UNEXPECTED, id="twice"),
    ],
)
async def test_settings_frames_that_are_not_allowed(server: ServerProcess, bad: bytes, code: Code) -> None:
    """The payload of a SETTINGS frame is collected up to 4 KiB; more is refused by its announced length."""
    async with server.connect(settings=None) as peer:
        peer.uni(varint(StreamType.CONTROL) + bad)
        assert await peer.close_code() == code


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (frame(FrameType.DATA, b"x"), Code.FRAME_UNEXPECTED),
        (frame(FrameType.DATA, announced=LARGEST), Code.FRAME_UNEXPECTED),
        (frame(FrameType.HEADERS, b"x"), Code.FRAME_UNEXPECTED),
        (frame(FrameType.PUSH_PROMISE, b"\0\0"), Code.FRAME_UNEXPECTED),
        # Frames of HTTP/2 (RFC 9114 section 7.2.8).
        *((frame(kind), Code.FRAME_UNEXPECTED) for kind in (0x02, 0x06, 0x08, 0x09)),
        # The signal of a WebTransport stream (draft-16 section 4.3).
        (wire.bidi_header(0), Code.FRAME_ERROR),
        # Payloads that are not exactly one id.
        (frame(FrameType.GOAWAY), Code.FRAME_ERROR),
        (frame(FrameType.GOAWAY, b"\0\0"), Code.FRAME_ERROR),
        (frame(FrameType.GOAWAY, announced=LARGEST), Code.FRAME_ERROR),
        (frame(FrameType.MAX_PUSH_ID, b"\0\0"), Code.FRAME_ERROR),
        (frame(FrameType.CANCEL_PUSH, b"\x40"), Code.FRAME_ERROR),
        (frame(FrameType.PRIORITY_UPDATE), Code.FRAME_ERROR),
        # Ids that cannot be: growing, shrinking, never promised, no request.
        (frame(FrameType.GOAWAY, varint(4)) + frame(FrameType.GOAWAY, varint(8)), Code.ID_ERROR),
        (frame(FrameType.MAX_PUSH_ID, varint(8)) + frame(FrameType.MAX_PUSH_ID, varint(4)), Code.ID_ERROR),
        (frame(FrameType.CANCEL_PUSH, varint(0)), Code.ID_ERROR),
        (frame(FrameType.PRIORITY_UPDATE, varint(3) + b"u=1"), Code.ID_ERROR),
        # A PRIORITY_UPDATE whose value would have to be kept.
        (frame(FrameType.PRIORITY_UPDATE, announced=LARGEST), Code.EXCESSIVE_LOAD),
    ],
    ids=lambda value: value.hex() if isinstance(value, bytes) else None,
)
async def test_frames_that_are_not_allowed_on_a_control_stream(server: ServerProcess, bad: bytes, code: Code) -> None:
    async with server.connect() as peer:
        peer.write(peer.control, bad)
        assert await peer.close_code() == code


@pytest.mark.parametrize(
    ("stream", "code"),
    [
        # A table capacity above the announced 0, and an insertion (RFC 9204 sections 4.3.1, 4.3.3).
        (b"\x02\x3f\xe1\x1f", Code.QPACK_ENCODER_STREAM_ERROR),
        (b"\x02\x41a\x01b", Code.QPACK_ENCODER_STREAM_ERROR),
        # An acknowledgement and an increment for nothing (sections 4.4.1, 4.4.3), an endless stream id.
        (b"\x03\x80", Code.QPACK_DECODER_STREAM_ERROR),
        (b"\x03\x01", Code.QPACK_DECODER_STREAM_ERROR),
        (b"\x03\x7f" + b"\xff" * 20, Code.QPACK_DECODER_STREAM_ERROR),
    ],
    ids=lambda value: value.hex() if isinstance(value, bytes) else None,
)
async def test_instructions_for_a_table_that_does_not_exist(server: ServerProcess, stream: bytes, code: Code) -> None:
    async with server.connect() as peer:
        peer.uni(stream)
        assert await peer.close_code() == code


async def test_a_push_stream_of_a_client(server: ServerProcess) -> None:
    async with server.connect() as peer:
        peer.uni(varint(StreamType.PUSH) + varint(0))
        assert await peer.close_code() == Code.STREAM_CREATION_ERROR


async def test_grease_is_tolerated_everywhere(server: ServerProcess) -> None:
    """Reserved settings, frames, streams and capsules: the session lives on the same connection. Nothing is kept."""
    grease = b"".join(frame(kind, b"grease") for kind in wire.GREASE)
    capsules = b"".join(wire.capsule(kind, b"grease") for kind in wire.CAPSULE_GREASE)
    async with server.connect({**dict.fromkeys(wire.GREASE, 7), **wire.DRAFT_15}) as peer:
        peer.write(peer.control, grease)
        for kind in wire.GREASE:
            refused = peer.uni(varint(kind) + b"grease")
            assert await peer.stop_code(refused) == Code.STREAM_CREATION_ERROR
        request = peer.bidi(grease + wire.connect_request(extra=[(b"grease", b"?")]) + grease)
        peer.write(request, wire.data(capsules) + grease + wire.data() + wire.data(capsules))
        assert (await peer.response(request))[b":status"] == b"200"
        peer.write(peer.control, grease + frame(FrameType.PRIORITY_UPDATE, varint(request) + b"u=1, i"))
        await peer.echoes(request)
        peer.write(request, b"", fin=True)
        await peer.finished(request)
        assert peer.is_open()
