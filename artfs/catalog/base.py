"""Where names are: the interface of a catalog. The contract is `artfs.testing.catalog_contract`, a test suite that
every implementation (over SQLite, over PostgreSQL, remote) passes.

All calls are blocking and thread-safe. Unless said otherwise each is one transaction, and a name that does not exist
raises NotFoundError with a message that says what exists instead where that helps. CatalogError: it cannot be read or
written at all. UnavailableError: not now (a server).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from types import EllipsisType
from typing import Any, Protocol

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


class Catalog(Protocol):
    def close(self) -> None: ...

    def change_token(self) -> int:
        """A number that differs from an earlier call's when anything that others see was committed in between by any process or
        connection, this one included. Cheap; for polling several times a second."""
        ...

    # projects and collections -----------------------------------------------------------------------------------
    def projects(self, entity: str) -> list[Project]:
        """By name."""
        ...

    def entities(self) -> list[str]: ...

    def try_project(self, entity: str, name: str) -> Project | None: ...

    def create_project(self, entity: str, name: str) -> Project:
        """Idempotent."""
        ...

    def delete_project(self, entity: str, name: str) -> None:
        """Only an empty one (no collections); ConflictError otherwise."""
        ...

    def collections(self, entity: str, project: str, *, type: str | None = None) -> list[Collection]:
        """By name."""
        ...

    def try_collection(self, entity: str, project: str, name: str) -> Collection | None: ...

    def create_collection(
        self, entity: str, project: str, name: str, *, type: str = "", kind: CollectionKind = "sequence",
        description: str | None = None,
    ) -> Collection:
        """Idempotent; creates the project too. An existing one keeps its description, and takes `type` if it has none.
        TypeConflictError when it exists with another non-empty type, ConflictError when it is of the other kind, and for a
        sequence in a registry (a project whose name begins with names.REGISTRY_PREFIX), which holds portfolios only."""
        ...

    def update_collection(
        self, collection_id: int, *, name: str | None = None, description: str | None = None,
        tags: Iterable[str] | None = None, add_tags: Iterable[str] = (), remove_tags: Iterable[str] = (),
        type: str | None = None,
    ) -> Collection:
        """None leaves a thing as it is. A description of "" removes it; `tags` replace all, before some are removed and
        added. ConflictError when another collection has the name, and for the type of a portfolio."""
        ...

    def delete_collection(self, collection_id: int, *, allow_protected: bool = False) -> None:
        """A sequence deletes all its versions (state DELETED) and their links, a portfolio only its links.
        AliasProtectedError when a protected alias would go, unless that is allowed."""
        ...

    def page_of_collections(
        self, entity: str, project: str, request: PageRequest, *, type: str | None = None
    ) -> Page[Collection]:
        """Orders: name, created_at, updated_at. For all pages: InvalidArgumentError for another order or a cursor of
        another list."""
        ...

    # policies ---------------------------------------------------------------------------------------------------
    def protected_aliases(self, entity: str, project: str) -> list[str]:
        """By name."""
        ...

    def protect_aliases(
        self, entity: str, project: str, *, add: Iterable[str] = (), remove: Iterable[str] = ()
    ) -> list[str]:
        """Which aliases are protected in all collections of the project (made when missing), after this. A protected alias
        is given, moved and removed only by calls with `allow_protected`; the others raise AliasProtectedError and change
        nothing. What has one can be neither deleted nor unlinked by them, and does not expire. InvalidArgumentError for
        `latest`."""
        ...

    def default_ttl(self, entity: str, project: str | None = None) -> Ttl:
        """How long versions of the project live that have no policy of their own (INHERIT: as the entity says); without
        `project` those of the entity's other projects (None: for ever, which is so for unknown entities too)."""
        ...

    def set_default_ttl(self, entity: str, project: str | None, ttl: Ttl) -> None:
        """Makes the project when it is missing. INHERIT for an entity means None. InvalidArgumentError for a policy that
        is none. It counts at once for all versions that inherit it, old ones too."""
        ...

    def next_expiry(self) -> datetime | None:
        """When the next version expires (it may be past); None: never, as things are."""
        ...

    def expire(self, limit: int = 500) -> list[Member]:
        """Deletes versions whose time is up (their commit is longer ago than their policy says), with their links and
        aliases, at most `limit` of them in one transaction: fewer came back, then nothing is due. Those that stay: with a
        protected alias, or linked to a registry. Returns their source members as they were before."""
        ...

    # versions ---------------------------------------------------------------------------------------------------
    def members(self, collection_id: int) -> list[Member]:
        """The memberships whose versions are COMMITTED, by index ascending."""
        ...

    def page_of_members(
        self, collection_id: int, request: PageRequest, *, tags: Iterable[str] = ()
    ) -> Page[Member]:
        """As `members`, with all of `tags`. Orders: index, created_at, updated_at, size."""
        ...

    def resolve(self, entity: str, project: str, collection: str, alias: str) -> Member:
        """`alias`: an alias, `vN`, or `@TIME` (names.parse_time: the member that `latest` named at that instant; the
        future, times before the first version, and times whose version was deleted since are NotFoundError).
        InvalidNameError for an `@TIME` that is none; any other text is just not found."""
        ...

    def member(self, member_id: int) -> Member:
        """Of a deleted version too (its state says so), unless it was a link: of that nothing is left."""
        ...

    def commit(self, new: NewVersion) -> Committed:
        """One transaction: makes project and collection when missing, checks the type, gives the next index, moves
        `latest` and the other aliases, or finds that `latest` (with `index`: the version of that index) has this digest already.
        Indexes are never reused.
        Commits of a collection have strictly increasing times, whatever the clock does. The digest is compared before
        `expect_latest` is: who commits what is there already has lost nothing, and a commit whose answer got lost may be
        sent again. Raises TypeConflictError, LatestMovedError (expect_latest), ConflictError (a portfolio), errors for
        bad names and metadata, NotFoundError (the run); nothing is left behind then, no new project or collection
        either. With a `distributed_id` its `parts` go, and their runs have logged the version, too; LatestMovedError when
        they are not exactly those that wait under it."""
        ...

    def add_part(self, new: NewPart) -> None:
        """Keeps what a run contributes to a version that is not made yet: its tree is among the live roots until a commit
        takes it, or nobody has for 30 days since the last part of the same version came (`expire` forgets it then).
        Creates the project when missing, but no collection. TypeConflictError, ConflictError (a portfolio, a registry),
        InvalidNameError, NotFoundError (the run)."""
        ...

    def parts(self, entity: str, project: str, collection: str, distributed_id: str) -> list[Part]:
        """Those that wait for a version, in the order in which they came; [] also where there is no such project."""
        ...

    def set_aliases(
        self, member_id: int, *, add: Iterable[str] = (), remove: Iterable[str] = (), allow_protected: bool = False
    ) -> Member:
        """An alias names at most one member of a collection: adding it here takes it from there. Removing one that this
        member has not is fine. One that is both added and removed stays."""
        ...

    def update_version(
        self, version_id: int, *, description: str | EllipsisType | None = ..., metadata: dict[str, Any] | None = None,
        add_tags: Iterable[str] = (), remove_tags: Iterable[str] = (), ttl: Ttl | EllipsisType = ...,
    ) -> Version:
        """`description` and `ttl` Ellipsis and `metadata` None leave them as they are."""
        ...

    def delete_version(
        self, member_id: int, *, delete_aliases: bool = False, allow_protected: bool = False
    ) -> None:
        """A source member: the version becomes DELETED and its links go; AliasInUseError when any membership of it has
        aliases and `delete_aliases` is False. A link member: only the link goes, with its aliases. Wherever `latest`
        named what goes, it moves to the newest member that stays (the largest index), if there is one."""
        ...

    def link(
        self, version_id: int, entity: str, project: str, collection: str, aliases: Iterable[str] = (), *,
        allow_protected: bool = False,
    ) -> Member:
        """Adds the version to a portfolio (made when missing, with the version's type); `latest` moves to it there.
        Linking again keeps the index, adds the aliases and moves `latest` as well. ConflictError when the target is a
        sequence, TypeConflictError when it has another type."""
        ...

    def unlink(self, member_id: int, *, allow_protected: bool = False) -> None:
        """Removes the link with its aliases; `latest` moves as in delete_version. ValueError-derived ConflictError when
        the member is not a link."""
        ...

    def memberships(self, version_id: int) -> list[Member]:
        """The source member first, then links in the order in which they were made."""
        ...

    # runs -------------------------------------------------------------------------------------------------------
    def create_run(
        self, entity: str, project: str, *, run_id: str | None = None, name: str | None = None,
        job_type: str | None = None, config: dict[str, Any] | None = None, group: str | None = None,
        tags: Iterable[str] = (), notes: str | None = None,
    ) -> RunRecord:
        """Creates the project when missing. The id is new and random (8 characters of a-z0-9) unless one is given, and
        also the name when none is given. ConflictError when there is a run of that id, anywhere in the catalog;
        InvalidNameError for an id (names.check_run_id), a group or a tag (names.check_label) that breaks its rule."""
        ...

    def run(self, run_id: str) -> RunRecord: ...

    def runs(self, entity: str, project: str) -> list[RunRecord]:
        """In the order in which they began."""
        ...

    def page_of_runs(self, entity: str, project: str, request: PageRequest) -> Page[RunRecord]:
        """Orders: created_at, name."""
        ...

    def update_run(
        self, run_id: str, *, state: str | None = None, history_steps: int | None = None,
        summary: dict[str, Any] | None = None, config: dict[str, Any] | None = None, name: str | None = None,
        tags: Iterable[str] | None = None, notes: str | None = None,
    ) -> RunRecord:
        """The first state other than "running" sets `finished_at`. UsageError for an unknown state. What is in `summary`
        and `config` is added to what is there, name by name; `name`, `tags` and `notes` replace it (None: they stay; a
        name of "" is the id, notes of "" none)."""
        ...

    def add_history(self, run_id: str, history: Iterable[HistoryRow]) -> RunRecord:
        """Adds what a run logged, to its steps and to its summary. A row for a step that is there adds its values to that
        one's. UsageError for a negative step, InvalidMetadataError for values that are not JSON."""
        ...

    def history(self, run_id: str, *, after: int = -1, limit: int = 1000) -> list[HistoryRow]:
        """At most `limit` rows by step, of steps greater than `after`."""
        ...

    def record_use(self, run_id: str, version_id: int) -> None:
        """Idempotent."""
        ...

    def record_log(self, run_id: str, version_id: int) -> None:
        """That a version which is there is the run's output, too. Idempotent."""
        ...

    def logged_by(self, version_id: int) -> list[RunRecord]:
        """The run that made it first, then those that logged the same content again."""
        ...

    def used_by(self, version_id: int) -> list[RunRecord]: ...

    def versions_of_run(self, run_id: str, *, used: bool) -> list[Member]:
        """Source members that the run logged (`used` False; also where the content was there already) or used, in the
        order of their commits, without deleted ones."""
        ...

    def page_of_run_versions(self, run_id: str, request: PageRequest, *, used: bool) -> Page[Member]:
        """As `versions_of_run`. Order: created_at."""
        ...

    # upkeep -----------------------------------------------------------------------------------------------------
    def live_roots(self) -> Iterator[str]:
        """Root tree digests of every version that is not DELETED, and of parts. For the mark of a sweep."""
        ...

    def versions(self, state: str = "COMMITTED") -> Sequence[Member]:
        """Every source member whose version is in `state`."""
        ...

    def backup(self, target: Path) -> None:
        """Writes a consistent copy of the whole catalog to `target` (mode 0600) while others use it. A file that is there
        is replaced at the end, in one step; an error leaves it as it was. UsageError for a catalog on a server, which has
        tools of its own for that."""
        ...

    def alias_history(self, collection_id: int) -> list[tuple[datetime, str, int | None]]:
        """(when, alias, member index or None for removed), oldest first. Changes of one transaction share their time."""
        ...
