"""Datagrams that name nothing, and more of them than anybody wants.

Memory: `max_pending_events_per_session` (16) and `max_total_pending_events` (1000) datagrams wait for sessions that are
not there, for `pending_event_ttl`; `datagram_queue_size` (4096) and 4 MiB (DATAGRAM_QUEUE_BYTES) wait in a session that
does not read; 4 MiB wait for the driver to look (DATAGRAM_RECEIVE_BUFFER). What is too much drops the oldest.
"""

from __future__ import annotations

import pytest

from tests.hostile import wire
from tests.hostile.server import ServerProcess
from tests.hostile.wire import LARGEST, Code, quarter_id, varint

MIB = 1 << 20


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"\x40",
        b"\xc0\0\0\0\0\0\0",
        # Stream ids end at 2^62 - 1, so quarter ids end at 2^60 - 1.
        varint(1 << 60) + b"x",
        varint(LARGEST),
    ],
    ids=bytes.hex,
)
@pytest.mark.parametrize("when", ["before a session", "in a session"])
async def test_datagrams_that_name_no_request(server: ServerProcess, datagram: bytes, when: str) -> None:
    """RFC 9297 section 2.1: the connection is closed with H3_DATAGRAM_ERROR."""
    async with server.connect() as peer:
        if when == "in a session":
            await peer.session()
        peer.datagram(datagram)
        assert await peer.close_code() == Code.DATAGRAM_ERROR


async def test_the_largest_id_that_can_be(server: ServerProcess) -> None:
    """Such a datagram waits for its session for a while, and is dropped silently."""
    async with server.connect() as peer:
        session = await peer.session()
        peer.datagram(varint((1 << 60) - 1) + b"x")
        peer.datagram(varint(1 << 13, 8))
        await peer.echoes(session)
        await server.until(lambda seen: seen["datagrams_dropped"] == 2)
        assert peer.is_open()


@pytest.mark.parametrize("spread", [1, 5_000], ids=["one session", "many sessions"])
async def test_a_flood_for_sessions_that_never_come(server: ServerProcess, spread: int) -> None:
    """20 000 datagrams: 16 for each session and 1000 in all wait for a second, the others are dropped at once."""
    async with server.bystander() as bystander, server.connect() as peer:
        session = await peer.session()
        for number in bystander.during(20_000):
            peer.datagram(quarter_id(4 * (100 + number % spread), bytes(100)))
            await peer.turn(number)
        await peer.sent()
        await peer.echoes(session)
        await server.until(lambda seen: seen["datagrams_dropped"] >= 10_000)
        assert not peer.datagrams


async def test_a_flood_for_a_session_that_does_not_read(server: ServerProcess) -> None:
    """20 000 datagrams of 1000 bytes, five times what is kept: the newest are."""
    async with server.bystander() as bystander, server.connect() as peer:
        session = await peer.session("/deaf")
        before = server.rss()
        for number in bystander.during(20_000):
            peer.datagram(quarter_id(session, bytes(1000)))
            await peer.turn(number)
        await peer.sent()
        assert server.rss() - before < 24 * MIB
        peer.write(session, wire.data(wire.close_capsule(0, b"")), fin=True)
        await peer.finished(session)


@pytest.mark.parametrize("size", [0, 1, 1000])
async def test_a_flood_that_is_echoed(either_server: ServerProcess, size: int) -> None:
    """Datagrams may get lost, streams and other sessions are not held up."""
    async with either_server.bystander() as bystander, either_server.connect() as peer:
        session = await peer.session()
        for number in bystander.during(5_000):
            peer.datagram(quarter_id(session, bytes(size)))
            await peer.turn(number)
        await peer.echoes(session)
        await peer.until(lambda: bool(peer.datagrams), "an echo")
        assert set(peer.datagrams) == {quarter_id(session, bytes(size))}


async def test_a_flood_for_a_session_that_has_ended(flow_server: ServerProcess) -> None:
    """RFC 9297 section 2.1: dropped silently. Another session on the same connection goes on."""
    async with flow_server.bystander() as bystander, flow_server.connect(wire.FLOW_CONTROL) as peer:
        other, session = await peer.session(), await peer.session()
        peer.write(session, b"", fin=True)
        await peer.finished(session)
        for number in bystander.during(10_000):
            peer.datagram(quarter_id(session, bytes(100)))
            await peer.turn(number)
        peer.datagram(quarter_id(other, b"alive"))
        await peer.until(lambda: bool(peer.datagrams), "an echo")
        await peer.echoes(other)
        assert peer.datagrams == [quarter_id(other, b"alive")]
