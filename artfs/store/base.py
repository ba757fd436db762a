"""Where bytes are: the interface of a durable blob store. The contract is `artfs.testing.store_contract`, a test suite
that every implementation passes.

One verifying door: bytes enter only through a `StoreBatch`, which computes (or, for staged files hashed at close,
re-checks the fingerprint of) every digest itself. What is behind the door may trust its names until rot is suspected.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from artfs.model.records import Content

Place = tuple[str, str]
"""A project: (entity, name)."""


class StoreBatch(Protocol):
    """One writer's set of new blobs, made durable together.

    As a context manager it holds the store's shared lock, so that a sweep cannot remove what it counts on (existing
    blobs included) before the catalog names it: commit the catalog row *inside* the `with`. Leaving it without `sync()`
    leaves whole but unreferenced blobs at most, which the next sweep frees; never a torn one under a digest's name.
    Thread-safe: several threads may put at once.
    """

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def put_bytes(self, data: bytes) -> str:
        """Stores `data` and returns its digest. Raises StorageError."""
        ...

    def put_page(self, data: bytes) -> str:
        """As `put_bytes`, for a page of a tree. Those of a batch lie together where that matters: they are read together."""
        ...

    def put_file(
        self, path: str | os.PathLike[str], *, expect: Content | None = None,
        on_bytes: Callable[[int], None] | None = None,
    ) -> Content:
        """Copies (or reflinks) the regular file at `path` in, hashing it on the way; a symbolic link is followed.

        Blobs over 1 MiB get their block lists stored, too. The copy is what is hashed, so a file edited meanwhile
        yields some consistent content or SourceChangedError (size or mtime moved while it was read), never wrong bytes.
        `expect`: raise SourceChangedError when the content differs. `on_bytes`: told how many bytes were done since the
        last call; what it raises ends the copy and is passed on. NotFoundError: there is no file.
        """
        ...

    def adopt_file(self, path: str | os.PathLike[str], content: Content, block_objects: tuple[bytes, ...]) -> None:
        """Takes a staged file in without copying when it is on the store's file system: adds a name in the store to it
        and makes it 0444 (the caller removes the staged name after the catalog row is durable); copies otherwise.

        The caller vouches that `content` was computed from exactly these bytes. `block_objects`: what
        `encode_block_list` made, in its order.
        """
        ...

    def lacks(self, digests: Sequence[str]) -> set[str]:
        """Those that the store (or the project) has not, and that were not put. Raises StorageError."""
        ...

    def keep(self, path: str | os.PathLike[str], content: Content) -> None:
        """After the catalog row is durable: the staged file at `path`, which was adopted, is not needed any more, and may be
        moved to where it will be read from. Best effort; what could not be moved is still there."""
        ...

    def sync(self) -> None:
        """Makes everything put so far durable (data, names, directories). Raises StorageError; then nothing counts."""
        ...


OnSending = Callable[[int, int], None]
"""Told bytes that were sent, and those that are to be sent in all, as far as is known."""


@runtime_checkable
class SendingBatch(StoreBatch, Protocol):
    """What is put is sent to a server."""

    def tell(self, on_sending: OnSending) -> None:
        """Has `sync` tell, while it waits, how far sending is; on its own thread."""
        ...

    def send_open(self, fd: int, name: str, content: Content) -> None:
        """Sends the open regular file, whatever its name is by now. The caller vouches for `content`, as in
        `adopt_file`, and may close `fd` at once; `name` is for messages. Raises SourceChangedError when it has another size;
        what goes wrong later, `sync` raises."""
        ...

    def abandon(self) -> None:
        """From any thread: cuts what is under way, so that nothing waits for the server any more. The others' calls raise
        UnavailableError from then on."""
        ...


class BlobStore(Protocol):
    def try_size(self, digest: str) -> int | None:
        """The blob's size in bytes, or None when it is not here."""
        ...

    def open_blob(self, digest: str, content: Content | None = None) -> int:
        """A read-only file descriptor (close-on-exec) that the caller closes. Raises BlobMissingError, StorageError.
        A blob swept later stays readable through it (the descriptor is the lease). `content`: what is known of the blob;
        with it a store that must fetch it first can do so in parts, at once."""
        ...

    def read(self, digest: str) -> bytes:
        """The whole blob, checked. For small ones (trees, block lists). Raises BlobMissingError, BadBlobError."""
        ...

    def read_page(self, digest: str) -> bytes:
        """A tree page, checked: as `read`, but a store that must fetch it brings those below it along."""
        ...

    def begin(self, place: Place | None = None) -> StoreBatch:
        """`place`: the project that the blobs are for. A store that keeps rights by project (a server's) needs it
        (UsageError without), others do not look at it."""
        ...

    def blobs(self) -> Iterator[tuple[str, int]]:
        """(digest, size) of every blob, in no order."""
        ...

    def remove(self, digest: str) -> None:
        """Removes a blob; not there is fine. Only the sweep calls it, under the exclusive lock."""
        ...


class SendingStore(BlobStore, Protocol):
    """A server's."""

    def begin(self, place: Place | None = None) -> SendingBatch: ...


@runtime_checkable
class FarStore(BlobStore, Protocol):
    """A store that fetches its blobs from elsewhere, and keeps some of them on this machine."""

    def will_read(self, contents: Iterable[Content]) -> None:
        """These will be opened soon, in this order: fetching them may begin. At most a few thousand at once."""
        ...

    def forget_damaged(self, digest: str) -> bool:
        """What is kept of the blob here was found damaged. It is given up, and reading the blob again fetches it; False:
        nothing of it was kept."""
        ...


@runtime_checkable
class ResendingStore(Protocol):
    """A store that can give back to its source what that has lost."""

    def send_again(self, batch: StoreBatch, digests: Iterable[str]) -> list[str]:
        """Puts into `batch` what the source had once and has not any more, as far as all of it is kept here. Returns the
        digests of the others. Raises StorageError."""
        ...


class LocalStore(BlobStore, Protocol):
    """A store whose blobs are plain files on this machine."""

    @property
    def root(self) -> Path: ...

    def path_of(self, digest: str) -> Path:
        """Where the blob's file is (or would be)."""
        ...


class RangeSource(Protocol):
    """Where bytes come from that are not here: a server. What it gives is unchecked; the door is where they enter a cache.

    Thread-safe and blocking. `deadline` is a time of `time.monotonic()`: when it comes, with all tries, UnavailableError or
    WaitTimeoutError. BlobMissingError: the source has no such blob (for us). A caller that closes an iterator early ends the
    transfer.
    """

    def locate(self, digests: Sequence[str], lists: Sequence[str] = (), *, deadline: float) -> dict[str, bytes]:
        """Finds out, in one call, where blobs are, so that reading them needs no more questions. `lists`: tops of block
        lists; their bytes come back by digest, and their lower lists are located, too. Digests that are missing are
        passed over (reading them says so)."""
        ...

    def connect(self, *, deadline: float) -> None:
        """Makes the connections that the next call needs, so that it need not wait for them."""
        ...

    def read_trees(self, page: str, *, max_bytes: int, deadline: float) -> Iterator[tuple[str, bytes]]:
        """A tree page, and those below it (of the directory and of those in it), breadth first, as (digest, bytes), until
        they are `max_bytes`. Raises BlobMissingError for the page itself."""
        ...

    def read_small(
        self, digests: Sequence[str], *, deadline: float, nbytes: int | None = None
    ) -> Iterator[tuple[str, bytes]]:
        """Blobs of at most 1 MiB, as (digest that was asked for, bytes), in any order, as they arrive. Those that the source
        has not are left out. `nbytes`: how many they have together, if that is known: it decides which way is the quickest."""
        ...

    def read_range(
        self, digest: str, size: int, offset: int, nbytes: int, *, deadline: float
    ) -> Iterator[bytes | memoryview]:
        """Pieces, in order, of a blob of `size` bytes: together `nbytes` from `offset` on. A piece is valid until the next
        one is asked for."""
        ...

    def close(self) -> None:
        """Ends what is under way in other threads; whatever is asked for afterwards raises. Again is fine."""
        ...
