"""Versions cannot be changed, by nobody and in no way (docs/semantics.md, "Versions")."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from artfs.testing.corner import Corner
from artfs.testing.mount import Daemon, Workspace
from artfs.testing.trees import Link, make, picture

SOURCE = {"file": "content", "tool*": "#!/bin/sh\n", "folder/inner": "x", "empty": None, "link": Link("file")}

libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture(scope="module")
def version(served: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The root of a version; it is looked at again when the module ends."""
    corner = Corner(served, "readonly")
    source = make(tmp_path_factory.mktemp("readonly") / "source", SOURCE)
    corner.log(source)
    root = corner.path / "c" / "latest"
    yield root
    assert picture(root) == picture(source)
    assert picture(corner.path / "c" / "v0") == picture(source)


def open_as(flags: int) -> Callable[[Path], object]:
    return lambda root: os.open(root / "file", flags)


CALLS: dict[str, Callable[[Path], object]] = {
    "create": lambda root: os.open(root / "new", os.O_WRONLY | os.O_CREAT),
    "create in a folder": lambda root: (root / "folder" / "new").touch(),
    "open for writing": open_as(os.O_WRONLY),
    "open for both": open_as(os.O_RDWR),
    "open for appending": open_as(os.O_WRONLY | os.O_APPEND),
    "open and truncate": open_as(os.O_WRONLY | os.O_TRUNC),
    "truncate": lambda root: os.truncate(root / "file", 0),
    "lengthen": lambda root: os.truncate(root / "file", 100),
    "mkdir": lambda root: os.mkdir(root / "new"),
    "mkdir in a folder": lambda root: os.mkdir(root / "folder" / "new"),
    "rmdir": lambda root: os.rmdir(root / "empty"),
    "unlink": lambda root: os.unlink(root / "file"),
    "unlink a link": lambda root: os.unlink(root / "link"),
    "rename": lambda root: os.rename(root / "file", root / "other"),
    "rename over": lambda root: os.rename(root / "file", root / "tool"),
    "rename a folder": lambda root: os.rename(root / "folder", root / "other"),
    "symlink": lambda root: os.symlink("file", root / "new"),
    "link": lambda root: os.link(root / "file", root / "new"),
    "mknod": lambda root: os.mknod(root / "new", 0o644),
    "mkfifo": lambda root: os.mkfifo(root / "new"),
    "chmod": lambda root: os.chmod(root / "file", 0o600),
    "chmod of a folder": lambda root: os.chmod(root / "folder", 0o700),
    "chown": lambda root: os.chown(root / "file", os.geteuid(), os.getegid()),
    "touch": lambda root: os.utime(root / "file"),
    "touch with a time": lambda root: os.utime(root / "file", ns=(1, 1)),
    "touch of a folder": lambda root: os.utime(root / "folder"),
    "setxattr": lambda root: os.setxattr(root / "file", "user.artfs.digest", b"0"),
    "setxattr of another name": lambda root: os.setxattr(root / "folder", "user.other", b"0"),
    "removexattr": lambda root: os.removexattr(root / "file", "user.artfs.digest"),
    "unlink of the root": lambda root: os.rmdir(root),
    "rename of the root": lambda root: os.rename(root, root.parent / "other"),
    "create beside versions": lambda root: (root.parent / "new").touch(),
    "mkdir beside versions": lambda root: os.mkdir(root.parent / "new"),
    "symlink beside versions": lambda root: os.symlink("v0", root.parent / "new"),
    "create beside collections": lambda root: (root.parent.parent / "new").touch(),
    "create at the root": lambda root: (root.parent.parent.parent / "new").touch(),
}


@pytest.mark.parametrize("call", CALLS)
def test_every_change_of_a_version_is_refused_with_erofs(version: Path, call: str) -> None:
    """Also to root, whom mode bits do not stop."""
    with pytest.raises(OSError) as raised:
        CALLS[call](version)
    assert raised.value.errno == errno.EROFS


def test_open_descriptors_of_a_version_cannot_change_it(version: Path) -> None:
    file, folder = os.open(version / "file", os.O_RDONLY), os.open(version / "folder", os.O_RDONLY)
    try:
        calls: dict[str, Callable[[], object]] = {
            "fchmod": lambda: os.fchmod(file, 0o600),
            "fchown": lambda: os.fchown(file, os.geteuid(), os.getegid()),
            "futimens": lambda: os.utime(file),
            "fsetxattr": lambda: os.setxattr(file, "user.other", b""),
            "openat": lambda: os.open("new", os.O_WRONLY | os.O_CREAT, dir_fd=folder),
            "openat for writing": lambda: os.open("inner", os.O_RDWR, dir_fd=folder),
            "reopened": lambda: os.open(f"/proc/self/fd/{file}", os.O_RDWR),
            "unlinkat": lambda: os.unlink("inner", dir_fd=folder),
            "mkdirat": lambda: os.mkdir("new", dir_fd=folder),
            "renameat": lambda: os.rename("inner", "other", src_dir_fd=folder, dst_dir_fd=folder),
        }
        for name, call in calls.items():
            with pytest.raises(OSError) as raised:
                call()
            assert (name, raised.value.errno) == (name, errno.EROFS)
        for name, call in {
            "write": lambda: os.write(file, b"x"),
            "ftruncate": lambda: os.ftruncate(file, 0),
        }.items():
            with pytest.raises(OSError) as raised:
                call()
            assert (name, raised.value.errno) in ((name, errno.EBADF), (name, errno.EINVAL))
        with pytest.raises(PermissionError):
            mmap.mmap(file, 7, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        assert os.read(file, 100) == b"content"
    finally:
        os.close(file)
        os.close(folder)


def test_private_maps_of_a_version_stay_private(version: Path) -> None:
    with (version / "file").open("rb") as stream, mmap.mmap(stream.fileno(), 7, mmap.MAP_PRIVATE) as view:
        view[0:7] = b"CHANGED"
    assert (version / "file").read_bytes() == b"content"


def test_a_version_may_be_read_through_a_shared_map(version: Path) -> None:
    with (
        (version / "file").open("rb") as stream,
        mmap.mmap(stream.fileno(), 7, access=mmap.ACCESS_READ) as view,
    ):
        assert view[:] == b"content"


def test_access_says_that_a_version_is_writable(version: Path) -> None:
    """By its mode bits, as semantics.md tells: copies of it then belong to whoever made them."""
    assert os.access(version / "file", os.W_OK)
    assert os.access(version / "folder", os.W_OK)
    assert not os.access(version / "file", os.X_OK)
    assert os.access(version / "tool", os.X_OK)


def test_a_linked_copy_of_a_version_stays_apart(version: Path, corner: Corner) -> None:
    """`ln` from a version into a draft, then a write through the new name: the version keeps its bytes."""
    draft = corner.begin()
    os.link(version / "file", draft / "linked")
    with (draft / "linked").open("a") as stream:
        stream.write(" and more")
    assert (draft / "linked").read_text() == "content and more"
    assert (version / "file").read_text() == "content"


def test_reading_a_version_after_ln_works(version: Path, corner: Corner) -> None:
    """After `ln` the kernel flushes a ctime of its own making with the next close, which must change nothing; a real
    touch is still refused."""
    draft = corner.begin()
    status = (version / "folder" / "inner").stat()
    os.link(version / "folder" / "inner", draft / "inner")
    for _ in range(3):
        assert (version / "folder" / "inner").read_text() == "x"
        descriptor = os.open(version / "folder" / "inner", os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    assert (version / "folder" / "inner").stat().st_mtime_ns == status.st_mtime_ns
    with pytest.raises(OSError, match=os.strerror(errno.EROFS)):
        os.utime(version / "folder" / "inner", ns=(time.time_ns(), time.time_ns()))


SCRIPT = textwrap.dedent(
    """
    import os, sys
    root = sys.argv[1]
    print(os.access(root + "/file", os.W_OK))
    for call in (
        lambda: open(root + "/file", "a"),
        lambda: open(root + "/new", "w"),
        lambda: os.unlink(root + "/file"),
        lambda: os.mkdir(root + "/folder/new"),
        lambda: os.chmod(root + "/file", 0o600),
        lambda: os.utime(root + "/file"),
        lambda: os.rename(root + "/file", root + "/tool"),
    ):
        try:
            call()
            print("done")
        except OSError as error:
            print(error.strerror)
    """
)


def test_an_ordinary_user_sees_erofs_as_well(
    ordinary_workspace: Workspace, make_daemon: Callable[..., Daemon]
) -> None:
    """Not EACCES, which a person would try to cure with chmod or sudo."""
    workspace = ordinary_workspace
    source = make(workspace.path / "source", SOURCE)
    workspace.artfs("log", str(source), "demo/c")
    daemon = make_daemon(workspace).start()
    root = daemon.mountpoint / "demo" / "c" / "latest"
    done = workspace.account.run([workspace.account.python, "-c", SCRIPT, str(root)], env=workspace.environ)
    assert done.stdout.splitlines() == ["True"] + ["Read-only file system"] * 7, done.stderr
