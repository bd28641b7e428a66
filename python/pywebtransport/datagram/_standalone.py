"""Datagram queues in Python, for a transport that is built over a callable instead of a session.

`WebTransportDatagramTransport(session_id=…, datagram_sender=…, max_datagram_size=…)` is public: tests and programs with
a carrier of their own construct it. The transport class speaks to one interface, `DatagramEndpoint`; the core's session
is the usual one, this is the other. It follows the core's rules: three priorities, TTL until hand-over, the oldest
entry of priority 0 goes when a queue is full.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Generator
from typing import Protocol

from pywebtransport._bridge import Waitable
from pywebtransport._core import SENT
from pywebtransport.exceptions import DatagramError, datagram_too_large
from pywebtransport.types import Buffer
from pywebtransport.utils import ensure_bytes, get_logger, get_timestamp

__all__: list[str] = ["DatagramEndpoint", "StandaloneEndpoint"]

logger = get_logger(__name__)


class DatagramEndpoint(Protocol):
    """The part of `_core.Session` that a datagram transport uses; described there."""

    @property
    def state(self) -> str: ...
    @property
    def max_datagram_size(self) -> int: ...
    @property
    def datagram_queue_bound(self) -> int: ...
    def send_datagram(self, data: Buffer | str, priority: int = 0, ttl: float | None = None) -> int: ...
    def send_datagrams(self, data: list[bytes], priority: int = 0, ttl: float | None = None) -> tuple[int, int]: ...
    def datagram_room(self) -> Waitable: ...
    def try_receive_datagram(self, ticket: int = 0) -> bytes | None: ...
    def try_receive_datagrams(self, max_count: int, ticket: int = 0) -> list[bytes] | None: ...
    def try_receive_datagram_entry(self, ticket: int = 0) -> tuple[bytes, int, float] | None: ...
    def datagram_available(self) -> Waitable: ...
    def datagram_queues(self) -> dict[str, int]: ...
    def clear_datagrams(self, incoming: bool) -> int: ...
    def record_events(self, enabled: bool) -> None: ...
    def take_events(self) -> list[tuple[str, int, int, float]]: ...
    def counters(self) -> dict[str, float]: ...


class StandaloneEndpoint:
    """Queues between a transport and a callable that sends. Belongs to one event loop."""

    def __init__(self, sender: Callable[[bytes], None], max_datagram_size: int, bound: int) -> None:
        self.state = "connected"
        self.max_datagram_size = max_datagram_size
        self.datagram_queue_bound = bound
        self._sender = sender
        self._outgoing: tuple[deque[_Entry], ...] = (deque(), deque(), deque())
        self._incoming: deque[tuple[bytes, int, float]] = deque()
        self._available = _Waiters(lambda: bool(self._incoming) or self.state == "closed")
        self._pumping = False
        self._recording = False
        self._events: deque[tuple[str, int, int, float]] = deque(maxlen=1000)
        self._counters = dict.fromkeys(_COUNTERS, 0.0)
        self.on_events: Callable[[], None] | None = None

    # --- sending ---

    def send_datagram(self, data: Buffer | str, priority: int = 0, ttl: float | None = None) -> int:
        payload = ensure_bytes(data)
        if self.state == "closed":
            raise DatagramError("Datagram transport is closed")
        if len(payload) > self.max_datagram_size:
            raise datagram_too_large(len(payload), self.max_datagram_size)
        if sum(map(len, self._outgoing)) >= self.datagram_queue_bound:
            self._counters["datagram_send_drops"] += 1
            if not self._outgoing[0]:
                raise DatagramError("Datagram queue is full and holds nothing of priority 0 to evict")
            self._outgoing[0].popleft()
        self._counters["datagrams_sent"] += 1
        self._counters["datagram_bytes_sent"] += len(payload)
        self._note_size(len(payload))
        deadline = None if ttl is None else get_timestamp() + ttl
        self._outgoing[priority].append(_Entry(payload, int(self._counters["datagrams_sent"]), deadline))
        if not self._pumping:
            self._pumping = True
            asyncio.get_running_loop().call_soon(self._pump)
        return SENT

    def send_datagrams(self, data: list[bytes], priority: int = 0, ttl: float | None = None) -> tuple[int, int]:
        for count, item in enumerate(data):
            try:
                self.send_datagram(item, priority, ttl)
            except DatagramError:
                if count == 0:
                    raise
                return count, SENT
        return len(data), SENT

    def datagram_room(self) -> Waitable:
        return _PythonReadiness(_Waiters(lambda: True))  # never needed: a full queue evicts

    def _pump(self) -> None:
        """Hand everything over, the highest priority first."""
        self._pumping = False
        for queue in reversed(self._outgoing):
            while queue:
                entry = queue.popleft()
                if entry.deadline is not None and entry.deadline < get_timestamp():
                    self._counters["datagram_expired"] += 1
                    self._record("expired", len(entry.payload), entry.sequence)
                    continue
                try:
                    self._sender(entry.payload)
                except Exception as error:
                    self._counters["datagram_send_failures"] += 1
                    logger.warning("Datagram sender failed: %s", error)
                else:
                    self._record("sent", len(entry.payload), entry.sequence)

    # --- receiving ---

    def feed(self, data: bytes) -> None:
        """Take in a datagram that arrived."""
        if self.state == "closed":
            return
        self._counters["datagrams_received"] += 1
        sequence = int(self._counters["datagrams_received"])
        if len(self._incoming) >= self.datagram_queue_bound:
            self._incoming.popleft()
            self._counters["datagram_receive_drops"] += 1
        self._incoming.append((data, sequence, get_timestamp()))
        self._record("received", len(data), sequence)
        self._available.wake()

    def try_receive_datagram(self, ticket: int = 0) -> bytes | None:
        entry = self.try_receive_datagram_entry(ticket)
        return entry[0] if entry is not None else None

    def try_receive_datagrams(self, max_count: int, ticket: int = 0) -> list[bytes] | None:
        batch: list[bytes] = []
        while len(batch) < max_count and (self._incoming or not batch):
            data = self.try_receive_datagram(ticket)
            if data is None:
                break
            batch.append(data)
        return batch or None

    def try_receive_datagram_entry(self, ticket: int = 0) -> tuple[bytes, int, float] | None:
        if self.state == "closed":
            raise DatagramError("Datagram transport is closed")
        if not self._incoming or not self._available.is_turn_of(ticket):
            return None
        entry = self._incoming.popleft()
        self._counters["datagrams_delivered"] += 1
        self._counters["datagram_bytes_received"] += len(entry[0])
        self._note_size(len(entry[0]))
        return entry

    def datagram_available(self) -> Waitable:
        return _PythonReadiness(self._available)

    # --- the rest ---

    def datagram_queues(self) -> dict[str, int]:
        low, middle, high = map(len, self._outgoing)
        return {
            "incoming": len(self._incoming),
            "incoming_bytes": sum(len(entry[0]) for entry in self._incoming),
            "outgoing": low + middle + high,
            "outgoing_0": low,
            "outgoing_1": middle,
            "outgoing_2": high,
            "outgoing_bytes": sum(len(entry.payload) for queue in self._outgoing for entry in queue),
        }

    def clear_datagrams(self, incoming: bool) -> int:
        queues: tuple[deque[_Entry], ...] | tuple[deque[tuple[bytes, int, float]]]
        queues = (self._incoming,) if incoming else self._outgoing
        count = sum(map(len, queues))
        for queue in queues:
            queue.clear()
        return count

    def record_events(self, enabled: bool) -> None:
        self._recording = enabled

    def take_events(self) -> list[tuple[str, int, int, float]]:
        events = list(self._events)
        self._events.clear()
        return events

    def counters(self) -> dict[str, float]:
        return dict(self._counters)

    def close(self) -> None:
        """End it: waiting receivers wake with an error."""
        self.state = "closed"
        self._incoming.clear()
        for queue in self._outgoing:
            queue.clear()
        self._available.wake_all()

    def _note_size(self, size: int) -> None:
        counters = self._counters
        counters["max_datagram_size_seen"] = max(counters["max_datagram_size_seen"], size)
        first = counters["datagrams_sent"] + counters["datagrams_delivered"] == 1
        counters["min_datagram_size"] = size if first else min(counters["min_datagram_size"], size)

    def _record(self, kind: str, size: int, sequence: int) -> None:
        if self._recording:
            self._events.append((kind, size, sequence, get_timestamp()))
            if self.on_events is not None:
                self.on_events()


class _Entry:
    """A datagram that waits for sending."""

    __slots__ = ("deadline", "payload", "sequence")

    def __init__(self, payload: bytes, sequence: int, deadline: float | None) -> None:
        self.payload = payload
        self.sequence = sequence
        self.deadline = deadline


class _Waiters:
    """The waiters of one condition, first in, first out."""

    def __init__(self, holds: Callable[[], bool]) -> None:
        self._holds = holds
        self._futures: dict[int, asyncio.Future[None]] = {}
        self._last_ticket = 0

    def ticket(self) -> int:
        """Make one."""
        self._last_ticket += 1
        return self._last_ticket

    def wait(self, ticket: int, future: asyncio.Future[None]) -> None:
        """Join, or wait again at the same place."""
        self._futures[ticket] = future
        self.wake()

    def leave(self, ticket: int) -> None:
        """Give a place up."""
        self._futures.pop(ticket, None)
        self.wake()

    def is_turn_of(self, ticket: int) -> bool:
        """Tell whether nobody waits before this ticket; 0 is somebody who does not wait."""
        return not self._futures or next(iter(self._futures)) == ticket

    def wake(self) -> None:
        """Resolve the first waiter when the condition holds."""
        if self._futures and self._holds():
            _resolve(next(iter(self._futures.values())))

    def wake_all(self) -> None:
        """Resolve all waiters."""
        for future in self._futures.values():
            _resolve(future)


class _PythonReadiness:
    """`_core.Readiness` in Python."""

    def __init__(self, waiters: _Waiters) -> None:
        self._waiters = waiters
        self._future: asyncio.Future[None] | None = None
        self._limit: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._since = 0.0
        self.ticket = 0
        self.expired = False

    def limit(self, seconds: float) -> None:
        self._limit = seconds

    def __await__(self) -> Generator[asyncio.Future[None]]:
        loop = asyncio.get_running_loop()
        if not self.ticket:
            self.ticket, self._since = self._waiters.ticket(), loop.time()
            if self._limit is not None:
                self._timer = loop.call_later(self._limit, self._expire)
        future = self._future = loop.create_future()
        self._waiters.wait(self.ticket, future)
        yield from future

    def _expire(self) -> None:
        self.expired = True
        self.wake()

    def wake(self) -> None:
        if self._future is not None:
            _resolve(self._future)

    def leave(self) -> float:
        if not self.ticket:
            return 0.0
        self._waiters.leave(self.ticket)
        if self._timer is not None:
            self._timer.cancel()
        return asyncio.get_running_loop().time() - self._since


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


_COUNTERS = (
    "datagrams_sent",
    "datagrams_received",
    "datagrams_delivered",
    "datagram_bytes_sent",
    "datagram_bytes_received",
    "datagram_send_drops",
    "datagram_send_failures",
    "datagram_expired",
    "datagram_receive_drops",
    "min_datagram_size",
    "max_datagram_size_seen",
)
