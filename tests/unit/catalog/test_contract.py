from collections.abc import Iterator
from pathlib import Path

import pytest

from artfs.catalog import open_catalog
from artfs.catalog.base import Catalog
from artfs.testing.catalog_contract import CatalogContract


class TestSqlCatalog(CatalogContract):
    @pytest.fixture
    def catalog(self, tmp_path: Path, empty_catalog: Path) -> Iterator[Catalog]:
        catalog: Catalog = open_catalog(empty_catalog)
        yield catalog
        catalog.close()
