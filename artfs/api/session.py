"""The composition root of the embedded artfs: settings in, catalog and store out.

`open_catalog` loads SQLAlchemy when it is called, so importing this module does not.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

from artfs.api import reserve
from artfs.catalog import open_catalog
from artfs.catalog.base import Catalog
from artfs.errors import NotFoundError, StorageError
from artfs.folders import check_disk, check_format
from artfs.model.records import Content
from artfs.model.tree import PageCache
from artfs.references.router import References
from artfs.settings import Settings
from artfs.store.base import LocalStore
from artfs.store.folder import FolderStore
from artfs.store.scratch import ScratchStore
from artfs.transfer.checkedbytes import CheckedBytes, FetchedBytes, StoredBytes

if TYPE_CHECKING:
    from artfs.client.reach import Reach
    from artfs.transfer.fetch import Fetcher


@dataclass(frozen=True, slots=True)
class Remote:
    """What a session has besides when its catalog is a server's. `fetcher`: brings blobs into `fetcher.cache`; `reach`: whether
    the server can be reached, as far as is known; `ping`: a small call that finds out; `catch_up`: has the catalog know all
    that changed until now (UnavailableError)."""

    server: str
    fetcher: Fetcher
    reach: Reach
    ping: Callable[[], object]
    catch_up: Callable[[], None]

    def close(self) -> None:
        self.fetcher.close()
        self.fetcher.cache.close()


class Session:
    """One state folder, open. A context manager; thread-safe, but not for use in a child after a fork (open
    another one there).

    Attributes:
        settings, catalog, store: what it was opened with.
        pages: the store's tree pages, with a cache that all readers of the session share.
        references: fetches what references name.
        remote: what it has besides with a server; None: catalog and store are this machine's.
    """

    def __init__(
        self, settings: Settings, catalog: Catalog, store: LocalStore, remote: Remote | None = None
    ) -> None:
        self.settings = settings
        self.catalog = catalog
        self.store = store
        self.pages = PageCache(store.read_page)
        self.remote = remote
        self.references = References(settings, store, self.pages, self)

    def root_of(self, version_id: int) -> str:
        """Root tree of a version. Raises NotFoundError when it was deleted, or never was."""
        version = self.catalog.memberships(version_id)[0].version
        if version.state != "COMMITTED":
            raise NotFoundError(f"the artifact {version.collection}:v{version.source_index} was deleted")
        return version.digest

    def open_checked(self, content: Content) -> CheckedBytes:
        """A blob for whoever reads parts of it. Raises BlobMissingError, BadObjectError, StorageError."""
        if self.remote is None:
            return StoredBytes(self.store, content)
        return FetchedBytes(self.remote.fetcher, content, limit_s=self.settings.network_timeout_s)

    def make_scratch(self) -> ScratchStore | None:
        """With a server: a store for bytes of which it is not known yet to which project they belong; the caller closes it.
        None: the session's own store takes them. Raises StorageError."""
        if self.remote is None:
            return None
        cache = self.remote.fetcher.cache
        return ScratchStore(cache.root / "drafts", free_floor=cache.floor)

    def close(self) -> None:
        """Closes the catalog; again is fine. Artifacts that came from the session keep what they know and can
        look up no more."""
        self.references.close()
        if self.remote is not None:
            self.remote.close()
        self.catalog.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Session {self.settings.home}>"


def prepare_home(settings: Settings) -> None:
    """Makes the state folder when it is missing, and looks whether it may be used. Raises UsageError, StorageError (a
    StateVersionError when a newer artfs made it)."""
    check_disk(settings.home, "ARTFS_HOME")
    settings.make_home()
    check_format(settings.home, "state")


def open_session(settings: Settings, *, listen: bool = False) -> Session:
    """Opens the state folder `settings.home`, making it (0700) and its catalog when missing; or, when `settings.server` is
    set, the catalog of that server, with this machine's cache before its bytes.

    `listen`: the process lives long, and is to be told by the server what changes. Nothing is asked of a server yet.
    Raises UsageError when the folder cannot be made or is on a file system of a network, StateVersionError when a newer artfs
    made it, CatalogError (CatalogVersionError when a newer artfs
    wrote it) and StorageError when what is there cannot be opened.
    """
    prepare_home(settings)
    if settings.server:
        # Loads httpx, which the embedded catalog does not need.
        from artfs.api.remote import open_remote

        return Session(settings, *open_remote(settings, listen=listen))
    store = FolderStore(settings.store_path, free_floor=settings.floor_on(os.statvfs(settings.home)))
    return Session(settings, _open_catalog(settings), store)


def _open_catalog(settings: Settings) -> Catalog:
    try:
        catalog = open_catalog(settings.catalog_path)
    except StorageError as error:
        if error.errno not in reserve.FULL or not reserve.release(settings.home):
            raise
        return open_catalog(settings.catalog_path)
    reserve.keep(settings.home)
    return catalog
