"""Large blobs of which a part is in the cache: what the map of blocks says, what becomes of a whole one, who comes between."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from artfs.errors import BadBlobError
from artfs.model.blocklist import decode_block_list
from artfs.model.digests import BLOCK_SIZE
from artfs.store.cache import Cache
from artfs.store.verify import hash_bytes
from artfs.testing.cachefiles import fill, partial_of, read_cached
from artfs.testing.store_contract import some_bytes

ExpectLog = Callable[..., None]


DATA = some_bytes(20 * BLOCK_SIZE + 9)


def test_a_partial_knows_its_blocks(cache: Cache) -> None:
    content, partial = partial_of(cache, DATA)
    assert partial.missing(0, partial.count) == list(range(21))
    fill(cache, partial, DATA, range(3, 6))
    fill(cache, partial, DATA, range(20, 21))
    assert partial.missing(2, 8) == [2, 6, 7]
    assert (partial.blocks_here, partial.is_complete) == (4, False)
    assert not cache.promote(partial)
    again = partial_of(cache, DATA)[1]
    assert [index for index in range(21) if again.has(index)] == [3, 4, 5, 20]
    assert again.read(20) == DATA[-9:]
    for opened in (partial, again):
        opened.close()
    assert cache.status().nbytes < 2 * 4 * BLOCK_SIZE
    assert not cache.has(content.digest)


def test_only_the_right_blocks_come_in(cache: Cache) -> None:
    _, partial = partial_of(cache, DATA)
    for bad in (DATA[1 : BLOCK_SIZE + 1], DATA[: BLOCK_SIZE - 1], DATA[BLOCK_SIZE : 2 * BLOCK_SIZE]):
        with pytest.raises(BadBlobError):
            partial.check(0, bad)
    partial.close()


def test_a_whole_one_is_promoted(cache: Cache) -> None:
    content, partial = partial_of(cache, DATA)
    fill(cache, partial, DATA, range(21))
    assert cache.promote(partial)
    partial.close()
    assert read_cached(cache, content.digest) == DATA
    assert cache.path_of(content.digest).stat().st_mode & 0o777 == 0o444
    assert os.listdir(cache.root / "partial") == []


def test_torn_blocks_are_found_before_it_is_promoted(cache: Cache, expect_log: ExpectLog) -> None:
    expect_log("1 blocks of the cached blob .* were damaged; they are fetched again")
    content, partial = partial_of(cache, DATA)
    fill(cache, partial, DATA, range(21))
    os.pwrite(partial.fd, bytes(100), 5 * BLOCK_SIZE)  # as after a power cut
    assert not cache.promote(partial)
    assert partial.missing(0, 21) == [5]
    fill(cache, partial, DATA, range(5, 6))
    assert cache.promote(partial)
    partial.close()
    assert read_cached(cache, content.digest) == DATA


def test_a_block_list_of_another_blob_makes_no_complete_one(cache: Cache) -> None:
    content, objects = hash_bytes(DATA)
    wrong = "ab" * 32
    partial = cache.open_partial(wrong, content.blocks, decode_block_list(content.blocks, objects[-1], len(DATA)))
    fill(cache, partial, DATA, range(21))
    with pytest.raises(BadBlobError, match="is not what it is called"):
        cache.promote(partial)
    partial.close()
    assert not cache.has(wrong)
    assert os.listdir(cache.root / "partial") == []


def test_a_complete_one_with_a_bad_block_is_mended(cache: Cache) -> None:
    content, objects = hash_bytes(DATA)
    top = decode_block_list(content.blocks, objects[-1], len(DATA))
    _, partial = partial_of(cache, DATA)
    fill(cache, partial, DATA, range(21))
    cache.promote(partial)
    partial.close()
    mended = cache.demote(content.digest, content.blocks, top, top.hashes, [7])
    assert not cache.has(content.digest)
    assert mended.missing(0, 21) == [7]
    fill(cache, mended, DATA, range(7, 8))
    assert cache.promote(mended)
    mended.close()
    assert read_cached(cache, content.digest) == DATA


def test_a_map_that_outlived_its_file_says_nothing(cache: Cache) -> None:
    content, partial = partial_of(cache, DATA)
    fill(cache, partial, DATA, range(3))
    partial.close()
    path = cache.root / "partial" / content.digest
    keep = path.with_name("keep")
    path.rename(keep)  # so that its inode number is not given out again
    again = partial_of(cache, DATA)[1]
    assert again.blocks_here == 0
    again.close()


def test_a_map_says_nothing_of_a_file_that_got_the_same_inode(cache: Cache) -> None:
    """File systems give numbers out again at once. A file that is empty is one that was just made."""
    content, partial = partial_of(cache, DATA)
    fill(cache, partial, DATA, range(3))
    partial.close()
    os.truncate(cache.root / "partial" / content.digest, 0)
    again = partial_of(cache, DATA)[1]
    assert again.blocks_here == 0
    third = partial_of(cache, DATA)[1]
    fill(cache, third, DATA, range(2))
    assert again.blocks_here == 2
    for opened in (again, third):
        opened.close()


def test_what_was_cut_while_it_is_used_has_its_size_again(cache: Cache) -> None:
    content, partial = partial_of(cache, DATA)
    fill(cache, partial, DATA, range(3))
    os.truncate(cache.root / "partial" / content.digest, 2 * BLOCK_SIZE)
    again = partial_of(cache, DATA)[1]
    assert os.fstat(again.fd).st_size == len(DATA)
    with pytest.raises(BadBlobError):
        again.check(2, again.read(2))
    for opened in (again, partial):
        opened.close()


def test_many_begin_one_at_once(cache: Cache) -> None:
    content, _ = hash_bytes(DATA)

    def begin(_: int) -> int:
        partial = partial_of(cache, DATA)[1]
        try:
            return os.fstat(partial.fd).st_size
        finally:
            partial.close()

    for _ in range(20):
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(begin, range(8))) == {len(DATA)}
        for end in ("", ".map"):
            os.unlink(cache.root / "partial" / (content.digest + end))


def test_what_has_the_name_of_a_whole_one_by_now_is_not_taken_for_it(cache: Cache) -> None:
    content, partial = partial_of(cache, DATA)
    fill(cache, partial, DATA, range(21))
    os.unlink(cache.root / "partial" / content.digest)
    other = partial_of(cache, DATA)[1]
    fill(cache, other, DATA, range(2))
    assert not cache.promote(partial)
    assert not cache.has(content.digest)
    assert partial_of(cache, DATA)[1].blocks_here == 2
    for opened in (partial, other):
        opened.close()


@pytest.mark.parametrize("damage", [b"", b"rubbish", b"\1" * 5000])
def test_a_damaged_map_is_an_empty_one(cache: Cache, damage: bytes) -> None:
    content, partial = partial_of(cache, DATA)
    fill(cache, partial, DATA, range(3))
    before = partial_of(cache, DATA)[1]
    (cache.root / "partial" / f"{content.digest}.map").write_bytes(damage) if damage else None
    path = cache.root / "partial" / f"{content.digest}.map"
    if not damage:
        path.unlink()
    again = partial_of(cache, DATA)[1]
    assert again.blocks_here == 0
    for opened in (again, partial, before):
        opened.close()


@pytest.mark.parametrize("length", [0, 10, 64, 66, 4097])
def test_a_map_that_shrinks_kills_nobody(cache: Cache, length: int) -> None:
    """Somebody truncates it while it is in use: what it had said is not believed any more, that is all."""
    _, partial = partial_of(cache, DATA)
    fill(cache, partial, DATA, range(21))
    os.truncate(f"{partial.path}.map", length)
    assert [index for index in range(21) if partial.has(index)] == list(range(21))[: max(length - 64, 0)]
    assert partial.is_complete == (length > 4096)
    fill(cache, partial, DATA, range(1, 2))
    assert partial.has(1)
    partial.drop([0, 1])
    assert partial.missing(0, 2) == [0, 1]
    partial.close()
    again = partial_of(cache, DATA)[1]
    assert again.blocks_here == 0  # a map of another length is none
    again.close()
