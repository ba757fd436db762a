"""Values (tables, images …) out of a version: the Source of artfs.api.media."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from artfs.api.draft import StrPath
from artfs.api.manifest import ManifestEntry
from artfs.api.media.base import Value
from artfs.api.media.registry import BY_KIND, CLASSES, class_of
from artfs.api.session import Session
from artfs.api.version import LoggedArtifact
from artfs.errors import BadObjectError, InvalidNameError, PathNotFoundError, StorageError
from artfs.model.entry import DirEntry, FileEntry, LinkEntry, RefEntry
from artfs.model.manifest import Manifest
from artfs.model.names import check_path
from artfs.references.artifact import id_in_hex
from artfs.references.uris import ARTIFACT_SCHEMES, artifact_uri, parse_artifact, scheme_of, shown


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value was got from. `uri`: that of its JSON, which another artifact of the session can refer to."""

    session: Session
    uri: str

    def read(self) -> Value:
        """The value, as it was stored. Raises what `get_value` raises, ReferenceMissingError when the artifact is gone."""
        found = self.session.references.examine(self.uri).objects[0]
        return _referred(self.session, found.entry(b"-"))


def get_value(state: LoggedArtifact, name: str) -> Value | None:
    """See Artifact.get."""
    path = check_path(name)
    version = state.member.version
    source = _VersionSource(state.session, version.digest, id_in_hex(version.id), state.member.qualified_name)
    for cls in CLASSES:
        stored = cls.stored_name(path)
        if source.has(stored):
            try:
                return source.value(stored)
            except RecursionError:
                raise source.bad(stored, "it is nested too deeply, or in itself") from None
    return None


def find_entry(state: LoggedArtifact, name: StrPath) -> ManifestEntry:
    """See Artifact.get_entry."""
    try:
        path = check_path(name)
    except InvalidNameError as error:
        raise PathNotFoundError(str(error)) from None
    entries = state.manifest.entries
    try:
        return entries[path]
    except PathNotFoundError:
        stored = (cls.stored_name(path) for cls in CLASSES)
        found = next((place for place in stored if place != path and place in entries), None)
        if found is None:
            raise
        return entries[found]


def _referred(session: Session, entry: RefEntry) -> Value:
    """The value whose JSON is an entry of another artifact. Raises ReferenceMissingError, ReferenceChangedError."""
    session.references.artifacts.find(entry)
    identity, path = parse_artifact(entry.uri)
    number = int(bytes.fromhex(identity).decode().partition(":")[2])
    source = _VersionSource(session, session.root_of(number), identity, f"the artifact {identity}")
    return source.value(path)


class _VersionSource:
    """Reads what belongs to the values of one version. Nothing that its files say is a path outside of it."""

    def __init__(self, session: Session, root: str, identity: str, label: str) -> None:
        """`root`: the version's tree; `identity`: as in a URI of it; `label`: for messages."""
        self._session = session
        self._manifest = Manifest(session.pages, root)
        self._identity = identity
        self._label = label

    def has(self, path: str) -> bool:
        return isinstance(self._manifest.get(path), FileEntry | RefEntry)

    def bad(self, path: str, why: str) -> BadObjectError:
        entry = self._manifest.get(path)
        digest = entry.digest if isinstance(entry, FileEntry) else ""
        return BadObjectError(f"{path!r} of {self._label}: {why}", digest)

    def _entry(self, path: str) -> FileEntry | RefEntry:
        try:
            entry = self._manifest.get(check_path(path))
        except InvalidNameError as error:
            raise BadObjectError(str(error)) from None
        if entry is None or isinstance(entry, DirEntry | LinkEntry):
            raise BadObjectError(f"it names the file {path!r}, which the artifact does not have")
        return entry

    def _fetch(self, entry: RefEntry) -> BinaryIO:
        # An unnamed file: a killed process leaves nothing behind.
        try:
            scratch = tempfile.TemporaryFile(dir=self._session.store.root)  # noqa: SIM115 - the caller closes it
        except OSError as error:
            raise StorageError.wrap(error, f"fetching {shown(entry.uri)}") from error
        try:
            self._session.references.fetch(entry, scratch.fileno())
            scratch.seek(0)
        except BaseException:
            scratch.close()
            raise
        return scratch

    # Source ---------------------------------------------------------------------------------------

    def open(self, path: str) -> BinaryIO:
        entry = self._entry(path)
        if isinstance(entry, FileEntry):
            return os.fdopen(self._session.store.open_blob(entry.digest, entry.content), "rb")
        return self._fetch(entry)

    def digest(self, path: str) -> str | None:
        entry = self._entry(path)
        return entry.digest if isinstance(entry, FileEntry) else None

    def uri(self, path: str) -> str | None:
        entry = self._entry(path)
        return entry.uri if isinstance(entry, RefEntry) else None

    def value(self, path: str) -> Value:
        cls = class_of(path)
        if cls is None:
            raise BadObjectError(f"it names {path!r}, which is no table, image or other such value")
        entry = self._entry(path)
        if isinstance(entry, RefEntry) and scheme_of(entry.uri) in ARTIFACT_SCHEMES:
            return _referred(self._session, entry)
        with self.open(path) as stream:
            data = stream.read()
        try:
            made = cls.from_json(json.loads(data), self)
        except BadObjectError as error:
            raise (error if error.digest else self.bad(path, str(error))) from None
        except (ValueError, RecursionError) as error:
            raise self.bad(path, f"it is no JSON: {error}") from None
        made.origin = Origin(self._session, artifact_uri(self._identity, path))
        return made

    def inline(self, given: dict[str, Any]) -> Value | None:
        cls = BY_KIND.get(str(given.get("_type")))
        return None if cls is None else cls.from_json(given, self)

    def below(self, folder: str) -> Iterator[str]:
        return iter(sorted(path for path, _ in self._manifest.walk(folder) if path != folder))
