"""SqlBlobLedger: what a server knows about bytes, in the catalog's own database. Each method is one transaction around one
function of the modules beside this one, unless it says otherwise."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice

from sqlalchemy import insert, select

from artfs.catalog import schema
from artfs.catalog.blobledger import (
    BATCH,
    Found,
    Held,
    NewObject,
    NewPack,
    Packed,
    PackUse,
    Root,
    Row,
    Upload,
    Usage,
)
from artfs.catalog.sql import names, queries, rows
from artfs.catalog.sql.engine import Database
from artfs.catalog.sql.ledger import audit, blobs, garbage, uploads
from artfs.catalog.sql.ledger.schema import server_identity
from artfs.model.access import SERVER, Actor, Token
from artfs.model.records import Project

TOUCH_EVERY_US = 10 * 60 * 1_000_000

_p = schema.projects


class SqlBlobLedger:
    """artfs.catalog.blobledger.BlobLedger says what the methods do. The database is whoever's gave it, who closes it."""

    def __init__(self, database: Database, *, touch_every_us: int = TOUCH_EVERY_US) -> None:
        self._db = database
        self._touch_every_us = touch_every_us

    @property
    def touch_every_us(self) -> int:
        return self._touch_every_us

    def now(self) -> int:
        with self._db.ask() as conn:
            return self._db.now(conn)

    def identity(self, *, make: bool = False) -> str | None:
        query = select(server_identity.c.id)
        with self._db.ask() as conn:
            found = conn.execute(query).scalar()
        if found is None and make:
            with self._db.write() as tx:
                found = tx.conn.execute(query).scalar()
                if found is None:
                    found = secrets.token_hex(16)
                    tx.conn.execute(insert(server_identity).values(id=found, created_at=tx.now))
        return None if found is None else str(found)

    # projects ---------------------------------------------------------------------------------------------------

    def project(self, entity: str, name: str, *, make: bool = False) -> Project | None:
        with self._db.ask() as conn:
            found = rows.find_project(conn, entity, name)
        if found is None and make:
            with self._db.write() as tx:
                return names.create_project(tx, entity, name)
        return found

    def project_by_id(self, project_id: int) -> Project | None:
        found = self._projects(project_id)
        return found[0] if found else None

    def projects(self) -> list[Project]:
        return self._projects()

    def _projects(self, project_id: int | None = None) -> list[Project]:
        query = select(_p).order_by(_p.c.id)
        if project_id is not None:
            query = query.where(_p.c.id == project_id)
        with self._db.ask() as conn:
            found = conn.execute(query).all()
        return [Project(row.id, row.entity, row.name, queries.to_time(row.created_at)) for row in found]

    def set_quota(self, project_id: int, quota: int | None, *, by: Actor = SERVER) -> None:
        with self._db.write() as tx:
            entity, name = blobs.set_quota(tx, project_id, quota)
            audit.add(tx, by, "set_quota", entity=entity, project=name, detail={"nbytes": quota})

    def usage(self, project_id: int) -> Usage:
        with self._db.ask() as conn:
            return blobs.usage(conn, project_id)

    # reading ----------------------------------------------------------------------------------------------------

    def find(self, reader: Token | None, digests: Sequence[str], project_id: int | None = None) -> dict[str, Found]:
        if not digests:
            return {}
        with self._db.ask() as conn:
            return blobs.find(conn, reader, digests, project_id)

    def reads_object(self, reader: Token | None, key: str) -> int | None:
        with self._db.ask() as conn:
            return blobs.reads_object(conn, reader, key)

    # writing ----------------------------------------------------------------------------------------------------

    def hold(self, project_id: int, digests: Collection[str]) -> dict[str, Held]:
        """In batches of BATCH, each in a transaction or two: a reading one, and a writing one for rows whose last touch is a
        while ago. What the second finds counts: such a row may have gone, or ceased to be closed, in between."""
        found: dict[str, Held] = {}
        for some in _batches(digests):
            with self._db.ask() as conn:
                here = blobs.held(conn, project_id, some)
                recent = self._db.now(conn) - self._touch_every_us
            stale = [digest for digest, (_, touched_at) in here.items() if touched_at < recent]
            shapes: dict[str, bytes | None] = {}
            if stale:
                with self._db.write() as tx:
                    shapes = blobs.touch(tx, project_id, stale)
            for digest, (held, touched_at) in here.items():
                if touched_at >= recent:
                    found[digest] = held
                elif digest in shapes:
                    found[digest] = held._replace(shape=shapes[digest])
        return found

    def add(
        self, project_id: int, pack: NewPack | None = None, objects: Sequence[NewObject] = (), *, upload: Upload | None = None
    ) -> list[NewObject]:
        with self._db.write() as tx:
            return blobs.add(tx, project_id, pack, objects, upload)

    def check_quota(self, project_id: int, nbytes: int) -> None:
        with self._db.ask() as conn:
            blobs.check_quota(conn, project_id, nbytes)

    def close_trees(self, project_id: int, shapes: Mapping[str, bytes]) -> None:
        for some in _batches(shapes):
            with self._db.write() as tx:
                blobs.close_trees(tx, project_id, {digest: shapes[digest] for digest in some})

    def share(self, source_id: int, target_id: int, digests: Collection[str]) -> set[str]:
        missing: set[str] = set()
        for some in _batches(digests):
            with self._db.write() as tx:
                missing |= blobs.share(tx, source_id, target_id, some)
        return missing

    # uploads ----------------------------------------------------------------------------------------------------

    def begin_upload(self, project_id: int, digest: str, size: int, part_size: int, key: str) -> Upload:
        with self._db.write() as tx:
            return uploads.begin(tx, project_id, digest, size, part_size, key)

    def upload(self, upload_id: str) -> Upload | None:
        with self._db.read() as conn:
            return uploads.find(conn, upload_id)

    def promise_part(self, upload_id: str, number: int, sha256: str) -> bool:
        with self._db.write() as tx:
            return uploads.promise_part(tx, upload_id, number, sha256)

    def add_parts(self, upload_id: str, parts: Mapping[int, str]) -> None:
        with self._db.write() as tx:
            uploads.add_parts(tx, upload_id, parts)

    def drop_parts(self, upload_id: str, numbers: Collection[int]) -> None:
        with self._db.write() as tx:
            uploads.drop_parts(tx, upload_id, numbers)

    def restart_upload(self, upload: Upload, key: str) -> bool:
        with self._db.write() as tx:
            return uploads.restart(tx, upload.id, key, [upload.key])

    def drop_upload(self, upload_id: str) -> Upload | None:
        with self._db.write() as tx:
            return uploads.drop(tx, upload_id)

    # garbage collection -----------------------------------------------------------------------------------------

    def roots(self, deleted_since: int) -> list[Root]:
        with self._db.ask() as conn:
            return garbage.roots(conn, deleted_since)

    def rows(self, after: Row | None, limit: int, *, closed: bool = False) -> list[Row]:
        with self._db.ask() as conn:
            return garbage.rows(conn, after, limit, closed)

    def open_trees(self, project_id: int, digests: Collection[str], before: int) -> None:
        with self._db.write() as tx:
            garbage.open_trees(tx, project_id, digests, before)

    def remove(self, project_id: int, digests: Collection[str], before: int) -> int:
        with self._db.write() as tx:
            return garbage.remove(tx, project_id, digests, before)

    def remove_blobs(self, limit: int) -> list[tuple[str, int, int]]:
        with self._db.write() as tx:
            return garbage.remove_blobs(tx, limit)

    def remove_packs(self, limit: int, before: int) -> list[str]:
        with self._db.write() as tx:
            return garbage.remove_packs(tx, limit, before)

    def packs_to_move(self, small: int, before: int, head: int) -> list[PackUse]:
        with self._db.ask() as conn:
            return garbage.packs_to_move(conn, small, before, head)

    def pack_blobs(self, pack_id: int) -> list[Packed]:
        with self._db.ask() as conn:
            return garbage.pack_blobs(conn, pack_id)

    def move_packs(self, pack_ids: Collection[int], new: NewPack) -> bool:
        with self._db.write() as tx:
            return garbage.move_packs(tx, pack_ids, new)

    def stale_uploads(self, before: int, limit: int) -> list[Upload]:
        with self._db.write() as tx:
            return uploads.stale(tx, before, limit)

    def unknown_keys(self, keys: Collection[str]) -> set[str]:
        with self._db.read() as conn:
            return garbage.unknown_keys(conn, keys)


def _batches(digests: Iterable[str]) -> Iterator[list[str]]:
    todo = iter(digests)
    while some := list(islice(todo, BATCH)):
        yield some
