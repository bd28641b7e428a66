"""Plain HTTP beside the sessions: what a handler gets and returns, and which path has which handler.

A hook for the few things that belong to a WebTransport server and are no session: a health check, a resource below
`/.well-known`, the page that opens the session. Requests and responses are whole objects in memory, so keep them small.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, TypeAlias

from pywebtransport import _core
from pywebtransport._bridge import never_expires, parked
from pywebtransport.exceptions import ServerError
from pywebtransport.types import Address, Headers
from pywebtransport.utils import get_logger

__all__: list[str] = ["HttpHandler", "HttpRequest", "HttpResponse"]

logger = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class HttpRequest:
    """A request of plain HTTP over HTTP/3, with all of its content.

    Attributes:
        method: such as "GET", in upper case as a rule; methods are case-sensitive.
        path: without the query, as it was sent: percent-encoding is not undone.
        query: what follows the first "?", without it; empty when there is none.
        authority: host, and port when it is not 443: what the client thinks this server is called.
        headers: names in lower case; a repeated header keeps its last value.
        body: the content, at most `max_body` of the route.
        remote_address: the client's host and port.
        path_params: the groups of the pattern, on a route of `ServerApp.http_pattern_route`.
    """

    method: str
    path: str
    query: str
    authority: str
    headers: Headers
    body: bytes = field(repr=False)
    remote_address: Address | None
    path_params: tuple[Any, ...] = ()

    @property
    def origin(self) -> str | None:
        """The web page that sends the request, by its Origin header; nothing has checked it."""
        return self.headers.get("origin")


@dataclass
class HttpResponse:
    """The answer to a request of plain HTTP.

    Attributes:
        body: the content; text goes as UTF-8. To HEAD it is counted and not sent.
        status: 200 to 599; 204, 205 and 304 have no content.
        headers: names in any case. Added when missing: `content-type` (plain text, or bytes of no known kind), `date`.
            `content-length` is always that of the body; a response without one to HEAD, and 304, may give their own.
    """

    body: bytes | bytearray | memoryview | str = b""
    status: int = 200
    headers: Headers = field(default_factory=dict)


HttpHandler: TypeAlias = Callable[[HttpRequest], Awaitable[HttpResponse | bytes | str]]
"""Answers a request; text and bytes alone are the body of a 200."""


class Route:
    """A handler with what it takes."""

    def __init__(self, handler: HttpHandler, max_body: int) -> None:
        """Store both."""
        self.handler = handler
        self.max_body = max_body


Methods: TypeAlias = dict[str, Route]


class HttpRouter:
    """Finds the handlers of a path: exact routes come first, then patterns in the order they were added."""

    def __init__(self) -> None:
        """Make a router without routes."""
        self._routes: dict[str, Methods] = {}
        self._patterns: dict[re.Pattern[str], Methods] = {}

    def add(self, path: str, methods: Iterable[str], route: Route) -> None:
        """Serve exactly this path with these methods; later routes replace earlier ones method by method."""
        self._routes.setdefault(path, {}).update(dict.fromkeys(methods, route))

    def add_pattern(self, pattern: str, methods: Iterable[str], route: Route) -> None:
        """Serve the paths that match from their beginning."""
        self._patterns.setdefault(re.compile(pattern), {}).update(dict.fromkeys(methods, route))

    def find(self, path: str) -> tuple[Methods, tuple[Any, ...]]:
        """Return the handlers of a path by their method, and the groups of its pattern."""
        if path in self._routes:
            return self._routes[path], ()
        for pattern, methods in self._patterns.items():
            if (match := pattern.match(path)) is not None:
                return methods, match.groups()
        return {}, ()

    def allowed(self, path: str) -> list[str]:
        """Return the methods that a path answers, for the header `allow`; empty for an unknown path."""
        methods, _ = self.find(path)
        return [*methods, *(["HEAD"] if "GET" in methods and "HEAD" not in methods else [])]


async def serve(core: _core.Exchange, router: HttpRouter, is_endpoint: Callable[[str], bool]) -> int:
    """Answer a request, in any case; return the status.

    A handler that fails is logged and answered with 500. When this is cancelled, the answer is 503.

    Args:
        core: the request.
        router: its handlers.
        is_endpoint: whether a session can be opened on a path.
    """
    path, _, query = core.path.partition("?")
    methods, params = router.find(path)
    # RFC 9110 9.3.2: HEAD is GET without the content.
    route = methods.get(core.method) or (methods.get("GET") if core.method == "HEAD" else None)
    if route is None:
        return _refuse_method(core, router.allowed(path), is_endpoint(core.path))
    try:
        content = await _collect(core, route.max_body)
    except ServerError as error:
        logger.debug("%s %s ended before it was whole: %s", core.method, path, error.message)
        return CLIENT_CLOSED_REQUEST
    except BaseException:
        _refuse(core, 503)
        raise
    if isinstance(content, int):
        return _refuse(core, content)
    request = HttpRequest(
        method=core.method,
        path=path,
        query=query,
        authority=core.authority,
        headers=dict(core.headers),
        body=content,
        remote_address=core.connection.remote_address,
        path_params=params,
    )
    try:
        response = await route.handler(request)
        return _respond(core, response if isinstance(response, HttpResponse) else HttpResponse(_body(response)))
    except Exception:
        logger.exception("HTTP handler for %s %s failed", core.method, path)
        return _refuse(core, 500)
    except BaseException:
        _refuse(core, 503)
        raise


def not_found(core: _core.Exchange) -> int:
    """Answer 404."""
    return _refuse(core, 404)


async def _collect(core: _core.Exchange, limit: int) -> bytes | int:
    """Wait for the content, or the status to answer with. Raises ServerError when nobody waits for an answer."""
    core.collect(limit)
    content = core.try_content()
    if content is not None:
        return content
    return await parked(core.collected(), lambda _ticket: core.try_content(), None, never_expires)


def _refuse_method(core: _core.Exchange, allowed: list[str], is_endpoint: bool) -> int:
    """Answer a method that the path does not have.

    RFC 9110 15.5.6: 405 MUST list the methods that it has. On a session endpoint that is CONNECT, and nothing more; a
    status that tells how to upgrade does not exist in HTTP/3, so the text does.
    """
    if is_endpoint:
        allowed = [*allowed, "CONNECT"]
    if not allowed:
        return not_found(core)
    return _refuse(core, 405, {"allow": ", ".join(allowed)}, ENDPOINT if is_endpoint else "")


def _refuse(core: _core.Exchange, status: int, headers: Headers | None = None, text: str = "") -> int:
    """Send a response that says its status in words, or nothing but the status to a client that takes no more."""
    body = f"{status} {HTTPStatus(status).phrase}\n{text}"
    try:
        return _respond(core, HttpResponse(body, status, headers or {}))
    except ValueError:
        with contextlib.suppress(ValueError):
            core.respond(status, [], b"")
        core.abandon()  # only if not even that could be sent
        return status


def _respond(core: _core.Exchange, response: HttpResponse) -> int:
    """Send a response. Raises ValueError or TypeError when it cannot be sent."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    if response.body:
        is_text = isinstance(response.body, str)
        headers.setdefault("content-type", "text/plain; charset=utf-8" if is_text else "application/octet-stream")
    # RFC 9110 6.6.1: an origin server with a clock MUST send it.
    headers.setdefault("date", formatdate(usegmt=True))
    status = int(response.status)
    try:
        core.respond(status, list(headers.items()), response.body)
    except OverflowError:
        raise ValueError(f"the status of a response is 200 to 599, not {status}") from None
    return status


def _body(answer: Any) -> bytes | bytearray | memoryview | str:
    if isinstance(answer, (bytes, bytearray, memoryview, str)):
        return answer
    raise TypeError(f"an HTTP handler returns HttpResponse, bytes or str, not {type(answer).__name__}")


CLIENT_CLOSED_REQUEST = 499  # what nginx writes into its log for a request that nobody waits for; it is never sent

ENDPOINT = (
    "\nThis is a WebTransport endpoint: open it with `new WebTransport(url)` in a web page, or "
    "with any other WebTransport client.\n"
)
