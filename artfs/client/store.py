"""A server's blobs: asks where they are, and gets them from there (docs/wire.md). What comes is unchecked, but where it says so.

Where blobs are is remembered for as long as the answer is good for. A request that is cut is gone on with at the byte where
it stopped; a URL that is refused is asked for anew, once for what comes next. All within the deadline of the call.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

import cachetools
import httpx
import msgspec

from artfs.client.answer import AS_IT_IS, Answer
from artfs.client.connections import CONNECT_S
from artfs.client.http import Http, to_be_tried_again
from artfs.client.tries import Tries
from artfs.client.upload import Flights, RemoteBatch
from artfs.errors import (
    BadBlobError,
    BlobMissingError,
    StorageError,
    UnavailableError,
    UsageError,
    WaitTimeoutError,
)
from artfs.model.digests import BLOCKS_ABOVE, check_digest, digest_bytes
from artfs.model.records import Content
from artfs.store.base import Place
from artfs.store.verify import write_all
from artfs.wire.backoff import AGAIN
from artfs.wire.blobroutes import BLOB_HOST, LOCATE_BLOBS, MORE_HEADER, READ_BLOBS, READ_TREES
from artfs.wire.bodies import NoQuery
from artfs.wire.frames import FrameReader
from artfs.wire.messages import (
    MAX_DIGESTS,
    MAX_FRAMES,
    BlobHost,
    BlobList,
    Located,
    LocatedBlob,
    LocateRequest,
    TreesRequest,
)

LOCATIONS = 100_000
"""Blobs whose places are remembered."""

NEAR = 64 * 1024
"""Blobs of one object that lie closer together than this are got with one range."""

RANGE_NBYTES = 8 * 1024 * 1024
FEW_NBYTES = 512 * 1024
"""So few bytes of small blobs come quicker in one answer of the server than by asking where they are first."""

_EARLY_S = 5.0
"""A URL is not used in its last seconds."""


@dataclass(frozen=True, slots=True)
class _Spot:
    """Where a blob is: `urls` of its object, or of its parts of `part_size` bytes; none: only `read_blobs` gives it."""

    urls: tuple[str, ...]
    size: int
    offset: int
    part_size: int
    until: float


class _Stale(Exception):
    """A URL is not good any more."""


class RemoteStore:
    """See artfs.store.base: BlobStore and RangeSource. Thread-safe.

    Arguments:
        http: the server.
        place: the project that `begin()` writes for when none is given; None: it must be given.
    """

    def __init__(self, http: Http, *, place: Place | None = None) -> None:
        self._http = http
        self._place = place
        self._spots: cachetools.LRUCache[str, _Spot] = cachetools.LRUCache(LOCATIONS)
        self._lock = threading.Lock()
        self._flights = Flights()
        self._is_direct: bool | None = None  # whether objects are got from the bucket itself; None: not known yet

    def close(self) -> None:
        """Of `http` as well."""
        self._http.close()

    def connect(self, *, deadline: float) -> None:
        """See RangeSource. One small call to the server, and two to the bucket, whose answers do not matter: a large blob's first
        block and its block list are got at the same time."""
        host: BlobHost = self._http.call(BLOB_HOST, timeout_s=_left(deadline))
        if host.url:
            with ExitStack() as stack:
                fetch = partial(self._http.fetch, f"{host.url}/", headers={}, silence_s=min(_left(deadline), CONNECT_S))
                for answer in [stack.enter_context(fetch()) for _ in range(2)]:
                    for _ in answer.pieces:
                        pass  # to its end: only then its connection can be used again

    # where blobs are ----------------------------------------------------------------------------------------------
    def locate(self, digests: Sequence[str], lists: Sequence[str] = (), *, deadline: float) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for start in range(0, max(len(digests), 1), MAX_DIGESTS):
            request = LocateRequest(list(digests[start : start + MAX_DIGESTS]), list(lists) if start == 0 else [])
            asked_at = time.monotonic()
            located: Located = self._http.call(LOCATE_BLOBS, body=request, timeout_s=_left(deadline))
            self._learn(located, asked_at)
            found.update((each.digest, each.data) for each in located.lists)
        return found

    def _learn(self, located: Located, asked_at: float) -> None:
        try:
            spots = spots_of(located, asked_at)
        except (IndexError, ValueError):
            raise UnavailableError(f"{self._http.base_url} tells places of blobs that make no sense") from None
        with self._lock:
            self._spots.update(spots)
        if located.objects:
            self._is_direct = any("://" in each.url for each in located.objects)

    def _known_spots(self, digests: Sequence[str]) -> dict[str, _Spot]:
        now = time.monotonic()
        with self._lock:
            spots = [(digest, self._spots.get(digest)) for digest in digests]
        return {digest: spot for digest, spot in spots if spot is not None and spot.until > now}

    def _need_spots(self, digests: Sequence[str], deadline: float) -> dict[str, _Spot]:
        """Of those that are there."""
        spots = self._known_spots(digests)
        unknown = [digest for digest in digests if digest not in spots]
        if unknown:
            self.locate(unknown, deadline=deadline)
            spots |= self._known_spots(unknown)
        return spots

    def _forget(self, digests: Sequence[str]) -> None:
        with self._lock:
            for digest in digests:
                self._spots.pop(digest, None)

    # small blobs --------------------------------------------------------------------------------------------------
    def read_small(
        self, digests: Sequence[str], *, deadline: float, nbytes: int | None = None
    ) -> Iterator[tuple[str, bytes]]:
        if self._is_direct is False or (nbytes is not None and nbytes <= FEW_NBYTES):
            yield from self._read_frames(digests, deadline)
            return
        spots = self._need_spots(digests, deadline)
        through: list[str] = []
        by_url: dict[str, list[tuple[int, int, str]]] = {}
        for digest, spot in spots.items():
            if not spot.size:
                yield digest, b""
            elif len(spot.urls) == 1:
                by_url.setdefault(spot.urls[0], []).append((spot.offset, spot.size, digest))
            else:
                through.append(digest)
        if sum(spot.size for spot in spots.values()) <= FEW_NBYTES:
            through, by_url = [digest for digest, spot in spots.items() if spot.size], {}
        for url, blobs in by_url.items():
            for run in _runs(sorted(blobs)):
                rest = [digest for _, _, digest in run]
                try:
                    yield from self._read_run(url, run, deadline)
                except _Stale:
                    through += rest
                finally:
                    self._forget(rest)  # a small blob is got once, and places of thousands take memory
        yield from self._read_frames(through, deadline)

    def _read_run(
        self, url: str, run: list[tuple[int, int, str]], deadline: float
    ) -> Iterator[tuple[str, bytes]]:
        """Neighbours in one object, with one range."""
        first = run[0][0]
        nbytes = max(offset + size for offset, size, _ in run) - first
        buffer = bytearray()  # from `at` on
        at = first
        waiting = iter(run)
        offset, size, digest = next(waiting)
        with closing(self._object_range(url, first, nbytes, deadline)) as pieces:
            for piece in pieces:
                buffer += piece
                while digest and at + len(buffer) >= offset + size:
                    yield digest, bytes(memoryview(buffer)[offset - at : offset - at + size])
                    offset, size, digest = next(waiting, (0, 0, ""))
                done = min(offset - at if digest else len(buffer), len(buffer))
                del buffer[:done]
                at += done

    def _read_frames(self, digests: Sequence[str], deadline: float) -> Generator[tuple[str, bytes]]:
        """Through the server, in as many answers as it takes."""
        left = list(dict.fromkeys(digests))
        backoff = Tries(deadline)
        while left:
            came: set[str] = set()
            asked = set(left[:MAX_DIGESTS])
            try:
                content = msgspec.json.encode(BlobList(left[:MAX_DIGESTS]))
                with self._http.stream(
                    READ_BLOBS, None, NoQuery(), content=content, headers=_JSON, silence_s=backoff.silence_s()
                ) as response:
                    more = response.headers.get(MORE_HEADER) == "1"
                    for digest, data in _frames_of(response, deadline):
                        if digest not in asked:
                            raise UnavailableError(f"{self._http.base_url} sends blob {digest}, which nobody asked for")
                        came.add(digest)
                        yield digest, data
            except UnavailableError as error:
                left = [digest for digest in left if digest not in came]
                if came:
                    backoff.progressed()
                backoff.wait(error)
                continue
            if not more or not came:
                # What it did not send, of those that it was asked for, it has not.
                left = left[MAX_DIGESTS:]
                continue
            backoff.progressed()
            left = [digest for digest in left if digest not in came]

    def read_trees(self, page: str, *, max_bytes: int, deadline: float) -> Iterator[tuple[str, bytes]]:
        backoff = Tries(deadline)
        content = msgspec.json.encode(TreesRequest(page, min(max_bytes, MAX_FRAMES)))
        seen: set[str] = set()
        while True:
            try:
                with self._http.stream(
                    READ_TREES, None, NoQuery(), content=content, headers=_JSON, silence_s=backoff.silence_s()
                ) as response:
                    for digest, data in _frames_of(response, deadline):
                        if digest not in seen:
                            seen.add(digest)
                            yield digest, data
                return
            except (UnavailableError, WaitTimeoutError) as error:
                if page in seen:
                    return  # enough to go on with; the rest is asked for when it is needed
                backoff.wait(error)

    # ranges -------------------------------------------------------------------------------------------------------
    def read_range(
        self, digest: str, size: int, offset: int, nbytes: int, *, deadline: float
    ) -> Generator[bytes | memoryview]:
        done = 0
        refused_at = -1  # how much had come when a URL was refused last: a long transfer outlives several
        while True:
            spot = self._need_spots([digest], deadline).get(digest)
            if spot is None:
                raise BlobMissingError(f"{self._http.base_url} has no blob {digest}, or you may not read it", digest)
            if not spot.urls:
                yield from self._range_of_frame(digest, offset + done, nbytes - done, deadline)
                return
            try:
                for url, start, length in _pieces_of(spot, offset + done, nbytes - done):
                    with closing(self._object_range(url, start, length, deadline)) as pieces:
                        for piece in pieces:
                            done += len(piece)
                            yield piece
                return
            except _Stale as error:
                self._forget([digest])
                if done == refused_at:
                    raise UnavailableError(f"blob {digest} cannot be got: {error}") from None
                refused_at = done

    def _range_of_frame(self, digest: str, offset: int, nbytes: int, deadline: float) -> Iterator[bytes]:
        with closing(self._read_frames([digest], deadline)) as frames:
            for _, data in frames:
                yield data[offset : offset + nbytes]
                return
        raise BlobMissingError(f"{self._http.base_url} has no blob {digest}, or you may not read it", digest)

    def _object_range(self, url: str, offset: int, nbytes: int, deadline: float) -> Generator[bytes]:
        """Goes on after cuts. Raises _Stale, UnavailableError."""
        backoff = Tries(deadline)
        done = 0
        while done < nbytes:
            came = False
            headers = {"Range": f"bytes={offset + done}-{offset + nbytes - 1}", **AS_IT_IS}
            try:
                with self._http.fetch(url, headers=headers, silence_s=backoff.silence_s()) as answer:
                    _check_range(answer, offset + done)
                    for piece in _in_time(answer.pieces, deadline):
                        piece = piece[: nbytes - done]
                        done += len(piece)
                        came = True
                        yield piece
                if done < nbytes:
                    raise UnavailableError(f"{_host(url)} ended an answer {nbytes - done:,} bytes early")
            except UnavailableError as error:
                if came:
                    backoff.progressed()
                backoff.wait(error)

    # BlobStore ----------------------------------------------------------------------------------------------------
    def _deadline(self) -> float:
        return time.monotonic() + self._http.timeout_s

    def try_size(self, digest: str) -> int | None:
        """None, too, when our token may not read it."""
        spot = self._need_spots([check_digest(digest)], self._deadline()).get(digest)
        return None if spot is None else spot.size

    def read(self, digest: str) -> bytes:
        check_digest(digest)
        for attempt in (1, 2):
            with closing(self._read_frames([digest], self._deadline())) as frames:
                for _, data in frames:
                    if digest_bytes(data) == digest:
                        return data
                    if attempt == 2:
                        raise BadBlobError(f"{self._http.base_url} sends blob {digest} with other bytes", digest)
            if attempt == 2:
                break
        raise BlobMissingError(f"{self._http.base_url} has no blob {digest}, or you may not read it", digest)

    def read_page(self, digest: str) -> bytes:
        return self.read(digest)

    def open_blob(self, digest: str, content: Content | None = None) -> int:
        """The whole blob, fetched to a file without a name; unchecked if it is larger than 1 MiB."""
        size = self.try_size(digest)
        if size is None:
            raise BlobMissingError(f"{self._http.base_url} has no blob {digest}, or you may not read it", digest)
        if size <= BLOCKS_ABOVE:
            pieces: Iterator[bytes | memoryview] = iter([self.read(digest)])
        else:
            pieces = self.read_range(digest, size, 0, size, deadline=float("inf"))
        try:
            with tempfile.TemporaryFile(buffering=0) as file:
                at = 0
                for piece in pieces:
                    write_all(file.fileno(), piece, at)
                    at += len(piece)
                return os.open(f"/proc/self/fd/{file.fileno()}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise StorageError.wrap(error, f"fetching blob {digest}") from error

    def begin(self, place: Place | None = None) -> RemoteBatch:
        wanted = place or self._place
        if wanted is None:
            raise UsageError("blobs are sent to a project of a server; none was given")
        return RemoteBatch(self._http, wanted, self._flights)

    def blobs(self) -> Iterator[tuple[str, int]]:
        raise UsageError("a server's blobs cannot be listed from here")

    def remove(self, digest: str) -> None:
        raise UsageError("a server removes blobs by itself (`artfs gc` there)")


_JSON = {"Content-Type": "application/json"}


def _left(deadline: float) -> float:
    return max(min(deadline - time.monotonic(), 3600.0), 0.05)


def _in_time(pieces: Iterator[bytes], deadline: float) -> Iterator[bytes]:
    """Raises WaitTimeoutError when more comes after the deadline: what comes in drops would never end."""
    late = False
    for piece in pieces:
        if late:
            raise WaitTimeoutError("an answer came too slowly")
        yield piece
        late = time.monotonic() > deadline


def _frames_of(response: httpx.Response, deadline: float) -> Iterator[tuple[str, bytes]]:
    """Raises UnavailableError for what are no frames, WaitTimeoutError."""
    reader = FrameReader(max_total=2 * MAX_FRAMES)
    try:
        for piece in _in_time(response.iter_raw(), deadline):
            yield from reader.feed(piece)
        reader.finish()
    except UsageError as error:
        raise UnavailableError(f"an answer was cut, or damaged: {error}") from None


def spots_of(located: Located, asked_at: float) -> dict[str, _Spot]:
    """Where each blob is. Raises IndexError, ValueError for what makes no sense."""
    for each in located.objects:
        _check_url(each.url)
    return {blob.digest: _spot(blob, located, asked_at) for blob in located.blobs}


def _spot(blob: LocatedBlob, located: Located, asked_at: float) -> _Spot:
    if min(blob.objects, default=0) < 0:
        raise IndexError(blob.objects)
    count = len(blob.objects)
    if count > 1 and (not blob.part_size or -(-blob.size // blob.part_size) != count):
        raise ValueError(blob.part_size)
    objects = [located.objects[index] for index in blob.objects]
    until = asked_at + min((each.seconds for each in objects), default=3600.0) - _EARLY_S
    return _Spot(tuple([each.url for each in objects]), blob.size, blob.offset, blob.part_size, until)


def _check_url(url: str) -> None:
    """Raises ValueError for what is neither a URL of a bucket nor a path of the server."""
    parts = urlsplit(url)
    is_path = url.startswith("/") and not url.startswith("//")
    if not url.isascii() or not url.isprintable() or not (is_path or (parts.scheme in ("http", "https") and parts.hostname)):
        raise ValueError(url)
    _ = parts.port  # raises for what is none


def _runs(blobs: list[tuple[int, int, str]]) -> Iterator[list[tuple[int, int, str]]]:
    """Blobs of one object, sorted by offset, that one range may bring."""
    run: list[tuple[int, int, str]] = []
    for blob in blobs:
        if run and (
            blob[0] > run[-1][0] + run[-1][1] + NEAR or blob[0] + blob[1] - run[0][0] > RANGE_NBYTES
        ):
            yield run
            run = []
        run.append(blob)
    if run:
        yield run


def _pieces_of(spot: _Spot, offset: int, nbytes: int) -> Iterator[tuple[str, int, int]]:
    """(URL, offset in its object, bytes) that together are a range of the blob."""
    if len(spot.urls) == 1:
        yield spot.urls[0], spot.offset + offset, nbytes
        return
    end = offset + nbytes
    while offset < end:
        number, start = divmod(offset, spot.part_size)
        length = min(spot.part_size - start, end - offset)
        yield spot.urls[number], start, length
        offset += length


def _check_range(answer: Answer, offset: int) -> None:
    told = answer.headers.get("content-range", "")
    if answer.headers.get("content-type", "").startswith("text/html") and 200 <= answer.status < 300:
        raise UnavailableError(f"{answer.host} answers with a web page; does this network want a login first?")
    if answer.status == 206 or (answer.status == 200 and told):
        # `rclone serve s3` says 200 of ranges, too (docs/server-tested.md).
        if told.startswith(f"bytes {offset}-"):
            return
        raise UnavailableError(f"another range came than was asked for: {told or 'none'}")
    if answer.status == 200 and offset == 0:
        return
    if answer.status in AGAIN:
        raise to_be_tried_again(answer, f"{answer.host} answers {answer.status}")
    raise _Stale(f"{answer.host} answers {answer.status}")


def _host(url: str) -> str:
    return url.partition("://")[2].partition("/")[0] or "the server"

