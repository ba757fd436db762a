"""Reading blobs for the mount: open blobs shared by all handles, every byte checked before a reader sees it.

A blob over 1 MiB is checked block by block (256 KiB, BLAKE3 from its block list), a smaller one whole
(SHA-256); what was checked once stays trusted as long as the file's fingerprint (inode, size, mtime, ctime)
does. Descriptors of closed files are kept for a while, so that opening a hot file makes no system call.

Runs on the loop's thread, except what it puts into `Later`.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from typing import Any

from artfs.errors import ArtfsError, BadBlobError, BlobMissingError, CorruptError, StorageError
from artfs.model.digests import BLOCK_SIZE, BLOCKS_ABOVE
from artfs.model.entry import FileEntry
from artfs.store.base import LocalStore
from artfs.store.blocks import BlobChecker
from artfs.store.linux import aligned_buffer
from artfsd.inodes import FileHandle, Later

log = logging.getLogger(__name__)

IDLE_DESCRIPTORS = 256
"""How many descriptors of closed blobs are kept at least; at twice as many the oldest are closed."""

MAX_READ = 1024 * 1024
"""The largest request that the kernel sends, in bytes."""

_NOWAIT = getattr(os, "RWF_NOWAIT", 0)


class OpenBlob(FileHandle):
    """One blob that is open, or was a moment ago: all who open it share it. `checker` None: all of it was
    found right. `bad`: what is wrong with all of it; `damaged`: blocks that are, while the others can be read.
    `fd` -1: it was closed for good."""

    shared = True

    __slots__ = ("_blobs", "_checked", "_fingerprint", "_label", "bad", "checker", "damaged", "entry", "fd", "users")

    def __init__(self, blobs: Blobs, entry: FileEntry, fd: int, label: Callable[[], str]) -> None:
        super().__init__()
        self._blobs = blobs
        self.entry = entry
        self.fd = fd
        self.users = 0
        self.bad = ""
        self.damaged: dict[int, str] = {}
        self._label = label
        self._fingerprint = (-1, -1)
        self._checked = bytearray()
        self.checker: BlobChecker | None = None
        self._trust_or_restart()

    def label(self) -> str:
        return self._label()

    @property
    def is_open(self) -> bool:
        """False: it was closed for good."""
        return self.fd >= 0

    def _trust_or_restart(self) -> None:
        """Forgets what was checked when the file is not the same any more. Costs an fstat, 1 µs, at each read."""
        status = os.fstat(self.fd)
        fingerprint = (status.st_mtime_ns, status.st_ctime_ns)
        if fingerprint == self._fingerprint:
            return
        if status.st_nlink == 0 and status.st_mtime_ns == self._fingerprint[0]:
            # A sweep took its name away, and its block list: that is what the new ctime says.
            self._fingerprint = fingerprint
            return
        self._fingerprint = fingerprint
        if status.st_size != self.entry.size:
            self._condemn(f"the file has {status.st_size} bytes instead of {self.entry.size}")
            return
        self.bad = ""
        self.damaged.clear()
        self.checker = BlobChecker(self.entry.digest, self.entry.size, self._blobs.blocks_of(self.entry), self._blobs.load_object)
        self._checked = bytearray(self.checker.block_count)
        try:
            # Now and not when it is needed: an open file stays readable when its version was deleted and
            # swept.
            self.checker.prepare()
        except (CorruptError, BlobMissingError) as error:
            self._condemn(str(error))

    def _condemn(self, why: str) -> None:
        self.bad = self._tell(why)

    def _tell(self, why: str) -> str:
        said = f"{self._label()} is damaged: {why}; `artfs verify --store` tests all (blob {self.entry.digest})"
        log.error("%s", said)
        return said

    def read(self, offset: int, size: int) -> bytes | memoryview:
        self._trust_or_restart()
        if self.bad:
            raise BadBlobError(self.bad, self.entry.digest)
        end = min(offset + size, self.entry.size)
        if offset >= end:
            return b""
        if self.checker is None:
            return self._pread(offset, end - offset, None)
        if self.entry.size <= BLOCKS_ABOVE:
            return self._pread(0, self.entry.size, lambda data: self._check_whole(data)[offset:end])
        first, last = offset // BLOCK_SIZE, (end - 1) // BLOCK_SIZE
        if 0 not in self._checked[first : last + 1]:
            return self._pread(offset, end - offset, None)
        start = first * BLOCK_SIZE
        stop = min((last + 1) * BLOCK_SIZE, self.entry.size)
        return self._pread(
            start, stop - start, lambda data: self._check_blocks(first, data)[offset - start : end - start]
        )

    def _pread(self, offset: int, size: int, check: Callable[[memoryview], memoryview] | None) -> memoryview:
        buffer = self._blobs.buffer(size)
        try:
            got = os.preadv(self.fd, [buffer], offset, _NOWAIT)
        except BlockingIOError:
            got = -1
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            got = -1  # this file system cannot tell; a thread may wait
        if got == size:
            return buffer if check is None else check(buffer)
        raise Later(lambda: self._read_cold(offset, size), lambda data: data if check is None else check(data))

    def _read_cold(self, offset: int, size: int) -> memoryview:
        view = aligned_buffer(size)
        done = 0
        while done < size:
            got = os.preadv(self.fd, [view[done:]], offset + done)
            if got == 0:
                raise BadBlobError(f"blob {self.entry.digest} ends at byte {offset + done}", self.entry.digest)
            done += got
        return view

    def _check_whole(self, data: memoryview) -> memoryview:
        assert self.checker is not None
        self._guard(0, data)
        self.checker = None
        return data

    def _check_blocks(self, first: int, data: memoryview) -> memoryview:
        if self.checker is None:
            return data
        index = first
        for at in range(0, len(data), BLOCK_SIZE):
            index = first + at // BLOCK_SIZE
            if not self._checked[index]:
                self._guard(index, data[at : at + BLOCK_SIZE])
                self._checked[index] = 1
        if index == len(self._checked) - 1 and 0 not in self._checked:
            self.checker = None
        return data

    def _guard(self, index: int, block: memoryview) -> None:
        assert self.checker is not None
        if index in self.damaged:
            raise BadBlobError(self.damaged[index], self.entry.digest)
        try:
            self.checker.check_block(index, block)
        except (CorruptError, BlobMissingError) as error:
            self.damaged[index] = self._tell(str(error))
            raise BadBlobError(self.damaged[index], self.entry.digest) from error

    def take(self) -> None:
        """One more has it open."""
        if not self.users:
            self._blobs.taken()
        self.users += 1

    def close(self) -> None:
        self.users -= 1
        if not self.users:
            self._blobs.released(self)


class Blobs:
    """The blobs of a store, as the mount reads them. `on_drop` gets the handle number of a blob that is
    closed for good."""

    def __init__(self, store: LocalStore) -> None:
        self._store = store
        self._blobs: dict[bytes, OpenBlob] = {}  # oldest first; open or idle
        self._idle = 0
        self.on_drop: Callable[[int], None] = lambda number: None
        self._buffer = aligned_buffer(MAX_READ + 2 * BLOCK_SIZE)
        self.load_object: Callable[[str], bytes] = store.read

    def buffer(self, size: int) -> memoryview:
        """Room for one read. Shared: valid until the loop's next request, which is after the reply was
        sent."""
        if size > len(self._buffer):
            return aligned_buffer(size)
        return self._buffer[:size]

    @staticmethod
    def blocks_of(entry: FileEntry) -> str:
        return entry.blocks.hex() if entry.blocks else ""

    def prefetch(self, blobs: list[tuple[str, int]]) -> None:
        """(digest, size) of blobs that will be read soon: they are here already."""

    def open(self, entry: FileEntry, label: Callable[[], str]) -> OpenBlob:
        """The blob of `entry`, ready to read. `label` names the file in the log. Raises BlobMissingError,
        StorageError."""
        blob = self._blobs.get(entry.sha256)
        if blob is None:
            blob = self._blobs[entry.sha256] = OpenBlob(self, entry, self._descriptor(entry.digest, label), label)
            self._idle += 1
        blob.take()
        return blob

    def _descriptor(self, digest: str, label: Callable[[], str]) -> int:
        try:
            try:
                return self._store.open_blob(digest)
            except StorageError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE) or not self._idle:
                    raise
            self.drop_idle()  # theirs are the ones that nobody needs
            return self._store.open_blob(digest)
        except ArtfsError as error:
            log.error("cannot open %s: %s", label(), error)
            raise

    def taken(self) -> None:
        """An idle blob was opened."""
        self._idle -= 1

    def released(self, blob: OpenBlob) -> None:
        """Nobody has it open any more."""
        self._idle += 1
        if blob.bad or blob.damaged:
            self._drop(blob)  # who opens it next looks again
        elif self._idle > 2 * IDLE_DESCRIPTORS:
            self.drop_idle(keep=IDLE_DESCRIPTORS)

    def drop_idle(self, keep: int = 0) -> None:
        """Closes what nobody has open, so that deleted blobs give their space back; the `keep` youngest
        stay."""
        idle = [blob for blob in self._blobs.values() if not blob.users]
        for blob in idle[: len(idle) - keep]:
            self._drop(blob)

    def _drop(self, blob: OpenBlob) -> None:
        self._idle -= 1
        del self._blobs[blob.entry.sha256]
        os.close(blob.fd)
        blob.fd = -1
        self.on_drop(blob.number)

    def status(self) -> dict[str, Any]:
        return {"open": len(self._blobs) - self._idle, "idle": self._idle}
