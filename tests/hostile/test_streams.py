"""Streams that belong to no session, say nothing, say too much, or are given up as soon as they are open.

Memory, per connection: `max_incoming_streams` (100, and an eighth) of each kind are open at once, and a stream that is
not read keeps its place. Of these at most 256 (MAX_HALF_OPEN_STREAMS) have no complete header, for at most 10 seconds;
`max_pending_events_per_session` (16) wait for one unknown session and `max_total_pending_events` (1000) for all, for
`pending_event_ttl`. What is not read fills QUIC's windows, 4 MiB a stream and 16 MiB in all (CONNECTION_WINDOW), and
`stream_buffer_size` (64 KiB) of read-ahead for each stream, in as few pieces as fit.
"""

from __future__ import annotations

import pytest

from tests.hostile import wire
from tests.hostile.peer import Peer
from tests.hostile.server import ServerProcess
from tests.hostile.wire import LARGEST, Code, FrameType, StreamType, bidi_header, uni_header, varint

MIB = 1 << 20
# Client-initiated bidirectional streams have ids that four divides (RFC 9000 section 2.1).
_IMPOSSIBLE = [1, 2, 3, 5, LARGEST, LARGEST - 1, LARGEST - 2]
UNKNOWN = 4_000  # a session that never comes


@pytest.mark.parametrize("session", _IMPOSSIBLE)
@pytest.mark.parametrize("kind", ["unidirectional", "bidirectional"])
async def test_a_session_id_that_cannot_be(server: ServerProcess, kind: str, session: int) -> None:
    """Draft-16 section 4: the connection is closed with H3_ID_ERROR."""
    async with server.connect() as peer:
        if kind == "unidirectional":
            peer.uni(varint(StreamType.WEBTRANSPORT, 8) + varint(session, 8) + b"body")
        else:
            peer.bidi(varint(FrameType.WT_STREAM, 4) + varint(session, 8) + b"body")
        assert await peer.close_code() == Code.ID_ERROR


@pytest.mark.parametrize("dialect", wire.DIALECTS)
async def test_streams_of_sessions_that_never_come(server: ServerProcess, dialect: str) -> None:
    """Draft-16 section 4.6: kept until `pending_event_ttl`, then turned away with WT_BUFFERED_STREAM_REJECTED."""
    async with server.connect(wire.DIALECTS[dialect]) as peer:
        session = await peer.session()
        bidi = peer.bidi(bidi_header(UNKNOWN) + b"body")
        # The largest id that can be, and a header in as many bytes as can be.
        uni = peer.uni(varint(StreamType.WEBTRANSPORT, 8) + varint(LARGEST - 3, 8) + b"body")
        await peer.echoes(session)
        assert await peer.stop_code(uni) == Code.WT_BUFFERED_STREAM_REJECTED
        assert await peer.stop_code(bidi) == Code.WT_BUFFERED_STREAM_REJECTED
        assert await peer.reset_code(bidi) == Code.WT_BUFFERED_STREAM_REJECTED
        await peer.echoes(session)


async def test_a_flood_of_streams_of_unknown_sessions(server: ServerProcess) -> None:
    """5 000 streams of five sessions: 80 are kept for a while, the others turned away at once; other sessions go on."""
    async with server.bystander() as bystander, server.connect() as peer:
        session = await peer.session()
        turned_away = []
        for number in bystander.during(5_000):
            header = UNKNOWN + 4 * (number % 5)
            if number % 10:
                await peer.until_room(unidirectional=True)
                turned_away.append(peer.uni(uni_header(header) + b"body"))
            else:
                await peer.until_room(unidirectional=False)
                turned_away.append(peer.bidi(bidi_header(header) + b"body"))
            await peer.turn(number)
        for stream in turned_away:
            assert await peer.stop_code(stream) == Code.WT_BUFFERED_STREAM_REJECTED
            if not stream & 2:
                assert await peer.reset_code(stream) == Code.WT_BUFFERED_STREAM_REJECTED
        await peer.echoes(session)
        assert (await server.stats())["streams_rejected"] >= len(turned_away)


async def test_streams_and_datagrams_that_come_before_their_session(either_server: ServerProcess) -> None:
    """Draft-16 section 4.6: the session finds them, in the order of their arrival."""
    async with either_server.connect() as peer:
        session = peer.bidi()  # nothing goes out yet
        for number in range(1, 9):
            body = b"%d" % number
            if number % 2:
                peer.bidi(bidi_header(session) + body, fin=True)
            else:
                peer.uni(uni_header(session) + body, fin=True)
            await peer.sent()
        peer.write(session, peer.request("/order"))
        await peer.until(lambda: len(peer.datagrams) == 8, "eight streams in order")
        assert peer.datagrams == [wire.quarter_id(0, b"%d" % number) for number in range(1, 9)]


@pytest.mark.parametrize("dialect", [wire.DRAFT_07, wire.DRAFT_15], ids=["draft-07", "draft-15"])
@pytest.mark.parametrize("how", ["close", "fin", "reset", "stop"])
async def test_the_end_of_a_session_ends_its_streams(
    flow_server: ServerProcess, dialect: dict[int, int], how: str
) -> None:
    """Draft-16 section 6: those that are open, and those that come later, are reset and stopped with WT_SESSION_GONE.

    Another session on the same connection goes on.
    """
    async with flow_server.connect(wire.FLOW_CONTROL | dialect) as peer:
        other, session = await peer.session(), await peer.session()
        streams = [peer.bidi(bidi_header(session) + b"some") for _ in range(5)]
        await peer.until(lambda: all(peer.answers[stream].data for stream in streams), "five echoes")
        match how:
            case "close":
                peer.write(session, wire.data(wire.close_capsule(0, b"")), fin=True)
            case "fin":
                peer.write(session, b"", fin=True)
            case "reset":
                peer.reset(session)
            case "stop":
                peer.stop(session)
        streams += [peer.bidi(bidi_header(session) + b"late") for _ in range(5)]
        late = [peer.uni(uni_header(session) + b"late") for _ in range(5)]
        for stream in streams:
            assert await peer.reset_code(stream) == Code.WT_SESSION_GONE
        for stream in streams + late:
            assert await peer.stop_code(stream) == Code.WT_SESSION_GONE
        await peer.until(lambda: peer.answers[session].finished or peer.answers[session].reset is not None, "its end")
        await peer.echoes(other)


async def test_a_session_that_nobody_remembers(flow_server: ServerProcess) -> None:
    """The ids of 64 ended sessions are kept; streams of those before them wait in vain for a session of that id."""
    async with flow_server.connect(wire.FLOW_CONTROL) as peer:
        other = await peer.session()
        sessions = []
        for _ in range(70):
            sessions.append(await peer.session())
            peer.write(sessions[-1], b"", fin=True)
            await peer.finished(sessions[-1])
        recent, forgotten = peer.uni(uni_header(sessions[-1])), peer.uni(uni_header(sessions[0]))
        assert await peer.stop_code(recent) == Code.WT_SESSION_GONE
        assert await peer.stop_code(forgotten) == Code.WT_BUFFERED_STREAM_REJECTED
        await peer.echoes(other)


@pytest.mark.parametrize("path", ["/echo", "/deaf"])
async def test_a_flood_of_resets(server: ServerProcess, path: str) -> None:
    """10 000 streams that are reset as soon as they are open: all are forgotten, the session and the others go on.

    A session that accepts no streams keeps 100 and an eighth of each kind, reset or not: there is no credit for more.
    """
    async with server.bystander() as bystander, server.connect() as peer:
        session = await peer.session(path)
        for number in bystander.during(10_000 if path == "/echo" else 100):
            unidirectional = number % 2 == 1
            if path == "/deaf" and peer.room(unidirectional=unidirectional) == 0:
                await peer.turn(15)
                continue
            await peer.until_room(unidirectional=unidirectional)
            if unidirectional:
                stream = peer.uni(uni_header(session) + b"body")
            else:
                stream = peer.bidi(bidi_header(session) + b"body")
            if number % 3:
                # Otherwise QUIC may send nothing but the reset, and the header is lost.
                peer.transmit()
            peer.reset(stream)
            await peer.turn(number)
        await peer.sent()
        if path == "/echo":
            await peer.echoes(session)
        else:
            assert peer.room(unidirectional=True) < 100


async def test_a_flood_of_streams_that_end_before_they_say_what_they_are(server: ServerProcess) -> None:
    """RFC 9114 section 6.2: no error. The other half of a bidirectional one is reset with H3_REQUEST_INCOMPLETE."""
    async with server.bystander() as bystander, server.connect() as peer:
        session = await peer.session()
        ended = []
        for number in bystander.during(2_000):
            unidirectional = number % 2 == 1
            await peer.until_room(unidirectional=unidirectional)
            kind = b"\x40\x54" if unidirectional else b"\x40\x41"
            beginning = [b"", kind[:1], kind, kind + b"\x80\x00"][number // 2 % 4]
            stream = peer.uni(beginning) if unidirectional else peer.bidi(beginning)
            peer.transmit()
            if number % 3:
                peer.reset(stream)
            else:
                peer.write(stream, b"", fin=True)
            if not unidirectional:
                ended.append(stream)
            await peer.turn(number)
        for stream in ended:
            assert await peer.reset_code(stream) == Code.REQUEST_INCOMPLETE
        await peer.echoes(session)


@pytest.mark.timeout(45)
async def test_headers_that_do_not_come_to_an_end(server: ServerProcess) -> None:
    """All streams that QUIC allows, each with a part of its header: a connection of its own is all this costs.

    The session beside them goes on. After 10 seconds (STREAM_HEADER_TIMEOUT) the streams are turned away with
    WT_BUFFERED_STREAM_REJECTED, because nothing says whose they are, and there is room for others.
    """
    async with server.bystander() as bystander, server.connect() as peer:
        session = await peer.session()
        parts = [b"\x40", b"\x40\x41", b"\x40\x41\xc0"]
        bidi = [peer.bidi(parts[number % 3]) for number in range(peer.room(unidirectional=False))]
        parts = [b"\x40", b"\x40\x54", b"\x40\x54\xc0"]
        uni = [peer.uni(parts[number % 3]) for number in range(peer.room(unidirectional=True))]
        assert len(bidi) >= 100
        assert len(uni) >= 100
        await bystander.trips()
        peer.datagram(wire.quarter_id(session, b"still here"))
        await peer.until(lambda: bool(peer.datagrams), "the session goes on")
        for stream in bidi + uni:
            assert await peer.stop_code(stream, 20) == Code.WT_BUFFERED_STREAM_REJECTED
        for stream in bidi:
            assert await peer.reset_code(stream) == Code.WT_BUFFERED_STREAM_REJECTED
        await peer.until_room(unidirectional=False)
        await peer.echoes(session)


async def test_bytes_that_come_one_by_one(either_server: ServerProcess) -> None:
    """A header and a body in packets of one byte each: as good as any other stream."""
    async with either_server.bystander() as bystander, either_server.connect() as peer:
        session = await peer.session()
        stream, expected = peer.bidi(), bytearray()
        for byte in bidi_header(session):
            peer.write(stream, bytes([byte]))
            peer.transmit()
        for number in bystander.during(3_000):
            peer.write(stream, bytes([number % 256]))
            expected.append(number % 256)
            peer.transmit()
            await peer.turn(number)
        peer.write(stream, b"", fin=True)
        assert await peer.finished(stream) == expected


async def test_bytes_that_come_one_by_one_and_are_not_read(server: ServerProcess) -> None:
    """40 000 pieces of one byte cost the server what 40 000 bytes cost, and not a packet for each."""
    async with server.connect() as peer:
        session = await peer.session("/deaf")
        stream = peer.bidi(bidi_header(session))
        await peer.sent()
        before = server.rss()
        for number in range(40_000):
            peer.write(stream, b"x")
            peer.transmit()
            await peer.turn(number)
        await peer.sent()
        assert server.rss() - before < 3 * MIB


async def test_streams_that_are_never_read(server: ServerProcess) -> None:
    """Whoever fills 100 streams that nobody reads is stopped by QUIC's windows; the others do not notice.

    Memory: the connection's window of 16 MiB and 64 KiB of read-ahead for each stream.
    """
    async with server.bystander() as bystander, server.connect() as peer:
        session = await peer.session("/deaf")
        before = server.rss()
        streams = [peer.bidi(bidi_header(session)) for _ in range(50)] + [
            peer.uni(uni_header(session)) for _ in range(50)
        ]
        for stream in streams:
            peer.write(stream, bytes(MIB))
        await peer.until(lambda: _sent(peer) >= 16 * MIB, "the window is full", 20)
        await bystander.trips()
        await peer.sent()
        assert _sent(peer) < (16 + 100 / 16 + 1) * MIB
        assert server.rss() - before < 48 * MIB
        # The session's stream is always read: its end is heard, and the connection has no other session.
        peer.write(session, b"", fin=True)
        await peer.finished(session)
        assert await peer.close_code() == Code.NO_ERROR


def _sent(peer: Peer) -> int:
    """Bytes of all streams that went out, as QUIC's flow control counts them."""
    return peer._quic._remote_max_data_used


@pytest.mark.parametrize("when", ["at once", "later"])
async def test_everything_is_stopped(server: ServerProcess, when: str) -> None:
    """RFC 9000 section 3.5: a stream that the peer stops is reset with the peer's code; the session goes on."""
    async with server.connect() as peer:
        session = await peer.session()
        streams = []
        for number in range(300):
            await peer.until_room(unidirectional=False)
            stream = peer.bidi(bidi_header(session) + b"body")
            if when == "later":
                await peer.until(
                    lambda stream=stream: bool(peer.answers[stream].data),  # type: ignore[misc]  # mypy cannot infer a default of a lambda
                    "an echo",
                )
            peer.stop(stream, 0x52E4A40FA8DB + number % 29)
            peer.write(stream, b"more", fin=True)
            streams.append(stream)
            await peer.turn(number)
        for number, stream in enumerate(streams):
            assert await peer.reset_code(stream) == 0x52E4A40FA8DB + number % 29
        await peer.echoes(session)


async def test_streams_of_the_server_that_are_stopped(server: ServerProcess) -> None:
    """The same for streams that the server opens."""
    async with server.connect() as peer:
        session = await peer.session()
        # The first of them is the control stream.
        for answer in range(7, 7 + 4 * 50, 4):
            sent = peer.uni(uni_header(session) + b"x")
            await peer.until(
                lambda answer=answer: bool(peer.answers[answer].data),  # type: ignore[misc]  # mypy cannot infer a default of a lambda
                "an answer",
            )
            peer.stop(answer, 0x1234)
            peer.write(sent, bytes(1000), fin=True)
            assert await peer.reset_code(answer) == 0x1234
        await peer.echoes(session)
