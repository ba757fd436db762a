"""Whether a caller may make a call, and on which project. Nobody learns whether what he may not read exists: a project in which
a token has no role is refused, whether it is there or not, and an id of something there is one that does not exist. The words
are the same, too, and name nothing that the caller may not read."""

from __future__ import annotations

import difflib
import shlex
import threading
from typing import Any

from cachetools import LRUCache

from artfs.catalog.base import Catalog
from artfs.catalog.ledger import Ledger
from artfs.errors import ForbiddenError, NotFoundError
from artfs.model.access import Role, is_enough
from artfs.model.records import Project
from artfs.server.auth import forbidden
from artfs.server.calls import Call, Caller
from artfs.wire.routes import Place, Right

_CACHED = 50_000
"""Of how many ids the project is remembered. Ids are never used again and never move, so this cannot become wrong."""

_SHOWN = 6


class Rights:
    """Thread-safe."""

    def __init__(self, catalog: Catalog, ledger: Ledger) -> None:
        self._catalog = catalog
        self._ledger = ledger
        self._places: LRUCache[tuple[Place, Any], tuple[str, str]] = LRUCache(_CACHED)
        self._lock = threading.Lock()  # of the cache

    def admit(self, call: Call) -> None:
        """Fills in the call's place. Raises ForbiddenError, or NotFoundError for an id of what the caller may not read."""
        right, caller, where = call.route.right, call.caller, call.route.place
        if right == "server" and not caller.is_admin:
            raise forbidden(caller, "administrator", "this server")
        if right == "token" and caller.token is not None and not (caller.is_admin or caller.token.grants):
            raise ForbiddenError(f"the token {caller.token.name!r} has no role in any project")
        if right in ("public", "token", "server"):
            return
        match where:
            case Place.ENTITY:
                self._admit_entity(call, right)
            case Place.VERSION:
                self._admit_version(call, right)
            case Place.PROJECT:
                call.place = (call.arguments["entity"], call.arguments["project"])
                self._need(caller, right, call.place)
            case Place.BODY:
                call.place = (call.body.entity, call.body.project)
                self._need(caller, right, call.place)
            case _:
                place = self.place_of(where, call.arguments[_ARGUMENTS[where]], caller)
                call.place = place
                self._need(caller, right, place)

    def place_of(self, where: Place, id_: Any, caller: Caller) -> tuple[str, str]:
        """The project of something with an id. NotFoundError when there is no such thing, or the caller may not read it."""
        with self._lock:
            place = self._places.get((where, id_))
        if place is None:
            project = self._look_up(where, id_)
            if project is None:
                raise absent(where, id_)
            place = (project.entity, project.name)
            with self._lock:
                self._places[where, id_] = place
        if not caller.reads(*place):
            raise absent(where, id_)
        return place

    def need(self, caller: Caller, role: Role, entity: str, project: str) -> None:
        """Raises as `admit` does."""
        self._need(caller, role, (entity, project))

    def projects_of_version(self, caller: Caller, version_id: int) -> list[tuple[str, str]]:
        """Where the version is, as far as the caller may read; never empty. Raises NotFoundError."""
        found = [(project.entity, project.name) for project in self._ledger.projects_of_version(version_id)]
        visible = [place for place in found if caller.reads(*place)]
        if not visible:
            raise absent(Place.VERSION, version_id)
        return visible

    def no_project(self, caller: Caller, entity: str, project: str) -> NotFoundError:
        """What is said of a project that is not there, or not for this caller."""
        there = [found.name for found in self._catalog.projects(entity) if caller.reads(entity, found.name)]
        # One that is there but may not be read is in neither list.
        if not there:
            return NotFoundError(f"there is no project {project!r}: {entity} has no projects")
        close = difflib.get_close_matches(project, there, n=3)
        others = close + [name for name in there if name not in close]
        more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
        return NotFoundError(f"there is no project {project!r}; {entity} has {', '.join(others[:_SHOWN])}{more}")

    def _need(self, caller: Caller, right: Right, place: tuple[str, str]) -> None:
        role = caller.role_in(*place)
        if role is None:
            raise no_role(caller, *place)
        wanted: Role = right  # type: ignore[assignment]  # the others never come here
        if not is_enough(role, wanted):
            raise forbidden(caller, wanted, "/".join(place))

    def _admit_entity(self, call: Call, right: Right) -> None:
        # The same answer whether the entity is there or not.
        entity = call.arguments["entity"]
        if not is_enough(call.caller.role_in_all_of(entity), right):  # type: ignore[arg-type]
            raise forbidden(call.caller, right, f"{entity}/*")

    def _admit_version(self, call: Call, right: Right) -> None:
        version_id = call.arguments["version_id"]
        visible = self.projects_of_version(call.caller, version_id)
        call.place = visible[0]
        if right == "reader":
            return
        source = self._ledger.projects_of_version(version_id)[0]
        if not is_enough(call.caller.role_in(source.entity, source.name), right):  # type: ignore[arg-type]
            raise forbidden(call.caller, right, "the project that this version was logged to")

    def _look_up(self, where: Place, id_: Any) -> Project | None:
        match where:
            case Place.COLLECTION:
                return self._ledger.project_of_collection(id_)
            case Place.MEMBER:
                return self._ledger.project_of_member(id_)
            case Place.RUN:
                return self._ledger.project_of_run(id_)
        raise AssertionError(where)


def no_role(caller: Caller, entity: str, project: str) -> ForbiddenError:
    """The same words whether the project is there or not."""
    assert caller.token is not None  # otherwise all may everything
    words = shlex.join(["artfs", "token", "grant", caller.token.name, f"{entity}/{project}", "reader"])
    return ForbiddenError(
        f"the token {caller.token.name!r} has no role in a project {entity}/{project}; if it shall read it, an administrator "
        f"of the server says `{words}`"
    )


_ARGUMENTS = {Place.COLLECTION: "collection_id", Place.MEMBER: "member_id", Place.RUN: "run_id"}


def absent(where: Place, id_: Any) -> NotFoundError:
    """The same words whether it is not there or may not be read. They are the catalog's own (catalog/sql/rows.py)."""
    match where:
        case Place.COLLECTION:
            return NotFoundError(f"there is no collection with the id {id_}; it may have been deleted")
        case Place.MEMBER:
            return NotFoundError(f"there is no membership with the id {id_}; it may have been unlinked")
        case Place.VERSION:
            return NotFoundError(f"there is no version with the id {id_}")
        case Place.RUN:
            return NotFoundError(f"there is no run {id_!r}")
    raise AssertionError(where)
