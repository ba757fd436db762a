"""Making a catalog runs the migrations, which takes a while; most tests begin with a copy of one made once."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from artfs.catalog import open_catalog
from artfs.catalog.sql.catalog import SqlCatalog
from artfs.catalog.sql.ledger.ledger import SqlLedger
from artfs.catalog.sql.postgresql.database import PostgresqlDatabase
from artfs.testing.postgres import Postgres


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "catalog.db"
    open_catalog(path).close()
    return path


@pytest.fixture
def empty_catalog(tmp_path: Path, template: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    return Path(shutil.copy(template, home / "catalog.db"))


@pytest.fixture
def catalog(empty_catalog: Path) -> Iterator[SqlCatalog]:
    with open_catalog(empty_catalog) as catalog:
        yield catalog


@pytest.fixture(params=["sqlite", "postgresql"])
def any_catalog(request: pytest.FixtureRequest) -> Iterator[SqlCatalog]:
    """An empty catalog in each kind of database."""
    where = "empty_catalog" if request.param == "sqlite" else "postgres_url"
    with open_catalog(request.getfixturevalue(where)) as catalog:
        yield catalog


@pytest.fixture
def ledger(any_catalog: SqlCatalog) -> SqlLedger:
    return SqlLedger(any_catalog.database)


@pytest.fixture
def empty_url(postgres: Postgres) -> Iterator[str]:
    """Of a database with nothing in it."""
    with postgres.database() as name:
        yield postgres.url(name)


@pytest.fixture
def database(postgres_url: str) -> Iterator[PostgresqlDatabase]:
    database = PostgresqlDatabase(postgres_url)
    yield database
    database.close()


@pytest.fixture
def python() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts processes that run a program (the first argument) with the rest as its sys.argv[1:]."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str, *args: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, args)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
