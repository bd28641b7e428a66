"""Plain records of what arrives on an HTTP/3 connection. The library itself does not use them (the core is in Rust)."""

from __future__ import annotations

from dataclasses import dataclass

from pywebtransport.types import Headers, StreamId

__all__: list[str] = [
    "CapsuleReceived",
    "DatagramReceived",
    "H3Event",
    "HeadersReceived",
    "WebTransportStreamDataReceived",
]


class H3Event:
    """The base of all records in this module."""


@dataclass(kw_only=True)
class CapsuleReceived(H3Event):
    """A capsule arrived on a CONNECT stream."""

    capsule_data: bytes
    capsule_type: int
    stream_id: StreamId


@dataclass(kw_only=True)
class DatagramReceived(H3Event):
    """A datagram arrived for the session of a CONNECT stream."""

    data: bytes
    stream_id: StreamId


@dataclass(kw_only=True)
class HeadersReceived(H3Event):
    """A HEADERS frame arrived."""

    headers: Headers
    stream_id: StreamId
    stream_ended: bool


@dataclass(kw_only=True)
class WebTransportStreamDataReceived(H3Event):
    """Data arrived on a WebTransport stream."""

    data: bytes
    control_stream_id: StreamId
    stream_id: StreamId
    stream_ended: bool
