"""Sending and receiving datagrams on a session.

The queues are in the core: priorities, TTL, bounds and counters too. `send` and `receive` are one synchronous call
each while they need not wait. This class adds the convenience: JSON, metadata, batches, heartbeat, events.

Datagrams are unreliable and unordered (RFC 9221, RFC 9297): one that was accepted may still be lost.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, NoReturn, Self, TypeVar

from pywebtransport._bridge import Waitable
from pywebtransport._core import NO_ROOM, SENT, SENT_YIELD
from pywebtransport.datagram._standalone import DatagramEndpoint, StandaloneEndpoint
from pywebtransport.datagram.message import DatagramMessage, DatagramStats, DatagramTransportDiagnostics
from pywebtransport.events import EventEmitter
from pywebtransport.exceptions import DatagramError, TimeoutError
from pywebtransport.types import Data, EventType, SessionId
from pywebtransport.utils import ensure_bytes, get_logger, get_timestamp

__all__: list[str] = [
    "DatagramMessage",
    "DatagramStats",
    "DatagramTransportDiagnostics",
    "WebTransportDatagramTransport",
]

T = TypeVar("T")

logger = get_logger(__name__)


class WebTransportDatagramTransport(EventEmitter):
    """The datagrams of one session. Iterating yields payloads until the session ends.

    Events, recorded while somebody listens: DATAGRAM_SENT `{size, sequence, send_time}` after the hand-over to QUIC
    (`send_time`: seconds since it was accepted), DATAGRAM_RECEIVED `{size, sequence, age, receive_time}` once per
    arriving datagram, DATAGRAM_ERROR `{size, sequence, reason}` for one that expired in the queue.
    """

    __slots__ = (
        "_accepted",
        "_core_receive",
        "_core_send",
        "_created_at",
        "_drops",
        "_endpoint",
        "_heartbeat",
        "_initialized",
        "_is_closed",
        "_parked",
        "_receive_errors",
        "_session_id",
        "_waits",
    )

    _core_send: Callable[..., int]
    _core_receive: Callable[..., bytes | None]

    def __init__(
        self,
        session_id: SessionId,
        datagram_sender: Callable[[bytes], None],
        max_datagram_size: int,
        high_water_mark: int = 100,
        sender_get_timeout: float = 1.0,
    ) -> None:
        """Make a transport over a callable; then `initialize` it. Sessions make theirs over the core instead.

        Args:
            session_id: for the statistics.
            datagram_sender: called with each payload, from the event loop.
            max_datagram_size: greatest payload in bytes.
            high_water_mark: entries of the outgoing and of the incoming queue.
            sender_get_timeout: kept for compatibility, nothing polls.
        """
        super().__init__()
        endpoint = StandaloneEndpoint(datagram_sender, max_datagram_size, high_water_mark)
        self._bind(session_id, endpoint)
        endpoint.on_events = self._emit_recorded
        self._initialized = False
        self._core_send = self._core_receive = _uninitialized

    @classmethod
    def _of(cls, session_id: SessionId, endpoint: DatagramEndpoint) -> Self:
        """Make a transport over the core's session, ready for use."""
        self = cls.__new__(cls)
        self._bind(session_id, endpoint)
        return self

    def _bind(self, session_id: SessionId, endpoint: DatagramEndpoint) -> None:
        self._session_id = session_id
        self._endpoint = endpoint
        self._core_send = endpoint.send_datagram
        self._core_receive = endpoint.try_receive_datagram
        self._created_at = get_timestamp()
        self._initialized = True
        self._is_closed = False
        self._heartbeat: asyncio.Task[None] | None = None
        self._parked: list[Waitable] = []  # the waits that `close` ends; the core does not see it
        self._drops = self._receive_errors = 0
        self._waits: list[float] | None = None  # total and longest for room, total and longest for a datagram
        self._accepted: deque[float] | None = None

    async def initialize(self) -> None:
        """Make a transport over a callable ready for use; idempotent. Those of sessions are ready."""
        if not self._initialized and not self._is_closed:
            self._initialized = True
            self._core_send = self._endpoint.send_datagram
            self._core_receive = self._endpoint.try_receive_datagram
            self._listen()

    async def __aenter__(self) -> Self:
        """Return the transport itself."""
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        """Close it."""
        await self.close()

    # --- what it is ---

    @property
    def session_id(self) -> SessionId:
        """Which session."""
        return self._session_id

    @property
    def is_closed(self) -> bool:
        """Whether it or its session was closed; what had arrived before may still be received after a session's end."""
        return self._is_closed or self._endpoint.state in ("closing", "closed")

    @property
    def is_readable(self) -> bool:
        """Whether `receive` may be called."""
        return self._initialized and not self.is_closed

    @property
    def is_writable(self) -> bool:
        """Whether `send` may be called."""
        return self._initialized and not self.is_closed

    @property
    def max_datagram_size(self) -> int:
        """Greatest payload in bytes that can be sent now.

        It follows the path, on each side for its own direction: QUIC begins with packets of 1200 bytes, finds within a
        few round trips that the path carries more, at most 1452, and returns to 1200 when larger ones are lost all of a
        sudden or the peer has moved. Datagrams that wait meanwhile and have become too large are dropped and counted as
        `send_failures`.
        """
        return self._endpoint.max_datagram_size

    @property
    def outgoing_high_water_mark(self) -> int:
        """Greatest number of entries in the outgoing queue."""
        return self._endpoint.datagram_queue_bound

    @property
    def incoming_max_age(self) -> float | None:
        """Seconds after which an unread datagram is dropped; None: no limit is in force."""
        return None

    @property
    def outgoing_max_age(self) -> float | None:
        """Seconds after which an unsent datagram is dropped; None: only the `ttl` of each one is in force."""
        return None

    @property
    def datagrams_sent(self) -> int:
        """Datagrams accepted for sending."""
        return int(self._endpoint.counters()["datagrams_sent"])

    @property
    def bytes_sent(self) -> int:
        """Their payload."""
        return int(self._endpoint.counters()["datagram_bytes_sent"])

    @property
    def datagrams_received(self) -> int:
        """Datagrams delivered to the application."""
        return int(self._endpoint.counters()["datagrams_delivered"])

    @property
    def bytes_received(self) -> int:
        """Their payload."""
        return int(self._endpoint.counters()["datagram_bytes_received"])

    @property
    def send_sequence(self) -> int:
        """Number of the last accepted datagram; refused ones do not count."""
        return self.datagrams_sent

    @property
    def receive_sequence(self) -> int:
        """Number of the last datagram that arrived."""
        return int(self._endpoint.counters()["datagrams_received"])

    @property
    def diagnostics(self) -> DatagramTransportDiagnostics:
        """A snapshot of counters and queues."""
        values = self._endpoint.counters()
        queues, bound = self._endpoint.datagram_queues(), self._endpoint.datagram_queue_bound
        send_time, max_send_time, receive_time, max_receive_time = self._waits or (0.0,) * 4
        stats = DatagramStats(
            session_id=self._session_id,
            created_at=self._created_at,
            datagrams_sent=int(values["datagrams_sent"]),
            bytes_sent=int(values["datagram_bytes_sent"]),
            send_failures=int(values["datagram_send_failures"]),
            send_drops=int(values["datagram_send_drops"] + values["datagram_expired"]) + self._drops,
            datagrams_received=int(values["datagrams_delivered"]),
            bytes_received=int(values["datagram_bytes_received"]),
            receive_drops=int(values["datagram_receive_drops"]),
            receive_errors=self._receive_errors,
            total_send_time=send_time,
            total_receive_time=receive_time,
            max_send_time=max_send_time,
            max_receive_time=max_receive_time,
            max_datagram_size=int(values["max_datagram_size_seen"]),
            total_datagram_size=int(values["datagram_bytes_sent"] + values["datagram_bytes_received"]),
        )
        if stats.datagrams_sent or stats.datagrams_received:
            stats.min_datagram_size = values["min_datagram_size"]
        outgoing = {f"priority_{level}": queues[f"outgoing_{level}"] for level in range(3)}
        incoming = {"priority_0": queues["incoming"], "priority_1": 0, "priority_2": 0}
        return DatagramTransportDiagnostics(
            stats=stats,
            queue_stats={
                "outgoing": {"size": queues["outgoing"], "max_size": bound, **outgoing},
                "incoming": {"size": queues["incoming"], "max_size": bound, **incoming},
            },
            is_closed=self.is_closed,
        )

    # --- sending ---

    async def send(self, data: Data, priority: int = 0, ttl: float | None = None) -> None:
        """Send a datagram.

        Returns at once: the datagram is queued. Only with `config.datagram_overflow = "wait"` it waits for room in a
        full queue, at most `ttl` seconds; cancelling that sends nothing. By default a full queue loses its oldest
        entry of priority 0.

        Args:
            data: at most `max_datagram_size` bytes; text is sent as UTF-8; empty is valid.
            priority: 0 to 2, others are clamped; 2 goes first.
            ttl: seconds after which it is not sent any more; None: no limit.

        Raises:
            TypeError: `data` is None or of another type.
            DatagramError: larger than `max_datagram_size` (then `datagram_size` and `max_size` are set, and it is a
                ValueError too), a full queue with nothing to evict, or the transport or session is closed.
        """
        if priority:
            priority = min(max(priority, 0), MAX_PRIORITY)
        status = self._core_send(data, priority, ttl)
        if status != SENT:
            if status == SENT_YIELD:
                await asyncio.sleep(0)
            else:
                await self._send_when_room(data, priority, ttl)

    async def try_send(self, data: Data, priority: int = 0, ttl: float | None = None) -> bool:
        """Send a datagram if that is possible now.

        Args:
            data: as in `send`.
            priority: as in `send`.
            ttl: as in `send`.

        Returns:
            False when the queue is full, the datagram is too large, or the transport is closed.

        Raises:
            TypeError: `data` is None or of another type.
            DatagramError: not initialized.
        """
        self._require_initialized()
        try:
            status = self._core_send(data, min(max(priority, 0), MAX_PRIORITY), ttl)
        except DatagramError as error:
            # The queue counts what it refuses; a size that can never fit does not reach it.
            self._drops += error.datagram_size is not None
            return False
        if status == NO_ROOM:
            self._drops += 1
        elif status == SENT_YIELD:
            await asyncio.sleep(0)
        return status != NO_ROOM

    async def send_multiple(self, datagrams: list[Data], priority: int = 0, ttl: float | None = None) -> int:
        """Send many datagrams; faster than as many calls of `send`.

        Waits as `send` does. Cancelling it keeps those sent that were accepted.

        Args:
            datagrams: as `data` in `send`, each.
            priority: as in `send`, for all.
            ttl: as in `send`, for all.

        Returns:
            The number accepted; it stops at the first that is refused.

        Raises:
            TypeError: one of them is None or of another type; nothing was sent.
            DatagramError: the transport or session is closed, or not initialized.
        """
        self._require_open()
        items = [item if type(item) is bytes else ensure_bytes(item) for item in datagrams]
        priority = min(max(priority, 0), MAX_PRIORITY)
        accepted = 0
        while items:
            try:
                count, status = self._endpoint.send_datagrams(items, priority, ttl)
                accepted += count
                if self._accepted is not None:
                    self._accepted.extend([get_timestamp()] * count)
                if status == SENT_YIELD:
                    await asyncio.sleep(0)
                if status != NO_ROOM:
                    break
                items = items[count:]
                await self._send_when_room(items[0], priority, ttl)
            except DatagramError:
                break
            accepted += 1
            items = items[1:]
        return accepted

    async def send_json(self, data: Any, priority: int = 0, ttl: float | None = None) -> None:
        """Send an object as compact JSON; see `send`.

        Raises:
            DatagramError: it is not JSON serializable, or as in `send`.
        """
        try:
            payload = json.dumps(data, separators=(",", ":")).encode()
        except (TypeError, ValueError) as error:
            raise DatagramError(f"Object of type {type(data).__name__} is not JSON serializable: {error}") from error
        await self.send(payload, priority, ttl)

    async def _send_when_room(self, data: Data, priority: int, ttl: float | None) -> None:
        """Wait for room and send."""

        def attempt(_ticket: int) -> int | None:
            status = self._core_send(data, priority, ttl)
            return status if status != NO_ROOM else None

        if await self._wait(0, self._endpoint.datagram_room(), attempt, ttl) is None:
            self._drops += 1
            raise DatagramError(f"Datagram expired after {ttl} s, before there was room for it")

    # --- receiving ---

    async def receive(self, timeout: float | None = None) -> bytes:
        """Return the next datagram.

        Waits while none is there; callers are served in the order of their calls. Cancelling it, or a timeout, loses
        nothing. After the end of the session what had arrived is still returned.

        Args:
            timeout: limit in seconds; None for none.

        Raises:
            TimeoutError: none arrived within the limit.
            DatagramError: the transport or the session is closed (`close_code` and `close_reason` say how).
        """
        data = self._core_receive()
        if data is None:
            data = await self._receive_later(self._core_receive_ticket, timeout)
        return data

    async def receive_multiple(self, max_count: int = 10, timeout: float | None = None) -> list[bytes]:
        """Return up to `max_count` datagrams: waits for the first as `receive`, takes the others only if they are here.

        Args:
            max_count: greatest number, at least 1.
            timeout: limit for the first, in seconds; None for none.

        Raises:
            ValueError: `max_count` is less than 1.
            TimeoutError: none arrived within the limit.
            DatagramError: as in `receive`.
        """
        if max_count < 1:
            raise ValueError(f"max_count must be at least 1, got {max_count}")
        self._require_usable()
        batch = self._endpoint.try_receive_datagrams(max_count)
        if batch is None:

            def attempt(ticket: int) -> list[bytes] | None:
                self._require_usable()
                return self._endpoint.try_receive_datagrams(max_count, ticket)

            batch = await self._receive_later(attempt, timeout)
        return batch

    async def receive_with_metadata(self, timeout: float | None = None) -> dict[str, Any]:
        """Return the next datagram as `{"data": …, "metadata": {…}}`; see `receive`.

        The metadata has size, timestamp, age, checksum, sequence, priority, ttl, is_expired and receive_time (seconds
        this call waited). Priority and TTL are not on the wire: they have their defaults.
        """
        self._require_usable()
        started = get_timestamp()
        entry = self._endpoint.try_receive_datagram_entry()
        if entry is None:

            def attempt(ticket: int) -> tuple[bytes, int, float] | None:
                self._require_usable()
                return self._endpoint.try_receive_datagram_entry(ticket)

            entry = await self._receive_later(attempt, timeout)
        data, sequence, arrived = entry
        message = DatagramMessage(data=data, timestamp=arrived, sequence=sequence)
        return {"data": data, "metadata": {**message.to_dict(), "receive_time": get_timestamp() - started}}

    async def receive_json(self, timeout: float | None = None) -> Any:
        """Return the next datagram, parsed as JSON; see `receive`.

        Raises:
            DatagramError: it is not JSON (it is taken from the queue and lost), or as in `receive`.
        """
        data = await self.receive(timeout)
        try:
            return json.loads(data)
        except ValueError as error:
            self._receive_errors += 1
            raise DatagramError(f"Received datagram is not valid JSON: {error}") from error

    async def try_receive(self) -> bytes | None:
        """Return a datagram that is here, or None: there is none, others wait for it, or the transport is closed.

        Raises:
            DatagramError: not initialized.
        """
        self._require_initialized()
        try:
            data = self._core_receive()
            if data is None and self._endpoint.datagram_queues()["incoming"]:
                await asyncio.sleep(0)  # many calls in a row did not suspend: the core asks to let others run
                data = self._core_receive()
            return data
        except DatagramError:
            return None

    def __aiter__(self) -> Self:
        """Return self: `async for datagram in session.datagrams`."""
        return self

    async def __anext__(self) -> bytes:
        """Return the next datagram; stop when the transport or the session is closed."""
        try:  # as `receive`, with two coroutines less
            data = self._core_receive()
            if data is None:
                available = self._endpoint.datagram_available()
                data = await self._wait(2, available, self._core_receive_ticket, None)
                assert data is not None, "a wait without a limit does not expire"
            return data
        except DatagramError as error:
            if self.is_closed:
                raise StopAsyncIteration from error
            raise

    async def receive_from_protocol(self, data: bytes) -> None:
        """Take in a datagram that arrived: for transports over a callable. The core feeds those of sessions.

        Raises:
            DatagramError: the transport belongs to a session.
        """
        if not isinstance(self._endpoint, StandaloneEndpoint):
            raise DatagramError("The datagrams of a session come from its connection")
        self._endpoint.feed(data)

    def _core_receive_ticket(self, ticket: int) -> bytes | None:
        return self._core_receive(ticket)

    async def _receive_later(self, attempt: Callable[[int], T | None], timeout: float | None) -> T:
        """Wait for a datagram."""

        value = await self._wait(2, self._endpoint.datagram_available(), attempt, timeout)
        if value is None:
            raise TimeoutError(
                f"No datagram within {timeout} s", timeout_duration=timeout, operation="datagram_receive"
            )
        return value

    async def _wait(
        self, index: int, readiness: Waitable, attempt: Callable[[int], T | None], limit: float | None
    ) -> T | None:
        """Do what `parked` does, in a way that `close` can end; None when the time is up. Count the time."""
        if limit is not None:
            readiness.limit(limit)
        self._parked.append(readiness)
        try:
            while True:
                await readiness
                value = attempt(readiness.ticket)
                if value is not None or readiness.expired:
                    return value
        finally:
            self._parked.remove(readiness)
            seconds = readiness.leave()
            waits = self._waits
            if waits is None:
                waits = self._waits = [0.0] * 4
            waits[index] += seconds
            if seconds > waits[index + 1]:
                waits[index + 1] = seconds

    # --- its end ---

    async def close(self) -> None:
        """Stop using datagrams: waiting receivers and senders end with DatagramError. The session goes on.

        Datagrams that were accepted are still sent. Idempotent, does not wait.
        """
        if self._is_closed:
            return
        self._is_closed = True
        self._core_send = self._core_receive = _closed
        if isinstance(self._endpoint, StandaloneEndpoint):
            self._endpoint.close()
        for readiness in self._parked:
            readiness.wake()
        await self.disable_heartbeat()

    def _session_ended(self) -> None:
        """Stop what runs by itself."""
        if self._heartbeat is not None:
            self._heartbeat.cancel()
            self._heartbeat = None

    # --- queues ---

    async def clear_receive_buffer(self) -> int:
        """Drop the datagrams that wait to be received; return how many. Raises DatagramError when not usable."""
        self._require_open()
        return self._endpoint.clear_datagrams(True)

    async def clear_send_buffer(self) -> int:
        """Drop the datagrams that wait to be sent; return how many. Raises DatagramError when not usable."""
        self._require_open()
        return self._endpoint.clear_datagrams(False)

    def get_receive_buffer_size(self) -> int:
        """Return how many datagrams wait to be received."""
        return self._endpoint.datagram_queues()["incoming"]

    def get_send_buffer_size(self) -> int:
        """Return how many datagrams wait to be sent."""
        return self._endpoint.datagram_queues()["outgoing"]

    # --- heartbeat ---

    def enable_heartbeat(self, interval: float = 30.0) -> None:
        """Send `HEARTBEAT:<unix seconds>` now and every `interval` seconds, as ordinary datagrams of priority 1.

        Raises:
            DatagramError: the transport is closed or not initialized.
        """
        self._require_open()
        if self._heartbeat is None or self._heartbeat.done():
            self._heartbeat = asyncio.get_running_loop().create_task(self._beat(interval))

    async def disable_heartbeat(self) -> None:
        """Stop the heartbeat."""
        task, self._heartbeat = self._heartbeat, None
        if task is not None and task is not asyncio.current_task():
            task.cancel()
            await asyncio.wait([task])

    async def _beat(self, interval: float) -> None:
        try:
            while True:
                await self.send(f"HEARTBEAT:{int(get_timestamp())}", priority=1)
                await asyncio.sleep(interval)
        except DatagramError:
            return  # closed

    # --- events ---

    def _state(self) -> Any:
        """Record single datagrams from the first listener on; free until then."""
        state = super()._state() if self._peek() is None else self._peek()
        if self._accepted is None:
            self._accepted = deque(maxlen=MAX_RECORDED)
            self._listen()
        return state

    def _listen(self) -> None:
        if self._accepted is not None and self._initialized and not self._is_closed:
            self._endpoint.record_events(True)
            self._core_send = self._send_noted

    def _send_noted(self, data: Data, priority: int, ttl: float | None) -> int:
        """Send, and note when, for `send_time`."""
        status = self._endpoint.send_datagram(data, priority, ttl)
        if status != NO_ROOM and self._accepted is not None:
            self._accepted.append(get_timestamp())
        return status

    def _emit_recorded(self) -> None:
        """Emit what the endpoint has recorded since the last call."""
        if self._accepted is None:
            return
        for kind, size, sequence, when in self._endpoint.take_events():
            if kind == "received":
                age = get_timestamp() - when
                info = {"size": size, "sequence": sequence, "age": age, "receive_time": age}
                self._emit_soon(EventType.DATAGRAM_RECEIVED, info)
                continue
            # Entries leave in the order of acceptance unless priorities differ, so this is close, not exact.
            accepted = self._accepted.popleft() if self._accepted else when
            if kind == "sent":
                info = {"size": size, "sequence": sequence, "send_time": max(0.0, when - accepted)}
                self._emit_soon(EventType.DATAGRAM_SENT, info)
            else:
                self._emit_soon(EventType.DATAGRAM_ERROR, {"size": size, "sequence": sequence, "reason": kind})

    # --- checks ---

    def _require_initialized(self) -> None:
        if not self._initialized and not self._is_closed:
            _uninitialized()

    def _require_usable(self) -> None:
        """Raise unless initialized and not closed by `close`; the end of the session is for the core to tell."""
        self._require_initialized()
        if self._is_closed:
            _closed()

    def _require_open(self) -> None:
        """Raise unless initialized and open, session included."""
        self._require_initialized()
        if self.is_closed:
            _closed()

    def __str__(self) -> str:
        """Return session and state for logs."""
        state = "closed" if self.is_closed else "open"
        return f"WebTransportDatagramTransport(session={self._session_id}, {state})"


def _uninitialized(*_args: Any) -> NoReturn:
    """Stand in for the operations of a transport that was not initialized."""
    raise DatagramError("Datagram transport is not initialized")


def _closed(*_args: Any) -> NoReturn:
    """Stand in for the operations of a closed transport."""
    raise DatagramError("Datagram transport is closed")


MAX_PRIORITY = 2
MAX_RECORDED = 10_000  # times of acceptance kept for `send_time`: 80 kB
