"""A store on a disk that is full, that fails, or whose machine goes down."""

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from artfs.errors import StorageError
from artfs.model.digests import BLOCKS_ABOVE, digest_bytes
from artfs.store.batch import SYNC_EACH
from artfs.store.folder import FolderStore
from artfs.store.verify import hash_bytes
from artfs.testing.disks import SmallDisk
from artfs.testing.store_contract import some_bytes

EARLIER_BOOT = "0123456789abcdef"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    (tmp_path / "disk").mkdir()
    with SmallDisk(tmp_path / "disk") as disk:
        yield disk


@pytest.fixture
def store(disk: SmallDisk) -> FolderStore:
    return FolderStore(disk.mountpoint / "home" / "store")


@contextmanager
def after_power_cut(disk: SmallDisk, tmp_path: Path) -> Iterator[FolderStore]:
    """The store as the next boot finds it; nobody has begun to write yet."""
    copy, mountpoint = tmp_path / "copy.img", tmp_path / "copy"
    shutil.copyfile(disk.image, copy)
    mountpoint.mkdir()
    subprocess.run(["mount", "-o", "loop", copy, mountpoint], check=True)
    try:
        root = mountpoint / "home" / "store"
        for folder in (root / "tmp").iterdir():
            folder.rename(folder.with_name(f"{EARLIER_BOOT}.{folder.name.partition('.')[2]}"))
        yield FolderStore(root)
    finally:
        subprocess.run(["umount", mountpoint], check=True)
        mountpoint.rmdir()
        copy.unlink()


def is_sound(store: FolderStore, digest: str) -> bool:
    return digest_bytes(store.path_of(digest).read_bytes()) == digest


@pytest.mark.parametrize("count", [4, 3 * SYNC_EACH])
def test_what_was_synced_survives_a_power_cut(
    disk: SmallDisk, store: FolderStore, tmp_path: Path, count: int
) -> None:
    (disk.mountpoint / "staged").write_bytes(some_bytes(100_000))
    (disk.mountpoint / "file").write_bytes(some_bytes(2 * BLOCKS_ABOVE))
    with store.begin() as batch:
        for number in range(count):
            batch.put_bytes(some_bytes(20_000, number))
        batch.adopt_file(disk.mountpoint / "staged", hash_bytes(some_bytes(100_000)).content, ())
        batch.put_file(disk.mountpoint / "file")
        batch.sync()
        expected = {digest for digest, _ in store.blobs()}
        assert len(expected) == count + 3
        with after_power_cut(disk, tmp_path) as later, later.begin():
            assert {digest for digest, _ in later.blobs()} == expected
            assert all(is_sound(later, digest) for digest in expected)


def test_torn_blobs_are_gone_before_anybody_counts_on_them(
    disk: SmallDisk, store: FolderStore, tmp_path: Path, expect_log: Callable[..., None]
) -> None:
    with store.begin() as batch:
        synced = batch.put_bytes(b"synced")
        batch.sync()
    with store.begin() as batch:
        for number in range(200):
            batch.put_bytes(some_bytes(20_000, number))
        # Somebody else's fsync writes the journal, and with it the blobs' names, but not their bytes.
        with (disk.mountpoint / "other").open("wb") as stream:
            stream.write(b"x")
            stream.flush()
            os.fsync(stream.fileno())
        with after_power_cut(disk, tmp_path) as later:
            torn = sum(not is_sound(later, digest) for digest, _ in later.blobs())
            assert torn > 0, "this kernel wrote everything; the test shows nothing"
            expect_log(f"removed {torn} blobs", count=1)
            with later.begin() as batch:
                assert is_sound(later, synced)
                assert all(is_sound(later, digest) for digest, _ in later.blobs())
                batch.put_bytes(some_bytes(20_000, 7))
                batch.sync()
            assert later.read(digest_bytes(some_bytes(20_000, 7))) == some_bytes(20_000, 7)


def test_a_full_disk(disk: SmallDisk, store: FolderStore) -> None:
    data = some_bytes(8 * BLOCKS_ABOVE)
    with store.begin() as batch:
        before = batch.put_bytes(b"before")
        batch.sync()
    (disk.mountpoint / "file").write_bytes(data)
    disk.fill(leave=2 * BLOCKS_ABOVE)
    with store.begin() as batch:
        for put in (lambda: batch.put_file(disk.mountpoint / "file"), lambda: batch.put_bytes(data)):
            with pytest.raises(StorageError, match="artfs gc") as caught:
                put()
            assert caught.value.errno == errno.ENOSPC
            assert [path for path in (store.root / "tmp").rglob("*") if path.is_file()] == []
        assert [digest for digest, _ in store.blobs()] == [before]
        disk.relieve()
        content = batch.put_file(disk.mountpoint / "file")
        batch.sync()
    assert store.try_size(content.digest) == len(data)


@pytest.mark.parametrize("count", [4, 3 * SYNC_EACH])
def test_a_sync_that_fails_is_told(
    disk: SmallDisk, store: FolderStore, count: int, expect_log: Callable[..., None]
) -> None:
    expect_log("cannot tidy up", count=1)
    with store.begin() as batch:
        for number in range(count):
            batch.put_bytes(some_bytes(20_000, number))
        disk.fail()
        with pytest.raises(StorageError) as caught:
            batch.sync()
        assert caught.value.errno in (errno.EROFS, errno.EIO)
        with pytest.raises(StorageError):
            batch.put_bytes(b"more")
    with pytest.raises(StorageError, match="read-only"):
        store.begin().__enter__()
