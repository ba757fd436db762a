"""A daemon that is stuck: it tells what it is doing when it is asked by a signal, and nobody takes it for a living one."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from artfs.testing.farside import FarWorkspace
from artfs.testing.mount import Daemon, Workspace
from artfs.testing.torture import Tally
from artfs.testing.waiting import until

HERE = Path(__file__).parent

PATIENCE_S = 60.0
"""Far above what is needed; only a failure meets it."""

WATCHDOG_S = 0.4


class StuckDaemon(Daemon):
    """See stuck_daemon.py."""

    def command(self) -> list[str]:
        python, _, _, *arguments = super().command()
        return [python, str(HERE / "stuck_daemon.py"), *arguments]

    def get_stuck(self, how: str) -> subprocess.Popen[bytes]:
        """Somebody who waits for it from then on; ended with the mount."""
        asks = f"import os; os.path.exists({str(self.mountpoint / '.artfs' / f'stuck-{how}')!r})"
        return subprocess.Popen([self.workspace.account.python, "-S", "-c", asks])

    def close(self) -> None:
        if self.is_running:
            self.kill()
        super().close()


@pytest.fixture
def stuck(workspace: Workspace) -> Iterator[StuckDaemon]:
    daemon = StuckDaemon(workspace, environ={"ARTFS_DEADLINE_S": "1000"})
    daemon.start()
    yield daemon
    daemon.close()


def dumped(daemon: Daemon) -> str:
    """What SIGUSR1 has the daemon write to its log; the same is in a file of its own."""
    before = len(daemon.log())
    os.kill(daemon.pid, signal.SIGUSR1)
    until(lambda: "---- end of what the mount" in daemon.log()[before:], "there is a dump")
    text = daemon.log()[before:]
    (path,) = [path for path in daemon.workspace.settings.run_path.glob("*.dump") if ".fetch." not in path.name]
    until(lambda: path.read_text() in text, "the file says the same")
    assert path.stat().st_mode & 0o777 == 0o600
    return text


def test_sigusr1_tells_what_an_idle_daemon_does(daemon: Daemon, tally: Tally) -> None:
    for _ in range(3):  # any number of times
        text = dumped(daemon)
        assert re.search(r"-- requests\n   \d+ so far; 0 wait\n-- threads\n", text)
        assert re.search(r"   watch \(thread \d+\)\n", text)
        assert "artfsd.control.ControlServer.serve\n" in text
        assert re.search(r"   [1-9]\d* workers wait for a request\n", text)
        tally("SIGUSR1 to a daemon")
    assert daemon.status_file()["in_flight"] == 0


def test_sigusr1_tells_of_requests_that_wait(daemon: Daemon, tally: Tally) -> None:
    """Their number, operation, age, where, and whose they are."""
    with subprocess.Popen(["cat", daemon.mountpoint / ".artfs" / "accesslog"], stdout=subprocess.DEVNULL) as reader:
        pattern = re.compile(r"   request \d+ read \.artfs/accesslog \(\d+ \d+ \d+\): waits for \d+\.\d s\n")
        until(lambda: pattern.search(dumped(daemon)), "the reader waits")
        reader.kill()
    tally("SIGUSR1 to a daemon")


def test_sigusr1_tells_of_a_loop_that_is_stuck(stuck: StuckDaemon, tally: Tally) -> None:
    waiter = stuck.get_stuck("loop")
    pattern = re.compile(rf"   request \d+ lookup \.artfs \(\d+ stuck-loop pid={waiter.pid} uid=0\): on the main thread now\n")
    until(lambda: pattern.search(dumped(stuck)), "the request is told")
    text = dumped(stuck)
    main = text[text.index("MainThread") :]
    assert main[: main.index("-- tasks")].rstrip().endswith("StuckVfs.lookup")
    tally("SIGUSR1 to a daemon whose event loop is stuck")
    stuck.kill()
    waiter.wait(PATIENCE_S)


def test_sigusr2_tells_of_one_that_is_stuck_with_the_interpreter_lock(stuck: StuckDaemon, tally: Tally) -> None:
    waiter = stuck.get_stuck("lock")
    wchan = Path(f"/proc/{stuck.pid}/wchan")
    until(lambda: "nanosleep" in wchan.read_text(), "it is stuck")
    before = len(stuck.log())
    os.kill(stuck.pid, signal.SIGUSR1)
    os.kill(stuck.pid, signal.SIGUSR2)
    until(lambda: "in lookup" in stuck.log()[before:], "the stacks come")
    assert "Current thread" in stuck.log()[before:]
    assert "---- what" not in stuck.log()[before:]  # no thread of Python's can run
    assert stuck.is_running
    tally("SIGUSR2 to a daemon that has the interpreter lock for ever")
    stuck.kill()
    waiter.wait(PATIENCE_S)


def test_sigabrt_of_a_watchdog_leaves_the_stacks_in_the_log(daemon: Daemon) -> None:
    daemon.expect_log("ready")
    os.kill(daemon.pid, signal.SIGABRT)
    assert daemon.wait() == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in daemon.log()
    # Wherever the loop is just then, whoever runs it is at the bottom.
    assert re.search(r'File "\S+artfsd/run.py", line \d+ in ', daemon.log())


def test_sigusr1_tells_of_the_process_that_fetches(far_daemon: Daemon, far: FarWorkspace, tally: Tally) -> None:
    text = dumped(far_daemon)
    assert "-- transfers\n" in text
    (pid,) = re.findall(r"   process (\d+) was asked, too\n", text)
    assert pid == str(far_daemon.status()["transfers"]["process"])
    until(lambda: f"---- what the process that fetches is doing: process {pid}," in far_daemon.log(), "it says something")
    until(lambda: "---- end of what the process that fetches is doing" in far_daemon.log(), "it comes to an end")
    until(lambda: list(far.settings.run_path.glob("*.fetch.dump")), "it has a file")
    tally("SIGUSR1 to a daemon")


@pytest.fixture
def supervisor() -> Iterator[socket.socket]:
    """What systemd listens on."""
    folder = Path(tempfile.mkdtemp(prefix="artfs-notify-", dir="/tmp"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(folder / "socket"))
        yield listener
    shutil.rmtree(folder)


@pytest.mark.parametrize("how", ["loop", "lock", "answers", "stopped"])
def test_a_daemon_that_does_not_answer_feeds_no_watchdog(
    workspace: Workspace, supervisor: socket.socket, tally: Tally, how: str
) -> None:
    """Whether its loop is stuck, or goes on while nobody is answered: a process asks the mount, and the kernel cannot answer."""
    daemon = StuckDaemon(workspace, environ={"ARTFS_DEADLINE_S": "1000"})
    environ = {
        **workspace.environ, **daemon.environ, "NOTIFY_SOCKET": supervisor.getsockname(),
        "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6)),
    }  # fmt: skip
    with daemon.log_path.open("wb") as log:
        daemon._process = subprocess.Popen(daemon.command(), stdout=log, stderr=log, env=environ, start_new_session=True)
    try:
        supervisor.settimeout(PATIENCE_S)
        assert supervisor.recv(4096).startswith(b"READY=1")
        assert supervisor.recv(4096) == b"WATCHDOG=1"
        waiter = None
        if how == "stopped":
            os.kill(daemon.pid, signal.SIGSTOP)
        else:
            waiter = daemon.get_stuck(how)
            if how == "answers":
                waiter.wait(PATIENCE_S)
            else:
                until(lambda: "nanosleep" in Path(f"/proc/{daemon.pid}/wchan").read_text(), "it is stuck")
        supervisor.setblocking(False)
        for _ in range(2):  # what was said before, and by a look at the mount that had begun
            time.sleep(WATCHDOG_S)
            with pytest.raises(BlockingIOError):
                while supervisor.recv(4096) == b"WATCHDOG=1":
                    pass
        time.sleep(4 * WATCHDOG_S)
        with pytest.raises(BlockingIOError):
            supervisor.recv(4096)
        if how == "answers":
            # The loop lives: it is the requests that are not answered.
            assert daemon.client().call("ping")["pid"] == daemon.pid
        tally("watchdog of a daemon that does not answer")
    finally:
        daemon.kill()
        daemon.close()
        if waiter is not None:
            waiter.wait(PATIENCE_S)
