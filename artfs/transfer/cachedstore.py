"""The store of a server with the cache before it, as one store of this machine."""

from __future__ import annotations

import os
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from artfs.errors import BadBlobError, BlobMissingError, StorageError, UsageError
from artfs.model.digests import BLOCKS_ABOVE, digest_bytes
from artfs.model.records import Content
from artfs.store.base import OnSending, Place, SendingBatch, SendingStore, StoreBatch
from artfs.store.cache import CheckedBlob
from artfs.store.verify import StreamHasher, write_all
from artfs.transfer.fetch import Fetcher
from artfs.transfer.largeblob import LargeBlob
from artfs.transfer.together import Together

_AT_ONCE = 128
"""Blocks (32 MiB) that are waited for together when a whole blob is wanted."""
_PIECE = 4 * 1024 * 1024
_COMING = 256
"""Large blobs that are fetched before anybody opens them, at the most."""
_COMING_BELOW = 32 * 1024 * 1024
"""Larger ones are many ranges anyway when somebody does."""


class CachedStore:
    """See artfs.store.base.LocalStore. Thread-safe. What is written goes to the server (and trees to the cache as well,
    because they will be looked at).

    Arguments:
        remote: the server's store.
        fetcher: fills the cache; `fetcher.cache` is what is read.
        limit_s: how long nothing may come from the server, in seconds.
    """

    def __init__(self, remote: SendingStore, fetcher: Fetcher, *, limit_s: float = 30.0) -> None:
        self.remote = remote
        self.fetcher = fetcher
        self._cache = fetcher.cache
        self._limit_s = limit_s
        self._lock = threading.Lock()
        self._coming: OrderedDict[str, LargeBlob] = OrderedDict()  # what was announced

    @property
    def root(self) -> Path:
        return self._cache.root

    def path_of(self, digest: str) -> Path:
        return self._cache.path_of(digest)

    def try_size(self, digest: str) -> int | None:
        size = self._cache.try_size(digest)
        return self.remote.try_size(digest) if size is None else size

    def open_blob(self, digest: str, content: Content | None = None) -> int:
        """Fetches the whole blob first where it is not here. Its bytes are right when they come from the server now; what
        was here before is for the caller to check, as in any store."""
        fd = self._cache.try_open(digest)
        if fd is not None:
            return fd
        size = self.remote.try_size(digest) if content is None else content.size
        if size is None:
            raise BlobMissingError(f"the server has no blob {digest}, or you may not read it", digest)
        if size <= BLOCKS_ABOVE:
            return self._unnamed(self.fetcher.read_small(digest, size, timeout_s=self._limit_s), digest)
        if content is None or not content.blocks:
            return self._copy_whole(digest)
        return self._assemble(content)

    def _unnamed(self, data: bytes, digest: str) -> int:
        fd = self._cache.try_open(digest)
        if fd is not None:
            return fd
        with self._temporary(digest) as target:  # the cache has no room
            write_all(target.fd, data, 0)
            return target.keep()

    def will_read(self, contents: Iterable[Content]) -> None:
        small: list[tuple[str, int]] = []
        for content in contents:
            if content.size <= BLOCKS_ABOVE:
                small.append((content.digest, content.size))
            elif content.blocks and content.size <= _COMING_BELOW and not self._cache.has(content.digest):
                blob = self.fetcher.large(content.digest, content.size, content.blocks)
                blob.prefetch(0, blob.count)
                with self._lock:
                    self._coming[content.digest] = blob
                    given_up = [self._coming.popitem(last=False)[1] for _ in range(len(self._coming) - _COMING)]
                for other in given_up:
                    other.close()
        if small:
            self.fetcher.prefetch_small(small)

    def forget_damaged(self, digest: str) -> bool:
        if not self._cache.has(digest):
            return False
        self.fetcher.found_damaged(digest)
        return True

    def _came(self, digest: str) -> None:
        with self._lock:
            blob = self._coming.pop(digest, None)
        if blob is not None:
            blob.close()

    def _assemble(self, content: Content) -> int:
        """By blocks, many at once."""
        blob = self.fetcher.large(content.digest, content.size, content.blocks)
        self._came(content.digest)
        try:
            for first in range(0, blob.count, _AT_ONCE):
                stop = min(first + _AT_ONCE, blob.count)
                blob.prefetch(first, min(stop + _AT_ONCE, blob.count))
                blob.wait(first, stop, self._limit_s)
                if blob.file is None or blob.file.missing(first, stop):
                    break  # the cache has no room for all of it
            whole = blob.try_open_whole()
            if whole is not None:
                return whole
            # To a file without a name, what is here already included.
            with self._temporary(content.digest) as target:
                for offset in range(0, content.size, _PIECE):
                    write_all(target.fd, blob.read(offset, _PIECE, timeout_s=self._limit_s), offset)
                return target.keep()
        finally:
            blob.close()

    def _copy_whole(self, digest: str) -> int:
        """As one stream, checked at its end: nobody told its block list."""
        source = self.remote.open_blob(digest)
        hasher = StreamHasher()
        try:
            with self._temporary(digest) as target:
                at = 0
                while data := os.pread(source, BLOCKS_ABOVE, at):
                    hasher.update(data)
                    write_all(target.fd, data, at)
                    at += len(data)
                if hasher.finish().content.digest != digest:
                    raise BadBlobError(f"blob {digest} came wrong: its {at} bytes have another digest", digest)
                return target.keep()
        finally:
            os.close(source)

    def _temporary(self, digest: str) -> _Temporary:
        return _Temporary(f"{self._cache.root}/partial/.{secrets.token_hex(8)}.tmp", digest)

    def read(self, digest: str) -> bytes:
        return self.fetcher.read_small(digest, 0, timeout_s=self._limit_s)

    def read_page(self, digest: str) -> bytes:
        return self.fetcher.trees.page(digest)

    def begin(self, place: Place | None = None) -> SendingBatch:
        return _CachingBatch(self.remote.begin(place), self)

    def keep(self, data: bytes) -> None:
        """Keeps a page or block list that was just sent: it will be read."""
        self._cache.put(digest_bytes(data), data)

    def keep_small(self, blobs: list[CheckedBlob]) -> None:
        """As `keep`, many together."""
        here = self._cache.which([digest for digest, _ in blobs])
        self._cache.keep_small([blob for blob in blobs if blob[0] not in here])

    def send_again(self, batch: StoreBatch, digests: Iterable[str]) -> list[str]:
        lost = []
        for digest in digests:
            fd = self._cache.try_open(digest)
            if fd is None:
                lost.append(digest)
                continue
            try:
                if os.fstat(fd).st_size <= BLOCKS_ABOVE:
                    sent = batch.put_bytes(os.pread(fd, BLOCKS_ABOVE, 0))
                else:
                    # By its name in the cache, as the descriptor may be closed before it is sent.
                    sent = batch.put_file(self._cache.path_of(digest)).digest
            except OSError as error:
                raise StorageError.wrap(error, f"reading blob {digest} in the cache") from error
            finally:
                os.close(fd)
            if sent != digest:
                self.forget_damaged(digest)
                lost.append(digest)
        return lost

    def blobs(self) -> Iterator[tuple[str, int]]:
        raise UsageError("a server's blobs cannot be listed from here; `artfs verify NAME` checks those of a version")

    def remove(self, digest: str) -> None:
        raise UsageError("a server removes blobs by itself (`artfs gc` there)")


class _Temporary:
    """An open file without a name, closed at the end unless it was kept."""

    def __init__(self, path: str, digest: str) -> None:
        try:
            self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            os.unlink(path)
        except OSError as error:
            raise StorageError.wrap(error, f"fetching blob {digest}") from error
        self._digest = digest

    def keep(self) -> int:
        fd, self.fd = self.fd, -1
        return fd

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.fd >= 0:
            os.close(self.fd)
        if isinstance(error, OSError):
            raise StorageError.wrap(error, f"fetching blob {self._digest}") from error


class _CachingBatch:
    """A server's batch; what is put as bytes is kept here, too, at the latest when it is with the server."""

    def __init__(self, batch: SendingBatch, store: CachedStore) -> None:
        self._batch = batch
        self._store = store
        self._lock = threading.Lock()
        self._together = Together(store.keep_small)

    def __enter__(self) -> Self:
        self._batch.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._batch.__exit__(kind, error, trace)
        if kind is None:
            self._keep_all()

    def _keep_all(self) -> None:
        with self._lock:
            self._together.flush()

    def put_bytes(self, data: bytes) -> str:
        digest = self._batch.put_bytes(data)
        with self._lock:
            self._together.add(CheckedBlob((digest, data)))
        return digest

    def put_page(self, data: bytes) -> str:
        digest = self._batch.put_page(data)
        self._store.keep(data)
        return digest

    def put_file(
        self, path: str | os.PathLike[str], *, expect: Content | None = None,
        on_bytes: Callable[[int], None] | None = None,
    ) -> Content:
        return self._batch.put_file(path, expect=expect, on_bytes=on_bytes)

    def adopt_file(self, path: str | os.PathLike[str], content: Content, block_objects: tuple[bytes, ...]) -> None:
        self._batch.adopt_file(path, content, block_objects)
        for data in block_objects:
            self._store.keep(data)

    def send_open(self, fd: int, name: str, content: Content) -> None:
        self._batch.send_open(fd, name, content)

    def abandon(self) -> None:
        self._batch.abandon()

    def lacks(self, digests: Sequence[str]) -> set[str]:
        return self._batch.lacks(digests)

    def keep(self, path: str | os.PathLike[str], content: Content) -> None:
        self._store.fetcher.cache.take_file(path, content.digest)

    def tell(self, on_sending: OnSending) -> None:
        self._batch.tell(on_sending)

    def sync(self) -> None:
        self._keep_all()
        self._batch.sync()

