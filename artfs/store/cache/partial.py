"""A large blob of which some blocks are here: a sparse file and a map.

All processes that have the blob open share the map:

    0      16 bytes   b"artfs map 1\\n", padded with NULs
    16     8 bytes    size of the blob, big-endian
    24     32 bytes   raw digest of its block list's top
    56     8 bytes    inode number of the data's file: a map that outlived its file says nothing of the next one (which removes
                      it, as the number may be given out again)
    64     a byte for each block: 1 when it was found right and written
    …      a byte for each page of hashes (256 KiB, of 8,192 blocks): 1 when they are here
    …      from the next multiple of 4,096 on: 32 bytes for each block, its BLAKE3 hash, where these do not stand in the top

A byte is set after what it speaks of was written, so a process that is killed leaves nothing wrong. After a power cut
anything may be: whoever reads checks first, and pages of hashes are checked against the top when they are first used.

It is read and written by system calls and not mapped: whoever has a file mapped that becomes shorter (a repaired disk, a person
with `truncate`) dies of it. A look costs 0.6 µs instead of 0.05, and there are few in a block of 256 KiB.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from artfs.errors import BadBlobError, BadObjectError, StorageError
from artfs.model.blocklist import HASH_LENGTH, HASHES_PER_BLOCK, BlockList, block_count, hash_block
from artfs.model.digests import BLOCK_SIZE

_HEAD = struct.Struct(">16sQ32sQ")
_MAGIC = b"artfs map 1\n"
_PRESENT_AT = _HEAD.size
_KNOWN_PAGES = 8
"""Checked pages of hashes in memory, at the most: 2 MiB, for 16 GiB of a blob."""
_TRIES = 100
_PAUSE_S = 0.002
"""Who makes a file needs it alone for less than that."""


class Partial:
    """Thread-safe; several processes may have one blob open, each with its own Partial.

    Attributes:
        digest, size: of the blob; bytes.
        count: how many blocks it has.
        fd: the data, open for reading and writing, with a shared flock.
        path: of the data; "": it is in memory only, where nothing is kept.
    """

    def __init__(self, path: str, digest: str, blocks: str, top: BlockList) -> None:
        """Opens the files, making them when missing. `top`: the block list `blocks`, checked. Without `path` there are none:
        for a disk without room. Raises StorageError."""
        self.digest = digest
        self.size = top.size
        self.count = top.count
        self.path = path
        self._top = top
        self._pages = -(-self.count // HASHES_PER_BLOCK)
        self._pages_at = _PRESENT_AT + self.count
        self._hashes_at = -(-(self._pages_at + self._pages) // 4096) * 4096
        self._known: dict[int, bytes] = {}
        self._lock = threading.Lock()
        self._write_lock = threading.Lock()
        try:
            self.fd = _open_locked(path, self.size) if path else os.memfd_create(digest[:16], os.MFD_CLOEXEC)
            try:
                if os.fstat(self.fd).st_size != self.size:
                    os.ftruncate(self.fd, self.size)
                self._map_fd = self._open_map(f"{path}.map", bytes.fromhex(blocks))
            except BaseException:
                os.close(self.fd)
                raise
        except OSError as error:
            raise StorageError.wrap(error, f"opening the cached blob {digest}") from error

    def _open_map(self, path: str, blocks: bytes) -> int:
        head = _HEAD.pack(_MAGIC, self.size, blocks, os.fstat(self.fd).st_ino)
        length = self._hashes_at + self.count * HASH_LENGTH
        if not self.path:
            fd = os.memfd_create(f"{self.digest[:16]}.map", os.MFD_CLOEXEC)
            os.ftruncate(fd, length)
            return fd
        while True:
            try:
                fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError:
                _make_map(path, head, self._hashes_at, length)
                continue
            try:
                if os.pread(fd, len(head), 0) == head and os.fstat(fd).st_size == length:
                    return fd
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)
            # Torn, or of another file or block list. Not changed in place: somebody may be at it.
            with suppress(FileNotFoundError):
                os.unlink(path)

    def _look(self, at: int, nbytes: int) -> bytes:
        """Bytes of the map; what is not there any more, or cannot be read, is zeros: nothing is here."""
        try:
            data = os.pread(self._map_fd, nbytes, at)
        except OSError:
            data = b""
        return data if len(data) == nbytes else data.ljust(nbytes, b"\0")

    def _set(self, at: int, data: bytes) -> None:
        """Raises OSError, also after `close`."""
        with self._lock:
            done = 0
            while done < len(data):
                done += os.pwrite(self._map_fd, data[done:], at + done)

    @contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError.wrap(error, f"noting what is here of the cached blob {self.digest}") from error

    # what is here -----------------------------------------------------------------------------------------------
    def has(self, index: int) -> bool:
        return self._look(_PRESENT_AT + index, 1) != b"\0"

    def missing(self, first: int, stop: int) -> list[int]:
        """The blocks of first … stop - 1 that are not here."""
        view = self._look(_PRESENT_AT + first, stop - first)
        if 0 not in view:
            return []
        return [first + at for at, here in enumerate(view) if not here]

    @property
    def blocks_here(self) -> int:
        return self.count - self._look(_PRESENT_AT, self.count).count(0)

    @property
    def is_complete(self) -> bool:
        return 0 not in self._look(_PRESENT_AT, self.count)

    def span(self, index: int) -> tuple[int, int]:
        """(offset, length) of a block in bytes."""
        offset = index * BLOCK_SIZE
        return offset, min(BLOCK_SIZE, self.size - offset)

    # hashes -----------------------------------------------------------------------------------------------------
    @property
    def lower(self) -> str:
        """The digest of the blob that has the hashes; "" when they stand in the top."""
        return self._top.lower.hex()

    @property
    def lower_size(self) -> int:
        return self._top.lower_size

    def missing_hashes(self, first: int, stop: int) -> list[int]:
        """The pages of hashes that the blocks first … stop - 1 need and that are not here (or not right)."""
        if not self._top.lower:
            return []
        pages = range(first // HASHES_PER_BLOCK, (stop - 1) // HASHES_PER_BLOCK + 1)
        return [page for page in pages if not self._has_page(page)]

    def page_span(self, page: int) -> tuple[int, int]:
        """(offset, length) of a page in the lower list, in bytes."""
        offset = page * BLOCK_SIZE
        return offset, min(BLOCK_SIZE, self.count * HASH_LENGTH - offset)

    def put_hashes(self, page: int, data: bytes | memoryview) -> None:
        """Raises BadObjectError when it is not that page of the list, StorageError."""
        offset, nbytes = self.page_span(page)
        if not self._top.lower:
            return  # they stand in the top
        if len(data) != nbytes or hash_block(data) != self._top.hash_at(page):
            raise BadObjectError(f"the block list of blob {self.digest} came wrong (page {page})", self.lower)
        with self._noting():
            self._set(self._hashes_at + offset, bytes(data))
            self._set(self._pages_at + page, b"\1")

    def _has_page(self, page: int) -> bool:
        return self._look(self._pages_at + page, 1) != b"\0" and self._page(page) is not None

    def _page(self, page: int) -> bytes | None:
        """A page of hashes, checked; None: it is not here, or not right (any more). Some are remembered."""
        known = self._known.get(page)
        if known is not None:
            return known
        offset, nbytes = self.page_span(page)
        hashes = self._look(self._hashes_at + offset, nbytes)
        if hash_block(hashes) != self._top.hash_at(page):
            return None
        if len(self._known) >= _KNOWN_PAGES:
            self._known.clear()
        self._known[page] = hashes
        return hashes

    def hash_of(self, index: int) -> bytes:
        """Raises LookupError when its page is not here."""
        if not self._top.lower:
            return self._top.hash_at(index)  # the map may have rotted since
        page, at = divmod(index, HASHES_PER_BLOCK)
        hashes = self._page(page)
        if hashes is None:
            raise LookupError(index)
        return hashes[at * HASH_LENGTH : (at + 1) * HASH_LENGTH]

    def all_hashes(self) -> bytes:
        """Raises LookupError when some are not here."""
        if not self._top.lower:
            return self._top.hashes
        found = bytearray()
        for page in range(self._pages):
            hashes = self._page(page)
            if hashes is None:
                raise LookupError(page * HASHES_PER_BLOCK)
            found += hashes
        return bytes(found)

    # blocks -----------------------------------------------------------------------------------------------------
    def check(self, index: int, data: bytes | memoryview) -> None:
        """Raises BadBlobError unless `data` is block `index`, LookupError when its hash is not here."""
        _, nbytes = self.span(index)
        if len(data) != nbytes:
            raise BadBlobError(
                f"blob {self.digest}: block {index} has {len(data)} bytes instead of {nbytes}", self.digest
            )
        if hash_block(data) != self.hash_of(index):
            raise BadBlobError(f"blob {self.digest} is damaged in block {index} (offset {index * BLOCK_SIZE})", self.digest)

    def write(self, index: int, data: bytes | memoryview) -> None:
        """Keeps a block that was checked. Raises OSError."""
        offset, _ = self.span(index)
        # One at a time: a file system lets two in no more, but has the second one spin on a processor meanwhile.
        with self._write_lock:
            done = 0
            while done < len(data):
                done += os.pwrite(self.fd, memoryview(data)[done:], offset + done)
        self._set(_PRESENT_AT + index, b"\1")

    def read(self, index: int) -> bytes:
        """A block as it is on the disk, unchecked. Raises OSError."""
        offset, nbytes = self.span(index)
        data = os.pread(self.fd, nbytes, offset)
        if len(data) != nbytes:
            raise OSError(errno.EIO, "the cached file is too short", self.path)
        return data

    def mark_all(self) -> None:
        """All blocks are here, as far as anybody knows. Raises StorageError."""
        with self._noting():
            self._set(_PRESENT_AT, b"\1" * self.count)

    def drop(self, indexes: Sequence[int]) -> None:
        """Forgets blocks that were found wrong. Raises StorageError."""
        with self._noting():
            for index in indexes:
                self._set(_PRESENT_AT + index, b"\0")

    def close(self) -> None:
        """Again is fine."""
        with self._lock:
            if self.fd >= 0:
                os.close(self.fd)
                self.fd = -1
                os.close(self._map_fd)
                self._map_fd = -1


class Complete:
    """A large blob that is all here: what `Partial` is for one that is not, as far as readers need it. `hashes`: of all
    blocks, checked. Takes over `fd`."""

    def __init__(self, digest: str, size: int, fd: int, hashes: bytes) -> None:
        self.digest = digest
        self.size = size
        self.count = block_count(size)
        self.fd = fd
        self.hashes = hashes
        self.is_complete = True

    def has(self, index: int) -> bool:
        return True

    def missing(self, first: int, stop: int) -> list[int]:
        return []

    def span(self, index: int) -> tuple[int, int]:
        """(offset, length) of a block in bytes."""
        offset = index * BLOCK_SIZE
        return offset, min(BLOCK_SIZE, self.size - offset)

    def check(self, index: int, data: bytes | memoryview) -> None:
        """Raises BadBlobError unless `data` is block `index`."""
        wanted = self.hashes[index * HASH_LENGTH : (index + 1) * HASH_LENGTH]
        if len(data) != self.span(index)[1] or hash_block(data) != wanted:
            raise BadBlobError(f"blob {self.digest} is damaged in block {index} (offset {index * BLOCK_SIZE})", self.digest)

    def close(self) -> None:
        """Again is fine."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def read_map_head(path: str) -> tuple[str, int]:
    """(digest of the block list, size of the blob) that a map is for; ("", 0) when it is none."""
    try:
        with open(path, "rb") as stream:
            magic, size, blocks, _ = _HEAD.unpack(stream.read(_HEAD.size))
    except (OSError, struct.error):
        return "", 0
    return (blocks.hex(), size) if magic.rstrip(b"\0") == _MAGIC else ("", 0)


def _make_map(path: str, head: bytes, marks: int, length: int) -> None:
    """An empty map, unless there is one meanwhile. Its room is taken at once, so that a full disk is met here; but not
    that of the hashes, which may never come. Raises OSError."""
    aside = f"{path}.{secrets.token_hex(8)}"
    fd = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(fd, 0, marks)
        os.ftruncate(fd, length)
        os.pwrite(fd, head, 0)
        with suppress(FileExistsError):
            os.link(aside, path)
    finally:
        os.close(fd)
        os.unlink(aside)


def _open_locked(path: str, size: int) -> int:
    """The file, made when missing, with a shared flock. It has `size`, unless somebody cut it who still uses it. Raises OSError.

    A file gets its size after the map of the one before it has gone, with nobody else at it: a map that fits a file of the right
    size was made for it, also where the number of its inode was another's."""
    tries = 0
    is_taken = False
    while True:
        if is_taken:
            time.sleep(_PAUSE_S)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH)
            status = os.fstat(fd)
            if status.st_nlink:  # it was not evicted between the two calls
                if status.st_size == size or tries >= _TRIES:
                    return fd
                tries += 1
                is_taken = not _begin_anew(path, fd, size)
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _begin_anew(path: str, fd: int, size: int) -> bool:
    """Gives the file its size. False: somebody else uses it, who does that or has it open since before it was cut."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    if os.fstat(fd).st_nlink:  # the lock was not held while it was changed
        with suppress(FileNotFoundError):
            os.unlink(f"{path}.map")
        os.ftruncate(fd, size)
    return True
