"""What a browser does with the demo server, and what both sides must have seen. test_chromium and test_firefox run all.

The page's half is scenarios.js.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

from pywebtransport import WebTransportSession, WebTransportStream
from pywebtransport._demo.handlers import CLOSE_CODE, CLOSE_REASON, GREETING
from pywebtransport._demo.server import DemoServer, SessionRecord
from pywebtransport.exceptions import StreamError
from tests.browser.pages import Page

__all__ = ["SCENARIOS", "Scenario"]

Scenario: TypeAlias = Callable[[Page, DemoServer], Awaitable[None]]

_PATIENCE = 15.0
_routes = itertools.count(1)


async def bidirectional_stream_is_echoed(page: Page, server: DemoServer) -> None:
    session = await _open(page, server)
    assert await page.call("echoBidi", session, "Grüße") == "Grüße"
    await page.call("close", session, 0, "")


async def unidirectional_stream_is_answered(page: Page, server: DemoServer) -> None:
    session = await _open(page, server)
    assert await page.call("echoUni", session, "one way") == "one way"
    await page.call("close", session, 0, "")


async def megabytes_return_unchanged(page: Page, server: DemoServer) -> None:
    session = await _open(page, server)
    assert await page.call("echoBulk", session, 4 << 20) == {"length": 4 << 20, "same": True}
    await page.call("close", session, 0, "")


async def datagrams_are_echoed(page: Page, server: DemoServer) -> None:
    session = await _open(page, server)
    # One at a time on the loopback interface; still, a datagram may be lost.
    assert await page.call("datagrams", session, 50) >= 48
    await page.call("close", session, 0, "")


async def server_opens_streams(page: Page, server: DemoServer) -> None:
    session = await _open(page, server, "/push")
    greeting = GREETING.decode()
    assert await page.call("takePushed", session, " and answered") == {
        "onBidi": f"{greeting} and answered",
        "onUni": greeting,
    }
    await page.call("close", session, 0, "")


async def a_hundred_streams_of_each_kind(page: Page, server: DemoServer) -> None:
    session = await _open(page, server)
    expected = sorted(f"{kind}{number}" for kind in "bu" for number in range(100))
    assert await page.call("manyStreams", session, 100) == expected
    await page.call("close", session, 0, "")


async def server_closes_with_code_and_reason(page: Page, server: DemoServer) -> None:
    session = await _open(page, server, "/close")
    record = server.records[-1]
    assert await page.call("closed", session) == {"code": CLOSE_CODE, "reason": CLOSE_REASON}
    await _ended(record)
    assert (record.code, record.reason) == (CLOSE_CODE, CLOSE_REASON)


async def page_closes_with_code_and_reason(page: Page, server: DemoServer) -> None:
    session = await _open(page, server)
    record = server.records[-1]
    await page.call("close", session, 77, "goodbye, Server")
    assert await page.call("closed", session) == {"code": 77, "reason": "goodbye, Server"}
    await _ended(record)
    assert (record.code, record.reason) == (77, "goodbye, Server")


async def page_resets_a_stream(page: Page, server: DemoServer) -> None:
    seen: asyncio.Future[StreamError] = asyncio.get_running_loop().create_future()

    async def handler(session: WebTransportSession) -> None:
        stream = await anext(session.incoming_streams())
        assert isinstance(stream, WebTransportStream)
        await stream.write(await stream.read())
        try:
            while await stream.read():
                pass
        except StreamError as error:
            seen.set_result(error)
        await session.wait_closed()

    session = await _open(page, server, _add_route(server, handler))
    await page.call("resetWith", session, 42)
    error = await asyncio.wait_for(seen, _PATIENCE)
    assert error.application_code == 42
    await page.call("close", session, 0, "")


async def server_aborts_streams(page: Page, server: DemoServer) -> None:
    async def handler(session: WebTransportSession) -> None:
        async for stream in session.incoming_streams():
            await stream.read()
            await stream.abort(code=99)

    session = await _open(page, server, _add_route(server, handler))
    # The writer's code is looked at on a stream without a reader: a bidirectional stream that is reset and stopped at
    # once fails in Chromium with or without the code, whichever of its two directions ends first.
    stopped = await page.call("takeStop", session)
    assert (stopped["source"], stopped["code"]) == ("stream", 99)
    reset = await page.call("takeReset", session)
    assert reset is not None, "the reader saw a clean end"
    if page.tells_reset_codes:
        assert (reset["source"], reset["code"]) == ("stream", 99)
    await page.call("close", session, 0, "")


async def unknown_path_is_refused(page: Page, server: DemoServer) -> None:
    result = await page.call("open", server.url("/nowhere"), server.sha256.hex())
    assert result["error"]["name"] == "WebTransportError"
    await bidirectional_stream_is_echoed(page, server)


async def wrong_certificate_hash_is_refused(page: Page, server: DemoServer) -> None:
    result = await page.call("open", server.url(), "00" * 32)
    assert result["error"]["name"] == "WebTransportError"
    await bidirectional_stream_is_echoed(page, server)


async def reload_in_mid_traffic(page: Page, server: DemoServer) -> None:
    session = await _open(page, server)
    record = server.records[-1]
    await page.call("startTraffic", session, 10)
    await asyncio.sleep(0.5)
    await _load(page, server)
    if page.ends_sessions_on_reload:
        await _ended(record)
    await bidirectional_stream_is_echoed(page, server)


async def demo_page_shows_what_it_does(page: Page, server: DemoServer) -> None:
    await _load(page, server)
    await _connected(page)
    for action, words in {
        "sendBidi": "bidirectional stream: “Hello from the browser” came back",
        "sendUni": "the server answered “Hello from the browser”",
        "sendDatagram": "datagram: “Hello from the browser” came back",
        "manyStreams": "100 of 100 streams returned",
        "manyDatagrams": "datagrams came back",
        "bulk": "33.6 MB went and came",
        "serverStreams": "opened a bidirectional stream (“opened by the server”) and a unidirectional one",
        "serverClose": "closed it with code 4242 and the reason “done by the server”",
    }.items():
        await page.evaluate(f"document.querySelector('[data-action={action}]').click(); undefined")
        await _shown(page, "log", words)
    if folder := os.environ.get("SCREENSHOTS"):
        await asyncio.sleep(2)  # for the looks: a few round trips for the line
        await page.screenshot(Path(folder) / f"{type(page).__name__.strip('_')}.png")
    assert page.errors == []
    await page.evaluate("document.getElementById('connect').click(); undefined")
    await _shown(page, "log", "closed with code 0, reason “the visitor left”")


async def demo_page_says_why_it_cannot_connect(page: Page, server: DemoServer) -> None:
    right = server.sha256
    server.sha256 = bytes(32)
    try:
        await _load(page, server)
        await _becomes(page, "document.getElementById('state').dataset.state", "failed")
        await _shown(page, "trouble-title", "The handshake failed")
    finally:
        server.sha256 = right
    await page.evaluate("document.getElementById('connect').click(); undefined")
    await _connected(page)


SCENARIOS: list[Scenario] = [
    bidirectional_stream_is_echoed,
    unidirectional_stream_is_answered,
    megabytes_return_unchanged,
    datagrams_are_echoed,
    server_opens_streams,
    a_hundred_streams_of_each_kind,
    server_closes_with_code_and_reason,
    page_closes_with_code_and_reason,
    page_resets_a_stream,
    server_aborts_streams,
    unknown_path_is_refused,
    wrong_certificate_hash_is_refused,
    reload_in_mid_traffic,
    demo_page_shows_what_it_does,
    demo_page_says_why_it_cannot_connect,
]


async def _load(page: Page, server: DemoServer) -> None:
    assert server.page_url is not None
    await page.navigate(server.page_url)


async def _open(page: Page, server: DemoServer, path: str = "/echo") -> int:
    """A session of the page's own; the record of it is the server's last one."""
    if await page.evaluate("document.title") != "pywebtransport echo":
        await _load(page, server)
    # The demo page connects by itself; its session must not come between.
    await _connected(page)
    result = await page.call("open", server.url(path), server.sha256.hex())
    assert "session" in result, f"could not connect: {result}"
    session: int = result["session"]
    return session


async def _connected(page: Page) -> None:
    await _becomes(page, "document.getElementById('state').dataset.state", "connected")


async def _shown(page: Page, element: str, words: str) -> None:
    await _becomes(page, f"document.getElementById('{element}').textContent", words)


async def _becomes(page: Page, expression: str, words: str) -> None:
    """Wait until the text that `expression` gives contains `words`."""
    text: str | None = None
    for _ in range(int(_PATIENCE / 0.1)):
        text = await page.evaluate(expression)
        if text is not None and words in text:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{expression} does not show {words!r} but {text!r}")


async def _ended(record: SessionRecord) -> None:
    async with asyncio.timeout(_PATIENCE):
        while record.closed_at is None:
            await asyncio.sleep(0.02)


def _add_route(server: DemoServer, handler: Callable[[WebTransportSession], Awaitable[None]]) -> str:
    path = f"/scenario/{next(_routes)}"
    server.app.route(path)(handler)
    return path
