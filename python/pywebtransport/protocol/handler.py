"""A view of a connection's protocol state, with the names of pywebtransport 0.8.1.

In 0.8.1 this class spoke HTTP/3. Now the core does, and the view only shows what is known: it emits the events of the
sessions, answers session requests for servers that listen to SESSION_REQUEST by themselves, and passes a few calls on.
Everything else has its place on sessions and streams; calling it here says where.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, NoReturn, Self

from pywebtransport import _core
from pywebtransport.events import EventEmitter
from pywebtransport.exceptions import ProtocolError, SessionError
from pywebtransport.protocol.session_info import StreamInfo, WebTransportSessionInfo
from pywebtransport.types import EventType, Headers, SessionId, StreamId
from pywebtransport.utils import get_logger, get_timestamp

if TYPE_CHECKING:
    from pywebtransport.connection.connection import WebTransportConnection
    from pywebtransport.manager.stream import StreamType

__all__: list[str] = ["WebTransportProtocolHandler"]

logger = get_logger(__name__)


class WebTransportProtocolHandler(EventEmitter):
    """What `connection.protocol_handler` and `session.protocol_handler` return; applications do not make it.

    Events: SETTINGS_RECEIVED, SESSION_REQUEST, SESSION_READY, SESSION_DRAINING, SESSION_CLOSED;
    SESSION_MAX_DATA_UPDATED `{session_id, max_data}`, SESSION_MAX_STREAMS_BIDI_UPDATED and
    SESSION_MAX_STREAMS_UNI_UPDATED when the peer raised a limit of WebTransport flow control; STREAM_OPENED (fields of
    `StreamInfo` and `initial_payload`) when a stream of the peer is taken from `incoming_streams()`, STREAM_CLOSED.
    Bytes and datagrams are not repeated here: they belong to the streams and the datagram transport.
    """

    __slots__ = ("_connection",)

    _connection: weakref.ref[WebTransportConnection]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Not offered: it wrapped an aioquic object."""
        raise ProtocolError(
            "WebTransportProtocolHandler is not made by applications: use connection.protocol_handler or "
            "session.protocol_handler"
        )

    @classmethod
    def _view(cls, connection: WebTransportConnection) -> Self:
        """Make the view of a connection."""
        self = cls.__new__(cls)
        self._connection = weakref.ref(connection)
        return self

    def __getattr__(self, name: str) -> NoReturn:
        """Say why the members that exposed aioquic objects are gone."""
        if name in ("quic_connection", "handle_quic_event"):
            raise AttributeError(f"{name} is not offered: the transport is written in Rust, there is no aioquic object")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    # --- looking ---

    @property
    def sessions(self) -> list[WebTransportSessionInfo]:
        """What is known about the sessions that are not closed."""
        return self._require_connection().get_all_sessions()

    def connection_established(self) -> None:
        """Do nothing: the core knows when its connection is established."""

    async def close(self) -> None:
        """Remove all listeners. The connection goes on."""
        await EventEmitter.close(self)

    # --- passed on ---

    def accept_webtransport_session(self, stream_id: StreamId, session_id: SessionId) -> None:
        """Answer a session request with 200.

        Args:
            stream_id: the CONNECT stream, `control_stream_id` of SESSION_REQUEST.
            session_id: the session's id.

        Raises:
            ProtocolError: there is no such request, or it is gone.
        """
        core = self._request(stream_id, session_id)
        try:
            core.accept([], [])
        except SessionError as error:
            raise ProtocolError(f"Session request {session_id} is gone: {error.message}") from error

    def reject_session_request(self, stream_id: StreamId, status_code: int) -> None:
        """Answer a session request with a status outside 2xx. Raises ProtocolError when there is no such request."""
        self._request(stream_id, None).reject(status_code, [])

    def close_webtransport_session(self, session_id: SessionId, code: int = 0, reason: str | None = None) -> None:
        """Begin to close a session; `WebTransportSession.close` also waits for the end.

        Raises:
            ProtocolError: the session is unknown.
        """
        self._session(session_id).close(code, reason or "")

    def send_webtransport_datagram(self, session_id: SessionId, data: bytes) -> None:
        """Queue a datagram; `session.datagrams` can do more.

        Raises:
            ProtocolError: the session is unknown.
            DatagramError: as in `WebTransportDatagramTransport.send`.
        """
        self._session(session_id).send_datagram(data)

    # --- elsewhere now ---

    def abort_stream(self, stream_id: StreamId, error_code: int) -> None:
        """Not offered here: `stream.abort(code)`."""
        self._elsewhere("abort_stream", "stream.abort(code)")

    async def create_webtransport_session(
        self, path: str, headers: Headers | None = None
    ) -> tuple[SessionId, StreamId]:
        """Not offered here: `WebTransportClient.connect(url)`."""
        self._elsewhere("create_webtransport_session", "WebTransportClient.connect(url)")

    def create_webtransport_stream(self, session_id: SessionId, is_unidirectional: bool = False) -> StreamId:
        """Not offered here: `session.create_bidirectional_stream()` or `create_unidirectional_stream()`."""
        self._elsewhere(
            "create_webtransport_stream",
            "session.create_bidirectional_stream() or session.create_unidirectional_stream()",
        )

    def send_webtransport_stream_data(self, stream_id: StreamId, data: bytes, end_stream: bool = False) -> None:
        """Not offered here: `stream.write(data, end_stream)`."""
        self._elsewhere("send_webtransport_stream_data", "stream.write(data, end_stream)")

    # --- for the session ---

    def _stream_opened(self, stream: StreamType) -> None:
        """Emit STREAM_OPENED for a stream of the peer."""
        info = StreamInfo(
            stream_id=stream.stream_id,
            session_id=stream.session.session_id,
            direction=stream.direction,
            state=stream.state,
            created_at=get_timestamp(),
        )
        data = {**info.to_dict(), "initial_payload": {"data": b"", "end_stream": False}}
        self._emit_soon(EventType.STREAM_OPENED, data)

    def _require_connection(self) -> WebTransportConnection:
        connection = self._connection()
        if connection is None:
            raise ProtocolError("The connection of this view is gone")
        return connection

    def _session(self, session_id: SessionId) -> _core.Session:
        core = self._require_connection()._core_session(session_id)
        if core is None:
            raise ProtocolError(f"Connection has no session {session_id}")
        return core

    def _request(self, stream_id: StreamId, session_id: SessionId | None) -> _core.Session:
        """Find a session request by its CONNECT stream, and check its id when one is given."""
        connection = self._require_connection()
        for info in connection.get_all_sessions():
            if info.control_stream_id == stream_id and session_id in (None, info.session_id):
                return self._session(info.session_id)
        raise ProtocolError(f"There is no session request on stream {stream_id}")

    def _elsewhere(self, name: str, instead: str) -> NoReturn:
        raise ProtocolError(f"{name} is not offered by the view of the protocol: use {instead}")
