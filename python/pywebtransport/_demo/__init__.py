"""What `python -m pywebtransport` runs: an echo server, a page for browsers, a client with figures. Not a public API.

* `handlers`: the sessions of the echo server
* `server`: the server with its throw-away certificate, and what it remembers of the sessions it saw
* `page`: the small web server for `page.html`, `page.css` and `page.js`
* `demo`: the client with its table
"""

from __future__ import annotations

__all__: list[str] = []
