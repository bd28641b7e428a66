"""pywebtransport 0.8.1, the version whose API this repository keeps; it runs on aioquic.

Its defaults allow no stream, so the limits are set. It is slow, and it buffers what it cannot send: therefore bulk rows
move a fixed amount, and lengths are announced, because it loses what is in flight when one side of a stream ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import ssl
import time
from importlib.metadata import version
from typing import Any

from pywebtransport import (
    ClientConfig,
    DatagramError,
    ServerApp,
    ServerConfig,
    WebTransportClient,
    WebTransportSession,
    WebTransportStream,
)

from .harness import CHUNK, MESSAGE, Delivered, Options, Peer, main

BYTES_PER_SECOND = 2_500_000  # what it manages, so that a row takes about as long as it should
LIMITS: dict[str, Any] = {
    "initial_max_data": 1 << 30,
    "initial_max_streams_bidi": 1000,
    "initial_max_streams_uni": 1000,
}


class Old(Peer[WebTransportSession]):
    """A ServerApp with four routes, and one client."""

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._app: ServerApp | None = None
        self._client: WebTransportClient | None = None
        logging.disable(logging.WARNING)  # it warns about every datagram that finds a full queue

    def versions(self) -> dict[str, str]:
        return {"the old pywebtransport": version("pywebtransport"), "aioquic": version("aioquic")}

    async def serve(self) -> int:
        options = self.options
        config = ServerConfig(certfile=options.certfile, keyfile=options.keyfile, verify_mode=ssl.CERT_NONE, **LIMITS)
        app = self._app = ServerApp(config=config)
        app.route(path="/echo")(echo)
        app.route(path="/sink")(sink)
        app.route(path="/source")(source)
        app.route(path="/count")(count)
        await app.__aenter__()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:  # it refuses port 0
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        await app.server.listen(host="127.0.0.1", port=port)
        return port

    async def start_client(self) -> None:
        config = ClientConfig(verify_mode=ssl.CERT_NONE, max_connections=1000, **LIMITS)
        self._client = WebTransportClient(config=config)
        await self._client.__aenter__()

    async def connect(self, port: int, path: str) -> WebTransportSession:
        assert self._client is not None, "start_client() comes first"
        return await self._client.connect(url=f"https://127.0.0.1:{port}{path}")

    async def disconnect(self, session: WebTransportSession) -> None:
        await session.close()

    async def stream_round_trips(self, session: WebTransportSession, seconds: float) -> list[float]:
        times: list[float] = []
        stream = await session.create_bidirectional_stream()
        end = time.perf_counter() + seconds
        while (started := time.perf_counter()) < end:
            await stream.write(data=MESSAGE)
            await stream.readexactly(n=64)
            times.append(time.perf_counter() - started)
        return times

    async def datagram_round_trips(self, session: WebTransportSession, seconds: float) -> list[float]:
        times: list[float] = []
        datagrams = await session.create_datagram_transport()
        end = time.perf_counter() + seconds
        while (started := time.perf_counter()) < end:
            await datagrams.send(data=MESSAGE)
            await datagrams.receive()
            times.append(time.perf_counter() - started)
        return times

    async def upload(self, session: WebTransportSession, seconds: float) -> int:
        stream = await session.create_bidirectional_stream()
        size = int(seconds * BYTES_PER_SECOND)
        await stream.write(data=size.to_bytes(8, "big"))
        for start in range(0, size, len(CHUNK)):
            await stream.write(data=CHUNK[: size - start])
        return int.from_bytes(await stream.readexactly(n=8), "big")

    async def download(self, session: WebTransportSession, seconds: float) -> int:
        stream = await session.create_bidirectional_stream()
        size = int(seconds * BYTES_PER_SECOND)
        await stream.write(data=size.to_bytes(8, "big"))
        return await read_bytes(stream, size)

    async def send_datagrams(self, session: WebTransportSession, size: int, seconds: float) -> int:
        payload, sent = bytes(size), 0
        datagrams = await session.create_datagram_transport()
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            await datagrams.send(data=payload)
            sent += 1
            await asyncio.sleep(0)  # without it the queue is never emptied
        return sent

    async def delivered(self, session: WebTransportSession) -> Delivered:
        stream = await session.create_bidirectional_stream()
        await stream.write(data=b"report..")
        return Delivered(*json.loads(await stream.readexactly(n=40)))


async def echo(session: WebTransportSession) -> None:
    datagrams = asyncio.create_task(echo_datagrams(session))
    async for stream in session.incoming_streams():
        assert isinstance(stream, WebTransportStream), "the client opens no others"
        asyncio.create_task(echo_stream(stream))  # noqa: RUF006  # lives as long as its stream
    datagrams.cancel()


async def echo_datagrams(session: WebTransportSession) -> None:
    datagrams = await session.create_datagram_transport()
    with contextlib.suppress(DatagramError):
        while True:
            await datagrams.send(data=await datagrams.receive())


async def echo_stream(stream: WebTransportStream) -> None:
    while data := await stream.read(size=65536):
        await stream.write(data=data)


async def sink(session: WebTransportSession) -> None:
    async for stream in session.incoming_streams():
        assert isinstance(stream, WebTransportStream), "the client opens no others"
        size = int.from_bytes(await stream.readexactly(n=8), "big")
        await stream.write(data=(await read_bytes(stream, size)).to_bytes(8, "big"))


async def source(session: WebTransportSession) -> None:
    async for stream in session.incoming_streams():
        assert isinstance(stream, WebTransportStream), "the client opens no others"
        size = int.from_bytes(await stream.readexactly(n=8), "big")
        for start in range(0, size, len(CHUNK)):
            await stream.write(data=CHUNK[: size - start])


async def count(session: WebTransportSession) -> None:
    received, first, last = 0, 0.0, 0.0

    async def receive() -> None:
        nonlocal received, first, last
        datagrams = await session.create_datagram_transport()
        with contextlib.suppress(DatagramError):
            while True:
                batch = await datagrams.receive_multiple(max_count=256)
                last = time.perf_counter()
                first = first or last
                received += len(batch)

    receiving = asyncio.create_task(receive())
    async for stream in session.incoming_streams():
        assert isinstance(stream, WebTransportStream), "the client opens no others"
        await stream.readexactly(n=8)
        await stream.write(data=json.dumps([received, last - first]).ljust(40).encode())
        received, first = 0, 0.0
    receiving.cancel()


async def read_bytes(stream: WebTransportStream, size: int) -> int:
    received = 0
    while received < size and (data := await stream.read(size=65536)):
        received += len(data)
    return received


if __name__ == "__main__":
    main(Old)
