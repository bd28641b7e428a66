"""A program that ends while its streams and datagrams are running; started by test_exit_mid_traffic.

usage: exiting_program.py HOW DRIVER SECONDS CERTFILE KEYFILE SHA256
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading

from pywebtransport import ClientConfig, ServerApp, ServerConfig, WebTransportClient, WebTransportSession
from pywebtransport._demo.handlers import echo

EXIT_STATUS = {"return": 0, "cancel": 0, "sys_exit": 7, "exception": 1, "abandoned_loop": 0, "thread": 0, "sigint": -2}
"""How a run may end, and the status each leaves behind."""


async def run(how: str, driver: str, seconds: float, certfile: str, keyfile: str, sha256: str) -> None:
    """Start a server, a client and traffic in one loop, then leave in the given way."""
    app = ServerApp(config=ServerConfig(certfile=certfile, keyfile=keyfile, driver=driver))
    await app.__aenter__()
    app.route("/echo")(echo)
    await app.server.listen("127.0.0.1", 0)
    assert app.server.local_address is not None
    client = WebTransportClient(config=ClientConfig(server_certificate_hashes=[bytes.fromhex(sha256)], driver=driver))
    await client.__aenter__()
    session = await client.connect(f"https://127.0.0.1:{app.server.local_address[1]}/echo")
    traffic = [asyncio.create_task(_stream(session)) for _ in range(4)]
    traffic += [asyncio.create_task(_datagrams(session)), asyncio.create_task(_receive(session))]
    await asyncio.sleep(seconds)
    assert not any(task.done() for task in traffic), [task for task in traffic if task.done()]
    if how == "cancel":  # the tidy way: everything is closed in order
        for task in traffic:
            task.cancel()
        await asyncio.wait(traffic)
        await client.__aexit__(None, None, None)
        await app.__aexit__(None, None, None)
    elif how == "sys_exit":
        sys.exit(EXIT_STATUS[how])
    elif how == "exception":
        raise RuntimeError("the program failed")
    elif how == "sigint":
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(10)
    _keep.extend((app, client, session, *traffic))  # alive until the interpreter ends, not collected before


_keep: list[object] = []


async def _stream(session: WebTransportSession) -> None:
    stream = await session.create_bidirectional_stream()

    async def read() -> None:
        while await stream.read(65536):
            pass

    reader = asyncio.create_task(read())
    try:
        while True:
            await stream.write(bytes(20_000))
            await asyncio.sleep(0)
    finally:
        reader.cancel()


async def _datagrams(session: WebTransportSession) -> None:
    while True:
        await session.datagrams.send(bytes(500))
        await asyncio.sleep(0.001)


async def _receive(session: WebTransportSession) -> None:
    while True:
        await session.datagrams.receive()


def main(how: str, driver: str, seconds: str, *certificate: str) -> None:
    program = run(how, driver, float(seconds), *certificate)
    if how == "abandoned_loop":  # neither cancelled nor closed: the interpreter ends around it
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        loop.run_until_complete(program)
    elif how == "thread":  # the loop still runs in a daemon thread when the main thread ends
        ready = threading.Event()

        async def forever() -> None:
            await program
            ready.set()
            await asyncio.sleep(60)

        threading.Thread(target=asyncio.run, args=(forever(),), daemon=True).start()
        ready.wait()
    else:
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(program)


if __name__ == "__main__":
    main(*sys.argv[1:])
