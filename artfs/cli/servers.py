"""What the commands about servers share: the books (tokens, audit log) of a server, on its database or over the network."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import click

from artfs.cli.common import App
from artfs.errors import InvalidArgumentError, NotFoundError
from artfs.model.access import COMMAND_LINE, EVERY_PROJECT, ROLES, AuditFilter, Grant, Role, Token
from artfs.model.names import check_entity_name, check_project_name
from artfs.model.records import Project
from artfs.model.ttl import parse_ttl
from artfs.settings import Settings

database_option = click.option(
    "--database", metavar="URL", envvar="ARTFS_DATABASE",
    help="The server's database, when it can be reached from here. [env: ARTFS_DATABASE]",
)

Row = dict[str, Any]


class Books(Protocol):
    """Tokens and audit rows as JSON-like rows, keys as docs/cli.md has them."""

    def create(self, name: str, is_admin: bool, grants: list[Grant], expires_at: datetime | None) -> tuple[Row, str]: ...

    def tokens(self) -> list[Row]: ...

    def revoke(self, name: str) -> None: ...

    def grant(self, name: str, entity: str, project: str, role: Role | None) -> Row: ...

    def audit(self, which: AuditFilter, before: int | None, limit: int) -> list[Row]: ...

    def quota(self, entity: str, project: str) -> Row: ...

    def set_quota(self, entity: str, project: str, nbytes: int | None) -> None: ...


@contextlib.contextmanager
def open_books(app: App, database: str | None, *, make: bool = False) -> Iterator[Books]:
    """Of the database that was named; or else of the server that the settings name (with our token); or else of the server that
    is kept in the state folder.

    `make`: a file that was named and is not there is made; otherwise NotFoundError, as its name is more likely mistyped.
    """
    settings = app.settings
    if database is None and settings.server:
        with app.connected() as http:
            yield _RemoteBooks(http)
        return
    from artfs.catalog import open_catalog
    from artfs.catalog.sql.ledger.blobledger import SqlBlobLedger
    from artfs.catalog.sql.ledger.ledger import SqlLedger

    if database is not None and not make and "://" not in database and not Path(database).exists():
        raise NotFoundError(f"there is no database {database}")
    with open_catalog(database or server_database(settings)) as catalog:
        yield _OwnBooks(SqlLedger(catalog.database), SqlBlobLedger(catalog.database))


def server_database(settings: Settings) -> Path:
    return settings.home / "server" / "catalog.db"


class _OwnBooks:
    def __init__(self, ledger: Any, blobs: Any) -> None:
        self._ledger = ledger
        self._blobs = blobs

    def create(self, name: str, is_admin: bool, grants: list[Grant], expires_at: datetime | None) -> tuple[Row, str]:
        token, secret = self._ledger.create_token(
            name, is_admin=is_admin, grants=grants, expires_at=expires_at, by=COMMAND_LINE
        )
        return _token_row(token), secret

    def tokens(self) -> list[Row]:
        return [_token_row(token) for token in self._ledger.tokens()]

    def revoke(self, name: str) -> None:
        self._ledger.revoke_token(name, by=COMMAND_LINE)

    def grant(self, name: str, entity: str, project: str, role: Role | None) -> Row:
        if role is None:
            try:
                return _token_row(self._ledger.withdraw(name, entity, project, by=COMMAND_LINE))
            except NotFoundError:
                return _token_row(self._ledger.token(name))
        return _token_row(self._ledger.grant(name, Grant(entity, project, role), by=COMMAND_LINE))

    def audit(self, which: AuditFilter, before: int | None, limit: int) -> list[Row]:
        return [
            {
                "id": row.id, "at": row.at, "actor": row.actor.name, "action": row.action, "entity": row.entity,
                "project": row.project, "target": row.target, "detail": row.detail,
            }
            for row in self._ledger.audit(which, before=before, limit=limit)
        ]

    def quota(self, entity: str, project: str) -> Row:
        used = self._blobs.usage(self._need(entity, project).id)
        return _usage_row(entity, project, used.blobs, used.nbytes, used.quota)

    def set_quota(self, entity: str, project: str, nbytes: int | None) -> None:
        self._blobs.set_quota(self._need(entity, project).id, nbytes, by=COMMAND_LINE)

    def _need(self, entity: str, name: str) -> Project:
        found: Project | None = self._blobs.project(entity, name)
        if found is None:
            raise NotFoundError(f"there is no project {entity}/{name}")
        return found


def _usage_row(entity: str, project: str, blobs: int, nbytes: int, quota: int | None) -> Row:
    return {"entity": entity, "project": project, "blobs": blobs, "unique_size": nbytes, "quota": quota}


def _token_row(token: Token) -> Row:
    return {
        "name": token.name,
        "is_admin": token.is_admin,
        "grants": [{"place": f"{grant.entity}/{grant.project}", "role": grant.role} for grant in token.grants],
        "created_at": token.created_at,
        "expires_at": token.expires_at,
        "used_at": token.used_at,
    }


class _RemoteBooks:
    def __init__(self, http: Any) -> None:
        from artfs.wire import bodies
        from artfs.wire.blobroutes import BLOB_ROUTES
        from artfs.wire.routes import SERVER_ROUTES, by_name

        self._http = http
        self._bodies = bodies
        self._routes = {**by_name(SERVER_ROUTES), **by_name(BLOB_ROUTES)}

    def create(self, name: str, is_admin: bool, grants: list[Grant], expires_at: datetime | None) -> tuple[Row, str]:
        given = [self._bodies.GrantBody(grant.entity, grant.project, grant.role) for grant in grants]
        made = self._call("create_token", body=self._bodies.NewToken(name, is_admin, given, expires_at))
        return self._row(made.token), made.secret

    def tokens(self) -> list[Row]:
        return [self._row(shape) for shape in self._call("tokens")]

    def revoke(self, name: str) -> None:
        self._call("revoke_token", {"token": _path_name(name)})

    def grant(self, name: str, entity: str, project: str, role: Role | None) -> Row:
        body = self._bodies.GrantChange(entity, project, role)
        return self._row(self._call("grant", {"token": _path_name(name)}, body=body))

    def audit(self, which: AuditFilter, before: int | None, limit: int) -> list[Row]:
        query = self._bodies.AuditQuery(
            before, limit, which.actor, which.action, which.entity, which.project, which.since, which.until
        )
        rows = self._call("audit", None, query)
        names = ("id", "at", "actor", "action", "entity", "project", "target", "detail")
        return [{name: getattr(row, name) for name in names} for row in rows]

    def quota(self, entity: str, project: str) -> Row:
        used = self._call("usage", {"entity": entity, "project": project}, self._bodies.UsageQuery(False))
        return _usage_row(entity, project, used.blobs, used.nbytes, used.quota)

    def set_quota(self, entity: str, project: str, nbytes: int | None) -> None:
        from artfs.wire.messages import QuotaBody

        self._call("set_quota", {"entity": entity, "project": project}, body=QuotaBody(nbytes))

    def _call(self, name: str, arguments: Any = None, query: Any = None, body: Any = None) -> Any:
        return self._http.call(self._routes[name], arguments, query, body)

    @staticmethod
    def _row(shape: Any) -> Row:
        return {
            "name": shape.name,
            "is_admin": shape.is_admin,
            "grants": [{"place": f"{grant.entity}/{grant.project}", "role": grant.role} for grant in shape.grants],
            "created_at": shape.created_at,
            "expires_at": shape.expires_at,
            "used_at": shape.used_at,
        }


def _path_name(name: str) -> str:
    if name in ("", ".", ".."):
        raise NotFoundError(f"there is no token {name!r}")
    return name


def parse_place(text: str, settings: Settings) -> tuple[str, str]:
    """`[ENTITY/]PROJECT`, or `ENTITY/*` for all projects. Raises InvalidNameError."""
    entity, slash, project = text.rpartition("/")
    entity = check_entity_name(entity) if slash else settings.entity
    return entity, project if project == EVERY_PROJECT else check_project_name(project)


def parse_grant(text: str, settings: Settings) -> Grant:
    """`[ENTITY/]PROJECT=ROLE`. Raises InvalidNameError, InvalidArgumentError."""
    place, _, role = text.rpartition("=")
    for known in ROLES:
        if role == known and place:
            return Grant(*parse_place(place, settings), known)
    raise InvalidArgumentError(f"bad grant {text!r}: write [ENTITY/]PROJECT=ROLE, with a role of {', '.join(ROLES)}")


def parse_expiry(text: str) -> datetime | None:
    """A time from now (90d), a date (its end, in UTC), or "never". Raises InvalidArgumentError."""
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
        try:
            return datetime.fromisoformat(text).replace(tzinfo=UTC) + timedelta(days=1)
        except ValueError as error:
            raise InvalidArgumentError(f"bad date {text!r}: {error}") from None
    policy = parse_ttl(text)
    if policy is None:
        return None
    if not isinstance(policy, timedelta):
        raise InvalidArgumentError(f"bad time {text!r}: write a time such as 90d, a date, or never")
    return datetime.now(UTC) + policy
