"""Small files of a server as the mount reads them, when they came into the cache a moment ago."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from artfs.model.digests import digest_bytes, to_raw
from artfs.model.entry import FileEntry
from artfs.store.cache import Cache, check_blob
from artfs.testing.cachefiles import damage_cached
from artfs.testing.ranges import FakeSource
from artfs.transfer.fetch import Fetcher
from artfsd.inodes import Wait
from artfsd.remote import RemoteBlobs

DATA, NEXT = b"what is asked for", b"somebody else's secret"
DIGEST = digest_bytes(DATA)


@pytest.fixture
def blobs(tmp_path: Path) -> Iterator[RemoteBlobs]:
    """Both are in one pack, one behind the other, and were told as kept just now."""
    with Cache(tmp_path / "cache", size=1 << 40, floor=0) as cache:
        fetcher = Fetcher(FakeSource(), cache)
        cache.keep_small([check_blob(digest_bytes(data), data) for data in (DATA, NEXT)])
        fetcher.smalls_kept([DIGEST, digest_bytes(NEXT)])
        yield RemoteBlobs(fetcher)
        fetcher.close()


def entry(size: int) -> FileEntry:
    return FileEntry(b"f", size, to_raw(DIGEST), b"", False)


def read(blobs: RemoteBlobs, offset: int, nbytes: int, size: int = len(DATA)) -> bytes:
    return bytes(blobs.open(entry(size), lambda: "f").read(offset, nbytes))


def test_it_is_believed_until_all_of_it_was_read(blobs: RemoteBlobs) -> None:
    damage_cached(blobs.fetcher.cache, DIGEST, at=0)
    assert read(blobs, 1, 4) == DATA[1:5]
    assert blobs.fetcher.is_just_kept(DIGEST)
    assert read(blobs, 5, 100) == DATA[5:]
    assert not blobs.fetcher.is_just_kept(DIGEST)


def test_then_it_is_checked(blobs: RemoteBlobs, expect_log: Callable[..., None]) -> None:
    expect_log("was damaged; it is fetched again", count=1)
    assert read(blobs, 0, 100) == DATA
    damage_cached(blobs.fetcher.cache, DIGEST)
    with pytest.raises(Wait):
        read(blobs, 0, 100)


@pytest.mark.parametrize("size", [len(DATA) + len(NEXT) + 40, len(DATA) - 1])
def test_a_tree_that_says_another_size_shows_nothing(
    blobs: RemoteBlobs, size: int, expect_log: Callable[..., None]
) -> None:
    """Above all not the blob that lies behind it."""
    expect_log("was damaged; it is fetched again", count=1)
    with pytest.raises(Wait):
        read(blobs, 0, 1000, size)
