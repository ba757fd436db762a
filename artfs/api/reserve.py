"""A little space that is kept for the day when the disk is full.

SQLite cannot even read a catalog without 32 KiB for its readers' shared memory, so on a disk without a free block nobody
could look at versions, and `artfs delete` and `artfs gc`, which would free space, could not begin. So the state folder
holds a file that is worth nothing but its blocks.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

SIZE = 512 * 1024
"""Enough for the shared memory, the write-ahead log of a few changes, and the records of a daemon. In bytes."""

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""When giving it back helps."""

ROOM = 8 * 1024 * 1024
"""It is made only while this much is free; on a disk that is nearly full others need the space more. In bytes."""


def keep(home: Path) -> None:
    """Sees to it that the space is set aside, as far as that can be done now."""
    path = home / "reserve"
    with contextlib.suppress(OSError):
        if path.exists() and path.stat().st_blocks * 512 >= SIZE:
            return
        status = os.statvfs(home)
        if status.f_bavail * status.f_frsize < ROOM:
            return
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, SIZE)
        finally:
            os.close(descriptor)


def release(home: Path) -> bool:
    """Gives the space back. Whether there was any."""
    try:
        (home / "reserve").unlink()
    except OSError:
        return False
    return True
