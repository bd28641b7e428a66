"""Running the rows: peer processes, their control channels, and what every round found."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .contenders import ROOT, Contender
from .rows import Row

Result = dict[str, Any]
Results = dict[tuple[str, str, str], list[Result]]
"""Loop ("" for peers that have none), row and contender -> one result per round; a failed one has no "value"."""

Load = Callable[["Bench", str, list[Row], Contender], Awaitable[dict[str, Result]]]


class PeerError(Exception):
    """A peer process failed or did not answer."""


class Unsupported(Exception):
    """A peer does not have what the row needs."""


class Worker:
    """One end: a peer process and its control channel."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.process = process
        self.port = 0
        self._log = log

    async def answer(self, limit: float) -> Result:
        """Read the next answer."""
        assert self.process.stdout is not None, "it was made with a pipe"
        try:
            line = await asyncio.wait_for(self.process.stdout.readline(), limit)
        except TimeoutError:
            raise PeerError(f"no answer within {limit:g} s") from None
        if not line:
            lines = self._log.read_text(errors="replace").strip().splitlines()
            raise PeerError(f"ended: {lines[-1] if lines else 'without a word'} (see {self._log})")
        result: Result = json.loads(line)
        if "error" in result:
            raise PeerError(result["error"])
        if "unsupported" in result:
            raise Unsupported(result["unsupported"])
        return result

    async def ask(self, command: Result, limit: float = 30.0) -> Result:
        """Send a command and return the answer."""
        assert self.process.stdin is not None, "it was made with a pipe"
        self.process.stdin.write(json.dumps({**command, "limit": limit}).encode() + b"\n")
        return await self.answer(limit + 5)

    async def status(self, collect: bool) -> Result:
        """Ask for memory (after a garbage collection, if wanted), CPU time and counters."""
        return await self.ask({"do": "status", "collect": collect})


@dataclass
class Bench:
    """A run: what it needs, and what it has found."""

    options: argparse.Namespace
    commands: dict[str, list[str]]
    files: tuple[str, str]
    loads: dict[str, Load]
    versions: dict[str, str] = field(default_factory=dict)
    results: Results = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    failures: int = 0

    async def run(self, rows: list[Row], contenders: list[Contender]) -> None:
        """Measure every row of every contender on every loop: `rounds` times, or the load rows once."""
        groups: dict[str, list[Row]] = {}
        for row in rows:
            groups.setdefault(row.load or row.key, []).append(row)
        columns = [(c.key, loop) for c in contenders for loop in ([""] if c.rust else self.options.loops)]
        several = len(self.options.loops) > 1
        print(
            f"{'':{LABEL}}"
            + "".join(f"{key + (f':{loop[:3]}' if several and loop else ''):>14}" for key, loop in columns)
        )
        for number in range(1, self.options.rounds + 1):
            for key, group in groups.items():
                if key not in self.loads or number == 1 or self.options.full:
                    await self._group(
                        f"{number}/{self.options.rounds} {group[0].title}"[: LABEL - 1], group, contenders
                    )

    async def _group(self, title: str, group: list[Row], contenders: list[Contender]) -> None:
        print(f"{title:{LABEL}}", end="", flush=True)
        for contender in contenders:
            rows = [row for row in group if contender.can(row.key)]
            for loop in [""] if contender.rust else self.options.loops:
                text = "-"
                if rows:
                    results = await self._try(loop, rows, contender)
                    for row in rows:
                        if row.key in results:
                            self.results.setdefault((loop, row.key, contender.key), []).append(results[row.key])
                    text = brief(rows, results)
                print(f"{text:>14}", end="", flush=True)
        print()

    async def _try(self, loop: str, rows: list[Row], contender: Contender) -> dict[str, Result]:
        """Measure rows that belong together; a failure or a missing feature is a result too."""
        try:
            if rows[0].load:
                return await self.loads[rows[0].load](self, loop, rows, contender)
            return {rows[0].key: await self._measure(loop, rows[0], contender)}
        except Unsupported as why:
            self.missing[f"{contender.title}: {rows[0].title}"] = str(why)
            return {}
        except PeerError as error:
            self.failures += 1
            self.missing[f"{contender.title}: {rows[0].title}"] = f"failed: {error}"
            return {row.key: {"failed": str(error)} for row in rows}

    async def _measure(self, loop: str, row: Row, contender: Contender) -> Result:
        """Run one row with a fresh pair of processes."""
        async with self.pair(loop, contender, row) as (server, client):
            limit = 30 + 4 * self.options.seconds
            command = {**row.command, "port": server.port, "seconds": self.options.seconds}
            if row.command["do"] == "hold":
                await client.ask({**command, "sessions": 20}, limit)
            async with profiled(self.options, f"{loop or 'rust'}-{row.key}-{contender.key}", server, client):
                result, before, after = await self.costs(server, client, command, limit)
        if row.command["do"] == "hold":
            result["value"] = (after["rss_kb"] - before["rss_kb"]) / row.command["sessions"]
        return result

    async def costs(
        self, server: Worker, client: Worker, command: Result, limit: float
    ) -> tuple[Result, Result, Result]:
        """Run a command; add what both ends spent on an operation. Returns the server's status before and after too."""
        collect = command["do"] == "hold"
        before = await server.status(collect), await client.status(collect)
        result = await client.ask(command, limit)
        after = await server.status(collect), await client.status(collect)
        for side, a, b in zip(("server", "client"), before, after, strict=True):
            result[f"{side}_cpu_us"] = (b["cpu"] - a["cpu"]) * 1e6 / max(1, result["operations"])
            counters = a["counters"]
            result[f"{side}_counters"] = {name: count - counters[name] for name, count in b["counters"].items()}
        return result, before[0], after[0]

    @contextlib.asynccontextmanager
    async def pair(
        self, loop: str, contender: Contender, row: Row, cores: set[int] | None = None, **more: object
    ) -> AsyncIterator[tuple[Worker, Worker]]:
        """Start a server and a client."""
        async with (
            self.worker("server", loop, contender, row, cores, **more) as server,
            self.worker("client", loop, contender, row, cores, **more) as client,
        ):
            yield server, client

    @contextlib.asynccontextmanager
    async def worker(
        self, role: str, loop: str, contender: Contender, row: Row, cores: set[int] | None = None, **more: object
    ) -> AsyncIterator[Worker]:
        """Start one end, on these cores only; end it. `more` are further options of the peer."""
        command = [*self.commands[contender.module], role, "--driver", getattr(contender, role)]
        if loop:
            command += ["--loop", loop]
        command += ["--certfile", self.files[0], "--keyfile", self.files[1], "--overflow", row.overflow]
        if row.preset:
            command += ["--preset", row.preset]
        for name, value in more.items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        if self.options.realtime:
            command = ["chrt", "-r", "5", *command]
        inherited = os.environ.get("PYTHONPATH", "") if contender.module == "ours" else ""
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), inherited)))}
        log = self.options.cache / f"{contender.module}-{role}.log"
        if self.options.pin and cores is None:
            cores = {0} if role == "server" else {1}
        with open(log, "wb") as stderr, inherited_affinity(cores):
            pipe = asyncio.subprocess.PIPE
            process = await asyncio.create_subprocess_exec(
                *command, stdin=pipe, stdout=pipe, stderr=stderr, env=environment, cwd=ROOT
            )
        try:
            worker = Worker(process, log)
            started = await worker.answer(30.0)
            worker.port = started.get("port") or 0
            self.versions.update(started["versions"])
            yield worker
        finally:
            assert process.stdin is not None, "it was made with a pipe"
            process.stdin.close()
            try:
                await asyncio.wait_for(process.wait(), 3.0)
            except TimeoutError:
                process.kill()
                await process.wait()


@contextlib.contextmanager
def inherited_affinity(cores: set[int] | None) -> Iterator[None]:
    """Let the process that is started meanwhile have these cores."""
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores & before or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def brief(rows: list[Row], results: dict[str, Result]) -> str:
    """Return the figure of the last row, as progress."""
    result = results.get(rows[-1].key, {})
    if "value" not in result:
        return "failed" if result else "-"
    return number_text(result["value"], rows[-1].digits)


def number_text(value: float, digits: int) -> str:
    """Write a number with spaces between the thousands."""
    return f"{value:,.{digits}f}".replace(",", " ")


@contextlib.asynccontextmanager
async def profiled(options: argparse.Namespace, name: str, server: Worker, client: Worker) -> AsyncIterator[None]:
    """Run the chosen profiler on both ends; its files go to the cache folder."""
    profilers = []
    for side, worker in (("server", server), ("client", client)):
        file, pid = options.cache / f"profile-{name}-{side}", str(worker.process.pid)
        commands = {
            "py-spy": ["record", "--native", "--threads", "-f", "raw", "-o", f"{file}.txt", "-p", pid],
            "perf": ["record", "-q", "-o", f"{file}.data", "-p", pid],
        }
        if options.profile:
            command, quiet = [tool(options.profile), *commands[options.profile]], asyncio.subprocess.DEVNULL
            profilers.append(await asyncio.create_subprocess_exec(*command, stdout=quiet, stderr=quiet))
    if profilers:
        await asyncio.sleep(1.0)  # until they have attached
    try:
        yield
    finally:
        for profiler in profilers:
            with contextlib.suppress(ProcessLookupError):
                profiler.send_signal(signal.SIGINT)
            await profiler.wait()


def tool(name: str) -> str:
    """Find a program, also beside this interpreter."""
    found = shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), str(Path(sys.executable).parent))))
    if found is None:
        raise SystemExit(f"{name} is not installed")
    return found


LABEL = 54  # width of what stands before the figures of a line of progress
