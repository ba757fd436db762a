"""The bodies of calls about blobs (docs/wire.md), as values. Calls about names use the records of `artfs.model.records`.

Digests are 64 lower-case hex digits, sizes and offsets bytes.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

MAX_DIGESTS = 10_000
"""Most digests in one request."""

MAX_SMALL = 1024 * 1024
"""Largest blob that goes through `blobs` and `blobs/read`; larger ones have block lists, uploads and ranges."""

MAX_FRAMES = 32 * 1024 * 1024
"""Most bytes of blobs in one body of frames."""

MAX_BLOB = 4 * 1024**4
"""Most bytes of a blob that a server takes: 65,536 parts of 64 MiB, and half a gigabyte of hashes in its block list."""

HexDigest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
_Size = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
_Digests = Annotated[list[HexDigest], msgspec.Meta(max_length=MAX_DIGESTS)]


class BlobList(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    digests: _Digests


class LocateRequest(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """`with_lists`: digests of block lists (tops) whose bytes are wanted as well, with the places of their lower lists."""

    digests: _Digests
    with_lists: Annotated[list[HexDigest], msgspec.Meta(max_length=1000)] = []


class StoredObject(msgspec.Struct, frozen=True):
    """`url`: see docs/wire.md. `size` of the object. `seconds`: how long the URL is good for, counted from the answer."""

    url: str
    size: _Size
    seconds: float


class LocatedBlob(msgspec.Struct, frozen=True, omit_defaults=True):
    """`objects`: indexes in Located.objects; one, or one for each part of `part_size`; none: read it with `blobs/read`.
    `offset`: where it begins in the object (0 when there are several)."""

    digest: HexDigest
    size: _Size
    objects: list[int]
    offset: _Size = 0
    part_size: _Size = 0


class BlockListBytes(msgspec.Struct, frozen=True):
    digest: HexDigest
    data: bytes


class Located(msgspec.Struct, frozen=True, omit_defaults=True):
    """`blobs` in the order asked for, without those in `missing`; lower lists of `with_lists` behind them. `lists`: the
    tops that were found."""

    objects: list[StoredObject]
    blobs: list[LocatedBlob]
    missing: list[HexDigest] = []
    lists: list[BlockListBytes] = []


class BlobHost(msgspec.Struct, frozen=True):
    """`url`: of the host that places of blobs lead to, without a path; "": this server's own paths."""

    url: str


class TreesRequest(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """`root`: a tree page of any directory. `max_bytes`: of the answer; the first page always comes. `recursive` False: only
    the pages of this one directory."""

    root: HexDigest
    max_bytes: Annotated[int, msgspec.Meta(ge=1, le=MAX_FRAMES)] = 8 * 1024 * 1024
    recursive: bool = True


class Stored(msgspec.Struct, frozen=True):
    count: int
    nbytes: int


class UploadRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    digest: HexDigest
    size: Annotated[int, msgspec.Meta(ge=0, le=MAX_BLOB)]


class UploadPart(msgspec.Struct, frozen=True, omit_defaults=True):
    """A part that is not there yet. PUT `size` bytes from `number * part_size` on to `url`, with `headers`. `url` absolute:
    the bucket's, without our token; "": tell its SHA-256 first (`Upload.checks`)."""

    number: int
    size: _Size
    url: str
    headers: dict[str, str] = {}


class Upload(msgspec.Struct, frozen=True, omit_defaults=True):
    """`id` "": nothing is to be sent, the project has the blob. `parts`: those to send, at most 100 at a time (more are told
    when these are done); `done`: numbers of those that are there. `checks`: the bucket refuses a part that has not the SHA-256
    which the sender told in `PartsDone.want`, so it is worth telling."""

    id: str
    part_size: _Size = 0
    checks: bool = False
    parts: list[UploadPart] = []
    done: list[int] = []


class PartDone(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """`sha256` "": nobody computed it (the server reads everything once before it counts)."""

    number: Annotated[int, msgspec.Meta(ge=0)]
    sha256: Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{64})?$")] = ""


class PartsDone(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`parts` that were sent since the last call. `want`: (number, SHA-256 in hex) of parts that the caller sends next, so that
    their URLs make the bucket check them; [] for any."""

    parts: list[PartDone] = []
    want: list[PartDone] = []


class FinishLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """`verified`: bytes so far. `done`: the blob counts now; `blocks`: the digest of its block list. `error`: as in an
    error's body; the upload is gone then when the bytes are wrong, and can go on when they are not all there."""

    verified: _Size
    done: bool = False
    blocks: HexDigest = ""
    error: dict[str, str] | None = None


class TreeCheck(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`root`: of a version that is to be committed."""

    root: HexDigest


class CheckLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """`files`: that were looked at so far. The last line has `done`, or `error` as in an error's body."""

    files: int
    done: bool = False
    error: dict[str, str] | None = None


class CollectionUsage(msgspec.Struct, frozen=True):
    """`size`: of all its versions together. `nbytes`: of the blobs that they need, each counted once."""

    name: str
    versions: int
    size: int
    nbytes: int


class ProjectUsage(msgspec.Struct, frozen=True):
    """`nbytes`: of all `blobs` of the project, each counted once, whichever collections need it, and what no version needs (any
    more, or yet). `quota`: what they may be at most; null: as many as there is room for."""

    entity: str
    project: str
    blobs: int
    nbytes: int
    quota: int | None
    collections: list[CollectionUsage]


class QuotaBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`nbytes` null: as many as there is room for."""

    nbytes: _Size | None


class CollectRequest(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """`grace_s`: what was touched or deleted so many seconds ago stays; an hour at least."""

    grace_s: Annotated[float, msgspec.Meta(ge=3600, le=1e9)] = 86400.0
    dry_run: bool = False


class CollectedCounts(msgspec.Struct, frozen=True):
    """`expired`: names of versions that were deleted because their time was up. `removed`, `kept` (with bytes): blobs of
    projects. `objects`, `orphans`: objects of the bucket that were deleted; orphans are those that nothing had known of.
    `moved`: packs that were written anew. `uploads`: that were given up. `unread`: projects of which nothing was removed, as a
    tree of theirs cannot be read."""

    expired: list[str]
    removed: int
    removed_nbytes: int
    kept: int
    kept_nbytes: int
    objects: int
    orphans: int
    orphans_nbytes: int
    moved: int
    uploads: int
    unread: list[str]


class CollectLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """`step`: what is done now. The last line has `done`, or `error` as in an error's body."""

    step: str = ""
    done: CollectedCounts | None = None
    error: dict[str, str] | None = None
