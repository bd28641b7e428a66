"""What the managers of connections and sessions share.

A manager is a registry with a limit. Objects of this library leave it by themselves: they call back when they have
ended. Foreign objects with the same public members cannot; the first one that is added starts a task that sweeps.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from pywebtransport.utils import get_logger

__all__: list[str] = []

logger = get_logger(__name__)

ResourceId = TypeVar("ResourceId")
ResourceType = TypeVar("ResourceType")


class _BaseResourceManager(ABC, Generic[ResourceId, ResourceType]):
    """A registry with a limit; use it as `async with`."""

    def __init__(self, resource_name: str, max_resources: int, cleanup_interval: float) -> None:
        """Make a registry that is not active yet.

        Args:
            resource_name: "connection", "session" or "stream"; appears in texts and in `get_stats`.
            max_resources: greatest number of entries.
            cleanup_interval: seconds between two sweeps.
        """
        self._name = resource_name
        self._max_resources = max_resources
        self._interval = cleanup_interval
        self._resources: dict[ResourceId, ResourceType] = {}
        self._active = False
        self._sweeper: asyncio.Task[None] | None = None
        self._on_leave: Callable[[ResourceType], None] | None = None
        self._total_created = self._total_closed = self._max_concurrent = 0

    async def __aenter__(self) -> Self:
        """Activate it."""
        self._active = True
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        """Close everything."""
        await self.shutdown()

    async def shutdown(self) -> None:
        """Close every entry and stop. Waits for the closes; one that fails is logged. Idempotent."""
        self._active = False
        sweeper, self._sweeper = self._sweeper, None
        if sweeper is not None and sweeper is not asyncio.current_task():
            sweeper.cancel()
            await asyncio.wait([sweeper])
        entries = list(self._resources.values())
        for outcome in await asyncio.gather(*map(self._close_resource, entries), return_exceptions=True):
            if isinstance(outcome, Exception):
                logger.warning("Closing a %s failed: %s", self._name, outcome)
        self._total_closed += len(self._resources)
        self._resources.clear()

    async def cleanup_closed_resources(self) -> int:
        """Remove the entries that are closed; return how many."""
        closed = [key for key, resource in self._resources.items() if self._is_resource_closed(resource)]
        return sum(self._discard(key) is not None for key in closed)

    async def get_all_resources(self) -> list[ResourceType]:
        """Return the entries."""
        return list(self._resources.values())

    async def get_resource(self, resource_id: ResourceId) -> ResourceType | None:
        """Return the entry with this id, or None."""
        return self._resources.get(resource_id)

    async def get_stats(self) -> dict[str, Any]:
        """Return total_created, total_closed, current_count, max_concurrent, active (entries not closed), the limit and
        the number of entries per state; an empty dictionary before activation."""
        if not self._active:
            return {}
        entries = await self.get_all_resources()
        return {
            "total_created": self._total_created,
            "total_closed": self._total_closed,
            "current_count": len(entries),
            "max_concurrent": self._max_concurrent,
            "active": sum(not self._is_resource_closed(entry) for entry in entries),
            f"max_{self._name}s": self._max_resources,
            "states": dict(Counter(getattr(entry, "state", "unknown") for entry in entries)),
        }

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self._resources)

    # --- for subclasses ---

    @abstractmethod
    async def _close_resource(self, resource: ResourceType) -> None:
        """Close one entry."""

    @abstractmethod
    def _key_of(self, resource: ResourceType) -> ResourceId:
        """Return the key that an entry is registered with."""

    @abstractmethod
    def _is_resource_closed(self, resource: ResourceType) -> bool:
        """Tell whether an entry is closed."""

    def _add(self, key: ResourceId, resource: ResourceType, error: Callable[[str], Exception]) -> None:
        """Register an entry, or raise what `error` makes of the reason."""
        if not self._active:
            raise error(f"{self._name.capitalize()} manager is not activated: use it as `async with`")
        if key not in self._resources:
            if len(self._resources) >= self._max_resources:
                raise error(f"Maximum {self._name}s ({self._max_resources}) exceeded")
            self._total_created += 1
        self._resources[key] = resource
        self._max_concurrent = max(self._max_concurrent, len(self._resources))
        on_close = getattr(resource, "_on_close", None)
        if on_close is not None:
            if self._on_leave is None:
                self._on_leave = self._leave  # one object for all entries
            on_close(self._on_leave)
        elif self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().create_task(self._sweep(), name=f"{self._name}-manager")

    def _leave(self, resource: ResourceType) -> None:
        """Take out an entry that has ended."""
        self._discard(self._key_of(resource))

    def _discard(self, key: ResourceId) -> ResourceType | None:
        """Take an entry out."""
        resource = self._resources.pop(key, None)
        if resource is not None:
            self._total_closed += 1
        return resource

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self.cleanup_closed_resources()
            except Exception:
                logger.exception("Cleaning up %ss failed", self._name)
