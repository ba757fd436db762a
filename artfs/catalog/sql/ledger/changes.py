"""Reading the rows of `changes`, which every writing transaction adds to (sql.changes)."""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from artfs.catalog.schema import changes as _changes
from artfs.catalog.sql import queries
from artfs.model.access import Change, Changes


def newest(conn: Connection) -> int:
    """The largest number so far; 0: there was no change yet."""
    return int(conn.execute(select(func.max(_changes.c.id))).scalar() or 0)


def after(conn: Connection, number: int, limit: int) -> Changes:
    """See Ledger.changes_after."""
    last = newest(conn)
    oldest = conn.execute(select(func.min(_changes.c.id))).scalar()
    if number > last or (oldest is not None and number < oldest - 1):
        return Changes(last, (), is_gap=True)
    found = conn.execute(select(_changes).where(_changes.c.id > number).order_by(_changes.c.id).limit(limit)).all()
    return Changes(
        found[-1].id if found else number,
        tuple(Change(row.id, queries.to_time(row.at), row.entity, row.project, row.collection) for row in found),
    )
