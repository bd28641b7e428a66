"""`python -m pywebtransport demo`: what the library does, in five seconds and one table.

The server is a process of its own (`serve --json`), so the figures are those of two programs that talk through the
loopback interface, not of one event loop talking to itself. Everything that comes back is compared with what was sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import platform
import struct
import sys
import time
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from statistics import median, quantiles

from pywebtransport import ClientConfig, WebTransportClient, WebTransportSession, WebTransportStream
from pywebtransport._demo import handlers
from pywebtransport.exceptions import WebTransportError
from pywebtransport.version import __version__

__all__: list[str] = ["run_demo"]

_PHASE_SECONDS = 1.5
_ROUND_TRIPS = 2000
_CHUNK = bytes(range(256)) * 256
_BULK_CHUNKS = 2048  # 128 MiB at most
_UNI_STREAMS = 50
_DATAGRAM_SIZE = 1000
# Datagrams under way at a time: below every queue's bound, so what is lost was lost by the network.
_DATAGRAM_WINDOW = 200
_START_TIMEOUT = 20.0
_ERASE_LINE = "\r\033[K"


class _DemoError(Exception):
    """What the demo saw is not what it should have seen."""


@dataclass
class _Report:
    """The table, filled from top to bottom, with a line of progress while a phase runs."""

    rows: list[tuple[str, str]] = field(default_factory=list)

    def begin(self, name: str) -> None:
        if sys.stdout.isatty():
            print(f"{_ERASE_LINE}  ..  {name}", end="", flush=True)

    def done(self, name: str, result: str) -> None:
        self.rows.append((name, result))
        erase = _ERASE_LINE if sys.stdout.isatty() else ""
        print(f"{erase}  ok  {name}", flush=True)

    def table(self) -> str:
        left = max(len(name) for name, _ in self.rows)
        right = max(len(result) for _, result in self.rows)
        rule = f"+-{'-' * left}-+-{'-' * right}-+"
        return "\n".join([rule, *(f"| {name:<{left}} | {result:<{right}} |" for name, result in self.rows), rule])


async def run_demo() -> int:
    """Run every phase and print the table; 0 when everything came back as it was sent."""
    print(f"pywebtransport {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    report = _Report()
    try:
        async with _server_process() as (url, sha256):
            config = ClientConfig(server_certificate_hashes=[sha256])
            async with WebTransportClient(config=config) as client:
                await _exchange(client, url, report)
    except (WebTransportError, OSError, _DemoError) as error:
        print(f"\ndemo failed: {error}", file=sys.stderr)
        return 1
    print(f"\n{report.table()}")
    return 0


@contextlib.asynccontextmanager
async def _server_process() -> AsyncIterator[tuple[str, bytes]]:
    command = ("-m", "pywebtransport", "serve", "--port", "0", "--no-page", "--json")
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), _START_TIMEOUT)
        if not line:
            raise _DemoError("the server process ended before it listened; its message is above")
        announced = json.loads(line)
        yield announced["url"], bytes.fromhex(announced["sha256"])
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _exchange(client: WebTransportClient, url: str, report: _Report) -> None:
    report.begin("connect")
    started = time.perf_counter()
    session = await client.connect(url)
    report.done("connect (QUIC, TLS, HTTP/3)", f"{(time.perf_counter() - started) * 1e3:.1f} ms")

    await _stream_round_trips(session, report)
    await _bulk_stream(session, report)
    await _unidirectional_streams(session, report)
    await _datagrams(session, report)
    await _server_streams(client, url.replace("/echo", "/push"), report)
    await _server_close(client, url.replace("/echo", "/close"), report)
    await _diagnostics(session, report)
    await session.close(0, "the demo is over")


async def _stream_round_trips(session: WebTransportSession, report: _Report) -> None:
    name = "bidirectional stream, round trips"
    report.begin(name)
    message = _CHUNK[:64]
    times: list[float] = []
    stream = await session.create_bidirectional_stream()
    end = time.perf_counter() + _PHASE_SECONDS
    while len(times) < _ROUND_TRIPS and time.perf_counter() < end:
        started = time.perf_counter()
        await stream.write(message)
        _expect(await stream.readexactly(len(message)) == message, "a stream returned other bytes than it was sent")
        times.append(time.perf_counter() - started)
    await stream.close()
    _expect(await stream.read() == b"", "a stream returned more than it was sent")
    report.done(name, f"{len(times):,} of 64 B, {_latency(times)}")


async def _bulk_stream(session: WebTransportSession, report: _Report) -> None:
    name = "bidirectional stream, bulk echo"
    report.begin(name)
    stream = await session.create_bidirectional_stream()
    started = time.perf_counter()
    sender = asyncio.create_task(_send_bulk(stream, until=started + _PHASE_SECONDS))
    received = checksum = 0
    while data := await stream.read(len(_CHUNK)):
        received += len(data)
        checksum = zlib.crc32(data, checksum)
    elapsed = time.perf_counter() - started
    _expect((received, checksum) == await sender, "a stream returned other bytes than it was sent")
    report.done(name, f"{received / 1e6:,.0f} MB, {received / elapsed / 1e6:,.0f} MB/s each way")


async def _send_bulk(stream: WebTransportStream, *, until: float) -> tuple[int, int]:
    sent = checksum = 0
    for _ in range(_BULK_CHUNKS):
        if time.perf_counter() > until:
            break
        await stream.write(_CHUNK, wait_flush=False)
        sent += len(_CHUNK)
        checksum = zlib.crc32(_CHUNK, checksum)
    await stream.close()
    return sent, checksum


async def _unidirectional_streams(session: WebTransportSession, report: _Report) -> None:
    name = "unidirectional streams, answered"
    report.begin(name)
    # Answers come in any order: the first four bytes say whose they are.
    bodies = {struct.pack("!I", number) + _CHUNK for number in range(_UNI_STREAMS)}
    started = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for body in bodies:
            tasks.create_task(_send_one(session, body))
        incoming = session.incoming_streams()
        readers = [tasks.create_task((await anext(incoming)).read_all()) for _ in range(_UNI_STREAMS)]
    elapsed = time.perf_counter() - started
    _expect({reader.result() for reader in readers} == bodies, "a unidirectional stream's answer differs")
    report.done(name, f"{_UNI_STREAMS} of 64 KiB in {elapsed * 1e3:.0f} ms, {_UNI_STREAMS / elapsed:,.0f} streams/s")


async def _send_one(session: WebTransportSession, body: bytes) -> None:
    stream = await session.create_unidirectional_stream()
    await stream.write_all(body)


async def _datagrams(session: WebTransportSession, report: _Report) -> None:
    name = "datagrams, echoed"
    report.begin(name)
    datagrams = session.datagrams
    filler = _CHUNK[: min(_DATAGRAM_SIZE, datagrams.max_datagram_size) - 8]
    sent = returned = lost = 0
    started = time.perf_counter()
    end = started + _PHASE_SECONDS
    while True:
        while time.perf_counter() < end and sent - returned - lost < _DATAGRAM_WINDOW:
            await datagrams.send(struct.pack("!Q", sent) + filler)
            sent += 1
        if sent == returned + lost:
            break
        try:
            batch = await datagrams.receive_multiple(_DATAGRAM_WINDOW, timeout=0.25)
        except TimeoutError:
            lost = sent - returned  # datagrams may be lost; what is a quarter of a second late is
            continue
        for datagram in batch:
            _expect(datagram[8:] == filler, "a datagram came back changed")
        returned += len(batch)
    elapsed = time.perf_counter() - started
    _expect(returned > 0, "no datagram came back")
    report.done(name, f"{returned / elapsed:,.0f}/s of {len(filler) + 8} B each way, {lost:,} of {sent:,} lost")


async def _server_streams(client: WebTransportClient, url: str, report: _Report) -> None:
    name = "streams opened by the server"
    report.begin(name)
    kinds: list[str] = []
    async with await client.connect(url) as session:
        async for stream in session.incoming_streams():
            greeting = await stream.readexactly(len(handlers.GREETING))
            _expect(greeting == handlers.GREETING, "a stream opened by the server says something else")
            kinds.append("bidirectional" if isinstance(stream, WebTransportStream) else "unidirectional")
            if len(kinds) == 2:
                break
    report.done(name, " and ".join(sorted(kinds)))


async def _server_close(client: WebTransportClient, url: str, report: _Report) -> None:
    name = "session closed by the server"
    report.begin(name)
    session = await client.connect(url)
    await session.wait_closed()
    seen = (session.close_code, session.close_reason)
    _expect(seen == (handlers.CLOSE_CODE, handlers.CLOSE_REASON), f"close code and reason arrived as {seen}")
    report.done(name, f'code {session.close_code}, reason "{session.close_reason}"')


async def _diagnostics(session: WebTransportSession, report: _Report) -> None:
    diagnostics = await session.diagnostics()
    stats = diagnostics.stats
    report.done(
        "session: streams",
        f"{stats.streams_created} ({stats.bidirectional_streams} bidi, {stats.unidirectional_streams} uni), "
        f"{stats.active_streams} active, {stats.stream_errors} errors",
    )
    report.done("session: datagrams", f"{stats.datagrams_sent:,} sent, {stats.datagrams_received:,} received")
    if session.connection is not None:
        transport = session.connection.diagnostics
        report.done(
            "connection",
            f"rtt {transport.rtt * 1e3:.2f} ms, cwnd {transport.cwnd // 1024:,} KiB, "
            f"packet loss {transport.packet_loss_rate:.2%}",
        )
    report.done("issues", "; ".join(diagnostics.issues) or "none")


def _latency(times: list[float]) -> str:
    if len(times) < 2:
        return "too few samples"
    return f"median {median(times) * 1e6:,.0f} us, p99 {quantiles(times, n=100)[98] * 1e6:,.0f} us"


def _expect(condition: bool, otherwise: str) -> None:
    if not condition:
        raise _DemoError(otherwise)
