"""Floods of handshakes from spoofed addresses: valid first packets of clients that do not exist."""

from __future__ import annotations

import socket
import time

import pytest
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection

from pywebtransport.constants import DEFAULT_RETRY_THRESHOLD
from pywebtransport.utils import DevCertificate
from tests.hostile.server import running

FLOOD = 2000
HANDSHAKE_MEMORY = 60_000  # bytes of one that is under way, measured: 57 000


def initial() -> bytes:
    """The first packet of a client, with a connection id of its own."""
    configuration = QuicConfiguration(is_client=True, alpn_protocols=["h3"], server_name="localhost")
    client = QuicConnection(configuration=configuration)
    client.connect(("127.0.0.1", 1), now=time.time())
    data, _ = client.datagrams_to_send(now=time.time())[0]
    return data


class Victim:
    """The owner of an address that an attacker writes on its packets."""

    def __init__(self, number: int) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((f"127.77.{number // 250}.{number % 250 + 1}", 0))
        self._socket.setblocking(False)

    def attack(self, port: int, packet: bytes) -> None:
        self._socket.sendto(packet, ("127.0.0.1", port))

    def hears(self) -> list[bytes]:
        """What has come to it."""
        heard = []
        try:
            while True:
                heard.append(self._socket.recv(65535))
        except BlockingIOError:
            return heard

    def close(self) -> None:
        self._socket.close()


def is_retry(packet: bytes) -> bool:
    """RFC 9000 section 17.2.5."""
    return packet[0] & 0xF0 == 0xF0


@pytest.mark.parametrize("driver", ["thread", "loop"])
async def test_a_flood_from_spoofed_addresses_locks_nobody_out(certificate: DevCertificate, driver: str) -> None:
    assert DEFAULT_RETRY_THRESHOLD is not None
    packets = [initial() for _ in range(FLOOD)]
    with running(certificate, driver=driver, max_connections=10) as server:
        await server.works()
        before = server.rss()
        victims = [Victim(number) for number in range(250)]
        for number, packet in enumerate(packets):
            victims[number % len(victims)].attack(server.port, packet)
            if number % 500 == 499:
                # A real client in the middle of it, which comes through by way of a Retry.
                await server.works()
        assert server.rss() - before < DEFAULT_RETRY_THRESHOLD * HANDSHAKE_MEMORY + 2_000_000
        heard = [packet for victim in victims for packet in victim.hears()]
        retries = [packet for packet in heard if is_retry(packet)]
        # A loaded machine may drop packets; none is answered twice, and each by less than it brought.
        assert len(retries) <= FLOOD - DEFAULT_RETRY_THRESHOLD
        assert len(retries) > FLOOD / 2
        assert max(map(len, retries)) < 200
        for victim in victims:
            victim.close()
        await server.works()
