"""Objects as MessagePack, with the optional package `msgpack`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from pywebtransport.exceptions import ConfigurationError, SerializationError
from pywebtransport.serializer._base import _BaseDataclassSerializer, to_plain
from pywebtransport.types import Serializer

__all__: list[str] = ["MsgPackSerializer"]


class MsgPackSerializer(_BaseDataclassSerializer, Serializer):
    """Encodes what `msgpack` can, and dataclasses as maps of their fields."""

    def __init__(self, pack_kwargs: dict[str, Any] | None = None, unpack_kwargs: dict[str, Any] | None = None) -> None:
        """Take the keyword arguments of `msgpack.packb` and `msgpack.unpackb`.

        A `default` among the former is asked for what is not a dataclass. Maps with keys that are not text need
        `unpack_kwargs={"strict_map_key": False}`.

        Raises:
            ConfigurationError: the package `msgpack` is not installed.
        """
        try:
            msgpack = importlib.import_module("msgpack")
        except ImportError as error:
            raise ConfigurationError(
                "The 'msgpack' library is required for MsgPackSerializer.",
                config_key="dependency.msgpack",
                details={"installation_guide": "pip install pywebtransport[msgpack]"},
            ) from error
        self._pack_kwargs = dict(pack_kwargs or {})
        self._unpack_kwargs = {"raw": False, **(unpack_kwargs or {})}
        self._default: Callable[[Any], Any] | None = self._pack_kwargs.pop("default", None)
        self._packb: Callable[..., bytes] = msgpack.packb
        self._unpackb: Callable[..., Any] = msgpack.unpackb
        self._unpack_exception: type[Exception] = msgpack.UnpackException

    def deserialize(self, data: bytes, obj_type: Any = None) -> Any:
        """Decode MessagePack.

        Args:
            data: one MessagePack value.
            obj_type: a dataclass or annotation to convert to; None returns the plain value.

        Returns:
            The object; parts that do not fit their annotation stay plain.

        Raises:
            SerializationError: the data is not MessagePack, or fields of the dataclass are missing.
        """
        try:
            decoded = self._unpackb(data, **self._unpack_kwargs)
            return decoded if obj_type is None else self._convert_to_type(decoded, obj_type)
        except (self._unpack_exception, TypeError, ValueError, RecursionError) as error:
            raise SerializationError(
                "Data is not valid MsgPack or cannot be unpacked.", original_exception=error
            ) from error

    def serialize(self, obj: Any) -> bytes:
        """Encode `obj` as MessagePack.

        Raises:
            SerializationError: something in `obj` has no MessagePack form; the cause is the exception of `msgpack`.
        """
        try:
            return self._packb(obj, default=self._encode, **self._pack_kwargs)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise SerializationError(
                f"Object of type {type(obj).__name__} is not MsgPack serializable.", original_exception=error
            ) from error

    def _encode(self, obj: Any) -> Any:
        try:
            return to_plain(obj)
        except TypeError:
            if self._default is None:
                raise
        return self._default(obj)
