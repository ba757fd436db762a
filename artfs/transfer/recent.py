"""What came a moment ago: its readers are about to come."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any


class Recent:
    """At most so many bytes of them, the last ones. Thread-safe.

    Keys are whatever the owner names them by.
    """

    def __init__(self, nbytes: int) -> None:
        self._limit = nbytes
        self._held: OrderedDict[Any, bytes] = OrderedDict()
        self._nbytes = 0
        self._lock = threading.Lock()

    def get(self, key: Any) -> bytes | None:
        with self._lock:
            data = self._held.get(key)
            if data is not None:
                self._held.move_to_end(key)
            return data

    def drop(self, key: Any) -> None:
        """Its reader has come. Not there is fine."""
        with self._lock:
            data = self._held.pop(key, None)
            if data is not None:
                self._nbytes -= len(data)

    def __contains__(self, key: Any) -> bool:
        return key in self._held

    def add(self, key: Any, data: bytes) -> None:
        with self._lock:
            if key not in self._held:
                self._held[key] = data
                self._nbytes += len(data)
                while self._nbytes > self._limit and len(self._held) > 1:
                    _, old = self._held.popitem(last=False)
                    self._nbytes -= len(old)


class JustKept:
    """Digests of small blobs that came into the cache, checked, and were not read yet: so many at most, the last ones.
    Thread-safe."""

    def __init__(self, count: int) -> None:
        self._limit = count
        self._digests: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, digest: str) -> bool:
        return digest in self._digests

    def add(self, digests: Iterable[str]) -> None:
        """From one thread only."""
        for digest in digests:
            self._digests[digest] = None
        while len(self._digests) > self._limit:
            self._digests.popitem(last=False)

    def drop(self, digest: str) -> None:
        """It was read, or is gone. Not there is fine."""
        self._digests.pop(digest, None)
