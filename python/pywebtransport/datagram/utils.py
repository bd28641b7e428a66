"""Helpers for datagrams."""

from __future__ import annotations

import hashlib

__all__: list[str] = ["calculate_checksum"]


def calculate_checksum(data: bytes, algorithm: str = "sha256") -> str:
    """Return the checksum of `data` in hex.

    Args:
        data: any bytes.
        algorithm: a name from `hashlib.algorithms_guaranteed` with a digest of fixed length (not `shake_*`).

    Raises:
        ValueError: the algorithm is not one of those.
    """
    if algorithm not in hashlib.algorithms_guaranteed or algorithm.startswith("shake"):
        raise ValueError(f"Unsupported or insecure hash algorithm: {algorithm}")
    return hashlib.new(algorithm, data, usedforsecurity=False).hexdigest()
