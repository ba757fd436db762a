"""Ways into an artifact: files and directories into a draft, and a draft into a version."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

from artfs.api.draft import Deposit, DraftArtifact, Item, Pending, Policy, StrPath, check_policy
from artfs.api.manifest import ManifestEntry
from artfs.api.session import Session
from artfs.api.telling import told
from artfs.errors import (
    ArtifactFinalizedError,
    ConflictError,
    InvalidArgumentError,
    LatestMovedError,
    NotFoundError,
    SourceChangedError,
)
from artfs.model.blocklist import decode_block_list
from artfs.model.edit import BuiltManifest, build_manifest
from artfs.model.entry import DirEntry, Entry, FileEntry, LinkEntry
from artfs.model.ignore import IgnoreRules
from artfs.model.manifest import Manifest, edit
from artfs.model.metadata import check_metadata
from artfs.model.names import check_alias, check_path, check_tag
from artfs.model.pages import EMPTY_TREE, build_tree
from artfs.model.records import Committed, Content, NewPart, NewVersion, Part
from artfs.store.base import BlobStore, StoreBatch
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
    try:
        status = os.stat(local)
    except OSError as error:
        raise InvalidArgumentError(f"cannot add {local}: {error.strerror}") from None
    except ValueError as error:
        raise InvalidArgumentError(f"cannot add {local!r}: {error}") from None
    if not stat.S_ISREG(status.st_mode):
        raise InvalidArgumentError(f"cannot add {local}: it is not a file" + _use_add_dir(status))
    path = check_path(name or os.path.basename(local))
    item: FileEntry | Pending = Pending.of(local, status)
    if how == "mutable":
        with told() as on_progress, draft.depositing() as deposit:
            raw = os.fsencode(path.rpartition("/")[2])
            item = push_file(deposit.batch, local, name=raw, on_progress=on_progress)
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
    with draft.depositing() as deposit:
        workers = deposit.session.settings.worker_count
        with told() as on_progress:
            pushed = push_directory(
                deposit.batch, root, ignore=IgnoreRules.none(), on_progress=on_progress, workers=workers
            )
        items: list[tuple[str, Item]] = []
        empty_dirs = [""] if pushed.root == EMPTY_TREE else []
        for path, entry in Manifest(deposit.pages, pushed.root).walk(include_dirs=True):
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
    top, rules = root_place(root), IgnoreRules.none()
    todo = [top]
    while todo:
        place = todo.pop()
        found = list_directory(place, rules)
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
    check_bad(top, bad, rules)
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
    distributed_id: str | None = None,
) -> Committed:
    """Makes the draft a version: everything is durable when this returns, and nothing is visible when it
    raises (the draft is then as it was). When `latest` has the same content, that version is the result.

    `distributed_id`: the version also holds all parts that were added under it (see `add_part`). Where several have a
    path, what came later counts, and the draft's own content last.

    Raises InvalidNameError and InvalidMetadataError before anything is read; SourceChangedError for a file
    that was added with policy "immutable" and is not as it was; TypeConflictError, StorageError,
    CatalogError.
    """
    wanted = tuple(check_alias(alias) for alias in as_names(aliases))
    tagged = tuple(check_tag(tag) for tag in as_names(tags))
    with draft.lock:
        if draft.committed is not None:
            return draft.committed  # by another thread, while this one waited
        if draft.is_part and distributed_id is None:
            raise ArtifactFinalizedError(
                f"the artifact {draft.name} is a part of a version that run.finish_artifact makes; it is none by itself",
                "log_artifact",
            )
        metadata = check_metadata(draft.metadata)
        with _batch(draft, target) as batch:
            files = _settle(draft, batch, target.session.settings.worker_count)
            while True:
                parts = _parts(target, draft, distributed_id)
                built, expect_latest = _build(draft, files, parts, target)
                for _, data in built.objects:
                    batch.put_page(data)
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
                            as_names([*wanted, *(alias for part in parts for alias in part.aliases)]),
                            tagged,
                            target.run_id,
                            target.history_step,
                            expect_latest,
                            draft.ttl,
                            target.session.settings.allow_protected,
                            distributed_id,
                            tuple(part.id for part in parts),
                        )
                    )
                    break
                except LatestMovedError:
                    # An incremental draft, or one with parts: it is built again upon what is there now.
                    continue
        draft.committed = committed
        draft.finalized = True
        draft.close()
    return committed


def add_part(
    target: LogTarget, draft: DraftArtifact, aliases: str | Iterable[str] | None, distributed_id: str
) -> None:
    """Keeps the draft's content as a part of a version that `log_draft` makes later; the draft is finalised then.

    Durable when this returns; nothing is kept when it raises. Raises what `log_draft` raises.
    """
    wanted = tuple(check_alias(alias) for alias in as_names(aliases))
    with draft.lock:
        draft.check_open("upsert_artifact")
        with _batch(draft, target) as batch:
            built = build_manifest(_settle(draft, batch, target.session.settings.worker_count), draft.items.empty_dirs())
            for _, data in built.objects:
                batch.put_page(data)
            batch.sync()
            # While the store's lock is held: from here on the catalog says that the bytes are needed.
            target.session.catalog.add_part(
                NewPart(
                    target.entity, target.project, draft.name, draft.type, distributed_id, built.root, wanted, target.run_id
                )
            )
        draft.finalized = draft.is_part = True
        draft.close()


def _parts(target: LogTarget, draft: DraftArtifact, distributed_id: str | None) -> list[Part]:
    if distributed_id is None:
        return []
    found = target.session.catalog.parts(target.entity, target.project, draft.name, distributed_id)
    if draft.is_part and not found:
        raise ConflictError(
            f"no part of {draft.name} waits under {distributed_id!r}: another run has made the version of them"
        )
    return found


@contextmanager
def _batch(draft: DraftArtifact, target: LogTarget) -> Iterator[StoreBatch]:
    """The batch of the target's store that has, or gets, the bytes the draft holds already."""
    deposit = draft.deposit
    store = target.session.store
    if deposit is not None and deposit.store.root == store.root:
        yield deposit.batch
        return
    with store.begin((target.entity, target.project)) as batch:
        files = {item.digest: item for _, item in draft.items.items() if isinstance(item, FileEntry)}
        mine = _carry(files, deposit, batch) if deposit is not None else []
        yield batch
        if deposit is not None and deposit.scratch is not None:
            # The cache may have them now.
            for entry in mine:
                batch.keep(deposit.scratch.path_of(entry.digest), entry.content)


def _carry(files: dict[str, FileEntry], deposit: Deposit, batch: StoreBatch) -> list[FileEntry]:
    """Puts what the draft holds into another batch. Returns what was in the draft's own store."""
    scratch = deposit.scratch
    mine: list[FileEntry] = []
    others: list[FileEntry] = []
    for entry in files.values():
        (mine if scratch is not None and scratch.try_size(entry.digest) is not None else others).append(entry)
    if scratch is not None:
        for entry in mine:
            # Hashed when it was added, and nobody else writes there.
            batch.adopt_file(scratch.path_of(entry.digest), entry.content, _block_objects(scratch, entry.content))
    lacking = batch.lacks([entry.digest for entry in others])
    for entry in others:
        if entry.digest in lacking:
            fd = deposit.session.store.open_blob(entry.digest, entry.content)
            try:
                batch.put_file(f"/proc/self/fd/{fd}", expect=entry.content)
            finally:
                os.close(fd)
    return mine


def _block_objects(store: BlobStore, content: Content) -> tuple[bytes, ...]:
    """What `encode_block_list` made of it."""
    if not content.blocks:
        return ()
    top = store.read(content.blocks)
    lower = decode_block_list(content.blocks, top, content.size).lower
    return (store.read(lower.hex()), top) if lower else (top,)


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
    draft: DraftArtifact, files: dict[str, Entry], parts: list[Part], target: LogTarget
) -> tuple[BuiltManifest, int | None]:
    """The trees of the new version, and which index `latest` must still have for them to be right (None:
    any)."""
    empty_dirs = draft.items.empty_dirs()
    if parts:
        # What was a part already has given its content; its own blobs are no longer held by the draft.
        own, files = ({} if draft.is_part else files), {}
        for part in parts:
            for path, entry in Manifest(target.session.pages, part.digest).walk(include_dirs=True):
                if not isinstance(entry, DirEntry):
                    files[path] = entry
                elif entry.digest == EMPTY_TREE:
                    empty_dirs.append(path)
        files.update(own)
    if not draft.incremental:
        return build_manifest(files, empty_dirs), None
    try:
        latest = target.session.catalog.resolve(target.entity, target.project, draft.name, "latest")
    except NotFoundError:
        return build_manifest(files, empty_dirs), -1
    base = Manifest(target.session.pages, latest.version.digest)
    for path in files:
        if isinstance(base.get(path), DirEntry):
            raise ConflictError(
                f"{path!r} is a directory of {latest.qualified_name}, which an incremental artifact adds to; a file cannot "
                "have the same path"
            )
    changes: dict[str, Entry | None] = dict(files)
    for path in empty_dirs:
        if base.get(path) is None:
            changes[path] = build_tree(()).as_entry(b"-")
    return edit(base, changes), latest.index
