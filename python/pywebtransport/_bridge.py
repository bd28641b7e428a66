"""Where asyncio and the Rust core meet: the bridge of each event loop, and the one way to wait.

Rules
    The core never calls into Python from another thread. It rings a file descriptor; the event loop reads it and calls
    `Bridge.on_wake`, which resolves the parked futures. One descriptor serves everything on the loop.

    Every operation is first tried synchronously. Only when the core has nothing, the caller awaits a *readiness*
    (`_core.Readiness`, mostly through `parked()`) and tries again. The await carries no data, so a cancelled or late
    wait loses nothing: what arrived is still in the core for the next caller.

Life and death
    A bridge belongs to the loop that was running when it was made. The registry below keeps it as long as the loop
    lives. A bridge refers to its loop, so a closed loop stays until the next bridge is made; only one can ever wait.
    A forked child starts with an empty registry: the parent's bridges are kept, untouched and unused, because closing
    them would disturb the parent's descriptors; objects of the parent raise RuntimeError in the child.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import socket
import threading
import weakref
from collections.abc import Callable, Generator
from types import MethodType
from typing import Protocol, TypeVar

from pywebtransport import _core
from pywebtransport.utils import get_logger

__all__: list[str] = [
    "ACCEPTED_IN_A_ROW",
    "Waitable",
    "WeakCallback",
    "current_bridge",
    "finished",
    "never_expires",
    "parked",
]

T = TypeVar("T")

logger = get_logger(__name__)


class Waitable(Protocol):
    """What `parked` needs of a readiness; `_core.Readiness` is the usual one."""

    @property
    def ticket(self) -> int:
        """The place in the queue, from the first await on; 0 before."""
        ...

    @property
    def expired(self) -> bool:
        """Whether the limit is over."""
        ...

    def limit(self, seconds: float) -> None:
        """End the wait so long after its first await. Set before it."""
        ...

    def __await__(self) -> Generator[asyncio.Future[None]]:
        """Suspend until the condition may hold, or the wait is over."""
        ...

    def wake(self) -> None:
        """End the current await."""
        ...

    def leave(self) -> float:
        """Give the place up; the next waiter is woken in turn. Return the seconds since the first await."""
        ...


def current_bridge() -> _core.Bridge:
    """Return the bridge of the running event loop, made on first use. Raises RuntimeError outside a loop."""
    loop = asyncio.get_running_loop()
    entry: tuple[weakref.ref[asyncio.AbstractEventLoop], _core.Bridge] | None = getattr(_local, "entry", None)
    if entry is not None and entry[0]() is loop:
        return entry[1]
    with _lock:
        bridge = _bridges.get(loop)
        if bridge is None:
            _drop_closed_loops()
            bridge = _bridges[loop] = _make(loop)
    _local.entry = (weakref.ref(loop), bridge)
    return bridge


async def parked(
    readiness: Waitable,
    attempt: Callable[[int], T | None],
    timeout: float | None,
    expired: Callable[[], BaseException],
) -> T:
    """Wait until `attempt(ticket)` returns something other than None, and return that.

    The caller has tried once before. Waiters of one readiness are served first in, first out; the ticket tells the
    core that this caller's turn may have come. Cancelling gives the place in the queue to the next waiter.

    Args:
        readiness: the condition to wait for.
        attempt: the synchronous operation; what it raises is raised here.
        timeout: limit in seconds, None for none. What has arrived when the time is up is still taken.
        expired: makes the exception for a timeout; called only then.
    """
    if timeout is not None:
        readiness.limit(timeout)
    try:
        while True:
            await readiness
            value = attempt(readiness.ticket)
            if value is not None:
                return value
            if readiness.expired:
                raise expired()
    finally:
        readiness.leave()


def never_expires() -> BaseException:
    """Stand in for `expired` where `parked` gets no timeout."""
    return AssertionError("a wait without a limit has expired")


async def finished(
    operation: _core.Operation[T],
    timeout: float | None = None,
    expired: Callable[[], BaseException] = never_expires,
) -> T:
    """Wait for the result of an operation. Cancelling it, or the timeout, undoes the operation."""
    try:
        result = operation.take()
        if result is None:
            result = await parked(operation.ready(), lambda _ticket: operation.take(), timeout, expired)
        return result
    except BaseException:
        operation.cancel()
        raise


class WeakCallback:
    """A bound method for `subscribe`, so that the core does not keep the Python object alive.

    What a `weakref.WeakMethod` and a function around it would do, in 50 bytes instead of 750; a session has two.
    """

    __slots__ = ("_function", "_reference")

    def __init__(self, method: Callable[[], None]) -> None:
        assert isinstance(method, MethodType), "only methods have an object to keep"
        self._function = method.__func__
        self._reference = weakref.ref(method.__self__)

    def __call__(self) -> None:
        """Call the method, if its object still lives."""
        target = self._reference()
        if target is not None:
            self._function(target)


def _make(loop: asyncio.AbstractEventLoop) -> _core.Bridge:
    """Create a bridge and let the loop call it."""
    global _registered
    if not _registered:
        _registered = True
        atexit.register(_core.shutdown, SHUTDOWN_TIMEOUT)
    bridge = _core.Bridge(loop, report_gap)
    try:
        loop.add_reader(bridge.fileno(), bridge.on_wake)
    except NotImplementedError:
        # Windows' ProactorEventLoop: it cannot watch descriptors, but it can receive from a socket.
        _pumps[bridge.fileno()] = loop.create_task(_pump(bridge), name="pywebtransport-bridge")
    return bridge


def report_gap(seconds: float, idle_timeout: float) -> None:
    """Log that something blocked the event loop.

    Sessions live on meanwhile, but nobody reads or answers. An error when it took a third of the idle timeout or more.
    """
    level = logging.ERROR if seconds > idle_timeout / 3 else logging.INFO
    logger.log(
        level,
        "The event loop was blocked for %.3f s: no handler read or wrote meanwhile (idle timeout: %.1f s). "
        "Let long computations run in a thread (asyncio.to_thread).",
        seconds,
        idle_timeout,
    )


async def _pump(bridge: _core.Bridge) -> None:
    """Do the work of `add_reader` on a loop that has none: receive from a duplicate of the bridge's socket."""
    loop = asyncio.get_running_loop()
    with socket.fromfd(bridge.fileno(), socket.AF_INET, socket.SOCK_DGRAM) as duplicate:
        duplicate.setblocking(False)
        while await loop.sock_recv(duplicate, 512):
            bridge.on_wake()


def _drop_closed_loops() -> None:
    for loop, bridge in list(_bridges.items()):
        if loop.is_closed():
            del _bridges[loop]
            _pumps.pop(bridge.fileno(), None)
            bridge.close()


def _forget_parent() -> None:
    """Start anew in a forked child. The parent's bridges are leaked on purpose; see the module's docstring."""
    global _bridges, _lock, _local, _pumps
    _of_parent.append((_bridges, _pumps))
    _bridges, _pumps = weakref.WeakKeyDictionary(), {}
    _lock, _local = threading.Lock(), threading.local()


ACCEPTED_IN_A_ROW = 16
"""Streams that an iteration takes without letting the event loop run.

Each usually begins a task: without a limit all of a burst are served before whatever became ready meanwhile. On two
cores 16 gave servers with the thread driver a fifth more echoes on new streams, and those with the loop driver as many
as before. With 8 another session's p99 beside them was 3 times that of a quiet server instead of 5, but the loop
driver lost a tenth.
"""

SHUTDOWN_TIMEOUT = 0.25  # seconds for the close packets at interpreter exit

_bridges: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _core.Bridge] = weakref.WeakKeyDictionary()
_pumps: dict[int, asyncio.Task[None]] = {}  # by descriptor; asyncio itself keeps only weak references to tasks
_lock = threading.Lock()
_local = threading.local()
_of_parent: list[object] = []
_registered = False

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)
