"""Configuration: what is accepted, what is refused, and how copies behave."""

from __future__ import annotations

import hashlib
import logging
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pywebtransport.config import ClientConfig, ProxyConfig, ServerConfig
from pywebtransport.exceptions import CertificateError, ConfigurationError
from pywebtransport.version import __version__

BOTH = [ClientConfig, ServerConfig]
TIMEOUTS = [
    "close_timeout",
    "connection_cleanup_interval",
    "connection_idle_check_interval",
    "connection_idle_timeout",
    "connection_keepalive_timeout",
    "pending_event_ttl",
    "read_timeout",
    "stream_cleanup_interval",
    "stream_creation_timeout",
    "write_timeout",
]
COUNTS = [
    "datagram_queue_size",
    "flow_control_window_size",
    "max_connections",
    "max_incoming_streams",
    "max_pending_events_per_session",
    "max_total_pending_events",
    "rpc_concurrency_limit",
    "stream_buffer_size",
    "stream_flow_control_increment_bidi",
    "stream_flow_control_increment_uni",
]


@pytest.fixture
def pem(tmp_path: Path) -> tuple[str, str]:
    """Two files that exist; the configuration does not look inside."""
    cert, key = tmp_path / "a.crt", tmp_path / "a.key"
    cert.write_text("certificate")
    key.write_text("key")
    return str(cert), str(key)


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """The library's logger, with its level put back afterwards."""
    library = logging.getLogger("pywebtransport")
    level = library.level
    yield library
    library.setLevel(level)


# --- headers, user agent, hashes ---


def test_headers_become_lower_case_text_and_get_a_user_agent() -> None:
    config = ClientConfig(headers={"X-Number": 5})  # type: ignore[dict-item]  # wrong on purpose
    assert config.headers == {"x-number": "5", "user-agent": f"pywebtransport/{__version__}"}


def test_own_user_agent_header_wins_over_the_field() -> None:
    assert ClientConfig(headers={"User-Agent": "mine"}, user_agent="other").headers == {"user-agent": "mine"}


def test_new_user_agent_replaces_the_header_that_was_made_from_the_old_one() -> None:
    assert ClientConfig().update(user_agent="new").headers["user-agent"] == "new"
    assert ClientConfig(headers={"user-agent": "mine"}).update(user_agent="new").headers["user-agent"] == "mine"


def test_updated_headers_are_normalised_too() -> None:
    assert set(ClientConfig().update(headers={"X-A": "1"}).headers) == {"x-a", "user-agent"}


def test_certificate_hashes_are_taken_as_bytes_and_hex() -> None:
    digest = hashlib.sha256(b"certificate").digest()
    with_colons = digest.hex(":").upper()
    hashes: list[Any] = [digest, digest.hex(), with_colons, bytearray(digest)]
    assert ClientConfig(server_certificate_hashes=hashes).server_certificate_hashes == [digest] * 4
    assert ClientConfig(server_certificate_hashes=None).server_certificate_hashes == []  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize("value", [b"short", "zz", "ab" * 31, 5, None])
def test_certificate_hash_of_wrong_form_is_refused(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="server_certificate_hashes"):
        ClientConfig(server_certificate_hashes=[value])


def test_single_hash_instead_of_a_list_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="list"):
        ClientConfig(server_certificate_hashes="ab" * 32)  # type: ignore[arg-type]  # wrong on purpose


# --- validation ---


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("name", TIMEOUTS)
def test_timeouts_must_be_positive_numbers_or_none(cls: type[Any], name: str) -> None:
    for value in (0, -1, float("nan")):
        with pytest.raises(ConfigurationError, match="Timeout must be positive") as caught:
            cls(**{name: value})
        assert caught.value.config_key == name
    with pytest.raises(ConfigurationError, match="number or None"):
        cls(**{name: "soon"})
    assert getattr(cls(**{name: None}), name) is None
    assert getattr(cls(**{name: 0.5}), name) == 0.5


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("name", COUNTS)
def test_counts_must_be_positive(cls: type[Any], name: str) -> None:
    for value in (0, -1, "many", None):
        with pytest.raises(ConfigurationError, match="must be positive") as caught:
            cls(**{name: value})
        assert (caught.value.config_key, caught.value.config_value) == (name, value)


@pytest.mark.parametrize("value", [-1, 0.5, "many"])
def test_retry_threshold_is_a_count_or_none(value: Any) -> None:
    for fine in (None, 0, 1, 10**6):
        assert ServerConfig(retry_threshold=fine).retry_threshold == fine
    with pytest.raises(ConfigurationError, match="None, 0 or a positive number") as caught:
        ServerConfig(retry_threshold=value)
    assert (caught.value.config_key, caught.value.config_value) == ("retry_threshold", value)


@pytest.mark.parametrize("value", [b"", b"31 bytes are a little too short", "a text, long enough, but no bytes", 5])
def test_stateless_reset_key_has_32_bytes_or_more(value: Any) -> None:
    for fine in (None, bytes(32), bytes(100)):
        assert ServerConfig(stateless_reset_key=fine).stateless_reset_key == fine
    with pytest.raises(ConfigurationError, match="32 bytes or more") as caught:
        ServerConfig(stateless_reset_key=value)
    assert caught.value.config_key == "stateless_reset_key"
    assert not value or str(value) not in str(caught.value)


def test_stateless_reset_key_does_not_show() -> None:
    config = ServerConfig(stateless_reset_key=b"a secret that nobody may ever see")
    assert "secret" not in repr(config)
    assert ServerConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"max_retries": -1}, "must be non-negative"),
        ({"max_retry_delay": 0}, "must be positive"),
        ({"retry_backoff": 0.9}, "must be >= 1.0"),
        ({"retry_delay": 0}, "must be positive"),
        ({"max_streams": 0}, "must be positive"),
        ({"connect_timeout": 0}, "Timeout must be positive"),
        ({"proxy": ProxyConfig(url="http://p:1", connect_timeout=0)}, "proxy.connect_timeout"),
        ({"alpn_protocols": []}, "cannot be empty"),
        ({"congestion_control_algorithm": "vegas"}, "cubic"),
        ({"datagram_overflow": "block"}, "drop_oldest"),
        ({"driver": "fork"}, "thread"),
        ({"max_datagram_size": 0}, "1-65535"),
        ({"max_datagram_size": 65536}, "1-65535"),
        ({"max_stream_buffer_size": 100, "stream_buffer_size": 101}, "must be >= stream_buffer_size"),
        ({"verify_mode": "always"}, "verify mode"),
        ({"verify_mode": 7}, "verify mode"),
    ],
)
def test_client_value_is_refused(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        ClientConfig(**values)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"bind_host": ""}, "cannot be empty"),
        ({"bind_port": 0}, "between 1 and 65535"),
        ({"bind_port": 65536}, "between 1 and 65535"),
        ({"bind_port": "4433"}, "between 1 and 65535"),
        ({"handshake_timeout": 0}, "Timeout must be positive"),
        ({"max_pending_handshakes": 0}, "must be positive"),
        ({"max_sessions": 0}, "must be positive"),
        ({"max_streams_per_connection": 0}, "must be positive"),
        ({"session_cleanup_interval": 0}, "Timeout must be positive"),
        ({"verify_mode": None}, "verify mode"),
    ],
)
def test_server_value_is_refused(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        ServerConfig(**values)


@pytest.mark.parametrize("cls", BOTH)
def test_zero_session_limits_and_any_log_level_are_valid(cls: type[Any]) -> None:
    config = cls(initial_max_data=0, initial_max_streams_bidi=0, initial_max_streams_uni=0, log_level="LOUD")
    assert config.initial_max_data == 0


@pytest.mark.parametrize("cls", BOTH)
def test_named_file_that_does_not_exist_is_refused(cls: type[Any], pem: tuple[str, str]) -> None:
    cert, key = pem
    for values in (
        {"ca_certs": "/no/file"},
        {"certfile": "/no/file", "keyfile": key},
        {"certfile": cert, "keyfile": "/no/file"},
    ):
        with pytest.raises(CertificateError, match="/no/file"):
            cls(**values)


@pytest.mark.parametrize("cls", BOTH)
def test_certificate_and_key_come_together(cls: type[Any], pem: tuple[str, str]) -> None:
    cert, key = pem
    for values in ({"certfile": cert}, {"keyfile": key}):
        with pytest.raises(ConfigurationError, match="both must be provided together"):
            cls(**values)
    assert cls(certfile=cert, keyfile=key).certfile == cert


def test_server_without_certificate_is_valid() -> None:
    assert ServerConfig().certfile == ""


def test_client_may_leave_verify_mode_open() -> None:
    assert ClientConfig(verify_mode=None).verify_mode is None


# --- update, copy, dictionaries ---


def test_update_leaves_the_original_alone() -> None:
    original = ClientConfig()
    changed = original.update(connect_timeout=1.5, headers={"a": "b"})
    assert (changed.connect_timeout, changed.headers["a"]) == (1.5, "b")
    assert original == ClientConfig()


@pytest.mark.parametrize("name", ["colour", "validate", "copy", "__class__"])
def test_update_knows_fields_only(name: str) -> None:
    with pytest.raises(ConfigurationError, match="unknown configuration key"):
        ClientConfig().update(**{name: 1})


def test_update_validates() -> None:
    with pytest.raises(ConfigurationError):
        ServerConfig().update(max_sessions=0)


def test_proxy_object_is_kept_by_update_and_to_dict_but_not_by_copy() -> None:
    proxy = ProxyConfig(url="http://proxy:8080")
    config = ClientConfig().update(proxy=proxy)
    assert config.proxy is proxy and config.to_dict()["proxy"] is proxy
    assert config.copy().proxy == proxy and config.copy().proxy is not proxy


def test_copy_shares_no_lists_but_the_middleware_in_them() -> None:
    class Stateful:
        async def __call__(self, session: Any) -> bool:
            return True

        def __deepcopy__(self, memo: Any) -> Any:
            raise AssertionError("middleware with tasks and locks cannot be copied")

    config = ServerConfig(middleware=[Stateful()])
    twin = config.copy()
    assert twin.middleware == config.middleware and twin.middleware is not config.middleware


def test_to_dict_names_the_verify_mode_and_from_dict_reads_it_back() -> None:
    config = ServerConfig(verify_mode=ssl.CERT_NONE, bind_port=5000)
    values = config.to_dict()
    assert values["verify_mode"] == "CERT_NONE"
    assert ServerConfig.from_dict(values) == config
    assert ClientConfig.from_dict(ClientConfig().to_dict()) == ClientConfig()


def test_from_dict_drops_unknown_keys() -> None:
    assert ClientConfig.from_dict(config_dict={"colour": "red", "max_streams": 3}).max_streams == 3


# --- logging ---


@pytest.mark.parametrize(
    ("values", "level"),
    [({}, "INFO"), ({"log_level": "error"}, "ERROR"), ({"log_level": "ERROR", "debug": True}, "DEBUG")],
)
def test_log_level_reaches_the_logger_and_debug_wins(
    values: dict[str, Any], level: str, logger: logging.Logger
) -> None:
    ClientConfig(**values)._apply_logging()
    assert logging.getLevelName(logger.level) == level


def test_unknown_log_level_is_logged_and_changes_nothing(
    logger: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    logger.setLevel("WARNING")
    ServerConfig(log_level="LOUD")._apply_logging()
    assert logger.level == logging.WARNING and "LOUD" in caplog.text


# --- factories ---


def test_client_for_development_accepts_any_certificate_unless_asked_not_to() -> None:
    config = ClientConfig.create_for_development()
    assert (config.verify_mode, config.debug, config.log_level) == (ssl.CERT_NONE, True, "DEBUG")
    assert ClientConfig.create_for_development(verify_ssl=True).verify_mode == ssl.CERT_REQUIRED


def test_client_for_production_checks_certificates(pem: tuple[str, str]) -> None:
    config = ClientConfig.create_for_production(ca_certs=pem[0])
    assert (config.verify_mode, config.ca_certs, config.debug) == (ssl.CERT_REQUIRED, pem[0], False)


def test_server_for_production_asks_for_client_certificates_only_with_authorities(pem: tuple[str, str]) -> None:
    cert, key = pem
    assert ServerConfig.create_for_production("::", 443, cert, key).verify_mode == ssl.CERT_NONE
    assert ServerConfig.create_for_production("::", 443, cert, key, cert).verify_mode == ssl.CERT_OPTIONAL


def test_server_for_development_takes_paths_as_they_are() -> None:
    config = ServerConfig.create_for_development("::1", 5000, "later.crt", "later.key")
    assert (config.bind_host, config.bind_port, config.debug) == ("::1", 5000, True)
    assert (config.certfile, config.keyfile) == ("later.crt", "later.key")


def test_server_for_development_refuses_a_certificate_without_key() -> None:
    with pytest.raises(ConfigurationError, match="together"):
        ServerConfig.create_for_development(certfile="a.crt")


def test_server_for_development_makes_a_certificate_when_none_is_given() -> None:
    pytest.importorskip("pywebtransport._core")
    config = ServerConfig.create_for_development(host="0.0.0.0")
    config.validate()
    assert "BEGIN CERTIFICATE" in Path(config.certfile).read_text()
