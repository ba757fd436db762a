"""Finding things by name or id. `find_…` return None, `need_…` raise NotFoundError with a message that says what is
there instead. Everything here reads only."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from sqlalchemy import Connection

from artfs.catalog.sql import queries
from artfs.errors import NotFoundError
from artfs.model.records import Collection, Member, Project, RunRecord


def storable(*names: str) -> bool:
    """False for a name with a lone surrogate (bytes of a path that are no UTF-8) or NUL: a database cannot even be asked for it,
    so nothing has that name."""
    try:
        for name in names:
            if b"\0" in name.encode():
                return False
    except UnicodeEncodeError:
        return False
    return True


def some(names: Sequence[str], limit: int = 6) -> str:
    """The names for a message, cut after `limit`."""
    if len(names) <= limit:
        return ", ".join(names)
    return f"{', '.join(names[:limit])} and {len(names) - limit} more"


def find_project(conn: Connection, entity: str, name: str) -> Project | None:
    found = queries.PROJECT.all(conn, entity=entity, name=name) if storable(entity, name) else []
    return found[0] if found else None


def need_project(conn: Connection, entity: str, name: str) -> Project:
    found = find_project(conn, entity, name)
    if found is not None:
        return found
    there = [project.name for project in queries.PROJECTS.all(conn, entity=entity)] if storable(entity) else []
    if not there:
        raise NotFoundError(f"there is no project {name!r}: {entity} has no projects")
    close = difflib.get_close_matches(name, there, n=3)
    shown = close + [other for other in there if other not in close]
    raise NotFoundError(f"there is no project {name!r}; {entity} has {some(shown)}")


def find_collection(conn: Connection, entity: str, project: str, name: str) -> Collection | None:
    if not storable(entity, project, name):
        return None
    found = queries.COLLECTION.all(conn, entity=entity, project=project, collection=name)
    return found[0] if found else None


def need_collection(conn: Connection, entity: str, project: str, name: str) -> Collection:
    found = find_collection(conn, entity, project, name)
    if found is not None:
        return found
    place = need_project(conn, entity, project)
    there = [other.name for other in queries.COLLECTIONS.all(conn, project_id=place.id)]
    close = difflib.get_close_matches(name, there, n=3)
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    raise NotFoundError(f"there is no collection {name!r} in {entity}/{project}{hint}")


def need_collection_id(conn: Connection, collection_id: int) -> Collection:
    found = queries.COLLECTION_BY_ID.all(conn, collection_id=collection_id)
    if not found:
        raise NotFoundError(f"there is no collection with the id {collection_id}; it may have been deleted")
    return found[0]


def need_member(conn: Connection, member_id: int) -> Member:
    """Of a deleted version too, as long as it is not a link: its state says so."""
    found = queries.MEMBER.first(conn, member_id=member_id)
    if found is None:
        raise NotFoundError(f"there is no membership with the id {member_id}; it may have been unlinked")
    return found


def need_living_member(conn: Connection, member_id: int) -> Member:
    return _living(need_member(conn, member_id))


def need_version(conn: Connection, version_id: int) -> Member:
    """The source member of a version, which may be deleted."""
    found = queries.SOURCE_OF.first(conn, version_id=version_id)
    if found is None:
        raise NotFoundError(f"there is no version with the id {version_id}")
    return found


def need_living_version(conn: Connection, version_id: int) -> Member:
    return _living(need_version(conn, version_id))


def _living(member: Member) -> Member:
    if member.version.state == "DELETED":
        raise NotFoundError(f"{member.qualified_name} was deleted")
    return member


def need_run(conn: Connection, run_id: str) -> RunRecord:
    found = queries.RUN.all(conn, run_id=run_id) if storable(run_id) else []
    if not found:
        raise NotFoundError(f"there is no run {run_id!r}")
    return found[0]
