"""pywebtransport of this repository, through its public classes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import time

from pywebtransport import (
    ClientConfig,
    DatagramError,
    ServerApp,
    ServerConfig,
    WebTransportClient,
    WebTransportSession,
    WebTransportStream,
    __version__,
)
from pywebtransport._bridge import current_bridge  # the only private thing here; its counters tell where time goes

from .harness import CHUNK, MESSAGE, Delivered, Options, Peer, main


class Ours(Peer[WebTransportSession]):
    """A ServerApp with four routes, and one client."""

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
        config = ServerConfig(certfile=options.certfile, keyfile=options.keyfile, driver=options.driver)
        app = self._app = ServerApp(config=config)
        app.route(path="/echo")(echo)
        app.route(path="/sink")(sink)
        app.route(path="/source")(source)
        app.route(path="/count")(count)
        await app.__aenter__()
        await app.server.listen("127.0.0.1", 0)
        assert app.server.local_address is not None, "it listens"
        return app.server.local_address[1]

    async def start_client(self) -> None:
        config = ClientConfig(
            verify_mode=ssl.CERT_NONE,
            driver=self.options.driver,
            datagram_overflow=self.options.overflow,
            max_connections=1000,
        )
        self._client = WebTransportClient(config=config)
        await self._client.__aenter__()

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
    async for stream in session.incoming_streams():
        assert isinstance(stream, WebTransportStream), "the client opens no others"
        end = time.perf_counter() + float(await stream.read_all())
        while time.perf_counter() < end:
            await stream.write(CHUNK)
        await stream.close()


async def count(session: WebTransportSession) -> None:
    received, first, last = 0, 0.0, 0.0

    async def receive() -> None:
        nonlocal received, first, last
        datagrams = session.datagrams
        with contextlib.suppress(DatagramError):
            while True:
                batch = await datagrams.receive_multiple(max_count=256)
                last = time.perf_counter()
                first = first or last
                received += len(batch)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(receive())
        async for stream in session.incoming_streams():
            assert isinstance(stream, WebTransportStream), "the client opens no others"
            await stream.write_all(json.dumps([received, last - first]).encode())
            received, first = 0, 0.0


if __name__ == "__main__":
    main(Ours)
