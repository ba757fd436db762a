"""Bytes that came a moment ago: their readers are about to come."""

from __future__ import annotations

import threading
from collections import OrderedDict
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
