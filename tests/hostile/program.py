"""The server under test, in a process of its own: its memory is its own.

usage: program.py CERTFILE KEYFILE OPTIONS, where OPTIONS are fields of ServerConfig as JSON. Prints the port.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import json
import sys

from pywebtransport import (
    HttpRequest,
    ServerApp,
    ServerConfig,
    StreamError,
    WebTransportSendStream,
    WebTransportSession,
    WebTransportStream,
)
from tests.harness import echo


async def deaf(session: WebTransportSession) -> None:
    """Accept no stream and read no datagram."""
    await session.wait_closed()


async def order(session: WebTransportSession) -> None:
    """Say in datagrams what the streams carry, in the order in which they are accepted."""
    async for stream in session.incoming_streams():
        await session.datagrams.send(await stream.read_all())


async def late(session: WebTransportSession) -> None:
    """Accept the session when its first datagram comes, which is dropped; then echo."""
    await session.datagrams.receive()
    session.accept()
    await echo(session)


async def pour(session: WebTransportSession) -> None:
    """Write as much as goes into a stream, and close the session when a datagram comes."""
    stream = await session.create_unidirectional_stream()
    writing = asyncio.create_task(_write_for_ever(stream))
    await session.datagrams.receive()
    writing.cancel()
    await session.close(7, "enough")


def _tidy_up() -> None:
    """Let go of what nobody uses, so that the process is as large as what somebody does."""
    gc.collect()
    # The C library keeps freed memory for the next allocation; that of glibc gives it back on demand.
    if (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)


async def _write_for_ever(stream: WebTransportSendStream) -> None:
    with contextlib.suppress(StreamError):
        while True:
            await stream.write(bytes(65_536))


async def page(request: HttpRequest) -> bytes:
    """Send the content back, or without any a page of 8 MiB."""
    return request.body or bytes(8 << 20)


async def main(certfile: str, keyfile: str, options: str) -> None:
    """Serve until the process is ended."""
    config = ServerConfig(certfile=certfile, keyfile=keyfile, log_level="ERROR", **json.loads(options))
    async with ServerApp(config=config) as app:
        app.route("/echo")(echo)
        app.route("/deaf")(deaf)
        app.route("/order")(order)
        app.route("/late", auto_accept=False)(late)
        app.route("/pour")(pour)
        app.http_route("/page", methods=["GET", "POST"])(page)

        @app.route("/stats")
        async def stats(session: WebTransportSession) -> None:
            """Answer each bidirectional stream with what the server counts."""
            async for stream in session.incoming_streams():
                if isinstance(stream, WebTransportStream):
                    _tidy_up()
                    seen = await app.server.diagnostics()
                    cores = [connection._core for connection in await app.server.connection_manager.get_all_resources()]
                    refused = [core.stats() for core in cores if core is not None]
                    answer = {
                        "connections": sum(seen.connection_states.values()),
                        "sessions": sum(seen.session_states.values()),
                        "tasks": len(asyncio.all_tasks()),
                        "handshakes_pending": seen.handshakes_pending,
                        "http_requests": seen.http_requests,
                        "requests_rejected": seen.requests_rejected,
                        "requests_timed_out": seen.requests_timed_out,
                        # Of the connections that live.
                        "streams_rejected": sum(stats["streams_rejected"] for stats in refused),
                        "datagrams_dropped": sum(stats["datagrams_dropped_early"] for stats in refused),
                        **seen.stats.to_dict(),
                    }
                    await stream.write(json.dumps(answer).encode())
                    await stream.close()

        await app.server.listen("127.0.0.1", 0)
        assert app.server.local_address is not None
        print(app.server.local_address[1], flush=True)
        await app.server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
