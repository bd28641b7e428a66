"""What the peers have in common: command line, control channel, and what a peer module has to do.

A peer process reads one JSON command per line from standard input and answers with one JSON line (`measure` has the
commands). It ends with its input. Whatever runs once per message is in the peer modules, written against the library's
own API: a common layer in between would cost as much as what is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

S = TypeVar("S")

Result = dict[str, Any]
Command = Callable[["Peer[Any]", Result], Awaitable[Result]]

MESSAGE = b"m" * 64
SMALL = b"s" * 1024
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
    preset: str
    streams: int
    idle_timeout: float


@dataclass(frozen=True)
class Delivered:
    """What the server got since the last report, and the seconds between the first and the last of it."""

    count: int
    seconds: float


class Peer(ABC, Generic[S]):
    """One library. The server offers five paths.

    /echo sends streams and datagrams back; /sink reads a stream to its end and answers with the number of bytes;
    /source answers a number of seconds with bytes for so long; /count and /count_each count datagrams, taken in batches
    or one by one, and report on a stream. Each measuring method runs for about `seconds`. What is not abstract, a peer
    may leave out; the table then has no figure.
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

    async def new_stream_round_trips(self, session: S, seconds: float) -> list[float]:
        """Open a stream of /echo, send MESSAGE and the end, read to the end, again and again."""
        raise NotImplementedError

    async def small_echoes(self, session: S, at_once: int, seconds: float) -> int:
        """Send SMALL on new streams of /echo, `at_once` of them at any time; return how many came back."""
        raise NotImplementedError

    async def send_batches(self, session: S, size: int, seconds: float) -> int:
        """Do what `send_datagrams` does with many in one call."""
        raise NotImplementedError

    async def stall(self, session: S, streams: int, seconds: float) -> None:
        """Ask /source for `seconds` of bytes on so many streams, and read nothing for as long."""
        raise NotImplementedError

    async def open_stream(self, session: S) -> Any:
        """Return a stream of /echo for `exchange`."""
        raise NotImplementedError

    async def exchange(self, stream: Any) -> None:
        """Send MESSAGE on the stream and wait for it."""
        raise NotImplementedError

    async def exchange_datagram(self, session: S) -> None:
        """Send MESSAGE as a datagram and wait for one."""
        raise NotImplementedError

    async def compute(self, stream: Any, milliseconds: float) -> None:
        """Ask a stream of /compute to keep its event loop busy for so long before it answers."""
        raise NotImplementedError


def main(peer_type: Callable[[Options], Peer[Any]]) -> None:
    """Run a peer process."""
    from .measure import COMMANDS  # it needs what is above

    parser = argparse.ArgumentParser(description="One end of a benchmark; started by bench.py.")
    parser.add_argument("role", choices=("server", "client"))
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    parser.add_argument("--certfile", default="")
    parser.add_argument("--keyfile", default="")
    parser.add_argument("--driver", default="auto")
    parser.add_argument("--overflow", default="drop_oldest")
    parser.add_argument("--preset", default="")
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--idle-timeout", type=float, default=60.0)
    options = Options(**vars(parser.parse_args()))
    with asyncio.Runner(loop_factory=_loop_factory(options.loop)) as runner:
        runner.run(_obey(peer_type(options), COMMANDS))
        # Nothing of a peer needs a clean end, and a library that hangs at exit must not hold up the others.
        os._exit(0)


def _loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    if name == "uvloop":
        import uvloop

        return uvloop.new_event_loop
    return asyncio.new_event_loop


async def _obey(peer: Peer[Any], commands: Mapping[str, Command]) -> None:
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    started: Result = {"versions": peer.versions()}
    try:
        if peer.options.role == "server":
            started["port"] = await peer.serve()
        else:
            await peer.start_client()
    except Unsupported as error:
        started = {"unsupported": str(error)}
    _answer(started)
    while line := await reader.readline():
        command = json.loads(line)
        try:
            async with asyncio.timeout(command.get("limit", 30.0)):
                _answer(await commands[command["do"]](peer, command))
        except NotImplementedError:
            _answer({"unsupported": f"{command['do']}: this peer has no such thing"})
        except Exception as error:
            _answer({"error": f"{type(error).__name__}: {error}"})


class Unsupported(Exception):
    """What was asked for this library, or this version of it, does not have."""


def _answer(result: Result) -> None:
    print(json.dumps(result), flush=True)
