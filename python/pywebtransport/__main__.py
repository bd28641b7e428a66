"""`python -m pywebtransport demo | serve`: see the library work before writing a line of code."""

from __future__ import annotations

import argparse
import asyncio
import sys

from pywebtransport._demo.demo import run_demo
from pywebtransport._demo.server import run_server
from pywebtransport.version import __version__

__all__: list[str] = []


def main(arguments: list[str] | None = None) -> int:
    """Run one of the commands and return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "demo":
            return asyncio.run(run_demo())
        return asyncio.run(
            run_server(
                host=options.host,
                port=options.port,
                page_port=None if options.no_page else options.page_port,
                announce_json=options.json,
            )
        )
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pywebtransport", description=__doc__)
    parser.add_argument("--version", action="version", version=f"pywebtransport {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)

    commands.add_parser("demo", help="a server and a client exchange streams and datagrams, then a short table")

    serve = commands.add_parser("serve", help="an echo server with a page for a real browser")
    serve.add_argument("--host", default="127.0.0.1", help="address of the WebTransport server (default %(default)s)")
    serve.add_argument("--port", type=int, default=4433, help="its UDP port, 0: any free one (default %(default)s)")
    serve.add_argument("--page-port", type=int, default=8433, help="TCP port of the page (default %(default)s)")
    serve.add_argument("--no-page", action="store_true", help="no page, WebTransport only")
    serve.add_argument("--json", action="store_true", help="announce addresses and certificate hash as one JSON line")
    return parser


if __name__ == "__main__":
    sys.exit(main())
