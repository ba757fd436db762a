"""A full disk (a small ext4 of its own holds the state folder): writers hear of it, nothing that was closed is lost,
no command leaves anything half, and all goes on once there is space."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from artfs.testing.crash import Ledger, Writer
from artfs.testing.disks import SmallDisk
from artfs.testing.mount import Daemon, Workspace
from artfs.testing.outside import StateFolder, check_tree

SCRIPT = Path(__file__).parent / "writer.py"
NO_FLOOR = {"ARTFS_FREE_FLOOR": "0"}
Artfs = Callable[..., subprocess.CompletedProcess[str]]
MIB = 1024 * 1024


@pytest.fixture
def disk(workspace: Workspace) -> Iterator[SmallDisk]:
    with SmallDisk(workspace.home) as small:
        yield small


@pytest.fixture
def daemon(workspace: Workspace, disk: SmallDisk, make_daemon: Callable[..., Daemon]) -> Daemon:
    """A running daemon whose state folder is on the small disk, and which keeps nothing free."""
    made = make_daemon(workspace, environ=NO_FLOOR)
    made.expect_log("No space left on device|full")
    return made.start()


@pytest.fixture
def artfs(artfs: Artfs) -> Artfs:
    """The command line, which keeps nothing free either."""
    return partial(artfs, **NO_FLOOR)


def check_refusal(done: subprocess.CompletedProcess[str]) -> None:
    """One clear line, and the exit code for "the disk said no"."""
    assert done.returncode == 9, (done.returncode, done.stderr)
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("artfs: ")
    assert "No space left on device" in lines[0] or "no space left" in lines[0]


def stage(folder: Path, seed: str = "s", count: int = 60) -> Ledger:
    ledger = Writer(SCRIPT, folder, seed, count=count, dirs=count // 3, size=3000).finish()
    assert ledger.errno == 0
    return ledger


def check_version(workspace: Workspace, name: str, expected: Ledger) -> None:
    state = StateFolder(workspace.home)
    entries = state.files(state.versions()[name])
    assert {path: entry.digest for path, entry in entries.items()} == expected.closed
    assert {path for path, entry in entries.items() if entry.executable} == expected.executable


WRITE = """
import errno, os, sys
path, how, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
said = []
try:
    for at in range(0, size, 1 << 20):
        os.pwrite(fd, os.urandom(min(1 << 20, size - at)), at)
except OSError as error:
    said.append("write " + errno.errorcode[error.errno])
if how == "fsync":
    try:
        os.fsync(fd)
    except OSError as error:
        said.append("fsync " + errno.errorcode[error.errno])
try:
    os.close(fd)
except OSError as error:
    said.append("close " + errno.errorcode[error.errno])
print(", ".join(said))
"""


@pytest.mark.parametrize(("how", "size"), [("close", 100_000), ("close", 30 * MIB), ("fsync", 300_000), ("fsync", 30 * MIB)])
def test_a_writer_hears_of_a_full_disk_at_write_close_or_fsync(
    daemon: Daemon, disk: SmallDisk, how: str, size: int
) -> None:
    draft = daemon.mountpoint / "drafts" / "p" / "c"
    draft.mkdir(parents=True)
    disk.fill(leave=min(size // 3, 2 * MIB))
    command = [sys.executable, "-c", WRITE, str(draft / "too-large"), how, str(size)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    # Already at the write, as nothing of such a file waits in the page cache (docs/decisions/0005-direct-writes.md).
    assert done.stdout.startswith("write ENOSPC")


def test_a_full_disk_loses_nothing_that_was_closed_before(
    daemon: Daemon, disk: SmallDisk, workspace: Workspace, artfs: Artfs, tmp_path: Path
) -> None:
    draft = daemon.mountpoint / "drafts" / "p" / "c"
    draft.mkdir(parents=True)
    ledger = stage(draft)
    disk.fill(leave=3 * MIB)
    large = tmp_path / "large"
    large.write_bytes(os.urandom(8 * MIB))
    done = subprocess.run(["cp", large, draft / "large"], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode != 0
    assert "No space left on device" in done.stderr
    assert daemon.status()["handles"]["files"] == 0
    check_tree(draft, ledger.closed, extra={"large"})
    (draft / "large").unlink()
    victim = sorted(ledger.closed)[0]
    (draft / victim).unlink()
    del ledger.closed[victim]
    ledger.executable -= {victim}
    check_tree(draft, ledger.closed)
    done = artfs("commit", "p/c")
    assert done.returncode == 0, done.stderr
    check_version(workspace, "p/c:v0", ledger)
    StateFolder(workspace.home).verify()


def test_a_file_can_be_replaced_in_a_draft_from_latest_after_the_disk_was_full(
    daemon: Daemon, disk: SmallDisk, workspace: Workspace, artfs: Artfs, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    ledger = stage(source)
    (source / "large").write_bytes(os.urandom(2 * MIB))
    assert artfs("log", source, "p/c").returncode == 0
    before = StateFolder(workspace.home).content("p/c:v0")
    draft = daemon.mountpoint / "drafts" / "p" / "c:latest"
    draft.mkdir(parents=True)
    disk.fill(leave=64 * 1024)
    with pytest.raises(OSError, match="No space left"):  # its bytes are copied up first
        (draft / "large").open("r+b").close()
    check_tree(draft, before)
    disk.relieve()
    with (draft / "large").open("r+b") as stream:
        stream.write(b"changed")
    assert artfs("commit", "p/c:latest").returncode == 0
    after = StateFolder(workspace.home).content("p/c:v1")
    assert {path for path in before if before[path] != after[path]} == {"large"}
    assert set(before) == set(after) == {"large", *ledger.closed}
    StateFolder(workspace.home).verify()


def test_a_file_of_which_a_part_would_fit_is_not_copied_up(
    daemon: Daemon, disk: SmallDisk, workspace: Workspace, artfs: Artfs, tmp_path: Path
) -> None:
    """A write that ends in the middle of the last piece is an error, too."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "f").write_bytes(os.urandom(900_000))
    assert artfs("log", tmp_path / "source", "p/c").returncode == 0
    before = StateFolder(workspace.home).content("p/c:v0")
    draft = daemon.mountpoint / "drafts" / "p" / "c:latest"
    draft.mkdir(parents=True)
    disk.fill(leave=850_000)
    with pytest.raises(OSError, match="No space left"):
        (draft / "f").open("r+b").close()
    check_tree(draft, before)


LEFT = [0, 20_000, 100_000, 400_000]


@pytest.mark.parametrize("left", LEFT)
def test_a_commit_on_a_full_disk_keeps_the_draft(
    daemon: Daemon, disk: SmallDisk, workspace: Workspace, artfs: Artfs, left: int
) -> None:
    draft = daemon.mountpoint / "drafts" / "p" / "c"
    draft.mkdir(parents=True)
    ledger = stage(draft)
    disk.fill(leave=left)
    refused_then_whole(workspace, artfs, disk, draft, ledger, lambda: daemon.status()["drafts"]["p/c"]["sealed"])


@pytest.mark.parametrize("left", LEFT)
def test_a_commit_without_a_daemon_on_a_full_disk_keeps_the_draft(
    disk: SmallDisk, workspace: Workspace, artfs: Artfs, make_daemon: Callable[..., Daemon], left: int
) -> None:
    daemon = make_daemon(workspace, environ=NO_FLOOR).start()
    (daemon.mountpoint / "drafts" / "p" / "c").mkdir(parents=True)
    ledger = stage(daemon.mountpoint / "drafts" / "p" / "c")
    daemon.terminate()
    disk.fill(leave=left)
    done = artfs("commit", "p/c")
    if done.returncode:
        check_refusal(done)
        assert StateFolder(workspace.home).versions() == {}
        # A daemon must be able to show the draft now: somebody has to delete something.
        daemon.expect_log("No space left on device|full")
        daemon.start()
        draft = daemon.mountpoint / "drafts" / "p" / "c"
        refused_then_whole(workspace, artfs, disk, draft, ledger, lambda: daemon.status()["drafts"]["p/c"]["sealed"])
    else:
        check_version(workspace, "p/c:v0", ledger)


def refused_then_whole(
    workspace: Workspace, artfs: Artfs, disk: SmallDisk, draft: Path, ledger: Ledger, is_sealed: Callable[[], bool]
) -> None:
    """A commit is refused; the draft is as it was, no blob can be changed through it; with space, it is committed."""
    state = StateFolder(workspace.home)
    done = artfs("commit", "p/c")
    if done.returncode == 0:
        check_version(workspace, "p/c:v0", ledger)
        return
    check_refusal(done)
    assert not is_sealed()
    assert state.versions() == {}
    check_tree(draft, ledger.closed)
    # Whoever writes to a file of the draft now must not reach a blob.
    victim = next(iter(ledger.closed))
    try:
        with (draft / victim).open("r+b") as stream:
            stream.write(b"changed")
    except OSError as error:
        assert error.errno == errno.ENOSPC
    state.verify(alone=False)
    (draft / victim).unlink()
    del ledger.closed[victim]
    ledger.executable -= {victim}
    disk.relieve()
    check_tree(draft, ledger.closed)
    done = artfs("commit", "p/c")
    assert done.returncode == 0, done.stderr
    check_version(workspace, "p/c:v0", ledger)
    state.verify()
    assert state.leftovers() == []


@pytest.mark.parametrize("left", [0, 50_000, 300_000, 3 * MIB])
def test_log_on_a_full_disk_says_so_and_leaves_nothing(
    disk: SmallDisk, workspace: Workspace, artfs: Artfs, tmp_path: Path, left: int
) -> None:
    source = tmp_path / "source"
    ledger = stage(source, count=30)
    assert artfs("log", source, "p/c").returncode == 0
    more = Writer(SCRIPT, source, "more", count=90, dirs=30, size=4000, large=6_000_000).finish()
    disk.fill(leave=left)
    check_refusal(artfs("log", source, "p/c"))
    state = StateFolder(workspace.home)
    assert list(state.versions()) == ["p/c:v0"]
    assert state.leftovers() == []
    state.verify()
    assert artfs("ls", "p/c").returncode == 0
    disk.relieve()
    freed = artfs("gc")
    assert freed.returncode == 0, freed.stderr
    assert artfs("log", source, "p/c").returncode == 0
    ledger.closed |= more.closed
    ledger.executable |= more.executable
    check_version(workspace, "p/c:v1", ledger)
    state.verify()


def test_a_full_disk_can_be_mounted_and_read(
    disk: SmallDisk, workspace: Workspace, artfs: Artfs, make_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    source = tmp_path / "source"
    ledger = stage(source)
    assert artfs("log", source, "p/c").returncode == 0
    disk.fill()
    daemon = make_daemon(workspace, environ=NO_FLOOR)
    daemon.expect_log("No space left on device|full")
    daemon.start()
    check_tree(daemon.mountpoint / "p" / "c" / "latest", ledger.closed)
    listed = artfs("ls", "p/c")
    assert listed.returncode == 0, listed.stderr
    checked = artfs("verify", "p/c")
    assert checked.returncode == 0, checked.stderr
    disk.fill()
    with pytest.raises(OSError, match="No space left"):
        (daemon.mountpoint / "drafts" / "p" / "more").mkdir()
    disk.relieve()
    (daemon.mountpoint / "drafts" / "p" / "more").mkdir()


def test_space_is_kept_free_unless_told_otherwise(disk: SmallDisk, workspace: Workspace, tmp_path: Path) -> None:
    source = tmp_path / "source"
    stage(source)
    workspace.config.write_text(f"free_floor = {64 * MIB}\n")
    done = workspace.artfs("log", source, "p/c", check=False)
    check_refusal(done)
    assert "MiB free" in done.stderr
    assert StateFolder(workspace.home).versions() == {}
    workspace.config.write_text("")  # by default a fiftieth of such a small disk
    workspace.artfs("log", source, "p/c")


def test_drafts_leave_space_free_and_can_be_committed(
    disk: SmallDisk, workspace: Workspace, make_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    """What is written stops above what the store leaves free, so that a commit has room; what has its room may be changed."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "inherited").write_bytes(os.urandom(6 * MIB))
    workspace.artfs("log", tmp_path / "source", "p/c")
    floor = 16 * MIB
    daemon = make_daemon(workspace, environ={"ARTFS_FREE_FLOOR": str(floor)})
    daemon.expect_log("artfs keeps 18 MiB free")
    daemon.start()
    draft = daemon.mountpoint / "drafts" / "p" / "c:latest"
    draft.mkdir(parents=True)
    digests = {"inherited": hashlib.sha256((tmp_path / "source" / "inherited").read_bytes()).hexdigest()}
    with pytest.raises(OSError, match="No space left"):
        for number in range(64):
            data = os.urandom(MIB)
            (draft / f"f{number}").write_bytes(data)
            digests[f"f{number}"] = hashlib.sha256(data).hexdigest()
    (draft / f"f{number}").unlink()
    assert floor < disk.free < 20 * MIB
    with pytest.raises(OSError, match="No space left"):
        (draft / "inherited").open("r+b").close()
    assert disk.free > floor
    with (draft / "f0").open("r+b") as stream:
        stream.write(os.urandom(MIB))
    digests["f0"] = hashlib.sha256((draft / "f0").read_bytes()).hexdigest()
    workspace.artfs("commit", "p/c:latest")
    assert StateFolder(workspace.home).content("p/c:v1") == digests
    StateFolder(workspace.home).verify()
    assert disk.free > floor
