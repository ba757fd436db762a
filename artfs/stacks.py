"""What a process is doing, told to whoever asks with a signal.

SIGUSR1: a text of sections (threads with their stacks, and what else the process knows of itself) goes to standard error and to a
file. A thread of its own waits for the signal, which is blocked everywhere else: so it comes, too, while the main thread is stuck
in a system call or in C code, where a handler of Python's would never run, and it interrupts nothing.

SIGUSR2: the bare stacks, by `faulthandler`, from the signal handler itself. That needs no interpreter lock, so it is what is left
when C code holds the lock for ever; it looks at other threads while they run, which is why it is not the first means. The same
is done for SIGSEGV, SIGABRT (by which systemd ends a service that does not feed its watchdog), SIGBUS, SIGFPE and SIGILL.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

Section = tuple[str, Callable[[], Iterable[str]]]
"""A title, and what gives the lines below it; called in the thread of the dumps."""

MAX_LINES = 20_000
"""Of one section; a process with more is not read by a person anyway."""

STDERR = 2


def hold_signal() -> None:
    """Blocks SIGUSR1 in this thread and in all that it starts, and has faults tell their stacks. To be called first of all."""
    # For a thread that was there before: the default would end the process.
    signal.signal(signal.SIGUSR1, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    faulthandler.enable(file=STDERR, all_threads=True)
    faulthandler.register(signal.SIGUSR2, file=STDERR, all_threads=True, chain=False)


class Dumps:
    """Waits for SIGUSR1, which `hold_signal` has blocked, and tells.

    Arguments:
        who: what the process is, for people.
        path: the file that has the newest dump (0600, replaced in one step); None: none.
        prefix: what each line on standard error begins with ("<6>" for the journal).
    """

    def __init__(self, who: str, path: Path | None, *, prefix: str = "") -> None:
        self.sections: list[Section] = [("threads", thread_lines)]
        self._who = who
        self._path = path
        self._prefix = prefix

    def start(self) -> None:
        threading.Thread(target=self._wait, name="artfs-dumps", daemon=True).start()

    def _wait(self) -> None:
        while True:
            signal.sigwait({signal.SIGUSR1})
            self.dump()

    def dump(self) -> None:
        """To standard error first: the file is on a disk that may be what hangs."""
        lines = list(self.lines())
        _write(STDERR, "".join(f"{self._prefix}{line}\n" for line in lines))
        if self._path is not None:
            try:
                _replace(self._path, "".join(f"{line}\n" for line in lines))
            except OSError as error:
                _write(STDERR, f"{self._prefix}the dump was not written to {self._path}: {error}\n")

    def lines(self) -> Iterator[str]:
        """All of it. A section that cannot be told says why; what one tells may be a moment older than what the next one does."""
        yield f"---- what {self._who} is doing: process {os.getpid()}, {datetime.now(UTC).isoformat(timespec='milliseconds')}"
        for title, tell in self.sections:
            yield f"-- {title}"
            count = 0
            try:
                for line in tell():
                    count += 1
                    if count > MAX_LINES:
                        yield "   …"
                        break
                    # What is on a line came from names of files, too.
                    yield "   " + "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in line)
            except Exception as error:  # of a structure that changed while it was looked at
                yield f"   the rest cannot be told: {error!r}"
        yield f"---- end of what {self._who} is doing"


def thread_lines() -> Iterator[str]:
    """Every thread of this process with its stack, the innermost call last."""
    frames = sys._current_frames()
    threads = {thread.ident: thread for thread in threading.enumerate()}
    for ident, frame in frames.items():
        thread = threads.get(ident)
        name = thread.name if thread is not None else "of C"
        number = thread.native_id if thread is not None else None
        yield f"{name} (thread {number if number is not None else ident})"
        yield from stack_lines(traceback.walk_stack(frame), innermost_first=True)


def stack_lines(frames: Iterable[tuple[FrameType, int]], *, innermost_first: bool = False) -> list[str]:
    """One line a frame, without reading sources: their disk may be what hangs."""
    lines = [
        f"    {frame.f_code.co_filename}:{line} {getattr(frame.f_code, 'co_qualname', frame.f_code.co_name)}"
        for frame, line in frames
    ]
    return lines[::-1] if innermost_first else lines


def _write(descriptor: int, text: str) -> None:
    data = memoryview(text.encode(errors="backslashreplace"))
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except OSError:
            return  # nobody reads it any more


def _replace(path: Path, text: str) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        _write(descriptor, text)
    finally:
        os.close(descriptor)
    os.replace(aside, path)
