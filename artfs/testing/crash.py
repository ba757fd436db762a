"""What tests of killed processes share: which files a writer had closed, and how many died in which phase."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

PHASES = ("writing", "closing", "hashing", "moving", "trees", "catalog")
"""What must be killed often; "syncing" and "idle" happen besides."""


@dataclass
class Toll:
    """Kills so far by (victim, phase)."""

    deaths: dict[tuple[str, str], int] = field(default_factory=dict)

    def count(self, victim: str, phase: str) -> None:
        self.deaths[victim, phase] = self.deaths.get((victim, phase), 0) + 1

    def of(self, victim: str) -> dict[str, int]:
        return {phase: number for (who, phase), number in self.deaths.items() if who == victim}

    def lines(self) -> list[str]:
        """A table for people: a line for each victim, and the sum."""
        phases = sorted({phase for _, phase in self.deaths}, key=lambda p: PHASES.index(p) if p in PHASES else 99)
        victims = sorted({victim for victim, _ in self.deaths})
        shown = []
        for victim in victims:
            own = self.of(victim)
            each = ", ".join(f"{phase} {own[phase]}" for phase in phases if phase in own)
            shown.append(f"{victim}: {sum(own.values())} kills ({each})")
        sums = {phase: sum(self.deaths.get((victim, phase), 0) for victim in victims) for phase in phases}
        each = ", ".join(f"{phase} {number}" for phase, number in sums.items())
        shown.append(f"all: {sum(sums.values())} kills ({each})")
        return shown


@dataclass
class Ledger:
    """What one run of tests/fault/writer.py said.

    Attributes:
        closed: path -> digest of each file whose close() returned.
        executable: of those, which have the executable bit.
        unfinished: the path that was open when the writer met its end; "" when none was.
        phase: "writing", "closing", or "between" files.
        errno: of the failure that ended it; 0: none.
    """

    closed: dict[str, str] = field(default_factory=dict)
    executable: set[str] = field(default_factory=set)
    unfinished: str = ""
    phase: str = "between"
    errno: int = 0
    _open: tuple[str, str, int] = ("", "", 0)

    def read(self, line: str) -> str:
        """Takes one line in, and returns its letter."""
        letter, path, *rest = line.split()
        if letter == "W":
            self._open = (path, rest[0], int(rest[1], 8))
            self.unfinished, self.phase = path, "writing"
        elif letter == "C":
            self.phase = "closing"
        elif letter == "D":
            assert path == self._open[0]
            self.closed[path] = self._open[1]
            self.executable -= {path}
            if self._open[2] & 0o100:
                self.executable.add(path)
            self.unfinished, self.phase = "", "between"
        elif letter == "E":
            self.errno = int(rest[0])
        return letter


class Writer:
    """A running tests/fault/writer.py. `ledger` grows as `follow` reads what it says."""

    def __init__(
        self,
        script: Path,
        folder: Path,
        seed: str,
        *,
        count: int,
        dirs: int,
        size: int,
        large: int = 0,
        way: str = "write",
    ) -> None:
        self.ledger = Ledger()
        words = [seed, str(count), str(dirs), str(size), str(large), way]
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-E", str(script), str(folder), *words], stdout=subprocess.PIPE, text=True
        )

    def follow(self, until: Callable[[str, Ledger], bool] = lambda letter, ledger: False) -> bool:
        """Reads on until `until` says so (True) or the writer has ended (False)."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if until(self.ledger.read(line), self.ledger):
                return True
        return False

    def finish(self) -> Ledger:
        """Reads to the end and waits for it."""
        self.follow()
        assert self._process.stdout is not None
        self._process.stdout.close()
        assert self._process.wait(60) == 0
        return self.ledger


def remove_unfinished(folder: Path, ledger: Ledger) -> None:
    """Removes what the writer had not closed, if it is there at all."""
    if ledger.unfinished:
        path = folder / ledger.unfinished
        if os.path.lexists(path):
            path.unlink()
