"""A server that is killed and started again: its clients learn it at once, if it kept its key."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pywebtransport import ClientConfig, SessionError, WebTransportClient
from pywebtransport.utils import DevCertificate
from tests.harness import SECONDS

KEY = bytes(range(64))

PROGRAM = """
import asyncio, sys
from pywebtransport import ServerApp, ServerConfig

async def main(certfile, keyfile, port, key, driver):
    key = bytes.fromhex(key)
    config = ServerConfig(certfile=certfile, keyfile=keyfile, stateless_reset_key=key, driver=driver)
    async with ServerApp(config) as app:
        @app.route("/")
        async def hold(session):
            await session.wait_closed()
        await app.server.listen("127.0.0.1", int(port))
        print(app.server.local_address[1], flush=True)
        await app.server.serve_forever()

asyncio.run(main(*sys.argv[1:]))
"""


@contextmanager
def killable_server(certificate: DevCertificate, driver: str, port: int, key: bytes) -> Iterator[int]:
    """A server process, which ends without a farewell; gives its port."""
    arguments = [certificate.certfile, certificate.keyfile, str(port), key.hex(), driver]
    command = [sys.executable, "-c", PROGRAM, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


async def test_clients_of_a_killed_server_learn_it_from_the_next_one(
    certificate: DevCertificate, config: ClientConfig, driver: str
) -> None:
    patient = config.update(connection_idle_timeout=3600.0, connection_keepalive_timeout=0.2)
    async with WebTransportClient(config=patient) as client:
        with killable_server(certificate, driver, 0, KEY) as port:
            session = await client.connect(f"https://127.0.0.1:{port}/")
            stream = await session.create_bidirectional_stream()
            reading = asyncio.create_task(stream.read())
        with killable_server(certificate, driver, port, KEY):
            async with asyncio.timeout(SECONDS):
                await session.wait_closed()
                with pytest.raises(SessionError, match="stateless reset"):
                    await session.create_bidirectional_stream()
                with pytest.raises(Exception, match="stateless reset"):
                    await reading
            assert (await client.connect(f"https://127.0.0.1:{port}/", timeout=SECONDS)).is_ready


async def test_without_the_key_they_wait_for_their_idle_timeout(
    certificate: DevCertificate, config: ClientConfig, driver: str
) -> None:
    impatient = config.update(connection_idle_timeout=1.0)
    async with WebTransportClient(config=impatient) as client:
        with killable_server(certificate, driver, 0, KEY) as port:
            session = await client.connect(f"https://127.0.0.1:{port}/")
        with killable_server(certificate, driver, port, KEY[::-1]):
            async with asyncio.timeout(SECONDS):
                await session.wait_closed()
            assert "idle timeout" in (session.close_reason or "")
