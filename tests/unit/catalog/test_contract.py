from collections.abc import Iterator
from pathlib import Path

import pytest

from artfs.catalog import open_catalog
from artfs.catalog.base import Catalog
from artfs.errors import UsageError
from artfs.testing.catalog_contract import CatalogContract


class TestSqlCatalog(CatalogContract):
    @pytest.fixture
    def catalog(self, tmp_path: Path, empty_catalog: Path) -> Iterator[Catalog]:
        catalog: Catalog = open_catalog(empty_catalog)
        yield catalog
        catalog.close()


class TestPostgresqlCatalog(CatalogContract):
    @pytest.fixture
    def catalog(self, postgres_url: str) -> Iterator[Catalog]:
        catalog: Catalog = open_catalog(postgres_url)
        yield catalog
        catalog.close()

    def test_a_backup_is_a_whole_copy(self, catalog: Catalog, tmp_path: Path) -> None:
        """Not here: the database has its own tools for that."""
        with pytest.raises(UsageError, match="pg_dump"):
            catalog.backup(tmp_path / "copy")
        assert not (tmp_path / "copy").exists()
