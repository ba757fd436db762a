"""Versions with real bytes for a server, which takes no others."""

from __future__ import annotations

import hashlib
from typing import Any

from artfs.client.catalog import RemoteCatalog
from artfs.client.store import RemoteStore
from artfs.model.entry import FileEntry
from artfs.model.pages import build_tree
from artfs.model.records import Member, NewVersion


def sent(catalog: RemoteCatalog, content: object, entity: str, project: str, collection: str = "cars", **more: Any) -> NewVersion:
    """Sends a folder with one small file, which is different for different contents, and returns what commits it."""
    data = repr(content).encode()
    tree = build_tree([FileEntry(b"file", len(data), hashlib.sha256(data).digest(), b"", executable=False)])
    with RemoteStore(catalog.http).begin((entity, project)) as batch:
        batch.put_bytes(data)
        for _, page in tree.pages:
            batch.put_page(page)
        batch.sync()
    return NewVersion(entity, project, collection, "dataset", tree.digest, tree.totals.size, tree.totals.file_count, **more)


def logged(catalog: RemoteCatalog, content: object, entity: str, project: str, collection: str = "cars", **more: Any) -> Member:
    """Sends and commits it."""
    return catalog.commit(sent(catalog, content, entity, project, collection, **more)).member
