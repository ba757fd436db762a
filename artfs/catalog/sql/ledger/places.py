"""Which projects things belong to, by their ids: what a server must know before it looks whether a token may do something."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Select, bindparam, select

from artfs.catalog import schema
from artfs.catalog.sql import queries, rows
from artfs.catalog.sql.ledger.tokens import is_readable
from artfs.model.access import Token
from artfs.model.records import Project

_p, _c, _m, _v, _r = schema.projects, schema.collections, schema.memberships, schema.versions, schema.runs

_COLLECTION = (
    select(_p).join(_c, _c.c.project_id == _p.c.id).where(_c.c.id == bindparam("id"), _c.c.deleted_at.is_(None))
)
_MEMBER = (
    select(_p)
    .join(_c, _c.c.project_id == _p.c.id)
    .join(_m, _m.c.collection_id == _c.c.id)
    .where(_m.c.id == bindparam("id"))
)
_RUN = select(_p).join(_r, _r.c.project_id == _p.c.id).where(_r.c.id == bindparam("id"))
_VERSION = (
    select(_p)
    .join(_c, _c.c.project_id == _p.c.id)
    .join(_m, _m.c.collection_id == _c.c.id)
    .join(_v, _v.c.id == _m.c.version_id)
    .where(_v.c.id == bindparam("id"))
    .order_by(queries.IS_SOURCE.desc(), _m.c.id)
)


def _projects(conn: Connection, query: Select[Any], **given: Any) -> list[Project]:
    found = conn.execute(query, given)
    return [Project(row.id, row.entity, row.name, queries.to_time(row.created_at)) for row in found]


def _one(conn: Connection, query: Select[Any], **given: Any) -> Project | None:
    found = _projects(conn, query, **given)
    return found[0] if found else None


def of_collection(conn: Connection, collection_id: int) -> Project | None:
    return _one(conn, _COLLECTION, id=collection_id)


def of_member(conn: Connection, member_id: int) -> Project | None:
    return _one(conn, _MEMBER, id=member_id)


def of_run(conn: Connection, run_id: str) -> Project | None:
    return _one(conn, _RUN, id=run_id) if rows.storable(run_id) else None


def of_version(conn: Connection, version_id: int) -> list[Project]:
    """The one that it was logged to, first."""
    return list({project.id: project for project in _projects(conn, _VERSION, id=version_id)}.values())


def readable(conn: Connection, token: Token) -> list[Project]:
    return _projects(conn, select(_p).where(is_readable(token)).order_by(_p.c.entity, _p.c.name))
