"""A draft as the mount serves it: what all its files and directories share, and whether it may be changed now."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING
from weakref import WeakSet

from artfs.errors import ArtfsError
from artfs.store.linux import PATH_MAX
from artfs.store.staging import HashLog, StagedDraft
from artfs.store.standins import read_base
from artfs.transfer.journal import is_unsettled, recover
from artfsd.draftfiles import DraftFile
from artfsd.drafthandle import DraftHandle, ThreadedWrite
from artfsd.draftleaf import DraftLeaf
from artfsd.draftlinks import Style
from artfsd.drafts import Backing, DraftDir
from artfsd.hashing import HashPool
from artfsd.inodes import Later, refuse
from artfsd.versions import Trees

if TYPE_CHECKING:
    from artfs.store.base import LocalStore
    from artfs.store.floor import Floor


class LiveDraft:
    """`sealed`: a commit works on it, nothing may change. `dead`: it was committed or
    abandoned. `unsettled`: a commit did not end and could not be taken back yet (see artfs.transfer.journal)."""

    def __init__(
        self, staged: StagedDraft, trees: Trees, store: LocalStore, pool: HashPool, base_ns: int, floor: Floor
    ) -> None:
        self.staged = staged
        self.trees = trees
        self.store = store
        self.pool = pool
        self.floor = floor
        self.base_ns = base_ns  # the times of inherited entries that the draft has not touched
        self.sealed = False
        self.dead = False
        self.congested_until = 0.0  # see drafthandle.CONGESTED_S
        self.unsettled = is_unsettled(staged)
        self.moves = 0  # of directories, so far: a path that was put together before the last one may be wrong
        self.by_inode: dict[int, DraftLeaf] = {}
        self.writers: dict[int, DraftHandle] = {}
        self.late: WeakSet[ThreadedWrite] = WeakSet()  # writes in threads, also those whose requests were given up
        self.root = DraftDir(self, None, b"", Backing(True, read_base(staged.files)))

    @property
    def hashes(self) -> HashLog:
        return self.staged.hashes

    def open_backing(self, path: bytes, flags: int, mode: int = 0) -> int:
        """Opens (or makes) a backing file, even when its own mode (which is the user's) forbids it to its owner. When there are
        no descriptors left, it takes those that nobody needs."""
        flags |= os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            return os.open(path, flags, mode)
        except PermissionError:
            if flags & os.O_CREAT:
                raise
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            self.pool.drain()
            self.trees.blobs.drop_idle()
            return os.open(path, flags, mode)
        own = stat.S_IMODE(os.lstat(path).st_mode)
        os.chmod(path, own | 0o600)
        try:
            return os.open(path, flags)
        finally:
            os.chmod(path, own)

    def check_writable(self) -> None:
        """Refuses changes while a commit works (EBUSY) and after it (ENOENT: the draft is gone)."""
        if self.dead:
            refuse(errno.ENOENT)
        if self.sealed:
            refuse(errno.EBUSY)

    def check_settled(self) -> None:
        """Before content, attributes or names of files change: that and that no file is a blob of the store, which a commit on
        a full disk may leave behind. May raise Later, and from that ENOSPC."""
        self.check_writable()
        if self.unsettled:
            raise Later(self._settle, self._settled, again=True)

    def _settle(self) -> ArtfsError | None:
        try:
            with self.staged.locked():
                recover(self.store, self.staged)
        except ArtfsError as error:
            return error
        return None

    def _settled(self, error: ArtfsError | None) -> None:
        self.resync()  # what failed in the end may have done a part
        if error is not None:
            raise error

    def resync(self) -> None:
        """After a commit that failed: files that it had taken over have become stand-ins."""
        self.unsettled = is_unsettled(self.staged)
        for inode, node in list(self.by_inode.items()):
            if isinstance(node, DraftFile) and node.names:
                parent, name = node.names[0]
                if len(parent.path) + 1 + len(name) > PATH_MAX:
                    continue  # it was moved to where nothing reaches it, nor did the commit
                slot = parent.slot(name)
                if slot is not None and slot.entry is not None:
                    node.entry, node.style, node.inode = slot.entry, Style.of(slot), 0
                    del self.by_inode[inode]

    def open_paths(self) -> tuple[str, ...]:
        """Files that are open for writing, or written to by a thread whose request was given up, relative to the draft's root."""
        nodes = [handle.node for handle in self.writers.values()]
        nodes += [work.node for work in list(self.late) if not work.is_done]
        return tuple(sorted({os.fsdecode(node.display_path()) for node in nodes}))

    def is_written_late(self, node: DraftFile) -> bool:
        """Whether a thread still writes to a file, whoever has closed it: then it has no digest yet."""
        return any(work.node is node and not work.is_done for work in list(self.late))
