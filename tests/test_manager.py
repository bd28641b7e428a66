"""Managers: registries with limits, and the streams of a session."""

from __future__ import annotations

import asyncio
import gc

import pytest

from pywebtransport import (
    ConnectionError,
    SessionError,
    StreamError,
    WebTransportClient,
    WebTransportSendStream,
    WebTransportStream,
)
from pywebtransport.manager import ConnectionManager, SessionManager, StreamManager
from pywebtransport.types import ConnectionState, SessionState, StreamDirection, StreamState
from tests.harness import SECONDS, Pair, Server

BASE_KEYS = {"total_created", "total_closed", "current_count", "max_concurrent", "active", "states"}


async def test_connections_register_up_to_the_limit_and_leave_by_themselves(pair: Pair) -> None:
    near, far = pair.client.connection, pair.server.connection
    assert near is not None
    assert far is not None
    manager = ConnectionManager(max_connections=1)
    with pytest.raises(ConnectionError, match="not activated"):
        await manager.add_connection(connection=near)
    assert await manager.get_stats() == {}
    async with manager:
        assert await manager.add_connection(connection=near) == near.connection_id
        with pytest.raises(ConnectionError, match=r"Maximum connections \(1\)"):
            await manager.add_connection(connection=far)
        assert len(manager) == 1
        assert await manager.get_resource(resource_id=near.connection_id) is near
        stats = await manager.get_stats()
        assert set(stats) == BASE_KEYS | {"max_connections"}
        assert stats["states"] == {ConnectionState.CONNECTED: 1}
        await near.close()
        assert len(manager) == 0
        assert (await manager.get_stats())["total_closed"] == 1


async def test_shutdown_closes_what_is_registered(pair: Pair) -> None:
    connection = pair.client.connection
    assert connection is not None
    async with ConnectionManager() as manager:
        await manager.add_connection(connection)
    assert connection.is_closed
    assert len(manager) == 0


async def test_an_entry_can_be_taken_out(pair: Pair) -> None:
    connection = pair.client.connection
    assert connection is not None
    async with ConnectionManager() as manager:
        await manager.add_connection(connection)
        assert await manager.remove_connection(connection_id=connection.connection_id) is connection
        assert await manager.remove_connection(connection_id=connection.connection_id) is None
    assert connection.is_connected


async def test_foreign_objects_are_swept() -> None:
    class Foreign:
        connection_id = "foreign"
        is_closed = False
        state = ConnectionState.CONNECTED
        last_activity_time = 0.0
        closes = 0

        async def close(self, code: int = 0, reason: str = "") -> None:
            self.closes += 1
            self.is_closed = True

    async with ConnectionManager(connection_cleanup_interval=0.01) as manager:
        closed, idle = Foreign(), Foreign()
        await manager.add_connection(closed)  # type: ignore[arg-type]  # wrong on purpose
        closed.is_closed = True
        async with asyncio.timeout(SECONDS):
            while len(manager):
                await asyncio.sleep(0.01)
        idle.last_activity_time = 1.0
        await manager.add_connection(idle)  # type: ignore[arg-type]  # wrong on purpose
        assert await manager.cleanup_closed_resources() == 1
        assert idle.closes == 1


async def test_sessions_register_up_to_the_limit_and_leave_by_themselves(
    server: Server, client: WebTransportClient
) -> None:
    first, second = await client.connect(server.url()), await client.connect(server.url())
    manager = SessionManager(max_sessions=1)
    with pytest.raises(SessionError, match="not activated"):
        await manager.add_session(session=first)
    async with manager:
        assert await manager.add_session(session=first) == first.session_id
        with pytest.raises(SessionError, match=r"Maximum sessions \(1\)"):
            await manager.add_session(session=second)
        assert await manager.get_sessions_by_state(state=SessionState.CONNECTED) == [first]
        assert set(await manager.get_stats()) == BASE_KEYS | {"max_sessions"}
        await first.close()
        assert await manager.get_all_resources() == []
        await manager.add_session(second)
        assert await manager.remove_session(session_id=second.session_id) is second


async def test_the_streams_of_a_session(pair: Pair) -> None:
    manager = pair.client.stream_manager
    assert isinstance(manager, StreamManager)
    assert len(manager) == 0
    near, far = await pair.bidi()
    sender, _receiver = await pair.uni()
    assert len(manager) == len(pair.server.stream_manager) == 2
    assert near in manager
    assert near.stream_id in manager
    assert far not in manager
    assert await manager.get_resource(near.stream_id) is near
    assert [stream async for stream in manager] == [near, sender]
    stats = await manager.get_stats()
    assert set(stats) == BASE_KEYS | {"max_streams", "semaphore_locked", "semaphore_value", "directions"}
    assert stats["directions"] == {StreamDirection.BIDIRECTIONAL: 1, StreamDirection.SEND_ONLY: 1}
    assert stats["states"] == {StreamState.OPEN: 2}
    assert stats["semaphore_value"] == stats["max_streams"] - 2
    await near.abort()
    assert len(manager) == 1
    await sender.close()
    assert len(manager) == 0
    assert (await manager.get_stats())["total_closed"] == 2


async def test_a_dropped_stream_leaves_the_registry(pair: Pair) -> None:
    stream = await pair.client.create_bidirectional_stream()
    assert len(pair.client.stream_manager) == 1
    del stream
    gc.collect()
    assert len(pair.client.stream_manager) == 0


async def test_streams_opened_through_the_manager(pair: Pair) -> None:
    manager = pair.client.stream_manager
    both = await manager.create_bidirectional_stream()
    one = await manager.create_unidirectional_stream()
    assert type(both) is WebTransportStream
    assert type(one) is WebTransportSendStream
    await one.write_all(b"via the manager")
    async with asyncio.timeout(SECONDS):
        async for stream in pair.server.incoming_streams():
            if stream.direction is StreamDirection.RECEIVE_ONLY:
                assert await stream.read_all() == b"via the manager"
                break
    assert await manager.remove_stream(stream_id=both.stream_id) is both
    assert await manager.remove_stream(stream_id=both.stream_id) is None


async def test_a_manager_of_ones_own(pair: Pair) -> None:
    manager = StreamManager(stream_factory=pair.client._open_id, session_factory=lambda: pair.client, max_streams=1)
    with pytest.raises(StreamError, match="not activated"):
        await manager.create_bidirectional_stream()
    async with manager:
        stream = await manager.create_bidirectional_stream()
        with pytest.raises(StreamError, match=r"stream limit \(1\) reached"):
            await manager.create_unidirectional_stream()
        stats = await manager.get_stats()
        assert stats["semaphore_locked"]
        added = await pair.client.create_unidirectional_stream()
        await manager.add_stream(stream=added)
        assert len(manager) == 2
        await added.abort()
        await stream.abort()
        assert await manager.cleanup_closed_streams() >= 1
        last = await manager.create_unidirectional_stream()
    assert not last.is_writable
