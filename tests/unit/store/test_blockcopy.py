import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from artfs.errors import BadBlobError, BlobMissingError
from artfs.model.digests import BLOCK_SIZE
from artfs.store.blockcopy import BlockCopier
from artfs.store.blocks import BlobChecker
from artfs.store.verify import hash_bytes
from artfs.testing.store_contract import some_bytes

SIZE = 80 * BLOCK_SIZE + 5
DATA = some_bytes(SIZE)
CONTENT, OBJECTS = hash_bytes(DATA)
WORKERS = [1, 2, 5]


def listed() -> BlobChecker:
    return BlobChecker.of(CONTENT, lambda digest: OBJECTS[-1])


def unlisted() -> BlobChecker:
    def load(digest: str) -> bytes:
        raise BlobMissingError("gone", digest)

    return BlobChecker.of(CONTENT, load)


@contextmanager
def files(folder: Path, data: bytes) -> Iterator[tuple[int, int]]:
    (folder / "source").write_bytes(data)
    with (folder / "source").open("rb") as source, (folder / "target").open("w+b") as target:
        yield source.fileno(), target.fileno()


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("make", [listed, unlisted])
def test_copies_all(tmp_path: Path, workers: int, make: Callable[[], BlobChecker]) -> None:
    told: list[int] = []
    with files(tmp_path, DATA) as (source, target):
        BlockCopier(workers).copy(source, target, make(), on_bytes=told.append)
    assert (tmp_path / "target").read_bytes() == DATA
    assert sum(told) == SIZE


def test_small_lists_need_no_threads(tmp_path: Path) -> None:
    data = some_bytes(5 * BLOCK_SIZE)
    content, objects = hash_bytes(data)
    with files(tmp_path, data) as (source, target):
        BlockCopier(8).copy(source, target, BlobChecker.of(content, lambda digest: objects[-1]))
    assert (tmp_path / "target").read_bytes() == data


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("at", [0, BLOCK_SIZE, 41 * BLOCK_SIZE - 1, SIZE - 1])
@pytest.mark.parametrize("make", [listed, unlisted])
def test_one_wrong_byte_is_found(tmp_path: Path, workers: int, at: int, make: Callable[[], BlobChecker]) -> None:
    bad = bytearray(DATA)
    bad[at] ^= 1
    with files(tmp_path, bytes(bad)) as (source, target):
        for into in (target, None):
            with pytest.raises(BadBlobError, match=CONTENT.digest):
                BlockCopier(workers).copy(source, into, make())


@pytest.mark.parametrize("change", [-1, 1, -BLOCK_SIZE, BLOCK_SIZE])
@pytest.mark.parametrize("make", [listed, unlisted])
def test_another_size_is_found(tmp_path: Path, change: int, make: Callable[[], BlobChecker]) -> None:
    with files(tmp_path, (DATA + DATA)[: SIZE + change]) as (source, target):
        with pytest.raises(BadBlobError, match=f"{SIZE + change} bytes instead of {SIZE}"):
            BlockCopier(2).copy(source, target, make())


def test_a_file_that_shrinks_meanwhile_is_found(tmp_path: Path) -> None:
    def shrink(nbytes: int) -> None:
        os.truncate(tmp_path / "source", 30 * BLOCK_SIZE)

    with files(tmp_path, DATA) as (source, target), pytest.raises(BadBlobError, match="in block"):
        BlockCopier(1).copy(source, target, listed(), on_bytes=shrink)


@pytest.mark.parametrize("workers", WORKERS)
def test_what_the_callback_raises_ends_all_threads(tmp_path: Path, workers: int) -> None:
    class Enough(Exception):
        pass

    calls = 0

    def stop(nbytes: int) -> None:
        nonlocal calls
        calls += 1
        if calls >= 3:
            raise Enough

    before = threading.active_count()
    with files(tmp_path, DATA) as (source, target), pytest.raises(Enough):
        BlockCopier(workers).copy(source, target, listed(), on_bytes=stop)
    assert threading.active_count() == before
    assert calls < 3 + workers


def test_copies_at_once_share_the_threads(tmp_path: Path) -> None:
    most = 0
    copier = BlockCopier(3)

    def look(nbytes: int) -> None:
        nonlocal most
        most = max(most, sum(thread.name == "artfs-copy" for thread in threading.enumerate()))

    def copy(number: int) -> None:
        folder = tmp_path / str(number)
        folder.mkdir()
        with files(folder, DATA) as (source, target):
            copier.copy(source, target, listed(), on_bytes=look)

    callers = [threading.Thread(target=copy, args=(number,)) for number in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert most <= 2
    for number in range(4):
        assert (tmp_path / str(number) / "target").read_bytes() == DATA
