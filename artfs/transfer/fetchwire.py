"""What a process and the one that fetches for it say to each other (fetchprocess.py, fetchchild.py).

Over a socket pair, each message is

    4 bytes   length of what follows them, big-endian
    4 bytes   length of the data
    msgpack   a Request, or an Answer
    data      of the events of an Answer that have some, one after the other

Both are of one release, one of the two forked the other, and nobody else can say anything: nothing is checked, and nothing has
a version.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Sequence
from typing import Any

import msgspec

HEAD = struct.Struct(">II")

GATE_OPEN, GATE_PROBE, GATE_SHUT = range(3)
"""What a transfer finds when it is about to ask the server: nothing special; it should find out quickly whether it answers; it
should not ask."""

_VECTORS = 1000


class _Message(msgspec.Struct, array_like=True, tag=True, gc=False):
    """Of either side."""


class Begin(_Message):
    """The first one: the asker is ready, and has opened the cache."""


class Packed(_Message):
    """Of either side: where small blobs are in the cache, whose index may not know it yet. `rows`: raw digest, offset, size."""

    pack: int
    name: str
    rows: list[tuple[bytes, int, int]]


# what is asked for -----------------------------------------------------------------------------------------------------
class FetchSmalls(_Message):
    """Ended by `Done`. `refusal`: what to say when the gate is shut. `nbytes`: of all together, if that is known. `waited`: so
    many of them are waited for, the first ones."""

    number: int
    gate: int
    refusal: str
    digests: list[str]
    nbytes: int | None
    waited: int


class FetchBlocks(_Message):
    """The blocks first … stop - 1. Ended by `Done`. `is_open`: whether the asker has the blob's file open."""

    number: int
    gate: int
    refusal: str
    digest: str
    size: int
    blocks: str
    first: int
    stop: int
    is_open: bool


class Forget(_Message):
    """A large blob (largeblob.large_key) is not read any more, or what is here of it is another file now."""

    key: str


class ForgetSmall(_Message):
    """A small blob in the cache was found wrong."""

    digest: str


class Connect(_Message):
    """Something may be asked for soon."""


Request = Begin | Connect | Packed | FetchSmalls | FetchBlocks | Forget | ForgetSmall


# what is told ----------------------------------------------------------------------------------------------------------
class Done(_Message):
    """Nothing more comes for this request."""

    number: int


class SmallBytes(_Message):
    """Data: a small blob, checked."""

    digest: str
    nbytes: int


class SmallsLanded(_Message):
    digests: list[str]


class SmallsKept(_Message):
    """They came now, were found right, and are in packs that were told."""

    digests: list[str]


class SmallFailed(_Message):
    digest: str
    error: dict[str, Any]


class Opened(_Message):
    """The block list of a large blob, for FetchBlocks `number`: what its top says, and (data) the hashes of all blocks when
    the blob is complete in the cache."""

    number: int
    size: int
    lower: bytes
    top_hashes: bytes
    nbytes: int


class BlockBytes(_Message):
    """Data: a block, checked, that the cache has no room for."""

    number: int
    index: int
    nbytes: int


class BlocksLanded(_Message):
    """`checked`: they came now, and were found right."""

    number: int
    indexes: list[int]
    checked: bool


class BlocksFailed(_Message):
    number: int
    indexes: list[int]
    error: dict[str, Any]


class Told(_Message):
    """Something went wrong."""

    error: dict[str, Any]
    what: str


class Damaged(_Message):
    """A whole blob of the cache was."""

    message: str


class Contact(_Message):
    """A try reached the server, or did not."""

    reached: bool
    what: str


Event = (
    Done | SmallBytes | Packed | SmallsLanded | SmallsKept | SmallFailed | Opened | BlockBytes | BlocksLanded | BlocksFailed
    | Told | Damaged | Contact
)


class Answer(msgspec.Struct, array_like=True, gc=False):
    """`requests`, `nbytes`, `wrong`: as FetchStats counts them, since the start."""

    requests: int
    nbytes: int
    wrong: int
    events: list[Event]


_encode = msgspec.msgpack.Encoder().encode
decode_request = msgspec.msgpack.Decoder(Request).decode
decode_answer = msgspec.msgpack.Decoder(Answer).decode


class Sender:
    """Thread-safe."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lock = threading.Lock()

    def send(self, message: Request | Answer, data: Sequence[bytes | memoryview] = ()) -> None:
        """Raises OSError."""
        meta = _encode(message)
        parts: list[bytes | memoryview] = [HEAD.pack(len(meta), sum(map(len, data))), meta, *data]
        with self._lock:
            for start in range(0, len(parts), _VECTORS):
                self._send_all(parts[start : start + _VECTORS])

    def _send_all(self, parts: list[bytes | memoryview]) -> None:
        left = sum(map(len, parts))
        while True:
            sent = self._sock.sendmsg(parts)
            left -= sent
            if not left:
                return
            at = 0
            while sent >= len(parts[at]):
                sent -= len(parts[at])
                at += 1
            parts = [memoryview(parts[at])[sent:], *parts[at + 1 :]]


def receive(sock: socket.socket) -> tuple[memoryview, memoryview] | None:
    """(msgpack, data) of the next message; None at the end. Raises OSError."""
    head = bytearray(HEAD.size)
    if not _fill(sock, memoryview(head)):
        return None
    meta_length, data_length = HEAD.unpack(head)
    body = memoryview(bytearray(meta_length + data_length))
    if not _fill(sock, body):
        return None
    return body[:meta_length], body[meta_length:]


def _fill(sock: socket.socket, view: memoryview) -> bool:
    while view:
        got = sock.recv_into(view, 0, socket.MSG_WAITALL)
        if not got:
            return False
        view = view[got:]
    return True
