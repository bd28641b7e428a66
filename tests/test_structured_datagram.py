"""Structured datagrams: one object per datagram, over anything with the members of a transport."""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import dataclass
from typing import Any

import pytest

from pywebtransport.datagram.structured import StructuredDatagramTransport
from pywebtransport.datagram.utils import calculate_checksum
from pywebtransport.exceptions import ConfigurationError, DatagramError, SerializationError
from pywebtransport.serializer.json import JSONSerializer


@dataclass
class Ping:
    number: int


class Loopback:
    """A transport that receives what it sends."""

    def __init__(self) -> None:
        self.queue: deque[bytes] = deque()
        self.options: list[tuple[int, float | None]] = []
        self.is_closed = False

    async def send(self, *, data: bytes, priority: int = 0, ttl: float | None = None) -> None:
        if self.is_closed:
            raise DatagramError("closed")
        self.queue.append(data)
        self.options.append((priority, ttl))

    async def receive(self, *, timeout: float | None = None) -> bytes:
        if not self.queue:
            raise DatagramError("nothing to receive")
        return self.queue.popleft()

    async def close(self) -> None:
        self.is_closed = True


def structured(loopback: Any) -> StructuredDatagramTransport:
    return StructuredDatagramTransport(loopback, JSONSerializer(), {0xABCD: Ping})


async def test_object_travels_in_one_datagram() -> None:
    loopback = Loopback()
    transport = structured(loopback)
    await transport.send_obj(Ping(1), 2, 0.5)
    assert loopback.queue[0] == b'\xab\xcd{"number": 1}' and loopback.options == [(2, 0.5)]
    assert await transport.receive_obj(timeout=1) == Ping(1)


async def test_errors_of_the_transport_pass_through() -> None:
    transport = structured(Loopback())
    with pytest.raises(DatagramError, match="nothing"):
        await transport.receive_obj()
    assert not transport.is_closed
    await transport.close()
    assert transport.is_closed
    with pytest.raises(DatagramError, match="closed"):
        await transport.send_obj(Ping(1))


@pytest.mark.parametrize(
    ("datagram", "reason"),
    [
        (b"", "too short"),
        (b"\xab", "too short"),
        (b"\x00\x01{}", "unknown message type ID: 1"),
        (b"\xab\xcd", "not valid JSON"),
        (b"\xab\xcd{}", "Failed to unpack"),
    ],
)
async def test_datagram_without_an_object_is_an_error_and_used_up(datagram: bytes, reason: str) -> None:
    loopback = Loopback()
    transport = structured(loopback)
    loopback.queue.append(datagram)
    await transport.send_obj(Ping(1))
    with pytest.raises(SerializationError, match=reason):
        await transport.receive_obj()
    assert await transport.receive_obj() == Ping(1)


async def test_object_of_unknown_class_is_refused_and_nothing_is_sent() -> None:
    loopback = Loopback()
    with pytest.raises(SerializationError, match="'str' is not registered"):
        await structured(loopback).send_obj("text")
    assert not loopback.queue


@pytest.mark.parametrize("registry", [{1: Ping, 2: Ping}, {70000: Ping}])
def test_registry_that_cannot_work_is_refused(registry: Any) -> None:
    loopback: Any = Loopback()
    with pytest.raises(ConfigurationError):
        StructuredDatagramTransport(loopback, JSONSerializer(), registry)


def test_checksum_is_the_digest_in_hex() -> None:
    assert calculate_checksum(b"abc") == hashlib.sha256(b"abc").hexdigest()
    assert calculate_checksum(b"abc", "sha3_256") == hashlib.sha3_256(b"abc").hexdigest()


@pytest.mark.parametrize("algorithm", ["crc32", "", "shake_128"])
def test_checksum_with_an_unknown_algorithm(algorithm: str) -> None:
    with pytest.raises(ValueError, match=f"Unsupported or insecure hash algorithm: {algorithm}"):
        calculate_checksum(data=b"abc", algorithm=algorithm)
