"""websockets over TLS: messages stand for streams and for datagrams.

Compression is off: the other peers do not compress, and it would make this one slower. The TLS context is made once.
"""

from __future__ import annotations

import json
import ssl
import time
from importlib.metadata import version

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server, ServerConnection, serve

from .harness import CHUNK, MESSAGE, SMALL, Delivered, Options, Peer, main


class Websockets(Peer[ClientConnection]):
    """A WebSocket server and client."""

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._server: Server | None = None
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._tls.check_hostname = False
        self._tls.verify_mode = ssl.CERT_NONE

    def versions(self) -> dict[str, str]:
        return {"websockets": version("websockets"), "openssl": ssl.OPENSSL_VERSION}

    async def serve(self) -> int:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(self.options.certfile, self.options.keyfile)
        self._server = await serve(handle, "127.0.0.1", 0, ssl=tls, compression=None, max_size=None)
        return int(self._server.sockets[0].getsockname()[1])

    async def start_client(self) -> None:
        return None

    async def connect(self, port: int, path: str) -> ClientConnection:
        url = f"wss://127.0.0.1:{port}{path}"
        return await connect(url, ssl=self._tls, compression=None, max_size=None, proxy=None)

    async def disconnect(self, session: ClientConnection) -> None:
        await session.close()

    async def stream_round_trips(self, session: ClientConnection, seconds: float) -> list[float]:
        times: list[float] = []
        end = time.perf_counter() + seconds
        while (started := time.perf_counter()) < end:
            await session.send(MESSAGE)
            await session.recv()
            times.append(time.perf_counter() - started)
        return times

    async def datagram_round_trips(self, session: ClientConnection, seconds: float) -> list[float]:
        return await self.stream_round_trips(session, seconds)

    async def new_stream_round_trips(self, session: ClientConnection, seconds: float) -> list[float]:
        return await self.stream_round_trips(session, seconds)

    async def small_echoes(self, session: ClientConnection, at_once: int, seconds: float) -> int:
        count = 0
        for _ in range(at_once):
            await session.send(SMALL)
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            await session.recv()
            await session.send(SMALL)
            count += 1
        for _ in range(at_once):
            await session.recv()
        return count + at_once

    async def upload(self, session: ClientConnection, seconds: float) -> int:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            await session.send(CHUNK)
        await session.send("end")
        return int(await session.recv())

    async def download(self, session: ClientConnection, seconds: float) -> int:
        await session.send(str(seconds))
        size = 0
        while isinstance(message := await session.recv(), bytes):
            size += len(message)
        return size

    async def send_datagrams(self, session: ClientConnection, size: int, seconds: float) -> int:
        payload, sent = bytes(size), 0
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            for _ in range(64):
                await session.send(payload)
            sent += 64
        return sent

    async def delivered(self, session: ClientConnection) -> Delivered:
        await session.send("report")
        return Delivered(*json.loads(await session.recv()))


async def handle(session: ServerConnection) -> None:
    assert session.request is not None, "the handler runs after the handshake"
    await HANDLERS[session.request.path](session)


async def echo(session: ServerConnection) -> None:
    async for message in session:
        await session.send(message)


async def sink(session: ServerConnection) -> None:
    size = 0
    async for message in session:
        if isinstance(message, bytes):
            size += len(message)
        else:
            await session.send(str(size))
            size = 0


async def source(session: ServerConnection) -> None:
    async for message in session:
        end = time.perf_counter() + float(message)
        while time.perf_counter() < end:
            await session.send(CHUNK)
        await session.send("end")


async def count(session: ServerConnection) -> None:
    received, first, last = 0, 0.0, 0.0
    async for message in session:
        if isinstance(message, bytes):
            last = time.perf_counter()
            first = first or last
            received += 1
        else:
            await session.send(json.dumps([received, last - first]))
            received, first = 0, 0.0


HANDLERS = {"/echo": echo, "/sink": sink, "/source": source, "/count": count, "/count_each": count}

if __name__ == "__main__":
    main(Websockets)
