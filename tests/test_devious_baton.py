"""The example `devious_baton`: whole games between its two ends, and each end against a peer that breaks the rules."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from examples.devious_baton.client import play
from examples.devious_baton.message import PATH, Foul, Message, SessionCode, StreamCode
from examples.devious_baton.player import Game, Player
from examples.devious_baton.server import MAX_COUNT, Parameters, make_app
from pywebtransport import (
    ClientConfig,
    ClientError,
    ServerConfig,
    StreamError,
    WebTransportClient,
    WebTransportSession,
    WebTransportStream,
)
from pywebtransport.utils import DevCertificate
from tests.harness import SECONDS, Pair, client_config, next_stream

_NARROW: dict[str, Any] = {"flow_control_window_size": 65536, "flow_control_window_auto_scale": False}
_LONG = 1_000_000  # bytes of padding: many such windows, so a message that nobody reads stays under way
_SHORT = 0.2  # seconds of patience where a test waits for its end


class _Referee:
    """A server of the example that listens, and the games that ended on it."""

    def __init__(self) -> None:
        self.authority = ""
        self.games: asyncio.Queue[Game] = asyncio.Queue()

    def url(self, query: str) -> str:
        return f"https://{self.authority}{PATH}{query}"

    async def next_game(self) -> Game:
        async with asyncio.timeout(SECONDS):
            return await self.games.get()


@contextlib.asynccontextmanager
async def _referee(
    certificate: DevCertificate, driver: str, padding: int = 0, patience: float = SECONDS, **options: Any
) -> AsyncIterator[_Referee]:
    referee = _Referee()
    config = ServerConfig(certfile=certificate.certfile, keyfile=certificate.keyfile, driver=driver, **options)
    app = make_app(config, padding=padding, patience=patience, on_end=referee.games.put_nowait)
    async with app:
        await app.server.listen("127.0.0.1", 0)
        assert app.server.local_address is not None
        referee.authority = f"127.0.0.1:{app.server.local_address[1]}"
        yield referee


# --- whole games ---


@pytest.mark.parametrize(
    ("count", "baton", "padding"), [(1, 1, 0), (1, 255, 3), (2, 254, 0), (7, 200, 300), (MAX_COUNT, 240, 0)]
)
async def test_every_baton_comes_home(
    certificate: DevCertificate, driver: str, config: ClientConfig, count: int, baton: int, padding: int
) -> None:
    async with _referee(certificate, driver, padding) as referee:
        near = await play(referee.authority, config, count=count, baton=baton, padding=padding)
        far = await referee.next_game()

    passes = [value % 256 for value in range(baton, 257)]
    assert Counter(far.sent) == Counter(near.received) == Counter(passes[0::2] * count)
    assert Counter(near.sent) == Counter(far.received) == Counter(passes[1::2] * count)
    assert near.lost == far.lost == 0
    assert (near.code, near.reason) == (far.code, far.reason) == (0, "")
    assert near.ended_by_us != far.ended_by_us
    # Every seventh baton is repeated as a datagram, and those may be lost.
    assert near.datagrams_sent == [value for value in near.received if value % 7 == 1]
    assert far.datagrams_sent == [value for value in far.received if value % 7 == 0]
    assert Counter(far.datagrams_received) <= Counter(near.datagrams_sent)
    assert Counter(near.datagrams_received) <= Counter(far.datagrams_sent)


async def test_a_server_chooses_the_first_value_itself(
    certificate: DevCertificate, driver: str, config: ClientConfig
) -> None:
    async with _referee(certificate, driver) as referee:
        game = await play(referee.authority, config, count=3)
    assert game.code == 0
    first = game.received[0]
    assert first != 0
    assert len(game.received) + len(game.sent) == 3 * (257 - first)


async def test_padding_larger_than_every_window(certificate: DevCertificate, driver: str) -> None:
    config = client_config(certificate, driver=driver, **_NARROW)
    async with _referee(certificate, driver, _LONG, **_NARROW) as referee:
        game = await play(referee.authority, config, count=2, baton=251, padding=_LONG)
    assert (game.code, game.lost) == (0, 0)
    assert len(game.received) + len(game.sent) == 2 * 6


# --- requests ---


@pytest.mark.parametrize(
    "query",
    [
        "?version=1",
        "?version=x",
        "?baton=0",
        "?baton=256",
        "?baton=",
        "?baton=1&baton=2",
        "?count=0",
        "?count=-1",
        f"?count={MAX_COUNT + 1}",
        "?count=" + "9" * 5000,
    ],
)
async def test_a_request_with_wrong_parameters_is_refused(
    certificate: DevCertificate, driver: str, client: WebTransportClient, query: str
) -> None:
    async with _referee(certificate, driver) as referee:
        with pytest.raises(ClientError, match="HTTP status 4"):
            await client.connect(referee.url(query))


def test_parameters_have_defaults() -> None:
    parameters = Parameters.parse(PATH)
    assert (parameters.version, parameters.count) == (0, 1)
    assert 1 <= parameters.baton <= 255


# --- a client that breaks the rules ---

Misbehaviour = Callable[[WebTransportSession], Awaitable[object]]


async def _first(session: WebTransportSession) -> int:
    """Take the first message of a server without padding; return its baton."""
    stream = await next_stream(session)
    return Message.decode(await stream.read_all()).baton


async def _request(session: WebTransportSession, data: bytes) -> WebTransportStream:
    """Send something on a bidirectional stream. Whoever drops the result stops the answer."""
    stream = await session.create_bidirectional_stream()
    await stream.write_all(data)
    return stream


async def _ends_within_a_message(session: WebTransportSession) -> object:
    await _first(session)
    return await _request(session, Message(101, 50).encode()[:-2])


async def _ends_before_the_padding_length(session: WebTransportSession) -> object:
    await _first(session)
    return await _request(session, b"\x80\x00")


async def _sends_nothing_at_all(session: WebTransportSession) -> object:
    return await _request(session, b"")


async def _goes_on_behind_its_message(session: WebTransportSession) -> object:
    await _first(session)
    return await _request(session, Message(101).encode() + b"!")


async def _sends_half_a_datagram(session: WebTransportSession) -> None:
    await session.datagrams.send(Message(99, 20).encode()[:-1])


async def _sends_an_empty_datagram(session: WebTransportSession) -> None:
    await session.datagrams.send(b"")


async def _sends_a_datagram_too_many(session: WebTransportSession) -> None:
    await session.datagrams.send(Message(98).encode())  # 98 is 0 modulo 7: the server's business


async def _adds_two(session: WebTransportSession) -> object:
    return await _request(session, Message(await _first(session) + 2).encode())


async def _answers_twice(session: WebTransportSession) -> object:
    answer = Message(await _first(session) + 1).encode()
    return [await _request(session, answer) for _ in range(2)]


async def _answers_the_wrong_way(session: WebTransportSession) -> None:
    stream = await session.create_unidirectional_stream()
    await stream.write_all(Message(await _first(session) + 1).encode())


async def _says_nothing(session: WebTransportSession) -> None:
    await _first(session)


async def _never_ends_its_message(session: WebTransportSession) -> None:
    await _first(session)
    stream = await session.create_bidirectional_stream()
    # 2^61 bytes of padding, announced and under way.
    await stream.write(b"\xe0" + bytes(7))
    with contextlib.suppress(StreamError):  # the session's end
        while True:
            await stream.write(bytes(10_000))


@pytest.mark.parametrize(
    ("misbehave", "code"),
    [
        (_ends_within_a_message, SessionCode.BRUH),
        (_ends_before_the_padding_length, SessionCode.BRUH),
        (_sends_nothing_at_all, SessionCode.BRUH),
        (_goes_on_behind_its_message, SessionCode.BRUH),
        (_sends_half_a_datagram, SessionCode.BRUH),
        (_sends_an_empty_datagram, SessionCode.BRUH),
        (_sends_a_datagram_too_many, SessionCode.SUS),
        (_adds_two, SessionCode.SUS),
        (_answers_twice, SessionCode.SUS),
        (_answers_the_wrong_way, SessionCode.SUS),
        (_says_nothing, SessionCode.BORED),
        (_never_ends_its_message, SessionCode.BORED),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else "",
)
async def test_the_server_closes_with_the_code_of_the_foul(
    certificate: DevCertificate, driver: str, config: ClientConfig, misbehave: Misbehaviour, code: SessionCode
) -> None:
    patience = _SHORT if code is SessionCode.BORED else SECONDS
    async with _referee(certificate, driver, patience=patience) as referee:
        async with WebTransportClient(config=config) as client:
            session = await client.connect(referee.url("?baton=100"))
            kept = await misbehave(session)
            await session.wait_closed()
            del kept
            assert session.close_code == code, session.close_reason
            assert (await referee.next_game()).code == code
        # The next one plays as if nothing had been.
        assert (await play(referee.authority, config, baton=250)).code == 0


async def test_a_server_without_stream_credit_closes_with_da_yamn(certificate: DevCertificate, driver: str) -> None:
    stingy = client_config(certificate, driver=driver, max_incoming_streams=2)
    async with _referee(certificate, driver) as referee, WebTransportClient(config=stingy) as client:
        session = await client.connect(referee.url(f"?count={MAX_COUNT}"))
        await session.wait_closed()  # takes none of the streams, so hardly one is given back
        assert session.close_code == SessionCode.DA_YAMN


async def test_a_client_that_does_not_care_costs_one_baton(certificate: DevCertificate, driver: str) -> None:
    config = client_config(certificate, driver=driver, **_NARROW)
    async with _referee(certificate, driver, _LONG) as referee, WebTransportClient(config=config) as client:
        session = await client.connect(referee.url("?count=2&baton=255"))
        unwanted, wanted = await next_stream(session), await next_stream(session)
        await unwanted.abort(StreamCode.IDC)
        assert (await wanted.read_all())[-1] == 255
        answer = await session.create_bidirectional_stream()
        await answer.write_all(Message(0).encode())
        game = await referee.next_game()
    assert (game.code, game.lost, game.received) == (0, 1, [0])


async def test_a_reset_of_a_bidirectional_stream_is_answered_with_whatever(
    certificate: DevCertificate, driver: str, client: WebTransportClient
) -> None:
    async with _referee(certificate, driver) as referee:
        session = await client.connect(referee.url("?count=2&baton=100"))
        for _ in range(2):
            await _first(session)
        stream = await session.create_bidirectional_stream()
        await stream.write(b"\x00")
        # `abort` would stop the answer too, with the same code; the draft resets one direction.
        assert stream._send is not None
        stream._send.reset(StreamCode.I_LIED)
        with pytest.raises(StreamError) as caught:
            await stream.read_all()
        assert caught.value.application_code == StreamCode.WHATEVER
        await session.close()
        assert (await referee.next_game()).lost == 1


# --- a server that breaks the rules ---


async def _reset_a_reply(far: WebTransportSession) -> None:
    await _begin(far, 100)
    request = await next_stream(far)
    assert isinstance(request, WebTransportStream)
    assert Message.decode(await request.read_all()).baton == 101
    await request.abort(StreamCode.I_LIED)


async def _begin_with_another_value(far: WebTransportSession) -> None:
    await _begin(far, 99)


async def _begin_twice(far: WebTransportSession) -> None:
    await _begin(far, 100)
    await _begin(far, 100)


async def _reply_with_the_same_value(far: WebTransportSession) -> None:
    await _begin(far, 100)
    request = await next_stream(far)
    assert isinstance(request, WebTransportStream)
    await request.write_all(await request.read_all())


async def _do_nothing(far: WebTransportSession) -> None:
    """Wait for the client to lose its patience."""


async def _begin(far: WebTransportSession, baton: int) -> None:
    await (await far.create_unidirectional_stream()).write_all(Message(baton).encode())


@pytest.mark.parametrize(
    ("misbehave", "code", "lost"),
    [
        (_reset_a_reply, 0, 1),
        (_begin_with_another_value, SessionCode.SUS, 0),
        (_begin_twice, SessionCode.SUS, 0),
        (_reply_with_the_same_value, SessionCode.SUS, 0),
        (_do_nothing, SessionCode.BORED, 0),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else "",
)
async def test_the_client_closes_with_the_code_of_the_foul(
    pair: Pair, misbehave: Misbehaviour, code: int, lost: int
) -> None:
    patience = _SHORT if code == SessionCode.BORED else SECONDS
    player = Player(pair.client, serves=False, count=1, baton=100, patience=patience)
    async with asyncio.TaskGroup() as tasks:
        playing = tasks.create_task(player.play())
        tasks.create_task(_to_the_end(misbehave(pair.server)))
    game = playing.result()
    assert (game.code, game.lost, game.ended_by_us) == (code, lost, True)
    await pair.server.wait_closed()
    assert pair.server.close_code == code


async def _to_the_end(work: Awaitable[object]) -> None:
    await work


# --- messages ---


@pytest.mark.parametrize("padding", [0, 1, 63, 64, 16383, 16384])
def test_messages_survive_the_wire(padding: int) -> None:
    assert Message.decode(Message(7, padding).encode()) == Message(7, padding)


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x01\x00", b"\x40", b"\xc0" + bytes(7), b"\x00\x01\x02"])
def test_a_datagram_is_exactly_one_message(data: bytes) -> None:
    with pytest.raises(Foul) as caught:
        Message.decode(data)
    assert caught.value.code is SessionCode.BRUH
