"""Tells the kernel what it must ask for again, and notices what other processes change in the catalog.

Both are threads of their own. Invalidations may block in the kernel until a request on the same directory is
answered, so they never run on the loop's thread, and there is one thread for them, so that they stay in order. Only
names are invalidated, never pages: the content below a name never changes.
"""

from __future__ import annotations

import errno
import logging
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pyfuse3
import trio

from artfs.catalog.base import Catalog
from artfs.errors import ArtfsError
from artfsd.naming import Invalidation

log = logging.getLogger(__name__)


class Notifier:
    """The one thread that sends invalidations."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Invalidation | threading.Event | None] = queue.SimpleQueue()
        self.sent = 0
        self._thread = threading.Thread(target=self._work, name="notify", daemon=True)
        self._thread.start()

    def send(self, invalidations: list[Invalidation]) -> None:
        for invalidation in invalidations:
            self._queue.put(invalidation)

    def flush(self, timeout_s: float) -> bool:
        """Waits until the kernel took all that was sent before. Not for the loop's thread. False: time is up."""
        event = threading.Event()
        self._queue.put(event)
        return event.wait(timeout_s)

    def close(self) -> None:
        """Sends nothing more. A call that hangs in the kernel is left behind (the thread is a daemon)."""
        self._queue.put(None)

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            if isinstance(item, threading.Event):
                item.set()
                continue
            try:
                pyfuse3.invalidate_entry(item.parent, item.name)
                self.sent += 1
            except OSError as error:
                # Not known to the kernel (any more), or just being unmounted: there is nothing to tell.
                if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.EBADF):
                    log.warning("the kernel refused to forget %r: %s", item.name, error)


class Watcher:
    """Polls the catalog's change token and has every known directory of names read again when it moves.

    Arguments:
        nodes: called on the loop; the directories to re-read.
        apply: called on the loop with what re-reading gave.
        failed: called on the loop when the catalog cannot be read; the watcher goes on trying.
        tick: called on the watcher's thread before each look at the token; raises nothing.
    """

    def __init__(
        self,
        catalog: Catalog,
        poll_s: float,
        token: trio.lowlevel.TrioToken,
        *,
        nodes: Callable[[], list[Any]],
        apply: Callable[[list[Callable[[], list[Invalidation]]]], None],
        failed: Callable[[], None],
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        self._catalog = catalog
        self._poll_s = poll_s
        self._token = token
        self._nodes = nodes
        self._apply = apply
        self._failed = failed
        self._tick = tick
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._seen = catalog.change_token()
        self._healthy = True
        self._thread = threading.Thread(target=self._work, name="watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()

    def has_ended(self) -> bool:
        return self._stop.is_set()

    def _work(self) -> None:
        while not self._stop.wait(self._poll_s):
            try:
                self._tick()
                if self._catalog.change_token() != self._seen:
                    self.look()
            except trio.RunFinishedError:
                return
            except ArtfsError as error:
                if self._stop.is_set():
                    return  # the catalog was closed below us: the daemon ends
                if self._healthy:
                    log.error("the catalog cannot be watched: %s", error)
                    self._healthy = False
                    self._tell_failure()

    def _tell_failure(self) -> None:
        with suppress(trio.RunFinishedError):
            self._from_thread(self._failed)

    def look(self) -> None:
        """Reads the catalog again and applies it. Blocking; from any thread but the loop's."""
        with self._lock:
            seen = self._catalog.change_token()
            nodes = self._from_thread(self._nodes)
            applies = [node.reload() for node in nodes]
            self._from_thread(lambda: self._apply(applies))
            self._seen = seen
            if not self._healthy:
                log.info("the catalog is watched again")
                self._healthy = True

    def _from_thread(self, call: Callable[[], Any]) -> Any:
        return trio.from_thread.run_sync(call, trio_token=self._token)
