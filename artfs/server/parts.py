"""What `artfs serve` serves: a database and a bucket, opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from artfs.catalog import open_catalog
from artfs.catalog.sql.ledger.blobledger import SqlBlobLedger
from artfs.catalog.sql.ledger.ledger import SqlLedger
from artfs.errors import UsageError
from artfs.server.blobs import Blobs
from artfs.server.blobservice import BlobService
from artfs.server.calls import ServerParts
from artfs.server.commitgate import CommitGate
from artfs.server.housekeeping import Housekeeping
from artfs.server.identity import bind
from artfs.store.bucket import open_bucket


@dataclass(frozen=True, slots=True)
class Places:
    """`database`: what open_catalog takes. `blobs`: the bucket's URL or folder."""

    database: str | Path
    blobs: str | Path


def prepare(places: Places, *, migrate: bool, is_exposed: bool) -> bool:
    """Makes or migrates the database when that is wanted, before any process serves from it. Returns whether there are tokens.

    `is_exposed`: others than this machine can reach the server. Raises UsageError when it is, and there are no tokens; what
    open_catalog raises.
    """
    with open_catalog(places.database, migrate=True if migrate else None) as catalog:
        has_tokens = bool(SqlLedger(catalog.database).tokens())
    if is_exposed and not has_tokens:
        raise UsageError(
            "other machines could reach this server, and it has no tokens yet: make one with `artfs token create NAME --admin`, "
            "or listen on 127.0.0.1"
        )
    return has_tokens


def open_parts(places: Places) -> ServerParts:
    """For one process. The catalog's schema is this program's already (`prepare`)."""
    bucket = open_bucket(str(places.blobs))
    catalog = open_catalog(places.database)
    ledger = SqlLedger(catalog.database)
    service = BlobService(SqlBlobLedger(catalog.database), bucket)

    try:
        bind(service.ledger, bucket, make=True)
    except BaseException:
        service.close()
        catalog.close()
        raise
    gate = CommitGate(service, ledger)

    def ask_database() -> None:
        ledger.newest_change()

    def ask_bucket() -> None:
        bucket.try_size("probe/ready")

    keeping = Housekeeping(ledger)

    def close() -> None:
        keeping.close()
        service.close()
        catalog.close()

    keeping.start()
    return ServerParts(
        catalog, ledger, endpoints=Blobs(service, ledger).endpoints(), before_commit=gate.before_commit,
        before_link=gate.before_link, checks={"database": ask_database, "bucket": ask_bucket}, close=close,
    )
