"""Bidirectional streams. The one-way classes and the statistics are importable from here too."""

from __future__ import annotations

import asyncio
import builtins
from types import TracebackType

from pywebtransport.stream._base import _StreamBase
from pywebtransport.stream.recv_stream import WebTransportReceiveStream
from pywebtransport.stream.send_stream import WebTransportSendStream
from pywebtransport.stream.stats import StreamDiagnostics, StreamStats
from pywebtransport.types import StreamDirection, StreamState
from pywebtransport.utils import get_logger

__all__: list[str] = [
    "StreamDiagnostics",
    "StreamStats",
    "WebTransportReceiveStream",
    "WebTransportSendStream",
    "WebTransportStream",
]

logger = get_logger(__name__)


class WebTransportStream(WebTransportReceiveStream, WebTransportSendStream):
    """A stream in both directions, each with its own end.

    Leaving `async with` ends the sending direction (FIN); what the peer sends can still be read. When an exception
    passes, both directions are aborted with code 0.
    """

    __slots__ = ()

    _direction = StreamDirection.BIDIRECTIONAL

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        """Close the sending direction, or abort both when an exception passes."""
        await WebTransportSendStream.__aexit__(self, exc_type, exc_val, exc_tb)

    async def close(self) -> None:
        """End the sending direction after what was written (FIN); see `WebTransportSendStream.close`."""
        await WebTransportSendStream.close(self)

    async def initialize(self) -> None:
        """Take the core halves from the session; see `WebTransportSendStream.initialize`."""
        await _StreamBase.initialize(self)

    def diagnose_issues(
        self, error_rate_threshold: float = 0.1, latency_threshold: float = 1.0, stale_threshold: float = 3600.0
    ) -> list[str]:
        """Return one sentence for everything that looks wrong.

        Args:
            error_rate_threshold: share of failed reads or writes, 0.0 to 1.0, judged after more than ten of them.
            latency_threshold: seconds that an average read or write may wait.
            stale_threshold: seconds that a stream may live without a read or write.
        """
        issues, stats = [], self.diagnostics.stats
        if self.state == StreamState.RESET_RECEIVED:
            issues.append("Stream was reset by the peer")
        elif self.state == StreamState.RESET_SENT:
            issues.append("Stream was reset locally")
        if stats.reads_count > 10 and (rate := stats.read_errors / stats.reads_count) > error_rate_threshold:
            issues.append(f"High read error rate: {rate:.1%}")
        if stats.writes_count > 10 and (rate := stats.write_errors / stats.writes_count) > error_rate_threshold:
            issues.append(f"High write error rate: {rate:.1%}")
        if stats.avg_read_time > latency_threshold:
            issues.append(f"Slow reads: {stats.avg_read_time:.2f} s on average")
        if stats.avg_write_time > latency_threshold:
            issues.append(f"Slow writes: {stats.avg_write_time:.2f} s on average")
        if stats.uptime > stale_threshold and stats.reads_count == 0 and stats.writes_count == 0:
            issues.append(f"No read or write in {stats.uptime:.0f} s")
        return issues

    async def monitor_health(self, check_interval: float = 30.0, error_rate_threshold: float = 0.1) -> None:
        """Log a warning while too many reads and writes fail, until the stream is closed.

        May be cancelled at any time.

        Args:
            check_interval: seconds between two looks.
            error_rate_threshold: share of failed operations, 0.0 to 1.0, judged after more than ten of them.
        """
        while not self.is_closed:
            try:
                async with asyncio.timeout(check_interval):
                    await self.wait_closed()
            except builtins.TimeoutError:
                pass  # still open: time for a look
            stats = self.diagnostics.stats
            operations = stats.reads_count + stats.writes_count
            errors = stats.read_errors + stats.write_errors
            if operations > 10 and errors / operations > error_rate_threshold:
                logger.warning("Stream %d: %d of %d operations failed", self.stream_id, errors, operations)
