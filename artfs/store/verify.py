"""Hashing: the SHA-256 that names a blob and, for blobs over 1 MiB, the BLAKE3 of each 256 KiB block.

Both libraries release the interpreter lock, so a large stream's SHA-256 is computed on a second thread while the
calling one reads, copies and computes the BLAKE3 of the same buffer.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from types import TracebackType
from typing import NamedTuple, Self

from blake3 import blake3

from artfs.errors import SourceChangedError
from artfs.model.blocklist import encode_block_list
from artfs.model.digests import BLOCK_SIZE, BLOCKS_ABOVE, digest_bytes
from artfs.model.records import Content
from artfs.store.linux import aligned_buffer, start_writeback

Readable = bytes | bytearray | memoryview
OnBytes = Callable[[int], None]
"""Called with the number of bytes done since the last call."""

_CHUNK = 1024 * 1024
_CHUNKS = 4
_WRITEBACK = 32 * 1024 * 1024


class Hashed(NamedTuple):
    """`block_objects`: what `encode_block_list` made, the top last; () for a blob of at most 1 MiB."""

    content: Content
    block_objects: tuple[bytes, ...]


class BlockHasher:
    """BLAKE3 of each 256 KiB block of a stream that comes in pieces of any length."""

    def __init__(self) -> None:
        self._hashes = bytearray()
        self._partial = blake3()
        self._filled = 0

    def update(self, data: Readable) -> None:
        view = memoryview(data)
        at = 0
        if self._filled:
            at = min(BLOCK_SIZE - self._filled, len(view))
            self._partial.update(view[:at])
            self._filled += at
            if self._filled < BLOCK_SIZE:
                return
            self._hashes += self._partial.digest()
            self._filled = 0
        whole = at + (len(view) - at) // BLOCK_SIZE * BLOCK_SIZE
        for start in range(at, whole, BLOCK_SIZE):
            self._hashes += blake3(view[start : start + BLOCK_SIZE]).digest()
        if whole < len(view):
            self._partial = blake3(view[whole:])
            self._filled = len(view) - whole

    def finish(self) -> bytes:
        """All hashes, concatenated. Nothing may be added afterwards."""
        if self._filled:
            self._hashes += self._partial.digest()
            self._filled = 0
        return bytes(self._hashes)


class StreamHasher:
    """What a stream's content is, without keeping its bytes. Not thread-safe."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._blocks = BlockHasher()
        self._size = 0

    @property
    def size(self) -> int:
        """Bytes seen so far."""
        return self._size

    def update(self, data: Readable) -> None:
        self._sha256.update(data)
        self._blocks.update(data)
        self._size += len(data)

    def finish(self) -> Hashed:
        """The content of everything seen. Nothing may be added afterwards."""
        return _hashed(self._sha256.hexdigest(), self._size, self._blocks)


def hash_bytes(data: Readable) -> Hashed:
    """The content of a whole blob in memory."""
    if len(data) <= BLOCKS_ABOVE:
        return Hashed(Content(digest_bytes(data), len(data)), ())
    hasher = StreamHasher()
    hasher.update(data)
    return hasher.finish()


def hash_file(fd: int, size: int, *, on_bytes: OnBytes | None = None) -> Hashed:
    """The content of an open file of `size` bytes, read from its beginning; the descriptor's own position stays.

    Raises SourceChangedError when the file turns out longer or shorter, OSError when it cannot be read.
    """
    return copy_hashing(fd, None, size, on_bytes=on_bytes)


def copy_hashing(source: int, target: int | None, size: int, *, on_bytes: OnBytes | None = None) -> Hashed:
    """Like hash_file, and writes the bytes that were hashed to `target`, from its beginning.

    Write-back of `target` begins while the copy goes on, so that a sync afterwards is short.
    """
    blocks = BlockHasher() if size > BLOCKS_ABOVE else None
    digest = _hash_through(source, target, size, blocks, on_bytes)
    return Hashed(Content(digest, size), ()) if blocks is None else _hashed(digest, size, blocks)


def digest_file(fd: int, size: int, *, on_bytes: OnBytes | None = None) -> str:
    """Only the SHA-256 of what hash_file reads, for a file whose block list is not wanted."""
    return _hash_through(fd, None, size, None, on_bytes)


def copy_digesting(source: int, target: int, size: int, *, on_bytes: OnBytes | None = None) -> str:
    """Only the SHA-256 of what copy_hashing copies."""
    return _hash_through(source, target, size, None, on_bytes)


def _hash_through(
    source: int, target: int | None, size: int, blocks: BlockHasher | None, on_bytes: OnBytes | None
) -> str:
    if size <= BLOCKS_ABOVE:
        data = read_small(source, size)
        if target is not None:
            write_all(target, data, 0)
        if on_bytes is not None:
            on_bytes(size)
        return digest_bytes(data)
    done = 0
    written_back = 0
    with _Sha256Thread() as sha256:
        while got := os.preadv(source, [buffer := sha256.free_buffer()], done):
            view = buffer[:got]
            sha256.update(buffer, got)
            if target is not None:
                write_all(target, view, done)
                if done + got - written_back >= _WRITEBACK:
                    start_writeback(target, written_back, done + got - written_back)
                    written_back = done + got
            if blocks is not None:
                blocks.update(view)
            done += got
            if done > size:
                break
            if on_bytes is not None:
                on_bytes(got)
    if done != size:
        raise SourceChangedError(f"the file changed while it was read: {size} bytes became {done}")
    return sha256.hexdigest()


def read_small(fd: int, size: int) -> bytes:
    """All of an open file that has `size` bytes. Raises SourceChangedError when it has not, OSError."""
    # Nearly always one read: it asks for one byte more, so that a longer file is noticed.
    data = os.pread(fd, size + 1, 0)
    while len(data) < size and (more := os.pread(fd, size + 1 - len(data), len(data))):
        data += more
    if len(data) != size:
        raise SourceChangedError(f"the file changed while it was read: it has not {size} bytes any more")
    return data


def write_all(fd: int, data: Readable, offset: int) -> None:
    """Writes all of `data` at `offset`. Raises OSError."""
    written = os.pwrite(fd, data, offset)
    if written < len(data):
        view = memoryview(data)
        while written < len(view):
            written += os.pwrite(fd, view[written:], offset + written)


def _hashed(digest: str, size: int, blocks: BlockHasher) -> Hashed:
    if size <= BLOCKS_ABOVE:
        return Hashed(Content(digest, size), ())
    objects = tuple(encode_block_list(size, blocks.finish()))
    return Hashed(Content(digest, size, digest_bytes(objects[-1])), objects)


class _Sha256Thread:
    """SHA-256 of a stream on a thread of its own, with a fixed set of buffers that go round."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._free: SimpleQueue[memoryview] = SimpleQueue()
        self._todo: SimpleQueue[tuple[memoryview, int] | None] = SimpleQueue()
        for _ in range(_CHUNKS):
            self._free.put(aligned_buffer(_CHUNK))
        self._thread = threading.Thread(target=self._run, name="artfs-sha256", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._todo.put(None)
        self._thread.join()

    def free_buffer(self) -> memoryview:
        """Waits for a buffer that nobody reads. The caller fills it and gives it to `update`, and may read (not write)
        it until it asks for the next one."""
        return self._free.get()

    def update(self, buffer: memoryview, nbytes: int) -> None:
        self._todo.put((buffer, nbytes))

    def hexdigest(self) -> str:
        """After the `with`."""
        return self._sha256.hexdigest()

    def _run(self) -> None:
        while (item := self._todo.get()) is not None:
            buffer, nbytes = item
            self._sha256.update(buffer[:nbytes])
            self._free.put(buffer)
