"""What a daemon does beside serving when its catalog is a server's: it tells how things stand, and follows pins."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from artfs.api.session import Session
from artfs.errors import ArtfsError, StorageError
from artfs.model.names import parse_name
from artfs.transfer.pins import Pinning

AGAIN_S = 60.0
"""When pins that could not be followed for want of a good network are tried again, in seconds."""

log = logging.getLogger(__name__)

STATUS_FOR_S = 2.0
"""How old the numbers of the cache may be that the status shows, in seconds: they are sums over all of it."""


class ServerSide:
    """`close` it before the session. Methods are called on the loop's thread, and do not wait. `on_online`: told, on any
    thread, that the server can be reached again."""

    def __init__(self, session: Session) -> None:
        assert session.remote is not None
        self._session = session
        self._remote = session.remote
        self._pinning = Pinning(
            self._remote.server, self._remote.fetcher, session.pages, session.settings.network_timeout_s
        )
        self._remote.reach.on_move = self._told
        self._remote.reach.on_return = self._returned
        self.on_online: Callable[[], None] = lambda: None
        self._moved = threading.Event()
        self._closed = False
        self._cache: tuple[float, dict[str, Any]] = (-STATUS_FOR_S, {})
        self._thread = threading.Thread(target=self._run, name="artfs-pins", daemon=True)
        self._thread.start()

    def _told(self, is_online: bool, what: str) -> None:
        if is_online:
            log.warning("%s can be reached again", self._remote.server)
        else:
            log.warning("%s cannot be reached: %s", self._remote.server, what)

    def _returned(self) -> None:
        self._moved.set()  # pins may have stayed behind
        self.on_online()

    def names_moved(self) -> None:
        """Aliases may name other versions now."""
        self._moved.set()

    def close(self) -> None:
        self._closed = True
        self._moved.set()

    def status(self) -> dict[str, Any]:
        """For `.artfs/status`."""
        reach = self._remote.reach
        return {
            "server": {
                "url": self._remote.server,
                "online": not reach.is_troubled,
                "events": reach.is_listening(),
                "away_for_s": round(reach.away_for_s, 1),
                "reason": reach.reason,
                "latency_s": reach.latency_s,
            },
            "cache": self._cache_status(),
            "transfers": self._remote.fetcher.status(),
        }

    def _cache_status(self) -> dict[str, Any]:
        when, found = self._cache
        if time.monotonic() - when >= STATUS_FOR_S:
            try:
                status = self._remote.fetcher.cache.status()
                found = {
                    "path": status.path,
                    "size": status.nbytes,
                    "blobs": status.count,
                    "pinned_size": status.pinned_nbytes,
                    "limit": status.limit,
                    "free": status.free,
                }
            except (StorageError, OSError) as error:
                found = {"error": str(error)}
            self._cache = (time.monotonic(), found)
        return found

    def _run(self) -> None:
        is_done = True
        while True:
            # A server that is away is not asked again and again: `_returned` tells.
            self._moved.wait(None if is_done or self._remote.reach.is_troubled else AGAIN_S)
            self._moved.clear()
            if self._closed:
                return
            try:
                is_done = self._pinning.follow(self._root_of)
            except ArtfsError as error:
                if not self._closed:
                    log.warning("pins cannot be followed: %s", error)

    def _root_of(self, label: str) -> str:
        name = parse_name(label, self._session.settings.entity, self._session.settings.project)
        member = self._session.catalog.resolve(name.entity, name.project, name.collection, name.alias or "latest")
        return member.version.digest
