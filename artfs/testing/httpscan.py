"""Where messages begin and end in the bytes of an HTTP/1.1 connection, as far as a proxy must know it: no I/O, no copies of
bodies, and no opinion of what is in them."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

HEAD_MOST = 256 * 1024
"""A head that does not end within so many bytes is none."""

_REQUEST = re.compile(rb"[A-Z]{3,16} [^\r\n ]+ HTTP/1\.[01]\r?\n")
_BEGINS_LIKE_ONE = re.compile(rb"[A-Z]{0,16}(?: |$)")
_LENGTH = re.compile(rb"\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\ntransfer-encoding:[^\r\n]*chunked", re.IGNORECASE)
_EXPECTS = re.compile(rb"\nexpect:[ \t]*100-continue", re.IGNORECASE)
_INTERIM = re.compile(rb"HTTP/1\.[01] 1\d\d")


@dataclass(frozen=True, slots=True)
class Head:
    """A whole request head. `line`: "GET /path" with its query, "" for bytes that are no HTTP (TLS …), all of which are then
    one body. `expects`: the client waits for "100 Continue" before it sends the body."""

    data: bytes
    line: str
    expects: bool = False


@dataclass(frozen=True, slots=True)
class Body:
    """Some bytes of the message's body, with whatever frames chunks. `at`: how many came before them."""

    data: memoryview
    at: int


@dataclass(frozen=True, slots=True)
class End:
    """The request is over."""


@dataclass(slots=True)
class RequestScan:
    """What a client sends. `feed` gives parts in order; views in it are parts of what was fed."""

    _held: bytearray = field(default_factory=bytearray)
    _left: int = 0
    _at: int = 0
    _state: str = "head"
    _chunks: _Chunks | None = None

    def feed(self, data: memoryview) -> Iterator[Head | Body | End]:
        while len(data):
            if self._state == "head":
                data = yield from self._feed_head(data)
            elif self._state == "raw":
                yield self._body(data)
                return
            else:
                chunks = self._chunks
                taken = chunks.take(data) if chunks else min(self._left, len(data))
                self._left -= 0 if chunks else taken
                yield self._body(data[:taken])
                data = data[taken:]
                if chunks.is_over if chunks else not self._left:
                    self._state = "head"
                    yield End()

    def _body(self, data: memoryview) -> Body:
        part = Body(data, self._at)
        self._at += len(data)
        return part

    def _feed_head(self, data: memoryview) -> Generator[Head | Body | End, None, memoryview]:
        """Returns what it did not need."""
        known = len(self._held)
        looked_at = data[: HEAD_MOST - known]
        self._held += looked_at
        held = bytes(self._held)
        end = held.find(b"\r\n\r\n", max(known - 3, 0)) + 4
        is_whole = end >= 4
        if not _BEGINS_LIKE_ONE.match(held) or (_REQUEST.match(held[:end]) is None if is_whole else len(held) >= HEAD_MOST):
            self._held.clear()
            self._state, self._at = "raw", 0
            yield Head(b"", "")
            yield self._body(memoryview(held))
            return data[len(looked_at) :]
        if not is_whole:
            return data[len(looked_at) :]
        self._held.clear()
        yield self._begin(held[:end])
        if self._state == "head":
            yield End()
        return data[end - known :]

    def _begin(self, head: bytes) -> Head:
        line = head.partition(b"\r\n")[0].rpartition(b" ")[0].decode("latin-1")
        length = _LENGTH.search(head)
        self._left, self._at = int(length[1]) if length else 0, 0
        self._chunks = _Chunks() if _CHUNKED.search(head) else None
        if self._left or self._chunks:
            self._state = "body"
        return Head(head, line, bool(_EXPECTS.search(head)))


@dataclass(slots=True)
class _Chunks:
    """A chunked body (RFC 9112, 7.1). `is_over`: its last chunk and its trailers were taken."""

    is_over: bool = False
    _line: bytearray = field(default_factory=bytearray)
    _left: int = 0
    _in_trailers: bool = False

    def take(self, data: memoryview) -> int:
        """How many of these bytes belong to it."""
        at = 0
        while at < len(data) and not self.is_over:
            if self._left:
                step = min(self._left, len(data) - at)
                self._left -= step
                at += step
                continue
            rest = bytes(data[at : at + 4096])
            stop = rest.find(b"\n")
            self._line += rest if stop < 0 else rest[: stop + 1]
            at += len(rest) if stop < 0 else stop + 1
            if stop >= 0:
                self._take_line(bytes(self._line).strip())
                self._line.clear()
        return at

    def _take_line(self, line: bytes) -> None:
        if self._in_trailers:
            self.is_over = not line
            return
        try:
            size = int(line.partition(b";")[0], 16)
        except ValueError:
            size = 0
        self._in_trailers = not size
        self._left = size + 2 if size else 0


@dataclass(slots=True)
class ResponseScan:
    """What a server sends: where the body begins of the answer to the request that was begun last (nobody pipelines)."""

    _tail: bytes = b""
    _in_head: bool = False
    _at: int = 0

    def begin(self) -> None:
        """A new request went to the server."""
        self._in_head, self._at, self._tail = True, 0, b""

    def feed(self, data: memoryview) -> Iterator[memoryview | Body]:
        """Parts in order: views are of the head, of which a body, maybe empty, follows the last."""
        while len(data):
            if not self._in_head:
                yield Body(data, self._at)
                self._at += len(data)
                return
            known = len(self._tail)
            head = self._tail + bytes(data[:HEAD_MOST])
            end = head.find(b"\r\n\r\n")
            if end < 0:
                self._in_head = len(head) < HEAD_MOST
                self._tail = head
                yield data
                return
            taken = end + 4 - known
            yield data[:taken]
            data = data[taken:]
            self._tail = b""
            if not _INTERIM.match(head):
                self._in_head = False
                if not len(data):
                    yield Body(data, 0)
