"""The bytes of one blob for whoever reads parts of it, each checked before it is given away."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from artfs.model.digests import BLOCK_SIZE, BLOCKS_ABOVE
from artfs.model.records import Content
from artfs.store.base import BlobStore
from artfs.store.blocks import BlobChecker

if TYPE_CHECKING:
    # Not needed without a server.
    from artfs.transfer.fetch import Fetcher
    from artfs.transfer.largeblob import LargeBlob

_STEP = 128 * BLOCK_SIZE
"""Bytes (32 MiB) that are waited for together: a slow network must not make one large read run out of time."""
_MAX_AHEAD = 64 * BLOCK_SIZE


class CheckedBytes(Protocol):
    """Not for two threads at once. It stays readable when the blob is removed meanwhile."""

    def read(self, offset: int, nbytes: int) -> bytes:
        """Those bytes, as far as the blob goes. Raises BadBlobError for what does not match (and goes on elsewhere),
        StorageError; of what comes from a server also BlobMissingError, UnavailableError."""
        ...

    def close(self) -> None:
        """Once."""
        ...


class StoredBytes:
    """CheckedBytes of a blob in a store of this machine. Raises BlobMissingError, BadObjectError, BadBlobError (of its block
    list), StorageError."""

    def __init__(self, store: BlobStore, content: Content) -> None:
        self._checker = BlobChecker.of(content, store.read)
        self._whole = b""
        self._fd = store.open_blob(content.digest)
        try:
            self._checker.prepare()
        except BaseException:
            os.close(self._fd)
            raise

    def read(self, offset: int, nbytes: int) -> bytes:
        end = min(offset + nbytes, self._checker.size)
        if offset >= end:
            return b""
        size = self._checker.block_size
        if self._checker.block_count == 1:
            self._whole = self._whole or self._block(0)
            return self._whole[offset:end]
        first = offset // size
        blocks = b"".join(self._block(index) for index in range(first, (end - 1) // size + 1))
        return blocks[offset - first * size : end - first * size]

    def _block(self, index: int) -> bytes:
        offset, nbytes = self._checker.span(index)
        data = b""
        while len(data) < nbytes and (more := os.pread(self._fd, nbytes - len(data), offset + len(data))):
            data += more
        self._checker.check_block(index, data)
        return data

    def close(self) -> None:
        os.close(self._fd)


class FetchedBytes:
    """CheckedBytes of a blob of a server: only what is read is fetched, and a little more once it is read in order.

    `limit_s`: how long nothing may come from the server, in seconds. Asks it nothing yet.
    """

    def __init__(self, fetcher: Fetcher, content: Content, *, limit_s: float) -> None:
        self._content = content
        self._limit_s = limit_s
        self._whole: bytes | None = None
        self._end = 0  # of the last read
        self._ahead = 0
        self._blob: LargeBlob | None = None
        self._read_small: Callable[[], bytes] = lambda: fetcher.read_small(content.digest, content.size, timeout_s=limit_s)
        if content.size > BLOCKS_ABOVE:
            self._blob = fetcher.large(content.digest, content.size, content.blocks)

    def read(self, offset: int, nbytes: int) -> bytes:
        end = min(offset + nbytes, self._content.size)
        if offset >= end:
            return b""
        if self._blob is None:
            if self._whole is None:
                self._whole = self._read_small()
            return self._whole[offset:end]
        self._look_ahead(self._blob, offset, end)
        if end - offset <= _STEP:
            return bytes(self._blob.read(offset, end - offset, timeout_s=self._limit_s))
        found = bytearray()
        while offset < end:
            step = min(_STEP, end - offset)
            self._blob.prefetch((offset + step) // BLOCK_SIZE, -(-min(offset + 2 * step, end) // BLOCK_SIZE))
            found += self._blob.read(offset, step, timeout_s=self._limit_s)
            offset += step
        return bytes(found)

    def _look_ahead(self, blob: LargeBlob, offset: int, end: int) -> None:
        in_order = offset == self._end and offset > 0
        self._end = end
        self._ahead = min(max(2 * self._ahead, 2 * (end - offset)), _MAX_AHEAD) if in_order else 0
        if self._ahead:
            last = min(end + self._ahead, self._content.size)
            blob.prefetch(-(-end // BLOCK_SIZE), -(-last // BLOCK_SIZE))

    def close(self) -> None:
        if self._blob is not None:
            self._blob.close()
