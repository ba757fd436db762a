"""The same random operations on a draft and on an ordinary folder: each must give the same result or errno,
and both trees must be the same afterwards, in the draft and in the version that it becomes.

The draft begins with a version's content, so that every operation also meets inherited files, folders and
links.
"""

from __future__ import annotations

import errno
import hashlib
import os
import random
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from artfs.testing.mount import Daemon, Workspace

NAMES = ("a", "b", "c", "d", "e")
OPERATIONS = 400


def plant(root: Path, chooser: random.Random) -> None:
    """A small tree with folders, files, an executable, a large file and links."""
    for number, name in enumerate(NAMES[:3]):
        folder = root / name
        folder.mkdir()
        for below in NAMES:
            (folder / below).write_bytes(chooser.randbytes(chooser.choice((0, 10, 5000, 70_000))))
        (folder / "deep").mkdir()
        (folder / "deep" / "x").write_bytes(b"x" * number)
    (root / "d").write_bytes(chooser.randbytes(1_300_000))
    (root / "e").write_text("#!/bin/sh\n")
    (root / "e").chmod(0o755)
    (root / "link").symlink_to("a/b")
    (root / "empty").mkdir()


def brief(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]


def some_path(root: Path, chooser: random.Random) -> Path:
    depth = chooser.choice((1, 1, 2, 2, 2, 3))
    return root.joinpath(*(chooser.choice((*NAMES, "deep", "empty", "link", "new")) for _ in range(depth)))


class Operations:
    """Each takes the root and its own random source, so that it does the same on both sides."""

    def write(self, root: Path, chooser: random.Random) -> Any:
        flags = chooser.choice((0, os.O_TRUNC, os.O_CREAT, os.O_CREAT | os.O_EXCL, os.O_CREAT | os.O_TRUNC, os.O_APPEND))
        fd = os.open(some_path(root, chooser), os.O_RDWR | flags | os.O_NOFOLLOW, 0o644)
        try:
            for _ in range(chooser.randrange(3)):
                offset = chooser.choice((0, 3, 4096, 100_000))
                os.pwrite(fd, chooser.randbytes(chooser.choice((1, 100, 5000))), offset)
            return os.fstat(fd).st_size, brief(os.pread(fd, 300, chooser.choice((0, 4090))))
        finally:
            os.close(fd)

    def append(self, root: Path, chooser: random.Random) -> Any:
        with some_path(root, chooser).open("ab") as stream:
            stream.write(chooser.randbytes(50))
            return stream.tell()

    def truncate(self, root: Path, chooser: random.Random) -> Any:
        path = some_path(root, chooser)
        os.truncate(path, chooser.choice((0, 7, 4096, 9000)))
        return path.stat().st_size

    def read(self, root: Path, chooser: random.Random) -> Any:
        return brief(some_path(root, chooser).read_bytes())

    def mkdir(self, root: Path, chooser: random.Random) -> Any:
        return some_path(root, chooser).mkdir()

    def rmdir(self, root: Path, chooser: random.Random) -> Any:
        return some_path(root, chooser).rmdir()

    def unlink(self, root: Path, chooser: random.Random) -> Any:
        return some_path(root, chooser).unlink()

    def rename(self, root: Path, chooser: random.Random) -> Any:
        return some_path(root, chooser).rename(some_path(root, chooser)) and None

    def symlink(self, root: Path, chooser: random.Random) -> Any:
        some_path(root, chooser).symlink_to(chooser.choice(NAMES))

    def link(self, root: Path, chooser: random.Random) -> Any:
        source = some_path(root, chooser)
        if source.is_symlink():
            return None  # what link(2) does with links is the file system's own business
        os.link(source, some_path(root, chooser))

    def chmod(self, root: Path, chooser: random.Random) -> Any:
        path = some_path(root, chooser)
        if path.is_symlink() or path.is_dir():
            return None
        path.chmod(chooser.choice((0o755, 0o644)))
        return stat.S_IMODE(path.stat().st_mode)

    def utime(self, root: Path, chooser: random.Random) -> Any:
        path = some_path(root, chooser)
        if path.is_dir():
            return None
        os.utime(path, ns=(10**18, 10**18 + chooser.randrange(10**9)))
        return path.stat().st_mtime_ns

    def listing(self, root: Path, chooser: random.Random) -> Any:
        path = some_path(root, chooser)
        return sorted(
            (entry.name, entry.is_dir(follow_symlinks=False), entry.is_symlink()) for entry in os.scandir(path)
        )

    def remove_tree(self, root: Path, chooser: random.Random) -> Any:
        if chooser.random() < 0.2:
            shutil.rmtree(some_path(root, chooser))

    def use_after_unlink(self, root: Path, chooser: random.Random) -> Any:
        path = some_path(root, chooser)
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        try:
            path.unlink()
            os.pwrite(fd, b"still here", 2)
            os.ftruncate(fd, 8)
            return os.fstat(fd).st_size, os.fstat(fd).st_nlink, brief(os.pread(fd, 100, 0))
        finally:
            os.close(fd)


def outcome(operation: Callable[[Path, random.Random], Any], root: Path, seed: int) -> Any:
    try:
        return operation(root, random.Random(seed))
    except shutil.Error as error:
        return ("shutil", str(error))
    except OSError as error:
        return ("errno", errno.errorcode.get(error.errno or 0))


def picture(root: Path) -> dict[str, Any]:
    """Everything that a version keeps."""
    shown: dict[str, Any] = {}
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            path = Path(folder, name)
            key = str(path.relative_to(root))
            if path.is_symlink():
                shown[key] = ("link", os.readlink(path))
            elif path.is_dir():
                shown[key] = "dir"
            else:
                shown[key] = (bool(path.stat().st_mode & 0o100), path.stat().st_size, brief(path.read_bytes()))
    return shown


@pytest.fixture(scope="module")
def daemon() -> Any:
    workspace = Workspace()
    made = Daemon(workspace)
    try:
        made.start()
        yield made
    finally:
        made.close()
    made.check_log()
    workspace.remove()


@pytest.mark.parametrize("seed", range(8))
def test_a_draft_behaves_like_a_folder(daemon: Daemon, tmp_path: Path, seed: int) -> None:
    source, peer = tmp_path / "source", tmp_path / "peer"
    source.mkdir()
    plant(source, random.Random(seed))
    daemon.workspace.artfs("log", source, f"p{seed}/c")
    draft = daemon.mountpoint / "drafts" / f"p{seed}" / "c:latest"
    draft.mkdir()
    shutil.copytree(source, peer, symlinks=True)
    assert picture(draft) == picture(peer)

    chooser = random.Random(seed)
    operations = Operations()
    names = [name for name in dir(operations) if not name.startswith("_")]
    done: list[tuple[str, int]] = []
    for _ in range(OPERATIONS):
        name, number = chooser.choice(names), chooser.randrange(10**9)
        done.append((name, number))
        method = getattr(operations, name)
        ours, theirs = outcome(method, draft, number), outcome(method, peer, number)
        assert ours == theirs, f"{name} with {number}, after {len(done)} operations: {ours} instead of {theirs}"
    assert picture(draft) == picture(peer)

    for link in [path for path in peer.rglob("*") if path.is_symlink()]:
        assert not os.readlink(link).startswith("/")
    daemon.workspace.artfs("commit", f"p{seed}/c:latest")
    assert picture(daemon.mountpoint / f"p{seed}" / "c" / "latest") == picture(peer)
    assert not draft.exists()
