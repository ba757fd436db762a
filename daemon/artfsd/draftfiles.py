"""Files of drafts."""

from __future__ import annotations

import errno
import os
import stat
import time
from typing import TYPE_CHECKING

from artfs.model.entry import FileEntry, RefEntry
from artfs.model.records import Content
from artfs.store.staging import HashRecord, record_for
from artfs.store.standins import entry_target, keeping_times
from artfsd.copyup import CopyUp
from artfsd.drafthandle import DraftHandle
from artfsd.draftleaf import DraftLeaf
from artfsd.draftlinks import OWN, Style
from artfsd.hashing import FileHash
from artfsd.inodes import Attr, FileHandle, Later, refuse
from artfsd.reffiles import ref_xattrs

if TYPE_CHECKING:
    from artfsd.drafts import DraftDir
    from artfsd.livedraft import LiveDraft


class DraftFile(DraftLeaf):
    """A file of a draft: its own (`entry` None: bytes in the backing file), or a blob of the store or a reference until
    somebody writes to it.
    """

    __slots__ = ("copying", "entry", "handles", "hashing", "style")

    def __init__(
        self, draft: LiveDraft, parent: DraftDir, name: bytes, entry: FileEntry | RefEntry | None = None, style: Style = OWN
    ) -> None:
        super().__init__(draft, parent, name)
        self.entry = entry
        self.style = style
        self.handles: set[DraftHandle] = set()
        self.hashing: FileHash | None = None  # while it is open for writing
        self.copying: CopyUp | None = None

    def renamed(self, parent: DraftDir, name: bytes, new_parent: DraftDir, new_name: bytes) -> None:
        super().renamed(parent, name, new_parent, new_name)
        self._shown_by_stand_in()

    def hold(self) -> None:
        """Before it loses a name: whoever opened it when its content was still the store's, and has not read since it was copied,
        gets it now. Raises OSError."""
        if self.entry is None and len(self.names) == 1:
            for handle in self.handles:
                if handle.fd < 0:
                    handle.fd = self.draft.open_backing(self.path, os.O_RDONLY)

    def lost_name(self, parent: DraftDir, name: bytes) -> None:
        super().lost_name(parent, name)
        if self.names:
            return
        self._copy_no_more()
        if self.inode:
            self.draft.pool.supersede(self.draft.hashes, self.inode)
            self.draft.hashes.drop(self.inode)

    def has_other_names(self) -> bool:
        return any(handle.fd >= 0 and os.fstat(handle.fd).st_nlink for handle in self.handles)

    def forgotten(self) -> None:
        self._copy_no_more()
        super().forgotten()

    # attributes
    def _status(self) -> os.stat_result:
        for handle in self.handles:
            if handle.fd >= 0:
                return os.fstat(handle.fd)
        return os.lstat(self.path)

    def attr(self) -> Attr:
        entry = self.entry
        if entry is not None:
            return self.style.attr(self.ino, stat.S_IFREG, entry.size or 0, 1 if self.names else 0)
        return self.attr_from(self._status())

    def attr_from(self, status: os.stat_result) -> Attr:
        attr = Attr(
            self.ino, status.st_mode, status.st_size, status.st_mtime_ns, status.st_uid, status.st_gid, nlink=status.st_nlink
        )
        attr.atime_ns = status.st_atime_ns
        attr.ctime_ns = status.st_ctime_ns
        return attr

    def setattr(self, changes: dict[str, int]) -> Attr:
        self.draft.check_settled()
        if self.entry is not None:
            if "size" in changes:
                if changes["size"] == 0:
                    self._start_empty()
                elif changes["size"] != self.entry.size:
                    self.copy_up()
                else:
                    # Nothing is cut off, but it counts as a change: truncate(2) sets the time whatever the size was.
                    changes = {"mtime_ns": time.time_ns(), **changes}
                    del changes["size"]
            if self.entry is not None:
                self._restyle_entry(changes)
                return self.attr()
        return self._setattr_own(changes)

    def _setattr_own(self, changes: dict[str, int]) -> Attr:
        fd = next((handle.fd for handle in self.handles if handle.fd >= 0), -1)
        target: bytes | int = fd if fd >= 0 else self.path
        known = self.known_record() if "size" not in changes else None
        if "size" in changes:
            writable = next((handle.fd for handle in self.handles if handle.writing), None)
            os.truncate(writable if writable is not None else self.path, changes["size"])
            if self.hashing is not None:
                self.hashing.disturbed()
            else:
                self.draft.pool.supersede(self.draft.hashes, self.inode)
                self.draft.hashes.drop(self.inode)
        if "uid" in changes or "gid" in changes:
            os.chown(target, changes.get("uid", -1), changes.get("gid", -1))  # which may clear bits of the mode
        if "mode" in changes:
            os.chmod(target, stat.S_IMODE(changes["mode"]))
        if "atime_ns" in changes or "mtime_ns" in changes:
            status = os.stat(target)
            times = (changes.get("atime_ns", status.st_atime_ns), changes.get("mtime_ns", status.st_mtime_ns))
            os.utime(target, ns=times)
        self.refresh_record(known)
        return self.attr()

    def _restyle_entry(self, changes: dict[str, int]) -> None:
        """A new mode, owner or time of content that is still the store's: only the stand-in changes."""
        entry = self.entry
        assert entry is not None
        style = self.style.changed(changes, entry)
        if style == self.style:
            return
        self.style = style
        if isinstance(entry, FileEntry):
            self.entry = FileEntry(entry.name, entry.size, entry.sha256, entry.blocks, bool(style.mode & 0o100))
        for parent, name in self.names:
            parent.materialize()
            with keeping_times(parent.path):
                self.place_stand_in(parent.path + b"/" + name)
        self._shown_by_stand_in()

    def _shown_by_stand_in(self) -> None:
        if self.entry is not None and self.names:
            self.style = self.style.shown_by(os.lstat(self.path))

    def place_stand_in(self, path: bytes) -> None:
        """Puts the stand-in for content that is still the store's at `path`."""
        assert self.entry is not None
        style = self.style
        self.draft.staged.scratch.place_stand_in(entry_target(self.entry, style.mode), path, style.times_ns, style.owner)

    # digests
    def known_record(self) -> HashRecord | None:
        """The recorded digest, while it holds."""
        if self.entry is not None or not self.inode:
            return None
        self.draft.pool.drain()
        return self.draft.hashes.try_get(self._status())

    def refresh_record(self, known: HashRecord | None) -> None:
        """After a change of names or attributes that left the content alone: the digest holds for the new
        fingerprint."""
        if known is not None:
            self.draft.hashes.add(record_for(self._status(), known.content, known.block_objects))

    # opening
    def open(self, flags: int) -> FileHandle:
        writing = flags & os.O_ACCMODE != os.O_RDONLY or bool(flags & os.O_TRUNC)
        if not writing:
            if self.entry is not None:
                return self._open_entry(self.entry)
            return self.opened(self.draft.open_backing(self.path, os.O_RDONLY), flags, 0)
        self.draft.check_settled()
        truncate = bool(flags & os.O_TRUNC)
        if self.entry is not None:
            if truncate:
                self._start_empty()
            else:
                self.copy_up()
        fd = self.draft.open_backing(self.path, os.O_RDWR | (os.O_TRUNC if truncate else 0))
        if truncate and self.hashing is not None:
            self.hashing.disturbed()
        mode = os.fstat(fd).st_mode if flags & os.O_ACCMODE == os.O_WRONLY else 0
        return self.opened(fd, flags, mode, fresh=truncate)

    def emptied_by_other(self) -> None:
        """After an open with O_TRUNC by somebody whom a write costs these bits. The kernel takes them away for write(2) and
        truncate(2), but leaves such an open to us."""
        mode = self.attr().mode
        kept = mode & ~stat.S_ISUID & ~(stat.S_ISGID if mode & stat.S_IXGRP else 0)
        if kept != mode:
            self.setattr({"mode": kept})

    def label(self) -> str:
        return f"drafts/{self.draft.staged.label}/{os.fsdecode(self.display_path())}"

    def _open_entry(self, entry: FileEntry | RefEntry) -> FileHandle:
        handle = DraftHandle(self, -1, False)

        trees = self.draft.trees
        if isinstance(entry, RefEntry):
            handle.blob = trees.open_reference(entry, self.label)
            handle.direct, handle.keep_cache = handle.blob.direct, handle.blob.keep_cache
        else:
            handle.blob = trees.blobs.open(entry, self.label)
        self.handles.add(handle)
        return handle

    def opened(self, fd: int, flags: int, mode: int, *, fresh: bool = False) -> DraftHandle:
        """A handle over `fd`. `flags`: what it was opened with. `mode`: of the file; needed for O_WRONLY only. `fresh`: the file
        is empty now, so that its digest can be followed from the start."""
        access = flags & os.O_ACCMODE
        writing = access != os.O_RDONLY or bool(flags & os.O_TRUNC)
        handle = DraftHandle(self, fd, writing)
        # Whoever only writes gets no page cache: each write costs one request less (docs/decisions/0005-direct-writes.md).
        # Whoever reads too may map the file, which needs it.
        # So does a write that may cost set-user-ID: the kernel has that taken away before one into the page cache only.
        handle.direct = access == os.O_WRONLY and not mode & (stat.S_ISUID | stat.S_ISGID)
        self.handles.add(handle)
        if writing:
            self.draft.pool.supersede(self.draft.hashes, self.inode)
            self.draft.writers[id(handle)] = handle
            if self.hashing is None:
                self.hashing = FileHash(fresh)
        return handle

    def closed(self, handle: DraftHandle) -> None:
        self.handles.discard(handle)
        if handle.blob is not None:
            handle.blob.close()
        if handle.fd < 0:
            return
        if handle.writing:
            self.draft.writers.pop(id(handle), None)
            hashing = self.hashing
            if hashing is not None and not any(other.writing for other in self.handles):
                self.hashing = None
                if hashing.unanswered:
                    hashing.disturbed()
                if self.names and not self.draft.is_written_late(self) and (hashing.changed or not self.known_record()):
                    self.draft.pool.finish(self.draft.hashes, self.inode, hashing, handle.fd)
                    return
        os.close(handle.fd)

    # copy on write
    def _start_empty(self) -> None:
        """Replaces inherited content by an empty file of the draft's own."""
        assert self.entry is not None
        aside = self.draft.staged.scratch.name()
        os.close(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        self._take_over(aside, None)

    def copy_up(self) -> None:
        """Gives inherited content a file of the draft's own: raises Later until that is there, and the operation starts again."""
        entry = self.entry
        if entry is None:
            return
        if not self.names:
            refuse(errno.ENOENT)  # it was removed while somebody had it open, who comes by way of /proc
        copying = self.copying
        if copying is None or not copying.is_of(entry):
            self._copy_no_more()
            copying = self.copying = CopyUp(self.draft, entry)
        if not copying.done:
            raise Later(copying.run, lambda _: self._copied_up(copying), again=True)
        self._copied_up(copying)

    def _copied_up(self, copying: CopyUp) -> None:
        if self.copying is not copying or self.draft.sealed:
            return  # another request was faster; or this one will be told that it is too late
        if self.entry is None or not self.names or self.draft.dead or not copying.is_of(self.entry):
            self._copy_no_more()
            return
        self.copying = None
        content = copying.entry.content if isinstance(copying.entry, FileEntry) else None
        self._take_over(copying.aside, content)

    def _copy_no_more(self) -> None:
        if self.copying is not None:
            self.copying.discard()
            self.copying = None

    def _take_over(self, aside: bytes, content: Content | None) -> None:
        parent, _ = self.names[0]
        parent.materialize()
        style = self.style
        status = os.lstat(aside)
        if (status.st_uid, status.st_gid) != style.owner:
            os.chown(aside, *style.owner)
        os.chmod(aside, style.mode)
        os.utime(aside, ns=style.times_ns)
        with keeping_times(parent.path):
            os.rename(aside, self.path)
        # After a commit that failed it may have other names, whose stand-ins would stay what the file was.
        for other, name in self.names[1:]:
            other.materialize()
            spare = self.draft.staged.scratch.name()
            os.link(self.path, spare)
            with keeping_times(other.path):
                os.rename(spare, other.path + b"/" + name)
        status = os.lstat(self.path)
        for handle in self.handles:
            if handle.fd >= 0:  # of a commit that failed: what it has open is the store's now
                os.close(handle.fd)
                handle.fd = -1  # opens the new file when it is read
        self._copy_no_more()
        self.entry = None
        self.own(status)
        if content is not None:
            self.draft.hashes.add(record_for(status, content, ()))

    def xattrs(self) -> dict[bytes, bytes]:
        if isinstance(self.entry, RefEntry):
            return ref_xattrs(self.entry)
        if self.entry is not None:
            return {b"user.artfs.digest": self.entry.digest.encode(), b"user.artfs.size": str(self.entry.size).encode()}
        known = self.known_record()
        return {b"user.artfs.digest": known.sha256.encode()} if known is not None else {}

    def setxattr(self, name: bytes, value: bytes) -> None:
        refuse(errno.EOPNOTSUPP)

    def removexattr(self, name: bytes) -> None:
        refuse(errno.ENODATA)
