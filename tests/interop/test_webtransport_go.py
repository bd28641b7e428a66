"""Against webtransport-go as a server: flow control and several sessions on a connection, by somebody else's reading.

Its client needs RESET_STREAM_AT of the server, which is not in yet: this side is the client only.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from pywebtransport import ClientConfig, SessionError, StreamError, WebTransportClient, WebTransportSession
from pywebtransport.utils import DevCertificate
from tests.harness import SECONDS, client_config, next_stream

pytestmark = pytest.mark.interop

PEER = Path(__file__).parent / "webtransport_go"

# Small, so that every test needs updates of every limit in both directions.
THEIRS = ("-data", "3000", "-bidi", "2", "-uni", "2")
OURS: dict[str, Any] = {
    "initial_max_data": 1_000,
    "initial_max_streams_bidi": 2,
    "initial_max_streams_uni": 3,
    "flow_control_window_size": 20_000,
    "max_streams": 1_000,  # those of both ends that wait to be opened count
}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The server, built from the sources beside this file."""
    assert shutil.which("go"), "install Go: the interop tests build their peer with it"
    path = tmp_path_factory.mktemp("interop") / "webtransport_go"
    subprocess.run(["go", "build", "-o", path, "."], cwd=PEER, check=True, timeout=240)
    return path


@contextlib.contextmanager
def running(program: Path, certificate: DevCertificate, *limits: str) -> Iterator[int]:
    """Run the server; yields its port."""
    command: list[str | Path] = [program, "-cert", certificate.certfile, "-key", certificate.keyfile, *limits]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.kill()


@pytest.fixture(scope="module")
def limited(program: Path, certificate: DevCertificate) -> Iterator[int]:
    """The port of a server with flow control."""
    with running(program, certificate, *THEIRS) as port:
        yield port


@pytest.fixture(scope="module")
def unlimited(program: Path, certificate: DevCertificate) -> Iterator[int]:
    """The port of a server that announces no flow control."""
    with running(program, certificate) as port:
        yield port


@pytest.fixture
def limited_config(certificate: DevCertificate, driver: str) -> ClientConfig:
    """Flow control and shared connections."""
    return client_config(certificate, driver=driver, allow_pooling=True, **OURS)


@pytest.fixture
async def session(limited: int, limited_config: ClientConfig) -> AsyncIterator[WebTransportSession]:
    """A session with flow control in both directions."""
    async with WebTransportClient(limited_config) as client:
        yield await client.connect(f"https://127.0.0.1:{limited}/echo")


async def echo_bidi(session: WebTransportSession, data: bytes) -> bytes:
    """Send on a stream, and read what comes back on it."""
    stream = await session.create_bidirectional_stream()
    _, answer = await asyncio.gather(stream.write_all(data), stream.read_all())
    return bytes(answer)


def limits_of(session: WebTransportSession) -> dict[str, int]:
    """The limits in force: of this side, and of the peer."""
    assert session.connection is not None
    info = session.connection.get_session_info(session.session_id)
    assert info is not None
    return {name: getattr(info, name) for name in dir(info) if "_max_" in name}


async def test_both_see_the_limits_of_the_other(session: WebTransportSession) -> None:
    limits = limits_of(session)
    assert (limits["peer_max_data"], limits["peer_max_streams_bidi"], limits["peer_max_streams_uni"]) == (3_000, 2, 2)
    assert (limits["local_max_data"], limits["local_max_streams_bidi"], limits["local_max_streams_uni"]) == (
        1_000,
        2,
        3,
    )


async def test_a_megabyte_there_and_back(session: WebTransportSession) -> None:
    data = bytes(range(256)) * 4096
    assert await echo_bidi(session, data) == data
    limits = limits_of(session)
    assert limits["peer_max_data"] >= len(data)
    assert limits["local_max_data"] >= len(data)


async def test_many_bidirectional_streams(session: WebTransportSession) -> None:
    datas = [b"%d " % number * 100 for number in range(200)]
    assert await asyncio.gather(*(echo_bidi(session, data) for data in datas)) == datas
    assert limits_of(session)["peer_max_streams_bidi"] >= 200


async def test_many_unidirectional_streams_both_ways(session: WebTransportSession) -> None:
    datas = {b"%d " % number * 100 for number in range(100)}

    async def send(data: bytes) -> None:
        stream = await session.create_unidirectional_stream()
        await stream.write_all(data)

    async def receive() -> bytes:
        stream = await next_stream(session)
        return bytes(await stream.read_all())

    sending = asyncio.gather(*map(send, datas))
    assert set(await asyncio.gather(*(receive() for _ in datas))) == datas
    await sending
    limits = limits_of(session)
    assert limits["peer_max_streams_uni"] >= 100
    assert limits["local_max_streams_uni"] >= 100


async def test_streams_that_are_reset_give_their_credit_back(session: WebTransportSession) -> None:
    for _ in range(50):
        stream = await session.create_bidirectional_stream()
        await stream.write(b"x" * 2_000)
        await stream.abort(code=3)
    assert await echo_bidi(session, b"still here") == b"still here"


async def test_a_reader_that_waits_stops_the_peer(session: WebTransportSession) -> None:
    size = 8_000_000  # more than all buffers on the way
    stream = await session.create_bidirectional_stream()
    writing = asyncio.create_task(stream.write_all(bytes(size)))
    # The echo stops at this side's limit, then its reading, then this side's writing: nothing is closed for it.
    for _ in range(20):
        await session.datagrams.send(b"ping")
        assert await session.datagrams.receive(timeout=SECONDS) == b"ping"
    assert not writing.done()
    assert len(await stream.read_all()) == size
    await writing


async def test_sessions_share_a_connection(limited: int, limited_config: ClientConfig) -> None:
    async with WebTransportClient(limited_config) as client:
        url = f"https://127.0.0.1:{limited}/echo"
        sessions = [await client.connect(url) for _ in range(8)]
        assert len({session.connection for session in sessions}) == 1
        datas = [bytes([number]) * 30_000 for number in range(8)]
        assert await asyncio.gather(*map(echo_bidi, sessions, datas)) == datas
        first, *others = sessions
        await first.close()
        for number, session in enumerate(others):
            await session.datagrams.send(b"%d" % number)
            assert await session.datagrams.receive(timeout=SECONDS) == b"%d" % number
            assert await echo_bidi(session, b"still here") == b"still here"


async def test_a_close_of_one_session_arrives_at_it_alone(limited: int, limited_config: ClientConfig) -> None:
    async with WebTransportClient(limited_config) as client:
        stays = await client.connect(f"https://127.0.0.1:{limited}/echo")
        ends = await client.connect(f"https://127.0.0.1:{limited}/close")
        assert stays.connection is ends.connection
        await ends.datagrams.send(b"now")
        async with asyncio.timeout(SECONDS):
            with contextlib.suppress(SessionError):
                await ends.wait_closed()
        assert (ends.close_code, ends.close_reason) == (7, "as you asked")
        assert await echo_bidi(stays, b"still here") == b"still here"


async def test_without_its_limits_flow_control_is_off(unlimited: int, limited_config: ClientConfig) -> None:
    async with WebTransportClient(limited_config) as client:
        sessions = [await client.connect(f"https://127.0.0.1:{unlimited}/echo") for _ in range(2)]
        assert len({session.connection for session in sessions}) == 2
        assert set(limits_of(sessions[0]).values()) == {0}
        data = b"x" * 100_000
        assert await echo_bidi(sessions[0], data) == data


async def test_an_opener_beyond_its_limit_waits(session: WebTransportSession) -> None:
    streams = [await session.create_bidirectional_stream() for _ in range(2)]
    with pytest.raises(StreamError, match="allowed no further bidirectional stream"):
        await session.create_bidirectional_stream(timeout=0.05)
    for stream in streams:
        await stream.write_all(b"")
        assert await stream.read_all() == b""
    assert await echo_bidi(session, b"data") == b"data"
