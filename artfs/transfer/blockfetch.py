"""Fetching blocks of large blobs: in ranges, each block checked before it counts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from artfs.errors import BlobMissingError, UnavailableError
from artfs.model.blocklist import BlockList, decode_block_list
from artfs.model.digests import BLOCK_SIZE
from artfs.store.cache import Partial
from artfs.transfer.largeblob import BlobFile

if TYPE_CHECKING:
    from artfs.transfer.transfers import Host

T = TypeVar("T")


class BlockFetch:
    """Of one host."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def open_file(self, blob: BlobFile) -> None:
        """Loads the block list and opens the files, once."""
        with blob.prepare_lock:
            if blob.file is not None:
                return
            data = self._host.recent(blob.blocks) or self._host.read_cached(blob.blocks)
            if data is None:
                self._host.stats.requests += 1
                found = self._host.source.locate([blob.digest], [blob.blocks], deadline=self._host.deadline())
                data = found.get(blob.blocks)
                if data is None:
                    raise BlobMissingError(
                        f"the server has no block list {blob.blocks} of blob {blob.digest}, or you may not read it",
                        blob.blocks,
                    )
                top = decode_block_list(blob.blocks, data, blob.size)
                self._keep(blob.blocks, data)
            else:
                top = decode_block_list(blob.blocks, data, blob.size)
            blob.open_file(self._host.cache, top, lambda: self.all_hashes(top))

    def all_hashes(self, top: BlockList) -> bytes:
        """Of all blocks. Blocks."""
        if not top.lower:
            return top.hashes
        lower = top.lower.hex()
        data = self._host.read_cached(lower)
        if data is None:
            self._host.stats.requests += 1
            pieces = self._host.source.read_range(lower, top.lower_size, 0, top.lower_size, deadline=self._host.deadline())
            with ended(pieces):
                data = b"".join(bytes(piece) for piece in pieces)
            self._keep(lower, data)
        return data

    def _keep(self, digest: str, data: bytes) -> None:
        """The door for a block list. Raises BadBlobError."""
        if not self._host.cache.put(digest, data):
            self._host.remember(digest, data)

    def fetch(self, blob: BlobFile, first: int, stop: int) -> Iterator[None]:
        """Fetches, checks and keeps blocks in order; yields after each. Raises CorruptError, and what the source does."""
        file = blob.file
        assert file is not None
        index = first
        while index < stop:
            if file.has(index):
                # The first reader did not know what is here; or another process was faster.
                self._host.blocks_landed(blob, [index])
                index += 1
                yield
                continue
            assert isinstance(file, Partial)
            following = next((at for at in range(index, stop) if file.has(at)), stop)
            for _ in self._fetch_run(blob, file, index, following):
                index += 1
                yield

    def _fetch_run(self, blob: BlobFile, file: Partial, first: int, stop: int) -> Iterator[None]:
        deadline = self._host.deadline()
        coming = [
            self._host.aside.submit(self._fetch_hashes, file, page, deadline) for page in file.missing_hashes(first, stop)
        ]
        offset, nbytes = blob.span_of(first, stop)
        self._host.stats.requests += 1
        pieces = self._host.source.read_range(blob.digest, blob.size, offset, nbytes, deadline=deadline)
        index = first
        with ended(pieces):
            for data in _in_blocks(pieces, nbytes):
                for future in coming:
                    future.result()
                coming.clear()
                file.check(index, data)
                self._host.stats.nbytes += len(data)
                self._host.block_came(blob, index, data, kept=self._host.cache.keep_block(file, index, data))
                index += 1
                yield
        if index != stop:
            raise UnavailableError(f"the server sent {(index - first) * BLOCK_SIZE:,} bytes instead of {nbytes:,}")

    def _fetch_hashes(self, file: Partial, page: int, deadline: float) -> None:
        offset, nbytes = file.page_span(page)
        self._host.stats.requests += 1
        pieces = self._host.source.read_range(file.lower, file.lower_size, offset, nbytes, deadline=deadline)
        with ended(pieces):
            data = b"".join(bytes(piece) for piece in pieces)
        self._host.stats.nbytes += len(data)
        file.put_hashes(page, data)


@contextmanager
def ended(pieces: Iterator[T]) -> Iterator[Iterator[T]]:
    """Ends a source's answer with the body, however that ends. Left to the garbage collector, a connection might be ended
    in a thread that has the lock of all connections just then, and all of them would wait for ever."""
    try:
        yield pieces
    finally:
        close = getattr(pieces, "close", None)
        if close is not None:
            close()


def _in_blocks(pieces: Iterator[bytes | memoryview], nbytes: int) -> Iterator[memoryview]:
    """The bytes of `pieces` as whole blocks; the last one, which ends at `nbytes`, may be shorter. A block is valid until the
    next one."""
    buffer = memoryview(bytearray(BLOCK_SIZE))
    filled = 0
    left = nbytes
    for piece in pieces:
        view = memoryview(piece).cast("B")
        while view and left:
            wanted = min(BLOCK_SIZE, left)
            if not filled and len(view) >= wanted:
                yield view[:wanted]
                view = view[wanted:]
                left -= wanted
                continue
            taken = min(wanted - filled, len(view))
            buffer[filled : filled + taken] = view[:taken]
            filled += taken
            view = view[taken:]
            if filled == wanted:
                yield buffer[:filled]
                left -= filled
                filled = 0
