"""Applications: a server with routes, middleware, and handlers for start and end."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from pywebtransport import _core
from pywebtransport._config_rules import check_subprotocol
from pywebtransport.config import ServerConfig
from pywebtransport.connection.connection import WebTransportConnection
from pywebtransport.constants import DEFAULT_HTTP_MAX_BODY
from pywebtransport.exceptions import SessionError, WebTransportError
from pywebtransport.server import http
from pywebtransport.server.http import HttpHandler, HttpRouter
from pywebtransport.server.middleware import MiddlewareManager
from pywebtransport.server.router import RequestRouter, RouteHandler, SessionHandler
from pywebtransport.server.server import WebTransportServer
from pywebtransport.session.session import WebTransportSession
from pywebtransport.types import MiddlewareProtocol, SessionId, SessionState
from pywebtransport.utils import get_logger

__all__: list[str] = ["ServerApp"]

F = TypeVar("F", bound=Callable[..., Any])

logger = get_logger(__name__)


class ServerApp:
    """Routes session requests to handlers; use it as `async with`, or call `run`.

    A request passes `ServerConfig.allowed_origins`, then the middleware (403 when one refuses), then the router (404
    when nothing fits). It is accepted with 200, and the handler runs in a task of its own: `await handler(session)`.
    When the handler returns or raises, the session is closed; what it has written and sent is delivered first.

    Path, headers, authority and origin of the request can be read all along. Middleware may refuse with another status
    (`session.reject(429, headers)`, then return False) or add headers to the answer (`session.add_response_headers`).
    A handler may do so when its route has `auto_accept=False`: it is then called before the request is answered.

    Requests of plain HTTP on the same port go to `http_route`; middleware and `allowed_origins` do not see them.
    Without a route the answer is 404, or 405 on the path of a session handler. A session request for a path that only
    plain HTTP knows gets 405 too.

        app = ServerApp(config=ServerConfig(certfile="localhost.crt", keyfile="localhost.key"))

        @app.route("/echo")
        async def echo(session):
            async for datagram in session.datagrams:
                await session.datagrams.send(datagram)

        app.run(host="localhost", port=4433)
    """

    def __init__(self, config: ServerConfig | None = None) -> None:
        """Make an application; needs no event loop.

        Args:
            config: configuration of its server, including `middleware`; None: the defaults.

        Raises:
            ConfigurationError: the configuration is not valid.
        """
        self._server = WebTransportServer(config)
        self._server._request_handler = self._handle_request
        self._server._exchange_handler = self._handle_exchange
        self._router = RequestRouter()
        self._http_router = HttpRouter()
        self._middleware = MiddlewareManager()
        self._stateful: list[Any] = []
        self._entered = contextlib.AsyncExitStack()
        self._startup_handlers: list[Callable[[], Any]] = []
        self._shutdown_handlers: list[Callable[[], Any]] = []
        for middleware in self._server.config.middleware:
            self.add_middleware(middleware)

    async def __aenter__(self) -> Self:
        """Activate the server and run `startup`; binds nothing."""
        await self._server.__aenter__()
        try:
            await self.startup()
        except BaseException:
            await self._entered.aclose()
            await self._server.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        """Run `shutdown` and close the server."""
        try:
            await self.shutdown()
        finally:
            await self._server.__aexit__(exc_type, exc_val, exc_tb)

    @property
    def server(self) -> WebTransportServer:
        """The server underneath."""
        return self._server

    # --- its life ---

    def run(self, host: str | None = None, port: int | None = None, **kwargs: Any) -> None:
        """Serve in an event loop of its own until Ctrl-C.

        Args:
            host: as in `serve`.
            port: as in `serve`.
            kwargs: ignored.

        Raises:
            ServerError: as in `serve`.
        """

        async def main() -> None:
            async with self:
                await self.serve(host, port, **kwargs)

        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(main())

    async def serve(self, host: str | None = None, port: int | None = None, **kwargs: Any) -> None:
        """Listen and serve until the server is closed. When cancelled, it closes the server and returns.

        Args:
            host: address or name; None: `config.bind_host`.
            port: UDP port; None: `config.bind_port`; 0: a free one, see `server.local_address`.
            kwargs: ignored.

        Raises:
            ServerError: the port or the certificate cannot be had, or the application is not entered.
        """
        await self._server.listen(host, port)
        await self._server.serve_forever()

    async def startup(self) -> None:
        """Enter the middleware that are context managers, then call the startup handlers; `async with` does it."""
        for middleware in self._stateful:
            await self._entered.enter_async_context(middleware)
        for handler in self._startup_handlers:
            await _call(handler)

    async def shutdown(self) -> None:
        """Call the shutdown handlers, cancel the running session handlers, leave the middleware; `async with` does it.

        A shutdown handler that fails is logged and does not keep the others from running.
        """
        for handler in self._shutdown_handlers:
            try:
                await _call(handler)
            except Exception:
                logger.exception("Shutdown handler failed")
        try:
            await self._server._stop_requests()
        finally:
            await self._entered.aclose()

    # --- what it does ---

    def route(
        self, path: str, subprotocols: list[str] | None = None, auto_accept: bool = True
    ) -> Callable[[SessionHandler], SessionHandler]:
        """Decorate the handler of exactly this path, with or without its query.

        Args:
            path: the path.
            subprotocols: instead of `config.subprotocols`.
            auto_accept: answer 200 before the handler is called. With False the handler does it: `session.accept()` or
                `session.reject(status)`; when it returns or raises without, the answer is 500.

        Raises:
            ConfigurationError: a subprotocol is not valid.
        """
        options = _options(subprotocols, auto_accept)

        def register(handler: SessionHandler) -> SessionHandler:
            self._router.add_route(path, options(handler))
            return handler

        return register

    def pattern_route(
        self, pattern: str, subprotocols: list[str] | None = None, auto_accept: bool = True
    ) -> Callable[[SessionHandler], SessionHandler]:
        """Decorate the handler of the paths that match a regular expression; its groups are `session.path_params`.

        The options are those of `route`.
        """
        options = _options(subprotocols, auto_accept)

        def register(handler: SessionHandler) -> SessionHandler:
            self._router.add_pattern_route(pattern, options(handler))
            return handler

        return register

    def http_route(
        self, path: str, methods: Iterable[str] = ("GET",), max_body: int = DEFAULT_HTTP_MAX_BODY
    ) -> Callable[[HttpHandler], HttpHandler]:
        """Decorate the handler of plain HTTP requests for exactly this path: `await handler(request)`.

        It is called with a whole `HttpRequest`, in a task of its own, and returns `HttpResponse`, text or bytes. When
        it raises, the answer is 500. It may take the time it needs; a client that has left does not end it.

        At the same time at most 128 requests of a connection and 512 of the server are in progress; more are reset as
        retryable. `ServerConfig.http_timeout` bounds how long clients take.

            @app.http_route("/.well-known/example")
            async def example(request):
                return HttpResponse('{"version": 1}', headers={"content-type": "application/json"})

        Args:
            path: the path, without a query; "*" for OPTIONS of the whole server.
            methods: the methods that it answers. Others get 405, except for HEAD where there is GET.
            max_body: bytes of content that are taken; beyond it the answer is 413, and the handler is not called.

        Raises:
            ValueError: `max_body` is negative, or `methods` has CONNECT, which is for sessions.
        """
        add = self._http_options(methods, max_body)
        return lambda handler: add(self._http_router.add, path, handler)

    def http_pattern_route(
        self, pattern: str, methods: Iterable[str] = ("GET",), max_body: int = DEFAULT_HTTP_MAX_BODY
    ) -> Callable[[HttpHandler], HttpHandler]:
        """Decorate the handler of the paths that match a regular expression; its groups are `request.path_params`.

        The options are those of `http_route`, whose paths come first.
        """
        add = self._http_options(methods, max_body)
        return lambda handler: add(self._http_router.add_pattern, pattern, handler)

    def _http_options(self, methods: Iterable[str], max_body: int) -> Callable[..., HttpHandler]:
        names = [methods] if isinstance(methods, str) else list(methods)
        if max_body < 0:
            raise ValueError(f"max_body must not be negative, got {max_body}")
        if not names or "CONNECT" in names:
            raise ValueError(f"methods must be names of HTTP methods other than CONNECT, got {names}")

        def add(to: Callable[[str, list[str], http.Route], None], path: str, handler: HttpHandler) -> HttpHandler:
            to(path, names, http.Route(handler, max_body))
            return handler

        return add

    def middleware(self, middleware_func: MiddlewareProtocol) -> MiddlewareProtocol:
        """Decorate a middleware: `async def check(session) -> bool`."""
        self.add_middleware(middleware_func)
        return middleware_func

    def add_middleware(self, middleware: MiddlewareProtocol) -> None:
        """Ask this middleware too, after those before it.

        One that is an asynchronous context manager is entered with the application, so add it before.
        """
        self._middleware.add_middleware(middleware)
        if hasattr(middleware, "__aenter__") and hasattr(middleware, "__aexit__"):
            self._stateful.append(middleware)

    def on_startup(self, handler: F) -> F:
        """Decorate a function or coroutine function to call when the application is entered."""
        self._startup_handlers.append(handler)
        return handler

    def on_shutdown(self, handler: F) -> F:
        """Decorate a function or coroutine function to call when the application is left."""
        self._shutdown_handlers.append(handler)
        return handler

    # --- one session ---

    async def _handle_request(
        self, connection: WebTransportConnection, session_id: SessionId, core: _core.Session
    ) -> None:
        """Decide about a request, and run its handler."""
        session, handler = await self._admit(connection, session_id, core)
        if handler is None:
            return
        try:
            await handler(session)
            if session._answered is None and not session.is_closed:
                logger.error("Handler for %s returned without accept() or reject()", session.path)
        except Exception as error:
            if _is_departure(error, session._core.close_info if session._core is not None else None):
                logger.debug("Handler for %s ended: %s", session.path, error)
            else:
                logger.error("Handler for %s failed", session.path, exc_info=True)
        finally:
            if session._answered is None and session.state is SessionState.CONNECTING:
                session.reject(500)
            # In the same loop turn in which the handler's frame dies: see `stream/_base.py`, "Ownership".
            await session.close()

    async def _admit(
        self, connection: WebTransportConnection, session_id: SessionId, core: _core.Session
    ) -> tuple[WebTransportSession, SessionHandler | None]:
        """Decide about a request; without a handler it is answered. Apart from it, because that one lives long."""
        config = self._server.config
        session = WebTransportSession(
            connection,
            session_id,
            max_streams=config.max_streams_per_connection,
            max_incoming_streams=config.max_incoming_streams,
            stream_cleanup_interval=config.stream_cleanup_interval,
        )
        session._subprotocols = config.subprotocols
        if config.access_log and logger.isEnabledFor(logging.INFO):
            # Texts, not the objects: the session refers to its connection weakly, and not to itself.
            session._on_answer = partial(logger.info, '%s "%s" %d', _peer(connection), session.path)
        await session.initialize()
        try:
            handler, refusal = await self._decide(session)
            if session._answered is None:
                if handler is None:
                    session.reject(refusal)
                elif not isinstance(handler, RouteHandler) or handler.auto_accept:
                    session.accept()
        except SessionError:
            logger.debug("Session request for %s ended before it was answered", session.path)
            return session, None
        except ValueError as error:  # headers that middleware has added
            logger.error("Session request for %s cannot be answered: %s", session.path, error)
            core.reject(500, [])
            session._answer(500)
            return session, None
        except BaseException:
            core.reject(500, [])  # cancelled in the middle of the decision
            raise
        return session, handler

    async def _decide(self, session: WebTransportSession) -> tuple[SessionHandler | None, int]:
        """Return the handler, or None and the status of the refusal, unless the middleware has answered itself."""
        try:
            try:
                await self._server.session_manager.add_session(session)
            except SessionError as error:
                logger.warning("Session request for %s refused: %s", session.path, error.message)
                return None, 429
            if not await self._middleware.process_request(session=session) or session._answered not in (None, 200):
                return None, 403
            handler = self._router.route_request(session=session)
            if isinstance(handler, RouteHandler) and handler.subprotocols is not None:
                session._subprotocols = handler.subprotocols
            if handler is None and (allowed := self._http_router.allowed(session.path.partition("?")[0])):
                # draft-16 section 3.2: 405 for a resource without WebTransport; RFC 9110 15.5.6: with what it has.
                session.add_response_headers({"allow": ", ".join(allowed)})
                return None, 405
            return handler, 404
        except Exception:
            logger.exception("Deciding about a session request for %s failed", session.path)
            return None, 500

    async def _handle_exchange(self, connection: WebTransportConnection, core: _core.Exchange) -> None:
        """Answer a request of plain HTTP."""
        status = await http.serve(core, self._http_router, self._router._knows)
        if self._server.config.access_log:
            logger.info('%s "%s %s" %d', _peer(connection), core.method, core.path, status)


def _options(subprotocols: list[str] | None, auto_accept: bool) -> Callable[[SessionHandler], SessionHandler]:
    """Return what puts the options of a route around its handler."""
    for name in subprotocols or ():
        check_subprotocol(name)
    if subprotocols is None and auto_accept:
        return lambda handler: handler
    return lambda handler: RouteHandler(handler, subprotocols, auto_accept)


def _is_departure(error: BaseException, end: _core.CloseInfo | None) -> bool:
    """Tell whether the error only says that the peer, or the network, has ended something; `end` is the session's.

    Peers that leave are daily business, and so are peers that break the rules: then it is the core on this side that
    ends the session or its connection. Anything else in a handler is a mistake worth a traceback. Once the session has
    ended in such a way, an iteration or a stream that ended early is no mistake either.
    """
    if isinstance(error, BaseExceptionGroup):
        return all(_is_departure(part, end) for part in error.exceptions)
    was_cut = end is not None and end.cause in ("protocol", "connection_lost")
    if isinstance(error, WebTransportError):
        return error.ended_by in ("peer", "transport") or (was_cut and error.ended_by == "local")
    has_left = end is not None and (was_cut or end.ended_by != "local")
    return has_left and isinstance(error, (StopAsyncIteration, EOFError))


def _peer(connection: WebTransportConnection) -> str:
    address = connection.remote_address
    return f"{address[0]}:{address[1]}" if address is not None else "unknown"


async def _call(handler: Callable[[], Any]) -> None:
    """Call a function or coroutine function."""
    result: Awaitable[Any] | Any = handler()
    if inspect.isawaitable(result):
        await result
