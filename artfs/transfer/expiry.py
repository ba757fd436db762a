"""Versions whose time is up: deleting them, and when to look. `artfs gc`, the daemon and a server do it; the blobs go with the
next garbage collection."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

from artfs.catalog.base import Catalog
from artfs.errors import ArtfsError
from artfs.model.records import Member

PORTION = 50
"""So many in one transaction: others wait for the catalog's lock meanwhile."""

GAP_S = 1.0
"""The moment of the next expiry is looked up at most so often, and so that it takes a twentieth of the thread's time."""

RETRY_S = 60.0
"""After an error."""

log = logging.getLogger(__name__)


def now() -> datetime:
    return datetime.now(UTC)


def expire_all(catalog: Catalog) -> list[Member]:
    """Deletes every version that is due (Catalog.expire); returns their source members as they were. An interruption leaves
    some deleted and the others as they were. Raises StorageError, CatalogError."""
    gone: list[Member] = []
    while portion := catalog.expire(PORTION):
        gone += portion
    return gone


class Expiry:
    """Knows when the next version is due, and deletes it then. Used by one thread. `ended`: whether the catalog is being closed;
    then what it says is no news."""

    def __init__(
        self, catalog: Catalog, *, wall: Callable[[], datetime] = now, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Asks the catalog nothing yet. `wall`: the time of day, `clock`: seconds that only grow."""
        self._catalog = catalog
        self._wall = wall
        self._clock = clock
        self._seen: int | None = None
        self._due: datetime | None = None
        self._not_before = float("-inf")
        self.ended: Callable[[], bool] = lambda: False

    def tick(self) -> None:
        """Expires what is due. Errors are logged, and it is tried again later."""
        if self._clock() < self._not_before:
            return
        try:
            token = self._catalog.change_token()
            if token != self._seen:
                self._look(token)
            if self._due is not None and self._due <= self._wall():
                for member in expire_all(self._catalog):
                    log.info("%s has expired", member.qualified_name)
                self._look(self._catalog.change_token())
        except ArtfsError as error:
            if self.ended():
                return
            log.warning("versions whose time is up cannot be deleted: %s", error)
            self._not_before = self._clock() + RETRY_S

    def _look(self, token: int) -> None:
        begun = self._clock()
        self._due = self._catalog.next_expiry()
        self._seen = token
        ended = self._clock()
        self._not_before = ended + max(GAP_S, 20 * (ended - begun))
        if self._due is not None:
            # What is known to be due sooner is not kept waiting.
            self._not_before = min(self._not_before, ended + max(0.0, (self._due - self._wall()).total_seconds()))
