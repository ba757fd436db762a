"""Work on several threads with results in order and a bounded amount under way.

Small files are mostly system calls of a few microseconds, and threads that make those wait for the interpreter lock more
than they gain (20,000 files of 20 KB take two threads half as long again as one). So a task that says it is light runs on
the caller's own thread, unless the first ones show that they wait for a disk or a network most of the time.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from artfs.transfer.progress import Meter

T = TypeVar("T")
Item = TypeVar("Item")

HEAVY_ABOVE = 128 * 1024
"""A file of more bytes than this is worth a thread: hashing and copying it goes on without the interpreter lock."""

_WINDOW = 8
_SAMPLES = 8
_BUSY = 0.4
"""Light tasks that use less than this part of their time for computing are better done several at once."""


class CancelledWork(Exception):
    """Ends a worker's task after another one, or the caller, failed. Nobody sees it."""


@dataclass(frozen=True, slots=True)
class Light(Generic[T]):
    """A task that does many short things."""

    task: Callable[[], T]


@dataclass(frozen=True, slots=True)
class Ready(Generic[T]):
    """A result that is known already and only has its place among the others."""

    result: T


class Ahead:
    """Runs tasks ahead of whoever takes their results.

    Arguments:
        workers: threads; 0: one for each CPU.
        clock, busy_clock: seconds, and those that this thread computed.
    """

    def __init__(
        self, workers: int, *, clock: Callable[[], float] = time.perf_counter, busy_clock: Callable[[], float] = time.thread_time
    ) -> None:
        self.workers = workers or len(os.sched_getaffinity(0))
        self._clock = clock
        self._busy_clock = busy_clock
        self._stopped = threading.Event()
        self._samples = 0
        self._elapsed_s = 0.0
        self._busy_s = 0.0

    def run(self, tasks: Iterable[Callable[[], T] | Light[T] | Ready[T]]) -> Generator[T, None, None]:
        """The results of `tasks` in order. `tasks` is iterated by the caller's thread, some tasks ahead of the results.

        When a task, `tasks` or the caller fails, tasks not begun are dropped and those under way end at their next
        `count`; the first error is raised. Close the iterator when it is not run to its end.
        """
        under_way: deque[Future[T]] = deque()
        limit = _WINDOW * self.workers
        with ThreadPoolExecutor(self.workers, "artfs-transfer") as pool:
            try:
                for task in tasks:
                    if isinstance(task, Ready):
                        under_way.append(_done(task.result))
                    elif not isinstance(task, Light):
                        under_way.append(pool.submit(task))
                    elif self._waits():
                        under_way.append(pool.submit(task.task))
                    else:
                        under_way.append(_done(self._sample(task.task)))
                    while under_way and (under_way[0].done() or len(under_way) > limit):
                        yield under_way.popleft().result()
                while under_way:
                    yield under_way.popleft().result()
            except BaseException:
                self._stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def count(self, meter: Meter) -> Callable[[int], None]:
        """What a task gives as `on_bytes`: it tells `meter`, and ends the task when the work has failed elsewhere."""

        def advance(nbytes: int) -> None:
            if self._stopped.is_set():
                raise CancelledWork
            meter.advance(0, nbytes)

        return advance

    def _waits(self) -> bool:
        return self._samples >= _SAMPLES and self._busy_s < _BUSY * self._elapsed_s

    def _sample(self, task: Callable[[], T]) -> T:
        if self._samples >= _SAMPLES:
            return task()
        began_s, busy_s = self._clock(), self._busy_clock()
        result = task()
        self._elapsed_s += self._clock() - began_s
        self._busy_s += self._busy_clock() - busy_s
        self._samples += 1
        return result


def in_groups(
    items: Iterable[Item], size_of: Callable[[Item], int], work: Callable[[list[Item]], T], count: int = 32
) -> Iterator[Light[T] | Callable[[], T]]:
    """Tasks that do `work` on all `items`: large ones (HEAVY_ABOVE) one by one, small ones in groups of `count`. So the
    order of results is not that of the items."""
    group: list[Item] = []
    for item in items:
        if size_of(item) > HEAVY_ABOVE:
            yield partial(work, [item])
        else:
            group.append(item)
            if len(group) == count:
                yield Light(partial(work, group))
                group = []
    if group:
        yield Light(partial(work, group))


def _done(result: T) -> Future[T]:
    future: Future[T] = Future()
    future.set_result(result)
    return future
