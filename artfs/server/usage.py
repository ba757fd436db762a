"""What a project takes, and how much of it each of its collections needs."""

from __future__ import annotations

from artfs.catalog.base import Catalog
from artfs.catalog.blobledger import BATCH
from artfs.model.records import Project
from artfs.server.blobservice import BlobService
from artfs.server.reachable import batches, reachable
from artfs.wire.messages import CollectionUsage, ProjectUsage


def usage_of(catalog: Catalog, service: BlobService, project: Project, *, collections: bool) -> ProjectUsage:
    """`collections`: read the trees of all versions as well, to tell what each collection needs. Raises BlobMissingError and
    CorruptError for a tree that cannot be read."""
    total = service.ledger.usage(project.id)
    found: list[CollectionUsage] = []
    if collections:
        for collection in catalog.collections(project.entity, project.name):
            members = catalog.members(collection.id)
            roots = [member.version.digest for member in members]
            needed = {bytes.fromhex(digest) for digest in reachable(service, project.id, roots, set())}
            size = sum(member.version.size for member in members)
            found.append(CollectionUsage(collection.name, len(members), size, _nbytes(service, project.id, needed)))
    return ProjectUsage(project.entity, project.name, total.blobs, total.nbytes, total.quota, found)


def _nbytes(service: BlobService, project_id: int, needed: set[bytes]) -> int:
    digests = (raw.hex() for raw in needed)
    return sum(
        each.size for some in batches(digests, BATCH) for each in service.ledger.find(None, some, project_id).values()
    )
