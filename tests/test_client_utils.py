"""URLs of WebTransport servers."""

from __future__ import annotations

from typing import Any

import pytest

from pywebtransport.client.utils import parse_webtransport_url, validate_url
from pywebtransport.exceptions import ConfigurationError


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("https://example.org", ("example.org", 443, "/")),
        ("https://Example.org:4433/Chat", ("example.org", 4433, "/Chat")),
        ("https://example.org/a;b?c=d&e=%20#f", ("example.org", 443, "/a;b?c=d&e=%20#f")),
        ("https://example.org?q", ("example.org", 443, "/?q")),
        ("https://[::1]:4433/x", ("::1", 4433, "/x")),
        ("https://127.0.0.1/", ("127.0.0.1", 443, "/")),
        ("https://user:password@example.org/", ("example.org", 443, "/")),
        ("https://bücher.example/straße und mehr", ("xn--bcher-kva.example", 443, "/stra%C3%9Fe%20und%20mehr")),
    ],
)
def test_url_falls_into_parts(url: str, parts: tuple[str, int, str]) -> None:
    assert parse_webtransport_url(url) == parts
    assert validate_url(url)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://example.org", "Unsupported scheme 'ftp'"),
        ("http://example.org", "Unsupported scheme 'http'"),
        ("example.org", "Unsupported scheme ''"),
        ("", "Unsupported scheme ''"),
        ("https:///path", "Missing hostname in URL"),
        ("https://:4433", "Missing hostname in URL"),
        ("https://example.org:0", "Port 0"),
        ("https://example.org:65536", "Invalid URL"),
        ("https://example.org:port", "Invalid URL"),
        ("https://[::1", "Invalid URL"),
        ("https://" + "ä" * 80, "Invalid URL"),
        (5, "Invalid URL"),
        (None, "scheme"),
    ],
)
def test_url_without_a_server_is_refused(url: Any, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason) as caught:
        parse_webtransport_url(url=url)
    assert caught.value.config_key == "url"
    assert validate_url(url=url) is False
