"""Finding things by name or id, and turning rows into records. Everything here reads only.

`find_…` return None, `need_…` raise NotFoundError with a message that says what is there instead.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, literal, select, union_all

from artfs.catalog import schema
from artfs.errors import InvalidMetadataError, NotFoundError
from artfs.model.records import Collection, Member, Project, RunRecord, Version

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_p, _c, _m, _v, _r = schema.projects, schema.collections, schema.memberships, schema.versions, schema.runs
# The place that a version came from, beside the one that it is seen in.
_source = schema.collections.alias("source")
_source_project = schema.projects.alias("source_project")


def to_time(stamp: int) -> datetime:
    """Exact; datetime.fromtimestamp would go through a float."""
    return _EPOCH + timedelta(microseconds=stamp)


def to_stamp(when: datetime) -> int:
    return (when - _EPOCH) // _MICROSECOND


def storable(*names: str) -> bool:
    """False for a name with a lone surrogate (bytes of a path that are no UTF-8): SQLite cannot even be asked for it,
    so nothing has that name."""
    try:
        for name in names:
            name.encode()
    except UnicodeEncodeError:
        return False
    return True


def some(names: Sequence[str], limit: int = 6) -> str:
    """The names for a message, cut after `limit`."""
    if len(names) <= limit:
        return ", ".join(names)
    return f"{', '.join(names[:limit])} and {len(names) - limit} more"


def to_json(value: dict[str, Any]) -> str:
    """Compact, ASCII only (see schema). Raises InvalidMetadataError for what JSON cannot hold."""
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidMetadataError(f"this is not a JSON object: {error}") from None


# projects ---------------------------------------------------------------------------------------------------------


def to_project(row: Row[Any]) -> Project:
    return Project(id=row.id, entity=row.entity, name=row.name, created_at=to_time(row.created_at))


def living_projects(entity: str) -> Select[Any]:
    return select(_p).where(_p.c.entity == entity, _p.c.deleted_at.is_(None)).order_by(_p.c.name)


def find_project(conn: Connection, entity: str, name: str) -> Project | None:
    if not storable(entity, name):
        return None
    row = conn.execute(living_projects(entity).where(_p.c.name == name)).one_or_none()
    return None if row is None else to_project(row)


def need_project(conn: Connection, entity: str, name: str) -> Project:
    found = find_project(conn, entity, name)
    if found is None:
        raise NotFoundError(_no_project(conn, entity, name))
    return found


def _no_project(conn: Connection, entity: str, name: str) -> str:
    there = [row.name for row in conn.execute(living_projects(entity))] if storable(entity) else []
    if not there:
        return f"there is no project {name!r}: {entity} has no projects"
    return f"there is no project {name!r}; {entity} has {some(_closest_first(name, there))}"


def _closest_first(name: str, there: Sequence[str]) -> list[str]:
    close = difflib.get_close_matches(name, there, n=3)
    return close + [other for other in there if other not in close]


# collections ------------------------------------------------------------------------------------------------------

_COLLECTIONS = (
    select(_c, _p.c.entity, _p.c.name.label("project"))
    .join(_p, _c.c.project_id == _p.c.id)
    .where(_c.c.deleted_at.is_(None))
)


def collections_where(conn: Connection, *conditions: ColumnElement[bool]) -> list[Collection]:
    """The living collections for which all `conditions` (on collections and projects) hold, by name. Two queries."""
    rows = conn.execute(_COLLECTIONS.where(*conditions).order_by(_c.c.name)).all()
    if not rows:
        return []
    tag = schema.collection_tags
    wanted = _COLLECTIONS.where(*conditions).with_only_columns(_c.c.id)
    tags: dict[int, list[str]] = {}
    for found in conn.execute(select(tag).where(tag.c.collection_id.in_(wanted)).order_by(tag.c.id)):
        tags.setdefault(found.collection_id, []).append(found.tag)
    return [
        Collection(
            id=row.id, entity=row.entity, project=row.project, name=row.name, type=row.type, kind=row.kind,
            description=row.description, tags=tuple(tags.get(row.id, ())), created_at=to_time(row.created_at),
            updated_at=to_time(row.updated_at),
        )
        for row in rows
    ]


def find_collection(conn: Connection, entity: str, project: str, name: str) -> Collection | None:
    if not storable(entity, project, name):
        return None
    found = collections_where(
        conn, _p.c.entity == entity, _p.c.name == project, _p.c.deleted_at.is_(None), _c.c.name == name
    )
    return found[0] if found else None


def need_collection(conn: Connection, entity: str, project: str, name: str) -> Collection:
    found = find_collection(conn, entity, project, name)
    if found is None:
        place = need_project(conn, entity, project)
        names = select(_c.c.name).where(_c.c.project_id == place.id, _c.c.deleted_at.is_(None))
        close = difflib.get_close_matches(name, conn.execute(names).scalars().all(), n=3)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise NotFoundError(f"there is no collection {name!r} in {entity}/{project}{hint}")
    return found


def need_collection_id(conn: Connection, collection_id: int) -> Collection:
    found = collections_where(conn, _c.c.id == collection_id)
    if not found:
        raise NotFoundError(f"there is no collection with the id {collection_id}; it may have been deleted")
    return found[0]


# members ----------------------------------------------------------------------------------------------------------

_MEMBERS = (
    select(
        _m.c.id, _m.c.collection_id, _p.c.entity, _p.c.name.label("project"),
        _c.c.name.label("collection"), _m.c.member_index, _m.c.created_at.label("member_created_at"),
        _m.c.version_id, _v.c.source_index, _v.c.state, _v.c.digest, _v.c.size, _v.c.file_count, _v.c.description,
        _v.c.metadata, _v.c.run_id, _v.c.history_step, _v.c.created_at, _v.c.updated_at,
        _source_project.c.entity.label("source_entity"), _source_project.c.name.label("source_project"),
        _source.c.name.label("source_collection"), _source.c.type,
    )
    .select_from(_m)
    .join(_c, _m.c.collection_id == _c.c.id)
    .join(_p, _c.c.project_id == _p.c.id)
    .join(_v, _m.c.version_id == _v.c.id)
    .join(_source, _v.c.collection_id == _source.c.id)
    .join(_source_project, _source.c.project_id == _source_project.c.id)
)
IS_SOURCE = _m.c.collection_id == _v.c.collection_id
IS_COMMITTED = _v.c.state == "COMMITTED"
BY_INDEX = (_m.c.member_index,)
BY_NAME = (_p.c.entity, _p.c.name, _c.c.name, _m.c.member_index)


def members_where(
    conn: Connection, *conditions: ColumnElement[bool], order: Iterable[ColumnElement[Any]] = BY_INDEX
) -> list[Member]:
    """The memberships for which all `conditions` (on memberships, versions, collections, projects) hold. Two queries,
    however many they are: one for the rows, one for their aliases and tags."""
    rows = conn.execute(_MEMBERS.where(*conditions).order_by(*order)).all()
    if not rows:
        return []
    aliases, tags = _labels(conn, conditions)
    return [
        Member(
            id=row.id, collection_id=row.collection_id, entity=row.entity, project=row.project,
            collection=row.collection, index=row.member_index, aliases=tuple(sorted(aliases.get(row.id, ()))),
            version=_to_version(row, tags.get(row.version_id, ())), created_at=to_time(row.member_created_at),
        )
        for row in rows
    ]


def _labels(
    conn: Connection, conditions: Sequence[ColumnElement[bool]]
) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    """Aliases by membership id (in no order) and tags by version id (as they were added)."""
    alias, tag = schema.aliases, schema.version_tags
    wanted = _MEMBERS.where(*conditions)
    member_ids = wanted.with_only_columns(_m.c.id)
    version_ids = wanted.with_only_columns(_m.c.version_id)
    query = union_all(
        select(literal(0).label("id"), alias.c.membership_id.label("of"), alias.c.alias.label("label")).where(
            alias.c.membership_id.in_(member_ids)
        ),
        select(tag.c.id, tag.c.version_id, tag.c.tag).where(tag.c.version_id.in_(version_ids)),
    )
    aliases: dict[int, list[str]] = {}
    tags: dict[int, list[str]] = {}
    for row in sorted(conn.execute(query), key=lambda row: int(row.id)):
        (tags if row.id else aliases).setdefault(row.of, []).append(row.label)
    return aliases, tags


def _to_version(row: Any, tags: Iterable[str]) -> Version:
    return Version(
        id=row.version_id, entity=row.source_entity, project=row.source_project, collection=row.source_collection,
        source_index=row.source_index, type=row.type, state=row.state, digest=row.digest, size=row.size,
        file_count=row.file_count, description=row.description, metadata=json.loads(row.metadata), tags=tuple(tags),
        created_at=to_time(row.created_at), updated_at=to_time(row.updated_at), run_id=row.run_id,
        history_step=row.history_step,
    )


def need_member(conn: Connection, member_id: int) -> Member:
    """Of a deleted version too, as long as it is not a link: its state says so."""
    found = members_where(conn, _m.c.id == member_id)
    if not found:
        raise NotFoundError(f"there is no membership with the id {member_id}; it may have been unlinked or deleted")
    return found[0]


def need_living_member(conn: Connection, member_id: int) -> Member:
    found = need_member(conn, member_id)
    if found.version.state == "DELETED":
        raise NotFoundError(f"{found.qualified_name} was deleted")
    return found


def memberships_of(conn: Connection, version_id: int) -> list[Member]:
    """The source member first, then links in the order in which they were made; [] for an unknown id."""
    return members_where(conn, _m.c.version_id == version_id, order=(IS_SOURCE.desc(), _m.c.id))


def need_version(conn: Connection, version_id: int) -> Member:
    """The source member of a version, which may be deleted."""
    found = members_where(conn, _m.c.version_id == version_id, IS_SOURCE)
    if not found:
        raise NotFoundError(f"there is no version with the id {version_id}")
    return found[0]


def need_living_version(conn: Connection, version_id: int) -> Member:
    found = need_version(conn, version_id)
    if found.version.state == "DELETED":
        raise NotFoundError(f"{found.qualified_name} was deleted")
    return found


# runs -------------------------------------------------------------------------------------------------------------

RUNS = select(_r, _p.c.entity, _p.c.name.label("project")).join(_p, _r.c.project_id == _p.c.id)


def to_run(row: Row[Any]) -> RunRecord:
    return RunRecord(
        id=row.id, entity=row.entity, project=row.project, name=row.name, job_type=row.job_type,
        config=json.loads(row.config), state=row.state, history_steps=row.history_steps,
        created_at=to_time(row.created_at), finished_at=None if row.finished_at is None else to_time(row.finished_at),
    )


def need_run(conn: Connection, run_id: str) -> RunRecord:
    row = conn.execute(RUNS.where(_r.c.id == run_id)).one_or_none() if storable(run_id) else None
    if row is None:
        raise NotFoundError(f"there is no run {run_id!r}")
    return to_run(row)
