"""Counters and snapshots of a session."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

from pywebtransport.types import SessionId, SessionState
from pywebtransport.utils import get_timestamp

if TYPE_CHECKING:
    from pywebtransport.session.session import WebTransportSession

__all__: list[str] = ["SessionDiagnostics", "SessionStats"]


@dataclass(kw_only=True)
class SessionStats:
    """Counters of one session. Times are seconds since the epoch.

    Attributes:
        session_id: which session.
        created_at: when the request was made or arrived.
        ready_at: when it was accepted, on both sides; None before.
        closed_at: when it was closed; None before.
        streams_created: streams opened by either side.
        streams_closed: streams of which both directions are done, each counted once.
        stream_errors: failed openings, and streams that ended by a reset or stop.
        bidirectional_streams: the bidirectional part of `streams_created`.
        unidirectional_streams: the unidirectional part of it.
        datagrams_sent: accepted for sending.
        datagrams_received: arrived for the session.
        protocol_errors: violations by the peer.
    """

    session_id: SessionId
    created_at: float
    ready_at: float | None = None
    closed_at: float | None = None
    streams_created: int = 0
    streams_closed: int = 0
    stream_errors: int = 0
    bidirectional_streams: int = 0
    unidirectional_streams: int = 0
    datagrams_sent: int = 0
    datagrams_received: int = 0
    protocol_errors: int = 0

    def _take(self, values: dict[str, float]) -> None:
        """Set what the core counts and when it began and ended."""
        self.created_at = values["created_at"]
        self.ready_at = values["ready_at"] or None
        self.closed_at = values["closed_at"] or None
        for name in _COUNTERS:
            setattr(self, name, int(values[name]))

    @property
    def active_streams(self) -> int:
        """Streams that are open in at least one direction."""
        return self.streams_created - self.streams_closed

    @property
    def uptime(self) -> float:
        """Seconds from `ready_at` to the close, or to now; 0.0 before."""
        if self.ready_at is None:
            return 0.0
        return (self.closed_at or get_timestamp()) - self.ready_at

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, `uptime` and `active_streams`."""
        return {**asdict(self), "uptime": self.uptime, "active_streams": self.active_streams}


@dataclass(frozen=True, kw_only=True)
class SessionDiagnostics:
    """A snapshot of a session; later traffic does not change it.

    Attributes:
        stats: the counters.
        state: the state.
        is_connection_active: whether the connection underneath is there and connected.
        datagram_receive_buffer_size: datagrams that wait for `receive`.
        send_credit_available: bytes that can be sent now without waiting.
        receive_credit_available: bytes that the peer can send now.
    """

    stats: SessionStats
    state: SessionState
    is_connection_active: bool
    datagram_receive_buffer_size: int
    send_credit_available: int
    receive_credit_available: int

    @classmethod
    def _of(cls, session: WebTransportSession) -> Self:
        """Take a snapshot now."""
        core, connection = session._core, session.connection
        values = core.counters() if core is not None else {}
        stats = SessionStats(session_id=session.session_id, created_at=session._created_at)
        if core is not None:
            stats._take(values)
            stats.stream_errors += session._failed_openings
        return cls(
            stats=stats,
            state=session.state,
            is_connection_active=connection is not None and connection.is_connected,
            datagram_receive_buffer_size=core.datagram_queues()["incoming"] if core is not None else 0,
            send_credit_available=int(values.get("send_credit_available", 0)),
            receive_credit_available=int(values.get("receive_credit_available", 0)),
        )

    @property
    def issues(self) -> list[str]:
        """One sentence for everything that looks wrong; empty for a healthy session, idle or busy."""
        stats, issues = self.stats, []
        if self.state not in (SessionState.CONNECTED, SessionState.CLOSED):
            issues.append(f"Session appears stuck in state {self.state}")
        operations = stats.streams_created + stats.datagrams_sent
        errors = stats.stream_errors + stats.protocol_errors
        if operations > 50 and errors / operations > 0.1:
            issues.append(f"High error rate: {errors} errors in {operations} operations")
        # A session that lives by datagrams alone is healthy.
        datagrams = stats.datagrams_sent + stats.datagrams_received
        if stats.uptime > 3600 and stats.active_streams == 0 and datagrams == 0:
            issues.append("Session has been up for more than an hour without any stream or datagram")
        if not self.is_connection_active:
            issues.append("Underlying connection is not active")
        if self.datagram_receive_buffer_size > 100:
            issues.append(f"Datagram receive buffer is large: {self.datagram_receive_buffer_size} datagrams wait")
        return issues


_COUNTERS = (
    "streams_created",
    "streams_closed",
    "stream_errors",
    "bidirectional_streams",
    "unidirectional_streams",
    "datagrams_sent",
    "datagrams_received",
    "protocol_errors",
)
