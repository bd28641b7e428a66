"""Rows that need more than one pair of processes and one command: idle, growth, overload, tail, timers, blocking.

Each load measures the rows that name it, for one contender, and returns a result per row.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from .contenders import Contender
from .rows import Row
from .runner import Bench, Load, Result

Shape = Callable[[int], Result]


async def idle(bench: Bench, loop: str, rows: list[Row], contender: Contender) -> dict[str, Result]:
    """Measure the CPU time of sessions on which nothing happens, in per cent of a core."""
    row = rows[0]
    async with bench.pair(loop, contender, row) as (server, client):
        await client.ask({"do": "hold", "port": server.port, "sessions": row.command["sessions"]}, 60.0)
        await client.ask({"do": "wait", "seconds": 1.0})
        seconds = 4.0
        result, _, _ = await bench.costs(server, client, {"do": "wait", "seconds": seconds}, 30.0)
    return {row.key: {**result, "value": result["server_cpu_us"] / seconds / 1e4}}


async def growth_sessions(bench: Bench, loop: str, rows: list[Row], contender: Contender) -> dict[str, Result]:
    """Compare the cost of a round trip among many sessions with that of the only one."""
    return await growth(bench, loop, rows, contender, lambda count: {"sessions": count, "streams": 1})


async def growth_streams(bench: Bench, loop: str, rows: list[Row], contender: Contender) -> dict[str, Result]:
    """Do the same with the streams of one session."""
    return await growth(bench, loop, rows, contender, lambda count: {"sessions": 1, "streams": count})


async def growth(bench: Bench, loop: str, rows: list[Row], contender: Contender, shape: Shape) -> dict[str, Result]:
    """Measure each row at several sizes: CPU time of both ends per round trip, one round trip after the other.

    So every round trip has packets of its own, however many sessions there are. Either the first of them is the only
    active one, or all have their turn: then acknowledgements do not ride along with the next message, and all that is
    touched is no longer in the cache, in raw quinn too. Both ends are on one core: waking another one costs CPU time as
    well, and how often that happens is the scheduler's whim.
    """
    points: dict[str, dict[str, float]] = {row.key: {} for row in rows}
    totals: dict[str, Result] = {}
    for count in (1, 100, 1000, 5000) if bench.options.full else (1, 100, 1000):
        more = {"streams": count + 10} if count > 90 and "streams" in rows[0].load else {}
        async with bench.pair(loop, contender, rows[0], cores={0}, **more) as (server, client):
            await client.ask({"do": "hold", "port": server.port, **shape(count)}, 90.0)
            for row in rows:
                active = count if row.key.endswith("_all") else 1
                command = {"do": "held_round_trips", "active": active, "seconds": bench.options.seconds / 2}
                runs = [(await bench.costs(server, client, {**command, **row.command}, 60.0))[0] for _ in range(3)]
                # What else the machine does only ever adds.
                totals[row.key] = best = min(runs, key=cost)
                points[row.key][str(count)] = cost(best)
    return {
        key: {**totals[key], "value": list(found.values())[-1] / found["1"], "points": found}
        for key, found in points.items()
    }


def cost(result: Result) -> float:
    """Return the CPU time of both ends."""
    return float(result["server_cpu_us"] + result["client_cpu_us"])


async def overload(bench: Bench, loop: str, rows: list[Row], contender: Contender) -> dict[str, Result]:
    """Measure round trips of one client while another one, a process of its own, misbehaves. The value is p99."""
    seconds = max(1.0, bench.options.seconds)
    results = {}
    for row in rows:
        async with (
            bench.pair(loop, contender, row) as (server, client),
            bench.worker("client", loop, contender, row) as other,
        ):
            abuses: dict[str, Result] = {
                "quiet": {"do": "wait"},
                "stall": {"do": "stall", "streams": 50},
                "flood": {"do": "datagrams", "size": 64},
                "streams": {"do": "small_echoes", "at_once": 50},
            }
            # Longer than the round trips at both ends; a flood also warms up and settles twice.
            load = {**abuses[row.command["kind"]], "port": server.port, "seconds": 2 * seconds}
            misbehaving = asyncio.create_task(other.ask(load, 60.0))
            await asyncio.sleep(0.3)
            question = {"do": "stream_round_trip", "port": server.port, "seconds": seconds}
            result, _, _ = await bench.costs(server, client, question, 60.0)
            await misbehaving
        results[row.key] = {**result, "p50": result["value"], "value": result["p99"]}
    return results


async def tail(bench: Bench, loop: str, rows: list[Row], contender: Contender) -> dict[str, Result]:
    """Measure the time of requests that come at random, with handlers that compute. The value is p50."""
    results = {}
    for row in rows:
        async with bench.pair(loop, contender, row) as (server, client):
            # Long enough for 200 requests at the least.
            seconds = max(2.0 * bench.options.seconds, 80 / row.command["rate"])
            command = {"do": "tail", "port": server.port, "seconds": seconds, **row.command}
            results[row.key], _, _ = await bench.costs(server, client, command, 60.0)
    return results


async def timer(bench: Bench, loop: str, rows: list[Row], contender: Contender) -> dict[str, Result]:
    """Measure how late asyncio timers of the server are, with and without a flood of datagrams to it."""
    results = {}
    for row in rows:
        async with bench.pair(loop, contender, row) as (server, client):
            flooding = None
            if row.command["kind"] == "flood":
                load = {"do": "datagrams", "size": 64, "port": server.port, "seconds": 2 * bench.options.seconds}
                flooding = asyncio.create_task(client.ask(load, 60.0))
                await asyncio.sleep(0.5 * bench.options.seconds + 1.0)  # the warm-up, and both pauses after it
            results[row.key] = await server.ask({"do": "timer", "seconds": bench.options.seconds}, 60.0)
            if flooding:
                await flooding
    return results


async def blocked(bench: Bench, loop: str, rows: list[Row], contender: Contender) -> dict[str, Result]:
    """Let a handler block the server's event loop for longer than the idle timeout: 1 if the session lives on."""
    row = rows[0]
    more = {"idle_timeout": row.command["idle_timeout"]}
    async with bench.pair(loop, contender, row, **more) as (server, client):
        command = {"do": "blocked", "port": server.port, "milliseconds": row.command["milliseconds"]}
        return {row.key: await client.ask(command, 30.0)}


LOADS: dict[str, Load] = {
    "idle": idle,
    "growth_sessions": growth_sessions,
    "growth_streams": growth_streams,
    "overload": overload,
    "tail": tail,
    "timer": timer,
    "blocked": blocked,
}
