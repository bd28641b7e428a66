"""WebTransport over HTTP/3 for asyncio: client and server, with the transport in Rust.

import pywebtransport

async with pywebtransport.connect("https://localhost:4433/echo") as session:
    stream = await session.create_bidirectional_stream()
    await stream.write_all(b"hello")
    print(await stream.read_all())
"""

from __future__ import annotations

from pywebtransport._api import Serving, connect, serve
from pywebtransport.client.client import WebTransportClient
from pywebtransport.config import ClientConfig, ServerConfig
from pywebtransport.datagram.structured import StructuredDatagramTransport
from pywebtransport.datagram.transport import WebTransportDatagramTransport
from pywebtransport.events import Event, EventEmitter
from pywebtransport.exceptions import (
    ClientError,
    ConfigurationError,
    ConnectionError,
    DatagramError,
    ProtocolError,
    ServerError,
    SessionError,
    StreamError,
    TimeoutError,
    WebTransportError,
)
from pywebtransport.server.app import ServerApp
from pywebtransport.server.http import HttpRequest, HttpResponse
from pywebtransport.session.session import WebTransportSession
from pywebtransport.stream.stream import (
    WebTransportReceiveStream,
    WebTransportSendStream,
    WebTransportStream,
)
from pywebtransport.stream.structured import StructuredStream
from pywebtransport.types import URL, Address, Headers, Serializer
from pywebtransport.utils import generate_dev_certificate
from pywebtransport.version import __version__

__all__: list[str] = [
    "URL",
    "Address",
    "ClientConfig",
    "ClientError",
    "ConfigurationError",
    "ConnectionError",
    "DatagramError",
    "Event",
    "EventEmitter",
    "Headers",
    "HttpRequest",
    "HttpResponse",
    "ProtocolError",
    "Serializer",
    "ServerApp",
    "ServerConfig",
    "ServerError",
    "Serving",
    "SessionError",
    "StreamError",
    "StructuredDatagramTransport",
    "StructuredStream",
    "TimeoutError",
    "WebTransportClient",
    "WebTransportDatagramTransport",
    "WebTransportError",
    "WebTransportReceiveStream",
    "WebTransportSendStream",
    "WebTransportSession",
    "WebTransportStream",
    "__version__",
    "connect",
    "generate_dev_certificate",
    "serve",
]
