"""Serializers: values and dataclasses there and back, and what is refused."""

from __future__ import annotations

import contextlib
import enum
import json
import math
import sys
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywebtransport.exceptions import ConfigurationError, SerializationError
from pywebtransport.serializer import JSONSerializer, MsgPackSerializer, ProtobufSerializer
from pywebtransport.types import Serializer


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: int = 0


@dataclass
class Shape:
    name: str
    points: list[Point]
    colour: Colour | None = None
    labels: dict[str, Point] = field(default_factory=dict)
    corners: tuple[int, str] = (0, "")
    tags: set[str] = field(default_factory=set)
    size: Annotated[float, "metres"] = 0.0
    kind: Literal["a", "b"] = "a"
    area: float = field(default=0.0, init=False)


@dataclass
class Unresolvable:
    value: NoSuchName  # type: ignore[name-defined]  # noqa: F821


def serializers() -> list[Any]:
    pytest.importorskip("msgpack")
    return [JSONSerializer(), MsgPackSerializer()]


@pytest.fixture(params=[0, 1], ids=["json", "msgpack"])
def serializer(request: pytest.FixtureRequest) -> Any:
    return serializers()[request.param]


# --- both serializers of plain values ---


def test_dataclasses_inside_dataclasses_come_back(serializer: Any) -> None:
    shape = Shape("tri", [Point(1, 2), Point(3)], labels={"top": Point(5)}, corners=(1, "x"), size=2.5, kind="b")
    shape.tags = []  # type: ignore[assignment]  # neither format has sets
    shape.area = 9.0
    result = serializer.deserialize(serializer.serialize(shape), Shape)
    assert result == Shape("tri", [Point(1, 2), Point(3)], None, {"top": Point(5)}, (1, "x"), set(), size=2.5, kind="b")


def test_values_become_the_annotated_types(serializer: Any) -> None:
    data = serializer.serialize({"name": 123, "points": [{"x": "1"}], "colour": "red", "tags": ["t", "t"], "more": 1})
    assert serializer.deserialize(data=data, obj_type=Shape) == Shape("123", [Point(1)], Colour.RED, tags={"t"})


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        ("1", int, 1),
        (123, str, "123"),
        (1, float, 1.0),
        (2.0, int, 2),
        (1.5, int, 1.5),
        ("seven", int, "seven"),
        ("false", bool, False),
        ("maybe", bool, "maybe"),
        ([1, "2"], list[int], [1, 2]),
        ([1, 2], tuple[int, ...], (1, 2)),
        ([1, 2, 3], tuple[int, str], [1, 2, 3]),
        ({"a": "1"}, dict[str, int], {"a": 1}),
        ("abc", list[str], "abc"),
        ({"x": 1}, Point | None, Point(1)),
        ({"x": 1}, int | Point, Point(1)),
        ("5", int | None, 5),
        ("5", int | str, "5"),
        (None, int, None),
        ({"x": 1}, Any, {"x": 1}),
        ({"x": 1}, dict, {"x": 1}),
        ([{"x": 1}], list, [{"x": 1}]),
    ],
)
def test_conversion(serializer: Any, value: Any, kind: Any, expected: Any) -> None:
    result = serializer.deserialize(serializer.serialize(value), kind)
    assert result == expected and type(result) is type(expected)


def test_missing_field_is_an_error(serializer: Any) -> None:
    with pytest.raises(SerializationError, match="Failed to unpack") as caught:
        serializer.deserialize(serializer.serialize({"y": 1}), Point)
    assert isinstance(caught.value.original_exception, TypeError)


def test_annotation_that_cannot_be_resolved_leaves_the_value(serializer: Any) -> None:
    assert serializer.deserialize(serializer.serialize({"value": [1]}), Unresolvable).value == [1]


def test_object_without_a_form_is_an_error_with_its_cause(serializer: Any) -> None:
    with pytest.raises(SerializationError, match=r"of type list is not (JSON|MsgPack) serializable") as caught:
        serializer.serialize([object()])
    assert isinstance(caught.value.__cause__, TypeError)
    assert caught.value.original_exception is caught.value.__cause__


def test_class_instead_of_instance_is_an_error(serializer: Any) -> None:
    with pytest.raises(SerializationError):
        serializer.serialize(Point)


def test_value_that_contains_itself_is_an_error(serializer: Any) -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(SerializationError):
        serializer.serialize(loop)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=20,
    )
)
def test_plain_values_come_back(value: Any) -> None:
    for serializer in serializers():
        assert serializer.deserialize(serializer.serialize(value)) == value


@given(st.binary(max_size=64))
def test_any_bytes_decode_or_raise_the_library_error(data: bytes) -> None:
    for serializer in serializers():
        with contextlib.suppress(SerializationError):
            serializer.deserialize(data, Shape)


# --- JSON ---


def test_json_uses_the_separators_of_the_standard_library_and_takes_its_arguments() -> None:
    assert JSONSerializer().serialize({"a": [1, 2]}) == b'{"a": [1, 2]}'
    assert JSONSerializer(separators=(",", ":"), sort_keys=True).serialize({"b": 1, "a": 2}) == b'{"a":2,"b":1}'


def test_json_asks_a_default_for_what_is_not_a_dataclass() -> None:
    serializer = JSONSerializer(default=sorted)
    assert json.loads(serializer.serialize([{3, 1}, Point(1)])) == [[1, 3], {"x": 1, "y": 0}]


@pytest.mark.parametrize("data", [b"{", b"\xff", b"", b"[" * 100_000])
def test_json_refuses_what_is_not_json(data: bytes) -> None:
    with pytest.raises(SerializationError, match="Data is not valid JSON"):
        JSONSerializer().deserialize(data)


@pytest.mark.parametrize(
    ("value", "arguments"), [(math.nan, {"allow_nan": False}), ("\ud800", {"ensure_ascii": False})]
)
def test_json_refuses_values_its_arguments_forbid(value: Any, arguments: dict[str, Any]) -> None:
    with pytest.raises(SerializationError, match="is not JSON serializable"):
        JSONSerializer(**arguments).serialize(value)


# --- MessagePack ---


def test_msgpack_passes_its_arguments_on() -> None:
    pytest.importorskip("msgpack")
    serializer = MsgPackSerializer({"default": str}, {"strict_map_key": False})
    assert serializer.deserialize(serializer.serialize({1: 2j})) == {1: "2j"}


def test_msgpack_keeps_bytes() -> None:
    pytest.importorskip("msgpack")
    serializer = MsgPackSerializer()
    assert serializer.deserialize(serializer.serialize(b"\x00\xff")) == b"\x00\xff"


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x01\x02", b"\x81\x01\x02"])
def test_msgpack_refuses_what_is_not_one_value(data: bytes) -> None:
    pytest.importorskip("msgpack")
    with pytest.raises(SerializationError, match="Data is not valid MsgPack"):
        MsgPackSerializer().deserialize(data)


def test_msgpack_refuses_integers_that_do_not_fit() -> None:
    pytest.importorskip("msgpack")
    with pytest.raises(SerializationError, match="is not MsgPack serializable"):
        MsgPackSerializer().serialize(2**64)


# --- Protocol Buffers ---


def test_protobuf_messages_come_back() -> None:
    wrappers = pytest.importorskip("google.protobuf.wrappers_pb2")
    serializer = ProtobufSerializer(wrappers.StringValue)
    message = wrappers.StringValue(value="hello")
    assert serializer.deserialize(serializer.serialize(message)) == message
    assert serializer.deserialize(serializer.serialize(message), wrappers.StringValue) == message


def test_protobuf_refuses_other_classes_and_broken_data() -> None:
    wrappers = pytest.importorskip("google.protobuf.wrappers_pb2")
    serializer = ProtobufSerializer(message_class=wrappers.StringValue)
    with pytest.raises(SerializationError, match="received an object of type 'Int32Value'"):
        serializer.serialize(wrappers.Int32Value(value=1))
    with pytest.raises(SerializationError, match="deserialize into 'Int32Value'"):
        serializer.deserialize(b"", wrappers.Int32Value)
    with pytest.raises(SerializationError, match="Failed to deserialize data into 'StringValue'"):
        serializer.deserialize(b"\xff\xff")


@pytest.mark.parametrize("cls", [int, "StringValue"])
def test_protobuf_needs_a_message_class(cls: Any) -> None:
    pytest.importorskip("google.protobuf")
    with pytest.raises(TypeError, match="is not a valid Protobuf Message class"):
        ProtobufSerializer(cls)


# --- all ---


@pytest.mark.parametrize(
    ("module", "make"),
    [("msgpack", MsgPackSerializer), ("google.protobuf.message", lambda: ProtobufSerializer(int))],  # type: ignore[arg-type]  # wrong on purpose
)
def test_missing_package_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch, module: str, make: Any) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigurationError, match="library is required") as caught:
        make()
    assert "pip install pywebtransport[" in caught.value.details["installation_guide"]


def test_serializers_follow_the_protocol() -> None:
    assert all(isinstance(serializer, Serializer) for serializer in serializers())
