"""System calls, and functions of the C library, that Python does not have."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

AT_FDCWD = -100
RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2

libc = ctypes.CDLL(None, use_errno=True)


def syscall(name: str, *arguments: object) -> int:
    """A function of the C library. Raises OSError."""
    given = [os.fsencode(each) if isinstance(each, str | Path) else each for each in arguments]
    result: int = getattr(libc, name)(*given)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def renameat2(old: Path, new: Path, flags: int) -> None:
    """renameat2(2). Raises OSError."""
    syscall("renameat2", AT_FDCWD, old, AT_FDCWD, new, flags)
