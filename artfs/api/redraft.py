"""A draft that begins with what a version holds."""

from __future__ import annotations

from artfs.api.draft import Base, DraftArtifact
from artfs.api.version import LoggedArtifact
from artfs.errors import NotFoundError
from artfs.model.entry import DirEntry
from artfs.model.manifest import Manifest
from artfs.model.pages import EMPTY_TREE


def new_draft(state: LoggedArtifact) -> DraftArtifact:
    """See Artifact.new_draft. No file is read: the draft's entries name the blobs that are stored already."""
    session, version = state.session, state.member.version
    draft = DraftArtifact(
        version.collection,
        version.type,
        description=version.description,
        metadata=version.metadata,
        incremental=False,
        sessions=lambda: session,
        base=Base(state.id, version.entity, version.project),
    )
    draft.open_deposit()
    # No sweep can begin from here on. One that ran before took the blobs only if the version was deleted.
    if session.catalog.memberships(version.id)[0].version.state != "COMMITTED":
        raise NotFoundError(f"{state.member.qualified_name} was deleted, and with it what the draft would hold")
    for path, entry in Manifest(session.pages, version.digest).walk(include_dirs=True):
        if not isinstance(entry, DirEntry):
            draft.items.put(path, entry)
        elif entry.digest == EMPTY_TREE:
            draft.items.put_empty_dir(path)
    return draft
