"""The rows of `changes`: what each writing transaction changed that others see, in the order of the commits."""

from __future__ import annotations

from functools import cache

from sqlalchemy import Insert, bindparam, delete, insert, select

from artfs.catalog import schema
from artfs.catalog.sql.engine import Writing

KEPT = 100_000
"""How many of the newest rows stay. Up to a thousand more do, since rows are removed that many at a time."""

_STEP = 1000
# Parameters of a statement are limited (SQLite: 32,766).
_AT_ONCE = 10_000

_p, _c, _m, _changes = schema.projects, schema.collections, schema.memberships, schema.changes


@cache
def _touched() -> Insert:
    """Rows of collections. Those that the transaction deleted as well: their rows are still there."""
    places = (
        select(bindparam("now", type_=_changes.c.at.type), _p.c.entity, _p.c.name, _c.c.name)
        .join(_p, _c.c.project_id == _p.c.id)
        .where(_c.c.id.in_(bindparam("ids", expanding=True)))
        .order_by(_c.c.id)
    )
    return insert(_changes).from_select(["at", "entity", "project", "collection"], places).returning(_changes.c.id)


def record(tx: Writing) -> None:
    """Writes down what the transaction noted. The last thing that it does before its commit."""
    if not tx.is_noted:
        return
    added: list[int] = []
    if tx.places:
        rows = [
            {"at": tx.now, "entity": entity, "project": project, "collection": collection}
            for entity, project, collection in tx.places
        ]
        added += tx.conn.execute(insert(_changes).returning(_changes.c.id), rows).scalars()
    touched = set(tx.stamps)
    if tx.versions:
        holders = select(_m.c.collection_id).where(_m.c.version_id.in_(tx.versions)).distinct()
        touched.update(tx.conn.execute(holders).scalars())
    ids = sorted(touched)
    for start in range(0, len(ids), _AT_ONCE):
        given = {"now": tx.now, "ids": ids[start : start + _AT_ONCE]}
        added += tx.conn.execute(_touched(), given).scalars()
    newest = max(added)
    if newest // _STEP != (newest - len(added)) // _STEP:
        tx.conn.execute(delete(_changes).where(_changes.c.id <= newest - KEPT))
