"""A small supervisor for tests: does for a unit of type "notify" what systemd does, as far as its file says it."""

from __future__ import annotations

import configparser
import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from artfs.testing.mount import START_TIMEOUT_S, STOP_TIMEOUT_S

_SPAN = re.compile(r"(\d+)(ms|s|min|)")
_UNITS = {"ms": 0.001, "s": 1.0, "min": 60.0, "": 1.0}


def seconds(text: str) -> float:
    """systemd.time(7), as far as our units use it."""
    return sum(int(number) * _UNITS[unit] for number, unit in _SPAN.findall(text))


@dataclass
class _Unit:
    """What a unit's file says; of a key that stands there twice, the last."""

    unit: Mapping[str, str]
    service: Mapping[str, str]

    @classmethod
    def read(cls, path: Path) -> _Unit:
        parser = configparser.RawConfigParser(strict=False, delimiters=("=",), comment_prefixes=("#", ";"))
        parser.optionxform = str  # type: ignore[method-assign,assignment]
        parser.read(path)
        return cls(dict(parser["Unit"]), dict(parser["Service"]))


@dataclass
class Supervisor:
    """Runs the service of a unit: ExecStartPre=, ExecStart=, ExecStopPost=, Restart=on-failure, RestartSec=, StartLimit….

    Arguments:
        path: of the unit's file.
        environ: of all that it runs; ${NAME} in the file is replaced by it.
        log: where standard error goes.
    Attributes:
        pid: of the running main process, once that has said READY=1; 0 meanwhile.
        gaps: how long nothing was ready after the main process had ended, in seconds, each time.
        failure: why it does not start it any more; "" while it does.
    """

    path: Path
    environ: Mapping[str, str]
    log: Path
    pid: int = 0
    gaps: list[float] = field(default_factory=list)
    failure: str = ""
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _stopping: bool = False
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it is ready."""
        self._unit = _Unit.read(self.path)
        assert (self._unit.service["Type"], self._unit.service["Restart"]) == ("notify", "on-failure")
        self._thread = threading.Thread(target=self._run, name="supervisor")
        self._thread.start()
        self.wait_ready()

    def wait_ready(self, but: int = 0) -> int:
        """Until a process is ready, and another one than `but`; returns its id. Raises AssertionError when there will be
        none."""
        with self._changed:
            is_there = self._changed.wait_for(lambda: self.failure or self.pid not in (0, but), START_TIMEOUT_S)
        assert is_there and not self.failure, f"{self.failure or 'not ready in time'}\n{self.log.read_text()[-4000:]}"
        return self.pid

    def stop(self) -> int:
        """SIGTERM, and no start any more; the exit code of the main process."""
        self._stopping = True
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        self._thread.join(STOP_TIMEOUT_S)
        assert not self._thread.is_alive(), "it does not end"
        return self._process.returncode

    def _run(self) -> None:
        starts: list[float] = []
        ended = 0.0
        while not self._stopping:
            starts = [at for at in starts if time.monotonic() - at < seconds(self._unit.unit["StartLimitIntervalSec"])]
            if len(starts) >= int(self._unit.unit["StartLimitBurst"]):
                self._set(failure="start-limit-hit")
                return
            starts.append(time.monotonic())
            self._command("ExecStartPre")
            code = self._serve(ended)
            ended = time.monotonic()
            self._set(pid=0)
            self._command("ExecStopPost")
            if code == 0:
                self._set(failure="it has ended")
                return
            time.sleep(seconds(self._unit.service["RestartSec"]))

    def _serve(self, ended: float) -> int:
        """Runs the main process to its end. `ended`: when the last one did; 0: there was none."""
        with tempfile.TemporaryDirectory(prefix="artfs-notify-", dir="/tmp") as folder, self.log.open("ab") as log:
            address = f"{folder}/socket"
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
                told.bind(address)
                told.settimeout(0.02)
                self._process = process = subprocess.Popen(
                    self._words("ExecStart"), env={**self.environ, "NOTIFY_SOCKET": address}, stdin=subprocess.DEVNULL,
                    stdout=log, stderr=log, start_new_session=True,
                )  # fmt: skip
                while process.poll() is None:
                    with contextlib.suppress(TimeoutError):
                        if b"READY=1" in told.recv(4096).split(b"\n"):
                            if ended:
                                self.gaps.append(time.monotonic() - ended)
                            self._set(pid=process.pid)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # what systemd does with the rest of the control group
            return process.returncode

    def _set(self, **changes: int | str) -> None:
        with self._changed:
            for name, value in changes.items():
                setattr(self, name, value)
            self._changed.notify_all()

    def _words(self, key: str) -> list[str]:
        text = self._unit.service[key].removeprefix("-")
        return shlex.split(re.sub(r"\$\{(\w+)\}", lambda match: self.environ[match[1]], text))

    def _command(self, key: str) -> None:
        done = subprocess.run(self._words(key), env=self.environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0 or self._unit.service[key].startswith("-"), done.stderr
