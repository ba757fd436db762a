"""Garbage collection of a server, beside everything that goes on: nobody waits for it, and it takes nothing that a version needs,
or that somebody is about to commit.

What keeps a blob in a project:
- a *root*: a version (or a part of one to come) in the project or linked to it, also one that was deleted less than the grace
  period ago, whose readers may not have noticed. All below it is marked.
- a *touch* in the grace period: it was sent, asked for by "missing?", or looked at by a commit's check. A commit counts on
  nothing that it has not touched, but for what is below a closed page (closure.py), and so
- a closed page that was touched keeps all below it.

The order of the steps makes the last rule hold while others touch and close:

1. The horizon is the grace period before now (and a little: ledger.touch_every_us). Roots are read, and marked.
2. Pages that are neither marked nor touched since the horizon are opened: a commit that meets one from now on looks below it.
   Each batch looks at the touch again, under the write lock.
3. The pages that are still closed and not marked were touched. They are marked with all below them. A page that is closed after
   this was closed by a check that touched all that it counted on, and whose closed pages were marked or in this step already.
4. Rows that are neither marked, nor touched since the horizon, nor closed are removed; each batch looks again.
5. Uploads that nobody went on with, blobs and packs that no project has: first the row, then the object. Whoever dies in
   between leaves an object without a row.
6. Packs of which less than half is needed, and many small ones, are written anew; the old one goes an hour later, because URLs
   were told.
7. Objects that belong to no row and are older than the grace period are deleted: those of 5, and what writers that died left.

Two collections at once do the same twice, and no harm.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice

from artfs.catalog.base import Catalog
from artfs.catalog.blobledger import BATCH, NewPack, Packed, PackUse, Row, new_pack_key, part_keys
from artfs.errors import BadBlobError, BlobMissingError, CorruptError, UsageError
from artfs.model.digests import digest_bytes
from artfs.model.records import Member
from artfs.server import identity
from artfs.server.blobservice import URL_S, BlobService
from artfs.server.reachable import batches, reachable
from artfs.store.sweep import Marks
from artfs.wire.frames import HEAD_NBYTES, encode_frames

GRACE_S = 24 * 3600.0
MIN_GRACE_S = 3600.0
"""Default and shortest grace period, in seconds."""

ROWS_AT_ONCE = 2000
"""Rows that one transaction changes: commits wait for it."""

ROWS_READ = 20_000

OBJECTS_AT_ONCE = 1000
PACK_NBYTES = 64 * 1024 * 1024
SMALL_PACK = 4 * 1024 * 1024
MANY_SMALL = 8
"""So many packs smaller than SMALL_PACK bytes of one project are joined, and no fewer."""

_EXPIRED_AT_ONCE = 50

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Collected:
    """What a collection did, or with `dry_run` would have.

    Attributes:
        expired: versions whose time was up, as they were.
        kept, kept_nbytes, removed, removed_nbytes: blobs of projects; one that several have counts for each.
        objects: that were deleted from the bucket, without those without a row.
        orphans, orphans_nbytes: objects without a row that were deleted.
        moved: packs that were written anew.
        uploads: that were given up.
        unread: projects of which nothing was removed, because a tree that they need cannot be read.
    """

    dry_run: bool = False
    expired: list[Member] = field(default_factory=list)
    kept: int = 0
    kept_nbytes: int = 0
    removed: int = 0
    removed_nbytes: int = 0
    objects: int = 0
    orphans: int = 0
    orphans_nbytes: int = 0
    moved: int = 0
    uploads: int = 0
    unread: list[str] = field(default_factory=list)


def collect_garbage(
    catalog: Catalog, service: BlobService, *, grace_s: float = GRACE_S, dry_run: bool = False,
    on_step: Callable[[str], None] = lambda step: None, least_grace_s: float = MIN_GRACE_S,
) -> Collected:
    """One collection. `on_step`: told in one line what is done now. `least_grace_s`: for tests.

    Raises UsageError for a grace period that is too short; UnavailableError, CatalogError, StorageError when the database or the
    bucket fails: what was done stays done, and the next collection goes on.
    """
    if grace_s < least_grace_s:
        raise UsageError(f"a grace period of {grace_s:g} s is too short: at least {least_grace_s:g}")
    run = _Run(service, grace_s, Collected(dry_run))
    if not dry_run:
        on_step("deleting versions whose time is up")
        while portion := catalog.expire(_EXPIRED_AT_ONCE):
            run.done.expired += portion
    on_step("marking what versions need")
    run.mark_roots()
    on_step("marking what is being worked on")
    run.open_trees()
    run.mark_closed_trees()
    on_step("removing what nobody needs")
    run.sweep_rows()
    if not dry_run:
        run.sweep_objects()
        on_step("writing packs anew")
        run.move_packs()
        on_step("looking for objects that belong to nothing")
    run.sweep_orphans()
    return run.done


class _Run:
    def __init__(self, service: BlobService, grace_s: float, done: Collected) -> None:
        self._service = service
        self._ledger = service.ledger
        self._bucket = service.bucket
        self.done = done
        now = self._ledger.now()
        grace_us = round(grace_s * 1_000_000)
        self._roots_since = now - grace_us
        self._before = now - grace_us - self._ledger.touch_every_us
        self._unlinked_before = now - min(grace_us, round(URL_S * 1_000_000))
        self._orphans_before_s = (now - grace_us) / 1_000_000
        self._marks: dict[int, Marks] = {}
        self._pages: dict[int, set[str]] = {}
        self._unread: set[int] = set()

    # marking ----------------------------------------------------------------------------------------------------
    def mark_roots(self) -> None:
        roots = sorted(self._ledger.roots(self._roots_since))
        for project_id, some in groupby(roots, key=lambda root: root.project_id):
            self._mark(project_id, [root.digest for root in some])

    def mark_closed_trees(self) -> None:
        closed: dict[int, list[str]] = {}
        for row in self._rows(closed=True):
            if not self._is_marked(row) and (not self.done.dry_run or row.touched_at >= self._before):
                closed.setdefault(row.project_id, []).append(row.digest)
        for project_id, digests in closed.items():
            self._mark(project_id, digests)

    def _mark(self, project_id: int, roots: Sequence[str]) -> None:
        try:
            self._mark_below(project_id, roots)
        except (BlobMissingError, CorruptError) as error:
            project = self._ledger.project_by_id(project_id)
            name = f"{project.entity}/{project.name}" if project else str(project_id)
            log.error("nothing of %s is removed, as it is not known what it needs: %s", name, error)
            self._unread.add(project_id)
            self.done.unread.append(name)

    def _mark_below(self, project_id: int, roots: Sequence[str]) -> None:
        marks = self._marks.setdefault(project_id, Marks())
        seen = self._pages.setdefault(project_id, set())
        for digest in reachable(self._service, project_id, roots, seen):
            marks.add(digest)

    # sweeping ---------------------------------------------------------------------------------------------------
    def open_trees(self) -> None:
        if self.done.dry_run:
            return
        stale = (row for row in self._rows(closed=True) if self._is_stale(row))
        for project_id, some in _by_project(stale):
            self._ledger.open_trees(project_id, some, self._before)

    def sweep_rows(self) -> None:
        stale: list[Row] = []
        for row in self._rows():
            if self._is_stale(row):
                stale.append(row)
                self.done.removed += 1
                self.done.removed_nbytes += row.size
                if len(stale) >= BATCH:
                    self._remove(stale)
                    stale.clear()
            else:
                self.done.kept += 1
                self.done.kept_nbytes += row.size
        self._remove(stale)

    def _remove(self, rows: list[Row]) -> None:
        if self.done.dry_run:
            return
        for project_id, some in _by_project(rows):
            gone = self._ledger.remove(project_id, some, self._before)
            # Those that somebody touched in between. Their sizes are not worth a query.
            self.done.removed -= len(some) - gone
            self.done.kept += len(some) - gone

    def sweep_objects(self) -> None:
        while uploads := self._ledger.stale_uploads(self._before, OBJECTS_AT_ONCE):
            self.done.uploads += sum(not upload.is_done for upload in uploads)
            for upload in uploads:
                if not upload.is_done:
                    self._delete(part_keys(upload.key, upload.size, upload.part_size))
        while blobs := self._ledger.remove_blobs(OBJECTS_AT_ONCE):
            self._delete([key for blob in blobs for key in part_keys(*blob)])
        while packs := self._ledger.remove_packs(OBJECTS_AT_ONCE, self._unlinked_before):
            self._delete(packs)

    def _delete(self, keys: list[str]) -> None:
        for some in batches(keys, OBJECTS_AT_ONCE):
            self._bucket.delete(some)
            self.done.objects += len(some)

    def sweep_orphans(self) -> None:
        old = (
            each
            for each in self._bucket.objects()
            if each.modified < self._orphans_before_s and not each.key.startswith(identity.PREFIX)
        )
        while some := list(islice(old, OBJECTS_AT_ONCE)):
            unknown = self._ledger.unknown_keys([each.key for each in some])
            self.done.orphans += len(unknown)
            self.done.orphans_nbytes += sum(each.size for each in some if each.key in unknown)
            if unknown and not self.done.dry_run:
                self._bucket.delete(sorted(unknown))

    # packs ------------------------------------------------------------------------------------------------------
    def move_packs(self) -> None:
        packs = self._ledger.packs_to_move(SMALL_PACK, self._before, HEAD_NBYTES)
        for _, some in groupby(packs, key=lambda pack: pack.project_id):
            for group in _groups(list(some)):
                try:
                    self._move(group)
                except (BlobMissingError, CorruptError) as error:
                    log.error("the pack %s cannot be written anew: %s", group[0].key, error)

    def _move(self, group: list[PackUse]) -> None:
        pieces: list[bytes | bytearray | memoryview] = []
        blobs: dict[str, Packed] = {}
        at = 0
        for pack in group:
            wanted = [each for each in self._ledger.pack_blobs(pack.id) if each.digest not in blobs]
            ranges = [(each.offset, each.size) for each in wanted]
            for each, data in zip(wanted, self._bucket.read(pack.key, ranges), strict=True):
                if digest_bytes(data) != each.digest:
                    raise BadBlobError(f"blob {each.digest} is damaged in the pack {pack.key}", each.digest)
                pieces += encode_frames([(each.digest, data)])
                blobs[each.digest] = Packed(each.digest, each.size, at + HEAD_NBYTES)
                at += HEAD_NBYTES + each.size
        if not blobs:
            return
        new = NewPack(new_pack_key(), at, list(blobs.values()))
        self._bucket.put(new.key, b"".join(pieces))
        if self._ledger.move_packs([pack.id for pack in group], new):
            self.done.moved += len(group)
        else:
            self._bucket.delete([new.key])

    # ------------------------------------------------------------------------------------------------------------
    def _rows(self, *, closed: bool = False) -> Iterator[Row]:
        after: Row | None = None
        while rows := self._ledger.rows(after, ROWS_READ, closed=closed):
            yield from rows
            after = rows[-1]

    def _is_marked(self, row: Row) -> bool:
        if row.project_id in self._unread:
            return True
        marks = self._marks.get(row.project_id)
        return marks is not None and row.digest in marks

    def _is_stale(self, row: Row) -> bool:
        return row.touched_at < self._before and not self._is_marked(row)


def _by_project(rows: Iterable[Row]) -> Iterator[tuple[int, list[str]]]:
    """Digests of one project each, so many that a transaction is short."""
    waiting: dict[int, list[str]] = {}
    for row in rows:
        digests = waiting.setdefault(row.project_id, [])
        digests.append(row.digest)
        if len(digests) >= ROWS_AT_ONCE:
            yield row.project_id, waiting.pop(row.project_id)
    yield from waiting.items()


def _groups(packs: list[PackUse]) -> Iterator[list[PackUse]]:
    """Packs of one project that become one. What is used of a group fits into a pack."""
    sparse = [pack for pack in packs if pack.used * 2 < pack.size]
    small = [pack for pack in packs if pack.size < SMALL_PACK and pack.used * 2 >= pack.size]
    if len(small) >= MANY_SMALL:
        sparse += small
    group: list[PackUse] = []
    nbytes = 0
    for pack in sparse:
        if group and nbytes + pack.used > PACK_NBYTES:
            yield group
            group, nbytes = [], 0
        group.append(pack)
        nbytes += pack.used
    if group:
        yield group
