"""Frames: many small blobs in one body (docs/wire.md). For each 40 bytes (32 raw digest, 8 big-endian size), then its bytes.

Nothing here checks a digest: that is the door's business (store.verify), where bytes enter a store.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from artfs.errors import UsageError
from artfs.wire.messages import MAX_DIGESTS, MAX_FRAMES, MAX_SMALL

MEDIA_TYPE = "application/vnd.artfs.frames"
_HEAD = struct.Struct(">32sQ")
HEAD_NBYTES = _HEAD.size
Data = bytes | bytearray | memoryview


def encode_frames(blobs: Iterable[tuple[str, Data]]) -> Iterator[Data]:
    """Pieces of a body, from (digest in hex, bytes)."""
    for digest, data in blobs:
        yield _HEAD.pack(bytes.fromhex(digest), len(data))
        yield data


class Frame(NamedTuple):
    """Of a whole body: the digest that the sender gives a blob (hex), where its bytes begin, and how many there are."""

    digest: str
    offset: int
    size: int


def split_frames(
    body: Data, *, max_small: int = MAX_SMALL, max_total: int = MAX_FRAMES, max_count: int = MAX_DIGESTS
) -> list[Frame]:
    """Takes a whole body apart without copying. Raises UsageError as FrameReader does, and for more than `max_count` frames."""
    frames: list[Frame] = []
    at = total = 0
    while at < len(body):
        if len(body) - at < HEAD_NBYTES:
            raise UsageError(f"the body ends in the middle of a frame ({len(body) - at} bytes)")
        digest, size = _HEAD.unpack_from(body, at)
        at += HEAD_NBYTES
        total += size
        if size > max_small:
            raise UsageError(f"a frame of {size:,} bytes is too large (at most {max_small:,})")
        if size > len(body) - at:
            raise UsageError(f"the body ends in the middle of a frame ({len(body) - at} bytes)")
        if total > max_total:
            raise UsageError("the frames of one body are too many bytes")
        if len(frames) == max_count:
            raise UsageError(f"a body has at most {max_count:,} frames")
        frames.append(Frame(digest.hex(), at, size))
        at += size
    return frames


class FrameReader:
    """Takes a body apart as it comes. `feed` pieces of any length; `finish` at its end.

    Raises UsageError for a blob over `max_small`, a body over `max_total` bytes of frames (their heads count, or empty ones
    would never end), and one that ends in a frame.
    """

    def __init__(self, *, max_small: int = MAX_SMALL, max_total: int = MAX_FRAMES) -> None:
        self._buffer = bytearray()
        self._max_small = max_small
        self._left = max_total

    def feed(self, data: bytes | memoryview) -> Iterator[tuple[str, bytes]]:
        """(digest in hex, bytes) of each frame that is whole now. The digest is what the sender says."""
        self._buffer += data
        at = 0
        while len(self._buffer) - at >= _HEAD.size:
            digest, size = _HEAD.unpack_from(self._buffer, at)
            if size > self._max_small:
                raise UsageError(f"a frame of {size:,} bytes is too large (at most {self._max_small:,})")
            end = at + _HEAD.size + size
            if len(self._buffer) < end:
                break
            self._left -= _HEAD.size + size
            if self._left < 0:
                raise UsageError("the frames of one body are too many bytes")
            yield digest.hex(), bytes(memoryview(self._buffer)[at + _HEAD.size : end])
            at = end
        del self._buffer[:at]

    def finish(self) -> None:
        if self._buffer:
            raise UsageError(f"the body ends in the middle of a frame ({len(self._buffer)} bytes)")
