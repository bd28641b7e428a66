"""Handshakes that are under way: what the configuration limits and the diagnostics count."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from pywebtransport import ClientConfig, ClientError, ConnectionError, WebTransportClient
from pywebtransport.server.server import ServerDiagnostics, ServerStats
from pywebtransport.utils import DevCertificate
from tests.harness import SECONDS, connected_pair, running_server


async def test_every_client_retries_at_a_threshold_of_zero(
    certificate: DevCertificate, config: ClientConfig, driver: str
) -> None:
    async with running_server(certificate, driver=driver, retry_threshold=0) as server:
        for number in (1, 2):
            async with connected_pair(server, config) as pair:
                near, far = await pair.bidi()
                await near.write(b"through", end_stream=True)
                assert await far.read_all() == b"through"
            diagnostics = await server.app.server.diagnostics()
            assert diagnostics.retries_sent == number
        assert diagnostics.issues == []


async def test_no_client_retries_without_need(certificate: DevCertificate, config: ClientConfig, driver: str) -> None:
    async with running_server(certificate, driver=driver) as server, connected_pair(server, config):
        diagnostics = await server.app.server.diagnostics()
        assert (diagnostics.retries_sent, diagnostics.handshakes_pending) == (0, 0)


async def test_a_client_that_goes_silent_is_forgotten(certificate: DevCertificate, driver: str) -> None:
    limits = {"handshake_timeout": 0.2, "connection_idle_timeout": 600.0}
    async with running_server(certificate, driver=driver, **limits) as server:
        packet = await first_packet(certificate)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
            silent.sendto(packet, ("127.0.0.1", server.port))
            async with asyncio.timeout(SECONDS):
                while (diagnostics := await server.app.server.diagnostics()).handshakes_timed_out == 0:
                    await asyncio.sleep(0.01)
        assert diagnostics.handshakes_pending == 0
        assert diagnostics.stats.connection_errors == 1


async def test_a_server_that_has_all_its_connections_refuses(
    certificate: DevCertificate, config: ClientConfig, driver: str
) -> None:
    async with (
        running_server(certificate, driver=driver, max_connections=1) as server,
        connected_pair(server, config),
        WebTransportClient(config=config) as late,
    ):
        with pytest.raises((ClientError, ConnectionError), match="refused"):
            await late.connect(server.url(), timeout=SECONDS)
        diagnostics = await server.app.server.diagnostics()
        assert (diagnostics.stats.connections_rejected, diagnostics.handshakes_refused) == (1, 0)


def test_handshakes_that_were_turned_away_are_an_issue() -> None:
    values: dict[str, Any] = {
        "connection_states": {},
        "session_states": {},
        "is_serving": True,
        "certfile_path": __file__,
        "keyfile_path": __file__,
        "max_connections": 100,
    }
    healthy = ServerDiagnostics(stats=ServerStats(connections_accepted=100), retries_sent=50, **values)
    assert healthy.issues == []
    flooded = ServerDiagnostics(
        stats=ServerStats(connections_accepted=100),
        handshakes_ignored=3,
        handshakes_refused=4,
        handshakes_timed_out=100,
        **values,
    )
    turned_away, never_ended = flooded.issues
    assert "turned away: 7" in turned_away
    assert "50.0%" in never_ended


async def first_packet(certificate: DevCertificate) -> bytes:
    """What a client sends to begin."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.setblocking(False)
        config = ClientConfig(server_certificate_hashes=[certificate.sha256])
        async with WebTransportClient(config=config) as client:
            url = f"https://127.0.0.1:{listening.getsockname()[1]}/"
            connecting = asyncio.create_task(client.connect(url))
            try:
                return await loop.sock_recv(listening, 65535)
            finally:
                connecting.cancel()
                await asyncio.wait([connecting])
