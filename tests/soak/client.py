"""Clients of the soak: a process with so many sessions at a time, each with a life of its own.

usage: client.py RECORDS URL SHA256 DRIVER SESSIONS SEED MORTAL

One line for each session that has ended goes to the file RECORDS. A process whose MORTAL is 1 is killed sooner or
later: it writes a line before each thing that it does, about the most that the server can have seen by then. Otherwise
SIGUSR1 lets all sessions come to their end, and SIGUSR1 again begins new ones; after SIGTERM there are none.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import random
import signal
import sys
import traceback
from typing import IO, Any

from pywebtransport import (
    ClientConfig,
    StreamError,
    WebTransportClient,
    WebTransportError,
    WebTransportReceiveStream,
    WebTransportSendStream,
    WebTransportSession,
    WebTransportStream,
)
from tests.soak.protocol import ECHO, FAIL, FAIL_CODE, PATIENCE, PULL, PUSH, SETTLE, STOP, STOP_CODE, Tally, trim

ENDINGS = ["close", "leave", "fail", "forget", "abrupt"]
"""How a session ends: closed; with its client; by a failing handler; as garbage; closed while streams are running."""


class Life:
    """One session from its request to its end."""

    def __init__(self, name: str, chance: random.Random, session: WebTransportSession, out: IO[str] | None) -> None:
        self.name = name
        self.tally = Tally()
        self._chance = chance
        self._session = session
        self._out = out
        self._most = Tally()
        self._running: list[WebTransportStream] = []
        self._echoes = asyncio.create_task(self._count_echoes())
        self._echoed = asyncio.Event()

    async def run(self, most: int, running: asyncio.Event) -> None:
        """Do this and that, up to three things at once, until all shall rest."""
        for _ in range(self._chance.randint(0, most)):
            if not running.is_set():
                break
            things = self._chance.choices(
                [
                    self._echo,
                    self._push,
                    self._pull,
                    self._stop,
                    self._reset,
                    self._drop,
                    self._datagrams,
                    self._impatient,
                ],
                weights=[3, 3, 3, 1, 1, 1, 3, 1],
                k=self._chance.randint(1, 3),
            )
            async with asyncio.TaskGroup() as tasks:
                for thing in things:
                    tasks.create_task(thing())
            await asyncio.sleep(self._chance.uniform(0, 0.6))

    # --- what it does ---

    async def _echo(self) -> None:
        stream, data = await self._bidi(), self._data(20_000)
        await stream.write(ECHO)
        await stream.write_all(data, chunk_size=self._chance.randint(1, 8192))
        answer = await stream.read_all()
        assert answer == data, f"{len(answer)} bytes came back, {len(data)} were sent"
        self.tally.bytes_up += 1 + len(data)
        self.tally.bytes_down += len(data)

    async def _push(self) -> None:
        stream, data = await self._uni(), self._data(50_000)
        await stream.write(PUSH)
        await stream.write_all(data)
        self.tally.bytes_up += 1 + len(data)

    async def _pull(self) -> None:
        length = self._chance.randint(1, 50_000)
        stream = await self._bidi()
        self._announce(pulled=1)
        await stream.write_all(PULL + length.to_bytes(4, "big"))
        # Several may be under way, and any of them may come first.
        source = await anext(self._session.incoming_streams())
        self.tally.pulled += 1
        assert isinstance(source, WebTransportReceiveStream)
        data = await source.read_all()  # first: other things change the tally meanwhile
        self.tally.bytes_down += len(data)
        self.tally.bytes_up += 5
        assert await stream.read_all() == b""

    async def _stop(self) -> None:
        """Write until the server has enough."""
        stream = await (self._bidi() if self._chance.random() < 0.5 else self._uni())
        await stream.write(STOP + self._chance.randint(1, 5_000).to_bytes(4, "big"))
        try:
            while True:
                await stream.write(bytes(2_000))
                await asyncio.sleep(0.001)
        except StreamError as error:
            assert error.application_code == STOP_CODE, error
        if isinstance(stream, WebTransportStream):
            await stream.abort()
        self.tally.cut += 1

    async def _reset(self) -> None:
        """Reset a stream of which the server is known to have heard."""
        stream = await self._half_echo()
        await stream.abort(STOP_CODE)
        self.tally.cut += 1

    async def _drop(self) -> None:
        """Forget one, with the same effect."""
        await self._half_echo()
        self.tally.cut += 1

    async def _half_echo(self) -> WebTransportStream:
        stream, data = await self._bidi(), self._data(10_000)
        await stream.write(ECHO + data)
        await stream.readexactly(1)
        return stream

    async def _datagrams(self) -> None:
        count = self._chance.randint(1, 20)
        self._announce(datagrams_up=count)
        for _ in range(count):
            await self._session.datagrams.send(self._data(1000))
            self.tally.datagrams_up += 1

    async def _impatient(self) -> None:
        """Give up waiting for what does not come."""
        stream = await self._bidi()
        await stream.write(ECHO)
        for _ in range(self._chance.randint(1, 5)):
            try:
                await asyncio.wait_for(stream.read(), self._chance.choice([0, 0.0001, 0.01]))
            except TimeoutError:
                continue
            raise AssertionError("nothing was sent")
        await stream.close()
        assert await stream.read_all() == b""
        self.tally.bytes_up += 1

    # --- its end ---

    async def settle(self) -> dict[str, Any]:
        """Wait until nothing is on its way; what both sides counted until then."""
        stream = await self._bidi()
        await stream.write_all(SETTLE + json.dumps(self.tally.to_dict()).encode())
        async with asyncio.timeout(2 * PATIENCE):
            theirs = Tally(**json.loads(await stream.read_all()))
        try:
            async with asyncio.timeout(PATIENCE):
                while self.tally.datagrams_down < theirs.datagrams_down:
                    self._echoed.clear()
                    await self._echoed.wait()
        except TimeoutError:
            pass  # the counts tell
        return {"client": self.tally.to_dict(), "server": theirs.to_dict(), "drops": self._drops()}

    async def fail(self) -> None:
        """Let the server's handler fail."""
        stream = await self._bidi()
        await stream.write(FAIL)
        await self._session.wait_closed()
        assert self._session.close_code == FAIL_CODE, self._session.close_reason

    async def rush(self) -> None:
        """Streams that are still running at the end."""
        for _ in range(self._chance.randint(1, 5)):
            stream = await self._bidi()
            await stream.write(ECHO + self._data(50_000))
            self._running.append(stream)

    def stop(self) -> None:
        """Nothing of it runs any more."""
        self._echoes.cancel()

    # --- for all of them ---

    async def _bidi(self) -> WebTransportStream:
        self._announce(bidi=1)
        stream = await self._session.create_bidirectional_stream(timeout=PATIENCE)
        self.tally.bidi += 1
        return stream

    async def _uni(self) -> WebTransportSendStream:
        self._announce(uni=1)
        stream = await self._session.create_unidirectional_stream(timeout=PATIENCE)
        self.tally.uni += 1
        return stream

    def _data(self, most: int) -> bytes:
        return self._chance.randbytes(self._chance.randint(1, most))

    def _drops(self) -> int:
        """Datagrams that this side accepted and did not send, or received and did not hand out."""
        stats = self._session.datagrams.diagnostics.stats
        return stats.send_drops + stats.send_failures + stats.receive_drops

    def _announce(self, **more: int) -> None:
        """Mortal: write down what may have happened when the next line is missing."""
        if self._out is not None:
            for name, value in more.items():
                setattr(self._most, name, getattr(self._most, name) + value)
            self._out.write(json.dumps({"id": self.name, "most": self._most.to_dict()}) + "\n")

    async def _count_echoes(self) -> None:
        try:
            async for _ in self._session.datagrams:
                self.tally.datagrams_down += 1
                self._echoed.set()
        except WebTransportError:
            pass  # the session has ended


async def live(
    name: str,
    chance: random.Random,
    running: asyncio.Event,
    out: IO[str],
    url: str,
    config: ClientConfig,
    mortal: bool,
) -> None:
    """One session; writes its record."""
    ending = chance.choices(ENDINGS, weights=[4, 1, 1, 1, 1])[0]
    record: dict[str, Any] = {"id": name, "ending": ending}
    client = WebTransportClient(config=config)
    await client.__aenter__()
    session = await client.connect(url, headers={"x-soak": name})
    life = Life(name, chance, session, out if mortal else None)
    await life.run(1_000_000 if mortal else 40, running)
    if ending == "abrupt":
        await life.rush()
    else:
        record["settled"] = await life.settle()
    if ending == "fail":
        await life.fail()
    elif ending in ("close", "abrupt"):
        record["code"], record["reason"] = chance.randint(0, 2**32 - 1), f"end of {name}"
        await session.close(record["code"], record["reason"])
    if ending != "forget":
        await client.__aexit__(None, None, None)
        record["stats"] = (await session.diagnostics()).stats.to_dict()
        record["tally"] = life.tally.to_dict()
    life.stop()
    out.write(json.dumps(record) + "\n")


class Switch:
    """What the signals turn: SIGUSR1 sends all to rest and back to work, SIGTERM ends it all."""

    def __init__(self) -> None:
        self.running = asyncio.Event()
        self.running.set()
        self.is_over = False
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, self._toggle)
        loop.add_signal_handler(signal.SIGTERM, self._end)

    def _toggle(self) -> None:
        if self.running.is_set():
            self.running.clear()
        else:
            self.running.set()

    def _end(self) -> None:
        self.is_over = True
        self.running.set()  # nobody waits for it any more


async def slot(prefix: str, chance: random.Random, switch: Switch, out: IO[str], *where: Any) -> None:
    """One session after the other."""
    for number in itertools.count():
        await switch.running.wait()
        if switch.is_over:
            return
        name = f"{prefix}-{number}"
        try:
            await live(name, chance, switch.running, out, *where)
        except BaseException:
            out.write(json.dumps({"id": name, "fault": traceback.format_exc()}) + "\n")
            raise


async def main(records: str, url: str, sha256: str, driver: str, sessions: str, seed: str, mortal: str) -> None:
    """Run the slots until SIGTERM, then tell what is left."""
    config = ClientConfig(
        server_certificate_hashes=[bytes.fromhex(sha256)],
        driver=driver,
        log_level="CRITICAL",
        connection_keepalive_timeout=2.0,
    )
    switch = Switch()
    trimming = asyncio.create_task(trim(switch.running))
    tasks = len(asyncio.all_tasks())
    with open(records, "w", buffering=1) as out:
        async with asyncio.TaskGroup() as group:
            for number in range(int(sessions)):
                name = f"{seed}-{number}"
                group.create_task(slot(name, random.Random(name), switch, out, url, config, mortal == "1"))
        for _ in range(3):
            gc.collect()
            await asyncio.sleep(0)
        kinds = (WebTransportSession, WebTransportSendStream, WebTransportReceiveStream)
        left = [repr(thing) for thing in gc.get_objects() if isinstance(thing, kinds)]
        out.write(json.dumps({"left": left[:10], "tasks": len(asyncio.all_tasks()) - tasks}) + "\n")
    trimming.cancel()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:8]))
