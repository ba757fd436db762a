"""What is known of an artifact, be it a draft or logged: the properties of `artfs.Artifact`.

None of them does I/O, except a draft's `digest` (see there).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from artfs.api.draft import DraftArtifact, check_description
from artfs.api.ingest import as_names
from artfs.api.manifest import ArtifactManifest
from artfs.api.show import artifact_html
from artfs.api.version import LoggedArtifact, time_text
from artfs.errors import ArtifactFinalizedError, ArtifactNotLoggedError
from artfs.model.metadata import check_metadata
from artfs.model.names import check_alias, check_label, check_tag
from artfs.model.ttl import ArtifactTTL, Ttl, check_ttl


class ArtifactFacts:
    """The base of Artifact. What only a logged artifact has raises ArtifactNotLoggedError for a draft."""

    __slots__ = ("_state",)

    _state: DraftArtifact | LoggedArtifact

    def __repr__(self) -> str:
        state = self._state
        return f"<Artifact {state.name if isinstance(state, DraftArtifact) else self.qualified_name}>"

    def _repr_html_(self) -> str:
        return artifact_html(self._state)

    def _logged(self, asked: str) -> LoggedArtifact:
        if isinstance(self._state, LoggedArtifact):
            return self._state
        raise ArtifactNotLoggedError(
            f"'{asked}' needs a logged artifact, and {self._state.name} is a draft; log it first, with "
            f"run.log_artifact() or save()",
            asked,
        )

    def _draft(self, asked: str) -> DraftArtifact:
        state = self._state
        if isinstance(state, LoggedArtifact):
            raise ArtifactFinalizedError(
                f"'{asked}': {state.member.qualified_name} is logged and cannot be changed; "
                f"log a new version instead",
                asked,
            )
        state.check_open(asked)
        return state

    # where it is ----------------------------------------------------------------------------------

    @property
    def id(self) -> str | None:
        """What identifies the version in its catalog, the same for its links; None for a draft."""
        return self._state.id if isinstance(self._state, LoggedArtifact) else None

    @property
    def entity(self) -> str:
        """Of the collection that it was logged to or fetched from: for a link, the link's."""
        return self._logged("entity").member.entity

    @property
    def project(self) -> str:
        """Of the collection that it was logged to or fetched from: for a link, the link's."""
        return self._logged("project").member.project

    @property
    def name(self) -> str:
        """`COLLECTION:vN`, or `COLLECTION:ALIAS` if it was fetched by an alias; without either for a
        draft."""
        return self._state.name

    @property
    def qualified_name(self) -> str:
        """`ENTITY/PROJECT/` and `name`."""
        return f"{self._logged('qualified_name').member.entity}/{self.project}/{self.name}"

    @property
    def version(self) -> str:
        """`vN` in the collection that it was logged to or fetched from."""
        return self._logged("version").version

    @property
    def source_entity(self) -> str:
        """Of the collection that the version was logged to."""
        return self._logged("source_entity").member.version.entity

    @property
    def source_project(self) -> str:
        """Of the collection that the version was logged to."""
        return self._logged("source_project").member.version.project

    @property
    def source_name(self) -> str:
        """`COLLECTION:vN` where it was logged; without the version for a draft."""
        return self._state.name if isinstance(self._state, DraftArtifact) else self._state.source_name

    @property
    def source_qualified_name(self) -> str:
        """`ENTITY/PROJECT/` and `source_name`."""
        version = self._logged("source_qualified_name").member.version
        return f"{version.entity}/{version.project}/{self.source_name}"

    @property
    def source_version(self) -> str:
        """`vN` in the collection that it was logged to."""
        return self._logged("source_version").source_version

    @property
    def is_link(self) -> bool:
        """Whether it was fetched from a collection that it is linked to, not logged to."""
        return isinstance(self._state, LoggedArtifact) and self._state.member.is_link

    @property
    def linked_at(self) -> str | None:
        """When a link was made: ISO 8601, UTC; None for what is no link."""
        member = self._logged("linked_at").member
        return time_text(member.created_at) if member.is_link else None

    @property
    def url(self) -> str:
        """`artfs://@ENTITY/PROJECT/COLLECTION:vN`, as fsspec takes it (nothing is percent-encoded); `/` and a path after it
        are a file."""
        return self._logged("url").url

    # what it is -----------------------------------------------------------------------------------

    @property
    def type(self) -> str:
        """Such as "dataset" or "model"; the same for all versions of a collection."""
        return self._state.type if isinstance(self._state, DraftArtifact) else self._state.member.version.type

    @property
    def description(self) -> str | None:
        """May be set; of a logged artifact it is persisted by `save`, and shared with its links."""
        return self._state.description

    @description.setter
    def description(self, description: str | None) -> None:
        self._state.description = check_description(description)

    @property
    def metadata(self) -> dict[str, Any]:
        """May be set, or changed in place (checked when it is saved); of a logged artifact it is persisted by
        `save`, and shared with its links."""
        return self._state.metadata

    @metadata.setter
    def metadata(self, metadata: dict[str, Any] | str | None) -> None:
        self._state.metadata = check_metadata(metadata)

    @property
    def ttl(self) -> timedelta | None:
        """How long the version lives, counted from its commit; None: for ever. What its project or entity says, unless it
        has a policy of its own; of a draft only that, and ArtifactNotLoggedError when it has none.

        May be set to a timedelta of a second or more (fractions are cut off), None, or ArtifactTTL.INHERIT, but not of a
        link (ConflictError); of a logged artifact it is persisted by `save`.
        """
        ttl = self._state.ttl
        return self._logged("ttl").member.version.inherited_ttl if isinstance(ttl, ArtifactTTL) else ttl

    @ttl.setter
    def ttl(self, ttl: Ttl) -> None:
        if isinstance(self._state, LoggedArtifact):
            self._state.set_ttl(ttl)
        else:
            self._state.ttl = check_ttl(ttl)

    @property
    def aliases(self) -> list[str]:
        """Of its place in the collection that it was logged to or fetched from; never `vN`. May be set or
        changed in place; persisted by `save`. An alias that another version has moves here."""
        return self._logged("aliases").aliases

    @aliases.setter
    def aliases(self, aliases: str | Iterable[str]) -> None:
        self._logged("aliases").aliases = [check_alias(alias) for alias in as_names(aliases)]

    @property
    def tags(self) -> list[str]:
        """Of the version, links included. May be set or changed in place; persisted by `save`."""
        return self._logged("tags").tags

    @tags.setter
    def tags(self, tags: str | Iterable[str]) -> None:
        self._logged("tags").tags = [check_tag(tag) for tag in as_names(tags)]

    @property
    def incremental(self) -> bool:
        """Whether it is a draft whose files are going to be added to those of `latest`."""
        return isinstance(self._state, DraftArtifact) and self._state.incremental

    @property
    def distributed_id(self) -> str | None:
        """Of a draft: which parts, of whatever runs, `Run.finish_artifact` makes one version of. May be set; None: the
        group of the run."""
        return self._state.distributed_id if isinstance(self._state, DraftArtifact) else None

    @distributed_id.setter
    def distributed_id(self, distributed_id: str | None) -> None:
        given = None if distributed_id is None else check_label("distributed id", distributed_id)
        self._draft("distributed_id").distributed_id = given

    @property
    def use_as(self) -> None:
        """Deprecated: always None."""
        warn_use_as(2)

    @property
    def state(self) -> str:
        """One of "PENDING" (a draft), "COMMITTED" and "DELETED"."""
        return self._state.state if isinstance(self._state, LoggedArtifact) else "PENDING"

    @property
    def manifest(self) -> ArtifactManifest:
        """What it holds. `manifest.entries` maps paths to entries; a version's are read from the store when
        asked for."""
        return self._state.manifest

    @property
    def digest(self) -> str:
        """The digest of its root tree (64 hex digits): equal for equal contents, whatever the name and
        metadata.

        A draft's is computed. That reads files added with policy "immutable", and raises SourceChangedError
        when one is not as it was.
        """
        return (
            self._state.digest
            if isinstance(self._state, DraftArtifact)
            else self._state.member.version.digest
        )

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return self._state.size if isinstance(self._state, DraftArtifact) else self._state.member.version.size

    @property
    def commit_hash(self) -> str:
        """What identifies the committed content: its digest."""
        return self._logged("commit_hash").member.version.commit_hash

    @property
    def file_count(self) -> int:
        """Number of files."""
        return self._logged("file_count").member.version.file_count

    @property
    def created_at(self) -> str:
        """When the version was committed: ISO 8601, UTC."""
        return time_text(self._logged("created_at").member.version.created_at)

    @property
    def updated_at(self) -> str:
        """When the version, its description, metadata or tags last changed: ISO 8601, UTC."""
        return time_text(self._logged("updated_at").member.version.updated_at)

    @property
    def history_step(self) -> int | None:
        """The last step that its run had logged by then; None when it had logged none, or there was no
        run."""
        return self._logged("history_step").member.version.history_step


def logged_fact(artifact: ArtifactFacts, asked: str) -> LoggedArtifact:
    """What is behind a logged artifact. Raises ArtifactNotLoggedError that names `asked`."""
    return artifact._logged(asked)


def warn_use_as(above: int) -> None:
    """`above`: which caller is shown, counted from the caller of this (1)."""
    warnings.warn("use_as is deprecated and has no effect", DeprecationWarning, stacklevel=above + 1)
