"""A connection through a fault proxy: what comes is passed on, and the faults that fit it act where they should."""

from __future__ import annotations

import errno
import socket
import time
from collections import deque
from typing import TYPE_CHECKING

from artfs.testing.faultpipe import IN, NOTHING, OUT, RDHUP, SMALL, End, Item, Mark, Pipe, Slot
from artfs.testing.faultproxy import Fault
from artfs.testing.httpscan import Body, Head, RequestScan, ResponseScan

if TYPE_CHECKING:
    from artfs.testing.faultloop import Proxy


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
        if events & ~OUT:
            self._read(self.up)
        if events & OUT and self.is_open:
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
            if events & ~OUT:
                self._read(self.down)
            if events & OUT and self.is_open:
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
        self.client.watch(self._wants(self.up) | (OUT if self.down.is_blocked else 0))
        if self.is_connected:
            self.server.watch(self._wants(self.down) | (OUT if self.up.is_blocked else 0))
        else:
            self.server.watch(OUT)

    def _wants(self, pipe: Pipe) -> int:
        if pipe.is_stalled:
            # That the client goes away is noticed, the server may.
            return RDHUP if pipe is self.up else 0
        if pipe.has_ended or (pipe.queue and pipe.queued >= self.proxy.links[pipe.side].window):
            return 0
        return IN

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
            if nbytes < SMALL:
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
            self._push(pipe, NOTHING, None, "fin")

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
        self._pass_body(self.up, Body(NOTHING, 0), None)

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
        self._push(pipe, NOTHING, None, "stall")

    def _finish(self, pipe: Pipe, mark: Mark) -> None:
        """What was passed in this direction arrives; then it is over for both sides."""
        self.up.has_ended = self.down.has_ended = True
        self._push(pipe, NOTHING, None, mark)

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
