"""How the daemon comes and goes: every way of ending it, what a killed one leaves, and what it refuses."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from artfs.testing.mount import Daemon, Workspace, is_mounted

MakeDaemon = Callable[..., Daemon]


@pytest.fixture(params=["workspace", "ordinary_workspace"], ids=["root", "ordinary-user"])
def place(request: pytest.FixtureRequest) -> Workspace:
    """A workspace of whoever runs the tests, and one of an account without privileges."""
    workspace: Workspace = request.getfixturevalue(request.param)
    return workspace


def by_sigterm(daemon: Daemon) -> None:
    daemon.terminate()


def by_umount_command(daemon: Daemon) -> None:
    daemon.workspace.artfs("umount", str(daemon.mountpoint))
    daemon.wait()


def by_fusermount(daemon: Daemon) -> None:
    daemon.unmount()


@pytest.mark.parametrize("end", [by_sigterm, by_umount_command, by_fusermount])
def test_every_end_is_clean(place: Workspace, make_daemon: MakeDaemon, end: Callable[[Daemon], None]) -> None:
    daemon = make_daemon(place).start()
    shown = place.account.run(["cat", f"{place.mountpoint}/.artfs/status"])
    assert json.loads(shown.stdout)["pid"] == daemon.pid
    end(daemon)
    assert daemon.process.returncode == 0
    assert not is_mounted(place.mountpoint)
    assert list((place.home / "run").glob("*.json")) == []
    assert list((place.home / "run").glob("*.sock")) == []


def test_a_killed_daemons_mount_is_cleared_on_the_next_start(place: Workspace, make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(place).start()
    daemon.kill()
    assert is_mounted(place.mountpoint)
    dead = place.account.run(["ls", str(place.mountpoint)])
    assert os.strerror(errno.ENOTCONN) in dead.stderr
    daemon.start()
    assert place.account.run(["ls", str(place.mountpoint)]).returncode == 0


def test_the_command_line_clears_a_dead_mount_too(place: Workspace, make_daemon: MakeDaemon) -> None:
    make_daemon(place).start().kill()
    mounted = place.artfs("mount", str(place.mountpoint))
    assert "stale" in mounted.stderr
    assert place.account.run(["ls", str(place.mountpoint)]).returncode == 0
    place.artfs("umount", str(place.mountpoint))


def test_a_second_daemon_is_refused_and_the_first_goes_on(workspace: Workspace, make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(workspace).start()
    code, said = make_daemon(workspace).failed_start()
    assert code != 0
    assert said.count("\n") == 1
    assert "served by a running artfs already" in said
    assert daemon.status_file()["pid"] == daemon.pid


def test_nor_one_of_another_state_folder(workspace: Workspace, make_daemon: MakeDaemon, tmp_path: Path) -> None:
    daemon = make_daemon(workspace).start()
    code, said = make_daemon(workspace, ("--home", str(tmp_path / "other"))).failed_start()
    assert code != 0
    assert said.count("\n") == 1
    assert "mounted at" in said
    assert daemon.status_file()["pid"] == daemon.pid


def missing(mountpoint: Path) -> None:
    mountpoint.rmdir()


def not_a_directory(mountpoint: Path) -> None:
    mountpoint.rmdir()
    mountpoint.touch()


def not_empty(mountpoint: Path) -> None:
    (mountpoint / "mine").touch()


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [(missing, "does not exist"), (not_a_directory, "is not a directory"), (not_empty, "is not empty")],
)
def test_a_bad_mountpoint_is_one_clear_line(
    workspace: Workspace, make_daemon: MakeDaemon, spoil: Callable[[Path], None], complaint: str
) -> None:
    spoil(workspace.mountpoint)
    code, said = make_daemon(workspace).failed_start()
    assert code != 0
    assert said.count("\n") == 1
    assert complaint in said
    by_command = workspace.artfs("mount", str(workspace.mountpoint), check=False)
    assert by_command.returncode != 0
    assert by_command.stderr.count("\n") == 1
    assert complaint in by_command.stderr


def test_the_mount_and_the_state_folder_stay_apart(workspace: Workspace, make_daemon: MakeDaemon) -> None:
    (workspace.home / "mnt").mkdir(parents=True)
    done = workspace.artfs("mount", workspace.home / "mnt", check=False)
    assert done.returncode != 0
    assert done.stderr.count("\n") == 1
    assert "state folder" in done.stderr
    code, said = make_daemon(workspace, ["--home", str(workspace.mountpoint / "home")]).failed_start()
    assert code != 0
    assert "below the mountpoint" in said
    assert list(workspace.mountpoint.iterdir()) == []


def test_another_user_sees_nothing_unless_allowed(workspace: Workspace, make_daemon: MakeDaemon) -> None:
    make_daemon(workspace).start()
    assert subprocess.run(["ls", str(workspace.mountpoint)], capture_output=True).returncode == 0
    workspace.path.chmod(0o755)
    workspace.mountpoint.parent.chmod(0o755)
    other = subprocess.run(
        ["ls", str(workspace.mountpoint)], user=65534, group=65534, extra_groups=[], capture_output=True, text=True
    )
    assert other.returncode != 0
    assert os.strerror(errno.EACCES) in other.stderr
