from __future__ import annotations

import configparser
import os
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).resolve().parents[3] / "systemd"
USER_UNIT = UNITS / "user" / "artfs.service"
SYSTEM_UNIT = UNITS / "system" / "artfs@.service"
SERVER_UNIT = UNITS / "system" / "artfs-server.service"
SERVER_SOCKET = UNITS / "system" / "artfs-server.socket"
GC_UNIT = UNITS / "system" / "artfs-server-gc.service"
GC_TIMER = UNITS / "system" / "artfs-server-gc.timer"

IMPLY_NO_NEW_PRIVILEGES = {
    # systemd.exec(5), NoNewPrivileges=: "certain settings override this" for a manager without CAP_SYS_ADMIN.
    "DynamicUser", "LockPersonality", "MemoryDenyWriteExecute", "PrivateDevices", "ProtectClock", "ProtectHostname",
    "ProtectKernelLogs", "ProtectKernelModules", "ProtectKernelTunables", "RestrictAddressFamilies",
    "RestrictNamespaces", "RestrictRealtime", "RestrictSUIDSGID", "SystemCallArchitectures", "SystemCallFilter",
    "SystemCallLog",
}  # fmt: skip

MAKE_A_MOUNT_NAMESPACE = {
    "BindPaths", "BindReadOnlyPaths", "ExecPaths", "InaccessiblePaths", "MountAPIVFS", "MountFlags", "MountImages",
    "NoExecPaths", "PrivateDevices", "PrivateIPC", "PrivateMounts", "PrivateTmp", "PrivateUsers", "ProcSubset",
    "ProtectControlGroups", "ProtectHome", "ProtectKernelLogs", "ProtectKernelModules", "ProtectKernelTunables",
    "ProtectProc", "ProtectSystem", "ReadOnlyPaths", "ReadWritePaths", "RootDirectory", "RootImage",
    "TemporaryFileSystem",
}  # fmt: skip


def service_of(unit: Path) -> dict[str, str]:
    """The [Service] section; of a key that stands there twice, the last."""
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",), comment_prefixes=("#", ";"))
    parser.optionxform = str  # type: ignore[method-assign,assignment]
    parser.read(unit)
    return dict(parser["Service"])


@pytest.mark.parametrize(
    ("unit", "scope"),
    [(USER_UNIT, "--user"), (SYSTEM_UNIT, "--system"), (SERVER_UNIT, "--system"), (SERVER_SOCKET, "--system"),
     (GC_UNIT, "--system"), (GC_TIMER, "--system")],
    ids=lambda given: getattr(given, "name", given),
)
def test_systemd_accepts_the_unit(unit: Path, scope: str, tmp_path: Path) -> None:
    verified = subprocess.run(
        ["systemd-analyze", "verify", scope, str(unit)],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), "SYSTEMD_LOG_LEVEL": "warning"},
        capture_output=True,
        text=True,
    )
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")


def test_the_user_units_daemon_can_use_fusermount3() -> None:
    service = service_of(USER_UNIT)
    assert service["NoNewPrivileges"] == "no"
    assert not service.keys() & IMPLY_NO_NEW_PRIVILEGES
    assert not service.keys() & {"CapabilityBoundingSet", "AmbientCapabilities", "SecureBits"}


@pytest.mark.parametrize("unit", [USER_UNIT, SYSTEM_UNIT], ids=["user", "system"])
def test_the_mount_is_made_where_everybody_sees_it(unit: Path) -> None:
    assert not service_of(unit).keys() & MAKE_A_MOUNT_NAMESPACE


@pytest.mark.parametrize("unit", [USER_UNIT, SYSTEM_UNIT], ids=["user", "system"])
def test_started_means_that_the_mount_answers(unit: Path) -> None:
    service = service_of(unit)
    assert service["Type"] == "notify"
    assert service["NotifyAccess"] == "main"
    assert service["Restart"] == "on-failure"
    assert "umount" in service["ExecStop"]
    assert service["ExecStopPost"].startswith("-")


def test_the_machines_unit_may_talk_to_a_server_and_has_its_token() -> None:
    service = service_of(SYSTEM_UNIT)
    assert {"AF_INET", "AF_INET6"} <= set(service["RestrictAddressFamilies"].split())
    # Without a path: from the credential store, and its absence is no failure (systemd.exec(5)).
    assert service["LoadCredential"] == "artfs-token"


def test_the_server_is_started_for_its_socket_and_says_when_it_answers() -> None:
    service = service_of(SERVER_UNIT)
    assert (service["Type"], service["NotifyAccess"], service["KillMode"]) == ("notify", "main", "mixed")
    assert "artfs serve" in service["ExecStart"]
    # It ends within the time that it is given: --stop-timeout, and what its main process adds.
    assert int(service["TimeoutStopSec"]) > 40


def test_the_server_has_nothing_that_it_does_not_need() -> None:
    service = service_of(SERVER_UNIT)
    assert service["DynamicUser"] == "yes"
    assert service["CapabilityBoundingSet"] == ""
    rated = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=25", str(SERVER_UNIT)], capture_output=True, text=True
    )
    assert rated.returncode == 0, rated.stdout.splitlines()[-1]


def test_the_servers_garbage_collection_is_of_the_same_account_and_hardened_alike() -> None:
    server, collection = service_of(SERVER_UNIT), service_of(GC_UNIT)
    # systemd names the account of a unit that has DynamicUser= and no User= after the unit.
    assert collection["User"] == SERVER_UNIT.stem
    assert collection["Type"] == "oneshot"
    own = {
        "Type", "NotifyAccess", "Environment", "ExecStart", "ExecReload", "Restart", "RestartSec", "KillMode",
        "TimeoutStopSec", "TimeoutStartSec", "LimitNOFILE", "TasksMax",
    }  # fmt: skip
    assert {key: collection.get(key) for key in server.keys() - own} == {key: server[key] for key in server.keys() - own}
