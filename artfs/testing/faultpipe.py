"""What a fault proxy's connections are made of: the link that delays, buffers, the two ends, and the queue of each direction."""

from __future__ import annotations

import select
import socket
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from artfs.store.linux import aligned_buffer
from artfs.testing.faultproxy import Side

if TYPE_CHECKING:
    from artfs.testing.faultloop import Proxy

BUFFER = 1 << 20
WINDOW = 16 << 20
"""Bytes under way in one direction of one connection, at most: what delays and limits can hold back."""

_POOLED = 32
SMALL = 64 * 1024
_SLICE_S = 0.005
"""With a limit of bytes per second, as many are read at once as take so long, so that connections share it fairly."""

IN, OUT, RDHUP = select.EPOLLIN, select.EPOLLOUT, select.EPOLLRDHUP

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
            return min(WINDOW, max(2 * SMALL, int(self.rate * (self.delay_s + 4 * _SLICE_S))))
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


NOTHING = memoryview(b"")


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
