"""A garbage collection that a call began: what is told of it while it runs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from artfs.catalog import open_catalog
from artfs.catalog.base import Catalog
from artfs.catalog.sql.ledger.blobledger import SqlBlobLedger
from artfs.catalog.sql.ledger.ledger import SqlLedger
from artfs.errors import ArtfsError, NotFoundError
from artfs.model.access import COMMAND_LINE
from artfs.server.blobservice import BlobService
from artfs.server.gc import Collected, collect_garbage
from artfs.server.identity import bind
from artfs.server.longcall import LongCall
from artfs.store.bucket import open_bucket
from artfs.wire.messages import CollectedCounts, CollectLine, CollectRequest

log = logging.getLogger(__name__)


def collection(catalog: Catalog, service: BlobService, asked: CollectRequest) -> LongCall[CollectLine]:
    def work(tell: Callable[[CollectLine], None]) -> CollectLine:
        try:
            done = collect_garbage(
                catalog, service, grace_s=asked.grace_s, dry_run=asked.dry_run, on_step=lambda step: tell(CollectLine(step))
            )
        except ArtfsError as error:
            log.warning("garbage collection: %s", error)
            raise
        return CollectLine(done=counts_of(done))

    return LongCall("artfs-gc", CollectLine("beginning"), work, lambda error: CollectLine(error=error))


def counts_of(done: Collected) -> CollectedCounts:
    return CollectedCounts(
        [member.qualified_name for member in done.expired], done.removed, done.removed_nbytes, done.kept, done.kept_nbytes,
        done.objects, done.orphans, done.orphans_nbytes, done.moved, done.uploads, done.unread,
    )


def collect_beside(
    database: str | Path, blobs: str | Path, *, grace_s: float, dry_run: bool, on_step: Callable[[str], None]
) -> CollectedCounts:
    """A collection in this process, beside the servers that use the database and the bucket. Raises UsageError when these do not
    belong together, NotFoundError for a database file that is not there, and what open_catalog, open_bucket and
    collect_garbage raise."""
    if "://" not in str(database) and not Path(database).exists():
        raise NotFoundError(f"there is no database {database}")
    with open_catalog(database) as catalog:
        service = BlobService(SqlBlobLedger(catalog.database), open_bucket(str(blobs)))
        try:
            bind(service.ledger, service.bucket, make=False)
            acting = SqlLedger(catalog.database).acting(COMMAND_LINE)
            return counts_of(collect_garbage(acting, service, grace_s=grace_s, dry_run=dry_run, on_step=on_step))
        finally:
            service.close()
