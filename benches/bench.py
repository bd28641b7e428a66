"""Compare pywebtransport with raw quinn, wtransport, websockets and others: `python -m benches.bench`.

Every figure comes from a fresh pair of processes. All contenders take their turn at a row before the next row begins,
and all rows before the next round, so that what else the machine does hits them alike. Ratios are taken within a round.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

from . import plots, report
from .contenders import CONTENDERS, certificate, host, prepare
from .loads import LOADS
from .rows import ROWS
from .runner import Bench


def main() -> int:
    """Run the benchmark and print the tables."""
    options = parse_options()
    rows = choose(ROWS, options.rows, "row")
    if options.quick:
        options.rounds, options.seconds = 1, 0.3
        rows = rows if options.rows else [row for row in rows if not row.load]
    contenders = choose(CONTENDERS, options.peers, "peer") if options.peers else [c for c in CONTENDERS if c.default]
    bench = Bench(options, prepare(contenders, options), certificate(options), LOADS)
    load = os.getloadavg()
    started = time.time()
    try:
        asyncio.run(bench.run(rows, contenders))
    except KeyboardInterrupt:
        print("\ninterrupted: what follows is not complete", file=sys.stderr)
    facts = {
        "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime(started)) + " UTC",
        "minutes": round((time.time() - started) / 60, 1),
        "host": host(),
        "load before and after": f"{load[0]:.2f}, {os.getloadavg()[0]:.2f}",
        "python": platform.python_version(),
        "versions": ", ".join(f"{name} {text}" for name, text in bench.versions.items()),
        "rounds": f"{options.rounds} of {options.seconds:g} s per row",
    }
    print()
    for name, fact in facts.items():
        print(f"{name}: {fact}")
    for why in dict.fromkeys(bench.missing.values()):
        print(f"no figure: {'; '.join(what for what, reason in bench.missing.items() if reason == why)}: {why}")
    for loop in options.loops:
        for part in (report.table, report.ratio_table, report.target_table, report.costs):
            if text := part(loop, rows, contenders, bench.results):
                print(f"\n{text}")
    results = [{"loop": a, "row": b, "peer": c, "rounds": d} for (a, b, c), d in bench.results.items()]
    if options.json:
        Path(options.json).write_text(json.dumps({"facts": facts, "results": results}, indent=1) + "\n")
        print(f"\nwritten: {options.json}")
    if options.plots:
        for file in plots.draw(options.plots, options.loops[-1], rows, contenders, bench.results):
            print(f"written: {file}")
    return 1 if bench.failures else 0


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benches.bench", description=(__doc__ or "").splitlines()[0])
    names = ", ".join(row.key for row in ROWS)
    parser.add_argument("--rounds", type=int, default=3, help="default %(default)s; rows under load have one")
    parser.add_argument("--seconds", type=float, default=1.0, help="measured time of a row, default %(default)s")
    parser.add_argument("--rows", type=split, default=[], help=f"of: {names}; default all; a prefix will do")
    parser.add_argument("--peers", type=split, default=[], help=f"of: {', '.join(c.key for c in CONTENDERS)}")
    parser.add_argument("--loops", type=split, default=["uvloop"], help="asyncio,uvloop; default uvloop")
    parser.add_argument("--quick", action="store_true", help="one round of 0.3 s, by default without rows under load")
    parser.add_argument("--full", action="store_true", help="rows under load in every round, growth up to 5000")
    parser.add_argument("--json", metavar="FILE", help="write every round there")
    parser.add_argument("--plots", metavar="FOLDER", type=Path, help="write SVG plots there")
    parser.add_argument("--python", default=sys.executable, help="interpreter with this pywebtransport and uvloop")
    parser.add_argument("--profile", choices=("py-spy", "perf"), help="profile both ends of every run (use few rows)")
    parser.add_argument("--pin", action="store_true", help="servers on the first core, clients on the second")
    parser.add_argument("--realtime", action="store_true", help="run the peers under chrt -r 5 (starves all else)")
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "pywebtransport-bench"
    parser.add_argument("--cache", type=Path, default=default, help="for virtual environments, default %(default)s")
    return parser.parse_args()


def split(text: str) -> list[str]:
    """Split at commas."""
    return [part for part in text.split(",") if part]


def choose(known: tuple[Any, ...], wanted: list[str], what: str) -> list[Any]:
    """Return those asked for. A name stands for itself, or else for all that begin with it."""
    keys = [item.key for item in known]
    for name in wanted:
        if not any(key.startswith(name) for key in keys):
            raise SystemExit(f"unknown {what} {name!r}; known: {', '.join(keys)}")
    return [
        item
        for item in known
        if not wanted or any(item.key == name or (name not in keys and item.key.startswith(name)) for name in wanted)
    ]


if __name__ == "__main__":
    sys.exit(main())
