"""The private core of pywebtransport: stub and documentation of the Rust extension module.

Everything here is synchronous and safe to call from the thread of the event loop whose `Bridge` the object was made
with. Data never waits inside: a `try_*` method that has nothing returns None, and the caller awaits a `Readiness`,
which only says "look again"; the data stays in the core, so a cancelled wait loses nothing. What takes its time
(connect, listen) is an `Operation`, whose result waits in the core likewise.

Errors are the classes of `pywebtransport.exceptions`, chosen by the object that raises them: streams raise
`StreamError`, datagram methods `DatagramError`, sessions `SessionError`, connections `ConnectionError`. They carry
`close_code`, `close_reason`, `ended_by`, `application_code` and `wire_code` where these exist.
"""

import asyncio
from collections.abc import Callable, Generator
from typing import Generic, Literal, TypeVar, final

from pywebtransport.config import ClientConfig, ServerConfig
from pywebtransport.types import Buffer

_T_co = TypeVar("_T_co", covariant=True)

__all__ = [
    "NO_ROOM",
    "SENT",
    "SENT_YIELD",
    "SOCKET_BUFFER_SIZE",
    "Bridge",
    "Client",
    "CloseInfo",
    "Connection",
    "Exchange",
    "Operation",
    "Readiness",
    "RecvStream",
    "SendStream",
    "Server",
    "Session",
    "Subscription",
    "check_origin_pattern",
    "forget_after_fork",
    "generate_dev_certificate",
    "generate_self_signed_cert",
    "shutdown",
]

SENT: int
"""`send_datagram`, `write`: accepted."""
SENT_YIELD: int
"""Accepted, and it is time to let the event loop run: many calls in a row did not suspend."""
NO_ROOM: int
"""Nothing was taken: park on the matching readiness and call again."""
SOCKET_BUFFER_SIZE: int
"""What the core asks the system for, each way. Its size and reason are in rust/io/src/config.rs."""

def check_origin_pattern(pattern: str) -> None:
    """Check one entry of `ServerConfig.allowed_origins`; raises ValueError with the reason."""

def generate_dev_certificate(hostnames: list[str], days_valid: float) -> tuple[bytes, bytes, bytes]:
    """Make an ECDSA P-256 certificate for names and addresses: (certificate PEM, key PEM, SHA-256 of the DER)."""

def generate_self_signed_cert(hostname: str, key_size: int, days_valid: int) -> tuple[bytes, bytes]:
    """Make an RSA certificate for `hostname`, 127.0.0.1 and ::1: (certificate PEM, key PEM)."""

def shutdown(timeout: float) -> None:
    """Close every connection of this process, wait up to `timeout` seconds for the close packets, stop the I/O thread.

    Registered with `atexit`; nothing of this module works afterwards.
    """

def forget_after_fork() -> None:
    """Make every object of the parent process raise RuntimeError in this child. `os.register_at_fork` calls it."""

@final
class Bridge:
    """The wake channel of one event loop, and the home of its loop driver.

    `on_wake` belongs into `loop.add_reader(bridge.fileno(), bridge.on_wake)`. Sockets and the timer of the loop driver
    register themselves with the loop.
    """

    def __new__(cls, event_loop: asyncio.AbstractEventLoop, on_gap: Callable[[float, float], None]) -> Bridge:
        """on_gap is called after the loop was blocked for more than 25 ms, as far as the loop driver noticed: with the
        seconds, and the shortest idle timeout in seconds of what it drives."""
    def fileno(self) -> int: ...
    def on_wake(self) -> None: ...
    def on_socket(self) -> None:
        """A socket of the loop driver became readable or writable. Registered by the bridge itself."""
    def on_timer(self) -> None:
        """The loop driver's timer fired. Registered by the bridge itself."""
    def on_deadline(self) -> None:
        """The limit of a wait is over. Registered by the bridge itself."""
    def on_turn_end(self) -> None:
        """The callbacks that were ready have run: drive what they left. Registered by the bridge itself."""
    def close(self) -> None:
        """Unregister from the loop and drop what its endpoints hold; called when the loop has been closed."""
    def stats(self) -> dict[str, int]:
        """Counters: bells, writes, drains, tokens, parks, bytes_copied, drives, drive_cuts, longest_drive_us,
        late_drives, longest_gap_us, stand_ins.

        And `waiters`: the futures and callbacks that it holds now.
        """

@final
class Readiness:
    """One wait for one condition of one object ("a datagram is there").

    Awaiting it returns when the condition may hold, when the object ended, when the limit is over, or after `wake`;
    then the caller tries again with the ticket, awaits it once more if there was nothing, and ends with `leave`.
    Waiters are served first in, first out.
    """

    @property
    def ticket(self) -> int:
        """Its place in the queue, from the first await on; 0 before."""
    @property
    def expired(self) -> bool:
        """Whether the limit is over."""
    def limit(self, seconds: float) -> None:
        """End the wait so long after its first await. Set before it; infinity is none."""
    def __await__(self) -> Generator[asyncio.Future[None]]: ...
    def __iter__(self) -> Readiness: ...
    def __next__(self) -> asyncio.Future[None]: ...
    def wake(self) -> None:
        """End the current await."""
    def leave(self) -> float:
        """Give the place up; a wake that this waiter no longer needs goes to the next one. Harmless when repeated.

        Returns the seconds since the first await.
        """

@final
class Operation(Generic[_T_co]):
    """Something under way, and then its result. Dropping it gives it up, as `cancel` does."""

    def ready(self) -> Readiness: ...
    def take(self) -> _T_co | None:
        """The result, or None before there is one; raises what has made it fail. A result is there once."""
    def cancel(self) -> None:
        """Give it up, or undo what has come of it: close the connection or server, give the stream back. Idempotent."""

@final
class Subscription:
    """A callback that the core holds. It lets go when this object dies, so that nothing is left of what subscribed."""

@final
class CloseInfo:
    """How a session or connection ended."""

    @property
    def code(self) -> int:
        """Session: the WebTransport application code. Connection: the QUIC or HTTP/3 code (0 for a timeout)."""
    @property
    def reason(self) -> str: ...
    @property
    def ended_by(self) -> str:
        """One of "local", "peer" or "transport"."""
    @property
    def cause(self) -> str:
        """Of a session: "closed", "rejected", "reset", "protocol", "connection_lost".

        Of a connection: "closed", "timeout", "lost".
        """
    @property
    def status(self) -> int | None:
        """HTTP status of a rejected session request."""
    @property
    def wire_code(self) -> int | None:
        """The HTTP/3 code with which the CONNECT stream was reset, or the connection closed."""

@final
class Client:
    """TLS and transport settings of one client configuration, parsed once; connects any number of times."""

    def __new__(cls, bridge: Bridge, config: ClientConfig) -> Client:
        """Raises CertificateError or ConfigurationError before any packet is sent."""
    @property
    def driver(self) -> str:
        """One of "loop" or "thread": what "auto" became."""
    def connect(self, host: str, port: int) -> Operation[Connection]:
        """Resolve, connect with Happy Eyeballs, finish TLS and wait for the peer's SETTINGS.

        An unanswered port is retried until the caller gives up. Raises ConnectionError,
        HandshakeError or CertificateError.
        """

@final
class Connection:
    """One HTTP/3 connection."""

    @property
    def driver(self) -> str: ...
    @property
    def dialect(self) -> str | None:
        """The WebTransport draft spoken: "draft-02", "draft-07", "draft-15"; None before the peer's SETTINGS."""
    @property
    def local_address(self) -> tuple[str, int] | None: ...
    @property
    def remote_address(self) -> tuple[str, int]: ...
    @property
    def close_info(self) -> CloseInfo | None:
        """None while the connection lives."""
    def __eq__(self, other: object, /) -> bool:
        """Equal when both stand for the same connection."""
    def __hash__(self) -> int: ...
    def request_session(
        self, authority: str, path: str, headers: list[tuple[str, str]], subprotocols: list[str]
    ) -> Session:
        """Send an extended CONNECT; the session is "connecting" until `Session.established()` is ready.

        Raises ClientError when the server does not take so many bytes of headers; nothing is sent then.
        """
    def can_request_session(self) -> bool:
        """Whether `request_session` may be called: the connection lives and does not wind down, and carries no session
        yet or has flow control and room for one more."""
    @property
    def is_going_away(self) -> bool:
        """Whether either side has sent GOAWAY: no new sessions on this connection."""
    def go_away(self) -> None:
        """Send GOAWAY and drain every session; a server resets later requests with H3_REQUEST_REJECTED. Idempotent."""
    def session_count(self) -> int:
        """Sessions that are not closed."""
    def settings(self) -> dict[int, int]:
        """The peer's SETTINGS as received."""
    def stats(self) -> dict[str, float]:
        """bytes_sent, bytes_received, packets_sent, packets_received, packets_lost, rtt (s), cwnd, packets_in_flight,
        mtu, last_activity (unix seconds; packets count from when this is called), established_at, closed_at (0 while
        open), streams_rejected, datagrams_dropped_early, protocol_errors, and of the socket gso_segments, gro_segments
        (0 once it is closed), send_buffer_size and receive_buffer_size (as obtained; 0: unknown). packets_in_flight is
        always 0, because quinn does not tell it."""
    @property
    def has_ended(self) -> bool:
        """Whether it is over on this side too: the close packet was handed to the socket."""
    def closed(self) -> Readiness:
        """Ready when it has ended."""
    def subscribe(self, callback: Callable[[], None]) -> Subscription:
        """Call back through `loop.call_soon` when the connection ends, when its SETTINGS or a GOAWAY arrive, and when a
        session has left it; at most one callback, as long as the subscription lives."""
    def release(self) -> None:
        """A session was closed: close the connection too if no other lives on it. Returns at once.

        A server waits 100 ms for the peer to read the session's close, unless the peer closes first.
        """
    def close(self, code: int, reason: str) -> None:
        """Send CONNECTION_CLOSE with an HTTP/3 code; `has_ended` tells when it has left. The first close wins."""

@final
class Server:
    """A bound UDP port that accepts connections and session requests."""

    @staticmethod
    def listen(bridge: Bridge, config: ServerConfig, host: str, port: int) -> Operation[Server]:
        """Load the certificate, resolve and bind. Raises ServerError or CertificateError."""
    @property
    def driver(self) -> str: ...
    @property
    def local_address(self) -> tuple[str, int]: ...
    def try_accept(self, ticket: int = 0) -> Connection | Session | Exchange | None:
        """The next new connection, session request (a Session that waits for `accept` or `reject`) or plain request.

        A connection comes before its requests. Raises ServerError once the server is closed and nothing is left.
        """
    def acceptable(self) -> Readiness: ...
    def stats(self) -> dict[str, int]:
        """connections_accepted, connections_rejected, handshakes_resumed, handshakes_failed, handshakes_timed_out,
        handshakes_ignored, handshakes_refused, handshakes_pending (now), retries_sent, connections (now),
        protocol_errors, requests_rejected, origins_refused, http_requests, requests_timed_out, and of the socket
        gso_segments, gro_segments, send_buffer_size, receive_buffer_size (as for a connection)."""
    def drain(self, limit: float) -> Operation[Literal[True]]:
        """Refuse new connections and requests, send GOAWAY and WT_DRAIN_SESSION to those there are, and wait until no
        session and no plain request is left, at most `limit` seconds. `close` comes after it; it ends the wait too."""
    def close(self) -> Operation[Literal[True]]:
        """Stop accepting, close every connection with H3_NO_ERROR and release the port. Idempotent."""

@final
class Exchange:
    """A request of plain HTTP that waits for its response. Dropped without one, its stream is reset."""

    @property
    def connection(self) -> Connection: ...
    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str:
        """Path and query; "*" for OPTIONS of the whole server."""
    @property
    def authority(self) -> str: ...
    @property
    def headers(self) -> list[tuple[str, str]]:
        """Lower-case, in order."""
    def collect(self, limit: int) -> None:
        """Read the content, at most `limit` bytes of it; nothing of it is read before. Once."""
    def try_content(self) -> bytes | int | None:
        """The content once it is whole; a status to answer with when it never will be: 413 or 408; None before that.

        Raises ServerError when nobody waits for an answer any more.
        """
    def collected(self) -> Readiness:
        """Ready when `try_content` has something, or raises."""
    def respond(self, status: int, headers: list[tuple[str, str]], content: Buffer | str) -> None:
        """Answer; `content-length` is added, and to HEAD no content is sent. The first answer counts.

        A request that is gone takes any answer. Raises ValueError for a status outside 200 to 599, content with a
        status that has none, a header that would make the message malformed, and more bytes of headers than the client
        takes; TypeError for content that is none.
        """
    def abandon(self) -> None:
        """Reset the stream with H3_INTERNAL_ERROR, unless there is an answer."""

@final
class Session:
    """One WebTransport session, from the CONNECT request to its end."""

    @property
    def connection(self) -> Connection: ...
    @property
    def stream_id(self) -> int:
        """The id of the CONNECT stream, which names the session on the wire."""
    @property
    def path(self) -> str: ...
    @property
    def authority(self) -> str: ...
    @property
    def headers(self) -> list[tuple[str, str]]:
        """The request's headers (both sides), lower-case, in order."""
    @property
    def response_headers(self) -> list[tuple[str, str]]:
        """The headers of the response, also of one that refused; on a server those of `accept`."""
    @property
    def offered_subprotocols(self) -> list[str]: ...
    @property
    def subprotocol(self) -> str | None:
        """What the server chose; None before the session is established."""
    @property
    def state(self) -> str:
        """One of "connecting", "connected", "draining", "closing" or "closed"."""
    @property
    def is_connected(self) -> bool:
        """Whether the state is "connected" or "draining"."""
    @property
    def was_established(self) -> bool:
        """Whether it was ever connected."""
    @property
    def close_info(self) -> CloseInfo | None:
        """Set once the session is closing, by whoever closed first."""
    def accept(self, headers: list[tuple[str, str]], subprotocols: list[str]) -> None:
        """Server: answer 200 with the first of these subprotocols that the client offers.

        Raises SessionError when the request is gone, ValueError for a header that would make the message malformed, and
        for more bytes of headers than the client takes.
        """
    def reject(self, status: int, headers: list[tuple[str, str]]) -> None:
        """Server: answer with a status outside 2xx; the session is closed.

        Raises ValueError for a header that would make the message malformed. Headers that are too many for the client
        are left out.
        """
    def close(self, code: int, reason: str) -> None:
        """Begin the close: written data and accepted datagrams go first, then the CLOSE capsule and FIN.

        `closed()` becomes ready when the peer answered, or after `close_timeout`. Idempotent; the first close wins.
        """
    def drain(self) -> None:
        """Ask the peer to wind down (WT_DRAIN_SESSION); the state becomes "draining" here too, and all goes on.

        Once; before the session is established and after its end it does nothing.
        """
    def export_keying_material(self, label: bytes, context: bytes, length: int) -> bytes:
        """Derive `length` bytes that the peer's session can derive too.

        Raises ValueError (the label has 1 to 255 bytes, the context at most 255, the output 1 to 8160) or SessionError
        (not established, or ended).
        """
    def established(self) -> Readiness:
        """Ready once the session is connected, or ended before that."""
    def closed(self) -> Readiness: ...
    def subscribe(self, callback: Callable[[], None]) -> Subscription:
        """Call back through `loop.call_soon` after every change of `state` and when `take_events` has something, as
        long as the subscription lives."""
    def counters(self) -> dict[str, float]:
        """SessionStats' counters (created_at, ready_at, closed_at (0 = not yet), streams_created, streams_closed,
        stream_errors, bidirectional_streams, unidirectional_streams, datagrams_sent, datagrams_received,
        protocol_errors), the credits (send_credit_available, receive_credit_available), and the datagram counters
        (datagram_bytes_sent, datagram_bytes_received, datagram_send_drops, datagram_send_failures, datagram_expired,
        datagram_receive_drops, datagrams_delivered, min_datagram_size, max_datagram_size_seen)."""

    def flow_control(self) -> dict[str, int] | None:
        """The limits of WebTransport flow control and their use, named as the fields of WebTransportSessionInfo; None
        when it is off on this connection."""

    # Streams
    def try_open(self, bidirectional: bool) -> tuple[SendStream, RecvStream | None] | None:
        """Open a stream if the peer's limit allows one more now, and nobody is queued before; None: use `openable`."""
    def openable(self, bidirectional: bool) -> Operation[tuple[SendStream, RecvStream | None]]:
        """Queue for the next stream the peer allows. Raises StreamError when it never will."""
    def try_accept(self, ticket: int = 0) -> tuple[SendStream | None, RecvStream] | None:
        """The next stream the peer opened, both kinds in one sequence. Raises SessionError at the end of the session,
        after the streams that had arrived."""
    def acceptable(self) -> Readiness: ...

    # Datagrams
    @property
    def max_datagram_size(self) -> int:
        """Largest payload in bytes that can be sent now; follows the path's MTU."""
    @property
    def datagram_queue_bound(self) -> int: ...
    def send_datagram(self, data: Buffer | str, priority: int = 0, ttl: float | None = None) -> int:
        """Queue one datagram: SENT or SENT_YIELD; NO_ROOM only with the policy "wait".

        Raises DatagramError (too large, closed, full with "error" or with nothing to evict) or TypeError.
        """
    def send_datagrams(self, data: list[bytes], priority: int = 0, ttl: float | None = None) -> tuple[int, int]:
        """Queue many in one call: (number accepted, status of the last one). Stops at the first that is refused; when
        none was accepted and one is in error, raises as `send_datagram`."""
    def datagram_room(self) -> Readiness: ...
    def try_receive_datagram(self, ticket: int = 0) -> bytes | None:
        """The oldest datagram; None when there is none, when others wait before, or when it is time to yield.

        Raises DatagramError at the end of the session, after the datagrams that had arrived.
        """
    def try_receive_datagrams(self, max_count: int, ticket: int = 0) -> list[bytes] | None: ...
    def try_receive_datagram_entry(self, ticket: int = 0) -> tuple[bytes, int, float] | None:
        """(payload, sequence number, arrival as unix time)."""
    def datagram_available(self) -> Readiness: ...
    def datagram_queues(self) -> dict[str, int]:
        """incoming, incoming_bytes, outgoing, outgoing_0, outgoing_1, outgoing_2, outgoing_bytes."""
    def clear_datagrams(self, incoming: bool) -> int: ...
    def record_events(self, enabled: bool) -> None:
        """Keep a bounded log of single datagrams for event listeners; off by default, free while off."""
    def take_events(self) -> list[tuple[str, int, int, float]]:
        """("sent" | "received" | "expired", size, sequence, unix time) since the last call."""

@final
class SendStream:
    """The sending half of a stream. Dropped before `finish` it is reset with code 0, never silently finished."""

    @property
    def id(self) -> int: ...
    @property
    def state(self) -> str:
        """One of "open", "finished" (FIN accepted), "sent" (all handed to QUIC), "acknowledged", "reset" (by this
        side), "stopped" (by the peer), "closed" (the session ended)."""
    @property
    def bytes_sent(self) -> int:
        """Accepted bytes."""
    @property
    def buffered(self) -> int:
        """Accepted bytes that QUIC has not taken yet."""
    @property
    def is_open(self) -> bool:
        """Whether the state is "open"."""
    @property
    def wait_times(self) -> tuple[float, float]:
        """Seconds spent in waits for room and for an empty queue: their sum and the longest."""
    @property
    def priority(self) -> int:
        """Streams of a larger number go first, those of the same take turns. 32 bits, without both ends."""
    @priority.setter
    def priority(self, value: int) -> None: ...
    def write(self, data: Buffer | str, finish: bool = False) -> int:
        """Queue all of `data` in one piece: SENT, SENT_YIELD, or NO_ROOM while more than `max_stream_buffer_size` is
        buffered. Raises StreamError (finished, reset, stopped with the peer's code, session closed) or TypeError."""
    def finish(self) -> None:
        """FIN after what was written. Idempotent, harmless on an ended stream."""
    def reset(self, code: int) -> None:
        """RESET_STREAM with a WebTransport code; unsent data is dropped. Harmless on an ended stream."""
    def writable(self) -> Readiness:
        """Ready when `write` would take data, or fail."""
    def flushed(self) -> Readiness:
        """Ready when `buffered` is 0, or the stream ended."""
    def ended(self) -> Readiness:
        """Ready when the state is "acknowledged" or any later one."""
    def error(self) -> Exception | None:
        """What `write` would raise; None while it would not, or after a clean finish."""

@final
class RecvStream:
    """The receiving half of a stream. Dropped before its end it is stopped with code 0."""

    @property
    def id(self) -> int: ...
    @property
    def state(self) -> str:
        """One of "open", "finished" (end of stream was read), "reset" (by the peer), "stopped" (by this side), "closed"
        (the session ended)."""
    @property
    def bytes_received(self) -> int:
        """Bytes that were read by the application."""
    @property
    def buffered(self) -> int:
        """Bytes that can be read without waiting."""
    @property
    def is_open(self) -> bool:
        """Whether the state is "open"."""
    @property
    def wait_times(self) -> tuple[float, float]:
        """Seconds spent in waits for data: their sum and the longest."""
    def try_read(self, max_bytes: int) -> bytes | None:
        """Up to `max_bytes` (-1: all) bytes as one object; b"" at the end of the stream; None: park on `readable`.

        Raises StreamError once what arrived before a reset or a session's end was read.
        """
    def try_read_into(self, buffer: Buffer) -> int | None:
        """Like `try_read` into a writable buffer: bytes copied, 0 at the end of the stream."""
    def stop(self, code: int) -> None:
        """STOP_SENDING with a WebTransport code; buffered data is dropped. Harmless on an ended stream."""
    def readable(self, limit: float | None = None) -> Readiness:
        """Ready when there are bytes, or the end. A limit in seconds."""
    def ended(self) -> Readiness:
        """Ready when the state is no longer "open"."""
    def error(self) -> Exception | None:
        """The error that ended the stream, None while open or after a clean end."""
