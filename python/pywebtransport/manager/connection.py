"""The registry of connections."""

from __future__ import annotations

import math

from pywebtransport.connection.connection import WebTransportConnection
from pywebtransport.constants import (
    DEFAULT_CONNECTION_CLEANUP_INTERVAL,
    DEFAULT_CONNECTION_IDLE_CHECK_INTERVAL,
    DEFAULT_CONNECTION_IDLE_TIMEOUT,
    DEFAULT_SERVER_MAX_CONNECTIONS,
)
from pywebtransport.exceptions import ConnectionError
from pywebtransport.manager._base import _BaseResourceManager
from pywebtransport.types import ConnectionId
from pywebtransport.utils import get_logger, get_timestamp

__all__: list[str] = ["ConnectionManager"]

logger = get_logger(__name__)


class ConnectionManager(_BaseResourceManager[ConnectionId, WebTransportConnection]):
    """The connections of a client or server, up to a limit; use it as `async with`."""

    def __init__(
        self,
        max_connections: int = DEFAULT_SERVER_MAX_CONNECTIONS,
        connection_cleanup_interval: float = DEFAULT_CONNECTION_CLEANUP_INTERVAL,
        connection_idle_check_interval: float = DEFAULT_CONNECTION_IDLE_CHECK_INTERVAL,
        connection_idle_timeout: float = DEFAULT_CONNECTION_IDLE_TIMEOUT,
    ) -> None:
        """Make a registry that is not active yet.

        Args:
            max_connections: greatest number of connections.
            connection_cleanup_interval: seconds between two sweeps over closed foreign connections; those of this
                library leave at once.
            connection_idle_check_interval: the same over idle ones; one sweep does both, at the shorter interval. QUIC
                itself ends the idle connections of this library.
            connection_idle_timeout: a sweep closes connections without any packet for so many seconds.
        """
        interval = min(connection_cleanup_interval, connection_idle_check_interval)
        super().__init__("connection", max_connections, interval)
        # The configurations allow None: no limit.
        self._idle_timeout = math.inf if connection_idle_timeout is None else connection_idle_timeout

    async def add_connection(self, connection: WebTransportConnection) -> ConnectionId:
        """Register a connection and return its id. It leaves by itself when it has ended.

        Raises:
            ConnectionError: the limit is reached, or the manager is not activated.
        """
        self._add(connection.connection_id, connection, ConnectionError)
        return connection.connection_id

    async def remove_connection(self, connection_id: ConnectionId) -> WebTransportConnection | None:
        """Take a connection out, without closing it; return it, or None for an unknown id."""
        return self._discard(connection_id)

    async def cleanup_closed_resources(self) -> int:
        """Remove closed connections, close and remove idle ones; return how many left."""
        removed = await super().cleanup_closed_resources()
        now = get_timestamp()
        for connection in list(self._resources.values()):
            # 0.0 is a connection that has not seen a packet yet.
            if 0.0 < connection.last_activity_time < now - self._idle_timeout:
                logger.info("Closing idle connection %s", connection.connection_id)
                await connection.close(reason="Idle timeout")
                removed += self._discard(connection.connection_id) is not None
        return removed

    async def _close_resource(self, resource: WebTransportConnection) -> None:
        await resource.close(reason="Shutting down")

    def _key_of(self, resource: WebTransportConnection) -> ConnectionId:
        return resource.connection_id

    def _is_resource_closed(self, resource: WebTransportConnection) -> bool:
        return resource.is_closed
