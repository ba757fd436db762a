"""SqlCatalog: the catalog interface over one database. Each method is one transaction around one function of the
modules beside this one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import EllipsisType
from typing import Any

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


class SqlCatalog:
    """A catalog in a database; artfs.catalog.base.Catalog says what the methods do, artfs.catalog.open_catalog makes one.
    Thread-safe; any number of processes may use one database at once. Must not be used across a fork."""

    def __init__(self, database: Database, *, audit: Callable[[Writing], None] | None = None) -> None:
        """`audit`: called at the end of each writing transaction, before its commit."""
        self._db = database
        self._audit = audit

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

    @contextmanager
    def _write(self) -> Iterator[Writing]:
        with self._db.write() as tx:
            yield tx
            if self._audit is not None:
                self._audit(tx)

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
        with self._write() as tx:
            return names.create_project(tx, entity, name)

    def delete_project(self, entity: str, name: str) -> None:
        with self._write() as tx:
            names.delete_project(tx, entity, name)

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
        with self._write() as tx:
            return names.create_collection(tx, entity, project, name, type, kind, description)

    def update_collection(
        self, collection_id: int, *, name: str | None = None, description: str | None = None,
        tags: Iterable[str] | None = None, type: str | None = None,
    ) -> Collection:
        with self._write() as tx:
            return names.update_collection(tx, collection_id, name, description, tags, type)

    def page_of_collections(
        self, entity: str, project: str, request: PageRequest, *, type: str | None = None
    ) -> Page[Collection]:
        with self._db.read() as conn:
            return pages.collections(conn, entity, project, request, type)

    def delete_collection(self, collection_id: int, *, allow_protected: bool = False) -> None:
        with self._write() as tx:
            names.delete_collection(tx, collection_id, allow_protected)

    # policies ---------------------------------------------------------------------------------------------------

    def protected_aliases(self, entity: str, project: str) -> list[str]:
        with self._db.read() as conn:
            return policies.protected_aliases(conn, entity, project)

    def protect_aliases(
        self, entity: str, project: str, *, add: Iterable[str] = (), remove: Iterable[str] = ()
    ) -> list[str]:
        with self._write() as tx:
            return policies.protect_aliases(tx, entity, project, add, remove)

    def default_ttl(self, entity: str, project: str | None = None) -> Ttl:
        with self._db.read() as conn:
            return policies.default_ttl(conn, entity, project)

    def set_default_ttl(self, entity: str, project: str | None, ttl: Ttl) -> None:
        with self._write() as tx:
            policies.set_default_ttl(tx, entity, project, ttl)

    def next_expiry(self) -> datetime | None:
        with self._db.read() as conn:
            return policies.next_expiry(conn)

    def expire(self, limit: int = 500) -> list[Member]:
        with self._write() as tx:
            return policies.expire(tx, limit)

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
        with self._write() as tx:
            return commits.commit(tx, new)

    def add_part(self, new: NewPart) -> None:
        with self._write() as tx:
            parts.add(tx, new)

    def parts(self, entity: str, project: str, collection: str, distributed_id: str) -> list[Part]:
        with self._db.read() as conn:
            return parts.waiting(conn, entity, project, collection, distributed_id)

    def set_aliases(
        self, member_id: int, *, add: Iterable[str] = (), remove: Iterable[str] = (), allow_protected: bool = False
    ) -> Member:
        with self._write() as tx:
            return labels.set_aliases(tx, member_id, add, remove, allow_protected)

    def update_version(
        self, version_id: int, *, description: str | EllipsisType | None = ..., metadata: dict[str, Any] | None = None,
        add_tags: Iterable[str] = (), remove_tags: Iterable[str] = (), ttl: Ttl | EllipsisType = ...,
    ) -> Version:
        with self._write() as tx:
            return versions.update_version(tx, version_id, description, metadata, add_tags, remove_tags, ttl)

    def delete_version(
        self, member_id: int, *, delete_aliases: bool = False, allow_protected: bool = False
    ) -> None:
        with self._write() as tx:
            versions.delete_version(tx, member_id, delete_aliases, allow_protected)

    def link(
        self, version_id: int, entity: str, project: str, collection: str, aliases: Iterable[str] = (), *,
        allow_protected: bool = False,
    ) -> Member:
        with self._write() as tx:
            return commits.link(tx, version_id, entity, project, collection, aliases, allow_protected)

    def unlink(self, member_id: int, *, allow_protected: bool = False) -> None:
        with self._write() as tx:
            versions.unlink(tx, member_id, allow_protected)

    def memberships(self, version_id: int) -> list[Member]:
        with self._db.ask() as conn:
            return versions.memberships(conn, version_id)

    # runs -------------------------------------------------------------------------------------------------------

    def create_run(
        self, entity: str, project: str, *, run_id: str | None = None, name: str | None = None,
        job_type: str | None = None, config: dict[str, Any] | None = None, group: str | None = None,
        tags: Iterable[str] = (), notes: str | None = None,
    ) -> RunRecord:
        with self._write() as tx:
            return runs.create_run(tx, entity, project, run_id, name, job_type, config, group, tags, notes)

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
        with self._write() as tx:
            return runs.update_run(tx, run_id, state, history_steps, summary, config, name, tags, notes)

    def add_history(self, run_id: str, history: Iterable[HistoryRow]) -> RunRecord:
        with self._write() as tx:
            return runs.add_history(tx, run_id, history)

    def history(self, run_id: str, *, after: int = -1, limit: int = 1000) -> list[HistoryRow]:
        with self._db.read() as conn:
            return runs.history(conn, run_id, after, limit)

    def record_use(self, run_id: str, version_id: int) -> None:
        with self._write() as tx:
            runs.record(tx, run_id, version_id, "used")

    def record_log(self, run_id: str, version_id: int) -> None:
        with self._write() as tx:
            runs.record(tx, run_id, version_id, "logged")

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
