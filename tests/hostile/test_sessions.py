"""The life of a session with a client that is slow, rude, silent or gone.

Memory: a request that is not complete, or waits for SETTINGS, holds up to 64 KiB (MAX_FIELD_SECTION_SIZE) of one field
section; there are as many as QUIC lets a client open, 121 by default. A close is given up after `close_timeout` for
what was written and about a second (CLOSE_ANSWER_TIMEOUT) for the client's answer; a client that says nothing at all is
forgotten after `connection_idle_timeout`.
"""

from __future__ import annotations

import pytest

from tests.hostile import wire
from tests.hostile.server import ServerProcess
from tests.hostile.wire import Code, FrameType, StreamType, bidi_header, data, frame, uni_header, varint


@pytest.mark.parametrize("dialect", wire.DIALECTS)
async def test_a_request_before_the_settings(server: ServerProcess, dialect: str) -> None:
    """Draft-16 section 3.1: not processed before they come, however long that takes; then answered."""
    settings = wire.DIALECTS[dialect]
    async with server.connect(settings=None) as peer:
        peer.settings = settings
        session = peer.bidi(peer.request())
        stream = peer.bidi(bidi_header(session) + b"early", fin=True)
        peer.datagram(wire.quarter_id(session, b"early"))
        await peer.sent()
        async with server.bystander() as bystander:
            await bystander.trips()
        assert not peer.answers[session].data
        assert not peer.answers[stream].data
        peer.uni(varint(StreamType.CONTROL) + wire.settings(settings))
        response = await peer.response(session)
        assert response[b":status"] == b"200"
        assert response.get(b"sec-webtransport-http3-draft") == (b"draft02" if dialect == "draft-02" else None)
        assert await peer.finished(stream) == b"early"
        await peer.until(lambda: peer.datagrams == [wire.quarter_id(session, b"early")], "the echo of a datagram")


async def test_requests_that_never_see_settings(server: ServerProcess) -> None:
    """All requests that QUIC allows wait; a client that gives up ends them. Others are served meanwhile."""
    async with server.bystander() as bystander, server.connect(settings=None) as peer:
        requests = [peer.bidi(peer.request()) for _ in range(peer.room(unidirectional=False))]
        await bystander.trips()
        assert len(requests) >= 100
        assert not any(peer.answers[request].data for request in requests)
        peer.uni(varint(StreamType.CONTROL) + wire.settings(wire.DRAFT_15))
        for request in requests[1:]:
            assert await peer.reset_code(request) == Code.REQUEST_REJECTED
        await peer.echoes(requests[0])


@pytest.mark.parametrize(
    ("settings", "token"),
    [(wire.DRAFT_15, "webtransport"), (wire.DRAFT_07, "webtransport-h3"), (wire.DRAFT_02, "webtransport-h3")],
    ids=["draft-15", "draft-07", "draft-02"],
)
async def test_a_token_of_another_dialect(server: ServerProcess, settings: dict[int, int], token: str) -> None:
    """Refused with 400: the client would read the rest in another way than it was meant."""
    async with server.connect(settings) as peer:
        request = peer.bidi(wire.connect_request(protocol=token))
        assert (await peer.response(request))[b":status"] == b"400"
        await peer.finished(request)
        await peer.echoes(await peer.session())


async def test_a_request_that_comes_byte_by_byte(either_server: ServerProcess) -> None:
    """A packet for each byte."""
    async with either_server.connect() as peer:
        request = peer.bidi()
        for byte in peer.request():
            peer.write(request, bytes([byte]))
            peer.transmit()
        assert (await peer.response(request))[b":status"] == b"200"
        await peer.echoes(request)


async def test_requests_that_do_not_come_to_an_end(server: ServerProcess) -> None:
    """Field sections of 64 KiB without their last byte, as many as QUIC lets in; a session beside them goes on."""
    async with server.bystander() as bystander, server.connect() as peer:
        session = await peer.session()
        with server.grows_less_than(24):
            while peer.room(unidirectional=False) > 1:
                peer.bidi(frame(FrameType.HEADERS, bytes(65_535), announced=65_536))
            for number in bystander.during(100):
                await peer.turn(number)
            await peer.sent()
        await peer.echoes(session)


async def test_cookies_in_crumbs(server: ServerProcess) -> None:
    """RFC 9114 section 4.2.1: a field for each crumb, 1 000 of them, is a request like others."""
    async with server.connect() as peer:
        crumbs = [(b"cookie", b"crumb=%d" % number) for number in range(1_000)]
        session = peer.bidi(wire.connect_request(extra=crumbs))
        assert (await peer.response(session))[b":status"] == b"200"
        await peer.echoes(session)


@pytest.mark.parametrize("when", ["inside its headers", "before the answer", "in the session"])
@pytest.mark.parametrize("how", ["reset", "stop", "fin"])
async def test_a_request_that_is_given_up(either_server: ServerProcess, how: str, when: str) -> None:
    """The other half ends too: with the code of a stop, H3_REQUEST_CANCELLED otherwise; a session's FIN with a FIN."""
    async with either_server.connect(wire.FLOW_CONTROL) as peer:
        match when:
            case "inside its headers":
                request = peer.bidi(frame(wire.GREASE[0]))
            case "before the answer":
                request = peer.bidi(peer.request("/late"))
            case _:
                request = await peer.session()
        await peer.sent()
        match how:
            case "reset":
                peer.reset(request, 0x52E4A40FA8DB)
                assert await peer.reset_code(request) == Code.REQUEST_CANCELLED
            case "stop":
                peer.stop(request, 0x52E4A40FA8DB)
                assert await peer.reset_code(request) == 0x52E4A40FA8DB
                assert await peer.stop_code(request) == Code.REQUEST_CANCELLED
            case _:
                peer.write(request, b"", fin=True)
                if when == "in the session":
                    await peer.finished(request)
                else:
                    incomplete = when == "inside its headers"
                    code = Code.REQUEST_INCOMPLETE if incomplete else Code.REQUEST_CANCELLED
                    assert await peer.reset_code(request) == code


@pytest.mark.parametrize("max_data", [1 << 20, 100], ids=["of the session", "from the beginning"])
async def test_a_close_when_the_client_withholds_credit(server: ServerProcess, max_data: int) -> None:
    """What the server wrote, its CLOSE and even its 200 cannot leave: timers end the session and the connection."""
    async with server.connect(max_data=max_data) as peer:
        peer.withhold_credit()
        session = peer.bidi(peer.request("/pour"))
        await peer.until(lambda: peer._quic._local_max_data.used >= max_data, "the window is full")
        peer.datagram(wire.quarter_id(session, b"close"))
        assert await peer.reset_code(session) == Code.REQUEST_CANCELLED
        assert await peer.stop_code(session) == Code.REQUEST_CANCELLED
        assert await peer.close_code() == Code.NO_ERROR
    await server.until(lambda seen: seen["sessions"] == 1)


async def test_clients_that_vanish(either_server: ServerProcess) -> None:
    """Ten sessions in the middle of something, and then nothing: the idle timeout ends them, see test_memory.py."""
    for number in range(10):
        async with either_server.connect(None if number == 9 else wire.DRAFT_15) as peer:
            session = 0 if number == 9 else await peer.session(["/echo", "/deaf", "/pour"][number % 3])
            peer.uni(uni_header(session) + bytes(5_000))
            peer.bidi(bidi_header(session) + b"half of")
            peer.bidi(b"\x40")
            peer.datagram(wire.quarter_id(session, b"?"))
            await peer.sent()
            peer.vanish()


async def test_a_flood_of_connections(either_server: ServerProcess) -> None:
    """100 clients one after the other, each with a session; half of them close nothing but the connection."""
    async with either_server.bystander() as bystander:
        for number in bystander.during(100):
            async with either_server.connect() as peer:
                session = await peer.session()
                if number % 2:
                    peer.write(session, data(wire.close_capsule(0, b"")), fin=True)
                    await peer.finished(session)


async def test_a_client_that_goes_away(either_server: ServerProcess) -> None:
    """GOAWAY of a client is a hint (draft-16 section 4.7): its session goes on; ids may shrink, and stay."""
    async with either_server.connect(wire.FLOW_CONTROL) as peer:
        session = await peer.session()
        for push in (100, 100, 4, 3, 0, 0):
            peer.write(peer.control, frame(FrameType.GOAWAY, varint(push)))
        await peer.echoes(session)
        await peer.echoes(session)
        assert peer.is_open()


async def test_the_servers_control_stream_is_stopped(server: ServerProcess) -> None:
    """RFC 9114 section 6.2.1: it MUST NOT be, and one that is closed ends the connection."""
    async with server.connect() as peer:
        await peer.session()
        # The first unidirectional stream of a server.
        await peer.until(lambda: bool(peer.answers[3].data), "the server's SETTINGS")
        peer.stop(3)
        assert await peer.close_code() == Code.CLOSED_CRITICAL_STREAM
