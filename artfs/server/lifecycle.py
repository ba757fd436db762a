"""One process of the server from its start to its end: what runs, and whether it is stopping."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Lifecycle:
    """Belongs to one event loop.

    Attributes:
        stopping: set when the process was asked to end: streams without an end are ended then, and connections closed after
            their answers.
    """

    def __init__(self) -> None:
        self.stopping = asyncio.Event()
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def running(self) -> int:
        """Requests under way."""
        return self._running

    @contextmanager
    def request(self) -> Iterator[None]:
        self._running += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()

    async def drain(self, linger_s: float, limit_s: float) -> bool:
        """Says that it stops, and returns when nothing runs any more, or after `limit_s` (False). For `linger_s` it waits in
        any case: balancers need a moment to see that /readyz says no, and send requests until then."""
        self.stopping.set()
        await asyncio.sleep(min(linger_s, limit_s))
        try:
            await asyncio.wait_for(self._idle.wait(), max(0.0, limit_s - linger_s))
        except TimeoutError:
            return False
        return True
