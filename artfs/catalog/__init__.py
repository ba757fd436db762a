"""Where names are. `base` is the interface; `open_catalog` the embedded implementation (SQLAlchemy over SQLite)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from artfs.errors import UsageError

if TYPE_CHECKING:
    from artfs.catalog.sql.catalog import SqlCatalog


def open_catalog(target: str | Path) -> SqlCatalog:
    """Opens the embedded catalog, and makes or migrates it first when needed.

    Arguments:
        target: the path of the database file, or the same as `sqlite:///relative` or `sqlite:////absolute`. It is made
            with mode 0600, its folder, when missing, with 0700. It must be on a local file system (SQLite's WAL).
    Two processes that open a new catalog at once agree by a lock (`<file>.lock`, which stays).
    Raises StorageError when the file cannot be made, read or written (errno says why), CatalogVersionError when a newer
    artfs made it, CatalogError when it is something else or stays locked, UsageError for another kind of URL.
    """
    # SQLAlchemy takes 0.4 s to import; whoever only imports this package must not wait for it.
    from artfs.catalog.sql.opening import open_file

    if isinstance(target, str):
        scheme, separator, rest = target.partition(":///")
        if separator:
            if scheme != "sqlite" or not rest:
                raise UsageError(f"not a catalog: {target!r} (give a path, or sqlite:///PATH)")
            target = rest
        elif "://" in target or not target:
            raise UsageError(f"not a catalog: {target!r} (give a path, or sqlite:///PATH)")
    return open_file(Path(target))
