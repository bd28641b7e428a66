"""The version of this package; its only home."""

from __future__ import annotations

__all__: list[str] = ["__version__"]

__version__ = "0.1.0"
