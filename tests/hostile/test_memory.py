"""What all of it has cost the servers; runs last (see conftest.py).

Everything that a limit or a timeout bounds is gone by now or soon: no connection, no session, no task is left, and the
memory is what it was.
"""

from __future__ import annotations

import pytest

from tests.hostile.server import ServerProcess

MIB = 1 << 20
IDLE = 25.0  # seconds; the idle timeout of the servers is 10, after which a connection that is lost drains for a while


@pytest.mark.timeout(60)
async def test_nothing_is_left(either_server: ServerProcess) -> None:
    """The connection that asks, and its session, are the only ones; every handshake that was begun has failed."""
    await either_server.until(
        lambda seen: (
            seen["connections"] == 1
            and seen["sessions"] == 1
            and seen["tasks"] <= either_server.tasks_before
            and seen["handshakes_pending"] == 0
        ),
        IDLE,
    )


async def test_the_memory_is_what_it_was(either_server: ServerProcess) -> None:
    """Within 20 MB of what it was before the suite, when the allocator has given back what it kept."""
    kept = either_server.rss()
    await either_server.stats()
    before, after = either_server.rss_before, either_server.rss()
    print(
        f"resident memory: {before / MIB:.1f} MiB before, {after / MIB:.1f} MiB after, {kept / MIB:.1f} with the kept"
    )
    assert after - before < 20_000_000


async def test_nothing_went_wrong_unseen(either_server: ServerProcess) -> None:
    """No traceback, no error in the log: what a peer does is no fault of the server."""
    assert either_server.is_running()
    log = either_server.log()
    print(log)
    assert not log
