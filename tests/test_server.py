"""WebTransportServer and ServerApp: listening, routing, refusing, closing."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from typing import Any

import pytest

from pywebtransport import (
    ClientConfig,
    ClientError,
    Event,
    ServerApp,
    ServerConfig,
    ServerError,
    SessionError,
    WebTransportClient,
    WebTransportSession,
)
from pywebtransport.server import ServerDiagnostics, ServerStats, WebTransportServer
from pywebtransport.types import ConnectionState, EventType, SessionState
from pywebtransport.utils import DevCertificate
from tests.harness import SECONDS, Server, client_config, running_server


def _config(certificate: DevCertificate, **options: Any) -> ServerConfig:
    return ServerConfig(certfile=certificate.certfile, keyfile=certificate.keyfile, **options)


def test_a_server_needs_no_event_loop() -> None:
    app = ServerApp(config=ServerConfig())
    app.server.on(EventType.CONNECTION_ESTABLISHED, lambda event: None)
    assert not app.server.is_serving
    assert app.server.local_address is None
    assert len(app.server.connection_manager) == 0


async def test_listening(certificate: DevCertificate) -> None:
    async with WebTransportServer(config=_config(certificate)) as server:
        assert not server.is_serving
        with pytest.raises(ServerError, match="not listening"):
            await server.serve_forever()
        await server.listen("127.0.0.1", 0)
        assert server.is_serving
        assert server.local_address is not None
        host, port = server.local_address
        assert (host, port > 0) == ("127.0.0.1", True)
        with pytest.raises(ServerError, match="already listening"):
            await server.listen("127.0.0.1", 0)
        with pytest.raises(ServerError):
            async with WebTransportServer(config=_config(certificate)) as second:
                await second.listen(host, port)
        serving = asyncio.create_task(server.serve_forever())
        await asyncio.sleep(0)
        await server.close()
        await server.close()
        await serving
        assert server.local_address is None


async def test_an_ipv6_address_has_two_parts(certificate: DevCertificate) -> None:
    async with WebTransportServer(config=_config(certificate)) as server:
        await server.listen("::1", 0)
        address = server.local_address
        assert address is not None
        assert len(address) == 2
        assert address[0] == "::1"


async def test_listening_without_entering_or_certificate(certificate: DevCertificate) -> None:
    with pytest.raises(ServerError, match="not activated"):
        await WebTransportServer(config=_config(certificate)).listen("127.0.0.1", 0)
    async with WebTransportServer() as server:
        with pytest.raises(ServerError, match="certificate"):
            await server.listen("127.0.0.1", 0)


async def test_cancelling_serve_closes_the_server(certificate: DevCertificate) -> None:
    async with ServerApp(config=_config(certificate)) as app:
        serving = asyncio.create_task(app.serve(host="127.0.0.1", port=0, ignored=1))
        while not app.server.is_serving:
            await asyncio.sleep(0)
        serving.cancel()
        await serving
        assert not app.server.is_serving


async def test_handlers_are_called_with_the_session(server: Server, client: WebTransportClient) -> None:
    got: asyncio.Queue[tuple[str, tuple[str, ...], SessionState]] = asyncio.Queue()

    @server.app.route(path="/exact")
    async def exact(session: WebTransportSession) -> None:
        got.put_nowait((session.path, session.path_params, session.state))

    @server.app.pattern_route(pattern=r"/room/(\w+)/(\d+)")
    async def room(session: WebTransportSession) -> None:
        got.put_nowait((session.path, session.path_params, session.state))

    await client.connect(server.url("/exact?a=b"))
    assert await got.get() == ("/exact?a=b", (), SessionState.CONNECTED)
    await client.connect(server.url("/room/blue/7"))
    assert await got.get() == ("/room/blue/7", ("blue", "7"), SessionState.CONNECTED)


async def test_the_session_is_closed_when_the_handler_returns(server: Server, client: WebTransportClient) -> None:
    session = await client.connect(server.url("/return"))
    async with asyncio.timeout(SECONDS):
        await session.wait_closed()
    assert session.close_code == 0


async def test_what_a_handler_wrote_before_it_returned_arrives(server: Server, client: WebTransportClient) -> None:
    @server.app.route("/write")
    async def write(session: WebTransportSession) -> None:
        # Neither closed nor kept: dropped with the frame of this function.
        stream = await session.create_unidirectional_stream()
        await stream.write(b"x" * 100_000)
        finished = await session.create_unidirectional_stream()
        await finished.write_all(b"y" * 100_000)
        await session.datagrams.send(b"z")

    session = await client.connect(server.url("/write"))
    receiving = asyncio.create_task(session.datagrams.receive())
    async with asyncio.timeout(SECONDS):
        first, second = await anext(session.incoming_streams()), await anext(session.incoming_streams())
        assert await first.readexactly(100_000) == b"x" * 100_000
        assert await second.read_all() == b"y" * 100_000
        assert await receiving == b"z"


async def test_a_handler_that_fails_is_logged_once_with_its_path(
    server: Server, client: WebTransportClient, caplog: pytest.LogCaptureFixture
) -> None:
    @server.app.route("/fail")
    async def fail(session: WebTransportSession) -> None:
        raise ZeroDivisionError("oops")

    session = await client.connect(server.url("/fail"))
    async with asyncio.timeout(SECONDS):
        await session.wait_closed()
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == 1
    assert "/fail" in errors[0].getMessage()
    assert errors[0].exc_info


async def test_the_event_history_lets_dead_connections_go(server: Server, client: WebTransportClient) -> None:
    session = await client.connect(server.url("/echo"))
    (established,) = server.app.server.get_event_history(EventType.CONNECTION_ESTABLISHED)
    connection = established.data["connection"]
    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as tasks:
        tasks.create_task(connection.wait_for(EventType.CONNECTION_CLOSED))
        await asyncio.sleep(0)
        await session.close()
    assert established.data == {"connection_id": connection.connection_id}


async def test_a_peer_that_leaves_is_not_an_error(
    server: Server, client: WebTransportClient, caplog: pytest.LogCaptureFixture
) -> None:
    begun, done = asyncio.Event(), asyncio.Event()

    @server.app.route("/read")
    async def read(session: WebTransportSession) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                stream = await anext(session.incoming_streams())
                begun.set()
                tasks.create_task(_read(stream))
                tasks.create_task(_receive(session))
        finally:
            done.set()

    async def _read(stream: Any) -> None:
        await stream.readexactly(100)

    async def _receive(session: WebTransportSession) -> None:
        await session.datagrams.receive()

    session = await client.connect(server.url("/read"))
    stream = await session.create_unidirectional_stream()
    await stream.write(b"x")
    connection = session.connection
    assert connection is not None
    async with asyncio.timeout(SECONDS):
        await begun.wait()
        await connection.close()
        await done.wait()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_peer_that_opens_no_stream_is_not_an_error(
    server: Server, client: WebTransportClient, caplog: pytest.LogCaptureFixture
) -> None:
    done = asyncio.Event()

    @server.app.route("/accept")
    async def accept(session: WebTransportSession) -> None:
        try:
            await anext(session.incoming_streams())
        finally:
            done.set()

    await (await client.connect(server.url("/accept"))).close()
    async with asyncio.timeout(SECONDS):
        await done.wait()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_middleware_decides_before_the_session_is_accepted(server: Server, client: WebTransportClient) -> None:
    seen: list[tuple[SessionState, str | None]] = []

    @server.app.middleware
    async def check(session: WebTransportSession) -> bool:
        seen.append((session.state, session.headers.get("token")))
        return "token" in session.headers

    with pytest.raises(ClientError, match="HTTP status 403"):
        await client.connect(server.url("/echo"))
    assert (await client.connect(server.url("/echo"), headers={"Token": "1"})).is_ready
    assert seen == [(SessionState.CONNECTING, None), (SessionState.CONNECTING, "1")]


async def test_middleware_that_fails_refuses(server: Server, client: WebTransportClient) -> None:
    @server.app.middleware
    async def fail(session: WebTransportSession) -> bool:
        raise RuntimeError("broken")

    with pytest.raises(ClientError, match="HTTP status 403"):
        await client.connect(server.url("/echo"))
    assert len(server.app.server.session_manager) == 0


async def test_middleware_of_the_configuration_is_installed(
    certificate: DevCertificate, config: ClientConfig, driver: str
) -> None:
    async def refuse(*, session: WebTransportSession) -> bool:
        return False

    async with (
        running_server(certificate, driver=driver, middleware=[refuse]) as server,
        WebTransportClient(config=config) as client,
    ):
        with pytest.raises(ClientError, match="HTTP status 403"):
            await client.connect(server.url("/echo"))


async def test_an_unknown_path_is_404(server: Server, client: WebTransportClient) -> None:
    with pytest.raises(ClientError, match="HTTP status 404"):
        await client.connect(server.url("/unknown"))
    assert len(server.app.server.session_manager) == 0


async def test_a_router_that_fails_is_500(server: Server, client: WebTransportClient) -> None:
    def fail(session: WebTransportSession) -> None:
        raise RuntimeError("broken")

    server.app._router.route_request = fail  # type: ignore[method-assign]
    with pytest.raises(ClientError, match="HTTP status 500"):
        await client.connect(server.url("/echo"))


async def test_a_full_session_manager_is_429(certificate: DevCertificate, config: ClientConfig, driver: str) -> None:
    async with (
        running_server(certificate, driver=driver, max_sessions=1) as server,
        WebTransportClient(config=config) as client,
    ):
        session = await client.connect(server.url("/hold"))
        with pytest.raises(ClientError, match="HTTP status 429"):
            await client.connect(server.url("/hold"))
        await session.close()
        held = await server.next_session()
        async with asyncio.timeout(SECONDS):
            await held.wait_closed()
        assert (await client.connect(server.url("/hold"))).is_ready


async def test_connections_beyond_the_limit_are_refused(
    certificate: DevCertificate, config: ClientConfig, driver: str
) -> None:
    async with (
        running_server(certificate, driver=driver, max_connections=1) as server,
        WebTransportClient(config=config) as client,
    ):
        session = await client.connect(server.url("/echo"))
        with pytest.raises((ClientError, ConnectionError)):
            await client.connect(server.url("/echo"), timeout=5)
        await session.datagrams.send(b"alive")
        assert await session.datagrams.receive(timeout=SECONDS) == b"alive"
        assert (await server.app.server.diagnostics()).stats.connections_rejected == 1


async def test_managers_follow(server: Server, client: WebTransportClient) -> None:
    app_server = server.app.server
    session = await client.connect(server.url())
    held = await server.next_session()
    assert await app_server.connection_manager.get_all_resources() == [held.connection]
    assert await app_server.session_manager.get_all_resources() == [held]
    diagnostics = await app_server.diagnostics()
    assert diagnostics.connection_states == {ConnectionState.CONNECTED: 1}
    assert diagnostics.session_states == {SessionState.CONNECTED: 1}
    assert diagnostics.stats.connections_accepted == 1
    assert diagnostics.issues == []
    connection = held.connection
    assert connection is not None
    await session.close()
    async with asyncio.timeout(SECONDS):
        await connection.wait_closed()
        while len(app_server.connection_manager) or len(app_server.session_manager):
            await asyncio.sleep(0)


async def test_server_events(server: Server, client: WebTransportClient) -> None:
    established, requested = [], []
    server.app.server.on(EventType.CONNECTION_ESTABLISHED, lambda event: established.append(event.data))
    server.app.server.on(EventType.SESSION_REQUEST, lambda event: requested.append(event.data))
    await client.connect(server.url("/hold?q"))
    held = await server.next_session()
    assert held.connection is not None
    assert [data["connection_id"] for data in established] == [held.connection.connection_id]
    assert [(data["path"], data["session_id"]) for data in requested] == [("/hold?q", held.session_id)]
    assert requested[0]["connection"] is held.connection


async def test_the_event_history_keeps_no_connection_alive(server: Server, client: WebTransportClient) -> None:
    server.app.server.on(EventType.SESSION_REQUEST, lambda event: None)
    session = await client.connect(server.url())
    held = await server.next_session()
    assert held.connection is not None
    gone = weakref.ref(held.connection)
    await session.close()
    async with asyncio.timeout(SECONDS):
        await held.wait_closed()
        while gone() is not None:  # although the program still holds the session
            gc.collect()
            await asyncio.sleep(0)
    history = server.app.server.get_event_history()
    assert [event.type for event in history] == [EventType.CONNECTION_ESTABLISHED, EventType.SESSION_REQUEST]
    assert not any("connection" in event.data for event in history)


async def test_a_bare_server_answers_404_or_leaves_it_to_listeners(
    certificate: DevCertificate, config: ClientConfig, driver: str
) -> None:
    async with (
        WebTransportServer(config=_config(certificate, driver=driver)) as server,
        WebTransportClient(config=config) as client,
    ):
        await server.listen("127.0.0.1", 0)
        assert server.local_address is not None
        url = f"https://127.0.0.1:{server.local_address[1]}/x"
        with pytest.raises(ClientError, match="HTTP status 404"):
            await client.connect(url)

        def accept(event: Event) -> None:
            data = event.data
            data["connection"].protocol_handler.accept_webtransport_session(
                stream_id=data["control_stream_id"], session_id=data["session_id"]
            )

        def refuse(event: Event) -> None:
            data = event.data
            data["connection"].protocol_handler.reject_session_request(data["control_stream_id"], 418)

        server.on(EventType.SESSION_REQUEST, accept)
        assert (await client.connect(url)).is_ready
        server.off(EventType.SESSION_REQUEST, accept)
        server.on(EventType.SESSION_REQUEST, refuse)
        with pytest.raises(ClientError, match="HTTP status 418"):
            await client.connect(url)


async def test_startup_and_shutdown_in_order(certificate: DevCertificate) -> None:
    order: list[str] = []

    class Stateful:
        def __init__(self, name: str) -> None:
            self.name = name

        async def __aenter__(self) -> None:
            order.append(f"enter {self.name}")

        async def __aexit__(self, *args: object) -> None:
            order.append(f"exit {self.name}")

        async def __call__(self, *, session: Any) -> bool:
            return True

    app = ServerApp(config=_config(certificate, middleware=[Stateful("1")]))
    app.add_middleware(Stateful("2"))

    @app.on_startup
    def sync_start() -> None:
        order.append("start")

    @app.on_startup
    async def start() -> None:
        order.append("async start")

    @app.on_shutdown
    async def stop() -> None:
        order.append("stop")

    async with app:
        assert not app.server.is_serving
    assert order == ["enter 1", "enter 2", "start", "async start", "stop", "exit 2", "exit 1"]


async def test_a_failing_startup_leaves_nothing_open(certificate: DevCertificate) -> None:
    app = ServerApp(config=_config(certificate))

    @app.on_startup
    def fail() -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        async with app:
            pass
    with pytest.raises(ServerError):
        await app.server.listen("127.0.0.1", 0)


async def test_leaving_the_app_cancels_handlers(certificate: DevCertificate, config: ClientConfig, driver: str) -> None:
    cancelled = asyncio.Event()
    async with WebTransportClient(config=config) as client:
        async with running_server(certificate, driver=driver) as server:

            @server.app.route("/wait")
            async def wait(session: WebTransportSession) -> None:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    cancelled.set()
                    raise

            session = await client.connect(server.url("/wait"))
        assert cancelled.is_set()
        async with asyncio.timeout(SECONDS):
            await session.wait_closed()
        with pytest.raises(SessionError):
            await session.ready()


async def test_clients_see_the_end_of_the_server(
    certificate: DevCertificate, config: ClientConfig, driver: str
) -> None:
    async with WebTransportClient(config=config) as client, running_server(certificate, driver=driver) as server:
        session = await client.connect(server.url())
        await server.next_session()
        await server.app.server.close()
        async with asyncio.timeout(SECONDS):
            await session.wait_closed()


def test_run_ends_with_a_keyboard_interrupt(certificate: DevCertificate) -> None:
    app = ServerApp(config=_config(certificate))

    @app.on_startup
    async def interrupt() -> None:
        raise KeyboardInterrupt

    app.run(host="127.0.0.1", port=0)


def test_several_event_loops_one_after_another(certificate: DevCertificate, driver: str) -> None:
    async def once() -> bytes:
        async with (
            running_server(certificate, driver=driver) as server,
            WebTransportClient(config=client_config(certificate, driver=driver)) as client,
        ):
            session = await client.connect(server.url("/echo"))
            await session.datagrams.send(b"hello")
            return await session.datagrams.receive(timeout=SECONDS)

    assert [asyncio.run(once()) for _ in range(3)] == [b"hello"] * 3


async def test_access_log(
    certificate: DevCertificate, config: ClientConfig, driver: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with (
        running_server(certificate, driver=driver) as server,
        WebTransportClient(config=config) as client,
    ):
        await client.connect(server.url("/hold?x"))
        await server.next_session()
        with pytest.raises(ClientError):
            await client.connect(server.url("/no"))
    lines = [record.getMessage() for record in caplog.records if record.name == "pywebtransport.server.app"]
    assert [line.split(" ", 1)[1] for line in lines] == ['"/hold?x" 200', '"/no" 404']


def test_issues_of_a_server_in_trouble() -> None:
    stats = ServerStats(connections_accepted=20, connections_rejected=10)
    diagnostics = ServerDiagnostics(
        stats=stats,
        connection_states={ConnectionState.CONNECTED: 95},
        session_states={},
        is_serving=False,
        certfile_path="/no/such/file",
        keyfile_path="",
        max_connections=100,
    )
    assert len(diagnostics.issues) == 5
    assert stats.to_dict()["connections_rejected"] == 10
