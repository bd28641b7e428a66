"""WebTransport flow control that is not kept (draft-16 section 5), and several sessions on one connection.

Memory: a session holds what its limits allow, here `initial_max_data` (100 000 bytes) at first and
`initial_max_streams_*` (10) of each kind; QUIC's windows are the sum over the sessions, of which there are
`max_sessions` at most and 16 more (LINGERING_SESSIONS) that have ended. A limit of the peer is two numbers, however
often it is raised.
"""

from __future__ import annotations

import pytest

from tests.hostile import wire
from tests.hostile.conftest import MAX_SESSIONS
from tests.hostile.server import ServerProcess
from tests.hostile.wire import CapsuleType, Code, bidi_header, capsule, data, uni_header, varint

MAX_DATA, MAX_STREAMS = 100_000, 10  # what the server announces
DIALECTS = {"draft-07": wire.FLOW_CONTROL | wire.DRAFT_07, "draft-15": wire.FLOW_CONTROL}
del DIALECTS["draft-07"][0x2C7CF000]

_VIOLATIONS = {
    # The client announced 1 MiB and 100 streams of each kind.
    "data limit that stays": capsule(CapsuleType.MAX_DATA, varint(1 << 20)),
    "data limit that shrinks": capsule(CapsuleType.MAX_DATA, varint(1)),
    "data limit of 0": capsule(CapsuleType.MAX_DATA, varint(0)),
    "data limit that grows and stays": capsule(CapsuleType.MAX_DATA, varint(1 << 21)) * 2,
    "stream limit that stays": capsule(CapsuleType.MAX_STREAMS_BIDI, varint(100)),
    "stream limit that shrinks": capsule(CapsuleType.MAX_STREAMS_UNI, varint(99)),
    "stream limit above 2^60": capsule(CapsuleType.MAX_STREAMS_BIDI, varint((1 << 60) + 1)),
    "other stream limit above 2^60": capsule(CapsuleType.MAX_STREAMS_UNI, varint((1 << 62) - 1)),
    "blocked above 2^60": capsule(CapsuleType.STREAMS_BLOCKED_BIDI, varint((1 << 60) + 1)),
    "other blocked above 2^60": capsule(CapsuleType.STREAMS_BLOCKED_UNI, varint((1 << 60) + 1)),
    "limit of one stream": capsule(CapsuleType.MAX_STREAM_DATA, varint(4) + varint(1 << 21)),
    "limit of one stream without end": capsule(CapsuleType.MAX_STREAM_DATA, announced=wire.LARGEST),
    "one stream blocked": capsule(CapsuleType.STREAM_DATA_BLOCKED, varint(4) + varint(0)),
}

_MALFORMED = {
    "data limit that is empty": capsule(CapsuleType.MAX_DATA),
    "data limit that is cut off": capsule(CapsuleType.MAX_DATA, b"\x80\0\0"),
    "data limit and more": capsule(CapsuleType.MAX_DATA, varint(1 << 21) + b"\0"),
    "stream limit without end": capsule(CapsuleType.MAX_STREAMS_UNI, announced=wire.LARGEST),
    "blocked and more": capsule(CapsuleType.DATA_BLOCKED, varint(0) * 2),
}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("case", _VIOLATIONS)
async def test_limits_that_cannot_be(flow_server: ServerProcess, case: str, dialect: str) -> None:
    """Section 5.6: the session ends with WT_FLOW_CONTROL_ERROR, the other one on the same connection goes on."""
    async with flow_server.connect(DIALECTS[dialect]) as peer:
        other, session = await peer.session(), await peer.session()
        peer.write(session, data(_VIOLATIONS[case]))
        assert await peer.reset_code(session) == Code.WT_FLOW_CONTROL_ERROR
        assert await peer.stop_code(session) == Code.WT_FLOW_CONTROL_ERROR
        await peer.echoes(other)


@pytest.mark.parametrize("case", _MALFORMED)
async def test_limits_that_are_malformed(flow_server: ServerProcess, case: str) -> None:
    """RFC 9297 section 3.3: the session ends with H3_MESSAGE_ERROR."""
    async with flow_server.connect(wire.FLOW_CONTROL) as peer:
        other, session = await peer.session(), await peer.session()
        peer.write(session, data(_MALFORMED[case]))
        assert await peer.reset_code(session) == Code.MESSAGE_ERROR
        assert await peer.stop_code(session) == Code.MESSAGE_ERROR
        await peer.echoes(other)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("kind", ["unidirectional", "bidirectional"])
@pytest.mark.parametrize("early", [False, True], ids=["", "before the request"])
async def test_more_streams_than_allowed(flow_server: ServerProcess, kind: str, dialect: str, early: bool) -> None:
    """Section 5.6.2: one stream too many ends the session with WT_FLOW_CONTROL_ERROR, and its streams with it."""
    async with flow_server.connect(DIALECTS[dialect]) as peer:
        other = await peer.session()
        session = peer.bidi() if early else await peer.session("/deaf")
        streams = [
            peer.uni(uni_header(session)) if kind == "unidirectional" else peer.bidi(bidi_header(session))
            for _ in range(MAX_STREAMS + 1)
        ]
        if early:
            await peer.sent()
            peer.write(session, peer.request("/deaf"))
        assert await peer.reset_code(session) == Code.WT_FLOW_CONTROL_ERROR
        assert await peer.stop_code(session) == Code.WT_FLOW_CONTROL_ERROR
        for stream in streams:
            assert await peer.stop_code(stream) == Code.WT_SESSION_GONE
        await peer.echoes(other)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("streams", [2, MAX_STREAMS])
async def test_more_data_than_allowed(flow_server: ServerProcess, streams: int, dialect: str) -> None:
    """Section 5.6.4: one byte too many ends the session with WT_FLOW_CONTROL_ERROR.

    What is not read yet is not counted yet: of a stream that the application does not read that is all beyond 64 KiB.
    """
    async with flow_server.connect(DIALECTS[dialect]) as peer:
        other, session = await peer.session(), await peer.session("/deaf")
        opened = [peer.uni(uni_header(session) + bytes(MAX_DATA // streams)) for _ in range(streams)]
        await peer.sent()
        peer.datagram(wire.quarter_id(other, b"between"))
        await peer.until(lambda: bool(peer.datagrams), "an echo")
        assert peer.answers[session].reset is None, "all of this is allowed"
        peer.write(opened[0], b"x")
        assert await peer.reset_code(session) == Code.WT_FLOW_CONTROL_ERROR
        assert await peer.stop_code(session) == Code.WT_FLOW_CONTROL_ERROR
        await peer.echoes(other)


async def test_floods_of_limits(flow_server: ServerProcess) -> None:
    """Limits that grow 20 000 times and blocked capsules as often: numbers that are kept once."""
    async with flow_server.bystander() as bystander, flow_server.connect(wire.FLOW_CONTROL) as peer:
        other, session = await peer.session(), await peer.session()
        limit = 1 << 20
        for number in bystander.during(1_000):
            capsules = b""
            for _ in range(20):
                limit += 1
                capsules += capsule(CapsuleType.MAX_DATA, varint(limit))
                capsules += capsule(CapsuleType.MAX_STREAMS_UNI, varint(limit))
                capsules += capsule(CapsuleType.DATA_BLOCKED, varint(number))
                capsules += capsule(CapsuleType.STREAMS_BLOCKED_BIDI, varint(number))
            peer.write(session, data(capsules))
            await peer.turn(number)
        await peer.echoes(session)
        await peer.echoes(other)


async def test_a_client_that_grants_nothing(flow_server: ServerProcess) -> None:
    """No byte and no stream for the server: it says so, and holds what its application writes; the other goes on.

    Memory: `max_stream_buffer_size` (1 MiB) a stream; an echo waits for its stream.
    """
    settings = wire.FLOW_CONTROL | {0x2B61: 1, 0x2B64: 0, 0x2B65: 0}
    async with flow_server.connect(settings) as peer:
        session = await peer.session()
        stream = peer.bidi(bidi_header(session) + b"more than a byte")
        peer.uni(uni_header(session) + b"an echo needs a stream", fin=True)
        blocked = {capsule(CapsuleType.DATA_BLOCKED, varint(1)), capsule(CapsuleType.STREAMS_BLOCKED_UNI, varint(0))}
        await peer.until(
            lambda: all(each in peer.answers[session].data for each in blocked), "the server says that it is blocked"
        )
        assert peer.answers[stream].data == b"m"
        peer.datagram(wire.quarter_id(session, b"datagrams need no credit"))
        await peer.until(lambda: bool(peer.datagrams), "an echo")
        peer.write(session, data(capsule(CapsuleType.MAX_DATA, varint(100))))
        await peer.until(lambda: len(peer.answers[stream].data) == 16, "the rest")


async def test_more_sessions_than_allowed(flow_server: ServerProcess) -> None:
    """Section 5.2: above `max_sessions` each of 200 requests is reset with H3_REQUEST_REJECTED; the sessions live."""
    async with flow_server.connect(wire.FLOW_CONTROL) as peer:
        sessions = [await peer.session() for _ in range(MAX_SESSIONS)]
        surplus = []
        for number in range(200):
            await peer.until_room(unidirectional=False)
            surplus.append(peer.bidi(peer.request()))
            await peer.turn(number)
        for stream in surplus:
            assert await peer.reset_code(stream) == Code.REQUEST_REJECTED
            assert await peer.stop_code(stream) == Code.REQUEST_REJECTED
        for session in sessions:
            await peer.echoes(session)


async def test_more_sessions_than_allowed_in_all(flow_server: ServerProcess) -> None:
    """The same number holds over all connections: 429 for the next one, whoever asks."""
    async with flow_server.connect(wire.FLOW_CONTROL) as peer, flow_server.connect(wire.FLOW_CONTROL) as late:
        for _ in range(MAX_SESSIONS):
            await peer.session()
        refused = late.bidi(late.request())
        assert (await late.response(refused))[b":status"] == b"429"
        await late.finished(refused)
    await flow_server.until(lambda seen: seen["sessions"] == 1)


@pytest.mark.parametrize("how", ["close", "close and fin", "fin", "reset", "stop"])
async def test_a_flood_of_sessions_that_end_at_once(flow_server: ServerProcess, how: str) -> None:
    """Sessions that come and go on one connection, with a stream each: the one that stays goes on.

    A session that has ended waits a second for the client's FIN. Without it 16 of them are all a connection gets, more
    requests are reset with H3_REQUEST_REJECTED; a client may repeat those.
    """
    async with flow_server.bystander() as bystander, flow_server.connect(wire.FLOW_CONTROL) as peer:
        stays = await peer.session()
        sessions = []
        for number in bystander.during(300):
            await peer.until_room(unidirectional=False)
            session = peer.bidi(peer.request())
            peer.uni(uni_header(session) + b"body")
            match how:
                case "close" | "close and fin":
                    peer.write(session, data(wire.close_capsule(1, b"flood")), fin=how == "close and fin")
                case "fin":
                    peer.write(session, b"", fin=True)
                case "reset":
                    await peer.sent()
                    peer.reset(session)
                case "stop":
                    await peer.sent()
                    peer.stop(session)
            sessions.append(session)
            await peer.turn(number)
        for session in sessions:
            answer = peer.answers[session]
            await peer.until(
                # mypy cannot infer a default of a lambda.
                lambda answer=answer: answer.finished or answer.reset is not None,  # type: ignore[misc]  # see above
                f"session {session} ended",
            )
            # A reset may overtake the request that it cancels.
            assert answer.reset in (None, Code.REQUEST_CANCELLED, Code.REQUEST_REJECTED, Code.REQUEST_INCOMPLETE)
        await peer.echoes(stays)
