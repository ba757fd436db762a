"""What a FolderStore promises beyond the contract: files, modes, locks between processes, errors of the disk."""

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from artfs.errors import SourceChangedError, StorageError
from artfs.model.digests import BLOCKS_ABOVE, digest_bytes
from artfs.model.records import Content
from artfs.store.batch import SYNC_EACH
from artfs.store.folder import FolderStore
from artfs.store.verify import hash_bytes
from artfs.testing.store_contract import some_bytes


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "state" / "store")


@pytest.fixture
def python() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a Python program, its arguments after it; killed at the end."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str, *arguments: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def temporary_files(store: FolderStore) -> list[Path]:
    return [path for path in (store.root / "tmp").rglob("*") if path.is_file()]


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_blob_is_a_read_only_file_of_its_name(store: FolderStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(some_bytes(BLOCKS_ABOVE + 1))
    (tmp_path / "staged").write_bytes(b"staged")
    old = os.umask(0o077)
    try:
        with store.begin() as batch:
            digest = batch.put_bytes(b"hello")
            batch.put_file(tmp_path / "file")
            batch.adopt_file(tmp_path / "staged", hash_bytes(b"staged").content, ())
            batch.sync()
    finally:
        os.umask(old)
    assert store.path_of(digest) == store.root / "blobs" / digest[:2] / digest
    assert store.path_of(digest).read_bytes() == b"hello"
    assert {mode_of(store.path_of(digest)) for digest, _ in store.blobs()} == {0o444}
    assert mode_of(store.root) == mode_of(store.root / "tmp") == mode_of(store.path_of(digest).parent) == 0o700


def test_adopting_copies_nothing(store: FolderStore, tmp_path: Path) -> None:
    path = tmp_path / "staged"
    path.write_bytes(b"staged")
    content = hash_bytes(b"staged").content
    with store.begin() as batch:
        batch.adopt_file(path, content, ())
        batch.sync()
    assert path.stat().st_ino == store.path_of(content.digest).stat().st_ino
    assert mode_of(path) == 0o444


@pytest.mark.parametrize("adopt", [True, False])
def test_a_torn_blob_is_replaced(store: FolderStore, tmp_path: Path, adopt: bool) -> None:
    """A machine that went down may leave a blob shorter than it was written."""
    content = hash_bytes(b"hello").content
    torn = store.path_of(content.digest)
    torn.parent.mkdir()
    torn.write_bytes(b"")
    (tmp_path / "staged").write_bytes(b"hello")
    with store.begin() as batch:
        if adopt:
            batch.adopt_file(tmp_path / "staged", content, ())
        else:
            batch.put_bytes(b"hello")
        batch.sync()
    assert store.read(content.digest) == b"hello"
    assert temporary_files(store) == []


@pytest.mark.parametrize("count", [1, SYNC_EACH, SYNC_EACH + 1, 3 * SYNC_EACH])
def test_no_temporary_file_or_folder_is_left(store: FolderStore, count: int) -> None:
    with store.begin() as batch:
        for number in range(count):
            batch.put_bytes(b"%d" % number)
        batch.sync()
    assert len(list(store.blobs())) == count
    assert list((store.root / "tmp").iterdir()) == []


def test_a_failed_put_leaves_no_temporary_file(store: FolderStore, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(some_bytes(3 * BLOCKS_ABOVE))

    def grow(nbytes: int) -> None:
        with path.open("ab") as stream:
            stream.write(b"more")

    with store.begin() as batch:
        with pytest.raises(SourceChangedError, match=str(path)):
            batch.put_file(path, on_bytes=grow)
        with pytest.raises(SourceChangedError):
            batch.put_file(path, expect=Content("00" * 32, path.stat().st_size, "00" * 32))
        assert temporary_files(store) == []
    assert list(store.blobs()) == []


LIMITED = """
import resource, signal, sys
from pathlib import Path
from artfs.errors import StorageError
from artfs.store.folder import FolderStore
store = FolderStore(Path(sys.argv[1]))
with store.begin() as batch:
    batch.put_bytes(b"before")
    limit = getattr(resource, sys.argv[3])
    usual = resource.getrlimit(limit)
    resource.setrlimit(limit, (int(sys.argv[4]), usual[1]))
    for put in (lambda: batch.put_bytes(b"x" * 500_000), lambda: batch.put_file(sys.argv[2])):
        try:
            put()
        except StorageError as error:
            print(error.errno, error)
    resource.setrlimit(limit, usual)
    print([str(path) for path in (store.root / "tmp").rglob("*") if path.is_file()])
"""


@pytest.mark.parametrize(
    ("limit", "value", "number"), [("RLIMIT_FSIZE", 100_000, errno.EFBIG), ("RLIMIT_NOFILE", 3, errno.EMFILE)]
)
def test_the_disk_may_say_no(
    store: FolderStore, tmp_path: Path, python: Callable[..., subprocess.Popen[str]], limit: str, value: int, number: int
) -> None:
    (tmp_path / "file").write_bytes(some_bytes(2 * BLOCKS_ABOVE))
    process = python(LIMITED, store.root, tmp_path / "file", limit, value)
    out, _ = process.communicate(timeout=60)
    lines = out.splitlines()
    assert [int(line.split()[0]) for line in lines[:2]] == [number, number]
    assert lines[2:] == ["[]"]
    assert store.read(digest_bytes(b"before")) == b"before"
    assert len(list(store.blobs())) == 1


def test_some_space_stays_free(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(some_bytes(2 * BLOCKS_ABOVE))
    status = os.statvfs(tmp_path)
    store = FolderStore(tmp_path / "store", free_floor=status.f_bavail * status.f_frsize + 2**40)
    with store.begin() as batch:
        for put in (lambda: batch.put_bytes(b"hello"), lambda: batch.put_file(tmp_path / "file")):
            with pytest.raises(StorageError, match="keeps .* MiB free.*artfs gc") as caught:
                put()
            assert caught.value.errno == errno.ENOSPC
    roomy = FolderStore(tmp_path / "store", free_floor=1)
    with roomy.begin() as batch:
        batch.put_bytes(b"hello")
        # What is there already takes no space.
        with store.begin() as other:
            other.put_bytes(b"hello")
    assert len(list(store.blobs())) == 1


def test_a_store_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="opening the store"):
        FolderStore(tmp_path / "file" / "store")


HOLD = """
import sys
from pathlib import Path
from artfs.store.folder import FolderStore
store = FolderStore(Path(sys.argv[1]))
with (store.exclusive() if sys.argv[2] == "sweep" else store.begin()) as batch:
    if batch is not None:
        batch.put_bytes(b"from the other process")
        open(batch._open_folder().temp_path(), "wb").write(b"half a blob")
    print("in", flush=True)
    sys.stdin.readline()
print("out", flush=True)
"""


def test_a_sweep_waits_for_a_batch_of_another_process(
    store: FolderStore, python: Callable[..., subprocess.Popen[str]]
) -> None:
    process = python(HOLD, store.root, "batch")
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == "in\n"
    told: list[str] = []

    def tell(message: str) -> None:
        told.append(message)
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()

    with store.exclusive(tell):
        assert told == ["waiting for a commit or a push that is under way"]
        assert process.stdout.readline() == "out\n"


def test_a_batch_waits_for_a_sweep_of_another_process(
    tmp_path: Path, python: Callable[..., subprocess.Popen[str]]
) -> None:
    told: list[str] = []

    def tell(message: str) -> None:
        told.append(message)
        process.communicate("\n", timeout=60)

    store = FolderStore(tmp_path / "store", on_wait=tell)
    process = python(HOLD, store.root, "sweep")
    assert process.stdout is not None
    assert process.stdout.readline() == "in\n"
    with store.begin():
        assert told == ["waiting for a sweep of the store"]


def test_a_killed_writer_is_cleaned_up_after(
    store: FolderStore, python: Callable[..., subprocess.Popen[str]]
) -> None:
    process = python(HOLD, store.root, "batch")
    assert process.stdout is not None
    assert process.stdout.readline() == "in\n"
    # As long as it lives nobody touches its files.
    FolderStore(store.root)
    with store.begin() as batch:
        batch.put_bytes(b"hello")
        batch.sync()
    assert len(temporary_files(store)) == 1
    process.kill()
    process.wait()
    FolderStore(store.root)
    assert temporary_files(store) == []
    # The folder stays to say that some blobs may not be durable, until somebody synced them all.
    assert len(list((store.root / "tmp").iterdir())) == 1
    with store.begin():
        pass
    assert len(list((store.root / "tmp").iterdir())) == 1
    with store.begin() as batch:
        batch.sync()
    assert list((store.root / "tmp").iterdir()) == []
    assert store.read(digest_bytes(b"from the other process")) == b"from the other process"


def test_a_sweep_cleans_up_after_a_killed_writer(
    store: FolderStore, python: Callable[..., subprocess.Popen[str]]
) -> None:
    process = python(HOLD, store.root, "batch")
    assert process.stdout is not None
    assert process.stdout.readline() == "in\n"
    process.kill()
    process.wait()
    with store.exclusive():
        assert list((store.root / "tmp").iterdir()) == []
