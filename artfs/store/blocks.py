"""Checking a blob piece by piece: each 256 KiB block of a large one against its block list, a small one whole."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable

from artfs.errors import BadBlobError, BadObjectError
from artfs.model.blocklist import HASH_LENGTH, block_count, decode_block_list, hash_block, hash_blocks
from artfs.model.digests import BLOCK_SIZE, BLOCKS_ABOVE, digest_bytes, from_raw
from artfs.model.records import Content


class BlobChecker:
    """Checks blocks of one blob, in any order. Thread-safe.

    A blob of at most 1 MiB has one block, all of it. The block list of a larger one is loaded once, when first needed.

    Arguments:
        digest, size, blocks: the blob's Content, trusted.
        load: returns the whole object of that digest (usually `store.read`); what it raises is passed on.
    """

    def __init__(self, digest: str, size: int, blocks: str, load: Callable[[str], bytes]) -> None:
        if bool(blocks) != (size > BLOCKS_ABOVE):
            raise BadObjectError(f"blob {digest} of {size} bytes {'has' if blocks else 'lacks'} a block list", digest)
        self.digest = digest
        self.size = size
        self._blocks = blocks
        self._load = load
        self._lock = threading.Lock()
        self._hashes = b""
        self.block_size = BLOCK_SIZE if blocks else max(size, 1)
        """Bytes of every block but the last."""
        self.block_count = block_count(size) if blocks else 1

    @classmethod
    def of(cls, content: Content, load: Callable[[str], bytes]) -> BlobChecker:
        return cls(content.digest, content.size, content.blocks, load)

    def span(self, index: int) -> tuple[int, int]:
        """(offset, length) of a block in bytes. Raises IndexError."""
        if not 0 <= index < self.block_count:
            raise IndexError(index)
        offset = index * self.block_size
        return offset, min(self.block_size, self.size - offset)

    def prepare(self) -> None:
        """Loads the block list now, if there is one. From then on `load` is not called any more. Raises BadObjectError
        and what `load` raises."""
        if self._blocks:
            self._block_hashes()

    def check_block(self, index: int, data: bytes | bytearray | memoryview) -> None:
        """`data` must be exactly block `index`. Raises BadBlobError when it is not, BadObjectError for a bad block
        list, and what `load` raises."""
        _, nbytes = self.span(index)
        if len(data) != nbytes:
            raise self._bad(index, f"{len(data)} bytes instead of {nbytes}")
        if not self._blocks:
            if hashlib.sha256(data).hexdigest() != self.digest:
                raise BadBlobError(f"blob {self.digest} is damaged: its bytes have another digest", self.digest)
            return
        wanted = self._block_hashes()[index * HASH_LENGTH : (index + 1) * HASH_LENGTH]
        if hash_block(data) != wanted:
            raise self._bad(index, "its bytes have another hash")

    def _bad(self, index: int, why: str) -> BadBlobError:
        offset = index * self.block_size
        return BadBlobError(f"blob {self.digest} is damaged in block {index} (offset {offset}): {why}", self.digest)

    def _block_hashes(self) -> bytes:
        with self._lock:
            if not self._hashes:
                top = decode_block_list(self._blocks, self._load(self._blocks), self.size)
                self._hashes = self._lower_hashes(from_raw(top.lower), top.hashes) if top.lower else top.hashes
            return self._hashes

    def _lower_hashes(self, lower: str, wanted: bytes) -> bytes:
        data = self._load(lower)
        # The digest alone would do; the second check refuses a top whose own hashes are nonsense.
        if digest_bytes(data) != lower or len(data) != self.block_count * HASH_LENGTH or hash_blocks(data) != wanted:
            raise BadObjectError(f"the block list {lower} of blob {self.digest} is damaged", lower)
        return data
