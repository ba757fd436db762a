"""What nobody needs any more: the queries of the server's garbage collection (artfs/server/gc.py has the plan)."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, bindparam, delete, exists, func, insert, or_, select, text, tuple_, update

from artfs.catalog import schema
from artfs.catalog.blobledger import NewPack, Packed, PackUse, Root, Row, digest_of_key
from artfs.catalog.sql.engine import Writing
from artfs.catalog.sql.ledger import blobs, given
from artfs.catalog.sql.ledger.schema import blobs as _blobs
from artfs.catalog.sql.ledger.schema import packs as _packs
from artfs.catalog.sql.ledger.schema import project_blobs as _project_blobs
from artfs.catalog.sql.ledger.schema import uploads as _uploads
from artfs.model.digests import to_raw

_c, _m, _v, _pb = schema.collections.c, schema.memberships.c, schema.versions.c, _project_blobs.c


def roots(conn: Connection, deleted_since: int) -> list[Root]:
    versions = (
        select(_c.project_id, _v.digest)
        .join(schema.memberships, _m.collection_id == _c.id)
        .join(schema.versions, _v.id == _m.version_id)
        .where(or_(_v.state != "DELETED", _v.deleted_at >= deleted_since))
    )
    parts = select(schema.version_parts.c.project_id, schema.version_parts.c.digest)
    return [Root(row.project_id, row.digest) for row in conn.execute(versions.union(parts))]


def rows(conn: Connection, after: Row | None, limit: int, closed: bool) -> list[Row]:
    query = (
        select(_pb.project_id, _pb.digest, _pb.size, _pb.shape.is_not(None).label("is_closed"), _pb.touched_at)
        .order_by(_pb.digest, _pb.project_id)
        .limit(limit)
    )
    if after is not None:
        query = query.where(tuple_(_pb.digest, _pb.project_id) > (to_raw(after.digest), after.project_id))
    if closed:
        query = query.where(_pb.shape.is_not(None))
    return [
        Row(row.project_id, bytes(row.digest).hex(), row.size, bool(row.is_closed), row.touched_at)
        for row in conn.execute(query)
    ]


def open_trees(tx: Writing, project_id: int, digests: Collection[str], before: int) -> None:
    among, parameters = given.among(tx.conn, digests)
    tx.conn.execute(
        text(
            f"UPDATE project_blobs SET shape = NULL WHERE digest {among}"
            " AND project_id + 0 = :project_id AND touched_at < :before"
        ),
        {**parameters, "project_id": project_id, "before": before},
    )


def remove(tx: Writing, project_id: int, digests: Collection[str], before: int) -> int:
    among, parameters = given.among(tx.conn, digests)
    gone = tx.conn.execute(
        text(
            f"DELETE FROM project_blobs WHERE digest {among}"
            " AND project_id + 0 = :project_id AND touched_at < :before AND shape IS NULL RETURNING size"
        ),
        {**parameters, "project_id": project_id, "before": before},
    )
    sizes = gone.scalars().all()
    blobs.count(tx, project_id, -len(sizes), -sum(sizes))
    return len(sizes)


def remove_blobs(tx: Writing, limit: int) -> list[tuple[str, int, int]]:
    used = exists().where(_pb.digest == _blobs.c.digest, _pb.pack_id.is_(None))
    found = tx.conn.execute(select(_blobs.c.digest).where(~used).limit(limit)).scalars().all()
    if not found:
        return []
    columns = (_blobs.c.key, _blobs.c.size, _blobs.c.part_size)
    gone = tx.conn.execute(delete(_blobs).where(_blobs.c.digest.in_(found)).returning(*columns))
    return [(row.key, row.size, row.part_size) for row in gone]


def remove_packs(tx: Writing, limit: int, before: int) -> list[str]:
    used = exists().where(_pb.pack_id == _packs.c.id)
    query = select(_packs.c.id).where(~used, _packs.c.created_at < before).limit(limit)
    found = tx.conn.execute(query).scalars().all()
    if not found:
        return []
    return list(tx.conn.execute(delete(_packs).where(_packs.c.id.in_(found)).returning(_packs.c.key)).scalars())


def packs_to_move(conn: Connection, small: int, before: int, head: int) -> list[PackUse]:
    # A blob that several projects have from one pack is in it once.
    once = select(_pb.pack_id, _pb.digest, _pb.size).where(_pb.pack_id.is_not(None)).distinct().subquery()
    used = func.sum(once.c.size + head)
    k = _packs.c
    query = (
        select(k.id, k.project_id, k.key, k.size, used.label("used"))
        .join(once, once.c.pack_id == k.id)
        .where(k.created_at < before)
        .group_by(k.id, k.project_id, k.key, k.size)
        .having(or_(used * 2 < k.size, k.size < small))
        .order_by(k.project_id, k.id)
    )
    return [PackUse(row.id, row.project_id, row.key, row.size, int(row.used)) for row in conn.execute(query)]


def pack_blobs(conn: Connection, pack_id: int) -> list[Packed]:
    query = (
        select(_pb.digest, _pb.size, _pb.pack_offset)
        .where(_pb.pack_id == pack_id)
        .distinct()
        .order_by(_pb.pack_offset, _pb.digest)
    )
    return [Packed(bytes(row.digest).hex(), row.size, row.pack_offset) for row in conn.execute(query)]


def move_packs(tx: Writing, pack_ids: Collection[int], new: NewPack) -> bool:
    here = {each.digest for pack_id in pack_ids for each in pack_blobs(tx.conn, pack_id)}
    moving = {each.digest: each.offset for each in new.blobs if each.digest in here}
    if not here or here != set(moving):
        return False
    old = _pb.pack_id.in_(pack_ids)
    projects = tx.conn.execute(select(_pb.project_id).where(old).distinct()).scalars().all()
    (owner,) = tx.conn.execute(select(_packs.c.project_id).where(_packs.c.id.in_(pack_ids)).distinct()).scalars()
    if owner not in projects and len(projects) == 1:
        owner = projects[0]  # its first owner has nothing in it any more
    values = {"key": new.key, "project_id": owner, "size": new.size, "created_at": tx.now}
    new_id = tx.conn.execute(insert(_packs).values(**values).returning(_packs.c.id)).scalar_one()
    source, parameters = given.rows(tx.conn, moving, pack_offset=list(moving.values()))
    query = text(
        "UPDATE project_blobs SET pack_id = :new_id, pack_offset = given.pack_offset"
        f" FROM {source} WHERE project_blobs.digest = given.digest AND project_blobs.pack_id IN :pack_ids"
    ).bindparams(bindparam("pack_ids", expanding=True))
    tx.conn.execute(query, {**parameters, "new_id": new_id, "pack_ids": list(pack_ids)})
    tx.conn.execute(update(_packs).where(_packs.c.id.in_(pack_ids)).values(created_at=tx.now))
    return True


def unknown_keys(conn: Connection, keys: Collection[str]) -> set[str]:
    # A part's key is that of its blob or upload with a number behind it.
    whole = {key: key.rpartition(".")[0] if key.rpartition(".")[2].isdecimal() else key for key in keys}
    names = {*whole, *whole.values()}
    known: set[str] = set()
    for column in (_packs.c.key, _blobs.c.key, _uploads.c.key):
        known.update(conn.execute(select(column).where(column.in_(names))).scalars())
    unknown = {key for key, name in whole.items() if key not in known and name not in known}
    digests = {key: digest for key in unknown if (digest := digest_of_key(key)) is not None}
    query = select(_uploads.c.digest).where(_uploads.c.digest.in_({to_raw(digest) for digest in digests.values()}))
    coming = {bytes(raw).hex() for raw in conn.execute(query).scalars()}
    return {key for key in unknown if digests.get(key) not in coming}

