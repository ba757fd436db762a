"""The free space that artfs leaves on a disk, so that it never fills one up by itself."""

from __future__ import annotations

import errno
import os

from artfs.errors import StorageError

_PAGE = 4096
_LARGEST_CREDIT = 64 * 1024 * 1024


class Floor:
    """Looks at the free space of a file system before bytes are written to it, and not each time.

    Arguments:
        path: of something on it.
        nbytes: what must stay free; 0: nothing.
        what: for whom, in messages ("the store /…").
    Threads may share one; what they write at the same moment may then go a little below it.
    """

    def __init__(self, path: str, nbytes: int, what: str) -> None:
        self.nbytes = nbytes
        self._path = path
        self._what = what
        self._credit = 0  # bytes that may be written before the free space is looked at again

    def lacks(self, nbytes: int) -> bool:
        """Whether so many more bytes would go below it; if not, they count as written. Raises StorageError."""
        if not self.nbytes:
            return False
        nbytes += _PAGE
        if nbytes > self._credit:
            try:
                status = os.statvfs(self._path)
            except OSError as error:
                raise StorageError.wrap(error, f"asking for the free space of {self._path}") from error
            free = status.f_bavail * status.f_frsize - self.nbytes
            if nbytes > free:
                return True
            # Others write to this disk, too: the nearer the floor, the more often it is looked at.
            self._credit = max(nbytes, min(free // 16, _LARGEST_CREDIT))
        self._credit -= nbytes
        return False

    def check(self, nbytes: int) -> None:
        """Raises StorageError (ENOSPC) when `lacks` says so."""
        if self.lacks(nbytes):
            raise self.error()

    def error(self) -> StorageError:
        kept = f"{self.nbytes / 2**20:.0f} MiB" if self.nbytes >= 2**20 else f"{self.nbytes / 2**10:.0f} KiB"
        return StorageError(
            f"no space left for {self._what}: artfs keeps {kept} free;"
            " free some space (`artfs gc` removes what no version needs)",
            errno.ENOSPC,
        )
