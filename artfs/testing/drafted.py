"""Artifacts to log, and what was logged, for tests."""

from __future__ import annotations

from artfs.api.artifact import Artifact
from artfs.api.session import Session


def draft(text: str = "one", name: str = "ds", type: str = "dataset") -> Artifact:
    artifact = Artifact(name, type)
    with artifact.new_file("f") as stream:
        stream.write(text)
    return artifact


def versions(session: Session, name: str = "ds") -> list[str]:
    collection = session.catalog.try_collection(session.settings.entity, session.settings.project, name)
    return [] if collection is None else [member.name for member in session.catalog.members(collection.id)]
