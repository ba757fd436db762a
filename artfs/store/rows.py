"""Files of rows that are only ever added to: each row has its length (4 bytes, little-endian), an XXH3-64 of its bytes (8 bytes)
and the bytes.

What is read ends before the first row that is torn (a killed process) or rotten: a disk that flips a bit in a digest must not
give a file another content.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from xxhash import xxh3_64_digest

_LENGTH = struct.Struct("<I")
_HEAD_NBYTES = _LENGTH.size + 8


def encode_row(data: bytes) -> bytes:
    return _LENGTH.pack(len(data)) + xxh3_64_digest(data) + data


def row_nbytes(data: bytes) -> int:
    """What a row takes in a file."""
    return _HEAD_NBYTES + len(data)


def split_rows(data: bytes) -> Iterator[bytes]:
    """The rows that are whole and right, in order."""
    view = memoryview(data)
    at = 0
    while at + _HEAD_NBYTES <= len(view):
        (length,) = _LENGTH.unpack_from(view, at)
        row = bytes(view[at + _HEAD_NBYTES : at + _HEAD_NBYTES + length])
        if len(row) != length or xxh3_64_digest(row) != view[at + _LENGTH.size : at + _HEAD_NBYTES]:
            return
        yield row
        at += _HEAD_NBYTES + length
