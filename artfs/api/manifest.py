"""What an artifact holds, as users see it: `artifact.manifest.entries["path"].digest`."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, ItemsView, Iterator, Mapping, ValuesView
from functools import cached_property

from artfs.errors import ArtifactNotLoggedError, InvalidArgumentError, InvalidNameError, PathNotFoundError
from artfs.model.digests import digest_bytes
from artfs.model.entry import DirEntry, Entry, FileEntry, LinkEntry, RefEntry
from artfs.model.manifest import Manifest
from artfs.model.names import check_path
from artfs.model.tree import PageSource
from artfs.references.uris import ARTIFACT_SCHEMES, artifact_uri

Fetch = Callable[[str, str | os.PathLike[str] | None], str]
"""Makes the entry at a path of the artifact a file below a directory (None: the default one); returns the file's path."""


class ManifestEntry:
    """A file, symbolic link or reference of an artifact. It never changes.

    Attributes:
        path: relative to the artifact's root, "/" between its components.
        size: bytes; None for a reference whose source did not tell, 0 for a symbolic link.
        ref: the URI of a reference, None for anything else.
        target: where a symbolic link points, relative to its own directory; None for anything else.
        executable: the owner may execute it.
        version_id: of a reference, the source's own version of the object ("" when it has none).
        local_path: for a file that a draft was given with policy "immutable", and will read when it is saved:
            its absolute path; None otherwise.
    """

    __slots__ = (
        "_artifact",
        "_digest",
        "_fetch",
        "executable",
        "local_path",
        "path",
        "ref",
        "size",
        "target",
        "version_id",
    )

    def __init__(
        self,
        path: str,
        digest: str | Callable[[], str],
        size: int | None,
        *,
        ref: str | None = None,
        target: str | None = None,
        executable: bool = False,
        local_path: str | None = None,
        version_id: str = "",
        artifact: str = "",
        fetch: Fetch | None = None,
    ) -> None:
        """`artifact`: the logged artifact that has the entry, its id in hexadecimal; "": a draft has it. `fetch` gets its
        files; None: cannot be downloaded."""
        self.path = path
        self.version_id = version_id
        self._artifact = artifact
        self._fetch = fetch
        self._digest = digest
        self.size = size
        self.ref = ref
        self.target = target
        self.executable = executable
        self.local_path = local_path

    @property
    def digest(self) -> str:
        """SHA-256 of the bytes (of the target, for a link) as 64 hex digits; a reference's checksum as its source
        gives it. For a reference without one: the URI itself where it is that of a server (http, s3, gs), else the
        SHA-256 of the URI.

        For an entry with `local_path` the file is hashed the first time, which raises SourceChangedError when
        it is not as it was when it was added.
        """
        return self._digest if isinstance(self._digest, str) else self._digest()

    @property
    def extra(self) -> dict[str, str]:
        """What the source of a reference said beside its size: "etag", "versionID"; empty for anything else."""
        if self.ref is None or self.ref.startswith(("file:", *(f"{scheme}:" for scheme in ARTIFACT_SCHEMES))):
            return {}
        checksum = "" if self.digest in (self.ref, digest_bytes(self.ref.encode())) else self.digest
        found = {"etag": checksum, "versionID": self.version_id}
        return {key: value for key, value in found.items() if value}

    def download(self, root: str | os.PathLike[str] | None = None, skip_cache: bool | None = None) -> str:
        """Copies it to `root`/`path`, every byte verified; returns that path. A file that is there and right stays, another
        is replaced.

        Arguments:
            root: a directory, made when missing; None: as for Artifact.download.
            skip_cache: without effect: there is no cache beside the store.
        Raises ArtifactNotLoggedError for an entry of a draft, and what Artifact.download raises.
        """
        if self._fetch is None:
            raise ArtifactNotLoggedError(f"{self.path!r} is an entry of a draft; log the artifact first", "download")
        return self._fetch(self.path, root)

    def ref_target(self) -> str:
        """Where a reference leads: its URI. Raises InvalidArgumentError (a ValueError) for what is none."""
        if self.ref is None:
            raise InvalidArgumentError(f"{self.path!r} is no reference: its bytes are in the artifact")
        return self.ref

    def ref_url(self) -> str:
        """A URI by which another artifact can refer to this entry (see Artifact.add_reference). Raises
        ArtifactNotLoggedError for an entry of a draft."""
        if not self._artifact:
            raise ArtifactNotLoggedError(
                f"{self.path!r} is an entry of a draft; log that artifact before another refers to it", "ref_url"
            )
        return artifact_uri(self._artifact, self.path)

    def _key(self) -> tuple[str, str, int | None, str | None, str | None]:
        return self.path, self.digest, self.size, self.ref, self.target

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, ManifestEntry) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.path)

    def __repr__(self) -> str:
        what = f"ref={self.ref!r}" if self.ref is not None else f"size={self.size}"
        return f"<ManifestEntry {self.path!r} {what}>"


def entry_view(path: str, entry: Entry, artifact: str = "", fetch: Fetch | None = None) -> ManifestEntry:
    """The entry at `path` for users. `entry` is no directory. `artifact`, `fetch`: see ManifestEntry."""
    if isinstance(entry, FileEntry):
        return ManifestEntry(path, entry.digest, entry.size, executable=entry.executable, artifact=artifact, fetch=fetch)
    if isinstance(entry, LinkEntry):
        target = os.fsdecode(entry.target)
        return ManifestEntry(path, digest_bytes(entry.target), 0, target=target, artifact=artifact, fetch=fetch)
    if isinstance(entry, RefEntry):
        return ManifestEntry(
            path, ref_digest(entry), entry.size, ref=entry.uri, version_id=entry.version_id, artifact=artifact, fetch=fetch
        )
    raise TypeError(f"{path!r} is a directory, which is no entry of a manifest")


def ref_digest(entry: RefEntry) -> str:
    """See ManifestEntry.digest."""
    if entry.checksum:
        return entry.checksum
    return entry.uri if entry.uri.startswith(("http", "s3:", "gs:")) else digest_bytes(entry.uri.encode())


class Entries(Mapping[str, ManifestEntry]):
    """Entries by path. Read-only; a path that is not there is a PathNotFoundError (a KeyError)."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """Of all of it: the artifact's digest."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Of all of it, in bytes."""

    @abstractmethod
    def pairs(self) -> Iterator[tuple[str, ManifestEntry]]:
        """Paths and entries, in one pass."""

    def below(self, directory: str) -> Iterator[ManifestEntry]:
        """The entries in a directory and the directories below it; none when there is no such directory."""
        prefix = check_path(directory) + "/"
        return (entry for path, entry in self.pairs() if path.startswith(prefix))

    def items(self) -> ItemsView[str, ManifestEntry]:
        return _Items(self)

    def values(self) -> ValuesView[ManifestEntry]:
        return _Values(self)

    def __repr__(self) -> str:
        return f"<{len(self)} manifest entries>"


# The views of Mapping look every path up; these read the manifest once.
class _Items(ItemsView[str, ManifestEntry]):
    _mapping: Entries

    def __iter__(self) -> Iterator[tuple[str, ManifestEntry]]:
        return self._mapping.pairs()


class _Values(ValuesView[ManifestEntry]):
    _mapping: Entries

    def __iter__(self) -> Iterator[ManifestEntry]:
        return (entry for _, entry in self._mapping.pairs())


class VersionEntries(Entries):
    """Of a version: read from the store as they are asked for, a few pages for a path, never all at once."""

    def __init__(self, source: PageSource, digest: str, size: int, artifact: str, fetch: Fetch) -> None:
        """`digest` is the version's root tree in `source`; `artifact`, `fetch`: see ManifestEntry. Nothing is read
        yet."""
        self._artifact = artifact
        self._fetch = fetch
        self._source = source
        self._digest = digest
        self._size = size

    @property
    def digest(self) -> str:
        return self._digest

    @property
    def size(self) -> int:
        return self._size

    @cached_property
    def _manifest(self) -> Manifest:
        return Manifest(self._source, self._digest)

    @cached_property
    def _count(self) -> int:
        return sum(1 for _ in self._manifest.walk())

    def __getitem__(self, path: str) -> ManifestEntry:
        entry = self._manifest.get(path)
        if entry is None or isinstance(entry, DirEntry):
            instead = "" if entry is None else ", but a directory"
            raise PathNotFoundError(f"there is no file {path!r} in this artifact{instead}")
        return entry_view(path, entry, self._artifact, self._fetch)

    def __iter__(self) -> Iterator[str]:
        return (path for path, _ in self._manifest.walk())

    def __len__(self) -> int:
        return self._count

    def pairs(self) -> Iterator[tuple[str, ManifestEntry]]:
        return ((path, entry_view(path, entry, self._artifact, self._fetch)) for path, entry in self._manifest.walk())

    def below(self, directory: str) -> Iterator[ManifestEntry]:
        top = check_path(directory)
        walk = self._manifest.walk(top)
        return (entry_view(path, entry, self._artifact, self._fetch) for path, entry in walk if path != top)


class ArtifactManifest:
    """All that an artifact holds. Of a draft it is live; of a version it never changes.

    Attributes:
        entries: entries by path.
    """

    def __init__(self, entries: Entries) -> None:
        self.entries = entries

    def digest(self) -> str:
        """The artifact's digest."""
        return self.entries.digest

    def size(self) -> int:
        """The artifact's size in bytes."""
        return self.entries.size

    def get_entry_by_path(self, path: str) -> ManifestEntry | None:
        """None when there is no such entry, as there cannot be for "../x"."""
        try:
            return self.entries.get(check_path(path))
        except InvalidNameError:
            return None

    def get_entries_in_directory(self, directory: str) -> list[ManifestEntry]:
        """All entries below `directory`, at any depth."""
        return list(self.entries.below(directory))

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)
