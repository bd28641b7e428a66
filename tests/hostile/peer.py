"""A peer that speaks QUIC properly (aioquic) and HTTP/3 as badly as a test wants; it remembers the answers."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pylsqpack
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.quic.stream import QuicStream

from tests.harness import SECONDS
from tests.hostile import wire
from tests.hostile.wire import FrameType, StreamType

_TURN = 16  # streams or datagrams of a flood between two turns of the event loop
_IN_FLIGHT = 1 << 18  # bytes of a flood that may wait for their acknowledgement: no flood waits in this process


@dataclass
class Answer:
    """What the server did on one stream."""

    data: bytearray = field(default_factory=bytearray)
    finished: bool = False
    reset: int | None = None
    """The code of its RESET_STREAM."""
    stopped: int | None = None
    """The code of its STOP_SENDING."""


class _Quic(QuicConnection):
    """QUIC that can stop granting credit."""

    withholds = False

    def _write_stream_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace, stream: QuicStream) -> None:
        if not self.withholds:
            super()._write_stream_limits(builder, space, stream)

    def _write_connection_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace) -> None:
        if not self.withholds:
            super()._write_connection_limits(builder, space)


class Peer(QuicConnectionProtocol):
    """One connection. Streams are their QUIC ids."""

    def __init__(self, quic: _Quic, settings: Mapping[int, int]) -> None:
        super().__init__(quic)
        self._transport_layer = quic
        self.quic: QuicConnection = quic
        self.settings = settings
        self.answers: defaultdict[int, Answer] = defaultdict(Answer)
        self.datagrams: list[bytes] = []
        self.end: events.ConnectionTerminated | None = None
        self.control = -1
        self._news = asyncio.Event()

    def datagram_received(self, data: bytes | str, addr: Any) -> None:
        super().datagram_received(data, addr)
        # Credit for more streams is no event of aioquic's.
        self._news.set()

    def quic_event_received(self, event: events.QuicEvent) -> None:
        match event:
            case events.StreamDataReceived():
                self.answers[event.stream_id].data += event.data
                self.answers[event.stream_id].finished |= event.end_stream
            case events.StreamReset():
                self.answers[event.stream_id].reset = event.error_code
            case events.StopSendingReceived():
                self.answers[event.stream_id].stopped = event.error_code
            case events.DatagramFrameReceived():
                self.datagrams.append(event.data)
            case events.ConnectionTerminated():
                self.end = event
        self._news.set()

    # Sending.

    def write(self, stream: int, data: bytes, *, fin: bool = False) -> None:
        """Send bytes on a stream, and with `fin` its end."""
        self._quic.send_stream_data(stream, data, fin)
        self._transmit_soon()

    def uni(self, data: bytes = b"", *, fin: bool = False) -> int:
        """Open a unidirectional stream that begins with these bytes."""
        return self._open(data, fin=fin, unidirectional=True)

    def bidi(self, data: bytes = b"", *, fin: bool = False) -> int:
        """Open a bidirectional stream that begins with these bytes."""
        return self._open(data, fin=fin, unidirectional=False)

    def reset(self, stream: int, code: int = wire.Code.REQUEST_CANCELLED) -> None:
        """Send RESET_STREAM."""
        self._quic.reset_stream(stream, code)
        self._transmit_soon()

    def stop(self, stream: int, code: int = wire.Code.REQUEST_CANCELLED) -> None:
        """Send STOP_SENDING."""
        self._quic.stop_stream(stream, code)
        self._transmit_soon()

    def datagram(self, data: bytes) -> None:
        """Send a DATAGRAM frame."""
        self._quic.send_datagram_frame(data)
        self._transmit_soon()

    def withhold_credit(self) -> None:
        """Grant the server no more bytes on streams from now on: what it sends fills the windows and stays there."""
        self._transport_layer.withholds = True

    def _open(self, data: bytes, *, fin: bool, unidirectional: bool) -> int:
        stream = self._quic.get_next_available_stream_id(is_unidirectional=unidirectional)
        self.write(stream, data, fin=fin)
        return stream

    def room(self, *, unidirectional: bool) -> int:
        """How many more streams of this kind the server's credit allows."""
        quic = self._quic
        limit = quic._remote_max_streams_uni if unidirectional else quic._remote_max_streams_bidi
        return limit - quic.get_next_available_stream_id(is_unidirectional=unidirectional) // 4

    async def until_room(self, *, unidirectional: bool) -> None:
        """Wait until the server lets one more stream open: aioquic resets even those that it may not open."""
        if self.room(unidirectional=unidirectional) <= 0:
            self.transmit()
            await self.until(lambda: self.room(unidirectional=unidirectional) > 0, "credit for a stream")

    async def turn(self, count: int) -> None:
        """In a flood, after item number `count`: send what was queued, let the answers in, keep the server's pace."""
        if count % _TURN == _TURN - 1:
            self.transmit()
            await asyncio.sleep(0)
            await self.until(lambda: self._unacknowledged() < _IN_FLIGHT, "what was sent is acknowledged")

    def _unacknowledged(self) -> int:
        streams = sum(len(stream.sender._buffer) for stream in self._quic._streams.values())
        return streams + sum(map(len, self._quic._datagrams_pending))

    async def sent(self) -> None:
        """Wait until the server has acknowledged everything up to here (a PING comes after it)."""
        async with asyncio.timeout(SECONDS):
            await self.ping()

    # Answers.

    async def until(self, condition: Callable[[], bool], what: str, seconds: float = SECONDS) -> None:
        """Wait for a condition on the answers; fails at once when the connection ends without it."""
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    assert self.end is None, f"{what}: the connection ended with {_describe(self.end)}"
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"{what}: not within {seconds} s") from None

    async def close_code(self, seconds: float = SECONDS) -> int:
        """Wait for the server's CONNECTION_CLOSE of the application; its code."""
        await self.until(lambda: self.end is not None, "connection closed", seconds)
        assert self.end is not None
        assert self.end.frame_type is None, f"not closed by HTTP/3: {_describe(self.end)}"
        return self.end.error_code

    async def reset_code(self, stream: int, seconds: float = SECONDS) -> int:
        """Wait for the server's RESET_STREAM; its code."""
        await self.until(lambda: self.answers[stream].reset is not None, f"stream {stream} reset", seconds)
        code = self.answers[stream].reset
        assert code is not None
        return code

    async def stop_code(self, stream: int, seconds: float = SECONDS) -> int:
        """Wait for the server's STOP_SENDING; its code."""
        await self.until(lambda: self.answers[stream].stopped is not None, f"stream {stream} stopped", seconds)
        code = self.answers[stream].stopped
        assert code is not None
        return code

    async def finished(self, stream: int) -> bytes:
        """Wait for the end of what the server sends on a stream."""
        await self.until(lambda: self.answers[stream].finished, f"stream {stream} finished")
        return bytes(self.answers[stream].data)

    async def response(self, stream: int) -> dict[bytes, bytes]:
        """Wait for the server's HEADERS on a request stream."""
        await self.until(lambda: self._section(stream) is not None, f"response on stream {stream}")
        section = self._section(stream)
        assert section is not None
        _, fields = pylsqpack.Decoder(0, 0).feed_header(stream, section)
        return dict(fields)

    def _section(self, stream: int) -> bytes | None:
        data = bytes(self.answers[stream].data)
        if (kind := wire.read_varint(data)) is None or (length := wire.read_varint(data[kind[1] :])) is None:
            return None
        assert kind[0] == FrameType.HEADERS, f"no HEADERS frame first: {data[:20].hex()}"
        start = kind[1] + length[1]
        return data[start : start + length[0]] if len(data) >= start + length[0] else None

    # What is proper.

    def request(self, path: str = "/echo") -> bytes:
        """The HEADERS frame of a session request in the dialect of this peer's settings."""
        extra = [(b"sec-webtransport-http3-draft02", b"1")] if wire.is_draft_02(self.settings) else []
        return wire.connect_request(path, wire.token(self.settings), extra)

    async def session(self, path: str = "/echo") -> int:
        """Open a session as one should; its id."""
        stream = self.bidi(self.request(path))
        response = await self.response(stream)
        assert response[b":status"] == b"200", response
        return stream

    async def echoes(self, session: int) -> None:
        """Check that a session on /echo lives: one bidirectional stream there and back."""
        stream = self.bidi(wire.bidi_header(session) + b"alive", fin=True)
        assert await self.finished(stream) == b"alive"

    def is_open(self) -> bool:
        """Whether the server has not closed the connection."""
        return self.end is None

    def leave(self) -> None:
        """Close, and forget the connection without waiting for its draining period."""
        self.close(wire.Code.NO_ERROR)
        self._forget()

    def vanish(self) -> None:
        """Fall silent, as a machine does that loses its power."""
        assert self._transport is not None
        self._transport.close()
        self._forget()

    def _forget(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._transmit_task is not None:
            self._transmit_task.cancel()


@contextlib.asynccontextmanager
async def connect(
    port: int,
    settings: Mapping[int, int] | None = wire.DRAFT_15,
    *,
    datagrams: bool = True,
    idle_timeout: float = 60.0,
    max_data: int = 1 << 20,
) -> AsyncIterator[Peer]:
    """A connection to a server on 127.0.0.1, with a control stream of these settings (None: without one)."""
    configuration = QuicConfiguration(
        alpn_protocols=["h3"],
        server_name="localhost",
        verify_mode=ssl.CERT_NONE,
        idle_timeout=idle_timeout,
        max_data=max_data,
        max_datagram_frame_size=65535 if datagrams else None,
    )
    transport, peer = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: Peer(_Quic(configuration=configuration), settings or {}), local_addr=("127.0.0.1", 0)
    )
    try:
        peer.connect(("127.0.0.1", port))
        async with asyncio.timeout(SECONDS):
            await peer.wait_connected()
        if settings is not None:
            peer.control = peer.uni(wire.varint(StreamType.CONTROL) + wire.settings(settings))
        yield peer
    finally:
        if not transport.is_closing():
            peer.leave()
            transport.close()


def _describe(end: events.ConnectionTerminated) -> str:
    return f"{end.error_code:#x} ({end.reason_phrase!r}, frame {end.frame_type})"
