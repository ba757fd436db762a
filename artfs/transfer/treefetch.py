"""Fetching tree pages: with one come those below it, as many as fit one answer."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

from artfs.errors import ArtfsError, BlobMissingError, CorruptError, UnavailableError
from artfs.transfer.blockfetch import ended
from artfs.transfer.largeblob import Notify
from artfs.transfer.recent import Recent
from artfs.transfer.transfers import taking

if TYPE_CHECKING:
    from artfs.transfer.fetch import Fetcher

AT_ONCE = 8
ANSWER_NBYTES = 8 * 1024 * 1024
"""Of one answer at the most, and of what came lately and is kept in memory."""


class TreeFetch:
    """Of one fetcher. Pages have threads and a memory of their own: neither waits behind files, nor is pushed out by them."""

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher
        self._lock = threading.Lock()
        self._memory = Recent(ANSWER_NBYTES)
        self._under_way: dict[str, Future[bytes | None]] = {}
        self._pool = ThreadPoolExecutor(AT_ONCE, "artfs-trees")

    def close(self) -> None:
        """Whoever waits is told."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            waiting = list(self._under_way.values())
            self._under_way.clear()
        for future in waiting:
            future.set_result(None)

    def has_in_memory(self, digest: str) -> bool:
        return digest in self._memory or self._fetcher.has_recent(digest)

    def page(self, digest: str) -> bytes:
        """A tree page, checked; with it come those below it. Blocks. Raises BlobMissingError, CorruptError, StorageError,
        UnavailableError."""
        while True:
            data = self.try_page(digest)
            if data is not None:
                return data
            future, mine = self._transfer(digest)
            if mine:
                self._fetch(digest, future)
            came = future.result()
            if came is not None:
                return came

    def try_page(self, digest: str) -> bytes | None:
        """A tree page that is here, checked; None: `need_page` fetches it. Raises StorageError, and what went wrong lately."""
        data = self._memory.get(digest) or self._fetcher.recent(digest) or self._fetcher.read_cached(digest)
        if data is None:
            self._fetcher.raise_small_failure(digest)
        return data

    def need_page(self, digest: str, notify: Notify) -> bool:
        """As `need_small`, for a tree page that `try_page` did not find."""
        if self._fetcher.is_closed or self._fetcher.failures.has(digest):
            return True
        future, mine = self._transfer(digest)
        future.add_done_callback(lambda _: notify())
        if mine:
            try:
                self._pool.submit(self._fetch, digest, future)
            except RuntimeError:  # the pool was closed
                self._end_transfer(digest, future, None)
        return False

    def _transfer(self, digest: str) -> tuple[Future[bytes | None], bool]:
        """Whoever gets True with it fetches; all others wait. Its result None: look again, it is told what went wrong."""
        with self._lock:
            future = self._under_way.get(digest)
            if future is not None:
                return future, False
            future = self._under_way[digest] = Future()
            return future, True

    def _end_transfer(self, digest: str, future: Future[bytes | None], data: bytes | None) -> None:
        with self._lock:
            is_open = self._under_way.get(digest) is future  # otherwise `close` has told them
            if is_open:
                del self._under_way[digest]
        if is_open:
            future.set_result(data)

    def _fetch(self, digest: str, future: Future[bytes | None]) -> None:
        error: ArtfsError = UnavailableError(f"fetching the tree {digest} was given up")
        data: bytes | None = None
        try:
            try:
                data = self._fetch_once(digest)
            except CorruptError as caught:
                # From the source once more: whoever damaged it may have been in between.
                self._fetcher.stats.wrong += 1
                self._fetcher.tell(caught, "a server sent wrong bytes")
                data = self._fetch_once(digest)
        except ArtfsError as caught:
            error = caught
            self._fetcher.tell(caught, f"fetching the tree {digest}")
        finally:
            if data is None:
                self._fetcher.failures.note(digest, error)
            self._end_transfer(digest, future, data)

    def _fetch_once(self, digest: str) -> bytes:
        found: bytes | None = None
        self._fetcher.stats.requests += 1
        with taking(self._fetcher, self._memory.add) as take, ExitStack() as stack:
            coming = self._fetcher.source.read_trees(digest, max_bytes=ANSWER_NBYTES, deadline=self._fetcher.deadline())
            for page, data in stack.enter_context(ended(coming)):
                self._fetcher.stats.nbytes += len(data)
                try:
                    take(page, data)
                except CorruptError as error:
                    if found is None:
                        raise
                    # Whoever needs it asks for it, and hears of it then.
                    self._fetcher.stats.wrong += 1
                    self._fetcher.tell(error, "a server sent wrong bytes")
                    continue
                if page == digest:
                    found = data
        if found is None:
            raise BlobMissingError(f"the server did not send the tree {digest}", digest)
        return found
