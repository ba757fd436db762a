"""References to entries of other artifacts: artfs-artifact://ID/PATH, where ID is the other's `id`, its bytes in hex.

Chains end when they are added: a reference to a reference is a copy of it, so what is stored names the artifact that has the
bytes, or what is outside.
"""

from __future__ import annotations

import os
from typing import Protocol

from artfs.errors import (
    InvalidArgumentError,
    NotFoundError,
    ReferenceChangedError,
    ReferenceMissingError,
    StorageError,
)
from artfs.model.entry import Entry, FileEntry, RefEntry
from artfs.model.manifest import Manifest
from artfs.model.names import check_path
from artfs.model.tree import PageSource
from artfs.references.base import Examined, Found, OnBytes
from artfs.references.uris import artifact_uri, last_part, parse_artifact
from artfs.store.base import BlobStore
from artfs.store.linux import try_reflink
from artfs.store.verify import copy_digesting, digest_file


class Versions(Protocol):
    def root_of(self, version_id: int) -> str:
        """Root tree of a version. Raises NotFoundError when it was deleted, or never was."""
        ...


def id_in_hex(version_id: int) -> str:
    """The part of a URI that names a version; `version_id` is the catalog's."""
    return f"Artifact:{version_id}".encode().hex()


class ArtifactSource:
    """The checksum is the digest of the bytes."""

    def __init__(self, store: BlobStore, pages: PageSource, versions: Versions) -> None:
        self._store = store
        self._pages = pages
        self._versions = versions

    def examine(self, uri: str, *, checksum: bool, max_objects: int) -> Examined:
        identity, path = parse_artifact(uri)
        path = check_path(path)
        try:
            entry = self._entry(identity, path)
        except NotFoundError as error:
            raise ReferenceMissingError(f"cannot add {uri}: {error}") from None
        if isinstance(entry, RefEntry):
            return Examined(True, [Found(last_part(path), entry.uri, entry.size, entry.checksum, entry.version_id)])
        if not isinstance(entry, FileEntry):
            what = "nothing" if entry is None else "no file"
            raise InvalidArgumentError(f"cannot add {uri}: there is {what} at {path!r} of that artifact")
        return Examined(True, [Found(last_part(path), artifact_uri(identity, path), entry.size, entry.digest)])

    def find(self, ref: RefEntry) -> FileEntry:
        """The file that has the bytes."""
        identity, path = parse_artifact(ref.uri)
        try:
            entry = self._entry(identity, check_path(path))
        except NotFoundError as error:
            raise ReferenceMissingError(f"{ref.uri} is gone: {error}") from None
        if not isinstance(entry, FileEntry) or entry.digest != ref.checksum:
            raise ReferenceChangedError(f"{ref.uri} does not name the file {ref.checksum} any more")
        return entry

    def _entry(self, identity: str, path: str) -> Entry | None:
        kind, _, number = bytes.fromhex(identity).decode("ascii", "replace").partition(":")
        if kind != "Artifact" or not number.isdecimal() or not number.isascii() or len(number) > 18:
            raise NotFoundError(f"{identity} is the id of no artifact")
        return Manifest(self._pages, self._versions.root_of(int(number))).get(path)

    def fetch(self, ref: RefEntry, target: int, on_bytes: OnBytes) -> None:
        entry = self.find(ref)
        source = self._store.open_blob(entry.digest, entry.content)
        try:
            if try_reflink(source, target):
                digest = digest_file(target, entry.size, on_bytes=on_bytes)
            else:
                digest = copy_digesting(source, target, entry.size, on_bytes=on_bytes)
            if digest != entry.digest:
                raise ReferenceChangedError(f"{ref.uri}: the blob {entry.digest} is damaged")
        except OSError as error:
            raise StorageError.wrap(error, f"copying {ref.uri}") from error
        finally:
            os.close(source)

    def check(self, ref: RefEntry) -> None:
        self.find(ref)
