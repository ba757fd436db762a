"""The composition root of the embedded artfs: settings in, catalog and store out.

`open_catalog` loads SQLAlchemy when it is called, so importing this module does not.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

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


Parts = tuple[Catalog, LocalStore, Remote | None]


class Session:
    """One state folder, open. A context manager; thread-safe.

    A child after a fork opens connections, threads and locks of its own when it first needs them, if it is known how:
    whoever shares a connection with its parent gets answers to what others asked, and waits for threads that it has not.

    Attributes:
        settings, catalog, store: what it was opened with.
        pages: the store's tree pages, with a cache that all readers of the session share.
        references: fetches what references name.
        remote: what it has besides with a server; None: catalog and store are this machine's.
    """

    catalog: Catalog
    store: LocalStore
    remote: Remote | None
    references: References

    def __init__(
        self, settings: Settings, catalog: Catalog, store: LocalStore, remote: Remote | None = None, *,
        reopen: Callable[[], Parts] | None = None,
    ) -> None:
        """`reopen`: makes the others anew, in a child; None: it is not for use in one."""
        self.settings = settings
        self._lock = threading.Lock()
        self._reopen = reopen
        self._inherited: list[object] = []
        self.store = store
        self.pages = PageCache(_PageLoader(self))
        self._take(catalog, store, remote)
        if reopen is not None:
            _watch_forks()
            _open_sessions.add(self)

    def _take(self, catalog: Catalog, store: LocalStore, remote: Remote | None) -> None:
        self.references = References(self.settings, store, self.pages, self)
        self.store = store
        self.remote = remote
        self.catalog = catalog

    def _leave_parent(self) -> None:
        """In a child, which has one thread yet. What is the parent's is kept, as to close it may reach the parent."""
        self._lock = threading.Lock()
        for name in _PARTS:
            if name in self.__dict__:
                self._inherited.append(self.__dict__.pop(name))

    def __getattr__(self, name: str) -> Any:
        # Of parts only that are not there: those of a child that has not opened its own yet.
        if name not in _PARTS or self._reopen is None:
            raise AttributeError(f"a session has no {name!r}")
        with self._lock:
            if name not in self.__dict__:
                self._take(*self._reopen())
        return self.__dict__[name]

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
        _open_sessions.discard(self)
        if "catalog" not in self.__dict__:
            return  # in a child that never needed it
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


class _PageLoader:
    """Reads from the store that the session has now, and does not keep it alive: manifests live longer."""

    def __init__(self, session: Session) -> None:
        self._session = weakref.ref(session)
        self._store = session.store

    def __call__(self, digest: str) -> bytes:
        session = self._session()
        if session is not None:
            self._store = session.store
        return self._store.read_page(digest)


_PARTS = ("catalog", "store", "remote", "references")
_open_sessions: weakref.WeakSet[Session] = weakref.WeakSet()


@cache
def _watch_forks() -> None:
    os.register_at_fork(after_in_child=_leave_parent)


def _leave_parent() -> None:
    for session in list(_open_sessions):
        session._leave_parent()


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
    opening = partial(_open_parts, settings)
    return Session(settings, *opening(listen=listen), reopen=partial(opening, listen=False))


def _open_parts(settings: Settings, *, listen: bool) -> Parts:
    if settings.server:
        # Loads httpx, which the embedded catalog does not need.
        from artfs.api.remote import open_remote

        return open_remote(settings, listen=listen)
    store = FolderStore(settings.store_path, free_floor=settings.floor_on(os.statvfs(settings.home)))
    return _open_catalog(settings), store, None


def _open_catalog(settings: Settings) -> Catalog:
    try:
        catalog = open_catalog(settings.catalog_path)
    except StorageError as error:
        if error.errno not in reserve.FULL or not reserve.release(settings.home):
            raise
        return open_catalog(settings.catalog_path)
    reserve.keep(settings.home)
    return catalog
