"""The names that commands take: `[ENTITY/]PROJECT/COLLECTION[:ALIAS|:vN|:@TIME][/PATH]`, and what they stand
for."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from artfs.api.session import Remote, Session
from artfs.client.control import running_mounts
from artfs.errors import ConflictError, InvalidNameError, NotFoundError, PathNotFoundError
from artfs.model.entry import Entry
from artfs.model.manifest import Manifest
from artfs.model.names import ArtifactName, check_entity_name, check_project_name, parse_name
from artfs.model.paths import check_path
from artfs.model.records import Collection, Member
from artfs.model.tree import PageCache
from artfs.settings import Settings
from artfs.store.base import BlobStore
from artfs.store.staging import DraftArea, StagedDraft
from artfs.wire.control import MountRecord


@dataclass(frozen=True, slots=True)
class Target:
    """A name from the command line. `path`: inside the version, "" for all of it."""

    name: ArtifactName
    path: str = ""


def parse_target(text: str, settings: Settings) -> Target:
    """Reads a name with an optional path, which follows the alias: `p/c:latest/data/a.csv`. Raises
    InvalidNameError."""
    left, colon, right = text.partition(":")
    alias, slash, path = right.partition("/")
    name = parse_name(left + colon + alias, settings.entity, settings.project)
    return Target(name, check_path(path) if slash and path.strip("/") else "")


def parse_whole(text: str, settings: Settings) -> ArtifactName:
    """Reads a name without a path. Raises InvalidNameError."""
    target = parse_target(text, settings)
    if target.path:
        raise InvalidNameError(f"bad name {text!r}: a path inside the version means nothing here")
    return target.name


def parse_project(text: str, settings: Settings) -> tuple[str, str]:
    """Reads `[ENTITY/]PROJECT`. Raises InvalidNameError."""
    entity, slash, project = text.rpartition("/")
    return check_entity_name(entity) if slash else settings.entity, check_project_name(project)


def resolve(session: Session, name: ArtifactName) -> Member:
    """The version's membership; without an alias, latest. Raises NotFoundError."""
    return session.catalog.resolve(name.entity, name.project, name.collection, name.alias or "latest")


def collection_of(session: Session, name: ArtifactName) -> Collection:
    """The collection. Raises NotFoundError that says what exists instead."""
    found = session.catalog.try_collection(name.entity, name.project, name.collection)
    if found is None:
        if session.catalog.try_project(name.entity, name.project) is None:
            raise NotFoundError(f"no project {name.entity}/{name.project}; `artfs ls` lists them")
        raise NotFoundError(
            f"no collection {name.qualified_collection}; `artfs ls {name.project}` lists them"
        )
    return found


def need_remote(session: Session) -> Remote:
    """What a session with a server has. Raises ConflictError for one without."""
    if session.remote is None:
        raise ConflictError(
            "the catalog of this machine has all its bytes here already; this is for the catalog of a server "
            "(`artfs login URL`, or ARTFS_SERVER)"
        )
    return session.remote


def parse_place(text: str, settings: Settings) -> Target:
    """Reads a name with an optional path, or a path in a running mount that leads into a version. Raises
    InvalidNameError, NotFoundError."""
    if text.split("/", 1)[0] not in ("", ".", "..", "~"):
        return parse_target(text, settings)
    path, mount, parts = _in_mount(settings, text)
    if mount is None:
        raise NotFoundError(f"{path} is in no running mount; `artfs status` shows them")
    entity = mount.entity
    if parts and parts[0].startswith("@"):
        entity, parts = parts[0][1:], parts[1:]
    if len(parts) >= 3 and parts[0] != "drafts":
        project, collection, alias, *inside = parts
        return Target(ArtifactName(entity, project, collection, alias), "/".join(inside))
    raise InvalidNameError(f"{path} is not in a version: go down to MOUNT/PROJECT/COLLECTION/ALIAS")


def _in_mount(settings: Settings, text: str) -> tuple[Path, MountRecord | None, tuple[str, ...]]:
    """The path that `text` is, the running mount that it leads into, and the names below its mountpoint.

    Links above the mountpoint are followed, as mountpoints are known by their own paths. Nothing in a mount is asked: one that
    hangs must not hang us, and `latest` may be a link there.
    """
    path = Path(os.path.abspath(os.path.expanduser(text)))
    mounts = running_mounts(settings.run_path)
    place = Path(path.anchor)
    for number, name in enumerate(path.parts[1:], 2):
        place /= name
        if all(place != Path(mount.mountpoint) for mount in mounts) and place.is_symlink():
            place = Path(os.path.realpath(place))
        for mount in mounts:
            if place.is_relative_to(mount.mountpoint):
                return path, mount, (*place.relative_to(mount.mountpoint).parts, *path.parts[number:])
    return path, None, ()


def open_manifest(store: BlobStore, digest: str) -> Manifest:
    """The files of the version whose root tree is `digest`; its trees are read as they are needed."""
    return Manifest(PageCache(store.read_page), digest)


def entry_at(manifest: Manifest, target: Target) -> Entry:
    """What `target.path` (not "") names. Raises PathNotFoundError."""
    entry = manifest.get(target.path)
    if entry is None:
        raise PathNotFoundError(f"no file or folder {target.path} in {target.name}")
    return entry


# drafts ---------------------------------------------------------------------------------------------------
def find_draft(settings: Settings, text: str) -> StagedDraft:
    """The draft that `text` names: `[ENTITY/]PROJECT/DRAFT`, where DRAFT is the draft's own name, or its
    collection's when that has one draft only; or a path in or below its folder in a mount. Raises
    NotFoundError, ConflictError."""
    entity, project, name = _draft_key(settings, text)
    area = DraftArea(settings.drafts_path)
    draft = area.try_draft(entity, project, name)
    if draft is not None:
        return draft
    of_project = [d for d in area.drafts(entity, on_damaged=lambda error: None) if d.info.project == project]
    of_collection = [d for d in of_project if d.info.collection == name]
    if len(of_collection) == 1:
        return of_collection[0]
    if of_collection:
        names = ", ".join(f"{project}/{d.info.name}" for d in of_collection)
        raise ConflictError(f"{project}/{name} has several drafts: say which of {names}")
    others = ", ".join(f"{project}/{d.info.name}" for d in of_project)
    raise NotFoundError(
        f"no draft {project}/{name}; "
        + (
            f"there are: {others}"
            if others
            else f"start one with `mkdir MOUNT/drafts/{project}/{name}` or `artfs draft from`"
        )
    )


def _draft_key(settings: Settings, text: str) -> tuple[str, str, str]:
    parts = text.rstrip("/").split("/")
    if parts[0] in ("", ".", "..", "~"):
        return _mounted_draft(settings, text)
    if len(parts) == 1:
        parts.insert(0, settings.project)
    if len(parts) == 2:
        parts.insert(0, settings.entity)
    if len(parts) > 3:
        raise InvalidNameError(
            f"bad draft name {text!r}: write PROJECT/COLLECTION, or a path that begins with / or ./"
        )
    parse_name(text.rstrip("/"), settings.entity, settings.project)
    return parts[0], parts[1], parts[2]


def _mounted_draft(settings: Settings, text: str) -> tuple[str, str, str]:
    path, mount, parts = _in_mount(settings, text)
    if mount is not None and len(parts) >= 3 and parts[0] == "drafts":
        return mount.entity, parts[1], parts[2]
    raise NotFoundError(f"{path} is not in a draft of a running mount; `artfs draft list` shows the drafts")
