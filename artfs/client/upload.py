"""Sending blobs to a server: only those that its project has not, small ones many to a request, large ones in parts.

Small blobs (up to 1 MiB) are read and hashed once and wait in memory, until enough are together to ask which of them are
missing and to send those. Large files are hashed first, and read again while they are sent; the server reads what it
got as well, so that bytes which changed in between are found. Nothing counts before `sync` has returned.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import httpx

from artfs.client.http import Http
from artfs.client.largeupload import (
    GIVEN_UP,
    TRIES,
    GivenUp,
    Large,
    LargeUpload,
    Tally,
    fingerprint,
    hold,
    raise_first,
)
from artfs.errors import (
    BadBlobError,
    NotFoundError,
    SourceChangedError,
    StorageError,
    UnavailableError,
    UsageError,
)
from artfs.model.digests import BLOCKS_ABOVE, digest_bytes
from artfs.model.records import Content
from artfs.store.base import OnSending, Place
from artfs.store.verify import OnBytes, hash_file, read_small
from artfs.wire.blobroutes import MISSING_BLOBS, STORE_BLOBS
from artfs.wire.frames import MEDIA_TYPE, encode_frames
from artfs.wire.messages import (
    MAX_DIGESTS,
    BlobList,
)

GROUP_NBYTES = 8 * 1024 * 1024
GROUP_COUNT = 2000
"""Small blobs that are asked about, and sent, together."""

FIRST_NBYTES = 512 * 1024
LEAST_NBYTES = 64 * 1024
"""Of small blobs in the first request, which shows how fast the link is, and in one over the slowest link."""

SHARE = 8
"""A request is to take at most this part of the time limit of a call, as one of many at once."""

AT_ONCE = 4
"""Requests under way at once; so many groups of small blobs are in memory at the most."""

HELD = 64
"""Large files that are open, and wait to be sent, at the most."""

PARTS_AT_ONCE = 4
LOOK_S = 0.1
TELL_S = 0.2
"""How often `sync` tells how far sending is, in seconds."""


class Flights:
    """Large blobs that are being sent by this process: a batch that has to send one as well waits for the other, and sends
    what is missing then. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: dict[tuple[Place, str], threading.Event] = {}

    @contextmanager
    def turn(self, place: Place, digest: str, stopped: threading.Event) -> Iterator[None]:
        """In the body nobody else sends it. Raises GivenUp when `stopped` is set meanwhile."""
        mine = threading.Event()
        while True:
            with self._lock:
                other = self._under_way.setdefault((place, digest), mine)
            if other is mine:
                break
            while not other.wait(LOOK_S):
                if stopped.is_set():
                    raise GivenUp
        try:
            yield
        finally:
            with self._lock:
                del self._under_way[place, digest]
            mine.set()


class _Group:
    """Small blobs that will be sent together: bytes, or the path of a file that has them. `nbytes`: that are in memory."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes | str] = {}
        self.nbytes = 0

    def add(self, digest: str, data: bytes | str) -> None:
        self.blobs[digest] = data
        self.nbytes += len(data) if isinstance(data, bytes) else 0

    @property
    def is_full(self) -> bool:
        return self.nbytes >= GROUP_NBYTES or len(self.blobs) >= GROUP_COUNT

    def take(self) -> dict[str, bytes | str]:
        """All of them; it is empty then."""
        blobs, self.blobs, self.nbytes = self.blobs, {}, 0
        return blobs


class RemoteBatch:
    """See artfs.store.base.StoreBatch. Thread-safe.

    What is sent together lies together at the server, so pages of trees are not sent with files: whoever looks around reads
    hundreds of them at once.

    What was sent and is not named by a version stays with the server for its grace period; a batch that begins again does not
    send it again.
    """

    def __init__(self, http: Http, place: Place, flights: Flights) -> None:
        self._http = http
        self._flights = flights
        self._place = place
        self._where = {"entity": place[0], "project": place[1]}
        self._lock = threading.Lock()
        self._files = _Group()
        self._pages = _Group()
        self._told: set[str] = set()
        self._futures: set[Future[None]] = set()
        self._room = threading.BoundedSemaphore(AT_ONCE)
        self._held = threading.BoundedSemaphore(HELD)
        self._tally = Tally()
        self._on_sending: OnSending | None = None
        self._waiting_lock = threading.Lock()  # not `_lock`: whoever has that may wait for what these threads do
        self._waiting: dict[int, Large] = {}  # by descriptor: those that no thread has taken over yet
        self._pool: ThreadPoolExecutor | None = None
        self._parts_pool: ThreadPoolExecutor | None = None
        self._stopped = threading.Event()
        self._abandoned = False
        self._request_nbytes = FIRST_NBYTES  # of small blobs in one request: what the link takes in a fraction of the limit

    def __enter__(self) -> Self:
        if self._pool is not None:
            raise RuntimeError("a batch cannot be entered twice")
        self._pool = ThreadPoolExecutor(AT_ONCE, "artfs-send")
        self._parts_pool = ThreadPoolExecutor(PARTS_AT_ONCE, "artfs-parts")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        interrupted = kind is not None and not issubclass(kind, Exception)
        if interrupted:
            self.abandon()  # Ctrl-C does not wait for a silent server
        self._stopped.set()
        for pool in (self._pool, self._parts_pool):
            if pool is not None:
                pool.shutdown(wait=not interrupted, cancel_futures=True)
        with self._waiting_lock:
            left, self._waiting = list(self._waiting.values()), {}
        for large in left:
            large.close()

    # StoreBatch -------------------------------------------------------------------------------------------------
    def put_bytes(self, data: bytes) -> str:
        digest = digest_bytes(data)
        if len(data) > BLOCKS_ABOVE:
            raise UsageError(f"{len(data):,} bytes are no small blob: put a file")
        self._add_small(digest, data)
        return digest

    def put_page(self, data: bytes) -> str:
        digest = digest_bytes(data)
        self._add_small(digest, data, is_page=True)
        return digest

    def put_file(
        self, path: str | os.PathLike[str], *, expect: Content | None = None, on_bytes: OnBytes | None = None
    ) -> Content:
        name = os.fspath(path)
        fd = _open(name)
        try:
            before = os.fstat(fd)
            if not stat.S_ISREG(before.st_mode):
                raise UsageError(f"{name} is not a regular file")
            if before.st_size <= BLOCKS_ABOVE:
                data = read_small(fd, before.st_size)
                content = Content(digest_bytes(data), len(data))
            else:
                data = None
                content = hash_file(fd, before.st_size, on_bytes=on_bytes).content
            _check_same(name, before, os.fstat(fd))
            large = None if data is not None else hold(name, content, fd, before)
        except SourceChangedError as error:
            raise SourceChangedError(f"{name}: {error}") from None
        except OSError as error:
            raise StorageError.wrap(error, f"reading {name}") from error
        finally:
            os.close(fd)
        if expect is not None and content != expect:
            if large is not None:
                large.close()
            raise SourceChangedError(f"{name} changed since it was added")
        if large is not None:
            self._add_large(large)
        else:
            assert data is not None
            self._add_small(content.digest, data)
            if on_bytes is not None:
                on_bytes(len(data))
        return content

    def adopt_file(self, path: str | os.PathLike[str], content: Content, block_objects: tuple[bytes, ...]) -> None:
        self._check_open()
        if (digest_bytes(block_objects[-1]) if block_objects else "") != content.blocks:
            raise ValueError(f"these are not the block list objects of {content}")
        name = os.fspath(path)
        fd = _open(name)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or os.path.islink(name):
                raise UsageError(f"{name} is not a regular file")
            if status.st_size != content.size:
                raise SourceChangedError(
                    f"{name} changed after it was hashed: {content.size} bytes became {status.st_size}"
                )
            large = hold(name, content, fd, status) if content.size > BLOCKS_ABOVE else None
        except OSError as error:
            raise StorageError.wrap(error, f"reading {name}") from error
        finally:
            os.close(fd)
        if large is not None:
            self._add_large(large)
        else:
            self._add_small(content.digest, name)

    def send_open(self, fd: int, name: str, content: Content) -> None:
        self._check_open()
        try:
            status = os.fstat(fd)
            if status.st_size != content.size:
                raise SourceChangedError(f"{name} changed after it was hashed: {content.size} bytes became {status.st_size}")
            if content.size <= BLOCKS_ABOVE:
                self._add_small(content.digest, _checked_bytes(fd, name, content.digest))
                return
            large = hold(name, content, fd, status)
        except OSError as error:
            raise StorageError.wrap(error, f"reading {name}") from error
        self._add_large(large)

    def abandon(self) -> None:
        self._abandoned = True
        self._stopped.set()
        self._http.hang_up()

    def lacks(self, digests: Sequence[str]) -> set[str]:
        found: set[str] = set()
        with self._lock:
            wanted = [digest for digest in digests if digest not in self._told]
        for start in range(0, len(wanted), MAX_DIGESTS):
            missing: BlobList = self._http.call(
                MISSING_BLOBS, self._where, body=BlobList(wanted[start : start + MAX_DIGESTS])
            )
            found.update(missing.digests)
        return found

    def keep(self, path: str | os.PathLike[str], content: Content) -> None:
        """Nothing of it is kept on this machine."""

    def sync(self) -> None:
        """Waits until the server has everything, checked."""
        self._check_open()
        with self._lock:
            for group in (self._files, self._pages):
                self._flush(group)
            futures = list(self._futures)
        done, left = wait(futures, None if self._on_sending is None else TELL_S)
        while left and self._on_sending is not None:
            self._on_sending(self._tally.sent, self._tally.due)
            done, left = wait(futures, TELL_S)
        if self._on_sending is not None:
            self._on_sending(self._tally.sent, self._tally.due)
        with self._lock:
            self._futures.difference_update(done)
        raise_first(done)

    def tell(self, on_sending: OnSending) -> None:
        self._on_sending = on_sending

    # small blobs ------------------------------------------------------------------------------------------------
    def _add_small(self, digest: str, data: bytes | str, *, is_page: bool = False) -> None:
        """`data`: bytes, or the path of a file, which is read only if the server has not got the blob."""
        self._check_open()
        with self._lock:
            if digest in self._told:
                return
            self._told.add(digest)
            group = self._pages if is_page else self._files
            group.add(digest, data)
            if group.is_full:
                self._flush(group)

    def _flush(self, group: _Group) -> None:
        """With the lock."""
        blobs = group.take()
        if not blobs:
            return
        # Waits, with the lock, until a group before is sent: memory stays bounded, and other threads could only add to it.
        self._room.acquire()
        self._submit(self._send_group, blobs)

    def _send_group(self, blobs: dict[str, bytes | str]) -> None:
        try:
            self._send_missing(blobs)
        finally:
            self._room.release()

    def _send_missing(self, blobs: dict[str, bytes | str]) -> None:
        with self._http.ending_with(self._stopped):
            missing: BlobList = self._http.call(MISSING_BLOBS, self._where, body=BlobList(list(blobs)))
            frames: list[tuple[str, bytes]] = []
            nbytes = 0
            for digest in missing.digests:
                if digest not in blobs:
                    continue
                frames.append((digest, _bytes_of(digest, blobs[digest])))
                nbytes += len(frames[-1][1])
                self._tally.add(due=len(frames[-1][1]))
                if nbytes >= self._request_nbytes:
                    self._send_frames(frames)
                    frames, nbytes = [], 0
            if frames:
                self._send_frames(frames)

    def _send_frames(self, frames: list[tuple[str, bytes]]) -> None:
        """In one request, or in more of them when the link is too slow for that."""
        body = b"".join(encode_frames(frames))
        for left in range(TRIES - 1, -1, -1):
            began = time.monotonic()
            try:
                self._http.exchange(STORE_BLOBS, self._where, content=body, headers={"Content-Type": MEDIA_TYPE})
            except (BadBlobError, UsageError) as error:
                if not left or self._stopped.is_set():
                    raise UnavailableError(f"small files do not arrive as they were read ({error})") from error
            except UnavailableError as error:
                if not isinstance(error.__cause__, httpx.TimeoutException) or len(body) < 2 * LEAST_NBYTES or len(frames) == 1:
                    raise
                self._request_nbytes = max(LEAST_NBYTES, len(body) // 2)
                break
            else:
                self._tally.add(sent=sum(len(data) for _, data in frames))
                within_s = self._http.timeout_s / SHARE
                took_s = max(time.monotonic() - began, 0.001)
                self._request_nbytes = min(max(LEAST_NBYTES, int(len(body) / took_s * within_s)), GROUP_NBYTES)
                return
        self._send_frames(frames[: len(frames) // 2])
        self._send_frames(frames[len(frames) // 2 :])

    # large blobs ------------------------------------------------------------------------------------------------
    def _add_large(self, large: Large) -> None:
        """Takes it over."""
        try:
            self._check_open()
            with self._lock:
                known = large.content.digest in self._told
                self._told.add(large.content.digest)
        except BaseException:
            large.close()
            raise
        if known:
            large.close()
            return
        with self._waiting_lock:
            self._waiting[large.fd] = large
        self._held.acquire()
        with self._lock:
            self._submit(self._send_held, large)

    def _send_held(self, large: Large) -> None:
        with self._waiting_lock:
            if self._waiting.pop(large.fd, None) is None:
                return  # the batch has ended, and closed it
        try:
            with self._flights.turn(self._place, large.content.digest, self._stopped), self._http.ending_with(self._stopped):
                assert self._parts_pool is not None
                LargeUpload(self._http, self._where, large, self._parts_pool, self._tally, self._stopped).send()
        finally:
            large.close()
            self._held.release()

    # threads ----------------------------------------------------------------------------------------------------
    def _check_open(self) -> None:
        if self._abandoned:
            raise UnavailableError(GIVEN_UP)
        if self._pool is None or self._stopped.is_set():
            raise RuntimeError("the batch is not open")

    def _submit(self, call: Callable[..., None], *given: object) -> None:
        """With the lock. What failed before is raised here already: there is no use in reading on."""
        assert self._pool is not None
        done = {future for future in self._futures if future.done()}
        self._futures -= done
        self._futures.add(self._pool.submit(call, *given))
        raise_first(done)


def _open(name: str) -> int:
    try:
        return os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise NotFoundError(f"there is no file {name}") from None
    except OSError as error:
        raise StorageError.wrap(error, f"opening {name}") from error


def _bytes_of(digest: str, data: bytes | str) -> bytes:
    if isinstance(data, bytes):
        return data
    fd = _open(data)
    try:
        return _checked_bytes(fd, data, digest)
    except OSError as error:
        raise StorageError.wrap(error, f"reading {data}") from error
    finally:
        os.close(fd)


def _checked_bytes(fd: int, name: str, digest: str) -> bytes:
    found = read_small(fd, os.fstat(fd).st_size)
    if digest_bytes(found) != digest:
        raise SourceChangedError(f"{name} changed after it was hashed")
    return found


def _check_same(name: str, before: os.stat_result, after: os.stat_result) -> None:
    if fingerprint(before) != fingerprint(after):
        raise SourceChangedError("the file changed while it was read")
