"""The server under test as the tests see it: its process, its memory, its counters, and whether it still serves."""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import IO, Any

from pywebtransport import WebTransportClient, WebTransportSession
from pywebtransport.utils import DevCertificate
from tests.harness import SECONDS, client_config
from tests.hostile import peer, wire

ROOT = Path(__file__).parents[2]
ROUND_TRIPS = 200  # of somebody else, while a flood lasts


class Bystander:
    """A session of somebody else, whose round trips go on while a hostile peer does its worst."""

    def __init__(self, session: WebTransportSession) -> None:
        self._times: list[float] = []
        self._made_one = asyncio.Event()
        self._task = asyncio.create_task(self._run(session))

    def during(self, at_least: int) -> Iterator[int]:
        """Number the items of a flood: so many, and more until 200 round trips were made meanwhile."""
        number, goal = 0, len(self._times) + ROUND_TRIPS
        while number < at_least or len(self._times) < goal:
            self._check()
            yield number
            number += 1

    async def trips(self) -> None:
        """Wait for 200 round trips from now on."""
        goal = len(self._times) + ROUND_TRIPS
        while len(self._times) < goal:
            self._check()
            self._made_one.clear()
            await self._made_one.wait()

    async def leave(self) -> None:
        """End, and print how it went."""
        self._check()
        self._task.cancel()
        await asyncio.wait([self._task])
        if self._times:
            median, worst = statistics.median(self._times), max(self._times)
            print(f"bystander: {len(self._times)} trips, median {median * 1e3:.1f} ms, worst {worst * 1e3:.0f} ms")

    def _check(self) -> None:
        if self._task.done():
            self._task.result()

    async def _run(self, session: WebTransportSession) -> None:
        try:
            stream = await session.create_bidirectional_stream()
            while True:
                before = time.perf_counter()
                async with asyncio.timeout(SECONDS):
                    await stream.write(b"there and back")
                    await stream.readexactly(14)
                self._times.append(time.perf_counter() - before)
                self._made_one.set()
        finally:
            self._made_one.set()


class ServerProcess:
    """A running server."""

    def __init__(self, process: subprocess.Popen[str], log: IO[str], certificate: DevCertificate) -> None:
        assert process.stdout is not None
        self._process = process
        self._log = log
        self._config = client_config(certificate)
        self.port = int(process.stdout.readline())
        self.rss_before = 0
        """Resident memory in bytes when the suite began; set by `warm_up`."""
        self.tasks_before = 0
        """Tasks of its event loop then, as `stats` counts them."""

    def url(self, path: str = "/echo") -> str:
        return f"https://127.0.0.1:{self.port}{path}"

    def connect(
        self, settings: dict[int, int] | None = wire.DRAFT_15, **options: Any
    ) -> contextlib.AbstractAsyncContextManager[peer.Peer]:
        """A hostile peer's connection, see `peer.connect`."""
        return peer.connect(self.port, settings, **options)

    def rss(self) -> int:
        """Resident memory in bytes."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        kib = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(kib) * 1024

    @contextlib.contextmanager
    def grows_less_than(self, mib: int) -> Iterator[None]:
        """Check that its memory does not grow by more than so many MiB meanwhile."""
        before = self.rss()
        yield
        grown = (self.rss() - before) / (1 << 20)
        assert grown < mib, f"grew by {grown:.1f} MiB"

    def log(self) -> str:
        """What the server has printed to stderr."""
        self._log.flush()
        return Path(self._log.name).read_text()

    def is_running(self) -> bool:
        return self._process.poll() is None

    async def warm_up(self) -> None:
        """Have a normal session of each kind and note the memory; once per process."""
        if not self.rss_before:
            for _ in range(5):
                await self.works()
                async with self.connect() as stranger:
                    await stranger.echoes(await stranger.session())
            await self.until(lambda seen: seen["connections"] == 1)
            self.tasks_before = (await self.stats())["tasks"]
            self.rss_before = self.rss()

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    @contextlib.asynccontextmanager
    async def normal_session(self, path: str = "/echo") -> AsyncIterator[WebTransportSession]:
        """A session of the library's own client."""
        async with WebTransportClient(config=self._config) as client:
            yield await client.connect(self.url(path))

    async def works(self) -> None:
        """A normal session, at once: streams of both kinds and datagrams come back."""
        async with asyncio.timeout(SECONDS), self.normal_session() as session:
            stream = await session.create_bidirectional_stream()
            await stream.write(b"there")
            await stream.close()
            assert await stream.read_all() == b"there"
            one_way = await session.create_unidirectional_stream()
            await one_way.write(b"and back")
            await one_way.close()
            assert await (await anext(session.incoming_streams())).read_all() == b"and back"
            await session.datagrams.send(b"datagram")
            assert await session.datagrams.receive() == b"datagram"

    @contextlib.asynccontextmanager
    async def bystander(self) -> AsyncIterator[Bystander]:
        """Somebody else's session, with round trips all the time."""
        async with self.normal_session() as session:
            bystander = Bystander(session)
            try:
                yield bystander
            finally:
                await bystander.leave()

    async def until(self, condition: Callable[[dict[str, Any]], bool], seconds: float = SECONDS) -> None:
        """Wait for a condition on the counters. The connection that asks is among them."""
        try:
            async with asyncio.timeout(seconds), self.normal_session("/stats") as session:
                while not condition(seen := await _ask(session)):
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"not within {seconds} s; last seen: {seen}") from None

    async def stats(self) -> dict[str, Any]:
        """What the server counts. It gives back memory that nobody uses for that."""
        async with asyncio.timeout(SECONDS), self.normal_session("/stats") as session:
            return await _ask(session)


async def _ask(session: WebTransportSession) -> dict[str, Any]:
    stream = await session.create_bidirectional_stream()
    await stream.write(b"?")
    await stream.close()
    answer: dict[str, Any] = json.loads(await stream.read_all())
    return answer


@contextlib.contextmanager
def running(certificate: DevCertificate, **options: Any) -> Iterator[ServerProcess]:
    """A server process; `options` are fields of ServerConfig."""
    arguments = [certificate.certfile, certificate.keyfile, json.dumps(options)]
    with tempfile.NamedTemporaryFile("w", suffix=".log") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.hostile.program", *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        with process:
            try:
                yield ServerProcess(process, log, certificate)
            finally:
                process.kill()
