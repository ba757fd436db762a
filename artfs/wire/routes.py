"""Every call of the protocol once (docs/wire.md): the server makes its endpoints and its OpenAPI description from it, the client
its calls. Calls about blobs have a list of their own, in the same form.

A call is named like the method of `Catalog` that it stands for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Literal
from urllib.parse import quote

import msgspec

from artfs.model.paging import Page
from artfs.model.records import (
    Collection,
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
from artfs.wire import bodies

JSON = "application/json"
EVENT_STREAM = "text/event-stream"
MAX_JSON = 16 * 1024 * 1024
"""Largest body of JSON in bytes."""

CHANGE_HEADER = "artfs-change"
"""Header of the answer to whatever changes something: the number of the newest change after it."""

CALL_HEADER = "artfs-call"
"""Header of a call whose change is to be made once (`Route.once`): a random id, the same with each try."""

CALL_ID = re.compile(r"[\x21-\x7e]{1,64}")

Right = Literal["public", "token", "reader", "writer", "admin", "server"]
"""Who may: anybody; any living token; one with that role for the project of the call's place; an administrator of the server."""


class Place(Enum):
    """Which project a call concerns, and how that is found.

    VERSION is wherever the version is a member: for reading one of those projects is enough, for everything else it is the
    project that it was logged to. Calls of NONE look by themselves at each thing that they tell."""

    NONE = "none"
    ENTITY = "the entity in the path"
    PROJECT = "the entity and the project in the path"
    BODY = "the entity and the project in the body"
    COLLECTION = "the project of the collection with that id"
    MEMBER = "the project of the collection that this membership is in"
    VERSION = "the projects that the version with that id is in"
    RUN = "the project of the run with that id"


_NUMBERS = frozenset({"collection_id", "member_id", "version_id", "number"})
"""Parts of paths that are whole numbers; the others are texts."""

_PART = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Route:
    """One call.

    Attributes:
        name, method, path, summary: parts of the path in braces are arguments.
        right, place: who may, and where.
        query, body, result: types; a body of None: none is sent, a result of None: 204 without one.
        idempotent: sending it twice is as good as once, so a client tries again when an answer got lost.
        once: the server keeps the answer, so that sending it twice (with one id in CALL_HEADER) is as good as once even if
            somebody else has changed the same thing in between.
        vanishes: the second time it is "not found", which then means that the first has done it.
        audited: the server writes down who did it.
        max_body: bytes.
        body_media, result_media: media types.
    """

    name: str
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    summary: str
    right: Right = "reader"
    place: Place = Place.NONE
    query: type[bodies.Query] = bodies.NoQuery
    body: Any = None
    result: Any = None
    idempotent: bool = True
    once: bool = False
    vanishes: bool = False
    audited: bool = False
    max_body: int = MAX_JSON
    body_media: str = JSON
    result_media: str = JSON
    arguments: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "arguments", tuple(_PART.findall(self.path)))

    @property
    def only_reads(self) -> bool:
        """Whether it changes nothing that a catalog tells."""
        return self.method == "GET" or (self.right == "token" and not self.audited)

    def url(self, arguments: Mapping[str, str | int]) -> str:
        """The path with its arguments filled in, percent-encoded. KeyError when one is missing."""
        return _PART.sub(lambda part: encoded(str(arguments[part[1]])), self.path)


def encoded(text: str) -> str:
    """`text` for a path or a query: any Python text, see `bodies`."""
    return quote(text, safe="", errors="surrogatepass")


def encode_query(query: bodies.Query) -> str:
    """What stands behind the `?`: "" for nothing. Defaults are left out."""
    pairs: list[tuple[str, str]] = []
    for info in msgspec.structs.fields(query):
        value = getattr(query, info.name)
        if value is None or (info.default is not msgspec.NODEFAULT and value == info.default):
            continue
        for item in value if isinstance(value, list) else [value]:
            pairs.append((info.name, _text(item)))
    return "&".join(f"{name}={encoded(item)}" for name, item in pairs)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if isinstance(value, datetime) else str(value)


def argument_type(name: str) -> type[int] | type[str]:
    """Of a part of a path."""
    return int if name in _NUMBERS else str


_P = "/v1/projects/{entity}/{project}"
_C = "/v1/collections/{collection_id}"
_V = "/v1/versions/{version_id}"
_R = "/v1/runs/{run_id}"

ROUTES: tuple[Route, ...] = (
    # projects and collections
    Route("entities", "GET", "/v1/entities", "Entities with projects that the token may read.", "token", result=list[str]),
    Route(
        "projects", "GET", "/v1/entities/{entity}/projects", "Projects that the token may read, by name.",
        "token", result=list[Project],
    ),
    Route("try_project", "GET", _P, "A project.", place=Place.PROJECT, result=Project),
    Route(
        "create_project", "PUT", _P, "Makes a project when it is not there.", "writer", Place.PROJECT,
        result=Project, audited=True,
    ),
    Route(
        "delete_project", "DELETE", _P, "Deletes an empty project.", "admin", Place.PROJECT, vanishes=True, audited=True,
    ),
    Route(
        "collections", "GET", f"{_P}/collections", "Collections by name.", place=Place.PROJECT, query=bodies.OfType,
        result=list[Collection],
    ),
    Route(
        "page_of_collections", "GET", f"{_P}/pages/collections", "Collections in pages, by name, created_at or updated_at.",
        place=Place.PROJECT, query=bodies.CollectionPageQuery, result=Page[Collection],
    ),
    Route(
        "try_collection", "GET", f"{_P}/collections/{{collection}}", "A collection.", place=Place.PROJECT,
        result=Collection,
    ),
    Route(
        "create_collection", "PUT", f"{_P}/collections/{{collection}}", "Makes a collection when it is not there.",
        "writer", Place.PROJECT, body=bodies.NewCollection, result=Collection, audited=True,
    ),
    Route(
        "update_collection", "PATCH", _C, "Renames, describes, tags a collection.", "writer", Place.COLLECTION,
        body=bodies.CollectionChanges, result=Collection, once=True, audited=True,
    ),
    Route(
        "delete_collection", "DELETE", _C, "Deletes a collection with its versions, or its links.", "admin", Place.COLLECTION,
        query=bodies.Protected, vanishes=True, audited=True,
    ),
    # policies
    Route(
        "protected_aliases", "GET", f"{_P}/protected-aliases", "Protected aliases of a project.", place=Place.PROJECT,
        result=list[str],
    ),
    Route(
        "protect_aliases", "PATCH", f"{_P}/protected-aliases", "Protects aliases, or ends that.", "admin", Place.PROJECT,
        body=bodies.ProtectedChanges, result=list[str], once=True, audited=True,
    ),
    Route("default_ttl", "GET", f"{_P}/ttl", "How long versions of a project live.", place=Place.PROJECT, result=Ttl),
    Route(
        "set_default_ttl", "PUT", f"{_P}/ttl", "Says how long versions of a project live.", "admin", Place.PROJECT,
        body=bodies.TtlBody, once=True, audited=True,
    ),
    Route(
        "default_entity_ttl", "GET", "/v1/entities/{entity}/ttl",
        "How long versions live where the project says nothing; for ever in entities that the token does not see.",
        "token", result=Ttl,
    ),
    Route(
        "set_default_entity_ttl", "PUT", "/v1/entities/{entity}/ttl", "Says how long versions live where the project does not.",
        "admin", Place.ENTITY, body=bodies.TtlBody, once=True, audited=True,
    ),
    Route(
        "next_expiry", "GET", "/v1/next-expiry",
        "When the next version expires; null for who may not delete it, that is for all but administrators of the server.",
        "token", result=datetime | None,
    ),
    Route(
        "expire", "POST", "/v1/expire", "Deletes versions whose time is up.", "server", body=bodies.ExpireBody,
        result=list[Member], audited=True,
    ),
    # versions
    Route("members", "GET", f"{_C}/members", "Versions of a collection.", place=Place.COLLECTION, result=list[Member]),
    Route(
        "page_of_members", "GET", f"{_C}/pages/members", "Versions in pages, by index, created_at, updated_at or size.",
        place=Place.COLLECTION, query=bodies.MemberPageQuery, result=Page[Member],
    ),
    Route(
        "resolve", "GET", f"{_P}/collections/{{collection}}/resolve", "The version that an alias, vN or @TIME names.",
        place=Place.PROJECT, query=bodies.AliasQuery, result=Member,
    ),
    Route("member", "GET", "/v1/members/{member_id}", "A version's place in a collection.", place=Place.MEMBER, result=Member),
    Route(
        "commit", "POST", "/v1/commit",
        "Makes a version of a tree that is there, with all that it names. Protected aliases: administrators of the project.",
        "writer", Place.BODY, body=NewVersion, result=Committed, once=True, audited=True,
    ),
    Route(
        "add_part", "POST", "/v1/parts", "Keeps what a run contributes to a version that several make together.", "writer",
        Place.BODY, body=NewPart, once=True, audited=True,
    ),
    Route(
        "parts", "GET", f"{_P}/collections/{{collection}}/parts", "Parts that wait for their version.", place=Place.PROJECT,
        query=bodies.PartsQuery, result=list[Part],
    ),
    Route(
        "set_aliases", "PATCH", "/v1/members/{member_id}/aliases", "Gives and takes aliases.", "writer", Place.MEMBER,
        body=bodies.AliasChanges, result=Member, once=True, audited=True,
    ),
    Route(
        "update_version", "PATCH", _V, "Describes and tags a version. Another ttl: administrators of the project.", "writer",
        Place.VERSION, body=bodies.VersionChanges, result=Version, once=True, audited=True,
    ),
    Route(
        "delete_version", "DELETE", "/v1/members/{member_id}", "Deletes a version, or removes a link.", "admin", Place.MEMBER,
        query=bodies.DeleteVersionQuery, vanishes=True, audited=True,
    ),
    Route(
        "link", "POST", f"{_V}/links", "Links a version that the token may read to a collection that it may write.", "reader",
        Place.VERSION, body=bodies.NewLink, result=Member, once=True, audited=True,
    ),
    Route(
        "unlink", "DELETE", "/v1/links/{member_id}", "Removes a link.", "writer", Place.MEMBER, query=bodies.Protected,
        vanishes=True, audited=True,
    ),
    Route(
        "memberships", "GET", f"{_V}/memberships", "Where a version is; places that the token may read.",
        place=Place.VERSION, result=list[Member],
    ),
    Route(
        "alias_history", "GET", f"{_C}/alias-history", "What aliases named, and when.", place=Place.COLLECTION,
        result=list[bodies.AliasEvent],
    ),
    # runs
    Route("runs", "GET", f"{_P}/runs", "Runs in the order in which they began.", place=Place.PROJECT, result=list[RunRecord]),
    Route(
        "page_of_runs", "GET", f"{_P}/pages/runs", "Runs in pages, by created_at or name.", place=Place.PROJECT,
        query=bodies.RunPageQuery, result=Page[RunRecord],
    ),
    Route(
        "create_run", "POST", f"{_P}/runs", "Begins a run.", "writer", Place.PROJECT, body=bodies.NewRun, result=RunRecord,
        once=True, audited=True,
    ),
    Route("run", "GET", _R, "A run.", place=Place.RUN, result=RunRecord),
    Route(
        "update_run", "PATCH", _R, "Changes a run's state, summary, config.", "writer", Place.RUN, body=bodies.RunChanges,
        result=RunRecord, once=True, audited=True,
    ),
    Route(
        "history", "GET", f"{_R}/history", "What a run logged, by step.", place=Place.RUN, query=bodies.HistoryQuery,
        result=list[HistoryRow],
    ),
    Route(
        "add_history", "POST", f"{_R}/history", "Adds what a run logged.", "writer", Place.RUN, body=list[HistoryRow],
        result=RunRecord,
    ),
    Route(
        "versions_of_run", "GET", f"{_R}/versions", "Versions that a run logged or used; those that the token may read.",
        place=Place.RUN, query=bodies.RunVersionsQuery, result=list[Member],
    ),
    Route(
        "page_of_run_versions", "GET", f"{_R}/pages/versions", "As `versions_of_run`, in pages by created_at.",
        place=Place.RUN, query=bodies.RunVersionPageQuery, result=Page[Member],
    ),
    Route(
        "record_use", "PUT", f"{_R}/used/{{version_id}}", "Notes that a run used a version that the token may read.", "writer",
        Place.RUN, audited=True,
    ),
    Route(
        "record_log", "PUT", f"{_R}/logged/{{version_id}}", "Notes that a run logged a version that is there.", "writer",
        Place.RUN, audited=True,
    ),
    Route(
        "logged_by", "GET", f"{_V}/logged-by", "Runs that logged a version; those that the token may read.",
        place=Place.VERSION, result=list[RunRecord],
    ),
    Route(
        "used_by", "GET", f"{_V}/used-by", "Runs that used a version; those that the token may read.",
        place=Place.VERSION, result=list[RunRecord],
    ),
    # upkeep
    Route(
        "versions", "GET", "/v1/versions", "Source members of all versions in a state, as far as the token may read them.",
        "token", query=bodies.StateQuery, result=list[Member],
    ),
    Route("live_roots", "GET", "/v1/live-roots", "Roots of all versions that are not deleted.", "server", result=list[str]),
    Route("change_token", "GET", "/v1/changes/newest", "The number of the newest change.", "token", result=bodies.ChangeToken),
)
"""What Catalog has, but for `close` and `backup`, which mean nothing to a client."""

SERVER_ROUTES: tuple[Route, ...] = (
    Route("me", "GET", "/v1/me", "Who the server takes the caller for.", "token", result=bodies.Me),
    Route(
        "events", "GET", "/v1/events", "What changes, as it happens.", "token", query=bodies.EventsQuery,
        result=bodies.EventData, result_media=EVENT_STREAM,
    ),
    Route("tokens", "GET", "/v1/tokens", "Tokens that are not revoked.", "server", result=list[bodies.TokenShape]),
    Route(
        "create_token", "POST", "/v1/tokens", "Makes a token.", "server", body=bodies.NewToken, result=bodies.MadeToken,
        idempotent=False, audited=True,
    ),
    Route(
        "revoke_token", "DELETE", "/v1/tokens/{token}", "Ends a token for good.", "server", vanishes=True, audited=True,
    ),
    Route(
        "grant", "PATCH", "/v1/tokens/{token}/grants", "Gives a token a role, or takes it.", "server",
        body=bodies.GrantChange, result=bodies.TokenShape, audited=True,
    ),
    Route(
        "audit", "GET", "/v1/audit", "What was changed by whom, newest first.", "server", query=bodies.AuditQuery,
        result=list[bodies.AuditShape],
    ),
    Route("openapi", "GET", "/v1/openapi.json", "This description.", "public", result=dict[str, Any]),
)
"""What a server has beside the names."""


def by_name(routes: tuple[Route, ...]) -> dict[str, Route]:
    return {route.name: route for route in routes}
