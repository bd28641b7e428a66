"""Capsules that are malformed, without end, or too many (draft-16 section 6, RFC 9297 section 3).

Memory: of a known capsule its small value is collected (1028 bytes of WT_CLOSE_SESSION, 65 535 of a DATAGRAM, 8 of the
others), unknown ones are dropped as they come. What comes before the answer to a request is held up to 64 KiB
(HELD_LIMIT). A CONNECT stream is always read, so nothing waits in QUIC.
"""

from __future__ import annotations

import pytest

from tests.hostile import wire
from tests.hostile.server import ServerProcess
from tests.hostile.wire import LARGEST, CapsuleType, Code, capsule, close_capsule, data, quarter_id

CLOSE = close_capsule(7, b"bye")
_MALFORMED = {
    "close without a code": capsule(CapsuleType.CLOSE, b"\0\0\0"),
    "close that is empty": capsule(CapsuleType.CLOSE),
    "reason of 1025 bytes": close_capsule(0, bytes(1025)),
    "reason of 2^62-5 bytes": capsule(CapsuleType.CLOSE, bytes(4), announced=LARGEST),
    "reason that ends inside a character": close_capsule(0, "\N{EURO SIGN}".encode()[:2]),
    "reason with a surrogate": close_capsule(0, b"\xed\xa0\x80"),
    "reason that is no UTF-8": close_capsule(0, b"\xff\xfe" * 512),
    "bytes after the close": CLOSE + b"\0",
    "a second close": CLOSE + CLOSE,
    "a capsule after the close": CLOSE + capsule(wire.CAPSULE_GREASE[0]),
    "drain with a value": capsule(CapsuleType.DRAIN, b"\0"),
    "drain of 2^62-1 bytes": capsule(CapsuleType.DRAIN, announced=LARGEST),
}


@pytest.mark.parametrize("case", _MALFORMED)
async def test_malformed_capsules(either_server: ServerProcess, case: str) -> None:
    """The CONNECT stream is reset and stopped with H3_MESSAGE_ERROR; the connection is not closed for it."""
    async with either_server.connect() as peer:
        session = await peer.session()
        peer.write(session, data(_MALFORMED[case]))
        assert await peer.reset_code(session) == Code.MESSAGE_ERROR
        assert await peer.stop_code(session) == Code.MESSAGE_ERROR
        await peer.echoes(await peer.session())


@pytest.mark.parametrize("late", [data(b"\0"), data(CLOSE), b"\0"], ids=["capsule", "close", "half a frame"])
async def test_bytes_long_after_the_close(server: ServerProcess, late: bytes) -> None:
    """The server has finished its half already; the other is stopped with H3_MESSAGE_ERROR."""
    async with server.connect() as peer:
        session = await peer.session()
        peer.write(session, data(CLOSE))
        await peer.finished(session)
        peer.write(session, late)
        assert await peer.stop_code(session) == Code.MESSAGE_ERROR


@pytest.mark.parametrize(
    "reason",
    [b"", b"x" * 1024, "\N{EURO SIGN}".encode() * 341 + b"x", b"\0" * 1024],
    ids=["empty", "1024 bytes", "1024 bytes of characters", "zeros"],
)
async def test_the_longest_reason_that_is_allowed(server: ServerProcess, reason: bytes) -> None:
    """Draft-16 section 6: the session ends, and its stream with a FIN."""
    async with server.connect() as peer:
        session = await peer.session()
        peer.write(session, data(close_capsule(0xFFFFFFFF, reason)), fin=True)
        await peer.finished(session)
        assert peer.answers[session].stopped is None


@pytest.mark.parametrize(
    "cut",
    [b"\x80", b"\x68\x43", CLOSE[:-1], capsule(0x5000, announced=LARGEST) + b"x", b"\0\5x"],
    ids=bytes.hex,
)
async def test_a_session_that_ends_inside_a_capsule(server: ServerProcess, cut: bytes) -> None:
    """RFC 9297 section 3.3: the message is malformed, so the stream ends with H3_MESSAGE_ERROR."""
    async with server.connect() as peer:
        session = await peer.session()
        peer.write(session, data(cut), fin=True)
        assert await peer.reset_code(session) == Code.MESSAGE_ERROR
        await peer.echoes(await peer.session())


async def test_an_unknown_capsule_without_end(either_server: ServerProcess) -> None:
    """2^62-1 bytes are announced, and megabytes of them come: they are dropped as they arrive."""
    async with either_server.connect() as peer:
        session = await peer.session()
        peer.write(session, data(capsule(0x5000, announced=LARGEST)))
        before = either_server.rss()
        for _ in range(64):
            peer.write(session, data(bytes(65_536)))
        await peer.sent()
        assert either_server.rss() - before < 8 << 20
        await peer.echoes(session)


async def test_a_datagram_capsule_without_end(server: ServerProcess) -> None:
    """RFC 9297 section 3.5: a datagram that is too large for a QUIC DATAGRAM frame is dropped unbuffered."""
    async with server.connect() as peer:
        session = await peer.session()
        peer.write(session, data(capsule(CapsuleType.DATAGRAM, bytes(65_536))))
        peer.write(session, data(capsule(CapsuleType.DATAGRAM, b"small")))
        await peer.until(lambda: bool(peer.datagrams), "an echo")
        assert peer.datagrams == [quarter_id(session, b"small")]
        peer.write(session, data(capsule(CapsuleType.DATAGRAM, announced=LARGEST)) + data(bytes(1 << 20)))
        await peer.echoes(session)


async def test_capsules_that_come_byte_by_byte(server: ServerProcess) -> None:
    """Each byte in a DATA frame and a packet of its own."""
    async with server.connect() as peer:
        session = await peer.session()

        def send(capsules: bytes) -> None:
            for byte in capsules:
                peer.write(session, data(bytes([byte])))
                peer.transmit()

        send(capsule(wire.CAPSULE_GREASE[2], b"?") + capsule(CapsuleType.DATAGRAM, b"one"))
        await peer.until(lambda: bool(peer.datagrams), "an echo")
        send(CLOSE)
        await peer.finished(session)


@pytest.mark.parametrize("dialect", wire.DIALECTS)
async def test_what_means_nothing_without_flow_control(server: ServerProcess, dialect: str) -> None:
    """Draft-16 section 5.1: its capsules are ignored, even those that are prohibited or no capsules of it at all.

    So is REGISTER_DATAGRAM_NO_CONTEXT, which Chromium sends in draft-02.
    """
    async with server.connect(wire.DIALECTS[dialect]) as peer:
        session = await peer.session()
        for kind in range(CapsuleType.MAX_DATA, CapsuleType.STREAMS_BLOCKED_UNI + 1):
            for value in (b"", b"\0", bytes(100), wire.varint(LARGEST)):
                peer.write(session, data(capsule(kind, value)))
        peer.write(session, data(capsule(0xFF37A2, b"\0")))
        await peer.echoes(session)


async def test_capsules_that_come_before_the_answer(server: ServerProcess) -> None:
    """Draft-16 section 3.2: not processed before the 2xx, but then: a datagram is echoed, a close is a close."""
    async with server.connect() as peer:
        session = peer.bidi(peer.request("/late"))
        peer.write(session, data(capsule(CapsuleType.DATAGRAM, b"one"), capsule(wire.CAPSULE_GREASE[0])))
        peer.write(session, data(capsule(CapsuleType.DATAGRAM, b"two"), CLOSE))
        await peer.sent()
        async with server.bystander() as bystander:
            await bystander.trips()
        assert not peer.answers[session].data
        peer.datagram(quarter_id(session, b"now"))
        assert (await peer.response(session))[b":status"] == b"200"
        await peer.finished(session)


async def test_more_capsules_before_the_answer_than_are_held(server: ServerProcess) -> None:
    """Above 64 KiB the request is given up with H3_EXCESSIVE_LOAD."""
    async with server.connect() as peer:
        session = peer.bidi(peer.request("/late"))
        peer.write(session, data(capsule(0x5000, bytes(65_537))))
        assert await peer.reset_code(session) == Code.EXCESSIVE_LOAD
        assert await peer.stop_code(session) == Code.EXCESSIVE_LOAD
        await peer.echoes(await peer.session())


@pytest.mark.parametrize("path", ["/late", "/pour"])
@pytest.mark.parametrize("width", ["session", "connection"])
async def test_handlers_are_not_to_blame(either_server: ServerProcess, path: str, width: str) -> None:
    """A handler that waits when its peer breaks a rule ends like one whose peer leaves: no traceback for a peer to fill
    the log with.
    """
    async with either_server.connect() as peer:
        session = peer.bidi(peer.request(path))
        await peer.sent()
        if path == "/pour":
            await peer.response(session)
        if width == "connection":
            peer.write(session, peer.request())
            assert await peer.close_code() == Code.FRAME_UNEXPECTED
        else:
            peer.write(session, data(capsule(0x5000, bytes(65_537)) + _MALFORMED["drain with a value"]))
            code = Code.EXCESSIVE_LOAD if path == "/late" else Code.MESSAGE_ERROR
            assert await peer.reset_code(session) == code
    await either_server.until(lambda seen: seen["tasks"] <= either_server.tasks_before)
    assert either_server.log() == ""


async def test_capsules_of_a_request_that_is_refused(server: ServerProcess) -> None:
    """Dropped, however many: the response arrives, and the stream ends with a FIN on both sides."""
    async with server.connect() as peer:
        session = peer.bidi(peer.request("/nothing-here"))
        peer.write(session, data(capsule(CapsuleType.DATAGRAM, b"one")) + data(bytes(1 << 20)))
        assert (await peer.response(session))[b":status"] == b"404"
        peer.write(session, data(CLOSE), fin=True)
        await peer.finished(session)
        await peer.echoes(await peer.session())


_FLOODS = {
    "unknown": capsule(0x5000, b"x"),
    "reserved and empty": capsule(wire.CAPSULE_GREASE[0]),
    "drain": capsule(CapsuleType.DRAIN),
    "datagrams": capsule(CapsuleType.DATAGRAM, b"flood"),
    "datagrams that are empty": capsule(CapsuleType.DATAGRAM),
    "flow control": capsule(CapsuleType.DATA_BLOCKED, b"\0"),
}


@pytest.mark.parametrize("case", _FLOODS)
async def test_floods_of_capsules(either_server: ServerProcess, case: str) -> None:
    """30 000 of one kind on one session: nothing is kept of them, the session goes on and so do the others.

    Of datagrams at most 4096 wait for the application. Half of the capsules have a DATA frame each.
    """
    pieces = [data(_FLOODS[case]) * 100, data(_FLOODS[case] * 100)]
    async with either_server.bystander() as bystander, either_server.connect(wire.FLOW_CONTROL) as peer:
        # An echo of so many datagrams would keep the peer busy.
        session = await peer.session("/deaf")
        for number in bystander.during(300):
            peer.write(session, pieces[number % 2])
            await peer.turn(number)
        await peer.sent()
        assert not peer.answers[session].finished
        peer.write(session, data(CLOSE), fin=True)
        await peer.finished(session)
