"""The threads of a fetcher: each takes the most urgent work there is (fetchplan.py decides), does it, and takes the next."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from artfs.transfer.fetchplan import Came, FetchPlan, Ranges, Smalls

log = logging.getLogger(__name__)

Work = Came | Ranges | Smalls

FOR_READERS = 2
"""Threads that never fetch ahead, so that a reader finds one free."""


class Crew:
    """Threads are made as they are needed.

    Arguments:
        plan: what there is to do; guarded by `lock`.
        workers: threads at the most.
        carry_out: called with each piece of work, without the lock.
        ended: called after each.
    """

    def __init__(
        self, plan: FetchPlan, lock: threading.Lock, workers: int, carry_out: Callable[[Work], None], ended: Callable[[], None]
    ) -> None:
        self._plan = plan
        self._lock = lock
        self._more = threading.Condition(lock)
        self._workers = workers
        self._carry_out = carry_out
        self._ended = ended
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._gathering = 0  # of those: threads that wait until small blobs have waited for others
        self._busy_ahead = 0
        self._closed = False
        self.working = 0

    def wake(self) -> None:
        """With the lock: there is work."""
        if self._gathering and not self._plan.has_work(time.monotonic()):
            return  # somebody waits until there is enough of it
        if self._idle:
            self._more.notify()
        elif len(self._threads) < self._workers and not self._closed:
            thread = threading.Thread(target=self._run, name=f"artfs-fetch-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def close(self) -> None:
        """With the lock: nobody begins anything more."""
        self._closed = True
        self._more.notify_all()

    def join(self, limit_s: float) -> None:
        """Waits for the threads; those that are not done by then are left behind."""
        until = time.monotonic() + limit_s
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _next(self) -> Work | None:
        """With the lock. Waits for work; None: the end has come."""
        while not self._closed:
            now = time.monotonic()
            may_look_ahead = self._busy_ahead < self._workers - FOR_READERS
            work = self._plan.next(may_look_ahead=may_look_ahead, now=now)
            if work is not None:
                return work
            gathers_s = self._plan.gathers_s(now) if may_look_ahead else 0.0
            self._idle += 1
            self._gathering += gathers_s > 0
            self._more.wait(gathers_s or None)
            self._gathering -= gathers_s > 0
            self._idle -= 1
        return None

    def _run(self) -> None:
        while True:
            with self._lock:
                work = self._next()
                if work is None:
                    return
                self._busy_ahead += work.ahead
                self.working += 1
                if self._plan.has_work():
                    self.wake()
            try:
                self._carry_out(work)
            except Exception as error:
                # Whoever waited was told; this is a defect, and the thread goes on.
                log.exception("fetching failed: %r", error)
            finally:
                with self._lock:
                    self._busy_ahead -= work.ahead
                    self.working -= 1
                self._ended()
