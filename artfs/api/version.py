"""A version as somebody sees it who logged or fetched it: its place in a collection, and changes that are not
saved yet."""

from __future__ import annotations

import base64
import copy
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import partial
from typing import Any

from artfs.api.added import AddedPaths
from artfs.api.ingest import as_names
from artfs.api.manifest import ArtifactManifest, VersionEntries
from artfs.api.onefile import fetch_path
from artfs.api.session import Session
from artfs.errors import ConflictError, InvalidNameError, NotFoundError, TypeConflictError
from artfs.model.metadata import check_metadata, same_json
from artfs.model.names import check_alias, check_tag, is_version, parse_name
from artfs.model.records import Member
from artfs.model.ttl import Ttl, check_ttl
from artfs.references.artifact import id_in_hex


def time_text(moment: datetime) -> str:
    """As the reference gives times: ISO 8601 text in UTC, "2026-11-01T12:00:00.000000Z"."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


MAX_LINKS = 500
"""So many links of a version are listed at most, as the reference has it."""


class LoggedArtifact:
    """One membership of one version.

    `description`, `metadata`, `ttl`, `aliases` and `tags` are copies that may be changed in place or replaced;
    `save` checks and persists what differs from what was fetched. Everything else is as it was when it was
    fetched (or saved).
    """

    def __init__(self, session: Session, member: Member, alias: str | None = None) -> None:
        """`alias`: the name by which it was fetched, None when by none."""
        self.session = session
        self._lock = threading.RLock()  # while it is saved, or labels are added: from what is here to what is in the catalog
        self._alias = alias if alias is not None and not is_version(alias) else None
        self.added = AddedPaths()
        self._load(member)
        version = member.version
        # Not a method of this object: entries would keep it in a cycle, and with it the session.
        fetch = partial(fetch_path, session, version.digest, session.settings.artifact_dir / self.source_name)
        self.manifest = ArtifactManifest(
            VersionEntries(session.pages, version.digest, version.size, id_in_hex(version.id), fetch)
        )

    def _load(self, member: Member) -> None:
        self.member = member
        self.state: str = member.version.state
        self.description = member.version.description
        self.metadata: dict[str, Any] = copy.deepcopy(member.version.metadata)
        self.ttl: Ttl = member.version.ttl
        self.aliases: list[str] = list(member.aliases)
        self.tags: list[str] = list(member.version.tags)

    # names ----------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        return base64.b64encode(f"Artifact:{self.member.version.id}".encode()).decode()

    @property
    def version(self) -> str:
        return f"v{self.member.index}"

    @property
    def name(self) -> str:
        return f"{self.member.collection}:{self._alias or self.version}"

    @property
    def source_version(self) -> str:
        return f"v{self.member.version.source_index}"

    @property
    def source_name(self) -> str:
        return f"{self.member.version.collection}:{self.source_version}"

    @property
    def url(self) -> str:
        member = self.member
        return f"artfs://@{member.entity}/{member.project}/{member.name}"

    def json(self) -> dict[str, Any]:
        """See Artifact.json_encode."""
        return {
            "_type": "artifactVersion",
            "_version": "v0",
            "id": self.id,
            "version": self.source_version,
            "sequenceName": self.member.version.collection,
            "usedAs": None,
        }

    def source(self) -> LoggedArtifact:
        """Of a link: the version as seen where it was logged. Of anything else: itself."""
        if not self.member.is_link:
            return self
        return LoggedArtifact(self.session, self.session.catalog.memberships(self.member.version.id)[0])

    def links(self) -> list[LoggedArtifact]:
        """The links of the version, the oldest ones first, at most MAX_LINKS; of a link: none."""
        if self.member.is_link:
            return []
        members = self.session.catalog.memberships(self.member.version.id)
        return [LoggedArtifact(self.session, member) for member in members[1 : MAX_LINKS + 1]]

    def check_type(self, expected: str | None) -> None:
        """Raises TypeConflictError when it is not of the type `expected` (None: any)."""
        if expected is not None and expected != self.member.version.type:
            raise TypeConflictError(
                f"{self.member.qualified_name} is of type {self.member.version.type!r}, not {expected!r}"
            )

    # changes --------------------------------------------------------------------------------------

    def save(self) -> None:
        """Persists changes of description, metadata, ttl, aliases and tags. Last writer wins, for what was changed
        here only.

        Raises InvalidNameError or InvalidMetadataError before anything is written; NotFoundError when it was
        deleted.
        """
        with self._lock:
            self._save()

    def _save(self) -> None:
        version = self.member.version
        aliases = [check_alias(alias) for alias in as_names(self.aliases)]
        tags = [check_tag(tag) for tag in as_names(self.tags)]
        metadata = check_metadata(self.metadata)
        catalog = self.session.catalog
        catalog.update_version(
            version.id,
            description=... if self.description == version.description else self.description,
            metadata=None if same_json(metadata, version.metadata) else metadata,
            ttl=... if self.ttl == version.ttl else self.ttl,
            add_tags=[tag for tag in tags if tag not in version.tags],
            remove_tags=[tag for tag in version.tags if tag not in tags],
        )
        member = catalog.set_aliases(
            self.member.id,
            add=[alias for alias in aliases if alias not in self.member.aliases],
            remove=[alias for alias in self.member.aliases if alias not in aliases],
            allow_protected=self.session.settings.allow_protected,
        )
        self._load(member)

    def set_ttl(self, ttl: Ttl) -> None:
        """`save` persists it. Raises InvalidArgumentError, TypeError, and ConflictError for a link."""
        if self.member.is_link:
            raise ConflictError(
                f"{self.member.qualified_name} is a link; set the ttl of its source_artifact, {self.source_name}"
            )
        self.ttl = check_ttl(ttl)

    def label(self, aliases: str | Iterable[str] | None, tags: str | Iterable[str] | None) -> None:
        """Adds aliases and tags, and saves; when that raises, they are not added."""
        with self._lock:
            before = self.aliases, self.tags
            self.aliases = list(as_names([*as_names(self.aliases), *as_names(aliases)]))
            self.tags = list(as_names([*as_names(self.tags), *as_names(tags)]))
            try:
                self.save()
            except BaseException:
                self.aliases, self.tags = before
                raise

    def delete(self, *, delete_aliases: bool) -> None:
        allowed = self.session.settings.allow_protected
        self.session.catalog.delete_version(
            self.member.id, delete_aliases=delete_aliases, allow_protected=allowed
        )
        if not self.member.is_link:
            self.state = "DELETED"

    def link(
        self, target_path: str, aliases: str | Iterable[str] | None, *, entity: str, project: str
    ) -> LoggedArtifact:
        """Links the version (of a link: what it links to). `entity` and `project` complete `target_path`."""
        target = parse_name(target_path, entity, project)
        if target.alias is not None:
            raise InvalidNameError(
                f"bad link target {target_path!r}: name the collection only; give aliases as `aliases`"
            )
        names = [check_alias(alias) for alias in as_names(aliases)]
        member = self.session.catalog.link(
            self.member.version.id, target.entity, target.project, target.collection, names,
            allow_protected=self.session.settings.allow_protected,
        )  # fmt: skip
        return LoggedArtifact(self.session, member)

    def unlink(self) -> None:
        if not self.member.is_link:
            raise ConflictError(
                f"{self.member.qualified_name} is not a link, so it cannot be unlinked; "
                "delete() deletes a version"
            )
        self.session.catalog.unlink(self.member.id, allow_protected=self.session.settings.allow_protected)


def resolve(session: Session, text: str, *, entity: str, project: str) -> LoggedArtifact:
    """The artifact of that name; `entity` and `project` complete it, and `latest`. Raises InvalidNameError,
    NotFoundError."""
    name = parse_name(text, entity, project)
    alias = name.alias or "latest"
    member = session.catalog.resolve(name.entity, name.project, name.collection, alias)
    return LoggedArtifact(session, member, None if alias.startswith("@") else name.alias)


def by_id(session: Session, identity: str) -> LoggedArtifact:
    """The artifact that has that `id`, as seen where it was logged. Raises NotFoundError."""
    try:
        kind, _, number = base64.b64decode(identity, validate=True).decode().partition(":")
    except ValueError:
        kind = number = ""
    if kind != "Artifact" or not (number.isascii() and number.isdecimal()) or len(number) > 18:
        raise NotFoundError(f"{identity!r} is the id of no artifact")
    member = session.catalog.memberships(int(number))[0]
    if member.version.state != "COMMITTED":
        raise NotFoundError(f"the artifact {member.qualified_name} was deleted")
    return LoggedArtifact(session, member)
