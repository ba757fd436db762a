"""Drafts under programs that were made to find file systems wrong: fsx, fio with verification, stress-ng."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from artfs.testing.account import open_fuse_device
from artfs.testing.contents import sha256_of
from artfs.testing.corner import Corner
from artfs.testing.mount import Daemon, Workspace
from artfs.testing.torture import Tally

FSX = Path(__file__).parent / "fsx.py"
PATIENCE_S = 600.0
"""For a program that hangs; none takes a tenth of that."""

Scale = Callable[[int, int], int]


@pytest.fixture(scope="module")
def corners() -> object:
    """`corners()`: a project of its own in a mount that all tests here share."""
    open_fuse_device()
    workspace, serial = Workspace(), itertools.count()
    daemon = Daemon(workspace)
    try:
        daemon.start()
        yield lambda: Corner(daemon, f"p{next(serial)}")
    finally:
        daemon.close()
    daemon.check_log()
    workspace.remove()


@pytest.fixture
def corner(corners: Callable[[], Corner]) -> Corner:
    return corners()


def fsx(path: Path, operations: int, seed: int, model: Path) -> subprocess.Popen[str]:
    command = [sys.executable, FSX, path, "--operations", str(operations), "--seed", str(seed), "--model", model]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> dict[str, dict[str, object]]:
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    report: dict[str, dict[str, object]] = json.loads(out)
    return report


def run(*command: str | Path) -> str:
    """Its standard output and error; AssertionError with them when it fails."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=PATIENCE_S
    )
    assert done.returncode == 0, f"exit code {done.returncode}: {' '.join(map(str, command))}\n{done.stdout}"
    return done.stdout


# fsx ------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_fsx_finds_a_file_of_a_draft_right(corner: Corner, tally: Tally, scale: Scale, tmp_path: Path, seed: int) -> None:
    operations = scale(1500, 100_000)
    draft = corner.begin()
    report = finish(fsx(draft / "file", operations, seed, tmp_path / "model"))
    tally("fsx: random operations on a file of a draft", operations)
    assert report["refused"] == {f"fallocate {mode}": "ENOTSUP" for mode in (0, 3, 16)}
    corner.commit()
    assert sha256_of(corner.path / "c" / "latest" / "file") == sha256_of(tmp_path / "model")


def test_two_fsx_in_one_draft_do_not_meet(corner: Corner, tally: Tally, scale: Scale, tmp_path: Path) -> None:
    """At once, on two files that are inherited."""
    operations = scale(1000, 30_000)
    names = ("one", "other")
    (tmp_path / "base").mkdir()
    for name in names:
        (tmp_path / "base" / name).write_bytes(os.urandom(100_000))
    corner.log(tmp_path / "base")
    draft = corner.begin("c:latest")
    with contextlib.ExitStack() as stack:
        for seed, name in enumerate(names):
            stack.callback(finish, fsx(draft / name, operations, seed, tmp_path / name))
    tally("fsx: random operations on two files of a draft at once", 2 * operations)
    corner.commit(draft.name)
    for name in names:
        assert sha256_of(corner.path / "c" / "latest" / name) == sha256_of(tmp_path / name)
        assert sha256_of(corner.path / "c" / "v0" / name) == sha256_of(tmp_path / "base" / name)


def test_fsx_sees_a_wrong_byte(tmp_path: Path) -> None:
    """It finds what is wrong: here somebody else writes to its file."""
    path, model = tmp_path / "file", tmp_path / "model"
    process = fsx(path, 200_000, 1, model)
    while process.poll() is None:
        if path.exists():
            with path.open("r+b") as stream:
                stream.write(b"not the bytes of fsx")
    _, err = process.communicate()
    assert process.returncode == 1
    assert "differ" in err or "instead of" in err
    assert not model.exists()


# fio ------------------------------------------------------------------------------------------------------------------
JOBS = {
    "psync, 4 KiB": ["--ioengine=psync", "--rw=randrw", "--bs=4k", "--verify=crc32c"],
    "psync, odd sizes": ["--ioengine=psync", "--rw=randrw", "--bsrange=512-128k", "--bs_unaligned=1", "--verify=sha256"],
    "writing only, 1 MiB": ["--ioengine=sync", "--rw=write", "--bs=1m", "--verify=sha256"],
    "two jobs with fsync": ["--ioengine=sync", "--rw=randwrite", "--bs=16k", "--fsync=8", "--verify=crc32c", "--numjobs=2"],
    "mmap, 4 KiB": ["--ioengine=mmap", "--rw=randrw", "--bs=4k", "--verify=crc32c"],
    "mmap, 64 KiB with msync": ["--ioengine=mmap", "--rw=randwrite", "--bs=64k", "--fsync=4", "--verify=sha256"],
    "libaio, O_DIRECT": ["--ioengine=libaio", "--direct=1", "--iodepth=16", "--rw=randrw", "--bs=4k", "--verify=crc32c"],
    "io_uring": ["--ioengine=io_uring", "--iodepth=16", "--rw=randrw", "--bs=8k", "--verify=crc32c"],
}


@pytest.mark.parametrize("job", JOBS)
def test_fio_reads_what_it_wrote(corner: Corner, tally: Tally, scale: Scale, tmp_path: Path, job: str) -> None:
    draft = corner.begin()
    size = scale(2, 128)
    options = [f"--size={size}m", "--name=job", "--verify_fatal=1", "--do_verify=1", "--verify_state_save=0"]
    run("fio", f"--directory={draft}", *JOBS[job], *options)
    for path in draft.iterdir():  # what it has read so far may have been the kernel's pages
        with path.open("rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    run("fio", f"--directory={draft}", *JOBS[job], *options, "--verify_only=1")
    tally("fio: MiB written and verified in a draft", size)
    wanted = {path.name: sha256_of(path) for path in draft.iterdir()}
    corner.commit()
    assert wanted
    assert {path.name: sha256_of(path) for path in (corner.path / "c" / "latest").iterdir()} == wanted


# stress-ng ------------------------------------------------------------------------------------------------------------
PLAIN = """
    access aio aiol chattr chdir chmod chown dentry dir dirdeep dirmany dnotify dup fanotify fcntl fiemap file-ioctl filename
    flock fpunch fsize fstat getdent handle inode-flags inotify io lease link locka lockf lockofd madvise mknod mmapfork mmapmany
    open rename rmap splice symlink touch utime vm-splice
"""
SIZED = {
    "fallocate": ["--fallocate-bytes", "8m"],
    "hdd": ["--hdd-bytes", "16m"],
    "iomix": ["--iomix-bytes", "8m"],
    "mmap": ["--mmap-file", "--mmap-bytes", "8m"],
    "msync": ["--msync-bytes", "8m"],
    "readahead": ["--readahead-bytes", "8m"],
    "revio": ["--revio-bytes", "8m"],
    "seek": ["--seek-size", "8m"],
    "sendfile": ["--sendfile-size", "1m"],
    "sync-file": ["--sync-file-bytes", "8m"],
}
"""How much those write that would write more."""

STRESSORS = sorted([*PLAIN.split(), *SIZED])
"""All of stress-ng 0.15 that have to do with files and that an ext4 passes. xattr and verity skip themselves where there are
none; io-uring fails on ext4 as well (its STATX expects a file that it has not made)."""

SHORT = ("dir", "filename", "hdd", "rename", "seek")


@pytest.mark.parametrize("group", range(5))
def test_stressors_leave_a_draft_well(corner: Corner, tally: Tally, scale: Scale, group: int) -> None:
    """Each says that all went as it should, leaves nothing, and afterwards the draft is a folder like another."""
    draft = corner.begin()
    every, operations = (SHORT, 40) if scale(0, 1) == 0 else (STRESSORS, 2000)
    for name in every[group::5]:
        limits = ["--timeout", "2", f"--{name}-ops", str(operations)]
        run("stress-ng", f"--{name}", "1", *SIZED.get(name, []), *limits, "--verify", "--oomable", "--temp-path", draft)
        tally("stress-ng: file stressors in a draft")
        assert os.listdir(draft) == [], name
    (draft / "folder").mkdir()
    (draft / "folder" / "file").write_text("still well")
    shutil.rmtree(draft / "folder")
    assert os.listdir(draft) == []
    assert corner.commit().file_count == 0
