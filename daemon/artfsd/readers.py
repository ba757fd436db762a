"""Who reads: programs that go through all there is, for their own sake, get nothing fetched ahead.

An indexer, a backup or a virus scanner looks exactly like somebody who reads a whole dataset, so what is fetched ahead of it
would be the most that there is, for a reader who throws it away. It gets what it reads and no more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

BELIEVED_S = 5.0
"""How long a process is taken for what it was, in seconds: numbers are used again."""

MOST = 1024
"""Processes that are remembered."""

COMM_NBYTES = 15
"""The kernel keeps so much of a program's name."""


def comm_of(pid: int) -> str:
    """The kernel's name of a thread; "": there is none of that number any more, or it is of another namespace (0)."""
    try:
        return Path(f"/proc/{pid}/comm").read_bytes().decode(errors="replace").rstrip("\n")
    except OSError:
        return ""


class Readers:
    """`frugal`: names of programs that get nothing ahead; `current`: the thread that asks now."""

    def __init__(self, frugal: Iterable[str], name_of: Callable[[int], str] = comm_of) -> None:
        self._frugal = frozenset(name.encode()[:COMM_NBYTES].decode(errors="ignore") for name in frugal)
        self._name_of = name_of
        self._known: dict[int, tuple[bool, float]] = {}
        self.current = 0

    @property
    def is_frugal(self) -> bool:
        """Whether nothing is to be fetched ahead of who asks now."""
        now = time.monotonic()
        found, until = self._known.get(self.current, (False, 0.0))
        if now >= until:
            found = self._name_of(self.current) in self._frugal
            if len(self._known) >= MOST:
                self._known.clear()
            self._known[self.current] = (found, now + BELIEVED_S)
        return found
