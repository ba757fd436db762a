"""Telling a store that must fetch its blobs which ones come next."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from artfs.model.records import Content
from artfs.store.base import BlobStore, FarStore

T = TypeVar("T")

_COUNT = 4096
_NBYTES = 48 * 1024 * 1024
_AT_ONCE = 512
"""Blobs that are told of together."""


def announced(items: Iterable[T], blobs_of: Callable[[T], Iterable[Content]], store: BlobStore) -> Iterator[T]:
    """`items`, in their order; a FarStore is told of their blobs some thousand blobs (or 48 MiB) before each is given."""
    return _announced(items, blobs_of, store) if isinstance(store, FarStore) else iter(items)


def _announced(items: Iterable[T], blobs_of: Callable[[T], Iterable[Content]], store: FarStore) -> Iterator[T]:
    held: deque[tuple[T, int, int]] = deque()
    untold: list[Content] = []
    count = nbytes = 0
    for item in items:
        blobs = list(blobs_of(item))
        size = sum(blob.size for blob in blobs)
        held.append((item, len(blobs), size))
        count += len(blobs)
        nbytes += size
        untold += blobs
        is_full = count >= _COUNT or nbytes >= _NBYTES
        if untold and (is_full or len(untold) >= _AT_ONCE):
            store.will_read(untold)
            untold = []
        while held and (count >= _COUNT or nbytes >= _NBYTES):
            item, number, size = held.popleft()
            count -= number
            nbytes -= size
            yield item
    if untold:
        store.will_read(untold)
    for item, _, _ in held:
        yield item
