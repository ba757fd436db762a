"""A state folder that cannot be written, a disk that fails under a running daemon, and too few descriptors: each is a clear
message, and what can go on does."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from artfs.testing.crash import Ledger, Writer
from artfs.testing.disks import SmallDisk
from artfs.testing.mount import Daemon, Workspace
from artfs.testing.outside import StateFolder, check_tree

SCRIPT = Path(__file__).parent / "writer.py"
Artfs = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def disk(workspace: Workspace) -> Iterator[SmallDisk]:
    with SmallDisk(workspace.home) as small:
        yield small


@pytest.fixture
def logged(disk: SmallDisk, artfs: Artfs, tmp_path: Path) -> Ledger:
    """The version p/c:v0 on the disk."""
    ledger = write_files(tmp_path / "source")
    assert artfs("log", tmp_path / "source", "p/c").returncode == 0
    return ledger


def write_files(folder: Path, seed: str = "s") -> Ledger:
    ledger = Writer(SCRIPT, folder, seed, count=20, dirs=5, size=3000).finish()
    assert ledger.errno == 0
    return ledger


def check_one_line(done: subprocess.CompletedProcess[str], *, code: int, says: str) -> None:
    assert done.returncode == code, (done.returncode, done.stderr)
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert says in done.stderr


def test_a_read_only_state_folder_is_one_clear_line(
    workspace: Workspace, disk: SmallDisk, logged: Ledger, artfs: Artfs, tmp_path: Path, make_daemon: Callable[..., Daemon]
) -> None:
    disk.remount_read_only()
    check_one_line(artfs("log", tmp_path / "source", "p/new"), code=9, says="read-only")
    check_one_line(artfs("ls", "p/c"), code=9, says="read-only")
    check_one_line(artfs("alias", "p/c:v0", "best"), code=9, says="read-only")
    code, said = make_daemon(workspace).failed_start()
    assert code == 1
    assert "Traceback" not in said
    assert "read-only" in said.splitlines()[-1].lower()


def test_a_home_that_cannot_be_made_is_one_clear_line(artfs: Artfs, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check_one_line(artfs("ls", ARTFS_HOME=str(tmp_path / "file" / "home")), code=2, says="ARTFS_HOME")


def test_a_disk_that_fails_under_a_running_daemon_can_still_be_read(
    workspace: Workspace,
    disk: SmallDisk,
    logged: Ledger,
    artfs: Artfs,
    tmp_path: Path,
    make_daemon: Callable[..., Daemon],
) -> None:
    daemon = make_daemon(workspace)
    daemon.expect_log("Read-only file system|read-only")
    daemon.start()
    draft = daemon.mountpoint / "drafts" / "p" / "c"
    draft.mkdir(parents=True)
    closed = write_files(draft, "d")
    disk.fail()
    check_tree(daemon.mountpoint / "p" / "c" / "latest", logged.closed)
    check_tree(draft, closed.closed)
    with pytest.raises(OSError, match="Read-only file system") as caught:
        (draft / "new").write_bytes(b"new")
    assert caught.value.errno == errno.EROFS
    with pytest.raises(OSError, match="Read-only file system"):
        (draft / next(iter(closed.closed))).write_bytes(b"new")
    check_one_line(artfs("commit", "p/c"), code=9, says="ead-only")
    check_one_line(artfs("log", tmp_path / "source", "p/other"), code=9, says="ead-only")
    check_tree(draft, closed.closed)
    check_tree(daemon.mountpoint / "p" / "c" / "v0", logged.closed)
    assert list(StateFolder(workspace.home).versions()) == ["p/c:v0"]
    assert daemon.terminate() == 0


class FewDescriptors(Daemon):
    """A daemon that may have no more than so many files open."""

    limit = 160

    def command(self) -> list[str]:
        return ["prlimit", f"--nofile={self.limit}:{self.limit}", *super().command()]


@pytest.fixture
def few(workspace: Workspace, make_daemon: Callable[..., Daemon]) -> Iterator[Daemon]:
    daemon = FewDescriptors(workspace)
    with contextlib.closing(daemon):
        yield daemon


def test_reading_many_files_one_after_the_other_needs_few_descriptors(
    few: Daemon, artfs: Artfs, tmp_path: Path
) -> None:
    (tmp_path / "source").mkdir()
    for number in range(400):
        (tmp_path / "source" / f"f{number}").write_bytes(b"%d" % number)
    assert artfs("log", tmp_path / "source", "p/c").returncode == 0
    few.start()
    done = subprocess.run(
        ["diff", "-r", tmp_path / "source", few.mountpoint / "p" / "c" / "latest"], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    draft = few.mountpoint / "drafts" / "p" / "c:latest"
    draft.mkdir(parents=True)
    done = subprocess.run(["cp", "-r", tmp_path / "source", draft / "copy"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    few.check_log()


def test_too_many_open_files_are_emfile_and_a_clear_line(few: Daemon, artfs: Artfs, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    for number in range(200):
        (tmp_path / "source" / f"f{number}").write_bytes(b"%d" % number)
    assert artfs("log", tmp_path / "source", "p/c").returncode == 0
    few.start()
    latest = few.mountpoint / "p" / "c" / "latest"
    with contextlib.ExitStack() as stack:
        with pytest.raises(OSError, match="Too many open files") as caught:
            for number in range(200):
                descriptor = os.open(latest / f"f{number}", os.O_RDONLY)
                stack.callback(os.close, descriptor)
        assert caught.value.errno == errno.EMFILE
        assert few.is_running
        log = [line for line in few.log().splitlines() if "Too many open files" in line]
        assert log and "p/c:v0/f" in log[0] and "ulimit -n" in log[0], log
    assert (latest / "f199").read_bytes() == b"199"
    assert few.status()["pid"] == few.pid
    draft = few.mountpoint / "drafts" / "p" / "c"
    draft.mkdir(parents=True)
    with contextlib.ExitStack() as stack, pytest.raises(OSError, match="Too many open files"):
        for number in range(200):
            stack.callback(os.close, os.open(draft / f"f{number}", os.O_CREAT | os.O_WRONLY))
    (draft / "one").write_bytes(b"one")
    assert (draft / "one").read_bytes() == b"one"
    few.expect_log("Too many open files")
    few.check_log()
