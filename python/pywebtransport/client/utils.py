"""Reading WebTransport URLs."""

from __future__ import annotations

import functools
import string
import urllib.parse

from pywebtransport.constants import DEFAULT_SECURE_PORT, WEBTRANSPORT_SCHEME
from pywebtransport.exceptions import ConfigurationError
from pywebtransport.types import URL, URLParts

__all__: list[str] = ["parse_webtransport_url", "validate_url"]


def parse_webtransport_url(url: URL) -> URLParts:
    """Split a URL into host, port and path.

    Args:
        url: `https://host[:port][/path][?query][#fragment]`.

    Returns:
        The host in lower case, IPv6 addresses without brackets, other alphabets as Punycode; the port, 443 by
        default; the path, "/" by default, with query and fragment, and what HTTP does not allow in it
        percent-encoded.

    Raises:
        ConfigurationError: another scheme, no host, or a port that is no number from 1 to 65535.
    """
    return _parse(url) if isinstance(url, str) else _parse.__wrapped__(url)


@functools.lru_cache(maxsize=32)  # urlsplit() keeps 128 anyway
def _parse(url: URL) -> URLParts:
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname, parts.port
        if host and not host.isascii():
            host = host.encode("idna").decode("ascii")
    except (AttributeError, TypeError, ValueError) as error:
        raise ConfigurationError(f"Invalid URL {url!r}: {error}", config_key="url", config_value=url) from error
    if parts.scheme != WEBTRANSPORT_SCHEME:
        raise ConfigurationError(
            f"Unsupported scheme '{parts.scheme}'. Must be '{WEBTRANSPORT_SCHEME}'", config_key="url", config_value=url
        )
    if not host:
        raise ConfigurationError("Missing hostname in URL", config_key="url", config_value=url)
    if port == 0:
        raise ConfigurationError("Port 0 in URL is not a port to connect to", config_key="url", config_value=url)

    path = parts.path or "/"
    if parts.query:
        path += f"?{parts.query}"
    if parts.fragment:
        path += f"#{parts.fragment}"
    # string.punctuation as safe characters: what the URL already encodes ("%41") must stay as it is.
    return host, port or DEFAULT_SECURE_PORT, urllib.parse.quote(path, safe=string.punctuation)


def validate_url(url: URL) -> bool:
    """Return whether `parse_webtransport_url` accepts the URL."""
    try:
        parse_webtransport_url(url)
    except ConfigurationError:
        return False
    return True
