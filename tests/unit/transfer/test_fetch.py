"""The fetcher: what is fetched, how often, and what happens when it comes wrong or not at all."""

import inspect
import os
import threading
from collections.abc import Callable, Generator
from typing import Any

import pytest

from artfs.errors import BadBlobError, BadObjectError, BlobMissingError, UnavailableError
from artfs.model.blocklist import encode_block_list, hash_block
from artfs.model.digests import BLOCK_SIZE, digest_bytes
from artfs.store.cache import Cache
from artfs.testing.cachefiles import damage_cached
from artfs.testing.fetching import WAIT_S, large
from artfs.testing.ranges import FakeSource
from artfs.testing.store_contract import some_bytes
from artfs.testing.waiting import until
from artfs.transfer import fetch as fetch_module
from artfs.transfer.fetch import Fetcher

ExpectLog = Callable[..., None]


# small blobs
def test_a_small_blob_comes_once_and_stays(
    new_fetcher: Callable[..., Fetcher], source: FakeSource, fetcher: Fetcher, cache: Cache
) -> None:
    content = source.add(b"hello")
    for _ in range(3):
        assert fetcher.read_small(content.digest, 5, timeout_s=WAIT_S) == b"hello"
    assert source.sent[content.digest] == 1
    until(lambda: cache.try_read(content.digest) == b"hello")
    other = new_fetcher(source, cache)
    assert other.read_small(content.digest, 5, timeout_s=WAIT_S) == b"hello"
    assert source.sent[content.digest] == 1
    other.close()


def test_many_readers_share_one_transfer(source: FakeSource, fetcher: Fetcher) -> None:
    content = source.add(b"hello")
    go = threading.Event()
    source.fail = lambda method: go.wait(WAIT_S) and None
    found: list[bytes] = []
    readers = [
        threading.Thread(target=lambda: found.append(fetcher.read_small(content.digest, 5, timeout_s=WAIT_S)))
        for _ in range(8)
    ]
    for reader in readers:
        reader.start()
    until(lambda: source.count("read_small") == 1)
    go.set()
    for reader in readers:
        reader.join()
    assert found == [b"hello"] * 8
    assert source.sent[content.digest] == 1


def test_what_gathers_behind_a_slow_request_goes_in_one(
    new_fetcher: Callable[..., Fetcher], source: FakeSource, cache: Cache
) -> None:
    contents = [source.add(b"%d" % number) for number in range(40)]
    fetcher = new_fetcher(source, cache, workers=1)
    go = threading.Event()
    source.fail = lambda method: go.wait(WAIT_S) and None
    left = threading.Semaphore(0)
    for content in contents:
        assert not fetcher.need_small(content.digest, content.size, left.release)
    go.set()
    for _ in contents:
        assert left.acquire(timeout=WAIT_S)
    assert source.count("read_small") <= 2
    fetcher.close()


def test_what_is_asked_for_ahead_is_there_when_it_is_read(source: FakeSource, fetcher: Fetcher) -> None:
    contents = [source.add(b"%d" % number) for number in range(100)]
    fetcher.prefetch_small((content.digest, content.size) for content in contents)
    until(lambda: all(fetcher.has_recent(content.digest) or fetcher.is_just_kept(content.digest) for content in contents))
    before = len(source.calls)
    for number, content in enumerate(contents):
        assert fetcher.read_small(content.digest, content.size, timeout_s=WAIT_S) == b"%d" % number
    assert len(source.calls) == before


def test_a_small_blob_that_is_missing_is_said_so_for_a_while(source: FakeSource, fetcher: Fetcher) -> None:
    digest = FakeSource().add(b"elsewhere").digest
    for _ in range(3):
        with pytest.raises(BlobMissingError, match=digest):
            fetcher.read_small(digest, 9, timeout_s=WAIT_S)
    assert source.count("read_small") == 1


def test_a_failure_is_forgotten_after_a_while(
    new_fetcher: Callable[..., Fetcher], source: FakeSource, cache: Cache, expect_log: ExpectLog
) -> None:
    expect_log("fetching 1 small blob.*: the server is down", count=1)
    now = [100.0]
    fetcher = new_fetcher(source, cache, clock=lambda: now[0])
    content = source.add(b"hello")

    def fail(method: str) -> None:
        raise UnavailableError("the server is down")

    source.fail = fail
    for _ in range(2):
        with pytest.raises(UnavailableError, match="down"):
            fetcher.read_small(content.digest, 5, timeout_s=WAIT_S)
    assert source.count("read_small") == 1
    now[0] += fetch_module.FAILED_FOR_S + 1
    source.fail = lambda method: None
    assert fetcher.read_small(content.digest, 5, timeout_s=WAIT_S) == b"hello"
    assert fetcher.stats.failures == 1
    fetcher.close()


def test_wrong_bytes_are_asked_for_once_more(source: FakeSource, fetcher: Fetcher, expect_log: ExpectLog) -> None:
    expect_log("a server sent wrong bytes: blob .* came wrong", count=1)
    content = source.add(b"hello")
    answers = iter([b"jello", b"hello"])
    source.spoil = lambda digest, offset, data: next(answers)
    assert fetcher.read_small(content.digest, 5, timeout_s=WAIT_S) == b"hello"
    assert (fetcher.stats.wrong, source.count("read_small")) == (1, 2)


def test_bytes_that_stay_wrong_are_handed_to_nobody(
    source: FakeSource, fetcher: Fetcher, cache: Cache, expect_log: ExpectLog
) -> None:
    expect_log("a server sent wrong bytes: blob .* came wrong", count=2)
    content = source.add(b"hello")
    source.spoil = lambda digest, offset, data: b"jello"
    with pytest.raises(BadBlobError, match=content.digest):
        fetcher.read_small(content.digest, 5, timeout_s=WAIT_S)
    assert not cache.has(content.digest)


def test_rot_of_a_small_blob_is_found_and_mended(
    new_fetcher: Callable[..., Fetcher], source: FakeSource, fetcher: Fetcher, cache: Cache, expect_log: ExpectLog
) -> None:
    expect_log("the cached blob .* was damaged; it is fetched again", count=1)
    content = source.add(b"hello")
    fetcher.read_small(content.digest, 5, timeout_s=WAIT_S)
    until(lambda: cache.has(content.digest))
    damage_cached(cache, content.digest)
    again = new_fetcher(source, cache)
    assert again.read_small(content.digest, 5, timeout_s=WAIT_S) == b"hello"
    assert again.stats.damaged == 1
    until(lambda: cache.try_read(content.digest) == b"hello")
    again.close()


# large blobs
SIZE = 40 * BLOCK_SIZE + 7


def test_only_the_blocks_that_are_read_are_fetched(source: FakeSource, fetcher: Fetcher) -> None:
    data = some_bytes(SIZE)
    content = source.add(data)
    blob = large(fetcher, content)
    at = 20 * BLOCK_SIZE - 5
    assert bytes(blob.read(at, 10, timeout_s=WAIT_S)) == data[at : at + 10]
    assert source.sent[content.digest] == 2 * BLOCK_SIZE
    assert bytes(blob.read(at - 100, 200, timeout_s=WAIT_S)) == data[at - 100 : at + 100]
    assert bytes(blob.read(SIZE - 7, 100, timeout_s=WAIT_S)) == data[-7:]
    assert source.sent[content.digest] == 2 * BLOCK_SIZE + 7
    assert bytes(blob.read(SIZE, 1, timeout_s=WAIT_S)) == b""
    blob.close()


def test_a_whole_blob_becomes_a_plain_file(source: FakeSource, fetcher: Fetcher, cache: Cache) -> None:
    data = some_bytes(SIZE)
    content = source.add(data)
    blob = large(fetcher, content)
    blob.prefetch(0, blob.count)
    assert bytes(blob.read(0, SIZE, timeout_s=WAIT_S)) == data
    blob.close()
    until(lambda: cache.has(content.digest))
    assert cache.path_of(content.digest).read_bytes() == data
    assert not list((cache.root / "partial").iterdir())
    before = len(source.calls)
    blob = large(fetcher, content)
    assert bytes(blob.read(5, SIZE, timeout_s=WAIT_S)) == data[5:]
    blob.close()
    assert len(source.calls) == before
    assert source.sent[content.digest] == SIZE


def test_what_is_here_of_a_blob_outlives_the_process(
    new_fetcher: Callable[..., Fetcher], source: FakeSource, fetcher: Fetcher, cache: Cache, expect_log: ExpectLog
) -> None:
    expect_log("fetching blocks 0 to 0 of blob .*: no blob", count=1)
    data = some_bytes(SIZE)
    content = source.add(data)
    blob = large(fetcher, content)
    blob.read(3 * BLOCK_SIZE, 1, timeout_s=WAIT_S)
    blob.close()
    fetcher.close()
    again = new_fetcher(FakeSource(), cache)  # a server that has nothing
    blob = large(again, content)
    assert bytes(blob.read(3 * BLOCK_SIZE + 5, 9, timeout_s=WAIT_S)) == data[3 * BLOCK_SIZE + 5 :][:9]
    with pytest.raises(BlobMissingError):
        blob.read(0, 1, timeout_s=WAIT_S)
    blob.close()
    again.close()


def test_two_processes_share_what_they_fetch(
    new_fetcher: Callable[..., Fetcher], source: FakeSource, cache: Cache
) -> None:
    data = some_bytes(SIZE)
    content = source.add(data)
    one, other = new_fetcher(source, cache), new_fetcher(source, cache)
    first, second = large(one, content), large(other, content)
    assert bytes(second.read(0, 5, timeout_s=WAIT_S)) == data[:5]
    assert bytes(first.read(0, 5, timeout_s=WAIT_S)) == data[:5]
    first.read(7 * BLOCK_SIZE, 5, timeout_s=WAIT_S)
    second.read(7 * BLOCK_SIZE, 5, timeout_s=WAIT_S)
    assert source.sent[content.digest] == 2 * BLOCK_SIZE
    for blob in (first, second):
        blob.close()
    for fetcher in (one, other):
        fetcher.close()


def test_many_readers_of_one_block_share_a_transfer(source: FakeSource, fetcher: Fetcher) -> None:
    data = some_bytes(SIZE)
    content = source.add(data)
    blob = large(fetcher, content)
    found: list[bytes] = []
    readers = [
        threading.Thread(target=lambda at=at: found.append(bytes(blob.read(at, 3, timeout_s=WAIT_S))))
        for at in range(0, 2 * BLOCK_SIZE, BLOCK_SIZE // 8)
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert len(found) == len(readers)
    assert source.sent[content.digest] == 2 * BLOCK_SIZE
    blob.close()


@pytest.mark.parametrize("times", [1, 2])
def test_a_wrong_block_is_asked_for_once_more(
    source: FakeSource, fetcher: Fetcher, times: int, expect_log: ExpectLog
) -> None:
    expect_log("a server sent wrong bytes: blob .* is damaged in block 5", count=times)
    expect_log("fetching blocks 5 to 6 of blob .* is damaged", count=times - 1)
    data = some_bytes(SIZE)
    content = source.add(data)
    spoilt = [times]

    def spoil(digest: str, offset: int, piece: bytes) -> bytes:
        at = 5 * BLOCK_SIZE - offset
        if digest == content.digest and 0 <= at < len(piece) and spoilt[0]:
            spoilt[0] -= 1
            return piece[:at] + bytes([piece[at] ^ 1]) + piece[at + 1 :]
        return piece

    source.spoil = spoil
    blob = large(fetcher, content)
    if times == 1:
        assert bytes(blob.read(4 * BLOCK_SIZE, 3 * BLOCK_SIZE, timeout_s=WAIT_S)) == data[4 * BLOCK_SIZE :][: 3 * BLOCK_SIZE]
    else:
        with pytest.raises(BadBlobError, match=f"{content.digest} is damaged in block 5"):
            blob.read(4 * BLOCK_SIZE, 3 * BLOCK_SIZE, timeout_s=WAIT_S)
        assert blob.missing(4, 5) == []  # what came before it counts
    blob.close()


@pytest.mark.parametrize("cut", [0, BLOCK_SIZE, BLOCK_SIZE + 5])
def test_a_transfer_that_is_cut_short(source: FakeSource, fetcher: Fetcher, cut: int, expect_log: ExpectLog) -> None:
    expect_log(f"fetching blocks {cut // BLOCK_SIZE} to 2 of blob .*: the server sent .* instead of", count=1)
    content = source.add(some_bytes(SIZE))

    def spoil(digest: str, offset: int, piece: bytes) -> bytes:
        return piece[: max(0, cut - offset)] if digest == content.digest else piece

    source.spoil = spoil
    blob = large(fetcher, content)
    with pytest.raises(UnavailableError, match="instead of"):
        blob.read(0, 3 * BLOCK_SIZE, timeout_s=WAIT_S)
    blob.close()


def test_a_block_list_that_lies(source: FakeSource, fetcher: Fetcher, expect_log: ExpectLog) -> None:
    expect_log("a server sent wrong bytes: (blob|the block list) .* is damaged", count=4)
    expect_log("fetching blocks 0 to 0 of blob .*: (blob|the block list) .* is damaged", count=2)
    content, other = source.add(some_bytes(SIZE)), source.add(bytes(SIZE))
    blob = fetcher.large(content.digest, SIZE, other.blocks)
    with pytest.raises(BadBlobError):
        blob.read(0, 1, timeout_s=WAIT_S)
    blob.close()
    source.blobs[other.blocks] = b"rubbish"
    blob = fetcher.large(content.digest, SIZE, other.blocks)
    blob.close()
    fresh = source.add(some_bytes(SIZE + 1))
    source.blobs[fresh.blocks] = b"rubbish"
    blob = fetcher.large(fresh.digest, fresh.size, fresh.blocks)
    with pytest.raises(BadObjectError):
        blob.read(0, 1, timeout_s=WAIT_S)
    blob.close()


@pytest.mark.parametrize("whole", [False, True])
def test_rot_of_a_large_blob_is_found_and_mended(
    new_fetcher: Callable[..., Fetcher], source: FakeSource, fetcher: Fetcher, cache: Cache, whole: bool, expect_log: ExpectLog
) -> None:
    expect_log("1 block.* of the cached blob .* were damaged; they are fetched again", count=1)
    data = some_bytes(SIZE)
    content = source.add(data)
    blob = large(fetcher, content)
    blob.read(0, SIZE if whole else 10 * BLOCK_SIZE, timeout_s=WAIT_S)
    blob.close()
    path = cache.root / "partial" / content.digest
    if whole:
        until(lambda: cache.has(content.digest))
        path = cache.path_of(content.digest)
    fd = os.open(path, os.O_RDWR) if os.geteuid() == 0 else -1
    assert fd >= 0 or path.chmod(0o600) is None
    fd = fd if fd >= 0 else os.open(path, os.O_RDWR)
    os.pwrite(fd, b"\0" * 10, 3 * BLOCK_SIZE + 100)
    os.close(fd)
    sent = source.sent[content.digest]
    again = new_fetcher(source, cache)
    blob = large(again, content)
    assert bytes(blob.read(2 * BLOCK_SIZE, 3 * BLOCK_SIZE, timeout_s=WAIT_S)) == data[2 * BLOCK_SIZE :][: 3 * BLOCK_SIZE]
    assert source.sent[content.digest] == sent + BLOCK_SIZE
    assert again.stats.damaged == 1
    blob.close()
    if whole:
        until(lambda: cache.has(content.digest))
        assert cache.path_of(content.digest).read_bytes() == data
    again.close()


def test_blobs_over_two_gib_take_the_part_of_the_list_that_they_need(source: FakeSource, fetcher: Fetcher) -> None:
    size = 8193 * BLOCK_SIZE  # two levels; all blocks but two are alike
    block = bytes(BLOCK_SIZE)
    special = some_bytes(BLOCK_SIZE)
    hashes = hash_block(block) * 8191 + hash_block(special) + hash_block(block)
    lower, top = encode_block_list(size, hashes)
    for made in (lower, top):
        source.blobs[digest_bytes(made)] = made

    class Big:
        def __getitem__(self, item: slice) -> bytes:
            whole = bytearray(item.stop - item.start)
            at = 8191 * BLOCK_SIZE
            for offset in range(item.start, item.stop):
                if at <= offset < at + BLOCK_SIZE:
                    start = offset - at
                    length = min(item.stop - offset, BLOCK_SIZE - start)
                    whole[offset - item.start : offset - item.start + length] = special[start : start + length]
                    break
            return bytes(whole)

    digest = "ab" * 32
    source.blobs[digest] = Big()  # type: ignore[assignment]
    blob = fetcher.large(digest, size, digest_bytes(top))
    assert bytes(blob.read(8191 * BLOCK_SIZE, 5, timeout_s=WAIT_S)) == special[:5]
    assert source.sent[digest_bytes(lower)] == BLOCK_SIZE
    assert bytes(blob.read(8192 * BLOCK_SIZE, 5, timeout_s=WAIT_S)) == bytes(5)
    assert source.sent[digest_bytes(lower)] == len(lower)
    assert source.sent[digest] == 2 * BLOCK_SIZE
    blob.close()


def test_a_closed_fetcher_leaves_nobody_waiting(
    new_fetcher: Callable[..., Fetcher], source: FakeSource, cache: Cache
) -> None:
    fetcher = new_fetcher(source, cache, workers=1)
    go = threading.Event()
    source.fail = lambda method: go.wait(WAIT_S) and None
    content = source.add(b"hello")
    told = threading.Event()
    assert not fetcher.need_small(content.digest, 5, told.set)
    closing = threading.Thread(target=fetcher.close)
    closing.start()
    assert told.wait(WAIT_S)
    go.set()
    closing.join()
    with pytest.raises(UnavailableError, match="ends"):
        fetcher.raise_small_failure(content.digest)


def test_an_answer_is_ended_where_it_is_read(source: FakeSource, fetcher: Fetcher, expect_log: ExpectLog) -> None:
    """Also one that is given up half-way, and that something still refers to (a traceback, say)."""
    expect_log("a server sent wrong bytes")
    expect_log("fetching blocks")
    content = source.add(some_bytes(SIZE))
    answers: list[Generator[Any, Any, Any]] = []
    read_range = source.read_range

    def kept(*given: Any, **options: Any) -> Any:
        answers.append(read_range(*given, **options))  # type: ignore[arg-type]
        return answers[-1]

    source.read_range = kept  # type: ignore[method-assign]
    source.spoil = lambda digest, offset, data: data[:-1] + bytes([data[-1] ^ 1]) if digest == content.digest else data
    with pytest.raises(BadBlobError):
        large(fetcher, content).read(0, SIZE, timeout_s=WAIT_S)
    assert answers
    until(lambda: all(inspect.getgeneratorstate(answer) == inspect.GEN_CLOSED for answer in answers))
