"""The books of a soak: what the clients and a server wrote down of each session, laid side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from tests.soak.processes import Member, Server

_EQUAL_STATS = ("streams_created", "streams_closed", "stream_errors", "bidirectional_streams", "unidirectional_streams")


class Books:
    """One server and its clients.

    Attributes:
        totals: sums over the sessions, for the summary.
        lost: datagrams that neither side knows anything of: lost on the way.
        faults: one sentence for everything that does not agree.
    """

    def __init__(self, server: Server, clients: list[Member]) -> None:
        self.totals: Counter[str] = Counter()
        self.lost = 0
        self.faults: list[str] = []
        self._of_server: dict[str, dict[str, Any]] = {}
        for record in server.read_records():
            if record["id"] in self._of_server:
                self.faults.append(f"{server.name}: two records of {record['id']}")
            self._of_server[record["id"]] = record
        self.records = len(self._of_server)
        for client in clients:
            self._compare(client)
        # Their clients were killed before they could write anything.
        self.totals["killed"] += len(self._of_server)
        self.faults += [f"{name}: no client had it" for name in self._of_server if "mortal" not in name]

    def _compare(self, client: Member) -> None:
        most: dict[str, dict[str, int]] = {}
        for record in client.read_records():
            if "left" in record:
                if record["left"] or record["tasks"]:
                    self.faults.append(f"{client.name}: left at the end: {record['tasks']} tasks, {record['left']}")
            elif "fault" in record:
                self.faults.append(f"{record['id']}: {record['fault']}")
            elif "most" in record:
                most[record["id"]] = record["most"]
            else:
                most.pop(record["id"], None)
                self._compare_session(record)
        for name, limits in most.items():
            self._compare_killed(name, limits)

    def _compare_session(self, record: dict[str, Any]) -> None:
        theirs = self._of_server.pop(record["id"], None)
        self.totals[record["ending"]] += 1
        if theirs is None:
            self.faults.append(f"{record['id']}: ended ({record['ending']}) without a record of the server")
            return
        differences = list(_differences(record, theirs))
        self.faults += [f"{record['id']} ({record['ending']}): {difference}" for difference in differences]
        self.totals["streams"] += theirs["stats"]["streams_created"]
        self.totals["cut streams"] += theirs["tally"]["cut"]
        self.totals["bytes up"] += theirs["tally"]["bytes_up"]
        self.totals["bytes down"] += theirs["tally"]["bytes_down"]
        self.totals["datagrams up"] += theirs["tally"]["datagrams_up"]
        self.totals["datagrams down"] += theirs["tally"]["datagrams_down"]
        if "settled" in record:
            near, far = record["settled"]["client"], record["settled"]["server"]
            missing = near["datagrams_up"] - far["datagrams_up"] + far["datagrams_down"] - near["datagrams_down"]
            counted = record["settled"]["drops"] + theirs["drops"]
            self.totals["dropped datagrams"] += counted
            self.lost += missing - counted
            if missing < counted:
                self.faults.append(f"{record['id']}: {counted} datagrams dropped, only {missing} missing")

    def _compare_killed(self, name: str, most: dict[str, int]) -> None:
        self.totals["killed"] += 1
        theirs = self._of_server.pop(name, None)
        if theirs is None:
            self.faults.append(f"{name}: killed, and no record of the server")
            return
        for kind in ("bidi", "uni", "pulled", "datagrams_up"):
            if theirs["tally"][kind] > most[kind]:
                self.faults.append(f"{name} (killed): {kind}: {theirs['tally'][kind]} arrived, {most[kind]} were sent")


def _differences(ours: dict[str, Any], theirs: dict[str, Any]) -> Iterator[str]:
    """What does not agree about a session that was not killed."""
    if "code" in ours and (ours["code"], ours["reason"]) != (theirs["code"], theirs["reason"]):
        yield f"closed with {ours['code']} {ours['reason']!r}, heard {theirs['code']} {theirs['reason']!r}"
    if "settled" in ours:
        near, far = ours["settled"]["client"], ours["settled"]["server"]
        for kind in ("bidi", "uni", "pulled", "cut", "bytes_up", "bytes_down"):
            if near[kind] != far[kind]:
                yield f"{kind}: {near[kind]} here, {far[kind]} at the server"
    if theirs["stats"]["protocol_errors"]:
        yield f"{theirs['stats']['protocol_errors']} protocol errors"
    if (stats := ours.get("stats")) is None:
        return
    if stats["protocol_errors"]:
        yield f"{stats['protocol_errors']} protocol errors"
    tally, seen = ours["tally"], theirs["stats"]
    if stats["streams_created"] != tally["bidi"] + tally["uni"] + tally["pulled"]:
        yield f"{stats['streams_created']} streams created, the client had {tally}"
    if stats["datagrams_sent"] != tally["datagrams_up"]:
        yield f"{stats['datagrams_sent']} datagrams sent, the client sent {tally['datagrams_up']}"
    if seen["datagrams_received"] > stats["datagrams_sent"] or stats["datagrams_received"] > seen["datagrams_sent"]:
        yield f"more datagrams received than sent: {stats} {seen}"
    if ours["ending"] in ("close", "leave"):
        if stats["streams_closed"] != stats["streams_created"] or stats["stream_errors"] != tally["cut"]:
            yield f"not every stream is closed, or not {tally['cut']} errors: {stats}"
        for name in _EQUAL_STATS:
            if stats[name] != seen[name]:
                yield f"{name}: {stats[name]} here, {seen[name]} at the server"
    elif seen["streams_created"] > stats["streams_created"]:
        yield f"{seen['streams_created']} streams at the server, {stats['streams_created']} here"
