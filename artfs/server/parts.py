"""What `artfs serve` serves: a database and a bucket, opened."""

from __future__ import annotations

import multiprocessing
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from artfs.catalog import open_catalog
from artfs.catalog.sql.ledger.blobledger import SqlBlobLedger
from artfs.catalog.sql.ledger.ledger import SqlLedger
from artfs.errors import ArtfsError, UsageError
from artfs.server.blobs import Blobs
from artfs.server.blobservice import BlobService
from artfs.server.calls import ServerParts
from artfs.server.commitgate import CommitGate
from artfs.server.housekeeping import Housekeeping
from artfs.server.identity import bind
from artfs.store.bucket import open_bucket
from artfs.wire.errors import error_fields, error_from


@dataclass(frozen=True, slots=True)
class Places:
    """`database`: what open_catalog takes. `blobs`: the bucket's URL or folder."""

    database: str | Path
    blobs: str | Path


def prepare(places: Places, *, migrate: bool, is_exposed: bool) -> bool:
    """Makes or migrates the database when that is wanted, and tries the bucket, before any process serves from them. Returns
    whether there are tokens.

    `is_exposed`: others than this machine can reach the server. Raises UsageError when it is, and there are no tokens; what
    open_catalog, open_bucket and bind raise.
    """
    with open_catalog(places.database, migrate=True if migrate else None) as catalog:
        has_tokens = bool(SqlLedger(catalog.database).tokens())
    if is_exposed and not has_tokens:
        raise UsageError(
            "other machines could reach this server, and it has no tokens yet: make one with `artfs token create NAME --admin`, "
            "or listen on 127.0.0.1"
        )
    _try_bucket(places)
    return has_tokens


def _try_bucket(places: Places) -> None:
    """Raises what a worker would end with, again and again, with a traceback. In a process of its own, as workers are forked, and
    threads of a bucket's client do not outlive that."""
    receiving, sending = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=_bind_once, args=(places, sending))
    child.start()
    sending.close()
    try:
        told: dict[str, Any] | None = receiving.recv()
    except EOFError:
        told = None  # it was killed, or met a bug: workers will tell
    finally:
        child.join()
        receiving.close()
    if told is not None:
        raise error_from(told)


def _bind_once(places: Places, sending: Connection) -> None:
    try:
        with closing(open_bucket(str(places.blobs))) as bucket, open_catalog(places.database) as catalog:
            bind(SqlBlobLedger(catalog.database), bucket, make=True)
    except ArtfsError as error:
        sending.send(error_fields(error))
    else:
        sending.send(None)


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
