"""Who is compared: the columns of the tables, and how each is made ready."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Contender:
    """One column.

    Attributes:
        key, title: its names.
        module: of benches/peers; for the peers in Rust the library's name.
        client, server: the drivers of both ends (for `ours`).
        requirements: what its virtual environment needs; none: this interpreter, or Rust.
        rust: whether the program of benches/baseline is the peer; it has no event loop to choose.
        only, without: the rows that it can do, or cannot; a prefix will do.
        default: whether it takes part when no peers are named.
    """

    key: str
    title: str
    module: str
    client: str = "auto"
    server: str = "auto"
    requirements: tuple[str, ...] = ()
    rust: bool = False
    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    default: bool = True

    def can(self, row: str) -> bool:
        """Whether it has this row."""
        return not row.startswith(self.without) and (not self.only or row.startswith(self.only))


CONTENDERS = (
    Contender("ours-loop", "loop / loop (default)", "ours", "loop", "loop"),
    Contender("ours", "loop / thread", "ours", "loop", "thread", without=("timer",)),
    Contender("ours-thread", "thread / thread", "ours", "thread", "thread", without=("tail", "blocked")),
    Contender("quinn", "raw quinn", "quinn", rust=True, without=("tail", "timer", "blocked")),
    Contender(
        "wtransport",
        "wtransport",
        "wtransport",
        rust=True,
        without=(
            *("upload_jumbo", "download_jumbo", "growth_streams"),  # no such settings without going below it
            *("datagrams_64_batch", "datagrams_64_multiple", "datagrams_64_each"),  # it never waits
            *("datagrams_1100_batch", "datagrams_1100_multiple", "datagrams_1100_each"),
            *("tail", "timer", "blocked"),
        ),
    ),
    Contender(
        "ws",
        "websockets",
        "ws",
        requirements=("websockets==17.4",),
        without=(
            *("upload_jumbo", "download_jumbo", "growth", "overload", "tail", "timer", "blocked"),
            *("datagrams_64_multiple", "datagrams_64_each", "datagrams_64_drop"),  # a message is a message
            *("datagrams_1100_multiple", "datagrams_1100_each", "datagrams_1100_drop"),
        ),
    ),
    Contender("udp", "bare UDP", "udp", rust=True, only=("stream_rtt", "datagram_rtt")),
    Contender(
        "old",
        "pywebtransport 0.8.1",
        "old",
        requirements=("pywebtransport==0.8.1", "aioquic>=1.3,<2"),
        only=(
            *("stream_rtt", "datagram_rtt", "upload", "download", "connect", "first_connect", "memory"),
            *("datagrams_64_drop", "datagrams_1100_drop"),
        ),
        without=("upload_jumbo", "download_jumbo"),
        default=False,
    ),
)


def prepare(contenders: list[Contender], options: argparse.Namespace) -> dict[str, list[str]]:
    """Return the command of each peer module; make virtual environments, and build the peers in Rust."""
    commands: dict[str, list[str]] = {}
    for contender in contenders:
        module = contender.module
        if module in commands:
            continue
        if contender.rust:
            commands[module] = [str(build_baseline()), module]
        else:
            wanted = contender.requirements
            python = make_venv(module, wanted, options.cache) if wanted else options.python
            commands[module] = [python, "-m", f"benches.peers.{module}"]
    return commands


def build_baseline() -> Path:
    """Build benches/baseline in a folder of its own; cargo knows whether there is anything to do."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "baseline"
    program = target / "release" / "wt-baseline"
    manifest = ROOT / "benches" / "baseline" / "Cargo.toml"
    if not program.exists():
        print("building benches/baseline (quinn and wtransport; a minute or two)", flush=True)
    command = ["cargo", "build", "--quiet", "--release", "--locked", "--manifest-path", str(manifest)]
    if subprocess.run(command, env={**os.environ, "CARGO_TARGET_DIR": str(target)}).returncode:
        raise SystemExit("benches/baseline could not be built; leave quinn, wtransport and udp out with --peers")
    return program


def make_venv(module: str, requirements: tuple[str, ...], cache: Path) -> str:
    """Make a virtual environment once, with the same uvloop as here."""
    with contextlib.suppress(PackageNotFoundError):
        requirements = (*requirements, f"uvloop=={version('uvloop')}")
    mark = hashlib.sha256(" ".join((platform.python_version(), *requirements)).encode()).hexdigest()[:8]
    folder = cache / f"{module}-{mark}"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        print(f"making {folder} ({', '.join(requirements)})", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *requirements], check=True)
        (folder / "ready").touch()
    return str(python)


def certificate(options: argparse.Namespace) -> tuple[str, str]:
    """Make the certificate that all servers use (ECDSA P-256)."""
    options.cache.mkdir(parents=True, exist_ok=True)
    files = options.cache / "cert.pem", options.cache / "key.pem"
    code = (
        "import sys, pathlib, pywebtransport as p; c = p.generate_dev_certificate();"
        "pathlib.Path(sys.argv[1]).write_bytes(pathlib.Path(c.certfile).read_bytes());"
        "pathlib.Path(sys.argv[2]).write_bytes(pathlib.Path(c.keyfile).read_bytes())"
    )
    if subprocess.run([options.python, "-c", code, *map(str, files)]).returncode:
        raise SystemExit(f"{options.python} has no working pywebtransport: `make bench` installs it, or use --python")
    return str(files[0]), str(files[1])


def host() -> str:
    """Name this machine."""
    model = platform.processor()
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as cpuinfo:
        model = next((line.split(":", 1)[1].strip() for line in cpuinfo if line.startswith("model name")), model)
    return f"{platform.system()} {platform.release()}, {os.cpu_count()} x {model}"
