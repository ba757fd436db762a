"""What the parts of the server hand to each other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from artfs.catalog.base import Catalog
from artfs.catalog.ledger import Ledger
from artfs.model.access import Actor, CallId, Role, Token
from artfs.model.records import Member, NewPart, NewVersion
from artfs.wire.routes import Route

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls. `token` None: anybody, on a server without tokens (`--no-auth`), who may do everything."""

    token: Token | None

    @property
    def actor(self) -> Actor:
        return Actor("anybody") if self.token is None else Actor(self.token.name, self.token.id)

    @property
    def is_admin(self) -> bool:
        """Of the server."""
        return self.token is None or self.token.is_admin

    def role_in(self, entity: str, project: str) -> Role | None:
        return "admin" if self.token is None else self.token.role_in(entity, project)

    def role_in_all_of(self, entity: str) -> Role | None:
        return "admin" if self.token is None else self.token.role_in_all_of(entity)

    def reads(self, entity: str, project: str) -> bool:
        return self.role_in(entity, project) is not None

    def sees_entity(self, entity: str) -> bool:
        return self.token is None or self.token.sees_entity(entity)

    def reads_member(self, member: Member) -> bool:
        return self.reads(member.entity, member.project)


@dataclass(slots=True)
class Call:
    """One request that may be carried out: decoded, and its caller has the right that the route asks for.

    Attributes:
        arguments: the parts of the path, by name.
        query, body: decoded as the route says.
        place: (entity, project) that it concerns, None for routes without one. Of a version: where it was
            logged, or else the first place where it is linked and the caller may read it.
        request_id: for the log.
        id: to make its change once, if the route can and the caller gave one.
    """

    route: Route
    caller: Caller
    arguments: Mapping[str, Any]
    query: Any = None
    body: Any = None
    place: tuple[str, str] | None = None
    request_id: str = ""
    id: CallId | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """How a route is carried out.

    Attributes:
        run: called in a worker thread with a Call whose body is decoded; what it returns is encoded as the route says.
        stream: instead of `run`: called on the event loop, with the body not read, and answers by itself. It must not block.
    """

    route: Route
    run: Callable[[Call], Any] | None = None
    stream: Callable[[Call, Request], Awaitable[Response]] | None = None


def _nothing_to_check(call: Call, new: NewVersion | NewPart) -> None:
    return None


@dataclass(frozen=True, slots=True)
class ServerParts:
    """What a server is made of.

    Attributes:
        catalog, ledger: over the same database.
        endpoints: calls beside those about names (those about blobs).
        before_commit: raises when the tree of a new version, or of a part of one, may not be committed there by that
            caller (BlobMissingError).
        before_link: makes the blobs of a version (as a member that the caller may read) readable in the project (entity, name)
            that it is linked to.
        checks: what /readyz asks, by name: each returns when its part answers, and raises otherwise.
        close: run when the process ends.
    """

    catalog: Catalog
    ledger: Ledger
    endpoints: Sequence[Endpoint] = ()
    before_commit: Callable[[Call, NewVersion | NewPart], None] = _nothing_to_check
    before_link: Callable[[Call, Member, tuple[str, str]], None] = lambda call, member, place: None
    checks: Mapping[str, Callable[[], None]] = field(default_factory=dict)
    close: Callable[[], None] = lambda: None
