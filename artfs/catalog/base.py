"""Where names are: the interface of a catalog. The contract is `artfs.testing.catalog_contract`, a test suite that
every implementation (embedded, remote) passes.

All calls are blocking and thread-safe. Unless said otherwise each is one transaction, and a name that does not exist
raises NotFoundError with a message that says what exists instead where that helps. CatalogError: it cannot be read or
written at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from types import EllipsisType
from typing import Any, Protocol

from artfs.model.records import (
    Collection,
    CollectionKind,
    Committed,
    Member,
    NewVersion,
    Project,
    RunRecord,
    Version,
)


class Catalog(Protocol):
    def close(self) -> None: ...

    def change_token(self) -> int:
        """A number that differs from an earlier call's when anything was committed in between by any process or
        connection, this one included. Cheap (no query on tables); for polling several times a second."""
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
        TypeConflictError when it exists with another non-empty type, ConflictError when it is of the other kind."""
        ...

    def update_collection(
        self, collection_id: int, *, name: str | None = None, description: str | None = None,
        tags: Iterable[str] | None = None,
    ) -> Collection:
        """None leaves a thing as it is. A description of "" removes it; `tags` replace all. ConflictError when another
        collection has the name."""
        ...

    def delete_collection(self, collection_id: int) -> None:
        """A sequence deletes all its versions (state DELETED) and their links, a portfolio only its links."""
        ...

    # versions ---------------------------------------------------------------------------------------------------
    def members(self, collection_id: int) -> list[Member]:
        """The memberships whose versions are COMMITTED, by index ascending."""
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
        `latest` and the other aliases, or finds that `latest` has this digest already. Indexes are never reused.
        Commits of a collection have strictly increasing times, whatever the clock does. The digest is compared before
        `expect_latest` is: who commits what is there already has lost nothing, and a commit whose answer got lost may be
        sent again. Raises TypeConflictError, LatestMovedError (expect_latest), ConflictError (a portfolio), errors for
        bad names and metadata, NotFoundError (the run); nothing is left behind then, no new project or collection
        either."""
        ...

    def set_aliases(self, member_id: int, *, add: Iterable[str] = (), remove: Iterable[str] = ()) -> Member:
        """An alias names at most one member of a collection: adding it here takes it from there. Removing one that this
        member has not is fine. One that is both added and removed stays."""
        ...

    def update_version(
        self, version_id: int, *, description: str | EllipsisType | None = ..., metadata: dict[str, Any] | None = None,
        add_tags: Iterable[str] = (), remove_tags: Iterable[str] = (),
    ) -> Version:
        """`description` Ellipsis and `metadata` None leave them as they are."""
        ...

    def delete_version(self, member_id: int, *, delete_aliases: bool = False) -> None:
        """A source member: the version becomes DELETED and its links go; AliasInUseError when any membership of it has
        aliases and `delete_aliases` is False. A link member: only the link goes, with its aliases. Wherever `latest`
        named what goes, it moves to the newest member that stays (the largest index), if there is one."""
        ...

    def link(self, version_id: int, entity: str, project: str, collection: str, aliases: Iterable[str] = ()) -> Member:
        """Adds the version to a portfolio (made when missing, with the version's type); `latest` moves to it there.
        Linking again keeps the index, adds the aliases and moves `latest` as well. ConflictError when the target is a
        sequence, TypeConflictError when it has another type."""
        ...

    def unlink(self, member_id: int) -> None:
        """Removes the link with its aliases; `latest` moves as in delete_version. ValueError-derived ConflictError when
        the member is not a link."""
        ...

    def memberships(self, version_id: int) -> list[Member]:
        """The source member first, then links in the order in which they were made."""
        ...

    # runs -------------------------------------------------------------------------------------------------------
    def create_run(
        self, entity: str, project: str, *, name: str | None = None, job_type: str | None = None,
        config: dict[str, Any] | None = None,
    ) -> RunRecord:
        """Creates the project when missing. The id is new and random (8 characters of a-z0-9), and also the name when
        none is given."""
        ...

    def run(self, run_id: str) -> RunRecord: ...

    def runs(self, entity: str, project: str) -> list[RunRecord]:
        """In the order in which they began."""
        ...

    def update_run(self, run_id: str, *, state: str | None = None, history_steps: int | None = None) -> RunRecord:
        """The first state other than "running" sets `finished_at`. UsageError for an unknown state."""
        ...

    def record_use(self, run_id: str, version_id: int) -> None:
        """Idempotent."""
        ...

    def used_by(self, version_id: int) -> list[RunRecord]: ...

    def versions_of_run(self, run_id: str, *, used: bool) -> list[Member]:
        """Source members that the run logged (`used` False; also where the content was there already) or used, in the
        order of their commits, without deleted ones."""
        ...

    # upkeep -----------------------------------------------------------------------------------------------------
    def live_roots(self) -> Iterator[str]:
        """Root tree digests of every version that is not DELETED. For the mark of a sweep."""
        ...

    def versions(self, state: str = "COMMITTED") -> Sequence[Member]:
        """Every source member whose version is in `state`."""
        ...

    def backup(self, target: Path) -> None:
        """Writes a consistent copy of the whole catalog to `target` (mode 0600) while others use it. A file that is there
        is replaced at the end, in one step; an error leaves it as it was."""
        ...

    def alias_history(self, collection_id: int) -> list[tuple[datetime, str, int | None]]:
        """(when, alias, member index or None for removed), oldest first. Changes of one transaction share their time."""
        ...
