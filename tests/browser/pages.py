"""A page in Chromium or Firefox: navigate, evaluate, collect what went wrong. The scenarios see only `Page`.

Chromium is driven by playwright, Firefox by WebDriver BiDi (its protocol is JSON over one websocket), both headless and
as Debian packages them; neither downloads anything.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import playwright.async_api
import pytest
import websockets.asyncio.client
import websockets.exceptions

__all__ = ["Page", "chromium_page", "firefox_page"]

_SCENARIOS = (Path(__file__).parent / "scenarios.js").read_text()
_START_TIMEOUT = 30.0
_COMMAND_TIMEOUT = 45.0
_FIREFOX_PREFERENCES = {
    "network.webtransport.enabled": True,
    # A root that is not Mozilla's switches HTTP/3 off otherwise.
    "network.http.http3.disable_when_third_party_roots_found": False,
    # Nothing of its own on a machine without a network.
    "app.update.enabled": False,
    "browser.safebrowsing.downloads.remote.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "http://localhost:1/",
    "toolkit.telemetry.enabled": False,
}


class Page(ABC):
    """One page of one browser."""

    tells_reset_codes = True
    """A reader learns the code of a stream that the server reset."""
    ends_sessions_on_reload = True
    """The sessions of a page end with it: at once, or as a silent peer does."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        """Uncaught errors of the page's scripts."""

    @abstractmethod
    async def navigate(self, url: str) -> None:
        """Load `url`; the same one again is a reload."""

    @abstractmethod
    async def evaluate(self, expression: str) -> str | None:
        """Evaluate a script whose value, or whose promise's value, is a string or undefined."""

    @abstractmethod
    async def screenshot(self, path: Path) -> None:
        """Write a PNG."""

    async def call(self, step: str, *arguments: Any) -> Any:
        """Run one function of scenarios.js and return its result."""
        await self.evaluate(f"globalThis.scenarios ??= {_SCENARIOS}; undefined")
        result = await self.evaluate(f"scenarios.{step}(...{json.dumps(arguments)}).then(JSON.stringify)")
        assert result is not None, f"{step} returned nothing"
        return json.loads(result)


@contextlib.asynccontextmanager
async def chromium_page() -> AsyncIterator[Page]:
    """A page in the system's Chromium."""
    path = _executable("chromium", "chromium-browser", "google-chrome")
    arguments = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")
    async with playwright.async_api.async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=path, args=arguments)
        try:
            yield _ChromiumPage(await browser.new_page(viewport={"width": 1240, "height": 860}))
        finally:
            await browser.close()


@contextlib.asynccontextmanager
async def firefox_page() -> AsyncIterator[Page]:
    """A page in the system's Firefox."""
    path = _executable("firefox-esr", "firefox")
    # Firefox still writes while it ends; what is left then goes with the machine's temporary files.
    with TemporaryDirectory(prefix="firefox-", ignore_cleanup_errors=True) as profile:
        preferences = "".join(
            f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in _FIREFOX_PREFERENCES.items()
        )
        (Path(profile) / "user.js").write_text(preferences)
        process = await asyncio.create_subprocess_exec(
            path,
            *("--headless", "--no-remote", "--profile", profile, "--remote-debugging-port", "0"),
            *("--width", "1240", "--height", "860"),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "HOME": profile},
        )
        assert process.stderr is not None
        draining: asyncio.Task[bytes] | None = None
        try:
            address = await asyncio.wait_for(_bidi_address(process.stderr), _START_TIMEOUT)
            draining = asyncio.create_task(process.stderr.read())
            async with (
                websockets.asyncio.client.connect(f"{address}/session", max_size=None) as socket,
                _Bidi(socket) as bidi,
            ):
                yield await _FirefoxPage.open(bidi)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()
            if draining is not None:
                await draining


def _executable(*names: str) -> str:
    for name in names:
        if path := shutil.which(name):
            return path
    pytest.fail(f"no {names[0]} on this machine: apt-get install {names[0]}")


class _ChromiumPage(Page):
    def __init__(self, page: playwright.async_api.Page) -> None:
        super().__init__()
        self._page = page
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    async def navigate(self, url: str) -> None:
        await self._page.goto(url)

    async def evaluate(self, expression: str) -> str | None:
        result: str | None = await asyncio.wait_for(self._page.evaluate(expression), _COMMAND_TIMEOUT)
        return result

    async def screenshot(self, path: Path) -> None:
        await self._page.screenshot(path=path)


class _FirefoxPage(Page):
    # As of ESR 153: the reader's error is a TypeError, and a page's connection lives on, with PINGs, after a reload.
    tells_reset_codes = False
    ends_sessions_on_reload = False

    def __init__(self, bidi: _Bidi, context: str) -> None:
        super().__init__()
        self._bidi = bidi
        self._context = context

    @classmethod
    async def open(cls, bidi: _Bidi) -> _FirefoxPage:
        await bidi.command("session.new", {"capabilities": {}})
        await bidi.command("session.subscribe", {"events": ["log.entryAdded"]})
        tree = await bidi.command("browsingContext.getTree", {})
        page = cls(bidi, tree["contexts"][0]["context"])
        bidi.on_log = page._log
        return page

    async def navigate(self, url: str) -> None:
        await self._bidi.command("browsingContext.navigate", {"context": self._context, "url": url, "wait": "complete"})

    async def evaluate(self, expression: str) -> str | None:
        result = await self._bidi.command(
            "script.evaluate",
            {"expression": expression, "target": {"context": self._context}, "awaitPromise": True},
        )
        if result["type"] == "exception":
            raise AssertionError(f"the page raised {result['exceptionDetails']['text']}")
        value: str | None = result["result"].get("value")
        return value

    async def screenshot(self, path: Path) -> None:
        result = await self._bidi.command("browsingContext.captureScreenshot", {"context": self._context})
        path.write_bytes(base64.b64decode(result["data"]))

    def _log(self, entry: dict[str, Any]) -> None:
        if entry["level"] == "error" and entry["type"] == "javascript":
            self.errors.append(entry["text"])


class _Bidi:
    """WebDriver BiDi: commands with an id, answers with the same one, events without."""

    def __init__(self, socket: websockets.asyncio.client.ClientConnection) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.on_log: Any = None

    async def __aenter__(self) -> _Bidi:
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reader.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reader

    async def command(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        number = next(self._ids)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        try:
            message = await asyncio.wait_for(answer, _COMMAND_TIMEOUT)
        finally:
            del self._answers[number]
        if message["type"] == "error":
            raise AssertionError(f"{method}: {message['error']}: {message['message']}")
        result: dict[str, Any] = message["result"]
        return result

    async def _read(self) -> None:
        try:
            async for text in self._socket:
                message = json.loads(text)
                answer = self._answers.get(message.get("id"))
                if answer is not None and not answer.done():
                    answer.set_result(message)
                elif message.get("method") == "log.entryAdded" and self.on_log is not None:
                    self.on_log(message["params"])
        except websockets.exceptions.ConnectionClosed:
            pass
        finally:
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(AssertionError("Firefox ended"))


async def _bidi_address(stderr: asyncio.StreamReader) -> str:
    while line := await stderr.readline():
        if found := re.search(rb"WebDriver BiDi listening on (ws://\S+)", line):
            return found[1].decode()
    raise AssertionError("Firefox ended before it listened for WebDriver BiDi")
