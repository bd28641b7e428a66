"""The client's side: python -m examples.devious_baton.client localhost:4433 --count 5 --baton 1"""

from __future__ import annotations

import argparse
import asyncio
import ssl
import sys
from urllib.parse import urlencode

from examples.devious_baton.message import PATH
from examples.devious_baton.player import Game, Player
from pywebtransport import ClientConfig, WebTransportClient, WebTransportError

__all__: list[str] = ["play"]


async def play(
    authority: str,
    config: ClientConfig,
    *,
    count: int = 1,
    baton: int | None = None,
    padding: int = 0,
    patience: float = 10.0,
) -> Game:
    """Play one game with a server.

    Args:
        authority: host and port, such as "localhost:4433".
        config: of the client.
        count: batons in the game.
        baton: the value they begin with, 1 to 255; None: the server chooses.
        padding: bytes of padding in each message.
        patience: seconds without a message after which the session is closed with BORED.

    Raises:
        ClientError: the server refused the parameters.
        ConnectionError: it cannot be reached.
    """
    query = {"version": 0, "count": count} | ({} if baton is None else {"baton": baton})
    async with WebTransportClient(config=config) as client:
        session = await client.connect(f"https://{authority}{PATH}?{urlencode(query)}")
        player = Player(session, serves=False, count=count, baton=baton, padding=padding, patience=patience)
        return await player.play()


def main() -> int:
    """Play, and tell what happened; 0 when no baton was lost and nobody complained."""
    parser = argparse.ArgumentParser(description="Devious Baton client")
    parser.add_argument("authority", help="host:port")
    parser.add_argument("--count", type=int, default=1, help="batons in the game")
    parser.add_argument("--baton", type=int, help="the value they begin with (default: the server chooses)")
    parser.add_argument("--padding", type=int, default=0, help="bytes of padding in each message")
    parser.add_argument("--sha256", help="accept the certificate with this hash, and no other")
    parser.add_argument("--insecure", action="store_true", help="accept any certificate")
    options = parser.parse_args()
    config = ClientConfig()
    if options.sha256:
        config = ClientConfig(server_certificate_hashes=[bytes.fromhex(options.sha256)])
    elif options.insecure:
        config = ClientConfig(verify_mode=ssl.CERT_NONE)
    playing = play(options.authority, config, count=options.count, baton=options.baton, padding=options.padding)
    try:
        game = asyncio.run(playing)
    except WebTransportError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"received {len(game.received)}: {game.received}")
    print(f"sent {len(game.sent)}: {game.sent}")
    print(f"datagrams received {game.datagrams_received}, sent {game.datagrams_sent}")
    print(f"lost {game.lost}; closed with code {game.code} {game.reason}")
    return 0 if game.code == 0 and game.lost == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
