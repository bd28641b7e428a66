"""Plain HTTP that breaks the rules of RFC 9114 section 4.1, and floods of it.

Content is read only for a path that has a handler, at most 64 KiB of it here, and in three seconds. A connection may
have 128 requests in progress, the server 512; a response that is not taken costs its content and nothing more.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from pywebtransport.utils import DevCertificate
from tests.hostile import wire
from tests.hostile.server import ServerProcess, running
from tests.hostile.wire import LARGEST, Code, FrameType, Pairs, frame, headers

H3_INTERNAL_ERROR = 0x102


@pytest.fixture(scope="module")
def http_process(certificate: DevCertificate) -> Iterator[ServerProcess]:
    """A server with little patience."""
    with running(certificate, http_timeout=3.0) as process:
        yield process


@pytest.fixture
async def server(http_process: ServerProcess) -> AsyncIterator[ServerProcess]:
    """The server; after the case a normal session must work on it at once."""
    await http_process.warm_up()
    yield http_process
    await http_process.works()


def request(method: bytes = b"POST", path: bytes = b"/page", extra: Pairs | None = None) -> bytes:
    """Make the HEADERS frame of a request."""
    fields = [(b":method", method), (b":scheme", b"https"), (b":authority", b"localhost"), (b":path", path)]
    return headers([*fields, *(extra or [])])


def length(value: int | bytes) -> Pairs:
    """Content-Length."""
    return [(b"content-length", value if isinstance(value, bytes) else str(value).encode())]


def data(size: int) -> bytes:
    """Make a DATA frame."""
    return frame(FrameType.DATA, bytes(size))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(request(extra=length(LARGEST)), id="2^62-1 bytes announced"),
        pytest.param(request(extra=length(b"9" * 1000)), id="10^1000 bytes announced"),
        pytest.param(request(extra=length(65_537)), id="a byte too many announced"),
        pytest.param(request() + frame(FrameType.DATA, bytes(65_537), announced=LARGEST), id="in one frame"),
        pytest.param(request() + data(1) * 65_537, id="byte by byte"),
    ],
)
async def test_too_much_content(server: ServerProcess, content: bytes) -> None:
    """It is answered with 413, and dropped; at most 64 KiB of it are kept until then."""
    async with server.connect() as peer:
        stream = peer.bidi(content)
        assert (await peer.response(stream))[b":status"] == b"413"
        assert await peer.stop_code(stream) == Code.NO_ERROR, "the rest is not wanted"
        assert peer.is_open()


@pytest.mark.parametrize(
    "malformed",
    [
        pytest.param(request(extra=length(5)) + data(6), id="longer than announced"),
        pytest.param(request(extra=length(5)) + data(4), id="shorter than announced"),
        pytest.param(request(extra=length(5)), id="missing"),
        pytest.param(request(extra=length(0)) + data(1), id="more than nothing"),
        pytest.param(request(extra=length(b"+5")) + data(5), id="no number"),
        pytest.param(request(extra=length(b"5, 5")) + data(5), id="two numbers"),
        pytest.param(request(extra=length(5) * 2) + data(5), id="twice"),
        pytest.param(request() + headers([(b":status", b"200")]), id="pseudo-header in trailers"),
        pytest.param(request() + headers([(b"A", b"b")]), id="upper case in trailers"),
        pytest.param(request(b"GE T"), id="method that is no token"),
        pytest.param(request(path=b"*"), id="asterisk without OPTIONS"),
        pytest.param(request(extra=[(b"connection", b"close")]), id="connection"),
    ],
)
async def test_malformed_requests(server: ServerProcess, malformed: bytes) -> None:
    """RFC 9114 section 4.1.2: the stream is reset with H3_MESSAGE_ERROR; the connection lives."""
    async with server.connect() as peer:
        stream = peer.bidi(malformed, fin=True)
        assert await peer.reset_code(stream) == Code.MESSAGE_ERROR
        await peer.echoes(await peer.session())


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (data(1) + headers([(b"a", b"b")]) + data(1), Code.FRAME_UNEXPECTED),
        (headers([]) + headers([]), Code.FRAME_UNEXPECTED),
        (frame(FrameType.SETTINGS), Code.FRAME_UNEXPECTED),
        (frame(FrameType.PUSH_PROMISE, b"\0\0"), Code.FRAME_UNEXPECTED),
        (frame(0x02), Code.FRAME_UNEXPECTED),
        (wire.bidi_header(0), Code.FRAME_ERROR),
        (frame(FrameType.HEADERS, b"\x02\0\x80"), Code.QPACK_DECOMPRESSION_FAILED),
    ],
    ids=lambda value: value.hex()[:20] if isinstance(value, bytes) else None,
)
async def test_frames_that_are_not_allowed(server: ServerProcess, bad: bytes, code: Code) -> None:
    """The connection is closed: DATA and HEADERS behind the trailers, frames of other streams and of HTTP/2."""
    async with server.connect() as peer:
        peer.bidi(request() + bad)
        assert await peer.close_code() == code


async def test_a_request_that_ends_inside_a_frame(server: ServerProcess) -> None:
    """RFC 9114 section 7.1: the connection is closed with H3_FRAME_ERROR."""
    async with server.connect() as peer:
        peer.bidi(request() + frame(FrameType.DATA, b"x", announced=2), fin=True)
        assert await peer.close_code() == Code.FRAME_ERROR


async def test_trailers_are_read_and_mean_nothing(server: ServerProcess) -> None:
    """So do reserved frames, wherever they stand."""
    grease = frame(wire.GREASE[1], b"grease")
    async with server.connect() as peer:
        whole = grease + request() + grease + data(3) + grease + headers([(b"checksum", b"none")]) + grease
        stream = peer.bidi(whole, fin=True)
        response = await peer.response(stream)
        assert (response[b":status"], response[b"content-length"]) == (b"200", b"3")


@pytest.mark.parametrize("beginning", [b"", data(10)], ids=["nothing", "a part"])
async def test_content_that_does_not_come(server: ServerProcess, beginning: bytes) -> None:
    """It is answered with 408 when its time is up; others are served meanwhile."""
    async with server.connect() as peer:
        stream = peer.bidi(request(extra=length(100)) + beginning)
        other = peer.bidi(request() + data(1), fin=True)
        assert (await peer.response(other))[b":status"] == b"200"
        assert (await peer.response(stream))[b":status"] == b"408"
        assert peer.is_open()


async def test_header_sections_that_do_not_come(server: ServerProcess) -> None:
    """100 of them: each stream is reset as retryable when its time is up, CONNECT or not."""
    async with server.connect() as peer:
        streams = [peer.bidi(cut) for cut in (request()[:-1], wire.connect_request()[:9]) for _ in range(50)]
        for stream in streams:
            assert await peer.reset_code(stream) == Code.REQUEST_REJECTED
        await peer.echoes(await peer.session())


async def test_requests_that_are_given_up(server: ServerProcess) -> None:
    """300 that are reset or stopped in the middle: of the content, and of a response of 8 MiB."""
    async with server.connect() as peer:
        for _ in range(10):  # aioquic resets streams that it has no credit for, so a few at a time
            for _ in range(10):
                peer.reset(peer.bidi(request() + data(10)))
                peer.stop(peer.bidi(request(b"GET"), fin=True))
                stream = peer.bidi(request())
                await peer.turn(63)
                peer.reset(stream)
                peer.stop(stream)
            stream = peer.bidi(request() + data(1), fin=True)
            assert (await peer.response(stream))[b":status"] == b"200"


async def test_unknown_methods_and_paths(server: ServerProcess) -> None:
    """404 for an unknown path whatever the method, 405 for an unknown method; content is not waited for."""
    async with server.connect() as peer:
        for method, path, status in (
            (b"BREW", b"/nowhere", b"404"),
            (b"OPTIONS", b"*", b"404"),
            (b"GET", b"/" + b"x" * 10_000, b"404"),
            (b"GET", b"//page", b"404"),
            (b"GET", b"/../page", b"404"),
            (b"get", b"/page", b"405"),
            (b"M" * 10_000, b"/page", b"405"),
            (b"GET", b"/echo", b"405"),
        ):
            stream = peer.bidi(request(method, path) + data(100_000))
            assert (await peer.response(stream))[b":status"] == status, (method, path)
        # A CONNECT without :protocol is for proxies.
        stream = peer.bidi(headers([(b":method", b"CONNECT"), (b":authority", b"example.org:443")]))
        assert (await peer.response(stream))[b":status"] == b"404"


async def test_a_thousand_requests_at_once(server: ServerProcess) -> None:
    """QUIC lets 121 of them through at a time; all are answered."""
    before = await server.stats()
    async with server.connect() as peer:
        streams = []
        for number in range(1000):
            streams.append(peer.bidi(request() + data(1), fin=True))
            await peer.turn(number)
        for stream in streams:
            assert (await peer.response(stream))[b":status"] == b"200"
        await peer.echoes(await peer.session())
    after = await server.stats()
    assert after["http_requests"] - before["http_requests"] == 1000
    assert after["requests_rejected"] == before["requests_rejected"]


async def test_responses_that_are_not_taken(server: ServerProcess) -> None:
    """20 responses of 8 MiB to a peer that grants no credit: each is reset in time, others are served meanwhile.

    Memory: 8 MiB each until then; what QUIC has taken of them is bounded by its window.
    """
    before = await server.stats()
    async with server.connect() as peer, server.connect() as other:
        peer.withhold_credit()
        streams = [peer.bidi(request(b"GET"), fin=True) for _ in range(20)]
        for _ in range(20):
            stream = other.bidi(request() + data(1), fin=True)
            assert (await other.response(stream))[b":status"] == b"200"
        for stream in streams:
            assert await peer.reset_code(stream) == Code.REQUEST_CANCELLED
    after = await server.stats()
    assert after["requests_timed_out"] - before["requests_timed_out"] == 20


async def test_datagrams_for_requests_that_give_them_no_meaning(server: ServerProcess) -> None:
    """RFC 9297 section 2: the request ends with H3_DATAGRAM_ERROR; a session beside it goes on."""
    async with server.connect() as peer:
        session = await peer.session()
        for _ in range(20):
            stream = peer.bidi(request())
            await peer.sent()
            peer.datagram(wire.varint(stream // 4) + b"x")
            assert await peer.reset_code(stream) == Code.DATAGRAM_ERROR
        # Before the request is there.
        peer.datagram(wire.varint((stream + 4) // 4) + b"early")
        await peer.sent()
        stream = peer.bidi(request())
        assert await peer.reset_code(stream) == Code.DATAGRAM_ERROR
        await peer.echoes(session)


async def test_nothing_of_it_stays(server: ServerProcess) -> None:
    """No task, no session and no connection but that of the question; memory as before, within 20 MB."""
    stats = await server.stats()
    assert (stats["connections"], stats["sessions"]) == (1, 1), stats
    assert stats["tasks"] < 10, stats
    assert server.rss() - server.rss_before < 20 << 20
    assert "Traceback" not in server.log()
