"""Registries of the connections, sessions and streams that exist."""

from __future__ import annotations

from pywebtransport.manager.connection import ConnectionManager
from pywebtransport.manager.session import SessionManager
from pywebtransport.manager.stream import StreamManager, StreamType

__all__: list[str] = ["ConnectionManager", "SessionManager", "StreamManager", "StreamType"]
