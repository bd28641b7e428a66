"""Stream ids and error codes.

The two low bits of a QUIC stream id say who opened it (0x1: the server) and whether it is unidirectional (0x2)
(RFC 9000, 2.1).
"""

from __future__ import annotations

from typing import Any

from pywebtransport.constants import MAX_STREAM_ID, UNIDIRECTIONAL_STREAM, ErrorCodes
from pywebtransport.types import StreamDirection, StreamId

__all__: list[str] = [
    "can_receive_data_on_stream",
    "can_send_data_on_stream",
    "get_stream_direction_from_id",
    "validate_session_id",
    "validate_stream_id",
    "webtransport_code_to_http_code",
]


def can_receive_data_on_stream(stream_id: StreamId, is_client: bool) -> bool:
    """Return whether this end may receive on the stream: it is bidirectional, or the peer opened it."""
    return not _is_unidirectional(stream_id) or _opened_by_client(stream_id) != is_client


def can_send_data_on_stream(stream_id: StreamId, is_client: bool) -> bool:
    """Return whether this end may send on the stream: it is bidirectional, or this end opened it."""
    return not _is_unidirectional(stream_id) or _opened_by_client(stream_id) == is_client


def get_stream_direction_from_id(stream_id: StreamId, is_client: bool) -> StreamDirection:
    """Return which way data flows on the stream, seen from this end.

    Raises:
        TypeError: the id is not an integer.
        ValueError: the id is not a QUIC stream id.
    """
    validate_stream_id(stream_id)
    if not _is_unidirectional(stream_id):
        return StreamDirection.BIDIRECTIONAL
    if can_send_data_on_stream(stream_id, is_client):
        return StreamDirection.SEND_ONLY
    return StreamDirection.RECEIVE_ONLY


def validate_session_id(session_id: Any) -> None:
    """Raise TypeError unless the id is a string, ValueError when it is empty."""
    if not isinstance(session_id, str):
        raise TypeError("Session ID must be a string")
    if not session_id:
        raise ValueError("Session ID cannot be empty")


def validate_stream_id(stream_id: Any) -> None:
    """Raise TypeError unless the id is an integer, ValueError when it is not from 0 to 2**62 - 1."""
    if not isinstance(stream_id, int):
        raise TypeError("Stream ID must be an integer")
    if not 0 <= stream_id <= MAX_STREAM_ID:
        raise ValueError(f"Stream ID {stream_id} out of valid range")


def webtransport_code_to_http_code(app_error_code: int) -> int:
    """Return the HTTP/3 code that carries a WebTransport code in a reset or stop (draft-16, section 4.4).

    Every 31st HTTP/3 code is reserved (0x1f * N + 0x21, RFC 9114, 8.1); the mapping leaves those out.

    Raises:
        ValueError: the code does not fit 32 bits.
    """
    if not 0 <= app_error_code <= 0xFFFF_FFFF:
        raise ValueError("Application error code must be a 32-bit unsigned integer.")
    return ErrorCodes.WT_APPLICATION_ERROR_FIRST + app_error_code + app_error_code // 0x1E


def _is_unidirectional(stream_id: StreamId) -> bool:
    return bool(stream_id & UNIDIRECTIONAL_STREAM)


def _opened_by_client(stream_id: StreamId) -> bool:
    return not stream_id & 0x1
