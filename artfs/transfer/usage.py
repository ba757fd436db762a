"""What the projects of a machine's own catalog take. (A server tells it by itself.)"""

from __future__ import annotations

from artfs.catalog.base import Catalog
from artfs.errors import BlobMissingError
from artfs.model.manifest import Manifest
from artfs.model.tree import PageCache
from artfs.store.base import BlobStore
from artfs.wire.messages import CollectionUsage, ProjectUsage


def usage_of(catalog: Catalog, store: BlobStore, entity: str, project: str) -> ProjectUsage:
    """Reads the trees of all versions. Raises BlobMissingError and CorruptError for one that cannot be read."""
    pages = PageCache(store.read, capacity=4096)
    sizes: dict[str, int] = {}
    collections: list[CollectionUsage] = []
    for collection in catalog.collections(entity, project):
        members = catalog.members(collection.id)
        seen: set[str] = set()
        needed: set[str] = set()
        for root in dict.fromkeys(member.version.digest for member in members):
            if root not in seen:
                needed.update(Manifest(pages, root).objects(seen, store.read))
        for digest in needed - sizes.keys():
            size = store.try_size(digest)
            if size is None:
                raise BlobMissingError(f"blob {digest} is not in the store", digest)
            sizes[digest] = size
        size = sum(member.version.size for member in members)
        nbytes = sum(map(sizes.__getitem__, needed))
        collections.append(CollectionUsage(collection.name, len(members), size, nbytes))
    return ProjectUsage(entity, project, len(sizes), sum(sizes.values()), None, collections)
