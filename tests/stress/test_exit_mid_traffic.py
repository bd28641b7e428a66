"""Processes that end in the middle of their traffic, in every way a program can end: no crash, no hang, no noise."""

from __future__ import annotations

import asyncio
import itertools
import random
import re
import sys
from pathlib import Path

import pytest

from pywebtransport import generate_dev_certificate
from tests.stress.exiting_program import EXIT_STATUS

pytestmark = pytest.mark.stress

_PROCESSES = 300
_PARALLEL = 2
_HANGS_AFTER = 30.0
_PROGRAM = Path(__file__).with_name("exiting_program.py")
# What the interpreter itself prints for the ways that are an error; anything else on stderr is a fault.
_EXPECTED_LAST_LINE = {"exception": r"RuntimeError: the program failed", "sigint": r"KeyboardInterrupt"}
_NEVER = re.compile(
    r"Exception ignored|never retrieved|was never awaited|panicked|Fatal Python error|Task was destroyed|core dumped"
)


@pytest.mark.timeout(600)
async def test_processes_that_exit_mid_traffic() -> None:
    certificate = generate_dev_certificate()
    chance = random.Random(1)
    ways = itertools.cycle(itertools.product(EXIT_STATUS, ("loop", "thread")))
    runs = [(*next(ways), f"{chance.uniform(0.0, 0.15):.3f}") for _ in range(_PROCESSES)]
    limit = asyncio.Semaphore(_PARALLEL)

    async def one(how: str, driver: str, seconds: str) -> str | None:
        async with limit:
            arguments = (how, driver, seconds, certificate.certfile, certificate.keyfile, certificate.sha256.hex())
            fault = await _run(how, *arguments)
        return fault and f"{how}, driver {driver}, after {seconds} s: {fault}"

    faults = [fault for fault in await asyncio.gather(*(one(*run) for run in runs)) if fault]
    assert not faults, f"{len(faults)} of {_PROCESSES}:\n" + "\n".join(faults[:10])


async def _run(how: str, *arguments: str) -> str | None:
    """Run the program once; what was wrong, or None."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-X", "faulthandler", str(_PROGRAM), *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), _HANGS_AFTER)
    except TimeoutError:
        process.kill()
        await process.wait()
        return f"still running after {_HANGS_AFTER:.0f} s"
    text = output.decode(errors="replace").strip()
    if process.returncode != EXIT_STATUS[how]:
        return f"exit status {process.returncode}, expected {EXIT_STATUS[how]}: {text[-2000:]}"
    if found := _NEVER.search(text):
        return f"printed {found[0]!r}: {text[-2000:]}"
    last_line = text.splitlines()[-1] if text else ""
    if not re.fullmatch(_EXPECTED_LAST_LINE.get(how, ""), last_line):
        return f"printed {text[-2000:]}"
    return None
