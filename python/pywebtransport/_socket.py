"""What diagnostics say about the UDP socket of a client or server."""

from __future__ import annotations

import sys

__all__: list[str] = []


def socket_issues(gso_segments: int, send_buffer_size: int, receive_buffer_size: int) -> list[str]:
    """Return one sentence for everything that makes the socket slow or lossy; values of 0 are unknown.

    Bulk without GSO runs at a third of the speed. Buffers of 208 KiB, the default of Linux, lose packets in a burst.
    """
    issues = []
    if gso_segments == 1:
        issues.append("The system sends packets one by one (no UDP GSO): bulk costs three times as much CPU")
    for what, size, limit in (
        ("receive", receive_buffer_size, "net.core.rmem_max"),
        ("send", send_buffer_size, "net.core.wmem_max"),
    ):
        if not size:
            continue
        from pywebtransport._core import SOCKET_BUFFER_SIZE  # not at module level: whoever has sizes has the core

        if size < SOCKET_BUFFER_SIZE / 2:
            text = f"The UDP {what} buffer has {size // 1024} KiB instead of {SOCKET_BUFFER_SIZE // 1024} KiB"
            remedy = f": raise it with sysctl -w {limit}={SOCKET_BUFFER_SIZE}" if sys.platform == "linux" else ""
            issues.append(text + remedy)
    return issues
