"""Ways into an artifact: files and directories into a draft, and a draft into a version."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

from artfs.api.draft import DraftArtifact, Item, Pending, Policy, StrPath, check_policy
from artfs.api.manifest import ManifestEntry
from artfs.api.session import Session
from artfs.api.telling import told
from artfs.errors import InvalidArgumentError, LatestMovedError, NotFoundError, SourceChangedError
from artfs.model.edit import BuiltManifest, build_manifest
from artfs.model.entry import DirEntry, Entry, FileEntry, LinkEntry
from artfs.model.ignore import IgnoreRules
from artfs.model.manifest import Manifest, edit
from artfs.model.metadata import check_metadata
from artfs.model.names import check_alias, check_path, check_tag
from artfs.model.pages import EMPTY_TREE, build_tree
from artfs.model.records import Committed, Content, NewVersion
from artfs.store.base import StoreBatch
from artfs.transfer.ahead import Ahead, in_groups
from artfs.transfer.progress import Meter, OnProgress
from artfs.transfer.push import push_directory, push_file
from artfs.transfer.scan import Kind, check_bad, list_directory, root_place

_IS_TMP_DIGITS = 20
"""How many digits of the digest stand in the name of a file that was added with `is_tmp`."""


# into a draft -------------------------------------------------------------------------------------


def add_file(
    draft: DraftArtifact,
    local_path: StrPath,
    name: StrPath | None,
    *,
    is_tmp: bool,
    policy: Policy | None,
    overwrite: bool,
) -> ManifestEntry:
    """See Artifact.add_file."""
    how = check_policy(policy)
    draft.check_open()
    local = os.fspath(local_path)
    path = check_path(name or os.path.basename(local))
    try:
        status = os.stat(local)
    except OSError as error:
        raise InvalidArgumentError(f"cannot add {local}: {error.strerror}") from None
    if not stat.S_ISREG(status.st_mode):
        raise InvalidArgumentError(f"cannot add {local}: it is not a file" + _use_add_dir(status))
    item: FileEntry | Pending = Pending.of(local, status)
    if how == "mutable":
        with told() as on_progress:
            raw = os.fsencode(path.rpartition("/")[2])
            item = push_file(draft.open_deposit().batch, local, name=raw, on_progress=on_progress)
    if is_tmp:
        digest = item.hashed().digest if isinstance(item, Pending) else item.digest
        folder, _, last = path.rpartition("/")
        last = digest[:_IS_TMP_DIGITS] + "".join(last.partition(".")[1:])
        path = f"{folder}/{last}" if folder else last
    entry = draft.put(path, item, overwrite=overwrite)
    draft.added.file(local, path)
    return entry


def _use_add_dir(status: os.stat_result) -> str:
    return "; use add_dir for a directory" if stat.S_ISDIR(status.st_mode) else ""


def add_dir(
    draft: DraftArtifact, local_path: StrPath, name: StrPath | None, *, policy: Policy | None, merge: bool
) -> None:
    """See Artifact.add_dir."""
    how = check_policy(policy)
    draft.check_open()
    if not os.path.isdir(local_path):
        raise InvalidArgumentError(f"cannot add {os.fspath(local_path)}: it is not a directory")
    at = os.fspath(name or "")
    prefix = f"{check_path(at)}/" if at not in ("", ".", "./") else ""
    items, empty_dirs = (_put_dir if how == "mutable" else _note_dir)(draft, local_path)
    draft.put_all(
        {prefix + path: item for path, item in items},
        [(prefix + path).rstrip("/") for path in empty_dirs if prefix or path],
        overwrite=merge,
    )
    draft.added.directory(local_path, prefix, [path for path, _ in items])


_Found = tuple[list[tuple[str, Item]], list[str]]
"""Of a directory: what is at which path, and which directories hold nothing ("": itself)."""


def _put_dir(draft: DraftArtifact, root: StrPath) -> _Found:
    """Puts all bytes into the store."""
    deposit = draft.open_deposit()
    session = deposit.session
    workers = session.settings.worker_count
    with told() as on_progress:
        pushed = push_directory(
            deposit.batch, root, ignore=IgnoreRules.none(), on_progress=on_progress, workers=workers
        )
    items: list[tuple[str, Item]] = []
    empty_dirs = [""] if pushed.root == EMPTY_TREE else []
    for path, entry in Manifest(session.pages, pushed.root).walk(include_dirs=True):
        if isinstance(entry, FileEntry | LinkEntry):
            items.append((path, entry))
        elif isinstance(entry, DirEntry) and entry.digest == EMPTY_TREE:
            empty_dirs.append(path)
    return items, empty_dirs


def _note_dir(draft: DraftArtifact, root: StrPath) -> _Found:
    """Reads no file."""
    items: list[tuple[str, Item]] = []
    empty_dirs: list[str] = []
    bad: list[tuple[str, str]] = []
    top = root_place(root)
    todo = [top]
    while todo:
        place = todo.pop()
        found = list_directory(place, IgnoreRules.none())
        bad += found.bad
        if not found.names:
            empty_dirs.append(place.relative)
        for raw, kind in found.items():
            name = os.fsdecode(raw)
            local = f"{place.path}/{name}"
            path = f"{place.relative}/{name}" if place.relative else name
            try:
                if kind is Kind.DIRECTORY:
                    todo.append(place.child(raw))
                elif kind is Kind.LINK:
                    items.append((path, LinkEntry(raw, os.fsencode(os.readlink(local)))))
                else:
                    items.append((path, Pending.of(local, os.stat(local))))
            except OSError as error:
                raise SourceChangedError(f"{local} changed while it was added: {error.strerror}") from None
    check_bad(top, bad)
    return items, empty_dirs


# a draft into a version ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LogTarget:
    """Where a draft is logged to, and as whose output. `run_id` None: nobody's. `history_step`: see
    records.Version."""

    session: Session
    entity: str
    project: str
    run_id: str | None = None
    history_step: int | None = None


def as_names(given: str | Iterable[str] | None) -> tuple[str, ...]:
    """Aliases or tags as people give them: one, several or none. Without duplicates, in their order."""
    if given is None:
        return ()
    return (given,) if isinstance(given, str) else tuple(dict.fromkeys(given))


def log_draft(
    target: LogTarget,
    draft: DraftArtifact,
    aliases: str | Iterable[str] | None,
    tags: str | Iterable[str] | None,
) -> Committed:
    """Makes the draft a version: everything is durable when this returns, and nothing is visible when it
    raises (the draft is then as it was). When `latest` has the same content, that version is the result.

    Raises InvalidNameError and InvalidMetadataError before anything is read; SourceChangedError for a file
    that was added with policy "immutable" and is not as it was; TypeConflictError, StorageError,
    CatalogError.
    """
    wanted = tuple(check_alias(alias) for alias in as_names(aliases))
    tagged = tuple(check_tag(tag) for tag in as_names(tags))
    with draft.lock:
        if draft.committed is not None:
            return draft.committed  # by another thread, while this one waited
        metadata = check_metadata(draft.metadata)
        with _batch(draft, target) as batch:
            files = _settle(draft, batch, target.session.settings.worker_count)
            while True:
                built, expect_latest = _build(draft, files, target)
                for _, data in built.objects:
                    batch.put_bytes(data)
                batch.sync()
                try:
                    committed = target.session.catalog.commit(
                        NewVersion(
                            target.entity,
                            target.project,
                            draft.name,
                            draft.type,
                            built.root,
                            built.totals.size,
                            built.totals.file_count,
                            draft.description,
                            metadata,
                            wanted,
                            tagged,
                            target.run_id,
                            target.history_step,
                            expect_latest,
                            draft.ttl,
                            target.session.settings.allow_protected,
                        )
                    )
                    break
                except LatestMovedError:
                    # Only an incremental draft expects anything; it is built again upon what is latest now.
                    continue
        draft.committed = committed
        draft.finalized = True
        draft.close()
    return committed


@contextmanager
def _batch(draft: DraftArtifact, target: LogTarget) -> Iterator[StoreBatch]:
    """The batch of the target's store that has, or gets, the bytes the draft holds already."""
    deposit = draft.deposit
    store = target.session.store
    if deposit is not None and deposit.session.store.root == store.root:
        yield deposit.batch
        return
    with store.begin((target.entity, target.project)) as batch:
        if deposit is not None:
            for _, item in draft.items.items():
                if isinstance(item, FileEntry):
                    content = Content(item.digest, item.size, item.blocks.hex())
                    batch.put_file(deposit.session.store.path_of(item.digest), expect=content)
        yield batch


def _settle(draft: DraftArtifact, batch: StoreBatch, workers: int) -> dict[str, Entry]:
    """All entries of the draft, after the bytes of those that were only noted are in the store, too."""
    entries: dict[str, Entry] = {}
    pending: list[tuple[str, Pending]] = []
    for path, item in draft.items.items():
        if isinstance(item, Pending):
            pending.append((path, item))
        else:
            entries[path] = item

    if pending:
        with told() as on_progress:
            entries.update(_put_pending(pending, batch, workers, on_progress))
    return entries


def _put_pending(
    pending: list[tuple[str, Pending]], batch: StoreBatch, workers: int, on_progress: OnProgress | None
) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    ahead = Ahead(workers)
    meter = Meter(on_progress, "save", len(pending), sum(item.size for _, item in pending))
    go_on = ahead.count(meter)

    def put(path: str, item: Pending) -> tuple[str, FileEntry]:
        item.check()
        content = batch.put_file(item.path, expect=item.content, on_bytes=go_on)
        item.check()
        return path, item.entry(path, content)

    def put_group(group: list[tuple[str, Pending]]) -> list[tuple[str, FileEntry]]:
        return [put(path, item) for path, item in group]

    with meter, closing(ahead.run(in_groups(pending, lambda pair: pair[1].size, put_group))) as done:
        for part in done:
            entries.update(part)
            meter.advance(len(part))
    return entries


def _build(
    draft: DraftArtifact, files: dict[str, Entry], target: LogTarget
) -> tuple[BuiltManifest, int | None]:
    """The trees of the new version, and which index `latest` must still have for them to be right (None:
    any)."""
    empty_dirs = draft.items.empty_dirs()
    if not draft.incremental:
        return build_manifest(files, empty_dirs), None
    try:
        latest = target.session.catalog.resolve(target.entity, target.project, draft.name, "latest")
    except NotFoundError:
        return build_manifest(files, empty_dirs), -1
    base = Manifest(target.session.pages, latest.version.digest)
    changes: dict[str, Entry | None] = dict(files)
    for path in empty_dirs:
        if base.get(path) is None:
            changes[path] = build_tree(()).as_entry(b"-")
    return edit(base, changes), latest.index
