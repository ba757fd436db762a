"""Begins drafts."""

from __future__ import annotations

from datetime import UTC, datetime

from artfs.catalog.base import Catalog
from artfs.errors import InvalidNameError
from artfs.model.draft import DraftInfo
from artfs.model.names import check_alias, check_collection_name, check_project_name, parse_time
from artfs.model.tree import UNKNOWN, Totals
from artfs.store.staging import DraftArea, StagedDraft


def begin_draft(
    area: DraftArea, catalog: Catalog, entity: str, project: str, collection: str, alias: str | None, name: str
) -> StagedDraft:
    """Begins the draft `name` of a collection; the commit goes there.

    `name`: the collection's, or COLLECTION:WORD, where WORD is what an alias, a version or @time may be.
    `alias` (an alias, vN or @time): the version whose content it starts with, copied on write; None: it starts empty.
    Raises NotFoundError (no such version), ConflictError (there is such a draft), InvalidNameError, StorageError.
    """
    check_project_name(project)
    check_collection_name(collection)
    _check_draft_name(collection, name)
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


def _check_draft_name(collection: str, name: str) -> None:
    start, colon, word = name.partition(":")
    if start != collection:
        raise InvalidNameError(f"bad draft name {name!r}: a draft of {collection} is called {collection} or {collection}:WORD")
    if word.startswith("@"):
        parse_time(word[1:])
    elif colon:
        check_alias(word, allow_version=True)
