"""mount.artfs, called by hand and by mount(8) for a line of an fstab."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from artfs.testing.mount import Workspace, detach, is_mounted

PATIENCE_S = 30.0


def helper(workspace: Workspace, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [workspace.account.python, "-m", "artfs.cli.mount_helper", "artfs", str(workspace.mountpoint)]
    return workspace.account.run([*command, *arguments], env=workspace.environ)


def daemon_pid(workspace: Workspace) -> int:
    pid: int = json.loads((workspace.mountpoint / ".artfs" / "status").read_bytes())["pid"]
    return pid


def wait_for_end(pid: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline, f"process {pid} still runs"
        time.sleep(0.02)


def test_it_returns_when_the_mount_answers_and_umount_ends_it(workspace: Workspace) -> None:
    done = helper(workspace, "-o", f"rw,nofail,_netdev,x-systemd.automount,home={workspace.home}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    pid = daemon_pid(workspace)
    (workspace.mountpoint / "drafts" / "demo").mkdir()
    subprocess.run(["umount", str(workspace.mountpoint)], check=True)
    wait_for_end(pid)


def test_a_second_mount_is_refused_with_mounts_own_code(workspace: Workspace) -> None:
    assert helper(workspace).returncode == 0
    again = helper(workspace)
    assert again.returncode == 32
    assert again.stderr.startswith("mount.artfs: ")
    assert again.stderr.count("\n") == 1
    pid = daemon_pid(workspace)
    subprocess.run(["umount", str(workspace.mountpoint)], check=True)
    wait_for_end(pid)


def test_ro_and_noexec_are_the_kernels(workspace: Workspace) -> None:
    assert helper(workspace, "-o", "ro,noexec").returncode == 0
    with pytest.raises(OSError, match=os.strerror(errno.EROFS)):
        (workspace.mountpoint / "drafts" / "demo").mkdir()
    flags = os.statvfs(workspace.mountpoint).f_flag
    assert flags & os.ST_RDONLY
    assert flags & os.ST_NOEXEC
    assert flags & os.ST_NOSUID
    pid = daemon_pid(workspace)
    detach(workspace.mountpoint)
    wait_for_end(pid)


def test_an_ordinary_user_mounts_a_catalog_of_their_own(ordinary_workspace: Workspace) -> None:
    # What mount(8) passes on for a line with `user,noauto`.
    done = helper(ordinary_workspace, "-o", "rw,noexec,nosuid,nodev,user=nobody")
    assert (done.returncode, done.stderr) == (0, "")
    status = ordinary_workspace.account.run(["cat", f"{ordinary_workspace.mountpoint}/.artfs/status"])
    ended = ordinary_workspace.account.run(["fusermount3", "-u", str(ordinary_workspace.mountpoint)])
    assert (ended.returncode, ended.stderr) == (0, "")
    wait_for_end(json.loads(status.stdout)["pid"])


def test_an_ordinary_user_cannot_have_ro(ordinary_workspace: Workspace) -> None:
    done = helper(ordinary_workspace, "-o", "ro")
    assert done.returncode == 1
    assert "only root" in done.stderr
    assert not is_mounted(ordinary_workspace.mountpoint)


# In a mount namespace of its own, where /sbin has our helper in front; $1: folder of the helper, $2: fstab, $3: mountpoint.
FSTAB_SCRIPT = """
set -eu
mount -t overlay overlay -o "lowerdir=$1:/usr/sbin" /usr/sbin
mount --fstab "$2" "$3"
findmnt --noheadings --output SOURCE,FSTYPE "$3"
cat "$3/.artfs/status"
mount --fstab "$2" --all
umount "$3"
"""


def test_a_line_of_fstab(workspace: Workspace) -> None:
    programs = workspace.path / "sbin"
    programs.mkdir()
    script = programs / "mount.artfs"
    script.write_text(
        f"#!/bin/sh\nexport PYTHONPATH={workspace.environ['PYTHONPATH']}\n"
        f'exec {workspace.account.python} -m artfs.cli.mount_helper "$@"\n'
    )
    script.chmod(0o755)
    fstab = workspace.path / "fstab"
    options = f"home={workspace.home},entity=me,allow_other,nofail,_netdev,x-systemd.automount"
    fstab.write_text(f"artfs  {workspace.mountpoint}  artfs  {options}  0  0\n")
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", FSTAB_SCRIPT, "sh", str(programs), str(fstab), str(workspace.mountpoint)],
        env=workspace.environ,
        cwd="/",  # mount(8) takes a label that happens to be a name here for a path
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    shown, _, status = done.stdout.partition("\n")
    assert shown.split() == ["artfs", "fuse.artfs"]
    assert json.loads(status)["entity"] == "me"
    wait_for_end(json.loads(status)["pid"])
