"""Gives memory back when nothing is fetched any more: malloc keeps what was freed, for the next request."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from artfs.store.linux import give_memory_back

IDLE_S = 0.2
"""After so long without a transfer, in seconds."""


class Shrinker:
    """Of one process. Thread-safe.

    Arguments:
        aside: where to wait; closed is fine.
        is_idle: whether nothing is under way. Called from threads of `aside`, and from whoever calls `ended`.
    """

    def __init__(
        self, aside: ThreadPoolExecutor, is_idle: Callable[[], bool], give_back: Callable[[], None] = give_memory_back
    ) -> None:
        self._aside = aside
        self._is_idle = is_idle
        self._give_back = give_back
        self._lock = threading.Lock()
        self._waits = False

    def ended(self) -> None:
        """A transfer ended. Does not block."""
        with self._lock:
            if self._waits or not self._is_idle():
                return
            self._waits = True
        with suppress(RuntimeError):  # the end has come
            self._aside.submit(self._shrink)

    def _shrink(self) -> None:
        time.sleep(IDLE_S)
        with self._lock:
            self._waits = False
        if self._is_idle():
            self._give_back()
