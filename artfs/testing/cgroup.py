"""A group of processes whose memory is limited, by cgroups of either version (root only)."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

_FIRST = Path("/sys/fs/cgroup/memory")
_SECOND = Path("/sys/fs/cgroup")


class MemoryGroup:
    """A context manager. What runs in it may have `nbytes` of memory in all, the page cache that it causes included; it has ended
    when the context is left. Raises AssertionError where this machine cannot do it: these tests never skip."""

    def __init__(self, nbytes: int) -> None:
        self._nbytes = nbytes
        self._is_first = (_FIRST / "memory.limit_in_bytes").exists()
        top = _FIRST if self._is_first else _SECOND
        assert self._is_first or "memory" in (top / "cgroup.controllers").read_text().split(), "no cgroup limits memory here"
        self.path = top / f"artfs-{os.getpid()}-{time.monotonic_ns()}"

    def __enter__(self) -> Self:
        if not self._is_first:
            (_SECOND / "cgroup.subtree_control").write_text("+memory")
        self.path.mkdir()
        (self.path / ("memory.limit_in_bytes" if self._is_first else "memory.max")).write_text(str(self._nbytes))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.path.rmdir()

    def command(self, command: Sequence[str]) -> list[str]:
        """`command`, begun in the group."""
        return ["sh", "-c", f"echo $$ >{self.path}/cgroup.procs && exec {' '.join(map(shlex.quote, command))}"]

    @property
    def killed(self) -> int:
        """How many processes the kernel has killed because there was no more memory."""
        name = "memory.oom_control" if self._is_first else "memory.events"
        return int(dict(line.split() for line in (self.path / name).read_text().splitlines())["oom_kill"])

    @property
    def most(self) -> int:
        """Bytes that it had at most."""
        return int((self.path / ("memory.max_usage_in_bytes" if self._is_first else "memory.peak")).read_text())
