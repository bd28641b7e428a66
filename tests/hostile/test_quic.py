"""What QUIC lets a client do in the middle of a session, done by an implementation that is not ours."""

from __future__ import annotations

from pywebtransport.utils import DevCertificate
from tests.hostile import peer
from tests.hostile.server import ServerProcess, running
from tests.relay import relayed


async def test_a_client_comes_through_a_retry(certificate: DevCertificate) -> None:
    with running(certificate, retry_threshold=0) as server:
        async with server.connect() as stranger:
            await stranger.echoes(await stranger.session())


async def test_a_client_updates_its_keys(server: ServerProcess) -> None:
    async with server.connect() as stranger:
        session = await stranger.session()
        for _ in range(3):
            # RFC 9001 section 6.1: not before the last one is acknowledged.
            await stranger.sent()
            stranger.quic.request_key_update()
            # From here on it understands only answers with the new keys.
            await stranger.echoes(session)


async def test_a_client_changes_its_connection_id(server: ServerProcess) -> None:
    async with server.connect() as stranger:
        session = await stranger.session()
        for _ in range(5):
            stranger.quic.change_connection_id()
            await stranger.echoes(session)


async def test_a_client_gets_another_address_and_another(flow_server: ServerProcess) -> None:
    async with relayed(flow_server.port) as relay, peer.connect(relay.port) as stranger:
        session = await stranger.session()
        for _ in range(5):
            await relay.rebind()
            await stranger.echoes(session)
