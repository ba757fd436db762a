"""What catalog records look like in `--json`: every key documented in docs/cli.md, none ever renamed."""

from __future__ import annotations

import os
from typing import Any

from artfs.model.entry import DirEntry, Entry, FileEntry, LinkEntry
from artfs.model.records import Collection, Member, RunRecord


def member_shape(member: Member) -> dict[str, Any]:
    """A version as a member of a collection."""
    version = member.version
    return {
        "name": member.qualified_name,
        "entity": member.entity,
        "project": member.project,
        "collection": member.collection,
        "version": f"v{member.index}",
        "aliases": list(member.aliases),
        "tags": list(version.tags),
        "type": version.type,
        "state": version.state,
        "digest": version.digest,
        "size": version.size,
        "file_count": version.file_count,
        "description": version.description,
        "metadata": version.metadata,
        "created_at": version.created_at,
        "updated_at": version.updated_at,
        "is_link": member.is_link,
        "source": f"{version.entity}/{version.project}/{version.collection}:v{version.source_index}",
        "run_id": version.run_id,
        "history_step": version.history_step,
        "expires_at": version.expires_at,
    }


def collection_shape(collection: Collection, members: list[Member]) -> dict[str, Any]:
    """A collection with totals over its versions; `size` and `file_count` are the latest version's."""
    latest = latest_of(members)
    return {
        "name": f"{collection.entity}/{collection.project}/{collection.name}",
        "entity": collection.entity,
        "project": collection.project,
        "collection": collection.name,
        "type": collection.type,
        "kind": collection.kind,
        "description": collection.description,
        "tags": list(collection.tags),
        "versions": len(members),
        "latest": f"v{latest.index}" if latest else None,
        "size": latest.version.size if latest else None,
        "file_count": latest.version.file_count if latest else None,
        "aliases": {alias: f"v{member.index}" for member in members for alias in member.aliases},
        "created_at": collection.created_at,
        "updated_at": collection.updated_at,
    }


def latest_of(members: list[Member]) -> Member | None:
    """The member that has the alias latest, or None."""
    return next((member for member in reversed(members) if "latest" in member.aliases), None)


def entry_shape(path: str, entry: Entry) -> dict[str, Any]:
    """A file, directory, link or reference in a version."""
    if isinstance(entry, FileEntry):
        return {
            "path": path,
            "kind": "file",
            "size": entry.size,
            "digest": entry.digest,
            "executable": entry.executable,
        }
    if isinstance(entry, DirEntry):
        return {
            "path": path,
            "kind": "directory",
            "size": entry.size,
            "digest": entry.digest,
            "file_count": entry.file_count,
        }
    if isinstance(entry, LinkEntry):
        return {"path": path, "kind": "link", "target": os.fsdecode(entry.target)}
    return {
        "path": path,
        "kind": "reference",
        "uri": entry.uri,
        "size": entry.size,
        "checksum": entry.checksum,
        "version_id": entry.version_id,
    }


def run_shape(run: RunRecord) -> dict[str, Any]:
    return {
        "id": run.id,
        "entity": run.entity,
        "project": run.project,
        "name": run.name,
        "job_type": run.job_type,
        "state": run.state,
        "created_at": run.created_at,
        "finished_at": run.finished_at,
    }
