"""Events: who is called, in which order, and what an unused emitter costs."""

from __future__ import annotations

import asyncio
import functools
import logging
import uuid
from typing import Any

import pytest

from pywebtransport.events import MAX_QUEUED_EVENTS, Event, EventEmitter
from pywebtransport.exceptions import StreamError, WebTransportError
from pywebtransport.types import EventType

READY = EventType.SESSION_READY
CLOSED = EventType.SESSION_CLOSED


class Recorder:
    """A handler that remembers the data it was called with."""

    def __init__(self) -> None:
        self.data: list[Any] = []

    def __call__(self, event: Event) -> None:
        self.data.append(event.data)


# --- Event ---


def test_matching_string_becomes_an_event_type() -> None:
    assert Event(type="session_ready").type is READY


def test_unknown_string_stays_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert Event(type="lunch").type == "lunch"
    assert "lunch" in caplog.text


def test_event_knows_its_family_by_prefix() -> None:
    event = Event(type=EventType.STREAM_ERROR)
    assert event.is_stream_event and event.is_error_event
    assert not (event.is_connection_event or event.is_datagram_event or event.is_session_event)


def test_event_as_dictionary() -> None:
    event = Event.for_session(READY, {"session_id": "s"})
    assert event.to_dict() == {
        "id": event.event_id,
        "type": "session_ready",
        "timestamp": event.timestamp,
        "data": {"session_id": "s"},
        "source": None,
    }
    assert str(uuid.UUID(event.event_id)) == event.event_id
    assert uuid.UUID(event.event_id).version == 4


def test_event_for_error_carries_the_details_of_library_errors() -> None:
    data = Event.for_error(StreamError("broken", stream_id=4), source="me").data
    assert data["error_type"] == "StreamError" and data["error_details"]["stream_id"] == 4
    assert Event.for_error(KeyError("k")).data["error_details"] == {}


# --- registering ---


def test_registering_needs_no_event_loop() -> None:
    emitter, handler = EventEmitter(), Recorder()
    emitter.on(READY, handler)
    emitter.once(CLOSED, handler)
    emitter.on_any(handler)
    emitter.pause()
    assert emitter.resume() is None
    assert emitter.listener_count(READY) == 1 and emitter.listeners(CLOSED) == [handler]
    emitter.remove_all_listeners()
    assert emitter.get_stats() == {
        "total_handlers": 0,
        "total_once_handlers": 0,
        "wildcard_handlers": 0,
        "event_types": 0,
        "history_size": 0,
        "queued_events": 0,
        "paused": False,
    }


def test_second_registration_of_a_handler_is_ignored() -> None:
    emitter, handler = EventEmitter(), Recorder()
    emitter.on(READY, handler)
    emitter.on("session_ready", handler)
    emitter.once(CLOSED, handler)
    emitter.once(CLOSED, handler)
    emitter.on_any(handler)
    emitter.on_any(handler)
    stats = emitter.get_stats()
    assert (stats["total_handlers"], stats["total_once_handlers"], stats["wildcard_handlers"]) == (1, 1, 1)


def test_too_many_listeners_are_logged_and_registered(caplog: pytest.LogCaptureFixture) -> None:
    emitter = EventEmitter("ignored", max_listeners=1)
    emitter.on(READY, Recorder())
    emitter.on(READY, Recorder())
    assert "Maximum listeners" in caplog.text and emitter.listener_count(READY) == 2


async def test_off_removes_one_handler_or_all() -> None:
    emitter, first, second = EventEmitter(), Recorder(), Recorder()
    for handler in (first, second):
        emitter.on(READY, handler)
        emitter.once(READY, handler)
        emitter.on_any(handler)
    emitter.off(READY, first)
    emitter.off_any(first)
    emitter.off(CLOSED, first)
    await emitter.emit(READY, 1)
    assert first.data == [] and second.data == [1, 1, 1]
    emitter.off(READY)
    emitter.off_any()
    await emitter.emit(READY, 2)
    assert second.data == [1, 1, 1]


# --- emitting ---


async def test_handlers_are_called_in_order_and_coroutines_are_awaited() -> None:
    emitter, calls = EventEmitter(), list[str]()

    async def slow(event: Event) -> None:
        await asyncio.sleep(0)
        calls.append("slow")

    async def tagged(tag: str, event: Event) -> None:
        calls.append(tag)

    emitter.on_any(functools.partial(tagged, "any"))
    emitter.once(READY, functools.partial(tagged, "once"))
    emitter.on(READY, slow)
    emitter.on(READY, lambda event: calls.append("last"))
    await emitter.emit(READY)
    assert calls == ["slow", "last", "once", "any"]


async def test_failing_handler_is_logged_and_the_others_run(caplog: pytest.LogCaptureFixture) -> None:
    emitter, handler = EventEmitter(), Recorder()

    def fail(event: Event) -> None:
        raise RuntimeError("handler is broken")

    emitter.on(READY, fail)
    emitter.on(READY, handler)
    with caplog.at_level(logging.ERROR):
        await emitter.emit(READY, "x")
    assert handler.data == ["x"] and "handler is broken" in caplog.text


async def test_once_handler_that_emits_again_is_not_called_twice() -> None:
    emitter, count = EventEmitter(), list[int]()

    async def again(event: Event) -> None:
        count.append(1)
        await emitter.emit(READY)

    emitter.once(READY, again)
    await emitter.emit(READY)
    assert count == [1]


async def test_handler_may_remove_itself_while_it_runs() -> None:
    emitter, other = EventEmitter(), Recorder()

    def leave(event: Event) -> None:
        emitter.off(READY, leave)

    emitter.on(READY, leave)
    emitter.on(READY, other)
    await emitter.emit(READY, 1)
    assert other.data == [1] and emitter.listener_count(READY) == 1


# --- pausing ---


async def test_paused_events_come_after_resume_in_order() -> None:
    emitter, handler = EventEmitter(), Recorder()
    emitter.on(READY, handler)
    emitter.pause()
    for number in range(3):
        await emitter.emit(READY, number)
    assert handler.data == [] and emitter.get_stats()["queued_events"] == 3
    task = emitter.resume()
    assert task is not None
    await task
    assert handler.data == [0, 1, 2]


async def test_event_emitted_right_after_resume_does_not_overtake() -> None:
    emitter, handler = EventEmitter(), Recorder()
    emitter.on(READY, handler)
    emitter.pause()
    await emitter.emit(READY, "early")
    emitter.resume()
    await emitter.emit(READY, "late")
    assert handler.data == ["early", "late"]


async def test_pause_queue_is_bounded() -> None:
    emitter = EventEmitter()
    emitter.pause()
    for number in range(MAX_QUEUED_EVENTS + 1):
        await emitter.emit(READY, number)
    assert emitter.get_stats()["queued_events"] == MAX_QUEUED_EVENTS


# --- waiting ---


async def test_wait_for_returns_the_first_event_that_satisfies_the_condition() -> None:
    emitter = EventEmitter()
    waiting = asyncio.create_task(emitter.wait_for(READY, timeout=5, condition=lambda event: event.data > 1))
    await asyncio.sleep(0)
    for number in range(4):
        await emitter.emit(READY, number)
    assert (await waiting).data == 2


async def test_wait_for_gives_up_with_the_builtin_timeout() -> None:
    emitter = EventEmitter()
    with pytest.raises(TimeoutError):
        await emitter.wait_for(READY, timeout=0.001)
    assert not emitter._wants(READY)


async def test_wait_for_ends_with_the_error_of_its_condition() -> None:
    emitter = EventEmitter()
    waiting = asyncio.create_task(emitter.wait_for(READY, condition=lambda event: 1 / 0 > 1))
    await asyncio.sleep(0)
    await emitter.emit(READY)
    with pytest.raises(ZeroDivisionError):
        await waiting


async def test_closing_ends_every_wait_and_keeps_the_history() -> None:
    emitter, handler = EventEmitter(), Recorder()
    emitter.on(READY, handler)
    await emitter.emit(READY, 1)
    waiting = [asyncio.create_task(emitter.wait_for(kind)) for kind in (READY, READY, CLOSED)]
    await asyncio.sleep(0)
    await emitter.close()
    for task in waiting:
        with pytest.raises(WebTransportError, match="closed while waiting"):
            await task
    await emitter.emit(READY, 2)
    assert handler.data == [1]
    assert [event.data for event in emitter.get_event_history()] == [1, 2]


async def test_cancelled_wait_leaves_nothing_behind() -> None:
    emitter = EventEmitter()
    waiting = asyncio.create_task(emitter.wait_for(READY))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not emitter._wants(READY)


async def test_closing_from_a_replayed_handler_does_not_hang() -> None:
    emitter = EventEmitter()

    async def close(event: Event) -> None:
        await emitter.close()

    emitter.on(READY, close)
    emitter.pause()
    await emitter.emit(READY)
    task = emitter.resume()
    assert task is not None
    await asyncio.wait_for(task, 5)


# --- history ---


async def test_history_keeps_the_last_thousand() -> None:
    emitter = EventEmitter()
    for number in range(1005):
        await emitter.emit(READY, number)
    await emitter.emit(CLOSED, "end")
    assert emitter.get_stats()["history_size"] == 1000
    assert [event.data for event in emitter.get_event_history(limit=2)] == [1004, "end"]
    assert [event.data for event in emitter.get_event_history("session_closed")] == ["end"]
    assert emitter.get_event_history(limit=0) == []
    emitter.clear_history()
    assert emitter.get_event_history() == []


# --- cheapness ---


def test_unused_emitter_has_no_state_and_wants_nothing() -> None:
    emitter = EventEmitter()
    assert not emitter._wants(READY)
    emitter.off(READY)
    emitter.off_any()
    emitter.remove_all_listeners()
    emitter.clear_history()
    assert emitter.listeners(READY) == [] and emitter.get_event_history() == []
    assert emitter._peek() is None


async def test_emitter_wants_what_somebody_would_notice() -> None:
    emitter, handler = EventEmitter(), Recorder()
    emitter.on(READY, handler)
    assert emitter._wants(READY) and not emitter._wants(CLOSED)
    emitter.off(READY, handler)
    assert not emitter._wants(READY)
    emitter.once(READY, handler)
    assert emitter._wants(READY)
    await emitter.emit(READY)
    assert not emitter._wants(READY)
    emitter.on_any(handler)
    assert emitter._wants(CLOSED)
    emitter.off_any()
    emitter.pause()
    assert emitter._wants(CLOSED)


def test_subclass_with_slots_has_no_dictionary_and_may_skip_the_constructor() -> None:
    class Slotted(EventEmitter):
        __slots__ = ("number",)

        def __init__(self) -> None:
            self.number = 1

    thing = Slotted()
    assert not hasattr(thing, "__dict__")
    thing.on(READY, Recorder())
    assert thing._wants(READY)


def test_diamond_of_emitters_keeps_its_listeners_when_both_constructors_run() -> None:
    class Left(EventEmitter):
        pass

    class Right(EventEmitter):
        pass

    class Both(Left, Right):
        def __init__(self) -> None:
            Left.__init__(self)
            self.on(READY, print)
            Right.__init__(self)

    assert Both().listener_count(READY) == 1


async def test_emit_soon_does_not_wait_for_a_slow_handler() -> None:
    emitter, gate, seen = EventEmitter(), asyncio.Event(), list[Any]()

    async def slow(event: Event) -> None:
        await gate.wait()
        seen.append(event.data)

    emitter.on(READY, slow)
    emitter._emit_soon(READY, 1)
    emitter._emit_soon(READY, 2)
    assert seen == []
    gate.set()
    while len(seen) < 2:
        await asyncio.sleep(0)
    assert seen == [1, 2]
    assert [event.data for event in emitter.get_event_history()] == [1, 2]


async def test_emit_soon_without_listeners_starts_no_task() -> None:
    emitter = EventEmitter()
    emitter._emit_soon(READY, 1)
    assert len(asyncio.all_tasks()) == 1 and emitter.get_stats()["queued_events"] == 0


def test_an_event_in_the_last_turn_of_a_loop_leaves_no_task_behind() -> None:
    emitter, handler = EventEmitter(), Recorder()
    emitter.on(READY, handler)

    async def emit_until_the_loop_is_closed() -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()

        def emit() -> None:
            emitter._emit_soon(READY)
            loop.call_soon(emit)

        emit()
        return loop

    loop = asyncio.run(emit_until_the_loop_is_closed())
    assert handler.data and not asyncio.all_tasks(loop)


async def test_emit_soon_goes_on_after_handlers_of_every_kind() -> None:
    emitter, seen = EventEmitter(), list[str]()

    async def waits(event: Event) -> None:
        await asyncio.sleep(0)
        seen.append(f"waits {event.data}")

    async def fails(event: Event) -> None:
        raise RuntimeError(event.data)

    def refuses(event: Event) -> None:
        raise RuntimeError(event.data)

    for handler in (refuses, lambda event: seen.append(f"first {event.data}"), waits, fails):
        emitter.on(READY, handler)
    emitter.once(READY, lambda event: seen.append(f"once {event.data}"))
    emitter.on_any(lambda event: seen.append(f"any {event.data}"))
    emitter._emit_soon(READY, 1)
    emitter._emit_soon(READY, 2)
    while not seen or seen[-1] != "any 2":
        await asyncio.sleep(0)
    assert seen == ["first 1", "waits 1", "once 1", "any 1", "first 2", "waits 2", "any 2"]


def test_emit_soon_without_a_loop_waits_for_the_next_emit() -> None:
    emitter, handler = EventEmitter(), Recorder()
    emitter.on(READY, handler)
    emitter._emit_soon(READY, "queued")
    assert handler.data == []
    asyncio.run(emitter.emit(READY, "now"))
    assert handler.data == ["queued", "now"]
