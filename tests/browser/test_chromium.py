"""Chromium, as Debian ships it, against the demo server: every scenario."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from pywebtransport._demo.server import DemoServer
from tests.browser.pages import Page, chromium_page
from tests.browser.scenarios import SCENARIOS, Scenario

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def page() -> AsyncIterator[Page]:
    async with chromium_page() as page:
        yield page


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
async def test_chromium(page: Page, server: DemoServer, scenario: Scenario) -> None:
    await scenario(page, server)
