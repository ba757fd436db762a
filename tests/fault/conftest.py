"""Fault tests: chance with a known seed, and the toll of all kills at the end of the run."""

from __future__ import annotations

import os
import random
import time

import pytest

from artfs.testing.crash import Toll

SEED = os.environ.get("ARTFS_TEST_SEED") or str(time.time_ns())
_toll = Toll()


@pytest.fixture
def toll() -> Toll:
    """Of the whole run."""
    return _toll


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """Differs from run to run, unless ARTFS_TEST_SEED is set to what an earlier run printed."""
    return random.Random(f"{SEED} {request.node.nodeid}")


def pytest_report_header() -> str:
    return f"fault tests: ARTFS_TEST_SEED={SEED}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _toll.deaths:
        terminalreporter.section("kill -9")
        for line in _toll.lines():
            terminalreporter.write_line(line)
        terminalreporter.write_line(f"ARTFS_TEST_SEED={SEED}")
