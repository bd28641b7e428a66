"""The Baton message, section "Baton message", and the codes of section "Error Handling"."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import IntEnum

from pywebtransport import WebTransportReceiveStream

__all__: list[str] = ["PATH", "Foul", "Message", "SessionCode", "StreamCode", "read_message"]

PATH = "/webtransport/devious-baton"

_CHUNK = 65536  # bytes of padding that are held at a time, however much the peer announces


class StreamCode(IntEnum):
    """Codes of stream resets and stops."""

    IDC = 0x01  # the receiver does not care for the stream
    WHATEVER = 0x02  # the answer to the peer's stop or reset
    I_LIED = 0x03  # a reset out of the blue


class SessionCode(IntEnum):
    """Codes of session closes."""

    DA_YAMN = 0x01  # no stream credit
    BRUH = 0x02  # a malformed message
    SUS = 0x03  # an unexpected message
    BORED = 0x04  # waited too long


class Foul(Exception):
    """The peer broke a rule, or let us wait too long: the session has to be closed with the code."""

    def __init__(self, code: SessionCode, reason: str) -> None:
        super().__init__(f"{code.name}: {reason}")
        self.code = code
        self.reason = reason


@dataclass(frozen=True)
class Message:
    """A baton behind so many bytes of padding: the padding's length as a QUIC varint, the padding, one byte."""

    baton: int
    padding: int = 0

    def encode(self) -> bytes:
        """Return the bytes for the wire."""
        return _encode_varint(self.padding) + bytes(self.padding) + bytes([self.baton])

    @classmethod
    def decode(cls, data: bytes) -> Message:
        """Parse a datagram.

        Raises:
            Foul: it is not exactly one message.
        """
        size = _varint_size(data[0]) if data else 1
        padding = _decode_varint(data[:size])
        if len(data) != size + padding + 1:
            raise Foul(SessionCode.BRUH, "the datagram is not one whole message")
        return cls(baton=data[-1], padding=padding)


async def read_message(stream: WebTransportReceiveStream) -> Message:
    """Read one message and the end of the stream behind it. Padding costs no memory.

    Raises:
        Foul: the stream ended too early, or too late.
        StreamError: the peer reset the stream, or the session ended.
        TimeoutError: nothing came within `config.read_timeout`.
    """
    try:
        first = await stream.readexactly(1)
        padding = _decode_varint(first + await stream.readexactly(_varint_size(first[0]) - 1))
        left = padding
        while left:
            left -= len(await stream.readexactly(min(left, _CHUNK)))
        baton = (await stream.readexactly(1))[0]
    except asyncio.IncompleteReadError as error:
        raise Foul(SessionCode.BRUH, "the stream ended within a message") from error
    if await stream.read(1):
        raise Foul(SessionCode.BRUH, "the stream goes on behind its message")
    return Message(baton=baton, padding=padding)


def _encode_varint(value: int) -> bytes:
    """RFC 9000 section 16: two bits tell the length, 1, 2, 4 or 8 bytes; the value follows in network order."""
    for exponent in range(4):
        size = 1 << exponent
        if value < 1 << (8 * size - 2):
            return (exponent << (8 * size - 2) | value).to_bytes(size, "big")
    raise ValueError(f"{value} does not fit a QUIC varint")


def _varint_size(first: int) -> int:
    return 1 << (first >> 6)


def _decode_varint(data: bytes) -> int:
    return int.from_bytes(data, "big") & ((1 << (8 * len(data) - 2)) - 1) if data else 0
