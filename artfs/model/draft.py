"""What is known of a draft besides its files: `draft.json` beside them. Pure data."""

from __future__ import annotations

from typing import Any

import msgspec

from artfs.errors import CorruptError, InvalidNameError
from artfs.model.digests import check_digest
from artfs.model.names import parse_time
from artfs.model.unreadable import UNREADABLE


class DraftInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """One draft in the writable area.

    Attributes:
        entity, project: where its next version goes.
        collection: the collection that it commits to.
        name: the directory's name under drafts/PROJECT/: the collection's, or "COLLECTION:ALIAS" for one that
            began with that version's content.
        base_version: "vN" that it began with; None: it began empty.
        base_digest: the root tree of that version; None: it began empty.
        base_membership: the catalog's id of that membership (records.Member.id); None: it began empty.
        began_at: ISO 8601 with an offset, UTC.
        type: of the next version; None: the collection's own.
        description, metadata: of the next version; None: not given.
        aliases, tags: that the next version gets besides `latest`.
        pending: the options of a commit that waits for the server (wire.control.CommitOptions); None: none does.
        problem: why such a commit was given up, for people; None: none was.
    """

    entity: str
    project: str
    collection: str
    name: str
    began_at: str
    base_version: str | None = None
    base_digest: str | None = None
    base_membership: int | None = None
    type: str | None = None
    description: str | None = None
    metadata: dict[str, Any] | None = None
    aliases: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    pending: dict[str, Any] | None = None
    problem: str | None = None


_decoder = msgspec.json.Decoder(DraftInfo)


def encode_draft(info: DraftInfo) -> bytes:
    """`info` as the text of draft.json: indented, because a person may look."""
    return msgspec.json.format(msgspec.json.encode(info), indent=2) + b"\n"


def decode_draft(data: bytes) -> DraftInfo:
    """The text of a draft.json. Unknown fields are ignored. Raises CorruptError that says what is wrong."""
    try:
        info = _decoder.decode(data)
        parse_time(info.began_at)
        if info.base_digest is not None:
            check_digest(info.base_digest)
        return info
    except (*UNREADABLE, InvalidNameError) as error:
        raise CorruptError(f"draft.json is damaged: {error}") from None
