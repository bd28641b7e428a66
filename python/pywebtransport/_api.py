"""The shortest way to a session: `connect(url)` for clients, `serve(handler, host, port)` for servers.

Both work with `async with` and with `await`. They are thin: `WebTransportClient` and `ServerApp` do the work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from types import TracebackType
from typing import Any, Self

from pywebtransport.client.client import WebTransportClient
from pywebtransport.config import ClientConfig, ServerConfig
from pywebtransport.server.app import ServerApp
from pywebtransport.server.router import SessionHandler
from pywebtransport.server.server import WebTransportServer
from pywebtransport.session.session import WebTransportSession
from pywebtransport.types import URL, Address, Headers

__all__: list[str] = ["Serving", "connect", "serve"]


class connect:  # used like a function
    """Connect to a server.

        async with connect("https://localhost:4433/echo") as session:
            await session.datagrams.send(b"hello")

    Or `session = await connect(url)`; then close it with `await session.close()`. Either way the connection is closed
    with the session. Waits, fails and may be cancelled as `WebTransportClient.connect` does.

    Args:
        url: `https://host[:port]/path?query`.
        config: None: the defaults.
        headers: sent with the request.
        timeout: limit in seconds; None: `config.connect_timeout`.
        options: fields of `ClientConfig` to set, such as `ca_certs` or `server_certificate_hashes`.

    Raises:
        ConfigurationError: the URL or the configuration is not valid.
        ConnectionError: no connection; also a TimeoutError when the limit passed.
        ClientError: the server refused the session ("HTTP status 404").
    """

    def __init__(
        self,
        url: URL,
        *,
        config: ClientConfig | None = None,
        headers: Headers | None = None,
        timeout: float | None = None,
        **options: Any,
    ) -> None:
        self._url = url
        self._config = _configured(config or ClientConfig(), options)
        self._headers = headers
        self._timeout = timeout
        self._session: WebTransportSession | None = None

    def __await__(self) -> Generator[Any, None, WebTransportSession]:
        return self._open().__await__()

    async def __aenter__(self) -> WebTransportSession:
        self._session = await self._open()
        return self._session

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        assert self._session is not None, "__aexit__ comes after __aenter__"
        await self._session.close()

    async def _open(self) -> WebTransportSession:
        client = WebTransportClient(self._config)
        await client.__aenter__()
        try:
            session = await client.connect(self._url, self._timeout, self._headers)
        except BaseException:
            await client.close()
            raise
        # The client holds the connection, so the session must hold the client; at its end both go.
        session._owner = client
        session._on_close(_release)
        return session


class serve:  # used like a function
    """Serve sessions: every path, one handler.

        async def echo(session):
            async for datagram in session.datagrams:
                await session.datagrams.send(datagram)

        async with serve(echo, "localhost", 4433, certfile="localhost.crt", keyfile="localhost.key") as server:
            await server.serve_forever()

    Or `server = await serve(…)`; then end it with `server.close()` and `await server.wait_closed()`. The session is
    closed when the handler returns. For routes and middleware use `ServerApp`.

    Args:
        handler: called with each session.
        host: address or name; None: `config.bind_host`.
        port: UDP port; None: `config.bind_port`; 0: a free one, see `Serving.address`.
        config: None: the defaults.
        certfile: PEM file of the certificate chain; instead of `config.certfile`.
        keyfile: PEM file of the key; instead of `config.keyfile`.
        options: fields of `ServerConfig` to set.

    Raises:
        ConfigurationError, CertificateError: the configuration is not valid.
        ServerError: the certificate cannot be used, or the port cannot be bound.
    """

    def __init__(
        self,
        handler: SessionHandler,
        host: str | None = None,
        port: int | None = None,
        *,
        config: ServerConfig | None = None,
        certfile: str | None = None,
        keyfile: str | None = None,
        **options: Any,
    ) -> None:
        files = {"certfile": certfile, "keyfile": keyfile}
        options.update({name: value for name, value in files.items() if value is not None})
        self._handler = handler
        self._config = _configured(config or ServerConfig(), options)
        self._host = host
        self._port = port
        self._serving: Serving | None = None

    def __await__(self) -> Generator[Any, None, Serving]:
        return self._open().__await__()

    async def __aenter__(self) -> Serving:
        self._serving = await self._open()
        return self._serving

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        assert self._serving is not None, "__aexit__ comes after __aenter__"
        await self._serving.__aexit__(exc_type, exc_val, exc_tb)

    async def _open(self) -> Serving:
        app = ServerApp(self._config)
        app._router.set_default_handler(self._handler)
        await app.__aenter__()
        try:
            await app.server.listen(self._host, self._port)
        except BaseException:
            await app.__aexit__(None, None, None)
            raise
        return Serving(app)


class Serving:
    """A server that `serve` has started; leaving `async with` closes it."""

    def __init__(self, app: ServerApp) -> None:
        """Wrap an application that listens."""
        self._app = app
        self._address = app.server.local_address
        self._closing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Return the object itself."""
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        """Close it and wait."""
        await self.close()

    @property
    def address(self) -> Address:
        """Host and port it listens on, or has listened on."""
        assert self._address is not None, "made only for a server that listens"
        return self._address

    @property
    def local_address(self) -> Address | None:
        """Host and port it listens on; None once it is closed."""
        return self._app.server.local_address

    @property
    def server(self) -> WebTransportServer:
        """The server underneath."""
        return self._app.server

    def close(self) -> asyncio.Task[None]:
        """Begin to close: running handlers are cancelled, sessions and connections closed, the port released.

        Returns at once; await the result, or `wait_closed`, to wait for the end. Idempotent.
        """
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._app.__aexit__(None, None, None))
        return self._closing

    async def wait_closed(self) -> None:
        """Wait until the server is closed, by whomever. Cancelling it does not close."""
        stopped = self._app.server._stopped
        if stopped is not None:
            await stopped.wait()
        if self._closing is not None:
            await asyncio.shield(self._closing)

    async def serve_forever(self) -> None:
        """Wait until the server is closed; when cancelled, close it and go on with the cancellation."""
        try:
            await self.wait_closed()
        except asyncio.CancelledError:
            await self.close()
            raise


def _configured(config: Any, options: dict[str, Any]) -> Any:
    """Return the configuration, with the options set in a copy."""
    return config.update(**options) if options else config


def _release(session: WebTransportSession) -> None:
    """Close the client of a session that has ended; its connection goes with it."""
    client, session._owner = session._owner, None
    if client is not None:
        session._owner_closing = asyncio.get_running_loop().create_task(client.close())
