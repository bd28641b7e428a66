"""Which handler serves which path."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from pywebtransport.utils import get_logger

if TYPE_CHECKING:
    from pywebtransport.session.session import WebTransportSession

__all__: list[str] = ["RequestRouter", "SessionHandler"]

logger = get_logger(__name__)

SessionHandler: TypeAlias = Callable[["WebTransportSession"], Awaitable[None]]
"""Serves one session; the session is closed when it returns or raises."""


class RouteHandler:
    """A handler with the options of its route; called like the handler itself."""

    def __init__(self, handler: SessionHandler, subprotocols: list[str] | None, auto_accept: bool) -> None:
        """Store the handler and the options of `ServerApp.route`."""
        self.handler = handler
        self.subprotocols = subprotocols
        self.auto_accept = auto_accept

    async def __call__(self, session: WebTransportSession) -> None:
        """Call the handler."""
        await self.handler(session)


class RequestRouter:
    """Finds the handler for a session by its path.

    Exact routes come first, then patterns in the order they were added, then the default handler. Each is tried with
    the whole path of the request and, when that has a query, with the path alone.
    """

    def __init__(self) -> None:
        """Make a router without routes."""
        self._routes: dict[str, SessionHandler] = {}
        self._patterns: list[tuple[re.Pattern[str], SessionHandler]] = []
        self._default: SessionHandler | None = None

    def route_request(self, session: WebTransportSession) -> SessionHandler | None:
        """Return the handler for the session, or None when nothing fits.

        A pattern sets `session.path_params` to its groups.
        """
        handler, groups = self._find(session.path)
        if groups is not None:
            session.path_params = groups
        return handler

    def _knows(self, path: str) -> bool:
        """Tell whether a session request for this path would find a handler."""
        return self._find(path)[0] is not None

    def _find(self, full: str) -> tuple[SessionHandler | None, tuple[Any, ...] | None]:
        """Return the handler of a path, and the groups of its pattern if it is one."""
        bare = full.partition("?")[0]
        for path in (full, bare):
            if path in self._routes:
                return self._routes[path], None
        for pattern, handler in self._patterns:
            match = pattern.match(full) or pattern.match(bare)
            if match is not None:
                return handler, match.groups()
        return self._default, None

    def add_route(self, path: str, handler: SessionHandler) -> None:
        """Serve exactly this path; a second handler for it replaces the first."""
        self._routes[path] = handler
        logger.debug("Added route %s", path)

    def add_pattern_route(self, pattern: str, handler: SessionHandler) -> None:
        """Serve the paths that match this regular expression from their beginning.

        Raises:
            re.error: the pattern is not valid.
        """
        try:
            compiled = re.compile(pattern)
        except re.error as error:
            logger.error("Invalid route pattern '%s': %s", pattern, error)
            raise
        self._patterns.append((compiled, handler))
        logger.debug("Added pattern route %s", pattern)

    def remove_route(self, path: str) -> None:
        """Remove an exact route; an unknown one is ignored."""
        if self._routes.pop(path, None) is not None:
            logger.debug("Removed route %s", path)

    def set_default_handler(self, handler: SessionHandler) -> None:
        """Serve what no route fits."""
        self._default = handler

    def get_all_routes(self) -> dict[str, SessionHandler]:
        """Return a copy of the exact routes."""
        return dict(self._routes)

    def get_route_handler(self, path: str) -> SessionHandler | None:
        """Return the handler of an exact route, or None."""
        return self._routes.get(path)

    def get_route_stats(self) -> dict[str, Any]:
        """Return exact_routes, pattern_routes (counts) and has_default_handler."""
        return {
            "exact_routes": len(self._routes),
            "pattern_routes": len(self._patterns),
            "has_default_handler": self._default is not None,
        }
