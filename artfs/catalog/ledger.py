"""What a server knows beside the names: who may do what, what was done, what changed. The interface; `SqlLedger` is over the
same database as the catalog.

All calls are blocking and thread-safe; each is one transaction. They raise UnavailableError or CatalogError when the database
cannot be asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Protocol

from artfs.catalog.base import Catalog
from artfs.model.access import Actor, AuditFilter, AuditRow, CallId, Changes, Grant, Token
from artfs.model.records import Project


class Ledger(Protocol):
    def acting(self, actor: Actor, call: CallId | None = None) -> Catalog:
        """The catalog as `actor` uses it: what it changes stands in the audit log, by the same transaction. Cheap; one for each
        request will do. Closing it closes the database.

        With a `call` it is for one change, whose answer is kept: asked for again under the same id, for a day at least, it
        changes nothing, and answers what it did. UsageError when something else is asked for under that id."""
        ...

    def forget_calls(self) -> int:
        """Forgets answers of calls that are more than a day old; how many."""
        ...

    # tokens -----------------------------------------------------------------------------------------------------
    def create_token(
        self, name: str, *, grants: Iterable[Grant] = (), is_admin: bool = False, expires_at: datetime | None = None,
        by: Actor,
    ) -> tuple[Token, str]:
        """Returns it with its secret, which nobody can look up again. ConflictError: another one that was not revoked has the
        name. InvalidNameError, InvalidArgumentError (also for an `expires_at` that is past)."""
        ...

    def authenticate(self, secret: str) -> Token:
        """Raises UnauthorizedError for one that is unknown, expired or revoked, and says which. One statement."""
        ...

    def note_use(self, token: Token) -> None:
        """That it is used now. Each process writes that down once a minute, and otherwise the call costs nothing; it may wait for
        other writers, so call it beside the answer."""
        ...

    def tokens(self, *, revoked: bool = False) -> list[Token]:
        """By name; `revoked`: those as well."""
        ...

    def token(self, name: str) -> Token:
        """The one of this name that was not revoked; NotFoundError."""
        ...

    def revoke_token(self, name: str, *, by: Actor) -> Token:
        """It opens nothing from now on; its rows in the audit log keep its name. NotFoundError."""
        ...

    def grant(self, name: str, grant: Grant, *, by: Actor) -> Token:
        """Gives a role for a project, or all of an entity, in the place of the one that the token had there, if any."""
        ...

    def withdraw(self, name: str, entity: str, project: str, *, by: Actor) -> Token:
        """Takes back what was granted for exactly this project (or "*"). NotFoundError when nothing was."""
        ...

    # what a token may read --------------------------------------------------------------------------------------
    def readable_projects(self, token: Token) -> list[Project]:
        """Living projects of all entities in which it has a role, by entity and name."""
        ...

    def project_of_collection(self, collection_id: int) -> Project | None:
        """One cheap statement, as are those below. None: there is no such collection (or it was deleted)."""
        ...

    def project_of_member(self, member_id: int) -> Project | None:
        """Where the membership is: of a link, the portfolio's. Of a deleted version, too."""
        ...

    def project_of_run(self, run_id: str) -> Project | None: ...

    def projects_of_version(self, version_id: int) -> Sequence[Project]:
        """The project that it was logged to, first, then those that it is linked in. Whoever may read one of them may read the
        version; only who may write the first may change it. []: there is none."""
        ...

    # audit ------------------------------------------------------------------------------------------------------
    def record(
        self, actor: Actor, action: str, *, entity: str | None = None, project: str | None = None, target: str = "",
        detail: dict[str, Any] | None = None,
    ) -> None:
        """A row of its own, for what is no change of the catalog."""
        ...

    def audit(
        self, which: AuditFilter = AuditFilter(), *, before: int | None = None, limit: int = 100  # noqa: B008
    ) -> list[AuditRow]:
        """The newest first. `before`: only rows with smaller ids, for the next page."""
        ...

    # changes ----------------------------------------------------------------------------------------------------
    def newest_change(self) -> int:
        """The largest number so far; 0: nothing changed yet."""
        ...

    def changes_after(self, number: int, limit: int = 1000) -> Changes:
        """What changed since the change `number`, oldest first. Numbers follow the order of the commits: none appears later
        below one that was seen."""
        ...
