"""The rules of the game, section "Protocol Behavior". They are the same at both ends, but for who begins."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TypeVar

from examples.devious_baton.message import Foul, Message, SessionCode, StreamCode, read_message
from pywebtransport import (
    DatagramError,
    SessionError,
    StreamError,
    WebTransportReceiveStream,
    WebTransportSendStream,
    WebTransportSession,
    WebTransportStream,
)
from pywebtransport.types import SessionState

__all__: list[str] = ["Game", "Player"]

S = TypeVar("S", bound=WebTransportSendStream)

# The draft wants DA_YAMN as soon as there is no stream credit. Credit for a stream that has ended is on its way for a
# round trip, so "no credit" is said after a moment.
_CREDIT_PATIENCE = 1.0


class Arrival(Enum):
    """On what kind of stream a message comes in."""

    UNIDIRECTIONAL = auto()  # answered on a bidirectional stream of our own
    REQUEST = auto()  # on a bidirectional stream of the peer: answered there
    REPLY = auto()  # on a bidirectional stream of our own: answered on a unidirectional one


@dataclass
class Game:
    """What one end saw of a game."""

    sent: list[int] = field(default_factory=list)
    received: list[int] = field(default_factory=list)
    datagrams_sent: list[int] = field(default_factory=list)
    datagrams_received: list[int] = field(default_factory=list)
    lost: int = 0  # batons whose stream was reset or stopped
    code: int | None = None  # how the session was closed
    reason: str = ""
    ended_by_us: bool = False


class Player:
    """One end of a game.

    A task per stream of the peer follows its baton until it is in the peer's hands again. Whatever goes wrong is
    raised as `Foul` out of the group of tasks, which ends them all, and becomes the code of the close.
    """

    def __init__(
        self,
        session: WebTransportSession,
        *,
        serves: bool,
        count: int,
        baton: int | None,
        padding: int = 0,
        patience: float = 10.0,
    ) -> None:
        """Take a side.

        Args:
            session: a session that is connected.
            serves: the server's side, which sends first.
            count: batons in the game.
            baton: the value they begin with; None on a client that left it to the server.
            padding: bytes of padding in our messages.
            patience: seconds without a message after which the session is closed with BORED.
        """
        self._session = session
        self._serves = serves
        self._active = count
        self._initial = baton
        self._unseen = 0 if serves else count  # first messages that a client still waits for
        self._padding = padding
        self._patience = patience
        self._expected: Counter[tuple[Arrival, int]] = Counter()
        self._boredom = asyncio.timeout(None)
        self.game = Game()

    async def play(self) -> Game:
        """Play until the session is closed, by whichever side, and return what happened."""
        try:
            async with self._boredom, asyncio.TaskGroup() as tasks:
                self._be_patient()
                tasks.create_task(self._watch_datagrams())
                if self._serves:
                    for _ in range(self._active):
                        tasks.create_task(self._guarded(self._serve()))
                async for stream in self._session.incoming_streams():
                    tasks.create_task(self._guarded(self._follow(stream)))
        except* Foul as fouls:
            foul = next(iter(_leaves(fouls)))
            await self._close(foul.code, foul.reason)
        except* TimeoutError:  # ours, or that of a read or write: the peer sends nothing, or takes nothing
            await self._close(SessionCode.BORED, f"nothing for {self._patience} s")
        await self._session.wait_closed()
        self.game.code, self.game.reason = self._session.close_code, self._session.close_reason or ""
        return self.game

    async def _guarded(self, work: Awaitable[None]) -> None:
        """Do some work; when the session ends meanwhile, that is no error."""
        try:
            await work
        except (DatagramError, SessionError, StreamError):
            if self._session.state not in (SessionState.CLOSING, SessionState.CLOSED):
                raise

    # --- batons ---

    async def _serve(self) -> None:
        assert self._initial is not None, "a server has chosen"
        await self._pass(await self._open(self._session.create_unidirectional_stream), self._initial, Arrival.REQUEST)

    async def _follow(self, stream: WebTransportStream | WebTransportReceiveStream) -> None:
        """Take the message of a stream of the peer, and answer."""
        if isinstance(stream, WebTransportStream):
            baton = await self._take(stream, Arrival.REQUEST)
            if baton:
                await self._pass(stream, _next(baton), Arrival.UNIDIRECTIONAL)
            elif baton == 0:
                await stream.close()  # there is nothing to answer
                await self._one_less()
            return
        baton = await self._take(stream, Arrival.UNIDIRECTIONAL)
        if baton == 0:
            await self._one_less()
        elif baton is not None:
            await self._exchange(_next(baton))

    async def _exchange(self, baton: int) -> None:
        """Send the baton on a bidirectional stream, and answer what comes back on it."""
        stream = await self._open(self._session.create_bidirectional_stream)
        if not await self._pass(stream, baton, Arrival.REPLY) or baton == 0:
            return  # lost, or done: nothing comes back
        reply = await self._take(stream, Arrival.REPLY)
        if reply == 0:
            await self._one_less()
        elif reply is not None:
            outgoing = await self._open(self._session.create_unidirectional_stream)
            await self._pass(outgoing, _next(reply), Arrival.REQUEST)

    async def _take(self, stream: WebTransportReceiveStream, arrival: Arrival) -> int | None:
        """Return the baton that a stream brings; None when the peer reset it, and the baton is lost."""
        try:
            baton = (await read_message(stream)).baton
        except StreamError:
            await self._lose(stream)
            return None
        self._be_patient()
        self._check(arrival, baton)
        self.game.received.append(baton)
        if baton % 7 == (0 if self._serves else 1):
            await self._echo(baton)
        return baton

    async def _pass(self, stream: WebTransportSendStream, baton: int, answer: Arrival) -> bool:
        """Send the baton and the end of the stream; False when the peer stops it, and the baton is lost."""
        try:
            await stream.write(Message(baton, self._padding).encode(), end_stream=True)
            if baton:
                self._expected[answer, _next(baton)] += 1
            self.game.sent.append(baton)
            await stream.flush()
        except StreamError:
            # The draft wants WHATEVER as the answer to a stop. The library has answered already, with the peer's own
            # code, as RFC 9000 section 3.5 recommends.
            await self._lose(stream)
            return False
        return True

    async def _open(self, create: Callable[[float], Awaitable[S]]) -> S:
        try:
            return await create(_CREDIT_PATIENCE)
        except StreamError as error:
            raise Foul(SessionCode.DA_YAMN, "no credit for another stream") from error

    def _check(self, arrival: Arrival, baton: int) -> None:
        """Refuse a baton that is not the next value of one we sent, or that came the wrong way."""
        if self._expected[arrival, baton] > 0:
            self._expected[arrival, baton] -= 1
        elif self._unseen and arrival is Arrival.UNIDIRECTIONAL and self._initial in (None, baton):
            self._initial = baton  # all batons begin with the same value
            self._unseen -= 1
        else:
            raise Foul(SessionCode.SUS, f"nobody expected {baton} there")

    async def _lose(self, stream: WebTransportReceiveStream | WebTransportSendStream) -> None:
        """Give up a baton whose stream the peer has reset or stopped, and the other direction of that stream."""
        if self._session.state in (SessionState.CLOSING, SessionState.CLOSED):
            return
        await stream.abort(StreamCode.WHATEVER)
        self.game.lost += 1
        await self._one_less()

    async def _one_less(self) -> None:
        """Count a baton that is done or lost; the last one ends the game, without an error."""
        self._active -= 1
        if self._active == 0:
            await self._close(0, "")

    # --- datagrams ---

    async def _echo(self, baton: int) -> None:
        """Send the message once more, as a datagram; the padding is cut to what fits beside a length and the baton."""
        transport = self._session.datagrams
        padding = max(0, min(self._padding, transport.max_datagram_size - 9))
        await transport.send(Message(baton, padding).encode())
        self.game.datagrams_sent.append(baton)

    async def _watch_datagrams(self) -> None:
        async for data in self._session.datagrams:
            baton = Message.decode(data).baton
            if baton % 7 != (1 if self._serves else 0):
                raise Foul(SessionCode.SUS, f"a datagram with {baton}")
            self.game.datagrams_received.append(baton)

    # --- the end ---

    def _be_patient(self) -> None:
        self._boredom.reschedule(asyncio.get_running_loop().time() + self._patience)

    async def _close(self, code: int, reason: str) -> None:
        self.game.ended_by_us = self.game.ended_by_us or self._session.close_code is None
        await self._session.close(code, reason)


def _next(baton: int) -> int:
    return (baton + 1) % 256


def _leaves(group: BaseExceptionGroup[Foul]) -> list[Foul]:
    """Return the exceptions in a group, nested groups taken apart."""
    leaves: list[Foul] = []
    for part in group.exceptions:
        leaves += _leaves(part) if isinstance(part, BaseExceptionGroup) else [part]
    return leaves
