"""The server side: listening, routing, middleware."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pywebtransport._not_offered import not_offered
from pywebtransport.server.app import ServerApp
from pywebtransport.server.http import HttpHandler, HttpRequest, HttpResponse
from pywebtransport.server.middleware import (
    MiddlewareManager,
    RateLimiter,
    create_auth_middleware,
    create_cors_middleware,
    create_logging_middleware,
    create_rate_limit_middleware,
)
from pywebtransport.server.router import RequestRouter, SessionHandler
from pywebtransport.server.server import ServerDiagnostics, ServerStats, WebTransportServer

__all__: list[str] = [
    "HttpHandler",
    "HttpRequest",
    "HttpResponse",
    "MiddlewareManager",
    "RateLimiter",
    "RequestRouter",
    "ServerApp",
    "ServerDiagnostics",
    "ServerStats",
    "SessionHandler",
    "WebTransportServer",
    "create_auth_middleware",
    "create_cors_middleware",
    "create_logging_middleware",
    "create_rate_limit_middleware",
]


if not TYPE_CHECKING:  # a type checker would take it for a promise that every name exists

    def __getattr__(name: str) -> Any:
        raise not_offered(__name__, name)
