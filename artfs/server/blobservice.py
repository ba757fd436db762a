"""The calls about small blobs, trees and places (docs/wire.md): what they do, without HTTP. `uploads` has those about large ones.

Rules that hold for all:
- A blob is there for a caller if one of the projects that it may read has it; otherwise it is missing, whoever else has it.
- What is asked of a sender, and what it is told, depends on its own project alone: what others have shows in nothing.
- Bytes count when this process has hashed them, and not before they are in the bucket.
"""

from __future__ import annotations

import base64
import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from urllib.parse import urlsplit

import msgspec
from cachetools import LRUCache

from artfs.catalog.blobledger import (
    BlobLedger,
    Found,
    NewObject,
    NewPack,
    Packed,
    new_blob_key,
    new_pack_key,
    part_keys,
)
from artfs.errors import (
    ArtfsError,
    BadBlobError,
    BadObjectError,
    BlobMissingError,
    NotFoundError,
    QuotaError,
)
from artfs.model.access import Token
from artfs.model.blocklist import decode_block_list, has_lower_list
from artfs.model.digests import BLOCK_SIZE, RAW_LENGTH, digest_bytes, from_raw, to_raw
from artfs.model.pages import MAX_DEPTH, try_below
from artfs.model.unreadable import UNREADABLE
from artfs.server.reading import BulkReader
from artfs.store.bucket import Bucket, Buffer
from artfs.wire.blobroutes import MAX_PART
from artfs.wire.frames import HEAD_NBYTES, Frame, encode_frames, split_frames
from artfs.wire.messages import (
    MAX_FRAMES,
    MAX_SMALL,
    BlobList,
    BlockListBytes,
    Located,
    LocatedBlob,
    LocateRequest,
    Stored,
    StoredObject,
    TreesRequest,
)

PACKED_NBYTES = 128 * 1024
"""Blobs of at most so many bytes that came together are kept in one pack, larger ones are objects of their own."""

URL_S = 3600.0
"""How long a place that was told is good for, in seconds."""

BELIEVED_S = 10.0
"""For how long it is believed that a caller may read an object, so that not each range of it asks the database."""

_LISTS_NBYTES = 16 * 1024 * 1024
"""Bytes of block lists in one answer."""

_LEVELS = 4 * MAX_DEPTH
"""So many times pages are asked for that others named, in one answer."""


@dataclass(frozen=True, slots=True)
class ObjectRange:
    """What may be read at a place that was told: `size` bytes of an object from `offset` on."""

    key: str
    offset: int
    size: int


class _Ticket(msgspec.Struct, frozen=True, array_like=True):
    """What the token of a place says: until when (seconds since 1970), and either an object, or (in a pack of others) one blob.
    Whoever shows it must be able to read that anyway: it opens nothing by itself."""

    until: int
    key: str
    digest: bytes


_tickets = msgspec.msgpack.Decoder(_Ticket)


class BlobService:
    """Thread-safe; its calls block. `clock`: seconds since 1970, for places that are told."""

    def __init__(self, ledger: BlobLedger, bucket: Bucket, *, clock: Callable[[], float] = time.time) -> None:
        self.ledger = ledger
        self.bucket = bucket
        self.reader = BulkReader(bucket)
        self._clock = clock
        self._pool = ThreadPoolExecutor(8, "artfs-put")
        self._lock = threading.Lock()
        self._deletions: set[Future[None]] = set()
        self._believed: LRUCache[tuple[int | None, str], tuple[float, ObjectRange]] = LRUCache(10_000)

    def close(self) -> None:
        """Waits for objects that are being deleted."""
        self._pool.shutdown()
        self.reader.close()
        self.bucket.close()

    # reading ----------------------------------------------------------------------------------------------------
    def plan_read(self, reader: Token | None, digests: Sequence[str]) -> tuple[list[Found], bool]:
        """Small blobs, of those that are there, in that order; True: there are more, which are too many bytes."""
        found = self.ledger.find(reader, list(dict.fromkeys(digests)))
        planned: list[Found] = []
        nbytes = 0
        for digest in dict.fromkeys(digests):
            each = found.get(digest)
            if each is None or each.size > MAX_SMALL:
                continue
            nbytes += each.size
            if nbytes > MAX_FRAMES:
                return planned, True
            planned.append(each)
        return planned, False

    def frames(self, planned: Iterable[Found]) -> Iterator[bytes]:
        """The body that has these, in pieces of a megabyte or so."""
        return self.encoded((found.digest, data) for found, data in self.reader.read(planned))

    def encoded(self, blobs: Iterable[tuple[str, Buffer]]) -> Iterator[bytes]:
        pieces: list[Buffer] = []
        nbytes = 0
        for digest, data in blobs:
            pieces += encode_frames([(digest, data)])
            nbytes += len(data) + HEAD_NBYTES
            if nbytes >= MAX_SMALL:
                yield b"".join(pieces)
                pieces, nbytes = [], 0
        if pieces:
            yield b"".join(pieces)

    def trees(self, reader: Token | None, request: TreesRequest) -> tuple[list[tuple[str, Buffer]], bool]:
        """Pages, those of one level before those below, and whether there are more. A root that is no page comes alone. Raises
        BlobMissingError for a root that is not there."""
        pages: list[tuple[str, Buffer]] = []
        seen = {request.root}
        level = [request.root]
        left = request.max_bytes
        for number in range(_LEVELS):
            found = self.ledger.find(reader, level)
            if not number and request.root not in found:
                raise missing(request.root)
            wanted: list[Found] = []
            for digest in level:
                each = found.get(digest)
                if each is None:
                    continue  # whoever wants it will be told so
                left -= each.size
                if each.size > MAX_SMALL or (left < 0 and (pages or wanted)):
                    return pages + self._all(wanted), True
                wanted.append(each)
            level = []
            for page in self._all(wanted):
                pages.append(page)
                below = try_below(memoryview(page[1]))
                if below is not None:
                    level += below.pages
                    if request.recursive:
                        level += below.directories
            level = [digest for digest in dict.fromkeys(level) if digest not in seen]
            seen.update(level)
            if not level:
                return pages, False
        return pages, True

    def _all(self, wanted: list[Found]) -> list[tuple[str, Buffer]]:
        return [(found.digest, data) for found, data in self.reader.read(wanted)]

    # places -----------------------------------------------------------------------------------------------------
    def locate(self, reader: Token | None, request: LocateRequest) -> Located:
        found = self.ledger.find(reader, list(dict.fromkeys([*request.digests, *request.with_lists])))
        lists, lower = self._block_lists(found, request.with_lists)
        if lower:
            found |= self.ledger.find(reader, [digest for digest in lower if digest not in found])
        wanted = dict.fromkeys([*request.digests, *lower])
        places = _Places(self.bucket, self._clock)
        blobs = [places.add(found[digest]) for digest in wanted if digest in found]
        absent = [digest for digest in dict.fromkeys(request.digests) if digest not in found]
        return Located(places.objects(), blobs, absent, lists)

    def blob_host(self) -> str:
        """As wire.messages.BlobHost.url."""
        if not self.bucket.signs:
            return ""
        parts = urlsplit(self.bucket.sign_get(["any"], URL_S)[0])
        return f"{parts.scheme}://{parts.netloc}"

    def _block_lists(
        self, found: dict[str, Found], tops: Sequence[str]
    ) -> tuple[list[BlockListBytes], list[str]]:
        """(tops with their bytes, digests of lower lists that they name)."""
        here: list[Found] = []
        nbytes = 0
        for digest in dict.fromkeys(tops):
            each = found.get(digest)
            if each is not None and each.size <= BLOCK_SIZE + 64 and nbytes + each.size <= _LISTS_NBYTES:
                here.append(each)
                nbytes += each.size
        lists: list[BlockListBytes] = []
        lower: list[str] = []
        for each, data in self.reader.read(here):
            top = bytes(data)
            lists.append(BlockListBytes(each.digest, top))
            if (named := lower_list(top)) is not None:
                lower.append(named)
        return lists, lower

    def open_object(self, reader: Token | None, token: str) -> ObjectRange:
        """Where a place that was told is. Raises NotFoundError for one that never was, is not good any more, or not for this
        caller."""
        who = None if reader is None else reader.id
        now = self._clock()
        with self._lock:
            until, place = self._believed.get((who, token), (0.0, None))
        if place is not None and now < until:
            return place
        ticket = read_ticket(token)
        if ticket is None or ticket.until <= now:
            raise NotFoundError("there is no such object, or its URL is not good any more: ask where the blob is")
        place = self._place(reader, ticket)
        with self._lock:
            self._believed[who, token] = (min(now + BELIEVED_S, float(ticket.until)), place)
        return place

    def _place(self, reader: Token | None, ticket: _Ticket) -> ObjectRange:
        if ticket.key:
            size = self.ledger.reads_object(reader, ticket.key)
            if size is not None:
                return ObjectRange(ticket.key, 0, size)
        elif len(ticket.digest) == RAW_LENGTH:
            found = self.ledger.find(reader, [from_raw(ticket.digest)])
            for each in found.values():
                return ObjectRange(each.key, each.offset, each.size)
        raise NotFoundError("there is no such object, or its URL is not good any more: ask where the blob is")

    def read_object(self, place: ObjectRange, offset: int, nbytes: int) -> bytes:
        """Bytes of a place. Raises BlobMissingError when its object was deleted since."""
        data = self.bucket.read(place.key, [(place.offset + offset, nbytes)])[0]
        return data if isinstance(data, bytes) else bytes(data)

    # writing ----------------------------------------------------------------------------------------------------
    def missing(self, project_id: int | None, digests: Sequence[str]) -> BlobList:
        """`project_id` None: the project is not made yet."""
        held = {} if project_id is None else self.ledger.hold(project_id, set(digests))
        return BlobList([digest for digest in dict.fromkeys(digests) if digest not in held])

    def store(self, project_id: int, body: Buffer) -> Stored:
        """Blobs in frames: all of them are in the project when this returns, or none is when it raises (UsageError for what is no
        body of frames, BadBlobError for a wrong digest, QuotaError, StorageError, UnavailableError)."""
        frames = split_frames(body)
        check_frames(body, frames)
        distinct = {frame.digest: frame for frame in frames}
        held = self.ledger.hold(project_id, distinct)
        new = [frame for frame in distinct.values() if frame.digest not in held]
        self.ledger.check_quota(project_id, sum(frame.size for frame in new))
        self._store_new(project_id, body, frames, new)
        return Stored(len(frames), sum(frame.size for frame in frames))

    def store_blobs(self, project_id: int, blobs: Iterable[bytes]) -> None:
        """Blobs of our own making (block lists)."""
        self.store(project_id, b"".join(encode_frames((digest_bytes(data), data) for data in blobs)))

    def _store_new(self, project_id: int, body: Buffer, frames: list[Frame], new: list[Frame]) -> None:
        small = [frame for frame in new if frame.size <= PACKED_NBYTES]
        large = [frame for frame in new if frame.size > PACKED_NBYTES]
        view = memoryview(body)
        objects = [NewObject(f.digest, f.size, new_blob_key(f.digest), MAX_PART) for f in large]
        tasks = [(each.key, view[f.offset : f.offset + f.size]) for each, f in zip(objects, large, strict=True)]
        pack = None
        if small:
            # The body is nearly the pack already, and has to be copied only when something in it is not to be kept.
            data, blobs = (body, frames) if len(small) == len(frames) else _pack(view, small)
            pack = NewPack(new_pack_key(), len(data), [Packed(f.digest, f.size, f.offset) for f in blobs])
            tasks.append((pack.key, memoryview(data)))
        if not tasks:
            return
        try:
            self._put_all(tasks)
            useless = self.ledger.add(project_id, pack, objects)
        except QuotaError:
            # Only then: after any other error nobody knows whether the rows are there.
            self.delete_later([key for key, _ in tasks])
            raise
        self.delete_later([each.key for each in useless])

    def _put_all(self, tasks: list[tuple[str, memoryview]]) -> None:
        if len(tasks) == 1:
            self.bucket.put(*tasks[0])
            return
        futures = [self._pool.submit(self.bucket.put, key, data) for key, data in tasks]
        errors = [error for future in futures if (error := future.exception()) is not None]
        if errors:
            raise errors[0]

    def delete_later(self, keys: Sequence[str]) -> None:
        """Deletes objects that nobody needs, beside the answer. What cannot be deleted garbage collection finds by listing."""
        if keys:
            with self._lock:
                self._deletions = {future for future in self._deletions if not future.done()}
                self._deletions.add(self._pool.submit(_delete, self.bucket, list(keys)))

    def settle(self) -> None:
        """Waits for what `delete_later` was asked for so far."""
        with self._lock:
            deletions = list(self._deletions)
        wait(deletions)


def _delete(bucket: Bucket, keys: list[str]) -> None:
    try:
        bucket.delete(keys)
    except ArtfsError:
        return  # it is found by listing


class _Places:
    """Collects the objects of an answer."""

    def __init__(self, bucket: Bucket, clock: Callable[[], float]) -> None:
        self._bucket = bucket
        self._until = int(clock() + URL_S)
        self._keys: dict[str, int] = {}  # of objects that may be told as a whole, and their sizes
        self._single: dict[str, int] = {}  # of blobs that only our own URLs can tell
        self._numbers: dict[str, int] = {}

    def add(self, found: Found) -> LocatedBlob:
        if not found.whole:
            if self._bucket.signs:
                return LocatedBlob(found.digest, found.size, [])
            self._single[found.digest] = found.size
            return LocatedBlob(found.digest, found.size, [self._number(found.digest)])
        if found.is_packed:
            self._keys[found.key] = found.object_size
            return LocatedBlob(found.digest, found.size, [self._number(found.key)], found.offset)
        keys = part_keys(found.key, found.size, found.part_size)
        for at, key in enumerate(keys):
            self._keys[key] = min(found.part_size, found.size - at * found.part_size)
        numbers = [self._number(key) for key in keys]
        return LocatedBlob(found.digest, found.size, numbers, part_size=found.part_size if len(keys) > 1 else 0)

    def _number(self, name: str) -> int:
        return self._numbers.setdefault(name, len(self._numbers))

    def objects(self) -> list[StoredObject]:
        urls: dict[str, str]
        if self._bucket.signs:
            urls = dict(zip(self._keys, self._bucket.sign_get(list(self._keys), URL_S), strict=True))
        else:
            urls = {key: self._url(_Ticket(self._until, key, b"")) for key in self._keys}
            urls |= {digest: self._url(_Ticket(self._until, "", to_raw(digest))) for digest in self._single}
        sizes = {**self._keys, **self._single}
        return [StoredObject(urls[name], sizes[name], URL_S) for name in self._numbers]

    def _url(self, ticket: _Ticket) -> str:
        token = base64.urlsafe_b64encode(msgspec.msgpack.encode(ticket)).rstrip(b"=").decode()
        return f"/v1/objects/{token}"


def read_ticket(token: str) -> _Ticket | None:
    """None: it is none."""
    try:
        data = base64.b64decode(token.encode("ascii") + b"=" * (-len(token) % 4), b"-_", validate=True)
        return _tickets.decode(data)
    except (ValueError, *UNREADABLE):
        return None


def missing(digest: str) -> BlobMissingError:
    return BlobMissingError(f"there is no blob {digest}, or you may not read it", digest)


def check_frames(body: Buffer, frames: Iterable[Frame]) -> None:
    """The one door through which small blobs enter. Raises BadBlobError."""
    view = memoryview(body)
    for digest, offset, size in frames:
        if hashlib.sha256(view[offset : offset + size]).hexdigest() != digest:
            raise BadBlobError(f"these {size:,} bytes are not blob {digest}", digest)


def lower_list(top: bytes) -> str | None:
    """The digest of the lower list that a top block list names; None when it names none, or is no block list."""
    try:
        size = _block_list.decode(top)[1]
        if not has_lower_list(size):
            return None
        return decode_block_list(digest_bytes(top), top, size).lower.hex()
    except (*UNREADABLE, BadObjectError):
        return None


_block_list = msgspec.msgpack.Decoder(tuple[int, int, bytes, bytes], strict=True)


def _pack(view: memoryview, small: list[Frame]) -> tuple[Buffer, list[Frame]]:
    """A pack of some of the frames of a body."""
    pieces: list[memoryview] = []
    moved: list[Frame] = []
    at = 0
    for frame in small:
        pieces.append(view[frame.offset - HEAD_NBYTES : frame.offset + frame.size])
        moved.append(frame._replace(offset=at + HEAD_NBYTES))
        at += HEAD_NBYTES + frame.size
    return b"".join(pieces), moved
