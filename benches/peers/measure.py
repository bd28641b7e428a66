"""The commands of the peers in Python: one function per row, over any `Peer`."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

from .harness import Command, Peer, Result


async def _status(peer: Peer[Any], command: Result) -> Result:
    if command.get("collect"):  # for the memory; with a thousand sessions it costs more than those do in seconds
        gc.collect()
    with open("/proc/self/statm") as statm:
        pages = int(statm.read().split()[1])
    return {
        "rss_kb": pages * os.sysconf("SC_PAGE_SIZE") // 1024,
        "cpu": time.process_time(),
        "counters": peer.counters(),
    }


async def _stream_round_trip(peer: Peer[Any], command: Result) -> Result:
    return await _latency(peer, command, peer.stream_round_trips)


async def _datagram_round_trip(peer: Peer[Any], command: Result) -> Result:
    return await _latency(peer, command, peer.datagram_round_trips)


async def _new_stream_round_trip(peer: Peer[Any], command: Result) -> Result:
    return await _latency(peer, command, peer.new_stream_round_trips)


async def _latency(peer: Peer[Any], command: Result, measure: Callable[[Any, float], Awaitable[list[float]]]) -> Result:
    session = await peer.connect(command["port"], "/echo")
    warm = await measure(session, command["seconds"] * WARM_UP)
    return times_report(await measure(session, command["seconds"]), len(warm))


async def _small_echoes(peer: Peer[Any], command: Result) -> Result:
    session = await peer.connect(command["port"], "/echo")
    warm = await peer.small_echoes(session, command["at_once"], command["seconds"] * WARM_UP)
    started = time.perf_counter()
    count = await peer.small_echoes(session, command["at_once"], command["seconds"])
    return {"value": count / (time.perf_counter() - started), "operations": warm + count}


async def _upload(peer: Peer[Any], command: Result) -> Result:
    return await _bulk(peer, command, "/sink", peer.upload)


async def _download(peer: Peer[Any], command: Result) -> Result:
    return await _bulk(peer, command, "/source", peer.download)


async def _bulk(peer: Peer[Any], command: Result, path: str, move: Callable[[Any, float], Awaitable[int]]) -> Result:
    session = await peer.connect(command["port"], path)
    warm = await move(session, command["seconds"] * WARM_UP)
    started = time.perf_counter()
    size = await move(session, command["seconds"])
    seconds = time.perf_counter() - started
    return {"value": size / seconds / 1e6, "bytes": size, "operations": (warm + size) / 1e6}


async def _datagrams(peer: Peer[Any], command: Result) -> Result:
    session = await peer.connect(command["port"], "/count_each" if command.get("each") else "/count")
    size, send = command["size"], peer.send_batches if command.get("batches") else peer.send_datagrams
    warm = await send(session, size, command["seconds"] * WARM_UP)
    await asyncio.sleep(SETTLE)
    await peer.delivered(session)
    sent = await send(session, size, command["seconds"])
    await asyncio.sleep(SETTLE)
    report = await peer.delivered(session)
    return {
        "value": report.count / report.seconds,
        "sent": sent,
        "delivered": report.count,
        "operations": warm + sent,
    }


async def _connect(peer: Peer[Any], command: Result) -> Result:
    times: list[float] = []
    end = time.perf_counter() + command["seconds"] * (1 + WARM_UP)
    measured_from = end - command["seconds"]
    warm = 0
    while (started := time.perf_counter()) < end:
        session = await peer.connect(command["port"], "/echo")
        if started < measured_from:
            warm += 1
        else:
            times.append(time.perf_counter() - started)
        await peer.disconnect(session)
    result = times_report(times, warm)
    return {**result, "value": result["value"] / 1e3, "p99": result["p99"] / 1e3}


async def _first_connect(peer: Peer[Any], command: Result) -> Result:
    started = time.perf_counter()
    await peer.connect(command["port"], "/echo")
    return {"value": (time.perf_counter() - started) * 1e3, "operations": 1}


async def _connect_rate(peer: Peer[Any], command: Result) -> Result:
    """Connect and close in tasks; what was begun before the end counts, and so does the time it took."""
    count = 0

    async def work(end: float) -> None:
        nonlocal count
        while time.perf_counter() < end:
            await peer.disconnect(await peer.connect(command["port"], "/echo"))
            count += 1

    tasks = range(command["at_once"])
    await asyncio.gather(*(work(time.perf_counter() + command["seconds"] * WARM_UP) for _ in tasks))
    warm, count = count, 0
    started = time.perf_counter()
    await asyncio.gather(*(work(started + command["seconds"]) for _ in tasks))
    return {"value": count / (time.perf_counter() - started), "operations": warm + count}


# --- sessions that are kept, and load ---


async def _hold(peer: Peer[Any], command: Result) -> Result:
    """Open sessions, with streams that have each carried a message, and keep them."""
    for _ in range(command["sessions"]):
        session = await peer.connect(command["port"], "/echo")
        streams = []
        for _ in range(command.get("streams", 0)):
            streams.append(await peer.open_stream(session))
            await peer.exchange(streams[-1])
        _held.append((session, streams))
    await asyncio.sleep(SETTLE)
    return {"held": len(_held), "operations": max(1, command["sessions"])}


async def _held_round_trips(peer: Peer[Any], command: Result) -> Result:
    """Make round trips on the first `active` of the kept sessions, or streams, one after the other."""
    operation: Callable[[Any], Awaitable[None]]
    if command["datagrams"]:
        targets, operation = [session for session, _ in _held], peer.exchange_datagram
    else:
        targets, operation = [stream for _, streams in _held for stream in streams], peer.exchange
    del targets[command["active"] :]
    times: list[float] = []
    warm, index, started = 0, 0, time.perf_counter()
    measured_from = started + command["seconds"] * WARM_UP
    end = measured_from + command["seconds"]
    while (started := time.perf_counter()) < end:
        await operation(targets[index % len(targets)])
        index += 1
        if started < measured_from:
            warm += 1
        else:
            times.append(time.perf_counter() - started)
    return times_report(times, warm)


async def _wait(_peer: Peer[Any], command: Result) -> Result:
    await asyncio.sleep(command["seconds"])
    return {"operations": 1}


async def _stall(peer: Peer[Any], command: Result) -> Result:
    session = await peer.connect(command["port"], "/source")
    await peer.stall(session, command["streams"], command["seconds"])
    return {"operations": command["streams"]}


async def _tail(peer: Peer[Any], command: Result) -> Result:
    """Send requests at random times, `rate` of them in a second over all sessions, whatever the answers do.

    A request's time counts from when it was due, so that one that had to wait behind another shows it.
    """
    times: list[float] = []
    count, seconds, rate = command["sessions"], command["seconds"], command["rate"]
    sessions = [await peer.connect(command["port"], "/compute") for _ in range(count)]
    streams = [await peer.open_stream(session) for session in sessions]
    for stream in streams:
        await peer.compute(stream, 0)
    start = time.perf_counter() + 0.05

    async def ask(stream: Any, seed: int) -> None:
        # The same moments in every run and for every contender.
        moments, due = random.Random(seed), start
        while (due := due + moments.expovariate(rate / count)) < start + seconds:
            if (early := due - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            await peer.compute(stream, command["milliseconds"])
            times.append(time.perf_counter() - due)

    await asyncio.gather(*(ask(stream, seed) for seed, stream in enumerate(streams)))
    return times_report(times, 0)


async def _timer(_peer: Peer[Any], command: Result) -> Result:
    """Let a timer of 5 ms expire again and again; report how late each was."""
    # Not loop.time(): uvloop counts milliseconds, and lets a timer expire within the one before it is due.
    loop, now = asyncio.get_running_loop(), time.perf_counter
    done: asyncio.Future[None] = loop.create_future()
    times: list[float] = []
    end = now() + command["seconds"]

    def expire(due: float) -> None:
        times.append(max(0.0, now() - due))
        if now() < end:
            loop.call_later(0.005, expire, now() + 0.005)
        else:
            done.set_result(None)

    loop.call_later(0.005, expire, now() + 0.005)
    await done
    return times_report(times, 0)


async def _blocked(peer: Peer[Any], command: Result) -> Result:
    """Ask a handler to block its event loop; report whether the session still works afterwards."""
    session = await peer.connect(command["port"], "/compute")
    stream = await peer.open_stream(session)
    await peer.compute(stream, 0)
    try:
        await peer.compute(stream, command["milliseconds"])
        await peer.compute(stream, 0)
    except Exception as error:
        return {"value": 0, "why": f"{type(error).__name__}: {error}", "operations": 1}
    return {"value": 1, "operations": 1}


def times_report(times: list[float], warm: int) -> Result:
    """Report on times in seconds; the report has microseconds. `curve` has 101 quantiles, for the plots."""
    if len(times) < 2:
        raise RuntimeError(f"only {len(times)} sample(s)")
    times = sorted(times)

    def at(share: float) -> float:
        return round(times[round((len(times) - 1) * share)] * 1e6, 1)

    return {
        "value": at(0.5),
        "p99": at(0.99),
        "p999": at(0.999),
        "max": at(1.0),
        "curve": [at(step / 100) for step in range(101)],
        "samples": len(times),
        "operations": warm + len(times),
    }


WARM_UP = 0.25  # share of the measured time, before it
SETTLE = 0.4  # seconds until the last datagram has arrived, or the memory of new sessions has settled

_held: list[tuple[Any, list[Any]]] = []

COMMANDS: dict[str, Command] = {
    "status": _status,
    "stream_round_trip": _stream_round_trip,
    "datagram_round_trip": _datagram_round_trip,
    "new_stream_round_trip": _new_stream_round_trip,
    "small_echoes": _small_echoes,
    "upload": _upload,
    "download": _download,
    "datagrams": _datagrams,
    "connect": _connect,
    "first_connect": _first_connect,
    "connect_rate": _connect_rate,
    "hold": _hold,
    "held_round_trips": _held_round_trips,
    "wait": _wait,
    "stall": _stall,
    "tail": _tail,
    "timer": _timer,
    "blocked": _blocked,
}
