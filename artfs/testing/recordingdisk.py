"""A disk that writes down what happens to it, and fails when it is told to (tests/fault/recording_disk.py), for tests."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from artfs.store import layout, linux, staging
from artfs.testing.mount import detach
from artfs.testing.powercut import Disk, read_log
from artfs.transfer import journal

EARLIER_BOOT = "0123456789abcdef"
"""The boot of the machine in which disk_victims.py and disk_daemon.py believe to live. No machine has this one."""


def live_on_recording_disk(home: Callable[[], str]) -> None:
    """Has this process believe that it lives in that boot, and tell the disk at `home()` when it calls syncfs(2), which the
    kernel does not pass on to FUSE."""

    def telling_syncfs(fd: int) -> None:
        linux.syncfs(fd)
        os.setxattr(home(), "user.disk.syncfs", b"")

    layout.read_boot_id = staging.read_boot_id = lambda: EARLIER_BOOT  # type: ignore[attr-defined]
    layout.syncfs = journal.syncfs = telling_syncfs  # type: ignore[attr-defined]


class RecordingDisk:
    """A context manager: everything in `backing` shows at `mountpoint`, and what is changed there is written down.

    Arguments:
        script: tests/fault/recording_disk.py.
        folder: where it may make its files and folders; new.
        backing: what it holds at the beginning; None: nothing. Nobody else may change it.
        mountpoint: a folder that is there; None: one of its own.
    Attributes:
        mountpoint: where it shows.
        before: the disk as it was at the beginning, for the changes in `log` to be applied to.
    """

    def __init__(self, script: Path, folder: Path, backing: Path | None = None, mountpoint: Path | None = None) -> None:
        self._script = script
        folder.mkdir(parents=True)
        self.backing = backing or folder / "backing"
        self.backing.mkdir(exist_ok=True)
        self.mountpoint = mountpoint or folder / "disk"
        self.mountpoint.mkdir(exist_ok=True)
        self._log_path = folder / "log"
        self._log_path.touch()
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.before = Disk(self.backing)
        command = [sys.executable, str(self._script), str(self.backing), str(self.mountpoint), str(self._log_path)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n", "the recording disk did not start"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None and self._process.stdout is not None
        died = self._process.poll() is not None
        # It would wait for whoever has files open still, after a failure say; what was answered is in the log.
        detach(self.mountpoint)
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        assert not died, "the recording disk failed"

    @property
    def log(self) -> list[list[Any]]:
        """What has happened so far."""
        return read_log(self._log_path)

    def mark(self, text: str) -> None:
        """Something was promised now."""
        os.setxattr(self.mountpoint, "user.disk.mark", text.encode())

    def fail(self, number: int, at: int) -> None:
        """From the `at`-th change on (from 1), each fails with this errno."""
        os.setxattr(self.mountpoint, "user.disk.fail", b"%d %d" % (number, at))

    def heal(self) -> None:
        """No change fails any more; the count of changes begins anew."""
        self.fail(0, 0)

    def count(self) -> int:
        """Changes since `fail` or `heal`."""
        return int(os.getxattr(self.mountpoint, "user.disk.count"))


@dataclass(frozen=True)
class Done:
    """How a command ended: exit code, and what it wrote."""

    code: int
    out: str
    err: str


class DiskVictims:
    """A running tests/fault/disk_victims.py."""

    def __init__(self, script: Path, environ: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ
        )

    def run(self, home: Path, *arguments: str) -> Done:
        """`artfs ARGUMENTS` over that state folder."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"home": str(home), "arguments": arguments}) + "\n")
        self._process.stdin.flush()
        return Done(**json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        assert self._process.wait(30) == 0
        self._process.stdout.close()


WORDS = {errno.ENOSPC: "No space left on device", errno.EDQUOT: "Disk quota exceeded"}
"""What is said of these errors."""
