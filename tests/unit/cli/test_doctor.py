from __future__ import annotations

import errno
import os
import sqlite3
import stat
import sys
from pathlib import Path

import pytest

from artfs.cli import checks, statechecks
from artfs.cli.finding import Check
from artfs.cli.procs import MountInfo
from artfs.settings import Settings, load_settings

from .conftest import Artfs


def found(check: Check) -> tuple[str, str]:
    return check.status, check.fix


def test_json(artfs: Artfs) -> None:
    # Another program's stale mount on this machine is a finding, too.
    result = artfs("doctor", "--json", code=None)
    assert result.code == any(check["status"] == "bad" for check in result.json)
    for check in result.json:
        assert set(check) == {"check", "status", "detail", "fix", "mended", "done"}
        assert bool(check["fix"]) == (check["status"] != "ok")
    names = [check["check"] for check in result.json]
    assert names[:9] == [
        "kernel",
        "python",
        "fuse device",
        "fusermount3",
        "fuse.conf",
        "daemon",
        "hashing",
        "updatedb",
        "settings",
    ]


def test_text_says_what_to_type(artfs: Artfs, settings: Settings) -> None:
    settings.catalog_path.write_bytes(b"this is no catalog" * 1000)
    lines = artfs("doctor", code=1).lines
    (at,) = [number for number, line in enumerate(lines) if line.split()[:2] == ["bad", "catalog"]]
    assert lines[at + 1].strip().startswith("to mend it: artfs restore")
    assert not any(line.startswith("ok") for line in artfs("doctor", "-q", code=1).lines)


def test_it_makes_no_state_folder(artfs: Artfs, tmp_path: Path) -> None:
    artfs("doctor", "--home", tmp_path / "new", code=None)
    assert not (tmp_path / "new").exists()


def test_a_bad_setting_is_a_finding(artfs: Artfs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARTFS_POLL_S", "never")
    (check,) = [c for c in artfs("doctor", "--json", code=1).json if c["check"] == "settings"]
    assert check["status"] == "bad"
    assert "ARTFS_POLL_S" in check["detail"]


@pytest.mark.parametrize(
    ("release", "status"),
    [("4.19.0-amd64", "bad"), ("5.3.1", "bad"), ("5.4.0", "ok"), ("6.18.44-fc-v657", "ok"), ("10.1", "ok")],
)
def test_kernel(release: str, status: str) -> None:
    assert checks.check_kernel(release).status == status


def test_python() -> None:
    assert checks.check_python((3, 10, 2)).status == "bad"
    assert checks.check_python((3, 11, 0)).status == "ok"


def test_fuse_device(tmp_path: Path) -> None:
    assert found(checks.check_fuse_device(tmp_path / "fuse")) == (
        "bad",
        "sudo modprobe fuse   (in a container: start it with --device /dev/fuse --cap-add SYS_ADMIN)",
    )
    (tmp_path / "file").touch()
    assert checks.check_fuse_device(tmp_path / "file").detail.endswith("is not a device")
    assert checks.check_fuse_device(Path("/dev/null")).status == "ok"  # a device that everybody may use


def test_a_device_that_others_may_not_open(tmp_path: Path) -> None:
    device = tmp_path / "fuse"
    os.mknod(device, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    assert found(checks.check_fuse_device(device)) == ("warn", f"sudo chmod 0666 {device}")


def test_a_device_that_i_may_not_open(tmp_path: Path) -> None:
    device = tmp_path / "fuse"
    os.mknod(device, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.chmod(tmp_path, 0o755)
    here = os.open(tmp_path, os.O_PATH)
    os.seteuid(65534)
    try:
        # By way of a descriptor, as only root may enter the folders above.
        check = checks.check_fuse_device(Path(f"/proc/self/fd/{here}/fuse"))
    finally:
        os.seteuid(0)
        os.close(here)
    assert check.status == "bad"
    assert check.detail.endswith("cannot be opened: Permission denied")
    assert check.fix.startswith("sudo chmod 0666 ")


def test_fusermount(tmp_path: Path) -> None:
    assert found(checks.check_fusermount(None, euid=0)) == ("bad", "sudo apt install fuse3")
    program = tmp_path / "fusermount3"
    program.touch(0o755)
    assert found(checks.check_fusermount(str(program), euid=1000)) == ("bad", f"sudo chmod u+s {program}")
    assert checks.check_fusermount(str(program), euid=0).status == "warn"
    program.chmod(0o4755)
    assert checks.check_fusermount(str(program), euid=1000).status == "ok"


@pytest.mark.parametrize(
    ("text", "euid", "says"),
    [
        ("#user_allow_other\n", 1000, "sudo tee -a"),
        ("#user_allow_other\n", 0, "which root does not need"),
        ("mount_max = 3\nuser_allow_other # yes\n", 1000, "has user_allow_other"),
        (None, 1000, "sudo tee -a"),
    ],
)
def test_fuse_conf(tmp_path: Path, text: str | None, euid: int, says: str) -> None:
    if text is not None:
        (tmp_path / "fuse.conf").write_text(text)
    check = checks.check_fuse_conf(tmp_path / "fuse.conf", euid=euid)
    assert check.status == "ok"
    assert says in check.detail


def test_bindings_that_cannot_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyfuse3.py").write_text(
        "raise ImportError('libfuse3.so.3: cannot open shared object file')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    check = checks.check_bindings()
    assert check.status == "bad"
    assert "libfuse3.so.3: cannot open" in check.detail
    assert "libfuse3-dev" in check.fix
    assert sys.executable in check.fix


def test_state_folder(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert checks.check_folder(home, tmp_path).detail == f"{home} is made at first use"
    (tmp_path / "file").touch()
    assert checks.check_folder(tmp_path / "file" / "x", tmp_path / "file").status == "bad"
    assert checks.check_folder(tmp_path / "file", tmp_path / "file").status == "bad"
    home.mkdir(mode=0o755)
    assert found(checks.check_folder(home, home)) == ("warn", f"chmod 0700 {home}")
    home.chmod(0o700)
    assert checks.check_folder(home, home).status == "ok"


def test_file_systems(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    table = [MountInfo("/", "ext4", "/dev/vda", "8:1"), MountInfo(str(tmp_path), "nfs4", "host:/x", "0:50")]
    monkeypatch.setattr(checks, "mounts", lambda: table)
    assert checks.check_file_system(tmp_path / "home").status == "bad"
    assert checks.check_file_system(Path("/")).detail == "/ is on ext4 (mounted at /)"
    table.append(MountInfo(str(tmp_path), "fuse.artfs", "artfs", "0:51"))
    assert checks.check_file_system(tmp_path / "home").detail.endswith("is inside an artfs mount")
    table.clear()
    assert checks.check_file_system(tmp_path).status == "warn"


def test_space(tmp_path: Path) -> None:
    assert checks.check_space(tmp_path, 0).status in ("ok", "warn")
    assert found(checks.check_space(tmp_path, 1 << 60)) == ("bad", "artfs gc")


def test_catalog(tmp_path: Path, artfs: Artfs, two_versions: Path, settings: Settings) -> None:
    assert checks.check_catalog(load_settings(home=tmp_path / "new")).status == "ok"
    assert checks.check_catalog(settings).detail.endswith(", 2 versions, sound")
    with sqlite3.connect(settings.catalog_path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    assert found(checks.check_catalog(settings)) == ("bad", "update artfs")
    settings.catalog_path.write_bytes(b"no catalog" * 1000)
    assert checks.check_catalog(settings).status == "bad"


@pytest.mark.parametrize(
    ("answer", "status", "fix"),
    [
        (0, "ok", ""),
        (errno.ENOTCONN, "bad", "fusermount3 -uz /mnt/a"),
        (None, "bad", "artfs umount --lazy /mnt/a"),
        (errno.EACCES, "ok", ""),
    ],
)
def test_mounts(monkeypatch: pytest.MonkeyPatch, answer: int | None, status: str, fix: str) -> None:
    table = [MountInfo("/mnt/a", "fuse.artfs", "artfs", "0:5"), MountInfo("/mnt/b", "ext4", "/dev/b", "8:2")]
    monkeypatch.setattr(statechecks, "mounts", lambda: table)
    shown = statechecks.mount_checks(probe_at=lambda path, timeout_s: answer)
    assert [found(check) for check in shown] == [(status, fix)]


def test_no_mount(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statechecks, "mounts", list)
    assert [check.detail for check in statechecks.mount_checks()] == ["no artfs mount on this machine"]


def test_the_daemon_can_be_loaded_here() -> None:
    assert checks.check_bindings().status == "ok"


def test_checks_are_in_the_help(artfs: Artfs) -> None:
    assert "say what is wrong" in artfs("doctor", "--help").out
