"""The server under test, in a process of its own: its memory is its own.

usage: program.py CERTFILE KEYFILE OPTIONS, where OPTIONS are fields of ServerConfig as JSON. Prints the port.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys

from pywebtransport import ServerApp, ServerConfig, WebTransportSession, WebTransportStream
from tests.harness import echo


async def deaf(session: WebTransportSession) -> None:
    """Accept no stream and read no datagram."""
    await session.wait_closed()


async def main(certfile: str, keyfile: str, options: str) -> None:
    """Serve until the process is ended."""
    config = ServerConfig(certfile=certfile, keyfile=keyfile, log_level="ERROR", **json.loads(options))
    async with ServerApp(config=config) as app:
        app.route("/echo")(echo)
        app.route("/deaf")(deaf)

        @app.route("/stats")
        async def stats(session: WebTransportSession) -> None:
            """Answer each bidirectional stream with what the server counts."""
            async for stream in session.incoming_streams():
                if isinstance(stream, WebTransportStream):
                    gc.collect()
                    seen = await app.server.diagnostics()
                    answer = {
                        "connections": sum(seen.connection_states.values()),
                        "sessions": sum(seen.session_states.values()),
                        "tasks": len(asyncio.all_tasks()),
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
