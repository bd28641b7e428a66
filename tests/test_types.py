"""Types: enumerations compare with plain strings, protocols recognise what fits."""

from __future__ import annotations

from typing import Any

import pytest

from pywebtransport import types
from pywebtransport.serializer.json import JSONSerializer
from pywebtransport.types import (
    AuthHandlerProtocol,
    ConnectionState,
    EventType,
    MiddlewareProtocol,
    Serializer,
    SessionState,
    StreamDirection,
    StreamState,
    WebTransportProtocol,
)


@pytest.mark.parametrize("kind", [ConnectionState, EventType, SessionState, StreamDirection, StreamState])
def test_members_are_their_name_in_lower_case(kind: type[Any]) -> None:
    assert all(member == member.name.lower() == str(member) for member in kind)


def test_event_types_are_complete() -> None:
    assert len(EventType) == 22


def test_protocols_recognise_callables_and_serializers() -> None:
    async def check(session: Any) -> bool:
        return True

    assert isinstance(check, MiddlewareProtocol) and isinstance(check, AuthHandlerProtocol)
    assert isinstance(JSONSerializer(), Serializer)
    assert not isinstance(object(), Serializer) and not isinstance(object(), WebTransportProtocol)


def test_every_exported_name_exists() -> None:
    assert all(hasattr(types, name) for name in types.__all__)
