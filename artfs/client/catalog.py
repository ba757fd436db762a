"""RemoteCatalog: the catalog of a server. artfs.catalog.base.Catalog says what the methods do."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import EllipsisType
from typing import Any

import msgspec
from msgspec import UNSET

from artfs.client.events import EventThread, OnEvent
from artfs.client.http import Http
from artfs.client.tries import Tries
from artfs.errors import (
    InvalidMetadataError,
    InvalidNameError,
    NotFoundError,
    UnavailableError,
    UsageError,
)
from artfs.model import names
from artfs.model.metadata import check_metadata
from artfs.model.paging import Page, PageRequest
from artfs.model.records import (
    Collection,
    CollectionKind,
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
from artfs.model.ttl import Ttl, check_ttl
from artfs.wire import bodies
from artfs.wire.blobroutes import CHECK_TREE
from artfs.wire.messages import TreeCheck
from artfs.wire.routes import JSON, ROUTES, by_name

_ROUTES = by_name(ROUTES)

CHECKED_FIRST = 10_000
"""A version with more files is looked through before its commit."""


class RemoteCatalog:
    """Thread-safe. Beside what a catalog raises, every method raises UnavailableError when the server cannot be reached in time,
    and AccessError when it does not let us; what our token may not read is not found."""

    def __init__(self, http: Http) -> None:
        """It closes `http` when it is closed."""
        self.http = http
        http.on_change = self._saw
        self._token = -1
        self._lock = threading.Lock()
        self._events: EventThread | None = None

    def __repr__(self) -> str:
        return f"<RemoteCatalog {self.http.base_url}>"

    def __enter__(self) -> RemoteCatalog:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Idempotent; every other method raises CatalogError afterwards."""
        events, self._events = self._events, None
        if events is not None:
            events.close()
        self.http.close()

    # changes ----------------------------------------------------------------------------------------------------
    def listen(self, on_event: OnEvent) -> EventThread:
        """Begins to listen to what changes, once. `on_event` is told each place; from then on `change_token` asks nobody, as long
        as events come."""
        if self._events is None:
            self._events = EventThread(self.http, on_event, self._saw)
        return self._events

    def change_token(self) -> int:
        """The number of the newest change that is known here; without events, that the server knows."""
        if self._events is None or not self._events.is_connected:
            newest: int = self._call("change_token").newest
            self._saw(newest)
            return newest
        return self._token

    def _saw(self, number: int, *, anew: bool = False) -> None:
        """`anew`: the server was restored from a backup and counts from there; otherwise a smaller number is older news."""
        with self._lock:
            self._token = number if anew else max(self._token, number)

    # projects and collections -----------------------------------------------------------------------------------
    def projects(self, entity: str) -> list[Project]:
        if not _is_name(entity):
            return []
        found: list[Project] = self._call("projects", {"entity": entity})
        return found

    def entities(self) -> list[str]:
        found: list[str] = self._call("entities")
        return found

    def try_project(self, entity: str, name: str) -> Project | None:
        try:
            found: Project = self._call("try_project", _place(entity, name))
        except NotFoundError:
            return None
        return found

    def create_project(self, entity: str, name: str) -> Project:
        made: Project = self._call("create_project", _new_place(entity, name))
        return made

    def delete_project(self, entity: str, name: str) -> None:
        self._call("delete_project", _place(entity, name))

    def collections(self, entity: str, project: str, *, type: str | None = None) -> list[Collection]:
        found: list[Collection] = self._call("collections", _place(entity, project), bodies.OfType(type))
        return found

    def try_collection(self, entity: str, project: str, name: str) -> Collection | None:
        try:
            found: Collection = self._call("try_collection", _place(entity, project, name))
        except NotFoundError:
            return None
        return found

    def create_collection(
        self, entity: str, project: str, name: str, *, type: str = "", kind: CollectionKind = "sequence",
        description: str | None = None,
    ) -> Collection:
        names.check_collection_name(name)
        where = {**_new_place(entity, project), "collection": name}
        made: Collection = self._call("create_collection", where, body=bodies.NewCollection(type, kind, description))
        return made

    def update_collection(
        self, collection_id: int, *, name: str | None = None, description: str | None = None,
        tags: Iterable[str] | None = None, add_tags: Iterable[str] = (), remove_tags: Iterable[str] = (),
        type: str | None = None,
    ) -> Collection:
        given = None if tags is None else _several(tags, "tags")
        changed: Collection = self._call(
            "update_collection", {"collection_id": collection_id},
            body=bodies.CollectionChanges(
                name, description, given, type, _several(add_tags, "tags"), _several(remove_tags, "tags")
            ),
        )
        return changed

    def delete_collection(self, collection_id: int, *, allow_protected: bool = False) -> None:
        self._call("delete_collection", {"collection_id": collection_id}, bodies.Protected(allow_protected))

    def page_of_collections(
        self, entity: str, project: str, request: PageRequest, *, type: str | None = None
    ) -> Page[Collection]:
        query = bodies.CollectionPageQuery(request.order, request.limit, request.after, type)
        page: Page[Collection] = self._call("page_of_collections", _place(entity, project), query)
        return page

    # policies ---------------------------------------------------------------------------------------------------
    def protected_aliases(self, entity: str, project: str) -> list[str]:
        found: list[str] = self._call("protected_aliases", _place(entity, project))
        return found

    def protect_aliases(
        self, entity: str, project: str, *, add: Iterable[str] = (), remove: Iterable[str] = ()
    ) -> list[str]:
        body = bodies.ProtectedChanges(_several(add, "aliases"), _several(remove, "aliases"))
        found: list[str] = self._call("protect_aliases", _new_place(entity, project), body=body)
        return found

    def default_ttl(self, entity: str, project: str | None = None) -> Ttl:
        if project is not None:
            found: Ttl = self._call("default_ttl", _place(entity, project))
        elif _is_name(entity):
            found = self._call("default_entity_ttl", {"entity": entity})
        else:
            found = None
        return found

    def set_default_ttl(self, entity: str, project: str | None, ttl: Ttl) -> None:
        body = bodies.TtlBody(check_ttl(ttl))
        if project is None:
            self._call("set_default_entity_ttl", {"entity": names.check_entity_name(entity)}, body=body)
        else:
            self._call("set_default_ttl", _new_place(entity, project), body=body)

    def next_expiry(self) -> datetime | None:
        """None, too, for a token that may not `expire`: servers do that by themselves."""
        found: datetime | None = self._call("next_expiry")
        return found

    def expire(self, limit: int = 500) -> list[Member]:
        gone: list[Member] = self._call("expire", body=bodies.ExpireBody(limit))
        return gone

    # versions ---------------------------------------------------------------------------------------------------
    def members(self, collection_id: int) -> list[Member]:
        found: list[Member] = self._call("members", {"collection_id": collection_id})
        return found

    def page_of_members(
        self, collection_id: int, request: PageRequest, *, tags: Iterable[str] = ()
    ) -> Page[Member]:
        query = bodies.MemberPageQuery(request.order, request.limit, request.after, list(tags))
        page: Page[Member] = self._call("page_of_members", {"collection_id": collection_id}, query)
        return page

    def resolve(self, entity: str, project: str, collection: str, alias: str) -> Member:
        found: Member = self._call("resolve", _place(entity, project, collection), bodies.AliasQuery(alias))
        return found

    def member(self, member_id: int) -> Member:
        found: Member = self._call("member", {"member_id": member_id})
        return found

    def commit(self, new: NewVersion) -> Committed:
        """BlobMissingError as well, when the server has not got all that the tree names."""
        names.check_project_name(new.project)
        names.check_entity_name(new.entity)
        checked = replace(
            new, metadata=check_metadata(new.metadata), aliases=tuple(_several(new.aliases, "aliases")),
            tags=tuple(_several(new.tags, "tags")), ttl=check_ttl(new.ttl),
        )
        if new.file_count > CHECKED_FIRST:
            self._check(new)
        done: Committed = self._call("commit", body=checked)
        return done

    def _check(self, new: NewVersion) -> None:
        """Has the server look through a large tree while it tells how far it is: in a commit it would be silent for longer than
        anybody waits. What it finds wrong, `commit` finds again, and says better."""
        where = {"entity": new.entity, "project": new.project}
        content = msgspec.json.encode(TreeCheck(new.digest))
        tries = Tries(time.monotonic() + self.http.timeout_s)
        while True:
            try:
                with self.http.stream(
                    CHECK_TREE, where, content=content, headers={"Content-Type": JSON}, silence_s=self.http.timeout_s
                ) as response:
                    for _ in response.iter_lines():
                        tries = Tries(time.monotonic() + self.http.timeout_s)
                return
            except UnavailableError as error:
                tries.wait(error)
            except NotFoundError:
                return  # a server that cannot do it yet

    def add_part(self, new: NewPart) -> None:
        """BlobMissingError as well, as for `commit`."""
        _new_place(new.entity, new.project)
        self._call("add_part", body=replace(new, aliases=tuple(_several(new.aliases, "aliases"))))

    def parts(self, entity: str, project: str, collection: str, distributed_id: str) -> list[Part]:
        try:
            where = _place(entity, project, collection)
            found: list[Part] = self._call("parts", where, bodies.PartsQuery(distributed_id))
        except NotFoundError:
            return []
        return found

    def set_aliases(
        self, member_id: int, *, add: Iterable[str] = (), remove: Iterable[str] = (), allow_protected: bool = False
    ) -> Member:
        body = bodies.AliasChanges(_several(add, "aliases"), _several(remove, "aliases"), allow_protected)
        changed: Member = self._call("set_aliases", {"member_id": member_id}, body=body)
        return changed

    def update_version(
        self, version_id: int, *, description: str | EllipsisType | None = ..., metadata: dict[str, Any] | None = None,
        add_tags: Iterable[str] = (), remove_tags: Iterable[str] = (), ttl: Ttl | EllipsisType = ...,
    ) -> Version:
        body = bodies.VersionChanges(
            description=UNSET if isinstance(description, EllipsisType) else description,
            metadata=None if metadata is None else check_metadata(metadata),
            add_tags=_several(add_tags, "tags"), remove_tags=_several(remove_tags, "tags"),
            ttl=UNSET if isinstance(ttl, EllipsisType) else check_ttl(ttl),
        )
        changed: Version = self._call("update_version", {"version_id": version_id}, body=body)
        return changed

    def delete_version(
        self, member_id: int, *, delete_aliases: bool = False, allow_protected: bool = False
    ) -> None:
        self._call("delete_version", {"member_id": member_id}, bodies.DeleteVersionQuery(delete_aliases, allow_protected))

    def link(
        self, version_id: int, entity: str, project: str, collection: str, aliases: Iterable[str] = (), *,
        allow_protected: bool = False,
    ) -> Member:
        where = _new_place(entity, project)
        body = bodies.NewLink(
            where["entity"], where["project"], collection, _several(aliases, "aliases"), allow_protected
        )
        made: Member = self._call("link", {"version_id": version_id}, body=body)
        return made

    def unlink(self, member_id: int, *, allow_protected: bool = False) -> None:
        self._call("unlink", {"member_id": member_id}, bodies.Protected(allow_protected))

    def memberships(self, version_id: int) -> list[Member]:
        """Those that our token may read."""
        found: list[Member] = self._call("memberships", {"version_id": version_id})
        return found

    # runs -------------------------------------------------------------------------------------------------------
    def create_run(
        self, entity: str, project: str, *, run_id: str | None = None, name: str | None = None,
        job_type: str | None = None, config: dict[str, Any] | None = None, group: str | None = None,
        tags: Iterable[str] = (), notes: str | None = None,
    ) -> RunRecord:
        plain = None if config is None else _plain(config)
        body = bodies.NewRun(run_id, name, job_type, plain, group, _several(tags, "tags"), notes)
        made: RunRecord = self._call("create_run", _new_place(entity, project), body=body)
        return made

    def run(self, run_id: str) -> RunRecord:
        found: RunRecord = self._call("run", _run(run_id))
        return found

    def runs(self, entity: str, project: str) -> list[RunRecord]:
        found: list[RunRecord] = self._call("runs", _place(entity, project))
        return found

    def page_of_runs(self, entity: str, project: str, request: PageRequest) -> Page[RunRecord]:
        query = bodies.RunPageQuery(request.order, request.limit, request.after)
        page: Page[RunRecord] = self._call("page_of_runs", _place(entity, project), query)
        return page

    def update_run(
        self, run_id: str, *, state: str | None = None, history_steps: int | None = None,
        summary: dict[str, Any] | None = None, config: dict[str, Any] | None = None, name: str | None = None,
        tags: Iterable[str] | None = None, notes: str | None = None,
    ) -> RunRecord:
        body = bodies.RunChanges(
            state, history_steps, None if summary is None else _plain(summary), None if config is None else _plain(config),
            name, None if tags is None else _several(tags, "tags"), notes,
        )
        changed: RunRecord = self._call("update_run", _run(run_id), body=body)
        return changed

    def add_history(self, run_id: str, history: Iterable[HistoryRow]) -> RunRecord:
        rows = [HistoryRow(row.step, row.at, _plain(row.values)) for row in history]
        changed: RunRecord = self._call("add_history", _run(run_id), body=rows)
        return changed

    def history(self, run_id: str, *, after: int = -1, limit: int = 1000) -> list[HistoryRow]:
        found: list[HistoryRow] = self._call("history", _run(run_id), bodies.HistoryQuery(after, limit))
        return found

    def record_use(self, run_id: str, version_id: int) -> None:
        self._call("record_use", {**_run(run_id), "version_id": version_id})

    def record_log(self, run_id: str, version_id: int) -> None:
        self._call("record_log", {**_run(run_id), "version_id": version_id})

    def logged_by(self, version_id: int) -> list[RunRecord]:
        found: list[RunRecord] = self._call("logged_by", {"version_id": version_id})
        return found

    def used_by(self, version_id: int) -> list[RunRecord]:
        found: list[RunRecord] = self._call("used_by", {"version_id": version_id})
        return found

    def versions_of_run(self, run_id: str, *, used: bool) -> list[Member]:
        found: list[Member] = self._call("versions_of_run", _run(run_id), bodies.RunVersionsQuery(used))
        return found

    def page_of_run_versions(self, run_id: str, request: PageRequest, *, used: bool) -> Page[Member]:
        query = bodies.RunVersionPageQuery(request.order, used, request.limit, request.after)
        page: Page[Member] = self._call("page_of_run_versions", _run(run_id), query)
        return page

    # upkeep -----------------------------------------------------------------------------------------------------
    def live_roots(self) -> Iterator[str]:
        """For administrators of the server."""
        found: list[str] = self._call("live_roots")
        return iter(found)

    def versions(self, state: str = "COMMITTED") -> Sequence[Member]:
        """Those that our token may read; in other states than COMMITTED: for administrators of the server."""
        found: list[Member] = self._call("versions", None, bodies.StateQuery(state))  # type: ignore[arg-type]
        return found

    def backup(self, target: Path) -> None:
        """Raises UsageError: it is the server's database that has to be backed up."""
        raise UsageError(
            f"the catalog of {self.http.base_url} is backed up where it is: `artfs backup` on the server's machine, or what "
            f"PostgreSQL has for that"
        )

    def alias_history(self, collection_id: int) -> list[tuple[datetime, str, int | None]]:
        found: list[bodies.AliasEvent] = self._call("alias_history", {"collection_id": collection_id})
        return [(event.at, event.alias, event.index) for event in found]

    def _call(
        self, name: str, arguments: dict[str, Any] | None = None, query: bodies.Query | None = None, body: Any = None
    ) -> Any:
        return self.http.call(_ROUTES[name], arguments, query, body)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_name(name: str) -> bool:
    """Whether an entity or a project may be called so. Others are not asked for: they could not stand in a path."""
    try:
        names.check_entity_name(name)
    except InvalidNameError:
        return False
    return True


def _place(entity: str, project: str, collection: str | None = None) -> dict[str, str]:
    """Of something that should be there. NotFoundError for names that nothing can have."""
    if not _is_name(entity) or not _is_name(project):
        raise NotFoundError(f"there is no project {project!r} of {entity!r}")
    if collection is None:
        return {"entity": entity, "project": project}
    try:
        names.check_collection_name(collection)
    except InvalidNameError:
        raise NotFoundError(f"there is no collection {collection!r} in {entity}/{project}") from None
    return {"entity": entity, "project": project, "collection": collection}


def _new_place(entity: str, project: str) -> dict[str, str]:
    """Of something that may have to be made. InvalidNameError."""
    return {"entity": names.check_entity_name(entity), "project": names.check_project_name(project)}


def _run(run_id: str) -> dict[str, str]:
    if not run_id or run_id in (".", "..") or not _is_text(run_id):
        # It could not stand in a path.
        raise NotFoundError(f"there is no run {run_id!r}")
    return {"run_id": run_id}


def _several(given: Iterable[str], what: str) -> list[str]:
    if isinstance(given, str):
        raise TypeError(f"{what} must be several str, not one: [{given!r}]")
    return list(given)


def _plain(value: dict[str, Any]) -> Any:
    """A JSON object as JSON keeps it. InvalidMetadataError."""
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidMetadataError(f"this is not a JSON object: {error}") from None
