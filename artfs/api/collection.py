"""Collections, artifact types and registries as users see them. Artifacts are made by a function that is passed in,
because those know the collection they are in."""

from __future__ import annotations

import base64
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from artfs.api.filters import Filter
from artfs.api.ingest import as_names
from artfs.api.paging import Page, Paginator
from artfs.api.session import Session
from artfs.api.version import LoggedArtifact, time_text
from artfs.errors import InvalidArgumentError, NotFoundError
from artfs.model.names import REGISTRY_PREFIX, check_collection_name, check_tag, check_type
from artfs.model.paging import PageRequest
from artfs.model.records import Collection, Project

if TYPE_CHECKING:
    from artfs.api.artifact import Artifact

Wrap: TypeAlias = "Callable[[LoggedArtifact], Artifact]"

_ORDERS = {"createdAt": "created_at", "updatedAt": "updated_at", "versionIndex": "index"}


def order_of(given: str | None, default: str) -> str:
    """An order as the reference or artfs spells it ("-createdAt", "created_at"), as catalogs do."""
    if given is None:
        return default
    name = given.lstrip("+-")
    return ("-" if given.startswith("-") else "") + _ORDERS.get(name, name)


class ArtifactCollection:
    """An ordered group of versions with one name and type: a sequence (where versions are logged) or a portfolio (which
    holds links).

    `name`, `description` and `tags` (of a sequence `type`, too) may be set, tags also changed in place; `save` persists
    them. What it holds is looked up when it is asked for.
    """

    def __init__(self, session: Session, record: Collection, wrap: Wrap) -> None:
        self._session = session
        self._wrap = wrap
        self._load(record)

    def _load(self, record: Collection) -> None:
        self._record = record
        self._name = record.name
        self._type = record.type
        self.description: str | None = record.description
        self._tags = list(record.tags)

    def __repr__(self) -> str:
        record = self._record
        return f"<ArtifactCollection {record.entity}/{record.project}/{record.name} ({record.type})>"

    # what it is -----------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """What identifies it in its catalog, whatever its name is."""
        kind = "ArtifactSequence" if self.is_sequence() else "ArtifactPortfolio"
        return base64.b64encode(f"{kind}:{self._record.id}".encode()).decode()

    @property
    def entity(self) -> str:
        return self._record.entity

    @property
    def project(self) -> str:
        return self._record.project

    @property
    def name(self) -> str:
        """Setting it renames the collection at the next `save`; its versions and aliases stay. Raises InvalidNameError."""
        return self._name

    @name.setter
    def name(self, name: str) -> None:
        self._name = check_collection_name(name)

    @property
    def type(self) -> str:
        """The type of its artifacts. Only that of a sequence may be set. Raises InvalidNameError."""
        return self._type

    @type.setter
    def type(self, type: str) -> None:
        self._type = check_type(type, self._name)

    @property
    def tags(self) -> list[str]:
        return self._tags

    @tags.setter
    def tags(self, tags: str | Iterable[str]) -> None:
        self._tags = [check_tag(tag) for tag in as_names(tags)]

    @property
    def created_at(self) -> str:
        """ISO 8601, UTC."""
        return time_text(self._record.created_at)

    @property
    def updated_at(self) -> str:
        """When it, its members or their aliases last changed: ISO 8601, UTC."""
        return time_text(self._record.updated_at)

    def is_sequence(self) -> bool:
        """Whether versions are logged to it (else it holds links)."""
        return self._record.kind == "sequence"

    # what it holds --------------------------------------------------------------------------------

    @property
    def aliases(self) -> list[str]:
        """All aliases of its members, by name."""
        members = self._session.catalog.members(self._record.id)
        return sorted(alias for member in members for alias in member.aliases)

    def artifacts(
        self,
        per_page: int = 50,
        *,
        order: str | None = None,
        tags: str | Iterable[str] | None = None,
        start: str | None = None,
    ) -> Paginator[Artifact]:
        """Its versions, or links; the newest first.

        Arguments:
            per_page: how many are fetched at a time.
            order: "index", "created_at", "updated_at" or "size" (or "createdAt" …), with "-" before it for descending.
            tags: only those that have all of these.
            start: goes on after a list that ended early: its `cursor`.
        Raises InvalidArgumentError; when pages are fetched NotFoundError if it was deleted.
        """
        session, wanted, by = self._session, as_names(tags), order_of(order, "-index")

        def fetch(cursor: str | None, size: int) -> Page[Artifact]:
            page = session.catalog.page_of_members(self._record.id, PageRequest(by, size, cursor), tags=wanted)
            return [self._wrap(LoggedArtifact(session, member)) for member in page.items], page.cursor

        def count() -> int:
            return session.catalog.page_of_members(self._record.id, PageRequest(by, 1), tags=wanted).total or 0

        return Paginator(fetch, per_page=per_page, start=start, count=count)

    def versions(self, per_page: int = 50) -> Paginator[Artifact]:
        """Deprecated: `artifacts`."""
        warnings.warn("versions is deprecated; use artifacts", DeprecationWarning, stacklevel=2)
        return self.artifacts(per_page)

    # changes --------------------------------------------------------------------------------------

    def save(self) -> None:
        """Persists changes of name, type, description and tags.

        Raises InvalidNameError; ConflictError (a ValueError) when another collection has the name, and for the type of
        a portfolio; NotFoundError when it was deleted. Nothing is changed then.
        """
        record = self._record
        tags = [check_tag(tag) for tag in as_names(self._tags)]
        changed = self._session.catalog.update_collection(
            record.id,
            name=self._name if self._name != record.name else None,
            description=(self.description or "") if self.description != record.description else None,
            tags=tags if tags != list(record.tags) else None,
            type=self._type if self._type != record.type else None,
        )
        self._load(changed)

    def change_type(self, new_type: str) -> None:
        """Deprecated: set `type` and `save`."""
        warnings.warn("change_type is deprecated; set `type` and call save()", DeprecationWarning, stacklevel=2)
        self.type = new_type
        self.save()

    def delete(self) -> None:
        """Deletes a sequence with all its versions and their links, a portfolio with its links. `artfs gc` frees what
        nothing else needs.

        Raises NotFoundError; AliasProtectedError (a ValueError) for protected aliases, unless the settings allow them.
        """
        allowed = self._session.settings.allow_protected
        self._session.catalog.delete_collection(self._record.id, allow_protected=allowed)


class ArtifactType:
    """All collections of one type in a project."""

    def __init__(self, session: Session, entity: str, project: str, name: str, wrap: Wrap) -> None:
        self._session = session
        self._wrap = wrap
        self.entity = entity
        self.project = project
        self.name = name

    def __repr__(self) -> str:
        return f"<ArtifactType {self.entity}/{self.project} {self.name}>"

    @property
    def id(self) -> str:
        """What identifies it in its catalog."""
        return base64.b64encode(f"ArtifactType:{self.entity}/{self.project}/{self.name}".encode()).decode()

    def collections(
        self,
        per_page: int = 50,
        *,
        filters: Mapping[str, Any] | None = None,
        order: str | None = None,
        start: str | None = None,
    ) -> Paginator[ArtifactCollection]:
        """As Api.artifact_collections."""
        return collections(
            self._session, self.entity, self.project, self.name, self._wrap,
            per_page=per_page, filters=filters, order=order, start=start,
        )  # fmt: skip

    def collection(self, name: str) -> ArtifactCollection:
        """The one of that name. Raises NotFoundError."""
        return need_collection(self._session, self.entity, self.project, name, self.name, self._wrap)


class Registry:
    """A place for linked collections: a project whose name begins with "wandb-registry-". It is made by linking something
    to `wandb-registry-NAME/COLLECTION`, or by Api.create_registry."""

    def __init__(self, session: Session, record: Project, wrap: Wrap) -> None:
        self._session = session
        self._record = record
        self._wrap = wrap

    def __repr__(self) -> str:
        return f"<Registry {self.entity}/{self.name}>"

    @property
    def name(self) -> str:
        """Without the prefix."""
        return self._record.name.removeprefix(REGISTRY_PREFIX)

    @property
    def full_name(self) -> str:
        """Of its project."""
        return self._record.name

    @property
    def entity(self) -> str:
        return self._record.entity

    @property
    def created_at(self) -> str:
        """ISO 8601, UTC."""
        return time_text(self._record.created_at)

    def collections(
        self, filter: Mapping[str, Any] | None = None, per_page: int = 50, start: str | None = None
    ) -> Paginator[ArtifactCollection]:
        """Its collections, of every type, by name; `filter` and the others as for Api.artifact_collections."""
        return collections(
            self._session, self.entity, self.full_name, None, self._wrap,
            per_page=per_page, filters=filter, order=None, start=start,
        )  # fmt: skip

    def delete(self) -> None:
        """Only an empty one. Raises ConflictError (a ValueError), NotFoundError."""
        self._session.catalog.delete_project(self.entity, self.full_name)


def need_collection(
    session: Session, entity: str, project: str, name: str, type: str | None, wrap: Wrap
) -> ArtifactCollection:
    """The collection of that name (and type, if one is given). Raises NotFoundError that says what there is instead."""
    record = session.catalog.try_collection(entity, project, name)
    if record is None:
        there = [found.name for found in session.catalog.collections(entity, project)]
        shown = f"it has {', '.join(there[:6])}{' …' if len(there) > 6 else ''}" if there else "it is empty"
        raise NotFoundError(f"there is no collection {name!r} in {entity}/{project}; {shown}")
    if type is not None and record.type != type:
        raise NotFoundError(f"{entity}/{project}/{name} is of type {record.type!r}, not {type!r}")
    return ArtifactCollection(session, record, wrap)


_FIELDS: dict[str, Callable[[Collection], Any]] = {
    "name": lambda record: record.name,
    "type": lambda record: record.type,
    "kind": lambda record: record.kind,
    "description": lambda record: record.description,
    "tag": lambda record: list(record.tags),
    "tags": lambda record: list(record.tags),
    "created_at": lambda record: time_text(record.created_at),
    "createdAt": lambda record: time_text(record.created_at),
    "updated_at": lambda record: time_text(record.updated_at),
    "updatedAt": lambda record: time_text(record.updated_at),
}


def _field(record: Collection, name: str) -> Any:
    if name not in _FIELDS:
        raise InvalidArgumentError(f"collections cannot be filtered by {name!r}; by {', '.join(_FIELDS)}")
    return _FIELDS[name](record)


def collections(
    session: Session,
    entity: str,
    project: str,
    type: str | None,
    wrap: Wrap,
    *,
    per_page: int,
    filters: Mapping[str, Any] | None,
    order: str | None,
    start: str | None,
) -> Paginator[ArtifactCollection]:
    """The collections of a project, of one type (None: of any)."""
    wanted, by = Filter(filters), order_of(order, "name")

    def ask(cursor: str | None, size: int) -> Page[Collection]:
        page = session.catalog.page_of_collections(entity, project, PageRequest(by, size, cursor), type=type)
        return page.items, page.cursor

    def fetch(cursor: str | None, size: int) -> Page[ArtifactCollection]:
        items, after = wanted.page(ask, _field, cursor, size)
        return [ArtifactCollection(session, record, wrap) for record in items], after

    def count() -> int:
        return session.catalog.page_of_collections(entity, project, PageRequest(by, 1), type=type).total or 0

    return Paginator(fetch, per_page=per_page, start=start, count=None if wanted else count)
