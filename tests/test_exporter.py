"""Keying material of a session."""

from __future__ import annotations

from typing import Any

import pytest

from pywebtransport import SessionError, WebTransportClient
from pywebtransport.utils import DevCertificate
from tests.harness import Pair, Server, client_config, connected_pair, running_server


async def test_both_ends_derive_the_same_bytes(pair: Pair) -> None:
    near = await pair.client.export_keying_material("token", 32)
    assert len(near) == 32
    assert near == await pair.server.export_keying_material(b"token", 32, b"")
    others = [
        await pair.client.export_keying_material("token", 32, b"context"),
        await pair.client.export_keying_material("other", 32),
        (await pair.client.export_keying_material("token", 33))[:32],
    ]
    assert len({near, *others}) == 4
    assert await pair.server.export_keying_material("müde", 8160, bytes(255)) == (
        await pair.client.export_keying_material("müde".encode(), 8160, bytes(255))
    )


async def test_sessions_have_bytes_of_their_own(certificate: DevCertificate, driver: str) -> None:
    shared: dict[str, Any] = {"initial_max_data": 1000}
    config = client_config(certificate, driver=driver, allow_pooling=True, **shared)
    async with (
        running_server(certificate, driver=driver, max_sessions=2, **shared) as server,
        WebTransportClient(config) as client,
    ):
        first, second = await client.connect(server.url()), await client.connect(server.url())
        assert first.connection is second.connection
        exported = {await session.export_keying_material("token", 32) for session in (first, second)}
        assert len(exported) == 2


async def test_connections_have_bytes_of_their_own(server: Server, certificate: DevCertificate, driver: str) -> None:
    config = client_config(certificate, driver=driver)
    async with connected_pair(server, config) as first, connected_pair(server, config) as second:
        assert await first.client.export_keying_material("token", 32) != (
            await second.client.export_keying_material("token", 32)
        )


@pytest.mark.parametrize(
    ("label", "length", "context"),
    [("", 32, b""), ("x" * 256, 32, b""), ("x", 32, bytes(256)), ("x", 0, b""), ("x", 8161, b""), ("x", -1, b"")],
)
async def test_what_cannot_be_derived_is_refused(pair: Pair, label: str, length: int, context: bytes) -> None:
    with pytest.raises(ValueError, match="exporter"):
        await pair.client.export_keying_material(label, length, context)


async def test_there_is_none_after_the_session(pair: Pair) -> None:
    await pair.server.close(3, "over")
    await pair.client.wait_closed()
    with pytest.raises(SessionError) as caught:
        await pair.client.export_keying_material("token", 32)
    assert caught.value.close_code == 3
