"""Counters and snapshots of a connection."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pywebtransport._socket import socket_issues
from pywebtransport.types import Address, ConnectionState
from pywebtransport.utils import get_timestamp

__all__: list[str] = ["ConnectionDiagnostics", "ConnectionInfo"]


@dataclass(kw_only=True)
class ConnectionInfo:
    """Addresses, times and counters of a connection. Times are seconds since the epoch."""

    connection_id: str
    state: ConnectionState
    local_address: Address | None = None
    remote_address: Address | None = None
    established_at: float | None = None
    closed_at: float | None = None
    bytes_sent: int = 0
    bytes_received: int = 0
    packets_sent: int = 0
    packets_received: int = 0
    error_count: int = 0
    last_activity: float | None = None

    @property
    def uptime(self) -> float:
        """Seconds from the end of the handshake to the close, or to now; 0.0 before the handshake ended."""
        if self.established_at is None:
            return 0.0
        return (self.closed_at or get_timestamp()) - self.established_at

    def to_dict(self) -> dict[str, Any]:
        """Return all fields and `uptime`."""
        return {**asdict(self), "uptime": self.uptime}


@dataclass(frozen=True, kw_only=True)
class ConnectionDiagnostics:
    """A snapshot of a connection.

    Attributes:
        stats: addresses, times and counters.
        rtt: smoothed round-trip time in seconds.
        cwnd: congestion window in bytes.
        packets_in_flight: always 0; the QUIC library keeps this number to itself.
        packet_loss_rate: share of the sent packets that were declared lost, 0.0 to 1.0.
        mtu: largest UDP payload in bytes that the path to the peer is known to carry now; 0 before the handshake.
        gso_segments: packets that the system takes in one call; 1: no GSO, 0: unknown, as after the end.
        gro_segments: packets that the system hands over in one piece; 1: no GRO, 0: unknown.
        send_buffer_size: the socket's send buffer in bytes, as the system gave it; 0: unknown.
        receive_buffer_size: the same for receiving. What does not fit is lost.
    """

    stats: ConnectionInfo
    rtt: float
    cwnd: int
    packets_in_flight: int
    packet_loss_rate: float
    mtu: int = 0
    gso_segments: int = 0
    gro_segments: int = 0
    send_buffer_size: int = 0
    receive_buffer_size: int = 0

    @property
    def issues(self) -> list[str]:
        """One sentence for everything that looks wrong; empty for a healthy connection."""
        stats, issues = self.stats, []
        if stats.state != ConnectionState.CONNECTED:
            issues.append(f"Connection is not connected, its state is {stats.state}")
        if stats.error_count > 10:
            issues.append(f"High error count: {stats.error_count}")
        if stats.last_activity is not None and (idle := get_timestamp() - stats.last_activity) > STALE_AFTER:
            issues.append(f"No activity for {idle:.0f} s")
        if stats.packets_sent > 1000 and stats.packets_received == 0:
            issues.append(f"{stats.packets_sent} packets sent and none received")
        if self.rtt > 1.0:
            issues.append(f"High round-trip time: {self.rtt:.2f} s")
        return issues

    @property
    def socket_issues(self) -> list[str]:
        """One sentence for everything about this machine that makes the UDP socket slow or lossy."""
        return socket_issues(self.gso_segments, self.send_buffer_size, self.receive_buffer_size)


STALE_AFTER = 300.0  # seconds without a packet; with keep-alive at its default of 30 s that is ten missed answers
