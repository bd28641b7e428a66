"""Compare pywebtransport with websockets and with pywebtransport 0.8.1: `python benches/bench.py`.

Every figure comes from a fresh pair of processes. All contenders take their turn at a row before the next row begins,
and all rows before the next round, so that what else the machine does hits them alike. Ratios are taken within a round.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

Result = dict[str, Any]
Results = dict[tuple[str, str, str], list[Result]]
"""Loop, row and contender -> one result per round; that of a failed one has no "value"."""


@dataclass(frozen=True)
class Row:
    """One line of the table. `baseline` names the row of websockets that it is compared with."""

    key: str
    title: str
    command: Result
    digits: int = 0
    overflow: str = "drop_oldest"
    baseline: str = ""


@dataclass(frozen=True)
class Contender:
    """One column: a peer module, and the drivers of both ends (for `ours`)."""

    key: str
    title: str
    module: str
    client: str = "auto"
    server: str = "auto"
    requirements: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


DATAGRAMS = {64: "64 B datagrams delivered/s", 1100: "1 100 B datagrams delivered/s"}

ROWS = (
    Row("stream_rtt", "stream round trip 64 B, p50 us", {"do": "stream_round_trip"}),
    Row("datagram_rtt", "datagram round trip 64 B, p50 us", {"do": "datagram_round_trip"}),
    Row("upload", "upload, one stream, MB/s", {"do": "upload"}, 1),
    Row("download", "download, one stream, MB/s", {"do": "download"}, 1),
    *(
        Row(f"datagrams_{size}_{short}", f"{title}, {short}", {"do": "datagrams", "size": size}, 0, overflow, baseline)
        for size, title in DATAGRAMS.items()
        for short, overflow, baseline in (("wait", "wait", ""), ("drop", "drop_oldest", f"datagrams_{size}_wait"))
    ),
    Row("connect_rate", "connects/s, 25 at once", {"do": "connect_rate"}),
    Row("connect", "connect, p50 ms", {"do": "connect"}, 2),
    Row("first_connect", "first connect of both processes, ms", {"do": "first_connect"}, 1),
    Row("memory", "server memory per idle session, KB", {"do": "hold", "sessions": 200}, 1),
)

CONTENDERS = (
    Contender("ours-loop", "loop / loop", "ours", "loop", "loop"),
    Contender("ours", "loop / thread (default)", "ours"),
    Contender("ours-thread", "thread / thread", "ours", "thread", "thread"),
    Contender(
        "ws",
        "websockets",
        "ws",
        requirements=("websockets==17.4",),
        without=("datagrams_64_drop", "datagrams_1100_drop"),
    ),
    Contender(
        "old",
        "pywebtransport 0.8.1",
        "old",
        requirements=("pywebtransport==0.8.1", "aioquic>=1.3,<2"),
        without=("datagrams_64_wait", "datagrams_1100_wait"),
    ),
)

BASELINE = "ws"


def main() -> int:
    """Run the benchmark and print the table."""
    options = parse_options()
    rows = choose(ROWS, options.rows, "row")
    contenders = choose(CONTENDERS, options.peers, "peer")
    pythons = prepare(contenders, options)
    bench = Bench(options, pythons, certificate(options))
    load = os.getloadavg()
    started = time.time()
    try:
        asyncio.run(bench.run(rows, contenders))
    except KeyboardInterrupt:
        print("\ninterrupted: what follows is not complete", file=sys.stderr)
    facts = {
        "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime(started)) + " UTC",
        "minutes": round((time.time() - started) / 60, 1),
        "host": host(),
        "load before and after": f"{load[0]:.2f}, {os.getloadavg()[0]:.2f}",
        "python": platform.python_version(),
        "versions": ", ".join(f"{name} {text}" for name, text in bench.versions.items()),
        "rounds": f"{options.rounds} of {options.seconds:g} s per row",
    }
    print()
    for name, fact in facts.items():
        print(f"{name}: {fact}")
    for loop in options.loops:
        print(f"\n{table(loop, rows, contenders, bench.results)}")
        print(f"\n{costs(loop, rows, contenders, bench.results)}")
    if options.json:
        document = {
            "facts": facts,
            "results": [{"loop": a, "row": b, "peer": c, "rounds": d} for (a, b, c), d in bench.results.items()],
        }
        Path(options.json).write_text(json.dumps(document, indent=1) + "\n")
        print(f"\nwritten: {options.json}")
    return 1 if bench.failures else 0


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names = ", ".join(row.key for row in ROWS)
    parser.add_argument("--rounds", type=int, default=3, help="default %(default)s")
    parser.add_argument("--seconds", type=float, default=1.0, help="measured time of a row, default %(default)s")
    parser.add_argument("--rows", type=split, default=[], help=f"of: {names}; default all; a prefix will do")
    parser.add_argument("--peers", type=split, default=[], help=f"of: {', '.join(c.key for c in CONTENDERS)}")
    parser.add_argument("--loops", type=split, default=["asyncio", "uvloop"], help="default asyncio,uvloop")
    parser.add_argument("--json", metavar="FILE", help="write every round there")
    parser.add_argument("--python", default=sys.executable, help="interpreter with this pywebtransport and uvloop")
    parser.add_argument("--profile", choices=("py-spy", "perf"), help="profile both ends of every run (use few rows)")
    parser.add_argument("--realtime", action="store_true", help="run the peers under chrt -r 5 (starves all else)")
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "pywebtransport-bench"
    parser.add_argument("--cache", type=Path, default=default, help="for virtual environments, default %(default)s")
    return parser.parse_args()


def split(text: str) -> list[str]:
    return [part for part in text.split(",") if part]


def choose(known: tuple[Any, ...], wanted: list[str], what: str) -> list[Any]:
    """Return those asked for. A name stands for itself, or else for all that begin with it."""
    chosen = []
    keys = [item.key for item in known]
    for name in wanted:
        if not any(key.startswith(name) for key in keys):
            raise SystemExit(f"unknown {what} {name!r}; known: {', '.join(keys)}")
    for item in known:
        if not wanted or any(item.key == name or (name not in keys and item.key.startswith(name)) for name in wanted):
            chosen.append(item)
    return chosen


# --- what has to be there ---


def prepare(contenders: list[Contender], options: argparse.Namespace) -> dict[str, str]:
    """Return the interpreter of each peer module; make virtual environments for the foreign ones."""
    pythons: dict[str, str] = {}
    for contender in contenders:
        if contender.module not in pythons:
            wanted = contender.requirements
            pythons[contender.module] = make_venv(contender.module, wanted, options.cache) if wanted else options.python
    return pythons


def make_venv(module: str, requirements: tuple[str, ...], cache: Path) -> str:
    """Make a virtual environment once, with the same uvloop as here."""
    with contextlib.suppress(PackageNotFoundError):
        requirements = (*requirements, f"uvloop=={version('uvloop')}")
    mark = hashlib.sha256(" ".join((platform.python_version(), *requirements)).encode()).hexdigest()[:8]
    folder = cache / f"{module}-{mark}"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        print(f"making {folder} ({', '.join(requirements)})", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *requirements], check=True)
        (folder / "ready").touch()
    return str(python)


def certificate(options: argparse.Namespace) -> tuple[str, str]:
    """Make the certificate that all servers use (ECDSA P-256)."""
    options.cache.mkdir(parents=True, exist_ok=True)
    files = options.cache / "cert.pem", options.cache / "key.pem"
    code = (
        "import sys, pathlib, pywebtransport as p; c = p.generate_dev_certificate();"
        "pathlib.Path(sys.argv[1]).write_bytes(pathlib.Path(c.certfile).read_bytes());"
        "pathlib.Path(sys.argv[2]).write_bytes(pathlib.Path(c.keyfile).read_bytes())"
    )
    if subprocess.run([options.python, "-c", code, *map(str, files)]).returncode:
        raise SystemExit(f"{options.python} has no working pywebtransport: `make bench` installs it, or use --python")
    return str(files[0]), str(files[1])


def host() -> str:
    model = platform.processor()
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as cpuinfo:
        model = next((line.split(":", 1)[1].strip() for line in cpuinfo if line.startswith("model name")), model)
    return f"{platform.system()} {platform.release()}, {os.cpu_count()} x {model}"


# --- running ---


class PeerError(Exception):
    """A peer process failed or did not answer."""


class Worker:
    """One end: a peer process and its control channel."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.process = process
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
        return result

    async def ask(self, command: Result, limit: float = 30.0) -> Result:
        """Send a command and return the answer."""
        assert self.process.stdin is not None, "it was made with a pipe"
        self.process.stdin.write(json.dumps({**command, "limit": limit}).encode() + b"\n")
        return await self.answer(limit + 5)


@dataclass
class Bench:
    """A run: what it needs, and what it has found."""

    options: argparse.Namespace
    pythons: dict[str, str]
    files: tuple[str, str]
    versions: dict[str, str] = field(default_factory=dict)
    results: Results = field(default_factory=dict)
    failures: int = 0

    async def run(self, rows: list[Row], contenders: list[Contender]) -> None:
        """Measure every row of every contender on every loop, `rounds` times."""
        for number in range(1, self.options.rounds + 1):
            for loop in self.options.loops:
                for row in rows:
                    await self._row(f"{number}/{self.options.rounds} {loop:8}{row.title:38}", loop, row, contenders)

    async def _row(self, title: str, loop: str, row: Row, contenders: list[Contender]) -> None:
        print(title, end="", flush=True)
        for contender in contenders:
            if row.key in contender.without:
                text = "-"
            else:
                try:
                    result = await self._measure(loop, row, contender)
                    text = number_text(result["value"], row.digits)
                except PeerError as error:
                    self.failures += 1
                    result = {"failed": str(error)}
                    text = "failed"
                    print(f" [{contender.key}: {error}]", end="", flush=True)
                self.results.setdefault((loop, row.key, contender.key), []).append(result)
            print(f"{text:>12}", end="", flush=True)
        print()

    async def _measure(self, loop: str, row: Row, contender: Contender) -> Result:
        """Run one row with a fresh pair of processes."""
        async with (
            self._worker("server", loop, row, contender) as server,
            self._worker("client", loop, row, contender) as client,
        ):
            started = await server.answer(30.0)
            await client.answer(30.0)
            self.versions.update(started["versions"])
            command = {**row.command, "port": started["port"], "seconds": self.options.seconds}
            limit = 30 + 4 * self.options.seconds
            if row.command["do"] == "hold":
                await client.ask({**command, "sessions": 20}, limit)
            before = await server.ask({"do": "status"}), await client.ask({"do": "status"})
            async with profiled(self.options, f"{loop}-{row.key}-{contender.key}", server, client):
                result = await client.ask(command, limit)
            after = await server.ask({"do": "status"}), await client.ask({"do": "status"})
        if row.command["do"] == "hold":
            result["value"] = (after[0]["rss_kb"] - before[0]["rss_kb"]) / row.command["sessions"]
        for side, a, b in zip(("server", "client"), before, after, strict=True):
            result[f"{side}_cpu_us"] = (b["cpu"] - a["cpu"]) * 1e6 / max(1, result["operations"])
            counters = a["counters"]
            result[f"{side}_counters"] = {name: count - counters[name] for name, count in b["counters"].items()}
        return result

    @contextlib.asynccontextmanager
    async def _worker(self, role: str, loop: str, row: Row, contender: Contender) -> AsyncIterator[Worker]:
        """Start one end; end it."""
        command = [self.pythons[contender.module], "-m", f"benches.peers.{contender.module}", role, "--loop", loop]
        command += ["--driver", getattr(contender, role), "--overflow", row.overflow]
        command += ["--certfile", self.files[0], "--keyfile", self.files[1]]
        if self.options.realtime:
            command = ["chrt", "-r", "5", *command]
        inherited = os.environ.get("PYTHONPATH", "") if contender.module == "ours" else ""
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), inherited)))}
        log = self.options.cache / f"{contender.module}-{role}.log"
        with open(log, "wb") as stderr:
            pipe = asyncio.subprocess.PIPE
            process = await asyncio.create_subprocess_exec(
                *command, stdin=pipe, stdout=pipe, stderr=stderr, env=environment, cwd=ROOT
            )
        try:
            yield Worker(process, log)
        finally:
            assert process.stdin is not None, "it was made with a pipe"
            process.stdin.close()
            try:
                await asyncio.wait_for(process.wait(), 3.0)
            except TimeoutError:
                process.kill()
                await process.wait()


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


# --- tables ---


def values(results: Results, loop: str, row: str, contender: str) -> list[float]:
    """Return the values of all rounds, NaN for one that failed."""
    return [result.get("value", float("nan")) for result in results.get((loop, row, contender), [])]


def table(loop: str, rows: list[Row], contenders: list[Contender], results: Results) -> str:
    """Return the median of the rounds, the smallest and greatest, and the median ratio to websockets.

    For datagrams also the share of those sent that was delivered, unless it is all.
    """
    lines = [[loop, *(contender.title for contender in contenders)]]
    for row in rows:
        line = [row.title]
        for contender in contenders:
            rounds = values(results, loop, row.key, contender.key)
            found = [value for value in rounds if value == value]
            if not found:
                line.append("failed" if rounds else "-")
                continue
            low, middle, high = (number_text(value, row.digits) for value in (min(found), median(found), max(found)))
            cell = f"{middle} ({low}..{high})" if len(found) > 1 else middle
            base = values(results, loop, row.baseline or row.key, BASELINE)
            ratios = [a / b for a, b in zip(rounds, base, strict=False) if a == a and b == b and b > 0]
            if ratios and contender.key != BASELINE:
                cell += f" **{ratio_text(median(ratios))}**"
            shares = [r["delivered"] / r["sent"] for r in results[loop, row.key, contender.key] if r.get("sent")]
            if shares and (share := median(shares)) < 0.995:
                cell += f", {share:.0%}"
            line.append(cell)
        lines.append(line)
    return markdown(lines)


def costs(loop: str, rows: list[Row], contenders: list[Contender], results: Results) -> str:
    """Return, from the last round, the CPU time of an operation; for ours wakes, parks and drives too."""
    lines = [["client; server", *(contender.title for contender in contenders)]]
    for row in rows:
        line = [row.title]
        for contender in contenders:
            rounds = [r for r in results.get((loop, row.key, contender.key), []) if "failed" not in r]
            line.append(cost_text(rounds[-1]) if rounds else "-")
        lines.append(line)
    return (
        "CPU time in us per operation (round trip, MB, datagram, connect); for ours also the wakes of the event loop, "
        f"the parks and the drives per operation\n\n{markdown(lines)}"
    )


def cost_text(result: Result) -> str:
    sides = []
    for side in ("client", "server"):
        cpu, counters = result[f"{side}_cpu_us"], result[f"{side}_counters"]
        text = number_text(cpu, 0 if cpu >= 10 else 2)
        if counters and result["operations"]:
            shares = [counters[name] / result["operations"] for name in ("drains", "parks", "drives")]
            text += " " + "/".join(f"{share:.2g}" if share >= 0.001 else "0" for share in shares)
        sides.append(text)
    return "; ".join(sides)


def markdown(lines: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines = [lines[0], ["-" * width for width in widths], *lines[1:]]
    padded = ([cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def number_text(value: float, digits: int) -> str:
    return f"{value:,.{digits}f}".replace(",", " ")


def ratio_text(ratio: float) -> str:
    return f"{ratio:.2f}x" if ratio < 10 else f"{ratio:.0f}x"


if __name__ == "__main__":
    sys.exit(main())
