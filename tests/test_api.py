"""The two functions at the top: connect and serve, with `async with` and with `await`."""

from __future__ import annotations

import asyncio

import pytest

import pywebtransport
from pywebtransport import ClientConfig, ClientError, ConfigurationError, ServerConfig, ServerError, Serving
from pywebtransport.utils import DevCertificate
from tests.harness import SECONDS, Server, echo


async def test_connect_with_async_with(server: Server, config: ClientConfig) -> None:
    async with pywebtransport.connect(server.url("/echo"), config=config, headers={"a": "b"}) as session:
        assert session.headers["a"] == "b"
        await session.datagrams.send(b"hello")
        assert await session.datagrams.receive(timeout=SECONDS) == b"hello"
        connection = session.connection
        assert connection is not None
    assert session.is_closed
    assert connection.is_closed


async def test_connect_with_await(server: Server, config: ClientConfig) -> None:
    session = await pywebtransport.connect(server.url(), config=config)
    connection = session.connection
    assert connection is not None
    await session.close()
    assert connection.is_closed
    assert session._owner_closing is not None
    await session._owner_closing


async def test_connect_takes_fields_of_the_configuration(server: Server, certificate: DevCertificate) -> None:
    async with pywebtransport.connect(server.url(), server_certificate_hashes=[certificate.sha256]) as session:
        assert session.is_ready
    with pytest.raises(ConfigurationError, match="unknown configuration key"):
        pywebtransport.connect(server.url(), no_such_field=1)


async def test_a_connect_that_fails(server: Server, config: ClientConfig) -> None:
    with pytest.raises(ClientError, match="HTTP status 404"):
        await pywebtransport.connect(server.url("/no"), config=config)
    with pytest.raises(TimeoutError):
        await pywebtransport.connect("https://127.0.0.1:9/", config=config, timeout=0.1)


async def test_serve_with_async_with(certificate: DevCertificate, config: ClientConfig, driver: str) -> None:
    async with pywebtransport.serve(
        echo, "127.0.0.1", 0, certfile=certificate.certfile, keyfile=certificate.keyfile, driver=driver
    ) as server:
        assert isinstance(server, Serving)
        assert server.address == server.local_address
        host, port = server.address
        for path in ("/", "/any/path"):
            async with pywebtransport.connect(f"https://{host}:{port}{path}", config=config) as session:
                stream = await session.create_bidirectional_stream()
                await stream.write_all(b"hello")
                assert await stream.read_all() == b"hello"
    assert server.local_address is None
    assert server.address == (host, port)


async def test_serve_with_await(certificate: DevCertificate, config: ClientConfig) -> None:
    server_config = ServerConfig(certfile=certificate.certfile, keyfile=certificate.keyfile)
    server = await pywebtransport.serve(echo, "127.0.0.1", 0, config=server_config)
    forever = asyncio.create_task(server.serve_forever())
    session = await pywebtransport.connect(f"https://127.0.0.1:{server.address[1]}/", config=config)
    server.close()
    async with asyncio.timeout(SECONDS):
        await server.wait_closed()
        await forever
        await session.wait_closed()
    await server.close()
    assert not server.server.is_serving


async def test_cancelling_serve_forever_closes_the_server(certificate: DevCertificate) -> None:
    server = await pywebtransport.serve(
        echo, "127.0.0.1", 0, certfile=certificate.certfile, keyfile=certificate.keyfile
    )
    forever = asyncio.create_task(server.serve_forever())
    await asyncio.sleep(0)
    forever.cancel()
    with pytest.raises(asyncio.CancelledError):
        await forever
    assert not server.server.is_serving


async def test_a_serve_that_fails() -> None:
    with pytest.raises(ServerError, match="certificate"):
        await pywebtransport.serve(echo, "127.0.0.1", 0)
