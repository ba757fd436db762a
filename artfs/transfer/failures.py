"""What went wrong a moment ago: whoever asks for the same is told so, and does not wait again."""

from __future__ import annotations

import threading
from collections.abc import Callable

from artfs.errors import ArtfsError


class Failures:
    """By what was asked for; each is forgotten after a while. Thread-safe.

    Arguments:
        for_s: that while, in seconds.
        clock: seconds that only go up.
    """

    def __init__(self, for_s: float, clock: Callable[[], float]) -> None:
        self._for_s = for_s
        self._clock = clock
        self._lock = threading.Lock()
        self._failed: dict[str, tuple[ArtfsError, float]] = {}  # the oldest first

    def note(self, key: str, error: ArtfsError) -> None:
        with self._lock:
            now = self._clock()
            while self._failed:
                oldest = next(iter(self._failed))
                if self._failed[oldest][1] >= now:
                    break
                del self._failed[oldest]
            self._failed.pop(key, None)
            self._failed[key] = (error.again(), now + self._for_s)

    def has(self, key: str) -> bool:
        return self._find(key) is not None

    def raise_for(self, key: str) -> None:
        """Raises what went wrong with it lately, if anything did."""
        error = self._find(key)
        if error is not None:
            raise error.again()

    def _find(self, key: str) -> ArtfsError | None:
        with self._lock:
            failure = self._failed.get(key)
            if failure is None:
                return None
            if failure[1] < self._clock():
                del self._failed[key]
                return None
            return failure[0]
