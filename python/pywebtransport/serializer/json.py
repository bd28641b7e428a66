"""Objects as JSON text in UTF-8."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from pywebtransport.exceptions import SerializationError
from pywebtransport.serializer._base import _BaseDataclassSerializer, to_plain
from pywebtransport.types import Serializer

__all__: list[str] = ["JSONSerializer"]


class JSONSerializer(_BaseDataclassSerializer, Serializer):
    """Encodes what `json` can, and dataclasses as objects of their fields."""

    def __init__(self, **kwargs: Any) -> None:
        """Take the keyword arguments of `json.dumps`; a `default` is asked for what is not a dataclass."""
        self._default: Callable[[Any], Any] | None = kwargs.pop("default", None)
        self._kwargs = kwargs

    def deserialize(self, data: bytes, obj_type: Any = None) -> Any:
        """Decode JSON.

        Args:
            data: JSON text in UTF-8, UTF-16 or UTF-32.
            obj_type: a dataclass or annotation to convert to; None returns the plain value.

        Returns:
            The object; parts that do not fit their annotation stay plain.

        Raises:
            SerializationError: the data is not JSON, or fields of the dataclass are missing.
        """
        try:
            decoded = json.loads(data)
            return decoded if obj_type is None else self._convert_to_type(decoded, obj_type)
        except (TypeError, ValueError, RecursionError) as error:
            raise SerializationError(
                "Data is not valid JSON or cannot be unpacked.", original_exception=error
            ) from error

    def serialize(self, obj: Any) -> bytes:
        """Encode `obj` as JSON.

        Raises:
            SerializationError: something in `obj` has no JSON form; the cause is the exception of `json`.
        """
        try:
            return json.dumps(obj, default=self._encode, **self._kwargs).encode("utf-8")
        except (TypeError, ValueError, RecursionError) as error:
            raise SerializationError(
                f"Object of type {type(obj).__name__} is not JSON serializable.", original_exception=error
            ) from error

    def _encode(self, obj: Any) -> Any:
        try:
            return to_plain(obj)
        except TypeError:
            if self._default is None:
                raise
        return self._default(obj)
