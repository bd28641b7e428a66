"""Exceptions: texts, codes, attributes, and what `except` catches."""

from __future__ import annotations

import builtins
import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from pywebtransport import exceptions
from pywebtransport.constants import ErrorCodes
from pywebtransport.exceptions import ConnectionTimeoutError, DatagramTooLargeError, WebTransportError
from pywebtransport.types import SessionState, StreamState

CLASSES: list[type[WebTransportError]] = [
    *(getattr(exceptions, name) for name in exceptions.__all__ if isinstance(getattr(exceptions, name), type)),
    ConnectionTimeoutError,
    DatagramTooLargeError,
]

DEFAULT_CODES = {
    "WebTransportError": 0x1,
    "AuthenticationError": 0x1001,
    "CertificateError": 0x1001,
    "ClientError": 0x1004,
    "ConfigurationError": 0x1004,
    "ConnectionError": 0x2,
    "ConnectionTimeoutError": 0x1000,
    "DatagramError": 0x1,
    "DatagramTooLargeError": 0x1,
    "FlowControlError": 0x3,
    "HandshakeError": 0x1,
    "ProtocolError": 0xA,
    "SerializationError": 0x1,
    "ServerError": 0x1005,
    "SessionError": 0x1,
    "StreamError": 0x5,
    "TimeoutError": 0x1000,
}


def test_every_class_is_listed_with_its_default_code() -> None:
    assert {cls.__name__: cls("x").error_code for cls in CLASSES} == DEFAULT_CODES


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("clone", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy])
def test_survives_pickle_and_copy_with_all_attributes(
    cls: type[WebTransportError], clone: Callable[[WebTransportError], WebTransportError]
) -> None:
    error = cls("it broke", 0x77, details={"where": "here"})
    error.close_code, error.close_reason, error.ended_by = 7, "bye", "peer"
    error.application_code, error.wire_code = 7, 0x52E4A40FA8E2
    for name in cls._fields:
        setattr(error, name, 5)
    result = clone(error)
    assert type(result) is cls
    assert vars(result) == vars(error)
    assert (str(result), repr(result), result.args) == (str(error), repr(error), error.args)


def test_codes_of_the_end_are_unknown_until_set() -> None:
    error = WebTransportError("x")
    assert [error.close_code, error.close_reason, error.ended_by] == [None] * 3
    assert [error.application_code, error.wire_code] == [None] * 2
    assert set(error.to_dict()) == {"type", "message", "error_code", "details"}


def test_zero_counts_as_code_not_given() -> None:
    assert exceptions.StreamError("x", error_code=0).error_code == ErrorCodes.STREAM_STATE_ERROR


def test_builtin_classes_catch_the_library_errors_of_the_same_name() -> None:
    with pytest.raises(builtins.TimeoutError):
        raise exceptions.TimeoutError(message="slow", timeout_duration=1.0, operation="read")
    with pytest.raises(builtins.ConnectionError):
        raise exceptions.ConnectionError(message="gone", remote_address=("::1", 4433))


def test_connect_that_never_became_ready_is_timeout_and_connection_error() -> None:
    error = ConnectionTimeoutError("not ready", timeout_duration=2.0, operation="connect", remote_address=("::1", 1))
    for cls in (exceptions.TimeoutError, exceptions.ConnectionError, builtins.TimeoutError, builtins.ConnectionError):
        assert isinstance(error, cls)
    assert (error.timeout_duration, error.operation, error.remote_address) == (2.0, "connect", ("::1", 1))
    assert exceptions.get_error_category(error) == "timeout"


def test_too_large_datagram_is_also_a_value_error_and_shows_itself_as_datagram_error() -> None:
    error = exceptions.datagram_too_large(1300, 1200)
    assert isinstance(error, exceptions.DatagramError) and isinstance(error, ValueError)
    assert repr(error).startswith("DatagramError(") and error.to_dict()["type"] == "DatagramError"
    assert "1300" in str(error) and "1200" in str(error)
    assert (error.datagram_size, error.max_size) == (1300, 1200)


def test_serialization_error_is_neither_type_error_nor_value_error() -> None:
    assert not issubclass(exceptions.SerializationError, (TypeError, ValueError))


def test_repr_lists_attributes_in_constructor_order() -> None:
    error = exceptions.FlowControlError("too much", stream_id=4, limit_exceeded=10, current_value=11)
    assert repr(error) == (
        "FlowControlError(message='too much', error_code=0x3, stream_id=4, limit_exceeded=10, current_value=11)"
    )


def test_stream_id_ends_the_text_only_when_known() -> None:
    assert str(exceptions.StreamError("closed", stream_id=5)) == "[0x5] closed (stream_id=5)"
    assert str(exceptions.StreamError("closed", stream_id=0)) == "[0x5] closed (stream_id=0)"
    assert str(exceptions.StreamError("closed")) == "[0x5] closed"


def test_to_dict_gives_states_as_values_and_causes_as_text() -> None:
    stream = exceptions.StreamError("x", stream_state=StreamState.RESET_SENT).to_dict()
    assert stream["stream_state"] == "reset_sent" and type(stream["stream_state"]) is str
    cause = ValueError("bad byte")
    assert exceptions.SerializationError("x", original_exception=cause).to_dict()["original_exception"] == "bad byte"


@pytest.mark.parametrize(
    ("error", "parts"),
    [
        (exceptions.certificate_not_found("/no/cert.pem"), ["/no/cert.pem"]),
        (exceptions.invalid_config("max_streams", 0, "must be positive"), ["max_streams", "must be positive"]),
        (exceptions.session_not_ready("s1", SessionState.CLOSING), ["s1", "closing"]),
        (exceptions.stream_closed(5, "reset by peer"), ["Stream 5", "reset by peer"]),
    ],
)
def test_factories_name_what_went_wrong(error: WebTransportError, parts: list[str]) -> None:
    assert all(part in str(error) for part in parts)


def test_missing_certificate_is_marked_for_programs() -> None:
    error = exceptions.certificate_not_found(path="/no/cert.pem")
    assert (error.certificate_error, error.certificate_path) == ("file_not_found", "/no/cert.pem")


@pytest.mark.parametrize(
    ("error", "category", "fatal", "retriable"),
    [
        (exceptions.ProtocolError("x"), "protocol", True, False),
        (exceptions.AuthenticationError("x"), "authentication", True, False),
        (exceptions.TimeoutError("x"), "timeout", False, True),
        (exceptions.ServerError("x"), "server", False, True),
        (exceptions.FlowControlError("x"), "flow_control", False, True),
        (exceptions.StreamError("x"), "stream", False, False),
        (WebTransportError("x"), "unknown", False, False),
        (KeyError("x"), "unknown", True, False),
    ],
)
def test_classification(error: Exception, category: str, fatal: bool, retriable: bool) -> None:
    assert exceptions.get_error_category(error) == category
    assert exceptions.is_fatal_error(error) is fatal
    assert exceptions.is_retriable_error(error) is retriable


def test_positional_and_keyword_arguments_mean_the_same() -> None:
    arguments: dict[str, Any] = {"message": "m", "error_code": 9, "config_key": "k", "config_value": 1, "details": {}}
    assert vars(exceptions.ConfigurationError(**arguments)) == vars(exceptions.ConfigurationError(*arguments.values()))
