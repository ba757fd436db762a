"""The files of a version, one by one: `artifact.files()` and `artifact.file()`."""

from __future__ import annotations

import base64
import binascii
import itertools
import mimetypes
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from artfs.api import checkout
from artfs.api.draft import StrPath
from artfs.api.ingest import as_names
from artfs.api.manifest import ref_digest
from artfs.api.onefile import fetch_one
from artfs.api.paging import Page, Paginator
from artfs.api.version import LoggedArtifact, time_text
from artfs.errors import ConflictError, InvalidArgumentError
from artfs.model.entry import Entry, FileEntry, RefEntry
from artfs.model.manifest import Manifest
from artfs.model.names import check_path


class File:
    """One file or reference of a version.

    Attributes:
        name: its path in the artifact.
        size: bytes; 0 for a reference whose source did not tell.
        digest: SHA-256 of the bytes (64 hex digits); a reference's checksum as its source gives it.
    """

    def __init__(self, state: LoggedArtifact, name: str, entry: FileEntry | RefEntry) -> None:
        self._state = state
        self._entry = entry
        self.name = name
        self.size = entry.size or 0
        self.digest = entry.digest if isinstance(entry, FileEntry) else ref_digest(entry)

    def __repr__(self) -> str:
        return f"<File {self.name} ({self.mimetype or 'unknown type'}) {self.size} B>"

    @property
    def mimetype(self) -> str | None:
        """Guessed from the name, such as "image/png"; None when the name does not tell."""
        return mimetypes.guess_type(self.name)[0]

    @property
    def url(self) -> str:
        """The artifact's `url` and the path in it."""
        return f"{self._state.url}/{self.name}"

    @property
    def direct_url(self) -> str:
        """Where the bytes are: the stored blob as a file:// URL (read it, never change it), or what a reference
        points to."""
        if isinstance(self._entry, RefEntry):
            return self._entry.uri
        return self._blob.as_uri()

    @property
    def storage_path(self) -> str:
        """The blob's path, relative to the store's folder; "" for a reference."""
        if isinstance(self._entry, RefEntry):
            return ""
        return str(self._blob.relative_to(self._state.session.store.root))

    @property
    def path_uri(self) -> str:
        """What a reference points to; "" for anything else."""
        return self._entry.uri if isinstance(self._entry, RefEntry) else ""

    @property
    def updated_at(self) -> str:
        """When the version was committed: ISO 8601, UTC."""
        return time_text(self._state.member.version.created_at)

    @property
    def _blob(self) -> Path:
        return self._state.session.store.path_of(self.digest)

    def download(self, root: StrPath = ".", replace: bool = False, exist_ok: bool = False) -> IO[str]:
        """Copies it to `root`/`name`, every byte verified, and opens the copy for reading text.

        Arguments:
            root: a directory, made when missing.
            replace: a file that is there is replaced.
            exist_ok: a file that is there is opened as it is.
        Raises ConflictError (a ValueError) for a file that is there when neither is set; for a reference what
        `download` raises; BlobMissingError, CorruptError, StorageError.
        """
        path = os.path.join(root, self.name)
        if not os.path.lexists(path) or replace:
            fetch_one(self._state.session, self.name, self._entry, root)
        elif not exist_ok:
            raise ConflictError(f"{path} is there already; give replace=True or exist_ok=True")
        return open(path, encoding="utf-8")


class ArtifactFiles(Paginator[File]):
    """The files and references of a version, in the order of its directories; not its symbolic links (these are
    in `manifest.entries`). Each page is read from the store when it is needed."""

    def __init__(
        self, state: LoggedArtifact, names: str | Iterable[str] | None, *, per_page: int, start: str | None
    ) -> None:
        """See Artifact.files."""
        self._state = state
        self._wanted = None if names is None else as_names(check_path(name) for name in as_names(names))
        after = None if start is None else _decode_cursor(start)
        if after is not None and after not in (state.manifest.entries if names is None else self._wanted or ()):
            raise _bad_cursor(start)
        count = None if names is not None else lambda: state.member.version.file_count
        super().__init__(self._page, per_page=per_page, start=start, count=count)

    def _page(self, after: str | None, size: int) -> Page[File]:
        found = self._entries(None if after is None else _decode_cursor(after))
        page = list(itertools.islice(found, size))
        files = [File(self._state, path, entry) for path, entry in page]
        return files, _encode_cursor(page[-1][0]) if len(page) == size else None

    def _entries(self, after: str | None) -> Iterator[tuple[str, FileEntry | RefEntry]]:
        manifest = Manifest(self._state.session.pages, self._state.member.version.digest)
        pairs: Iterable[tuple[str, Entry | None]]
        if self._wanted is not None:
            first = 0 if after is None else self._wanted.index(after) + 1
            pairs = ((name, manifest.get(name)) for name in self._wanted[first:])
        else:
            pairs = manifest.walk() if after is None else manifest.walk_after(after)
        return ((path, entry) for path, entry in pairs if isinstance(entry, FileEntry | RefEntry))


def _encode_cursor(path: str) -> str:
    return base64.urlsafe_b64encode(os.fsencode(path)).decode()


def _decode_cursor(cursor: str) -> str:
    try:
        return os.fsdecode(base64.b64decode(cursor, altchars=b"-_", validate=True))
    except (TypeError, ValueError, binascii.Error):
        raise _bad_cursor(cursor) from None


def _bad_cursor(cursor: object) -> InvalidArgumentError:
    return InvalidArgumentError(f"{cursor!r} is not the cursor of a list of this artifact's files")


def single_file(state: LoggedArtifact, root: StrPath | None) -> str:
    """See Artifact.file."""
    entries = list(itertools.islice(state.manifest.entries, 2))
    if len(entries) != 1:
        holds = "more than one file; use download()" if entries else "no file"
        raise InvalidArgumentError(f"{state.member.qualified_name} holds {holds}")
    if root is None:
        root = os.path.join(state.session.settings.artifact_dir, state.name)
    checkout.download(state, root, None, allow_missing_references=False)
    return os.path.join(root, entries[0])
