"""The contract of catalogs, over a real server in a process of its own, on SQLite. It serves names alone, as the versions of
the contract have no bytes."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from artfs.catalog.base import Catalog
from artfs.client.catalog import RemoteCatalog
from artfs.client.http import Http
from artfs.errors import UsageError
from artfs.testing.catalog_contract import CatalogContract
from artfs.testing.serving import ServerProcess


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server") / "catalog.db"


@pytest.fixture(scope="module")
def server(database: Path) -> Iterator[ServerProcess]:
    with ServerProcess(["-m", "artfs.testing.nameserver", str(database)]) as server:
        yield server


def empty(database: Path) -> None:
    """Removes every row, and leaves the counters of ids as they are: ids are never used again."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        connection.execute("BEGIN IMMEDIATE")
        for (name,) in tables:
            if name not in ("alembic_version", "changes") and not name.startswith("sqlite_"):
                connection.execute(f'DELETE FROM "{name}"')
        connection.execute("COMMIT")


class TestRemoteCatalog(CatalogContract):
    @pytest.fixture
    def catalog(self, server: ServerProcess, database: Path) -> Iterator[Catalog]:
        empty(database)
        catalog: Catalog = RemoteCatalog(Http(server.url, ""))
        yield catalog
        catalog.close()

    def test_a_backup_is_a_whole_copy(self, catalog: Catalog, tmp_path: Path) -> None:
        """A client has no database to copy."""
        with pytest.raises(UsageError, match="backed up where it is"):
            catalog.backup(tmp_path / "copy")
        assert list(tmp_path.glob("copy*")) == []
