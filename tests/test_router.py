"""Router: which handler a path finds."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest

from pywebtransport.server.router import RequestRouter


async def chat(session: Any) -> None: ...


async def room(session: Any) -> None: ...


async def fallback(session: Any) -> None: ...


def session(path: str) -> Any:
    return SimpleNamespace(path=path, path_params=())


def test_exact_route_comes_before_patterns_and_default() -> None:
    router = RequestRouter()
    router.set_default_handler(fallback)
    router.add_pattern_route("/chat", room)
    router.add_route("/chat", chat)
    assert router.route_request(session("/chat")) is chat
    assert router.route_request(session("/chat/x")) is room
    assert router.route_request(session("/other")) is fallback


def test_nothing_fits() -> None:
    assert RequestRouter().route_request(session("/")) is None


@pytest.mark.parametrize("path", ["/chat", "/chat?user=me", "/chat?"])
def test_exact_route_is_found_with_any_query(path: str) -> None:
    router = RequestRouter()
    router.add_route("/chat", chat)
    assert router.route_request(session(path)) is chat


def test_route_with_query_wins_over_the_one_without() -> None:
    router = RequestRouter()
    router.add_route("/chat", chat)
    router.add_route("/chat?v=2", room)
    assert router.route_request(session("/chat?v=2")) is room


def test_pattern_gives_its_groups_to_the_session() -> None:
    router = RequestRouter()
    router.add_pattern_route(r"/room/(\w+)/(\d+)$", room)
    for path in ("/room/blue/7", "/room/blue/7?x=1"):
        request = session(path)
        assert router.route_request(request) is room
        assert request.path_params == ("blue", "7")


def test_pattern_may_look_at_the_query() -> None:
    router = RequestRouter()
    router.add_pattern_route(r"/room\?id=(\d+)", room)
    request = session("/room?id=5")
    assert router.route_request(request) is room and request.path_params == ("5",)


def test_first_matching_pattern_wins() -> None:
    router = RequestRouter()
    router.add_pattern_route("/r", room)
    router.add_pattern_route("/room", chat)
    assert router.route_request(session("/room")) is room


def test_invalid_pattern_is_refused_and_not_added() -> None:
    router = RequestRouter()
    with pytest.raises(re.error):
        router.add_pattern_route("/(", room)
    assert router.get_route_stats() == {"exact_routes": 0, "pattern_routes": 0, "has_default_handler": False}


def test_routes_can_be_listed_replaced_and_removed() -> None:
    router = RequestRouter()
    router.add_route("/a", chat)
    router.add_route("/a", room)
    router.get_all_routes().clear()
    assert router.get_all_routes() == {"/a": room} and router.get_route_handler("/a") is room
    router.remove_route("/a")
    router.remove_route("/unknown")
    assert router.get_route_handler("/a") is None
