"""The sweep: removes the blobs that nobody marked."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from artfs.model.digests import RAW_LENGTH, to_raw
from artfs.store.base import BlobStore


class SweepableStore(BlobStore, Protocol):
    """A store that can keep all writers away for a while."""

    def exclusive(self, on_wait: Callable[[str], None] = ...) -> AbstractContextManager[None]:
        """Inside, no batch of any process is under way and none begins. Waits for those that are, after telling
        `on_wait` so in one line; a thread inside a batch of its own would wait for ever."""
        ...


class Marks:
    """A set of digests that takes some 32 bytes for each one marked; quick to ask in the order of digests."""

    def __init__(self) -> None:
        self._fans = [bytearray() for _ in range(256)]
        self._asked = -1
        self._found: frozenset[bytes] = frozenset()

    def add(self, digest: str) -> None:
        """Marks it; a second time does no harm. Raises InvalidNameError for what is no digest."""
        raw = to_raw(digest)
        fan = self._fans[raw[0]]
        fan += raw
        if raw[0] == self._asked:
            self._asked = -1

    def __contains__(self, digest: str) -> bool:
        raw = to_raw(digest)
        if raw[0] != self._asked:
            fan = bytes(self._fans[raw[0]])
            self._found = frozenset(fan[at : at + RAW_LENGTH] for at in range(0, len(fan), RAW_LENGTH))
            self._asked = raw[0]
        return raw in self._found


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep found, in blobs and bytes. `removed`: what it removed, or would have (`dry_run`)."""

    kept: int
    kept_nbytes: int
    removed: int
    removed_nbytes: int
    dry_run: bool


def sweep(
    store: SweepableStore, marks: Marks, *, dry_run: bool = False,
    on_blob: Callable[[int], None] | None = None,
) -> Swept:
    """Removes every blob that is not in `marks`. The caller holds `store.exclusive()` since before it began to mark.

    `on_blob`: told the size of each blob that was looked at. Raises StorageError; what was not reached is still there.
    """
    kept = kept_nbytes = removed = removed_nbytes = 0
    for digest, size in store.blobs():
        if digest in marks:
            kept += 1
            kept_nbytes += size
        else:
            if not dry_run:
                store.remove(digest)
            removed += 1
            removed_nbytes += size
        if on_blob is not None:
            on_blob(size)
    return Swept(kept, kept_nbytes, removed, removed_nbytes, dry_run)
