"""Names of pywebtransport 0.8.1 that exposed aioquic objects and therefore cannot exist here."""

from __future__ import annotations

__all__: list[str] = []

_INSTEAD: dict[str, str] = {
    "create_quic_configuration": "set the fields of ClientConfig or ServerConfig instead",
    "WebTransportH3Engine": "use the session and stream methods, or the read-only WebTransportProtocolHandler view",
    "WebTransportServerProtocol": "use WebTransportServer or ServerApp",
}


def not_offered(module: str, name: str) -> Exception:
    """Return the exception a module's `__getattr__` raises for the unknown attribute `name`.

    An ImportError for the names of the table above: `from module import name` swallows an AttributeError together
    with its text and would leave the reader with "cannot import name". A plain AttributeError for all others.
    """
    if name in _INSTEAD:
        return ImportError(
            f"{name} is not offered: the transport is written in Rust, there is no aioquic object to give; "
            f"{_INSTEAD[name]}",
            name=name,
        )
    return AttributeError(f"module {module!r} has no attribute {name!r}")
