"""The server of the soak, in a process of its own: its memory is its own.

usage: program.py RECORDS CERTFILE KEYFILE OPTIONS, where OPTIONS are fields of ServerConfig as JSON. Prints a line with
the port and the state at the start, and another line with the state for each line that it reads. One line for each
session that has ended goes to the file RECORDS: what is kept there takes no memory here.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import sys
from collections import Counter
from typing import IO, Any

from pywebtransport import (
    ServerApp,
    ServerConfig,
    StreamError,
    WebTransportError,
    WebTransportReceiveStream,
    WebTransportSendStream,
    WebTransportSession,
    WebTransportStream,
)
from pywebtransport._bridge import current_bridge
from pywebtransport.connection import WebTransportConnection
from tests.soak.protocol import ECHO, FAIL, FAIL_CODE, PATIENCE, PULL, PUSH, SETTLE, STOP, STOP_CODE, Tally, trim


class HandlerFailure(RuntimeError):
    """A client asked for it."""


class Conversation:
    """One session."""

    def __init__(self, session: WebTransportSession) -> None:
        self._session = session
        self._tally = Tally()
        self._open = 0  # streams being served, without those that wait for the others
        self._moved = asyncio.Event()

    async def run(self) -> None:
        """Serve everything until the session ends."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._echo_datagrams())
            async for stream in self._session.incoming_streams():
                tasks.create_task(self._serve(stream))

    async def record(self) -> dict[str, Any]:
        """What is known about it at its end."""
        session = self._session
        seen = await session.diagnostics()
        datagrams = session.datagrams.diagnostics.stats
        return {
            "id": session.headers["x-soak"],
            "tally": self._tally.to_dict(),
            "stats": seen.stats.to_dict(),
            "drops": datagrams.receive_drops + datagrams.send_drops + datagrams.send_failures,
            "code": session.close_code,
            "reason": session.close_reason,
        }

    async def _echo_datagrams(self) -> None:
        async for datagram in self._session.datagrams:
            self._tally.datagrams_up += 1
            await self._session.datagrams.send(datagram)
            self._tally.datagrams_down += 1
            self._moved.set()

    async def _serve(self, stream: WebTransportStream | WebTransportReceiveStream) -> None:
        if isinstance(stream, WebTransportStream):
            self._tally.bidi += 1
        else:
            self._tally.uni += 1
        self._open += 1
        is_open = True
        try:
            kind = await stream.readexactly(1)
            if kind == SETTLE and isinstance(stream, WebTransportStream):
                self._open -= 1
                is_open = False
                await self._settle(stream)
            elif kind == FAIL:
                raise HandlerFailure
            elif await self._do(kind, stream):
                self._tally.bytes_up += 1
        except StreamError:
            self._tally.cut += 1
            await stream.abort(STOP_CODE)
        finally:
            self._open -= is_open
            self._moved.set()

    async def _do(self, kind: bytes, stream: WebTransportStream | WebTransportReceiveStream) -> bool:
        """Whether the stream was not cut."""
        tally, up, down = self._tally, 0, 0
        if kind == PUSH:
            async for chunk in stream:
                up += len(chunk)
        elif kind == ECHO:
            assert isinstance(stream, WebTransportStream)
            async for chunk in stream:
                up += len(chunk)
                await stream.write(chunk)
            await stream.close()
            down = up
        elif kind == PULL:
            assert isinstance(stream, WebTransportStream)
            length = int.from_bytes(await stream.readexactly(4), "big")
            up, down = 4, length
            sink = await self._session.create_unidirectional_stream()
            tally.pulled += 1
            await sink.write_all(bytes(length))
            assert await stream.read() == b""
            await stream.close()
        elif kind == STOP:
            length = int.from_bytes(await stream.readexactly(4), "big")
            await stream.readexactly(length)
            tally.cut += 1
            await stream.abort(STOP_CODE)
            return False
        tally.bytes_up += up
        tally.bytes_down += down
        return True

    async def _settle(self, stream: WebTransportStream) -> None:
        """Wait for what the client says it has sent; answer with what came, whether it is the same or not."""
        theirs = Tally(**json.loads(await stream.read_all()))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while self._open or self._expects(theirs):
                    self._moved.clear()
                    await self._moved.wait()
        await stream.write_all(json.dumps(self._tally.to_dict()).encode())

    def _expects(self, theirs: Tally) -> bool:
        """Whether something is still on its way: streams and datagrams come in any order."""
        mine = self._tally
        arrived = (mine.bidi, mine.uni, mine.datagrams_up)
        return arrived != (theirs.bidi, theirs.uni, theirs.datagrams_up)


def state(**more: Any) -> dict[str, Any]:
    """What this process holds."""
    gc.collect()
    kinds = (WebTransportSession, WebTransportConnection, WebTransportSendStream, WebTransportReceiveStream)
    objects = Counter(type(thing).__name__ for thing in gc.get_objects() if isinstance(thing, kinds))
    return {
        "objects": dict(objects),
        "tasks": len(asyncio.all_tasks()),
        "waiters": current_bridge().stats()["waiters"],
        "descriptors": len(os.listdir("/proc/self/fd")),
        **more,
    }


async def main(records: str, certfile: str, keyfile: str, options: str) -> None:
    """Serve until stdin ends."""
    # The handlers' failures are on purpose, and what the library logs about peers that vanish is not the subject.
    logging.disable(logging.CRITICAL)
    config = ServerConfig(certfile=certfile, keyfile=keyfile, **json.loads(options))
    loop = asyncio.get_running_loop()
    stdin = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
    running = asyncio.Event()
    running.set()
    trimming = loop.create_task(trim(running))
    with open(records, "w", buffering=1) as out:
        async with ServerApp(config=config) as app:
            app.route("/soak")(_handler(out))
            await app.server.listen("127.0.0.1", 0)
            assert app.server.local_address is not None
            for _ in range(10):
                await asyncio.sleep(0)  # until it waits for connections
            print(json.dumps(state(port=app.server.local_address[1])), flush=True)
            while await stdin.readline():
                seen = await app.server.diagnostics()
                sessions = {str(key): count for key, count in seen.session_states.items() if count}
                connections = {str(key): count for key, count in seen.connection_states.items() if count}
                more = {"sessions": sessions, "connections": connections, "stats": seen.stats.to_dict()}
                print(json.dumps(state(**more)), flush=True)
    trimming.cancel()


def _handler(out: IO[str]) -> Any:
    async def soak(session: WebTransportSession) -> None:
        conversation = Conversation(session)
        try:
            await conversation.run()
        except* WebTransportError:
            pass  # the client has gone in the middle of something
        finally:
            if not session.is_closed:  # a failure
                await session.close(FAIL_CODE, "the handler failed")
            out.write(json.dumps(await conversation.record()) + "\n")

    return soak


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:5]))
