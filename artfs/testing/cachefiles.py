"""Looking into a cache, and doing it harm, for tests: small blobs are in packs, large ones files of their own."""

from __future__ import annotations

import os
from pathlib import Path

from artfs.model.blocklist import decode_block_list
from artfs.model.digests import BLOCK_SIZE
from artfs.model.records import Content
from artfs.store.cache import Cache, Partial
from artfs.store.verify import hash_bytes


def cached_digests(cache: Cache) -> set[str]:
    """Of every complete blob."""
    found = {path.name for path in (cache.root / "blobs").glob("*/*")}
    for row in cache.index.oldest_packs(-1):
        found.update(raw.hex() for raw, _, _ in cache.index.in_pack(row.number))
    return found


def damage_cached(cache: Cache, digest: str, at: int = 0) -> None:
    """Flips a byte of a complete blob. Raises LookupError when it is not there."""
    cache.flush()
    spot = cache.find_small(digest)
    path = Path(spot.pack.path) if spot is not None else cache.path_of(digest)
    offset = at + (spot.offset if spot is not None else 0)
    if not path.exists():
        raise LookupError(digest)
    mode = path.stat().st_mode
    path.chmod(0o600)
    fd = os.open(path, os.O_RDWR)
    try:
        (byte,) = os.pread(fd, 1, offset)
        os.pwrite(fd, bytes([byte ^ 0xFF]), offset)
    finally:
        os.close(fd)
        path.chmod(mode & 0o777)


def partial_of(cache: Cache, data: bytes) -> tuple[Content, Partial]:
    """What is here of a large blob, opened."""
    content, objects = hash_bytes(data)
    top = decode_block_list(content.blocks, objects[-1], len(data))
    return content, cache.open_partial(content.digest, content.blocks, top)


def fill(cache: Cache, partial: Partial, data: bytes, indexes: range) -> None:
    """Brings some of its blocks."""
    for index in indexes:
        block = data[index * BLOCK_SIZE : (index + 1) * BLOCK_SIZE]
        partial.check(index, block)
        assert cache.keep_block(partial, index, block)


def read_cached(cache: Cache, digest: str) -> bytes | None:
    """What the cache has of a complete blob."""
    fd = cache.try_open(digest)
    if fd is None:
        return None
    with os.fdopen(fd, "rb") as stream:
        return stream.read()
