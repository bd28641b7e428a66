"""Middleware: who gets in."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import pytest

from pywebtransport.exceptions import ServerError
from pywebtransport.server.middleware import (
    MAX_TRACKED_CLIENTS,
    MiddlewareManager,
    RateLimiter,
    create_auth_middleware,
    create_cors_middleware,
    create_logging_middleware,
    create_rate_limit_middleware,
)
from pywebtransport.types import MiddlewareProtocol


def session(address: str | None = "192.0.2.1", path: str = "/", **headers: str) -> Any:
    connection = SimpleNamespace(remote_address=(address, 5000)) if address else None
    return SimpleNamespace(connection=connection, path=path, headers=headers)


def answering(answer: Any, calls: list[Any] | None = None) -> MiddlewareProtocol:
    async def middleware(*, session: Any) -> bool:
        if calls is not None:
            calls.append(answer)
        if isinstance(answer, Exception):
            raise answer
        return bool(answer)

    return middleware


# --- the chain ---


async def test_empty_chain_lets_everything_through() -> None:
    assert await MiddlewareManager().process_request(session())


@pytest.mark.parametrize("refusal", [False, RuntimeError("broken")])
async def test_first_refusal_or_exception_ends_the_chain(refusal: Any, caplog: pytest.LogCaptureFixture) -> None:
    manager, calls = MiddlewareManager(), list[Any]()
    for answer in (True, refusal, "never asked"):
        manager.add_middleware(answering(answer, calls))
    assert not await manager.process_request(session())
    assert calls == [True, refusal]
    assert ("broken" in caplog.text) is isinstance(refusal, Exception)


async def test_removed_middleware_is_not_asked() -> None:
    manager, refuse = MiddlewareManager(), answering(False)
    manager.add_middleware(refuse)
    manager.remove_middleware(middleware=refuse)
    manager.remove_middleware(refuse)
    assert manager.get_middleware_count() == 0 and await manager.process_request(session=session())


# --- authentication, origin, logging ---


async def test_auth_handler_decides_by_headers() -> None:
    async def handler(*, headers: dict[str, str]) -> bool:
        return headers["authorization"] == "secret"

    middleware = create_auth_middleware(handler)
    assert await middleware(session=session(authorization="secret")) is True
    assert await middleware(session=session(authorization="guess")) is False


async def test_auth_handler_that_raises_rejects(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(*, headers: dict[str, str]) -> bool:
        raise KeyError("authorization")

    assert await create_auth_middleware(auth_handler=handler)(session=session()) is False
    assert "authorization" in caplog.text


@pytest.mark.parametrize(
    ("allowed", "origin", "expected"),
    [
        (["https://a.example"], "https://a.example", True),
        (["https://a.example"], "https://b.example", False),
        (["https://a.example"], "https://a.example.evil", False),
        (["*"], "https://b.example", True),
        ([], "https://a.example", False),
    ],
)
async def test_origin_must_be_on_the_list(allowed: list[str], origin: str, expected: bool) -> None:
    assert await create_cors_middleware(allowed)(session=session(origin=origin)) is expected


@pytest.mark.parametrize("allowed", [["*"], ["https://a.example"]])
async def test_missing_origin_is_rejected(allowed: list[str]) -> None:
    assert await create_cors_middleware(allowed_origins=allowed)(session=session()) is False


async def test_logging_names_path_and_address(caplog: pytest.LogCaptureFixture) -> None:
    middleware = create_logging_middleware()
    with caplog.at_level(logging.INFO, "pywebtransport"):
        assert await middleware(session=session("::1", "/chat"))
        assert await middleware(session=session(None))
    assert "path='/chat' from=::1:5000" in caplog.text and "from=unknown" in caplog.text


# --- rate limit ---


async def test_limit_holds_per_address() -> None:
    async with create_rate_limit_middleware(2) as limiter:
        assert [await limiter(session=session("192.0.2.1")) for _ in range(3)] == [True, True, False]
        assert await limiter(session=session("192.0.2.2"))
        assert await limiter(session=session(None))


async def test_window_slides() -> None:
    now = 100.0
    async with RateLimiter(max_requests=2, window_seconds=10) as limiter:
        limiter._clock = lambda: now
        assert await limiter(session())
        now = 106.0
        assert await limiter(session())
        assert not await limiter(session())
        now = 110.5  # the first request is older than the window, the second is not
        assert await limiter(session())
        assert not await limiter(session())


async def test_quiet_addresses_are_forgotten() -> None:
    now = 100.0
    async with RateLimiter(window_seconds=10) as limiter:
        limiter._clock = lambda: now
        await limiter(session("192.0.2.1"))
        now = 105.0
        await limiter(session("192.0.2.2"))
        now = 112.0
        limiter._sweep()
        assert list(limiter._requests) == ["192.0.2.2"]


async def test_number_of_remembered_addresses_is_bounded() -> None:
    async with RateLimiter() as limiter:
        for number in range(MAX_TRACKED_CLIENTS + 10):
            await limiter(session(str(number)))
        assert len(limiter._requests) == MAX_TRACKED_CLIENTS
        assert "0" not in limiter._requests and str(MAX_TRACKED_CLIENTS) in limiter._requests


async def test_limiter_outside_its_context_is_an_error() -> None:
    limiter = RateLimiter()
    with pytest.raises(ServerError, match="not been activated"):
        await limiter(session())
    async with limiter:
        assert await limiter(session())
    with pytest.raises(ServerError, match="not been activated"):
        await limiter(session())


async def test_limiter_leaves_no_task_behind_however_it_is_left() -> None:
    limiter = RateLimiter()
    await limiter.__aenter__()
    await limiter.__aexit__(exc_type=None, exc_val=None, exc_tb=None)
    await limiter.__aexit__(None, None, None)
    assert asyncio.all_tasks() == {asyncio.current_task()}
