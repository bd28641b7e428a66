"""Clients that come back: TLS sessions are resumed, certificates and settings are read once."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

from pywebtransport import ClientConfig, ConnectionError, WebTransportClient, generate_dev_certificate
from pywebtransport.utils import DevCertificate
from tests.harness import Server, client_config, running_server

AT_ONCE = 25


async def resumed(server: Server) -> int:
    return (await server.app.server.diagnostics()).handshakes_resumed


async def visit(client: WebTransportClient, server: Server) -> None:
    """Come and go; the headers are of this request alone."""
    session = await client.connect(server.url(), headers={"x-visit": "yes"})
    assert (await server.next_session()).headers["x-visit"] == "yes"
    await session.close()


async def test_a_client_that_comes_back_resumes(server: Server, client: WebTransportClient) -> None:
    for number in range(4):
        await visit(client, server)
        assert await resumed(server) == number
    assert (await server.app.server.diagnostics()).stats.connections_accepted == 4


async def test_clients_that_come_back_all_at_once(server: Server, client: WebTransportClient) -> None:
    async def come_and_stay() -> None:
        await client.connect(server.url("/echo"))

    for count in (AT_ONCE, AT_ONCE):
        before = await resumed(server)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(count):
                tasks.create_task(come_and_stay())
    assert await resumed(server) - before == AT_ONCE


async def test_every_client_has_tickets_of_its_own(server: Server, config: ClientConfig) -> None:
    for _ in range(3):
        async with WebTransportClient(config=config) as client:
            await visit(client, server)
    assert await resumed(server) == 0


async def test_a_careless_client_opens_no_door_for_a_strict_one(
    server: Server, config: ClientConfig, driver: str
) -> None:
    careless = ClientConfig(verify_mode=ssl.CERT_NONE, driver=driver)
    strict = config.update(server_certificate_hashes=[bytes(32)])
    async with WebTransportClient(config=careless) as first, WebTransportClient(config=strict) as second:
        await visit(first, server)
        for _ in range(2):
            try:
                await second.connect(server.url())
            except ConnectionError as error:
                assert "SHA-256" in str(error)
            else:
                raise AssertionError("connected to a certificate that is not pinned")
    assert await resumed(server) == 0


async def test_files_are_read_once(driver: str) -> None:
    own = generate_dev_certificate()
    async with running_server(own, driver=driver) as server:
        config = ClientConfig(ca_certs=own.certfile, driver=driver)
        async with WebTransportClient(config=config) as client:
            await visit(client, server)
            for path in (own.certfile, own.keyfile):
                Path(path).unlink()
            await visit(client, server)
            await visit(client, server)


async def test_a_server_that_checks_clients_resumes_none(certificate: DevCertificate, driver: str) -> None:
    own = generate_dev_certificate()
    options = {"ca_certs": own.certfile, "verify_mode": ssl.CERT_REQUIRED}
    config = client_config(certificate, driver=driver, certfile=own.certfile, keyfile=own.keyfile)
    async with running_server(certificate, driver=driver, **options) as server:
        async with WebTransportClient(config=config) as client:
            for _ in range(3):
                await visit(client, server)
        assert await resumed(server) == 0
