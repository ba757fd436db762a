"""What every catalog must do, as tests: subclass CatalogContract and give it a `catalog` fixture that yields a new, empty
catalog. Only the interface (artfs.catalog.base.Catalog) is used."""

from artfs.testing.catalog_contract.commits import CommitContract
from artfs.testing.catalog_contract.names import NamesContract
from artfs.testing.catalog_contract.parts import PartsContract
from artfs.testing.catalog_contract.policies import PoliciesContract
from artfs.testing.catalog_contract.upkeep import UpkeepContract
from artfs.testing.catalog_contract.versions import VersionsContract

__all__ = ["CatalogContract"]


class CatalogContract(
    NamesContract, CommitContract, VersionsContract, PartsContract, PoliciesContract, UpkeepContract
):
    """All of it."""
