import os
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from artfs.errors import BadBlobError, BadObjectError, SourceChangedError
from artfs.model.blocklist import HASHES_PER_BLOCK, encode_block_list
from artfs.model.digests import BLOCK_SIZE, BLOCKS_ABOVE, EMPTY, digest_bytes
from artfs.model.records import Content
from artfs.store.blocks import BlobChecker
from artfs.store.verify import (
    BlockHasher,
    StreamHasher,
    copy_digesting,
    copy_hashing,
    digest_file,
    hash_bytes,
    hash_file,
)
from artfs.testing.store_contract import some_bytes

SIZES = [0, 1, BLOCKS_ABOVE, BLOCKS_ABOVE + 1, 5 * BLOCKS_ABOVE + 3]


@pytest.mark.parametrize("size", SIZES)
def test_all_ways_agree(tmp_path: Path, size: int) -> None:
    data = some_bytes(size)
    path = tmp_path / "file"
    path.write_bytes(data)
    hashes = b"".join(blake3(data[at : at + BLOCK_SIZE]).digest() for at in range(0, size, BLOCK_SIZE))
    objects = tuple(encode_block_list(size, hashes)) if size > BLOCKS_ABOVE else ()
    blocks = digest_bytes(objects[-1]) if objects else ""
    stream = StreamHasher()
    for start in range(0, size, 300_000):
        stream.update(data[start : start + 300_000])
    assert stream.size == size
    source, target = os.open(path, os.O_RDONLY), os.open(tmp_path / "copy", os.O_RDWR | os.O_CREAT)
    try:
        os.lseek(source, 7, os.SEEK_SET)
        found = [hash_bytes(data), stream.finish(), hash_file(source, size), copy_hashing(source, target, size)]
        assert digest_file(source, size) == digest_bytes(data)
        assert copy_digesting(source, target, size) == digest_bytes(data)
        assert os.lseek(source, 0, os.SEEK_CUR) == 7
    finally:
        os.close(source)
        os.close(target)
    for hashed in found:
        assert hashed.content == Content(digest_bytes(data), size, blocks)
        assert hashed.block_objects == objects
    assert (tmp_path / "copy").read_bytes() == data


@pytest.mark.parametrize("size", [5, BLOCKS_ABOVE + 5])
@pytest.mark.parametrize("change", [-1, 1, 3 * BLOCKS_ABOVE])
def test_another_size_is_noticed(tmp_path: Path, size: int, change: int) -> None:
    (tmp_path / "file").write_bytes(some_bytes(size + change))
    with (tmp_path / "file").open("rb") as stream, pytest.raises(SourceChangedError):
        hash_file(stream.fileno(), size)


@given(st.lists(st.integers(0, 3 * BLOCK_SIZE), max_size=5))
def test_blocks_do_not_depend_on_the_pieces(sizes: list[int]) -> None:
    data = bytes(sum(sizes))
    hasher = BlockHasher()
    start = 0
    for size in sizes:
        hasher.update(memoryview(data)[start : start + size])
        start += size
    whole = BlockHasher()
    whole.update(data)
    assert hasher.finish() == whole.finish()


class Objects(dict[str, bytes]):
    """Block list objects by digest, and how often each was loaded."""

    def __init__(self, objects: tuple[bytes, ...] | list[bytes]) -> None:
        super().__init__((digest_bytes(item), item) for item in objects)
        self.loads: list[str] = []

    def load(self, digest: str) -> bytes:
        self.loads.append(digest)
        return self[digest]


def test_each_block_is_checked() -> None:
    data = some_bytes(6 * BLOCK_SIZE + 10)
    content, objects = hash_bytes(data)
    lists = Objects(objects)
    checker = BlobChecker.of(content, lists.load)
    assert checker.block_count == 7
    assert lists.loads == []
    for index in (6, 0, 3):
        offset, nbytes = checker.span(index)
        checker.check_block(index, memoryview(data)[offset : offset + nbytes])
    assert lists.loads == [content.blocks]
    with pytest.raises(BadBlobError, match=r"block 3 \(offset 786432\)") as caught:
        checker.check_block(3, data[:BLOCK_SIZE])
    assert caught.value.digest == content.digest
    with pytest.raises(BadBlobError, match="10"):
        checker.check_block(6, data[:BLOCK_SIZE])
    for index in (-1, 7):
        with pytest.raises(IndexError):
            checker.check_block(index, b"")


def test_a_small_blob_is_one_block() -> None:
    checker = BlobChecker(digest_bytes(b"hello"), 5, "", lambda digest: b"")
    assert (checker.block_count, checker.span(0)) == (1, (0, 5))
    checker.check_block(0, b"hello")
    for wrong in (b"hellp", b"hell"):
        with pytest.raises(BadBlobError):
            checker.check_block(0, wrong)
    empty = BlobChecker(EMPTY, 0, "", lambda digest: b"")
    assert empty.span(0) == (0, 0)
    empty.check_block(0, b"")


def test_a_list_in_two_levels() -> None:
    count = HASHES_PER_BLOCK + 10
    size = count * BLOCK_SIZE
    block = some_bytes(BLOCK_SIZE)
    hashes = some_bytes(32 * (count - 1)) + blake3(block).digest()
    objects = encode_block_list(size, hashes)
    assert len(objects) == 2
    lists = Objects(objects)
    blocks = digest_bytes(objects[-1])
    checker = BlobChecker("00" * 32, size, blocks, lists.load)
    checker.check_block(count - 1, block)
    with pytest.raises(BadBlobError):
        checker.check_block(count - 2, block)
    assert lists.loads == [blocks, digest_bytes(hashes)]

    for digest in lists.loads[:2]:
        damaged = Objects(objects)
        damaged[digest] = damaged[digest][:-1] + b"?"
        checker = BlobChecker("00" * 32, size, blocks, damaged.load)
        with pytest.raises(BadObjectError) as caught:
            checker.check_block(count - 1, block)
        assert caught.value.digest == digest


def test_a_content_that_cannot_be() -> None:
    for size, blocks in ((5, "00" * 32), (BLOCKS_ABOVE + 1, "")):
        with pytest.raises(BadObjectError):
            BlobChecker("00" * 32, size, blocks, lambda digest: b"")
