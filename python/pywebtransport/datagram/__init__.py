"""Datagrams: small messages, unordered, that may be lost."""

from __future__ import annotations

from pywebtransport.datagram.structured import StructuredDatagramTransport
from pywebtransport.datagram.transport import (
    DatagramMessage,
    DatagramStats,
    DatagramTransportDiagnostics,
    WebTransportDatagramTransport,
)
from pywebtransport.datagram.utils import calculate_checksum

__all__: list[str] = [
    "DatagramMessage",
    "DatagramStats",
    "DatagramTransportDiagnostics",
    "StructuredDatagramTransport",
    "WebTransportDatagramTransport",
    "calculate_checksum",
]
