"""Names of blobs: SHA-256, written as 64 lower-case hexadecimal digits everywhere except inside encoded
objects, where the 32 raw bytes stand. A person can check one with `sha256sum`."""

from __future__ import annotations

import re
from hashlib import sha256

from artfs.errors import InvalidNameError

Digest = str
"""64 lower-case hexadecimal digits."""

RAW_LENGTH = 32
"""Bytes of a raw digest."""

BLOCK_SIZE = 256 * 1024
"""Bytes of a block: what a lazy read fetches and checks at least. The last block of a blob may be shorter."""

BLOCKS_ABOVE = 1024 * 1024
"""A blob of more bytes than this has a block list; one of this size or less has none and is fetched whole."""

MAX_SIZE = 2**63 - 1
"""Largest size of a blob, and of all files of a version, in bytes: what `off_t` and SQL integers hold."""

EMPTY: Digest = sha256(b"").hexdigest()
"""The digest of the empty blob."""

_DIGEST = re.compile(r"[0-9a-f]{64}")


def check_digest(text: str) -> Digest:
    """Returns `text` if it is a digest. Raises InvalidNameError."""
    if _DIGEST.fullmatch(text) is None:
        raise InvalidNameError(f"not a digest: {text!r}; a digest is 64 hexadecimal digits in lower case")
    return text


def digest_bytes(data: bytes | bytearray | memoryview) -> Digest:
    """The digest of `data`."""
    return sha256(data).hexdigest()


def to_raw(digest: Digest) -> bytes:
    """The 32 bytes that `digest` spells. Raises InvalidNameError."""
    return bytes.fromhex(check_digest(digest))


def from_raw(raw: bytes) -> Digest:
    """The digest of 32 raw bytes. Raises InvalidNameError for another length."""
    if len(raw) != RAW_LENGTH:
        raise InvalidNameError(f"not a digest: {len(raw)} bytes instead of {RAW_LENGTH}")
    return raw.hex()
