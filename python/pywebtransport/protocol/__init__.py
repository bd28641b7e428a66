"""The protocol layer, as far as Python sees it: a read-only view, records and helpers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pywebtransport._not_offered import not_offered
from pywebtransport.protocol.events import (
    CapsuleReceived,
    DatagramReceived,
    H3Event,
    HeadersReceived,
    WebTransportStreamDataReceived,
)
from pywebtransport.protocol.handler import WebTransportProtocolHandler
from pywebtransport.protocol.session_info import StreamInfo, WebTransportSessionInfo
from pywebtransport.protocol.utils import (
    can_receive_data_on_stream,
    can_send_data_on_stream,
    get_stream_direction_from_id,
    validate_session_id,
    validate_stream_id,
    webtransport_code_to_http_code,
)

__all__: list[str] = [
    "CapsuleReceived",
    "DatagramReceived",
    "H3Event",
    "HeadersReceived",
    "StreamInfo",
    "WebTransportProtocolHandler",
    "WebTransportSessionInfo",
    "WebTransportStreamDataReceived",
    "can_receive_data_on_stream",
    "can_send_data_on_stream",
    "get_stream_direction_from_id",
    "validate_session_id",
    "validate_stream_id",
    "webtransport_code_to_http_code",
]


if not TYPE_CHECKING:  # a type checker would take it for a promise that every name exists

    def __getattr__(name: str) -> Any:
        raise not_offered(__name__, name)
