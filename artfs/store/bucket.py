"""Where a server keeps bytes: the interface of a bucket, a flat space of immutable objects. The contract is
`artfs.testing.bucket_contract`, a test suite that every implementation passes.

Keys are never used again: whoever makes an object puts random characters into its key. So an object with a key never changes,
nothing needs a precondition, and who deletes one can only hit the one that it means.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

from artfs.errors import UsageError

Buffer = bytes | bytearray | memoryview
"""What is written and read. Whoever gets one from a bucket may read it for as long as it likes."""

_KEY = re.compile(r"(?:[a-z0-9][a-z0-9._-]*/)*[a-z0-9][a-z0-9._-]*")
MAX_KEY = 255


class StoredObject(NamedTuple):
    """`modified`: seconds since 1970 UTC, by the bucket's clock."""

    key: str
    size: int
    modified: float


class SignedPut(NamedTuple):
    """Who has it may PUT the object, with exactly these headers, until it expires."""

    url: str
    headers: dict[str, str]


class ObjectWriter(Protocol):
    """An object on its way; see Bucket.writer."""

    def write(self, data: Buffer) -> None:
        """Adds bytes, which may be changed afterwards. Raises StorageError, UnavailableError."""
        ...

    def commit(self) -> None:
        """Makes the object appear, whole and durable. Raises StorageError, UnavailableError."""
        ...


class Bucket(Protocol):
    """All calls are blocking and thread-safe. StorageError: the disk or the bucket refuses, `errno` says why; UnavailableError:
    it cannot be reached, or not in time (retries are inside)."""

    @property
    def name(self) -> str:
        """For people: a path or URL without secrets."""
        ...

    @property
    def signs(self) -> bool:
        """Whether `sign_get` and `sign_put` work, that is, whether clients can reach the bucket themselves."""
        ...

    @property
    def is_near(self) -> bool:
        """Whether reading takes no round trip, so that it is no use to read several objects at once."""
        ...

    def keeps_what_was_put(self) -> bool:
        """Whether a URL of `sign_put` lets nobody store other bytes than those whose SHA-256 it was signed for. If not, or
        without URLs, who may put an object may change it afterwards: it must be copied to another key before its bytes are
        trusted. May ask the bucket, once."""
        ...

    @property
    def trusts_senders(self) -> bool:
        """Whoever runs the server says that no copy is needed even if the bucket does not keep what was put: senders do not
        change it while their URLs are good."""
        ...

    def put(self, key: str, data: Buffer) -> None:
        """Stores a whole object; durable when this returns."""
        ...

    def writer(self, key: str, size: int) -> AbstractContextManager[ObjectWriter]:
        """An object of exactly `size` bytes that comes in pieces. It appears with `commit`; leaving without that leaves nothing
        under the key. An implementation may keep the bytes in memory until then."""
        ...

    def copy(self, source: str, target: str) -> None:
        """Copies an object inside the bucket. Raises BlobMissingError."""
        ...

    def try_size(self, key: str) -> int | None:
        """Bytes of the object; None: there is none."""
        ...

    def read(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[Buffer]:
        """The bytes of each (offset, nbytes) of the object, which must have them all. Near ones may become one request. Raises
        BlobMissingError when there is no such object, StorageError when it is too short."""
        ...

    def stream(self, key: str, offset: int, nbytes: int) -> Iterator[Buffer]:
        """The bytes of one range in pieces of some MiB, each good until the next is asked for only. Raises as `read`."""
        ...

    def delete(self, keys: Sequence[str]) -> None:
        """Removes objects; one that is not there is fine."""
        ...

    def objects(self, prefix: str = "") -> Iterator[StoredObject]:
        """Every object whose key begins with `prefix` ("" or one that ends with "/"), in no order. Also what killed writers
        left, under keys that nobody asks for."""
        ...

    def sign_get(self, keys: Sequence[str], seconds: float) -> list[str]:
        """URLs by which whoever has them may read any range of the objects."""
        ...

    def sign_put(self, key: str, size: int, sha256: str, seconds: float) -> SignedPut:
        """A URL for an object of `size` bytes with that digest ("": any). Where the bucket can be told so, it accepts nothing
        else."""
        ...

    def close(self) -> None:
        """Closes connections; nothing may be called afterwards. Idempotent."""
        ...


def check_key(key: str) -> str:
    """Returns `key` if a bucket can have it. Raises ValueError: keys are made by us."""
    if len(key) > MAX_KEY or _KEY.fullmatch(key) is None:
        raise ValueError(f"not a key of a bucket: {key!r}")
    return key


def near_ranges(ranges: Iterable[tuple[int, int]], gap: int, most: int) -> Iterator[list[tuple[int, int]]]:
    """Groups of (offset, nbytes), sorted: those that lie so near each other that one request should get them all.

    Arguments:
        gap: bytes that nobody wants are fetched along when they are at most so many in a row.
        most: a group that has so many bytes already gets no more. (A single range may be larger.)
    """
    group: list[tuple[int, int]] = []
    end = 0
    for offset, nbytes in sorted(ranges):
        if group and offset + nbytes > end and (offset > end + gap or offset + nbytes - group[0][0] > most):
            yield group
            group = []
            end = 0
        group.append((offset, nbytes))
        end = max(end, offset + nbytes)
    if group:
        yield group


def open_bucket(url: str) -> Bucket:
    """The bucket of a URL.

    A path or file:///PATH is a folder, made (0700) when missing. The others need the extra `artfs[server]`, and find their
    credentials where the vendor's own tools find them (environment, configuration files, instance metadata):

        s3://BUCKET/PREFIX?endpoint=URL&region=NAME&public=URL&presign=no&copies=no&profile=NAME
        gs://BUCKET/PREFIX?endpoint=URL&presign=no&copies=no
        az://CONTAINER/PREFIX?account=NAME&endpoint=URL&presign=no&copies=no

    `endpoint`: another server that speaks the protocol; `public`: what clients call it, if that is not the same.
    `presign=no`: clients cannot reach it, all bytes pass through the server. `copies=no`: see Bucket.trusts_senders.
    Raises UsageError for a URL that is none, StorageError when a folder cannot be made, MissingExtraError.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme == "file":
        # Here, so that a server over a folder needs no obstore.
        from artfs.store.folderbucket import FolderBucket

        path = unquote(rest) if separator else url
        if not path:
            raise UsageError(f"not a place for blobs: {url!r} (give a path, or s3://BUCKET/PREFIX)")
        return FolderBucket(path)
    if scheme not in ("s3", "gs", "az"):
        raise UsageError(f"not a place for blobs: {url!r} (give a path, or s3://, gs:// or az://BUCKET/PREFIX)")
    from artfs.store.objectbucket import open_objects

    parts = urlsplit(url)
    if not parts.netloc or parts.fragment or "@" in parts.netloc:
        raise UsageError(f"not a place for blobs: {url!r} (give {scheme}://BUCKET/PREFIX?endpoint=…)")
    return open_objects(scheme, parts.netloc, parts.path.strip("/"), dict(parse_qsl(parts.query, keep_blank_values=True)))
