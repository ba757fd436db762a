"""Many blobs from a bucket: near ones with one request, several requests at once, in the order that they were asked for."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from artfs.catalog.blobledger import Found
from artfs.store.bucket import Bucket, Buffer

WINDOW_NBYTES = 4 * 1024 * 1024
WINDOW_BLOBS = 2000
"""So much is asked of the bucket together, and in memory while it is waited for (twice: the next window is on its way)."""

AT_ONCE = 16
"""Requests to the bucket at once, in a process."""


class BulkReader:
    """Thread-safe. For blobs in one object each: packed ones, and those of at most a part."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._pool = None if bucket.is_near else ThreadPoolExecutor(AT_ONCE, "artfs-bucket")

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def read(self, wanted: Iterable[Found]) -> Iterator[tuple[Found, Buffer]]:
        """Bytes of each, unchecked, in the order of `wanted`. Raises what Bucket.read raises, also BlobMissingError: then its
        row went since it was found."""
        if self._pool is None:
            for window in _windows(wanted):
                got = {key: self._bucket.read(key, ranges) for key, ranges in _by_object(window).items()}
                yield from _in_order(window, got)
            return
        flying: deque[tuple[list[Found], dict[str, Future[list[Buffer]]]]] = deque()
        try:
            for window in _windows(wanted):
                flying.append(
                    (window, {key: self._pool.submit(self._bucket.read, key, r) for key, r in _by_object(window).items()})
                )
                if len(flying) == 2:
                    yield from self._land(flying.popleft())
            while flying:
                yield from self._land(flying.popleft())
        finally:
            for _, futures in flying:
                for future in futures.values():
                    future.cancel()

    def _land(
        self, flight: tuple[list[Found], dict[str, Future[list[Buffer]]]]
    ) -> Iterator[tuple[Found, Buffer]]:
        window, futures = flight
        yield from _in_order(window, {key: future.result() for key, future in futures.items()})


def _windows(wanted: Iterable[Found]) -> Iterator[list[Found]]:
    window: list[Found] = []
    nbytes = 0
    for found in wanted:
        if window and (nbytes + found.size > WINDOW_NBYTES or len(window) == WINDOW_BLOBS):
            yield window
            window, nbytes = [], 0
        window.append(found)
        nbytes += found.size
    if window:
        yield window


def _by_object(window: list[Found]) -> dict[str, list[tuple[int, int]]]:
    ranges: dict[str, list[tuple[int, int]]] = {}
    for found in window:
        ranges.setdefault(found.key, []).append((found.offset, found.size))
    return ranges


def _in_order(window: list[Found], got: dict[str, list[Buffer]]) -> Iterator[tuple[Found, Buffer]]:
    waiting = {key: iter(data) for key, data in got.items()}
    for found in window:
        yield found, next(waiting[found.key])
