"""The process of a FaultProxy: one thread and one epoll for all connections, so that delays of some are never those of others.

Bytes are read into buffers of a megabyte and sent from there, at once if nothing holds them; copied once in and once out,
which costs a processor 0.3 s a gigabyte. (splice costs 0.22 s, and cannot delay.) Whatever must wait stands in its direction's
queue with the moment when it is due, and so do the ends of connections, which is what keeps everything in order.

Run by artfs/testing/faultproxy.py: `python -m artfs.testing.faultloop HOST PORT`. It writes its port, then answers each line of
standard input, and ends when that ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import heapq
import itertools
import os
import resource
import select
import socket
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from artfs.testing.faultconnection import Connection
from artfs.testing.faultpipe import IN, Buffers, Link, Pipe
from artfs.testing.faultproxy import Counts, Fault, Side

_RECENT = 1000
_PR_SET_TIMERSLACK = 29  # linux/prctl.h


@dataclass(slots=True)
class Left:
    """A fault and how often it may still act."""

    fault: Fault
    times: float


@dataclass(slots=True)
class Tally:
    connections: int = 0
    requests: int = 0
    faults: int = 0
    methods: Counter[str] = field(default_factory=Counter)
    recent: deque[str] = field(default_factory=lambda: deque(maxlen=_RECENT))


class Proxy:
    """Everything. What `faultproxy.FaultProxy` calls are the methods after `serve`."""

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.epoll = select.epoll()
        self.handlers: dict[int, Callable[[int], None]] = {}
        self.connections: set[Connection] = set()
        self.buffers = Buffers()
        self.links: dict[Side, Link] = {"up": Link(), "down": Link()}
        self.moved: dict[Side, int] = {"up": 0, "down": 0}
        self.is_silent = False
        self._left: list[Left] = []
        self._tally = Tally()
        self._alarms: list[tuple[float, int, Connection, Pipe]] = []
        self._numbers = itertools.count()
        self._listener: socket.socket | None = None
        self.port = 0
        self._listen()
        self._said = b""

    # for connections -----------------------------------------------------------------------------

    @property
    def has_faults(self) -> bool:
        return bool(self._left)

    def take(self, acts: Callable[[Fault], bool]) -> Fault | None:
        """The first fault that acts, of which one time is then used."""
        for left in self._left:
            if acts(left.fault):
                left.times -= 1
                if left.times <= 0:
                    self._left.remove(left)
                self._tally.faults += 1
                return left.fault
        return None

    def count_request(self, line: str) -> None:
        self._tally.requests += 1
        self._tally.methods[line.partition(" ")[0]] += 1
        self._tally.recent.append(line)

    def wake(self, due: float, connection: Connection, pipe: Pipe) -> None:
        pipe.alarm = due
        heapq.heappush(self._alarms, (due, next(self._numbers), connection, pipe))

    # the loop ------------------------------------------------------------------------------------

    def _listen(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=4096)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self.handlers[self._listener.fileno()] = self._accept
        self.epoll.register(self._listener.fileno(), IN)

    def _accept(self, _events: int) -> None:
        assert self._listener is not None
        for _ in range(64):
            try:
                client, _address = self._listener.accept()
            except BlockingIOError:
                return
            self._tally.connections += 1
            connection = Connection(self, client, time.monotonic())
            if connection.is_open:
                self.connections.add(connection)

    def serve(self) -> None:
        """Until standard input ends."""
        os.set_blocking(0, False)
        self.epoll.register(0, IN)
        is_over = False

        def control(_events: int) -> None:
            nonlocal is_over
            is_over = not self._obey()

        self.handlers[0] = control
        print(self.port, flush=True)  # noqa: T201
        while not is_over:
            if self._alarms:
                # epoll_wait counts in milliseconds, select in microseconds.
                wait = self._alarms[0][0] - time.monotonic()
                if wait > 0:
                    select.select([self.epoll.fileno()], [], [], wait)
                events = self.epoll.poll(0, 64)
            else:
                events = self.epoll.poll(-1, 64)
            for fd, event in events:
                # An event before it in this list may have closed it.
                handler = self.handlers.get(fd)
                if handler is not None:
                    handler(event)
            self._ring()

    def _ring(self) -> None:
        now = time.monotonic()
        while self._alarms and self._alarms[0][0] <= now:
            due, _number, connection, pipe = heapq.heappop(self._alarms)
            if pipe.alarm == due:
                pipe.alarm = 0.0
            if connection.is_open:
                connection.flush(pipe, now)
                connection.watch()

    def _obey(self) -> bool:
        """Does what the lines of standard input say. False: it has ended."""
        said = os.read(0, 1 << 20)
        self._said += said
        *lines, self._said = self._said.split(b"\n")
        for line in lines:
            call = msgspec.json.decode(line)
            done = getattr(self, call["name"])(**call["arguments"])
            sys.stdout.buffer.write(msgspec.json.encode(done) + b"\n")
            sys.stdout.buffer.flush()
        return bool(said)

    # what can be told ----------------------------------------------------------------------------

    def set_direction(self, side: Side, delay_s: float, rate: float) -> None:
        self.links[side] = Link(delay_s, rate)
        self._all_go_on()

    def add(self, faults: list[dict[str, Any]]) -> None:
        for fault in msgspec.convert(faults, list[Fault]):
            self._left.append(Left(fault, float("inf") if fault.times is None else fault.times))

    def clear(self) -> None:
        self._left.clear()
        now = time.monotonic()
        for connection in list(self.connections):
            connection.unstall(now)

    def drop(self, reset: bool) -> None:
        for connection in list(self.connections):
            connection.close(reset)

    def silence(self, silent: bool) -> None:
        self.is_silent = silent
        self._all_go_on()

    def refuse(self, refused: bool) -> None:
        if refused and self._listener is not None:
            del self.handlers[self._listener.fileno()]
            self._listener.close()
            self._listener = None
        elif not refused and self._listener is None:
            self._listen()

    def retarget(self, host: str, port: int) -> None:
        self.target = (host, port)

    def counts(self) -> Counts:
        tally = self._tally
        return Counts(
            connections=tally.connections, open=len(self.connections), requests=tally.requests, up=self.moved["up"],
            down=self.moved["down"], faults=tally.faults, methods=dict(tally.methods), recent=list(tally.recent),
        )

    def reset_counts(self) -> None:
        self._tally = Tally()
        self.moved = {"up": 0, "down": 0}

    def _all_go_on(self) -> None:
        now = time.monotonic()
        for connection in list(self.connections):
            for pipe in (connection.up, connection.down):
                connection.flush(pipe, now)
            connection.watch()


def main() -> None:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    # Timers may ring 50 µs late to save wake-ups; delays shall be what was asked for.
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
    # The process that made this one has died: nobody reads what would be said.
    with contextlib.suppress(BrokenPipeError):
        Proxy(sys.argv[1], int(sys.argv[2])).serve()


if __name__ == "__main__":
    main()
