"""One file of a version into a directory."""

from __future__ import annotations

import os

from artfs.api.draft import StrPath
from artfs.api.references import fetch_to
from artfs.api.session import Session
from artfs.errors import PathNotFoundError
from artfs.model.entry import DirEntry, Entry, RefEntry
from artfs.model.manifest import Manifest, build_manifest
from artfs.model.tree import PageCache
from artfs.transfer.pull import pull


def folder_of(root: StrPath) -> str:
    """A folder as people name it; "" is the current one."""
    return os.fspath(root) or "."


def fetch_one(session: Session, path: str, entry: Entry, root: StrPath) -> str:
    """Makes the entry, which is no directory, the file `root`/`path`, as a download of all of them does: what is there and
    right stays. Returns that path. Raises what Artifact.download raises."""
    root = folder_of(root)
    if isinstance(entry, RefEntry):
        fetch_to(session.references, entry, root, path)
    else:
        alone = build_manifest({path: entry})
        source = PageCache(dict(alone.objects).__getitem__)
        pull(session.store, Manifest(source, alone.root), root, workers=1)
    return os.path.join(root, path)


def fetch_path(session: Session, digest: str, default: StrPath, path: str, root: StrPath | None) -> str:
    """`fetch_one` of the entry at `path` of the version whose root tree is `digest`; `root` None: `default`, absolute.

    Raises PathNotFoundError when no file is there.
    """
    entry = Manifest(session.pages, digest).get(path)
    if entry is None or isinstance(entry, DirEntry):
        raise PathNotFoundError(f"there is no file {path!r} in this artifact")
    return fetch_one(session, path, entry, os.path.abspath(default) if root is None else root)
