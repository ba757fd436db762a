"""Work on several threads with results in order and a bounded amount under way."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from artfs.transfer.progress import Meter

T = TypeVar("T")

_WINDOW = 8


class CancelledWork(Exception):
    """Ends a worker's task after another one, or the caller, failed. Nobody sees it."""


class Ahead:
    """Runs tasks ahead of whoever takes their results.

    Arguments:
        workers: threads; 0: one for each CPU.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers or len(os.sched_getaffinity(0))
        self._stopped = threading.Event()

    def run(self, tasks: Iterable[Callable[[], T]]) -> Generator[T, None, None]:
        """The results of `tasks` in order. `tasks` is iterated by the caller's thread, some tasks ahead of the results.

        When a task, `tasks` or the caller fails, tasks not begun are dropped and those under way end at their next
        `count`; the first error is raised. Close the iterator when it is not run to its end.
        """
        under_way: deque[Future[T]] = deque()
        with ThreadPoolExecutor(self.workers, "artfs-transfer") as pool:
            try:
                for task in tasks:
                    under_way.append(pool.submit(task))
                    if len(under_way) > _WINDOW * self.workers:
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
