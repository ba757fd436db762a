"""Carrying out what a fetcher has planned: bytes of a source are checked, and kept in the cache.

Every byte is checked here before it counts: a small blob against its digest, a block against its block list (blockfetch.py).
What came wrong is asked for once more. Who is told of what comes is a `Host`: the fetcher itself, or, in the process that
fetches for it (fetchprocess.py), whoever passes it on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from artfs.errors import (
    ArtfsError,
    BadBlobError,
    BlobMissingError,
    CorruptError,
    UnavailableError,
    WaitTimeoutError,
)
from artfs.store.base import RangeSource
from artfs.store.cache import Cache, CheckedBlob, check_blob
from artfs.transfer.blockfetch import BlockFetch, ended
from artfs.transfer.largeblob import BlobFile
from artfs.transfer.together import Together


@dataclass(slots=True)
class FetchStats:
    """Since the start; `nbytes` of blobs, without what surrounds them. `damaged`: blocks and blobs of the cache that were
    found wrong and fetched again; `wrong`: those that a server sent. `reads`: of a mount, that were answered; `waited`: those
    that had to wait, because what they wanted was not here yet. `errors`: (seconds since 1970, what happened)."""

    reads: int = 0
    waited: int = 0
    requests: int = 0
    nbytes: int = 0
    failures: int = 0
    wrong: int = 0
    damaged: int = 0
    errors: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=20))


class Host(Protocol):
    """For whom transfers are carried out. All methods may be called from any thread.

    Attributes:
        source, cache: where bytes come from, and where they go.
        aside: runs what need not be waited for at once.
    """

    source: RangeSource
    cache: Cache
    stats: FetchStats
    aside: ThreadPoolExecutor

    def deadline(self) -> float:
        """Of a transfer that begins now."""
        ...

    def tell(self, error: ArtfsError, what: str) -> None:
        """Something went wrong."""
        ...

    def recent(self, key: Any) -> bytes | None:
        """What came lately and is in memory: of a small blob (key: its digest), or a block (key: digest and index)."""
        ...

    def read_cached(self, digest: str) -> bytes | None:
        """A whole blob of the cache, checked."""
        ...

    def remember(self, key: Any, data: bytes) -> None:
        """Checked bytes whose readers are about to come, or that the cache has no room for."""
        ...

    def small_came(self, digest: str) -> None:
        """It was remembered: who waits for it can have it."""
        ...

    def smalls_landed(self, digests: Iterable[str]) -> None:
        """Small blobs are here, in the cache or in memory."""
        ...

    def smalls_not_kept(self, blobs: Iterable[CheckedBlob]) -> None:
        """The cache has no room for small blobs that were remembered, and are about to be told as landed."""
        ...

    def small_failed(self, digest: str, error: ArtfsError) -> None:
        """A small blob will not come."""
        ...

    def opened(self, blob: BlobFile) -> None:
        """Blocks of it are about to be told: what is here of it is open."""
        ...

    def block_came(self, blob: BlobFile, index: int, data: memoryview, *, kept: bool) -> None:
        """A block is here, checked. `kept`: in the cache; otherwise nobody else has it."""
        ...

    def blocks_landed(self, blob: BlobFile, indexes: Iterable[int]) -> None:
        """Somebody else brought blocks: they are in the cache, unchecked."""
        ...

    def blocks_failed(self, blob: BlobFile, indexes: Iterable[int], error: ArtfsError) -> None:
        """Blocks will not come."""
        ...


@contextmanager
def taking(host: Host, remember: Callable[[str, bytes], None]) -> Iterator[Callable[[str, bytes], None]]:
    """The door for many small blobs: who waits for one has it at once, from where `remember` puts it, and the cache gets some
    hundred KiB together. Raises BadBlobError for one that is wrong; the others come in all the same."""

    def keep(blobs: list[CheckedBlob]) -> None:
        if not host.cache.keep_small(blobs):
            host.smalls_not_kept(blobs)
        host.smalls_landed(digest for digest, _ in blobs)

    together = Together(keep)

    def take(digest: str, data: bytes) -> None:
        blob = check_blob(digest, data)
        remember(digest, data)
        host.small_came(digest)
        together.add(blob)

    try:
        yield take
    finally:
        together.flush()


class Transfers:
    """Of one host. Thread-safe; methods block, and raise nothing that is not a defect: the host is told."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._blocks = BlockFetch(host)

    # small blobs ------------------------------------------------------------------------------------------------
    def fetch_smalls(self, batch: Sequence[str], nbytes: int | None) -> None:
        """Each of them lands or fails. `nbytes`: see RangeSource.read_small."""
        host = self._host
        left = dict.fromkeys(batch)
        error: ArtfsError | None = None
        try:
            # Asked for ahead without a look; or another process was faster.
            here = host.cache.which(batch)
            if here:
                host.smalls_landed(here)
                for digest in here:
                    left.pop(digest, None)
            tried = 0
            while left and tried < 2:
                before = len(left)
                try:
                    error = self._fetch_smalls_once(left, nbytes)
                    tried += 1
                except WaitTimeoutError:
                    if len(left) == before:
                        raise
                    # Slow, but they come.
        except ArtfsError as caught:
            error = caught
            host.tell(caught, f"fetching {len(left)} small blob(s)")
        except Exception as caught:
            error = UnavailableError(f"fetching failed: {caught!r}")
            raise
        finally:
            for digest in left:
                host.small_failed(digest, error or UnavailableError("fetching was given up"))

    def _fetch_smalls_once(self, left: dict[str, None], nbytes: int | None) -> ArtfsError | None:
        """Takes what comes right, and what the source has not, out of `left`; what came wrong stays, and is returned."""
        host = self._host
        wrong: dict[str, ArtfsError] = {}
        host.stats.requests += 1
        with (
            taking(host, host.remember) as take,
            ended(host.source.read_small(list(left), deadline=host.deadline(), nbytes=nbytes)) as coming,
        ):
            for digest, data in coming:
                if digest not in left:
                    continue
                host.stats.nbytes += len(data)
                try:
                    take(digest, data)
                except BadBlobError as error:
                    host.stats.wrong += 1
                    host.tell(error, "a server sent wrong bytes")
                    wrong[digest] = error
                    continue
                del left[digest]
        for digest in [digest for digest in left if digest not in wrong]:
            del left[digest]
            host.small_failed(
                digest, BlobMissingError(f"the server has no blob {digest} (any more), or you may not read it", digest)
            )
        return next(iter(wrong.values()), None)

    # blocks -----------------------------------------------------------------------------------------------------
    def fetch_blocks(self, blob: BlobFile, first: int, stop: int) -> None:
        """Each of the blocks first … stop - 1 lands or fails."""
        host = self._host
        error: ArtfsError = UnavailableError(f"blob {blob.digest} ended early")
        was_wrong = False
        try:
            while first < stop:
                before = first
                try:
                    self._blocks.open_file(blob)
                    host.opened(blob)
                    for _ in self._blocks.fetch(blob, first, stop):
                        first += 1
                except WaitTimeoutError:
                    if first == before:
                        raise
                    # Slow, but they come.
                except CorruptError as caught:
                    # From the source once more: whoever damaged it may have been in between.
                    host.stats.wrong += 1
                    error = caught
                    host.tell(caught, "a server sent wrong bytes")
                    if was_wrong:
                        raise
                    was_wrong = True
        except ArtfsError as caught:
            error = caught
            host.tell(caught, f"fetching blocks {first} to {stop - 1} of blob {blob.digest}")
        except Exception as caught:
            error = UnavailableError(f"fetching failed: {caught!r}")
            raise
        finally:
            if first < stop:
                host.blocks_failed(blob, range(first, stop), error)
