"""The command line, run in this process against real servers."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from artfs.cli.main import run
from artfs.testing.commandresult import Result
from artfs.testing.s3 import CREDENTIALS, rclone_server
from artfs.testing.team import Desk, Team, team

Command = Callable[..., Result]


@pytest.fixture
def artfs() -> Iterator[Command]:
    """`artfs(*arguments, desk=None, code=0, stdin="", **environ)`: at a desk, or with a state folder of the test's own."""

    def call(
        *arguments: str | os.PathLike[str], desk: Desk | None = None, code: int = 0, stdin: str = "", **environ: str
    ) -> Result:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {**({} if desk is None else desk.environ), **environ}.items():
                if name.startswith("ARTFS_"):
                    patch.setenv(name, value)
            patch.setattr(sys, "stdin", io.StringIO(stdin))
            out, err = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                found = run([os.fspath(argument) for argument in arguments])
        assert found == code, f"exit code {found}\n{out.getvalue()}{err.getvalue()}"
        return Result(found, out.getvalue(), err.getvalue())

    yield call
    gc.unfreeze()  # a command line may freeze all objects, as it owns its process


@pytest.fixture
def desks(workspaces: ExitStack) -> Callable[..., Desk]:
    """`desks(team, token, server=0, **environ)`: a workstation."""

    def make(servers: Team, token: str, server: int = 0, **environ: str) -> Desk:
        made = Desk(url=servers.url(server), token=token, extra=environ)
        workspaces.callback(made.remove)
        return made

    return make


@pytest.fixture(scope="session")
def small_team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    """One server over SQLite and a folder."""
    with team(tmp_path_factory.mktemp("team")) as made:
        yield made


@pytest.fixture(scope="session")
def other_team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    """Another one, of which the first knows nothing."""
    with team(tmp_path_factory.mktemp("other")) as made:
        yield made


@pytest.fixture(scope="session")
def large_team(tmp_path_factory: pytest.TempPathFactory, postgres: Any) -> Iterator[Team]:
    """Two servers over one database in PostgreSQL and one bucket of rclone's S3."""
    root: Path = tmp_path_factory.mktemp("large")
    with postgres.database(postgres.template) as name, rclone_server(root / "s3") as s3:
        blobs = s3.url("blobs")
        with team(root / "home", servers=2, database=postgres.url(name), blobs=blobs, environ=CREDENTIALS) as made:
            yield made
