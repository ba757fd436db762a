"""Commit of a draft: its staged tree becomes the next version of its collection, or nothing changes.

The steps, and what a crash after each leaves (docs/semantics.md promises it):

    scan      the staged tree is read, unhashed files are hashed           the draft as it was
    journal   `sealing` lists the files that will be taken over            the draft as it was
    moving    each file gets its name in the store as well (a hard link)   the draft, whole; see `recover`
    trees     tree pages are put into the store                            the same, with unreferenced blobs
    syncing   everything new is made durable, once                         the same
    catalog   one transaction names the version                            the version; the draft's folder may still
    be there removing  the draft's folder goes                                      the version

`journal.recover` finishes or takes back an interrupted commit: a file whose staged name and name in the store are one inode
becomes a stand-in, so that nobody can change a blob through the draft.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
from collections.abc import Callable

from artfs.catalog.base import Catalog
from artfs.errors import (
    BlobMissingError,
    DraftBusyError,
    DraftInvalidError,
    LatestMovedError,
    NotFoundError,
    StorageError,
)
from artfs.model.records import Committed, Member, NewVersion
from artfs.model.ttl import parse_ttl
from artfs.store.base import LocalStore, ResendingStore, StoreBatch
from artfs.store.staging import StagedDraft
from artfs.transfer.journal import Row, append_rows, latest_of, made_since, moved_since, recover, try_asked
from artfs.transfer.progress import Meter, OnProgress, sync
from artfs.transfer.staged import SHOWN, OwnFile, StagedScan, page_source, paths_with, some_of
from artfs.wire.control import CommitOptions, CommitReply, Progress

log = logging.getLogger(__name__)


def commit_draft(
    catalog: Catalog,
    store: LocalStore,
    draft: StagedDraft,
    options: CommitOptions,
    *,
    busy: tuple[str, ...] = (),
    on_progress: OnProgress | None = None,
    workers: int = 2,
    run_id: str | None = None,
    check: Callable[[], None] = lambda: None,
) -> CommitReply:
    """Makes the draft the next version of its collection, durable when this returns; the draft is gone then.

    Arguments:
        options: what the version is told; what it leaves out comes from the draft itself.
        busy: files that are open for writing (a daemon knows); not empty: DraftBusyError.
        on_progress: called with phases "hashing", "moving", "trees", "syncing", "catalog".
        run_id: the run that logs it.
        check: called once nobody can begin to serve the draft any more; raises when somebody does already.
    What the draft inherited and a server has swept since is sent again from this machine's cache.
    Raises DraftBusyError, DraftInvalidError (also for inherited files that are nowhere any more), LatestMovedError,
    TypeConflictError, InvalidNameError, StorageError, CatalogError, and SourceChangedError; then the draft is there, whole, and
    no version was made.
    """
    if busy:
        raise DraftBusyError(
            f"files of the draft {draft.label} are open for writing: {some_of(busy)}; close them and commit again", busy
        )
    with draft.locked():
        if not draft.path.exists():
            raise DraftBusyError(f"the draft {draft.label} was just committed or abandoned")
        check()
        if recover(store, draft, catalog):
            raise NotFoundError(f"the draft {draft.label} had been committed already; there is nothing to commit")
        with store.begin((draft.info.entity, draft.info.project)) as batch:
            try:
                reply, taken = _commit(catalog, store, batch, draft, options, on_progress, workers, run_id)
            except BaseException:
                # A full disk may refuse this, too; the journal stays then, and whoever comes next tries again.
                with contextlib.suppress(StorageError):
                    recover(store, draft)
                raise
            for own in taken:
                if own.content is not None:
                    batch.keep(os.fsdecode(own.path), own.content)
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
    on_progress: OnProgress | None,
    workers: int,
    run_id: str | None,
) -> tuple[CommitReply, list[OwnFile]]:
    """What to answer, and the files that were taken over."""
    info = draft.info
    _say(on_progress, "scanning")
    latest = latest_of(catalog, draft)
    moved = moved_since(draft, latest)
    asked = try_asked(draft)
    made = made_since(catalog, draft, asked) if asked is not None and moved else None
    is_refused = moved and info.base_digest is not None and not options.force
    if is_refused and made is None:
        raise _overtaken(draft, latest)
    try:
        scan = StagedScan(draft, page_source(store), on_progress)
        scan.check()
        scan.hash_files(workers)
        built = scan.build()
    except BlobMissingError as error:
        raise _base_is_gone(draft, ()) from error
    if made is not None and made.version.digest == built.digest:
        log.info("draft %s had been committed as %s, but the answer got lost", draft.label, made.qualified_name)
        return _reply(made, created=True, warnings=(_NOT_USED,) if _says_more(options) else ()), []
    if is_refused and made != latest:
        raise _overtaken(draft, latest)
    _take_files(store, batch, draft, scan, on_progress)
    meter = Meter(on_progress, "trees", len(scan.pages), sum(map(len, scan.pages.values())))
    for data in scan.pages.values():
        batch.put_page(data)
        meter.advance(1, len(data))
    sync(batch, on_progress, "syncing")
    append_rows(draft, [Row(b"", built.digest, built.totals.size, "", False)])
    _say(on_progress, "catalog")
    committed = _name_it(
        catalog,
        store,
        batch,
        scan,
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
            ttl=parse_ttl(options.ttl),
            allow_protected=options.allow_protected,
            expect_latest=None if options.force or info.base_digest is None else (latest.index if latest is not None else -1),
        ),
    )
    warnings = []
    if scan.ignored:
        warnings.append(f"ignored {len(scan.ignored)}: {some_of(scan.ignored)}")
    if scan.collisions:
        groups = "; ".join(scan.collisions[:SHOWN])
        warnings.append(f"names that are one name where case or Unicode form do not count: {groups}")
    moved_from = (info.base_version or "") if moved else None
    return _reply(committed.member, created=committed.created, warnings=tuple(warnings), moved_from=moved_from), scan.files


def _overtaken(draft: StagedDraft, latest: Member | None) -> LatestMovedError:
    info = draft.info
    assert latest is not None
    return LatestMovedError(
        f"`latest` of {info.project}/{info.collection} moved to v{latest.index} since this draft began from "
        f"{info.base_version}; look at `artfs draft diff`, then commit with --force to put the draft on top"
    )


_NOT_USED = "this draft had been committed before, but the answer got lost: what was given then counts, not what is given now"


def _says_more(options: CommitOptions) -> bool:
    return options != CommitOptions(force=options.force)


def _reply(member: Member, *, created: bool, warnings: tuple[str, ...], moved_from: str | None = None) -> CommitReply:
    return CommitReply(
        entity=member.entity, project=member.project, collection=member.collection, version=f"v{member.index}", created=created,
        digest=member.version.digest, size=member.version.size, file_count=member.version.file_count, aliases=member.aliases,
        warnings=warnings, moved_from=moved_from,
    )


def _name_it(catalog: Catalog, store: LocalStore, batch: StoreBatch, scan: StagedScan, new: NewVersion) -> Committed:
    """As Catalog.commit; what is missing then can only be inherited, and goes to the server again if it is here."""
    sent: set[str] = set()
    lost: set[str] = set()
    while True:
        try:
            return catalog.commit(new)
        except BlobMissingError as error:
            # Below a tree that is missing, more may be: each answer tells one level at least.
            missing = set(error.digests) - lost
            if not isinstance(store, ResendingStore) or not error.digests or not sent.isdisjoint(missing):
                raise
            if not missing:
                raise _base_is_gone(scan.draft, paths_with(scan, store, new.digest, frozenset(lost))) from error
            lost.update(store.send_again(batch, sorted(missing)))
            told = len(missing), len(lost)
            log.info("draft %s: %d inherited blobs were swept on the server; %d are nowhere", scan.draft.label, *told)
        batch.sync()
        sent.update(missing - lost)


def _base_is_gone(draft: StagedDraft, paths: tuple[str, ...]) -> DraftInvalidError:
    """`paths`: of the files that nobody has any more; () when not even they can be told."""
    what = f"files of it that this machine has not kept: {some_of(paths)}" if paths else "its list of files"
    return DraftInvalidError(
        f"{draft.info.project}/{draft.info.collection}:{draft.info.base_version}, from which the draft {draft.label} began, was "
        f"deleted and swept on the server, and with it went {what}; "
        + (
            "replace or remove them in the draft and commit again"
            if paths
            else f"what you changed is in {os.fsdecode(draft.files)}"
        ),
        paths,
    )


def _take_files(
    store: LocalStore, batch: StoreBatch, draft: StagedDraft, scan: StagedScan, on_progress: OnProgress | None
) -> None:
    rows = []
    prefix = len(draft.files) + 1
    for own in scan.files:
        assert own.content is not None
        mode, path = stat.S_IMODE(own.status.st_mode), own.path[prefix:]
        executable = bool(mode & stat.S_IXUSR)
        rows.append(Row(path, own.content.digest, own.content.size, own.content.blocks, executable, mode))
    append_rows(draft, rows)
    meter = Meter(on_progress, "moving", len(scan.files), sum(own.status.st_size for own in scan.files))
    for own in scan.files:
        content = own.content
        assert content is not None
        # One that was copied up from a blob and not changed since has no block list; mostly the store has it still.
        if content.blocks and not own.block_objects and store.try_size(content.digest) != content.size:
            scan.hash_again(own)
        if own.block_objects or not content.blocks:
            batch.adopt_file(os.fsdecode(own.path), content, own.block_objects)
        meter.advance(1, content.size)


def _say(on_progress: OnProgress | None, phase: str) -> None:
    if on_progress is not None:
        on_progress(Progress(phase, 0, 0, 0, 0))
