"""Whatever a handler raises is EIO for one caller and a traceback in the log, and the mount goes on; so it does when clients
are killed in the middle of their requests."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from artfs.testing.mount import Daemon, Workspace
from artfs.testing.torture import Tally

HERE = Path(__file__).parent


class FaultyDaemon(Daemon):
    """See faulty_daemon.py."""

    def command(self) -> list[str]:
        python, _, _, *arguments = super().command()
        return [python, str(HERE / "faulty_daemon.py"), os.environ["FAULT"], *arguments]


def force_stat(path: Path) -> None:
    """A stat that asks the file system, whatever the kernel remembers."""
    done = subprocess.run(
        ["stat", "--cached=never", path], capture_output=True, text=True, check=False, env={"LC_ALL": "C"}
    )
    if done.returncode:
        assert "Input/output error" in done.stderr, done.stderr
        raise OSError(errno.EIO, done.stderr)


def write_opened(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.pwrite(descriptor, b"x" * 5000, 0)
        os.fsync(descriptor)
    finally:
        with contextlib.suppress(OSError):
            os.close(descriptor)


def read_opened(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.pread(descriptor, 100, 0)
    finally:
        os.close(descriptor)


def link_version(faulty: Path) -> None:
    os.link(faulty.parent / "p" / "c" / "v0" / "file", faulty / "linked")


CALLS: dict[str, Callable[[Path], object]] = {
    "lookup": lambda faulty: os.stat(faulty / "other"),
    "getattr": lambda faulty: force_stat(faulty / "file"),
    "setattr": lambda faulty: os.chmod(faulty / "file", 0o600),
    "truncate": lambda faulty: os.truncate(faulty / "file", 0),
    "open": lambda faulty: os.open(faulty / "file", os.O_RDONLY),
    "open for writing": lambda faulty: os.open(faulty / "file", os.O_WRONLY),
    "read": lambda faulty: read_opened(faulty / "opened"),
    "write": lambda faulty: write_opened(faulty / "opened"),
    "opendir": lambda faulty: os.listdir(faulty / "dir"),
    "readdir": lambda faulty: os.listdir(faulty / "listed"),
    "mkdir": lambda faulty: os.mkdir(faulty / "dir" / "new"),
    "mknod": lambda faulty: os.mknod(faulty / "dir" / "new"),
    "create": lambda faulty: os.open(faulty / "dir" / "new", os.O_CREAT | os.O_WRONLY),
    "symlink": lambda faulty: os.symlink("target", faulty / "dir" / "new"),
    "link": link_version,
    "unlink": lambda faulty: os.unlink(faulty / "file"),
    "rmdir": lambda faulty: os.rmdir(faulty / "dir"),
    "rename": lambda faulty: os.rename(faulty / "file", faulty / "dir" / "new"),
    "readlink": lambda faulty: os.readlink(faulty / "link"),
    "getxattr": lambda faulty: os.getxattr(faulty / "file", "user.artfs.digest"),
    "listxattr": lambda faulty: os.listxattr(faulty / "file"),
    "setxattr": lambda faulty: os.setxattr(faulty / "file", "user.artfs.type", b"x"),
    "removexattr": lambda faulty: os.removexattr(faulty / "file", "user.artfs.type"),
}

ERRORS = ["ValueError", "AttributeError", "MemoryError", "StopIteration", "SystemExit", "GeneratorExit"]


@pytest.mark.parametrize("error", ERRORS)
def test_whatever_an_operation_raises_is_eio_and_the_mount_goes_on(
    workspace: Workspace,
    artfs: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tally: Tally,
    error: str,
) -> None:
    (tmp_path / "file").write_bytes(b"content")
    assert artfs("log", tmp_path / "file", "p/c").returncode == 0
    monkeypatch.setenv("FAULT", error)
    daemon = FaultyDaemon(workspace)
    daemon.expect_log("failed: ")
    with daemon:
        for name, call in CALLS.items():
            with pytest.raises(OSError, match="Input/output error"):
                call(daemon.mountpoint / "faulty")
            tally("an exception that nobody foresaw, through a mount")
            assert daemon.is_running, f"{name} ended the mount:\n{daemon.log()}"
            assert (daemon.mountpoint / "p" / "c" / "v0" / "file").read_bytes() == b"content"
        assert daemon.status()["in_flight"] == 0
        assert daemon.log().count("Traceback") >= len(CALLS)
        assert error in daemon.log()


READER = """
import os, random, sys
chance, paths = random.Random(int(sys.argv[1])), sys.argv[2:]
os.write(1, b"!")
while True:
    path = chance.choice(paths)
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)  # so that the daemon is asked each time
    size = os.fstat(fd).st_size
    for _ in range(8):
        os.pread(fd, chance.randint(1, 200_000), chance.randrange(size))
    os.close(fd)
    try:
        os.stat(path + str(chance.random()))
    except FileNotFoundError:
        pass
"""


def test_killed_clients_never_freeze_the_daemon(
    workspace: Workspace,
    daemon: Daemon,
    artfs: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
    chance: random.Random,
    scale: Callable[[int, int], int],
    tally: Tally,
) -> None:
    """A client that dies takes its request back; a daemon that was just about to read it must not wait for the next one."""
    source = tmp_path / "source"
    source.mkdir()
    for number in range(8):
        (source / f"f{number}").write_bytes(random.Random(number).randbytes(3_000_000))
    assert artfs("log", source, "p/c").returncode == 0
    latest = daemon.mountpoint / "p" / "c" / "latest"
    paths = [str(latest / name) for name in sorted(os.listdir(latest))]
    with contextlib.ExitStack() as stack:
        for _ in range(2):  # so that the daemon is not always the one that runs
            busy = subprocess.Popen([sys.executable, "-S", "-E", "-c", "while True: pass"])
            stack.callback(busy.wait)
            stack.callback(busy.kill)
        kills = scale(30, 200)
        for number in range(kills):
            readers = [
                subprocess.Popen(
                    [sys.executable, "-S", "-E", "-c", READER, str(10 * number + at), *paths], stdout=subprocess.PIPE
                )
                for at in range(2)
            ]
            for reader in readers:
                assert reader.stdout is not None
                assert reader.stdout.read(1) == b"!"
                reader.stdout.close()
            time.sleep(chance.uniform(0.01, 0.06))
            for reader in readers:
                reader.send_signal(signal.SIGKILL)
            assert daemon.status()["pid"] == daemon.pid  # times out when it is frozen
            tally("clients killed in the middle of their requests", len(readers))
            for reader in readers:
                assert reader.wait(30) == -signal.SIGKILL
    assert daemon.requests()["read"] > kills, "the readers were not at work when they were killed"  # one for each kill
    assert (latest / "f0").read_bytes() == (source / "f0").read_bytes()
    assert daemon.status()["in_flight"] == 0


LATE_S = 0.1


class LateDaemon(Daemon):
    """See late_daemon.py."""

    def command(self) -> list[str]:
        python, _, _, *arguments = super().command()
        return [python, str(HERE / "late_daemon.py"), str(LATE_S), *arguments]


def test_a_request_that_is_gone_when_it_is_read_freezes_nothing(
    workspace: Workspace, chance: random.Random, scale: Callable[[int, int], int], tally: Tally
) -> None:
    """The same moment, hit on purpose: pyfuse3 then reads from a device that has nothing, with the interpreter lock, until a
    signal or the next request comes. Nobody sends one here; what is asked is the control socket."""
    with LateDaemon(workspace) as daemon:
        for number in range(scale(10, 60)):
            asks = f"import os; os.stat({str(daemon.mountpoint / f'n{number}')!r})"
            with subprocess.Popen([sys.executable, "-S", "-E", "-c", asks], stderr=subprocess.DEVNULL) as client:
                # It waits for the answer (its process sleeps in the kernel's FUSE code) when it is killed.
                waits = Path(f"/proc/{client.pid}/wchan")
                while client.poll() is None and "request_wait_answer" not in waits.read_text():
                    time.sleep(0.002)
                time.sleep(chance.uniform(0, LATE_S / 2))
                client.kill()
            assert daemon.status()["pid"] == daemon.pid  # times out when it is frozen
            tally("requests that were taken back before they were read")
