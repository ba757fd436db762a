"""The composition root of the embedded artfs: settings in, catalog and store out.

SQLAlchemy is loaded when a session is opened, not when artfs is imported.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

from artfs.catalog.base import Catalog
from artfs.settings import Settings
from artfs.store.base import LocalStore


class Session:
    """One state folder, open: `settings`, `catalog` and `store`. A context manager; thread-safe, but not for use in a
    child after a fork (open another one there)."""

    def __init__(self, settings: Settings, catalog: Catalog, store: LocalStore) -> None:
        self.settings = settings
        self.catalog = catalog
        self.store = store

    def close(self) -> None:
        """Closes the catalog; again is fine. Artifacts that came from the session keep what they know and can look up
        no more."""
        self.catalog.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Session {self.settings.home}>"


def open_session(settings: Settings) -> Session:
    """Opens the state folder `settings.home`, making it (0700) and its catalog when missing.

    Raises UsageError when the folder cannot be made, CatalogError (CatalogVersionError when a newer artfs wrote it) and
    StorageError when what is there cannot be opened.
    """
    # Here and not above: `import artfs` and the commands that need no catalog must not pay for SQLAlchemy (style.md 10).
    from artfs.catalog.sql import open_catalog
    from artfs.store.folder import FolderStore

    settings.make_home()
    store = FolderStore(settings.store_path)
    return Session(settings, open_catalog(settings.catalog_path), store)
