"""Who may do what on a server, what was done, and what changed: values. Times are aware datetimes in UTC."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, get_args

from artfs.errors import InvalidArgumentError, InvalidNameError
from artfs.model.names import MAX_NAME, check_entity_name, check_project_name

Role = Literal["reader", "writer", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
"""Each may what the ones before it may."""

EVERY_PROJECT = "*"
"""In the place of a project's name: every project of the entity, those to come too."""

SECRET_PREFIX = "artfs_"  # noqa: S105  (by which scanners of leaked secrets know ours)
_SECRET = re.compile(r"artfs_[A-Za-z0-9_-]{43}")


def new_secret() -> str:
    """A token's secret: 256 random bits."""
    return SECRET_PREFIX + secrets.token_urlsafe(32)


def is_secret(text: str) -> bool:
    """Whether it looks like a secret of ours."""
    return _SECRET.fullmatch(text) is not None


def is_enough(role: Role | None, wanted: Role) -> bool:
    """Whether who has `role` (None: none) may do what `wanted` may."""
    return role is not None and ROLES.index(role) >= ROLES.index(wanted)


def stronger(one: Role | None, other: Role | None) -> Role | None:
    return one if other is None or is_enough(one, other) else other


@dataclass(frozen=True, slots=True, order=True)
class Grant:
    """`project`: a name, or EVERY_PROJECT."""

    entity: str
    project: str
    role: Role

    def covers(self, entity: str, project: str) -> bool:
        return self.entity == entity and self.project in (EVERY_PROJECT, project)


def check_grant(grant: Grant) -> Grant:
    """Raises InvalidNameError or InvalidArgumentError."""
    check_entity_name(grant.entity)
    if grant.project != EVERY_PROJECT:
        check_project_name(grant.project)
    if grant.role not in ROLES:
        raise InvalidArgumentError(f"there is no role {grant.role!r}; there are {', '.join(ROLES)}")
    return grant


@dataclass(frozen=True, slots=True)
class Token:
    """Somebody who may use a server. The secret is not known. `is_admin`: may do everything, in all projects, and make
    tokens. None in `expires_at`: never; in `revoked_at`: it was not; in `used_at` (a minute old at most): not yet."""

    id: int
    name: str
    is_admin: bool
    grants: tuple[Grant, ...]
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    used_at: datetime | None = None

    def role_in(self, entity: str, project: str) -> Role | None:
        """The strongest that it has there; None: what is there does not exist for it. Whether it is still valid is not
        looked at here."""
        if self.is_admin:
            return "admin"
        found: Role | None = None
        for grant in self.grants:
            if grant.covers(entity, project):
                found = stronger(found, grant.role)
        return found

    def role_in_all_of(self, entity: str) -> Role | None:
        """The role in every project of the entity; a writer's makes new ones."""
        return "admin" if self.is_admin else self.role_in(entity, EVERY_PROJECT)

    def may(self, wanted: Role, entity: str, project: str) -> bool:
        return is_enough(self.role_in(entity, project), wanted)

    def sees_entity(self, entity: str) -> bool:
        """Whether it may read anything there."""
        return self.is_admin or any(grant.entity == entity for grant in self.grants)


def check_token_name(name: str) -> str:
    """Raises InvalidNameError: 1 to 128 printable characters, no blanks at the ends."""
    if not name or len(name) > MAX_NAME or name != name.strip() or not name.isprintable():
        raise InvalidNameError(
            f"{name[:40]!r} is no name for a token: 1 to {MAX_NAME} printable characters, no blanks at the ends"
        )
    return name


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does something: a token, or (`token_id` None) what has none."""

    name: str
    token_id: int | None = None


@dataclass(frozen=True, slots=True)
class CallId:
    """Of a change that is asked for again when its answer got lost: it is made once.

    Attributes:
        text: chosen at random by who asks, 1 to 64 printable ASCII characters without blanks. It counts for one actor only.
        request: SHA-256 of all that is asked for, raw.
        result: the type of what the change answers, one that JSON can hold.
    """

    text: str
    request: bytes
    result: Any


COMMAND_LINE = Actor("command line")
"""Who works on the server's database itself."""

SERVER = Actor("server")
"""What a server does by itself: expiry, garbage collection."""


@dataclass(frozen=True, slots=True)
class AuditRow:
    """What was done. `action`: the name of the call; `entity`, `project`: None where it was done to none; `target`: to what,
    for people; `detail`: JSON values that matter, never a secret."""

    id: int
    at: datetime
    actor: Actor
    action: str
    entity: str | None
    project: str | None
    target: str
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which rows of the audit log; what is None does not matter. `since` inclusive, `until` exclusive."""

    actor: str | None = None
    action: str | None = None
    entity: str | None = None
    project: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """That something changed. `project` None: the list of the entity's projects; `collection` None: the list of the
    project's collections or runs, or its policies; else: the collection, its versions or aliases."""

    number: int
    at: datetime
    entity: str
    project: str | None
    collection: str | None


@dataclass(frozen=True, slots=True)
class Changes:
    """`last`: the number to ask on from. `is_gap`: the number that was asked from is too old (or of another past, before a
    backup was restored), so anything may have changed; `last` is the newest then."""

    last: int
    rows: tuple[Change, ...]
    is_gap: bool = False


def covering(grants: Iterable[Grant]) -> dict[tuple[str, str], Role]:
    """The grants by (entity, project), without doubles: the strongest counts."""
    found: dict[tuple[str, str], Role] = {}
    for grant in grants:
        place = (grant.entity, grant.project)
        role = stronger(found.get(place), grant.role)
        assert role is not None
        found[place] = role
    return found
