"""Snapshots of a session and of a stream, as the protocol layer sees them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from pywebtransport.types import Headers, SessionId, SessionState, StreamDirection, StreamId, StreamState
from pywebtransport.utils import get_timestamp

__all__: list[str] = ["StreamInfo", "WebTransportSessionInfo"]


@dataclass(kw_only=True)
class StreamInfo:
    """What is known about a stream.

    Attributes:
        stream_id: QUIC stream id.
        session_id: the session it belongs to.
        direction: which way data flows, seen from this end.
        state: where it is in its life.
        created_at: when it was opened or arrived, in seconds since the epoch.
        bytes_sent: payload bytes given to the transport.
        bytes_received: payload bytes that arrived.
        closed_at: when it ended; None while it lives.
        close_code: code of a reset or stop.
        close_reason: why it ended.
    """

    stream_id: StreamId
    session_id: SessionId
    direction: StreamDirection
    state: StreamState
    created_at: float
    bytes_sent: int = 0
    bytes_received: int = 0
    closed_at: float | None = None
    close_code: int | None = None
    close_reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return all fields."""
        return asdict(self)

    def __str__(self) -> str:
        """Return one line for logs."""
        return (
            f"Stream {self.stream_id} [{self.state}] direction={self.direction} session={self.session_id} "
            f"sent={self.bytes_sent}b recv={self.bytes_received}b{_age(self.created_at, self.closed_at)}"
        )


@dataclass(kw_only=True)
class WebTransportSessionInfo:
    """What is known about a session.

    `local_*` limits are those this end grants the peer, `peer_*` those the peer grants this end; 0 means that no
    session limit was announced.

    Attributes:
        session_id: the library's random id of the session.
        control_stream_id: id of the CONNECT stream.
        state: where it is in its life.
        path: path of the request, with query.
        created_at: when the request was sent or arrived, in seconds since the epoch.
        headers: of the request.
        ready_at: when it was accepted.
        closed_at: when it ended; None while it lives.
        close_code: code of the close.
        close_reason: reason of the close.
        local_max_data: bytes the peer may send on streams.
        local_data_sent: bytes this end has sent on streams.
        peer_max_data: bytes this end may send on streams.
        peer_data_sent: bytes the peer has sent on streams.
        local_max_streams_bidi: bidirectional streams the peer may open.
        local_streams_bidi_opened: bidirectional streams this end has opened.
        peer_max_streams_bidi: bidirectional streams this end may open.
        peer_streams_bidi_opened: bidirectional streams the peer has opened.
        local_max_streams_uni: unidirectional streams the peer may open.
        local_streams_uni_opened: unidirectional streams this end has opened.
        peer_max_streams_uni: unidirectional streams this end may open.
        peer_streams_uni_opened: unidirectional streams the peer has opened.
    """

    session_id: SessionId
    control_stream_id: StreamId
    state: SessionState
    path: str
    created_at: float
    headers: Headers = field(default_factory=dict)
    ready_at: float | None = None
    closed_at: float | None = None
    close_code: int | None = None
    close_reason: str | None = None
    local_max_data: int = 0
    local_data_sent: int = 0
    peer_max_data: int = 0
    peer_data_sent: int = 0
    local_max_streams_bidi: int = 0
    local_streams_bidi_opened: int = 0
    peer_max_streams_bidi: int = 0
    peer_streams_bidi_opened: int = 0
    local_max_streams_uni: int = 0
    local_streams_uni_opened: int = 0
    peer_max_streams_uni: int = 0
    peer_streams_uni_opened: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return all fields."""
        return asdict(self)

    def __str__(self) -> str:
        """Return one line for logs."""
        age = "" if self.ready_at is None else _age(self.ready_at, self.closed_at)
        return f"Session {self.session_id} [{self.state}] path={self.path} control_stream={self.control_stream_id}{age}"


def _age(start: float, end: float | None) -> str:
    """Return ` (duration: 1.00s)` for what has ended and ` (active: 1.00s)` for what lives."""
    if end is not None:
        return f" (duration: {end - start:.2f}s)"
    return f" (active: {get_timestamp() - start:.2f}s)"
