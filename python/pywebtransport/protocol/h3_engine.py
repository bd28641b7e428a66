"""The HTTP/3 engine of 0.8.1 was built on aioquic; here HTTP/3 is part of the Rust core. Nothing is offered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pywebtransport._not_offered import not_offered

__all__: list[str] = []


if not TYPE_CHECKING:  # a type checker would take it for a promise that every name exists

    def __getattr__(name: str) -> Any:
        raise not_offered(__name__, name)
