"""The sessions of the echo server, one coroutine per path."""

from __future__ import annotations

import asyncio

from pywebtransport import WebTransportReceiveStream, WebTransportSession, WebTransportStream
from pywebtransport.exceptions import DatagramError, WebTransportError

__all__: list[str] = ["CLOSE_CODE", "CLOSE_REASON", "GREETING", "close", "echo", "push"]

CLOSE_CODE = 4242
CLOSE_REASON = "done by the server"
GREETING = b"opened by the server"

_CHUNK = 65536
_BATCH = 256


async def echo(session: WebTransportSession) -> None:
    """Send everything back: bidirectional streams on themselves, each unidirectional stream on one of our own."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_echo_datagrams(session))
        async for stream in session.incoming_streams():
            if isinstance(stream, WebTransportStream):
                tasks.create_task(_echo_stream(stream))
            else:
                tasks.create_task(_answer_stream(session, stream))


async def push(session: WebTransportSession) -> None:
    """Open a bidirectional and a unidirectional stream without being asked; what comes back is echoed."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_greet(session))
        tasks.create_task(echo(session))


async def close(session: WebTransportSession) -> None:
    """Close at once, with a code and a reason."""
    await session.close(CLOSE_CODE, CLOSE_REASON)


async def _greet(session: WebTransportSession) -> None:
    try:
        stream = await session.create_bidirectional_stream()
        await stream.write(GREETING)
        sender = await session.create_unidirectional_stream()
        await sender.write_all(GREETING)
    except WebTransportError:
        return
    await _echo_stream(stream)


async def _echo_stream(stream: WebTransportStream) -> None:
    # A stream that the peer resets, or a session that ends, is the end of this echo and of nothing else.
    try:
        while data := await stream.read(_CHUNK):
            await stream.write(data)
        await stream.close()
    except WebTransportError:
        await stream.abort()


async def _answer_stream(session: WebTransportSession, stream: WebTransportReceiveStream) -> None:
    try:
        answer = await session.create_unidirectional_stream()
        while data := await stream.read(_CHUNK):
            await answer.write(data)
        await answer.close()
    except WebTransportError:
        await stream.abort()


async def _echo_datagrams(session: WebTransportSession) -> None:
    datagrams = session.datagrams
    try:
        while True:
            for datagram in await datagrams.receive_multiple(_BATCH):
                await datagrams.try_send(datagram)
    except DatagramError:
        return  # the session ended
