"""pyfuse3's handlers: each translates inode numbers, values and errors, and asks the vfs (firewall.py is around each)."""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Sequence
from typing import Any

import pyfuse3
import trio
from pyfuse3 import (
    EntryAttributes,
    FileInfo,
    FUSEError,
    ReaddirToken,
    RequestContext,
    SetattrFields,
    StatvfsData,
)

from artfsd.draftfiles import DraftFile
from artfsd.firewall import Firewall, handler
from artfsd.inodes import NO_SUCH_NAME, Attr
from artfsd.shim import LoopShim
from artfsd.vfs import Vfs

log = logging.getLogger(__name__)

BLOCK_NEW = 1024 * 1024
"""st_blksize of empty files: who has just made one (cp, stdio) writes in pieces of that size."""
BLOCK_LARGE = 128 * 1024
"""Of files larger than that. Whoever wants a header (Python's `open` with a buffer, and what reads Parquet, NumPy or safetensors
through it) asks for so much of the file, and the kernel for as much again; it may have to come from a server in whole blocks."""

_GIVES_ENTRY = frozenset({"lookup", "mkdir", "mknod", "symlink", "link"})


class Operations(Firewall):
    """See the module."""

    supports_dot_lookup = True
    enable_writeback_cache = False  # docs/decisions/0005-direct-writes.md
    enable_acl = False

    def __init__(self, vfs: Vfs, shim: LoopShim, deadline_s: float, limiter: trio.CapacityLimiter) -> None:
        super().__init__(vfs, shim, deadline_s, limiter)
        self.vfs = vfs
        self._entry = EntryAttributes()  # reused by readdir: copied into the reply at once
        self._no_such_name = self._fill(NO_SUCH_NAME)

    def translate(self, name: str, result: Any) -> Any:
        """The reply for a vfs result that came late."""
        if isinstance(result, Attr):
            return self._known(result) if name in _GIVES_ENTRY else self._fill(result)
        if name == "open":
            return self._file_info(result)
        if name == "create":
            handle, attr = result
            return self._file_info(handle), self._known(attr)
        return result

    # values ----------------------------------------------------------------------------------------------------------
    def _fill(self, attr: Attr, entry: EntryAttributes | None = None) -> EntryAttributes:
        if entry is None:
            entry = EntryAttributes()
        entry.st_ino = attr.ino
        entry.st_mode = attr.mode
        entry.st_nlink = attr.nlink
        entry.st_uid = attr.uid
        entry.st_gid = attr.gid
        size = attr.size
        entry.st_size = size
        entry.st_blocks = (size + 511) >> 9
        entry.st_blksize = BLOCK_LARGE if size > BLOCK_NEW else 4096 if size else BLOCK_NEW
        entry.st_atime_ns = attr.atime_ns
        entry.st_mtime_ns = attr.mtime_ns
        entry.st_ctime_ns = attr.ctime_ns
        entry.entry_timeout = attr.entry_timeout
        entry.attr_timeout = attr.attr_timeout
        return entry

    def _known(self, attr: Attr) -> EntryAttributes:
        """For replies that give the kernel a reference."""
        if attr.ino:
            self.vfs.table.count_lookup(attr.ino)
        return self._fill(attr)

    def _file_info(self, handle: Any) -> FileInfo:
        info: FileInfo = handle.reply
        if info is None:
            info = FileInfo(fh=self.vfs.add_handle(handle), direct_io=handle.direct, keep_cache=handle.keep_cache)
            handle.reply = info
        return info

    # names -----------------------------------------------------------------------------------------------------------
    @handler
    def lookup(self, parent: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        attr = self.vfs.lookup(parent, name)
        return self._known(attr) if attr is not NO_SUCH_NAME else self._no_such_name

    def forget(self, inode_list: Sequence[tuple[int, int]]) -> Any:
        self.counts["forget"] += 1
        try:
            self.vfs.table.forget(inode_list)
        except Exception:
            log.exception("forget failed; some inodes stay known")

    @handler
    def opendir(self, ino: int, ctx: RequestContext) -> int:
        node = self.vfs.table.get(ino)
        handle = node.open_dir()
        handle.node = node
        return self.vfs.add_handle(handle)

    @handler
    def readdir(self, fh: int, offset: int, token: ReaddirToken) -> None:
        entry, fill, reply = self._entry, self._fill, pyfuse3.readdir_reply
        handle = self.vfs.dir_handle(fh)
        last: Attr | None = None
        dots = 2 - min(offset, 2)

        def emit_dots() -> None:
            # The kernel takes only number and kind from them, and counts no reference: it knows both directories.
            nonlocal dots
            entry.st_mode = stat.S_IFDIR
            for name, ino in ((b".", handle.node.ino), (b"..", handle.node.above))[2 - dots :]:
                entry.st_ino = ino
                reply(token, name, entry, len(name))
            dots = 0

        def emit(name: bytes, attr: Attr, following: int) -> bool:
            nonlocal last
            if dots:
                emit_dots()  # not before there is an entry: what raises Later is asked again from its beginning
            if attr is last:
                # The same value as before, with what differs between the files of one listing.
                entry.st_ino = attr.ino
                entry.st_mode = attr.mode
                size = attr.size
                entry.st_size = size
                entry.st_blocks = (size + 511) >> 9
            else:
                fill(attr, entry)
                last = attr
            return bool(reply(token, name, entry, following + 2))

        handle.read(max(offset - 2, 0), emit)
        if dots:
            emit_dots()

    @handler
    def releasedir(self, fh: int) -> None:
        self.vfs.close_handle(fh)

    @handler
    def fsyncdir(self, fh: int, datasync: bool) -> None:
        self.vfs.dir_handle(fh).fsync()

    @handler
    def mkdir(self, parent: int, name: bytes, mode: int, ctx: RequestContext) -> EntryAttributes:
        return self._known(self._given(self.vfs.table.get(parent).mkdir(name, mode), parent, ctx))

    @handler
    def mknod(self, parent: int, name: bytes, mode: int, rdev: int, ctx: RequestContext) -> EntryAttributes:
        return self._known(self._given(self.vfs.mknod(parent, name, mode), parent, ctx))

    @handler
    def create(
        self, parent: int, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        handle, attr = self.vfs.table.get(parent).create(name, mode, flags)
        return self._file_info(handle), self._known(self._given(attr, parent, ctx))

    def _given(self, attr: Attr, parent: int, ctx: RequestContext) -> Attr:
        """What root's daemon has just made belongs to who asked for it, as on any file system."""
        if not ctx.uid or self.vfs.trees.uid:
            return attr
        node = self.vfs.table.get(attr.ino)
        if not node.has_owner:
            return attr
        changes = {"uid": ctx.uid, "gid": ctx.gid}
        if self.vfs.table.get(parent).attr().mode & stat.S_ISGID:
            del changes["gid"]  # it has the folder's
        if attr.mode & (stat.S_ISUID | stat.S_ISGID):
            changes["mode"] = attr.mode  # chown takes these bits away, and whoever makes a file may set them
        return node.setattr(changes)

    @handler
    def symlink(self, parent: int, name: bytes, target: bytes, ctx: RequestContext) -> EntryAttributes:
        return self._known(self._given(self.vfs.table.get(parent).symlink(name, target), parent, ctx))

    @handler
    def link(self, ino: int, new_parent: int, new_name: bytes, ctx: RequestContext) -> EntryAttributes:
        return self._known(self.vfs.table.get(new_parent).link_here(self.vfs.table.get(ino), new_name))

    @handler
    def unlink(self, parent: int, name: bytes, ctx: RequestContext) -> None:
        self.vfs.table.get(parent).unlink(name)

    @handler
    def rmdir(self, parent: int, name: bytes, ctx: RequestContext) -> None:
        self.vfs.table.get(parent).rmdir(name)

    @handler
    def rename(
        self, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int, ctx: RequestContext
    ) -> None:
        self.vfs.table.get(parent).rename_from(name, self.vfs.table.get(new_parent), new_name, flags)

    @handler
    def readlink(self, ino: int, ctx: RequestContext) -> bytes:
        return self.vfs.table.get(ino).readlink()

    # attributes ------------------------------------------------------------------------------------------------------
    @handler
    def getattr(self, ino: int, ctx: RequestContext) -> EntryAttributes:
        node = self.vfs.table.get(ino)
        if node.constant:
            if node.reply is None:
                node.reply = self._fill(node.attr())
            reply: EntryAttributes = node.reply
            return reply
        return self._fill(node.attr())

    @handler
    def setattr(
        self, ino: int, attr: EntryAttributes, fields: SetattrFields, fh: int | None, ctx: RequestContext
    ) -> EntryAttributes:
        changes: dict[str, int] = {}
        if fields.update_size:
            changes["size"] = attr.st_size
        if fields.update_mode:
            changes["mode"] = attr.st_mode
        if fields.update_uid:
            changes["uid"] = attr.st_uid
        if fields.update_gid:
            changes["gid"] = attr.st_gid
        if fields.update_atime:
            changes["atime_ns"] = attr.st_atime_ns
        if fields.update_mtime:
            changes["mtime_ns"] = attr.st_mtime_ns
        if fields.update_ctime:
            changes["ctime_ns"] = attr.st_ctime_ns
        return self._fill(self.vfs.table.get(ino).setattr(changes))

    @handler
    def access(self, ino: int, mode: int, ctx: RequestContext) -> bool:
        # Asked only when the kernel does not check modes, which is when root alone can come here (run.py).
        return not mode & os.X_OK or stat.S_ISDIR(found := self.vfs.table.get(ino).attr().mode) or bool(found & 0o111)

    @handler
    def statfs(self, ctx: RequestContext) -> StatvfsData:
        status = self.vfs.statfs()
        reply = StatvfsData()
        reply.f_bsize = status.f_bsize
        reply.f_frsize = status.f_frsize
        reply.f_blocks = status.f_blocks
        reply.f_bfree = status.f_bfree
        reply.f_bavail = status.f_bavail
        reply.f_files = status.f_files
        reply.f_ffree = status.f_ffree
        reply.f_favail = status.f_favail
        reply.f_namemax = 255
        return reply

    # contents --------------------------------------------------------------------------------------------------------
    @handler
    def open(self, ino: int, flags: int, ctx: RequestContext) -> FileInfo:
        self.vfs.readers.current = ctx.pid
        node = self.vfs.table.get(ino)
        handle = node.open(flags)
        if flags & os.O_TRUNC and ctx.uid and not self.vfs.trees.uid and isinstance(node, DraftFile):
            node.emptied_by_other()
        return self._file_info(handle)

    @handler
    def read(self, fh: int, offset: int, size: int) -> bytes | memoryview:
        return self.vfs.files[fh].read(offset, size)

    @handler
    def write(self, fh: int, offset: int, data: bytes) -> int:
        return self.vfs.files[fh].write(offset, data)

    @handler
    def flush(self, fh: int) -> None:
        # Once answered so, the kernel never asks again. Errors of write-back still reach close() and fsync().
        raise FUSEError(errno.ENOSYS)

    @handler
    def fsync(self, fh: int, datasync: bool) -> None:
        self.vfs.files[fh].fsync(datasync)

    @handler
    def release(self, fh: int) -> None:
        self.vfs.close_handle(fh)

    # extended attributes ---------------------------------------------------------------------------------------------
    @handler
    def getxattr(self, ino: int, name: bytes, ctx: RequestContext) -> bytes:
        if name == b"security.capability":
            raise FUSEError(errno.ENODATA)  # asked before each write: answered first
        if name.startswith((b"system.posix_acl_", b"security.selinux")):
            raise FUSEError(errno.EOPNOTSUPP)
        return self.vfs.getxattr(ino, name)

    @handler
    def listxattr(self, ino: int, ctx: RequestContext) -> list[bytes]:
        return sorted(self.vfs.table.get(ino).xattrs())

    @handler
    def setxattr(self, ino: int, name: bytes, value: bytes, ctx: RequestContext) -> None:
        self._refuse_foreign(ino, name)
        self.vfs.table.get(ino).setxattr(name, value)

    @handler
    def removexattr(self, ino: int, name: bytes, ctx: RequestContext) -> None:
        self._refuse_foreign(ino, name)
        self.vfs.table.get(ino).removexattr(name)

    def _refuse_foreign(self, ino: int, name: bytes) -> None:
        """Access lists and labels, which artfs does not have. A version says EROFS, as of every change."""
        if name.startswith((b"system.posix_acl_", b"security.selinux")) and not self.vfs.table.get(ino).frozen:
            raise FUSEError(errno.EOPNOTSUPP)
