"""Values (tables, images …) into a draft: the Sink of artfs.api.media."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable

from artfs.api.draft import DraftArtifact, Item, Pending, StrPath
from artfs.api.getvalue import Origin
from artfs.api.manifest import ManifestEntry
from artfs.api.media.base import NAME_DIGITS, Placed, Value
from artfs.api.media.content import Content, InMemory
from artfs.api.media.registry import CLASSES
from artfs.errors import BlobMissingError, InvalidArgumentError, NotFoundError, StorageError
from artfs.model.digests import BLOCKS_ABOVE
from artfs.model.entry import FileEntry, LinkEntry, RefEntry
from artfs.model.names import check_path
from artfs.model.records import Content as StoredContent
from artfs.references.uris import shown
from artfs.transfer.push import file_entry, push_file

_NAMED_BY_CONTENT = "media/tables"
"""A name that begins so is replaced by digits of the content, as in the reference."""


def add_value(draft: DraftArtifact, obj: object, name: StrPath, *, overwrite: bool) -> ManifestEntry:
    """See Artifact.add."""
    if not isinstance(obj, CLASSES):
        known = ", ".join(cls.__name__ for cls in CLASSES)
        raise TypeError(f"an artifact takes {known}; this is a {type(obj).__name__}")
    path = obj.stored_name(check_path(name))
    with draft.lock:
        draft.check_open()
        sink = _DraftSink(draft)
        first = sink.try_path(obj)
        if first is None or (overwrite and first == path):
            there = draft.items.get(path)
            if there is not None and not overwrite:
                return draft.view(path, there)
            if there is None:
                draft.items.check(path)
            first = sink.try_refer(obj, path, overwrite=overwrite) or sink.put_value(obj, path, overwrite=overwrite)
        item = draft.items.get(first)
        assert item is not None
        return draft.view(first, item)


class _DraftSink:
    """Puts what belongs to values into a draft, whose lock is held."""

    def __init__(self, draft: DraftArtifact) -> None:
        self._draft = draft

    def try_path(self, value: Value) -> str | None:
        """Under which name that very object was added; None when it was not, but perhaps came with another one."""
        return self._path_in(self._draft.values, value)

    def _path_in(self, known: dict[int, tuple[object, str]], value: Value) -> str | None:
        _, path = known.get(id(value), (None, ""))
        return path if path in self._draft.items else None

    def put_value(self, value: Value, path: str, *, overwrite: bool) -> str:
        """Adds a value with all that belongs to it. Returns where its JSON is."""
        entry = self._store_json(value)
        path = _by_content(value, path, entry.digest)
        self._draft.put(path, _named(entry, path), overwrite=overwrite)
        # With the object itself: so no other one can get its id.
        self._draft.values[id(value)] = (value, path)
        return path

    def try_refer(self, value: Value, path: str, *, overwrite: bool) -> str | None:
        """Adds a reference to the artifact that the value was got from. None when it is from none that can be read from
        here, or was changed since: then its bytes are needed."""
        origin = value.origin
        if not isinstance(origin, Origin) or origin.session.settings.home != self._draft.session.settings.home:
            return None
        try:
            found = self._draft.session.references.examine(origin.uri).objects[0]
            if origin.read() != value:
                return None
        except (NotFoundError, BlobMissingError):  # deleted since
            return None
        path = _by_content(value, path, found.checksum)
        if _digest(self._draft.items.get(path)) != found.checksum:
            self._draft.put(path, found.entry(os.fsencode(path.rpartition("/")[2])), overwrite=overwrite)
        self._draft.values[id(value)] = (value, path)
        return path

    def _store_json(self, value: Value) -> FileEntry:
        text = json.dumps(value.to_json(self), sort_keys=True)
        return self._store(InMemory(text.encode()))

    def _store(self, content: Content) -> FileEntry:
        batch = self._draft.open_deposit().batch
        if isinstance(content, InMemory) and len(content.data) <= BLOCKS_ABOVE:
            digest = batch.put_bytes(content.data)
            return file_entry(b"-", StoredContent(digest, len(content.data), ""), 0)
        if content.local_path is not None:
            return push_file(batch, content.local_path, name=b"-")
        # An unnamed file, as for new_file: a killed process leaves nothing behind.
        try:
            with tempfile.TemporaryFile(dir=self._draft.open_deposit().store.root) as scratch:
                with content.open() as stream:
                    shutil.copyfileobj(stream, scratch, 1024 * 1024)
                scratch.flush()
                return push_file(batch, f"/proc/self/fd/{scratch.fileno()}", name=b"-")
        except OSError as error:
            raise StorageError.wrap(error, "storing a media file") from error

    # Sink -----------------------------------------------------------------------------------------

    def place(self, content: Content, name: Callable[[str], str]) -> Placed:
        entry = self._store(content)
        if content.local_path is not None:
            there = self._draft.added.name_of(content.local_path)
            if there is not None and _digest(self._draft.items.get(there)) == entry.digest:
                return Placed(there, entry.digest)
        path = check_path(name(entry.digest))
        self._draft.put(path, _named(entry, path), overwrite=False)
        return Placed(path, entry.digest)

    def keep(self, value: Value, name: Callable[[str], str]) -> Placed:
        path = self.try_path(value) or self._path_in(self._draft.kept_values, value)
        if path is None:
            entry = self._store_json(value)
            path = check_path(value.stored_name(name(entry.digest)))
            self._draft.put(path, _named(entry, path), overwrite=False)
            self._draft.kept_values[id(value)] = (value, path)
        digest = _digest(self._draft.items.get(path))
        assert digest is not None
        return Placed(path, digest)

    def refer(self, uri: str, folder: str) -> str:
        digits = hashlib.sha256(uri.encode()).hexdigest()[:NAME_DIGITS]
        examined = self._draft.session.references.examine(uri)
        if not examined.single:
            raise InvalidArgumentError(f"{shown(uri)} is no file")
        found = examined.objects[0]
        path = check_path(f"{folder}/{digits}/{found.path or digits}")
        self._draft.put(path, found.entry(os.fsencode(path.rpartition("/")[2])), overwrite=False)
        return path


def _by_content(value: Value, path: str, digest: str) -> str:
    if not path.startswith(_NAMED_BY_CONTENT):
        return path
    return f"{path.rpartition('/')[0]}/{digest[:NAME_DIGITS]}{value.suffix()}"


def _named(entry: FileEntry, path: str) -> FileEntry:
    name = os.fsencode(path.rpartition("/")[2])
    return FileEntry(name, entry.size, entry.sha256, entry.blocks, False)


def _digest(item: Item | None) -> str | None:
    if item is None or isinstance(item, LinkEntry):
        return None
    if isinstance(item, RefEntry):
        return item.checksum
    return item.hashed().digest if isinstance(item, Pending) else item.digest
