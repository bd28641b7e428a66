"""The server's side: python -m examples.devious_baton.server --port 4433"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from examples.devious_baton.message import PATH
from examples.devious_baton.player import Game, Player
from pywebtransport import ServerApp, ServerConfig, WebTransportSession, generate_dev_certificate

__all__: list[str] = ["MAX_COUNT", "Parameters", "make_app"]

MAX_COUNT = 100
"""Batons in one game: as many streams as a session may have open by default (`max_streams_per_connection`)."""


@dataclass(frozen=True)
class Parameters:
    """The query of the request."""

    version: int
    baton: int
    count: int

    @classmethod
    def parse(cls, path: str) -> Parameters:
        """Read the query; what is missing has its default.

        Raises:
            ValueError: something is no number, out of range, or there twice.
        """
        query = parse_qs(urlsplit(path).query, keep_blank_values=True)

        def number(name: str, default: int, allowed: range) -> int:
            (text,) = query.get(name, [str(default)])
            if not (text.isascii() and text.isdecimal()) or int(text[:20]) not in allowed:
                raise ValueError(f"{name} must be in {allowed.start}..{allowed.stop - 1}, got {text[:20]!r}")
            return int(text)

        return cls(
            version=number("version", 0, range(1)),
            baton=number("baton", random.randint(1, 255), range(1, 256)),
            count=number("count", 1, range(1, MAX_COUNT + 1)),
        )


def make_app(
    config: ServerConfig, *, padding: int = 0, patience: float = 10.0, on_end: Callable[[Game], None] | None = None
) -> ServerApp:
    """Make an application that plays with whoever comes.

    Args:
        config: of the server; its stream limits bound the batons that can be in the air.
        padding: bytes of padding in each message.
        patience: seconds without a message after which a session is closed with BORED.
        on_end: called with every game that is over.
    """
    app = ServerApp(config=config)

    @app.middleware
    async def check(session: WebTransportSession) -> bool:
        """Refuse requests whose query is not right: the draft wants a 4xx status, and this one becomes a 403."""
        try:
            Parameters.parse(session.path)
        except ValueError:
            return False
        return True

    @app.route(PATH)
    async def play(session: WebTransportSession) -> None:
        wanted = Parameters.parse(session.path)
        player = Player(
            session, serves=True, count=wanted.count, baton=wanted.baton, padding=padding, patience=patience
        )
        game = await player.play()
        if on_end is not None:
            on_end(game)

    return app


def _report(game: Game) -> None:
    print(f"received {len(game.received)}, sent {len(game.sent)}, lost {game.lost}; code {game.code} {game.reason}")


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Devious Baton server")
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--port", type=int, default=4433)
    parser.add_argument("--padding", type=int, default=0, help="bytes of padding in each message")
    parser.add_argument("--cert", help="certificate file (default: one for this run)")
    parser.add_argument("--key", help="its key")
    options = parser.parse_args()
    if not options.cert:
        certificate = generate_dev_certificate()
        options.cert, options.key = certificate.certfile, certificate.keyfile
        print(f"SHA-256 of the certificate: {certificate.sha256.hex()}", flush=True)
    config = ServerConfig(certfile=options.cert, keyfile=options.key)
    make_app(config, padding=options.padding, on_end=_report).run(host=options.host, port=options.port)


if __name__ == "__main__":
    main()
