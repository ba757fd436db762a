"""Drafts that begin as a version: what is inherited is changed, moved, removed and made again, and the next version is right."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from artfs.testing.contents import sha256_of
from artfs.testing.corner import Corner
from artfs.testing.mount import Daemon, Workspace
from artfs.testing.torture import Tally
from artfs.testing.trees import Item, make, picture

GATED = Path(__file__).parent / "gated_daemon.py"
MIB = 1024 * 1024
DEADLINE_S = "1"


def sparse(path: Path, size: int) -> None:
    """A file that is mostly a hole, with some bytes of its own every 16 MiB."""
    dice = random.Random(size)
    with path.open("wb") as stream:
        for at in range(0, size - 4096, 16 * MIB):
            stream.seek(at)
            stream.write(dice.randbytes(4096))
        stream.truncate(size)


def test_one_byte_of_a_large_file(daemon: Daemon, tally: Tally, scale: Callable[[int, int], int], tmp_path: Path) -> None:
    """It is changed beside entries that are renamed, removed and made again; both versions are then what they should be."""
    size, corner = scale(24, 1024) * MIB, Corner(daemon, "p")
    source = make(tmp_path / "source", {"kept": "kept", "moved": "moved", "gone": "gone", "again": "old", "dir/below": "below"})
    sparse(source / "large", size)
    corner.log(source)
    before = picture(source)
    draft = corner.begin("c:latest")

    with (draft / "large").open("rb") as reader:
        at = size // 2 + 12345
        assert os.pread(reader.fileno(), 1, at) == b"\0"
        with (draft / "large").open("r+b") as stream:
            os.pwrite(stream.fileno(), b"!", at)
        assert os.pread(reader.fileno(), 2, at) == b"!\0"  # who had it open before sees the change as well
    os.rename(draft / "moved", draft / "dir" / "moved")
    os.rename(draft / "dir", draft / "moved")
    (draft / "gone").unlink()
    (draft / "again").unlink()
    (draft / "again").write_text("new")
    os.rename(draft / "large", draft / "larger")
    os.link(draft / "larger", draft / "linked")

    with (source / "large").open("r+b") as stream:
        stream.seek(at)
        stream.write(b"!")
    changed = Item("file", sha256_of(source / "large"))
    wanted = {
        "kept": before["kept"],
        "again": Item("file", hashlib.sha256(b"new").hexdigest()),
        "moved": Item("directory"),
        "moved/moved": before["moved"],
        "moved/below": before["dir/below"],
        "larger": changed,
        "linked": changed,
    }
    assert picture(draft) == wanted
    corner.commit("c:latest")
    assert picture(corner.path / "c" / "latest") == wanted
    assert picture(corner.path / "c" / "v0") == before
    tally("MiB copied for one changed byte", size // MIB)


def test_a_chmod_copies_nothing(daemon: Daemon, tmp_path: Path) -> None:
    """Of inherited content; it stays, also after a restart, and after the content was copied for another reason."""
    corner = Corner(daemon, "p")
    corner.log(make(tmp_path / "source", {"file": b"x" * 2_000_000, "run*": "#!/bin/sh\n", "dir/file": "below"}))
    draft = corner.begin("c:latest")
    root = os.geteuid() == 0

    def shown() -> list[tuple[int, int, int, int]]:
        status = [(draft / name).stat() for name in ("file", "run", "dir/file")]
        return [(s.st_mode & 0o7777, s.st_uid, s.st_gid, s.st_mtime_ns) for s in status]

    time_ns = (draft / "file").stat().st_mtime_ns
    owner = (1234, 4321) if root else (os.geteuid(), os.getegid())
    os.chmod(draft / "file", 0o440)
    os.chmod(draft / "run", 0o710)
    os.chmod(draft / "dir" / "file", 0o600)
    os.utime(draft / "run", ns=(7, 7))
    os.chown(draft / "run", *owner)
    mine = os.geteuid(), os.getegid()
    wanted = [(0o440, *mine, time_ns), (0o710, *owner, 7), (0o600, *mine, time_ns)]
    assert shown() == wanted
    staged = corner.daemon.workspace.settings.drafts_path / "local" / "p" / "c:latest" / "files"
    assert all(path.is_symlink() or path.is_dir() for path in staged.rglob("*"))
    for end in ("terminate", "kill"):
        getattr(daemon, end)()
        daemon.start()
        assert shown() == wanted
    os.rename(draft / "run", draft / "dir" / "run")
    os.rename(draft / "dir" / "run", draft / "run")
    os.link(draft / "file", draft / "linked")  # copies it
    with (draft / "run").open("ab") as stream:
        stream.write(b"more")
        stream.flush()
        os.utime(stream.fileno(), ns=(7, 7))
    assert shown() == wanted
    corner.commit("c:latest")
    assert {name: item.executable for name, item in picture(corner.path / "c" / "latest").items() if item.kind == "file"} == {
        "file": False,
        "linked": False,
        "run": True,
        "dir/file": False,
    }


def test_folders_keep_their_times_while_what_is_in_them_is_copied(daemon: Daemon, tmp_path: Path) -> None:
    """Only a name that comes or goes changes them."""
    corner = Corner(daemon, "p")
    corner.log(make(tmp_path / "source", {"one/two/file": "x", "one/two/other": "y"}))
    draft = corner.begin("c:latest")
    folders = (draft / "one", draft / "one" / "two")

    def times() -> list[int]:
        corner.barrier()
        return [os.stat(folder).st_mtime_ns for folder in folders]

    before = times()
    os.chmod(folders[1] / "other", 0o755)
    with (folders[1] / "file").open("a") as stream:
        stream.write("changed")
    corner.daemon.terminate()  # and the kernel knows nothing of it any more
    corner.daemon.start()
    assert times() == before
    (folders[1] / "new").touch()
    assert times()[0] == before[0]
    assert times()[1] > before[1]


@pytest.mark.parametrize("mask", ["022", "077"])
def test_the_umask_is_the_callers(workspace: Workspace, make_daemon: Callable[..., Daemon], mask: str) -> None:
    """Not the daemon's, whatever that is."""
    old = os.umask(int(mask, 8))
    try:
        draft = Corner(make_daemon(workspace).start(), "p").begin()
        os.umask(0)
        os.close(os.open(draft / "file", os.O_CREAT | os.O_WRONLY, 0o666))
        (draft / "dir").mkdir(0o777)
        os.mknod(draft / "node", 0o662)
    finally:
        os.umask(old)
    assert [(draft / name).stat().st_mode & 0o7777 for name in ("file", "dir", "node")] == [0o666, 0o777, 0o662]


class GatedDaemon(Daemon):
    """See gated_daemon.py."""

    @property
    def gate(self) -> Path:
        return self.workspace.path / "gate"

    def command(self) -> list[str]:
        python, _, _, *arguments = super().command()
        return [python, str(GATED), str(self.gate), *arguments]


def test_a_copy_that_takes_longer_than_the_deadline_goes_on(workspace: Workspace, tmp_path: Path) -> None:
    """Whoever wanted to write is told ETIMEDOUT; there is one copy whoever asks again, and when it is done it is used."""
    daemon = GatedDaemon(workspace, environ={"ARTFS_DEADLINE_S": DEADLINE_S})
    daemon.gate.mkdir()
    daemon.expect_log("no answer within 1 s")
    with daemon:
        corner = Corner(daemon, "p")
        corner.log(make(tmp_path / "source", {"file": b"x" * 10_000, "removed": b"x" * 10_001}))
        draft = corner.begin("c:latest")
        said: list[int | None] = []

        def write(name: str) -> None:
            with pytest.raises(OSError) as raised:
                os.open(draft / name, os.O_RDWR)
            said.append(raised.value.errno)

        writers = [threading.Thread(target=write, args=(name,)) for name in ("file", "file", "removed")]
        for writer in writers:
            writer.start()
        assert (draft / "file").read_bytes() == b"x" * 10_000  # everything else goes on
        for writer in writers:
            writer.join()
        assert said == [errno.ETIMEDOUT] * 3
        (draft / "removed").unlink()
        (daemon.gate / "open").touch()
        with (draft / "file").open("r+b") as stream:
            stream.write(b"changed")
        assert (daemon.gate / "begun").read_bytes() == b".."  # one for each file
        assert (draft / "file").read_bytes() == b"changed" + b"x" * 9993
        scratch = workspace.settings.drafts_path / "local" / "p" / "c:latest"
        while [path for path in scratch.rglob("*") if path.is_file() and path.stat().st_size == 10_001]:
            pass  # what nobody wants goes as soon as it is done
        corner.commit("c:latest")
        assert set(picture(corner.path / "c" / "latest")) == {"file"}


def test_what_was_removed_while_it_was_open_is_not_copied(daemon: Daemon, tmp_path: Path) -> None:
    """Nobody can write to it any more: who tries by way of /proc is told at once."""
    corner = Corner(daemon, "p")
    corner.log(make(tmp_path / "source", {"file": b"x" * 10_000}))
    draft = corner.begin("c:latest")
    with (draft / "file").open("rb") as stream:
        (draft / "file").unlink()
        with pytest.raises(FileNotFoundError), daemon.counting() as counts:
            os.open(f"/proc/self/fd/{stream.fileno()}", os.O_RDWR)
        assert stream.read() == b"x" * 10_000
    assert counts["open"] <= 1


def test_truncate_to_the_size_that_it_has_is_a_change_of_the_time_only(daemon: Daemon, tmp_path: Path) -> None:
    corner = Corner(daemon, "p")
    corner.log(make(tmp_path / "source", {"file": "content"}))
    path = corner.begin("c:latest") / "file"
    os.utime(path, ns=(7, 7))
    os.truncate(path, len("content"))
    assert path.stat().st_mtime_ns > 7
    assert path.read_text() == "content"
    staged = daemon.workspace.settings.drafts_path / "local" / "p" / "c:latest" / "files" / "file"
    assert staged.is_symlink()


@pytest.mark.parametrize("way", ["unlink", "rename"])
def test_who_has_opened_a_file_keeps_it_when_it_is_changed_and_then_removed(daemon: Daemon, tmp_path: Path, way: str) -> None:
    """It was opened while its content was still the store's, and nothing was read since."""
    corner = Corner(daemon, "p")
    corner.log(make(tmp_path / "v0", {"file": "0123456789", "other": "other"}))
    draft = corner.begin("c:latest")
    with (draft / "file").open("rb", buffering=0) as stream:
        os.truncate(draft / "file", 5)
        if way == "unlink":
            (draft / "file").unlink()
        else:
            (draft / "other").rename(draft / "file")
        status = os.fstat(stream.fileno())
        assert (status.st_size, status.st_nlink) == (5, 0)
        assert stream.read() == b"01234"
    assert (draft / "file").exists() == (way == "rename")
