"""The level of the package's logger, from the configuration."""

from __future__ import annotations

import logging

from pywebtransport.config import ClientConfig, ServerConfig
from pywebtransport.constants import DEFAULT_LOG_LEVEL

__all__: list[str] = ["apply_log_level"]


def apply_log_level(config: ClientConfig | ServerConfig) -> None:
    """Set the level of the logger "pywebtransport" when the configuration asks for one.

    The default level asks for nothing: a program that has set up logging by itself is left alone.
    """
    level: int | str | None = None
    if config.debug:
        level = logging.DEBUG
    elif config.log_level != DEFAULT_LOG_LEVEL:
        level = config.log_level.upper()
    if level is not None:
        try:
            logging.getLogger("pywebtransport").setLevel(level)
        except ValueError:
            logging.getLogger(__name__).warning("Unknown log level %r", config.log_level)
