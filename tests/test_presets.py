"""Transport presets, as a program sees them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pywebtransport import ClientConfig, ConfigurationError, ServerConfig, WebTransportClient, WebTransportSession
from pywebtransport.utils import DevCertificate
from tests.harness import SECONDS, client_config, connected_pair, running_server

PRESETS = [None, "default", "throughput", "low_latency", "jumbo"]


@pytest.mark.parametrize("cls", [ClientConfig, ServerConfig])
def test_preset_is_a_field_like_others(cls: type[Any]) -> None:
    assert cls().preset is None
    for preset in PRESETS:
        config = cls(preset=preset)
        assert config.to_dict()["preset"] == preset
        assert cls.from_dict(config.to_dict()) == config == cls().update(preset=preset) == config.copy()


@pytest.mark.parametrize("cls", [ClientConfig, ServerConfig])
@pytest.mark.parametrize("value", ["fast", "Jumbo", "", 6000])
def test_unknown_preset_is_refused(cls: type[Any], value: Any) -> None:
    with pytest.raises(ConfigurationError, match="low_latency") as caught:
        cls(preset=value)
    assert (caught.value.config_key, caught.value.config_value) == ("preset", value)


@pytest.mark.parametrize("preset", PRESETS)
def test_preset_changes_no_other_field(preset: str | None) -> None:
    for cls in (ClientConfig, ServerConfig):
        assert {**cls(preset=preset).to_dict(), "preset": None} == cls().to_dict()


@pytest.mark.parametrize("preset", PRESETS)
async def test_session_with_a_preset_at_both_ends(certificate: DevCertificate, driver: str, preset: str | None) -> None:
    config = client_config(certificate, driver=driver, preset=preset)
    async with (
        running_server(certificate, driver=driver, preset=preset) as server,
        connected_pair(server, config) as pair,
    ):
        for here, there in ((pair.client, pair.server), (pair.server, pair.client)):
            await until_mtu(here, 6000 if preset == "jumbo" else 1452)
            size = here.datagrams.max_datagram_size
            await here.datagrams.send(bytes(size))
            assert len(await there.datagrams.receive(timeout=SECONDS)) == size
        near, far = await pair.bidi()
        data = bytes(range(256)) * 4096
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(near.write_all(data))
            assert await far.readexactly(len(data)) == data


async def test_clients_share_a_socket_unless_only_one_has_jumbo(certificate: DevCertificate, driver: str) -> None:
    async with running_server(certificate, driver=driver, preset="jumbo") as server:
        ports = {}
        for preset in PRESETS:
            config = client_config(certificate, driver=driver, preset=preset)
            async with WebTransportClient(config=config) as client, await client.connect(server.url()):
                seen = (await server.next_session()).connection
                assert seen is not None and seen.remote_address is not None
                ports[preset] = seen.remote_address[1]
    assert ports.pop("jumbo") not in ports.values()
    assert len(set(ports.values())) == 1


async def until_mtu(session: WebTransportSession, size: int) -> None:
    """Wait until packets of that size are known to arrive; nobody announces it."""
    assert session.connection is not None
    async with asyncio.timeout(SECONDS):
        while session.connection.diagnostics.mtu != size:
            await asyncio.sleep(0.005)
