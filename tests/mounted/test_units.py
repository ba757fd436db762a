"""The systemd user unit, run by a real user manager of an account without privileges."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from artfs.testing.mount import Workspace
from artfs.testing.usermanager import UserManager

UNIT = Path(__file__).resolve().parents[2] / "systemd" / "user" / "artfs.service"

PATIENCE_S = 60.0
"""Far above what is needed; only a failure meets it."""


@pytest.fixture
def manager(ordinary_workspace: Workspace) -> Iterator[UserManager]:
    """A user manager that knows artfs.service as it is shipped, told by a drop-in where this test's things are."""
    workspace = ordinary_workspace
    programs = workspace.path / "bin"
    programs.mkdir()
    for name, module in (("artfs", "artfs.cli"), ("artfsd", "artfsd")):
        (programs / name).write_text(f'#!/bin/sh\nexec {workspace.account.python} -m {module} "$@"\n')
        (programs / name).chmod(0o755)
    environ = {
        "PATH": f"{programs}:/usr/local/bin:/usr/bin:/bin",
        "MOUNTPOINT": str(workspace.mountpoint),
        **{key: workspace.environ[key] for key in ("ARTFS_HOME", "ARTFS_CONFIG", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE")},
    }
    lines = [f'Environment="{key}={value}"' for key, value in environ.items()]
    drop_in = "\n".join(["[Service]", *lines, f"StandardError=append:{workspace.home}/unit.log", ""])
    with UserManager(workspace.account, {"artfs.service": UNIT.read_text(), "artfs.service.d/test.conf": drop_in}) as made:
        yield made


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_user_unit_mounts_restarts_and_unmounts(manager: UserManager, ordinary_workspace: Workspace) -> None:
    mountpoint = str(ordinary_workspace.mountpoint)
    state = ("ActiveState", "SubState", "Result", "NRestarts", "MainPID", "NoNewPrivileges")

    # `start` returns when the unit is ready, and ready means that the mount answers.
    started = manager.systemctl("start", "artfs")
    assert started.returncode == 0, started.stderr + manager.log()
    assert manager.run("cat", f"{mountpoint}/.artfs/status").returncode == 0
    before = manager.properties("artfs", *state)
    assert (before["ActiveState"], before["SubState"]) == ("active", "running")
    assert before["NoNewPrivileges"] == "no"

    # Killed, it is restarted and mounts again where the dead mount was.
    assert manager.run("kill", "-9", before["MainPID"]).returncode == 0
    wait_until(lambda: manager.properties("artfs", "NRestarts")["NRestarts"] == "1")
    wait_until(lambda: manager.properties("artfs", "ActiveState")["ActiveState"] == "active")
    after = manager.properties("artfs", *state)
    assert after["MainPID"] not in ("0", before["MainPID"])
    assert manager.run("cat", f"{mountpoint}/.artfs/status").returncode == 0

    # A stop unmounts by way of the daemon and leaves an empty folder.
    stopped = manager.systemctl("stop", "artfs")
    assert stopped.returncode == 0, stopped.stderr
    assert manager.properties("artfs", "ActiveState", "Result") == {"ActiveState": "inactive", "Result": "success"}
    assert manager.run("mountpoint", "-q", mountpoint).returncode != 0
    assert manager.run("ls", "-A", mountpoint).stdout == ""


def test_a_unit_whose_mountpoint_is_taken_does_not_become_ready(manager: UserManager, ordinary_workspace: Workspace) -> None:
    (ordinary_workspace.mountpoint / "mine").touch()
    assert manager.systemctl("start", "artfs").returncode != 0
    assert manager.properties("artfs", "ActiveState")["ActiveState"] != "active"
    assert "is not empty" in (ordinary_workspace.home / "unit.log").read_text()
