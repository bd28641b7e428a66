"""The reference of the session package, member by member, against the classes and a live session.

The reference is the user's document and lives outside the repository; the table below carries its statements.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pywebtransport import WebTransportDatagramTransport, WebTransportSendStream, WebTransportStream
from pywebtransport.connection import WebTransportConnection
from pywebtransport.protocol import WebTransportProtocolHandler
from pywebtransport.session import SessionDiagnostics, SessionStats, WebTransportSession
from pywebtransport.types import SessionState
from tests.harness import Pair

# kind | name | type or signature | default; "¦" stands for "|" within a type.
REFERENCE = {
    "SessionDiagnostics": """
        attribute | stats | SessionStats | -
        attribute | state | SessionState | -
        attribute | is_connection_active | bool | -
        attribute | datagram_receive_buffer_size | int | -
        attribute | send_credit_available | int | -
        attribute | receive_credit_available | int | -
        property | issues | list[str] | -
    """,
    "SessionStats": """
        attribute | session_id | SessionId | -
        attribute | created_at | float | -
        attribute | ready_at | float ¦ None | None
        attribute | closed_at | float ¦ None | None
        attribute | streams_created | int | 0
        attribute | streams_closed | int | 0
        attribute | stream_errors | int | 0
        attribute | bidirectional_streams | int | 0
        attribute | unidirectional_streams | int | 0
        attribute | datagrams_sent | int | 0
        attribute | datagrams_received | int | 0
        attribute | protocol_errors | int | 0
        property | active_streams | int | -
        property | uptime | float | -
        method | to_dict | (self) -> dict[str, Any] | -
    """,
    "WebTransportSession": """
        property | connection | WebTransportConnection ¦ None | -
        property | headers | Headers | -
        property | is_closed | bool | -
        property | is_ready | bool | -
        property | path | str | -
        property | protocol_handler | WebTransportProtocolHandler ¦ None | -
        property | session_id | SessionId | -
        property | state | SessionState | -
        coroutine | close | (self, code: int = 0, reason: str = "", close_connection: bool = True) -> None | -
        coroutine | create_bidirectional_stream | (self, timeout: float ¦ None = None) -> WebTransportStream | -
        coroutine | create_datagram_transport | (self) -> WebTransportDatagramTransport | -
        coroutine | create_unidirectional_stream | (self, timeout: float ¦ None = None) -> WebTransportSendStream | -
        coroutine | diagnostics | (self) -> SessionDiagnostics | -
        generator | incoming_streams | (self) -> AsyncIterator[StreamType] | -
        coroutine | initialize | (self) -> None | -
        coroutine | monitor_health | (self, check_interval: float = 60.0) -> None | -
        coroutine | ready | (self, timeout: float = 30.0) -> None | -
        coroutine | wait_closed | (self) -> None | -
    """,
}

ROWS = [
    [class_name, *(cell.strip().replace("¦", "|") for cell in line.split(" | "))]
    for class_name, table in REFERENCE.items()
    for line in table.strip().splitlines()
]
CLASSES: dict[str, type[Any]] = {cls.__name__: cls for cls in (SessionDiagnostics, SessionStats, WebTransportSession)}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}.{row[2]}")
def test_member(row: list[str]) -> None:
    class_name, kind, name, declared, default = row
    cls = CLASSES[class_name]
    if kind == "attribute":
        (item,) = [item for item in dataclasses.fields(cls) if item.name == name]
        assert item.type == declared
        assert item.kw_only
        expected = {"-": dataclasses.MISSING, "None": None, "0": 0}[default]
        assert item.default is expected or item.default == expected
    elif kind == "property":
        member = inspect.getattr_static(cls, name)
        assert isinstance(member, property)
        assert inspect.signature(member.fget).return_annotation == declared  # type: ignore[arg-type]  # wrong on purpose
    else:
        member = getattr(cls, name)
        assert inspect.iscoroutinefunction(member) == (kind == "coroutine")
        assert inspect.isasyncgenfunction(member) == (kind == "generator")
        assert _signature(member) == declared
        for parameter in list(inspect.signature(member).parameters.values())[1:]:
            assert parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD


def test_snapshots_are_immutable_and_statistics_are_not() -> None:
    stats = SessionStats(session_id="s", created_at=1.0)
    stats.streams_created += 1
    assert stats.active_streams == 1
    snapshot = SessionDiagnostics(
        stats=stats,
        state=SessionState.CONNECTED,
        is_connection_active=True,
        datagram_receive_buffer_size=0,
        send_credit_available=1,
        receive_credit_available=1,
    )
    with pytest.raises(dataclasses.FrozenInstanceError):
        snapshot.state = SessionState.CLOSED  # type: ignore[misc]  # mypy cannot infer a default of a lambda
    assert snapshot.issues == []


def test_to_dict_has_every_field_and_both_properties() -> None:
    stats = SessionStats(session_id="s", created_at=1.0)
    assert set(stats.to_dict()) == {item.name for item in dataclasses.fields(stats)} | {"uptime", "active_streams"}


def test_issues() -> None:
    stats = SessionStats(session_id="s", created_at=0.0, ready_at=1.0, streams_created=51, streams_closed=51)
    stats.stream_errors, stats.protocol_errors = 5, 5
    snapshot = SessionDiagnostics(
        stats=stats,
        state=SessionState.CONNECTING,
        is_connection_active=False,
        datagram_receive_buffer_size=101,
        send_credit_available=0,
        receive_credit_available=0,
    )
    assert len(snapshot.issues) == 5
    assert any("stuck" in issue for issue in snapshot.issues)


async def test_a_live_session(pair: Pair) -> None:
    for session in (pair.client, pair.server):
        assert isinstance(session.connection, WebTransportConnection)
        assert type(session.headers) is dict
        assert session.is_closed is False
        assert session.is_ready is True
        assert type(session.path) is str
        assert isinstance(session.protocol_handler, WebTransportProtocolHandler)
        assert type(session.session_id) is str
        assert type(session.state) is SessionState
        assert isinstance(await session.create_bidirectional_stream(), WebTransportStream)
        assert isinstance(await session.create_unidirectional_stream(), WebTransportSendStream)
        assert isinstance(await session.create_datagram_transport(), WebTransportDatagramTransport)
        assert isinstance(session.incoming_streams(), AsyncIterator)
        diagnostics = await session.diagnostics()
        for row in ROWS:
            if row[0] == "SessionDiagnostics":
                assert hasattr(diagnostics, row[2])
            elif row[0] == "SessionStats":
                assert hasattr(diagnostics.stats, row[2])
        assert await session.initialize() is None  # type: ignore[func-returns-value]
        assert await session.ready(timeout=1.0) is None  # type: ignore[func-returns-value]
    assert await pair.client.close(code=0, reason="", close_connection=True) is None  # type: ignore[func-returns-value]
    assert await pair.client.wait_closed() is None  # type: ignore[func-returns-value]


def _signature(member: Any) -> str:
    """The signature as the reference writes it."""
    text = str(inspect.signature(member)).replace("'", "")
    return text.replace("reason: str = ,", 'reason: str = "",')
