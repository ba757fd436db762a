"""After the machine went down: what was being written then is checked before anybody counts on it."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from artfs.model.digests import digest_bytes
from artfs.store.folder import FolderStore
from artfs.store.recovery import BatchFolder, read_boot_id

DAY_NS = 24 * 3600 * 10**9


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    """Three blobs, one of them with another's bytes and one with none."""
    store = FolderStore(tmp_path / "store")
    with store.begin() as batch:
        for data in (b"whole", b"zeros", b"empty"):
            batch.put_bytes(data)
        batch.sync()
    for data, torn in ((b"zeros", bytes(5)), (b"empty", b"")):
        path = store.path_of(digest_bytes(data))
        path.chmod(0o644)
        path.write_bytes(torn)
    return store


def leave_folder(store: FolderStore, boot_id: str, began_ns: int) -> Path:
    folder = store.root / "tmp" / f"{boot_id}.{began_ns}.1.1"
    (folder / "t1").mkdir(parents=True)
    (folder / "t1" / "2").write_bytes(b"half")
    return folder


@pytest.mark.parametrize("boot_id", ["0123456789abcdef", "failed"])
@pytest.mark.parametrize("sweep", [True, False])
def test_torn_blobs_are_removed(
    store: FolderStore, boot_id: str, sweep: bool, expect_log: Callable[..., None]
) -> None:
    expect_log("removed 2 blobs", count=1)
    folder = leave_folder(store, boot_id, time.time_ns())
    told: list[str] = []
    again = FolderStore(store.root, on_wait=told.append)
    assert folder.exists()
    with again.exclusive() if sweep else again.begin():
        assert not folder.exists()
        assert {digest for digest, _ in again.blobs()} == {digest_bytes(b"whole")}
    assert len(told) == 1
    assert list((store.root / "tmp").iterdir()) == []


def test_older_blobs_are_left_alone(store: FolderStore) -> None:
    leave_folder(store, "0123456789abcdef", time.time_ns() + DAY_NS)
    with store.begin():
        assert len(list(store.blobs())) == 3
    assert list((store.root / "tmp").iterdir()) == []


def test_a_batch_whose_sync_failed_leaves_a_reminder(tmp_path: Path) -> None:
    top = tmp_path / "tmp"
    top.mkdir()
    tmp = str(top)
    BatchFolder(tmp, read_boot_id()).close(durable=False, failed=True)
    BatchFolder(tmp, read_boot_id()).close(durable=True)
    folder = BatchFolder(tmp, read_boot_id())
    Path(folder.temp_path()).write_bytes(b"half")
    folder.close(durable=False)
    names = sorted(path.name for path in top.iterdir())
    assert [name.split(".")[0] for name in names] == sorted(["failed", read_boot_id()])
    assert [path for path in top.rglob("*") if path.is_file()] == []


def test_a_foreign_file_among_the_temporary_ones_is_no_concern_of_ours(store: FolderStore) -> None:
    (store.root / "tmp" / "notes.txt").write_bytes(b"mine")
    (store.root / "tmp" / "folder").mkdir()
    with store.begin() as batch:
        batch.put_bytes(b"hello")
        batch.sync()
    with store.exclusive():
        assert (store.root / "tmp" / "notes.txt").read_bytes() == b"mine"
