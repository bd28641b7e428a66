"""Streams: reliable, ordered bytes, one way or both."""

from __future__ import annotations

from pywebtransport.stream.stream import (
    StreamDiagnostics,
    StreamStats,
    WebTransportReceiveStream,
    WebTransportSendStream,
    WebTransportStream,
)
from pywebtransport.stream.structured import StructuredStream

__all__: list[str] = [
    "StreamDiagnostics",
    "StreamStats",
    "StructuredStream",
    "WebTransportReceiveStream",
    "WebTransportSendStream",
    "WebTransportStream",
]
