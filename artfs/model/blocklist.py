"""Block lists: what lets a range of a large blob be checked before one byte of it is handed to a reader.

A blob of more than 1 MiB (`BLOCKS_ABOVE`) has one; the digest of its top object stands in the file's entry,
so the version's digest covers it. The objects are blobs themselves:

    top = msgpack [1, size of the blob, lower, hashes]

`hashes` are BLAKE3-256 hashes (32 bytes each, in order) of 256 KiB blocks. With at most 8192 of them (a blob
of at most 2 GiB) `lower` is empty and they are of the blob's own blocks. A larger blob's hashes are stored as
a raw blob, named by `lower` (32 raw bytes of its SHA-256), and the top has the hashes of *its* 256 KiB
blocks: a reader of any range then needs the top and one block of the lower list.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from blake3 import blake3

from artfs.errors import BadObjectError
from artfs.model.digests import BLOCK_SIZE, BLOCKS_ABOVE, MAX_SIZE, RAW_LENGTH, Digest, digest_bytes, to_raw
from artfs.model.unreadable import UNREADABLE

HASH_LENGTH = 32
"""Bytes of one BLAKE3 hash."""

HASHES_PER_BLOCK = BLOCK_SIZE // HASH_LENGTH
"""8192: as many hashes as fit a block; a longer list is stored in two levels."""

_FORMAT = 1


class BlockList(msgspec.Struct, frozen=True, gc=False):
    """A decoded top object.

    Attributes:
        size: bytes of the blob, more than BLOCKS_ABOVE.
        lower: b"", or the raw digest of the blob that holds the hashes of the blob's blocks.
        hashes: of the blob's blocks if `lower` is empty, otherwise of the lower list's blocks.
    """

    size: int
    lower: bytes
    hashes: bytes

    @property
    def count(self) -> int:
        """How many blocks the blob has."""
        return block_count(self.size)

    @property
    def lower_size(self) -> int:
        """Bytes of the lower list; 0 when there is none."""
        return self.count * HASH_LENGTH if self.lower else 0

    def hash_at(self, index: int) -> bytes:
        """The hash number `index` of this object. Raises IndexError."""
        if not 0 <= index < len(self.hashes) // HASH_LENGTH:
            raise IndexError(index)
        return self.hashes[index * HASH_LENGTH : (index + 1) * HASH_LENGTH]


def block_count(size: int) -> int:
    """How many blocks of BLOCK_SIZE a blob of `size` bytes has; 0 for an empty one."""
    return -(-size // BLOCK_SIZE)


def hash_block(data: bytes | bytearray | memoryview) -> bytes:
    """The 32 bytes that stand in a block list for the block `data`."""
    return blake3(data).digest()


def hash_blocks(data: bytes | bytearray | memoryview) -> bytes:
    """The concatenated hashes of the blocks of `data`, which begins at a block boundary of its blob."""
    view = memoryview(data)
    return b"".join(hash_block(view[at : at + BLOCK_SIZE]) for at in range(0, len(view), BLOCK_SIZE))


def encode_block_list(size: int, hashes: bytes) -> list[bytes]:
    """The objects to store for a blob of `size` bytes whose blocks have `hashes`; the top is the last one.

    Raises ValueError when the blob is too small to have a block list, or `hashes` is not one hash a block.
    """
    if not BLOCKS_ABOVE < size <= MAX_SIZE:
        raise ValueError(f"a blob of {size} bytes has no block list")
    if len(hashes) != block_count(size) * HASH_LENGTH:
        raise ValueError(f"{len(hashes)} bytes of hashes for {block_count(size)} blocks")
    if len(hashes) <= BLOCK_SIZE:
        return [msgspec.msgpack.encode((_FORMAT, size, b"", hashes))]
    lower = to_raw(digest_bytes(hashes))
    return [hashes, msgspec.msgpack.encode((_FORMAT, size, lower, hash_blocks(hashes)))]


def has_lower_list(size: int) -> bool:
    """Whether the block list of a blob of `size` bytes is in two levels (more than 2 GiB)."""
    return block_count(size) > HASHES_PER_BLOCK


_decoder = msgspec.msgpack.Decoder(
    tuple[int, Annotated[int, msgspec.Meta(ge=0, le=MAX_SIZE)], bytes, bytes], strict=True
)


def decode_block_list(digest: Digest, data: bytes, size: int) -> BlockList:
    """The top object `data`, which must have `digest` and belong to a blob of `size` bytes.

    Raises BadObjectError, naming the digest, for anything that `encode_block_list` would not have made.
    """

    def bad(why: str) -> BadObjectError:
        return BadObjectError(f"the block list {digest} is damaged: {why}", digest)

    if digest_bytes(data) != digest:
        raise bad("its bytes have another digest")
    try:
        form, told, lower, hashes = _decoder.decode(data)
    except UNREADABLE as error:
        raise bad(str(error)) from None
    if form != _FORMAT:
        raise bad(f"format {form} is not known to this version of artfs")
    if told != size:
        raise bad(f"it is for a blob of {told} bytes, not {size}")
    if size <= BLOCKS_ABOVE:
        raise bad("so small a blob has none")
    if len(lower) != (RAW_LENGTH if has_lower_list(size) else 0):
        raise bad("its number of levels does not suit the size")
    covered = block_count(size) * HASH_LENGTH if lower else size
    if len(hashes) != block_count(covered) * HASH_LENGTH:
        raise bad("it has the wrong number of hashes")
    if msgspec.msgpack.encode((form, told, lower, hashes)) != data:
        raise bad("it is not encoded canonically")
    return BlockList(size, lower, hashes)
