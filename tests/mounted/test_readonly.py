"""Versions cannot be changed, by nobody and in no way (docs/semantics.md, "Versions")."""

from __future__ import annotations

import errno
import json
import mmap
import os
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from artfs.testing import mutations
from artfs.testing.corner import Corner
from artfs.testing.disks import SmallDisk
from artfs.testing.mount import Daemon, Workspace
from artfs.testing.syscalls import RENAME_EXCHANGE, renameat2
from artfs.testing.torture import Tally
from artfs.testing.trees import Link, make, picture

SOURCE = {"file": "content", "tool*": "#!/bin/sh\n", "folder/inner": "x", "empty": None, "link": Link("file")}


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
    corner.artfs("verify", "readonly/c:v0")


# What the kernel answers itself, before it asks anybody, on a mount that has writable folders beside the versions. Nothing is
# changed by any of them.
ANSWERED_BY_THE_KERNEL = {
    "rmdir of a file": "ENOTDIR",
    "unlink a folder": "EISDIR",
    "unlink what is not there": "ENOENT",
    "rename to itself": "",
    "rename what is not there": "ENOENT",
    "chown to nobody": "",
    # libfuse 3.14 knows neither request
    "create without a name": "ENOTSUP",
    "openat without a name": "ENOTSUP",
    "set flags": "ENOTTY",
    "set flags of a folder": "ENOTTY",
    "set a project": "ENOTTY",
}

REFUSED_OTHERWISE = {"EBADF", "EINVAL", "EACCES", "EEXIST", "EISDIR", "EXDEV", "ENOTSUP", "EIO"}
"""What a read-only ext4 says, too, where a call is wrong in itself: a descriptor that is open for reading, a taken name."""


@pytest.fixture(scope="module")
def read_only_ext4(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The same folder on a real file system that is mounted read-only."""
    mountpoint = Path(tempfile.mkdtemp(prefix="artfs-ext4-", dir="/tmp"))
    with SmallDisk(mountpoint, 8 * 1024 * 1024) as disk:
        mountpoint.chmod(0o755)
        root = make(mountpoint / "root", SOURCE)
        os.setxattr(root / "file", "user.artfs.digest", b"1")
        disk.remount_read_only()
        yield root
    mountpoint.rmdir()


def test_every_change_of_a_version_is_refused_with_erofs(version: Path, read_only_ext4: Path, tally: Tally) -> None:
    """Also to root, whom mode bits do not stop; as by a read-only ext4, call by call."""
    expected = mutations.answers(read_only_ext4) | ANSWERED_BY_THE_KERNEL
    found = mutations.answers(version)
    assert found == expected
    assert {name for name, said in expected.items() if said not in {"EROFS", *REFUSED_OTHERWISE}} <= {
        *ANSWERED_BY_THE_KERNEL,
        "times: neither",  # does nothing anywhere
    }
    tally("changes of a version, as root", len(found))


BESIDE: dict[str, Callable[[Path, Path], object]] = {
    # (the version's root, a draft with a file `mine`)
    "rmdir of the root": lambda root, _: os.rmdir(root),
    "rename of the root": lambda root, _: os.rename(root, root.parent / "other"),
    "chmod of the root": lambda root, _: os.chmod(root, 0o700),
    "setxattr of the root": lambda root, _: os.setxattr(root, "user.artfs.description", b"other"),
    "create beside versions": lambda root, _: (root.parent / "new").touch(),
    "mkdir beside versions": lambda root, _: os.mkdir(root.parent / "new"),
    "symlink beside versions": lambda root, _: os.symlink("v0", root.parent / "new"),
    "link beside versions": lambda root, _: os.link(root / "file", root.parent / "new"),
    "create beside collections": lambda root, _: (root.parent.parent / "new").touch(),
    "create at the root": lambda root, _: (root.parent.parent.parent / "new").touch(),
    "rename of an alias over a version": lambda root, _: os.rename(root, root.parent / "v0"),
    "rename into a draft": lambda root, draft: os.rename(root / "file", draft / "file"),
    "rename of a folder into a draft": lambda root, draft: os.rename(root / "folder", draft / "folder"),
    "rename over a draft's file": lambda root, draft: os.rename(root / "file", draft / "mine"),
    "rename out of a draft": lambda root, draft: os.rename(draft / "mine", root / "new"),
    "rename out of a draft over a file": lambda root, draft: os.rename(draft / "mine", root / "file"),
    "exchange with a draft's file": lambda root, draft: renameat2(
        draft / "mine", root / "file", RENAME_EXCHANGE
    ),
    "link out of a draft": lambda root, draft: os.link(draft / "mine", root / "new"),
    "link of a version into itself": lambda root, _: os.link(root / "file", root / "folder" / "file"),
}


@pytest.mark.parametrize("call", BESIDE)
def test_what_a_version_is_in_and_beside_cannot_change_it(version: Path, corner: Corner, call: str, tally: Tally) -> None:
    draft = corner.begin()
    (draft / "mine").write_text("mine")
    with pytest.raises(OSError) as raised:
        BESIDE[call](version, draft)
    assert raised.value.errno == errno.EROFS
    assert os.listdir(draft) == ["mine"]
    assert (draft / "mine").read_text() == "mine"
    tally("changes of a version from outside")


def test_open_descriptors_of_a_version_cannot_change_it(version: Path, corner: Corner) -> None:
    """Nor what shares its pages: maps, and the file's name in a draft."""
    draft = corner.begin()
    os.link(version / "file", draft / "file")
    with (version / "file").open("rb") as old, mmap.mmap(old.fileno(), 7, access=mmap.ACCESS_READ) as view:
        with (draft / "file").open("r+b") as stream:
            stream.write(b"CHANGED")
        assert view[:] == old.read() == b"content"
    assert (version / "file").read_bytes() == b"content"


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


PRIVILEGED = (
    "chown",
    "chown of a folder",
    "chown of a link",
    "fchown",
    "fchownat",
    "mknod of a character device",
    "mknod of a block device",
    "setxattr of capabilities",
    "setxattr of trust",
)
"""What needs privileges: the kernel says that first, of a mount that is not read-only as a whole."""


def test_an_ordinary_user_sees_erofs_as_well(
    ordinary_workspace: Workspace, make_daemon: Callable[..., Daemon], tally: Tally
) -> None:
    """Not EACCES, which a person would try to cure with chmod or sudo. As a user sees a read-only ext4 with the user's files."""
    workspace = ordinary_workspace
    account = workspace.account
    source = make(workspace.path / "source", SOURCE)
    workspace.artfs("log", str(source), "demo/c")
    daemon = make_daemon(workspace).start()
    version = daemon.mountpoint / "demo" / "c" / "latest"
    disk_path = workspace.path / "disk"
    disk_path.mkdir()

    def answers(root: Path) -> dict[str, str]:
        done = account.run([account.python, "-m", "artfs.testing.mutations", str(root)], env=workspace.environ)
        assert done.returncode == 0, done.stderr
        said: dict[str, str] = json.loads(done.stdout)
        return said

    with SmallDisk(disk_path, 8 * 1024 * 1024) as disk:
        disk_path.chmod(0o755)
        root = make(disk_path / "root", SOURCE)
        os.setxattr(root / "file", "user.artfs.digest", b"1")
        for path in (root, *root.rglob("*")):
            os.chown(path, account.uid or 0, account.gid or 0, follow_symlinks=False)
        disk.remount_read_only()
        expected = answers(root) | ANSWERED_BY_THE_KERNEL
    found = answers(version)
    assert {name: said for name, said in found.items() if said != expected[name]} == dict.fromkeys(PRIVILEGED, "EPERM")
    assert {expected[name] for name in PRIVILEGED} == {"EROFS"}
    done_nothing = {"rename to itself", "chown to nobody", "times: neither"}
    assert {name for name in mutations.BY_PATH if found[name] in ("EACCES", "")} == done_nothing
    seen = account.run([account.python, "-c", SCRIPT, str(version)], env=workspace.environ).stdout
    assert seen.splitlines() == ["True", "content"]
    workspace.artfs("verify", "demo/c:v0")
    tally("changes of a version, as an ordinary user", len(found))


SCRIPT = textwrap.dedent(
    """
    import os, sys
    print(os.access(sys.argv[1] + "/file", os.W_OK))
    print(open(sys.argv[1] + "/file").read())
    """
)
