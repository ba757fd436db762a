"""Projects and collections."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, delete, func, insert, select, update

from artfs.catalog import schema
from artfs.catalog.sql import labels, queries, rows, versions
from artfs.catalog.sql.engine import Writing
from artfs.errors import ConflictError, TypeConflictError
from artfs.model import names
from artfs.model.records import Collection, CollectionKind, Project

_p, _c, _m, _v = schema.projects, schema.collections, schema.memberships, schema.versions


def projects(conn: Connection, entity: str) -> list[Project]:
    return queries.PROJECTS.all(conn, entity=entity) if rows.storable(entity) else []


def entities(conn: Connection) -> list[str]:
    query = select(_p.c.entity).where(_p.c.deleted_at.is_(None)).distinct().order_by(_p.c.entity)
    return list(conn.execute(query).scalars())


def create_project(tx: Writing, entity: str, name: str) -> Project:
    names.check_entity_name(entity)
    names.check_project_name(name)
    found = rows.find_project(tx.conn, entity, name)
    if found is None:
        tx.conn.execute(insert(_p).values(entity=entity, name=name, created_at=tx.now))
        tx.note(entity)
        tx.did("create_project", entity, name, name)
        found = rows.need_project(tx.conn, entity, name)
    return found


def delete_project(tx: Writing, entity: str, name: str) -> None:
    project = rows.need_project(tx.conn, entity, name)
    living = select(func.count()).where(_c.c.project_id == project.id, _c.c.deleted_at.is_(None))
    count = tx.conn.execute(living).scalar_one()
    if count:
        raise ConflictError(f"the project {entity}/{name} has {count} collections; delete them first")
    tx.conn.execute(update(_p).where(_p.c.id == project.id).values(deleted_at=tx.now))
    tx.note(entity)
    tx.did("delete_project", entity, name, name)


def collections(conn: Connection, entity: str, project: str, type: str | None) -> list[Collection]:
    place = rows.need_project(conn, entity, project)
    if type is None:
        return queries.COLLECTIONS.all(conn, project_id=place.id)
    return queries.COLLECTIONS_OF_TYPE.all(conn, project_id=place.id, type=type) if rows.storable(type) else []


def check_home_of_sequences(project: str) -> None:
    """Raises ConflictError for a registry."""
    if project.startswith(names.REGISTRY_PREFIX):
        raise ConflictError(
            f"{project} is a registry: it holds links; log the version in another project, and link it to here"
        )


def create_collection(
    tx: Writing, entity: str, project: str, name: str, type: str, kind: CollectionKind, description: str | None
) -> Collection:
    """See Catalog.create_collection. An existing one keeps its description; one without a type gets the one given."""
    names.check_collection_name(name)
    if type:
        names.check_type(type, name)
    place = create_project(tx, entity, project)
    found = rows.find_collection(tx.conn, entity, project, name)
    if found is None:
        if kind == "sequence":
            check_home_of_sequences(project)
        found_id = tx.conn.execute(
            insert(_c)
            .values(
                project_id=place.id, name=name, type=type, kind=kind, description=description, next_index=0,
                created_at=tx.now, updated_at=tx.now,
            )
            .returning(_c.c.id)
        ).scalar_one()
        tx.stamps[found_id] = tx.now
        tx.note(entity, project)
        tx.did("create_collection", entity, project, name, type=type, kind=kind)
        return rows.need_collection_id(tx.conn, found_id)
    if found.kind != kind:
        raise ConflictError(f"{entity}/{project}/{name} exists, and is a {found.kind}, not a {kind}")
    return settle_type(tx, found, type)


def settle_type(tx: Writing, collection: Collection, type: str) -> Collection:
    """The collection with `type`, which one that has none yet takes over; "" asks for nothing. Raises
    TypeConflictError when it has another."""
    if not type or type == collection.type:
        return collection
    if collection.type:
        raise TypeConflictError(
            f"{collection.entity}/{collection.project}/{collection.name} holds artifacts of type {collection.type!r}, "
            f"not {type!r}; use that type, or another name"
        )
    names.check_type(type, collection.name)
    labels.touch(tx, collection.id)
    tx.conn.execute(update(_c).where(_c.c.id == collection.id).values(type=type))
    tx.did("update_collection", collection.entity, collection.project, collection.name, type=type)
    return rows.need_collection_id(tx.conn, collection.id)


def update_collection(
    tx: Writing, collection_id: int, name: str | None, description: str | None, tags: Iterable[str] | None,
    add_tags: Iterable[str], remove_tags: Iterable[str], type: str | None,
) -> Collection:
    """See Catalog.update_collection. None leaves a thing as it is, a description "" removes it, `tags` replace all."""
    collection = rows.need_collection_id(tx.conn, collection_id)
    changes: dict[str, str | None] = {}
    if name is not None and name != collection.name:
        names.check_collection_name(name)
        if rows.find_collection(tx.conn, collection.entity, collection.project, name) is not None:
            raise ConflictError(f"{collection.entity}/{collection.project} has a collection {name!r} already")
        changes["name"] = name
    if description is not None and (description or None) != collection.description:
        changes["description"] = description or None
    if type is not None and type != collection.type:
        if collection.kind == "portfolio":
            raise ConflictError(f"{collection.name} is a portfolio: its type is that of the versions it links to")
        names.check_type(type, changes.get("name") or collection.name)
        changes["type"] = type
    tagged = False
    wanted = _tags_after(collection, tags, add_tags, remove_tags)
    if wanted is not None and wanted != collection.tags:
        table = schema.collection_tags
        owner = table.c.collection_id
        # All anew, for their order.
        labels.change_tags(tx, table, owner, collection_id, add=(), remove=collection.tags)
        tagged = labels.change_tags(tx, table, owner, collection_id, add=wanted, remove=()) or bool(collection.tags)
    if changes or tagged:
        labels.touch(tx, collection_id)
        if changes:
            tx.conn.execute(update(_c).where(_c.c.id == collection_id).values(changes))
        if "name" in changes:
            tx.note(collection.entity, collection.project)
            tx.note(collection.entity, collection.project, collection.name)
        told = {**changes, "tags": list(wanted or ())} if tagged else changes
        tx.did("update_collection", collection.entity, collection.project, collection.name, **told)
    return rows.need_collection_id(tx.conn, collection_id)


def _tags_after(
    collection: Collection, tags: Iterable[str] | None, add: Iterable[str], remove: Iterable[str]
) -> tuple[str, ...] | None:
    """None: no change was asked for."""
    added, gone = labels.check_tags(add), labels.as_names(remove, "tags")
    if tags is None and not added and not gone:
        return None
    kept = [tag for tag in (collection.tags if tags is None else labels.check_tags(tags)) if tag not in gone]
    return tuple(dict.fromkeys([*kept, *added]))


def delete_collection(tx: Writing, collection_id: int, allow_protected: bool) -> None:
    """See Catalog.delete_collection. A few statements, however many versions there are: others wait for the lock."""
    collection = rows.need_collection_id(tx.conn, collection_id)
    stamp = labels.touch(tx, collection_id)
    aliases = schema.aliases
    there = select(aliases.c.alias).where(aliases.c.collection_id == collection_id)
    gone = tx.conn.execute(there).scalars().all()
    labels.check_protected(tx, collection_id, gone, allow_protected)
    labels.drop(tx, collection_id, stamp, gone)
    if collection.kind == "portfolio":
        tx.conn.execute(delete(_m).where(_m.c.collection_id == collection_id))
    else:
        for link in queries.LINKS_FROM.all(tx.conn, collection_id=collection_id):
            versions.remove(tx, link, allow_protected=allow_protected)
        living = update(_v).where(_v.c.collection_id == collection_id, _v.c.state != "DELETED")
        tx.conn.execute(living.values(state="DELETED", updated_at=stamp, deleted_at=stamp))
    tx.conn.execute(update(_c).where(_c.c.id == collection_id).values(deleted_at=stamp))
    tx.note(collection.entity, collection.project)
    tx.did("delete_collection", collection.entity, collection.project, collection.name)
