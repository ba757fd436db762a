"""Which project has which blob, and where it is: rows of `project_blobs`, `packs` and `blobs`.

Statements about many digests are text, for they are about `given` (see there); both databases understand them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, text, update

from artfs.catalog import schema
from artfs.catalog.blobledger import Found, Held, NewObject, NewPack, Packed, Upload, Usage, part_keys
from artfs.catalog.sql.engine import Writing
from artfs.catalog.sql.ledger import given, uploads
from artfs.catalog.sql.ledger.schema import blobs as _blobs
from artfs.catalog.sql.ledger.schema import packs as _packs
from artfs.catalog.sql.ledger.schema import project_blobs as _project_blobs
from artfs.catalog.sql.ledger.schema import project_usage as _usage
from artfs.errors import NotFoundError, QuotaError
from artfs.model.access import EVERY_PROJECT, Token
from artfs.model.digests import to_raw

_p, _pb = schema.projects, _project_blobs.c


def _hex(raw: bytes | memoryview | None) -> str:
    return "" if raw is None else bytes(raw).hex()


# reading ----------------------------------------------------------------------------------------------------------------
def _readable(token: Token | None, parameters: dict[str, Any]) -> str:
    """A condition on `b.project_id`, as tokens.is_readable says it."""
    if token is None or token.is_admin:
        return ""
    parameters |= {"token_id": token.id, "every_project": EVERY_PROJECT}
    return (
        " AND b.project_id + 0 IN (SELECT q.id FROM projects AS q JOIN grants AS g ON g.entity = q.entity"
        " AND g.project IN (:every_project, q.name) WHERE g.token_id = :token_id AND q.deleted_at IS NULL)"
    )


# Of the projects that have a blob the one that has it in the best way: in an object of its own, or in a pack of its own.
_BEST = "CASE WHEN b.pack_id IS NULL OR p.project_id = b.project_id THEN 0 ELSE 1 END, b.project_id"
_PLACE = (
    "b.digest, b.size, b.project_id, b.pack_offset, p.key AS pack_key, p.size AS pack_size, p.project_id AS pack_project_id,"
    " o.key, o.part_size, o.blocks"
)
_PLACES = (
    "project_blobs AS b LEFT JOIN packs AS p ON p.id = b.pack_id"
    " LEFT JOIN blobs AS o ON b.pack_id IS NULL AND o.digest = b.digest"
    " WHERE b.digest = given.digest{where}"
)
_BEST_BY_WINDOW = (
    f"SELECT * FROM (SELECT {_PLACE}, row_number() OVER (PARTITION BY b.digest ORDER BY {_BEST}) AS place"
    f" FROM {{source}} CROSS JOIN {_PLACES}) AS found WHERE place = 1"
)
# PostgreSQL guesses that 500 rows have one digest, as long as the table was not analysed, and sorts all of it: 70 ms for what
# takes 1.5. This way it can only look one digest after the other up.
_BEST_BY_LATERAL = (
    f"SELECT found.* FROM {{source}} CROSS JOIN LATERAL (SELECT {_PLACE} FROM {_PLACES} ORDER BY {_BEST} LIMIT 1) AS found"
)


def find(
    conn: Connection, token: Token | None, digests: Sequence[str], project_id: int | None
) -> dict[str, Found]:
    source, parameters = given.rows(conn, digests)
    where = _readable(token, parameters)
    if project_id is not None:
        where += " AND b.project_id + 0 = :project_id"
        parameters["project_id"] = project_id
    query = text((_BEST_BY_LATERAL if given.is_postgresql(conn) else _BEST_BY_WINDOW).format(source=source, where=where))
    found: dict[str, Found] = {}
    # In the order of _PLACE: there are thousands, and names cost more than all else here.
    rows = conn.execute(query, parameters).all()
    for raw, size, project, offset, pack, pack_size, packs_project, key, part_size, blocks, *_ in rows:
        digest = raw.hex()
        if pack is not None:
            found[digest] = Found(digest, size, pack, offset, pack_size, 0, "", project, packs_project == project)
        elif key is not None:
            found[digest] = Found(digest, size, key, 0, size, part_size, _hex(blocks), project, True)
    return found


def reads_object(conn: Connection, token: Token | None, key: str) -> int | None:
    parameters: dict[str, Any] = {}
    readable = _readable(token, parameters)
    query = text(f"SELECT size FROM packs AS b WHERE key = :key{readable}")
    size = conn.execute(query, {"key": key, **parameters}).scalar()
    if size is not None:
        return int(size)
    whole, dot, number = key.rpartition(".")
    names = [key, whole] if dot and number.isdecimal() else [key]
    query = text(
        "SELECT o.key, o.size, o.part_size FROM blobs AS o WHERE o.key IN :names AND EXISTS"
        f" (SELECT 1 FROM project_blobs AS b WHERE b.digest = o.digest AND b.pack_id IS NULL{readable})"
    ).bindparams(bindparam("names", expanding=True))
    for row in conn.execute(query, {"names": names, **parameters}):
        keys = part_keys(row.key, row.size, row.part_size)
        if key in keys:
            at = keys.index(key)
            return int(min(row.part_size, row.size - at * row.part_size)) if len(keys) > 1 else int(row.size)
    return None


def usage(conn: Connection, project_id: int) -> Usage:
    query = (
        select(_usage.c.blobs, _usage.c.nbytes, _p.c.quota)
        .select_from(_p.outerjoin(_usage, _usage.c.project_id == _p.c.id))
        .where(_p.c.id == project_id)
    )
    row = conn.execute(query).first()
    return Usage(0, 0, None) if row is None else Usage(row.blobs or 0, row.nbytes or 0, row.quota)


# writing ----------------------------------------------------------------------------------------------------------------
def held(conn: Connection, project_id: int, digests: Collection[str]) -> dict[str, tuple[Held, int]]:
    """Those that the project has, and when they were touched."""
    among, parameters = given.among(conn, digests)
    query = text(
        "SELECT b.digest, b.size, b.shape, b.touched_at,"
        " CASE WHEN b.pack_id IS NULL THEN (SELECT o.blocks FROM blobs AS o WHERE o.digest = b.digest) END AS blocks"
        f" FROM project_blobs AS b WHERE b.digest {among} AND b.project_id + 0 = :project_id"
    )
    return {
        _hex(row.digest): (Held(row.size, _hex(row.blocks), row.shape and bytes(row.shape)), row.touched_at)
        for row in conn.execute(query, {**parameters, "project_id": project_id})
    }


def touch(tx: Writing, project_id: int, digests: Collection[str]) -> dict[str, bytes | None]:
    """Touches the rows that are there; returns their shapes as they are now."""
    among, parameters = given.among(tx.conn, digests)
    query = text(
        f"UPDATE project_blobs SET touched_at = :now WHERE digest {among} AND project_id + 0 = :project_id"
        " RETURNING digest, shape"
    )
    found = tx.conn.execute(query, {**parameters, "project_id": project_id, "now": tx.now})
    return {_hex(row.digest): row.shape and bytes(row.shape) for row in found}


def check_quota(conn: Connection, project_id: int, nbytes: int) -> None:
    used = usage(conn, project_id)
    if used.quota is None or used.nbytes + nbytes <= used.quota:
        return
    project = conn.execute(select(_p.c.entity, _p.c.name).where(_p.c.id == project_id)).one()
    raise QuotaError(
        f"the quota of {project.entity}/{project.name} is used up: it has {used.nbytes:,} of {used.quota:,} bytes, and"
        f" {nbytes:,} more were to come; delete versions (`artfs gc` then frees them), or have it raised (`artfs quota`)"
    )


def count(tx: Writing, project_id: int, blobs: int, nbytes: int) -> None:
    """So many more (or less)."""
    if not blobs:
        return
    here = _usage.c.project_id == project_id
    more = {"blobs": _usage.c.blobs + blobs, "nbytes": _usage.c.nbytes + nbytes}
    if not tx.conn.execute(update(_usage).where(here).values(**more)).rowcount:
        tx.conn.execute(insert(_usage).values(project_id=project_id, blobs=blobs, nbytes=nbytes))


def add(
    tx: Writing, project_id: int, pack: NewPack | None, objects: Sequence[NewObject], upload: Upload | None
) -> list[NewObject]:
    sizes = {each.digest: each.size for each in objects}
    if pack is not None:
        sizes |= {each.digest: each.size for each in pack.blobs}
    here = touch(tx, project_id, sizes)
    sizes = {digest: size for digest, size in sizes.items() if digest not in here}
    nbytes = sum(sizes.values())
    check_quota(tx.conn, project_id, nbytes)
    if pack is not None:
        _add_packed(tx, project_id, pack, {each.digest: each for each in pack.blobs if each.digest in sizes})
    useless = _add_objects(tx, objects)
    single = {each.digest: each.size for each in objects if each.digest in sizes}
    if single:
        source, parameters = given.rows(tx.conn, single, size=list(single.values()))
        _insert_rows(tx, project_id, f"given.size, NULL, NULL FROM {source}", parameters)
    count(tx, project_id, len(sizes), nbytes)
    if upload is not None:
        uploads.end(tx, upload)
    return useless


def _add_packed(tx: Writing, project_id: int, pack: NewPack, blobs: Mapping[str, Packed]) -> None:
    if not blobs:
        return
    pack_id = _insert_pack(tx, project_id, pack)
    # In their order, so that neighbours in the index are written together.
    ordered = [blobs[digest] for digest in sorted(blobs)]
    columns = {"size": [each.size for each in ordered], "pack_offset": [each.offset for each in ordered]}
    source, parameters = given.rows(tx.conn, [each.digest for each in ordered], **columns)
    _insert_rows(tx, project_id, f"given.size, {pack_id}, given.pack_offset FROM {source}", parameters)


def _insert_pack(tx: Writing, project_id: int, pack: NewPack) -> int:
    query = insert(_packs).values(key=pack.key, project_id=project_id, size=pack.size, created_at=tx.now)
    return int(tx.conn.execute(query.returning(_packs.c.id)).scalar_one())


def _insert_rows(tx: Writing, project_id: int, select_rest: str, parameters: dict[str, Any]) -> None:
    query = text(
        "INSERT INTO project_blobs (digest, project_id, touched_at, shape, size, pack_id, pack_offset)"
        f" SELECT given.digest, :project_id, :now, NULL, {select_rest}"
    )
    tx.conn.execute(query, {**parameters, "project_id": project_id, "now": tx.now})


def _add_objects(tx: Writing, objects: Sequence[NewObject]) -> list[NewObject]:
    """Those whose blob has other objects already. Not those that are the blob's own: two processes may check one upload."""
    useless = []
    # Larger blobs come one by one, and those of up to a megabyte by the dozen.
    for each in objects:
        there = tx.conn.execute(select(_blobs.c.key).where(_blobs.c.digest == to_raw(each.digest))).scalar()
        if there is not None:
            if there != each.key:
                useless.append(each)
            continue
        tx.conn.execute(
            insert(_blobs).values(
                digest=to_raw(each.digest), size=each.size, blocks=to_raw(each.blocks) if each.blocks else None, key=each.key,
                part_size=each.part_size, created_at=tx.now,
            )
        )
    return useless


def close_trees(tx: Writing, project_id: int, shapes: Mapping[str, bytes]) -> None:
    query = (
        update(_project_blobs)
        .where(_pb.digest == bindparam("raw"), _pb.project_id == project_id)
        .values(shape=bindparam("new_shape"))
    )
    if shapes:
        tx.conn.execute(query, [{"raw": to_raw(digest), "new_shape": shape} for digest, shape in shapes.items()])


def share(tx: Writing, source_id: int, target_id: int, digests: Collection[str]) -> set[str]:
    here = touch(tx, target_id, digests)
    wanted = sorted(digest for digest in digests if digest not in here)
    if not wanted:
        return set()
    among, parameters = given.among(tx.conn, wanted)
    parameters |= {"source_id": source_id, "target_id": target_id, "now": tx.now}
    found = tx.conn.execute(
        text(
            "INSERT INTO project_blobs (digest, project_id, touched_at, shape, size, pack_id, pack_offset)"
            " SELECT b.digest, :target_id, :now, NULL, b.size, b.pack_id, b.pack_offset"
            f" FROM project_blobs AS b WHERE b.digest {among} AND b.project_id + 0 = :source_id RETURNING digest, size"
        ),
        parameters,
    )
    shared = {_hex(row.digest): row.size for row in found}
    nbytes = sum(shared.values())
    check_quota(tx.conn, target_id, nbytes)
    count(tx, target_id, len(shared), nbytes)
    return set(wanted) - set(shared)


def set_quota(tx: Writing, project_id: int, quota: int | None) -> tuple[str, str]:
    """Returns the project's entity and name."""
    query = update(_p).where(_p.c.id == project_id).values(quota=quota).returning(_p.c.entity, _p.c.name)
    row = tx.conn.execute(query).first()
    if row is None:
        raise NotFoundError(f"there is no project with the id {project_id}")
    return row.entity, row.name

