"""Versions: finding, changing and deleting them, and their links. `commits` makes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from types import EllipsisType
from typing import Any

from sqlalchemy import Connection, delete, func, select, update

from artfs.catalog import schema
from artfs.catalog.sql import labels, queries, rows
from artfs.catalog.sql.engine import Writing
from artfs.catalog.sql.labels import LATEST
from artfs.errors import ConflictError, NotFoundError
from artfs.model import names
from artfs.model.metadata import check_metadata, same_json
from artfs.model.records import Collection, Member, Version
from artfs.model.ttl import Ttl, check_ttl

_m, _v, _aliases, _events = schema.memberships, schema.versions, schema.aliases, schema.alias_events


# finding ----------------------------------------------------------------------------------------------------------


def members(conn: Connection, collection_id: int) -> list[Member]:
    found = queries.MEMBERS.all(conn, collection_id=collection_id)
    if not found:
        rows.need_collection_id(conn, collection_id)
    return found


def resolve(
    conn: Connection, clock: Callable[[Connection], int], entity: str, project: str, collection: str, alias: str
) -> Member:
    """See Catalog.resolve. `clock` gives microseconds since 1970 UTC; what is later is the future."""
    if alias.startswith("@"):
        place = rows.need_collection(conn, entity, project, collection)
        return _as_of(conn, place, names.parse_time(alias[1:]), clock(conn))
    if rows.storable(entity, project, collection, alias):
        given = {"entity": entity, "project": project, "collection": collection}
        if names.is_version(alias):
            found = queries.BY_INDEX.first(conn, **given, index=names.version_index(alias))
        else:
            found = queries.BY_ALIAS.first(conn, **given, alias=alias)
        if found is not None:
            return found
    raise NotFoundError(_no_member(conn, rows.need_collection(conn, entity, project, collection), alias))


def _no_member(conn: Connection, collection: Collection, alias: str) -> str:
    """Why `collection:alias` is not found, and what there is."""
    name = f"{collection.project}/{collection.name}"
    if names.is_version(alias):
        c = schema.collections
        used = conn.execute(select(c.c.next_index).where(c.c.id == collection.id)).scalar_one()
        if names.version_index(alias) < used:
            gone = "unlinked or deleted" if collection.kind == "portfolio" else "deleted"
            return f"{name}:{alias} was {gone}; {name} has {_what_is_there(conn, collection)}"
        return f"there is no version {alias} of {name}; it has {_what_is_there(conn, collection)}"
    return f"{name} has no alias {alias!r}; it has {_what_is_there(conn, collection)}"


def _what_is_there(conn: Connection, collection: Collection) -> str:
    committed = (
        select(func.count(), func.min(_m.c.member_index), func.max(_m.c.member_index))
        .join(_v, _m.c.version_id == _v.c.id)
        .where(_m.c.collection_id == collection.id, queries.IS_COMMITTED)
    )
    count, first, last = conn.execute(committed).one()
    if not count:
        return "no versions yet" if collection.kind == "sequence" else "no linked versions"
    there = f"v{first}" if count == 1 else f"{count} versions, v{first} to v{last}"
    known = select(_aliases.c.alias).where(_aliases.c.collection_id == collection.id).order_by(_aliases.c.alias)
    found = list(conn.execute(known).scalars())
    return f"{rows.some(found)}; {there}" if found else f"no aliases; {there}"


def _as_of(conn: Connection, collection: Collection, when: datetime, now: int) -> Member:
    """The member that `latest` named at `when`."""
    name = f"{collection.project}/{collection.name}"
    stamp = queries.to_stamp(when)
    shown = when.isoformat(timespec="seconds").replace("+00:00", "Z")
    if stamp > now:
        raise NotFoundError(f"{shown} is still to come (a date means the end of that day, UTC); use {name}:{LATEST}")
    event = conn.execute(
        select(_events.c.member_index)
        .where(_events.c.collection_id == collection.id, _events.c.alias == LATEST, _events.c.at <= stamp)
        .order_by(_events.c.at.desc(), _events.c.id.desc())
        .limit(1)
    ).one_or_none()
    if event is None:
        first = conn.execute(select(func.min(_m.c.created_at)).where(_m.c.collection_id == collection.id)).scalar()
        since = f"; its first is of {queries.to_time(first).isoformat(timespec='seconds')}" if first is not None else ""
        raise NotFoundError(f"{name} had no version yet at {shown}{since}")
    if event.member_index is None:
        raise NotFoundError(f"no version of {name} had the alias {LATEST!r} at {shown}")
    found = queries.MEMBER_AT.first(conn, collection_id=collection.id, index=event.member_index)
    if found is None:
        gone = "unlinked or deleted" if collection.kind == "portfolio" else "deleted"
        raise NotFoundError(f"{name}:v{event.member_index} was {LATEST} at {shown}, but it was {gone} since")
    return found


def memberships(conn: Connection, version_id: int) -> list[Member]:
    found = queries.MEMBERSHIPS_OF.all(conn, version_id=version_id)
    if not found:
        rows.need_version(conn, version_id)
    return found


def in_state(conn: Connection, state: str) -> list[Member]:
    return queries.SOURCES_IN_STATE.all(conn, state=state) if rows.storable(state) else []


def live_roots(conn: Connection) -> list[str]:
    """Each once, however many versions and parts have it."""
    versions = select(_v.c.digest).where(_v.c.state != "DELETED")
    return list(conn.execute(versions.union(select(schema.version_parts.c.digest))).scalars())


def alias_history(conn: Connection, collection_id: int) -> list[tuple[datetime, str, int | None]]:
    rows.need_collection_id(conn, collection_id)
    events = conn.execute(
        select(_events.c.at, _events.c.alias, _events.c.member_index)
        .where(_events.c.collection_id == collection_id)
        .order_by(_events.c.at, _events.c.id)
    )
    return [(queries.to_time(event.at), event.alias, event.member_index) for event in events]


# changing ---------------------------------------------------------------------------------------------------------


def update_version(
    tx: Writing, version_id: int, description: str | EllipsisType | None, metadata: dict[str, Any] | None,
    add_tags: Iterable[str], remove_tags: Iterable[str], ttl: Ttl | EllipsisType,
) -> Version:
    """See Catalog.update_version. A tag both removed and added stays. When nothing changes, nothing is written."""
    wanted = labels.check_tags(add_tags)
    unwanted = labels.as_names(remove_tags, "tags")
    detached = None if metadata is None else check_metadata(metadata)
    policy = ttl if isinstance(ttl, EllipsisType) else check_ttl(ttl)
    source = rows.need_living_version(tx.conn, version_id)
    version = source.version
    changes: dict[str, Any] = {}
    if not isinstance(description, EllipsisType) and description != version.description:
        changes["description"] = description
    if detached is not None and not same_json(detached, version.metadata):
        changes["metadata"] = queries.to_json(detached)
    if not isinstance(policy, EllipsisType) and policy != version.ttl:
        changes["ttl_s"] = queries.from_ttl(policy)
    tagged = labels.tag_version(tx, version_id, wanted, unwanted)
    if not changes and not tagged:
        return version
    changes["updated_at"] = labels.touch(tx, source.collection_id)
    tx.conn.execute(update(_v).where(_v.c.id == version_id).values(changes))
    tx.note_version(version_id)
    told = sorted(changes.keys() - {"updated_at"}) + ["tags"] * tagged
    tx.did("update_version", source.entity, source.project, source.name, changed=told)
    return rows.need_living_version(tx.conn, version_id).version


def delete_version(tx: Writing, member_id: int, delete_aliases: bool, allow_protected: bool) -> None:
    """See Catalog.delete_version. Wherever this was `latest`, the newest member that stays becomes it."""
    member = rows.need_living_member(tx.conn, member_id)
    if not member.is_link and not delete_aliases:
        labels.refuse_if_aliased(queries.MEMBERSHIPS_OF.all(tx.conn, version_id=member.version.id))
    remove(tx, member, allow_protected=allow_protected)
    tx.did("delete_version", member.entity, member.project, member.name, aliases=list(member.aliases))


def unlink(tx: Writing, member_id: int, allow_protected: bool) -> None:
    member = rows.need_member(tx.conn, member_id)
    if not member.is_link:
        raise ConflictError(f"{member.qualified_name} is not a link, so it cannot be unlinked; delete it instead")
    remove(tx, member, allow_protected=allow_protected)
    tx.did("unlink", member.entity, member.project, member.name, aliases=list(member.aliases))


def remove(tx: Writing, member: Member, *, allow_protected: bool) -> None:
    """Takes a committed member out of its collection: a link goes; a source takes its version and all links along.
    Raises AliasProtectedError when something of it has a protected alias, unless they are allowed."""
    labels.check_protected(tx, member.collection_id, member.aliases, allow_protected)
    if member.is_link:
        labels.vacate(tx, member, labels.touch(tx, member.collection_id))
        tx.conn.execute(delete(_m).where(_m.c.id == member.id))
        return
    for place in queries.MEMBERSHIPS_OF.all(tx.conn, version_id=member.version.id):
        if place.is_link:
            remove(tx, place, allow_protected=allow_protected)
    stamp = labels.touch(tx, member.collection_id)
    labels.vacate(tx, member, stamp)
    gone = {"state": "DELETED", "updated_at": stamp, "deleted_at": stamp}
    tx.conn.execute(update(_v).where(_v.c.id == member.version.id).values(gone))
