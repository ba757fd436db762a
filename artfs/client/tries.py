"""How often and when a transfer that was cut is gone on with."""

from __future__ import annotations

import random
import time

from artfs.errors import ArtfsError, OfflineError, RateLimitedError, WaitTimeoutError
from artfs.wire.backoff import Backoff

SILENCE_S = 15.0
"""A transfer that brings nothing for so long is cut, and tried again."""


class Tries:
    """Waits between the tries of one transfer, until its deadline. The count begins anew when something came."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._tried = 0

    def silence_s(self) -> float:
        """How long nothing may come. One that has gone silent is asked again while there is time."""
        left = self._deadline - time.monotonic()
        return max(min(SILENCE_S, max(left / 3, 1.0), left), 0.05)

    def progressed(self) -> None:
        self._tried = 0

    def wait(self, error: ArtfsError) -> None:
        """Raises `error` when there is no time for another try, or no use in one."""
        if isinstance(error, (OfflineError, WaitTimeoutError)):
            raise error
        self._tried += 1
        left = self._deadline - time.monotonic()
        asked = error.retry_after_s if isinstance(error, RateLimitedError) else None
        wait_s = Backoff(max(left, 0.0)).wait_s(self._tried, 0.0, random.random(), asked)  # noqa: S311
        if wait_s is None:
            raise error
        time.sleep(wait_s)
