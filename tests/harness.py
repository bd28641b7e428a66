"""What the tests of the live library share: a server with a few routes, and both ends of a session.

Everything is real: UDP on loopback, TLS, QUIC. Nothing waits for time to pass; tests wait for the event itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from pywebtransport import (
    ClientConfig,
    ServerApp,
    ServerConfig,
    StreamError,
    WebTransportClient,
    WebTransportReceiveStream,
    WebTransportSendStream,
    WebTransportSession,
    WebTransportStream,
)
from pywebtransport.utils import DevCertificate

SECONDS = 10.0  # for what must happen soon; generous, because it costs time only when a test fails


@dataclass
class Pair:
    """Both ends of one session."""

    client: WebTransportSession
    server: WebTransportSession

    async def bidi(self) -> tuple[WebTransportStream, WebTransportStream]:
        """A bidirectional stream that the client opened, seen from both ends, after one byte was sent and read."""
        near = await self.client.create_bidirectional_stream()
        await near.write(b"!")
        far = await next_stream(self.server)
        assert isinstance(far, WebTransportStream)
        assert await far.readexactly(1) == b"!"
        return near, far

    async def uni(self) -> tuple[WebTransportSendStream, WebTransportReceiveStream]:
        """The same with a unidirectional stream."""
        near = await self.client.create_unidirectional_stream()
        await near.write(b"!")
        far = await next_stream(self.server)
        assert await far.readexactly(1) == b"!"
        return near, far


class Server:
    """A ServerApp that listens, with the routes /echo, /hold (sessions for `next_session`) and /return."""

    def __init__(self, app: ServerApp) -> None:
        self.app = app
        self._held: asyncio.Queue[WebTransportSession] = asyncio.Queue()
        app.route("/echo")(echo)
        app.route("/hold")(self._hold)
        app.route("/return")(_return)

    @property
    def port(self) -> int:
        address = self.app.server.local_address
        assert address is not None
        return address[1]

    def url(self, path: str = "/hold", host: str = "127.0.0.1") -> str:
        return f"https://{host}:{self.port}{path}"

    async def next_session(self) -> WebTransportSession:
        """The next session on /hold; its handler runs until the session is closed."""
        async with asyncio.timeout(SECONDS):
            return await self._held.get()

    async def _hold(self, session: WebTransportSession) -> None:
        self._held.put_nowait(session)
        await session.wait_closed()


@contextlib.asynccontextmanager
async def running_server(certificate: DevCertificate, **options: Any) -> AsyncIterator[Server]:
    """A server on an ephemeral port; `options` are fields of ServerConfig."""
    config = ServerConfig(certfile=certificate.certfile, keyfile=certificate.keyfile, **options)
    async with ServerApp(config=config) as app:
        server = Server(app)
        await app.server.listen("127.0.0.1", 0)
        yield server


def client_config(certificate: DevCertificate, **options: Any) -> ClientConfig:
    """A configuration that accepts exactly the server's certificate."""
    return ClientConfig(server_certificate_hashes=[certificate.sha256], **options)


@contextlib.asynccontextmanager
async def connected_pair(server: Server, config: ClientConfig) -> AsyncIterator[Pair]:
    """Both ends of a session on /hold, with a client of its own."""
    async with WebTransportClient(config=config) as client:
        near = await client.connect(server.url())
        yield Pair(near, await server.next_session())


async def next_stream(session: WebTransportSession) -> WebTransportStream | WebTransportReceiveStream:
    """The next stream of the peer."""
    async with asyncio.timeout(SECONDS):
        return await anext(session.incoming_streams())


async def echo(session: WebTransportSession) -> None:
    """Send every stream and datagram back."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_echo_datagrams(session))
        async for stream in session.incoming_streams():
            if isinstance(stream, WebTransportStream):
                tasks.create_task(_echo_stream(stream, stream))
            else:
                tasks.create_task(_echo_one_way(session, stream))


async def _echo_datagrams(session: WebTransportSession) -> None:
    async for datagram in session.datagrams:
        await session.datagrams.send(datagram)


async def _echo_one_way(session: WebTransportSession, source: WebTransportReceiveStream) -> None:
    try:
        sink = await session.create_unidirectional_stream()
    except StreamError:
        # `max_streams_per_connection` allows fewer than a peer may open at once.
        return await source.abort()
    await _echo_stream(source, sink)


async def _echo_stream(source: WebTransportReceiveStream, sink: WebTransportSendStream) -> None:
    try:
        async for chunk in source:
            await sink.write(chunk)
        await sink.close()
    except StreamError:
        await source.abort()
        await sink.abort()


async def _return(session: WebTransportSession) -> None:
    """A handler that does nothing."""
