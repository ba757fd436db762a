"""SqlLedger: what a server knows beside the names, in the catalog's own database. Each method is one transaction around one
function of the modules beside this one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, TypeVar

from artfs.catalog.sql.catalog import SqlCatalog
from artfs.catalog.sql.engine import Database, Writing
from artfs.catalog.sql.ledger import audit as audit_rows
from artfs.catalog.sql.ledger import calls, changes, places
from artfs.catalog.sql.ledger import tokens as token_rows
from artfs.model.access import Actor, AuditFilter, AuditRow, CallId, Changes, Grant, Token
from artfs.model.records import Project

NOTE_USE_S = 60.0

T = TypeVar("T")


class SqlLedger:
    """artfs.catalog.ledger.Ledger says what the methods do. The database is whoever's gave it, who closes it."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock`: seconds."""
        self._db = database
        self._clock = clock
        self._lock = threading.Lock()
        # When this process wrote down the last use of a token, by its id.
        self._noted: dict[int, float] = {}

    def acting(self, actor: Actor, call: CallId | None = None) -> SqlCatalog:
        def around(tx: Writing, make: Callable[[], T]) -> T:
            made = make() if call is None else calls.once(tx, actor, call, make)
            audit_rows.add_subjects(tx, actor)
            return made

        return SqlCatalog(self._db, around=around)

    def forget_calls(self) -> int:
        with self._db.write() as tx:
            return calls.forget_old(tx)

    # tokens -----------------------------------------------------------------------------------------------------

    def create_token(
        self, name: str, *, grants: Iterable[Grant] = (), is_admin: bool = False, expires_at: datetime | None = None,
        by: Actor,
    ) -> tuple[Token, str]:
        with self._db.write() as tx:
            token, secret = token_rows.create(tx, name, grants, is_admin, expires_at)
            detail = {
                "is_admin": is_admin, "grants": [[given.entity, given.project, given.role] for given in token.grants],
                "expires_at": None if expires_at is None else expires_at.isoformat(),
            }
            audit_rows.add(tx, by, "token.create", target=name, detail=detail)
            return token, secret

    def authenticate(self, secret: str) -> Token:
        with self._db.ask() as conn:
            return token_rows.authenticate(conn, secret, self._db.now)

    def note_use(self, token: Token) -> None:
        now = self._clock()
        with self._lock:
            last = self._noted.get(token.id)
            if last is not None and now - last < NOTE_USE_S:
                return
            self._noted[token.id] = now
        with self._db.write() as tx:
            token_rows.note_use(tx, token.id)

    def tokens(self, *, revoked: bool = False) -> list[Token]:
        with self._db.ask() as conn:
            return token_rows.tokens(conn, revoked)

    def token(self, name: str) -> Token:
        with self._db.ask() as conn:
            return token_rows.need(conn, name)

    def revoke_token(self, name: str, *, by: Actor) -> Token:
        with self._db.write() as tx:
            token = token_rows.revoke(tx, name)
            audit_rows.add(tx, by, "token.revoke", target=name)
            return token

    def grant(self, name: str, grant: Grant, *, by: Actor) -> Token:
        with self._db.write() as tx:
            token, is_new = token_rows.grant(tx, name, grant)
            if is_new:
                place = {"entity": grant.entity, "project": grant.project}
                audit_rows.add(tx, by, "token.grant", **place, target=name, detail={"role": grant.role})
            return token

    def withdraw(self, name: str, entity: str, project: str, *, by: Actor) -> Token:
        with self._db.write() as tx:
            token = token_rows.withdraw(tx, name, entity, project)
            audit_rows.add(tx, by, "token.withdraw", entity=entity, project=project, target=name)
            return token

    # what a token may read --------------------------------------------------------------------------------------

    def readable_projects(self, token: Token) -> list[Project]:
        with self._db.ask() as conn:
            return places.readable(conn, token)

    def project_of_collection(self, collection_id: int) -> Project | None:
        with self._db.ask() as conn:
            return places.of_collection(conn, collection_id)

    def project_of_member(self, member_id: int) -> Project | None:
        with self._db.ask() as conn:
            return places.of_member(conn, member_id)

    def project_of_run(self, run_id: str) -> Project | None:
        with self._db.ask() as conn:
            return places.of_run(conn, run_id)

    def projects_of_version(self, version_id: int) -> list[Project]:
        with self._db.ask() as conn:
            return places.of_version(conn, version_id)

    # audit ------------------------------------------------------------------------------------------------------

    def record(
        self, actor: Actor, action: str, *, entity: str | None = None, project: str | None = None, target: str = "",
        detail: dict[str, Any] | None = None,
    ) -> None:
        with self._db.write() as tx:
            audit_rows.add(tx, actor, action, entity=entity, project=project, target=target, detail=detail)

    def audit(
        self, which: AuditFilter = AuditFilter(), *, before: int | None = None, limit: int = 100  # noqa: B008
    ) -> list[AuditRow]:
        with self._db.ask() as conn:
            return audit_rows.read(conn, which, before, limit)

    # changes ----------------------------------------------------------------------------------------------------

    def newest_change(self) -> int:
        with self._db.ask() as conn:
            return changes.newest(conn)

    def changes_after(self, number: int, limit: int = 1000) -> Changes:
        with self._db.read() as conn:
            return changes.after(conn, number, limit)
