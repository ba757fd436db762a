"""Work that takes longer than a caller may wait in silence: it runs in a thread, and tells of itself line by line."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Callable
from typing import Generic, TypeVar

from artfs.errors import ArtfsError
from artfs.wire.errors import error_fields

LINE_S = 2.0
"""How often the caller hears of us at least, in seconds."""

log = logging.getLogger(__name__)

L = TypeVar("L")


class LongCall(Generic[L]):
    """Runs to its end, whether somebody listens or not. For one event loop.

    Arguments:
        name: of the thread.
        first: the line that is told before the first step.
        work: is given what tells a line, and returns the last one. What it raises becomes the last line.
        failed: makes that line of the fields of an error's body.
    """

    def __init__(
        self, name: str, first: L, work: Callable[[Callable[[L], None]], L], failed: Callable[[dict[str, str]], L]
    ) -> None:
        self._work = work
        self._failed = failed
        self._told = [first]
        self._last: L | None = None
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def is_over(self) -> bool:
        return self._last is not None

    async def lines(self) -> AsyncIterator[L]:
        """Lines as they come, the newest again and again; the last one says what came of it."""
        at = 0
        while True:
            changed = self._changed
            line = self._told[at]
            yield line
            if line is self._last:
                return
            if at + 1 == len(self._told):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LINE_S):
                        await changed.wait()
            at = min(at + 1, len(self._told) - 1)

    def _run(self) -> None:
        name = self._thread.name
        try:
            last = self._work(self._tell)
        except ArtfsError as error:
            log.info("%s: %s", name, error)
            last = self._failed({key: str(value) for key, value in error_fields(error).items()})
        except Exception:
            log.exception("%s failed", name)
            last = self._failed({"kind": "error", "message": "the server made a mistake; its log says more"})
        self._last = last
        self._tell(last)

    def _tell(self, line: L) -> None:
        self._told.append(line)
        with contextlib.suppress(RuntimeError):  # the loop has ended; nobody listens any more
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
