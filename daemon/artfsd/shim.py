"""A thinner trio for pyfuse3's session loop: 24 -> 10 µs a request (docs/decisions/0003-polling-shim.md).

pyfuse3 looks `trio` up in its own module when it runs, so the object here can stand in for the few names that it
uses. Two things differ. Before the loop waits for /dev/fuse it polls, and awaits only when nothing is there; it still
lets other tasks run at least every `BURST` requests or `BURST_S` seconds. And its read lock costs no checkpoint when
it is free: a worker that is about to wait for something else calls `wake_reader`, and only then another worker takes
over reading.

While requests come one after the other, polling goes on for up to `SPIN_S` before the loop sleeps: on virtual machines it
costs 50 to 100 µs to wake a sleeping processor, more than to answer (docs/performance.md). That time is not wasted
where `idle` finds something to do (hashing small files that were closed). It needs a second processor for whoever asks.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace, TracebackType
from typing import Any

import trio

BURST = 64
BURST_S = 0.002
SPIN_S = 0.0002
MISSES = 4
"""After so many polls in a row for nothing the loop sleeps at once, until requests follow each other again."""


class ReadLock:
    """One reader of /dev/fuse at a time. Whoever finds it free has it; `wake` lets a parked worker look again."""

    def __init__(self) -> None:
        self.held = False
        self.closing = False
        self._lot = trio.lowlevel.ParkingLot()

    async def __aenter__(self) -> None:
        while self.held:
            await self._lot.park()
        self.held = True

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.held = False
        if error is not None or self.closing:
            self._lot.unpark_all()

    def wake(self) -> None:
        """Before the worker that just read awaits something: somebody else must read on."""
        if not self.held:
            self._lot.unpark(count=1)

    def wake_all(self) -> None:
        self.closing = True
        self._lot.unpark_all()


class LoopShim:
    """Stands in for the module `trio` inside pyfuse3."""

    ClosedResourceError = trio.ClosedResourceError

    def __init__(self) -> None:
        self._lock = ReadLock()
        self._poll = select.poll()
        self._polled_fd = -1
        self._burst = 0
        self._burst_until = 0.0
        self._spins = len(os.sched_getaffinity(0)) > 1
        self._misses = 0
        self.idle: Callable[[], bool] = lambda: False
        """Does a little work that can wait (some 30 µs), and tells whether it did any. Must not raise."""
        self.busy: Callable[[], bool] = lambda: False
        """Whether threads of ours want the processors; then the loop does not keep one busy by polling."""
        self.lowlevel = SimpleNamespace(
            wait_readable=self._wait_readable,
            current_task=trio.lowlevel.current_task,
            current_trio_token=trio.lowlevel.current_trio_token,
            notify_closing=self._notify_closing,
        )

    def Lock(self) -> ReadLock:
        return self._lock

    def wake_reader(self) -> None:
        self._lock.wake()

    async def _wait_readable(self, fd: int) -> None:
        if fd != self._polled_fd:
            self._poll = select.poll()
            self._poll.register(fd, select.POLLIN)
            self._polled_fd = fd
        self._burst -= 1
        if self._burst <= 0 or time.monotonic() > self._burst_until:
            await trio.lowlevel.cancel_shielded_checkpoint()
            self._spins = len(os.sched_getaffinity(0)) > 1  # somebody may pin us to one while we run
            self._burst = BURST
            self._burst_until = time.monotonic() + BURST_S
        poll = self._poll.poll
        if poll(0) or (self._misses < MISSES and self._spins and not self.busy() and self._spin(poll)):
            return
        while self.idle():
            if poll(0):
                return
        while not poll(0):
            slept = time.monotonic()
            await trio.lowlevel.wait_readable(fd)
            now = time.monotonic()
            self._burst_until = now + BURST_S
            if now - slept < SPIN_S:
                self._misses = 0

    def _spin(self, poll: Callable[[int], Any]) -> bool:
        """Whether a request came within SPIN_S."""
        until = time.monotonic() + SPIN_S
        while time.monotonic() < until:
            self.idle()
            if poll(0):
                self._misses = 0
                return True
        self._misses += 1
        return False

    def _notify_closing(self, fd: int) -> None:
        self._lock.wake_all()
        trio.lowlevel.notify_closing(fd)

    @asynccontextmanager
    async def open_nursery(self) -> AsyncIterator[Any]:
        async with trio.open_nursery() as nursery:

            async def run(task: Callable[..., Any], *args: Any) -> None:
                try:
                    await task(*args)
                finally:
                    self._lock.wake_all()

            def start_soon(task: Callable[..., Any], *args: Any, name: str | None = None) -> None:
                nursery.start_soon(run, task, *args, name=name)

            yield SimpleNamespace(start_soon=start_soon)
