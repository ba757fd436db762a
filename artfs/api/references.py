"""References in artifacts: adding them to a draft, and fetching what they name."""

from __future__ import annotations

import os
from typing import Protocol

from artfs.api.manifest import ManifestEntry
from artfs.api.session import Session
from artfs.errors import ConflictError, InvalidArgumentError
from artfs.model.entry import RefEntry
from artfs.model.names import check_path
from artfs.references.base import Examined


class TakesReferences(Protocol):
    """What is needed of a draft."""

    def check_open(self, asked: str = "") -> None: ...

    def put_references(self, items: dict[str, RefEntry]) -> None: ...


def add_reference(
    session: Session,
    draft: TakesReferences,
    uri: ManifestEntry | str,
    name: str | os.PathLike[str] | None,
    *,
    checksum: bool,
    max_objects: int | None,
) -> list[tuple[str, RefEntry]]:
    """See Artifact.add_reference. The entries with their paths."""
    draft.check_open("add_reference")
    if not isinstance(uri, ManifestEntry | str):
        raise TypeError(f"add_reference takes a URI or an entry of an artifact, not {type(uri).__name__}")
    text = uri if isinstance(uri, str) else uri.ref_url()
    examined = session.references.examine(text, checksum=checksum, max_objects=max_objects)
    placed = _placed(examined, text, None if name is None else os.fspath(name))
    draft.put_references(dict(placed))
    return placed


def _placed(examined: Examined, uri: str, name: str | None) -> list[tuple[str, RefEntry]]:
    if examined.single:
        (found,) = examined.objects
        if not name and not found.path:
            raise InvalidArgumentError(f"the reference {uri.partition('?')[0]} needs a name: its URI gives none")
        places = {name or found.path: found}
    else:
        prefix = f"{check_path(name)}/" if name and name.strip("./") else ""
        places = {prefix + found.path: found for found in examined.objects}
    placed: dict[str, RefEntry] = {}
    for place, found in places.items():
        path = check_path(place)
        if path in placed:
            raise ConflictError(f"{uri.partition('?')[0]} has two objects that would both be {path!r}")
        placed[path] = found.entry(os.fsencode(path.rpartition("/")[2]))
    return list(placed.items())
