"""Protocol Buffers messages, with the optional package `protobuf`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pywebtransport.exceptions import ConfigurationError, SerializationError
from pywebtransport.types import Serializer

if TYPE_CHECKING:
    from google.protobuf.message import Message as MessageType

__all__: list[str] = ["ProtobufSerializer"]


class ProtobufSerializer(Serializer):
    """Encodes and decodes messages of one generated class."""

    def __init__(self, message_class: type[MessageType]) -> None:
        """Bind the serializer to `message_class`.

        Raises:
            ConfigurationError: the package `protobuf` is not installed.
            TypeError: `message_class` is not a generated message class.
        """
        try:
            from google.protobuf.message import Message
        except ImportError as error:
            raise ConfigurationError(
                "The 'protobuf' library is required for ProtobufSerializer.",
                config_key="dependency.protobuf",
                details={"installation_guide": "pip install pywebtransport[protobuf]"},
            ) from error
        if not (isinstance(message_class, type) and issubclass(message_class, Message)):
            name = getattr(message_class, "__name__", repr(message_class))
            raise TypeError(f"'{name}' is not a valid Protobuf Message class.")
        self._message_class = message_class

    def deserialize(self, data: bytes, obj_type: Any = None) -> MessageType:
        """Decode a message.

        Args:
            data: the encoded message.
            obj_type: None or the class this serializer is bound to.

        Raises:
            SerializationError: the data is not such a message, or another class is asked for.
        """
        if obj_type is not None and obj_type is not self._message_class:
            raise SerializationError(
                f"This ProtobufSerializer is configured for type '{self._message_class.__name__}', "
                f"but was asked to deserialize into '{getattr(obj_type, '__name__', obj_type)}'."
            )
        message = self._message_class()
        try:
            message.ParseFromString(data)
        except Exception as error:  # DecodeError, and what the several implementations raise besides
            raise SerializationError(
                f"Failed to deserialize data into '{self._message_class.__name__}'.", original_exception=error
            ) from error
        return message

    def serialize(self, obj: Any) -> bytes:
        """Encode a message.

        Raises:
            SerializationError: `obj` is of another class, or required fields are missing.
        """
        if not isinstance(obj, self._message_class):
            raise SerializationError(
                f"This ProtobufSerializer is configured for type '{self._message_class.__name__}', "
                f"but received an object of type '{type(obj).__name__}'."
            )
        try:
            return obj.SerializeToString()
        except Exception as error:  # EncodeError, and what the several implementations raise besides
            raise SerializationError(
                f"Failed to serialize Protobuf message: {error}", original_exception=error
            ) from error
