"""A server's bytes in memory: a RangeSource that counts, and can be told to misbehave."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from artfs.errors import ArtfsError, BlobMissingError
from artfs.model.entry import DirEntry
from artfs.model.pages import IndexPage, decode_page
from artfs.model.records import Content
from artfs.store.verify import hash_bytes


class FakeSource:
    """Attributes:
    blobs: bytes by digest.
    calls: (method, what was asked for) in order.
    sent: how often each digest's bytes were sent (of a large one: a count of bytes, under its digest).
    spoil: called with (digest, offset, bytes) of everything that is sent; returns what is sent instead.
    fail: called with a method's name before it does anything; may raise an ArtfsError or wait.
    """

    def __init__(self, piece: int = 100_000) -> None:
        self.blobs: dict[str, bytes] = {}
        self.calls: list[tuple[str, object]] = []
        self.sent: Counter[str] = Counter()
        self.spoil: Callable[[str, int, bytes], bytes] = lambda digest, offset, data: data
        self.fail: Callable[[str], None] = lambda method: None
        self._piece = piece
        self._lock = threading.Lock()

    def add(self, data: bytes) -> Content:
        """Puts a blob there, with its block list."""
        content, objects = hash_bytes(data)
        self.blobs[content.digest] = data
        for made in objects:
            self.blobs[hash_bytes(made).content.digest] = made
        return content

    def _called(self, method: str, what: object) -> None:
        with self._lock:
            self.calls.append((method, what))
        self.fail(method)

    def count(self, method: str) -> int:
        return sum(called == method for called, _ in self.calls)

    def locate(self, digests: Sequence[str], lists: Sequence[str] = (), *, deadline: float) -> dict[str, bytes]:
        self._called("locate", tuple(digests))
        return {digest: self.spoil(digest, 0, self.blobs[digest]) for digest in lists if digest in self.blobs}

    def connect(self, *, deadline: float) -> None:
        self._called("connect", None)

    def read_trees(self, page: str, *, max_bytes: int, deadline: float) -> Iterator[tuple[str, bytes]]:
        self._called("read_trees", page)
        todo, seen, nbytes = [page], {page}, 0
        while todo and (nbytes < max_bytes or not nbytes):
            digest = todo.pop(0)
            if digest not in self.blobs:
                raise BlobMissingError(f"no tree {digest}", digest)
            data = self.spoil(digest, 0, self.blobs[digest])
            nbytes += len(data)
            yield digest, data
            try:
                decoded = decode_page(digest, data)
            except ArtfsError:
                return
            if isinstance(decoded, IndexPage):
                below = [item.digest for item in decoded.items]
            else:
                below = [entry.digest for entry in decoded.entries if isinstance(entry, DirEntry)]
            todo += [digest for digest in below if digest not in seen]
            seen.update(below)

    def read_small(
        self, digests: Sequence[str], *, deadline: float, nbytes: int | None = None
    ) -> Iterator[tuple[str, bytes]]:
        self._called("read_small", tuple(digests))
        for digest in digests:
            if digest in self.blobs:
                with self._lock:
                    self.sent[digest] += 1
                yield digest, self.spoil(digest, 0, self.blobs[digest])

    def read_range(
        self, digest: str, size: int, offset: int, nbytes: int, *, deadline: float
    ) -> Iterator[bytes | memoryview]:
        self._called("read_range", (digest, offset, nbytes))
        if digest not in self.blobs:
            raise BlobMissingError(f"no blob {digest}", digest)
        end = offset + nbytes
        while offset < end:
            data = self.blobs[digest][offset : min(offset + self._piece, end)]
            with self._lock:
                self.sent[digest] += len(data)
            yield self.spoil(digest, offset, data)
            offset += len(data)

    def close(self) -> None:
        """Nothing is open."""
