"""Time limits of waits.

Nearly every wait has the same limit (`read_timeout`, 60 s) and ends long before it. A loop timer for each, made and
cancelled, costs more than the wait itself: 8 us of a 70 us round trip. So the waits of one loop with one limit share a
timer. They expire in the order in which they began; a wait that ends takes itself out, which a dict does in O(1).
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable

__all__: list[str] = ["start_deadline"]

Expire = Callable[[], None]


def start_deadline(loop: asyncio.AbstractEventLoop, limit: float, expire: Expire) -> Callable[[], object]:
    """Call `expire` in `limit` seconds, unless the returned function is called before. Never early."""
    if limit < SHARED_FROM:
        return loop.call_later(limit, expire).cancel
    of_loop = _deadlines.get(loop)
    if of_loop is None:
        of_loop = _deadlines[loop] = {}
    shared = of_loop.get(limit)
    if shared is None:
        if len(of_loop) >= MOST_LIMITS:
            return loop.call_later(limit, expire).cancel
        shared = of_loop[limit] = _Deadlines(loop, limit)
    return shared.add(expire)


class _Deadlines:
    """Waits of one loop with one limit, the oldest first."""

    __slots__ = ("_has_timer", "_limit", "_loop", "_waits")

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: float) -> None:
        # Weak: the registry below must not keep a loop that nobody runs any more.
        self._loop = weakref.ref(loop)
        self._limit = limit
        self._waits: dict[Expire, float] = {}
        self._has_timer = False

    def add(self, expire: Expire) -> Callable[[], object]:
        loop = self._loop()
        assert loop is not None, "the loop is running"
        deadline = loop.time() + self._limit
        waits = self._waits
        waits[expire] = deadline
        if not self._has_timer:
            # It is not cancelled when all waits have ended: it fires once for nothing and is gone.
            self._has_timer = True
            loop.call_at(deadline, self._sweep)
        return lambda: waits.pop(expire, None)

    def _sweep(self) -> None:
        loop = self._loop()
        if loop is None:
            return
        now = loop.time()
        self._has_timer = False
        late = []
        for expire, deadline in self._waits.items():
            if deadline > now:
                self._has_timer = True
                loop.call_at(deadline, self._sweep)
                break
            late.append(expire)
        for expire in late:
            del self._waits[expire]
            expire()


SHARED_FROM = 1.0  # seconds; shorter limits are the caller's own and seldom come twice
MOST_LIMITS = 16  # different limits per loop that are shared; a program has two or three

_deadlines: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[float, _Deadlines]] = weakref.WeakKeyDictionary()
