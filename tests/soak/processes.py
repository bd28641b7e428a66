"""The processes of a soak as the test sees them: started, measured, asked, stopped, killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pywebtransport.utils import DevCertificate
from tests.soak.protocol import PATIENCE

ROOT = Path(__file__).parents[2]
MemberT = TypeVar("MemberT", bound="Member")


@dataclass(eq=False)
class Member:
    """A process and its memory over time.

    Attributes:
        samples: pairs of seconds and resident MB, taken while it rested.
    """

    name: str
    process: asyncio.subprocess.Process
    records: Path
    log: Path
    samples: list[tuple[float, float]] = field(default_factory=list)

    def sample(self, now: float) -> None:
        """Note the memory."""
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    self.samples.append((now, int(line.split()[1]) / 1024))

    def read_records(self) -> list[dict[str, Any]]:
        """What it wrote; a line that a kill has cut off is none."""
        lines = self.records.read_text().split("\n")[:-1]
        return [json.loads(line) for line in lines]

    def toggle(self) -> None:
        """Send its sessions to rest, or back to work."""
        self.process.send_signal(signal.SIGUSR1)

    async def finish(self) -> None:
        """Let it come to its end."""
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(4 * PATIENCE):
            await self.process.wait()

    def slope(self) -> float:
        """MB per minute after the first third of the samples: the line of the least squares."""
        samples = self._settled()
        mean_x = sum(x for x, _ in samples) / len(samples)
        mean_y = sum(y for _, y in samples) / len(samples)
        above = sum((x - mean_x) * (y - mean_y) for x, y in samples)
        return 60 * above / sum((x - mean_x) ** 2 for x, _ in samples)

    def level(self) -> float:
        """MB, the mean of the same samples."""
        samples = self._settled()
        return sum(y for _, y in samples) / len(samples)

    def _settled(self) -> list[tuple[float, float]]:
        return self.samples[len(self.samples) // 3 :]


@dataclass(eq=False)
class Server(Member):
    """A server process.

    Attributes:
        before: its state when it began to listen.
        after: its state at the last rest.
    """

    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"https://127.0.0.1:{self.before['port']}/soak"

    async def state(self) -> dict[str, Any]:
        """What it holds now."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        return await self._read()

    async def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            line: dict[str, Any] = json.loads(await self.process.stdout.readline())
        return line


@contextlib.asynccontextmanager
async def running_server(folder: Path, name: str, certificate: DevCertificate, **options: Any) -> AsyncIterator[Server]:
    """A server process; `options` are fields of ServerConfig."""
    arguments = [certificate.certfile, certificate.keyfile, json.dumps(options)]
    server = await _start(Server, folder, name, "tests.soak.program", *arguments)
    try:
        server.before = await server._read()
        yield server
    finally:
        await _end(server)


@contextlib.asynccontextmanager
async def running_clients(
    folder: Path, name: str, server: Server, certificate: DevCertificate, driver: str, sessions: int, mortal: bool
) -> AsyncIterator[Member]:
    """A process with so many sessions at a time; its name is the seed."""
    arguments = [server.url, certificate.sha256.hex(), driver, str(sessions), name, str(int(mortal))]
    member = await _start(Member, folder, name, "tests.soak.client", *arguments)
    try:
        yield member
    finally:
        await _end(member)


async def _start(kind: type[MemberT], folder: Path, name: str, module: str, *arguments: str) -> MemberT:
    records, log = folder / f"{name}.jsonl", folder / f"{name}.log"
    records.touch()
    with log.open("w") as stderr:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-X", "faulthandler", "-m", module, str(records), *arguments),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
        )
    return kind(name, process, records, log)


async def _end(member: Member) -> None:
    if member.process.returncode is None:
        member.process.kill()
    await member.process.wait()
