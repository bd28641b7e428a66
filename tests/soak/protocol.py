"""What the soak's clients and server do to each other, and what each side counts of it.

The first byte of every stream that a client opens says what the server shall do with it:

* ECHO and a bidirectional stream: send everything back.
* PUSH and a unidirectional stream: read it to the end.
* PULL, a length, and a bidirectional stream: send so many bytes on a unidirectional stream of the server's own.
* STOP, a length, and either kind: read so many bytes, then stop the stream.
* FAIL and a bidirectional stream: let the handler of the session fail.
* SETTLE, a Tally, and a bidirectional stream: wait until nothing is on its way, then answer with the own Tally.

Each datagram is sent back.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
from dataclasses import asdict, dataclass

ECHO, PUSH, PULL, STOP, FAIL, SETTLE = (bytes([kind]) for kind in b"epdsx?")

STOP_CODE, FAIL_CODE = 7, 8
"""With the first a side gives up a stream, with the second the server ends a session whose handler failed."""

PATIENCE = 20.0
"""Seconds for what takes milliseconds on a machine that is not busy with two hundred sessions."""


@dataclass
class Tally:
    """What one side counted of a session. `up` is from the client to the server, which is the same for both of them.

    Attributes:
        bidi, uni: streams of the client.
        pulled: streams of the server.
        cut: streams that were reset or stopped; the bytes below are those of the others.
        bytes_up, bytes_down: payload, first byte and lengths included.
        datagrams_up, datagrams_down: sent or received, as this side sees it.
    """

    bidi: int = 0
    uni: int = 0
    pulled: int = 0
    cut: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    datagrams_up: int = 0
    datagrams_down: int = 0

    def to_dict(self) -> dict[str, int]:
        """Return all fields."""
        return asdict(self)


async def trim(running: asyncio.Event) -> None:
    """Give freed memory back to the system every second, so that resident memory tells what is in use.

    glibc keeps what was freed: its size tells of the busiest moment so far, not of a leak. At rest garbage is collected
    too: forgotten sessions end with it, and nothing else would set the collector to work then.
    """
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    while True:
        if not running.is_set():
            gc.collect()
        if malloc_trim is not None:
            malloc_trim(0)
        await asyncio.sleep(1)
