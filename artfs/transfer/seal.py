"""Commit of a draft: its staged tree becomes the next version of its collection, or nothing changes.

The steps, and what a crash after each leaves (docs/semantics.md promises it):

    scan      the staged tree is read, unhashed files are hashed           the draft as it was
    journal   `sealing` lists the files that will be taken over            the draft as it was
    moving    each file gets its name in the store as well (a hard link)   the draft, whole; see `recover`
    trees     tree pages are put into the store                            the same, with unreferenced blobs
    syncing   everything new is made durable, once                         the same
    catalog   one transaction names the version                            the version; the draft's folder may still
    be there removing  the draft's folder goes                                      the version

`recover` finishes or takes back an interrupted commit: a file whose staged name and name in the store are one inode
becomes a stand-in, so that nobody can change a blob through the draft.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from artfs.catalog.base import Catalog
from artfs.errors import (
    DraftBusyError,
    DraftInvalidError,
    LatestMovedError,
    NotFoundError,
    SourceChangedError,
    StorageError,
)
from artfs.model.collide import case_collisions
from artfs.model.digests import to_raw
from artfs.model.edit import update_directory
from artfs.model.entry import DirEntry, Entry, FileEntry, LinkEntry, link_stays_inside
from artfs.model.ignore import IGNORE_FILE, IgnoreRules
from artfs.model.manifest import Change, Manifest, diff
from artfs.model.names import parse_time
from artfs.model.pages import BuiltTree, Page, build_tree, decode_page
from artfs.model.records import Content, Member, NewVersion
from artfs.model.tree import Directory, PageCache, PageSource
from artfs.store.base import LocalStore, StoreBatch
from artfs.store.staging import StagedDraft, record_for
from artfs.store.standins import BASE_NAME, GONE, PREFIX, entry_target, parse_entry, read_base
from artfs.store.verify import hash_file
from artfs.transfer.progress import Meter
from artfs.wire.control import CommitOptions, CommitReply, Progress

log = logging.getLogger(__name__)

OnProgress = Callable[[Progress], None] | None
_JOURNAL = "sealing"
_SHOWN = 5


class _Row(msgspec.Struct, frozen=True, array_like=True):
    """One line of the journal: a staged file that a commit takes over. `path` is relative to the draft's files; b""
    with the root tree's digest is the last line, written when only the catalog's transaction is left."""

    path: bytes
    digest: str
    size: int
    blocks: str
    executable: bool


@dataclass
class _Own:
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
    own: dict[bytes, _Own] = field(default_factory=dict)
    folders: dict[bytes, _Folder] = field(default_factory=dict)


class _Overlay:
    """Pages made just now over those of the store."""

    def __init__(self, pages: dict[str, bytes], below: PageSource) -> None:
        self._pages = pages
        self._below = below

    def page(self, digest: str) -> Page:
        data = self._pages.get(digest)
        return decode_page(digest, data) if data is not None else self._below.page(digest)


class _Scan:
    """The staged tree, read once."""

    def __init__(self, draft: StagedDraft, source: PageSource, on_progress: OnProgress) -> None:
        self.draft = draft
        self.source = source
        self.on_progress = on_progress
        self.files: list[_Own] = []
        self.ignored: list[str] = []
        self.invalid: list[str] = []
        self.collisions: list[str] = []
        self.pages: dict[str, bytes] = {}
        self.rules = self._rules()
        self.root = self._folder(draft.files, b"", 0)
        if self.invalid:
            raise DraftInvalidError(
                f"the draft {draft.label} holds links that leave it: {_some(self.invalid)}; make them relative and inside, "
                "or replace them by what they point to",
                tuple(sorted(self.invalid)),
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

    def _folder(self, path: bytes, relative: bytes, depth: int) -> _Folder:
        base = read_base(path)
        folder = _Folder(relative, Directory(self.source, base.digest) if base is not None else None)
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
            if is_dir:
                folder.folders[name] = self._folder(entry.path, below, depth + 1)
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
                    self.invalid.append(text)
            else:
                own = _Own(entry.path, entry.stat(follow_symlinks=False), None, ())
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

    def _hash(self, own: _Own) -> _Own:
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


def _some(items: Iterable[str]) -> str:
    items = sorted(items)
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + more


def page_source(store: LocalStore) -> PageCache:
    return PageCache(store.read)


def commit_draft(
    catalog: Catalog,
    store: LocalStore,
    draft: StagedDraft,
    options: CommitOptions,
    *,
    busy: tuple[str, ...] = (),
    on_progress: OnProgress = None,
    workers: int = 2,
    run_id: str | None = None,
) -> CommitReply:
    """Makes the draft the next version of its collection, durable when this returns; the draft is gone then.

    Arguments:
        options: what the version is told; what it leaves out comes from the draft itself.
        busy: files that are open for writing (a daemon knows); not empty: DraftBusyError.
        on_progress: called with phases "hashing", "moving", "trees", "syncing", "catalog".
        run_id: the run that logs it.
    Raises DraftBusyError, DraftInvalidError, LatestMovedError, TypeConflictError, InvalidNameError, StorageError,
    CatalogError, and SourceChangedError; then the draft is there, whole, and no version was made.
    """
    if busy:
        raise DraftBusyError(
            f"files of the draft {draft.label} are open for writing: {_some(busy)}; close them and commit again", busy
        )
    with draft.locked():
        if not draft.path.exists():
            raise DraftBusyError(f"the draft {draft.label} was just committed or abandoned")
        if recover(store, draft, catalog):
            raise NotFoundError(f"the draft {draft.label} had been committed already; there is nothing to commit")
        with store.begin() as batch:
            try:
                reply = _commit(catalog, store, batch, draft, options, on_progress, workers, run_id)
            except BaseException:
                recover(store, draft)
                raise
        try:
            draft.remove()
        except OSError as error:
            log.warning("the committed draft %s could not be removed: %s", draft.label, error)
        return reply


def _commit(
    catalog: Catalog,
    store: LocalStore,
    batch: StoreBatch,
    draft: StagedDraft,
    options: CommitOptions,
    on_progress: OnProgress,
    workers: int,
    run_id: str | None,
) -> CommitReply:
    info = draft.info
    _say(on_progress, "scanning")
    latest = _latest(catalog, draft)
    moved = moved_since(draft, latest)
    if moved and info.base_digest is not None and not options.force:
        assert latest is not None
        raise LatestMovedError(
            f"`latest` of {info.project}/{info.collection} moved to v{latest.index} since this draft began from "
            f"{info.base_version}; look at `artfs draft diff`, then commit with --force to put the draft on top"
        )
    scan = _Scan(draft, page_source(store), on_progress)
    scan.hash_files(workers)
    built = scan.build()
    _take_files(store, batch, draft, scan, on_progress)
    meter = Meter(on_progress, "trees", len(scan.pages), sum(map(len, scan.pages.values())))
    for data in scan.pages.values():
        batch.put_bytes(data)
        meter.advance(1, len(data))
    _say(on_progress, "syncing")
    batch.sync()
    _append(draft, [_Row(b"", built.digest, built.totals.size, "", False)])
    _say(on_progress, "catalog")
    committed = catalog.commit(
        NewVersion(
            entity=info.entity,
            project=info.project,
            collection=info.collection,
            type=options.type or info.type or "",
            digest=built.digest,
            size=built.totals.size,
            file_count=built.totals.file_count,
            description=options.description if options.description is not None else info.description,
            metadata=(options.metadata if options.metadata is not None else info.metadata) or {},
            aliases=tuple(dict.fromkeys((*info.aliases, *options.aliases))),
            tags=tuple(dict.fromkeys((*info.tags, *options.tags))),
            run_id=run_id,
            expect_latest=None if options.force or info.base_digest is None else (latest.index if latest is not None else -1),
        )
    )
    warnings = []
    if scan.ignored:
        warnings.append(f"ignored {len(scan.ignored)}: {_some(scan.ignored)}")
    if scan.collisions:
        groups = "; ".join(scan.collisions[:_SHOWN])
        warnings.append(f"names that are one name where case or Unicode form do not count: {groups}")
    member = committed.member
    return CommitReply(
        entity=member.entity,
        project=member.project,
        collection=member.collection,
        version=f"v{member.index}",
        created=committed.created,
        digest=member.version.digest,
        size=member.version.size,
        file_count=member.version.file_count,
        aliases=member.aliases,
        warnings=tuple(warnings),
        moved_from=(info.base_version or "") if moved else None,
    )


def _latest(catalog: Catalog, draft: StagedDraft) -> Member | None:
    try:
        return catalog.resolve(draft.info.entity, draft.info.project, draft.info.collection, "latest")
    except NotFoundError:
        return None


def moved_since(draft: StagedDraft, latest: Member | None) -> bool:
    """Whether somebody logged a version to the collection after the draft began."""
    return latest is not None and latest.created_at > parse_time(draft.info.began_at)


def _take_files(
    store: LocalStore, batch: StoreBatch, draft: StagedDraft, scan: _Scan, on_progress: OnProgress
) -> None:
    rows = []
    prefix = len(draft.files) + 1
    for own in scan.files:
        assert own.content is not None
        executable = bool(own.status.st_mode & stat.S_IXUSR)
        rows.append(_Row(own.path[prefix:], own.content.digest, own.content.size, own.content.blocks, executable))
    _append(draft, rows)
    meter = Meter(on_progress, "moving", len(scan.files), sum(own.status.st_size for own in scan.files))
    for own in scan.files:
        content = own.content
        assert content is not None
        if content.blocks and not own.block_objects:
            # It was copied up from a blob and not changed since: the store has the blob and its block list.
            if store.try_size(content.digest) != content.size:
                own.content, own.block_objects = None, ()
                raise SourceChangedError(f"blob {content.digest} went while the draft was changed; commit again")
        else:
            batch.adopt_file(os.fsdecode(own.path), content, own.block_objects)
        meter.advance(1, content.size)


def _append(draft: StagedDraft, rows: list[_Row]) -> None:
    encoder = msgspec.msgpack.Encoder()
    data = bytearray()
    for row in rows:
        line = encoder.encode(row)
        data += len(line).to_bytes(4, "little") + line
    try:
        with (draft.path / _JOURNAL).open("ab") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise StorageError.wrap(error, "writing the journal of the commit") from error


def _read_journal(path: Path) -> Iterator[_Row]:
    decoder = msgspec.msgpack.Decoder(_Row)
    data = path.read_bytes()
    at = 0
    while at + 4 <= len(data):
        length = int.from_bytes(data[at : at + 4], "little")
        try:
            yield decoder.decode(data[at + 4 : at + 4 + length])
        except msgspec.DecodeError:
            return  # torn: nothing that follows was acted on
        at += 4 + length


def recover(store: LocalStore, draft: StagedDraft, catalog: Catalog | None = None) -> bool:
    """Brings a draft back into order after a commit that did not end. True: that commit had made its version (which
    `catalog` tells), so the draft was removed. Harmless on a draft that is in order."""
    journal = draft.path / _JOURNAL
    if not journal.exists():
        return False
    for row in _read_journal(journal):
        if not row.path:
            latest = _latest(catalog, draft) if catalog is not None else None
            if latest is not None and latest.version.digest == row.digest and moved_since(draft, latest):
                draft.remove()
                return True
            continue
        staged = draft.files + b"/" + row.path
        try:
            mine = os.lstat(staged)
        except OSError:
            continue
        if _is_same_file(mine, store.path_of(row.digest)):
            name = row.path.rsplit(b"/", 1)[-1]
            raw_blocks = to_raw(row.blocks) if row.blocks else b""
            entry = FileEntry(name, row.size, to_raw(row.digest), raw_blocks, row.executable)
            draft.scratch.place_link(entry_target(entry), staged)
            os.utime(staged, ns=(mine.st_mtime_ns, mine.st_mtime_ns), follow_symlinks=False)
        elif stat.S_ISREG(mine.st_mode) and stat.S_IMODE(mine.st_mode) == 0o444:
            # Made read-only for the store, which had the blob already or never got it.
            os.chmod(staged, 0o755 if row.executable else 0o644)
    with contextlib.suppress(FileNotFoundError):
        journal.unlink()
    return False


def _is_same_file(status: os.stat_result, path: Path) -> bool:
    try:
        other = os.lstat(path)
    except FileNotFoundError:
        return False
    return (status.st_dev, status.st_ino) == (other.st_dev, other.st_ino)


def _say(on_progress: OnProgress, phase: str) -> None:
    if on_progress is not None:
        on_progress(Progress(phase, 0, 0, 0, 0))


def draft_changes(store: LocalStore, draft: StagedDraft, *, workers: int = 2) -> Iterator[Change]:
    """What a commit would change against the version that the draft began from (an empty one: everything is added)."""
    source = page_source(store)
    scan = _Scan(draft, source, None)
    scan.hash_files(workers)
    built = scan.build()
    empty = build_tree(())
    scan.pages.update(empty.pages)
    overlay = _Overlay(scan.pages, source)
    yield from diff(Manifest(overlay, draft.info.base_digest or empty.digest), Manifest(overlay, built.digest))


def unhashed_bytes(draft: StagedDraft) -> int:
    """Bytes of staged files whose digests are not known, which a commit would have to read first."""
    total = 0
    todo = [draft.files]
    while todo:
        for entry in os.scandir(todo.pop()):
            if entry.is_dir(follow_symlinks=False):
                todo.append(entry.path)
            elif entry.is_file(follow_symlinks=False):
                status = entry.stat(follow_symlinks=False)
                if draft.hashes.try_get(status) is None:
                    total += status.st_size
    return total


def draft_summary(store: LocalStore, draft: StagedDraft) -> tuple[int, int]:
    """(files, bytes) that the draft staged itself, its inherited content aside."""
    scan = _Scan(draft, page_source(store), None)
    return len(scan.files), sum(own.status.st_size for own in scan.files)
