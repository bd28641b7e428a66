"""pywebtransport of this repository, through its public classes."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Any

from pywebtransport import (
    ClientConfig,
    DatagramError,
    ServerApp,
    ServerConfig,
    StreamError,
    WebTransportClient,
    WebTransportSession,
    WebTransportStream,
    __version__,
)
from pywebtransport._bridge import current_bridge  # the only private thing here; its counters tell where time goes
from pywebtransport.types import Data

from .harness import CHUNK, MESSAGE, SMALL, Delivered, Options, Peer, Unsupported, main


class Ours(Peer[WebTransportSession]):
    """A ServerApp with a route per path, and one client."""

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._app: ServerApp | None = None
        self._client: WebTransportClient | None = None

    def versions(self) -> dict[str, str]:
        return {"pywebtransport": __version__}

    def counters(self) -> dict[str, int]:
        return current_bridge().stats()

    async def serve(self) -> int:
        options = self.options
        config = ServerConfig(
            certfile=options.certfile,
            keyfile=options.keyfile,
            max_connections=MANY,
            max_sessions=MANY,
            **self._common(ServerConfig),
            max_incoming_streams=options.streams,
            max_streams_per_connection=options.streams,
        )
        app = self._app = ServerApp(config=config)
        app.route(path="/echo")(echo)
        app.route(path="/sink")(sink)
        app.route(path="/source")(source)
        app.route(path="/count")(count)
        app.route(path="/count_each")(count_each)
        app.route(path="/compute")(compute)
        await app.__aenter__()
        await app.server.listen("127.0.0.1", 0)
        assert app.server.local_address is not None, "it listens"
        return app.server.local_address[1]

    async def start_client(self) -> None:
        config = ClientConfig(
            verify_mode=ssl.CERT_NONE,
            datagram_overflow=self.options.overflow,
            max_connections=MANY,
            max_streams=self.options.streams,
            **self._common(ClientConfig),
        )
        self._client = WebTransportClient(config=config)
        await self._client.__aenter__()

    def _common(self, config_type: type) -> dict[str, Any]:
        """Return what both configurations get from the command line."""
        options = self.options
        common: dict[str, Any] = {"driver": options.driver, "connection_idle_timeout": options.idle_timeout}
        if options.preset:
            if "preset" not in {item.name for item in dataclasses.fields(config_type)}:
                raise Unsupported("this build has no transport presets")
            common["preset"] = options.preset
        return common

    async def connect(self, port: int, path: str) -> WebTransportSession:
        assert self._client is not None, "start_client() comes first"
        return await self._client.connect(f"https://127.0.0.1:{port}{path}")

    async def disconnect(self, session: WebTransportSession) -> None:
        await session.close()

    async def stream_round_trips(self, session: WebTransportSession, seconds: float) -> list[float]:
        times: list[float] = []
        stream = await session.create_bidirectional_stream()
        end = time.perf_counter() + seconds
        while (started := time.perf_counter()) < end:
            await stream.write(MESSAGE)
            await stream.readexactly(64)
            times.append(time.perf_counter() - started)
        await stream.close()
        return times

    async def datagram_round_trips(self, session: WebTransportSession, seconds: float) -> list[float]:
        times: list[float] = []
        datagrams = session.datagrams
        end = time.perf_counter() + seconds
        while (started := time.perf_counter()) < end:
            await datagrams.send(MESSAGE)
            await datagrams.receive()
            times.append(time.perf_counter() - started)
        return times

    async def new_stream_round_trips(self, session: WebTransportSession, seconds: float) -> list[float]:
        times: list[float] = []
        end = time.perf_counter() + seconds
        while (started := time.perf_counter()) < end:
            stream = await session.create_bidirectional_stream()
            await stream.write_all(MESSAGE)
            await stream.read_all()
            times.append(time.perf_counter() - started)
        return times

    async def small_echoes(self, session: WebTransportSession, at_once: int, seconds: float) -> int:
        count = 0
        end = time.perf_counter() + seconds

        async def work() -> None:
            nonlocal count
            while time.perf_counter() < end:
                stream = await session.create_bidirectional_stream()
                await stream.write_all(SMALL)
                if len(await stream.read_all()) != len(SMALL):
                    raise RuntimeError("not all came back")
                count += 1

        await asyncio.gather(*(work() for _ in range(at_once)))
        return count

    async def stall(self, session: WebTransportSession, streams: int, seconds: float) -> None:
        unread = []
        for _ in range(streams):
            stream = await session.create_bidirectional_stream()
            await stream.write_all(str(seconds).encode())
            unread.append(stream)
        await asyncio.sleep(seconds)

    async def open_stream(self, session: WebTransportSession) -> WebTransportStream:
        return await session.create_bidirectional_stream()

    async def exchange(self, stream: WebTransportStream) -> None:
        await stream.write(MESSAGE)
        await stream.readexactly(64)

    async def exchange_datagram(self, session: WebTransportSession) -> None:
        await session.datagrams.send(MESSAGE)
        await session.datagrams.receive()

    async def compute(self, stream: WebTransportStream, milliseconds: float) -> None:
        await stream.write(str(milliseconds).encode().ljust(64))
        await stream.readexactly(64)

    async def upload(self, session: WebTransportSession, seconds: float) -> int:
        stream = await session.create_bidirectional_stream()
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            await stream.write(CHUNK)
        await stream.close()
        return int(await stream.read_all())

    async def download(self, session: WebTransportSession, seconds: float) -> int:
        stream = await session.create_bidirectional_stream()
        await stream.write_all(str(seconds).encode())
        size = 0
        while data := await stream.read(65536):
            size += len(data)
        return size

    async def send_datagrams(self, session: WebTransportSession, size: int, seconds: float) -> int:
        payload, sent, datagrams = bytes(size), 0, session.datagrams
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            for _ in range(64):
                await datagrams.send(payload)
            sent += 64
        return sent

    async def send_batches(self, session: WebTransportSession, size: int, seconds: float) -> int:
        batch: list[Data] = [bytes(size)] * 64
        sent = 0
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            sent += await session.datagrams.send_multiple(batch)
        return sent

    async def delivered(self, session: WebTransportSession) -> Delivered:
        stream = await session.create_bidirectional_stream()
        await stream.write_all(b"report")
        return Delivered(*json.loads(await stream.read_all()))


async def echo(session: WebTransportSession) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(echo_datagrams(session))
        async for stream in session.incoming_streams():
            assert isinstance(stream, WebTransportStream), "the client opens no others"
            tasks.create_task(echo_stream(stream))


async def echo_datagrams(session: WebTransportSession) -> None:
    datagrams = session.datagrams
    async for data in datagrams:
        await datagrams.send(data)


async def echo_stream(stream: WebTransportStream) -> None:
    while data := await stream.read(65536):
        await stream.write(data)
    await stream.close()


async def sink(session: WebTransportSession) -> None:
    async for stream in session.incoming_streams():
        assert isinstance(stream, WebTransportStream), "the client opens no others"
        size = 0
        while data := await stream.read(65536):
            size += len(data)
        await stream.write_all(str(size).encode())


async def source(session: WebTransportSession) -> None:
    async with asyncio.TaskGroup() as tasks:
        async for stream in session.incoming_streams():
            assert isinstance(stream, WebTransportStream), "the client opens no others"
            tasks.create_task(source_stream(stream))


async def source_stream(stream: WebTransportStream) -> None:
    end = time.perf_counter() + float(await stream.read_all())
    with contextlib.suppress(StreamError):  # one that is not read to its end
        while time.perf_counter() < end:
            await stream.write(CHUNK)
        await stream.close()


async def count(session: WebTransportSession) -> None:
    await report(session, session.datagrams.receive_multiple)


async def count_each(session: WebTransportSession) -> None:
    await report(session, None)


async def report(session: WebTransportSession, batch: Callable[..., Awaitable[list[bytes]]] | None) -> None:
    """Count datagrams, taken in batches or one by one, and report on each stream."""
    received, first, last = 0, 0.0, 0.0

    async def receive_batches(batch: Callable[..., Awaitable[list[bytes]]]) -> None:
        nonlocal received, first, last
        while True:
            datagrams = await batch(max_count=256)
            last = time.perf_counter()
            first = first or last
            received += len(datagrams)

    async def receive_each() -> None:
        nonlocal received, first, last
        receive, now = session.datagrams.receive, time.perf_counter
        while True:
            await receive()
            last = now()
            first = first or last
            received += 1

    async def receive() -> None:
        with contextlib.suppress(DatagramError):
            await (receive_batches(batch) if batch else receive_each())

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(receive())
        async for stream in session.incoming_streams():
            assert isinstance(stream, WebTransportStream), "the client opens no others"
            await stream.write_all(json.dumps([received, last - first]).encode())
            received, first = 0, 0.0


async def compute(session: WebTransportSession) -> None:
    """Answer on each stream after the event loop was busy for as many milliseconds as the question says."""
    async with asyncio.TaskGroup() as tasks:
        async for stream in session.incoming_streams():
            assert isinstance(stream, WebTransportStream), "the client opens no others"
            tasks.create_task(compute_stream(stream))


async def compute_stream(stream: WebTransportStream) -> None:
    with contextlib.suppress(StreamError):
        while True:
            question = await stream.readexactly(64)
            end = time.perf_counter() + float(question) / 1e3
            while time.perf_counter() < end:
                pass
            await stream.write(question)


MANY = 20_000  # more than any row has

if __name__ == "__main__":
    main(Ours)
