"""Small blobs in the cache, many to a file.

    packs/<16 hex digits>      40 bytes (32 raw digest, 8 big-endian length) and the bytes, of one blob after the other

A file for each of them would cost more than all else that is done to fetch one. A pack is only ever appended to, by the one
process that holds an exclusive flock on it; when it is full it is sealed, and when its process ends, the next one that has
something to keep goes on with it. `packed` in the index (index.py) says where a blob is. So whoever knows the place of a blob
can read it as long as they have the file open, also when it was evicted meanwhile.

What a killed process had not written into the index yet is cut off by the next one. When the index is lost it is made anew
from what stands before each blob.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import struct
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NewType

from artfs.errors import BadBlobError, StorageError
from artfs.model.digests import digest_bytes
from artfs.store.cache.index import CacheIndex, PackRow

PACK_NBYTES = 8 * 1024 * 1024
"""A pack of so many bytes is sealed."""

_HEAD = struct.Struct(">32sQ")
_KEPT_OPEN = 64
_VECTORS = 1000
UNWRITTEN = 2048
"""Rows that wait for the index at the most."""
_TOLD = 4 * UNWRITTEN
"""Places that another process told and that are remembered: more than it may have told before the index knows them."""

CheckedBlob = NewType("CheckedBlob", tuple[str, bytes])
"""(digest, bytes), made by `check_blob`, or by who has just computed the digest of these bytes."""


def check_blob(digest: str, data: bytes | memoryview) -> CheckedBlob:
    """The door for small blobs. Raises BadBlobError unless `data` has that digest."""
    if digest_bytes(data) != digest:
        raise BadBlobError(f"blob {digest} came wrong: its {len(data)} bytes have another digest", digest)
    return CheckedBlob((digest, bytes(data)))


class Pack:
    """An open pack. `fd` is closed with the last reference to this object."""

    __slots__ = ("fd", "number", "path")

    def __init__(self, number: int, path: str, fd: int) -> None:
        self.number = number
        self.path = path
        self.fd = fd

    def __del__(self) -> None:
        with suppress(OSError):
            os.close(self.fd)


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a blob is: `size` bytes from `offset` on. They are unchecked."""

    pack: Pack
    offset: int
    size: int


class _Current:
    """The pack that this process appends to. `end`: its length; `written`: as far as the index knows."""

    __slots__ = ("end", "pack", "rows", "written")

    def __init__(self, pack: Pack, end: int) -> None:
        self.pack = pack
        self.end = self.written = end
        self.rows: list[tuple[bytes, int, int]] = []


class Packs:
    """All packs of a cache. Thread-safe.

    Arguments:
        root: their folder, which exists.
        size: of a pack, in bytes.
    Attributes:
        on_append: called with what was appended: the pack's number and name, and (raw digest, offset, size) of each blob. The
            index knows it at most `UNWRITTEN` blobs later. It must not call back.
    """

    def __init__(self, root: str, index: CacheIndex, size: int = PACK_NBYTES) -> None:
        self._root = root
        self._index = index
        self._size = size
        self._lock = threading.Lock()
        self._current: _Current | None = None
        self._unwritten: dict[bytes, Spot] = {}
        self._open: OrderedDict[int, Pack] = OrderedDict()
        self._open_lock = threading.Lock()
        self._used: set[int] = set()
        self._told: OrderedDict[bytes, tuple[int, str, int, int]] = OrderedDict()
        self.on_append: Callable[[int, str, list[tuple[bytes, int, int]]], None] = lambda number, name, rows: None

    # reading ----------------------------------------------------------------------------------------------------
    def find(self, digest: str) -> Spot | None:
        """None: it is in no pack. Raises StorageError."""
        raw = bytes.fromhex(digest)
        spot = self._unwritten.get(raw) or self._find_told(raw)
        if spot is None:
            found = self._index.find_packed(raw)
            pack = None if found is None else self._open_pack(found.pack, found.name)
            if found is None or pack is None:
                return None
            spot = Spot(pack, found.offset, found.size)
        self._used.add(spot.pack.number)
        return spot

    def told(self, pack: int, name: str, rows: Iterable[tuple[bytes, int, int]]) -> None:
        """Another process says what it has appended, as its `on_append` was told."""
        self._told.update((raw, (pack, name, offset, size)) for raw, offset, size in rows)
        while len(self._told) > _TOLD:
            self._told.popitem(last=False)

    def _find_told(self, raw: bytes) -> Spot | None:
        known = self._told.get(raw)
        if known is None:
            return None
        number, name, offset, size = known
        pack = self._open_pack(number, name)
        return None if pack is None else Spot(pack, offset, size)

    def which(self, digests: Iterable[str]) -> set[str]:
        """Those that are in packs. Raises StorageError."""
        with self._lock:
            self._check_current()
        found: set[str] = set()
        asked: list[bytes] = []
        for digest in digests:
            raw = bytes.fromhex(digest)
            if raw in self._unwritten or self._find_told(raw) is not None:
                found.add(digest)
            else:
                asked.append(raw)
        found.update(raw.hex() for raw in self._index.which_packed(asked))
        return found

    def try_read(self, digest: str) -> bytes | None:
        """All bytes, unchecked. None: it is in no pack. Raises StorageError."""
        spot = self.find(digest)
        if spot is None:
            return None
        try:
            return os.pread(spot.pack.fd, spot.size, spot.offset)
        except OSError as error:
            raise StorageError.wrap(error, f"reading the cached blob {digest}") from error

    def _open_pack(self, number: int, name: str) -> Pack | None:
        with self._open_lock:
            pack = self._open.get(number)
            if pack is not None:
                self._open.move_to_end(number)
                return pack
        path = f"{self._root}/{name}"
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            self._index.remove_pack(number)
            return None
        except OSError as error:
            raise StorageError.wrap(error, f"opening the cached blobs {path}") from error
        pack = Pack(number, path, fd)
        with self._open_lock:
            pack = self._open.setdefault(number, pack)
            while len(self._open) > _KEPT_OPEN:
                self._open.popitem(last=False)
        return pack

    # writing ----------------------------------------------------------------------------------------------------
    def append(self, blobs: Sequence[CheckedBlob]) -> None:
        """Raises OSError, StorageError; then none of them (of the last thousand, if there are more) is kept."""
        for start in range(0, len(blobs), _VECTORS // 2):
            with self._lock:
                self._append(blobs[start : start + _VECTORS // 2])

    def _append(self, blobs: Sequence[CheckedBlob]) -> None:
        self._check_current()
        current = self._current
        if current is None:
            current = self._current = self._begin()
        vectors: list[bytes] = []
        rows: list[tuple[bytes, int, int]] = []
        at = current.end
        for digest, data in blobs:
            raw = bytes.fromhex(digest)
            vectors += (_HEAD.pack(raw, len(data)), data)
            rows.append((raw, at + _HEAD.size, len(data)))
            at += _HEAD.size + len(data)
        try:
            _write_all(current.pack.fd, vectors, current.end, at)
        except BaseException:
            with suppress(OSError):
                os.ftruncate(current.pack.fd, current.end)
            raise
        current.end = at
        current.rows += rows
        self._unwritten.update((raw, Spot(current.pack, offset, size)) for raw, offset, size in rows)
        self.on_append(current.pack.number, os.path.basename(current.pack.path), rows)
        if current.end >= self._size:
            self._seal(current)
        elif len(current.rows) >= UNWRITTEN:
            self._write_rows(current)

    def _check_current(self) -> None:
        """Lets go of a pack that somebody has removed: others cannot find what is in it."""
        if self._current is not None and not os.fstat(self._current.pack.fd).st_nlink:
            self._current = None
            self._unwritten.clear()

    def _begin(self) -> _Current:
        """A pack to append to: one that was left by a process that is gone, or a new one."""
        for row in self._index.unsealed_packs():
            current = self._adopt(row)
            if current is not None:
                return current
        name = secrets.token_hex(8)
        path = f"{self._root}/{name}"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        try:
            return _Current(Pack(self._index.add_pack(name), path, fd), 0)
        except BaseException:
            os.unlink(path)
            raise

    def _adopt(self, row: PackRow) -> _Current | None:
        path = f"{self._root}/{row.name}"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            self._index.remove_pack(row.number)
            return None
        pack = Pack(row.number, path, fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        # Its last process may have gone on since the row was read; another may have evicted it.
        now = self._index.pack(row.number)
        if now is None or now.sealed or os.fstat(fd).st_size < now.nbytes:
            return None
        os.ftruncate(fd, now.nbytes)
        return _Current(pack, now.nbytes)

    def _write_rows(self, current: _Current, *, sealed: bool = False) -> None:
        self._index.add_packed(current.pack.number, current.rows, current.end, sealed=sealed)
        for raw, _, _ in current.rows:
            self._unwritten.pop(raw, None)
        current.rows = []
        current.written = current.end

    def _seal(self, current: _Current) -> None:
        self._write_rows(current, sealed=True)
        with self._open_lock:
            # Read from it as before, without holding the lock of whoever writes.
            self._open.pop(current.pack.number, None)
        fcntl.flock(current.pack.fd, fcntl.LOCK_UN)
        self._current = None

    def forget(self, digest: str) -> bool:
        """It is wrong: its bytes are dead. Whether it was there. Raises StorageError."""
        raw = bytes.fromhex(digest)
        self._told.pop(raw, None)
        with self._lock:
            current = self._current
            if current is not None and self._unwritten.pop(raw, None) is not None:
                current.rows = [row for row in current.rows if row[0] != raw]
                return True
        return self._index.remove_packed(raw)

    # the whole --------------------------------------------------------------------------------------------------
    def flush(self) -> None:
        """Writes down what came and what was used. Raises StorageError."""
        with self._lock:
            # Also when all that came was forgotten again: its bytes are there.
            if self._current is not None and self._current.written != self._current.end:
                self._write_rows(self._current)
        used, self._used = self._used, set()
        if used:
            self._index.touch_packs(used)
        with self._open_lock:
            # Whoever evicted it gave the disk nothing as long as we have it open.
            for number in [number for number, pack in self._open.items() if not os.fstat(pack.fd).st_nlink]:
                del self._open[number]

    def evict(self, row: PackRow) -> bool:
        """Removes a pack, unless somebody writes to it or most of it is pinned; what is pinned of it is kept elsewhere. Raises
        StorageError, OSError."""
        with self._lock:
            if self._current is not None and self._current.pack.number == row.number:
                if self._current.rows or self._current.end:
                    self._seal(self._current)
                self._current = None
        try:
            fd = os.open(f"{self._root}/{row.name}", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            self._index.remove_pack(row.number)
            return True
        pack = Pack(row.number, f"{self._root}/{row.name}", fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        pinned = self._index.pinned_in_pack(row.number)
        if 2 * sum(size for _, _, size in pinned) > row.nbytes:
            return False
        self._index.remove_pack(row.number)
        # The rows first: whoever takes one of them in afterwards gets a new row.
        self._move(pack, pinned)
        with suppress(FileNotFoundError):
            os.unlink(pack.path)
        with self._open_lock:
            self._open.pop(row.number, None)
        return True

    def _move(self, pack: Pack, pinned: Iterable[tuple[bytes, int, int]]) -> None:
        for raw, offset, size in pinned:
            with suppress(BadBlobError):
                self.append([check_blob(raw.hex(), os.pread(pack.fd, size, offset))])

    def names(self) -> list[str]:
        return sorted(name for name in os.listdir(self._root) if len(name) == 16)

    def scan(self, name: str) -> Iterator[tuple[bytes, int, int]]:
        """(raw digest, offset, size) of what stands in a pack, as far as it makes sense. Raises OSError."""
        with open(f"{self._root}/{name}", "rb", buffering=0) as stream:
            yield from scan_pack(stream.fileno())

    def close(self) -> None:
        """Raises StorageError; what is not in the index then is lost."""
        try:
            self.flush()
        finally:
            with self._lock, self._open_lock:
                self._current = None
                self._unwritten.clear()
                self._open.clear()


def scan_pack(fd: int) -> Iterator[tuple[bytes, int, int]]:
    """See Packs.scan."""
    length = os.fstat(fd).st_size
    at = 0
    while len(head := os.pread(fd, _HEAD.size, at)) == _HEAD.size:
        raw, size = _HEAD.unpack(head)
        at += _HEAD.size
        if at + size > length or not any(raw):
            return
        yield raw, at, size
        at += size


def _write_all(fd: int, vectors: list[bytes], offset: int, end: int) -> None:
    done = offset + os.pwritev(fd, vectors, offset)
    if done < end:  # a disk that is nearly full takes a part
        rest = memoryview(b"".join(vectors))[done - offset :]
        while rest:
            written = os.pwrite(fd, rest, done)
            done += written
            rest = rest[written:]
