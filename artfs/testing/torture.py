"""The table of what was tried against artfs, how often, and what was lost.

A test that belongs to the table says what it tried (`tally("kill -9 of the daemon", 100)`); one that says nothing counts once
under the first line of its module's docstring. What was lost is told by tests that fail.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest

PROPERTY = "artfs-tried"


@dataclass
class Row:
    """One thing that was tried: how often, and the tests that found something lost."""

    times: int = 0
    tests: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)


class Tally:
    """What one test tried."""

    def __init__(self) -> None:
        self.tried: dict[str, int] = {}

    def __call__(self, what: str, times: int = 1) -> None:
        """Counts `times` tries of `what`. It may be called as often as something is tried."""
        self.tried[what] = self.tried.get(what, 0) + times


class Table:
    """A plugin of pytest: gathers what tests tried, also those of pytest-xdist's workers, and prints it at the end."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self._failed: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failed.add(report.nodeid)
        if report.when == "teardown":
            for name, tried in report.user_properties:
                if name == PROPERTY and isinstance(tried, dict):
                    self._add(report.nodeid, tried)

    def _add(self, nodeid: str, tried: dict[str, int]) -> None:
        for what, times in tried.items():
            row = self.rows.setdefault(what, Row())
            row.times += times
            row.tests.add(nodeid)
            if nodeid in self._failed:
                row.lost.add(nodeid)

    def lines(self) -> Iterable[str]:
        """The table: what was tried, how often, what was lost."""
        wide = max([len(what) for what in self.rows], default=0)
        for what, row in sorted(self.rows.items()):
            lost = "nothing" if not row.lost else "SEE " + ", ".join(sorted(row.lost))
            yield f"{what:{wide}}  {row.times:>9,}  {lost}"

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.rows:
            terminalreporter.section("what was tried, how often, what was lost")
            for line in self.lines():
                terminalreporter.write_line(line)
