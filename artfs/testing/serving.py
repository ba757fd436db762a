"""A real server in a process of its own."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from artfs.testing.account import ROOT

START_S = 60.0


class ServerProcess:
    """A command that serves and says so in a line with its URL. A context manager, which ends it.

    Attributes:
        url: its base URL.
        log: its standard error so far.
    """

    def __init__(self, command: Sequence[str], environ: dict[str, str] | None = None) -> None:
        paths = os.pathsep.join([str(ROOT), str(ROOT / "daemon")])
        self._process = subprocess.Popen(
            [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": paths, "PYTHONUNBUFFERED": "1", **(environ or {})},
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._errors: list[str] = []
        self._threads = [threading.Thread(target=self._read_out), threading.Thread(target=self._read_errors)]
        for thread in self._threads:
            thread.start()
        self.url = self._wait_for_url()

    def _read_out(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        self._errors.extend(self._process.stderr)

    def _wait_for_url(self) -> str:
        try:
            line = self._lines.get(timeout=START_S)
        except queue.Empty:
            line = None
        if line is None:
            self._process.kill()
            self.wait()
            raise AssertionError(f"the server did not start:\n{self.log}")
        return next(word for word in line.split() if "://" in word)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        return "".join(self._errors)

    def terminate(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """kill -9 of it and its workers."""
        workers = children(self.pid)
        self._process.kill()
        for worker in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
        self.wait()

    def wait(self, timeout_s: float = 60.0) -> int:
        """Its exit code."""
        code = self._process.wait(timeout_s)
        for thread in self._threads:
            thread.join()
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()
        return code

    def __enter__(self) -> ServerProcess:
        return self

    def close(self) -> None:
        """Ends it. Raises AssertionError when it does not end."""
        if self._process.poll() is None:
            self.terminate()
        try:
            self.wait()
        except subprocess.TimeoutExpired:
            self._process.kill()
            self.wait()
            raise AssertionError(f"the server did not end:\n{self.log}") from None

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def children(pid: int) -> list[int]:
    """The processes that a process started, through any of its threads."""
    listed: set[int] = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that ended meanwhile
            listed.update(int(found) for found in (task / "children").read_text().split())
    return sorted(listed)


def artfs_serve(*arguments: str | Path, environ: dict[str, str] | None = None) -> ServerProcess:
    """`artfs serve ARGUMENTS` on a free port of this machine."""
    command = ["-m", "artfs.cli", "serve", "--listen", "127.0.0.1:0", *map(str, arguments)]
    return ServerProcess(command, environ)
