"""Names and versions that the tests use."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

from artfs.catalog.base import Catalog
from artfs.model.records import Member, NewVersion

E, P, C = "local", "vision", "cars"


def digest(content: object) -> str:
    """Some digest; equal contents have equal ones."""
    return hashlib.sha256(str(content).encode()).hexdigest()


def new(content: object, collection: str = C, **more: Any) -> NewVersion:
    """A version to commit, of type "dataset" unless `more` says otherwise."""
    fields: dict[str, Any] = {
        "entity": E, "project": P, "collection": collection, "type": "dataset", "digest": digest(content), "size": 10,
        "file_count": 2, **more,
    }
    return NewVersion(**fields)


def log(catalog: Catalog, content: object, collection: str = C, **more: Any) -> Member:
    """Commits a new version and returns it."""
    done = catalog.commit(new(content, collection, **more))
    assert done.created
    return done.member


def at(when: datetime) -> str:
    """The name of a point in time, as in `cars:@…`."""
    return f"@{when.isoformat()}"
