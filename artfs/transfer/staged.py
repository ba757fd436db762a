"""A draft's staged tree, read: what a commit would make of it, and what it would change."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from artfs.errors import BlobMissingError, DraftInvalidError, SourceChangedError, StorageError
from artfs.model.collide import case_collisions
from artfs.model.digests import to_raw
from artfs.model.edit import update_directory
from artfs.model.entry import DirEntry, Entry, FileEntry, LinkEntry, link_stays_inside
from artfs.model.ignore import IGNORE_FILE, IgnoreRules
from artfs.model.manifest import Change, Manifest, diff
from artfs.model.pages import MAX_DEPTH, BuiltTree, Page, build_tree, decode_page
from artfs.model.records import Content
from artfs.model.tree import Directory, PageCache, PageSource, is_deeper
from artfs.store.base import LocalStore
from artfs.store.linux import PATH_MAX, within_reach
from artfs.store.staging import StagedDraft, record_for
from artfs.store.standins import BASE_NAME, GONE, PREFIX, parse_entry, read_base
from artfs.store.verify import hash_file
from artfs.transfer.progress import Meter, OnProgress

SHOWN = 5
"""How many names a message lists."""


@dataclass
class OwnFile:
    """A file that the draft staged itself."""

    path: bytes
    status: os.stat_result
    content: Content | None
    block_objects: tuple[bytes, ...]


@dataclass
class _Folder:
    """One directory of the draft, scanned but not yet a tree."""

    path: bytes
    base: Directory | None
    changes: dict[bytes, Entry | None] = field(default_factory=dict)
    own: dict[bytes, OwnFile] = field(default_factory=dict)
    folders: dict[bytes, _Folder] = field(default_factory=dict)


class _Overlay:
    """Pages made just now over those of the store."""

    def __init__(self, pages: dict[str, bytes], below: PageSource) -> None:
        self._pages = pages
        self._below = below

    def page(self, digest: str) -> Page:
        data = self._pages.get(digest)
        return decode_page(digest, data) if data is not None else self._below.page(digest)


class StagedScan:
    """The staged tree, read once."""

    def __init__(self, draft: StagedDraft, source: PageSource, on_progress: OnProgress | None) -> None:
        self.draft = draft
        self.source = source
        self.on_progress = on_progress
        self.files: list[OwnFile] = []
        self.ignored: list[str] = []
        self.leaving: list[str] = []  # links
        self.deep: list[str] = []  # folders, and files whose paths are too long to read them
        self.collisions: list[str] = []
        self.pages: dict[str, bytes] = {}
        self._moved: list[tuple[str, int, Directory]] = []  # inherited folders that are elsewhere than in the base: path, depth
        self.rules = self._rules()
        self.root = self._folder(draft.files, b"", 0)

    def check(self) -> None:
        """Raises DraftInvalidError for what no version can hold."""
        if self.leaving:
            raise DraftInvalidError(
                f"the draft {self.draft.label} holds links that leave it: {some_of(self.leaving)}; "
                "make them relative and inside, or replace them by what they point to",
                tuple(sorted(self.leaving)),
            )
        deep = self.deep + [path for path, depth, base in self._moved if is_deeper(self.source, base.digest, MAX_DEPTH - depth)]
        if deep:
            raise DraftInvalidError(
                f"the draft {self.draft.label} is over {MAX_DEPTH} folders deep, or its paths are too long: "
                f"{some_of(path[:80] + '…' for path in deep)}; move them up",
                tuple(sorted(deep)),
            )

    def _rules(self) -> IgnoreRules:
        path = self.draft.files + b"/" + os.fsencode(IGNORE_FILE)
        try:
            target = os.readlink(path) if os.path.islink(path) else b""
            if not target:
                with open(path, encoding="utf-8", errors="surrogateescape") as stream:
                    return IgnoreRules.parse(stream.read())
        except FileNotFoundError:
            pass
        return IgnoreRules.defaults()

    def _folder(self, path: bytes, relative: bytes, depth: int, above: Directory | None = None) -> _Folder:
        """`above`: what the folder that it is in inherits."""
        base = read_base(path)
        folder = _Folder(relative, Directory(self.source, base.digest) if base is not None else None)
        if folder.base is not None and depth and not _is_in(folder.base, above, os.path.basename(path)):
            self._moved.append((os.fsdecode(relative), depth, folder.base))
        shown: list[str] = []
        for entry in os.scandir(path):
            name = entry.name
            if name == BASE_NAME:
                continue
            below = relative + b"/" + name if relative else name
            text = os.fsdecode(below)
            is_dir = entry.is_dir(follow_symlinks=False)
            if self.rules.ignores(text, is_dir):
                self.ignored.append(text)
                if folder.base is not None:
                    folder.changes[name] = None
                continue
            if depth + is_dir > MAX_DEPTH or len(entry.path) + is_dir * len(b"/" + BASE_NAME) > PATH_MAX:
                self.deep.append(text)
            elif is_dir:
                folder.folders[name] = self._folder(entry.path, below, depth + 1, folder.base)
            elif entry.is_symlink():
                target = os.readlink(entry.path)
                if target == GONE:
                    folder.changes[name] = None
                    continue
                if target.startswith(PREFIX):
                    folder.changes[name] = parse_entry(name, target)
                elif link_stays_inside(tuple(relative.split(b"/")) if relative else (), target):
                    folder.changes[name] = LinkEntry(name, target)
                else:
                    self.leaving.append(text)
            else:
                own = OwnFile(entry.path, entry.stat(follow_symlinks=False), None, ())
                folder.own[name] = own
                self.files.append(own)
            shown.append(os.fsdecode(name))
        for group in case_collisions(shown):
            where = os.fsdecode(relative) + "/" if relative else ""
            self.collisions.append(where + " ".join(group))
        return folder

    def hash_files(self, workers: int) -> None:
        """Fills in every content: from the records of closed files, otherwise by reading."""
        missing = []
        for own in self.files:
            record = self.draft.hashes.try_get(own.status)
            if record is not None:
                own.content, own.block_objects = record.content, record.block_objects
            else:
                missing.append(own)
        if not missing:
            return
        meter = Meter(self.on_progress, "hashing", len(missing), sum(own.status.st_size for own in missing))
        with ThreadPoolExecutor(workers, "hash") as pool:
            for own in pool.map(self._hash, missing):
                meter.advance(1, own.status.st_size)
        self.draft.hashes.flush()

    def hash_again(self, own: OwnFile) -> None:
        """Reads a file whose content is known, for its block list. Raises SourceChangedError, StorageError."""
        known = own.content
        self._hash(own)
        if own.content != known:
            raise SourceChangedError(f"{os.fsdecode(own.path)} has not the digest that was remembered of it; commit again")

    def _hash(self, own: OwnFile) -> OwnFile:
        try:
            fd = os.open(own.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise StorageError.wrap(error, "reading a staged file") from error
        try:
            own.content, own.block_objects = hash_file(fd, own.status.st_size)
            status = os.fstat(fd)
        except OSError as error:
            raise StorageError.wrap(error, f"reading the staged file {os.fsdecode(own.path)}") from error
        finally:
            os.close(fd)
        if (status.st_size, status.st_mtime_ns) != (own.status.st_size, own.status.st_mtime_ns):
            raise SourceChangedError(f"{os.fsdecode(own.path)} changed while it was hashed; commit again")
        own.status = status
        self.draft.hashes.add(record_for(status, own.content, own.block_objects))
        return own

    def build(self) -> BuiltTree:
        """The trees; new pages are in `pages` afterwards."""
        built = self._build(self.root)
        for digest, data in built.pages:
            self.pages[digest] = data
        return built

    def _build(self, folder: _Folder) -> BuiltTree:
        changes = folder.changes
        for name, own in folder.own.items():
            content = own.content
            assert content is not None
            changes[name] = FileEntry(
                name,
                content.size,
                to_raw(content.digest),
                to_raw(content.blocks) if content.blocks else b"",
                bool(own.status.st_mode & stat.S_IXUSR),
            )
        for name, below in folder.folders.items():
            built = self._build(below)
            self.pages.update(built.pages)
            changes[name] = DirEntry(name, to_raw(built.digest), built.totals.size, built.totals.file_count)
        if folder.base is None:
            return build_tree(entry for entry in changes.values() if entry is not None)
        return update_directory(folder.base, changes)


def _is_in(base: Directory, above: Directory | None, name: bytes) -> bool:
    """Whether the directory has this name in `above`."""
    found = above.lookup(name) if above is not None else None
    return found is not None and isinstance(found[1], DirEntry) and found[1].digest == base.digest


def some_of(items: Iterable[str]) -> str:
    """Names for a message: the first few, and how many more."""
    items = sorted(items)
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return ", ".join(items[:SHOWN]) + more


def page_source(store: LocalStore) -> PageCache:
    return PageCache(store.read_page)


def draft_changes(store: LocalStore, draft: StagedDraft, *, workers: int = 2) -> Iterator[Change]:
    """What a commit would change against the version that the draft began from (an empty one: everything is added)."""
    source = page_source(store)
    scan = StagedScan(draft, source, None)
    scan.check()
    scan.hash_files(workers)
    built = scan.build()
    empty = build_tree(())
    scan.pages.update(empty.pages)
    overlay = _Overlay(scan.pages, source)
    yield from diff(Manifest(overlay, draft.info.base_digest or empty.digest), Manifest(overlay, built.digest))


def paths_with(scan: StagedScan, store: LocalStore, root: str, digests: frozenset[str]) -> tuple[str, ...]:
    """The files of the tree that was built whose blobs are among `digests`; () when a page of it is, which cannot be read."""
    manifest = Manifest(_Overlay(scan.pages, page_source(store)), root)
    try:
        return tuple(
            path for path, entry in manifest.walk() if isinstance(entry, FileEntry) and not digests.isdisjoint(blobs_of(entry))
        )
    except BlobMissingError:
        return ()


def blobs_of(entry: FileEntry) -> tuple[str, ...]:
    return (entry.digest, entry.blocks.hex()) if entry.blocks else (entry.digest,)


def unhashed_bytes(draft: StagedDraft) -> int:
    """Bytes of staged files whose digests are not known, which a commit would have to read first."""
    total = 0
    todo = [draft.files]
    while todo:
        folder = todo.pop()
        with within_reach(folder) as near:
            for entry in os.scandir(near):
                if entry.is_dir(follow_symlinks=False):
                    todo.append(folder + b"/" + entry.name)
                elif entry.is_file(follow_symlinks=False):
                    status = entry.stat(follow_symlinks=False)
                    if draft.hashes.try_get(status) is None:
                        total += status.st_size
    return total


def draft_summary(store: LocalStore, draft: StagedDraft) -> tuple[int, int]:
    """(files, bytes) that the draft staged itself, its inherited content aside."""
    scan = StagedScan(draft, page_source(store), None)
    return len(scan.files), sum(own.status.st_size for own in scan.files)
