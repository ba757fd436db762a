"""Open files of drafts."""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING

from artfs.store.verify import write_all
from artfsd.inodes import FileHandle, Later, refuse

if TYPE_CHECKING:
    from artfsd.draftfiles import DraftFile

_NOWAIT = getattr(os, "RWF_NOWAIT", 0)
LARGE_WRITE = 256 * 1024
SLOW_WRITE_S = 0.02
CONGESTED_S = 2.0
"""A write usually goes to the page cache at once. When one took longer than SLOW_WRITE_S, the disk is behind:
for CONGESTED_S after it, writes of at least LARGE_WRITE bytes go to a thread, so that other requests do not
wait with them."""


class ThreadedWrite:
    """A write that goes to a thread. When its request is given up at the deadline, the thread goes on all the same, and the
    handle may be closed: so it has a descriptor of its own. Nobody but the thread keeps it then (one that never came to a thread
    is gone at once), which is how a draft knows what is still being written (`LiveDraft.late`)."""

    __slots__ = ("__weakref__", "_data", "_fd", "_offset", "is_done", "node")

    def __init__(self, node: DraftFile, fd: int, offset: int, data: bytes) -> None:
        """`fd`: it takes over."""
        self.node = node
        self.is_done = False
        self._fd = fd
        self._offset = offset
        self._data = data

    def __del__(self) -> None:
        os.close(self._fd)

    def run(self) -> None:
        try:
            write_all(self._fd, self._data, self._offset)
        finally:
            self.is_done = True


class DraftHandle(FileHandle):
    """`fd` -1: its content was still the store's when it was opened (`blob`)."""

    __slots__ = ("blob", "direct", "fd", "keep_cache", "node", "writing")

    def __init__(self, node: DraftFile, fd: int, writing: bool) -> None:
        super().__init__()
        self.node = node
        self.direct = False
        self.keep_cache = True
        self.fd = fd
        self.writing = writing
        self.blob: FileHandle | None = None

    def label(self) -> str:
        return self.node.label()

    def read(self, offset: int, size: int) -> bytes | memoryview:
        if self.fd < 0:
            if self.node.entry is not None:
                assert self.blob is not None
                return self.blob.read(offset, size)
            self.fd = self.node.draft.open_backing(self.node.path, os.O_RDONLY)  # copied up meanwhile
        buffer = self.node.draft.trees.blobs.buffer(size)
        try:
            got = os.preadv(self.fd, [buffer], offset, _NOWAIT)
        except BlockingIOError:
            got = -1
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            got = -1
        if got == size:
            return buffer
        fd = self.fd
        raise Later(lambda: os.pread(fd, size, offset), lambda data: data)

    def write(self, offset: int, data: bytes) -> int:
        draft = self.node.draft
        if draft.sealed:
            refuse(errno.EBUSY)
        # What lies inside of the file has its room already (holes are not worth a question each time).
        if draft.floor.lacks(len(data)) and offset + len(data) > os.fstat(self.fd).st_size:
            raise draft.floor.error()
        hashing = self.node.hashing
        if hashing is not None and not hashing.changed:
            hashing.changed = True
            draft.hashes.drop(self.node.inode)  # or a rename while a thread writes would hand the old digest on
        begun = time.monotonic()
        if len(data) >= LARGE_WRITE and begun < draft.congested_until:
            self._write_in_thread(offset, data)
        try:
            write_all(self.fd, data, offset)
        except OSError:
            if hashing is not None:
                hashing.disturbed()  # a part of it may have been written over what was hashed
            raise
        now = time.monotonic()
        if now - begun > SLOW_WRITE_S:
            draft.congested_until = now + CONGESTED_S
        return self._wrote(offset, data)

    def _write_in_thread(self, offset: int, data: bytes) -> None:
        """Raises Later; returns when no thread can have it, as there are no descriptors left."""
        try:
            work = ThreadedWrite(self.node, os.dup(self.fd), offset, data)
        except OSError:
            return
        hashing = self.node.hashing
        if hashing is not None:
            hashing.unanswered += 1
        self.node.draft.late.add(work)

        def wrote(_: None) -> int:
            if hashing is not None:
                hashing.unanswered -= 1
            return self._wrote(offset, data)

        raise Later(work.run, wrote)

    def _wrote(self, offset: int, data: bytes) -> int:
        hashing = self.node.hashing
        if hashing is not None:
            hashing.wrote(offset, data)
            if self.fd >= 0:
                self.node.draft.pool.follow(self.node.draft.hashes, hashing, self.fd)
        return len(data)

    def fsync(self, data_only: bool) -> None:
        if self.fd >= 0:
            fd = self.fd
            raise Later(lambda: os.fdatasync(fd) if data_only else os.fsync(fd), lambda _: None)

    def close(self) -> None:
        self.node.closed(self)
