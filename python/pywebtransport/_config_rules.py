"""The rules that configuration values must keep, one function per kind of rule.

`ClientConfig.validate` and `ServerConfig.validate` list which field keeps which rule. All functions raise
`ConfigurationError` with the field's name and value; a file that is missing raises `CertificateError`.
"""

from __future__ import annotations

import math
import re
import ssl
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from pywebtransport.constants import MIN_STATELESS_RESET_KEY_SIZE
from pywebtransport.exceptions import ConfigurationError, certificate_not_found, invalid_config

__all__: list[str] = []


def check_choice(config: Any, name: str, choices: Collection[Any]) -> None:
    """Refuse a value that is not among the choices."""
    value = getattr(config, name)
    if value not in choices:
        raise invalid_config(name, value, f"must be one of {tuple(choices)}")


def check_positive(config: Any, *names: str) -> None:
    """Refuse zero, negative values and what is not a number."""
    for name in names:
        check_minimum(config, name, 0, "must be positive", exclusive=True)


def check_minimum(config: Any, name: str, minimum: float, reason: str, exclusive: bool = False) -> None:
    """Refuse values below `minimum` (or equal to it) and what is not a number."""
    value = getattr(config, name)
    is_number = isinstance(value, (int, float)) and not math.isnan(value)
    if not is_number or value < minimum or (exclusive and value == minimum):
        raise invalid_config(name, value, reason)


def check_timeouts(config: Any, *names: str) -> None:
    """Refuse durations that are neither None nor a positive number of seconds."""
    for name in names:
        check_timeout(name, getattr(config, name))


def check_timeout(name: str, value: Any) -> None:
    """Refuse a duration that is neither None nor a positive number of seconds."""
    if value is None:
        return
    if not isinstance(value, (int, float)):
        raise invalid_config(name, value, "Timeout must be a number or None")
    if not value > 0:  # also refuses NaN
        raise invalid_config(name, value, "Timeout must be positive")


def check_count_or_none(config: Any, name: str) -> None:
    """Refuse what is neither None nor a whole number of 0 or more."""
    value = getattr(config, name)
    if value is not None and (not isinstance(value, int) or value < 0):
        raise invalid_config(name, value, "must be None, 0 or a positive number")


def check_stateless_reset_key(config: Any) -> None:
    """Refuse what is neither None nor enough bytes; the message does not repeat the secret."""
    key = config.stateless_reset_key
    if key is None or (isinstance(key, bytes) and len(key) >= MIN_STATELESS_RESET_KEY_SIZE):
        return
    what = f"{len(key)} bytes" if isinstance(key, bytes) else type(key).__name__
    raise invalid_config("stateless_reset_key", what, f"must be None or {MIN_STATELESS_RESET_KEY_SIZE} bytes or more")


def check_port(config: Any, name: str) -> None:
    """Refuse what is not an integer from 1 to 65535."""
    value = getattr(config, name)
    if not isinstance(value, int) or not 1 <= value <= 65535:
        raise invalid_config(name, value, f"Port must be an integer between 1 and 65535, got {value}")


def check_certificates(config: Any) -> None:
    """Refuse files that do not exist, and a certificate without its key or a key without its certificate."""
    for path in (config.ca_certs, config.certfile, config.keyfile):
        if path and not Path(path).exists():
            raise certificate_not_found(path)
    if bool(config.certfile) != bool(config.keyfile):
        value = f"certfile={config.certfile}, keyfile={config.keyfile}"
        raise invalid_config("certfile/keyfile", value, "both must be provided together")


def check_verify_mode(config: Any, optional: bool) -> None:
    """Refuse what is not one of ssl's three modes; `optional` allows None."""
    mode = config.verify_mode
    if (mode is None and optional) or (isinstance(mode, int) and mode in list(ssl.VerifyMode)):
        return
    raise invalid_config("verify_mode", mode, "invalid SSL verify mode")


def check_origins(config: Any) -> None:
    """Refuse what is neither None, "same-origin" nor a list of origins."""
    origins = config.allowed_origins
    if origins is None or origins == SAME_ORIGIN:
        return
    if not isinstance(origins, (list, tuple)):
        reason = f'must be None (every page), "{SAME_ORIGIN}", or a list such as ["https://example.org"]'
        raise invalid_config("allowed_origins", origins, reason)
    from pywebtransport import _core  # not at module level: a configuration without a list works without the core

    for origin in origins:
        try:
            _core.check_origin_pattern(origin)
        except (TypeError, ValueError) as error:
            raise invalid_config("allowed_origins", origin, str(error)) from error


def check_subprotocols(config: Any) -> None:
    """Refuse what is no list of names, or has one twice."""
    names = config.subprotocols
    if not isinstance(names, (list, tuple)):
        raise invalid_config("subprotocols", names, "must be a list of names")
    for name in names:
        check_subprotocol(name)
    if len(set(names)) < len(names):
        raise invalid_config("subprotocols", names, "must not name a protocol twice")


def check_subprotocol(name: Any) -> None:
    """Refuse what cannot stand in the header, or in a browser's option `protocols`."""
    if not isinstance(name, str) or not SUBPROTOCOL.fullmatch(name):
        raise invalid_config("subprotocols", name, "must be 1 to 512 characters of printable ASCII")


def normalize_headers(headers: dict[str, Any] | None) -> dict[str, str]:
    """Return the headers with lower-case names and text values; HTTP/3 forbids upper case (RFC 9114, 4.2)."""
    return {str(name).lower(): str(value) for name, value in (headers or {}).items()}


def normalize_hashes(hashes: Iterable[bytes | str] | None) -> list[bytes]:
    """Return SHA-256 values as bytes; they may come as bytes or as hex text, with or without colons."""
    if isinstance(hashes, (bytes, str)):
        raise invalid_config("server_certificate_hashes", hashes, "must be a list of hashes")
    return [_normalize_hash(value) for value in hashes or ()]


def _normalize_hash(value: Any) -> bytes:
    error: ConfigurationError = invalid_config(
        "server_certificate_hashes", value, "must be SHA-256 values: 32 bytes, or 64 hex digits"
    )
    if isinstance(value, str):
        try:
            value = bytes.fromhex(value.replace(":", ""))
        except ValueError:
            raise error from None
    if not isinstance(value, (bytes, bytearray, memoryview)) or len(value) != SHA256_SIZE:
        raise error
    return bytes(value)


SAME_ORIGIN = "same-origin"
SHA256_SIZE = 32
SUBPROTOCOL = re.compile("[ -~]{1,512}")  # 512: the most that browsers take (W3C WebTransport, constructor)
