"""Long lists in pages, by keyset: a page costs the same wherever in the list it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Select, func, select, tuple_

from artfs.catalog import schema
from artfs.catalog.sql import queries, rows
from artfs.model.paging import Page, PageRequest, make_cursor, read_cursor
from artfs.model.records import Collection, Member, RunRecord

_p, _c, _m, _v, _r = schema.projects, schema.collections, schema.memberships, schema.versions, schema.runs
_run_versions = schema.run_versions

T = TypeVar("T", Member, Collection, RunRecord)
_Columns = dict[str, ColumnElement[Any]]

_OF_MEMBERS: _Columns = {
    "index": _m.c.member_index, "created_at": _v.c.created_at, "updated_at": _v.c.updated_at, "size": _v.c.size,
}
_OF_COLLECTIONS: _Columns = {"name": _c.c.name, "created_at": _c.c.created_at, "updated_at": _c.c.updated_at}
_OF_RUNS: _Columns = {"created_at": _r.c.created_at, "name": _r.c.name}
_OF_RUN_VERSIONS: _Columns = {"created_at": _v.c.id}


def _page(
    conn: Connection, request: PageRequest, wanted: Select[Any], columns: _Columns, id_: ColumnElement[Any],
    fetch: Callable[[list[Any]], list[T]],
) -> Page[T]:
    """`wanted`: a select of the columns' tables with all conditions; `fetch` gives the records of some ids, in any order."""
    request.check(tuple(columns))
    key = columns[request.column]
    after = read_cursor(request)
    total = None
    found = wanted.with_only_columns(key.label("key"), id_.label("id"), maintain_column_froms=True)
    if after is None:
        total = conn.execute(select(func.count()).select_from(found.subquery())).scalar_one()
    elif request.descending:
        found = found.where(tuple_(key, id_) < tuple_(*after))
    else:
        found = found.where(tuple_(key, id_) > tuple_(*after))
    by = (key.desc(), id_.desc()) if request.descending else (key, id_)
    # One more than asked for tells whether there is another page.
    place = conn.execute(found.order_by(*by).limit(request.limit + 1)).all()
    here = place[: request.limit]
    records = {record.id: record for record in fetch([row.id for row in here])} if here else {}
    cursor = make_cursor(request, here[-1].key, here[-1].id) if len(place) > len(here) else None
    return Page(tuple(records[row.id] for row in here), cursor, total)


def members(conn: Connection, collection_id: int, request: PageRequest, tags: Iterable[str]) -> Page[Member]:
    rows.need_collection_id(conn, collection_id)
    wanted = (
        select(_m)
        .join(_v, _m.c.version_id == _v.c.id)
        .where(_m.c.collection_id == collection_id, queries.IS_COMMITTED)
    )
    for tag in tags:
        tagged = schema.version_tags.alias()
        wanted = wanted.where(select(tagged.c.id).where(tagged.c.version_id == _v.c.id, tagged.c.tag == tag).exists())
    return _page(conn, request, wanted, _OF_MEMBERS, _m.c.id, lambda ids: queries.MEMBERS_BY_ID.all(conn, ids=ids))


def collections(
    conn: Connection, entity: str, project: str, request: PageRequest, type: str | None
) -> Page[Collection]:
    place = rows.need_project(conn, entity, project)
    wanted = select(_c).where(_c.c.project_id == place.id, _c.c.deleted_at.is_(None))
    if type is not None:
        wanted = wanted.where(_c.c.type == type)
    return _page(
        conn, request, wanted, _OF_COLLECTIONS, _c.c.id, lambda ids: queries.COLLECTIONS_BY_ID.all(conn, ids=ids)
    )


def runs(conn: Connection, entity: str, project: str, request: PageRequest) -> Page[RunRecord]:
    place = rows.need_project(conn, entity, project)
    wanted = select(_r).where(_r.c.project_id == place.id)
    return _page(conn, request, wanted, _OF_RUNS, _r.c.id, lambda ids: queries.RUNS_BY_ID.all(conn, ids=ids))


def versions_of_run(conn: Connection, run_id: str, used: bool, request: PageRequest) -> Page[Member]:
    rows.need_run(conn, run_id)
    wanted = (
        select(_m)
        .join(_v, _m.c.version_id == _v.c.id)
        .join(_run_versions, _run_versions.c.version_id == _v.c.id)
        .where(
            _run_versions.c.run_id == run_id, _run_versions.c.relation == ("used" if used else "logged"),
            queries.IS_SOURCE, queries.IS_COMMITTED,
        )
    )
    return _page(conn, request, wanted, _OF_RUN_VERSIONS, _m.c.id, lambda ids: queries.MEMBERS_BY_ID.all(conn, ids=ids))
