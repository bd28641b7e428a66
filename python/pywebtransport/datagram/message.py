"""One datagram with its metadata, and the counters of a transport."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from pywebtransport.types import SessionId
from pywebtransport.utils import get_timestamp

__all__: list[str] = ["DatagramMessage", "DatagramStats", "DatagramTransportDiagnostics"]


@dataclass(kw_only=True)
class DatagramMessage:
    """A datagram and what is known about it.

    Attributes:
        data: the payload.
        timestamp: when it arrived, or was made; seconds since the epoch.
        size: bytes of payload.
        checksum: the first 8 hexadecimal digits of the payload's SHA-256.
        sequence: number of the datagram at this end; nothing of it is on the wire.
        priority: 0 to 2; 2 goes first.
        ttl: seconds after which it is not worth sending.
    """

    data: bytes
    timestamp: float = field(default_factory=get_timestamp)
    size: int = field(init=False)
    checksum: str | None = None
    sequence: int | None = None
    priority: int = 0
    ttl: float | None = None

    def __post_init__(self) -> None:
        """Compute size and checksum."""
        self.size = len(self.data)
        if self.checksum is None:
            self.checksum = hashlib.sha256(self.data).hexdigest()[:8]

    @property
    def age(self) -> float:
        """Seconds since `timestamp`."""
        return get_timestamp() - self.timestamp

    @property
    def is_expired(self) -> bool:
        """Whether it is older than its `ttl`."""
        return self.ttl is not None and self.age > self.ttl

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the payload."""
        return {
            "size": self.size,
            "timestamp": self.timestamp,
            "age": self.age,
            "checksum": self.checksum,
            "sequence": self.sequence,
            "priority": self.priority,
            "ttl": self.ttl,
            "is_expired": self.is_expired,
        }


@dataclass(kw_only=True)
class DatagramStats:
    """Counters of one transport. Counts are exact; times cover only the calls that had to wait.

    Attributes:
        session_id: which session.
        created_at: seconds since the epoch.
        datagrams_sent: accepted for sending.
        bytes_sent: their payload.
        send_failures: accepted, and refused by QUIC later.
        send_drops: evicted from a full queue, refused by it, or expired in it.
        datagrams_received: delivered to the application.
        bytes_received: their payload.
        receive_drops: arrived at a full queue.
        receive_errors: delivered, but not what was asked for (`receive_json`).
        total_send_time: seconds spent waiting for room.
        total_receive_time: seconds spent waiting for datagrams.
        max_send_time: longest wait for room.
        max_receive_time: longest wait for a datagram.
        min_datagram_size: smallest payload, infinite before the first.
        max_datagram_size: largest payload.
        total_datagram_size: all payload, both ways.
    """

    session_id: SessionId
    created_at: float
    datagrams_sent: int = 0
    bytes_sent: int = 0
    send_failures: int = 0
    send_drops: int = 0
    datagrams_received: int = 0
    bytes_received: int = 0
    receive_drops: int = 0
    receive_errors: int = 0
    total_send_time: float = 0.0
    total_receive_time: float = 0.0
    max_send_time: float = 0.0
    max_receive_time: float = 0.0
    min_datagram_size: float = float("inf")
    max_datagram_size: int = 0
    total_datagram_size: int = 0

    @property
    def avg_datagram_size(self) -> float:
        """Bytes per datagram, both ways."""
        return self.total_datagram_size / max(1, self.datagrams_sent + self.datagrams_received)

    @property
    def avg_receive_time(self) -> float:
        """Seconds waited per delivered datagram."""
        return self.total_receive_time / max(1, self.datagrams_received)

    @property
    def avg_send_time(self) -> float:
        """Seconds waited per accepted datagram."""
        return self.total_send_time / max(1, self.datagrams_sent)

    @property
    def receive_success_rate(self) -> float:
        """Share of deliveries without error; 1.0 before the first."""
        total = self.datagrams_received + self.receive_errors
        return self.datagrams_received / total if total else 1.0

    @property
    def send_success_rate(self) -> float:
        """Share of sends without failure; 1.0 before the first."""
        total = self.datagrams_sent + self.send_failures
        return self.datagrams_sent / total if total else 1.0

    def to_dict(self) -> dict[str, Any]:
        """Return the counters, the averages and the rates; times and sizes as averages and extremes."""
        return {
            "session_id": self.session_id,
            "created_at": self.created_at,
            "datagrams_sent": self.datagrams_sent,
            "bytes_sent": self.bytes_sent,
            "send_failures": self.send_failures,
            "send_drops": self.send_drops,
            "datagrams_received": self.datagrams_received,
            "bytes_received": self.bytes_received,
            "receive_drops": self.receive_drops,
            "receive_errors": self.receive_errors,
            "avg_send_time": self.avg_send_time,
            "avg_receive_time": self.avg_receive_time,
            "max_send_time": self.max_send_time,
            "max_receive_time": self.max_receive_time,
            "avg_datagram_size": self.avg_datagram_size,
            "min_datagram_size": self.min_datagram_size if self.min_datagram_size != float("inf") else 0,
            "max_datagram_size": self.max_datagram_size,
            "send_success_rate": self.send_success_rate,
            "receive_success_rate": self.receive_success_rate,
        }


@dataclass(frozen=True, kw_only=True)
class DatagramTransportDiagnostics:
    """A snapshot of a transport.

    Attributes:
        stats: the counters.
        queue_stats: for "outgoing" and "incoming" the keys size, max_size, priority_0, priority_1, priority_2.
        is_closed: whether the transport is closed.
    """

    stats: DatagramStats
    queue_stats: dict[str, dict[str, int]]
    is_closed: bool

    @property
    def issues(self) -> list[str]:
        """One sentence for everything that looks wrong; empty for a healthy transport."""
        stats, issues = self.stats, []
        if stats.send_success_rate < 0.9:
            issues.append(f"Low send success rate: {stats.send_success_rate:.1%}")
        traffic, drops = stats.datagrams_sent + stats.datagrams_received, stats.send_drops + stats.receive_drops
        if traffic and drops / traffic > 0.1:
            issues.append(f"High drop rate: {drops} drops in {traffic} datagrams")
        for name in ("outgoing", "incoming"):
            queue = self.queue_stats.get(name, {})
            size, bound = queue.get("size", 0), queue.get("max_size", 0)
            if bound and size / bound > 0.9:
                issues.append(f"The {name} queue is almost full: {size} of {bound}")
        if stats.avg_send_time > 0.1:
            issues.append(f"Slow sending: {stats.avg_send_time:.2f} s on average")
        if self.is_closed:
            issues.append("Datagram transport is closed")
        return issues
