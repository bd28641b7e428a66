"""The agreement between two ends which number stands for which class."""

from __future__ import annotations

from typing import Any

from pywebtransport.exceptions import ConfigurationError, SerializationError
from pywebtransport.types import Serializer

__all__: list[str] = []


class TypeRegistry:
    """Type ids (u16 on the wire) and classes, both ways, with the serializer for what is inside."""

    def __init__(self, registry: dict[int, type[Any]], serializer: Serializer, purpose: str) -> None:
        """Copy the registry; `purpose` ("stream" or "datagram") appears in errors.

        Raises:
            ConfigurationError: a class appears twice, or an id is not an integer from 0 to 65535.
        """
        if len(set(registry.values())) != len(registry):
            raise ConfigurationError(f"Types in the structured {purpose} registry must be unique.")
        for type_id in registry:
            if not isinstance(type_id, int) or not 0 <= type_id <= MAX_TYPE_ID:
                raise ConfigurationError(
                    f"Type ID {type_id!r} is not an integer from 0 to {MAX_TYPE_ID}.",
                    config_key="registry",
                    config_value=type_id,
                )
        self._serializer = serializer
        self._classes = dict(registry)
        self._ids = {cls: type_id for type_id, cls in registry.items()}

    def encode(self, obj: Any) -> tuple[int, bytes]:
        """Return type id and payload; raise SerializationError for a class that is not registered."""
        type_id = self._ids.get(type(obj))
        if type_id is None:
            raise SerializationError(f"Object of type '{type(obj).__name__}' is not registered.")
        return type_id, self._serializer.serialize(obj=obj)

    def class_of(self, type_id: int) -> type[Any]:
        """Return the class of `type_id`; raise SerializationError when it is unknown."""
        cls = self._classes.get(type_id)
        if cls is None:
            raise SerializationError(f"Received unknown message type ID: {type_id}")
        return cls

    def decode(self, type_id: int, payload: bytes) -> Any:
        """Return the object; raise SerializationError when the id is unknown or the payload cannot be decoded."""
        return self._serializer.deserialize(data=payload, obj_type=self.class_of(type_id))


MAX_TYPE_ID = 0xFFFF
