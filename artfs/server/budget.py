"""How much of what callers send is in memory at once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Budget:
    """`nbytes` bytes, of which each body takes what it will need, and waits for it: first come, first served. By bytes and not by
    bodies, because clients make bodies small where the link is slow: many slow ones leave room for others. For one event loop."""

    def __init__(self, nbytes: int) -> None:
        self._total = nbytes
        self._left = nbytes
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def take(self, nbytes: int) -> AsyncIterator[None]:
        """More than there is at all is all of it; who needs nothing waits for nobody."""
        nbytes = max(0, min(nbytes, self._total))
        if nbytes and (self._waiting or nbytes > self._left):
            await self._wait(nbytes)
        else:
            self._left -= nbytes
        try:
            yield
        finally:
            self._give(nbytes)

    async def _wait(self, nbytes: int) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((nbytes, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                with suppress(ValueError):  # who gave meanwhile has passed it over
                    self._waiting.remove((nbytes, turn))
                self._give(0)  # others may have waited for this one only
            else:
                self._give(nbytes)  # it was its turn just then
            raise

    def _give(self, nbytes: int) -> None:
        self._left += nbytes
        while self._waiting:
            wanted, turn = self._waiting[0]
            if not turn.cancelled():  # who was cancelled has not run since
                if wanted > self._left:
                    return
                self._left -= wanted
                turn.set_result(None)
            self._waiting.popleft()
