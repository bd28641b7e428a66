"""Two hundred sessions at a time on two servers, one for each driver, with everything that sessions do and every way in
which they end, for SOAK_SECONDS (60; `make soak` takes 600): nothing leaks, nothing hangs, both sides counted the same.

SOAK_SEED replays the random choices, as far as a busy machine lets the same things happen again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from pywebtransport.utils import DevCertificate
from tests.soak.accounts import Books
from tests.soak.processes import Member, Server, running_clients, running_server
from tests.soak.protocol import PATIENCE

SECONDS = float(os.environ.get("SOAK_SECONDS", "60"))
SEED = os.environ.get("SOAK_SEED") or str(random.SystemRandom().randrange(10**6))

pytestmark = [
    pytest.mark.stress,
    pytest.mark.timeout(SECONDS + 240),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc"),
]

_PER_SERVER = 100
_MORTAL = 5  # of them, in a process of their own that is killed, again and again: one client in twenty
_IDLE_TIMEOUT = 10.0
_GONE_AFTER = _IDLE_TIMEOUT + 20.0  # the idle timeout, the sweeps of the managers, and a busy machine

_SLOPE = 1.0
"""MB per minute, the bound of the slope in the second half of a long run.

A server has about 1 000 sessions and 40 000 streams per minute, so it is 1 KB for each session or 26 bytes for each
stream: less than what the smallest object of either takes. The memory of a healthy process goes up and down by some
hundred KB with the number of streams that are open at the moment.
"""

_SETTLED = 300.0
"""Seconds from which on that bound holds. Until then the allocators of C and Python still grow, from 32 MB at rest to
about 75 MB: arenas, fragments, the deepest queues so far."""

_SLOPE_AT_FIRST = 40.0
"""MB per minute, the bound in runs of a minute and more: a connection that stays in memory takes more than 40 KB."""


class Group:
    """A server, and its clients by now."""

    def __init__(self, server: Server, workers: list[Member]) -> None:
        self.server = server
        self.workers = workers
        self.killed: list[Member] = []
        self.after: dict[str, Any] = {}  # the server's state when all is over

    @property
    def lasting(self) -> list[Member]:
        """The processes that are there from the beginning to the end."""
        return [self.server, *self.workers]


async def test_soak(tmp_path: Path, certificate: DevCertificate) -> None:
    print(f"\nsoak of {SECONDS:.0f} s, SOAK_SEED={SEED}")
    faults: list[str] = []
    losses = _lost_by_the_kernel()
    async with contextlib.AsyncExitStack() as stack:
        groups = [await _start(stack, driver, tmp_path, certificate) for driver in ("thread", "loop")]
        async with asyncio.TaskGroup() as load:
            load.create_task(_sample([member for group in groups for member in group.lasting]))
            for group in groups:
                load.create_task(_kill(group, tmp_path, certificate))
        await asyncio.gather(*(worker.finish() for group in groups for worker in group.workers))
        for group in groups:
            faults += await _faults_after(group)
    losses = _lost_by_the_kernel() - losses

    lost = 0
    for group in groups:
        books = Books(group.server, [*group.workers, *group.killed])
        lost += books.lost
        faults += books.faults
        accepted, unasked = group.after["stats"]["connections_accepted"], _MORTAL * len(group.killed)
        if not books.records <= accepted <= books.records + unasked:  # killed between handshake and request
            faults.append(f"{group.server.name}: {accepted} connections for {books.records} sessions")
        print(f"{group.server.name}: " + ", ".join(f"{count} {name}" for name, count in sorted(books.totals.items())))
        for member in group.lasting:
            print(f"  {member.name}: {member.level():.1f} MB, {member.slope():+.3f} MB per minute")
            if SECONDS >= 60 and member.slope() > (_SLOPE if SECONDS >= _SETTLED else _SLOPE_AT_FIRST):
                faults.append(f"{member.name}: memory grows by {member.slope():.2f} MB per minute")
    print(f"{lost} datagrams lost on the way, {losses} packets dropped by the kernel for want of buffers")
    if lost and not losses:
        faults.append(f"{lost} datagrams are missing, and nobody dropped them")
    assert not faults, f"{len(faults)} faults, SOAK_SEED={SEED}:\n" + "\n".join(faults[:20])


async def _start(stack: contextlib.AsyncExitStack, driver: str, folder: Path, certificate: DevCertificate) -> Group:
    options = {
        "driver": driver,
        "connection_idle_timeout": _IDLE_TIMEOUT,
        "connection_cleanup_interval": 1.0,
        "session_cleanup_interval": 1.0,
        "stream_creation_timeout": PATIENCE,
        "access_log": False,
    }
    server = await stack.enter_async_context(running_server(folder, f"server-{driver}", certificate, **options))
    workers = []
    for client_driver, sessions in (
        ("thread", (_PER_SERVER - _MORTAL) // 2),
        ("loop", (_PER_SERVER - _MORTAL + 1) // 2),
    ):
        name = f"{SEED}-{driver}-{client_driver}"
        clients = running_clients(folder, name, server, certificate, client_driver, sessions, mortal=False)
        workers.append(await stack.enter_async_context(clients))
    return Group(server, workers)


async def _sample(members: list[Member]) -> None:
    """Note the memory every second, until the time is over."""
    clock = asyncio.get_running_loop().time
    end = clock() + SECONDS
    while clock() < end:
        for member in members:
            member.sample(clock())
        await asyncio.sleep(1)


async def _kill(group: Group, folder: Path, certificate: DevCertificate) -> None:
    """Start and kill clients, until the time is over."""
    chance = random.Random(f"{SEED}-{group.server.name}")
    clock = asyncio.get_running_loop().time
    end = clock() + SECONDS
    while (left := end - clock()) > 0:
        name = f"{SEED}-{group.server.name}-mortal-{len(group.killed)}"
        driver = chance.choice(["thread", "loop"])
        async with running_clients(folder, name, group.server, certificate, driver, _MORTAL, mortal=True) as member:
            group.killed.append(member)
            await asyncio.sleep(min(left, chance.uniform(2, 8)))


async def _faults_after(group: Group) -> list[str]:
    """What is wrong with the processes when the load is over, and the idle timeout too."""
    faults = []
    clock = asyncio.get_running_loop().time
    end = clock() + _GONE_AFTER
    before = group.server.before
    while not _is_empty(after := await group.server.state(), before) and clock() < end:
        await asyncio.sleep(0.5)
    if not _is_empty(after, before):
        faults.append(f"{group.server.name}: began with {before}, ended with {after}")
    group.after = after
    for member in [group.server, *group.workers, *group.killed]:
        expected = {group.server: None, **dict.fromkeys(group.killed, -signal.SIGKILL)}.get(member, 0)
        if member.process.returncode != expected:
            faults.append(f"{member.name}: exit status {member.process.returncode}, expected {expected}")
        if log := member.log.read_text().strip():
            faults.append(f"{member.name}: printed {log[-2000:]}")
    return faults


def _is_empty(state: dict[str, Any], before: dict[str, Any]) -> bool:
    """Whether the server holds what it held before the load."""
    if state["objects"] or state["sessions"] or state["connections"]:
        return False
    return all(state[name] <= before[name] for name in ("tasks", "waiters", "descriptors"))


def _lost_by_the_kernel() -> int:
    """UDP packets that found no room in a socket's buffer; of the whole machine, so an upper bound."""
    names, values = (
        line.split() for line in Path("/proc/net/snmp").read_text().splitlines() if line.startswith("Udp:")
    )
    return int(values[names.index("RcvbufErrors")])
