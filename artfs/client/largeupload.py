"""Sending one large file to a server, in parts, several at once: what was sent is not sent again, what is lost or damaged is."""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass

import httpx

from artfs.client.answer import read_whole
from artfs.client.http import Http, to_be_tried_again
from artfs.errors import (
    ArtfsError,
    BadBlobError,
    NotFoundError,
    RateLimitedError,
    SourceChangedError,
    StorageError,
    UnavailableError,
)
from artfs.model.records import Content
from artfs.model.unreadable import UNREADABLE
from artfs.typed import read_json
from artfs.wire.backoff import AGAIN, Backoff
from artfs.wire.blobroutes import BEGIN_UPLOAD, FINISH_UPLOAD, PARTS_DONE
from artfs.wire.bodies import NoQuery
from artfs.wire.errors import error_from
from artfs.wire.messages import FinishLine, PartDone, PartsDone, Upload, UploadPart, UploadRequest

TRIES = 3
"""How often bytes are sent of which the server says that it has not got them right."""

CUTS = 5
"""How often the sending of a part may be cut after it had begun, however long it takes."""

GONE_S = 5.0
"""How long to wait for the reason why an upload is not there any more."""

GIVEN_UP = "sending was given up"

CHUNK = 1024 * 1024
SILENCE_S = 30.0
REFUSAL_NBYTES = 1024 * 1024
"""More than any answer about a part has."""
FINISH_SILENCE_S = 60.0
"""The server tells how far it is every 5 s while it checks a blob."""


class Tally:
    """Bytes that a batch has to send, as far as is known, and those of them that were sent. `at`: when something was added last,
    a time of time.monotonic(). Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.due = self.sent = 0
        self.at = time.monotonic()

    def add(self, due: int = 0, sent: int = 0) -> None:
        with self._lock:
            self.due += due
            self.sent += sent
            self.at = time.monotonic()


class LargeUpload:
    """The transfer of one file, which stays the caller's.

    Arguments:
        where: entity and project.
        pool: sends the parts.
        tally: is told what is to be sent, and what was.
        stopped: once set, nothing is begun any more.
    """

    def __init__(
        self, http: Http, where: dict[str, str], large: Large, pool: ThreadPoolExecutor, tally: Tally, stopped: threading.Event
    ) -> None:
        self._http = http
        self._where = where
        self._large = large
        self._pool = pool
        self._tally = tally
        self._stopped = stopped

    def send(self) -> None:
        """Until the server has it, checked. Raises SourceChangedError, StorageError, GivenUp, and what calls raise."""
        for left in range(TRIES - 1, -1, -1):
            try:
                self._send_once()
                return
            except _SendAgain as again:
                self._large.check()
                if not left or self._stopped.is_set():
                    raise _told(again.error, self._large) from None

    def _send_once(self) -> None:
        content = self._large.content
        upload: Upload = self._http.call(
            BEGIN_UPLOAD, self._where, body=UploadRequest(content.digest, content.size)
        )
        if not upload.id:
            return
        self._tally.add(due=max(content.size - len(upload.done) * upload.part_size, 0))
        # The server follows the parts as they come, so that little is left to check when the last one is there.
        checked = _Checked()
        finishing = threading.Thread(target=self._finish, args=(upload.id, checked), name="artfs-finish", daemon=True)
        finishing.start()
        try:
            self._send_parts(upload, checked)
        except GivenUp:
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

    def _send_parts(self, upload: Upload, checked: _Checked) -> None:
        while upload.parts:
            todo = {part.number: part for part in upload.parts}
            if upload.checks:
                # The bucket refuses wrong bytes by itself when it knows what is right.
                want = [PartDone(number, self._digest_of(part, upload)) for number, part in todo.items()]
                asked: Upload = self._http.call(PARTS_DONE, {"upload_id": upload.id}, body=PartsDone([], want))
                todo = {part.number: part for part in asked.parts if part.number in todo}
                if not todo:
                    # Somebody else has sent them meanwhile. What is told is the news.
                    upload = asked
                    continue
            flying = {
                self._pool.submit(self._send_part, part, upload, checked): part.number
                for part in todo.values()
            }
            sent: list[PartDone] = []
            try:
                while flying:
                    done, _ = wait(flying, return_when=FIRST_COMPLETED)
                    raise_first(done)
                    sent = [PartDone(flying.pop(future)) for future in done]
                    upload = self._http.call(PARTS_DONE, {"upload_id": upload.id}, body=PartsDone(sent))
            finally:
                for future in flying:
                    future.cancel()
                wait(flying)
            self._large.check()

    def _send_part(self, part: UploadPart, upload: Upload, checked: _Checked) -> None:
        offset = part.number * upload.part_size
        headers = {**part.headers, "Content-Length": str(part.size), "Content-Type": "application/octet-stream"}
        began = time.monotonic()
        tried = cuts = 0
        while True:
            tried += 1
            if not part.url:
                # Others had promised other bytes of a part, and now the upload begins anew.
                raise _SendAgain(UnavailableError(f"others send {self._large.path} as well, and not the same bytes of it"))
            passed = Tally()
            try:
                pieces = _read_part(self._large.fd, offset, part.size, self._go_on(checked))
                self._put(part, headers, self._counted(pieces, passed))
                return
            except (UnavailableError, _NotGoodError) as error:
                self._tally.add(sent=-passed.sent)
                if passed.sent and cuts < CUTS:
                    # Not the time that sending took is limited, but the time in which nothing can be sent.
                    cuts += 1
                    tried, began = 1, passed.at
                if not isinstance(error, UnavailableError):
                    fresh = self._try_fresh(part, upload)
                    if fresh is None:
                        return
                    part, error = fresh, UnavailableError(str(error))
                asked = error.retry_after_s if isinstance(error, RateLimitedError) else None
                wait_s = Backoff(self._http.timeout_s).wait_s(
                    tried, time.monotonic() - began, random.random(), asked  # noqa: S311
                )
                if wait_s is None or self._stopped.wait(wait_s):
                    raise error from None

    def _counted(self, pieces: Iterator[bytes], passed: Tally) -> Iterator[bytes]:
        for piece in pieces:
            yield piece
            passed.add(sent=len(piece))
            self._tally.add(sent=len(piece))

    def _try_fresh(self, part: UploadPart, upload: Upload) -> UploadPart | None:
        """The same with a URL that is good now; None: it has come already, only the answer did not."""
        want = [PartDone(part.number, self._digest_of(part, upload))] if upload.checks else []
        told: Upload = self._http.call(PARTS_DONE, {"upload_id": upload.id}, body=PartsDone([], want))
        if part.number in told.done:
            return None
        return next((each for each in told.parts if each.number == part.number), part)

    def _go_on(self, checked: _Checked) -> Callable[[], None]:
        def go_on() -> None:
            if self._stopped.is_set() or checked.error is not None or checked.again is not None:
                raise GivenUp

        return go_on

    def _put(self, part: UploadPart, headers: dict[str, str], content: Iterator[bytes]) -> None:
        if "://" in part.url:
            opened = self._http.elsewhere("PUT", part.url, headers=headers, content=content, silence_s=SILENCE_S)
        else:
            opened = self._http.own(part.url, method="PUT", headers=headers, content=content, silence_s=SILENCE_S)
        with opened as response:
            try:
                text = read_whole(response, SILENCE_S, max_nbytes=REFUSAL_NBYTES).content[:500].decode("utf-8", "replace")
            except (httpx.HTTPError, UnavailableError) as error:
                raise UnavailableError(f"a part of a blob was not taken: {error}") from error
            status = response.status_code
            if not response.is_success:
                first = " ".join(text.split())[:200]
                message = f"{response.url.host} refuses part {part.number} of a blob: {status} {first}"
                if status in AGAIN:
                    raise to_be_tried_again(response, message)
                raise _NotGoodError(message) if status in (400, 403) else StorageError(message)

    def _finish(self, upload_id: str, checked: _Checked) -> None:
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
                        yield read_json(text, FinishLine)
                    except UNREADABLE as error:
                        raise UnavailableError(f"the server says what cannot be understood: {error}") from None

    def _digest_of(self, part: UploadPart, upload: Upload) -> str:
        hasher = hashlib.sha256()
        for data in _read_part(self._large.fd, part.number * upload.part_size, part.size, lambda: None):
            hasher.update(data)
        return hasher.hexdigest()


@dataclass(frozen=True, slots=True)
class Large:
    """A file on its way. `path`: for messages."""

    path: str
    content: Content
    fd: int
    fingerprint: tuple[int, ...]

    def check(self) -> None:
        """Raises SourceChangedError when the file is not what was hashed."""
        if fingerprint(os.fstat(self.fd)) != self.fingerprint:
            raise SourceChangedError(f"{self.path} changed while it was sent")

    def close(self) -> None:
        os.close(self.fd)


def hold(name: str, content: Content, fd: int, status: os.stat_result) -> Large:
    """The open file, until it is sent: its name may go, or mean another one then."""
    return Large(name, content, os.dup(fd), fingerprint(status))


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


class GivenUp(Exception):
    """Ends the transfer of a part after another failure. Nobody sees it."""


def _told(error: ArtfsError, large: Large) -> ArtfsError:
    if isinstance(error, BadBlobError):
        return SourceChangedError(f"{large.path} does not arrive as it was read; does it change while it is sent? ({error})")
    if isinstance(error, NotFoundError):
        return UnavailableError(f"the server lost what was sent of {large.path} ({error})")
    return error


def raise_first(done: set[Future[None]]) -> None:
    errors = [error for future in done if not future.cancelled() and (error := future.exception()) is not None]
    for error in errors:
        if not isinstance(error, GivenUp):
            raise error
    if errors:
        raise errors[0]


def fingerprint(status: os.stat_result) -> tuple[int, ...]:
    return status.st_ino, status.st_size, status.st_mtime_ns


def _read_part(fd: int, offset: int, size: int, go_on: Callable[[], None]) -> Iterator[bytes]:
    end = offset + size
    while offset < end:
        go_on()
        data = os.pread(fd, min(CHUNK, end - offset), offset)
        if not data:
            raise SourceChangedError("the file became shorter while it was sent")
        offset += len(data)
        yield data
