"""How far a call is: told to a function of the user's, or shown on a terminal.

    with artfs.progress(lambda told: print(told.phase, told.files, told.nbytes)):
        artifact.download()

The methods of the class reference have no argument for it, so it is said around them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TextIO

from artfs.transfer.progress import OnProgress
from artfs.wire.control import Progress

SHOWN_AFTER_S = 0.5
"""A bar that flashes up tells nobody anything."""
_WIDTH = 20
_CLEAR = "\r\x1b[K"


def _nobody(progress: Progress) -> None:
    pass


_listener: ContextVar[OnProgress | None] = ContextVar("artfs_progress", default=None)


@contextmanager
def progress(callback: Callable[[Progress], None] | None) -> Iterator[None]:
    """Inside of the `with`, long calls of this thread (add_dir, add_file, save, download, checkout, verify) tell
    `callback` how far they are, at most twenty times a second and once at the end, instead of showing a bar.

    It is given phase ("scan", "push", "save", "pull", "verify"), files, files_total, nbytes, nbytes_total; a total of 0 is
    not known. It may be called from other threads, never twice at once; what it raises ends the call, which raises it.
    None: nothing is told or shown.
    """
    token = _listener.set(_nobody if callback is None else callback)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def told() -> Iterator[OnProgress | None]:
    """Whom a call tells how far it is: the `callback` of `progress`, else a bar where stderr is a terminal, else nobody."""
    listener = _listener.get()
    if listener is not None:
        yield None if listener is _nobody else listener
        return
    stream = sys.stderr
    if stream is None or stream.closed or not stream.isatty():
        yield None
        return
    bar = Bar(stream)
    try:
        yield bar
    finally:
        bar.close()


class Bar:
    """One line on a terminal, rewritten in place, and gone at the end."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._began = clock()
        self._shown = False

    def __call__(self, told: Progress) -> None:
        if self._clock() - self._began >= SHOWN_AFTER_S:
            self._shown = True
            self._write(_CLEAR + describe(told))

    def close(self) -> None:
        if self._shown:
            self._write(_CLEAR)

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            pass  # the terminal is gone; the work goes on


def describe(told: Progress) -> str:
    """`pull [##########----------]  50 %  10,000/20,000 files  200.0/400.0 MB`, as far as it is known."""
    done, total = (told.nbytes, told.nbytes_total) if told.nbytes_total else (told.files, told.files_total)
    parts = [told.phase]
    if total:
        part = min(1.0, done / total)
        full = int(part * _WIDTH)
        parts.append(f"[{'#' * full}{'-' * (_WIDTH - full)}] {int(part * 100):3} %")
    if told.files or told.files_total:
        parts.append(f"{told.files:,}{f'/{told.files_total:,}' if told.files_total else ''} files")
    if told.nbytes or told.nbytes_total:
        total_mb = f"/{told.nbytes_total / 1e6:,.1f}" if told.nbytes_total else ""
        parts.append(f"{told.nbytes / 1e6:,.1f}{total_mb} MB")
    return "  ".join(parts)
