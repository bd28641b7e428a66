"""Counters and snapshots of a stream."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pywebtransport.types import StreamId
from pywebtransport.utils import get_timestamp

__all__: list[str] = ["StreamDiagnostics", "StreamStats"]


@dataclass(kw_only=True)
class StreamStats:
    """Counters of one stream. Bytes and calls are exact; times cover only the calls that had to wait.

    A read or write that is served at once is not timed: taking the time would cost more than the call.
    """

    stream_id: StreamId
    created_at: float
    closed_at: float | None = None
    bytes_sent: int = 0
    bytes_received: int = 0
    writes_count: int = 0
    reads_count: int = 0
    total_write_time: float = 0.0
    total_read_time: float = 0.0
    max_write_time: float = 0.0
    max_read_time: float = 0.0
    write_errors: int = 0
    read_errors: int = 0
    flow_control_errors: int = 0

    @property
    def avg_read_time(self) -> float:
        """Seconds waited per read."""
        return self.total_read_time / max(1, self.reads_count)

    @property
    def avg_write_time(self) -> float:
        """Seconds waited per write."""
        return self.total_write_time / max(1, self.writes_count)

    @property
    def uptime(self) -> float:
        """Seconds from the creation to the close, or to now."""
        return (self.closed_at or get_timestamp()) - self.created_at

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, the averages and `uptime`."""
        return {
            **asdict(self),
            "avg_read_time": self.avg_read_time,
            "avg_write_time": self.avg_write_time,
            "uptime": self.uptime,
        }


@dataclass(frozen=True, kw_only=True)
class StreamDiagnostics:
    """A snapshot of a stream.

    Attributes:
        stats: its counters.
        read_buffer_size: bytes that can be read without waiting.
        write_buffer_size: bytes that were written and not yet handed to QUIC.
    """

    stats: StreamStats
    read_buffer_size: int
    write_buffer_size: int
