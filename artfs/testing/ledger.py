"""A ledger in memory, over any catalog."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

from artfs.catalog.base import Catalog
from artfs.errors import ConflictError, NotFoundError, UnauthorizedError
from artfs.model.access import (
    Actor,
    AuditFilter,
    AuditRow,
    Change,
    Changes,
    Grant,
    Token,
    check_grant,
    check_token_name,
    covering,
    new_secret,
)
from artfs.model.records import Project

_CHANGING = ("create_", "update_", "delete_", "set_", "add_", "record_", "protect_aliases", "commit", "link", "unlink", "expire")


class _Acting:
    """A catalog whose changes the ledger hears of."""

    def __init__(self, ledger: MemoryLedger, actor: Actor) -> None:
        self._ledger = ledger
        self._actor = actor

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._ledger.catalog, name)
        if not name.startswith(_CHANGING):
            return function

        def act(*arguments: Any, **more: Any) -> Any:
            result = function(*arguments, **more)
            record = getattr(result, "member", result)
            entity, project = getattr(record, "entity", "?"), getattr(record, "project", None)
            self._ledger.record(self._actor, name, entity=entity, project=project)
            self._ledger.change(entity, project, getattr(record, "collection", None))
            return result

        return act


class MemoryLedger:
    """artfs.catalog.ledger.Ledger. `change` adds a row to what changed, `forget_changes` drops all there are."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self._lock = threading.Lock()
        self._tokens: dict[str, Token] = {}
        self._audit: list[AuditRow] = []
        self._changes: list[Change] = []
        self._forgotten = 0

    def acting(self, actor: Actor) -> Catalog:
        return cast(Catalog, _Acting(self, actor))

    def change(self, entity: str, project: str | None = None, collection: str | None = None) -> int:
        with self._lock:
            number = self._forgotten + len(self._changes) + 1
            self._changes.append(Change(number, datetime.now(UTC), entity, project, collection))
            return number

    def forget_changes(self) -> None:
        with self._lock:
            self._forgotten += len(self._changes)
            self._changes.clear()

    # tokens -----------------------------------------------------------------------------------------------------
    def create_token(
        self, name: str, *, grants: Iterable[Grant] = (), is_admin: bool = False, expires_at: datetime | None = None,
        by: Actor,
    ) -> tuple[Token, str]:
        check_token_name(name)
        if any(token.name == name for token in self.tokens()):
            raise ConflictError(f"there is a token {name!r} already")
        given = tuple(check_grant(grant) for grant in grants)
        token = Token(len(self._tokens) + 1, name, is_admin, given, datetime.now(UTC), expires_at)
        secret = new_secret()
        self._tokens[secret] = token
        self.record(by, "token.create", target=name)
        return token, secret

    def authenticate(self, secret: str) -> Token:
        found = self._tokens.get(secret)
        if found is None:
            raise UnauthorizedError("the server does not know this token")
        if found.revoked_at is not None:
            raise UnauthorizedError("the token was revoked")
        if found.expires_at is not None and found.expires_at <= datetime.now(UTC):
            raise UnauthorizedError("the token expired")
        return found

    def note_use(self, token: Token) -> None:
        return None

    def tokens(self, *, revoked: bool = False) -> list[Token]:
        return [token for token in self._tokens.values() if revoked or token.revoked_at is None]

    def token(self, name: str) -> Token:
        for token in self.tokens():
            if token.name == name:
                return token
        raise NotFoundError(f"there is no token {name!r}")

    def _change_token(self, name: str, **changes: Any) -> Token:
        changed = replace(self.token(name), **changes)
        self._tokens = {
            secret: changed if token.id == changed.id else token for secret, token in self._tokens.items()
        }
        return changed

    def revoke_token(self, name: str, *, by: Actor) -> Token:
        return self._change_token(name, revoked_at=datetime.now(UTC))

    def grant(self, name: str, grant: Grant, *, by: Actor) -> Token:
        check_grant(grant)
        roles = covering(self.token(name).grants)
        roles[grant.entity, grant.project] = grant.role
        return self._change_token(name, grants=tuple(Grant(*place, role) for place, role in sorted(roles.items())))

    def withdraw(self, name: str, entity: str, project: str, *, by: Actor) -> Token:
        roles = covering(self.token(name).grants)
        if roles.pop((entity, project), None) is None:
            raise NotFoundError(f"the token {name!r} was granted nothing for {entity}/{project}")
        return self._change_token(name, grants=tuple(Grant(*place, role) for place, role in sorted(roles.items())))

    # what a token may read --------------------------------------------------------------------------------------
    def _projects(self) -> list[Project]:
        return [project for entity in self.catalog.entities() for project in self.catalog.projects(entity)]

    def readable_projects(self, token: Token) -> list[Project]:
        return [project for project in self._projects() if token.may("reader", project.entity, project.name)]

    def project_of_collection(self, collection_id: int) -> Project | None:
        for project in self._projects():
            if any(found.id == collection_id for found in self.catalog.collections(project.entity, project.name)):
                return project
        return None

    def project_of_member(self, member_id: int) -> Project | None:
        try:
            member = self.catalog.member(member_id)
        except NotFoundError:
            return None
        return self.catalog.try_project(member.entity, member.project)

    def project_of_run(self, run_id: str) -> Project | None:
        try:
            run = self.catalog.run(run_id)
        except NotFoundError:
            return None
        return self.catalog.try_project(run.entity, run.project)

    def projects_of_version(self, version_id: int) -> Sequence[Project]:
        try:
            members = self.catalog.memberships(version_id)
        except NotFoundError:
            return []
        found = [self.catalog.try_project(member.entity, member.project) for member in members]
        return [project for project in found if project is not None]

    # audit and changes ------------------------------------------------------------------------------------------
    def record(
        self, actor: Actor, action: str, *, entity: str | None = None, project: str | None = None, target: str = "",
        detail: dict[str, Any] | None = None,
    ) -> None:
        with self._lock:
            self._audit.append(
                AuditRow(len(self._audit) + 1, datetime.now(UTC), actor, action, entity, project, target, detail or {})
            )

    def audit(
        self, which: AuditFilter = AuditFilter(), *, before: int | None = None, limit: int = 100  # noqa: B008
    ) -> list[AuditRow]:
        rows = [row for row in reversed(self._audit) if before is None or row.id < before]
        return [row for row in rows if which.entity in (None, row.entity) and which.project in (None, row.project)][:limit]

    def newest_change(self) -> int:
        return self._forgotten + len(self._changes)

    def changes_after(self, number: int, limit: int = 1000) -> Changes:
        with self._lock:
            newest = self._forgotten + len(self._changes)
            if number > newest or number < self._forgotten:
                return Changes(newest, (), is_gap=True)
            rows = tuple(change for change in self._changes if change.number > number)[:limit]
            return Changes(rows[-1].number if rows else number, rows)
