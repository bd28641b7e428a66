"""Serializers: Python objects to bytes and back, for structured streams and datagrams.

`msgpack` and `protobuf` are optional packages; the classes import without them, their constructors do not work.
"""

from __future__ import annotations

from pywebtransport.serializer.json import JSONSerializer
from pywebtransport.serializer.msgpack import MsgPackSerializer
from pywebtransport.serializer.protobuf import ProtobufSerializer

__all__: list[str] = ["JSONSerializer", "MsgPackSerializer", "ProtobufSerializer"]
