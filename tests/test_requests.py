"""Session requests before they are answered: headers both ways, refusals, origins, subprotocols."""

from __future__ import annotations

import asyncio
import copy
import logging
import pickle
from typing import Any

import pytest

from pywebtransport import (
    ClientConfig,
    ClientError,
    ConfigurationError,
    ServerConfig,
    SessionError,
    WebTransportClient,
    WebTransportSession,
    connect,
    serve,
)
from pywebtransport.types import SessionState
from pywebtransport.utils import DevCertificate
from tests.harness import SECONDS, Server, client_config, running_server


async def refused(client: WebTransportClient, url: str, **options: Any) -> ClientError:
    with pytest.raises(ClientError) as caught:
        await client.connect(url, **options)
    return caught.value


# --- accept and reject ---


async def test_the_request_can_be_read_before_it_is_answered(server: Server, client: WebTransportClient) -> None:
    seen: list[Any] = []

    @server.app.middleware
    async def look(session: WebTransportSession) -> bool:
        seen.append((session.state, session.path, session.authority, session.origin, session.headers["x"]))
        assert session.response_headers == {} and session.subprotocol is None
        return True

    await client.connect(server.url("/hold?a=b"), headers={"Origin": "https://example.org", "X": "1"})
    authority = f"127.0.0.1:{server.port}"
    assert seen == [(SessionState.CONNECTING, "/hold?a=b", authority, "https://example.org", "1")]


async def test_a_refusal_carries_status_and_headers(server: Server, client: WebTransportClient) -> None:
    @server.app.middleware
    async def busy(session: WebTransportSession) -> bool:
        session.add_response_headers({"X-Late": "no", "X-Server": "test"})
        session.reject(429, {"Retry-After": "7", "x-late": "yes"})
        return False

    error = await refused(client, server.url("/echo"))
    assert error.status == 429
    assert error.response_headers == {"retry-after": "7", "x-late": "yes", "x-server": "test"}
    assert "HTTP status 429" in str(error) and error.ended_by == "peer"
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert (twin.status, twin.response_headers) == (error.status, error.response_headers)


async def test_a_redirection_is_told_and_not_followed(server: Server, client: WebTransportClient) -> None:
    @server.app.route("/old", auto_accept=False)
    async def old(session: WebTransportSession) -> None:
        session.reject(301, {"Location": server.url("/echo")})

    error = await refused(client, server.url("/old"))
    assert error.status == 301 and error.response_headers == {"location": server.url("/echo")}


async def test_an_error_without_an_answer_has_no_status(server: Server, client: WebTransportClient) -> None:
    await client.close()
    error = await refused(client, server.url())
    assert error.status is None and error.response_headers is None


async def test_headers_of_the_answer_arrive(server: Server, client: WebTransportClient) -> None:
    @server.app.middleware
    async def add(session: WebTransportSession) -> bool:
        session.add_response_headers({"Set-Cookie": "a=b"})
        return True

    near = await client.connect(server.url("/hold"))
    far = await server.next_session()
    assert near.response_headers["set-cookie"] == "a=b" == far.response_headers["set-cookie"]


async def test_a_handler_may_answer_itself(server: Server, client: WebTransportClient) -> None:
    states: list[SessionState] = []

    @server.app.route("/mine", auto_accept=False)
    async def mine(session: WebTransportSession) -> None:
        states.append(session.state)
        if session.headers.get("token") != "right":
            session.reject(401, {"www-authenticate": "token"})
            with pytest.raises(SessionError):
                session.accept()
            return
        session.accept({"X-Welcome": "yes"})
        states.append(session.state)
        with pytest.raises(SessionError, match="answered"):
            session.reject()
        with pytest.raises(SessionError, match="answered"):
            session.add_response_headers({"x": "y"})
        await session.datagrams.send(b"hello")
        await session.wait_closed()

    error = await refused(client, server.url("/mine"))
    assert error.status == 401 and error.response_headers == {"www-authenticate": "token"}
    session = await client.connect(server.url("/mine"), headers={"token": "right"})
    assert session.response_headers["x-welcome"] == "yes"
    async with asyncio.timeout(SECONDS):
        assert await session.datagrams.receive() == b"hello"
    assert states == [SessionState.CONNECTING, SessionState.CONNECTING, SessionState.CONNECTED]


@pytest.mark.parametrize("fails", [False, True])
async def test_a_handler_that_does_not_answer_is_500(
    server: Server, client: WebTransportClient, caplog: pytest.LogCaptureFixture, fails: bool
) -> None:
    @server.app.pattern_route("/forget.*", auto_accept=False)
    async def forget(session: WebTransportSession) -> None:
        if fails:
            raise ZeroDivisionError("oops")

    assert (await refused(client, server.url("/forgetful"))).status == 500
    errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == 1 and "/forget" in errors[0]


async def test_what_cannot_be_sent_is_refused_here(server: Server, client: WebTransportClient) -> None:
    @server.app.route("/bad", auto_accept=False)
    async def bad(session: WebTransportSession) -> None:
        for status in (200, 204, 299, 600, 100):
            with pytest.raises(ValueError, match="300 to 599"):
                session.reject(status)
        for headers in ({"a b": "1"}, {"x": "a\nb"}, {":path": "/"}, {"connection": "close"}):
            with pytest.raises(ValueError):
                session.accept(headers)
            with pytest.raises(ValueError):
                session.reject(403, headers)
        with pytest.raises(ValueError, match="offer"):
            session.accept(subprotocol="chat")
        session.reject(418)

    assert (await refused(client, server.url("/bad"))).status == 418


async def test_the_answer_is_in_the_access_log(
    server: Server, client: WebTransportClient, caplog: pytest.LogCaptureFixture
) -> None:
    @server.app.route("/teapot", auto_accept=False)
    async def teapot(session: WebTransportSession) -> None:
        session.reject(418)

    caplog.set_level(logging.INFO, "pywebtransport")
    await refused(client, server.url("/teapot"))
    await client.connect(server.url("/hold"))
    lines = [record.getMessage() for record in caplog.records if record.name == "pywebtransport.server.app"]
    assert [line.split(" ", 1)[1] for line in lines] == ['"/teapot" 418', '"/hold" 200']


# --- origins ---


@pytest.mark.parametrize(
    ("allowed", "origin", "passes"),
    [
        (None, "https://anywhere.example", True),
        ("same-origin", "https://127.0.0.1:{port}", True),
        ("same-origin", "https://127.0.0.1", False),
        ("same-origin", "http://127.0.0.1:{port}", False),
        ("same-origin", None, True),
        (["https://*.example.org"], "https://a.example.org", True),
        (["https://*.example.org"], "https://example.org", False),
        (["https://x.example", "https://example.org:*"], "https://example.org:8443", True),
        (["https://x.example", "https://example.org:*"], "null", False),
        ([], "https://a.example.org", False),
        ([], None, True),
    ],
)
async def test_origins(certificate: DevCertificate, allowed: Any, origin: str | None, passes: bool) -> None:
    asked: list[str] = []

    async def look(session: WebTransportSession) -> bool:
        asked.append(session.path)
        return True

    async with (
        running_server(certificate, allowed_origins=allowed, middleware=[look]) as server,
        WebTransportClient(config=client_config(certificate)) as client,
    ):
        headers = {"origin": origin.format(port=server.port)} if origin is not None else {}
        if passes:
            assert (await client.connect(server.url(), headers=headers)).is_ready
        else:
            assert (await refused(client, server.url(), headers=headers)).status == 403
        assert asked == (["/hold"] if passes else []), "refused before the middleware"
        diagnostics = await server.app.server.diagnostics()
        assert diagnostics.origins_refused == (0 if passes else 1)
        assert any("allowed_origins" in issue for issue in diagnostics.issues) is not passes


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("https://example.org", "must be None"),
        ("*", "must be None"),
        (7, "must be None"),
        (["https://example.org/"], "without user, path"),
        (["example.org"], "begins with a scheme"),
        (["https://*"], "asterisk"),
        (["https://example.org:x"], "not valid"),
        ([None], "allowed_origins"),
    ],
)
def test_origins_that_cannot_be_meant(value: Any, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason) as caught:
        ServerConfig(allowed_origins=value)
    assert caught.value.config_key == "allowed_origins"


def test_origins_that_can() -> None:
    for value in (None, "same-origin", [], ["*"], ["null", "http://localhost:*", "https://[::1]:4433"]):
        config = ServerConfig(allowed_origins=value)
        assert config.copy() == ServerConfig.from_dict(config.to_dict()) == config


# --- subprotocols ---


@pytest.mark.parametrize(
    ("offered", "supported", "chosen"),
    [
        (["a", "b"], ["b", "a"], "b"),
        (["a", "b"], ["x", "a"], "a"),
        (["a", "b"], ["x"], None),
        (["a"], [], None),
        ([], ["a"], None),
        (['say "hi"', "\\"], ['say "hi"'], 'say "hi"'),
    ],
)
async def test_the_server_chooses_by_its_own_order(
    certificate: DevCertificate, driver: str, offered: list[str], supported: list[str], chosen: str | None
) -> None:
    config = client_config(certificate, driver=driver, subprotocols=offered)
    async with (
        running_server(certificate, driver=driver, subprotocols=supported) as server,
        WebTransportClient(config=config) as client,
    ):
        near = await client.connect(server.url())
        far = await server.next_session()
        assert (near.subprotocol, far.subprotocol) == (chosen, chosen)
        assert near.offered_subprotocols == far.offered_subprotocols == offered
        assert ("wt-protocol" in near.response_headers) is (chosen is not None)


async def test_subprotocols_of_a_route_and_of_a_call(server: Server, client: WebTransportClient) -> None:
    @server.app.route("/chat", subprotocols=["chat-2", "chat-1"])
    async def chat(session: WebTransportSession) -> None:
        await session.datagrams.send((session.subprotocol or "none").encode())
        await session.wait_closed()

    for offered, chosen in ((["chat-1", "chat-2"], "chat-2"), (["chat-1"], "chat-1"), (None, None)):
        session = await client.connect(server.url("/chat"), subprotocols=offered)
        assert session.subprotocol == chosen
        async with asyncio.timeout(SECONDS):
            assert await session.datagrams.receive() == (chosen or "none").encode()
    # Without options the route has those of the configuration: none.
    assert (await client.connect(server.url("/hold"), subprotocols=["chat-1"])).subprotocol is None


async def test_a_handler_may_choose_or_insist(server: Server, client: WebTransportClient) -> None:
    @server.app.route("/choose", auto_accept=False, subprotocols=["a"])
    async def choose(session: WebTransportSession) -> None:
        if not session.offered_subprotocols:
            return session.reject(400)
        session.accept(subprotocol=session.offered_subprotocols[-1])
        await session.wait_closed()

    assert (await client.connect(server.url("/choose"), subprotocols=["a", "z"])).subprotocol == "z"
    assert (await refused(client, server.url("/choose"))).status == 400


async def test_subprotocols_of_connect_and_serve(certificate: DevCertificate) -> None:
    async def handler(session: WebTransportSession) -> None:
        await session.wait_closed()

    config = ServerConfig(certfile=certificate.certfile, keyfile=certificate.keyfile)
    async with serve(handler, "127.0.0.1", 0, config=config, subprotocols=["v1"]) as serving:
        url = f"https://127.0.0.1:{serving.address[1]}/"
        async with connect(url, config=client_config(certificate), subprotocols=["v2", "v1"]) as session:
            assert session.subprotocol == "v1"


@pytest.mark.parametrize("field", ['a, "b"', "b", '"b', '("b")', '"b",', "1", ""])
async def test_a_malformed_offer_is_ignored(certificate: DevCertificate, field: str) -> None:
    async with (
        running_server(certificate, subprotocols=["a", "b"]) as server,
        WebTransportClient(config=client_config(certificate)) as client,
    ):
        session = await client.connect(server.url(), headers={"wt-available-protocols": field})
        assert session.subprotocol is None
        assert (await server.next_session()).offered_subprotocols == []


async def test_a_choice_cannot_be_forged_by_a_header(server: Server, client: WebTransportClient) -> None:
    @server.app.route("/forge", auto_accept=False)
    async def forge(session: WebTransportSession) -> None:
        session.accept({"WT-Protocol": '"x"'})
        await session.wait_closed()

    session = await client.connect(server.url("/forge"), subprotocols=["a"])
    assert session.subprotocol is None and "wt-protocol" not in session.response_headers


@pytest.mark.parametrize("config", [ClientConfig, ServerConfig])
@pytest.mark.parametrize("value", ["chat", [""], ["ü"], ["a\n"], [1], ["a" * 513], ["a", "a"], None])
def test_subprotocols_that_cannot_be(config: Any, value: Any) -> None:
    with pytest.raises(ConfigurationError, match="subprotocols"):
        config(subprotocols=value)


async def test_a_bad_subprotocol_is_no_attempt(server: Server, client: WebTransportClient) -> None:
    with pytest.raises(ConfigurationError, match="subprotocols"):
        await client.connect(server.url(), subprotocols=["ü"])
    with pytest.raises(ConfigurationError, match="subprotocols"):
        server.app.route("/x", subprotocols=["ü"])
    assert (await client.diagnostics()).stats.connections_attempted == 0
