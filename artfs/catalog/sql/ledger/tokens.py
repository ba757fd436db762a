"""Tokens and their grants."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, bindparam, delete, insert, select, true, update

from artfs.catalog import schema
from artfs.catalog.sql import queries, rows
from artfs.catalog.sql.engine import Writing
from artfs.catalog.sql.ledger.schema import grants as _grants
from artfs.catalog.sql.ledger.schema import tokens as _tokens
from artfs.errors import ConflictError, InvalidArgumentError, NotFoundError, UnauthorizedError
from artfs.model.access import (
    EVERY_PROJECT,
    Grant,
    Token,
    check_grant,
    check_token_name,
    is_secret,
    new_secret,
)

_WITH_GRANTS = select(_tokens, _grants.c.entity, _grants.c.project, _grants.c.role).outerjoin(
    _grants, _grants.c.token_id == _tokens.c.id
)
_BY_SECRET = _WITH_GRANTS.where(_tokens.c.secret_sha256 == bindparam("digest"))
_IS_ALIVE = _tokens.c.revoked_at.is_(None)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _read(found: Iterable[Any]) -> list[Token]:
    """Tokens from rows of _WITH_GRANTS, in their order."""
    heads: dict[int, Any] = {}
    granted: dict[int, list[Grant]] = {}
    for row in found:
        heads.setdefault(row.id, row)
        if row.role is not None:
            granted.setdefault(row.id, []).append(Grant(row.entity, row.project, row.role))
    return [
        Token(
            id=row.id, name=row.name, is_admin=bool(row.is_admin), grants=tuple(sorted(granted.get(row.id, ()))),
            created_at=queries.to_time(row.created_at), expires_at=_time(row.expires_at),
            revoked_at=_time(row.revoked_at), used_at=_time(row.used_at),
        )
        for row in heads.values()
    ]


def _time(stamp: int | None) -> datetime | None:
    return None if stamp is None else queries.to_time(stamp)


def authenticate(conn: Connection, secret: str, clock: Callable[[Connection], int]) -> Token:
    """See Ledger.authenticate. The time that the search takes tells nothing: it is for a hash, which nobody can choose to be like
    another; what it finds is compared in constant time."""
    found: list[Any] = []
    if is_secret(secret):
        digest = _digest(secret)
        found = [row for row in conn.execute(_BY_SECRET, {"digest": digest}) if hmac.compare_digest(row.secret_sha256, digest)]
    if not found:
        raise UnauthorizedError("the server does not know this token; `artfs login` keeps another")
    [token] = _read(found)
    if token.revoked_at is not None:
        raise UnauthorizedError(f"the token {token.name!r} was revoked; `artfs login` keeps a new one")
    if token.expires_at is not None and queries.to_stamp(token.expires_at) <= clock(conn):
        when = token.expires_at.isoformat(timespec="seconds")
        raise UnauthorizedError(f"the token {token.name!r} expired at {when}; `artfs login` keeps a new one")
    return token


def note_use(tx: Writing, token_id: int) -> None:
    tx.conn.execute(update(_tokens).where(_tokens.c.id == token_id).values(used_at=tx.now))


def tokens(conn: Connection, revoked: bool) -> list[Token]:
    wanted = _WITH_GRANTS if revoked else _WITH_GRANTS.where(_IS_ALIVE)
    return _read(conn.execute(wanted.order_by(_tokens.c.name, _tokens.c.id)))


def find(conn: Connection, name: str) -> Token | None:
    if not rows.storable(name):
        return None
    found = _read(conn.execute(_WITH_GRANTS.where(_tokens.c.name == name, _IS_ALIVE)))
    return found[0] if found else None


def need(conn: Connection, name: str) -> Token:
    found = find(conn, name)
    if found is None:
        there = [token.name for token in tokens(conn, revoked=False)]
        raise NotFoundError(f"there is no token {name!r}; there {f'are {rows.some(there)}' if there else 'is none'}")
    return found


def create(
    tx: Writing, name: str, grants: Iterable[Grant], is_admin: bool, expires_at: datetime | None
) -> tuple[Token, str]:
    """See Ledger.create_token."""
    check_token_name(name)
    wanted = [check_grant(grant) for grant in grants]
    if len({(grant.entity, grant.project) for grant in wanted}) != len(wanted):
        raise InvalidArgumentError("one project is granted twice")
    expires = None if expires_at is None else queries.to_stamp(expires_at)
    if expires is not None and expires <= tx.now:
        raise InvalidArgumentError(f"{expires_at} is past: the token would be expired from the start")
    if find(tx.conn, name) is not None:
        raise ConflictError(f"there is a token {name!r}; revoke it first, or choose another name")
    secret = new_secret()
    token_id = tx.conn.execute(
        insert(_tokens)
        .values(name=name, secret_sha256=_digest(secret), is_admin=int(is_admin), created_at=tx.now, expires_at=expires)
        .returning(_tokens.c.id)
    ).scalar_one()
    if wanted:
        tx.conn.execute(insert(_grants), [_row(token_id, grant) for grant in wanted])
    return need(tx.conn, name), secret


def _row(token_id: int, grant: Grant) -> dict[str, Any]:
    return {"token_id": token_id, "entity": grant.entity, "project": grant.project, "role": grant.role}


def revoke(tx: Writing, name: str) -> Token:
    token = need(tx.conn, name)
    tx.conn.execute(update(_tokens).where(_tokens.c.id == token.id).values(revoked_at=tx.now))
    [gone] = _read(tx.conn.execute(_WITH_GRANTS.where(_tokens.c.id == token.id)))
    return gone


def grant(tx: Writing, name: str, given: Grant) -> tuple[Token, bool]:
    """The token, and whether anything is new."""
    check_grant(given)
    token = need(tx.conn, name)
    if given in token.grants:
        return token, False
    tx.conn.execute(delete(_grants).where(_place(token.id, given.entity, given.project)))
    tx.conn.execute(insert(_grants), [_row(token.id, given)])
    return need(tx.conn, name), True


def withdraw(tx: Writing, name: str, entity: str, project: str) -> Token:
    token = need(tx.conn, name)
    if not any((there.entity, there.project) == (entity, project) for there in token.grants):
        raise NotFoundError(f"the token {name!r} was granted nothing for {entity}/{project}")
    tx.conn.execute(delete(_grants).where(_place(token.id, entity, project)))
    return need(tx.conn, name)


def _place(token_id: int, entity: str, project: str) -> ColumnElement[bool]:
    return and_(_grants.c.token_id == token_id, _grants.c.entity == entity, _grants.c.project == project)


def is_readable(token: Token) -> ColumnElement[bool]:
    """A condition on schema.projects: living, and the token has a role there. For any query about many projects at once."""
    p = schema.projects
    lives = p.c.deleted_at.is_(None)
    if token.is_admin:
        return and_(lives, true())
    mine = select(_grants.c.token_id).where(
        _grants.c.token_id == token.id, _grants.c.entity == p.c.entity, _grants.c.project.in_((EVERY_PROJECT, p.c.name)),
    )
    return and_(lives, mine.correlate(p).exists())
