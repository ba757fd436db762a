import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from artfs.errors import BadBlobError, BlobMissingError, ConflictError, StorageError
from artfs.model.digests import BLOCKS_ABOVE, digest_bytes
from artfs.model.entry import RefEntry
from artfs.model.manifest import Manifest
from artfs.store.folder import FolderStore
from artfs.transfer.pull import pull
from artfs.transfer.push import Pushed, push_entries
from artfs.transfer.verify import verify_directory
from artfs.wire.control import Progress

Push = Callable[..., Pushed]
Open = Callable[[str], Manifest]


@pytest.fixture
def version(push: Push, manifest: Open, folder: Path) -> Manifest:
    return manifest(push(folder).root)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def leftovers(dest: Path) -> list[Path]:
    return list(dest.rglob(".artfs-*"))


def break_blob(store: FolderStore, digest: str, data: bytes) -> None:
    path = store.path_of(digest)
    path.chmod(0o644)
    path.write_bytes(data)


@pytest.mark.parametrize("workers", [1, 4])
def test_a_version_becomes_a_folder(
    store: FolderStore, version: Manifest, folder: Path, tmp_path: Path, workers: int
) -> None:
    dest = tmp_path / "new" / "dest"
    old = os.umask(0o022)
    try:
        done = pull(store, version, dest, workers=workers)
    finally:
        os.umask(old)
    assert verify_directory(store, version.root, dest) == []
    assert (done.written, done.links, done.unchanged, done.nbytes) == (6, 1, 0, 30 + 256 * 9000)
    for path in folder.rglob("*"):
        there = dest / path.relative_to(folder)
        if path.is_symlink():
            assert there.readlink() == path.readlink()
        elif path.is_file():
            assert there.read_bytes() == path.read_bytes()
            assert mode_of(there) == (0o755 if path.name == "run.sh" else 0o644)
            assert there.stat().st_nlink == 1
        else:
            assert there.is_dir()
    assert leftovers(dest) == []


def test_the_umask_counts(store: FolderStore, version: Manifest, tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        pull(store, version, tmp_path / "dest")
    finally:
        os.umask(old)
    assert (mode_of(tmp_path / "dest" / "a.txt"), mode_of(tmp_path / "dest" / "run.sh")) == (0o600, 0o700)


def test_what_is_equal_stays_and_what_differs_is_replaced(
    store: FolderStore, version: Manifest, tmp_path: Path
) -> None:
    dest = tmp_path / "dest"
    pull(store, version, dest)
    equal = {path: path.lstat().st_ino for path in dest.rglob("*")}
    again = pull(store, version, dest)
    assert (again.written, again.links, again.unchanged) == (0, 0, 7)
    assert {path: path.lstat().st_ino for path in dest.rglob("*")} == equal

    (dest / "a.txt").write_bytes(b"hellO\n")
    (dest / "run.sh").chmod(0o644)
    (dest / "zero").unlink()
    (dest / "sub" / "same.txt").unlink()
    (dest / "sub" / "same.txt").symlink_to("/etc/passwd")
    (dest / "sub" / "link").unlink()
    (dest / "sub" / "link").write_bytes(b"no link")
    (dest / "mine.txt").write_bytes(b"mine")
    third = pull(store, version, dest)
    assert (third.written, third.links, third.unchanged) == (3, 1, 3)
    assert [str(problem) for problem in verify_directory(store, version.root, dest)] == [
        "mine.txt: the version does not have it"
    ]
    assert (dest / "mine.txt").read_bytes() == b"mine"
    assert Path("/etc/passwd").read_bytes() != b"hello\n"


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("sub/", {"sub/b\udcff\n", "sub/deep/large.bin", "sub/link", "sub/same.txt"}),
        ("sub", {"sub/b\udcff\n", "sub/deep/large.bin", "sub/link", "sub/same.txt"}),
        ("sub/deep/large.bin", {"sub/deep/large.bin"}),
        ("sub/d", {"sub/deep/large.bin"}),
        ("r", {"run.sh"}),
        ("nothing/there", set()),
        ("", {"a.txt", "run.sh", "zero", "sub/b\udcff\n", "sub/deep/large.bin", "sub/link", "sub/same.txt"}),
    ],
)
def test_a_prefix_selects(
    store: FolderStore, version: Manifest, tmp_path: Path, prefix: str, expected: set[str]
) -> None:
    dest = tmp_path / "dest"
    pull(store, version, dest, path_prefix=prefix)
    assert {str(path.relative_to(dest)) for path in dest.rglob("*") if not path.is_dir()} == expected
    assert (dest / "empty").exists() == (prefix == "")


def test_a_directory_in_the_way(store: FolderStore, version: Manifest, tmp_path: Path) -> None:
    for name in ("a.txt", "sub/link"):
        dest = tmp_path / name.replace("/", "-")
        (dest / name).mkdir(parents=True)
        with pytest.raises(ConflictError, match=rf"{dest}/{name} is a directory"):
            pull(store, version, dest)
        assert leftovers(dest) == []


def test_a_file_where_a_directory_should_be(store: FolderStore, version: Manifest, tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    dest.mkdir()
    (dest / "sub").write_bytes(b"mine")
    with pytest.raises(ConflictError, match=f"{dest}/sub is a file"):
        pull(store, version, dest)
    assert (dest / "sub").read_bytes() == b"mine"
    with pytest.raises(ConflictError):
        pull(store, version, dest / "sub")
    with pytest.raises(ConflictError):
        pull(store, version, dest / "sub" / "below")


def test_links_below_the_destination_are_not_followed(store: FolderStore, version: Manifest, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "deep").mkdir(parents=True)
    for name in ("sub", "sub/deep"):
        dest = tmp_path / name.replace("/", "-")
        (dest / name).parent.mkdir(parents=True)
        (dest / name).symlink_to(outside)
        with pytest.raises(ConflictError, match="is a symbolic link"):
            pull(store, version, dest)
        assert [path.name for path in outside.rglob("*")] == ["deep"]


def test_the_destination_itself_may_be_a_link(store: FolderStore, version: Manifest, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    pull(store, version, tmp_path / "link")
    assert verify_directory(store, version.root, tmp_path / "real") == []


@pytest.mark.parametrize(("path", "size"), [("a.txt", 6), ("sub/deep/large.bin", 256 * 9000)])
@pytest.mark.parametrize("longer", [0, 1, -1])
def test_a_damaged_blob_is_not_handed_out(
    store: FolderStore, version: Manifest, tmp_path: Path, path: str, size: int, longer: int
) -> None:
    entry = dict(version.files())[path]
    break_blob(store, entry.digest, bytes(size + longer))
    dest = tmp_path / "dest"
    with pytest.raises(BadBlobError, match=path) as caught:
        pull(store, version, dest)
    assert caught.value.digest == entry.digest
    assert not (dest / path).exists()
    assert leftovers(dest) == []


def test_a_missing_blob(store: FolderStore, version: Manifest, tmp_path: Path) -> None:
    store.remove(digest_bytes(b"#!/bin/sh\n"))
    with pytest.raises(BlobMissingError):
        pull(store, version, tmp_path / "dest")
    assert leftovers(tmp_path / "dest") == []


def test_references_are_left_to_others(store: FolderStore, manifest: Open, tmp_path: Path) -> None:
    with store.begin() as batch:
        built = push_entries(batch, {"data/ref": RefEntry(b"-", "s3://bucket/key", 5, "", "")})
    done = pull(store, manifest(built.root), tmp_path / "dest")
    assert done.references == ["data/ref"]
    assert [path.name for path in (tmp_path / "dest").rglob("*")] == ["data"]


def test_progress_is_told(store: FolderStore, version: Manifest, tmp_path: Path) -> None:
    told: list[Progress] = []
    pull(store, version, tmp_path / "dest", on_progress=told.append)
    size = 30 + 256 * 9000
    assert told[-1] == Progress("pull", 6, 6, size, size)


def test_many_files(store: FolderStore, push: Push, manifest: Open, tmp_path: Path) -> None:
    root = tmp_path / "many"
    for number in range(400):
        path = root / f"{number % 7}" / f"{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % number)
    (root / "large").write_bytes(bytes(3 * BLOCKS_ABOVE))
    version = manifest(push(root).root)
    pull(store, version, tmp_path / "dest", workers=3)
    assert verify_directory(store, version.root, tmp_path / "dest") == []


def test_a_destination_that_cannot_be_made(store: FolderStore, version: Manifest) -> None:
    with pytest.raises(StorageError, match="/proc/nothing"):
        pull(store, version, "/proc/nothing")


def test_a_destination_that_takes_no_files(store: FolderStore, version: Manifest) -> None:
    with pytest.raises(StorageError, match="/proc") as caught:
        pull(store, version, "/proc")
    assert "state folder" not in str(caught.value)
