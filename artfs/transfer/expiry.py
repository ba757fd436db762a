"""Versions whose time is up: deleting them. `artfs gc` and the daemon do it; the blobs go with the next garbage collection."""

from __future__ import annotations

from artfs.catalog.base import Catalog
from artfs.model.records import Member

PORTION = 50
"""So many in one transaction: others wait for the catalog's lock meanwhile."""


def expire_all(catalog: Catalog) -> list[Member]:
    """Deletes every version that is due (Catalog.expire); returns their source members as they were. An interruption leaves
    some deleted and the others as they were. Raises StorageError, CatalogError."""
    gone: list[Member] = []
    while portion := catalog.expire(PORTION):
        gone += portion
    return gone
