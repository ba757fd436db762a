"""Small blobs that the cache gets together: each call costs it more than each blob does."""

from __future__ import annotations

from collections.abc import Callable

from artfs.store.cache import CheckedBlob

KEEP_NBYTES = 256 * 1024
KEEP_COUNT = 256
"""So much is given to the cache at once."""


class Together:
    """Not thread-safe. `keep`: called with some of them, when they are enough or it is the end (`flush`)."""

    def __init__(self, keep: Callable[[list[CheckedBlob]], None]) -> None:
        self._keep = keep
        self._held: list[CheckedBlob] = []
        self._nbytes = 0

    def add(self, blob: CheckedBlob) -> None:
        self._held.append(blob)
        self._nbytes += len(blob[1])
        if self._nbytes >= KEEP_NBYTES or len(self._held) >= KEEP_COUNT:
            self.flush()

    def flush(self) -> None:
        held, self._held, self._nbytes = self._held, [], 0
        if held:
            self._keep(held)
