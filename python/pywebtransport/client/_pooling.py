"""Connections that sessions share: `ClientConfig(allow_pooling=True)`.

draft-ietf-webtrans-http3 section 5.1 lets sessions share a connection only when both ends announced flow control, so
that no session can take the room of another. Clients on the same event loop share when host, port and every setting
that concerns the connection are equal; what belongs to the request (headers, user agent, subprotocols) may differ.

Nothing here keeps a connection alive: clients do, and the last session that is closed takes it along.
"""

from __future__ import annotations

import asyncio
import weakref
from dataclasses import fields
from typing import TypeAlias

from pywebtransport.config import ClientConfig
from pywebtransport.connection.connection import WebTransportConnection

__all__: list[str] = []

Key: TypeAlias = tuple[str, int, tuple[str, ...]]


class SharedConnections:
    """The connections to one server that clients with the same settings share.

    Attributes:
        opening: held while a connection is made, so that those who come meanwhile share it.
    """

    def __init__(self) -> None:
        """Make an empty list."""
        self.opening = asyncio.Lock()
        self._connections: weakref.WeakSet[WebTransportConnection] = weakref.WeakSet()

    @classmethod
    def of(cls, config: ClientConfig, host: str, port: int) -> SharedConnections:
        """Return the ones for this server and these settings, on the running event loop."""
        loop = asyncio.get_running_loop()
        of_loop = _by_loop.get(loop)
        if of_loop is None:
            of_loop = _by_loop[loop] = weakref.WeakValueDictionary()
        key = (host.lower(), port, tuple(repr(getattr(config, name)) for name in _CONNECTION_FIELDS))
        shared = of_loop.get(key)
        if shared is None:
            shared = of_loop[key] = cls()
        return shared

    def add(self, connection: WebTransportConnection) -> None:
        """Offer a new connection until it ends. The callback keeps this object for as long as the connection lives."""
        self._connections.add(connection)
        connection._on_close(self.remove)

    def find(self, full: list[WebTransportConnection]) -> WebTransportConnection | None:
        """Return a connection that has room for one more session and is none of these, or None."""
        found = (connection for connection in self._connections if connection not in full)
        return next((connection for connection in found if connection._has_room()), None)

    def remove(self, connection: WebTransportConnection) -> None:
        """Offer this connection no longer: it has ended, or the server takes no further session on it."""
        self._connections.discard(connection)


_OF_THE_REQUEST = {"headers", "user_agent", "subprotocols"}

_CONNECTION_FIELDS = tuple(item.name for item in fields(ClientConfig) if item.name not in _OF_THE_REQUEST)

_by_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, weakref.WeakValueDictionary[Key, SharedConnections]] = (
    weakref.WeakKeyDictionary()
)
