"""Progress of long work, told at most twenty times a second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from artfs.store.base import SendingBatch, StoreBatch
from artfs.wire.control import Progress

OnProgress = Callable[[Progress], None]

_PERIOD_S = 0.05


class Meter:
    """Counts what is done. Thread-safe: `on_progress` is never called twice at once.

    As a context manager it tells the last numbers when the work ends without an error.

    Arguments:
        on_progress: None: nobody wants to know.
        phase: one word for the work ("push", "verify", …).
        files_total, nbytes_total: how much there is to do; 0: not known.
    """

    def __init__(
        self, on_progress: OnProgress | None, phase: str, files_total: int = 0, nbytes_total: int = 0
    ) -> None:
        self._on_progress = on_progress
        self._phase = phase
        self._files_total = files_total
        self._nbytes_total = nbytes_total
        self._files = 0
        self._nbytes = 0
        self._lock = threading.Lock()
        self._next = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.finish()

    def advance(self, files: int = 0, nbytes: int = 0) -> None:
        """So much more is done. Raises what `on_progress` raises."""
        if self._on_progress is None:
            return
        with self._lock:
            self._files += files
            self._nbytes += nbytes
            now = time.monotonic()
            if now >= self._next:
                self._next = now + _PERIOD_S
                self._tell()

    def finish(self) -> None:
        """Tells the numbers as they are now."""
        with self._lock:
            self._tell()

    def _tell(self) -> None:
        if self._on_progress is not None:
            self._on_progress(
                Progress(self._phase, self._files, self._files_total, self._nbytes, self._nbytes_total)
            )


def sync(batch: StoreBatch, on_progress: OnProgress | None, phase: str) -> None:
    """`batch.sync()`, and what is told of it: `phase` at its beginning, and while a server's batch sends, how far that is."""
    if on_progress is not None:
        on_progress(Progress(phase, 0, 0, 0, 0))
        if isinstance(batch, SendingBatch):
            batch.tell(lambda sent, due: on_progress(Progress(phase, 0, 0, sent, due)))
    batch.sync()
