"""What can be imported from where."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import pywebtransport

# The 28 names of 0.8.1 and what came after.
TOP_LEVEL = [
    "Address",
    "ClientConfig",
    "ClientError",
    "ConfigurationError",
    "ConnectionError",
    "DatagramError",
    "Event",
    "EventEmitter",
    "Headers",
    "ProtocolError",
    "Serializer",
    "ServerApp",
    "ServerConfig",
    "ServerError",
    "SessionError",
    "StreamError",
    "StructuredDatagramTransport",
    "StructuredStream",
    "TimeoutError",
    "URL",
    "WebTransportClient",
    "WebTransportDatagramTransport",
    "WebTransportError",
    "WebTransportReceiveStream",
    "WebTransportSendStream",
    "WebTransportSession",
    "WebTransportStream",
    "__version__",
]
ADDITIONS = ["HttpRequest", "HttpResponse", "Serving", "connect", "generate_dev_certificate", "serve"]

PACKAGES = {
    "connection": ["ConnectionDiagnostics", "ConnectionInfo", "WebTransportConnection"],
    "manager": ["ConnectionManager", "SessionManager", "StreamManager", "StreamType"],
    "session": ["SessionDiagnostics", "SessionStats", "WebTransportSession"],
}

LEAVES = {
    "client.client": ["ClientDiagnostics", "ClientStats", "WebTransportClient"],
    "connection.connection": ["ConnectionDiagnostics", "ConnectionInfo", "WebTransportConnection"],
    "datagram.transport": [
        "DatagramMessage",
        "DatagramStats",
        "DatagramTransportDiagnostics",
        "WebTransportDatagramTransport",
    ],
    "manager.connection": ["ConnectionManager"],
    "manager.session": ["SessionManager"],
    "manager.stream": ["StreamManager", "StreamType"],
    "protocol.handler": ["WebTransportProtocolHandler"],
    "server.app": ["ServerApp"],
    "server.http": ["HttpHandler", "HttpRequest", "HttpResponse"],
    "server.server": ["ServerDiagnostics", "ServerStats", "WebTransportServer"],
    "session.session": ["SessionDiagnostics", "SessionStats", "WebTransportSession"],
    "stream.stream": [
        "StreamDiagnostics",
        "StreamStats",
        "WebTransportReceiveStream",
        "WebTransportSendStream",
        "WebTransportStream",
    ],
}


def test_the_top_level_is_complete() -> None:
    assert len(TOP_LEVEL) == 28
    assert sorted(pywebtransport.__all__) == sorted(TOP_LEVEL + ADDITIONS)
    for name in pywebtransport.__all__:
        assert getattr(pywebtransport, name) is not None


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_offer_their_names(package: str) -> None:
    module = importlib.import_module(f"pywebtransport.{package}")
    assert sorted(module.__all__) == PACKAGES[package]
    assert all(hasattr(module, name) for name in PACKAGES[package])


@pytest.mark.parametrize("leaf", LEAVES)
def test_modules_offer_their_names(leaf: str) -> None:
    module = importlib.import_module(f"pywebtransport.{leaf}")
    assert sorted(module.__all__) == LEAVES[leaf]


def test_every_module_names_its_exports() -> None:
    for info in pkgutil.walk_packages(pywebtransport.__path__, "pywebtransport."):
        if info.name.endswith(("._core", ".__main__", ".h3_engine")):
            continue
        module = importlib.import_module(info.name)
        for name in module.__all__:
            assert hasattr(module, name), f"{info.name} does not have {name}"


def test_every_logger_is_named_like_its_module() -> None:
    for leaf in LEAVES:
        module = importlib.import_module(f"pywebtransport.{leaf}")
        logger = getattr(module, "logger", None)
        assert logger is None or logger.name == module.__name__
