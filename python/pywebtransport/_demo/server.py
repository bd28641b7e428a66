"""The echo server of `python -m pywebtransport serve`: a certificate that lives as long as it does, routes, a page."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any

from pywebtransport import ServerApp, ServerConfig, WebTransportSession, generate_dev_certificate
from pywebtransport._demo import handlers
from pywebtransport._demo.page import serve_page
from pywebtransport.exceptions import WebTransportError
from pywebtransport.version import __version__

__all__: list[str] = ["DemoServer", "SessionRecord", "demo_server", "run_server"]

# Browsers refuse a pinned certificate that lives longer than 14 days; one day for clocks that disagree.
_CERTIFICATE_DAYS = 13
_RECORDS_KEPT = 100
_WILDCARDS = ("0.0.0.0", "::", "")


@dataclass
class SessionRecord:
    """What the server saw of one session; code and reason stay None while it lives."""

    path: str
    opened_at: float
    closed_at: float | None = None
    code: int | None = None
    reason: str | None = None


class DemoServer:
    """A running echo server; made by `demo_server`."""

    def __init__(self, app: ServerApp, *, host: str, sha256: bytes, expires_at: float) -> None:
        self.app = app
        self.host = host
        self.sha256 = sha256
        self.expires_at = expires_at
        self.page_url: str | None = None
        self.records: deque[SessionRecord] = deque(maxlen=_RECORDS_KEPT)
        app.route("/echo")(self._recorded(handlers.echo))
        app.route("/push")(self._recorded(handlers.push))
        app.route("/close")(self._recorded(handlers.close))

    @property
    def port(self) -> int:
        """The UDP port, also when 0 was asked for."""
        address = self.app.server.local_address
        assert address is not None, "demo_server() yields only listening servers"
        return address[1]

    def url(self, path: str = "/echo") -> str:
        """The address of one of the routes."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"https://{host}:{self.port}{path}"

    def config(self) -> dict[str, Any]:
        """What the page needs in order to connect."""
        return {
            "version": __version__,
            # On every interface: the page connects to the host it came from.
            "host": None if self.host in _WILDCARDS else self.host,
            "port": self.port,
            "sha256": self.sha256.hex(),
            "expires_at": self.expires_at,
        }

    async def status(self) -> dict[str, Any]:
        """The server's side of the story, for the page's explanations."""
        diagnostics = await self.app.server.diagnostics()
        return {
            "now": time.time(),
            "server": diagnostics.stats.to_dict(),
            "sessions": [asdict(record) for record in self.records],
        }

    def _recorded(
        self, handler: Callable[[WebTransportSession], Awaitable[None]]
    ) -> Callable[[WebTransportSession], Awaitable[None]]:
        async def run(session: WebTransportSession) -> None:
            record = SessionRecord(path=session.path, opened_at=time.time())
            self.records.append(record)
            try:
                await handler(session)
                await session.wait_closed()
            finally:
                record.closed_at = time.time()
                record.code = session.close_code
                record.reason = session.close_reason

        return run


@contextlib.asynccontextmanager
async def demo_server(
    *, host: str = "127.0.0.1", port: int = 0, page_port: int | None = None, **settings: Any
) -> AsyncIterator[DemoServer]:
    """An echo server that listens, and its page unless `page_port` is None; `settings` go to the ServerConfig."""
    certificate = generate_dev_certificate(days_valid=_CERTIFICATE_DAYS)
    # Chromium does not wait for stream credit: a page that opens a hundred streams at once fails without it.
    settings = {"max_incoming_streams": 1000, "max_streams_per_connection": 1000, **settings}
    config = ServerConfig(certfile=certificate.certfile, keyfile=certificate.keyfile, **settings)
    async with contextlib.AsyncExitStack() as stack:
        app = await stack.enter_async_context(ServerApp(config=config))
        await app.server.listen(host, port)
        expires_at = time.time() + _CERTIFICATE_DAYS * 86400
        demo = DemoServer(app, host=host, sha256=certificate.sha256, expires_at=expires_at)
        if page_port is not None:
            demo.page_url = await stack.enter_async_context(serve_page(demo.config, demo.status, page_port))
        yield demo


async def run_server(*, host: str, port: int, page_port: int | None, announce_json: bool) -> int:
    """Serve until a signal arrives; 1 when a port cannot be had."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C arrives as KeyboardInterrupt
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stopped.set)
    try:
        async with demo_server(host=host, port=port, page_port=page_port) as demo:
            _announce(demo, as_json=announce_json)
            await stopped.wait()
    except (OSError, WebTransportError) as error:
        print(f"pywebtransport serve: {error}", file=sys.stderr)
        return 1
    return 0


def _announce(demo: DemoServer, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"url": demo.url(), "sha256": demo.sha256.hex(), "page": demo.page_url}), flush=True)
        return
    print(f"pywebtransport {__version__}: echo server on {demo.url()}  (also /push and /close)")
    print(f"certificate   SHA-256 {demo.sha256.hex()}, until {time.ctime(demo.expires_at)}")
    if demo.page_url is not None:
        print(f"page          {demo.page_url}  <- open it in a browser on this machine")
    print("Ctrl-C ends it.", flush=True)
