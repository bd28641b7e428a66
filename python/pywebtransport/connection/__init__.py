"""QUIC connections that carry WebTransport sessions."""

from __future__ import annotations

from pywebtransport.connection.connection import ConnectionDiagnostics, ConnectionInfo, WebTransportConnection

__all__: list[str] = ["ConnectionDiagnostics", "ConnectionInfo", "WebTransportConnection"]
