"""The registry of sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pywebtransport.constants import DEFAULT_MAX_SESSIONS, DEFAULT_SESSION_CLEANUP_INTERVAL
from pywebtransport.exceptions import SessionError
from pywebtransport.manager._base import _BaseResourceManager
from pywebtransport.types import SessionId, SessionState

if TYPE_CHECKING:
    from pywebtransport.session.session import WebTransportSession

__all__: list[str] = ["SessionManager"]


class SessionManager(_BaseResourceManager[SessionId, "WebTransportSession"]):
    """The sessions of a server, up to a limit; use it as `async with`."""

    def __init__(
        self,
        max_sessions: int = DEFAULT_MAX_SESSIONS,
        session_cleanup_interval: float = DEFAULT_SESSION_CLEANUP_INTERVAL,
    ) -> None:
        """Make a registry that is not active yet.

        Args:
            max_sessions: greatest number of sessions.
            session_cleanup_interval: seconds between two sweeps over closed foreign sessions; those of this library
                leave at once.
        """
        super().__init__("session", max_sessions, session_cleanup_interval)

    async def add_session(self, session: WebTransportSession) -> SessionId:
        """Register a session and return its id. It leaves by itself when it is closed.

        Raises:
            SessionError: the limit is reached, or the manager is not activated.
        """
        self._add(session.session_id, session, SessionError)
        return session.session_id

    async def remove_session(self, session_id: SessionId) -> WebTransportSession | None:
        """Take a session out, without closing it; return it, or None for an unknown id."""
        return self._discard(session_id)

    async def get_sessions_by_state(self, state: SessionState) -> list[WebTransportSession]:
        """Return the sessions in this state."""
        return [session for session in self._resources.values() if session.state == state]

    async def _close_resource(self, resource: WebTransportSession) -> None:
        if not resource.is_closed:
            await resource.close(close_connection=False)

    def _key_of(self, resource: WebTransportSession) -> SessionId:
        return resource.session_id

    def _is_resource_closed(self, resource: WebTransportSession) -> bool:
        return resource.is_closed
