"""Progress of long work on stderr: a bar on a terminal (rich), a plain line every few seconds elsewhere,
nothing when quiet."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from artfs.cli.output import human_size, note
from artfs.wire.control import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

PLAIN_INTERVAL_S = 5.0


def describe(progress: Progress, elapsed_s: float) -> str:
    """One line: phase, files, bytes, rate and, when the total is known, the time left; as far as there is any to tell."""
    told = details(progress, elapsed_s)
    return f"{progress.phase}: {told}" if told else progress.phase


def details(progress: Progress, elapsed_s: float) -> str:
    """The same without the phase; "" for a phase that counts nothing."""
    parts = []
    if progress.files or progress.files_total:
        parts.append(
            f"{progress.files:,}" + (f"/{progress.files_total:,}" if progress.files_total else "") + " files"
        )
    if progress.nbytes or progress.nbytes_total:
        total = f"/{human_size(progress.nbytes_total)}" if progress.nbytes_total else ""
        parts.append(human_size(progress.nbytes) + total)
    if elapsed_s > 0 and progress.nbytes:
        rate = progress.nbytes / elapsed_s
        parts.append(f"{human_size(int(rate))}/s")
        if progress.nbytes_total > progress.nbytes:
            parts.append(f"{duration((progress.nbytes_total - progress.nbytes) / rate)} left")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """`seconds` as "12 s", "3:05", "1:02:03"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


class ProgressView:
    """Shows what it is called with. Thread-safe; a context manager, which leaves the terminal clean.

    A call is cheap and may come as often as it likes; `quiet` shows nothing.
    """

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._lock = threading.Lock()
        self._phase = ""
        self._began = time.monotonic()
        self._printed = self._began
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if not self._quiet and sys.stderr.isatty():
            self._bar = _make_bar()
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, progress: Progress) -> None:
        if self._quiet:
            return
        with self._lock:
            now = time.monotonic()
            if progress.phase != self._phase:
                self._phase = progress.phase
                self._began = now
                self._task = None
            if self._bar is not None:
                self._show_bar(self._bar, progress, now - self._began)
            elif now - self._printed >= PLAIN_INTERVAL_S:
                self._printed = now
                note(describe(progress, now - self._began))

    def _show_bar(self, bar: RichProgress, progress: Progress, elapsed_s: float) -> None:
        is_new = self._task is None
        if self._task is None:
            for old in bar.task_ids:
                bar.remove_task(old)
            self._task = bar.add_task(progress.phase, total=None, told="")
        # Bytes measure the work best; where none are counted, files do. Without a total the bar only moves.
        if progress.nbytes_total:
            completed, total = progress.nbytes, progress.nbytes_total
        else:
            completed, total = progress.files, progress.files_total
        told = details(progress, elapsed_s)
        bar.update(self._task, completed=completed, total=total or None, told=told, refresh=is_new)


def _make_bar() -> RichProgress:
    # Imported here because rich costs more than the rest of a short command; only a terminal needs it.
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    return Bar(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[told]}"),
        console=Console(stderr=True),
        transient=True,
        expand=True,
    )
