import os
from collections.abc import Callable
from pathlib import Path

import pytest

from artfs.errors import BadBlobError, NotFoundError
from artfs.model.digests import digest_bytes
from artfs.model.entry import FileEntry
from artfs.model.manifest import Manifest, build_manifest
from artfs.store.folder import FolderStore
from artfs.transfer.pull import pull
from artfs.transfer.push import Pushed
from artfs.transfer.verify import Problem, verify_directory, verify_store, verify_version
from artfs.wire.control import Progress

HELLO = digest_bytes(b"hello\n")
SIZE = 30 + 256 * 9000


@pytest.fixture
def version(push: Callable[..., Pushed], manifest: Callable[[str], Manifest], folder: Path) -> Manifest:
    return manifest(push(folder).root)


def damage(store: FolderStore, digest: str, data: bytes) -> None:
    path = store.path_of(digest)
    path.chmod(0o644)
    path.write_bytes(data)


def kinds(problems: list[Problem]) -> list[tuple[str, str]]:
    return [(problem.path, problem.kind) for problem in problems]


# a version against the store


@pytest.mark.parametrize("workers", [1, 4])
def test_a_sound_version(store: FolderStore, version: Manifest, workers: int) -> None:
    told: list[Progress] = []
    assert verify_version(store, version.root, on_progress=told.append, workers=workers) == []
    assert told[-1] == Progress("verify", 6, 6, SIZE, SIZE)


def test_damaged_and_missing_files_are_found(store: FolderStore, version: Manifest) -> None:
    large = dict(version.files())["sub/deep/large.bin"].digest
    damage(store, HELLO, b"hellO\n")
    damage(store, digest_bytes(b""), b"x")
    damage(store, large, bytes(256 * 9000))
    store.remove(digest_bytes(b"#!/bin/sh\n"))
    problems = verify_version(store, version.root)
    assert kinds(problems) == [
        ("a.txt", "damaged"), ("run.sh", "missing"), ("sub/deep/large.bin", "damaged"),
        ("sub/same.txt", "damaged"), ("zero", "damaged"),
    ]
    assert [problem.digest for problem in problems][:3] == [HELLO, digest_bytes(b"#!/bin/sh\n"), large]
    assert str(problems[1]) == "run.sh: its blob is not in the store"


@pytest.mark.parametrize("change", ["missing", "damaged", "foreign"])
def test_block_lists_are_checked(store: FolderStore, version: Manifest, change: str) -> None:
    path = "sub/deep/large.bin"
    entry = dict(version.files())[path]
    blocks = entry.blocks.hex()
    root = version.root
    if change == "missing":
        store.remove(blocks)
    elif change == "damaged":
        damage(store, blocks, store.read(blocks)[:-1] + b"?")
    else:
        with store.begin() as batch:
            other = FileEntry(b"-", entry.size, entry.sha256, bytes.fromhex(batch.put_bytes(b"?")), False)
            built = build_manifest({path: other})
            for _, data in built.objects:
                batch.put_bytes(data)
        root = built.root
    found = verify_version(store, root)
    assert kinds(found) == [(path, "missing" if change == "missing" else "damaged")]


@pytest.mark.parametrize("missing", [True, False])
def test_a_broken_tree_does_not_hide_the_rest(store: FolderStore, version: Manifest, missing: bool) -> None:
    sub = version.get("sub/deep")
    assert sub is not None
    assert not isinstance(sub, FileEntry)
    digest = sub.digest  # type: ignore[union-attr]
    if missing:
        store.remove(digest)
    else:
        damage(store, digest, b"\x93\x01\x00")
    damage(store, HELLO, b"")
    problems = verify_version(store, version.root)
    assert kinds(problems) == [
        ("a.txt", "damaged"), ("sub/deep/", "missing" if missing else "damaged"), ("sub/same.txt", "damaged"),
    ]
    assert problems[1].digest == digest


def test_a_version_without_its_root(store: FolderStore, version: Manifest) -> None:
    store.remove(version.root)
    problems = verify_version(store, version.root)
    assert kinds(problems) == [("", "missing")]
    assert problems[0].digest == version.root


# the store against its names


def test_every_blob_is_read(store: FolderStore, version: Manifest) -> None:
    told: list[Progress] = []
    assert verify_store(store, on_progress=told.append) == []
    assert told[-1].files == len(list(store.blobs()))
    damage(store, HELLO, b"hellO\n")
    damage(store, version.root, b"")
    assert sorted(problem.digest for problem in verify_store(store)) == sorted([HELLO, version.root])


# a folder against a version


@pytest.fixture
def dest(store: FolderStore, version: Manifest, tmp_path: Path) -> Path:
    pull(store, version, tmp_path / "dest")
    return tmp_path / "dest"


def test_an_equal_folder(store: FolderStore, version: Manifest, folder: Path, dest: Path) -> None:
    told: list[Progress] = []
    assert verify_directory(store, version.root, dest, on_progress=told.append) == []
    assert told[-1] == Progress("verify", 6, 6, SIZE, SIZE)
    assert verify_directory(store, version.root, folder) == []


def test_every_difference_is_found(store: FolderStore, version: Manifest, dest: Path) -> None:
    (dest / "a.txt").write_bytes(b"hellO\n")
    (dest / "run.sh").chmod(0o644)
    (dest / "zero").unlink()
    os.mkfifo(dest / "zero")
    (dest / "empty").rmdir()
    (dest / "empty").write_bytes(b"")
    (dest / "sub" / "link").unlink()
    (dest / "sub" / "link").symlink_to("same.txt")
    (dest / "sub" / "same.txt").write_bytes(b"longer than before")
    (dest / "sub" / "deep" / "large.bin").unlink()
    (dest / "sub" / "b\udcff\n").unlink()
    (dest / "sub" / "b\udcff\n").symlink_to("same.txt")
    (dest / "more").mkdir()
    (dest / "more" / "file").write_bytes(b"x")
    (dest / "z.txt").write_bytes(b"x")
    assert kinds(verify_directory(store, version.root, dest)) == [
        ("a.txt", "changed"), ("empty/", "changed"), ("more/", "extra"), ("run.sh", "changed"),
        ("sub/b\udcff\n", "changed"), ("sub/deep/large.bin", "missing"), ("sub/link", "changed"),
        ("sub/same.txt", "changed"), ("z.txt", "extra"), ("zero", "changed"),
    ]


def test_a_missing_directory_is_one_problem(store: FolderStore, version: Manifest, tmp_path: Path) -> None:
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "sub").symlink_to("/etc")
    assert kinds(verify_directory(store, version.root, tmp_path / "part")) == [
        ("a.txt", "missing"), ("empty/", "missing"), ("run.sh", "missing"), ("sub/", "changed"), ("zero", "missing"),
    ]


def test_no_folder(store: FolderStore, version: Manifest, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        verify_directory(store, version.root, tmp_path / "nothing")


def test_a_version_that_cannot_be_read(store: FolderStore, version: Manifest, dest: Path) -> None:
    damage(store, version.root, b"?")
    with pytest.raises(BadBlobError):
        verify_directory(store, version.root, dest)
