"""Parts of versions that are not made yet: what several runs contribute to one version."""

from __future__ import annotations

import json
from datetime import timedelta

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select

from artfs.catalog import schema
from artfs.catalog.sql import labels, names, queries, rows
from artfs.catalog.sql.engine import Writing
from artfs.errors import ConflictError, LatestMovedError, TypeConflictError
from artfs.model.digests import check_digest
from artfs.model.names import check_collection_name, check_label, check_type
from artfs.model.records import NewPart, NewVersion, Part

PARTS_LIVE = timedelta(days=30)
"""So long after the last part of a version came, nobody is believed to be going to make it."""

_p = schema.version_parts


def add(tx: Writing, new: NewPart) -> None:
    """See Catalog.add_part."""
    check_digest(new.digest)
    check_collection_name(new.collection)
    check_type(new.type, new.collection)
    check_label("distributed id", new.distributed_id)
    names.check_home_of_sequences(new.project)
    place = names.create_project(tx, new.entity, new.project)
    found = rows.find_collection(tx.conn, new.entity, new.project, new.collection)
    if found is not None and found.kind != "sequence":
        raise ConflictError(f"{new.entity}/{new.project}/{new.collection} is a portfolio: versions cannot be logged to it")
    if found is not None and found.type not in ("", new.type):
        raise TypeConflictError(
            f"{new.entity}/{new.project}/{new.collection} has the type {found.type!r}, not {new.type!r}"
        )
    if new.run_id is not None:
        rows.need_run(tx.conn, new.run_id)
    tx.conn.execute(
        insert(_p).values(
            project_id=place.id, collection=new.collection, type=new.type, distributed_id=new.distributed_id,
            digest=new.digest, aliases=json.dumps(labels.check_aliases(new.aliases)), run_id=new.run_id, created_at=tx.now,
        )
    )
    # Nobody is told: it shows nowhere before its version is there.
    tx.did("add_part", new.entity, new.project, new.collection, digest=new.digest, distributed_id=new.distributed_id)


def waiting(conn: Connection, entity: str, project: str, collection: str, distributed_id: str) -> list[Part]:
    """See Catalog.parts."""
    place = rows.find_project(conn, entity, project)
    if place is None or not rows.storable(collection, distributed_id):
        return []
    return [
        Part(id=row.id, digest=row.digest, aliases=tuple(json.loads(row.aliases)))
        for row in conn.execute(select(_p).where(*_of(place.id, collection, distributed_id)).order_by(_p.c.id))
    ]


def take(tx: Writing, new: NewVersion) -> list[str]:
    """Removes the parts that the version holds; the ids of the runs that contributed them. Raises LatestMovedError when
    they are not those that wait now."""
    if new.distributed_id is None:
        return []
    place = rows.need_project(tx.conn, new.entity, new.project)
    here = _of(place.id, new.collection, new.distributed_id)
    there = tx.conn.execute(select(_p.c.id, _p.c.run_id).where(*here).order_by(_p.c.id)).all()
    if tuple(row.id for row in there) != new.parts:
        raise LatestMovedError(f"the parts of {new.project}/{new.collection} ({new.distributed_id}) changed meanwhile")
    tx.conn.execute(delete(_p).where(*here))
    return list(dict.fromkeys(row.run_id for row in there if row.run_id is not None))


def forget(tx: Writing) -> None:
    """Removes the parts of versions that nobody is going to make."""
    group = (_p.c.project_id, _p.c.collection, _p.c.distributed_id)
    last = select(*group).group_by(*group).having(func.max(_p.c.created_at) < tx.now - PARTS_LIVE // queries.MICROSECOND)
    for found in tx.conn.execute(last).all():
        tx.conn.execute(delete(_p).where(*_of(*found)))


def _of(project_id: int, collection: str, distributed_id: str) -> tuple[ColumnElement[bool], ...]:
    return _p.c.project_id == project_id, _p.c.collection == collection, _p.c.distributed_id == distributed_id
