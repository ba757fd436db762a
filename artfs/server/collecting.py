"""A garbage collection that a call began: what is told of it while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Callable
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
from artfs.store.bucket import open_bucket
from artfs.wire.errors import error_fields
from artfs.wire.messages import CollectedCounts, CollectLine, CollectRequest

LINE_S = 2.0
"""How often the caller hears of us at least, in seconds."""

log = logging.getLogger(__name__)


class Collection:
    """Runs in a thread of its own to its end, whether somebody listens or not. For one event loop."""

    def __init__(self, catalog: Catalog, service: BlobService, asked: CollectRequest) -> None:
        self._catalog = catalog
        self._service = service
        self._asked = asked
        self._told = [CollectLine("beginning")]
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="artfs-gc", daemon=True)
        self._thread.start()

    @property
    def is_over(self) -> bool:
        return _is_last(self._told[-1])

    async def lines(self) -> AsyncIterator[CollectLine]:
        """Steps as they come, the current one again and again; the last line says what came of it."""
        at = 0
        while True:
            changed = self._changed
            yield self._told[at]
            if _is_last(self._told[at]):
                return
            if at + 1 == len(self._told):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LINE_S):
                        await changed.wait()
            at = min(at + 1, len(self._told) - 1)

    def _run(self) -> None:
        try:
            done = collect_garbage(
                self._catalog, self._service, grace_s=self._asked.grace_s, dry_run=self._asked.dry_run,
                on_step=lambda step: self._tell(CollectLine(step)),
            )
            self._tell(CollectLine(done=counts_of(done)))
        except ArtfsError as error:
            log.warning("garbage collection: %s", error)
            self._tell(CollectLine(error={name: str(value) for name, value in error_fields(error).items()}))
        except Exception:
            log.exception("garbage collection failed")
            self._tell(CollectLine(error={"kind": "error", "message": "the server made a mistake; its log says more"}))

    def _tell(self, line: CollectLine) -> None:
        self._told.append(line)
        with contextlib.suppress(RuntimeError):  # the loop has ended; nobody listens any more
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


def _is_last(line: CollectLine) -> bool:
    return line.done is not None or line.error is not None


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
