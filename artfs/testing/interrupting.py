"""Jobs that are interrupted at a step that was chosen before: the other end of tests/fault/interrupted.py."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class End:
    """`steps`: of each phase; {} when it was killed. `error`: the name of what it raised. `said`: what a command wrote to
    standard error."""

    status: int
    steps: dict[str, int] = field(default_factory=dict)
    error: str = ""
    said: str = ""

    @property
    def early(self) -> bool:
        return self.status != 0 or self.error != ""

    def check(self, sent: int) -> None:
        """It was ended by the signal `sent`, or not at all."""
        if self.early:
            assert self.status == -sent if sent == signal.SIGKILL else self.error == "KeyboardInterrupt", self


class Interrupted:
    """A running interrupted.py at `script`, whose children have `environ`."""

    def __init__(self, script: Path, environ: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Two: so that small files are written by a helper, too.
            env=environ | {"ARTFS_WORKERS": "2"},
        )

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        assert self._process.wait(60) == 0
        self._process.stdout.close()

    def run(self, work: str, phase: str = "", step: int = 0, sent: int = 0, **more: Any) -> End:
        assert self._process.stdin is not None and self._process.stdout is not None
        job = {"work": work, "phase": phase, "step": step, "signal": int(sent)} | more
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return End(**json.loads(self._process.stdout.readline()))
