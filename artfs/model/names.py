"""Names that people choose: of entities, projects, collections, aliases, versions, tags, types; and points in
time.

The rules are those of the Artifact reference (docs/semantics.md, "Names"), plus what follows from a name
being a directory in the mount. Each message says which rule is broken and what is allowed. Names that are not
`str` are a TypeError.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from artfs.errors import InvalidNameError
from artfs.model.metadata import check_metadata
from artfs.model.paths import check_component, check_path

__all__ = [
    "ArtifactName",
    "check_alias",
    "check_collection_name",
    "check_component",
    "check_entity_name",
    "check_label",
    "check_metadata",
    "check_path",
    "check_project_name",
    "check_run_id",
    "check_tag",
    "check_type",
    "is_version",
    "looks_like_version",
    "parse_name",
    "parse_time",
    "version_index",
]

MAX_NAME = 128
"""Longest name, alias, tag or type, in characters."""

MAX_RUN_ID = 64
"""Longest id of a run, in characters."""

REGISTRY_PREFIX = "wandb-registry-"
"""What a project's name begins with when it is a registry: a place for linked collections."""

MAX_NAME_BYTES = 255
"""Longest name or alias in bytes of UTF-8: it is a directory of the mount."""

_COLLECTION = re.compile(r"[A-Za-z0-9_.-]+")
_TAG = re.compile(r"[-\w]+(?: +[-\w]+)*")
_VERSION = re.compile(r"v(0|[1-9][0-9]{0,17})")
_NOT_IN_PROJECT = re.compile(r"[/\\#?%:]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:T([0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?)(Z|[+-][0-9]{2}:[0-9]{2})?)?"
)


@dataclass(frozen=True, slots=True)
class ArtifactName:
    """A full name. `alias`: an alias, "vN", "@TIME", or None when the name has no such part (then:
    `latest`)."""

    entity: str
    project: str
    collection: str
    alias: str | None = None

    @property
    def qualified_collection(self) -> str:
        return f"{self.entity}/{self.project}/{self.collection}"

    def __str__(self) -> str:
        return self.qualified_collection + (f":{self.alias}" if self.alias is not None else "")


def _basics(what: str, name: str) -> None:
    """What every name must be: text, not empty, not too long, printable to a file system."""
    if not isinstance(name, str):
        raise TypeError(f"the {what} must be a str, not {type(name).__name__}")
    if not name:
        raise InvalidNameError(f"the {what} is empty")
    if len(name) > MAX_NAME:
        raise InvalidNameError(
            f"the {what} {name[:20]!r}… has {len(name)} characters; at most {MAX_NAME} are allowed"
        )
    if _CONTROL.search(name):
        raise InvalidNameError(
            f"the {what} {name!r} holds a control character (a NUL, a line break …); none is allowed"
        )
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        raise InvalidNameError(
            f"the {what} {name!r} is not valid text; a name must be encodable as UTF-8"
        ) from None
    if length > MAX_NAME_BYTES:
        raise InvalidNameError(
            f"the {what} {name[:20]!r}… has {length} bytes in UTF-8; at most {MAX_NAME_BYTES} are allowed"
        )


def check_collection_name(name: str) -> str:
    """Returns `name` if a collection (an artifact) may have it. Raises InvalidNameError."""
    _basics("artifact name", name)
    if _COLLECTION.fullmatch(name) is None:
        raise InvalidNameError(
            f"bad artifact name {name!r}: only letters A-Z and a-z, digits, underscores, hyphens and dots "
            "are allowed"
        )
    if name in (".", ".."):
        raise InvalidNameError(f"bad artifact name {name!r}: it means a directory itself or its parent")
    return name


def _check_place(what: str, name: str) -> None:
    _basics(what, name)
    if wrong := _NOT_IN_PROJECT.search(name):
        raise InvalidNameError(f"bad {what} {name!r}: it holds {wrong[0]!r}; not allowed are / \\ # ? % :")
    if name[0] in ".@":
        raise InvalidNameError(
            f"bad {what} {name!r}: it must not begin with {name[0]!r}, which is reserved in the mount"
        )


def check_project_name(name: str) -> str:
    """Returns `name` if a project may have it. Raises InvalidNameError."""
    _check_place("project name", name)
    if name == "drafts":
        raise InvalidNameError(
            "bad project name 'drafts': that is the writable folder of the mount; choose another"
        )
    if name == REGISTRY_PREFIX:
        raise InvalidNameError(
            "bad project name 'wandb-registry-': the name of the registry is missing after it"
        )
    return name


def check_entity_name(name: str) -> str:
    """Returns `name` if an entity (a user or a team) may have it. Raises InvalidNameError."""
    _check_place("entity name", name)
    return name


def check_run_id(name: str) -> str:
    """Returns `name` if a run may have it as its id. Raises InvalidNameError."""
    _check_place("run id", name)
    if len(name) > MAX_RUN_ID:
        raise InvalidNameError(f"the run id {name[:20]!r}… has {len(name)} characters; at most {MAX_RUN_ID} are allowed")
    return name


def check_label(what: str, text: str) -> str:
    """Returns `text` if it may be a run's tag or group, or the distributed id of an artifact (`what` says which): text of
    one line that is neither empty nor too long. Raises InvalidNameError."""
    _basics(what, text)
    return text


def check_type(name: str, collection: str = "") -> str:
    """Returns `name` if it may be an artifact type (of the artifact `collection`, if given; some pairs are
    reserved).

    Raises InvalidNameError.
    """
    _basics("artifact type", name)
    if _COLLECTION.fullmatch(name) is None:
        raise InvalidNameError(
            f"bad artifact type {name!r}: only letters A-Z and a-z, digits, underscores, hyphens and dots "
            "are allowed"
        )
    if name == "job" or name.startswith("wandb-"):
        raise InvalidNameError(
            f"the artifact type {name!r} is reserved: 'job' and types that begin with 'wandb-' "
            "cannot be set by users"
        )
    for reserved, prefix in (("run_table", "run-"), ("code", "source-")):
        if name == reserved and collection.startswith(prefix):
            raise InvalidNameError(
                f"the artifact type {name!r} is reserved for artifacts whose names begin with {prefix!r}; "
                f"choose another type or name than {collection!r}"
            )
    return name


def is_version(text: str) -> bool:
    """Whether `text` is the name of a version: "v0", "v1" … in its one spelling (no leading zeros)."""
    return _VERSION.fullmatch(text) is not None


def looks_like_version(text: str) -> bool:
    """Whether `text` could be taken for a version by the reference's rule: "v" and then only numerals of any
    script. No alias may look so."""
    return len(text) >= 2 and text[0] == "v" and text[1:].isnumeric()


def version_index(text: str) -> int:
    """N of "vN". Raises InvalidNameError when `is_version` is False."""
    found = _VERSION.fullmatch(text)
    if found is None:
        raise InvalidNameError(f"not a version: {text!r}; versions are v0, v1, v2 …")
    return int(found[1])


def check_alias(name: str, *, allow_version: bool = False) -> str:
    """Returns `name` if it may be an alias (or, with `allow_version`, is a version "vN"). Raises
    InvalidNameError."""
    _basics("alias", name)
    if "/" in name or ":" in name:
        raise InvalidNameError(f"bad alias {name!r}: an alias must not hold '/' or ':'")
    if name in (".", ".."):
        raise InvalidNameError(f"bad alias {name!r}: it means a directory itself or its parent")
    if name[0] == "@":
        raise InvalidNameError(
            f"bad alias {name!r}: what begins with '@' names a point in time, such as @2026-11-01"
        )
    if looks_like_version(name) and not (allow_version and is_version(name)):
        raise InvalidNameError(
            f"bad alias {name!r}: v and a number names a version; artfs gives versions out itself"
        )
    return name


def check_tag(name: str) -> str:
    """Returns `name` if a version or a collection may be tagged with it. Raises InvalidNameError."""
    _basics("tag", name)
    if _TAG.fullmatch(name) is None:
        raise InvalidNameError(
            f"bad tag {name!r}: only letters, digits, underscores, hyphens, and spaces between them "
            "are allowed"
        )
    return name


def parse_name(
    text: str, default_entity: str | None = None, default_project: str | None = None
) -> ArtifactName:
    """Reads `[entity/][project/]name[:alias]`. The alias may also be a version ("v3") or a time
    ("@2026-11-01T12:00").

    The text is split at its first ':', what is before it at '/'. Raises InvalidNameError when a part breaks
    its rule, or is missing and has no default.
    """
    if not isinstance(text, str):
        raise TypeError(f"an artifact's name must be a str, not {type(text).__name__}")
    path, colon, alias = text.partition(":")
    parts = path.split("/")
    if len(parts) > 3:
        raise InvalidNameError(
            f"bad artifact name {text!r}: it has more parts than ENTITY/PROJECT/NAME:ALIAS"
        )
    collection = check_collection_name(parts[-1])
    project = parts[-2] if len(parts) > 1 else default_project
    entity = parts[-3] if len(parts) > 2 else default_entity
    if project is None:
        raise InvalidNameError(f"the artifact name {text!r} lacks its project: write PROJECT/{text}")
    if entity is None:
        raise InvalidNameError(f"the artifact name {text!r} lacks its entity: write ENTITY/PROJECT/NAME")
    if colon:
        if alias.startswith("@"):
            parse_time(alias[1:])
        else:
            check_alias(alias, allow_version=True)
    return ArtifactName(
        check_entity_name(entity), check_project_name(project), collection, alias if colon else None
    )


def parse_time(text: str) -> datetime:
    """Reads "2026-11-01" (the END of that day: its last microsecond) or
    "2026-11-01T12:00[:SS[.ffffff]][Z|±HH:MM]".

    Returns an aware datetime in UTC; without an offset the text is taken as UTC. Raises InvalidNameError.
    """
    if not isinstance(text, str):
        raise TypeError(f"a time must be a str, not {type(text).__name__}")
    found = _TIME.fullmatch(text)
    if found is None:
        raise InvalidNameError(
            f"bad time {text!r}: write YYYY-MM-DD, or YYYY-MM-DDTHH:MM[:SS] with Z or +HH:MM for an offset"
        )
    day, clock, offset = found.groups()
    try:
        if clock is None:
            return datetime.combine(datetime.fromisoformat(day), time.max, UTC)
        clock, _, fraction = clock.partition(".")
        moment = datetime.fromisoformat(f"{day}T{clock}{offset or 'Z'}")
        return moment.astimezone(UTC) + timedelta(microseconds=int(fraction.ljust(6, "0")))
    except (ValueError, OverflowError) as error:
        raise InvalidNameError(f"bad time {text!r}: {error}") from None
