"""Events: the `Event` record and the `EventEmitter` that connections, sessions, streams and transports are.

How it works
    An emitter has two slots, for who listens and for the history, that are None (or unset, when a subclass skips
    `__init__`) until they are needed. Ten thousand streams that nobody listens to cost twenty thousand pointers.

    The library emits in two ways. What happens once in the life of a session or connection goes through `emit()` and
    is in the history of the emitter. What happens per packet or per stream is emitted only `if self._wants(type)`:
    without a listener no event object is built, and the history does not grow.

    `emit()` runs the handlers before it returns. Code that must not wait for a slow handler uses `_emit_soon()`, which
    queues the event for the loop's next turn. What was queued, by it or by `pause()`, is handled before later events.
    Of an event that nobody hears the history gets a record, which becomes an `Event` when it is read; `_note()` leaves
    making its data to that moment as well.

Rules for subclasses
    `__slots__` is supported. A class that mixes this one with another base that has non-empty slots cannot be laid
    out by CPython: derive that base from EventEmitter, or give it `__slots__ = ()`.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Self

from pywebtransport.exceptions import WebTransportError
from pywebtransport.types import EventData, EventType, Timeout
from pywebtransport.utils import get_logger, get_timestamp, random_uuid

__all__: list[str] = ["Event", "EventEmitter", "EventHandler"]

logger = get_logger(__name__)


@dataclass(kw_only=True)
class Event:
    """Something that happened.

    Attributes:
        type: an `EventType`; a string that names one becomes it, any other string stays, with a warning in the log.
        timestamp: seconds since the epoch.
        data: what belongs to the event, usually a dictionary.
        source: the object that emitted it.
        event_id: a random UUID.
    """

    type: EventType | str
    timestamp: float = field(default_factory=get_timestamp)
    data: EventData = None
    source: Any = None
    event_id: str = field(default_factory=random_uuid)

    def __post_init__(self) -> None:
        """Turn a matching string into its EventType."""
        if isinstance(self.type, EventType):
            return
        try:
            self.type = EventType(self.type)
        except ValueError:
            logger.warning("Unknown event type string: '%s'", self.type)

    @classmethod
    def for_connection(cls, event_type: EventType, connection_info: dict[str, Any]) -> Self:
        """Make an event about a connection."""
        return cls(type=event_type, data=connection_info)

    @classmethod
    def for_datagram(cls, event_type: EventType, datagram_info: dict[str, Any]) -> Self:
        """Make an event about a datagram."""
        return cls(type=event_type, data=datagram_info)

    @classmethod
    def for_error(cls, error: Exception, source: Any = None) -> Self:
        """Make a PROTOCOL_ERROR event with keys error_type, error_message and error_details (its `to_dict()`)."""
        to_dict = getattr(error, "to_dict", None)
        data = {
            "error_type": type(error).__name__,
            "error_message": str(error),
            "error_details": to_dict() if callable(to_dict) else {},
        }
        return cls(type=EventType.PROTOCOL_ERROR, data=data, source=source)

    @classmethod
    def for_session(cls, event_type: EventType, session_info: dict[str, Any]) -> Self:
        """Make an event about a session."""
        return cls(type=event_type, data=session_info)

    @classmethod
    def for_stream(cls, event_type: EventType, stream_info: dict[str, Any]) -> Self:
        """Make an event about a stream."""
        return cls(type=event_type, data=stream_info)

    @property
    def is_connection_event(self) -> bool:
        """Whether the type starts with `connection_`."""
        return self.type.startswith("connection_")

    @property
    def is_datagram_event(self) -> bool:
        """Whether the type starts with `datagram_`."""
        return self.type.startswith("datagram_")

    @property
    def is_error_event(self) -> bool:
        """Whether the type contains `error`."""
        return "error" in self.type.lower()

    @property
    def is_session_event(self) -> bool:
        """Whether the type starts with `session_`."""
        return self.type.startswith("session_")

    @property
    def is_stream_event(self) -> bool:
        """Whether the type starts with `stream_`."""
        return self.type.startswith("stream_")

    def to_dict(self) -> dict[str, Any]:
        """Return id, type, timestamp, data and source (as text, or None)."""
        return {
            "id": self.event_id,
            "type": self.type,
            "timestamp": self.timestamp,
            "data": self.data,
            "source": None if self.source is None else str(self.source),
        }

    def __repr__(self) -> str:
        """Return type, id and time; the data may be large and is left out."""
        return f"Event(type={self.type}, id={self.event_id}, timestamp={self.timestamp})"

    def __str__(self) -> str:
        """Return type and the beginning of the id."""
        return f"Event({self.type}, {self.event_id[:8]})"


EventHandler = Callable[[Event], Awaitable[None] | None]
_Note = tuple[Any, ...]  # an event that nobody has heard: type, time, source, what returns the data, its arguments


class _Waiter:
    """One pending `wait_for`."""

    __slots__ = ("condition", "future")

    def __init__(self, future: asyncio.Future[Event], condition: Callable[[Event], bool] | None) -> None:
        self.future = future
        self.condition = condition

    def offer(self, event: Event) -> None:
        if self.future.done():
            return
        try:
            if self.condition is None or self.condition(event):
                self.future.set_result(event)
        except Exception as error:
            self.future.set_exception(error)


class _State:
    """What an emitter needs once somebody listens."""

    __slots__ = ("handlers", "max_listeners", "once", "paused", "queue", "task", "waiters", "wildcard")

    def __init__(self) -> None:
        self.handlers: dict[str, list[EventHandler]] = {}
        self.once: dict[str, list[EventHandler]] = {}
        self.wildcard: list[EventHandler] = []
        self.waiters: dict[str, list[_Waiter]] = {}
        self.queue: deque[Event] | None = None  # an empty one takes 760 bytes
        self.task: asyncio.Task[None] | None = None
        self.paused = False
        self.max_listeners = DEFAULT_MAX_LISTENERS

    def wants(self, event_type: str) -> bool:
        return bool(
            (self.handlers and self.handlers.get(event_type))
            or (self.once and self.once.get(event_type))
            or self.wildcard
            or (self.waiters and self.waiters.get(event_type))
            or self.paused
        )

    def is_handling(self) -> bool:
        return self.task is not None and not self.task.done()

    def hearers(self, event: Event) -> Iterator[EventHandler]:
        """Wake the waiters and return the handlers to call: permanent, once, wildcard."""
        for waiter in self.waiters.get(event.type, ()):
            waiter.offer(event)
        once = self.once.pop(event.type, ())
        return iter([*self.handlers.get(event.type, ()), *once, *self.wildcard])

    def enqueue(self, event: Event) -> None:
        if self.queue is None:
            self.queue = deque(maxlen=MAX_QUEUED_EVENTS)
        if len(self.queue) == MAX_QUEUED_EVENTS:
            logger.warning("Event queue is full (%d), dropping the oldest event", MAX_QUEUED_EVENTS)
        self.queue.append(event)


class EventEmitter:
    """Calls the handlers registered for an event.

    Registering and querying need no running event loop; `emit`, `wait_for` and `close` are coroutines. An emitter
    belongs to the event loop that uses it and is not safe to share between threads.
    """

    __slots__ = ("__weakref__", "_emitter", "_history")

    _emitter: _State | None
    _history: list[Event | _Note] | None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Read `max_listeners` (default 100), beyond which registering logs a warning; ignore everything else."""
        if self._peek() is None:  # a diamond of emitters runs this twice
            self._emitter = self._history = None  # found faster than a slot that is unset
        if "max_listeners" in kwargs:
            self._state().max_listeners = kwargs["max_listeners"]

    # --- registering ---

    def on(self, event_type: EventType | str, handler: EventHandler) -> None:
        """Call `handler(event)` for every event of this type; registering it twice has no effect.

        Coroutine functions are awaited inside `emit`, one after another. Exceptions of a handler are logged.
        """
        state = self._state()
        handlers = state.handlers.setdefault(event_type, [])
        if handler in handlers:
            logger.warning("Handler already registered for event %s", event_type)
            return
        if len(handlers) >= state.max_listeners:
            logger.warning("Maximum listeners (%d) exceeded for event %s", state.max_listeners, event_type)
        handlers.append(handler)

    def once(self, event_type: EventType | str, handler: EventHandler) -> None:
        """Call `handler(event)` for the next event of this type only."""
        handlers = self._state().once.setdefault(event_type, [])
        if handler not in handlers:
            handlers.append(handler)

    def on_any(self, handler: EventHandler) -> None:
        """Call `handler(event)` for every event of any type."""
        wildcard = self._state().wildcard
        if handler not in wildcard:
            wildcard.append(handler)

    def off(self, event_type: EventType | str, handler: EventHandler | None = None) -> None:
        """Remove `handler`, or all handlers, from this type; an unknown one is ignored."""
        state = self._peek()
        if state is None:
            return
        for table in (state.handlers, state.once):
            if handler is None:
                table.pop(event_type, None)
            elif handler in (handlers := table.get(event_type, ())):
                handlers.remove(handler)  # type: ignore[union-attr]  # the empty tuple holds no handler

    def off_any(self, handler: EventHandler | None = None) -> None:
        """Remove `handler`, or all handlers, registered with `on_any`."""
        state = self._peek()
        if state is None:
            return
        if handler is None:
            state.wildcard.clear()
        elif handler in state.wildcard:
            state.wildcard.remove(handler)

    def remove_all_listeners(self, event_type: EventType | str | None = None) -> None:
        """Remove all handlers of this type, or all handlers at all. Pending `wait_for` calls go on waiting."""
        state = self._peek()
        if state is None:
            return
        if event_type is not None:
            self.off(event_type)
            return
        state.handlers.clear()
        state.once.clear()
        state.wildcard.clear()

    def set_max_listeners(self, max_listeners: int) -> None:
        """Set the number of handlers per type beyond which registering logs a warning."""
        self._state().max_listeners = max_listeners

    # --- emitting ---

    async def emit(self, event_type: EventType | str, data: EventData | None = None, source: Any = None) -> None:
        """Record the event and call everybody who listens.

        Waits until every coroutine handler has finished; while paused it only queues. Cancelling it skips the
        handlers not yet called.

        Args:
            event_type: what happened.
            data: what belongs to it.
            source: who emitted it.
        """
        state = self._peek()
        if isinstance(event_type, EventType) and not self._wants(event_type) and (state is None or not state.queue):
            self._remember((event_type, get_timestamp(), source, _as_given, data))
            return
        event = Event(type=event_type, data=data, source=source)
        self._remember(event)
        if state is None:
            return
        if state.paused:
            state.enqueue(event)
            return
        await self._handle_queue(state)  # what was queued earlier comes first, also when a task is at it
        await _handle(event, state.hearers(event))

    def pause(self) -> None:
        """Queue events instead of handling them; at most 10 000, then the oldest go."""
        self._state().paused = True

    def resume(self) -> asyncio.Task[None] | None:
        """Handle events again; return the task that replays the queued ones, or None when there are none.

        Without a running event loop the queued events wait for the next `emit()`.
        """
        state = self._peek()
        if state is None:
            return None
        state.paused = False
        return self._start_task(state)

    async def wait_for(
        self,
        event_type: EventType | str,
        timeout: Timeout | None = None,
        condition: Callable[[Event], bool] | None = None,
    ) -> Event:
        """Wait for the next event of this type and return it.

        Only events emitted after the call count. Cancelling it loses nothing: other listeners are not affected.

        Args:
            event_type: what to wait for.
            timeout: limit in seconds; None for none.
            condition: the event must also satisfy this; an exception in it ends the waiting.

        Raises:
            builtins.TimeoutError: the limit passed.
            WebTransportError: the emitter was closed.
        """
        waiters = self._state().waiters
        waiter = _Waiter(asyncio.get_running_loop().create_future(), condition)
        waiters.setdefault(event_type, []).append(waiter)
        try:
            return await asyncio.wait_for(waiter.future, timeout)
        finally:
            waiting = waiters.get(event_type, [])
            if waiter in waiting:
                waiting.remove(waiter)
            if not waiting:
                waiters.pop(event_type, None)

    async def close(self) -> None:
        """Stop a replay, end every pending `wait_for` and remove all listeners. The history stays."""
        state = self._peek()
        if state is None:
            return
        task, state.task = state.task, None
        if task is not None and not task.done() and task is not asyncio.current_task():
            task.cancel()
            if task.get_loop() is asyncio.get_running_loop():
                await asyncio.wait([task])
        for event_type, waiters in list(state.waiters.items()):
            for waiter in waiters:
                if not waiter.future.done():
                    error = WebTransportError(f"Emitter closed while waiting for event '{event_type}'")
                    waiter.future.set_exception(error)
        self.remove_all_listeners()

    # --- looking ---

    def listeners(self, event_type: EventType | str) -> list[EventHandler]:
        """Return the handlers of this type, permanent ones first."""
        state = self._peek()
        if state is None:
            return []
        return [*state.handlers.get(event_type, ()), *state.once.get(event_type, ())]

    def listener_count(self, event_type: EventType | str) -> int:
        """Return the number of handlers of this type, without those of `on_any`."""
        return len(self.listeners(event_type))

    def get_event_history(self, event_type: EventType | str | None = None, limit: int = 100) -> list[Event]:
        """Return the newest `limit` events, of one type or of all, oldest first. The last 1000 are kept."""
        history = getattr(self, "_history", None)
        if history is None or limit <= 0:
            return []
        # In place: an event has the same id whenever it is looked at.
        history[:] = [entry if isinstance(entry, Event) else self._event_of(entry) for entry in history]
        events = [event for event in history if event_type is None or event.type == event_type]
        return events[-limit:]

    def clear_history(self) -> None:
        """Forget the recorded events."""
        self._history = None

    def get_stats(self) -> dict[str, Any]:
        """Return counts of handlers, recorded and queued events, and whether the emitter is paused.

        Keys: total_handlers, total_once_handlers, wildcard_handlers, event_types (types that have permanent handlers),
        history_size, queued_events, paused.
        """
        state = self._peek() or _State()
        return {
            "total_handlers": sum(map(len, state.handlers.values())),
            "total_once_handlers": sum(map(len, state.once.values())),
            "wildcard_handlers": len(state.wildcard),
            "event_types": sum(1 for handlers in state.handlers.values() if handlers),
            "history_size": len(getattr(self, "_history", None) or ()),
            "queued_events": len(state.queue or ()),
            "paused": state.paused,
        }

    # --- for the library ---

    def _wants(self, event_type: EventType) -> bool:
        """Tell whether anybody would notice the event; ask before building data for events per packet or stream."""
        try:
            state = self._emitter
        except AttributeError:  # the constructor was skipped
            return False
        return state is not None and state.wants(event_type)

    def _emit_soon(
        self,
        event_type: EventType,
        data: EventData | None = None,
        source: Any = None,
        *,
        remembered: dict[str, Any] | None = None,
    ) -> None:
        """Record the event and handle it in the event loop's next turn, so that no handler holds up the caller.

        Events keep their order. Without a running event loop they wait for the next `emit()`. The history holds the
        event with the data `remembered`, if they are given: those may shrink later.
        """
        state = self._peek()
        if state is None or not state.wants(event_type):
            self._remember((event_type, get_timestamp(), source, _as_given, data if remembered is None else remembered))
            return
        event = Event(type=event_type, data=data, source=source)
        self._remember(event if remembered is None else replace(event, data=remembered))
        state.enqueue(event)
        if not state.paused:
            with contextlib.suppress(RuntimeError):  # no running event loop
                asyncio.get_running_loop().call_soon(self._handle_soon, state)

    def _note(self, event_type: EventType, data_of: Callable[..., EventData], *args: Any) -> None:
        """Do the same with the data that `data_of(self, *args)` returns, now or when the history is read."""
        if self._wants(event_type):
            self._emit_soon(event_type, data_of(self, *args))
        else:
            self._remember((event_type, get_timestamp(), None, data_of, *args))

    def _event_of(self, note: _Note) -> Event:
        event_type, timestamp, source, data_of, *args = note
        return Event(type=event_type, timestamp=timestamp, data=data_of(self, *args), source=source)

    def _remember(self, entry: Event | _Note) -> None:
        history = getattr(self, "_history", None)
        if history is None:
            self._history = [entry]  # most have one or two
            return
        history.append(entry)
        if len(history) > MAX_HISTORY:
            del history[0]

    def _peek(self) -> _State | None:
        """Return the state, or None when nobody used this emitter yet."""
        return getattr(self, "_emitter", None)

    def _state(self) -> _State:
        """Return the state, made on first use."""
        state = self._peek()
        if state is None:
            state = self._emitter = _State()
        return state

    def _start_task(self, state: _State) -> asyncio.Task[None] | None:
        """Replay the queue in a task, when there is something to replay and nobody does it yet."""
        if not state.queue or state.is_handling():
            return None
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return None
        state.task = loop.create_task(self._handle_queue(state))
        return state.task

    async def _handle_queue(self, state: _State) -> None:
        while state.queue and not state.paused:
            event = state.queue.popleft()
            await _handle(event, state.hearers(event))

    def _handle_soon(self, state: _State) -> None:
        """Do as `_handle_queue`, with a task only from the first handler on that has to wait.

        An event may come when `asyncio.run` has cancelled the tasks it knows: one made then is never run, and Python
        complains about it.
        """
        while state.queue and not state.paused and not state.is_handling():
            event = state.queue.popleft()
            hearers = state.hearers(event)
            for handler in hearers:
                pending = _call(handler, event)
                if pending is not None:
                    rest = self._handle_rest(state, event, pending, hearers)
                    state.task = asyncio.get_running_loop().create_task(rest)
                    return

    async def _handle_rest(
        self, state: _State, event: Event, pending: Awaitable[None], hearers: Iterator[EventHandler]
    ) -> None:
        await _finish(pending, event)
        await _handle(event, hearers)
        await self._handle_queue(state)


async def _handle(event: Event, hearers: Iterator[EventHandler]) -> None:
    for handler in hearers:
        pending = _call(handler, event)
        if pending is not None:
            await _finish(pending, event)


def _call(handler: EventHandler, event: Event) -> Awaitable[None] | None:
    """Call a handler; return what is left to await."""
    try:
        result = handler(event)
    except Exception as error:
        _log(error, event)
        return None
    return result if inspect.isawaitable(result) else None


async def _finish(pending: Awaitable[None], event: Event) -> None:
    try:
        await pending
    except Exception as error:
        _log(error, event)


def _log(error: Exception, event: Event) -> None:
    logger.error("Error in handler for event %s: %s", event.type, error, exc_info=error)


def _as_given(_emitter: EventEmitter, data: EventData) -> EventData:
    return data


DEFAULT_MAX_LISTENERS = 100
MAX_HISTORY = 1000
MAX_QUEUED_EVENTS = 10_000  # about 1 kB each with a small dictionary: 10 MB while paused
