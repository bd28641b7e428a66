"""Stream ids, error codes, and the records of the protocol layer."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywebtransport.protocol.events import CapsuleReceived, H3Event, HeadersReceived
from pywebtransport.protocol.session_info import StreamInfo, WebTransportSessionInfo
from pywebtransport.protocol.utils import (
    can_receive_data_on_stream,
    can_send_data_on_stream,
    get_stream_direction_from_id,
    validate_session_id,
    validate_stream_id,
    webtransport_code_to_http_code,
)
from pywebtransport.types import SessionState, StreamDirection, StreamState

BIDI, SEND, RECEIVE = StreamDirection.BIDIRECTIONAL, StreamDirection.SEND_ONLY, StreamDirection.RECEIVE_ONLY


@pytest.mark.parametrize(
    ("stream_id", "client_sees", "server_sees"),
    [(0, BIDI, BIDI), (1, BIDI, BIDI), (2, SEND, RECEIVE), (3, RECEIVE, SEND), (2**62 - 1, RECEIVE, SEND)],
)
def test_direction_follows_from_the_two_low_bits(stream_id: int, client_sees: Any, server_sees: Any) -> None:
    assert get_stream_direction_from_id(stream_id, True) is client_sees
    assert get_stream_direction_from_id(stream_id, False) is server_sees


@given(st.integers(0, 2**62 - 1))
def test_one_end_may_send_exactly_when_the_other_may_receive(stream_id: int) -> None:
    for is_client in (True, False):
        sends = can_send_data_on_stream(stream_id, is_client)
        assert sends == can_receive_data_on_stream(stream_id, not is_client)
        assert sends or can_receive_data_on_stream(stream_id, is_client)


@pytest.mark.parametrize(
    ("value", "error"), [("0", TypeError), (None, TypeError), (-1, ValueError), (2**62, ValueError)]
)
def test_what_is_no_stream_id(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        validate_stream_id(value)
    with pytest.raises(error):
        get_stream_direction_from_id(value, is_client=True)


@pytest.mark.parametrize(("value", "error"), [(5, TypeError), (None, TypeError), ("", ValueError)])
def test_what_is_no_session_id(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        validate_session_id(value)
    validate_session_id("s")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (0, 0x52E4A40FA8DB),
        (29, 0x52E4A40FA8F8),
        (30, 0x52E4A40FA8FA),
        (59, 0x52E4A40FA917),
        (60, 0x52E4A40FA919),
        (255, 0x52E4A40FA9E2),
        (65535, 0x52E4A410B162),
        (0x7FFFFFFF, 0x52E52853ED1E),
        (0xFFFFFFFF, 0x52E5AC983162),
    ],
)
def test_codes_of_the_draft(code: int, expected: int) -> None:
    assert webtransport_code_to_http_code(code) == expected


@given(st.integers(0, 0xFFFF_FFFE))
def test_code_is_never_reserved_and_keeps_the_order(code: int) -> None:
    mapped = webtransport_code_to_http_code(code)
    assert (mapped - 0x21) % 0x1F != 0
    assert mapped < webtransport_code_to_http_code(code + 1)


@pytest.mark.parametrize("code", [-1, 2**32])
def test_code_must_fit_32_bits(code: int) -> None:
    with pytest.raises(ValueError, match=r"Application error code must be a 32-bit unsigned integer\."):
        webtransport_code_to_http_code(app_error_code=code)


def stream_info(**changes: Any) -> StreamInfo:
    values = {"stream_id": 8, "session_id": "s1", "direction": SEND, "state": StreamState.CLOSED, "created_at": 10.0}
    return StreamInfo(**{**values, **changes})


def test_stream_in_a_log_line() -> None:
    assert str(stream_info(closed_at=15.25)) == (
        "Stream 8 [closed] direction=send_only session=s1 sent=0b recv=0b (duration: 5.25s)"
    )
    assert "(active: " in str(stream_info())


def test_session_in_a_log_line() -> None:
    info = WebTransportSessionInfo(
        session_id="s1", control_stream_id=0, state=SessionState.CLOSED, path="/x", created_at=1.0
    )
    assert str(info) == "Session s1 [closed] path=/x control_stream=0"
    info.ready_at, info.closed_at = 2.0, 4.5
    assert str(info).endswith(" (duration: 2.50s)")


def test_infos_as_dictionaries_share_nothing() -> None:
    info = WebTransportSessionInfo(
        session_id="s1", control_stream_id=0, state=SessionState.CONNECTED, path="/", created_at=1.0, headers={"a": "b"}
    )
    values = info.to_dict()
    assert values["state"] == "connected" and values["headers"] == info.headers
    assert values["headers"] is not info.headers
    assert stream_info().to_dict()["direction"] == "send_only"


def test_event_records_are_keyword_only() -> None:
    assert CapsuleReceived(capsule_data=b"", capsule_type=0x2843, stream_id=0) == CapsuleReceived(
        capsule_data=b"", capsule_type=0x2843, stream_id=0
    )
    assert isinstance(HeadersReceived(headers={}, stream_id=0, stream_ended=False), H3Event)
    with pytest.raises(TypeError):
        HeadersReceived({}, 0, False)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        H3Event(1)  # type: ignore[call-arg]
