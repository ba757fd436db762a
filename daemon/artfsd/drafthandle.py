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
        begun = time.monotonic()
        if len(data) >= LARGE_WRITE and begun < draft.congested_until:
            raise Later(lambda: write_all(self.fd, data, offset), lambda _: self._wrote(offset, data))
        write_all(self.fd, data, offset)
        now = time.monotonic()
        if now - begun > SLOW_WRITE_S:
            draft.congested_until = now + CONGESTED_S
        return self._wrote(offset, data)

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
