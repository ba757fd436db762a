"""Sending blobs to a server: only those that its project has not, small ones many to a request, large ones in parts.

Small blobs (up to 1 MiB) are read and hashed once and wait in memory, until enough are together to ask which of them are
missing and to send those. Large files are hashed first, and read again while they are sent; the server reads what it
got as well, so that bytes which changed in between are found. Nothing counts before `sync` has returned.
"""

from __future__ import annotations

import hashlib
import os
import random
import stat
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import httpx
import msgspec

from artfs.client.http import Http, to_be_tried_again
from artfs.errors import (
    ArtfsError,
    BadBlobError,
    NotFoundError,
    RateLimitedError,
    SourceChangedError,
    StorageError,
    UnavailableError,
    UsageError,
)
from artfs.model.digests import BLOCKS_ABOVE, digest_bytes
from artfs.model.records import Content
from artfs.store.base import OnSending, Place
from artfs.store.verify import OnBytes, hash_file, read_small
from artfs.wire.backoff import AGAIN, Backoff
from artfs.wire.blobroutes import BEGIN_UPLOAD, FINISH_UPLOAD, MISSING_BLOBS, PARTS_DONE, STORE_BLOBS
from artfs.wire.bodies import NoQuery
from artfs.wire.errors import error_from
from artfs.wire.frames import MEDIA_TYPE, encode_frames
from artfs.wire.messages import (
    MAX_DIGESTS,
    BlobList,
    FinishLine,
    PartDone,
    PartsDone,
    Upload,
    UploadPart,
    UploadRequest,
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

TRIES = 3
"""How often bytes are sent of which the server says that it has not got them right."""

GONE_S = 5.0
"""How long to wait for the reason why an upload is not there any more."""

GIVEN_UP = "sending was given up"

PARTS_AT_ONCE = 4
CHUNK = 1024 * 1024
LOOK_S = 0.1
TELL_S = 0.2
"""How often `sync` tells how far sending is, in seconds."""
SILENCE_S = 30.0
FINISH_SILENCE_S = 60.0
"""The server tells how far it is every 5 s while it checks a blob."""


class Flights:
    """Large blobs that are being sent by this process: a batch that has to send one as well waits for the other, and sends
    what is missing then. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: dict[tuple[Place, str], threading.Event] = {}

    @contextmanager
    def turn(self, place: Place, digest: str, stopped: threading.Event) -> Iterator[None]:
        """In the body nobody else sends it. Raises _GivenUp when `stopped` is set meanwhile."""
        mine = threading.Event()
        while True:
            with self._lock:
                other = self._under_way.setdefault((place, digest), mine)
            if other is mine:
                break
            while not other.wait(LOOK_S):
                if stopped.is_set():
                    raise _GivenUp
        try:
            yield
        finally:
            with self._lock:
                del self._under_way[place, digest]
            mine.set()


class _Tally:
    """Bytes that a batch has to send, as far as is known, and those of them that were sent. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.due = self.sent = 0

    def add(self, due: int = 0, sent: int = 0) -> None:
        with self._lock:
            self.due += due
            self.sent += sent


class RemoteBatch:
    """See artfs.store.base.StoreBatch. Thread-safe.

    What was sent and is not named by a version stays with the server for its grace period; a batch that begins again does not
    send it again.
    """

    def __init__(self, http: Http, place: Place, flights: Flights) -> None:
        self._http = http
        self._flights = flights
        self._place = place
        self._where = {"entity": place[0], "project": place[1]}
        self._lock = threading.Lock()
        self._pending: dict[str, bytes | str] = {}  # bytes, or the path of a file that has them
        self._pending_nbytes = 0
        self._told: set[str] = set()
        self._futures: set[Future[None]] = set()
        self._room = threading.BoundedSemaphore(AT_ONCE)
        self._held = threading.BoundedSemaphore(HELD)
        self._tally = _Tally()
        self._on_sending: OnSending | None = None
        self._waiting_lock = threading.Lock()  # not `_lock`: whoever has that may wait for what these threads do
        self._waiting: dict[int, _Large] = {}  # by descriptor: those that no thread has taken over yet
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
            large = None if data is not None else _hold(name, content, fd, before)
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
            large = _hold(name, content, fd, status) if content.size > BLOCKS_ABOVE else None
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
            large = _hold(name, content, fd, status)
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
            self._flush()
            futures = list(self._futures)
        done, left = wait(futures, None if self._on_sending is None else TELL_S)
        while left and self._on_sending is not None:
            self._on_sending(self._tally.sent, self._tally.due)
            done, left = wait(futures, TELL_S)
        if self._on_sending is not None:
            self._on_sending(self._tally.sent, self._tally.due)
        with self._lock:
            self._futures.difference_update(done)
        _raise_first(done)

    def tell(self, on_sending: OnSending) -> None:
        self._on_sending = on_sending

    # small blobs ------------------------------------------------------------------------------------------------
    def _add_small(self, digest: str, data: bytes | str) -> None:
        """`data`: bytes, or the path of a file, which is read only if the server has not got the blob."""
        self._check_open()
        with self._lock:
            if digest in self._told:
                return
            self._told.add(digest)
            self._pending[digest] = data
            self._pending_nbytes += len(data) if isinstance(data, bytes) else 0
            if self._pending_nbytes >= GROUP_NBYTES or len(self._pending) >= GROUP_COUNT:
                self._flush()

    def _flush(self) -> None:
        """With the lock."""
        if not self._pending:
            return
        group, self._pending, self._pending_nbytes = self._pending, {}, 0
        # Waits, with the lock, until a group before is sent: memory stays bounded, and other threads could only add to it.
        self._room.acquire()
        self._submit(self._send_group, group)

    def _send_group(self, group: dict[str, bytes | str]) -> None:
        try:
            self._send_missing(group)
        finally:
            self._room.release()

    def _send_missing(self, group: dict[str, bytes | str]) -> None:
        with self._http.ending_with(self._stopped):
            missing: BlobList = self._http.call(MISSING_BLOBS, self._where, body=BlobList(list(group)))
            frames: list[tuple[str, bytes]] = []
            nbytes = 0
            for digest in missing.digests:
                if digest not in group:
                    continue
                frames.append((digest, _bytes_of(digest, group[digest])))
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
    def _add_large(self, large: _Large) -> None:
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

    def _send_held(self, large: _Large) -> None:
        with self._waiting_lock:
            if self._waiting.pop(large.fd, None) is None:
                return  # the batch has ended, and closed it
        try:
            with self._flights.turn(self._place, large.content.digest, self._stopped), self._http.ending_with(self._stopped):
                self._send_large(large)
        finally:
            large.close()
            self._held.release()

    def _send_large(self, large: _Large) -> None:
        for left in range(TRIES - 1, -1, -1):
            try:
                self._send_large_once(large)
                return
            except _SendAgain as again:
                large.check()
                if not left or self._stopped.is_set():
                    raise _told(again.error, large) from None

    def _send_large_once(self, large: _Large) -> None:
        content = large.content
        upload: Upload = self._http.call(
            BEGIN_UPLOAD, self._where, body=UploadRequest(content.digest, content.size)
        )
        if not upload.id:
            return
        self._tally.add(due=max(content.size - len(upload.done) * upload.part_size, 0))
        assert self._pool is not None and self._parts_pool is not None
        # The server follows the parts as they come, so that little is left to check when the last one is there.
        checked = _Checked()
        finishing = threading.Thread(target=self._finish, args=(upload.id, large, checked), name="artfs-finish", daemon=True)
        finishing.start()
        try:
            self._send_parts(upload, large, checked)
        except _GivenUp:
            if self._stopped.is_set():
                raise
        except NotFoundError as error:
            # The server found wrong what it has, and is about to say so.
            finishing.join(GONE_S)
            checked.given_up.set()
            raise _SendAgain(checked.error or checked.again or error) from None
        except BaseException:
            checked.given_up.set()
            raise
        finishing.join()
        if checked.error is not None:
            raise checked.error
        if checked.again is not None:
            raise _SendAgain(checked.again)

    def _send_parts(self, upload: Upload, large: _Large, checked: _Checked) -> None:
        assert self._parts_pool is not None
        fd = large.fd
        while upload.parts:
            todo = {part.number: part for part in upload.parts}
            if upload.checks:
                # The bucket refuses wrong bytes by itself when it knows what is right.
                want = [PartDone(number, _part_digest(fd, part, upload)) for number, part in todo.items()]
                asked: Upload = self._http.call(PARTS_DONE, {"upload_id": upload.id}, body=PartsDone([], want))
                todo = {part.number: part for part in asked.parts if part.number in todo}
            flying = {
                self._parts_pool.submit(self._send_part, part, upload, fd, checked): part.number
                for part in todo.values()
            }
            sent: list[PartDone] = []
            try:
                while flying:
                    done, _ = wait(flying, return_when=FIRST_COMPLETED)
                    _raise_first(done)
                    sent = [PartDone(flying.pop(future)) for future in done]
                    upload = self._http.call(PARTS_DONE, {"upload_id": upload.id}, body=PartsDone(sent))
            finally:
                for future in flying:
                    future.cancel()
                wait(flying)
            large.check()

    def _send_part(self, part: UploadPart, upload: Upload, fd: int, checked: _Checked) -> None:
        offset = part.number * upload.part_size
        headers = {**part.headers, "Content-Length": str(part.size), "Content-Type": "application/octet-stream"}
        began = time.monotonic()
        tried = 0
        while True:
            tried += 1
            passed = _Tally()
            try:
                self._put(part, headers, self._counted(_read_part(fd, offset, part.size, self._go_on(checked)), passed))
                return
            except (UnavailableError, _NotGoodError) as error:
                self._tally.add(sent=-passed.sent)
                if not isinstance(error, UnavailableError):
                    fresh = self._try_fresh(part, upload, fd)
                    if fresh is None:
                        return
                    part, error = fresh, UnavailableError(str(error))
                asked = error.retry_after_s if isinstance(error, RateLimitedError) else None
                wait_s = Backoff(self._http.timeout_s).wait_s(
                    tried, time.monotonic() - began, random.random(), asked  # noqa: S311
                )
                if wait_s is None or self._stopped.wait(wait_s):
                    raise error from None

    def _counted(self, pieces: Iterator[bytes], passed: _Tally) -> Iterator[bytes]:
        for piece in pieces:
            yield piece
            passed.add(sent=len(piece))
            self._tally.add(sent=len(piece))

    def _try_fresh(self, part: UploadPart, upload: Upload, fd: int) -> UploadPart | None:
        """The same with a URL that is good now; None: it has come already, only the answer did not."""
        want = [PartDone(part.number, _part_digest(fd, part, upload))] if upload.checks else []
        told: Upload = self._http.call(PARTS_DONE, {"upload_id": upload.id}, body=PartsDone([], want))
        if part.number in told.done:
            return None
        return next((each for each in told.parts if each.number == part.number), part)

    def _go_on(self, checked: _Checked) -> Callable[[], None]:
        def go_on() -> None:
            if self._stopped.is_set() or checked.error is not None or checked.again is not None:
                raise _GivenUp

        return go_on

    def _put(self, part: UploadPart, headers: dict[str, str], content: Iterator[bytes]) -> None:
        if "://" in part.url:
            opened = self._http.elsewhere("PUT", part.url, headers=headers, content=content, silence_s=SILENCE_S)
        else:
            opened = self._http.own(part.url, method="PUT", headers=headers, content=content, silence_s=SILENCE_S)
        with opened as response:
            try:
                text = response.read()[:500].decode("utf-8", "replace")
            except httpx.HTTPError as error:
                raise UnavailableError(f"a part of a blob was not taken: {error}") from error
            status = response.status_code
            if not response.is_success:
                first = " ".join(text.split())[:200]
                message = f"{response.url.host} refuses part {part.number} of a blob: {status} {first}"
                if status in AGAIN:
                    raise to_be_tried_again(response, message)
                raise _NotGoodError(message) if status in (400, 403) else StorageError(message)

    def _finish(self, upload_id: str, large: _Large, checked: _Checked) -> None:
        tried = 0
        lost_at = time.monotonic()
        while not (checked.given_up.is_set() or self._stopped.is_set()):
            tried += 1
            try:
                with closing(self._finish_lines(upload_id)) as lines:
                    for line in lines:
                        tried, lost_at = 0, time.monotonic()
                        if checked.given_up.is_set() or self._stopped.is_set():
                            break
                        if line.error is not None:
                            error = error_from(line.error)
                            if isinstance(error, (BadBlobError, UnavailableError, NotFoundError)):
                                checked.again = error
                            else:
                                checked.error = error
                            return
                        if line.done:
                            return
                    else:
                        raise UnavailableError("the server stopped checking a blob")
            except UnavailableError as error:
                wait_s = Backoff(self._http.timeout_s).wait_s(
                    max(tried, 1), time.monotonic() - lost_at, random.random()  # noqa: S311
                )
                if wait_s is None:
                    checked.error = error
                    return
                self._stopped.wait(wait_s)
            except NotFoundError as error:
                checked.again = error
                return
            except ArtfsError as error:
                checked.error = error
                return
        checked.error = UnavailableError(GIVEN_UP)

    def _finish_lines(self, upload_id: str) -> Generator[FinishLine]:
        with self._http.stream(
            FINISH_UPLOAD, {"upload_id": upload_id}, NoQuery(), silence_s=FINISH_SILENCE_S
        ) as response:
            for text in response.iter_lines():
                if text.strip():
                    try:
                        yield msgspec.json.decode(text, type=FinishLine)
                    except msgspec.MsgspecError as error:
                        raise UnavailableError(f"the server says what cannot be understood: {error}") from None

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
        _raise_first(done)


@dataclass(frozen=True, slots=True)
class _Large:
    """A file on its way. `path`: for messages."""

    path: str
    content: Content
    fd: int
    fingerprint: tuple[int, ...]

    def check(self) -> None:
        """Raises SourceChangedError when the file is not what was hashed."""
        if _fingerprint(os.fstat(self.fd)) != self.fingerprint:
            raise SourceChangedError(f"{self.path} changed while it was sent")

    def close(self) -> None:
        os.close(self.fd)


def _hold(name: str, content: Content, fd: int, status: os.stat_result) -> _Large:
    """The open file, until it is sent: its name may go, or mean another one then."""
    return _Large(name, content, os.dup(fd), _fingerprint(status))


class _Checked:
    """How far the server is with checking."""

    def __init__(self) -> None:
        self.error: ArtfsError | None = None
        self.again: ArtfsError | None = None  # why it has to be sent again, as far as the server has not got it
        self.given_up = threading.Event()


class _SendAgain(Exception):
    """The server did not get it, or lost it, or something on the way damaged it."""

    def __init__(self, error: ArtfsError) -> None:
        self.error = error


class _NotGoodError(Exception):
    """A bucket does not take a part at this URL (any more)."""


class _GivenUp(Exception):
    """Ends the transfer of a part after another failure. Nobody sees it."""


def _told(error: ArtfsError, large: _Large) -> ArtfsError:
    if isinstance(error, BadBlobError):
        return SourceChangedError(f"{large.path} does not arrive as it was read; does it change while it is sent? ({error})")
    if isinstance(error, NotFoundError):
        return UnavailableError(f"the server lost what was sent of {large.path} ({error})")
    return error


def _raise_first(done: set[Future[None]]) -> None:
    errors = [error for future in done if not future.cancelled() and (error := future.exception()) is not None]
    for error in errors:
        if not isinstance(error, _GivenUp):
            raise error
    if errors:
        raise errors[0]


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


def _fingerprint(status: os.stat_result) -> tuple[int, ...]:
    return status.st_ino, status.st_size, status.st_mtime_ns


def _check_same(name: str, before: os.stat_result, after: os.stat_result) -> None:
    if _fingerprint(before) != _fingerprint(after):
        raise SourceChangedError("the file changed while it was read")


def _read_part(fd: int, offset: int, size: int, go_on: Callable[[], None]) -> Iterator[bytes]:
    end = offset + size
    while offset < end:
        go_on()
        data = os.pread(fd, min(CHUNK, end - offset), offset)
        if not data:
            raise SourceChangedError("the file became shorter while it was sent")
        offset += len(data)
        yield data


def _part_digest(fd: int, part: UploadPart, upload: Upload) -> str:
    hasher = hashlib.sha256()
    for data in _read_part(fd, part.number * upload.part_size, part.size, lambda: None):
        hasher.update(data)
    return hasher.hexdigest()
