"""WebTransport sessions."""

from __future__ import annotations

from pywebtransport.session.session import SessionDiagnostics, SessionStats, WebTransportSession

__all__: list[str] = ["SessionDiagnostics", "SessionStats", "WebTransportSession"]
