"""From the plain values of a decoder (dict, list, str, numbers) to annotated types.

Rules
    A value that already fits stays as it is. Dictionaries become dataclasses, with unknown keys ignored and missing
    ones left to the defaults. Containers convert their items. Anything else is offered to the type's constructor
    (`"1"` -> 1, 123 -> "123", "red" -> Colour("red")). What cannot be converted, or only with a loss, is returned
    unchanged: checking is not the business of a serializer.

    Annotations may be strings (`from __future__ import annotations`); they are resolved in the module of the
    dataclass.
"""

from __future__ import annotations

import types
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from pywebtransport.exceptions import SerializationError

__all__: list[str] = []


class _BaseDataclassSerializer:
    """What the serializers of plain values share."""

    @staticmethod
    def _convert_to_type(data: Any, target_type: Any) -> Any:
        """Return `data` as an instance of `target_type` where that is possible."""
        return _convert(data, target_type)


def to_plain(obj: Any) -> dict[str, Any]:
    """Return the fields of a dataclass instance, one level deep: the encoder asks again for what is inside.

    Raises:
        TypeError: anything else.
    """
    if is_dataclass(obj) and not isinstance(obj, type):
        return {item.name: getattr(obj, item.name) for item in fields(obj)}
    raise TypeError(f"cannot express an object of type {type(obj).__name__}")


def _convert(data: Any, target: Any) -> Any:
    if target is Any or data is None:
        return data

    origin, args = get_origin(target), get_args(target)
    if origin is Annotated:
        return _convert(data, args[0])
    if origin in (Union, types.UnionType):
        return _convert_union(data, args)

    container = origin or target
    if container in (list, set, frozenset, tuple):
        return _convert_items(data, container, args)
    if container is dict:
        return _convert_dict(data, args)
    if isinstance(target, type):
        return _convert_class(data, target)
    return data  # TypeVar, Literal, NewType, an annotation that could not be resolved


def _convert_union(data: Any, arms: tuple[Any, ...]) -> Any:
    """Prefer the arm the value already is, then the first one that changes it into one of the arms."""
    classes = [arm for arm in arms if isinstance(arm, type)]
    if any(type(data) is cls for cls in classes):
        return data
    for arm in arms:
        converted = _convert(data, arm)
        wanted = get_origin(arm) or arm
        if isinstance(wanted, type) and isinstance(converted, wanted):
            return converted
    return data


def _convert_items(data: Any, container: Any, args: tuple[Any, ...]) -> Any:
    if not isinstance(data, (list, tuple, set, frozenset)):
        return data
    if not args:
        return container(data)
    if container is tuple and args[-1] is not Ellipsis:
        if len(args) != len(data):
            return data  # tuple[int, str] and three values: nothing fits
        return tuple(_convert(item, arg) for item, arg in zip(data, args, strict=True))
    return container(_convert(item, args[0]) for item in data)


def _convert_dict(data: Any, args: tuple[Any, ...]) -> Any:
    if not isinstance(data, dict) or not args:
        return data
    return {_convert(key, args[0]): _convert(value, args[1]) for key, value in data.items()}


def _convert_class(data: Any, target: type[Any]) -> Any:
    if isinstance(data, dict) and is_dataclass(target):
        return _convert_dataclass(data, target)
    if isinstance(data, target):
        return data
    if target is bool and isinstance(data, str):
        return _BOOLEANS.get(data.lower(), data)  # bool("false") would be True
    if target is int and isinstance(data, float) and not data.is_integer():
        return data  # int(1.5) would lose the half
    try:
        return target(data)
    except (TypeError, ValueError, OverflowError):
        return data


def _convert_dataclass(data: dict[str, Any], cls: type[Any]) -> Any:
    hints = _hints(cls)
    arguments = {
        item.name: _convert(data[item.name], hints.get(item.name, Any))
        for item in fields(cls)
        if item.init and item.name in data
    }
    try:
        return cls(**arguments)
    except TypeError as error:
        raise SerializationError(
            f"Failed to unpack dictionary to dataclass {cls.__name__}.", original_exception=error
        ) from error


def _hints(cls: type[Any]) -> dict[str, Any]:
    """Return the annotations with strings resolved; those of a class with an unknown name stay as they are."""
    try:
        return get_type_hints(cls, include_extras=True)
    except (NameError, AttributeError, TypeError):
        return {item.name: item.type for item in fields(cls)}


_BOOLEANS = {"true": True, "false": False, "1": True, "0": False}
