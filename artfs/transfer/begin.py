"""Begins drafts."""

from __future__ import annotations

from datetime import UTC, datetime

from artfs.catalog.base import Catalog
from artfs.model.draft import DraftInfo
from artfs.model.names import check_collection_name, check_project_name
from artfs.model.tree import UNKNOWN, Totals
from artfs.store.staging import DraftArea, StagedDraft


def begin_draft(
    area: DraftArea, catalog: Catalog, entity: str, project: str, collection: str, alias: str | None, name: str
) -> StagedDraft:
    """Begins the draft `name` of a collection; the commit goes there.

    `alias` (an alias, vN or @time): the version whose content it starts with, copied on write; None: it starts empty.
    Raises NotFoundError (no such version), ConflictError (there is such a draft), InvalidNameError, StorageError.
    """
    check_project_name(project)
    check_collection_name(collection)
    began = datetime.now(UTC).isoformat()
    if alias is None:
        return area.create(DraftInfo(entity, project, collection, name, began))
    member = catalog.resolve(entity, project, collection, alias)
    version = member.version
    info = DraftInfo(
        entity,
        project,
        collection,
        name,
        began,
        base_version=f"v{member.index}",
        base_digest=version.digest,
        base_membership=member.id,
    )
    return area.create(info, Totals(UNKNOWN, version.size, version.file_count))
