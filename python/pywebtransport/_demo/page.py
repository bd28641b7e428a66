"""The web server for the page: GET of five fixed addresses over HTTP/1.1, because a page must come from somewhere.

WebTransport needs a secure context, and http://localhost is one. Nothing here is meant for a public network.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.resources import files
from typing import Any

__all__: list[str] = ["serve_page"]

_FILES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
_JSON = "application/json"
_REQUEST_TIMEOUT = 10.0


@contextlib.asynccontextmanager
async def serve_page(
    config: Callable[[], dict[str, Any]], status: Callable[[], Awaitable[dict[str, Any]]], port: int
) -> AsyncIterator[str]:
    """Serve the page on localhost and yield its address."""
    running: set[asyncio.Task[None]] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        task.add_done_callback(running.discard)
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            async with asyncio.timeout(_REQUEST_TIMEOUT):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(await _response(head, config, status))
                await writer.drain()
        writer.close()

    # "localhost" may name 127.0.0.1, ::1 or both; with port 0 each would get a port of its own.
    server = await asyncio.start_server(answer, "localhost" if port else "127.0.0.1", port)
    try:
        yield f"http://localhost:{server.sockets[0].getsockname()[1]}/"
    finally:
        server.close()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _response(
    head: bytes, config: Callable[[], dict[str, Any]], status: Callable[[], Awaitable[dict[str, Any]]]
) -> bytes:
    method, _, rest = head.partition(b" ")
    path = rest.partition(b" ")[0].partition(b"?")[0].decode("latin-1")
    if method != b"GET":
        return _message("405 Method Not Allowed", b"", "text/plain")
    if path in _FILES:
        name, kind = _FILES[path]
        return _message("200 OK", files(__package__).joinpath(name).read_bytes(), kind)
    if path == "/config.json":
        return _message("200 OK", json.dumps(config()).encode(), _JSON)
    if path == "/status.json":
        return _message("200 OK", json.dumps(await status()).encode(), _JSON)
    return _message("404 Not Found", b"", "text/plain")


def _message(status: str, body: bytes, kind: str) -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nCache-Control: no-store\r\n"
        "Content-Security-Policy: default-src 'self'; img-src 'self' data:; connect-src 'self' https:\r\n"
        "X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
    )
    return head.encode("ascii") + body
