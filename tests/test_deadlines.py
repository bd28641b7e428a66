"""Time limits of waits: shared timers expire in order, never early, and forget what has ended."""

from __future__ import annotations

import asyncio
import gc
import weakref

from pywebtransport import _deadlines
from pywebtransport._deadlines import start_deadline


class FakeTime(asyncio.SelectorEventLoop):
    """A loop whose clock jumps to the next timer instead of waiting for it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def time(self) -> float:
        return self.now

    def run_for(self, seconds: float) -> None:
        """Let timers fire until `seconds` have passed."""
        end = self.now + seconds
        while self._scheduled and self._scheduled[0]._when <= end:  # type: ignore[attr-defined]  # asyncio's heap
            self.now = max(self.now, self._scheduled[0]._when)  # type: ignore[attr-defined]  # asyncio's heap
            self.run_until_complete(asyncio.sleep(0))
        self.now = end


def test_waits_with_one_limit_share_a_timer_and_expire_in_order() -> None:
    loop = FakeTime()
    expired: list[tuple[str, float]] = []
    for name in ("first", "second", "third"):
        start_deadline(loop, 60.0, lambda name=name: expired.append((name, loop.now)))  # type: ignore[misc]  # default
        loop.run_for(10.0)
    assert len(loop._scheduled) == 1  # type: ignore[attr-defined]  # asyncio's heap
    loop.run_for(29.9)
    assert expired == []
    loop.run_for(60.0)
    assert [name for name, _ in expired] == ["first", "second", "third"]
    assert [moment for _, moment in expired] == [60.0, 70.0, 80.0]
    loop.close()


def test_a_wait_that_has_ended_does_not_expire() -> None:
    loop = FakeTime()
    expired: list[str] = []
    ends = [start_deadline(loop, 5.0, lambda: expired.append("never")) for _ in range(1000)]
    start_deadline(loop, 5.0, lambda: expired.append("once"))
    for end in ends:
        end()
        end()
    loop.run_for(100.0)
    assert expired == ["once"]
    assert _deadlines._deadlines[loop][5.0]._waits == {}
    loop.close()


def test_short_limits_and_many_different_ones_have_timers_of_their_own() -> None:
    loop = FakeTime()
    expired: list[float] = []
    limits = [0.5, *(1.0 + number for number in range(40))]
    for limit in limits:
        start_deadline(loop, limit, lambda limit=limit: expired.append(limit))  # type: ignore[misc]  # default
    assert len(_deadlines._deadlines[loop]) == _deadlines.MOST_LIMITS
    loop.run_for(100.0)
    assert expired == limits
    loop.close()


def test_a_closed_loop_is_forgotten() -> None:
    loop = FakeTime()
    start_deadline(loop, 60.0, lambda: None)
    loop.close()
    reference = weakref.ref(loop)
    del loop
    gc.collect()
    assert reference() is None
