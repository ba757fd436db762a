"""What calls about names take: queries and bodies. What they give are the records of `artfs.model.records`.

In a query a list is a key that stands there several times, a boolean `true` or `false`. Texts of queries are percent-encoded
bytes of UTF-8 in which also lone surrogates (bytes of file names that are no UTF-8) may stand, as Python's "surrogatepass"
writes them: names that nothing can have may be asked for, and are not found.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from artfs.model.paging import MAX_LIMIT
from artfs.model.records import CollectionKind
from artfs.model.ttl import Ttl

Role = Literal["reader", "writer", "admin"]

Limit = Annotated[int, msgspec.Meta(ge=1, le=MAX_LIMIT)]
Time = Annotated[datetime, msgspec.Meta(tz=True)]
Id = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Query(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What stands behind the `?`."""


class Body(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    pass


# queries ----------------------------------------------------------------------------------------------------------
class NoQuery(Query, frozen=True):
    pass


class OfType(Query, frozen=True):
    type: str | None = None


class AliasQuery(Query, frozen=True):
    alias: str


class PartsQuery(Query, frozen=True):
    distributed_id: str


class RunPageQuery(Query, frozen=True):
    """For all pages, see model.paging.PageRequest."""

    order: Annotated[str, msgspec.Meta(pattern="^[+-]?(created_at|name)$")]
    limit: int = 50
    after: str | None = None


class CollectionPageQuery(Query, frozen=True):
    order: Annotated[str, msgspec.Meta(pattern="^[+-]?(name|created_at|updated_at)$")]
    limit: int = 50
    after: str | None = None
    type: str | None = None


class MemberPageQuery(Query, frozen=True):
    order: Annotated[str, msgspec.Meta(pattern="^[+-]?(index|created_at|updated_at|size)$")]
    limit: int = 50
    after: str | None = None
    tags: list[str] = []


class RunVersionsQuery(Query, frozen=True):
    used: bool


class RunVersionPageQuery(Query, frozen=True):
    order: Annotated[str, msgspec.Meta(pattern="^[+-]?created_at$")]
    used: bool
    limit: int = 50
    after: str | None = None


class UsageQuery(Query, frozen=True):
    """`collections` false: the numbers of the project only, which cost nothing."""

    collections: bool = True


class Protected(Query, frozen=True):
    allow_protected: bool = False


class DeleteVersionQuery(Query, frozen=True):
    delete_aliases: bool = False
    allow_protected: bool = False


class HistoryQuery(Query, frozen=True):
    """`limit`: at most this many rows."""

    after: Annotated[int, msgspec.Meta(ge=-1, le=2**63 - 1)] = -1
    limit: Limit = 1000


class StateQuery(Query, frozen=True):
    state: Literal["COMMITTED", "DELETED", "PENDING"] = "COMMITTED"


class EventsQuery(Query, frozen=True):
    """`after`: the newest change that is known already; without, only what comes is told."""

    after: Id | None = None


class AuditQuery(Query, frozen=True):
    """`before`: an id; entries older than that. Without: the newest. `since` inclusive, `until` exclusive."""

    before: Id | None = None
    limit: Limit = 100
    actor: str | None = None
    action: str | None = None
    entity: str | None = None
    project: str | None = None
    since: Time | None = None
    until: Time | None = None


# bodies -----------------------------------------------------------------------------------------------------------
class NewCollection(Body, frozen=True):
    type: str = ""
    kind: CollectionKind = "sequence"
    description: str | None = None


class CollectionChanges(Body, frozen=True):
    """What is left out, or null, stays. `tags` replace all, before some are removed and added."""

    name: str | None = None
    description: str | None = None
    tags: list[str] | None = None
    type: str | None = None
    add_tags: list[str] = []
    remove_tags: list[str] = []


class ProtectedChanges(Body, frozen=True):
    add: list[str] = []
    remove: list[str] = []


class TtlBody(Body, frozen=True):
    """A duration as ISO 8601 has it ("P30D"), null for never, or 0: what is above decides."""

    ttl: Ttl


class AliasChanges(Body, frozen=True):
    add: list[str] = []
    remove: list[str] = []
    allow_protected: bool = False


class VersionChanges(Body, frozen=True):
    """What is left out stays. A description of null removes it."""

    description: str | UnsetType | None = UNSET
    metadata: dict[str, Any] | None = None
    add_tags: list[str] = []
    remove_tags: list[str] = []
    ttl: Ttl | UnsetType = UNSET


class NewLink(Body, frozen=True):
    entity: str
    project: str
    collection: str
    aliases: list[str] = []
    allow_protected: bool = False


class ExpireBody(Body, frozen=True):
    limit: Limit = 500


class NewRun(Body, frozen=True):
    """`run_id`: without, a new one."""

    run_id: str | None = None
    name: str | None = None
    job_type: str | None = None
    config: dict[str, Any] | None = None
    group: str | None = None
    tags: list[str] = []
    notes: str | None = None


class RunChanges(Body, frozen=True):
    """What is left out, or null, stays. `summary` and `config` are added to what is there, name by name."""

    state: str | None = None
    history_steps: int | None = None
    summary: dict[str, Any] | None = None
    config: dict[str, Any] | None = None
    name: str | None = None
    tags: list[str] | None = None
    notes: str | None = None


# tokens -----------------------------------------------------------------------------------------------------------
class GrantBody(Body, frozen=True):
    """A role for a project, or for all of the entity's ("*")."""

    entity: str
    project: str
    role: Role


class NewToken(Body, frozen=True):
    """`is_admin`: may do everything on this server. `expires_at`: without, never."""

    name: str
    is_admin: bool = False
    grants: list[GrantBody] = []
    expires_at: Time | None = None


class GrantChange(Body, frozen=True):
    """`role` null takes it away."""

    entity: str
    project: str
    role: Role | None = None


class TokenShape(msgspec.Struct, frozen=True):
    """A token, without its secret."""

    id: int
    name: str
    is_admin: bool
    grants: list[GrantBody]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    used_at: datetime | None


class MadeToken(msgspec.Struct, frozen=True):
    """`secret`: shown this once, it is not kept."""

    token: TokenShape
    secret: str


class Me(msgspec.Struct, frozen=True):
    """Who the server takes us for. `version`: of the server's program. `name` null and `is_admin`: it takes everybody."""

    name: str | None
    is_admin: bool
    grants: list[GrantBody]
    expires_at: datetime | None
    version: str


class AuditShape(msgspec.Struct, frozen=True):
    id: int
    at: datetime
    actor: str
    action: str
    entity: str | None
    project: str | None
    target: str
    detail: dict[str, Any]


class AliasEvent(msgspec.Struct, frozen=True):
    """From `at` on the alias names the member `index` of the collection; null: none, it was removed."""

    at: datetime
    alias: str
    index: int | None


class ChangeToken(msgspec.Struct, frozen=True):
    """`newest`: the number of the newest change. 0: there is none yet."""

    newest: int


class EventData(msgspec.Struct, frozen=True):
    """What changed: a collection; the collections or policies of a project (null); the projects of an entity (null,
    null)."""

    entity: str
    project: str | None
    collection: str | None


class Hello(msgspec.Struct, frozen=True):
    newest: int


class ErrorBody(msgspec.Struct, frozen=True):
    """`kind`: see artfs.errors. More fields may follow, those of that error."""

    kind: str
    message: str
