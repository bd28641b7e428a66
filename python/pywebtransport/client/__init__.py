"""The client side: connecting to a WebTransport server."""

from __future__ import annotations

from pywebtransport.client.client import ClientDiagnostics, ClientStats, WebTransportClient
from pywebtransport.client.utils import parse_webtransport_url, validate_url

__all__: list[str] = [
    "ClientDiagnostics",
    "ClientStats",
    "WebTransportClient",
    "parse_webtransport_url",
    "validate_url",
]
