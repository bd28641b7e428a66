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
    pytest.mark.timeout(1.5 * SECONDS + 240),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc"),
]

_PER_SERVER = 100
_MORTAL = 5  # of them, in a process of their own that is killed, again and again: one client in twenty
_IDLE_TIMEOUT = 10.0
_GONE_AFTER = _IDLE_TIMEOUT + 20.0  # the idle timeout, the sweeps of the managers, and a busy machine

_ROUND = 100.0
"""Seconds of load between two rests. At rest, without sessions, the memory is measured: under load it goes up and down
by 20 MB with what is on its way, that is, with how busy the machine is."""

_SLOPE = 0.5
"""MB per minute, the bound of the slope of a long run, after a third of its rests.

A server has about 1 000 sessions and 40 000 streams per minute, so it is 500 bytes for each session or 13 for each
stream: less than what the smallest object of either takes.
"""

_SETTLED = 4
"""Rests from which on that bound holds. Before, the allocators of C and Python still grow: arenas, fragments."""

_MOST = 75.0
"""MB at the last rest, however long the run; 38 MB are normal. A connection that stays in memory with its buffers, of
which there are 1 000 in a minute, breaks it within the first one."""


class Group:
    """A server, and its clients by now."""

    def __init__(self, server: Server, workers: list[Member]) -> None:
        self.server = server
        self.workers = workers
        self.killed: list[Member] = []

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
        rounds = max(1, round(SECONDS / _ROUND))
        for number in range(rounds):
            async with asyncio.TaskGroup() as load:
                for group in groups:
                    load.create_task(_kill(group, tmp_path, certificate, SECONDS / rounds))
            faults += await _rest(groups, is_last=number == rounds - 1)
        await asyncio.gather(*(worker.finish() for group in groups for worker in group.workers))
        faults += [fault for group in groups for fault in _faults_of_processes(group)]
    losses = _lost_by_the_kernel() - losses

    lost = 0
    for group in groups:
        books = Books(group.server, [*group.workers, *group.killed])
        lost += books.lost
        faults += books.faults
        accepted, unasked = group.server.after["stats"]["connections_accepted"], _MORTAL * len(group.killed)
        if not books.records <= accepted <= books.records + unasked:  # killed between handshake and request
            faults.append(f"{group.server.name}: {accepted} connections for {books.records} sessions")
        print(f"{group.server.name}: " + ", ".join(f"{count} {name}" for name, count in sorted(books.totals.items())))
        for member in group.lasting:
            rests = [round(megabytes, 1) for _, megabytes in member.samples[2::3]]
            print(f"  {member.name}: {member.slope():+.3f} MB per minute at {member.level():.1f} MB, at rest {rests}")
            if rests[-1] > _MOST or (rounds >= _SETTLED and member.slope() > _SLOPE):
                faults.append(f"{member.name}: memory grows by {member.slope():.2f} MB per minute to {rests[-1]} MB")
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


async def _kill(group: Group, folder: Path, certificate: DevCertificate, seconds: float) -> None:
    """Start and kill clients, until the time is over."""
    chance = random.Random(f"{SEED}-{group.server.name}-{len(group.killed)}")
    clock = asyncio.get_running_loop().time
    end = clock() + seconds
    while (left := end - clock()) > 0:
        name = f"{SEED}-{group.server.name}-mortal-{len(group.killed)}"
        driver = chance.choice(["thread", "loop"])
        async with running_clients(folder, name, group.server, certificate, driver, _MORTAL, mortal=True) as member:
            group.killed.append(member)
            await asyncio.sleep(min(left, chance.uniform(2, 8)))


async def _rest(groups: list[Group], is_last: bool) -> list[str]:
    """Let all sessions end, look at what is left and at the memory; then go on, unless it is over."""
    faults = []
    clock = asyncio.get_running_loop().time
    workers = [worker for group in groups for worker in group.workers]
    for worker in workers:
        worker.toggle()
    end = clock() + _GONE_AFTER
    for server in [group.server for group in groups]:
        while not _is_empty(after := await server.state(), server.before) and clock() < end:
            await asyncio.sleep(0.5)
        if not _is_empty(after, server.before):
            faults.append(f"{server.name}: began with {server.before}, holds at rest {after}")
        server.after = after
    for _ in range(3):
        await asyncio.sleep(1)  # each process gives back what is free once a second
        for member in [member for group in groups for member in group.lasting]:
            member.sample(clock())
    if not is_last:  # otherwise sessions would begin that the servers' last counters do not have
        for worker in workers:
            worker.toggle()
    return faults


def _faults_of_processes(group: Group) -> list[str]:
    """How the processes ended, and what they printed."""
    faults = []
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
