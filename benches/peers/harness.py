"""What the peers have in common: command line, control channel, and the rows.

A peer process reads one JSON command per line from standard input and answers with one JSON line. It ends with its
input. `Peer` lists what a peer module has to do. Whatever runs once per message is in the peer modules, written against
the library's own API: a common layer in between would cost as much as what is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any, Generic, TypeVar

S = TypeVar("S")

Result = dict[str, Any]

MESSAGE = b"m" * 64
CHUNK = b"c" * 65536


@dataclass(frozen=True)
class Options:
    """The command line of a peer process."""

    role: str
    loop: str
    certfile: str
    keyfile: str
    driver: str
    overflow: str


@dataclass(frozen=True)
class Delivered:
    """What the server got since the last report, and the seconds between the first and the last of it."""

    count: int
    seconds: float


class Peer(ABC, Generic[S]):
    """One library. The server offers four paths.

    /echo sends streams and datagrams back; /sink reads a stream to its end and answers with the number of bytes;
    /source answers a number of seconds with bytes for so long; /count counts datagrams and reports on a stream.
    Each measuring method runs for about `seconds`.
    """

    def __init__(self, options: Options) -> None:
        self.options = options

    @abstractmethod
    async def serve(self) -> int:
        """Start the server and return its port; it runs until the process ends."""

    @abstractmethod
    async def start_client(self) -> None:
        """Do what a client program does once."""

    @abstractmethod
    async def connect(self, port: int, path: str) -> S:
        """Return a session, ready for use."""

    @abstractmethod
    async def disconnect(self, session: S) -> None:
        """Close it, gracefully."""

    @abstractmethod
    async def stream_round_trips(self, session: S, seconds: float) -> list[float]:
        """Send MESSAGE on one stream of /echo and wait for it, again and again; return the seconds of each."""

    @abstractmethod
    async def datagram_round_trips(self, session: S, seconds: float) -> list[float]:
        """Do the same with datagrams."""

    @abstractmethod
    async def upload(self, session: S, seconds: float) -> int:
        """Write CHUNKs to one stream of /sink; return the number of bytes that the server has confirmed."""

    @abstractmethod
    async def download(self, session: S, seconds: float) -> int:
        """Read one stream of /source to its end; return the number of bytes."""

    @abstractmethod
    async def send_datagrams(self, session: S, size: int, seconds: float) -> int:
        """Send datagrams to /count, one by one, as fast as it goes; return how many."""

    @abstractmethod
    async def delivered(self, session: S) -> Delivered:
        """Ask /count for its report."""

    @abstractmethod
    def versions(self) -> dict[str, str]:
        """Name what is measured."""

    def counters(self) -> dict[str, int]:
        """Return counters that only grow, if the library has such."""
        return {}


def main(peer_type: Callable[[Options], Peer[Any]]) -> None:
    """Run a peer process."""
    parser = argparse.ArgumentParser(description="One end of a benchmark; started by bench.py.")
    parser.add_argument("role", choices=("server", "client"))
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    parser.add_argument("--certfile", default="")
    parser.add_argument("--keyfile", default="")
    parser.add_argument("--driver", default="auto")
    parser.add_argument("--overflow", default="drop_oldest")
    options = Options(**vars(parser.parse_args()))
    with asyncio.Runner(loop_factory=_loop_factory(options.loop)) as runner:
        runner.run(_obey(peer_type(options)))
        # Nothing of a peer needs a clean end, and a library that hangs at exit must not hold up the others.
        os._exit(0)


def _loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    if name == "uvloop":
        import uvloop

        return uvloop.new_event_loop
    return asyncio.new_event_loop


async def _obey(peer: Peer[Any]) -> None:
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    started: Result = {"versions": peer.versions()}
    if peer.options.role == "server":
        started["port"] = await peer.serve()
    else:
        await peer.start_client()
    _answer(started)
    while line := await reader.readline():
        command = json.loads(line)
        try:
            async with asyncio.timeout(command.get("limit", 30.0)):
                _answer(await _COMMANDS[command["do"]](peer, command))
        except Exception as error:
            _answer({"error": f"{type(error).__name__}: {error}"})


def _answer(result: Result) -> None:
    print(json.dumps(result), flush=True)


# --- commands ---


async def _status(peer: Peer[Any], _command: Result) -> Result:
    gc.collect()
    with open("/proc/self/statm") as statm:
        pages = int(statm.read().split()[1])
    return {
        "rss_kb": pages * os.sysconf("SC_PAGE_SIZE") // 1024,
        "cpu": time.process_time(),
        "counters": peer.counters(),
    }


async def _stream_round_trip(peer: Peer[Any], command: Result) -> Result:
    session = await peer.connect(command["port"], "/echo")
    warm = await peer.stream_round_trips(session, command["seconds"] * WARM_UP)
    return _latency(await peer.stream_round_trips(session, command["seconds"]), len(warm))


async def _datagram_round_trip(peer: Peer[Any], command: Result) -> Result:
    session = await peer.connect(command["port"], "/echo")
    warm = await peer.datagram_round_trips(session, command["seconds"] * WARM_UP)
    return _latency(await peer.datagram_round_trips(session, command["seconds"]), len(warm))


async def _upload(peer: Peer[Any], command: Result) -> Result:
    return await _bulk(peer, command, "/sink", peer.upload)


async def _download(peer: Peer[Any], command: Result) -> Result:
    return await _bulk(peer, command, "/source", peer.download)


async def _bulk(peer: Peer[Any], command: Result, path: str, move: Callable[[Any, float], Awaitable[int]]) -> Result:
    session = await peer.connect(command["port"], path)
    warm = await move(session, command["seconds"] * WARM_UP)
    started = time.perf_counter()
    size = await move(session, command["seconds"])
    seconds = time.perf_counter() - started
    return {"value": size / seconds / 1e6, "bytes": size, "operations": (warm + size) / 1e6}


async def _datagrams(peer: Peer[Any], command: Result) -> Result:
    session = await peer.connect(command["port"], "/count")
    size = command["size"]
    warm = await peer.send_datagrams(session, size, command["seconds"] * WARM_UP)
    await asyncio.sleep(SETTLE)
    await peer.delivered(session)
    sent = await peer.send_datagrams(session, size, command["seconds"])
    await asyncio.sleep(SETTLE)
    report = await peer.delivered(session)
    return {
        "value": report.count / report.seconds,
        "sent": sent,
        "delivered": report.count,
        "operations": warm + sent,
    }


async def _connect(peer: Peer[Any], command: Result) -> Result:
    times: list[float] = []
    end = time.perf_counter() + command["seconds"] * (1 + WARM_UP)
    measured_from = end - command["seconds"]
    warm = 0
    while (started := time.perf_counter()) < end:
        session = await peer.connect(command["port"], "/echo")
        if started < measured_from:
            warm += 1
        else:
            times.append(time.perf_counter() - started)
        await peer.disconnect(session)
    result = _latency(times, warm)
    return {**result, "value": result["value"] / 1e3, "p99": result["p99"] / 1e3}


async def _first_connect(peer: Peer[Any], command: Result) -> Result:
    started = time.perf_counter()
    await peer.connect(command["port"], "/echo")
    return {"value": (time.perf_counter() - started) * 1e3, "operations": 1}


async def _connect_rate(peer: Peer[Any], command: Result) -> Result:
    """Connect and close in AT_ONCE tasks; what was begun before the end counts, and so does the time it took."""
    count = 0

    async def work(end: float) -> None:
        nonlocal count
        while time.perf_counter() < end:
            await peer.disconnect(await peer.connect(command["port"], "/echo"))
            count += 1

    await asyncio.gather(*(work(time.perf_counter() + command["seconds"] * WARM_UP) for _ in range(AT_ONCE)))
    warm, count = count, 0
    started = time.perf_counter()
    await asyncio.gather(*(work(started + command["seconds"]) for _ in range(AT_ONCE)))
    return {"value": count / (time.perf_counter() - started), "operations": warm + count}


async def _hold(peer: Peer[Any], command: Result) -> Result:
    """Open sessions and keep them; bench.py compares the server's memory before and after."""
    for _ in range(command["sessions"]):
        _held.append(await peer.connect(command["port"], "/echo"))
    await asyncio.sleep(SETTLE)
    return {"held": len(_held), "operations": command["sessions"]}


def _latency(times: list[float], warm: int) -> Result:
    if len(times) < 2:
        raise RuntimeError(f"only {len(times)} sample(s)")
    return {
        "value": median(times) * 1e6,
        "p99": quantiles(times, n=100)[98] * 1e6,
        "samples": len(times),
        "operations": warm + len(times),
    }


AT_ONCE = 25
WARM_UP = 0.25  # share of the measured time, before it
SETTLE = 0.4  # seconds until the last datagram has arrived, or the memory of new sessions has settled

_held: list[Any] = []

_COMMANDS: dict[str, Callable[[Peer[Any], Result], Awaitable[Result]]] = {
    "status": _status,
    "stream_round_trip": _stream_round_trip,
    "datagram_round_trip": _datagram_round_trip,
    "upload": _upload,
    "download": _download,
    "datagrams": _datagrams,
    "connect": _connect,
    "first_connect": _first_connect,
    "connect_rate": _connect_rate,
    "hold": _hold,
}
