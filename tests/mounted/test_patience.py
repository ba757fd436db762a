"""How long a system call waits, and what the daemon says of itself to whoever started it (docs/semantics.md, "Coming and
going")."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from artfs.testing.corner import Corner
from artfs.testing.mount import Daemon, Workspace, is_mounted
from artfs.testing.trees import make

DEADLINE_S = 1.0


def hang(path: Path) -> Callable[[], None]:
    """Puts a pipe in the place of a file: whoever opens it waits until the returned function is called, which puts the file
    back."""
    aside = path.with_name("aside")
    path.rename(aside)
    os.mkfifo(path)

    def end() -> None:
        writer = os.open(path, os.O_RDWR)  # opens without waiting, and lets those who wait go on
        aside.rename(path)
        os.close(writer)

    return end


@pytest.mark.embedded("the disk of the store hangs")
def test_a_system_call_waits_no_longer_than_the_deadline(
    workspace: Workspace, make_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    """Here for a tree on a disk that does not answer; everything else goes on meanwhile, and the same call works again when
    the disk does."""
    daemon = make_daemon(workspace, environ={"ARTFS_DEADLINE_S": str(DEADLINE_S)}).start()
    daemon.expect_log("no answer within 1 s")
    corner = Corner(daemon, "p")
    member = corner.log(make(tmp_path / "slow", {"file": "x"}), "slow")
    corner.log(make(tmp_path / "other", {"file": "other"}), "other")
    digest = member.version.digest
    end = hang(workspace.home / "store" / "blobs" / digest[:2] / digest)
    said: list[int | None] = []

    def look() -> None:
        with pytest.raises(OSError) as raised:
            os.listdir(corner.path / "slow" / "latest")
        said.append(raised.value.errno)

    log = os.open(daemon.mountpoint / ".artfs" / "accesslog", os.O_RDONLY | os.O_NONBLOCK)
    begun = time.monotonic()
    reader = threading.Thread(target=look)
    reader.start()
    assert (corner.path / "other" / "latest" / "file").read_text() == "other"
    (corner.begin("other") / "file").write_text("written meanwhile")
    reader.join()
    assert said == [errno.ETIMEDOUT]
    assert time.monotonic() - begun >= DEADLINE_S
    # The log names the request that waited, not the newest one.
    (number,) = re.findall(r"(?m)^\S+ (\d+) \w+ local/p/slow:v0 .* ETIMEDOUT ", os.read(log, 1 << 20).decode())
    assert re.search(rf"WARNING artfsd.operations: request {number} \(.*\): .*no answer within 1 s", daemon.log())
    os.close(log)
    end()
    assert os.listdir(corner.path / "slow" / "latest") == ["file"]
    assert (corner.path / "slow" / "latest" / "file").read_text() == "x"


@pytest.fixture
def supervisor() -> Iterator[socket.socket]:
    """What systemd listens on."""
    folder = Path(tempfile.mkdtemp(prefix="artfs-notify-", dir="/tmp"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(folder / "socket"))
        listener.settimeout(30)
        yield listener
    shutil.rmtree(folder)


def messages(listener: socket.socket) -> list[str]:
    return listener.recv(4096).decode().splitlines()


def test_ready_means_that_the_mount_answers(
    workspace: Workspace, make_daemon: Callable[..., Daemon], supervisor: socket.socket
) -> None:
    daemon = make_daemon(workspace)
    environ = {**workspace.environ, "NOTIFY_SOCKET": supervisor.getsockname(), "WATCHDOG_USEC": "200000"}
    with daemon.log_path.open("wb") as log:
        process = subprocess.Popen(
            daemon.command(), stdout=log, stderr=log, env=environ, start_new_session=True
        )
    try:
        said = messages(supervisor)
        assert "READY=1" in said
        assert f"MAINPID={process.pid}" in said
        assert is_mounted(workspace.mountpoint)
        assert os.listdir(workspace.mountpoint) == ["drafts"]
        assert daemon.status_file()["pid"] == process.pid
        assert daemon.client().call("ping") == {"pid": process.pid, "mountpoint": str(workspace.mountpoint)}
        assert list((workspace.settings.run_path).glob("*.json")) != []
        assert messages(supervisor) == ["WATCHDOG=1"]
        process.send_signal(signal.SIGTERM)
        while (last := messages(supervisor)) == ["WATCHDOG=1"]:
            pass
        assert last == ["STOPPING=1"]
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()


def test_ready_is_not_said_of_a_mount_that_failed(
    workspace: Workspace, make_daemon: Callable[..., Daemon], supervisor: socket.socket
) -> None:
    (workspace.mountpoint / "in the way").touch()
    daemon = make_daemon(workspace, environ={"NOTIFY_SOCKET": supervisor.getsockname()})
    code, _ = daemon.failed_start()
    assert code == 1
    supervisor.setblocking(False)
    with pytest.raises(BlockingIOError):
        supervisor.recv(4096)


@pytest.mark.parametrize(
    "name", ["with space", "with\ttab", "ünï", "-o ro", "back\\slash", "comma,allow_other"]
)
def test_mountpoints_may_have_odd_names(
    workspace: Workspace, make_daemon: Callable[..., Daemon], tmp_path: Path, name: str
) -> None:
    mountpoint = workspace.path / name
    mountpoint.mkdir()
    workspace.artfs("mount", str(mountpoint))
    try:
        (mountpoint / "drafts" / "p").mkdir()
        assert os.listdir(mountpoint) == ["drafts"]
    finally:
        workspace.artfs("umount", str(mountpoint))
    assert os.listdir(mountpoint) == []


def test_a_relative_mountpoint_is_one_of_the_caller(workspace: Workspace) -> None:
    command = [workspace.account.python, "-m", "artfs.cli", "mount", "mnt"]
    subprocess.run(command, cwd=workspace.path, env=workspace.environ, check=True, capture_output=True)
    assert is_mounted(workspace.mountpoint)
    workspace.artfs("umount", str(workspace.mountpoint))
    assert not is_mounted(workspace.mountpoint)
