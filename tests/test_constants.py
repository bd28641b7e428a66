"""Constants: the defaults have one home and describe the configuration completely."""

from __future__ import annotations

from dataclasses import fields

from pywebtransport import constants
from pywebtransport.config import ClientConfig, ServerConfig
from pywebtransport.constants import get_default_client_config, get_default_server_config


def test_default_dictionaries_have_exactly_the_fields_of_the_configurations() -> None:
    client, server = get_default_client_config(), get_default_server_config()
    assert set(client) == {item.name for item in fields(ClientConfig)}
    assert set(server) == {item.name for item in fields(ServerConfig)}
    assert set(client) == set(constants.ClientConfigDefaults.__annotations__)
    assert set(server) == set(constants.ServerConfigDefaults.__annotations__)


def test_typed_dictionaries_have_the_types_of_the_configurations() -> None:
    for config, defaults in (
        (ClientConfig, constants.ClientConfigDefaults),
        (ServerConfig, constants.ServerConfigDefaults),
    ):
        for item in fields(config):
            if item.name not in ("proxy", "middleware"):
                hint = defaults.__annotations__[item.name]
                assert getattr(hint, "__forward_arg__", hint) == item.type, item.name


def test_every_call_returns_fresh_dictionaries() -> None:
    get_default_client_config()["alpn_protocols"].append("spoiled")
    get_default_server_config()["middleware"].append(print)
    assert get_default_client_config()["alpn_protocols"] == ["h3"]
    assert get_default_server_config()["middleware"] == []


def test_defaults_make_the_default_configurations() -> None:
    assert ClientConfig.from_dict(dict(get_default_client_config())) == ClientConfig()
    assert ServerConfig.from_dict(dict(get_default_server_config())) == ServerConfig()


def test_every_public_name_is_exported() -> None:
    public = {name for name in vars(constants) if name.isupper()} - {"MISSING"}
    assert public <= set(constants.__all__)
    assert all(hasattr(constants, name) for name in constants.__all__)
