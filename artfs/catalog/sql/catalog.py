"""SqlCatalog: the catalog interface over one database. Each method is one transaction around one function of the
modules beside this one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from types import EllipsisType
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from artfs.catalog.sql import commits, labels, names, pages, parts, policies, rows, runs, versions
from artfs.catalog.sql.engine import Database, Writing
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
from artfs.model.ttl import Ttl

P = ParamSpec("P")
T = TypeVar("T")


class Around(Protocol):
    def __call__(self, tx: Writing, make: Callable[[], T]) -> T:
        """Returns what `make` does, or what it once did; it is called at most once, in the transaction `tx`."""
        ...


class SqlCatalog:
    """A catalog in a database; artfs.catalog.base.Catalog says what the methods do, artfs.catalog.open_catalog makes one.
    Thread-safe; any number of processes may use one database at once. Must not be used across a fork."""

    def __init__(self, database: Database, *, around: Around | None = None) -> None:
        """`around`: carries out each change, in its transaction."""
        self._db = database
        self._around = around

    @property
    def database(self) -> Database:
        return self._db

    def __repr__(self) -> str:
        return f"<SqlCatalog {self._db.place}>"

    def __enter__(self) -> SqlCatalog:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Idempotent; every other method raises CatalogError afterwards."""
        self._db.close()

    def _change(self, make: Callable[Concatenate[Writing, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        with self._db.write() as tx:
            if self._around is None:
                return make(tx, *args, **kwargs)
            return self._around(tx, lambda: make(tx, *args, **kwargs))

    def change_token(self) -> int:
        return self._db.change_token()

    # projects and collections -----------------------------------------------------------------------------------

    def projects(self, entity: str) -> list[Project]:
        with self._db.ask() as conn:
            return names.projects(conn, entity)

    def entities(self) -> list[str]:
        with self._db.ask() as conn:
            return names.entities(conn)

    def try_project(self, entity: str, name: str) -> Project | None:
        with self._db.ask() as conn:
            return rows.find_project(conn, entity, name)

    def create_project(self, entity: str, name: str) -> Project:
        return self._change(names.create_project, entity, name)

    def delete_project(self, entity: str, name: str) -> None:
        self._change(names.delete_project, entity, name)

    def collections(self, entity: str, project: str, *, type: str | None = None) -> list[Collection]:
        with self._db.read() as conn:
            return names.collections(conn, entity, project, type)

    def try_collection(self, entity: str, project: str, name: str) -> Collection | None:
        with self._db.ask() as conn:
            return rows.find_collection(conn, entity, project, name)

    def create_collection(
        self, entity: str, project: str, name: str, *, type: str = "", kind: CollectionKind = "sequence",
        description: str | None = None,
    ) -> Collection:
        return self._change(names.create_collection, entity, project, name, type, kind, description)

    def update_collection(
        self, collection_id: int, *, name: str | None = None, description: str | None = None,
        tags: Iterable[str] | None = None, add_tags: Iterable[str] = (), remove_tags: Iterable[str] = (),
        type: str | None = None,
    ) -> Collection:
        return self._change(names.update_collection, collection_id, name, description, tags, add_tags, remove_tags, type)

    def page_of_collections(
        self, entity: str, project: str, request: PageRequest, *, type: str | None = None
    ) -> Page[Collection]:
        with self._db.read() as conn:
            return pages.collections(conn, entity, project, request, type)

    def delete_collection(self, collection_id: int, *, allow_protected: bool = False) -> None:
        self._change(names.delete_collection, collection_id, allow_protected)

    # policies ---------------------------------------------------------------------------------------------------

    def protected_aliases(self, entity: str, project: str) -> list[str]:
        with self._db.read() as conn:
            return policies.protected_aliases(conn, entity, project)

    def protect_aliases(
        self, entity: str, project: str, *, add: Iterable[str] = (), remove: Iterable[str] = ()
    ) -> list[str]:
        return self._change(policies.protect_aliases, entity, project, add, remove)

    def default_ttl(self, entity: str, project: str | None = None) -> Ttl:
        with self._db.read() as conn:
            return policies.default_ttl(conn, entity, project)

    def set_default_ttl(self, entity: str, project: str | None, ttl: Ttl) -> None:
        self._change(policies.set_default_ttl, entity, project, ttl)

    def next_expiry(self) -> datetime | None:
        with self._db.read() as conn:
            return policies.next_expiry(conn)

    def expire(self, limit: int = 500) -> list[Member]:
        return self._change(policies.expire, limit)

    # versions ---------------------------------------------------------------------------------------------------

    def members(self, collection_id: int) -> list[Member]:
        with self._db.ask() as conn:
            return versions.members(conn, collection_id)

    def page_of_members(
        self, collection_id: int, request: PageRequest, *, tags: Iterable[str] = ()
    ) -> Page[Member]:
        with self._db.read() as conn:
            return pages.members(conn, collection_id, request, tags)

    def resolve(self, entity: str, project: str, collection: str, alias: str) -> Member:
        # The version of a time takes several.
        with self._db.read() if alias.startswith("@") else self._db.ask() as conn:
            return versions.resolve(conn, self._db.now, entity, project, collection, alias)

    def member(self, member_id: int) -> Member:
        with self._db.ask() as conn:
            return rows.need_member(conn, member_id)

    def commit(self, new: NewVersion) -> Committed:
        return self._change(commits.commit, new)

    def add_part(self, new: NewPart) -> None:
        self._change(parts.add, new)

    def parts(self, entity: str, project: str, collection: str, distributed_id: str) -> list[Part]:
        with self._db.read() as conn:
            return parts.waiting(conn, entity, project, collection, distributed_id)

    def set_aliases(
        self, member_id: int, *, add: Iterable[str] = (), remove: Iterable[str] = (), allow_protected: bool = False
    ) -> Member:
        return self._change(labels.set_aliases, member_id, add, remove, allow_protected)

    def update_version(
        self, version_id: int, *, description: str | EllipsisType | None = ..., metadata: dict[str, Any] | None = None,
        add_tags: Iterable[str] = (), remove_tags: Iterable[str] = (), ttl: Ttl | EllipsisType = ...,
    ) -> Version:
        return self._change(versions.update_version, version_id, description, metadata, add_tags, remove_tags, ttl)

    def delete_version(
        self, member_id: int, *, delete_aliases: bool = False, allow_protected: bool = False
    ) -> None:
        self._change(versions.delete_version, member_id, delete_aliases, allow_protected)

    def link(
        self, version_id: int, entity: str, project: str, collection: str, aliases: Iterable[str] = (), *,
        allow_protected: bool = False,
    ) -> Member:
        return self._change(commits.link, version_id, entity, project, collection, aliases, allow_protected)

    def unlink(self, member_id: int, *, allow_protected: bool = False) -> None:
        self._change(versions.unlink, member_id, allow_protected)

    def memberships(self, version_id: int) -> list[Member]:
        with self._db.ask() as conn:
            return versions.memberships(conn, version_id)

    # runs -------------------------------------------------------------------------------------------------------

    def create_run(
        self, entity: str, project: str, *, run_id: str | None = None, name: str | None = None,
        job_type: str | None = None, config: dict[str, Any] | None = None, group: str | None = None,
        tags: Iterable[str] = (), notes: str | None = None,
    ) -> RunRecord:
        return self._change(runs.create_run, entity, project, run_id, name, job_type, config, group, tags, notes)

    def run(self, run_id: str) -> RunRecord:
        with self._db.ask() as conn:
            return rows.need_run(conn, run_id)

    def runs(self, entity: str, project: str) -> list[RunRecord]:
        with self._db.read() as conn:
            return runs.runs(conn, entity, project)

    def page_of_runs(self, entity: str, project: str, request: PageRequest) -> Page[RunRecord]:
        with self._db.read() as conn:
            return pages.runs(conn, entity, project, request)

    def update_run(
        self, run_id: str, *, state: str | None = None, history_steps: int | None = None,
        summary: dict[str, Any] | None = None, config: dict[str, Any] | None = None, name: str | None = None,
        tags: Iterable[str] | None = None, notes: str | None = None,
    ) -> RunRecord:
        return self._change(runs.update_run, run_id, state, history_steps, summary, config, name, tags, notes)

    def add_history(self, run_id: str, history: Iterable[HistoryRow]) -> RunRecord:
        return self._change(runs.add_history, run_id, history)

    def history(self, run_id: str, *, after: int = -1, limit: int = 1000) -> list[HistoryRow]:
        with self._db.read() as conn:
            return runs.history(conn, run_id, after, limit)

    def record_use(self, run_id: str, version_id: int) -> None:
        self._change(runs.record, run_id, version_id, "used")

    def record_log(self, run_id: str, version_id: int) -> None:
        self._change(runs.record, run_id, version_id, "logged")

    def logged_by(self, version_id: int) -> list[RunRecord]:
        with self._db.read() as conn:
            return runs.logged_by(conn, version_id)

    def used_by(self, version_id: int) -> list[RunRecord]:
        with self._db.read() as conn:
            return runs.used_by(conn, version_id)

    def versions_of_run(self, run_id: str, *, used: bool) -> list[Member]:
        with self._db.read() as conn:
            return runs.versions_of_run(conn, run_id, used)

    def page_of_run_versions(self, run_id: str, request: PageRequest, *, used: bool) -> Page[Member]:
        with self._db.read() as conn:
            return pages.versions_of_run(conn, run_id, used, request)

    # upkeep -----------------------------------------------------------------------------------------------------

    def live_roots(self) -> Iterator[str]:
        # All at once, not a cursor: a sweep takes its time, and a reading transaction that stays open would keep the
        # write-ahead log from being reset.
        with self._db.ask() as conn:
            return iter(versions.live_roots(conn))

    def versions(self, state: str = "COMMITTED") -> Sequence[Member]:
        with self._db.ask() as conn:
            return versions.in_state(conn, state)

    def backup(self, target: Path) -> None:
        self._db.backup(Path(target))

    def alias_history(self, collection_id: int) -> list[tuple[datetime, str, int | None]]:
        with self._db.read() as conn:
            return versions.alias_history(conn, collection_id)
