"""Checking all that the cache has: `artfs cache verify`."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from artfs.errors import CorruptError, SourceChangedError, StorageError
from artfs.model.blocklist import decode_block_list
from artfs.model.digests import digest_bytes
from artfs.store.cache.cache import Cache
from artfs.store.cache.partial import read_map_head
from artfs.store.verify import OnBytes, digest_file


@dataclass(slots=True)
class CacheCheck:
    """`checked`: blobs, `nbytes` of them. `damaged`: digests of those of which something was wrong and is gone now (it is
    fetched again when it is wanted). `unknown`: large blobs of which a part is here, and whose block list is not: they
    are checked when they are read."""

    checked: int = 0
    nbytes: int = 0
    damaged: list[str] = field(default_factory=list)
    unknown: int = 0


def check_cache(cache: Cache, *, on_bytes: OnBytes | None = None, on_blob: Callable[[], None] | None = None) -> CacheCheck:
    """Reads everything, and removes what is wrong. Raises StorageError."""
    found = CacheCheck()
    for path, complete in cache.files():
        digest = os.path.basename(path)
        if complete:
            _check_complete(cache, digest, found, on_bytes)
        else:
            _check_partial(cache, digest, path, found, on_bytes)
        if on_blob is not None:
            on_blob()
    for pack in cache.index.oldest_packs(-1):
        for raw, _, size in cache.index.in_pack(pack.number):
            _check_small(cache, raw.hex(), size, found)
            if on_bytes is not None:
                on_bytes(size)
            if on_blob is not None:
                on_blob()
    return found


def _check_small(cache: Cache, digest: str, size: int, found: CacheCheck) -> None:
    data = cache.packs.try_read(digest)
    if data is None:
        return  # it just went
    found.checked += 1
    found.nbytes += size
    if digest_bytes(data) != digest:
        cache.discard(digest)
        found.damaged.append(digest)


def _check_complete(cache: Cache, digest: str, found: CacheCheck, on_bytes: OnBytes | None) -> None:
    fd = cache.try_open(digest)
    if fd is None:
        return  # it is being written, or it just went
    try:
        size = os.fstat(fd).st_size
        try:
            right = digest_file(fd, size, on_bytes=on_bytes) == digest
        except SourceChangedError:
            right = False
    except OSError as error:
        raise StorageError.wrap(error, f"reading the cached blob {digest}") from error
    finally:
        os.close(fd)
    found.checked += 1
    found.nbytes += size
    if not right:
        cache.discard(digest)
        found.damaged.append(digest)


def _check_partial(cache: Cache, digest: str, path: str, found: CacheCheck, on_bytes: OnBytes | None) -> None:
    blocks, size = read_map_head(f"{path}.map")
    data = cache.try_read(blocks) if blocks else None
    top = None
    if data is not None:
        with suppress(CorruptError):
            top = decode_block_list(blocks, data, size)
    if top is None:
        found.unknown += 1
        return
    partial = cache.open_partial(digest, blocks, top)
    try:
        bad = []
        for index in range(partial.count):
            if not partial.has(index):
                continue
            try:
                partial.check(index, partial.read(index))
            except (CorruptError, LookupError, OSError):
                bad.append(index)
            found.nbytes += partial.span(index)[1]
            if on_bytes is not None:
                on_bytes(partial.span(index)[1])
        found.checked += 1
        if bad:
            partial.drop(bad)
            found.damaged.append(digest)
    finally:
        partial.close()

