"""`artfs.Api()`: looking things up without a run."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from artfs.api.ambient import session_for
from artfs.api.artifact import Artifact, logged
from artfs.api.collection import ArtifactCollection, ArtifactType, Registry, collections, need_collection
from artfs.api.ingest import as_names
from artfs.api.lineage import Lineage, trace
from artfs.api.paging import Paginator
from artfs.api.recorded import RecordedRun, runs
from artfs.api.session import Session
from artfs.api.version import resolve
from artfs.errors import InvalidArgumentError, InvalidNameError, NotFoundError
from artfs.model.names import REGISTRY_PREFIX, ArtifactName, check_entity_name, check_project_name, parse_name
from artfs.model.records import Project
from artfs.model.ttl import Ttl


class Api:
    """What is in the catalog."""

    def __init__(
        self,
        overrides: Mapping[str, str] | None = None,
        timeout: float | None = None,
        api_key: str | None = None,
        *,
        session: Session | None = None,
    ) -> None:
        """Opens the catalog.

        Arguments:
            overrides: "entity" and "project" that complete names instead of the settings'.
            timeout, api_key: taken for the sake of scripts written for wandb, without effect: there is no server.
            session: an open session to use; None: as the config file and the environment say.
        Raises InvalidArgumentError, InvalidNameError, UsageError, CatalogError.
        """
        given = dict(overrides or {})
        self._session = session_for() if session is None else session
        settings = self._session.settings
        self._entity = check_entity_name(given.pop("entity", settings.entity))
        self._project = check_project_name(given.pop("project", settings.project))
        if given:
            raise InvalidArgumentError(
                f"unknown overrides: {', '.join(sorted(given))}; known are entity and project"
            )

    @property
    def default_entity(self) -> str:
        """What completes a name without an entity."""
        return self._entity

    # artifacts ------------------------------------------------------------------------------------

    def artifact(self, name: str, type: str | None = None) -> Artifact:
        """The artifact `[[ENTITY/]PROJECT/]NAME[:ALIAS]`; ALIAS may be `vN` or `@TIME`; without one it is
        `latest`.

        `type`: what its type must be; None: any. Raises NotFoundError that says what there is instead;
        TypeConflictError (a ValueError); InvalidNameError.
        """
        state = resolve(self._session, name, entity=self._entity, project=self._project)
        state.check_type(type)
        return logged(state)

    def artifact_exists(self, name: str, type: str | None = None) -> bool:
        """Whether `artifact` would find it, with this type if one is given. Raises InvalidNameError,
        CatalogError."""
        try:
            state = resolve(self._session, name, entity=self._entity, project=self._project)
        except NotFoundError:
            return False
        return type is None or state.member.version.type == type

    def artifacts(
        self,
        type_name: str,
        name: str,
        order: str | None = None,
        per_page: int = 50,
        tags: str | Iterable[str] | None = None,
        start: str | None = None,
    ) -> Paginator[Artifact]:
        """The versions of a collection, the newest first.

        Arguments:
            type_name: the collection's type.
            name: `[[ENTITY/]PROJECT/]NAME`.
            order, per_page, tags, start: as for ArtifactCollection.artifacts.
        Raises NotFoundError, also when it has another type; InvalidNameError, InvalidArgumentError.
        """
        found = self.artifact_collection(type_name, name)
        return found.artifacts(per_page, order=order, tags=tags, start=start)

    def artifact_versions(self, type_name: str, name: str, per_page: int = 50) -> Paginator[Artifact]:
        """Deprecated: `artifacts`."""
        warnings.warn("artifact_versions is deprecated; use artifacts", DeprecationWarning, stacklevel=2)
        return self.artifacts(type_name, name, per_page=per_page)

    def lineage(self, name: str, depth: int | None = None) -> Lineage:
        """What an artifact was made from and what was made from it: a graph that draws itself (`text()`, `dot()`,
        `svg()`; in a notebook it shows itself).

        Arguments:
            name: as for `artifact`.
            depth: how many runs to go in either direction; None: all the way.
        Raises NotFoundError, InvalidNameError.
        """
        state = resolve(self._session, name, entity=self._entity, project=self._project)
        return trace(self._session.catalog, state.member.version.id, depth=depth)

    # collections ----------------------------------------------------------------------------------

    def artifact_types(self, project: str | None = None) -> list[ArtifactType]:
        """The types of the collections of a project, by name.

        `project`: `[ENTITY/]PROJECT`; None: the default. Raises NotFoundError, InvalidNameError.
        """
        entity, name = self._place(project)
        there = {record.type for record in self._session.catalog.collections(entity, name)}
        return [ArtifactType(self._session, entity, name, found, logged) for found in sorted(there - {""})]

    def artifact_type(self, type_name: str, project: str | None = None) -> ArtifactType:
        """One of `artifact_types`. Raises NotFoundError when no collection of the project has it."""
        there = self.artifact_types(project)
        for known in there:
            if known.name == type_name:
                return known
        names = ", ".join(known.name for known in there) or "none"
        raise NotFoundError(f"{'/'.join(self._place(project))} has no artifact type {type_name!r}; it has {names}")

    def artifact_collections(
        self,
        project_name: str,
        type_name: str,
        per_page: int = 50,
        filters: Mapping[str, Any] | None = None,
        order: str | None = None,
        start: str | None = None,
    ) -> Paginator[ArtifactCollection]:
        """The collections of a type in a project, by name.

        Arguments:
            project_name: `[ENTITY/]PROJECT`.
            per_page: how many are fetched at a time.
            filters: conditions in MongoDB's notation on name, description, tag, kind, created_at and updated_at, such as
                {"tag": "prod", "name": {"$regex": "^cars"}}.
            order: "name", "created_at" or "updated_at", with "-" before it for descending.
            start: goes on after a list that ended early: its `cursor`.
        Raises InvalidNameError, InvalidArgumentError; when pages are fetched NotFoundError for a missing project.
        """
        entity, project = self._place(project_name)
        return collections(
            self._session, entity, project, type_name, logged,
            per_page=per_page, filters=filters, order=order, start=start,
        )  # fmt: skip

    def artifact_collection(self, type_name: str, name: str) -> ArtifactCollection:
        """The collection `[[ENTITY/]PROJECT/]NAME`. Raises NotFoundError, also when it has another type;
        InvalidNameError."""
        wanted = self._collection_name(name)
        return need_collection(
            self._session, wanted.entity, wanted.project, wanted.collection, type_name, logged
        )

    def artifact_collection_exists(self, name: str, type: str | None = None) -> bool:
        """Whether there is such a collection, of that type if one is given. Raises InvalidNameError, CatalogError."""
        wanted = self._collection_name(name)
        found = self._session.catalog.try_collection(wanted.entity, wanted.project, wanted.collection)
        return found is not None and type in (None, found.type)

    # projects and registries ----------------------------------------------------------------------

    def projects(self, entity: str | None = None) -> list[Project]:
        """The projects of an entity (None: the default), by name."""
        return self._session.catalog.projects(check_entity_name(entity or self._entity))

    def registries(self) -> list[Registry]:
        """The registries of the default entity, by name."""
        there = self._session.catalog.projects(self._entity)
        return [Registry(self._session, it, logged) for it in there if it.name.startswith(REGISTRY_PREFIX)]

    def registry(self, name: str) -> Registry:
        """The registry of that name (with or without "wandb-registry-"). Raises NotFoundError, InvalidNameError."""
        full = check_project_name(REGISTRY_PREFIX + name.removeprefix(REGISTRY_PREFIX))
        found = self._session.catalog.try_project(self._entity, full)
        if found is None:
            there = ", ".join(registry.name for registry in self.registries()) or "none"
            raise NotFoundError(f"there is no registry {name!r} of {self._entity}; there are: {there}")
        return Registry(self._session, found, logged)

    def create_registry(self, name: str) -> Registry:
        """Makes a registry, or finds the one of that name. Raises InvalidNameError."""
        full = check_project_name(REGISTRY_PREFIX + name.removeprefix(REGISTRY_PREFIX))
        return Registry(self._session, self._session.catalog.create_project(self._entity, full), logged)

    # policies -------------------------------------------------------------------------------------

    def ttl_default(self, project: str | None = None) -> Ttl:
        """How long versions live that have no policy of their own: of a project `[ENTITY/]PROJECT` (ArtifactTTL.INHERIT:
        as its entity says), or, without one, of the default entity (None: for ever). Raises NotFoundError."""
        if project is None:
            return self._session.catalog.default_ttl(self._entity)
        return self._session.catalog.default_ttl(*self._place(project))

    def set_ttl_default(self, ttl: Ttl, project: str | None = None) -> None:
        """Sets that policy; it counts at once, for old versions too. Raises InvalidArgumentError, TypeError."""
        entity, name = (self._entity, None) if project is None else self._place(project)
        self._session.catalog.set_default_ttl(entity, name, ttl)

    def protected_aliases(self, project: str | None = None) -> list[str]:
        """The aliases that in all collections of the project are given, moved and removed only with the setting
        `allow_protected`. Raises NotFoundError."""
        return self._session.catalog.protected_aliases(*self._place(project))

    def protect_aliases(
        self,
        project: str | None = None,
        *,
        add: str | Iterable[str] | None = None,
        remove: str | Iterable[str] | None = None,
    ) -> list[str]:
        """Protects aliases, or ends that; returns those that are protected now. Raises InvalidNameError,
        InvalidArgumentError for `latest`."""
        return self._session.catalog.protect_aliases(
            *self._place(project), add=as_names(add), remove=as_names(remove)
        )

    # runs -----------------------------------------------------------------------------------------

    def run(self, path: str) -> RecordedRun:
        """The run `[[ENTITY/]PROJECT/]ID`; also as it stands in a run's `url`, with "runs" before the id. Raises
        NotFoundError, InvalidNameError."""
        parts = path.strip("/").split("/")
        if len(parts) > 2 and parts[-2] == "runs":
            del parts[-2]
        if len(parts) > 3 or not all(parts):
            raise InvalidNameError(f"bad path of a run {path!r}: it is [[ENTITY/]PROJECT/]ID")
        record = self._session.catalog.run(parts[-1])
        if len(parts) > 1:
            entity, project = self._place("/".join(parts[:-1]))
            if (entity, project) != (record.entity, record.project):
                raise NotFoundError(
                    f"there is no run {parts[-1]!r} in {entity}/{project}; it is in {record.entity}/{record.project}"
                )
        return RecordedRun(self._session, record, logged)

    def runs(
        self,
        path: str | None = None,
        filters: Mapping[str, Any] | None = None,
        order: str = "+created_at",
        per_page: int = 50,
        start: str | None = None,
    ) -> Paginator[RecordedRun]:
        """The runs of a project.

        Arguments:
            path: `[ENTITY/]PROJECT`; None: the default.
            filters: conditions in MongoDB's notation on id, display_name, state, job_type, group, tags, notes, created_at,
                config.NAME and summary_metrics.NAME, such as {"state": "finished", "config.lr": {"$gt": 0.1}}.
            order: "created_at", "display_name", "config.NAME" or "summary_metrics.NAME", with "-" before it for
                descending.
            per_page: how many are fetched at a time.
            start: goes on after a list that ended early: its `cursor`.
        Raises InvalidNameError, InvalidArgumentError; when pages are fetched NotFoundError for a missing project.
        """
        entity, project = self._place(path)
        return runs(
            self._session, entity, project, logged, filters=filters, order=order, per_page=per_page, start=start
        )

    # names ----------------------------------------------------------------------------------------

    def _place(self, project: str | None) -> tuple[str, str]:
        """Entity and name of `[ENTITY/]PROJECT`."""
        if project is None:
            return self._entity, self._project
        entity, slash, name = project.rpartition("/")
        return check_entity_name(entity if slash else self._entity), check_project_name(name)

    def _collection_name(self, name: str) -> ArtifactName:
        wanted = parse_name(name, self._entity, self._project)
        if wanted.alias is not None:
            raise InvalidNameError(f"bad collection name {name!r}: leave out ':{wanted.alias}'")
        return wanted
