"""WebTransportConnection: states, diagnostics, sessions, the end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pywebtransport import (
    ClientConfig,
    ClientError,
    ConnectionError,
    Event,
    ProtocolError,
    ServerConfig,
    WebTransportClient,
    WebTransportSession,
)
from pywebtransport.connection import ConnectionDiagnostics, ConnectionInfo, WebTransportConnection
from pywebtransport.protocol.handler import WebTransportProtocolHandler
from pywebtransport.types import ConnectionState, EventType, SessionState
from pywebtransport.utils import DevCertificate
from tests.harness import SECONDS, Pair, Server, client_config, connected_pair, running_server


async def test_the_constructor_alone_connects_nothing() -> None:
    connection = WebTransportConnection(config=ClientConfig())
    assert str(connection.state) == "idle"
    assert connection.connection_id.startswith("conn_")
    assert not connection.is_connected
    assert connection.local_address is None
    assert connection.remote_address is None
    assert connection.protocol_handler is None
    assert connection.diagnostics.stats.uptime == 0.0
    assert connection.idle_timeout == ClientConfig().connection_idle_timeout
    with pytest.raises(ConnectionError):
        await connection.wait_ready()
    with pytest.raises(ConnectionError):
        await connection.wait_for_ready_session(timeout=1)
    await connection.wait_closed()
    await connection.close()
    assert connection.state == ConnectionState.CLOSED


async def test_create_client(server: Server, config: ClientConfig) -> None:
    async with await WebTransportConnection.create_client(
        config=config, host="127.0.0.1", port=server.port, path="/hold"
    ) as connection:
        await connection.wait_ready(5.0)
        session_id = await connection.wait_for_ready_session(timeout=SECONDS)
        assert connection.is_connected
        assert connection.get_ready_session_id() == session_id
        info = connection.get_session_info(session_id)
        assert info is not None
        assert (info.session_id, info.path, info.state) == (session_id, "/hold", SessionState.CONNECTED)
        assert [other.session_id for other in connection.get_all_sessions()] == [session_id]
        assert connection.get_session_info("unknown") is None
        session = WebTransportSession(connection, session_id)
        async with session:
            assert session.is_ready
    assert connection.is_closed


async def test_create_client_that_is_refused(server: Server, config: ClientConfig) -> None:
    async with await WebTransportConnection.create_client(config, "127.0.0.1", server.port, "/no") as connection:
        with pytest.raises(ClientError, match="HTTP status 404"):
            await connection.wait_for_ready_session()


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
async def test_create_client_that_fails(config: ClientConfig, host: str) -> None:
    with pytest.raises(ConnectionError):
        await WebTransportConnection.create_client(config.update(connect_timeout=0.2), host, 9, "/")
    with pytest.raises(ConnectionError, match="CONNECT-UDP"):
        await WebTransportConnection.create_client(config, host, 9, "/", ("proxy", 1))


async def test_names_that_took_aioquic_objects_point_elsewhere() -> None:
    with pytest.raises(ConnectionError, match="WebTransportServer"):
        await WebTransportConnection.create_server(config=ServerConfig(), transport=None, protocol=None)
    with pytest.raises(ConnectionError, match="WebTransportServer"):
        await WebTransportConnection(config=ServerConfig()).accept(transport=None, protocol=None)


async def test_diagnostics_are_live(pair: Pair) -> None:
    for session in (pair.client, pair.server):
        connection = session.connection
        assert connection is not None
        diagnostics = connection.diagnostics
        stats = diagnostics.stats
        assert stats.state is ConnectionState.CONNECTED
        assert stats.packets_sent > 0
        assert stats.packets_received > 0
        assert stats.bytes_sent > 0
        assert stats.uptime > 0
        assert stats.closed_at is None
        assert stats.remote_address is not None
        assert stats.remote_address[0] == "127.0.0.1"
        assert stats.last_activity is not None
        assert 0 < diagnostics.rtt < 10
        assert diagnostics.cwnd > 0
        assert diagnostics.packet_loss_rate < 1
        assert diagnostics.issues == []
        assert connection.diagnostics.stats.to_dict()["uptime"] > 0
        assert connection.dialect is not None
        assert connection.driver in ("loop", "thread")


async def test_all_traffic_is_activity(pair: Pair) -> None:
    connection = pair.client.connection
    assert connection is not None
    before = connection.last_activity_time
    near, far = await pair.bidi()
    await far.write(b"x")
    await near.readexactly(1)
    assert connection.last_activity_time >= before > 0
    connection.record_activity()
    assert connection.last_activity_time >= before


async def test_close_reaches_the_peer(pair: Pair) -> None:
    near, far = pair.client.connection, pair.server.connection
    assert near is not None
    assert far is not None
    lost: list[Event] = []
    far.on(EventType.CONNECTION_LOST, lost.append)
    gone = asyncio.create_task(far.wait_for(EventType.CONNECTION_CLOSED, timeout=SECONDS))
    closed: list[Event] = []
    near.on(EventType.CONNECTION_CLOSED, closed.append)
    await asyncio.sleep(0)
    await asyncio.gather(near.close(code=0x101, reason="enough"), near.close())
    assert [event.data for event in closed] == [{"connection_id": near.connection_id}]
    async with asyncio.timeout(SECONDS):
        await far.wait_closed()
        await gone
    assert far.state is ConnectionState.CLOSED
    error = lost[0].data["exception"]
    assert isinstance(error, ConnectionError)
    assert (error.close_code, error.ended_by) == (0x101, "peer")
    assert lost[0].data["connection_id"] == far.connection_id
    assert far.diagnostics.stats.closed_at is not None
    assert far.diagnostics.issues


async def test_an_idle_timeout_ends_the_connection(server: Server, config: ClientConfig) -> None:
    patient = config.update(connection_idle_timeout=0.3, keep_alive=False)
    async with WebTransportClient(config=patient) as client:
        session = await client.connect(server.url())
        connection = session.connection
        assert connection is not None
        lost = asyncio.create_task(connection.wait_for(EventType.CONNECTION_LOST, timeout=SECONDS))
        async with asyncio.timeout(SECONDS):
            await connection.wait_closed()
            await session.wait_closed()
        assert (await lost).data["exception"].ended_by == "transport"


async def test_keep_alive_keeps_a_quiet_connection(server: Server, config: ClientConfig) -> None:
    lively = config.update(connection_idle_timeout=1.0, connection_keepalive_timeout=0.1)
    # The second one is longer than the idle timeout.
    for interval in (0.1, 30.0):
        lively = lively.update(connection_keepalive_timeout=interval)
        async with WebTransportClient(config=lively) as client:
            session = await client.connect(server.url())
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(session.wait_closed(), 2.5)
            assert session.is_ready


async def test_a_server_keeps_quiet_connections_that_answer(certificate: DevCertificate, driver: str) -> None:
    async with running_server(certificate, driver=driver, connection_idle_timeout=1.0) as server:
        config = client_config(certificate, driver=driver, keep_alive=False)
        async with connected_pair(server, config) as pair:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(pair.server.wait_closed(), 2.5)
            # Neither QUIC nor the manager takes it for idle: the answers to the PINGs are activity.
            assert await server.app.server.connection_manager.cleanup_closed_resources() == 0
            assert pair.client.is_ready
            assert pair.server.is_ready


async def test_none_is_no_time_limit(certificate: DevCertificate, driver: str) -> None:
    limits: dict[str, Any] = {
        "close_timeout": None,
        "connection_idle_timeout": None,
        "connection_keepalive_timeout": None,
        "pending_event_ttl": None,
    }
    async with running_server(certificate, driver=driver, handshake_timeout=None, **limits) as server:
        for other in ({}, {"close_timeout": float("inf"), "connection_keepalive_timeout": float("inf")}):
            async with connected_pair(server, client_config(certificate, driver=driver, **{**limits, **other})) as pair:
                near, far = await pair.bidi()
                await near.write(b"for ever", end_stream=True)
                assert await far.read_all() == b"for ever"
                await pair.client.close()


async def test_monitor_health_ends_with_the_connection(pair: Pair) -> None:
    connection = pair.client.connection
    assert connection is not None
    monitoring = asyncio.create_task(connection.monitor_health(check_interval=0.01))
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(asyncio.shield(monitoring), 0.05)
    await connection.close()
    async with asyncio.timeout(SECONDS):
        await monitoring


async def test_the_connection_of_a_session_is_a_weak_reference(server: Server, config: ClientConfig) -> None:
    async with WebTransportClient(config=config) as client:
        session = await client.connect(server.url())
        assert session.connection is not None
    async with asyncio.timeout(SECONDS):
        while session.connection is not None:
            await asyncio.sleep(0)


async def test_the_view_of_the_protocol(pair: Pair) -> None:
    handler = pair.client.protocol_handler
    assert isinstance(handler, WebTransportProtocolHandler)
    assert pair.client.connection is not None
    assert handler is pair.client.connection.protocol_handler
    assert [info.session_id for info in handler.sessions] == [pair.client.session_id]
    handler.send_webtransport_datagram(session_id=pair.client.session_id, data=b"by hand")
    assert await pair.server.datagrams.receive(timeout=SECONDS) == b"by hand"
    with pytest.raises(ProtocolError, match="create_bidirectional_stream"):
        handler.create_webtransport_stream(session_id=pair.client.session_id)
    with pytest.raises(ProtocolError, match=r"stream\.write"):
        handler.send_webtransport_stream_data(stream_id=0, data=b"")
    with pytest.raises(ProtocolError, match=r"stream\.abort"):
        handler.abort_stream(stream_id=0, error_code=0)
    with pytest.raises(ProtocolError, match="connect"):
        await handler.create_webtransport_session(path="/")
    with pytest.raises(ProtocolError, match="no session"):
        handler.close_webtransport_session(session_id="unknown")
    with pytest.raises(AttributeError, match="Rust"):
        _ = handler.quic_connection
    with pytest.raises(ProtocolError, match="protocol_handler"):
        WebTransportProtocolHandler(quic_connection=None)

    closed = asyncio.create_task(handler.wait_for(EventType.SESSION_CLOSED, timeout=SECONDS))
    far = pair.server.protocol_handler
    assert far is not None
    opened = asyncio.create_task(far.wait_for(EventType.STREAM_OPENED, timeout=SECONDS))
    await asyncio.sleep(0)
    await pair.bidi()
    data = (await opened).data
    assert data["session_id"] == pair.server.session_id
    assert data["initial_payload"] == {"data": b"", "end_stream": False}
    handler.close_webtransport_session(session_id=pair.client.session_id, code=12, reason="by hand")
    assert (await closed).data == {"session_id": pair.client.session_id, "code": 12, "reason": "by hand"}


def test_issues_of_a_connection_in_trouble() -> None:
    info = ConnectionInfo(connection_id="c", state=ConnectionState.CLOSED, error_count=11, last_activity=1.0)
    info.packets_sent = 1001
    diagnostics = ConnectionDiagnostics(stats=info, rtt=1.5, cwnd=0, packets_in_flight=0, packet_loss_rate=0.0)
    assert len(diagnostics.issues) == 5
