"""Fault tests: chance with a known seed, and the toll of all kills at the end of the run."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import random
import subprocess
import time
from collections.abc import Callable

import pytest

from artfs.cli.main import run
from artfs.testing.crash import Toll
from artfs.testing.mount import Workspace

SEED = os.environ.get("ARTFS_TEST_SEED") or str(time.time_ns())
_toll = Toll()


@pytest.fixture
def toll() -> Toll:
    """Of the whole run."""
    return _toll


@pytest.fixture
def artfs(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`artfs(*arguments, **environ)`: the command line over `workspace`, inside of this process (a second less)."""

    def call(*arguments: str | os.PathLike[str], **environ: str) -> subprocess.CompletedProcess[str]:
        words = [os.fspath(argument) for argument in arguments]
        with monkeypatch.context() as patched:
            for name, value in (workspace.environ | environ).items():
                if name.startswith("ARTFS_"):
                    patched.setenv(name, value)
            out, err = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = run(words)
        gc.unfreeze()  # a command line may freeze all objects, as it owns its process
        return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())

    return call


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
