"""What can be said about a mountpoint, and a daemon that does not start, without mounting anything."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from artfs.cli import mounting, procs
from artfs.cli.mounting import (
    MountOptions,
    daemon_command,
    last_line,
    log_file,
    prepare_mountpoint,
    start_daemon,
)
from artfs.cli.procs import MountInfo, holders, is_running, probe, resolve_mountpoint
from artfs.errors import AlreadyMountedError, MountpointError, UnavailableError, UsageError
from artfs.settings import Settings, load_settings

Refused = Callable[..., str]


@pytest.mark.parametrize(
    ("options", "more"),
    [
        (MountOptions(), ["--aliases=directories"]),
        (MountOptions(allow_other=True, aliases="symlinks"), ["--aliases=symlinks", "--allow-other"]),
        (MountOptions(log_level="debug"), ["--aliases=directories", "--log-level", "debug"]),
    ],
)
def test_daemon_command(settings: Settings, options: MountOptions, more: list[str]) -> None:
    command = daemon_command(settings, Path("/mnt/x"), options)
    assert command[:4] == [sys.executable, "-m", "artfsd", "/mnt/x"]
    assert command[4:] == ["--foreground", "--home", str(settings.home), "--entity", "local", *more]


def missing(path: Path) -> None:
    path.rmdir()


def a_file(path: Path) -> None:
    path.rmdir()
    path.touch()


def full(path: Path) -> None:
    (path / "a\nfile").touch()


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (missing, "does not exist; make it with `mkdir -p"),
        (a_file, "is not a directory"),
        (full, "is not empty (it holds a\\nfile); choose an empty directory"),
    ],
)
def test_bad_mountpoints(
    refused: Refused, tmp_path: Path, spoil: Callable[[Path], None], complaint: str
) -> None:
    path = tmp_path / "mnt"
    path.mkdir()
    spoil(path)
    assert complaint in refused("mount", path, code=7)
    assert complaint in refused("mount", "--foreground", path, code=7)


def test_the_state_folder_is_no_mountpoint(settings: Settings, refused: Refused) -> None:
    (settings.home / "mnt").mkdir()
    assert "are inside each other" in refused("mount", settings.home / "mnt", code=7)


def test_other_mounts_are_left_alone(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = [MountInfo(str(tmp_path), "fuse.sshfs", "host:", "0:50")]
    monkeypatch.setattr(procs, "mounts", lambda: table)
    with pytest.raises(MountpointError, match=r"is taken: a fuse\.sshfs file system is mounted there"):
        prepare_mountpoint(settings, tmp_path)
    monkeypatch.setattr(mounting, "probe", lambda path, timeout_s: errno.ENOTCONN)
    with pytest.raises(MountpointError, match=r"dead mount of another program"):
        prepare_mountpoint(settings, tmp_path)
    monkeypatch.setattr(mounting, "probe", lambda path, timeout_s: None)
    with pytest.raises(MountpointError, match="does not answer"):
        prepare_mountpoint(settings, tmp_path)
    table[0] = MountInfo(str(tmp_path), "fuse.artfs", "artfs", "0:50")
    monkeypatch.setattr(mounting, "probe", lambda path, timeout_s: 0)
    with pytest.raises(AlreadyMountedError, match="another state folder"):
        prepare_mountpoint(settings, tmp_path)


def test_a_daemon_that_does_not_start_is_quoted(settings: Settings, refused: Refused, tmp_path: Path) -> None:
    settings.catalog_path.write_bytes(b"this is no catalog" * 1000)
    (tmp_path / "mnt").mkdir()
    said = refused("mount", tmp_path / "mnt", code=11)
    assert said.startswith("the daemon did not start: ")
    assert "catalog" in said
    assert said.endswith(f"(log: {log_file(settings, tmp_path / 'mnt')})")
    assert list(settings.run_path.glob("notify-*")) == []


def test_a_daemon_that_stays_silent_is_ended(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mnt").mkdir()
    (tmp_path / "artfsd.py").write_text(
        "import os, sys, time\nprint('my pid is', os.getpid(), flush=True)\ntime.sleep(600)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    log = log_file(settings, tmp_path / "mnt")
    log.write_text("an old line\n")
    with pytest.raises(UnavailableError, match=r"did not answer within 1 s: my pid is \d+ \(log: "):
        start_daemon(settings, tmp_path / "mnt", timeout_s=1)
    assert not is_running(int(log.read_text().split()[-1]))


def test_a_large_log_is_put_aside(settings: Settings, refused: Refused, tmp_path: Path) -> None:
    settings.catalog_path.write_bytes(b"this is no catalog" * 1000)
    (tmp_path / "mnt").mkdir()
    log = log_file(settings, tmp_path / "mnt")
    log.write_bytes(bytes(mounting.MAX_LOG_SIZE + 1))
    refused("mount", tmp_path / "mnt", code=11)
    assert log.with_suffix(".log.1").stat().st_size == mounting.MAX_LOG_SIZE + 1
    assert 0 < log.stat().st_size < 10000


def test_a_home_that_is_too_long_for_a_socket(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path / ("x" * 100))
    (tmp_path / "mnt").mkdir()
    with pytest.raises(UsageError, match="choose a shorter --home"):
        start_daemon(settings, tmp_path / "mnt")


def test_last_line(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("old\n\nnew\nartfsd: no\n \n")
    assert last_line(log, 0) == "no"
    assert last_line(log, log.stat().st_size) == ""


def test_nothing_to_unmount(refused: Refused, tmp_path: Path) -> None:
    assert "nothing is mounted at" in refused("umount", tmp_path, code=3)
    assert "no mount of this state folder is running" in refused("umount", code=3)
    assert "is not artfs; use `umount`" in refused("umount", "/proc", code=3)
    assert "not both" in refused("umount", "--all", "/mnt", code=2)


def test_umount_all_of_none(artfs: Callable[..., object]) -> None:
    artfs("umount", "--all")


# /proc ----------------------------------------------------------------------------------------------------
def test_resolve_mountpoint(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "again").symlink_to(tmp_path / "link")
    assert resolve_mountpoint(tmp_path / "real") == tmp_path / "real"
    assert resolve_mountpoint(tmp_path / "again") == tmp_path / "real"
    assert resolve_mountpoint(f"{tmp_path}/x/../real/") == tmp_path / "real"
    assert resolve_mountpoint("/") == Path("/")


def test_mounts_are_read_from_the_kernels_table() -> None:
    table = {mount.mountpoint: mount for mount in procs.mounts()}
    assert table["/proc"].fstype == "proc"
    assert "/" in table


def test_mount_table_lines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "mountinfo").write_text(
        "36 35 98:0 / /mnt/with\\040blank rw,noatime master:1 - ext3 /dev/root rw\n"
        "37 35 0:52 / /mnt/a rw,nosuid shared:7 master:1 - fuse.artfs artfs rw,user_id=0\n"
        "38 35 0:53 / /mnt/a rw - fuse artfs:x rw\n"
    )
    monkeypatch.setattr(procs, "PROC", tmp_path)
    assert [mount.mountpoint for mount in procs.mounts()] == ["/mnt/with blank", "/mnt/a", "/mnt/a"]
    assert [mount.is_artfs for mount in procs.mounts()] == [False, True, True]
    assert procs.try_mount(Path("/mnt/a")) == MountInfo("/mnt/a", "fuse", "artfs:x", "0:53")


def test_probe(tmp_path: Path) -> None:
    assert probe(tmp_path, 10) == 0
    assert probe(tmp_path / "nope", 10) == errno.ENOENT


@pytest.mark.parametrize("how", ["works in", "has open", "maps"])
def test_holders(tmp_path: Path, how: str) -> None:
    (tmp_path / "file").write_bytes(bytes(4096))
    code = {
        "works in": "",
        "has open": "f = open('file'); os.chdir('/')",
        "maps": "import mmap; f = open('file'); m = mmap.mmap(f.fileno(), 0, prot=1); f.close(); os.chdir('/')",
    }[how]
    child = subprocess.Popen(
        [sys.executable, "-c", f"import os\n{code}\nprint(flush=True); input()"],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with child:
        assert child.stdout is not None
        child.stdout.readline()
        # The mapping alone keeps a file busy even when its descriptor is closed; mmap keeps one of its own in Python.
        (holder,) = holders(tmp_path)
        assert holder.pid == child.pid
        assert holder.how == how or (how == "maps" and holder.how == "has open")
        assert holder.path.startswith(str(tmp_path))
        assert holders(tmp_path, skip=frozenset([child.pid])) == []
        child.kill()


def test_is_running() -> None:
    assert is_running(os.getpid())
    child = subprocess.Popen(["sleep", "600"])
    assert is_running(child.pid)
    child.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not is_running(child.pid)  # a zombie
    child.wait()
    assert not is_running(child.pid)
