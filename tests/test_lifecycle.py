"""Life and death beyond one loop: several loops, threads, forks, uvloop, and objects that nobody closed."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from pywebtransport import ClientConfig, WebTransportClient, connect
from pywebtransport._bridge import current_bridge
from pywebtransport.utils import DevCertificate
from tests.harness import SECONDS, Server, client_config, running_server


async def _exchange(certificate: DevCertificate, driver: str) -> None:
    """A server, a client, a stream and a datagram, all on the running loop."""
    async with running_server(certificate, driver=driver) as server:
        await _visit(server, client_config(certificate, driver=driver))


async def _visit(server: Server, config: ClientConfig) -> None:
    async with connect(server.url("/echo"), config=config) as session:
        stream = await session.create_bidirectional_stream()
        await stream.write_all(b"over the stream")
        assert await stream.read_all() == b"over the stream"
        await session.datagrams.send(b"and beside it")
        async with asyncio.timeout(SECONDS):
            assert await session.datagrams.receive() == b"and beside it"


def test_loops_one_after_another_each_work(certificate: DevCertificate, driver: str) -> None:
    for _ in range(5):
        asyncio.run(_exchange(certificate, driver))


def test_loops_in_several_threads_work_at_once(certificate: DevCertificate, driver: str) -> None:
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(3):
                asyncio.run(_exchange(certificate, driver))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_uvloop_runs_both_drivers(certificate: DevCertificate, driver: str) -> None:
    uvloop = pytest.importorskip("uvloop", reason="uvloop has no wheel for this platform")
    run: Callable[[Coroutine[Any, Any, None]], None] = uvloop.run
    run(_exchange(certificate, driver))


async def test_a_session_that_nobody_closed_ends_with_its_last_reference(server: Server, config: ClientConfig) -> None:
    client = WebTransportClient(config=config)
    await client.__aenter__()
    session = await client.connect(server.url())
    far = await server.next_session()
    # Neither is closed: both are forgotten, as by a program with a fault.
    del session, client
    for _ in range(3):
        gc.collect()
        await asyncio.sleep(0)
    async with asyncio.timeout(SECONDS):
        await far.wait_closed()


async def test_ended_sessions_leave_nothing_in_the_bridge(server: Server, config: ClientConfig) -> None:
    async def waiters() -> int:
        for _ in range(3):
            gc.collect()
            await asyncio.sleep(0)
        return current_bridge().stats()["waiters"]

    before = await waiters()
    for _ in range(5):
        async with WebTransportClient(config=config) as client:
            session = await client.connect(server.url())
            far = await server.next_session()
            await session.close()
            await far.wait_closed()
            del session, far
    del client
    async with asyncio.timeout(SECONDS):
        while await waiters() > before:  # the server notices the ends of the connections a little later
            await asyncio.sleep(0)


_FORKING = """
    import asyncio, os, sys
    from pywebtransport import ClientConfig, ServerApp, ServerConfig, connect
    certfile, keyfile, sha256, driver = sys.argv[1:]

    async def echo(session):
        async for stream in session.incoming_streams():
            await stream.write_all(await stream.read_all())

    async def exchange():
        config = ServerConfig(certfile=certfile, keyfile=keyfile, driver=driver)
        async with ServerApp(config=config) as app:
            app.route("/")(echo)
            await app.server.listen("127.0.0.1", 0)
            url = f"https://127.0.0.1:{app.server.local_address[1]}/"
            client = ClientConfig(server_certificate_hashes=[sha256], driver=driver)
            async with connect(url, config=client) as session:
                stream = await session.create_bidirectional_stream()
                await stream.write_all(b"hello")
                assert await stream.read_all() == b"hello"
                return await fork(session)

    async def fork(session):
        stream = await session.create_bidirectional_stream()
        child = os.fork()
        if child == 0:
            # No loop of the parent's is run here; the calls below never suspend.
            errors = []
            uses = (lambda: stream.write(b"x"), lambda: session.datagrams.send(b"x"), lambda: session.diagnostics())
            for use in uses:
                try:
                    use().send(None)
                except RuntimeError as error:
                    errors.append("created before fork" in str(error))
                except StopIteration:
                    errors.append(False)
            os._exit(0 if errors == [True, True, True] else 1)
        return child, stream

    async def parent():
        global exchange_in_child
        child, stream = await exchange()
        return child

    status = os.waitstatus_to_exitcode(os.waitpid(asyncio.run(parent()), 0)[1])
    print("objects of the parent in the child:", status)
    # Outside of any loop: the child makes its own objects.
    child = os.fork()
    if child == 0:
        async def anew():
            global fork
            async def fork(session):
                return None
            await exchange()
        asyncio.run(anew())
        sys.exit(0)
    print("a child's own objects:", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_forked_child_refuses_the_parents_objects_and_makes_its_own(certificate: DevCertificate, driver: str) -> None:
    arguments = (certificate.certfile, certificate.keyfile, certificate.sha256.hex(), driver)
    # From 3.12 on Python warns of any fork beside threads; whether this one works is the question here.
    options = ("-W", "ignore::DeprecationWarning", "-X", "faulthandler")
    done = subprocess.run(
        [sys.executable, *options, "-c", textwrap.dedent(_FORKING), *arguments],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["objects of the parent in the child: 0", "a child's own objects: 0"]
