"""What is measured: the rows of the tables, and what each has to reach."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Result = dict[str, Any]

DRIVERS = ("ours-loop", "ours", "ours-thread")
LOOP = ("ours-loop",)


@dataclass(frozen=True)
class Target:
    """What a row has to reach: a ratio to another column (or to another row of the same one), or a figure.

    Whether it is the most or the least is the row's affair.
    """

    limit: float
    against: str = ""
    columns: tuple[str, ...] = DRIVERS
    row: str = ""


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        key: its name on the command line and in the JSON file.
        title: its name in the table, with the unit.
        command: what the client is told.
        digits: decimals of the figures.
        more_is_better: what the targets and the plots need to know.
        overflow, preset: the configuration of the peers.
        stand_ins: columns that have no figure of their own here -> their row to compare with.
        targets: what it has to reach.
        load: the load of loads.py that measures it; none: one pair of processes runs the command.
        shows: "value", or "percentiles" (p50 / p99 / p99.9).
    """

    key: str
    title: str
    command: Result = field(default_factory=dict)
    digits: int = 0
    more_is_better: bool = False
    overflow: str = "drop_oldest"
    preset: str = ""
    stand_ins: tuple[tuple[str, str], ...] = ()
    targets: tuple[Target, ...] = ()
    load: str = ""
    shows: str = "value"


LEVEL = Target(1.0, "wtransport")
"""Every row has to be at least level with the Rust library."""


def _datagram_rows() -> tuple[Row, ...]:
    rows = []
    for size, title, batch, each in (
        (64, "64 B", Target(1_500_000), Target(800_000)),
        (1100, "1 100 B", Target(0.85, "quinn"), Target(0.7, "quinn")),
    ):
        command, key = {"do": "datagrams", "size": size}, f"datagrams_{size}"
        dropping = (("wtransport", f"{key}_drop"),)  # it cannot wait
        for short, words, more, overflow, stand_ins, targets in (
            ("batch", "receive_multiple", {}, "wait", dropping, (batch, LEVEL)),
            ("multiple", "send_multiple, receive_multiple", {"batches": True}, "wait", dropping, (batch, LEVEL)),
            ("each", "receive", {"each": True}, "wait", dropping, (each, LEVEL)),
            ("drop", "default policy", {}, "drop_oldest", (), (Target(0.6, row=f"{key}_batch"), LEVEL)),
        ):
            words = f"{title} datagrams/s, {words}"
            row = Row(f"{key}_{short}", words, {**command, **more}, 0, True, overflow, "", stand_ins, targets)
            rows.append(row)
    return tuple(rows)


ROWS = (
    Row(
        "stream_rtt",
        "stream round trip 64 B, p50 us",
        {"do": "stream_round_trip"},
        targets=(
            Target(1.6, "quinn", LOOP),
            Target(0.55, "ws", LOOP),
            Target(1.0, "ws", ("ours-thread",)),
            LEVEL,
        ),
    ),
    Row(
        "datagram_rtt",
        "datagram round trip 64 B, p50 us",
        {"do": "datagram_round_trip"},
        targets=(Target(1.6, "quinn", LOOP), LEVEL),
    ),
    Row(
        "new_stream_rtt",
        "new stream, echo 64 B, p50 us",
        {"do": "new_stream_round_trip"},
        targets=(Target(1.9, "quinn"), LEVEL),
    ),
    Row(
        "small_echoes",
        "1 KB echoes on new streams, 50 at once, /s",
        {"do": "small_echoes", "at_once": 50},
        more_is_better=True,
        targets=(Target(0.75, "wtransport"),),
    ),
    *(
        Row(
            key,
            f"{key}, one stream, MB/s",
            {"do": key},
            1,
            True,
            targets=(Target(0.9, "quinn"), Target(1.0, "ws"), LEVEL),
        )
        for key in ("upload", "download")
    ),
    *(
        Row(
            f"{key}_jumbo",
            f"{key}, packets of 6000 B, MB/s",
            {"do": key},
            1,
            True,
            preset="jumbo",
            targets=(Target(0.85, "quinn"),),
        )
        for key in ("upload", "download")
    ),
    *_datagram_rows(),
    Row(
        "connect_rate",
        "connects/s, 25 at once",
        {"do": "connect_rate", "at_once": 25},
        more_is_better=True,
        targets=(Target(0.85, "quinn"), LEVEL),
    ),
    Row("connect", "connect, p50 ms", {"do": "connect"}, 2, targets=(Target(1.2, "quinn"), LEVEL)),
    Row("first_connect", "first connect of both processes, ms", {"do": "first_connect"}, 1),
    Row(
        "memory",
        "server memory per idle session, KB",
        {"do": "hold", "sessions": 200},
        1,
        targets=(Target(50), LEVEL),
    ),
    # --- under load: see loads.py ---
    Row(
        "idle_cpu",
        "1 000 idle sessions, % of a core (server)",
        {"sessions": 1000},
        2,
        targets=(Target(0.1),),
        load="idle",
    ),
    *(
        Row(
            f"growth_{what}_{kind}_{active}",
            f"{words}, {how}: CPU x that of 1",
            {"datagrams": kind == "datagram"},
            2,
            targets=(Target(1.1) if active == "one" else Target(1.1, "quinn"),),
            load=f"growth_{what}",
        )
        for what, kind, words in (
            ("sessions", "datagram", "sessions, datagram round trip"),
            ("sessions", "stream", "sessions, stream round trip"),
            ("streams", "stream", "streams, round trip"),
        )
        for active, how in (("one", "one active"), ("all", "in turn"))
    ),
    *(
        Row(
            f"overload_{kind}",
            f"round trip of another session, {words}, us",
            {"kind": kind},
            targets=() if kind == "quiet" else (Target(2.0, row="overload_quiet"),),
            load="overload",
            shows="percentiles",
        )
        for kind, words in (
            ("quiet", "quiet"),
            ("stall", "one never reads 50 streams"),
            ("flood", "one floods 64 B datagrams"),
            ("streams", "one opens streams, 50 at once"),
        )
    ),
    *(
        Row(
            f"tail_{milliseconds}ms_{sessions}",
            f"handler {milliseconds} ms, {rate} requests/s on {sessions} session{'s' if sessions > 1 else ''}, us",
            {"milliseconds": milliseconds, "sessions": sessions, "rate": rate},
            load="tail",
            shows="percentiles",
        )
        # Half of what the handlers could do, where they do anything.
        for milliseconds, rate in ((0, 2000), (1, 400), (10, 40))
        for sessions in (1, 20, 200)
    ),
    *(
        Row(
            f"timer_{kind}",
            f"server's asyncio timers late by, {words}, us",
            {"kind": kind},
            load="timer",
            shows="percentiles",
        )
        for kind, words in (("quiet", "quiet"), ("flood", "flood of 64 B datagrams"))
    ),
    Row(
        "blocked",
        "handler blocks 3 s, idle timeout 1.5 s: session kept",
        {"milliseconds": 3000, "idle_timeout": 1.5},
        load="blocked",
        more_is_better=True,
    ),
)
