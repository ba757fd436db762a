"""A store in memory, for tests and for artifacts that live only as long as the process."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Self

from artfs.errors import (
    BadBlobError,
    BlobMissingError,
    NotFoundError,
    SourceChangedError,
    StorageError,
    UsageError,
)
from artfs.model.digests import check_digest, digest_bytes
from artfs.model.records import Content
from artfs.store.base import Place
from artfs.store.layout import ignore_wait
from artfs.store.verify import OnBytes, hash_bytes


class MemoryStore:
    """See artfs.store.base.BlobStore. Nothing is durable; `sync` does nothing."""

    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {}
        self._changed = threading.Condition()
        self._batches = 0
        self._swept = False

    def try_size(self, digest: str) -> int | None:
        data = self._blobs.get(check_digest(digest))
        return None if data is None else len(data)

    def open_blob(self, digest: str, content: Content | None = None) -> int:
        data = self._get(digest)
        try:
            fd = os.memfd_create(f"artfs-{digest[:12]}", os.MFD_CLOEXEC)
            try:
                with open(fd, "wb", closefd=False) as stream:
                    stream.write(data)
                return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
            finally:
                os.close(fd)
        except OSError as error:
            raise StorageError.wrap(error, f"opening blob {digest}") from error

    def read(self, digest: str) -> bytes:
        data = self._get(digest)
        if digest_bytes(data) != digest:
            raise BadBlobError(f"blob {digest} is damaged: its {len(data)} bytes have another digest", digest)
        return data

    def read_page(self, digest: str) -> bytes:
        return self.read(digest)

    def begin(self, place: Place | None = None) -> MemoryBatch:
        return MemoryBatch(self)

    def blobs(self) -> Iterator[tuple[str, int]]:
        for digest, data in list(self._blobs.items()):
            yield digest, len(data)

    def remove(self, digest: str) -> None:
        self._blobs.pop(check_digest(digest), None)

    def replace(self, digest: str, data: bytes) -> None:
        """Puts wrong bytes under a name, as a disk that rots would. For tests of readers."""
        self._blobs[check_digest(digest)] = data

    @contextlib.contextmanager
    def exclusive(self, on_wait: Callable[[str], None] = ignore_wait) -> Iterator[None]:
        """Inside, no batch is under way and none begins. Waits for those that are, after telling `on_wait` so."""
        with self._changed:
            if self._batches or self._swept:
                on_wait("waiting for a commit or a push that is under way")
            self._changed.wait_for(lambda: not self._batches and not self._swept)
            self._swept = True
        try:
            yield
        finally:
            with self._changed:
                self._swept = False
                self._changed.notify_all()

    def enter_batch(self) -> None:
        """For MemoryBatch: waits for a sweep to end and keeps the next one away."""
        with self._changed:
            self._changed.wait_for(lambda: not self._swept)
            self._batches += 1

    def leave_batch(self) -> None:
        """For MemoryBatch."""
        with self._changed:
            self._batches -= 1
            self._changed.notify_all()

    def add(self, data: bytes, digest: str) -> None:
        """For MemoryBatch: keeps `data`, which has `digest`."""
        self._blobs.setdefault(digest, data)

    def _get(self, digest: str) -> bytes:
        data = self._blobs.get(check_digest(digest))
        if data is None:
            raise BlobMissingError(f"blob {digest} is not in the store", digest)
        return data


class MemoryBatch:
    """See artfs.store.base.StoreBatch. Puts raise RuntimeError outside of the `with`."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._entered = False

    def __enter__(self) -> Self:
        if self._entered:
            raise RuntimeError("a batch cannot be entered twice")
        self._store.enter_batch()
        self._entered = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered = False
        self._store.leave_batch()

    def put_bytes(self, data: bytes) -> str:
        self._check_entered()
        digest = digest_bytes(data)
        self._store.add(bytes(data), digest)
        return digest

    put_page = put_bytes

    def put_file(
        self, path: str | os.PathLike[str], *, expect: Content | None = None, on_bytes: OnBytes | None = None
    ) -> Content:
        self._check_entered()
        data = _read_file(path)
        content, block_objects = hash_bytes(data)
        if expect is not None and (expect.digest, expect.size) != (content.digest, content.size):
            raise SourceChangedError(f"{os.fspath(path)} has not the content any more that it had when it was added")
        self._store.add(data, content.digest)
        for item in block_objects:
            self.put_bytes(item)
        if on_bytes is not None:
            on_bytes(content.size)
        return content

    def adopt_file(self, path: str | os.PathLike[str], content: Content, block_objects: tuple[bytes, ...]) -> None:
        self._check_entered()
        if (digest_bytes(block_objects[-1]) if block_objects else "") != content.blocks:
            raise ValueError(f"these are not the block list objects of {content}")
        if os.path.islink(path):
            raise UsageError(f"{os.fspath(path)} is not a regular file")
        self.put_file(path, expect=content)

    def lacks(self, digests: Sequence[str]) -> set[str]:
        return {digest for digest in digests if self._store.try_size(digest) is None}

    def keep(self, path: str | os.PathLike[str], content: Content) -> None:
        """It has its bytes already."""

    def sync(self) -> None:
        self._check_entered()

    def _check_entered(self) -> None:
        if not self._entered:
            raise RuntimeError("a batch is used inside its `with` only")


def _read_file(path: str | os.PathLike[str]) -> bytes:
    if os.path.exists(path) and not os.path.isfile(path):
        raise UsageError(f"{os.fspath(path)} is not a regular file")
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except FileNotFoundError:
        raise NotFoundError(f"there is no file {os.fspath(path)}") from None
    except OSError as error:
        raise StorageError.wrap(error, f"reading {os.fspath(path)}") from error
