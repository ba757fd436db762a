"""Fault tests: chance with a known seed, and the toll of all kills at the end of the run."""

from __future__ import annotations

import contextlib
import gc
import io
import itertools
import os
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from artfs.cli.main import run
from artfs.testing.crash import Toll
from artfs.testing.farside import FarServer, FarWorkspace
from artfs.testing.mount import Daemon, Workspace
from artfs.testing.torture import Tally
from artfs.testing.trees import make

SEED = os.environ.setdefault("ARTFS_TEST_SEED", str(time.time_ns()))  # the workers of pytest-xdist get it, too
_toll = Toll()
_serial = itertools.count()


@pytest.fixture(autouse=True)
def counted(tally: Tally) -> None:
    """Every test here is in the table."""


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


def _far_server(**options: bool) -> Iterator[FarServer]:
    home = Path(tempfile.mkdtemp(prefix="artfs-far-", dir="/tmp"))
    (home / "config.toml").touch()
    with contextlib.closing(FarServer(home, {"ARTFS_CONFIG": str(home / "config.toml")}, **options)) as server:
        yield server
    shutil.rmtree(home)


@pytest.fixture(scope="session")
def server_of_all() -> Iterator[FarServer]:
    yield from _far_server()


@pytest.fixture(scope="session")
def bucket_of_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FarServer]:
    for server in _far_server(with_bucket=True):
        # Before the first large file it finds out what the bucket checks, which would meet faults that are meant for the file.
        workspace = FarWorkspace(far=server)
        folder = make(tmp_path_factory.mktemp("large") / "v0", {"large": bytes(2_000_000)})
        workspace.artfs("log", folder, "first/c")
        workspace.remove()
        yield server


@pytest.fixture
def far_server(server_of_all: FarServer) -> Iterator[FarServer]:
    """A server over a folder, behind a proxy; all is well with them before and after the test."""
    server_of_all.heal()
    yield server_of_all
    server_of_all.heal()


@pytest.fixture
def bucket_server(bucket_of_all: FarServer) -> Iterator[FarServer]:
    """The same over a bucket, behind a proxy of its own."""
    bucket_of_all.heal()
    yield bucket_of_all
    bucket_of_all.heal()


@pytest.fixture
def far(far_server: FarServer, workspaces: contextlib.ExitStack) -> FarWorkspace:
    """A workstation that uses `far_server`."""
    made = FarWorkspace(far=far_server)
    workspaces.callback(made.remove)
    return made


@pytest.fixture
def far_daemon(far: FarWorkspace, make_daemon: Callable[..., Daemon]) -> Daemon:
    """Its daemon, running."""
    return make_daemon(far).start()


@pytest.fixture
def project() -> str:
    """A name that no other test has."""
    return f"p{next(_serial)}"


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
