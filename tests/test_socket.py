"""What diagnostics say about the UDP socket."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from pywebtransport import _core
from pywebtransport._socket import socket_issues
from pywebtransport.connection import ConnectionDiagnostics, ConnectionInfo
from pywebtransport.server import ServerDiagnostics, ServerStats
from pywebtransport.types import ConnectionState
from tests.harness import Pair, Server

WANTED = _core.SOCKET_BUFFER_SIZE


async def test_both_ends_tell_what_the_system_gave(server: Server, pair: Pair) -> None:
    assert pair.client.connection is not None and pair.server.connection is not None
    near, far = pair.client.connection.diagnostics, pair.server.connection.diagnostics
    whole = await server.app.server.diagnostics()
    for diagnostics in (near, far, whole):
        assert 1 <= diagnostics.gso_segments <= 64
        assert 1 <= diagnostics.gro_segments <= 64
        if sys.platform == "linux":
            for size, limit in ((diagnostics.receive_buffer_size, "rmem"), (diagnostics.send_buffer_size, "wmem")):
                assert size == min(WANTED, int(Path(f"/proc/sys/net/core/{limit}_max").read_text()))


async def test_a_closed_server_has_no_socket(server: Server) -> None:
    assert (await server.app.server.diagnostics()).gso_segments >= 1
    await server.app.server.close()
    # What it was.
    assert (await server.app.server.diagnostics()).gso_segments >= 1


def test_plain_words_about_a_socket_that_is_too_small() -> None:
    assert socket_issues(64, WANTED, WANTED) == socket_issues(0, 0, 0) == socket_issues(64, WANTED // 2, WANTED) == []
    receive, send = socket_issues(64, 100 * 1024, 208 * 1024)
    assert receive.startswith("The UDP receive buffer has 208 KiB instead of 4096 KiB")
    assert send.startswith("The UDP send buffer has 100 KiB instead of 4096 KiB")
    if sys.platform == "linux":
        assert receive.endswith(f"sysctl -w net.core.rmem_max={WANTED}")
        assert send.endswith(f"sysctl -w net.core.wmem_max={WANTED}")


def test_plain_words_about_missing_segmentation_offload() -> None:
    (only,) = socket_issues(1, WANTED, WANTED)
    assert "GSO" in only


@pytest.mark.parametrize("values", [{"gso_segments": 1}, {"receive_buffer_size": 1000}, {"send_buffer_size": 1000}])
def test_connections_and_servers_tell_them_apart_from_their_issues(values: dict[str, Any]) -> None:
    info = ConnectionInfo(connection_id="c", state=ConnectionState.CONNECTED)
    connection = ConnectionDiagnostics(stats=info, rtt=0.1, cwnd=1, packets_in_flight=0, packet_loss_rate=0.0, **values)
    server = ServerDiagnostics(
        stats=ServerStats(),
        connection_states={},
        session_states={},
        is_serving=True,
        certfile_path=__file__,
        keyfile_path=__file__,
        max_connections=1,
        **values,
    )
    assert len(connection.socket_issues) == len(server.socket_issues) == 1
    assert connection.issues == server.issues == []
