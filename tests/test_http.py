"""Plain HTTP beside the sessions, asked for by an independent client: aioquic's HTTP/3."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection

from pywebtransport import (
    ClientError,
    ConfigurationError,
    HttpRequest,
    HttpResponse,
    ServerConfig,
    WebTransportClient,
    WebTransportSession,
    serve,
)
from pywebtransport.server import WebTransportServer
from pywebtransport.utils import DevCertificate
from tests.harness import SECONDS, Server, client_config, running_server
from tests.hostile import peer, wire


@dataclass
class Answer:
    """A response."""

    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    reset: int | None = None
    done: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def status(self) -> int:
        return int(self.headers[":status"])

    @property
    def text(self) -> str:
        return self.body.decode()


class Browser(QuicConnectionProtocol):
    """A client that knows HTTP/3 and nothing of WebTransport."""

    def __init__(self, quic: QuicConnection) -> None:
        super().__init__(quic)
        self._http = H3Connection(quic)
        self._answers: dict[int, Answer] = {}

    def quic_event_received(self, event: events.QuicEvent) -> None:
        if isinstance(event, events.StreamReset) and event.stream_id in self._answers:
            self._answers[event.stream_id].reset = event.error_code
            self._answers[event.stream_id].done.set()
        for happened in self._http.handle_event(event):
            self._hear(happened)

    def _hear(self, event: H3Event) -> None:
        if isinstance(event, HeadersReceived | DataReceived):
            answer = self._answers[event.stream_id]
            if isinstance(event, HeadersReceived):
                answer.headers = {name.decode(): value.decode() for name, value in event.headers}
            else:
                answer.body += event.data
            if event.stream_ended:
                answer.done.set()

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """Send a request; its answer comes later."""
        stream = self._quic.get_next_available_stream_id()
        answer = self._answers[stream] = Answer()
        fields = {":method": method, ":scheme": "https", ":authority": "localhost", ":path": path}
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        pairs = [(name.encode(), value.encode()) for name, value in fields.items()]
        self._http.send_headers(stream, pairs, end_stream=body is None)
        if body is not None:
            self._http.send_data(stream, body, end_stream=True)
        self.transmit()
        return answer

    async def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """Send a request and wait for the whole answer."""
        answer = self.ask(method, path, body, **headers)
        async with asyncio.timeout(SECONDS):
            await answer.done.wait()
        assert answer.reset is None, hex(answer.reset or 0)
        return answer

    async def get(self, path: str, **headers: str) -> Answer:
        return await self.request("GET", path, None, **headers)


@contextlib.asynccontextmanager
async def browser(port: int) -> AsyncIterator[Browser]:
    """A connection of such a client."""
    configuration = QuicConfiguration(alpn_protocols=H3_ALPN, verify_mode=ssl.CERT_NONE, server_name="localhost")
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: Browser(QuicConnection(configuration=configuration)), local_addr=("127.0.0.1", 0)
    )
    try:
        protocol.connect(("127.0.0.1", port))
        async with asyncio.timeout(SECONDS):
            await protocol.wait_connected()
        yield protocol
    finally:
        protocol.close(wire.Code.NO_ERROR)
        transport.close()


@pytest.fixture
async def web(server: Server) -> AsyncIterator[Browser]:
    """A client of the server."""
    async with browser(server.port) as client:
        yield client


# --- requests and responses ---


async def test_a_handler_sees_the_request_and_answers(server: Server, web: Browser) -> None:
    seen: list[HttpRequest] = []

    @server.app.http_route("/.well-known/example")
    async def example(request: HttpRequest) -> HttpResponse:
        seen.append(request)
        return HttpResponse('{"version": 1}', headers={"Content-Type": "application/json", "X-Extra": "yes"})

    answer = await web.get("/.well-known/example?a=%20&b", origin="https://example.org", accept="*/*")
    assert (answer.status, answer.text) == (200, '{"version": 1}')
    assert answer.headers["content-type"] == "application/json" and answer.headers["x-extra"] == "yes"
    assert answer.headers["content-length"] == "14" and answer.headers["date"].endswith("GMT")
    (request,) = seen
    assert (request.method, request.path, request.query) == ("GET", "/.well-known/example", "a=%20&b")
    assert (request.authority, request.body) == ("localhost", b"")
    assert request.headers == {"origin": "https://example.org", "accept": "*/*"}
    assert request.origin == "https://example.org"
    assert request.remote_address is not None and request.remote_address[0] == "127.0.0.1"


@pytest.mark.parametrize(
    ("returned", "body", "kind"),
    [
        ("grüß", "grüß".encode(), "text/plain; charset=utf-8"),
        (b"\0\1", b"\0\1", "application/octet-stream"),
        (bytearray(b"x"), b"x", "application/octet-stream"),
        ("", b"", None),
        (HttpResponse(), b"", None),
        (HttpResponse(memoryview(b"view")), b"view", "application/octet-stream"),
    ],
)
async def test_what_a_handler_may_return(
    server: Server, web: Browser, returned: Any, body: bytes, kind: str | None
) -> None:
    @server.app.http_route("/")
    async def handler(request: HttpRequest) -> Any:
        return returned

    answer = await web.get("/")
    assert (answer.status, answer.body) == (200, body)
    assert answer.headers.get("content-type") == kind
    assert answer.headers["content-length"] == str(len(body))


async def test_content_of_a_request(server: Server, web: Browser) -> None:
    @server.app.http_route("/upload", methods=["POST", "PUT"], max_body=100_000)
    async def upload(request: HttpRequest) -> str:
        return f"{request.method} {len(request.body)} {request.body[:3].decode()}"

    assert (await web.request("POST", "/upload", b"abc")).text == "POST 3 abc"
    assert (await web.request("PUT", "/upload", b"x" * 100_000, content_length="100000")).text == "PUT 100000 xxx"
    assert (await web.request("PUT", "/upload", b"")).text == "PUT 0 "
    # One byte too many: announced, and not announced.
    assert (await web.request("PUT", "/upload", b"x" * 100_001, content_length="100001")).status == 413
    assert (await web.request("PUT", "/upload", b"x" * 100_001)).status == 413


async def test_a_body_is_small_unless_the_route_says_otherwise(server: Server, web: Browser) -> None:
    @server.app.http_route("/", methods=["POST"])
    async def handler(request: HttpRequest) -> str:
        return str(len(request.body))

    assert (await web.request("POST", "/", bytes(65_536))).text == "65536"
    answer = await web.request("POST", "/", bytes(65_537))
    assert answer.status == 413 and answer.text.startswith("413 ")


async def test_head_is_get_without_the_content(server: Server) -> None:
    """By hand: aioquic takes a response to HEAD that announces content for malformed."""
    methods: list[str] = []

    @server.app.http_route("/page")
    async def page(request: HttpRequest) -> str:
        methods.append(request.method)
        return "content"

    @server.app.http_route("/own", methods=["HEAD"])
    async def own(request: HttpRequest) -> HttpResponse:
        return HttpResponse(headers={"content-length": "12345"})

    async with peer.connect(server.port) as client:
        for path, status, length in (("/page", b"200", b"7"), ("/own", b"200", b"12345"), ("/no", b"404", b"14")):
            stream = client.bidi(_request(path, "HEAD"), fin=True)
            response = await client.response(stream)
            assert (response[b":status"], response[b"content-length"]) == (status, length)
            data = await client.finished(stream)
            assert len(data) == 2 + data[1] if data[1] < 64 else 3 + data[2], "one HEADERS frame and nothing more"
    assert methods == ["HEAD"]


async def test_a_pattern_gives_its_groups(server: Server, web: Browser) -> None:
    @server.app.http_pattern_route(r"/files/(\w+)\.(txt|bin)$")
    async def file(request: HttpRequest) -> str:
        return " ".join(request.path_params)

    @server.app.http_route("/files/special.txt")
    async def special(request: HttpRequest) -> str:
        return f"special {request.path_params}"

    assert (await web.get("/files/a.bin?x=/files/b.txt")).text == "a bin"
    assert (await web.get("/files/special.txt")).text == "special ()"
    assert (await web.get("/files/a.exe")).status == 404


async def test_each_method_may_have_a_handler_of_its_own(server: Server, web: Browser) -> None:
    @server.app.http_route("/item")
    async def read(request: HttpRequest) -> str:
        return "read"

    @server.app.http_route("/item", methods=["DELETE", "PURGE"])
    async def delete(request: HttpRequest) -> HttpResponse:
        return HttpResponse(status=204)

    assert (await web.get("/item")).text == "read"
    answer = await web.request("PURGE", "/item")
    assert answer.status == 204 and "content-length" not in answer.headers
    answer = await web.request("POST", "/item", b"ignored")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, DELETE, PURGE, HEAD")


async def test_a_large_response_arrives_whole(server: Server, web: Browser) -> None:
    body = bytes(range(256)) * 4_096

    @server.app.http_route("/large")
    async def large(request: HttpRequest) -> bytes:
        return body

    assert (await web.get("/large")).body == body


# --- unknown paths and endpoints ---


async def test_unknown_paths_are_404(server: Server, web: Browser) -> None:
    for method in ("GET", "POST", "OPTIONS", "BREW"):
        answer = await web.request(method, "/nowhere", b"content" if method == "POST" else None)
        assert (answer.status, answer.text) == (404, "404 Not Found\n")
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert (await web.request("OPTIONS", "*")).status == 404


async def test_options_of_the_server(server: Server, web: Browser) -> None:
    @server.app.http_route("*", methods=["OPTIONS"])
    async def options(request: HttpRequest) -> HttpResponse:
        return HttpResponse(status=204, headers={"allow": "GET, HEAD, OPTIONS"})

    answer = await web.request("OPTIONS", "*")
    assert (answer.status, answer.headers["allow"]) == (204, "GET, HEAD, OPTIONS")


async def test_a_person_who_finds_an_endpoint_is_told_what_it_is(server: Server, web: Browser) -> None:
    """RFC 9110 15.5.6: 405 lists the methods of the path, which is CONNECT."""
    answer = await web.get("/echo?room=1")
    assert (answer.status, answer.headers["allow"]) == (405, "CONNECT")
    assert "new WebTransport(url)" in answer.text

    @server.app.http_route("/echo", methods=["POST"])
    async def post(request: HttpRequest) -> str:
        return "posted"

    assert (await web.get("/echo")).headers["allow"] == "POST, CONNECT"
    assert (await web.request("POST", "/echo", b"")).text == "posted"


async def test_an_endpoint_for_every_path(certificate: DevCertificate) -> None:
    async def handler(session: WebTransportSession) -> None:
        await session.wait_closed()

    config = ServerConfig(certfile=certificate.certfile, keyfile=certificate.keyfile)
    async with serve(handler, "127.0.0.1", 0, config=config) as serving, browser(serving.address[1]) as web:
        assert (await web.get("/")).status == 405


async def test_a_session_for_what_is_plain_http_is_405(server: Server, client: WebTransportClient) -> None:
    """draft-ietf-webtrans-http3-16 section 3.2: 405 for a resource without WebTransport, 404 without a resource."""

    @server.app.http_route("/page")
    async def page(request: HttpRequest) -> str:
        return "page"

    for path, status, allow in (("/page?x=1", 405, "GET, HEAD"), ("/nowhere", 404, None)):
        with pytest.raises(ClientError) as caught:
            await client.connect(server.url(path))
        assert caught.value.status == status and caught.value.response_headers is not None
        assert caught.value.response_headers.get("allow") == allow


async def test_a_server_without_an_application(certificate: DevCertificate) -> None:
    config = ServerConfig(certfile=certificate.certfile, keyfile=certificate.keyfile)
    async with WebTransportServer(config) as server:
        await server.listen("127.0.0.1", 0)
        assert server.local_address is not None
        async with browser(server.local_address[1]) as web:
            assert (await web.get("/")).status == 404


# --- beside sessions ---


async def test_requests_are_no_sessions(certificate: DevCertificate, driver: Any) -> None:
    """Without flow control a connection has one session, and plain requests beside it all the same."""
    async with running_server(certificate, driver=driver, max_sessions=1) as server:

        @server.app.http_route("/page")
        async def page(request: HttpRequest) -> str:
            return "page"

        async with peer.connect(server.port) as both:
            session = await both.session("/echo")
            for _ in range(3):
                stream = both.bidi(_request("/page"), fin=True)
                assert (await both.response(stream))[b":status"] == b"200"
            await both.echoes(session)
            diagnostics = await server.app.server.diagnostics()
            assert sum(diagnostics.session_states.values()) == 1
            assert (diagnostics.http_requests, diagnostics.requests_rejected) == (3, 0)


async def test_an_answer_goes_out_before_a_drained_server_closes(server: Server, web: Browser) -> None:
    asked, answer_now = asyncio.Event(), asyncio.Event()

    @server.app.http_route("/slow")
    async def slow(request: HttpRequest) -> str:
        asked.set()
        await answer_now.wait()
        return "done"

    answer = web.ask("GET", "/slow")
    async with asyncio.timeout(SECONDS):
        await asked.wait()
        closing = asyncio.create_task(server.app.server.close(drain=SECONDS))
        await asyncio.sleep(0)
        answer_now.set()
        await answer.done.wait()
        await closing
    assert answer.text == "done"


async def test_a_server_that_ends_cancels_its_handlers(certificate: DevCertificate) -> None:
    asked, cancelled = asyncio.Event(), asyncio.Event()
    async with asyncio.timeout(SECONDS):
        async with running_server(certificate) as server:

            @server.app.http_route("/slow")
            async def slow(request: HttpRequest) -> str:
                asked.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    cancelled.set()
                return ""

            async with browser(server.port) as web:
                web.ask("GET", "/slow")
                await asked.wait()
        assert cancelled.is_set()


async def test_a_flood_has_a_bound_and_sessions_find_room_beside_it(
    server: Server, client: WebTransportClient, certificate: DevCertificate
) -> None:
    """550 requests of five connections that nobody answers yet: 512 are in progress, the rest may be repeated."""
    running, answer_now = 0, asyncio.Event()

    @server.app.http_route("/slow")
    async def slow(request: HttpRequest) -> str:
        nonlocal running
        running += 1
        await answer_now.wait()
        return "done"

    async with contextlib.AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(peer.connect(server.port)) for _ in range(5)]
        streams = [(flood, flood.bidi(_request("/slow"), fin=True)) for flood in peers for _ in range(110)]

        def resets() -> list[int]:
            return [code for flood, stream in streams if (code := flood.answers[stream].reset) is not None]

        async with asyncio.timeout(SECONDS):
            while running + len(resets()) < len(streams):
                await asyncio.sleep(0.01)
        assert (running, resets()) == (512, [wire.Code.REQUEST_REJECTED] * 38)
        assert (await server.app.server.diagnostics()).requests_rejected == 38
        session = await client.connect(server.url("/echo"))
        assert session.is_ready
        answer_now.set()
        for flood, stream in streams:
            if flood.answers[stream].reset is None:
                assert (await flood.response(stream))[b":status"] == b"200"


# --- mistakes of handlers ---


@pytest.mark.parametrize(
    "returned",
    [
        None,
        7,
        HttpResponse(status=99),
        HttpResponse(status=101),
        HttpResponse(status=70_000),
        HttpResponse(status=-1),
        HttpResponse("content", status=204),
        HttpResponse(headers={"connection": "close"}),
        HttpResponse(headers={"x": "a\r\nb: c"}),
        HttpResponse(body=7),  # type: ignore[arg-type]
        ZeroDivisionError("oops"),
    ],
    ids=str,
)
async def test_a_handler_that_fails_is_500_and_logged_once(
    server: Server, web: Browser, caplog: pytest.LogCaptureFixture, returned: Any
) -> None:
    @server.app.http_route("/bad")
    async def bad(request: HttpRequest) -> Any:
        if isinstance(returned, Exception):
            raise returned
        return returned

    answer = await web.get("/bad")
    assert (answer.status, answer.text) == (500, "500 Internal Server Error\n")
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == 1 and "GET /bad" in errors[0].getMessage() and errors[0].exc_info
    assert (await web.get("/nowhere")).status == 404, "the connection works"


def test_routes_that_cannot_be(certificate: DevCertificate) -> None:
    from pywebtransport import ServerApp

    app = ServerApp()
    wrong: list[dict[str, Any]] = [{"methods": []}, {"methods": ["GET", "CONNECT"]}, {"max_body": -1}]
    for options in wrong:
        for route in (app.http_route, app.http_pattern_route):
            with pytest.raises(ValueError, match=r"methods|max_body"):
                route("/", **options)
    for value in (0, -1, "1"):
        with pytest.raises(ConfigurationError, match="http_timeout"):
            ServerConfig(http_timeout=value)  # type: ignore[arg-type]


async def test_the_access_log_has_the_status(server: Server, web: Browser, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pywebtransport")
    await web.get("/nowhere?a=b")
    await web.get("/echo")
    lines = [record.getMessage() for record in caplog.records if record.name == "pywebtransport.server.app"]
    assert [line.split(" ", 1)[1] for line in lines] == ['"GET /nowhere?a=b" 404', '"GET /echo" 405']


# --- limits of header sections (RFC 9114 section 4.2.2) ---


def _request(path: str, method: str = "GET", extra: wire.Pairs | None = None) -> bytes:
    fields = {":method": method, ":scheme": "https", ":authority": "localhost", ":path": path}
    return wire.headers([*((name.encode(), value.encode()) for name, value in fields.items()), *(extra or [])])


def _limited(size: int) -> dict[int, int]:
    return {**wire.DRAFT_15, 0x06: size}


@pytest.mark.parametrize(
    ("limit", "status", "has_text"),
    [(1000, 200, True), (300, 500, True), (200, 500, False), (60, None, False)],
)
async def test_an_answer_that_the_client_does_not_take(
    server: Server, caplog: pytest.LogCaptureFixture, limit: int, status: int | None, has_text: bool
) -> None:
    @server.app.http_route("/wide")
    async def wide(request: HttpRequest) -> HttpResponse:
        return HttpResponse("wide", headers={"x-wide": "w" * 500})

    async with peer.connect(server.port, _limited(limit)) as client:
        stream = client.bidi(_request("/wide"), fin=True)
        if status is None:
            assert await client.reset_code(stream) == 0x102, "H3_INTERNAL_ERROR: not even a status fits"
        else:
            response = await client.response(stream)
            assert response[b":status"] == str(status).encode()
            assert (b"content-type" in response) is has_text
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == (0 if status == 200 else 1)


async def test_an_acceptance_that_the_client_does_not_take(server: Server) -> None:
    seen: list[str] = []

    @server.app.route("/try", auto_accept=False)
    async def attempt(session: WebTransportSession) -> None:
        with pytest.raises(ValueError, match="the client takes at most 100") as caught:
            session.accept({"x": "y" * 100})
        seen.append(str(caught.value))
        session.accept()
        await session.wait_closed()

    @server.app.route("/refuse", auto_accept=False)
    async def refuse(session: WebTransportSession) -> None:
        session.reject(429, {"x": "y" * 100})

    async with peer.connect(server.port, _limited(100)) as client:
        refused = await client.response(client.bidi(wire.connect_request("/refuse")))
        assert refused == {b":status": b"429"}
        accepted = await client.response(client.bidi(wire.connect_request("/try")))
        assert accepted == {b":status": b"200"}
    assert len(seen) == 1


async def test_middleware_that_answers_too_much(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    @server.app.middleware
    async def generous(session: WebTransportSession) -> bool:
        session.add_response_headers({"x": "y" * 100})
        return True

    async with peer.connect(server.port, _limited(100)) as client:
        assert await client.response(client.bidi(wire.connect_request("/echo"))) == {b":status": b"500"}
    errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == 1 and "takes at most 100" in errors[0]


@pytest.mark.parametrize("pooling", [False, True])
async def test_a_request_that_the_server_does_not_take(certificate: DevCertificate, driver: Any, pooling: bool) -> None:
    """The server announces 64 KiB. Nothing is sent, so it sees no request."""
    limits = {"initial_max_data": 100_000} if pooling else {}
    config = client_config(certificate, driver=driver, allow_pooling=pooling, **limits)
    async with (
        running_server(certificate, driver=driver, **limits) as server,
        WebTransportClient(config=config) as client,
    ):
        await client.connect(server.url())
        with pytest.raises(ClientError, match="the server takes at most 65536") as caught:
            await client.connect(server.url(), headers={"x": "y" * 70_000})
        assert caught.value.status is None
        assert (await server.app.server.diagnostics()).requests_rejected == 0
        await client.connect(server.url(), headers={"x": "y" * 60_000})


async def test_limits_that_no_clock_can_tell(certificate: DevCertificate, driver: Any) -> None:
    config = client_config(certificate, driver=driver, close_timeout=1e300)
    options = {"driver": driver, "close_timeout": 1e300, "http_timeout": 1e300}
    async with running_server(certificate, **options) as server, WebTransportClient(config=config) as client:
        session = await client.connect(server.url())
        async with browser(server.port) as web, asyncio.timeout(SECONDS):
            assert (await web.get("/nowhere")).status == 404
            await session.close()
