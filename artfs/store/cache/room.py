"""Room in the cache: how much may be taken in, and what goes for it."""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from artfs.errors import StorageError
from artfs.store.cache.index import PackRow, Row

if TYPE_CHECKING:
    from artfs.store.cache.cache import Cache

log = logging.getLogger(__name__)

_CREDIT = 64 * 1024 * 1024
"""Bytes that are taken in before the room is looked at again; each process may be ahead of its limit by as much."""
_SLACK = 0.95
"""Eviction goes on until so much of the limit is used, so that it is not needed again at once."""
_EVICTED = 200
"""Files that are locked and removed together."""
_PINNED_FOR_S = 60.0
"""How long the bytes of what is pinned count as known."""


class Room:
    """Of one cache, in one process. Thread-safe."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._lock = threading.Lock()
        self._credit = 0
        self._is_full_until = 0.0
        self._pinned: tuple[float, int] = (-_PINNED_FOR_S, 0)

    def close_for(self, seconds: float) -> None:
        """The disk refused something: nothing is taken in for a while (but for what was asked for before)."""
        self._is_full_until = time.monotonic() + seconds

    def forget_pins(self) -> None:
        """They change."""
        self._pinned = (-_PINNED_FOR_S, 0)

    def take(self, nbytes: int) -> bool:
        """Whether so many bytes may be taken in, after eviction where it is needed."""
        with self._lock:
            if self._credit >= nbytes:
                self._credit -= nbytes
                return True
            if time.monotonic() < self._is_full_until:
                return False
            try:
                self._credit = self._look(nbytes)
            except (StorageError, OSError) as error:
                log.warning("the cache cannot tell how much room there is: %s", error)
                self._credit = 0
            if self._credit < nbytes:
                self._credit = 0
                self._is_full_until = time.monotonic() + 1.0
                return False
            self._credit -= nbytes
            return True

    def _look(self, nbytes: int) -> int:
        self._cache.flush()
        room = self._free()
        wanted = nbytes + min(_CREDIT, self._cache.limit // 16)
        if room < wanted:
            self.evict(wanted - room + int(self._cache.limit * (1 - _SLACK)))
            room = self._free()
        return min(room, wanted)

    def _free(self) -> int:
        disk = os.statvfs(self._cache.root)
        free = disk.f_bavail * disk.f_frsize - self._cache.floor
        return min(free, self._cache.limit - (self._cache.index.totals()[0] - self._pinned_nbytes()))

    def _pinned_nbytes(self) -> int:
        when, nbytes = self._pinned
        if time.monotonic() - when >= _PINNED_FOR_S:
            nbytes = self._cache.index.pinned_totals()[0]
            self._pinned = (time.monotonic(), nbytes)
        return nbytes

    def evict(self, nbytes: int, on_blob: Callable[[int], None] | None = None) -> int:
        """Removes what was not used for longest, but nothing that is pinned or open, until `nbytes` are free that were
        not, or nothing is left; how many bytes that were. `on_blob`: told the bytes of each. The index must be up to date."""
        freed = skipped_files = skipped_packs = 0
        while freed < nbytes:
            files = self._cache.index.oldest(_EVICTED, skipped_files)
            packs = self._cache.index.oldest_packs(1, skipped_packs)
            if packs and (not files or packs[0].used_at <= files[0].used_at):
                pack = packs[0]
                if self._evict_pack(pack):
                    freed += pack.nbytes
                    if on_blob is not None:
                        on_blob(pack.nbytes)
                else:
                    skipped_packs += 1
                continue
            if not files:
                break
            until = packs[0].used_at if packs else None
            done, skipped = self._evict_files(files, nbytes - freed, until, on_blob)
            freed += done
            skipped_files += skipped
        return freed

    def _evict_pack(self, pack: PackRow) -> bool:
        try:
            return self._cache.packs.evict(pack)
        except OSError as error:
            raise StorageError.wrap(error, f"evicting from the cache {self._cache.root}") from error

    def _evict_files(
        self, rows: list[Row], nbytes: int, until: int | None, on_blob: Callable[[int], None] | None
    ) -> tuple[int, int]:
        """Some of `rows`, until `nbytes` are free or those that were used after `until` come. Returns (bytes that are free, how
        many were in use)."""
        freed = skipped = 0
        with ExitStack() as locks:
            going = []
            for row in rows:
                if freed >= nbytes or (until is not None and row.used_at > until):
                    break
                path = self._cache.file_of(row.digest, row.complete)
                try:
                    if not _try_lock(path, locks):
                        skipped += 1
                        continue
                except FileNotFoundError:
                    path = ""  # what has this name from now on is somebody else's
                going.append((row, path))
                freed += row.nbytes
            # The rows first, while nobody can use the files: who takes the same blob in afterwards gets a new row.
            self._cache.index.remove(row.digest for row, _ in going)
            for row, path in going:
                for end in () if not path else ("",) if row.complete else (".map", ""):
                    with suppress(FileNotFoundError):
                        os.unlink(path + end)
                if on_blob is not None:
                    on_blob(row.nbytes)
        return freed, skipped


def _try_lock(path: str, locks: ExitStack) -> bool:
    """Whether nobody uses the file; it stays so until `locks` are given back. Raises FileNotFoundError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        raise
    except OSError:
        return False
    locks.callback(os.close, fd)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
