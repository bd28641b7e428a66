"""Checks that run before a session is accepted, and four ready-made ones."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Self

from pywebtransport.exceptions import ServerError
from pywebtransport.types import AuthHandlerProtocol, MiddlewareProtocol
from pywebtransport.utils import get_logger

if TYPE_CHECKING:
    from pywebtransport.session.session import WebTransportSession

__all__: list[str] = [
    "MiddlewareManager",
    "RateLimiter",
    "create_auth_middleware",
    "create_cors_middleware",
    "create_logging_middleware",
    "create_rate_limit_middleware",
]

logger = get_logger(__name__)


class MiddlewareManager:
    """A chain of middleware, asked in the order it was added."""

    def __init__(self) -> None:
        """Make an empty chain, which lets everything through."""
        self._chain: list[MiddlewareProtocol] = []

    async def process_request(self, session: WebTransportSession) -> bool:
        """Ask each middleware in turn; the first refusal ends the chain.

        Returns:
            False as soon as one says False or raises (the exception is logged), else True.
        """
        for middleware in list(self._chain):
            try:
                if not await middleware(session=session):
                    return False
            except Exception as error:
                logger.error("Middleware error: %s", error, exc_info=True)
                return False
        return True

    def add_middleware(self, middleware: MiddlewareProtocol) -> None:
        """Add `middleware` at the end of the chain."""
        self._chain.append(middleware)

    def get_middleware_count(self) -> int:
        """Return the length of the chain."""
        return len(self._chain)

    def remove_middleware(self, middleware: MiddlewareProtocol) -> None:
        """Remove the first occurrence of `middleware`; an unknown one is ignored."""
        with contextlib.suppress(ValueError):
            self._chain.remove(middleware)


class RateLimiter:
    """Middleware that limits how many sessions one client address may request.

    The window slides: a request passes when fewer than `max_requests` passed within the last `window_seconds`. Use it
    with `async with`; ServerApp does that for the middleware it is given. It remembers at most 65 536 addresses and
    forgets those that were quiet the longest.
    """

    def __init__(self, max_requests: int = 100, window_seconds: int = 60, cleanup_interval: int = 300) -> None:
        """Make a limiter that is not active yet.

        Args:
            max_requests: sessions per address and window.
            window_seconds: length of the window in seconds.
            cleanup_interval: seconds between two sweeps over addresses that are quiet.
        """
        self._max_requests = max_requests
        self._window_seconds = window_seconds
        self._cleanup_interval = cleanup_interval
        self._clock = time.monotonic
        # Address to the times of its requests, oldest first; the address that asked last is at the end.
        self._requests: dict[str, deque[float]] = {}
        self._cleanup_task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start counting and sweeping."""
        if self._cleanup_task is None:
            self._cleanup_task = asyncio.create_task(self._sweep_forever())
        return self

    async def __aexit__(self, exc_type: Any = None, exc_val: Any = None, exc_tb: Any = None) -> None:
        """Stop sweeping and forget all addresses."""
        task, self._cleanup_task = self._cleanup_task, None
        self._requests.clear()
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def __call__(self, session: WebTransportSession) -> bool:
        """Return whether the client's address may open this session; an unknown address always may.

        Raises:
            ServerError: the limiter is not inside its `async with`.
        """
        if self._cleanup_task is None:
            raise ServerError(
                "RateLimiter has not been activated. It must be used as an asynchronous context manager "
                "(`async with ...`)."
            )
        address = session.connection.remote_address if session.connection is not None else None
        if not address:
            return True

        client, now = address[0], self._clock()
        requests = self._requests.pop(client, None) or deque()
        self._requests[client] = requests  # moved to the end
        while requests and requests[0] <= now - self._window_seconds:
            requests.popleft()
        if len(requests) >= self._max_requests:
            logger.warning("Rate limit exceeded for %s", client)
            return False
        requests.append(now)
        if len(self._requests) > MAX_TRACKED_CLIENTS:
            del self._requests[next(iter(self._requests))]
        return True

    async def _sweep_forever(self) -> None:
        while True:
            await asyncio.sleep(self._cleanup_interval)
            self._sweep()

    def _sweep(self) -> None:
        """Forget the addresses without a request inside the window."""
        cutoff = self._clock() - self._window_seconds
        quiet = [client for client, requests in self._requests.items() if not requests or requests[-1] <= cutoff]
        for client in quiet:
            del self._requests[client]
        if quiet:
            logger.debug("Forgot %d quiet addresses", len(quiet))


def create_auth_middleware(auth_handler: AuthHandlerProtocol) -> MiddlewareProtocol:
    """Return middleware that awaits `auth_handler(headers=...)`; False or an exception (logged) rejects."""

    async def auth_middleware(session: WebTransportSession) -> bool:
        try:
            return bool(await auth_handler(headers=session.headers))
        except Exception as error:
            logger.error("Authentication handler error: %s", error, exc_info=True)
            return False

    return auth_middleware


def create_cors_middleware(allowed_origins: list[str]) -> MiddlewareProtocol:
    """Return middleware that compares the `origin` header with a list.

    Browsers always send it, and a page of another origin cannot forge it. A missing header is rejected, "*" allows
    every origin, all other entries must be equal to the header.
    """
    allowed = frozenset(allowed_origins)

    async def cors_middleware(session: WebTransportSession) -> bool:
        origin = session.headers.get("origin")
        if not origin:
            logger.warning("Rejected a session without 'origin' header")
            return False
        if "*" in allowed or origin in allowed:
            return True
        logger.warning("Rejected a session of origin '%s'", origin)
        return False

    return cors_middleware


def create_logging_middleware() -> MiddlewareProtocol:
    """Return middleware that logs path and address of every session request at INFO and lets all pass."""

    async def logging_middleware(session: WebTransportSession) -> bool:
        address = session.connection.remote_address if session.connection is not None else None
        remote = f"{address[0]}:{address[1]}" if address else "unknown"
        logger.info("Session request: path='%s' from=%s", session.path, remote)
        return True

    return logging_middleware


def create_rate_limit_middleware(
    max_requests: int = 100, window_seconds: int = 60, cleanup_interval: int = 300
) -> RateLimiter:
    """Return a `RateLimiter`; see there."""
    return RateLimiter(max_requests, window_seconds, cleanup_interval)


MAX_TRACKED_CLIENTS = 65_536  # about 1.4 kB each with ten requests: 90 MB at most, were they all busy
