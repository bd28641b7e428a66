"""Bytes of HTTP/3 and WebTransport, written from the RFCs: nothing here comes from the library under test.

Nothing is checked either, so whatever a peer must not send can be made.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

Pairs = list[tuple[bytes, bytes]]

LARGEST = (1 << 62) - 1  # what a varint can hold


class Code(IntEnum):
    """Error codes of HTTP/3, QPACK and WebTransport."""

    DATAGRAM_ERROR = 0x33
    NO_ERROR = 0x100
    STREAM_CREATION_ERROR = 0x103
    CLOSED_CRITICAL_STREAM = 0x104
    FRAME_UNEXPECTED = 0x105
    FRAME_ERROR = 0x106
    EXCESSIVE_LOAD = 0x107
    ID_ERROR = 0x108
    SETTINGS_ERROR = 0x109
    MISSING_SETTINGS = 0x10A
    REQUEST_REJECTED = 0x10B
    REQUEST_CANCELLED = 0x10C
    REQUEST_INCOMPLETE = 0x10D
    MESSAGE_ERROR = 0x10E
    QPACK_DECOMPRESSION_FAILED = 0x200
    QPACK_ENCODER_STREAM_ERROR = 0x201
    QPACK_DECODER_STREAM_ERROR = 0x202
    WT_BUFFERED_STREAM_REJECTED = 0x3994BD84
    WT_SESSION_GONE = 0x170D7B68
    WT_FLOW_CONTROL_ERROR = 0x045D4487


class FrameType(IntEnum):
    """Frames of HTTP/3."""

    DATA = 0x00
    HEADERS = 0x01
    CANCEL_PUSH = 0x03
    SETTINGS = 0x04
    PUSH_PROMISE = 0x05
    GOAWAY = 0x07
    MAX_PUSH_ID = 0x0D
    WT_STREAM = 0x41
    PRIORITY_UPDATE = 0xF0700


class StreamType(IntEnum):
    """Unidirectional streams."""

    CONTROL = 0x00
    PUSH = 0x01
    QPACK_ENCODER = 0x02
    QPACK_DECODER = 0x03
    WEBTRANSPORT = 0x54


class CapsuleType(IntEnum):
    """Capsules."""

    DATAGRAM = 0x00
    CLOSE = 0x2843
    DRAIN = 0x78AE
    MAX_DATA = 0x190B4D3D
    MAX_STREAM_DATA = 0x190B4D3E
    MAX_STREAMS_BIDI = 0x190B4D3F
    MAX_STREAMS_UNI = 0x190B4D40
    DATA_BLOCKED = 0x190B4D41
    STREAM_DATA_BLOCKED = 0x190B4D42
    STREAMS_BLOCKED_BIDI = 0x190B4D43
    STREAMS_BLOCKED_UNI = 0x190B4D44


DRAFT_15 = {0x2C7CF000: 1, 0x08: 1, 0x33: 1}
DRAFT_07 = {0xC671706A: 1, 0x08: 1, 0x33: 1}
DRAFT_02 = {0x2B603742: 1, 0xFFD277: 1, 0x33: 1, 0x08: 1}
FLOW_CONTROL = {**DRAFT_15, 0x2B61: 1 << 20, 0x2B64: 100, 0x2B65: 100}
"""The settings of a client of each kind."""

DIALECTS = {"draft-02": DRAFT_02, "draft-07": DRAFT_07, "draft-15": DRAFT_15}

GREASE = (0x21, 0x1F * 7 + 0x21, 0x1F * 10_000_000 + 0x21)
"""Types that RFC 9114 section 7.2.8 reserves to be ignored."""
CAPSULE_GREASE = (0x17, 0x29 * 7 + 0x17, 0x29 * 10_000_000 + 0x17)
"""Capsule types that RFC 9297 section 5.4 reserves to be ignored."""


def varint(value: int, size: int | None = None) -> bytes:
    """Encode an integer in the shortest form, or in `size` bytes."""
    size = size or next(size for size in (1, 2, 4, 8) if value < 1 << (8 * size - 2))
    return (value | (size.bit_length() - 1) << (8 * size - 2)).to_bytes(size, "big")


def frame(kind: int, payload: bytes = b"", *, announced: int | None = None) -> bytes:
    """Make a frame; `announced` is a length that is not that of the payload."""
    return varint(kind) + varint(len(payload) if announced is None else announced) + payload


capsule = frame  # the same shape, in the payload of DATA frames


def data(*capsules: bytes) -> bytes:
    """Make a DATA frame of capsules."""
    return frame(FrameType.DATA, b"".join(capsules))


def close_capsule(code: int, reason: bytes) -> bytes:
    """WT_CLOSE_SESSION with whatever reason."""
    return capsule(CapsuleType.CLOSE, code.to_bytes(4, "big") + reason)


def settings(values: Mapping[int, int] | list[tuple[int, int]]) -> bytes:
    """Make a SETTINGS frame; a list may repeat itself."""
    pairs = list(values.items()) if isinstance(values, Mapping) else values
    return frame(FrameType.SETTINGS, b"".join(varint(key) + varint(value) for key, value in pairs))


def prefixed(value: int, bits: int, first: int) -> bytes:
    """Encode an integer with a prefix of so many bits (RFC 7541 section 5.1) in a byte that begins with `first`."""
    limit = (1 << bits) - 1
    if value < limit:
        return bytes([first | value])
    rest, value = [first | limit], value - limit
    while value >= 128:
        rest.append(value & 127 | 128)
        value >>= 7
    return bytes([*rest, value])


def field_section(fields: Pairs) -> bytes:
    """Encode fields with literal names and values, no table and no Huffman (RFC 9204 section 4.5.6)."""
    lines = (prefixed(len(name), 3, 0x20) + name + prefixed(len(value), 7, 0) + value for name, value in fields)
    return b"\x00\x00" + b"".join(lines)


def headers(fields: Pairs) -> bytes:
    """Make a HEADERS frame."""
    return frame(FrameType.HEADERS, field_section(fields))


def connect_fields(path: str = "/echo", protocol: str = "webtransport-h3") -> dict[bytes, bytes]:
    """The fields of an ordinary session request."""
    return {
        b":method": b"CONNECT",
        b":scheme": b"https",
        b":authority": b"127.0.0.1",
        b":path": path.encode(),
        b":protocol": protocol.encode(),
    }


def connect_request(path: str = "/echo", protocol: str = "webtransport-h3", extra: Pairs | None = None) -> bytes:
    """Make the HEADERS frame of a session request, with fields at its end."""
    return headers([*connect_fields(path, protocol).items(), *(extra or [])])


def is_draft_02(settings: Mapping[int, int]) -> bool:
    """Whether draft-02 is the newest dialect that a client with these settings speaks."""
    return 0x2B603742 in settings and not {0x2C7CF000, 0xC671706A} & settings.keys()


def token(settings: Mapping[int, int]) -> str:
    """The `:protocol` of a client with these settings, which is a draft-15 client when they name none."""
    older = {0x2B603742, 0xC671706A} & settings.keys()
    return "webtransport" if older and 0x2C7CF000 not in settings else "webtransport-h3"


def quarter_id(session: int, payload: bytes = b"") -> bytes:
    """Make the payload of a DATAGRAM frame."""
    return varint(session // 4) + payload


def uni_header(session: int) -> bytes:
    """The beginning of a unidirectional stream of a session."""
    return varint(StreamType.WEBTRANSPORT) + varint(session)


def bidi_header(session: int) -> bytes:
    """The beginning of a bidirectional stream of a session."""
    return varint(FrameType.WT_STREAM) + varint(session)


def read_varint(encoded: bytes) -> tuple[int, int] | None:
    """Decode an integer at the beginning: (value, bytes used); None when it is not complete."""
    if not encoded or len(encoded) < (size := 1 << (encoded[0] >> 6)):
        return None
    return int.from_bytes(encoded[:size], "big") & ((1 << (8 * size - 2)) - 1), size
