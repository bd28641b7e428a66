"""Packages are tables of contents: what a module offers, its package offers too."""

from __future__ import annotations

import importlib

import pytest

MODULES = {
    "client": ["client", "utils"],
    "datagram": ["structured", "transport", "utils"],
    "protocol": ["events", "handler", "session_info", "utils"],
    "serializer": ["json", "msgpack", "protobuf"],
    "server": ["app", "http", "middleware", "router", "server"],
    "stream": ["stream", "structured"],
}


@pytest.mark.parametrize("package", MODULES)
def test_package_offers_exactly_what_its_modules_offer(package: str) -> None:
    if package != "serializer":
        pytest.importorskip("pywebtransport._core")
    table = importlib.import_module(f"pywebtransport.{package}")
    modules = [importlib.import_module(f"pywebtransport.{package}.{name}") for name in MODULES[package]]
    assert sorted(table.__all__) == sorted(name for module in modules for name in module.__all__)
    for module in modules:
        assert all(getattr(table, name) is getattr(module, name) for name in module.__all__)
