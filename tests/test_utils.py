"""Utilities: time, bytes, ids, certificates for development."""

from __future__ import annotations

import hashlib
import logging
import os
import ssl
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pywebtransport import utils
from pywebtransport.utils import (
    Timer,
    ensure_bytes,
    format_duration,
    generate_dev_certificate,
    generate_self_signed_cert,
    generate_session_id,
    get_logger,
)


def test_timer_measures_and_logs(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "pywebtransport"), Timer("sums") as timer:
        assert timer.elapsed >= 0
    assert timer.stop() >= 0 and "sums took" in caplog.text


def test_timer_that_was_not_started() -> None:
    timer = Timer()
    assert timer.elapsed == 0.0
    with pytest.raises(RuntimeError, match="Timer not started"):
        timer.stop()


@pytest.mark.parametrize("data", [b"\xc3\xa4", "ä", bytearray(b"\xc3\xa4"), memoryview(b"\xc3\xa4")])
def test_everything_like_bytes_becomes_bytes(data: Any) -> None:
    assert ensure_bytes(data) == b"\xc3\xa4" and type(ensure_bytes(data)) is bytes


@pytest.mark.parametrize("data", [None, 5, [1]])
def test_other_types_do_not_become_bytes(data: Any) -> None:
    with pytest.raises(TypeError, match=type(data).__name__):
        ensure_bytes(data)


def test_text_may_have_another_encoding() -> None:
    assert ensure_bytes("ä", "latin-1") == b"\xe4"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0125, "12.5ms"), (3.2, "3.2s"), (125, "2m5.0s"), (3630, "1h0m30.0s"), (0, "0.0ms")]
)
def test_durations_for_people(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_session_ids_are_distinct_and_url_safe() -> None:
    ids = {generate_session_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(len(value) == 22 and value.replace("-", "").replace("_", "").isalnum() for value in ids)


def test_logger_is_the_one_of_that_name() -> None:
    assert get_logger("pywebtransport.x") is logging.getLogger("pywebtransport.x")


@pytest.mark.parametrize("days", [0, -1, 15])
def test_life_that_browsers_refuse_is_refused(days: int) -> None:
    with pytest.raises(ValueError, match="days_valid"):
        generate_dev_certificate(days_valid=days)


def test_certificate_for_nobody_is_refused() -> None:
    with pytest.raises(ValueError, match="host name"):
        generate_dev_certificate([])


@pytest.mark.parametrize("hostname", ["", "../../etc/passwd", "a\\b"])
def test_certificate_for_a_path_is_refused(hostname: str) -> None:
    with pytest.raises(ValueError, match="host name"):
        generate_self_signed_cert(hostname)


def test_private_key_is_readable_by_its_owner_only_also_when_it_replaces_another(tmp_path: Path) -> None:
    (tmp_path / "x.key").write_text("old key, readable by all")
    (tmp_path / "x.key").chmod(0o644)
    cert, key = utils._write_pair(tmp_path / ".", "x", b"cert", b"new key")
    assert Path(cert).read_bytes() == b"cert" and Path(key).read_bytes() == b"new key"
    if os.name == "posix":
        assert stat.S_IMODE(os.stat(key).st_mode) == 0o600


def test_temporary_directory_goes_with_the_interpreter() -> None:
    code = "from pywebtransport.utils import _temporary_directory as t; d = t(); assert d.is_dir(); print(d)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert not Path(result.stdout.strip()).exists()


def test_dev_certificate_is_loadable_and_hashed_over_its_der_form(tmp_path: Path) -> None:
    pytest.importorskip("pywebtransport._core")
    certificate = generate_dev_certificate(["example.test"], tmp_path / "new")
    pem = Path(certificate.certfile).read_text()
    assert hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).digest() == certificate.sha256
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate.certfile, certificate.keyfile)


def test_self_signed_certificate_is_named_after_its_host_and_serves_as_its_own_authority(tmp_path: Path) -> None:
    pytest.importorskip("pywebtransport._core")
    cert, key = generate_self_signed_cert("localhost", str(tmp_path))
    assert (Path(cert).name, Path(key).name) == ("localhost.crt", "localhost.key")
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key)
    ssl.create_default_context(cafile=cert)
