"""The file system itself: which node answers what. Knows neither pyfuse3 nor trio; another transport can take their
place."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from typing import Any

import msgspec

from artfs.catalog.base import Catalog
from artfs.references.reader import ReferenceReader
from artfs.references.router import References
from artfs.settings import Settings
from artfs.store.base import LocalStore
from artfs.store.floor import Floor
from artfs.store.staging import DraftArea
from artfs.transfer.cachedstore import CachedStore
from artfs.transfer.fetch import Fetcher
from artfsd.accesslog import AccessLog, AccessLogFile
from artfsd.collectiondir import CollectionDir
from artfsd.draftroots import Drafts
from artfsd.drafts import DraftDir
from artfsd.fetch import Blobs
from artfsd.hashing import HashPool
from artfsd.inodes import (
    FILE_MODE,
    NAME_MAX,
    Attr,
    DirHandle,
    FileHandle,
    InodeTable,
    ListHandle,
    Node,
    refuse,
)
from artfsd.names import EntityDir, ProjectDir, known_directories
from artfsd.naming import Invalidation, NamesContext
from artfsd.pages import TreePages
from artfsd.readers import Readers
from artfsd.remote import RemoteBlobs
from artfsd.versions import Trees


class Vfs:
    """One mounted tree. All methods run on one thread, except what they put into `Later`.

    Arguments:
        fetcher: brings what is not here; None: everything is.
        area: the drafts of the state folder, owned; None: another process serves them.
        watched: whether changes of the catalog are noticed at once, so that the kernel may keep names for long.
        notify: takes invalidations; called on the loop's thread, must not block.
        status: what `.artfs/status` shows besides the vfs's own part.
    """

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        store: LocalStore,
        references: References,
        fetcher: Fetcher | None = None,
        *,
        uid: int,
        gid: int,
        area: DraftArea | None,
        symlinked_aliases: bool,
        watched: bool,
        notify: Callable[[list[Invalidation]], None],
        status: Callable[[], dict[str, Any]],
    ) -> None:
        self.table = InodeTable()
        self._home = settings.home
        self._status = status
        self._started_ns = time.time_ns()
        self.pages = TreePages(store.read_page, fetcher)
        self.blobs = Blobs(store) if fetcher is None else RemoteBlobs(fetcher)
        self.references = ReferenceReader(references, settings)
        self.readers = Readers(settings.no_prefetch)
        # A little less than the deadline, so that the error can say what it waited for.
        self.trees = Trees(
            self.pages, self.blobs, self.table, uid, gid, self.references, settings.deadline_s * 0.9, self.readers
        )
        self.ctx = NamesContext(
            catalog,
            self.trees,
            settings.entity,
            symlinked_aliases,
            WATCHED_TIMEOUT_S if watched else settings.alias_timeout_s,
            self._started_ns,
        )
        self._fallback_timeout_s = settings.alias_timeout_s
        self.root = EntityDir(self.ctx, settings.entity, self._special)  # the first inode: the root
        self.pool = HashPool(max(1, settings.worker_count - 1))
        self.access = AccessLog()
        self.control = ControlDir(self)
        self.drafts: Drafts | None = None
        if area is not None:
            send = store.begin if isinstance(store, CachedStore) else None
            # A little above the store's own, so that what fills a draft up leaves room to commit it.
            nbytes = settings.floor_on(os.statvfs(settings.home)) * 9 // 8
            floor = Floor(str(settings.home), nbytes, f"drafts in {settings.home}")
            self.drafts = Drafts(area, self.ctx, store, self.pool, notify, floor, send=send)
        self.files: dict[int, FileHandle] = {}
        self.blobs.on_drop = self._forget_number
        self._dirs: dict[int, DirHandle] = {}
        self._next_handle = 1

    def _special(self, name: bytes) -> Node | None:
        if name == b"drafts":
            return self.drafts.root if self.drafts is not None else None
        if name == b".artfs":
            return self.control
        return None

    # names
    def lookup(self, parent: int, name: bytes) -> Attr:
        node = self.table.get(parent)
        if name == b".":
            return node.attr()
        if not node.is_dir:
            refuse(errno.ENOTDIR)
        if len(name) > NAME_MAX:  # the kernel lets up to 1024 bytes through
            refuse(errno.ENAMETOOLONG)
        return node.lookup(name)

    def mknod(self, parent: int, name: bytes, mode: int) -> Attr:
        """A regular file, made by mknod(2); nothing else can be in a version."""
        if not stat.S_ISREG(mode):
            node = self.table.get(parent)
            refuse(errno.EPERM if isinstance(node, DraftDir) else errno.EROFS)
        handle, attr = self.table.get(parent).create(name, mode, os.O_RDWR)
        handle.close()
        return attr

    def getxattr(self, ino: int, name: bytes) -> bytes:
        if not name.startswith(b"user.artfs."):
            refuse(errno.ENODATA)
        value = self.table.get(ino).xattrs().get(name)
        if value is None:
            refuse(errno.ENODATA)
        return value

    # handles
    def add_handle(self, handle: FileHandle | DirHandle) -> int:
        number = self._next_handle
        self._next_handle += 1
        if isinstance(handle, FileHandle):
            self.files[number] = handle
            handle.number = number
        else:
            self._dirs[number] = handle
        return number

    def _forget_number(self, number: int) -> None:
        self.files.pop(number, None)

    def dir_handle(self, number: int) -> DirHandle:
        return self._dirs[number]

    def close_handle(self, number: int) -> None:
        handle = self.files.get(number)
        if handle is not None:
            if not handle.shared:
                del self.files[number]
            handle.close()
            return
        directory = self._dirs.pop(number, None)
        if directory is not None:
            directory.close()

    # the whole
    def statfs(self) -> os.statvfs_result:
        return os.statvfs(self._home)

    def changed_nodes(self) -> list[EntityDir | ProjectDir | CollectionDir]:
        """The directories of names that were read before, to be read again after a change of the catalog."""
        return [
            node
            for node in known_directories(self.root)
            if (node.view if isinstance(node, CollectionDir) else node.names) is not None
        ]

    def unwatched(self) -> None:
        """Changes are not noticed any more: from now on the kernel may keep names only for a short while."""
        self.ctx.timeout_s = self._fallback_timeout_s

    def status(self) -> dict[str, Any]:
        return {
            **self._status(),
            "inodes": len(self.table),
            "listings": self.trees.status(),
            "blobs": self.blobs.status(),
            "handles": {
                "files": sum(not handle.shared for handle in self.files.values()),
                "directories": len(self._dirs),
            },
            "hashing": self.pool.pending,
            "drafts": {
                draft.staged.label: {"writers": len(draft.writers), "sealed": draft.sealed}
                for draft in (self.drafts.live.values() if self.drafts is not None else ())
            },
            "serves_drafts": self.drafts is not None,
        }

    def close(self) -> None:
        for handle in list(self.files.values()):
            if not handle.shared:
                handle.close()
        self.files.clear()
        self._dirs.clear()
        if self.drafts is not None:
            self.pool.drain()
            for draft in self.drafts.live.values():
                self.pool.wait_idle(draft.hashes, 5.0)
                draft.hashes.flush()
            self.drafts.close()
        self.pool.close()
        self.references.close()
        self.blobs.drop_idle()


WATCHED_TIMEOUT_S = 3600.0
"""How long the kernel may keep moving names while every change of theirs is told to it, in seconds."""


class ControlDir(Node):
    """`.artfs/`: not listed at the root. `status` tells what the daemon is doing, `accesslog` what it is asked."""

    __slots__ = ("_files", "_vfs")
    is_dir = True

    def __init__(self, vfs: Vfs) -> None:
        super().__init__()
        self._vfs = vfs
        vfs.table.add(self)
        self._files: dict[bytes, Node] = {
            b"accesslog": AccessLogFile(vfs.access, vfs.table, vfs.trees.uid, vfs.trees.gid),
            b"status": StatusFile(vfs),
        }

    def label(self) -> str:
        return ".artfs"

    @property
    def lasting(self) -> bool:
        return True

    def attr(self) -> Attr:
        attr = self._vfs.ctx.dir_attr(self.ino, self._vfs.ctx.started_ns)
        attr.mode = stat.S_IFDIR | 0o500
        return attr

    def lookup(self, name: bytes) -> Attr:
        file = self._files.get(name)
        if file is not None:
            return file.attr()
        refuse(errno.ENOENT)  # also the barrier: a request that a commit sends through the mount to be after all closes

    def open_dir(self) -> DirHandle:
        return ListHandle(self._vfs.table, lambda: [(name, file.attr) for name, file in self._files.items()])


class StatusFile(Node):
    """JSON, made when it is opened."""

    __slots__ = ("_vfs",)

    def __init__(self, vfs: Vfs) -> None:
        super().__init__()
        self._vfs = vfs
        vfs.table.add(self)

    @property
    def lasting(self) -> bool:
        return True

    def attr(self) -> Attr:
        trees = self._vfs.trees
        return Attr(self.ino, FILE_MODE & ~0o244, 0, time.time_ns(), trees.uid, trees.gid, attr_timeout=0.0)

    def label(self) -> str:
        return ".artfs/status"

    def open(self, flags: int) -> FileHandle:
        if flags & (os.O_WRONLY | os.O_RDWR):
            refuse(errno.EROFS)
        return StatusHandle(msgspec.json.format(msgspec.json.encode(self._vfs.status()), indent=2) + b"\n")


class StatusHandle(FileHandle):
    __slots__ = ("_data",)
    direct = True
    keep_cache = False

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._data = data

    def read(self, offset: int, size: int) -> bytes:
        return self._data[offset : offset + size]
