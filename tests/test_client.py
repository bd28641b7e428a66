"""WebTransportClient: connecting, headers, limits, counters, hooks, close."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pywebtransport import (
    ClientConfig,
    ClientError,
    ConfigurationError,
    ConnectionError,
    Event,
    WebTransportClient,
    WebTransportSession,
)
from pywebtransport.client import ClientDiagnostics, ClientStats
from pywebtransport.config import ProxyConfig
from pywebtransport.connection import WebTransportConnection
from pywebtransport.types import ConnectionState, EventType
from pywebtransport.utils import DevCertificate
from tests.harness import SECONDS, Server, client_config


async def test_each_connect_makes_a_connection(server: Server, client: WebTransportClient) -> None:
    first, second = await asyncio.gather(client.connect(server.url()), client.connect(server.url()))
    assert first.connection is not second.connection
    diagnostics = await client.diagnostics()
    assert diagnostics.connection_states == {ConnectionState.CONNECTED: 2}
    assert diagnostics.stats.connections_successful == 2
    assert diagnostics.issues == []


async def test_a_client_that_was_never_entered_or_is_closed(server: Server, config: ClientConfig) -> None:
    client = WebTransportClient(config=config)
    with pytest.raises(ConnectionError):
        await client.connect(server.url())
    async with client:
        session = await client.connect(server.url())
    assert client.is_closed
    assert session.is_closed
    await client.close()
    with pytest.raises(ClientError):
        await client.connect(server.url())
    with pytest.raises(ClientError):
        await client.__aenter__()


async def test_headers_are_merged_in_lower_case(server: Server, certificate: DevCertificate, driver: str) -> None:
    config = client_config(certificate, driver=driver, headers={"A": "config", "B": "config"}, user_agent="tester/1")
    async with WebTransportClient(config=config) as client:
        client.set_default_headers({"B": "default", "C": "default"})
        await client.connect(server.url(), headers={"c": "call", "D": "call"})
    headers = (await server.next_session()).headers
    assert {name: headers[name] for name in "abcd"} == {"a": "config", "b": "default", "c": "call", "d": "call"}
    assert headers["user-agent"] == "tester/1"
    assert config.headers == {"a": "config", "b": "config", "user-agent": "tester/1"}


async def test_authority_comes_from_the_url_or_the_host_header(server: Server, client: WebTransportClient) -> None:
    await client.connect(server.url())
    session = await server.next_session()
    assert session._core is not None
    assert session._core.authority == f"127.0.0.1:{server.port}"
    await client.connect(server.url(), headers={"Host": "example.org"})
    session = await server.next_session()
    assert session._core is not None
    assert session._core.authority == "example.org"
    assert "host" not in session.headers


async def test_the_fragment_stays_here(server: Server, client: WebTransportClient) -> None:
    await client.connect(server.url("/hold?x=1#part"))
    assert (await server.next_session()).path == "/hold?x=1"


async def test_counters(server: Server, client: WebTransportClient) -> None:
    await client.connect(server.url())
    with pytest.raises(ClientError, match="HTTP status 404"):
        await client.connect(server.url("/nothing"))
    with pytest.raises(ConfigurationError):
        await client.connect("http://localhost/")
    stats = (await client.diagnostics()).stats
    assert (stats.connections_attempted, stats.connections_successful, stats.connections_failed) == (2, 1, 1)
    assert 0 < stats.min_connect_time == stats.max_connect_time == stats.avg_connect_time
    assert stats.success_rate == 0.5
    assert set(stats.to_dict()) == {"created_at", "uptime", "connections", "performance"}


async def test_a_failed_connect_leaves_no_connection(server: Server, client: WebTransportClient) -> None:
    with pytest.raises(ClientError) as caught:
        await client.connect(server.url("/nothing"))
    assert caught.value.target_url == server.url("/nothing")
    assert (await client.diagnostics()).connection_states == {}


async def test_the_second_connection_beyond_the_limit_is_refused(
    server: Server, certificate: DevCertificate, driver: str
) -> None:
    config = client_config(certificate, driver=driver, max_connections=1)
    async with WebTransportClient(config=config) as client:
        session = await client.connect(server.url("/echo"))
        with pytest.raises(ConnectionError, match="Maximum connections"):
            await client.connect(server.url("/echo"))
        await session.datagrams.send(b"alive")
        assert await session.datagrams.receive(timeout=SECONDS) == b"alive"


async def test_a_cancelled_connect_leaves_nothing(client: WebTransportClient, server: Server) -> None:
    connecting = asyncio.create_task(client.connect("https://127.0.0.1:9/nobody"))
    await asyncio.sleep(0)
    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting
    stats = (await client.diagnostics()).stats
    assert (stats.connections_attempted, stats.connections_failed) == (1, 1)
    assert (await client.connect(server.url())).is_ready


async def test_connection_events_are_the_clients_too(server: Server, client: WebTransportClient) -> None:
    seen: list[Event] = []
    closed = asyncio.Event()

    def on_any(event: Event) -> None:
        seen.append(event)
        if event.type == EventType.CONNECTION_CLOSED:
            closed.set()

    client.on_any(on_any)
    session = await client.connect(server.url())
    connection = session.connection
    assert connection is not None
    await session.close()
    async with asyncio.timeout(SECONDS):
        await closed.wait()
    types = [event.type for event in seen]
    assert types[0] == EventType.CONNECTION_ESTABLISHED
    assert types[-1] == EventType.CONNECTION_CLOSED
    assert all(event.data["connection_id"] == connection.connection_id for event in seen)


async def test_hooks_get_their_keywords(server: Server, config: ClientConfig) -> None:
    calls: list[tuple[str, set[str]]] = []

    async def make_connection(**keywords: Any) -> WebTransportConnection:
        calls.append(("connection", set(keywords)))
        return await WebTransportConnection.create_client(**keywords)

    async def make_session(**keywords: Any) -> WebTransportSession:
        calls.append(("session", set(keywords)))
        return WebTransportSession(**keywords)

    async with WebTransportClient(
        config=config, connection_factory=make_connection, session_factory=make_session
    ) as client:
        assert (await client.connect(server.url())).is_ready
    assert calls == [
        ("connection", {"config", "host", "port", "path", "proxy_addr"}),
        (
            "session",
            {"connection", "session_id", "max_streams", "max_incoming_streams", "stream_cleanup_interval"},
        ),
    ]


async def test_a_hook_that_fails_is_a_client_error(config: ClientConfig) -> None:
    async def fail(**keywords: Any) -> WebTransportConnection:
        raise RuntimeError("no luck")

    async with WebTransportClient(config=config, connection_factory=fail) as client:
        with pytest.raises(ClientError, match="no luck"):
            await client.connect("https://localhost/")


async def test_closing_the_client_delivers_what_was_written(server: Server, config: ClientConfig) -> None:
    async with WebTransportClient(config=config) as client:
        session = await client.connect(server.url())
        stream = await session.create_unidirectional_stream()
        await stream.write_all(b"x" * 300_000)
        other = await server.next_session()
        reading = asyncio.create_task((await anext(other.incoming_streams())).read_all())
    assert await reading == b"x" * 300_000


@pytest.mark.parametrize("url", ["proxy", "http://proxy", "http://:8080"])
async def test_a_proxy_without_host_and_port_is_a_mistake(url: str) -> None:
    async with WebTransportClient(config=ClientConfig(proxy=ProxyConfig(url=url))) as client:
        with pytest.raises(ConfigurationError, match="host and a port"):
            await client.connect("https://localhost/")
        assert (await client.diagnostics()).stats.connections_attempted == 0


async def test_a_proxy_fails_with_a_clear_text() -> None:
    async with WebTransportClient(config=ClientConfig(proxy=ProxyConfig(url="http://proxy:8080"))) as client:
        with pytest.raises(ClientError, match="CONNECT-UDP"):
            await client.connect("https://localhost/")


def test_statistics_before_the_first_attempt() -> None:
    stats = ClientStats()
    assert stats.success_rate == 1.0
    assert stats.avg_connect_time == 0.0
    assert stats.to_dict()["performance"]["min_connect_time"] == 0.0


def test_issues_of_a_client_in_trouble() -> None:
    stats = ClientStats(connections_attempted=20, connections_successful=10, total_connect_time=100.0)
    assert len(ClientDiagnostics(stats=stats, connection_states={}).issues) == 2
