"""Names that exposed aioquic objects: reaching for them says why they are gone."""

from __future__ import annotations

import importlib

import pytest

from pywebtransport._not_offered import not_offered


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("pywebtransport.utils", "create_quic_configuration"),
        ("pywebtransport.protocol", "WebTransportH3Engine"),
        ("pywebtransport.protocol.h3_engine", "WebTransportH3Engine"),
        ("pywebtransport.server", "WebTransportServerProtocol"),
    ],
)
def test_name_is_explained_by_import_and_by_attribute(module: str, name: str) -> None:
    if module != "pywebtransport.utils":
        pytest.importorskip("pywebtransport._core")
    with pytest.raises(ImportError, match="transport is written in Rust"):
        exec(f"from {module} import {name}")
    with pytest.raises(ImportError, match="transport is written in Rust"):
        getattr(importlib.import_module(module), name)


def test_other_unknown_names_are_ordinary_attribute_errors() -> None:
    assert isinstance(not_offered("m", "x"), AttributeError)
    utils = importlib.import_module("pywebtransport.utils")
    assert not hasattr(utils, "no_such_name")
