"""Small helpers without a home of their own: time, logging, byte conversion, certificates for development."""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pywebtransport._not_offered import not_offered
from pywebtransport.types import Buffer

__all__: list[str] = [
    "DevCertificate",
    "Timer",
    "ensure_bytes",
    "format_duration",
    "generate_dev_certificate",
    "generate_self_signed_cert",
    "generate_session_id",
    "get_logger",
    "get_timestamp",
]


@dataclass(frozen=True, kw_only=True)
class DevCertificate:
    """A certificate made by `generate_dev_certificate`.

    Attributes:
        certfile: path of the certificate (PEM).
        keyfile: path of the private key (PEM, mode 0600).
        sha256: SHA-256 of the certificate's DER form: what a browser wants in `serverCertificateHashes` and what
            `ClientConfig(server_certificate_hashes=[...])` takes.
    """

    certfile: str
    keyfile: str
    sha256: bytes


class Timer:
    """Measures elapsed time, with `start()` and `stop()` or as a context manager that logs the result at DEBUG."""

    def __init__(self, name: str = "timer") -> None:
        """Create a timer that is not running; `name` appears in the log line."""
        self.name = name
        self.start_time: float | None = None
        self.end_time: float | None = None

    @property
    def elapsed(self) -> float:
        """Seconds between start and stop, or start and now; 0.0 before the start."""
        if self.start_time is None:
            return 0.0
        end = time.perf_counter() if self.end_time is None else self.end_time
        return end - self.start_time

    def start(self) -> None:
        """Start, or start again from zero."""
        self.start_time = time.perf_counter()
        self.end_time = None

    def stop(self) -> float:
        """Stop and return the elapsed seconds; raise RuntimeError when the timer was never started."""
        if self.start_time is None:
            raise RuntimeError("Timer not started")
        self.end_time = time.perf_counter()
        return self.elapsed

    def __enter__(self) -> Self:
        """Start the timer."""
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        """Stop the timer and log how long the block took."""
        logger.debug("%s took %s", self.name, format_duration(self.stop()))


def ensure_bytes(data: Buffer | str, encoding: str = "utf-8") -> bytes:
    """Return `data` as bytes; text is encoded. Raises TypeError for anything but text and byte buffers."""
    if isinstance(data, bytes):
        return data
    if isinstance(data, str):
        return data.encode(encoding)
    if isinstance(data, (bytearray, memoryview)):
        return bytes(data)
    raise TypeError(f"Expected str, bytes, bytearray, or memoryview, got {type(data).__name__}")


def format_duration(seconds: float) -> str:
    """Return a duration for people: `12.5ms`, `3.2s`, `2m5.0s`, `1h0m30.0s`."""
    if seconds < 1:
        return f"{seconds * 1000:.1f}ms"
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(seconds, 60)
    if seconds < 3600:
        return f"{int(minutes)}m{rest:.1f}s"
    hours, minutes = divmod(minutes, 60)
    return f"{int(hours)}h{int(minutes)}m{rest:.1f}s"


def generate_dev_certificate(
    hostnames: Iterable[str] = ("localhost", "127.0.0.1", "::1"),
    output_dir: str | os.PathLike[str] | None = None,
    days_valid: float = 13,
) -> DevCertificate:
    """Make a certificate that browsers accept by its hash, and write it with its key.

    Browsers pin only ECDSA P-256 certificates that live at most 14 days. The default of 13 days leaves room for a
    clock that is behind. For a longer life use `generate_self_signed_cert`.

    Args:
        hostnames: DNS names and IP addresses the certificate is for, without brackets.
        output_dir: where to write `dev.crt` and `dev.key`, made when missing. None: a fresh temporary directory that
            is removed when the interpreter exits.
        days_valid: life in days from now, more than 0 and at most 14.

    Returns:
        The two paths and the hash.

    Raises:
        ValueError: no host name, or a life that browsers refuse.
        OSError: the files cannot be written.
    """
    names = [hostnames] if isinstance(hostnames, str) else list(hostnames)
    if not names:
        raise ValueError("At least one host name is needed")
    if not 0 < days_valid <= MAX_PINNED_DAYS:
        raise ValueError(f"days_valid must be more than 0 and at most {MAX_PINNED_DAYS}, got {days_valid}")

    from pywebtransport import _core  # not at module level: most of the package works without the core

    cert_pem, key_pem, sha256 = _core.generate_dev_certificate(names, float(days_valid))
    directory = _temporary_directory() if output_dir is None else Path(output_dir)
    certfile, keyfile = _write_pair(directory, "dev", cert_pem, key_pem)
    return DevCertificate(certfile=certfile, keyfile=keyfile, sha256=sha256)


def generate_self_signed_cert(
    hostname: str, output_dir: str = ".", key_size: int = 2048, days_valid: int = 365
) -> tuple[str, str]:
    """Make a self-signed RSA certificate for tests and write it with its key (mode 0600).

    The certificate is for `hostname`, 127.0.0.1 and ::1, so a client may use it as `ca_certs` and connect to any of
    the three. Browsers refuse it: they pin only what `generate_dev_certificate` makes.

    Args:
        hostname: a DNS name or IP address; also the name of the files.
        output_dir: where to write them, made when missing.
        key_size: length of the RSA key in bits.
        days_valid: life in days from now.

    Returns:
        The paths of `<hostname>.crt` and `<hostname>.key`.

    Raises:
        ValueError: `hostname` is empty or holds a path separator.
        OSError: the files cannot be written.
    """
    if not hostname or "/" in hostname or "\\" in hostname:
        raise ValueError(f"Not a host name: {hostname!r}")

    from pywebtransport import _core  # not at module level: most of the package works without the core

    cert_pem, key_pem = _core.generate_self_signed_cert(hostname, key_size, days_valid)
    return _write_pair(Path(output_dir), hostname, cert_pem, key_pem)


def generate_session_id() -> str:
    """Return a random, URL-safe session id: 16 bytes of randomness in 22 characters."""
    return secrets.token_urlsafe(16)


def get_logger(name: str) -> logging.Logger:
    """Return the logger called `name`; every module of the package logs through one named like itself."""
    return logging.getLogger(name)


def get_timestamp() -> float:
    """Return the current time in seconds since the epoch."""
    return time.time()


def random_uuid() -> str:
    """Return a random UUID (RFC 9562 section 5.4) as `str(uuid.uuid4())` does, in a quarter of the time."""
    digits = os.urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def _temporary_directory() -> Path:
    """Make a private directory that this process, but no forked child, removes when it exits."""
    directory = tempfile.mkdtemp(prefix="pywebtransport-")
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:
            shutil.rmtree(directory, ignore_errors=True)

    atexit.register(remove)
    return Path(directory)


def _write_pair(directory: Path, name: str, cert_pem: bytes, key_pem: bytes) -> tuple[str, str]:
    """Write certificate and key, replacing older ones; return their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    certfile, keyfile = directory / f"{name}.crt", directory / f"{name}.key"
    certfile.write_bytes(cert_pem)
    # A new file instead of an overwritten one: the mode given to open() does not apply to a file that exists.
    keyfile.unlink(missing_ok=True)
    with open(os.open(keyfile, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(key_pem)
    return str(certfile), str(keyfile)


if not TYPE_CHECKING:  # a type checker would take it for a promise that every name exists

    def __getattr__(name: str) -> Any:
        raise not_offered(__name__, name)


logger = get_logger(__name__)

MAX_PINNED_DAYS = 14  # W3C WebTransport, "custom certificate requirements": at most two weeks
