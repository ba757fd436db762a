"""The queries that give records. Built once, with named parameters: composing a statement of this size takes SQLAlchemy
longer than it takes SQLite to answer it. They are composed at their first use, since a command needs only a few.

`queries.BY_ALIAS.all(conn, entity="…", …)`: parameters by name, as in the query's definition below.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    Connection,
    Select,
    Text,
    bindparam,
    func,
    literal,
    select,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from artfs.catalog import schema
from artfs.errors import InvalidMetadataError
from artfs.model.records import Collection, Member, Project, RunRecord, Version
from artfs.model.ttl import INHERIT, ArtifactTTL, Ttl

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

_p, _c, _m, _v, _r = schema.projects, schema.collections, schema.memberships, schema.versions, schema.runs
_aliases, _run_versions = schema.aliases, schema.run_versions
_entity_ttls = schema.entity_ttls
# The place that a version came from, beside the one that it is seen in.
_source = schema.collections.alias("source")
_source_project = schema.projects.alias("source_project")


# What a version without a policy of its own has, by the project that it was logged to: NULL or 0 for "for ever".
INHERITED_TTL = func.coalesce(_source_project.c.ttl_s, _entity_ttls.c.ttl_s)


def to_time(stamp: int) -> datetime:
    """Exact; datetime.fromtimestamp would go through a float."""
    return _EPOCH + timedelta(microseconds=stamp)


def to_stamp(when: datetime) -> int:
    return (when - _EPOCH) // MICROSECOND


def to_json(value: dict[str, Any]) -> str:
    """Compact, ASCII only (see schema). Raises InvalidMetadataError for what JSON cannot hold."""
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidMetadataError(f"this is not a JSON object: {error}") from None


def to_ttl(seconds: int | None) -> Ttl:
    """What `ttl_s` means (see schema)."""
    return INHERIT if seconds is None else timedelta(seconds=seconds) if seconds else None


def from_ttl(ttl: Ttl) -> int | None:
    """The `ttl_s` of a policy that was checked."""
    if isinstance(ttl, ArtifactTTL):
        return None
    return 0 if ttl is None else ttl // timedelta(seconds=1)


def _given(name: str) -> BindParameter[Any]:
    return bindparam(name, required=True)


def _several(name: str) -> BindParameter[Any]:
    return bindparam(name, required=True, expanding=True)


class ProjectQuery:
    """Living projects for which all conditions hold, by name. One statement."""

    def __init__(self, *conditions: ColumnElement[bool]) -> None:
        self._conditions = conditions

    @cached_property
    def _rows(self) -> Select[Any]:
        return select(_p).where(_p.c.deleted_at.is_(None), *self._conditions).order_by(_p.c.name)

    def all(self, conn: Connection, **given: Any) -> list[Project]:
        return [
            Project(id=row.id, entity=row.entity, name=row.name, created_at=to_time(row.created_at))
            for row in conn.execute(self._rows, given)
        ]


class _gathered(FunctionElement[Any]):
    """The rows of a subquery as one JSON text: an array of arrays, in no order. NULL or empty: there are none."""

    name = "gathered"
    type = Text()
    inherit_cache = True


@compiles(_gathered)
def _gather(element: _gathered, compiler: SQLCompiler, **options: Any) -> str:
    return f"json_group_array(json_array({compiler.process(element.clauses, **options)}))"


@compiles(_gathered, "postgresql")
def _gather_in_postgresql(element: _gathered, compiler: SQLCompiler, **options: Any) -> str:
    return f"json_agg(json_build_array({compiler.process(element.clauses, **options)}))::text"


def _labels(text: str | None) -> tuple[str, ...]:
    """Of what was gathered as (order, label)."""
    if not text or text == "[]":
        return ()
    return tuple(label for _, label in sorted(json.loads(text)))


class CollectionQuery:
    """Living collections for which all conditions (on collections and projects) hold, by name. One statement."""

    def __init__(self, *conditions: ColumnElement[bool]) -> None:
        self._conditions = conditions

    @cached_property
    def _rows(self) -> Select[Any]:
        tag = schema.collection_tags
        tags = select(_gathered(tag.c.id, tag.c.tag)).where(tag.c.collection_id == _c.c.id).correlate(_c)
        return (
            select(_c, _p.c.entity, _p.c.name.label("project"), tags.scalar_subquery().label("tags"))
            .join(_p, _c.c.project_id == _p.c.id)
            .where(_c.c.deleted_at.is_(None), *self._conditions)
            .order_by(_c.c.name)
        )

    def all(self, conn: Connection, **given: Any) -> list[Collection]:
        return [
            Collection(
                id=row.id, entity=row.entity, project=row.project, name=row.name, type=row.type, kind=row.kind,
                description=row.description, tags=_labels(row.tags), created_at=to_time(row.created_at),
                updated_at=to_time(row.updated_at),
            )
            for row in conn.execute(self._rows, given)
        ]


class MemberQuery:
    """Memberships for which all conditions (on memberships, versions, collections, projects) hold. One statement, however many
    there are."""

    def __init__(
        self, *conditions: ColumnElement[bool], order: Iterable[ColumnElement[Any]] = (_m.c.member_index,)
    ) -> None:
        self._conditions = conditions
        self._order = tuple(order)

    @cached_property
    def _rows(self) -> Select[Any]:
        alias, tag = schema.aliases.alias("label"), schema.version_tags
        aliases = select(_gathered(literal(0), alias.c.alias)).where(alias.c.membership_id == _m.c.id).correlate(_m)
        tags = select(_gathered(tag.c.id, tag.c.tag)).where(tag.c.version_id == _m.c.version_id).correlate(_m)
        return (
            select(
                _m.c.id, _m.c.collection_id, _p.c.entity, _p.c.name.label("project"), _c.c.name.label("collection"),
                _m.c.member_index, _m.c.created_at.label("member_created_at"), _m.c.version_id,
                _source_project.c.entity.label("source_entity"), _source_project.c.name.label("source_project"),
                _source.c.name.label("source_collection"), _source.c.type, _v.c.source_index, _v.c.state, _v.c.digest,
                _v.c.size, _v.c.file_count, _v.c.description, _v.c.metadata, _v.c.run_id, _v.c.history_step,
                _v.c.created_at, _v.c.updated_at, _v.c.ttl_s, INHERITED_TTL.label("inherited_ttl_s"),
                aliases.scalar_subquery().label("aliases"), tags.scalar_subquery().label("tags"),
            )
            .select_from(_m)
            .join(_c, _m.c.collection_id == _c.c.id)
            .join(_p, _c.c.project_id == _p.c.id)
            .join(_v, _m.c.version_id == _v.c.id)
            .join(_source, _v.c.collection_id == _source.c.id)
            .join(_source_project, _source.c.project_id == _source_project.c.id)
            .outerjoin(_entity_ttls, _entity_ttls.c.entity == _source_project.c.entity)
            .where(*self._conditions)
            .order_by(*self._order)
        )

    def all(self, conn: Connection, **given: Any) -> list[Member]:
        return [
            Member(
                id=row.id, collection_id=row.collection_id, entity=row.entity, project=row.project,
                collection=row.collection, index=row.member_index, aliases=_labels(row.aliases), version=_to_version(row),
                created_at=to_time(row.member_created_at),
            )
            for row in conn.execute(self._rows, given)
        ]

    def first(self, conn: Connection, **given: Any) -> Member | None:
        found = self.all(conn, **given)
        return found[0] if found else None


def _to_version(row: Any) -> Version:
    return Version(
        id=row.version_id, entity=row.source_entity, project=row.source_project, collection=row.source_collection,
        source_index=row.source_index, type=row.type, state=row.state, digest=row.digest, size=row.size,
        file_count=row.file_count, description=row.description, metadata=json.loads(row.metadata), tags=_labels(row.tags),
        created_at=to_time(row.created_at), updated_at=to_time(row.updated_at), run_id=row.run_id,
        history_step=row.history_step, ttl=to_ttl(row.ttl_s),
        inherited_ttl=timedelta(seconds=row.inherited_ttl_s) if row.inherited_ttl_s else None,
    )


class RunQuery:
    """Runs for which all conditions (on runs and run_versions, when `relation` is given) hold. One statement."""

    def __init__(self, *conditions: ColumnElement[bool], relation: str | None = None) -> None:
        self._conditions = conditions
        self._relation = relation

    @cached_property
    def _rows(self) -> Select[Any]:
        rows = select(_r, _p.c.entity, _p.c.name.label("project")).join(_p, _r.c.project_id == _p.c.id)
        rows = rows.where(*self._conditions)
        if self._relation is None:
            return rows.order_by(_r.c.created_at, _r.c.id)
        rows = rows.join(_run_versions, _run_versions.c.run_id == _r.c.id)
        return rows.where(_run_versions.c.relation == self._relation).order_by(_run_versions.c.at, _r.c.id)

    def all(self, conn: Connection, **given: Any) -> list[RunRecord]:
        return [
            RunRecord(
                id=row.id, entity=row.entity, project=row.project, name=row.name, job_type=row.job_type,
                config=json.loads(row.config), state=row.state, history_steps=row.history_steps,
                created_at=to_time(row.created_at),
                finished_at=None if row.finished_at is None else to_time(row.finished_at),
                summary=json.loads(row.summary) if row.summary else {}, group=row.group_name,
                tags=tuple(json.loads(row.tags)) if row.tags else (), notes=row.notes,
            )
            for row in conn.execute(self._rows, given)
        ]


PROJECTS = ProjectQuery(_p.c.entity == _given("entity"))
PROJECT = ProjectQuery(_p.c.entity == _given("entity"), _p.c.name == _given("name"))

_IN_PLACE = (
    _p.c.entity == _given("entity"), _p.c.name == _given("project"), _p.c.deleted_at.is_(None),
    _c.c.name == _given("collection"), _c.c.deleted_at.is_(None),
)
COLLECTION = CollectionQuery(*_IN_PLACE)
COLLECTION_BY_ID = CollectionQuery(_c.c.id == _given("collection_id"))
COLLECTIONS_BY_ID = CollectionQuery(_c.c.id.in_(_several("ids")))
COLLECTIONS = CollectionQuery(_c.c.project_id == _given("project_id"))
COLLECTIONS_OF_TYPE = CollectionQuery(_c.c.project_id == _given("project_id"), _c.c.type == _given("type"))

IS_SOURCE = _m.c.collection_id == _v.c.collection_id
IS_COMMITTED = _v.c.state == "COMMITTED"


def _named(collection_id: ColumnElement[int], alias: ColumnElement[str]) -> ColumnElement[bool]:
    """The membership that the alias names in the collection."""
    owner = select(_aliases.c.membership_id).where(
        _aliases.c.collection_id == collection_id, _aliases.c.alias == alias
    )
    return _m.c.id == owner.scalar_subquery()


BY_ALIAS = MemberQuery(*_IN_PLACE, IS_COMMITTED, _named(_c.c.id, _given("alias")))
# Any number of 64 bits may be asked for, though no index has more than 31.
BY_INDEX = MemberQuery(*_IN_PLACE, IS_COMMITTED, _m.c.member_index == bindparam("index", type_=BigInteger, required=True))
MEMBER = MemberQuery(_m.c.id == _given("member_id"))
MEMBERS_BY_ID = MemberQuery(_m.c.id.in_(_several("ids")))
MEMBERS = MemberQuery(_m.c.collection_id == _given("collection_id"), IS_COMMITTED)
MEMBER_AT = MemberQuery(
    _m.c.collection_id == _given("collection_id"), _m.c.member_index == _given("index"), IS_COMMITTED
)
MEMBER_NAMED = MemberQuery(_named(_given("collection_id"), _given("alias")))
SOURCE_OF = MemberQuery(_m.c.version_id == _given("version_id"), IS_SOURCE)
# The source first, then links in the order in which they were made.
MEMBERSHIPS_OF = MemberQuery(_m.c.version_id == _given("version_id"), order=(IS_SOURCE.desc(), _m.c.id))
MEMBERSHIP_IN = MemberQuery(_m.c.version_id == _given("version_id"), _m.c.collection_id == _given("collection_id"))
# Links, anywhere, to the versions of one sequence.
LINKS_FROM = MemberQuery(_v.c.collection_id == _given("collection_id"), ~IS_SOURCE)
SOURCES_IN_STATE = MemberQuery(
    _v.c.state == _given("state"), IS_SOURCE, order=(_p.c.entity, _p.c.name, _c.c.name, _m.c.member_index)
)
# By version id: the order of their commits.
SOURCES_OF_RUN = MemberQuery(
    _v.c.id.in_(
        select(_run_versions.c.version_id).where(
            _run_versions.c.run_id == _given("run_id"), _run_versions.c.relation == _given("relation")
        )
    ),
    IS_SOURCE,
    IS_COMMITTED,
    order=(_v.c.id,),
)

RUN = RunQuery(_r.c.id == _given("run_id"))
RUNS_BY_ID = RunQuery(_r.c.id.in_(_several("ids")))
RUNS = RunQuery(_r.c.project_id == _given("project_id"))
# In the order of their first time.
LOGGERS_OF = RunQuery(_run_versions.c.version_id == _given("version_id"), relation="logged")
USERS_OF = RunQuery(_run_versions.c.version_id == _given("version_id"), relation="used")
