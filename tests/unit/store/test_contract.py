import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from artfs.store.base import BlobStore
from artfs.store.folder import FolderStore
from artfs.store.memory import MemoryStore
from artfs.store.sweep import SweepableStore
from artfs.testing.store_contract import SweepableContract


class TestFolderStore(SweepableContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> SweepableStore:
        return FolderStore(tmp_path / "state" / "store")

    def damage(self, store: BlobStore, digest: str, data: bytes) -> None:
        assert isinstance(store, FolderStore)
        path = store.path_of(digest)
        path.chmod(0o644)
        path.write_bytes(data)
        path.chmod(0o444)


class TestFolderStoreOnAnotherDisk(TestFolderStore):
    """What is staged lies on another file system, so that it is copied."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[SweepableStore]:
        with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
            store = FolderStore(Path(folder) / "store")
            assert store.root.stat().st_dev != tmp_path.stat().st_dev
            yield store


class TestMemoryStore(SweepableContract):
    @pytest.fixture
    def store(self) -> SweepableStore:
        return MemoryStore()

    def damage(self, store: BlobStore, digest: str, data: bytes) -> None:
        assert isinstance(store, MemoryStore)
        store.replace(digest, data)
