"""Values that the catalog, the daemon and the API pass around: what is known about names. Pure data, no behaviour
beyond naming. Times are aware datetimes in UTC; sizes are bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from artfs.model.ttl import INHERIT, ArtifactTTL, Ttl

CollectionKind = Literal["sequence", "portfolio"]
VersionState = Literal["PENDING", "COMMITTED", "DELETED"]


@dataclass(frozen=True, slots=True)
class Content:
    """What a file's bytes are: `digest` (SHA-256, 64 hex digits), `size` in bytes, and `blocks`, the digest of the top
    block list ("" for blobs of at most 1 MiB, which have none)."""

    digest: str
    size: int
    blocks: str = ""


@dataclass(frozen=True, slots=True)
class Project:
    id: int
    entity: str
    name: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Collection:
    """`type`: the artifact type of its versions; "" while a collection made empty (mkdir) has none yet.
    `kind`: a sequence is where versions are logged, a portfolio holds linked ones."""

    id: int
    entity: str
    project: str
    name: str
    type: str
    kind: CollectionKind
    description: str | None
    tags: tuple[str, ...]
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Version:
    """An artifact version. `digest`: its root tree. `size`, `file_count`: totals over the tree, references included.
    `run_id`: the run that logged it, None when none did. `history_step`: None before the run logged anything.
    `source_index`: its number in the sequence that it was logged to. `ttl`: its own policy; `inherited_ttl`: what
    INHERIT means now, by its project or else its entity (None: it does not expire)."""

    id: int
    entity: str
    project: str
    collection: str
    source_index: int
    type: str
    state: VersionState
    digest: str
    size: int
    file_count: int
    description: str | None
    metadata: dict[str, Any]
    tags: tuple[str, ...]
    created_at: datetime
    updated_at: datetime
    run_id: str | None
    history_step: int | None
    ttl: Ttl = INHERIT
    inherited_ttl: timedelta | None = None

    @property
    def commit_hash(self) -> str:
        return self.digest

    @property
    def lifetime(self) -> timedelta | None:
        """How long it lives, counted from its commit; None: for ever."""
        return self.inherited_ttl if isinstance(self.ttl, ArtifactTTL) else self.ttl

    @property
    def expires_at(self) -> datetime | None:
        """When its time is up; it goes a little later, or stays (Catalog.expire says which)."""
        return None if self.lifetime is None else self.created_at + self.lifetime


@dataclass(frozen=True, slots=True)
class Member:
    """A version's place in a collection (a membership): `index` is N of vN there; aliases belong to this place."""

    id: int
    collection_id: int
    entity: str
    project: str
    collection: str
    index: int
    aliases: tuple[str, ...]
    version: Version
    created_at: datetime

    @property
    def name(self) -> str:
        return f"{self.collection}:v{self.index}"

    @property
    def qualified_name(self) -> str:
        return f"{self.entity}/{self.project}/{self.collection}:v{self.index}"

    @property
    def is_link(self) -> bool:
        source = self.version
        return (self.entity, self.project, self.collection) != (source.entity, source.project, source.collection)


@dataclass(frozen=True, slots=True)
class NewVersion:
    """What `Catalog.commit` turns into a version.

    `aliases` are added to `latest`, which a commit always moves. `type` "" means: the collection's own type (or
    "dataset" for a new collection). `expect_latest`: the member index that `latest` must still name (-1: none must
    exist); None does not check. `run_id`: the run that logs it. `ttl`: its policy. `allow_protected`: `aliases` may hold
    protected ones. `distributed_id`: it holds the parts (see NewPart) that were added under it, whose ids are `parts`.

    `index`, `created_at`: of a version that comes from another catalog, as they were there. The index is kept when it is not
    below what the collection would give, the time when nothing in the collection is younger; otherwise it is as for
    any commit.
    """

    entity: str
    project: str
    collection: str
    type: str
    digest: str
    size: int
    file_count: int
    description: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    run_id: str | None = None
    history_step: int | None = None
    expect_latest: int | None = None
    ttl: Ttl = INHERIT
    allow_protected: bool = False
    distributed_id: str | None = None
    parts: tuple[int, ...] = ()
    index: int | None = None
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class NewPart:
    """What one of several runs contributes to a version that another makes of all parts with the same `distributed_id`.

    `digest`: the root of its tree. `aliases`: what that version gets besides its own. `run_id`: as in NewVersion.
    """

    entity: str
    project: str
    collection: str
    type: str
    distributed_id: str
    digest: str
    aliases: tuple[str, ...] = ()
    run_id: str | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """A part that waits for its version."""

    id: int
    digest: str
    aliases: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Committed:
    """Result of a commit. `created` is False when `latest` had the digest already: nothing new was made; `member` is then
    the existing one, with the requested aliases and tags applied to it."""

    member: Member
    created: bool


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run: what logged or used versions. `state`: "running", "finished", "failed" or "crashed". `summary`: the last value
    that it logged of each name, and what it put there itself. `group`: what runs that belong together have in common."""

    id: str
    entity: str
    project: str
    name: str
    job_type: str | None
    config: dict[str, Any]
    state: str
    history_steps: int
    created_at: datetime
    finished_at: datetime | None
    summary: dict[str, Any] = field(default_factory=dict)
    group: str | None = None
    tags: tuple[str, ...] = ()
    notes: str | None = None


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """What a run logged at one step: JSON values by name."""

    step: int
    at: datetime
    values: dict[str, Any]
