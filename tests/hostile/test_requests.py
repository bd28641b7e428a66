"""Request streams that break the rules of RFC 9114 section 4, RFC 9204 and draft-16 section 3.

A field section is collected up to the 64 KiB that SETTINGS announce, and only for one frame at a time; every other
length is judged when it is announced. A malformed message costs its stream alone, an impossible frame the connection.
"""

from __future__ import annotations

import pytest

from tests.hostile import wire
from tests.hostile.server import ServerProcess
from tests.hostile.wire import LARGEST, Code, FrameType, Pairs, connect_fields, frame, headers, prefixed

_UNDECODABLE = {
    "empty": b"",
    "ends in its prefix": b"\0",
    "dynamic table": b"\x02\0\x80",
    "negative base": b"\0\x80\xd1",
    "dynamic entry": b"\0\0\x80",
    "static entry 99": b"\0\0" + prefixed(99, 6, 0xC0),
    "static entry 2^62": b"\0\0\xff" + b"\xff" * 8 + b"\x3f",
    "name that is cut off": b"\0\0\x27\x10abc",
    "value that is cut off": b"\0\0\x21a\x7f\xff\xff\xff\xff\x07",
    "Huffman code that is none": b"\0\0\x2c\xff\xff\xff\xff",
}


def _fields(**changes: bytes | None) -> Pairs:
    """An ordinary request with other pseudo-headers; None leaves one out."""
    fields = connect_fields() | {b":" + name.encode(): value for name, value in changes.items() if value is not None}
    return [(name, value) for name, value in fields.items() if changes.get(name.decode()[1:], b"") is not None]


_ORDINARY = _fields()
_MALFORMED = {
    "no method": _fields(method=None),
    "no scheme": _fields(scheme=None),
    "no authority": _fields(authority=None),
    "no path": _fields(path=None),
    "empty authority": _fields(authority=b""),
    "userinfo in authority": _fields(authority=b"user@127.0.0.1"),
    "empty path": _fields(path=b""),
    "path that is none": _fields(path=b"echo"),
    "scheme http": _fields(scheme=b"http"),
    "protocol without CONNECT": _fields(method=b"GET"),
    "method that is no token": _fields(method=b"CON NECT"),
    "repeated pseudo-header": [*_ORDINARY, (b":path", b"/echo")],
    "unknown pseudo-header": [*_ORDINARY, (b":grease", b"1")],
    "pseudo-header of responses": [*_ORDINARY, (b":status", b"200")],
    "pseudo-header after a header": [*_ORDINARY[:-1], (b"a", b"b"), _ORDINARY[-1]],
    "upper case": [*_ORDINARY, (b"Origin", b"https://localhost")],
    "empty name": [*_ORDINARY, (b"", b"value")],
    "name that is no token": [*_ORDINARY, (b"a b", b"value")],
    "newline in a value": [*_ORDINARY, (b"a", b"1\r\nb: 2")],
    "zero in a value": [*_ORDINARY, (b"a", b"1\0")],
    "connection": [*_ORDINARY, (b"connection", b"keep-alive")],
    "transfer-encoding": [*_ORDINARY, (b"transfer-encoding", b"chunked")],
    "te": [*_ORDINARY, (b"te", b"gzip")],
    "content-length": [*_ORDINARY, (b"content-length", b"5")],
    "host that differs": [*_ORDINARY, (b"host", b"example.org")],
}


@pytest.mark.parametrize("case", _MALFORMED)
async def test_malformed_requests(server: ServerProcess, case: str) -> None:
    """The stream is reset and stopped with H3_MESSAGE_ERROR; a session on the same connection works afterwards."""
    async with server.connect() as peer:
        stream = peer.bidi(headers(_MALFORMED[case]))
        assert await peer.reset_code(stream) == Code.MESSAGE_ERROR
        assert await peer.stop_code(stream) == Code.MESSAGE_ERROR
        await peer.echoes(await peer.session())


@pytest.mark.parametrize("case", _UNDECODABLE)
async def test_field_sections_that_cannot_be_decoded(server: ServerProcess, case: str) -> None:
    """RFC 9204 section 2.2: the connection is closed with QPACK_DECOMPRESSION_FAILED."""
    async with server.connect() as peer:
        peer.bidi(frame(FrameType.HEADERS, _UNDECODABLE[case]))
        assert await peer.close_code() == Code.QPACK_DECOMPRESSION_FAILED


async def test_an_integer_that_is_too_large(server: ServerProcess) -> None:
    """RFC 9204 section 7.4: an error of its stream. A session on the same connection works afterwards."""
    async with server.connect() as peer:
        stream = peer.bidi(frame(FrameType.HEADERS, b"\0\0\xff" + b"\xff" * 100))
        assert await peer.reset_code(stream) == Code.QPACK_DECOMPRESSION_FAILED
        assert await peer.stop_code(stream) == Code.QPACK_DECOMPRESSION_FAILED
        await peer.echoes(await peer.session())


@pytest.mark.parametrize(
    "bomb",
    [
        pytest.param(frame(FrameType.HEADERS, announced=LARGEST), id="2^62-1 bytes announced"),
        pytest.param(frame(FrameType.HEADERS, announced=65_537), id="one byte too many announced"),
        pytest.param(headers([*_ORDINARY, (b"a", bytes(70_000))]), id="a long value"),
        pytest.param(headers([*_ORDINARY, (b"n" * 70_000, b"")]), id="a long name"),
        # 32 bytes of overhead count for each field (RFC 9114 section 4.2.2): 2 048 empty ones are too many.
        pytest.param(headers([*_ORDINARY, *[(b"a", b"")] * 2_048]), id="many fields"),
        # 31 000 bytes on the wire, 1.1 MB when counted: two bytes for a field of the static table.
        pytest.param(frame(FrameType.HEADERS, b"\0\0" + b"\xff\x00" * 15_000), id="a small section that unpacks"),
    ],
)
async def test_header_bombs(server: ServerProcess, bomb: bytes) -> None:
    """A field section above 64 KiB, encoded or decoded: its stream ends with H3_EXCESSIVE_LOAD, the connection lives.

    Memory: at most 64 KiB encoded, and decoding stops at 64 KiB counted.
    """
    async with server.connect() as peer:
        stream = peer.bidi(bomb)
        assert await peer.reset_code(stream) == Code.EXCESSIVE_LOAD
        assert await peer.stop_code(stream) == Code.EXCESSIVE_LOAD
        await peer.echoes(await peer.session())


_NEVER_ON_A_REQUEST_STREAM = [
    # Frames of the control stream (RFC 9114 section 7.2).
    (frame(FrameType.CANCEL_PUSH, b"\0"), Code.FRAME_UNEXPECTED),
    (wire.settings(wire.DRAFT_15), Code.FRAME_UNEXPECTED),
    (frame(FrameType.SETTINGS, announced=LARGEST), Code.FRAME_UNEXPECTED),
    (frame(FrameType.PUSH_PROMISE, b"\0\0"), Code.FRAME_UNEXPECTED),
    (frame(FrameType.GOAWAY, b"\0"), Code.FRAME_UNEXPECTED),
    (frame(FrameType.MAX_PUSH_ID, b"\0"), Code.FRAME_UNEXPECTED),
    (frame(FrameType.PRIORITY_UPDATE, b"\0u=1"), Code.FRAME_UNEXPECTED),
    # Frames of HTTP/2 (section 7.2.8).
    *((frame(kind), Code.FRAME_UNEXPECTED) for kind in (0x02, 0x06, 0x08, 0x09)),
    # The signal of a WebTransport stream where a frame should be (draft-16 section 4.3).
    (wire.bidi_header(0), Code.FRAME_ERROR),
]


def _id(value: bytes | Code) -> str | None:
    return value.hex()[:20] if isinstance(value, bytes) else None


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        *_NEVER_ON_A_REQUEST_STREAM,
        # DATA before HEADERS (section 4.1).
        (frame(FrameType.DATA, b"x"), Code.FRAME_UNEXPECTED),
        (frame(FrameType.DATA, announced=LARGEST) + b"x", Code.FRAME_UNEXPECTED),
    ],
    ids=_id,
)
async def test_frames_that_are_not_allowed_before_a_request(server: ServerProcess, bad: bytes, code: Code) -> None:
    """The connection is closed. A reserved frame comes first, so that the stream is a request stream."""
    async with server.connect() as peer:
        peer.bidi(frame(wire.GREASE[0]) + bad)
        assert await peer.close_code() == code


@pytest.mark.parametrize(
    ("bad", "code"),
    # HEADERS again (section 4.4).
    [*_NEVER_ON_A_REQUEST_STREAM, (wire.connect_request(), Code.FRAME_UNEXPECTED)],
    ids=_id,
)
async def test_frames_that_are_not_allowed_in_a_session(server: ServerProcess, bad: bytes, code: Code) -> None:
    """The connection is closed."""
    async with server.connect() as peer:
        peer.write(await peer.session(), bad)
        assert await peer.close_code() == code


_CUT = [b"\x40", b"\x01", frame(0x5000, announced=LARGEST) + b"x"]


@pytest.mark.parametrize("cut", [*_CUT, frame(FrameType.HEADERS, announced=10) + b"\0"], ids=_id)
async def test_a_request_that_ends_inside_a_frame(server: ServerProcess, cut: bytes) -> None:
    """RFC 9114 section 7.1: the connection is closed with H3_FRAME_ERROR."""
    async with server.connect() as peer:
        peer.bidi(frame(wire.GREASE[0]) + cut, fin=True)
        assert await peer.close_code() == Code.FRAME_ERROR


@pytest.mark.parametrize("cut", [*_CUT, frame(FrameType.DATA, announced=LARGEST) + b"\0"], ids=_id)
async def test_a_session_that_ends_inside_a_frame(server: ServerProcess, cut: bytes) -> None:
    """The same for a CONNECT stream that was answered."""
    async with server.connect() as peer:
        peer.write(await peer.session(), cut, fin=True)
        assert await peer.close_code() == Code.FRAME_ERROR


@pytest.mark.parametrize(
    "beginning", [b"", b"\x40", frame(wire.GREASE[0])], ids=["nothing", "half a type", "no request"]
)
async def test_a_request_that_ends_too_early(server: ServerProcess, beginning: bytes) -> None:
    """RFC 9114 section 4.1: the stream is reset with H3_REQUEST_INCOMPLETE."""
    async with server.connect() as peer:
        stream = peer.bidi(beginning, fin=True)
        assert await peer.reset_code(stream) == Code.REQUEST_INCOMPLETE
        await peer.echoes(await peer.session())


@pytest.mark.parametrize(
    "settings",
    [{}, {0x2C7CF000: 1}, {0x08: 1, 0x33: 1}],
    ids=["none", "no datagrams", "no WebTransport"],
)
async def test_a_request_without_the_required_settings(server: ServerProcess, settings: dict[int, int]) -> None:
    """Draft-16 section 3.1: the request is malformed."""
    async with server.connect(settings) as peer:
        stream = peer.bidi(wire.connect_request())
        assert await peer.reset_code(stream) == Code.MESSAGE_ERROR
        assert peer.is_open()


async def test_a_data_frame_without_end(server: ServerProcess) -> None:
    """A DATA frame of 2^62-1 bytes holds all capsules there will ever be: none is waited for, nothing is kept."""
    async with server.connect() as peer:
        session = await peer.session()
        peer.write(session, frame(FrameType.DATA, announced=LARGEST))
        peer.write(session, wire.capsule(wire.CapsuleType.DATAGRAM, b"one"))
        await peer.until(lambda: bool(peer.datagrams), "the echo of a datagram capsule")
        assert peer.datagrams == [b"\0one"]
        peer.write(session, wire.close_capsule(7, b"bye"))
        await peer.finished(session)
        assert peer.is_open()


async def test_frames_without_end(server: ServerProcess) -> None:
    """An unknown frame of 2^62-1 bytes is skipped as it comes; the session's streams go on beside it."""
    async with server.connect() as peer:
        session = await peer.session()
        peer.write(session, frame(0x5000, announced=LARGEST))
        for _ in range(16):
            peer.write(session, bytes(65_536))
        await peer.echoes(session)


@pytest.mark.parametrize("dialect", wire.DIALECTS)
async def test_more_sessions_than_allowed(server: ServerProcess, dialect: str) -> None:
    """Draft-16 section 3.4: each of 300 surplus requests is reset with H3_REQUEST_REJECTED; the first session lives.

    Memory: a rejected request is forgotten but for its id, of which 64 are remembered.
    """
    async with server.connect(wire.DIALECTS[dialect]) as peer:
        session = await peer.session()
        surplus = []
        for number in range(300):
            await peer.until_room(unidirectional=False)
            surplus.append(peer.bidi(peer.request()))
            await peer.turn(number)
        for stream in surplus:
            assert await peer.reset_code(stream) == Code.REQUEST_REJECTED
            assert await peer.stop_code(stream) == Code.REQUEST_REJECTED
        await peer.echoes(session)
