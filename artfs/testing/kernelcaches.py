"""The caches of the kernel are everybody's: tests that empty them, and tests that count what they spare, keep out of each other's
way, in whichever process of pytest they run."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LOCK = Path(tempfile.gettempdir()) / "artfs-kernel-caches.lock"


@contextmanager
def _held(how: int) -> Iterator[None]:
    with _LOCK.open("a") as lock:
        fcntl.flock(lock, how)
        yield


@contextmanager
def left_alone() -> Iterator[None]:
    """Nobody empties them in the body."""
    with _held(fcntl.LOCK_SH):
        yield


def drop_caches() -> None:
    """Has the kernel let go of all names and inodes that nobody uses, and of their pages, so that it sends FORGET for ours."""
    with _held(fcntl.LOCK_EX):
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("2")
