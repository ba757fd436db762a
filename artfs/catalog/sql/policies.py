"""Policies: how long versions live, and which aliases are protected."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, delete, func, insert, or_, select, update

from artfs.catalog import schema
from artfs.catalog.sql import labels, names, parts, queries, rows, versions
from artfs.catalog.sql.engine import Writing
from artfs.errors import InvalidArgumentError
from artfs.model.names import REGISTRY_PREFIX, check_entity_name
from artfs.model.records import Member
from artfs.model.ttl import Ttl, check_ttl

_p, _c, _m, _v = schema.projects, schema.collections, schema.memberships, schema.versions
_protected, _entity_ttls, _aliases = schema.protected_aliases, schema.entity_ttls, schema.aliases
_MICROSECONDS = 1_000_000


# protected aliases ------------------------------------------------------------------------------------------------


def protected_aliases(conn: Connection, entity: str, project: str) -> list[str]:
    place = rows.need_project(conn, entity, project)
    query = select(_protected.c.alias).where(_protected.c.project_id == place.id).order_by(_protected.c.alias)
    return list(conn.execute(query).scalars())


def protect_aliases(tx: Writing, entity: str, project: str, add: Iterable[str], remove: Iterable[str]) -> list[str]:
    """See Catalog.protect_aliases."""
    wanted = labels.check_aliases(add)
    unwanted = labels.as_names(remove, "aliases")
    if labels.LATEST in wanted:
        raise InvalidArgumentError("'latest' moves with every new version, so it cannot be protected")
    place = names.create_project(tx, entity, project)
    there = set(protected_aliases(tx.conn, entity, project))
    gone = there.intersection(unwanted).difference(wanted)
    new = [alias for alias in wanted if alias not in there]
    if gone:
        mine = _protected.c.project_id == place.id
        tx.conn.execute(delete(_protected).where(mine, _protected.c.alias.in_(gone)))
    if new:
        tx.conn.execute(insert(_protected), [{"project_id": place.id, "alias": alias} for alias in new])
    if gone or new:
        tx.note(entity, project)
        tx.did("protect_aliases", entity, project, project, add=new, remove=sorted(gone))
    return protected_aliases(tx.conn, entity, project)


# defaults ---------------------------------------------------------------------------------------------------------


def default_ttl(conn: Connection, entity: str, project: str | None) -> Ttl:
    if project is None:
        seconds = conn.execute(select(_entity_ttls.c.ttl_s).where(_entity_ttls.c.entity == entity)).scalar()
        return None if seconds is None else timedelta(seconds=seconds)
    place = rows.need_project(conn, entity, project)
    return queries.to_ttl(conn.execute(select(_p.c.ttl_s).where(_p.c.id == place.id)).scalar_one())


def set_default_ttl(tx: Writing, entity: str, project: str | None, ttl: Ttl) -> None:
    """See Catalog.set_default_ttl. The versions that inherit it are not touched: what they have is looked up."""
    checked = check_ttl(ttl)
    if project is None:
        check_entity_name(entity)
        if checked == default_ttl(tx.conn, entity, None):
            return
        tx.conn.execute(delete(_entity_ttls).where(_entity_ttls.c.entity == entity))
        if isinstance(checked, timedelta):
            tx.conn.execute(insert(_entity_ttls).values(entity=entity, ttl_s=queries.from_ttl(checked)))
        tx.note(entity)
        tx.did("set_default_ttl", entity, None, entity, ttl_s=queries.from_ttl(checked))
        return
    place = names.create_project(tx, entity, project)
    if checked != default_ttl(tx.conn, entity, project):
        tx.conn.execute(update(_p).where(_p.c.id == place.id).values(ttl_s=queries.from_ttl(checked)))
        tx.note(entity, project)
        tx.did("set_default_ttl", entity, project, project, ttl_s=queries.from_ttl(checked))


# expiry -----------------------------------------------------------------------------------------------------------


def _stays() -> ColumnElement[bool]:
    """Versions whose time may be up, and which stay: a protected alias names them, or a registry holds them."""
    place, held, project = _m.alias(), _c.alias(), _p.alias()
    shielded = (
        select(place.c.id)
        .join(held, place.c.collection_id == held.c.id)
        .join(_protected, _protected.c.project_id == held.c.project_id)
        .join(_aliases, (_aliases.c.membership_id == place.c.id) & (_aliases.c.alias == _protected.c.alias))
        .where(place.c.version_id == _v.c.id)
    )
    place, held = _m.alias(), _c.alias()
    registered = (
        select(place.c.id)
        .join(held, place.c.collection_id == held.c.id)
        .join(project, held.c.project_id == project.c.id)
        .where(
            place.c.version_id == _v.c.id, place.c.collection_id != _v.c.collection_id,
            project.c.name.startswith(REGISTRY_PREFIX, autoescape=True),
        )
    )
    return or_(shielded.exists(), registered.exists())


# Not `state = 'COMMITTED'`: SQLite would go by the index of states, which nearly all versions share.
_LIVES = (_v.c.state != "DELETED", _v.c.state != "PENDING")
_OWN = (_v.c.ttl_s > 0, *_LIVES)
_INHERITS = (_v.c.ttl_s.is_(None), *_LIVES)


def _defaults(conn: Connection) -> list[tuple[int, int]]:
    """The projects whose versions expire when they have no policy of their own: ids, and after how many microseconds."""
    seconds = func.coalesce(_p.c.ttl_s, _entity_ttls.c.ttl_s)
    query = (
        select(_p.c.id, seconds)
        .outerjoin(_entity_ttls, _entity_ttls.c.entity == _p.c.entity)
        .where(_p.c.deleted_at.is_(None), seconds > 0)
    )
    return [(found, lifetime * _MICROSECONDS) for found, lifetime in conn.execute(query)]


def next_expiry(conn: Connection) -> datetime | None:
    """See Catalog.next_expiry. Within a collection the oldest version is the one with the smallest index, so the search ends at
    the first one that counts, not at the last version."""
    own = select(func.min(_v.c.created_at + _v.c.ttl_s * _MICROSECONDS)).where(*_OWN, ~_stays())
    found = [conn.execute(own).scalar()]
    for project_id, lifetime in _defaults(conn):
        first = (
            select(_v.c.created_at)
            .where(_v.c.collection_id == _c.c.id, *_INHERITS, ~_stays())
            .order_by(_v.c.source_index)
            .limit(1)
            .correlate(_c)
            .scalar_subquery()
        )
        oldest = select(func.min(first)).where(_c.c.project_id == project_id, _c.c.deleted_at.is_(None))
        stamp = conn.execute(oldest).scalar()
        found.append(None if stamp is None else stamp + lifetime)
    stamps = [stamp for stamp in found if stamp is not None]
    return queries.to_time(min(stamps)) if stamps else None


def expire(tx: Writing, limit: int) -> list[Member]:
    """See Catalog.expire."""
    parts.forget(tx)
    at = _v.c.created_at + _v.c.ttl_s * _MICROSECONDS
    own = select(_v.c.id).where(*_OWN, at <= tx.now, ~_stays()).order_by(at, _v.c.id).limit(limit)
    due = list(tx.conn.execute(own).scalars())
    for project_id, lifetime in _defaults(tx.conn):
        inherited = (
            select(_v.c.id)
            .join(_c, _v.c.collection_id == _c.c.id)
            .where(
                _c.c.project_id == project_id, _c.c.deleted_at.is_(None), *_INHERITS, _v.c.created_at <= tx.now - lifetime,
                ~_stays(),
            )
            .order_by(_c.c.id, _v.c.source_index)
            .limit(limit - len(due))
        )
        due += tx.conn.execute(inherited).scalars()
    gone = [rows.need_version(tx.conn, version_id) for version_id in due]
    for member in gone:
        versions.remove(tx, member, allow_protected=False)
        tx.did("expire", member.entity, member.project, member.name)
    return gone
