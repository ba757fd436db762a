"""The systemd user unit, run by a real user manager of an account without privileges."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from artfs.catalog import open_catalog
from artfs.catalog.sql.ledger.ledger import SqlLedger
from artfs.model.access import COMMAND_LINE, Grant
from artfs.testing.mount import Workspace
from artfs.testing.serving import artfs_serve
from artfs.testing.usermanager import UserManager

UNIT = Path(__file__).resolve().parents[2] / "systemd" / "user" / "artfs.service"

PATIENCE_S = 60.0
"""Far above what is needed; only a failure meets it."""


def user_manager(workspace: Workspace, **service: str) -> UserManager:
    """A user manager that knows artfs.service as it is shipped, told by a drop-in where this test's things are, and `service`."""
    programs = workspace.path / "bin"
    programs.mkdir()
    for name, module in (("artfs", "artfs.cli"), ("artfsd", "artfsd")):
        (programs / name).write_text(f'#!/bin/sh\nexec {workspace.account.python} -m {module} "$@"\n')
        (programs / name).chmod(0o755)
    kept = ("ARTFS_HOME", "ARTFS_CONFIG", "ARTFS_CACHE_PATH", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
    environ = {
        "PATH": f"{programs}:/usr/local/bin:/usr/bin:/bin",
        "MOUNTPOINT": str(workspace.mountpoint),
        **{key: workspace.environ[key] for key in kept},
    }
    lines = [f'Environment="{key}={value}"' for key, value in environ.items()]
    lines += [f"{key}={value}" for key, value in service.items()]
    drop_in = "\n".join(["[Service]", *lines, f"StandardError=append:{workspace.home}/unit.log", ""])
    return UserManager(workspace.account, {"artfs.service": UNIT.read_text(), "artfs.service.d/test.conf": drop_in})


@pytest.fixture
def manager(ordinary_workspace: Workspace) -> Iterator[UserManager]:
    with user_manager(ordinary_workspace) as made:
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


def test_a_daemon_that_hangs_is_killed_and_started_again(ordinary_workspace: Workspace) -> None:
    """By the watchdog, which is fed only while the mount answers another process."""
    with user_manager(ordinary_workspace, WatchdogSec="2", TimeoutStopSec="3") as manager:
        started = manager.systemctl("start", "artfs")
        assert started.returncode == 0, started.stderr + manager.log()
        before = manager.properties("artfs", "MainPID")["MainPID"]
        time.sleep(3)  # longer than the watchdog waits: it is fed
        assert manager.properties("artfs", "MainPID", "NRestarts") == {"MainPID": before, "NRestarts": "0"}
        assert manager.run("kill", "-STOP", before).returncode == 0
        wait_until(lambda: manager.properties("artfs", "NRestarts")["NRestarts"] == "1")
        wait_until(lambda: manager.properties("artfs", "ActiveState")["ActiveState"] == "active")
        assert manager.properties("artfs", "MainPID")["MainPID"] not in ("0", before)
        assert manager.run("ls", str(ordinary_workspace.mountpoint)).stdout == "drafts\n"


def test_a_killed_daemon_that_is_not_started_again_leaves_no_dead_mount(ordinary_workspace: Workspace) -> None:
    with user_manager(ordinary_workspace, Restart="no") as manager:
        started = manager.systemctl("start", "artfs")
        assert started.returncode == 0, started.stderr + manager.log()
        assert manager.run("kill", "-9", manager.properties("artfs", "MainPID")["MainPID"]).returncode == 0
        wait_until(lambda: manager.properties("artfs", "ActiveState")["ActiveState"] == "failed")
        shown = manager.run("ls", "-A", str(ordinary_workspace.mountpoint))  # an error where a dead mount is
        assert (shown.returncode, shown.stdout) == (0, "")
        assert str(ordinary_workspace.mountpoint) not in manager.run("cat", "/proc/self/mountinfo").stdout


def test_a_unit_whose_mountpoint_is_taken_does_not_become_ready(manager: UserManager, ordinary_workspace: Workspace) -> None:
    (ordinary_workspace.mountpoint / "mine").touch()
    assert manager.systemctl("start", "artfs").returncode != 0
    assert manager.properties("artfs", "ActiveState")["ActiveState"] != "active"
    assert "is not empty" in (ordinary_workspace.home / "unit.log").read_text()


def test_the_user_unit_mounts_a_server_with_the_token_of_a_credential(ordinary_workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    with open_catalog(tmp_path / "server" / "catalog.db") as catalog:
        grants = [Grant("local", "p", "reader")]
        secret = SqlLedger(catalog.database).create_token("unit", grants=grants, is_admin=False, by=COMMAND_LINE)[1]
        catalog.create_collection("local", "p", "data")
    token = ordinary_workspace.path / "token"
    token.write_text(secret)
    with (
        artfs_serve("--home", tmp_path) as server,
        user_manager(
            ordinary_workspace, Environment=f"ARTFS_SERVER={server.url}", LoadCredential=f"artfs-token:{token}"
        ) as manager,
    ):
        started = manager.systemctl("start", "artfs")
        assert started.returncode == 0, started.stderr + manager.log()
        mountpoint = str(ordinary_workspace.mountpoint)
        assert manager.run("ls", f"{mountpoint}/p").stdout == "data\n"
        status = json.loads(manager.run("cat", f"{mountpoint}/.artfs/status").stdout)
        assert (status["server"]["url"], status["server"]["online"]) == (server.url, True)
        assert secret not in manager.run("systemctl", "--user", "show", "artfs").stdout
