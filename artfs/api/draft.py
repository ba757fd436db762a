"""A draft: an artifact that is not logged yet. It belongs to one process; `ingest` turns it into a version.

What happens to bytes. With policy "mutable" a file's bytes go straight into the store when the file is added
(a reflink where the file system can, else one copy), so that nothing is staged anywhere else and later edits
do not matter. (With a server they wait in a store of the draft's own, and go into the cache when they are sent.)
With "immutable" only its path and fingerprint are noted, and its bytes are read when the draft
is saved.

Blobs that no version names are what `artfs gc` frees. So a draft that put some keeps its StoreBatch open, and
with it the store's shared lock, until it is saved, closed or garbage-collected, or the process ends: a sweep
waits that long. A process that is killed leaves no more than unreferenced blobs.
"""

from __future__ import annotations

import os
import stat
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

from artfs.api.added import AddedPaths
from artfs.api.manifest import ArtifactManifest, Entries, ManifestEntry, entry_view
from artfs.api.pathmap import PathMap
from artfs.api.session import Session
from artfs.errors import (
    ArtifactFinalizedError,
    ConflictError,
    InvalidArgumentError,
    InvalidNameError,
    PathNotFoundError,
    SourceChangedError,
    StorageError,
)
from artfs.model.edit import BuiltManifest, build_manifest
from artfs.model.entry import FileEntry, LinkEntry, RefEntry
from artfs.model.metadata import check_metadata
from artfs.model.names import check_collection_name, check_path, check_type
from artfs.model.records import Committed, Content
from artfs.model.tree import PageCache
from artfs.model.ttl import INHERIT, Ttl
from artfs.store.base import LocalStore, StoreBatch
from artfs.store.scratch import ScratchStore
from artfs.store.verify import hash_file
from artfs.transfer.push import file_entry

Policy = Literal["mutable", "immutable"]
StrPath = str | os.PathLike[str]


def check_policy(policy: Policy | None) -> Policy:
    """None means "mutable". Raises InvalidArgumentError for any other word."""
    if policy is None:
        return "mutable"
    if policy not in get_args(Policy):
        raise InvalidArgumentError(f'policy must be "mutable" or "immutable", not {policy!r}')
    return policy


def check_description(description: str | None) -> str | None:
    """Raises TypeError for what is no text."""
    if description is not None and not isinstance(description, str):
        raise TypeError(f"a description must be a str or None, not {type(description).__name__}")
    return description


@dataclass(slots=True, eq=False)
class Pending:
    """A file that is read when the draft is saved, and must be then as it was when it was added. `path` is
    absolute."""

    path: str
    size: int
    mtime_ns: int
    inode: int
    mode: int
    content: Content | None = None
    """Known once it was hashed."""

    @classmethod
    def of(cls, path: StrPath, status: os.stat_result) -> Pending:
        return cls(os.path.abspath(path), status.st_size, status.st_mtime_ns, status.st_ino, status.st_mode)

    @property
    def executable(self) -> bool:
        return bool(self.mode & stat.S_IXUSR)

    def entry(self, path: str, content: Content) -> FileEntry:
        """Its entry at `path` of the artifact, once its content is known."""
        return file_entry(os.fsencode(path.rpartition("/")[2]), content, self.mode)

    def check(self) -> None:
        """Raises SourceChangedError when the file is not what was added."""
        try:
            now = os.stat(self.path)
        except OSError as error:
            raise SourceChangedError(
                f"{self.path} was added with policy 'immutable' and cannot be read now: {error.strerror}"
            ) from None
        if (now.st_size, now.st_mtime_ns, now.st_ino) != (self.size, self.mtime_ns, self.inode):
            raise SourceChangedError(
                f"{self.path} changed after it was added with policy 'immutable'; "
                "add it again, or with policy 'mutable'"
            )

    def hashed(self) -> Content:
        """Its content, read at the first call. Raises SourceChangedError, StorageError."""
        if self.content is None:
            self.check()
            try:
                with open(self.path, "rb", buffering=0) as stream:
                    content = hash_file(stream.fileno(), self.size).content
            except OSError as error:
                raise StorageError.wrap(error, f"reading {self.path}") from error
            self.check()
            self.content = content
        return self.content


Item = FileEntry | LinkEntry | RefEntry | Pending


def _digest_of(item: FileEntry | Pending) -> str:
    return item.hashed().digest if isinstance(item, Pending) else item.digest


def _source(item: RefEntry) -> tuple[str, int | None, str, str]:
    return item.uri, item.size, item.checksum, item.version_id


def _same(old: Item, new: Item) -> bool:
    """Whether both hold the same bytes (or point at the same place)."""
    if isinstance(old, LinkEntry) or isinstance(new, LinkEntry):
        return isinstance(old, LinkEntry) and isinstance(new, LinkEntry) and old.target == new.target
    if isinstance(old, RefEntry) or isinstance(new, RefEntry):
        return isinstance(old, RefEntry) and isinstance(new, RefEntry) and _source(old) == _source(new)
    return old.size == new.size and _digest_of(old) == _digest_of(new)


@dataclass(frozen=True, slots=True)
class Base:
    """The version that a draft began with. `id`: as Artifact.id; `entity`, `project`: where it was logged, and
    so where the draft is going to be."""

    id: str
    entity: str
    project: str


class Deposit:
    """The bytes that a draft has already: in the session's store, whose shared lock it holds until it is closed; or, when
    that store is a server's, in a store of its own, as nobody knows yet for which project they are.

    Attributes:
        store, batch: where they are.
        pages: what reads trees that were put into it.
        scratch: the store, when it is the draft's own.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.scratch = session.make_scratch()
        self.store: LocalStore = self.scratch or session.store
        self.pages = session.pages if self.scratch is None else PageCache(self.scratch.read_page)
        self.batch: StoreBatch = self.store.begin().__enter__()
        self._close = weakref.finalize(self, _leave, self.batch, self.scratch, os.getpid())
        self._lock = threading.Lock()
        self._users = 0
        self._closing = False

    def open_blob(self, entry: FileEntry) -> int:
        """What a store's open_blob gives, also of what came with a version. Raises what it raises."""
        mine = self.scratch is not None and self.scratch.try_size(entry.digest) is not None
        return (self.store if mine else self.session.store).open_blob(entry.digest, entry.content)

    def hold(self) -> None:
        """From now on, until `release`, bytes may be put, also when it is closed meanwhile."""
        with self._lock:
            self._users += 1

    def release(self) -> None:
        with self._lock:
            self._users -= 1
            last = self._closing and not self._users
        if last:
            self._close()

    def close(self) -> None:
        """As soon as nobody holds it. Again is fine."""
        with self._lock:
            self._closing = True
            idle = not self._users
        if idle:
            self._close()


def _leave(batch: StoreBatch, scratch: ScratchStore | None, pid: int) -> None:
    # A forked child that drops its copy of a draft must not tidy up under its parent.
    if os.getpid() == pid:
        batch.__exit__(None, None, None)
        if scratch is not None:
            scratch.close()


class DraftArtifact:
    """Thread-safe. Everything that changes contents raises ArtifactFinalizedError once `finalized` is set."""

    def __init__(
        self,
        name: str,
        type: str,
        *,
        description: str | None,
        metadata: object,
        incremental: bool,
        sessions: Callable[[], Session],
        base: Base | None = None,
        region: str | None = None,
    ) -> None:
        """`sessions` gives the session whose store takes the bytes; it is called when the first bytes come.

        Raises InvalidNameError, InvalidMetadataError, TypeError.
        """
        self.name = check_collection_name(name)
        self.type = check_type(type, name)
        self.description = check_description(description)
        self.metadata: dict[str, Any] = check_metadata(metadata)
        self.incremental = incremental
        self.ttl: Ttl = INHERIT
        self.base = base
        self.region = region
        self.added = AddedPaths()
        self.values: dict[int, tuple[object, str]] = {}
        """Tables, images and other values that were added, by the id of the object: it, and where its JSON is."""
        self.kept_values: dict[int, tuple[object, str]] = {}
        """The same of those that came with others: the tables of a joined one, the classes of images."""
        self.finalized = False
        self.distributed_id: str | None = None
        self.is_part = False
        """Whether it is kept as a part of a version that is not made yet (see ingest.add_part)."""
        self.committed: Committed | None = None
        self.lock = threading.RLock()
        self.items: PathMap[Item] = PathMap()
        self.deposit: Deposit | None = None
        self._sessions = sessions
        self._built: BuiltManifest | None = None

    # what it holds --------------------------------------------------------------------------------

    @property
    def manifest(self) -> ArtifactManifest:
        return ArtifactManifest(_DraftEntries(self))

    @property
    def digest(self) -> str:
        """What the artifact's digest is going to be. Reads files that were added with policy "immutable"."""
        with self.lock:
            if self._built is None:
                files = {
                    path: item.entry(path, item.hashed()) if isinstance(item, Pending) else item
                    for path, item in self.items.items()
                }
                self._built = build_manifest(files, self.items.empty_dirs())
            return self._built.root

    @property
    def size(self) -> int:
        """Bytes of all files."""
        with self.lock:
            return sum(item.size or 0 for _, item in self.items.items() if not isinstance(item, LinkEntry))

    def view(self, path: str, item: Item) -> ManifestEntry:
        if isinstance(item, Pending):
            return ManifestEntry(
                path,
                lambda: item.hashed().digest,
                item.size,
                executable=item.executable,
                local_path=item.path,
            )
        return entry_view(path, item)

    # changes --------------------------------------------------------------------------------------

    def check_open(self, asked: str = "") -> None:
        """`asked`: which method needs it."""
        if self.finalized:
            raise ArtifactFinalizedError(
                f"the artifact {self.name} is finalized and cannot be changed; log a new version instead",
                asked,
            )

    @property
    def session(self) -> Session:
        """Where its bytes are, or would be."""
        return self.deposit.session if self.deposit is not None else self._sessions()

    def open_deposit(self) -> Deposit:
        with self.lock:
            if self.deposit is None:
                self.deposit = Deposit(self._sessions())
            return self.deposit

    @contextmanager
    def depositing(self) -> Iterator[Deposit]:
        """For whoever puts bytes without the lock, as that takes long: another thread may log the draft meanwhile. (What was
        put can then not be added any more.)"""
        with self.lock:
            self.check_open()
            deposit = self.open_deposit()
            deposit.hold()
        try:
            yield deposit
        finally:
            deposit.release()

    def put(self, path: str, item: Item, *, overwrite: bool) -> ManifestEntry:
        """Raises ConflictError when something else is there, and `overwrite` is False or it is a
        directory."""
        with self.lock:
            self.check_open()
            self._check_put(path, item, overwrite)
            self._built = None
            self.items.put(path, item)
        return self.view(path, item)

    def put_all(self, items: dict[str, Item], empty_dirs: list[str], *, overwrite: bool) -> None:
        """All of `items`, or none of them when one cannot be put."""
        with self.lock:
            self.check_open()
            for path, item in items.items():
                self._check_put(path, item, overwrite)
            for path in empty_dirs:
                self.items.check_dir(path)
            self._built = None
            for path, item in items.items():
                self.items.put(path, item)
            for path in empty_dirs:
                self.items.put_empty_dir(path)

    def remove(self, item: StrPath | ManifestEntry) -> None:
        """A file, or a directory with all below it. Raises PathNotFoundError (a FileNotFoundError)."""
        name = os.fspath(item.path if isinstance(item, ManifestEntry) else item)
        if not name.strip("./"):
            raise PathNotFoundError(f"{name!r} names nothing that could be removed from an artifact")
        try:
            path = check_path(name)
        except InvalidNameError as error:
            raise PathNotFoundError(f"there is nothing to remove: {error}") from None
        with self.lock:
            self.check_open()
            self.items.remove(path)
            self._built = None

    def close(self) -> None:
        """Lets go of the store: blobs that no version names may be swept from now on."""
        with self.lock:
            if self.deposit is not None:
                self.deposit.close()
                self.deposit = None

    def _check_put(self, path: str, item: Item, overwrite: bool) -> None:
        there = self.items.get(path)
        if there is None:
            self.items.check(path)
        elif not overwrite and not _same(there, item):
            raise ConflictError(
                f"{path!r} was added already with other content; say that you want to replace it "
                f"(overwrite=True, or merge=True for a directory)"
            )


class _DraftEntries(Entries):
    """Live: what the draft holds now."""

    def __init__(self, draft: DraftArtifact) -> None:
        self._draft = draft

    @property
    def digest(self) -> str:
        return self._draft.digest

    @property
    def size(self) -> int:
        return self._draft.size

    def __getitem__(self, path: str) -> ManifestEntry:
        item = self._draft.items.get(path)
        if item is None:
            raise PathNotFoundError(f"there is no file {path!r} in this artifact")
        return self._draft.view(path, item)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._draft.items))

    def __len__(self) -> int:
        return len(self._draft.items)

    def pairs(self) -> Iterator[tuple[str, ManifestEntry]]:
        return ((path, self._draft.view(path, item)) for path, item in list(self._draft.items.items()))
