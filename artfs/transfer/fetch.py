"""Fetching from a server what somebody reads now, and what will be read next, into the cache.

One `Fetcher` a process. It has threads of its own, which take the most urgent work each time (fetchplan.py decides): what
somebody waits for, then what was only asked for ahead (and some threads never take that, so that a reader finds one
free). What is asked for twice is fetched once. Small blobs go many to a request, neighbouring blocks of a large one in one
range.

Transfers are carried out by those threads (transfers.py), or by a process (fetchprocess.py); then a thread waits for each.
A failure is remembered for a few seconds: the kernel repeats a read that failed in smaller pieces, and each would wait again.

Waiting is by callback: `need…` tells whether there is something to wait for, and calls `notify` once, from a thread of the
fetcher, when it is worth looking again (it must not block). Reading then gives the bytes, or raises what went wrong.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from artfs.errors import ArtfsError, UnavailableError, WaitTimeoutError
from artfs.model.digests import digest_bytes
from artfs.store.base import RangeSource
from artfs.store.cache import Cache, CheckedBlob
from artfs.transfer.crew import Crew
from artfs.transfer.failures import Failures
from artfs.transfer.fetchplan import Came, FetchPlan, Ranges, Smalls
from artfs.transfer.fetchprocess import FetchProcess, FetchProcessEnded
from artfs.transfer.largeblob import BlobFile, LargeBlob, Notify, Waiter, large_key
from artfs.transfer.promote import Promoter
from artfs.transfer.recent import JustKept, Recent
from artfs.transfer.shrink import Shrinker
from artfs.transfer.transfers import FetchStats, Transfers
from artfs.transfer.treefetch import TreeFetch

log = logging.getLogger(__name__)

FAILED_FOR_S = 3.0
"""How long a failure is given to all who ask, without another try."""

RECENT_NBYTES = 12 * 1024 * 1024
"""What came lately and is kept in memory until it is read. What does not fit is read from the cache, and checked once more, which
costs more than all else that a small file does. Of what a process fetches ahead only what the cache has no room for is here."""

KEPT_COUNT = 4096
"""Small blobs that came into the cache lately, and are believed once without another check."""

CLOSE_S = 2.0
"""How long the end waits for threads, in seconds: one may be connecting to a server that does not answer."""

IDLE_S = 45.0
"""After so long without a transfer, in seconds, connections are taken for cut: servers and balancers cut them after a minute or
more."""

LIMIT_S = 30.0
WORKERS = 12


class Fetcher:
    """See the module.

    Arguments:
        source: where bytes come from.
        cache: where they go.
        limit_s: how long one transfer may take until something whole has come, with all tries, in seconds.
        workers: transfers at once.
        process: carries them out, as long as it is there; None: this process does. It is closed with the fetcher.
    """

    def __init__(
        self, source: RangeSource, cache: Cache, *, limit_s: float = LIMIT_S, workers: int = WORKERS,
        clock: Callable[[], float] = time.monotonic, process: FetchProcess | None = None,
    ) -> None:
        self.cache = cache
        self.stats = FetchStats()
        self.source = source
        self._limit_s = limit_s
        self._clock = clock
        self._lock = threading.Lock()
        self._closed = False
        self._large: dict[str, LargeBlob] = {}
        self._plan = FetchPlan(lambda key, index: key in self._large and self._large[key].has(index))
        self._small_waiters: dict[str, list[Notify]] = {}
        self.failures = Failures(FAILED_FOR_S, clock)  # of small blobs and tree pages
        self._recent = Recent(RECENT_NBYTES)
        self._kept = JustKept(KEPT_COUNT)
        self.aside = ThreadPoolExecutor(4, "artfs-aside")
        shrinker = Shrinker(self.aside, lambda: not self.is_busy)
        self._crew = Crew(self._plan, self._lock, workers, self._carry_out, shrinker.ended)
        self._promoter = Promoter(cache, self.aside, self.tell, lambda: self._closed)
        self.trees = TreeFetch(self)
        self._transfers = Transfers(self)
        self._process = process
        self._used_at = -math.inf
        if process is not None:
            process.attach(self)

    def close(self) -> None:
        """Closes the source and ends the threads; who waits is told. Again is fine."""
        with self._lock:
            self._closed = True
            told = [notify for waiting in self._small_waiters.values() for notify in waiting]
            self._small_waiters.clear()
            for blob in self._large.values():
                told += [waiter.notify for waiter in blob.waiters]
                blob.waiters.clear()
            self._crew.close()
        for notify in told:
            notify()
        self.source.close()
        if self._process is not None:
            self._process.close()
        self.aside.shutdown(wait=False, cancel_futures=True)
        self.trees.close()
        until = time.monotonic() + CLOSE_S
        self._promoter.join(CLOSE_S)
        self._crew.join(max(0.0, until - time.monotonic()))

    def expect(self) -> None:
        """Somebody looks around: bytes may be wanted soon. If nothing was fetched lately, connections are made ahead. Does not
        block."""
        now = self._clock()
        if now - self._used_at > IDLE_S and self._process is not None:
            self._used_at = now
            self._process.connect()

    @property
    def is_closed(self) -> bool:
        return self._closed

    def deadline(self) -> float:
        """Of a transfer that begins now."""
        return self._clock() + self._limit_s

    # in memory --------------------------------------------------------------------------------------------------
    def recent(self, key: Any) -> bytes | None:
        """What came lately: of a small blob (key: its digest), or a block (key: digest and index). Checked."""
        return self._recent.get(key)

    def was_read(self, digest: str) -> None:
        """A small blob that came lately was read, and its reader keeps it: nobody else is about to come."""
        self._recent.drop(digest)
        self._kept.drop(digest)

    def has_recent(self, key: Any) -> bool:
        return key in self._recent

    def is_just_kept(self, digest: str) -> bool:
        """Whether a small blob was put into the cache a moment ago, checked: its first reader need not check it again."""
        return digest in self._kept

    def remember(self, key: Any, data: bytes) -> None:
        """Its readers are about to come. Checked bytes only."""
        self._recent.add(key, data)

    # telling ----------------------------------------------------------------------------------------------------
    def tell(self, error: ArtfsError, what: str) -> None:
        if self._closed:
            return
        self.stats.failures += 1
        self.stats.errors.append((time.time(), f"{what}: {error}"))
        log.warning("%s: %s", what, error)

    def count_damaged(self, message: str, count: int) -> None:
        """Says that something in the cache was found wrong."""
        self.stats.damaged += count
        self.stats.errors.append((time.time(), message))
        log.warning("%s", message)

    # whole blobs ------------------------------------------------------------------------------------------------
    def read_cached(self, digest: str) -> bytes | None:
        """A whole blob from the cache, checked; None when it is not here (or was wrong, and is gone now)."""
        data = self.cache.try_read(digest)
        if data is None or digest_bytes(data) == digest:
            return data
        self.found_damaged(digest)
        return None

    def found_damaged(self, digest: str) -> None:
        """A whole blob of the cache is not what its name says: it goes, and will be fetched again."""
        self.cache.discard(digest)
        self._kept.drop(digest)
        if self._process is not None:
            self._process.forget_small(digest)
        self.count_damaged(f"the cached blob {digest} was damaged; it is fetched again", 1)

    # small blobs ------------------------------------------------------------------------------------------------
    def need_small(self, digest: str, size: int, notify: Notify, *, looked: bool = False) -> bool:
        """Whether the blob (of at most 1 MiB) is in memory, in the cache (`looked`: it was not, just now), or known not to come
        (then `raise_small_failure` raises). Otherwise it is fetched, and `notify` is called when that is so."""
        if digest in self._recent or (not looked and self.cache.can_open(digest)):
            return True
        with self._lock:
            # It may have come since, and whoever brought it tells only those who waited by then.
            if self._closed or digest in self._recent or self.failures.has(digest):
                return True
            self._small_waiters.setdefault(digest, []).append(notify)
            self._plan.want_small(digest, size)
            self._crew.wake()
        return False

    def prefetch_small(self, blobs: Iterable[tuple[str, int]]) -> None:
        """(digest, size) of blobs that will be read soon. What is here already is passed over (later, in a thread)."""
        with self._lock:
            absent = (blob for blob in blobs if blob[0] not in self._recent and blob[0] not in self._kept)
            self._plan.want_small_ahead(absent, time.monotonic())
            self._crew.wake()

    def raise_small_failure(self, digest: str) -> None:
        """Raises what went wrong lately with the blob, if anything did."""
        if self._closed:
            raise UnavailableError("this process ends")
        self.failures.raise_for(digest)

    def give_up_small(self, digest: str) -> None:
        """Somebody waited as long as they can: for a while nobody else begins to wait for the small blob or tree page."""
        self.failures.note(digest, WaitTimeoutError(f"blob {digest} did not come from the server in time"))

    def wait_for(self, came: threading.Event, timeout_s: float) -> bool:
        """Waits for it as long as anything comes at least each `timeout_s` seconds; whether it is set."""
        seen, until = self.stats.nbytes, time.monotonic() + timeout_s
        while not came.wait(min(max(0.0, until - time.monotonic()), 1.0)):
            if self.stats.nbytes != seen:
                seen, until = self.stats.nbytes, time.monotonic() + timeout_s
            elif time.monotonic() >= until:
                return False
        return True

    def read_small(self, digest: str, size: int, *, timeout_s: float) -> bytes:
        """A whole small blob, checked. Blocks; `timeout_s`: how long nothing may come, in seconds. Raises BlobMissingError,
        BadBlobError, UnavailableError, StorageError."""
        while True:
            data = self.recent(digest) or self.read_cached(digest)
            if data is not None:
                return data
            came = threading.Event()
            if self.need_small(digest, size, came.set):
                self.raise_small_failure(digest)
            elif not self.wait_for(came, timeout_s):
                raise UnavailableError(f"nothing came from the server for {timeout_s:.0f} s, nor did blob {digest}")

    # large blobs ------------------------------------------------------------------------------------------------
    def large(self, digest: str, size: int, blocks: str) -> LargeBlob:
        """One more use of the blob. `blocks`: the digest of its block list's top, as its entry says."""
        with self._lock:
            blob = self._large.get(key := large_key(digest, blocks))
            if blob is None:
                blob = self._large[key] = LargeBlob(self, digest, size, blocks)
            blob.users += 1
            return blob

    def release(self, blob: LargeBlob) -> None:
        with self._lock:
            blob.users -= 1
            if blob.users:
                return
            self._plan.cancel_ahead(blob.key)
            done = self._forget_unused(blob)
        if done:
            self._settle(blob)

    def forget_open(self, blob: LargeBlob) -> None:
        """What is here of it is another file from now on, or none."""
        if self._process is not None:
            self._process.forget(blob.key)

    def _forget_unused(self, blob: LargeBlob) -> bool:
        """With the lock: whether nobody has it any more, no transfer either."""
        if blob.users or self._plan.is_flying(blob.key) or self._large.get(blob.key) is not blob:
            return False
        del self._large[blob.key]
        return True

    def _settle(self, blob: LargeBlob) -> None:
        self.forget_open(blob)
        whole = blob.take_file()
        if whole is not None:
            self._promoter.take(whole)

    def need_blocks(self, blob: LargeBlob, first: int, stop: int, notify: Notify) -> bool:
        """See LargeBlob.need."""
        absent = blob.missing(first, stop)
        if not absent:
            return True
        with self._lock:
            if self._closed or self._failure_of(blob, absent) is not None:
                return True
            # Some may have come since.
            absent = [index for index in absent if not blob.has(index)]
            if not absent:
                return True
            blob.waiters.append(Waiter(set(absent), notify))
            self._plan.want(blob.key, absent)
            self._crew.wake()
        return False

    def prefetch_blocks(self, blob: LargeBlob, first: int, stop: int) -> None:
        absent = blob.missing(first, stop)
        if absent:
            with self._lock:
                self._plan.want_ahead(blob.key, absent)
                self._crew.wake()

    def cancel_prefetch(self, blob: LargeBlob) -> None:
        with self._lock:
            self._plan.cancel_ahead(blob.key)

    def raise_failure(self, blob: LargeBlob, first: int, stop: int) -> None:
        """See LargeBlob.raise_failure."""
        with self._lock:
            if self._closed:
                raise UnavailableError("this process ends")
            error = self._failure_of(blob, range(first, stop))
        if error is not None:
            raise error

    def _failure_of(self, blob: LargeBlob, indexes: Iterable[int]) -> ArtfsError | None:
        if blob.failed:
            now = self._clock()
            for index in indexes:
                failure = blob.failed.get(index)
                if failure is not None:
                    if failure[1] >= now:
                        return failure[0].again()
                    del blob.failed[index]
        return None

    def give_up_blocks(self, blob: LargeBlob, first: int, stop: int) -> None:
        """See LargeBlob.give_up."""
        absent = blob.missing(first, stop)
        with self._lock:
            self._note_failures(blob, absent, WaitTimeoutError(f"blob {blob.digest} did not come from the server in time"))

    def _note_failures(self, blob: LargeBlob, indexes: Iterable[int], error: ArtfsError) -> None:
        until, kept = self._clock() + FAILED_FOR_S, error.again()
        blob.failed.update((index, (kept, until)) for index in indexes)

    # carrying out -----------------------------------------------------------------------------------------------
    def _carry_out(self, work: Came | Ranges | Smalls) -> None:
        self._used_at = self._clock()
        if isinstance(work, Smalls):
            self._fetch_smalls(work)
            return
        with self._lock:
            blob = self._large.get(work.key)
            if blob is None:
                if isinstance(work, Ranges):
                    self._plan.landed(work.key, range(work.first, work.stop))
                return
        if isinstance(work, Ranges):
            self._fetch_blocks(blob, work.first, work.stop)
        else:
            self.blocks_landed(blob, work.indexes)

    def _fetch_smalls(self, work: Smalls) -> None:
        if self._process is not None and self._process.is_there:
            with suppress(FetchProcessEnded):
                self._process.fetch_smalls(work.digests, work.nbytes, work.waited)
                return
        if not self._closed:
            self._transfers.fetch_smalls(work.digests, work.nbytes)

    def _fetch_blocks(self, blob: LargeBlob, first: int, stop: int) -> None:
        if self._process is not None and self._process.is_there:
            with suppress(FetchProcessEnded):
                self._process.fetch_blocks(blob, first, stop, self)
                return
        if not self._closed:
            self._transfers.fetch_blocks(blob, first, stop)

    # what transfers tell (Host) -----------------------------------------------------------------------------------
    def small_came(self, digest: str) -> None:
        if digest in self._small_waiters:
            self.smalls_landed([digest])

    def smalls_landed(self, digests: Iterable[str]) -> None:
        told: list[Notify] = []
        with self._lock:
            for digest in digests:
                self._plan.small_landed(digest)
                if digest in self._small_waiters:
                    told += self._small_waiters.pop(digest)
        for notify in told:
            notify()

    def smalls_not_kept(self, blobs: Iterable[CheckedBlob]) -> None:
        """All were remembered."""

    def smalls_kept(self, digests: list[str]) -> None:
        """The process that fetches has put them into the cache just now, checked."""
        self._kept.add(digests)
        self.smalls_landed(digests)

    def small_failed(self, digest: str, error: ArtfsError) -> None:
        with self._lock:
            self._plan.small_landed(digest)
            waiting = self._small_waiters.pop(digest, [])
            self.failures.note(digest, error)
        for notify in waiting:
            notify()

    def opened(self, blob: BlobFile) -> None:
        """It is the blob itself."""

    def block_came(self, blob: BlobFile, index: int, data: memoryview, *, kept: bool) -> None:
        if kept:
            blob.verified[index] = 1
        else:
            self.remember((blob.digest, index), bytes(data))
        self._resolve_blocks(blob.key, [index], None)

    def blocks_landed(self, blob: BlobFile, indexes: Iterable[int]) -> None:
        self._resolve_blocks(blob.key, indexes, None)

    def blocks_failed(self, blob: BlobFile, indexes: Iterable[int], error: ArtfsError) -> None:
        self._resolve_blocks(blob.key, indexes, error)

    def _resolve_blocks(self, key: str, indexes: Iterable[int], error: ArtfsError | None) -> None:
        """These blocks came, or will not."""
        done = list(indexes)
        told: list[Notify] = []
        with self._lock:
            self._plan.landed(key, done)
            blob = self._large.get(key)
            if blob is None:
                return
            if error is not None:
                self._note_failures(blob, done, error)
            left = []
            for waiter in blob.waiters:
                touched = not waiter.left.isdisjoint(done)
                waiter.left.difference_update(done)
                if waiter.left and not (touched and error is not None):
                    left.append(waiter)
                else:
                    told.append(waiter.notify)
            blob.waiters[:] = left
            unused = self._forget_unused(blob)
        for notify in told:
            notify()
        if unused:
            self._settle(blob)

    @property
    def is_busy(self) -> bool:
        """Whether transfers are under way."""
        return self._crew.working > 0

    # the whole --------------------------------------------------------------------------------------------------
    def under_way(self, patience_s: float = 1.0) -> list[str]:
        """What is asked for and not here yet, a line each, for a dump. Waits no longer than `patience_s` for the lock."""
        if not self._lock.acquire(timeout=patience_s):
            return ["the lock of the fetcher is held by somebody who hangs"]
        try:
            return self._plan.lines()
        finally:
            self._lock.release()

    def status(self) -> dict[str, Any]:
        """For `artfs status`."""
        with self._lock:
            wanted, ahead, flying = self._plan.counts()
        stats = self.stats
        return {
            "reads": stats.reads,
            "waited": stats.waited,
            "requests": stats.requests,
            "nbytes": stats.nbytes,
            "failures": stats.failures,
            "wrong": stats.wrong,
            "damaged": stats.damaged,
            "waiting": wanted,
            "ahead": ahead,
            "under_way": flying,
            "process": self._process.pid if self._process is not None and self._process.is_there else None,
            "errors": [{"at": at, "message": message} for at, message in stats.errors],
        }
