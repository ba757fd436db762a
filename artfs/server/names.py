"""Calls about names: each is the catalog's method of that name, seen through the caller's rights (`rights` has looked at the
place already), with a line in the audit log for what it changed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec

from artfs.catalog.base import Catalog
from artfs.errors import AliasInUseError, AliasProtectedError, NotFoundError
from artfs.model.paging import Page, PageRequest, make_cursor, read_cursor
from artfs.model.records import (
    Collection,
    Committed,
    HistoryRow,
    Member,
    NewPart,
    NewVersion,
    Part,
    Project,
    RunRecord,
    Version,
)
from artfs.model.ttl import Ttl
from artfs.server.auth import forbidden
from artfs.server.calls import Call, Endpoint, ServerParts
from artfs.server.rights import Rights
from artfs.wire import bodies
from artfs.wire.routes import ROUTES, Place


class Names:
    """The endpoints of `wire.routes.ROUTES`. Thread-safe."""

    def __init__(self, parts: ServerParts, rights: Rights) -> None:
        self._parts = parts
        self._catalog = parts.catalog
        self._rights = rights

    def endpoints(self) -> list[Endpoint]:
        return [Endpoint(route, run=self._function(route.name)) for route in ROUTES]

    def _function(self, name: str) -> Callable[[Call], Any]:
        function: Callable[[Call], Any] = getattr(self, name)

        def run(call: Call) -> Any:
            try:
                return function(call)
            except NotFoundError:
                # The catalog's words name projects that the caller may not read.
                if call.place is not None and self._catalog.try_project(*call.place) is None:
                    raise self._rights.no_project(call.caller, *call.place) from None
                raise

        return run

    def _acting(self, call: Call) -> Catalog:
        """The catalog that writes down who changes it. For one change."""
        return self._parts.ledger.acting(call.caller.actor, call.id)

    def _allow(self, call: Call, allow_protected: bool, place: tuple[str, str] | None = None) -> bool:
        """Protected aliases are a policy of the project, so only its administrators get past them."""
        if allow_protected:
            self._rights.need(call.caller, "admin", *(place or _place(call)))
        return allow_protected

    # projects and collections -----------------------------------------------------------------------------------
    def entities(self, call: Call) -> list[str]:
        found = self._catalog.entities()
        return [entity for entity in found if self._projects(call, entity)] if not call.caller.is_admin else found

    def projects(self, call: Call) -> list[Project]:
        return self._projects(call, call.arguments["entity"])

    def _projects(self, call: Call, entity: str) -> list[Project]:
        if not call.caller.sees_entity(entity):
            return []
        return [found for found in self._catalog.projects(entity) if call.caller.reads(entity, found.name)]

    def try_project(self, call: Call) -> Project:
        found = self._catalog.try_project(*_place(call))
        if found is None:
            raise self._rights.no_project(call.caller, *_place(call))
        return found

    def create_project(self, call: Call) -> Project:
        return self._acting(call).create_project(*_place(call))

    def delete_project(self, call: Call) -> None:
        self._acting(call).delete_project(*_place(call))

    def collections(self, call: Call) -> list[Collection]:
        return self._catalog.collections(*_place(call), type=call.query.type)

    def page_of_collections(self, call: Call) -> Page[Collection]:
        return self._catalog.page_of_collections(*_place(call), _page(call), type=call.query.type)

    def try_collection(self, call: Call) -> Collection:
        name = call.arguments["collection"]
        found = self._catalog.try_collection(*_place(call), name)
        if found is None:
            raise NotFoundError(f"there is no collection {name!r} in {'/'.join(_place(call))}")
        return found

    def create_collection(self, call: Call) -> Collection:
        body: bodies.NewCollection = call.body
        name = call.arguments["collection"]
        return self._acting(call).create_collection(
            *_place(call), name, type=body.type, kind=body.kind, description=body.description
        )

    def update_collection(self, call: Call) -> Collection:
        body: bodies.CollectionChanges = call.body
        return self._acting(call).update_collection(
            call.arguments["collection_id"], name=body.name, description=body.description, tags=body.tags,
            add_tags=body.add_tags, remove_tags=body.remove_tags, type=body.type,
        )

    def delete_collection(self, call: Call) -> None:
        self._acting(call).delete_collection(
            call.arguments["collection_id"], allow_protected=call.query.allow_protected
        )

    # policies ---------------------------------------------------------------------------------------------------
    def protected_aliases(self, call: Call) -> list[str]:
        return self._catalog.protected_aliases(*_place(call))

    def protect_aliases(self, call: Call) -> list[str]:
        body: bodies.ProtectedChanges = call.body
        return self._acting(call).protect_aliases(*_place(call), add=body.add, remove=body.remove)

    def default_ttl(self, call: Call) -> Ttl:
        return self._catalog.default_ttl(*_place(call))

    def set_default_ttl(self, call: Call) -> None:
        self._acting(call).set_default_ttl(*_place(call), call.body.ttl)

    def default_entity_ttl(self, call: Call) -> Ttl:
        entity = call.arguments["entity"]
        return self._catalog.default_ttl(entity) if call.caller.sees_entity(entity) else None

    def set_default_entity_ttl(self, call: Call) -> None:
        entity = call.arguments["entity"]
        self._acting(call).set_default_ttl(entity, None, call.body.ttl)

    def next_expiry(self, call: Call) -> datetime | None:
        return self._catalog.next_expiry() if call.caller.is_admin else None

    def expire(self, call: Call) -> list[Member]:
        return self._acting(call).expire(call.body.limit)

    # versions ---------------------------------------------------------------------------------------------------
    def members(self, call: Call) -> list[Member]:
        return self._catalog.members(call.arguments["collection_id"])

    def page_of_members(self, call: Call) -> Page[Member]:
        return self._catalog.page_of_members(call.arguments["collection_id"], _page(call), tags=call.query.tags)

    def resolve(self, call: Call) -> Member:
        return self._catalog.resolve(*_place(call), call.arguments["collection"], call.query.alias)

    def member(self, call: Call) -> Member:
        return self._catalog.member(call.arguments["member_id"])

    def commit(self, call: Call) -> Committed:
        new: NewVersion = call.body
        self._allow(call, new.allow_protected)
        self._may_log(call, new.run_id)
        self._parts.before_commit(call, new)
        return self._acting(call).commit(new)

    def add_part(self, call: Call) -> None:
        new: NewPart = call.body
        self._may_log(call, new.run_id)
        self._parts.before_commit(call, new)
        self._acting(call).add_part(new)

    def parts(self, call: Call) -> list[Part]:
        return self._catalog.parts(*_place(call), call.arguments["collection"], call.query.distributed_id)

    def _may_log(self, call: Call, run_id: str | None) -> None:
        """What a run logs changes the run."""
        if run_id is not None:
            self._rights.need(call.caller, "writer", *self._rights.place_of(Place.RUN, run_id, call.caller))

    def set_aliases(self, call: Call) -> Member:
        body: bodies.AliasChanges = call.body
        return self._acting(call).set_aliases(
            call.arguments["member_id"], add=body.add, remove=body.remove,
            allow_protected=self._allow(call, body.allow_protected),
        )

    def update_version(self, call: Call) -> Version:
        body: bodies.VersionChanges = call.body
        if body.ttl is not msgspec.UNSET and body.ttl != self.memberships(call)[0].version.ttl:
            # Who says when a version goes can make it go.
            self._rights.need(call.caller, "admin", *_place(call))
        return self._acting(call).update_version(
            call.arguments["version_id"],
            description=... if body.description is msgspec.UNSET else body.description,
            metadata=body.metadata, add_tags=body.add_tags, remove_tags=body.remove_tags,
            ttl=... if body.ttl is msgspec.UNSET else body.ttl,
        )

    def delete_version(self, call: Call) -> None:
        query: bodies.DeleteVersionQuery = call.query
        member = self._catalog.member(call.arguments["member_id"])
        everywhere = [member] if member.is_link else self._catalog.memberships(member.version.id)
        # Its links go with it, and so do their aliases, which may be protected elsewhere.
        allowed = query.allow_protected and all(
            call.caller.role_in(place.entity, place.project) == "admin" for place in everywhere
        )
        try:
            self._acting(call).delete_version(member.id, delete_aliases=query.delete_aliases, allow_protected=allowed)
        except (AliasInUseError, AliasProtectedError) as error:
            if all(call.caller.reads_member(place) for place in everywhere):
                raise
            raise type(error)(
                f"{member.name} has aliases in a project that this token may not read; ask an administrator of the server"
            ) from None

    def link(self, call: Call) -> Member:
        body: bodies.NewLink = call.body
        target = (body.entity, body.project)
        self._rights.need(call.caller, "writer", *target)
        self._allow(call, body.allow_protected, target)
        self._parts.before_link(call, self.memberships(call)[0], target)
        return self._acting(call).link(
            call.arguments["version_id"], *target, body.collection, body.aliases, allow_protected=body.allow_protected
        )

    def unlink(self, call: Call) -> None:
        member = self._catalog.member(call.arguments["member_id"])
        self._acting(call).unlink(member.id, allow_protected=self._allow(call, call.query.allow_protected))

    def memberships(self, call: Call) -> list[Member]:
        found = self._catalog.memberships(call.arguments["version_id"])
        return [member for member in found if call.caller.reads_member(member)]

    def alias_history(self, call: Call) -> list[bodies.AliasEvent]:
        return [bodies.AliasEvent(*event) for event in self._catalog.alias_history(call.arguments["collection_id"])]

    # runs -------------------------------------------------------------------------------------------------------
    def runs(self, call: Call) -> list[RunRecord]:
        return self._catalog.runs(*_place(call))

    def page_of_runs(self, call: Call) -> Page[RunRecord]:
        return self._catalog.page_of_runs(*_place(call), _page(call))

    def create_run(self, call: Call) -> RunRecord:
        body: bodies.NewRun = call.body
        return self._acting(call).create_run(
            *_place(call), run_id=body.run_id, name=body.name, job_type=body.job_type, config=body.config, group=body.group,
            tags=body.tags, notes=body.notes,
        )

    def run(self, call: Call) -> RunRecord:
        return self._catalog.run(call.arguments["run_id"])

    def update_run(self, call: Call) -> RunRecord:
        body: bodies.RunChanges = call.body
        return self._acting(call).update_run(
            call.arguments["run_id"], state=body.state, history_steps=body.history_steps, summary=body.summary,
            config=body.config, name=body.name, tags=body.tags, notes=body.notes,
        )

    def history(self, call: Call) -> list[HistoryRow]:
        return self._catalog.history(call.arguments["run_id"], after=call.query.after, limit=call.query.limit)

    def add_history(self, call: Call) -> RunRecord:
        return self._acting(call).add_history(call.arguments["run_id"], call.body)

    def versions_of_run(self, call: Call) -> list[Member]:
        found = self._catalog.versions_of_run(call.arguments["run_id"], used=call.query.used)
        return [member for member in found if call.caller.reads_member(member)]

    def page_of_run_versions(self, call: Call) -> Page[Member]:
        run_id, used, request = call.arguments["run_id"], call.query.used, _page(call)
        if call.caller.is_admin:
            return self._catalog.page_of_run_versions(run_id, request, used=used)
        return _page_of(self.versions_of_run(call), request)

    def record_use(self, call: Call) -> None:
        self._record(call, self._acting(call).record_use)

    def record_log(self, call: Call) -> None:
        self._record(call, self._acting(call).record_log)

    def _record(self, call: Call, record: Callable[[str, int], None]) -> None:
        version_id = call.arguments["version_id"]
        self._rights.projects_of_version(call.caller, version_id)
        record(call.arguments["run_id"], version_id)

    def logged_by(self, call: Call) -> list[RunRecord]:
        return self._readable(call, self._catalog.logged_by(call.arguments["version_id"]))

    def used_by(self, call: Call) -> list[RunRecord]:
        return self._readable(call, self._catalog.used_by(call.arguments["version_id"]))

    @staticmethod
    def _readable(call: Call, runs: list[RunRecord]) -> list[RunRecord]:
        return [run for run in runs if call.caller.reads(run.entity, run.project)]

    # upkeep -----------------------------------------------------------------------------------------------------
    def versions(self, call: Call) -> list[Member]:
        if call.caller.is_admin:
            return list(self._catalog.versions(call.query.state))
        if call.query.state != "COMMITTED":
            raise forbidden(call.caller, "administrator", "this server, who alone sees versions in other states")
        # Place by place, so that a token costs no more than what it may read.
        return [
            member
            for entity in self._catalog.entities()
            for project in self._projects(call, entity)
            for collection in self._catalog.collections(entity, project.name)
            if collection.kind == "sequence"
            for member in self._catalog.members(collection.id)
        ]

    def live_roots(self, call: Call) -> list[str]:
        return list(self._catalog.live_roots())

    def change_token(self, call: Call) -> bodies.ChangeToken:
        return bodies.ChangeToken(self._parts.ledger.newest_change())


def _place(call: Call) -> tuple[str, str]:
    assert call.place is not None
    return call.place


def _page(call: Call) -> PageRequest:
    query = call.query
    return PageRequest(query.order, query.limit, query.after)


def _page_of(members: list[Member], request: PageRequest) -> Page[Member]:
    """A page of a list that is here as a whole, by created_at, in the form that the catalog has."""
    request.check(("created_at",))
    after = read_cursor(request)
    ordered = sorted(members, key=lambda member: member.version.id, reverse=request.descending)
    if after is not None:
        last = after[0]
        if not isinstance(last, int):
            last = 0
        ordered = [m for m in ordered if (m.version.id < last if request.descending else m.version.id > last)]
    here = ordered[: request.limit]
    more = len(ordered) > len(here)
    cursor = make_cursor(request, here[-1].version.id, here[-1].id) if more else None
    return Page(tuple(here), cursor, len(ordered) if after is None else None)
