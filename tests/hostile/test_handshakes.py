"""UDP packets from everywhere: garbage, and handshakes that nobody means to end.

Memory: garbage leaves nothing behind. A handshake costs about 57 kB until it is done or `handshake_timeout` (10 s) is
over; `max_pending_handshakes` (3000) are under way at most, and from `retry_threshold` (128) on only those of clients
that have proved their address, see test_retry.py. What is sent for one is at most three times what came, until then
(RFC 9000 section 8.1); quinn fills the last datagram up.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import ssl
import time
from collections.abc import Callable

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import QuicFrameType, QuicPacketType, QuicProtocolVersion
from aioquic.quic.packet_builder import QuicPacketBuilder

from tests.hostile import wire
from tests.hostile.server import ServerProcess

VERSION = QuicProtocolVersion.VERSION_1
FULL = 1200  # the smallest datagram that may begin a connection


class Crowd:
    """Many clients, each with an address of its own below 127.0.0.0/8, who may or may not listen to answers."""

    def __init__(self, server: ServerProcess, size: int) -> None:
        self._server = server
        self._sockets = []
        self.sent = 0
        for number in range(size):
            udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            udp.setblocking(False)
            udp.bind((f"127.{1 + number // 200}.{number % 200}.1", 0))
            self._sockets.append(udp)

    def __len__(self) -> int:
        return len(self._sockets)

    def send(self, number: int, datagram: bytes) -> None:
        """Send from one of the addresses. What a full socket buffer does not take is lost, as on a full line."""
        try:
            self._sockets[number % len(self._sockets)].sendto(datagram, self._server.address)
            self.sent += len(datagram)
        except BlockingIOError:
            pass

    def answers(self) -> list[bytes]:
        """What has come back so far."""
        received = []
        for udp in self._sockets:
            try:
                while True:
                    received.append(udp.recv(65_536))
            except BlockingIOError:
                pass
        return received

    def leave(self) -> None:
        for udp in self._sockets:
            udp.close()


def _long_header(version: int, kind: int = 0, size: int = FULL) -> bytes:
    """A long header with random ids and random bytes behind it."""
    ids = b"\x08" + os.urandom(8) + b"\x08" + os.urandom(8)
    header = bytes([0xC0 | kind << 4]) + version.to_bytes(4, "big") + ids
    if kind == 0:
        header += b"\0"  # no token
    header += wire.varint(size - len(header) - 2, 2)
    return header + os.urandom(size - len(header))


def _initial(frames: bytes) -> bytes:
    """A proper Initial packet with these frames, padded."""
    destination, source = os.urandom(8), os.urandom(8)
    crypto = CryptoPair()
    crypto.setup_initial(cid=destination, is_client=True, version=VERSION)
    builder = QuicPacketBuilder(
        host_cid=source, peer_cid=destination, is_client=True, max_datagram_size=FULL, version=VERSION
    )
    builder.start_packet(QuicPacketType.INITIAL, crypto)
    # The type of the first frame goes through the builder: it pads only what elicits an acknowledgement.
    builder.start_frame(QuicFrameType(frames[0])).push_bytes(frames[1:])
    (datagram,), _ = builder.flush()
    return datagram


def _hello(alpn: str = "h3") -> bytes:
    """The first flight of an honest client."""
    configuration = QuicConfiguration(alpn_protocols=[alpn], server_name="localhost", verify_mode=ssl.CERT_NONE)
    client = QuicConnection(configuration=configuration)
    client.connect(("127.0.0.1", 4433), now=time.monotonic())
    (first, *_) = client.datagrams_to_send(now=time.monotonic())
    return first[0]


async def test_garbage(either_server: ServerProcess) -> None:
    """20 000 packets that are none, from 200 addresses: what is answered at all is answered with less."""
    crowd = Crowd(either_server, 200)
    kinds: list[Callable[[], bytes]] = [
        lambda: b"",
        lambda: b"\0",
        lambda: os.urandom(random.randrange(2, 1500)),
        lambda: os.urandom(40_000),
        # Short headers of connections that do not exist: a stateless reset is shorter than what it answers.
        lambda: b"\x40" + os.urandom(random.randrange(20, FULL)),
        # Versions that nobody speaks, version negotiation itself, and packets too short to begin with.
        lambda: _long_header(0x1A2A3A4A),
        lambda: _long_header(0),
        lambda: _long_header(VERSION, size=100),
        # Initial, 0-RTT, Handshake and Retry packets that cannot be opened.
        lambda: _long_header(VERSION, 0),
        lambda: _long_header(VERSION, 1),
        lambda: _long_header(VERSION, 2),
        lambda: _long_header(VERSION, 3),
    ]
    async with either_server.bystander() as bystander:
        with either_server.grows_less_than(16):
            for number in bystander.during(20_000):
                crowd.send(number, kinds[number % len(kinds)]())
                if number % 16 == 15:
                    await asyncio.sleep(0)
            await bystander.trips()
    assert sum(map(len, crowd.answers())) < crowd.sent
    crowd.leave()


async def test_initials_that_say_nothing(either_server: ServerProcess) -> None:
    """Packets that are well protected, with a PING, an impossible frame, or the beginning of a ClientHello."""
    crowd = Crowd(either_server, 100)
    part = b"\x06\x00\x40\x64" + b"\x01\x00\x01\x00\x03\x03" + os.urandom(94)
    frames = [b"\x01", b"\x06\x00\x00", b"\x06\x80\x00\x10\x00\x04gaps", part, b"\x02\x00\x00\x00\x00"]
    async with either_server.bystander() as bystander:
        with either_server.grows_less_than(32):
            for number in bystander.during(len(crowd)):
                if number < len(crowd):
                    crowd.send(number, _initial(frames[number % len(frames)]))
                await asyncio.sleep(0)
            await bystander.trips()
    assert sum(map(len, crowd.answers())) <= 3 * crowd.sent
    crowd.leave()


async def test_a_flood_of_handshakes_from_spoofed_addresses(either_server: ServerProcess) -> None:
    """200 first flights from addresses that never answer: others get in meanwhile, and each handshake is forgotten."""
    crowd = Crowd(either_server, 200)
    async with either_server.bystander() as bystander:
        with either_server.grows_less_than(64):
            for number in bystander.during(len(crowd)):
                if number < len(crowd):
                    crowd.send(number, _hello())
                await asyncio.sleep(0)
            await bystander.trips()
    answers = crowd.answers()
    assert answers
    assert sum(map(len, answers)) < 3 * crowd.sent + FULL * len(crowd)
    crowd.leave()


async def test_one_first_flight_again_and_again(either_server: ServerProcess) -> None:
    """5 000 copies of one flight, from many addresses, are one handshake, and the answers go to the first of them."""
    crowd, flight = Crowd(either_server, 50), _hello()
    async with either_server.bystander() as bystander:
        with either_server.grows_less_than(8):
            for number in bystander.during(5_000):
                crowd.send(number, flight)
                if number % 16 == 15:
                    await asyncio.sleep(0)
            await bystander.trips()
    assert sum(map(len, crowd.answers())) <= 3 * crowd.sent
    crowd.leave()


async def test_a_protocol_that_is_not_spoken(server: ServerProcess) -> None:
    """RFC 9001 section 8.1: the handshake ends with no_application_protocol, at once; 100 of them leave nothing."""
    crowd = Crowd(server, 100)
    before = (await server.stats())["connection_errors"]
    for number in range(len(crowd)):
        crowd.send(number, _hello("h2"))
        await asyncio.sleep(0)
    await server.until(lambda seen: seen["connection_errors"] >= before + len(crowd))
    crowd.leave()
