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
import errno
import heapq
import itertools
import os
import resource
import select
import socket
import struct
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from artfs.store.linux import aligned_buffer
from artfs.testing.faultproxy import Counts, Fault, Side
from artfs.testing.httpscan import Body, Head, RequestScan, ResponseScan

BUFFER = 1 << 20
WINDOW = 16 << 20
"""Bytes under way in one direction of one connection, at most: what delays and limits can hold back."""

_POOLED = 32
_SMALL = 64 * 1024
_SLICE_S = 0.005
"""With a limit of bytes per second, as many are read at once as take so long, so that connections share it fairly."""

_RECENT = 1000
_PR_SET_TIMERSLACK = 29  # linux/prctl.h
_IN, _OUT, _RDHUP = select.EPOLLIN, select.EPOLLOUT, select.EPOLLRDHUP

Mark = Literal["data", "fin", "cut", "reset", "stall"]


@dataclass(slots=True)
class Link:
    """One direction of the network. Pure: it tells when bytes that are read now have arrived."""

    delay_s: float = 0.0
    rate: float = 0.0
    _free_at: float = 0.0

    def due(self, now: float, nbytes: int) -> float:
        if not self.rate:
            return now + self.delay_s
        self._free_at = max(now, self._free_at) + nbytes / self.rate
        return self._free_at + self.delay_s

    @property
    def window(self) -> int:
        """How many bytes may wait in a connection before no more are read. 0: none."""
        if self.rate:
            return min(WINDOW, max(2 * _SMALL, int(self.rate * (self.delay_s + 4 * _SLICE_S))))
        return WINDOW if self.delay_s else 0

    @property
    def most_at_once(self) -> int:
        return min(BUFFER, max(4096, int(self.rate * _SLICE_S))) if self.rate else BUFFER


class Buffers:
    """Megabytes that are used again and again; fresh ones would cost a page fault each 4 KiB."""

    def __init__(self) -> None:
        self._free: list[memoryview] = []

    def take(self) -> memoryview:
        return self._free.pop() if self._free else aligned_buffer(BUFFER)

    def give(self, buffer: memoryview) -> None:
        if len(self._free) < _POOLED:
            self._free.append(buffer)


@dataclass(slots=True)
class Slot:
    """A buffer of which so many queued pieces are parts."""

    buffer: memoryview
    users: int = 0


@dataclass(slots=True)
class Item:
    due: float
    mark: Mark
    data: memoryview
    slot: Slot | None = None


_NOTHING = memoryview(b"")


class End:
    """A socket and what epoll watches it for."""

    def __init__(self, proxy: Proxy, sock: socket.socket, on_event: Callable[[int], None]) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self._proxy = proxy
        self._fd = sock.fileno()
        self._mask = 0
        proxy.handlers[self._fd] = on_event

    def watch(self, mask: int) -> None:
        """0: not at all; epoll would go on telling of a connection's end."""
        if mask == self._mask:
            return
        if not mask:
            self._proxy.epoll.unregister(self._fd)
        elif self._mask:
            self._proxy.epoll.modify(self._fd, mask)
        else:
            self._proxy.epoll.register(self._fd, mask)
        self._mask = mask

    def close(self, reset: bool) -> None:
        self.watch(0)
        del self._proxy.handlers[self._fd]
        if reset:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


class Pipe:
    """One direction of a connection.

    Attributes:
        queue: what waits, in order; `queued`: bytes in it.
        is_blocked: the target takes no more now. is_stalled: a fault holds everything back, from its mark in the queue on.
        has_ended: nothing more is read. is_done: the target was told so.
        earliest: nothing arrives before this moment (the handshake is still under way).
        alarm: when the proxy looks at it again, or 0.
    """

    def __init__(self, side: Side, source: End, target: End, earliest: float) -> None:
        self.side: Side = side
        self.source = source
        self.target = target
        self.earliest = earliest
        self.queue: deque[Item] = deque()
        self.queued = 0
        self.is_blocked = False
        self.is_stalled = False
        self.has_ended = False
        self.is_done = False
        self.alarm = 0.0
        self.last_due = 0.0


class Connection:
    """A client's connection and ours to the server."""

    def __init__(self, proxy: Proxy, client: socket.socket, now: float) -> None:
        self.proxy = proxy
        server = socket.socket()
        self.client = End(proxy, client, self._on_client)
        self.server = End(proxy, server, self._on_server)
        links = proxy.links
        self.up = Pipe("up", self.client, self.server, now + links["up"].delay_s + links["down"].delay_s)
        self.down = Pipe("down", self.server, self.client, 0.0)
        self.requests = RequestScan()
        self.responses = ResponseScan()
        self.line = ""
        self.is_answering = False
        self.answer: Fault | None = None
        self.is_open = True
        self.is_connected = False
        refused = server.connect_ex(proxy.target)
        if refused not in (0, errno.EINPROGRESS):
            self.close(reset=True)
            return
        self.is_connected = not refused
        self.watch()

    # what epoll tells ----------------------------------------------------------------------------

    def _on_client(self, events: int) -> None:
        if events & ~_OUT:
            self._read(self.up)
        if events & _OUT and self.is_open:
            self._unblock(self.down)
        self.watch()

    def _on_server(self, events: int) -> None:
        if not self.is_connected:
            if self.server.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self.close(reset=True)
                return
            self.is_connected = True
            self.flush(self.up, time.monotonic())
        else:
            if events & ~_OUT:
                self._read(self.down)
            if events & _OUT and self.is_open:
                self._unblock(self.up)
        self.watch()

    def _unblock(self, pipe: Pipe) -> None:
        pipe.is_blocked = False
        self.flush(pipe, time.monotonic())

    def watch(self) -> None:
        """Tells epoll what is wanted now."""
        if not self.is_open:
            return
        if self.proxy.is_silent:
            self.client.watch(0)
            self.server.watch(0)
            return
        self.client.watch(self._wants(self.up) | (_OUT if self.down.is_blocked else 0))
        if self.is_connected:
            self.server.watch(self._wants(self.down) | (_OUT if self.up.is_blocked else 0))
        else:
            self.server.watch(_OUT)

    def _wants(self, pipe: Pipe) -> int:
        if pipe.is_stalled:
            # That the client goes away is noticed, the server may.
            return _RDHUP if pipe is self.up else 0
        if pipe.has_ended or (pipe.queue and pipe.queued >= self.proxy.links[pipe.side].window):
            return 0
        return _IN

    # bytes ---------------------------------------------------------------------------------------

    def _read(self, pipe: Pipe) -> None:
        if pipe.has_ended or pipe.is_stalled:
            # Gone for good; what is queued for it cannot be sent, and what it waited for need not be.
            self.close(reset=pipe.has_ended)
            return
        slot = Slot(self.proxy.buffers.take(), 1)
        try:
            nbytes = pipe.source.sock.recv_into(slot.buffer[: self.proxy.links[pipe.side].most_at_once])
        except BlockingIOError:
            nbytes = -1
        except OSError:
            self.close(reset=True)
            nbytes = -1
        if nbytes == 0:
            self._end(pipe)
        elif nbytes > 0:
            data = slot.buffer[:nbytes]
            if nbytes < _SMALL:
                # What may have to wait shall not keep a megabyte for it.
                data = memoryview(bytes(data))
                self.proxy.buffers.give(slot.buffer)
                self._pass(pipe, data, None)
                return
            self._pass(pipe, data, slot)
        self._drop(slot)

    def _drop(self, slot: Slot | None) -> None:
        if slot is not None:
            slot.users -= 1
            if not slot.users:
                self.proxy.buffers.give(slot.buffer)

    def _end(self, pipe: Pipe) -> None:
        pipe.has_ended = True
        if self.up.is_stalled or self.down.is_stalled:
            # Who waited has given up: what is held back shall not arrive when the fault is over.
            self.close(reset=False)
        else:
            self._push(pipe, _NOTHING, None, "fin")

    def _pass(self, pipe: Pipe, data: memoryview, slot: Slot | None) -> None:
        if pipe is self.up:
            self._pass_up(data, slot)
        else:
            self._pass_down(data, slot)

    def _pass_up(self, data: memoryview, slot: Slot | None) -> None:
        for part in self.requests.feed(data):
            if self.up.has_ended or not self.is_open:
                return
            if isinstance(part, Head):
                self._begin_request(part)
            elif self.answer is None:
                if isinstance(part, Body):
                    self._pass_body(self.up, part, slot)
            elif not isinstance(part, Body):
                self._answer(self.answer, is_last=False)

    def _begin_request(self, head: Head) -> None:
        self.line = head.line
        self.is_answering = False
        if head.line:
            self.proxy.count_request(head.line)
            self.answer = self.proxy.take(lambda fault: fault.kind == "answer" and fault.match in head.line)
            if self.answer is not None:
                if head.expects:
                    self._answer(self.answer, is_last=True)
                return
            self.responses.begin()
        if self._acts_before(self.up):
            return
        self._push(self.up, memoryview(head.data))
        self._pass_body(self.up, Body(_NOTHING, 0), None)

    def _answer(self, fault: Fault, is_last: bool) -> None:
        self.answer = None
        said = fault.raw or _encode(fault, is_last)
        # It came from where the server is.
        self.down.earliest = max(self.down.earliest, self.up.earliest, time.monotonic() + self.proxy.links["up"].delay_s)
        self._push(self.down, memoryview(said))
        if fault.raw or is_last:
            self._finish(self.down, "cut")

    def _pass_down(self, data: memoryview, slot: Slot | None) -> None:
        if not self.proxy.has_faults:
            # Only what a later fault must know is kept up; heads and bodies go on in one piece.
            self.is_answering = True
            for _part in self.responses.feed(data):
                pass
            self._push(self.down, data, slot)
            return
        for part in self.responses.feed(data):
            if self.down.has_ended or not self.is_open:
                return
            if not self.is_answering:
                self.is_answering = True
                if self._acts_before(self.down):
                    return
            if isinstance(part, Body):
                self._pass_body(self.down, part, slot)
            else:
                self._push(self.down, part, slot)

    def _acts_before(self, pipe: Pipe) -> bool:
        """Whether a fault came before the first byte. One that stalls only makes the others wait."""
        fault = self.proxy.take(lambda fault: self._fits(fault, pipe) and fault.after is None)
        if fault is None:
            return False
        if fault.kind == "stall":
            self._stall(pipe)
            return False
        self._finish(pipe, "reset" if fault.kind == "reset" else "cut")
        return True

    def _fits(self, fault: Fault, pipe: Pipe) -> bool:
        # What is stalled is not stalled again, however often the fault acts.
        return (
            fault.kind != "answer" and fault.side == pipe.side and fault.match in self.line
            and not (fault.kind == "stall" and pipe.is_stalled)
        )

    def _pass_body(self, pipe: Pipe, body: Body, slot: Slot | None) -> None:
        data, at = body.data, body.at
        while True:
            end = at + len(data)

            def acts(fault: Fault, at: int = at, end: int = end) -> bool:
                if fault.after is None or not self._fits(fault, pipe):
                    return False
                return at <= fault.after < end or (fault.after == at == end and fault.kind != "corrupt")

            fault = self.proxy.take(acts)
            if fault is None or fault.after is None:
                break
            split = fault.after - at
            self._push(pipe, data[:split], slot)
            if fault.kind in ("cut", "reset"):
                self._finish(pipe, "reset" if fault.kind == "reset" else "cut")
                return
            if fault.kind == "stall":
                self._stall(pipe)
            else:
                self._push(pipe, memoryview(bytes([data[split] ^ 0xFF])))
                split += 1
            data, at = data[split:], at + split
            if not len(data):
                return
        self._push(pipe, data, slot)

    # the queue -----------------------------------------------------------------------------------

    def _stall(self, pipe: Pipe) -> None:
        pipe.is_stalled = True
        self._push(pipe, _NOTHING, None, "stall")

    def _finish(self, pipe: Pipe, mark: Mark) -> None:
        """What was passed in this direction arrives; then it is over for both sides."""
        self.up.has_ended = self.down.has_ended = True
        self._push(pipe, _NOTHING, None, mark)

    def _push(self, pipe: Pipe, data: memoryview, slot: Slot | None = None, mark: Mark = "data") -> None:
        if not self.is_open or (mark == "data" and not len(data)):
            return
        now = time.monotonic()
        link = self.proxy.links[pipe.side]
        due = max(link.due(max(now, pipe.earliest), len(data)), pipe.last_due)
        pipe.last_due = due
        if slot is not None:
            slot.users += 1
        pipe.queue.append(Item(due, mark, data, slot))
        pipe.queued += len(data)
        if len(pipe.queue) == 1:
            self.flush(pipe, now)

    def flush(self, pipe: Pipe, now: float) -> None:
        """Sends what is due and sets the alarm for what is not. Does not `watch`."""
        queue = pipe.queue
        if pipe is self.up and not self.is_connected:
            return
        while self.is_open and queue and not (pipe.is_blocked or self.proxy.is_silent):
            item = queue[0]
            if item.due > now:
                if pipe.alarm != item.due:
                    self.proxy.wake(item.due, self, pipe)
                return
            if item.mark == "data":
                if not self._send(pipe, item):
                    return
            elif item.mark == "stall":
                return
            elif item.mark == "fin":
                self._shut(pipe)
            else:
                self.close(reset=item.mark == "reset")
                return
            if self.is_open:
                queue.popleft()
                self._drop(item.slot)

    def _send(self, pipe: Pipe, item: Item) -> bool:
        """Whether all of it was taken."""
        try:
            sent = pipe.target.sock.send(item.data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.close(reset=True)
            return False
        self.proxy.moved[pipe.side] += sent
        pipe.queued -= sent
        item.data = item.data[sent:]
        pipe.is_blocked = len(item.data) > 0
        return not pipe.is_blocked

    def _shut(self, pipe: Pipe) -> None:
        pipe.is_done = True
        if self.up.is_done and self.down.is_done:
            self.close(reset=False)
            return
        try:
            pipe.target.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.close(reset=True)

    def unstall(self, now: float) -> None:
        for pipe in (self.up, self.down):
            pipe.is_stalled = False
            pipe.queue = deque(item for item in pipe.queue if item.mark != "stall")
            self.flush(pipe, now)
        self.watch()

    def close(self, reset: bool) -> None:
        if not self.is_open:
            return
        self.is_open = False
        self.client.close(reset)
        self.server.close(reset)
        for pipe in (self.up, self.down):
            for item in pipe.queue:
                self._drop(item.slot)
            pipe.queue.clear()
        self.proxy.connections.discard(self)


def _encode(fault: Fault, is_last: bool) -> bytes:
    body = fault.body.encode()
    head = {"Content-Length": str(len(body)), **({"Connection": "close"} if is_last else {}), **fault.headers}
    lines = [f"HTTP/1.1 {fault.status} Fault", *(f"{name}: {value}" for name, value in head.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


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
        self.epoll.register(self._listener.fileno(), _IN)

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
        self.epoll.register(0, _IN)
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
