"""What goes wrong for people: each case ends soon, with a typed error whose text says what to do."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import pywebtransport
from pywebtransport import (
    ClientConfig,
    ClientError,
    ConfigurationError,
    ConnectionError,
    ServerApp,
    ServerConfig,
    ServerError,
    StreamError,
    WebTransportClient,
)
from pywebtransport.exceptions import CertificateError
from pywebtransport.utils import DevCertificate, generate_dev_certificate, generate_self_signed_cert
from tests.harness import SECONDS, Pair, Server, client_config, connected_pair, running_server


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("http://localhost/", "Unsupported scheme 'http'"),
        ("localhost:4433", "Unsupported scheme"),
        ("https:///path", "Missing hostname in URL"),
        ("https://localhost:99999/", "Invalid URL"),
    ],
)
async def test_a_wrong_url(client: WebTransportClient, url: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        await client.connect(url)


def test_a_certificate_that_does_not_exist() -> None:
    with pytest.raises(CertificateError, match=r"/no/such\.crt"):
        ServerConfig(certfile="/no/such.crt", keyfile="/no/such.key")
    with pytest.raises(CertificateError, match=r"/no/such\.pem"):
        ClientConfig(ca_certs="/no/such.pem")


async def test_a_certificate_that_is_none(tmp_path: Path, certificate: DevCertificate) -> None:
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("not a certificate")
    for certfile, keyfile in ((garbage, certificate.keyfile), (certificate.certfile, garbage)):
        async with ServerApp(config=ServerConfig(certfile=str(certfile), keyfile=str(keyfile))) as app:
            with pytest.raises(ServerError, match="garbage"):
                await app.server.listen("127.0.0.1", 0)
    async with WebTransportClient(config=ClientConfig(ca_certs=str(garbage))) as client:
        with pytest.raises(ConnectionError, match="garbage"):
            await client.connect("https://127.0.0.1:9/")


async def test_a_key_of_another_certificate(tmp_path: Path, certificate: DevCertificate) -> None:
    other = generate_dev_certificate(output_dir=tmp_path)
    async with ServerApp(config=ServerConfig(certfile=certificate.certfile, keyfile=other.keyfile)) as app:
        with pytest.raises(ServerError):
            await app.server.listen("127.0.0.1", 0)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
async def test_a_key_that_cannot_be_read(tmp_path: Path) -> None:
    made = generate_dev_certificate(output_dir=tmp_path)
    Path(made.keyfile).chmod(0)
    async with ServerApp(config=ServerConfig(certfile=made.certfile, keyfile=made.keyfile)) as app:
        with pytest.raises(ServerError, match=r"dev\.key"):
            await app.server.listen("127.0.0.1", 0)


async def test_an_unknown_authority(server: Server, driver: str) -> None:
    async with WebTransportClient(config=ClientConfig(driver=driver)) as client:
        with pytest.raises(ConnectionError, match=r"(?i)certificate"):
            await client.connect(server.url(), timeout=SECONDS)


async def test_a_certificate_hash_that_differs(server: Server, driver: str) -> None:
    config = ClientConfig(server_certificate_hashes=[bytes(32)], driver=driver)
    async with WebTransportClient(config=config) as client:
        with pytest.raises(ConnectionError, match=r"(?i)certificate"):
            await client.connect(server.url(), timeout=SECONDS)


async def test_a_certificate_for_another_host(tmp_path: Path, driver: str) -> None:
    made = generate_dev_certificate(["example.org"], output_dir=tmp_path)
    async with running_server(made, driver=driver) as server:
        config = ClientConfig(ca_certs=made.certfile, driver=driver)
        async with WebTransportClient(config=config) as client:
            with pytest.raises(ConnectionError, match=r"127\.0\.0\.1"):
                await client.connect(server.url(), timeout=SECONDS)
        # Switched off, it works.
        config = ClientConfig(verify_mode=ssl.CERT_NONE, driver=driver)
        async with WebTransportClient(config=config) as client:
            assert (await client.connect(server.url(), timeout=SECONDS)).is_ready


async def test_a_self_signed_certificate_as_its_own_authority(tmp_path: Path, driver: str) -> None:
    certfile, keyfile = generate_self_signed_cert("localhost", str(tmp_path))
    made = DevCertificate(certfile=certfile, keyfile=keyfile, sha256=b"")
    async with (
        running_server(made, driver=driver) as server,
        WebTransportClient(config=ClientConfig(ca_certs=certfile, driver=driver)) as client,
    ):
        for host in ("127.0.0.1", "localhost"):
            assert (await client.connect(server.url(host=host), timeout=SECONDS)).is_ready


async def test_an_expired_certificate(tmp_path: Path, driver: str) -> None:
    made = generate_dev_certificate(output_dir=tmp_path, days_valid=0.5 / 86400)
    async with (
        running_server(made, driver=driver) as server,
        WebTransportClient(config=ClientConfig(ca_certs=made.certfile, driver=driver)) as client,
    ):
        while True:
            try:
                await (await client.connect(server.url(), timeout=SECONDS)).close()
            except ConnectionError as error:
                assert "expired" in str(error)
                break


async def test_a_port_that_is_in_use(certificate: DevCertificate) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        config = ServerConfig(certfile=certificate.certfile, keyfile=certificate.keyfile)
        async with ServerApp(config=config) as app:
            with pytest.raises(ServerError, match=str(port)) as caught:
                await app.server.listen("127.0.0.1", port)
            assert caught.value.bind_address == ("127.0.0.1", port)
            await app.server.listen("127.0.0.1", 0)


async def test_the_status_of_a_refusal_is_in_the_text(server: Server, client: WebTransportClient) -> None:
    with pytest.raises(ClientError, match="HTTP status 404"):
        await client.connect(server.url("/nothing"))

    async def refuse(session: object) -> bool:
        return False

    server.app.add_middleware(refuse)
    with pytest.raises(ClientError, match="HTTP status 403"):
        await client.connect(server.url("/echo"))


async def test_nobody_listens(config: ClientConfig) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with WebTransportClient(config=config) as client:
        with pytest.raises(TimeoutError, match="timed out") as caught:
            await client.connect(f"https://127.0.0.1:{port}/", timeout=0.2)
    assert isinstance(caught.value, ConnectionError)
    assert isinstance(caught.value, pywebtransport.TimeoutError)


async def test_a_server_that_starts_late_is_reached(certificate: DevCertificate, config: ClientConfig) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with WebTransportClient(config=config) as client:
        connecting = asyncio.create_task(client.connect(f"https://127.0.0.1:{port}/late", timeout=SECONDS))
        done, _ = await asyncio.wait([connecting], timeout=0.1)
        assert not done
        server = ServerConfig(certfile=certificate.certfile, keyfile=certificate.keyfile)
        async with pywebtransport.serve(_wait, "127.0.0.1", port, config=server):
            assert (await connecting).is_ready


async def _wait(session: pywebtransport.WebTransportSession) -> None:
    await session.wait_closed()


async def test_a_name_that_does_not_resolve(client: WebTransportClient) -> None:
    with pytest.raises(ConnectionError, match=r"no-such-host\.invalid"):
        await client.connect("https://no-such-host.invalid/", timeout=SECONDS)


async def test_a_server_that_accepts_no_session_in_time(server: Server, client: WebTransportClient) -> None:
    async def never(session: object) -> bool:
        await asyncio.Event().wait()
        return True

    server.app.add_middleware(never)
    with pytest.raises(pywebtransport.TimeoutError) as caught:
        await client.connect(server.url(), timeout=0.2)
    assert isinstance(caught.value, ConnectionError)


async def test_a_peer_that_vanished(certificate: DevCertificate, driver: str) -> None:
    """A server process that is killed says nothing; the idle timeout notices."""
    program = textwrap.dedent(
        """
        import asyncio, sys
        import pywebtransport

        async def hold(session):
            await session.wait_closed()

        async def main():
            async with pywebtransport.serve(hold, "127.0.0.1", 0, certfile=sys.argv[1], keyfile=sys.argv[2]) as server:
                print(server.address[1], flush=True)
                await server.serve_forever()

        asyncio.run(main())
        """
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, certificate.certfile, certificate.keyfile, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        port = int(await process.stdout.readline())
        config = client_config(certificate, driver=driver, connection_idle_timeout=1.0, close_timeout=0.5)
        async with WebTransportClient(config=config) as client:
            session = await client.connect(f"https://127.0.0.1:{port}/")
            reading = asyncio.create_task((await session.create_bidirectional_stream()).read())
            process.kill()
            async with asyncio.timeout(SECONDS):
                await session.wait_closed()
                with pytest.raises(StreamError):
                    await reading
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_peer_that_resets(pair: Pair) -> None:
    near, far = await pair.bidi()
    await far.abort(3)
    async with asyncio.timeout(SECONDS):
        with pytest.raises(StreamError) as caught:
            await near.read()
    assert caught.value.application_code == 3
    assert pair.client.is_ready


async def test_a_datagram_that_is_too_large(pair: Pair) -> None:
    with pytest.raises(pywebtransport.DatagramError, match=r"exceeds"):
        await pair.client.datagrams.send(b"x" * 70_000)


async def test_writing_after_closing(pair: Pair) -> None:
    near, _far = await pair.bidi()
    await near.close()
    with pytest.raises(StreamError):
        await near.write(b"x")
    await pair.client.close()
    with pytest.raises(StreamError):
        await near.write(b"x")


async def test_reading_from_a_silent_peer(certificate: DevCertificate, server: Server, driver: str) -> None:
    async with connected_pair(server, client_config(certificate, driver=driver, read_timeout=0.05)) as pair:
        near, _far = await pair.bidi()
        with pytest.raises(pywebtransport.TimeoutError):
            await near.read()


async def test_sending_none(pair: Pair) -> None:
    near, _far = await pair.bidi()
    with pytest.raises(TypeError):
        await near.write(None)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(TypeError):
        await pair.client.datagrams.send(None)  # type: ignore[arg-type]  # wrong on purpose
