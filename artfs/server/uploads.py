"""Large blobs on their way in: parts, and the reading back by which a blob comes to count.

Whoever sends a part puts it under a key of the upload, by a URL of the bucket or through this server. Then all of it is read,
once, in the order of the parts: SHA-256 over all must be the digest, and the block list is ours. Where who put an object can
still change it, each part is first copied to a key that nobody else knows, and the copy is what is read and kept.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import anyio
import anyio.to_thread

from artfs.catalog.blobledger import NewObject, new_blob_key, new_upload_key
from artfs.catalog.blobledger import Upload as UploadRow
from artfs.errors import (
    ArtfsError,
    BadBlobError,
    BlobMissingError,
    NotFoundError,
    QuotaError,
    StorageError,
    UnavailableError,
    UsageError,
)
from artfs.model.blocklist import encode_block_list, has_lower_list
from artfs.model.digests import digest_bytes
from artfs.model.records import Project
from artfs.server.blobservice import URL_S, BlobService, lower_list
from artfs.store.bucket import Bucket, ObjectWriter
from artfs.store.verify import BlockHasher
from artfs.wire.blobroutes import MAX_PART
from artfs.wire.errors import error_fields
from artfs.wire.messages import MAX_SMALL, FinishLine, PartsDone, Upload, UploadPart

TOLD_AT_ONCE = 100
"""Parts of which one answer tells where to send them."""

LINE_S = 2.0
"""How often the caller of `finish` hears of us at least, in seconds."""

LOOK_S = 0.25
"""How often the ledger is asked for parts that another process was told of, in seconds."""

PATIENCE_S = 4 * 3600.0
DESERTED_S = 60.0
"""How long to wait for the next part, in seconds, while somebody listens, and when nobody does any more. Four parts of 64 MiB at
once take that long at 18 KiB/s; who only seems to listen is found out by what he is told."""

TOUCH_S = 300.0
"""How often a check says that it still goes on, in seconds: an upload that nobody touches is given up."""

CHECKS_AT_ONCE = max(2, os.cpu_count() or 1)
"""Parts that are copied, or read and hashed, at once in a process."""

log = logging.getLogger(__name__)


class Uploads:
    """What is done about large blobs. Calls block and are thread-safe, but for `finish`, which is for one event loop."""

    def __init__(self, service: BlobService, *, part_size: int = MAX_PART) -> None:
        self._service = service
        self._ledger = service.ledger
        self._bucket = service.bucket
        self._part_size = part_size
        self._checks: dict[str, _Check] = {}
        self._limiter: anyio.CapacityLimiter | None = None

    # sending ----------------------------------------------------------------------------------------------------
    def begin(self, project: Project, digest: str, size: int) -> Upload:
        """Raises QuotaError, UsageError for a small blob."""
        if size <= MAX_SMALL:
            raise UsageError(f"a blob of {size:,} bytes is small: send it in frames")
        if self._has(project.id, digest, size):
            return Upload("")
        self._ledger.check_quota(project.id, size)
        return self._told(self._ledger.begin_upload(project.id, digest, size, self._part_size, self._new_key(digest)))

    def upload(self, upload_id: str) -> UploadRow:
        """Raises NotFoundError."""
        found = self._ledger.upload(upload_id)
        if found is None:
            raise no_upload()
        return found

    def parts_done(self, upload: UploadRow, said: PartsDone) -> Upload:
        numbers = [part.number for part in (*said.parts, *said.want)]
        if any(number >= upload.part_count for number in numbers):
            raise UsageError(f"this upload has {upload.part_count} parts, from 0 on")
        if upload.is_done:
            return _all_done(upload)
        if said.parts:
            self._ledger.add_parts(upload.id, {part.number: part.sha256 for part in said.parts})
            self._notify(upload.id)
        wanted = {part.number: part.sha256 for part in said.want if part.sha256}
        if self._checks_sums:
            for number, sha256 in wanted.items():
                if not self._ledger.promise_part(upload.id, number, sha256):
                    # Another sender, or the same file as it was before, had other bytes there: one of both is wrong, and the
                    # URL for the first is still good.
                    if self._ledger.restart_upload(upload, self._new_key(upload.digest)):
                        self._drop_objects(upload)
                    wanted = {}
                    break
        now = self.upload(upload.id)
        return _all_done(now) if now.is_done else self._told(now, wanted)

    def part_writer(self, upload: UploadRow, number: int, length: int | None) -> AbstractContextManager[ObjectWriter]:
        """For a part that comes through this server. After its `commit` call `part_came`. Raises UsageError."""
        if self._bucket.signs:
            raise UsageError("parts of this upload are sent to the bucket")
        if upload.is_done or not 0 <= number < upload.part_count:
            raise UsageError(f"this upload does not want a part {number}")
        size = upload.part_nbytes(number)
        if length is not None and length != size:
            raise UsageError(f"part {number} has {size:,} bytes, not {length:,}")
        return self._bucket.writer(upload.part_key(number), size)

    def part_came(self, upload: UploadRow, number: int) -> None:
        self._ledger.add_parts(upload.id, {number: ""})
        self._notify(upload.id)

    @property
    def _checks_sums(self) -> bool:
        """Whether the bucket holds senders to the SHA-256 of each part."""
        return self._bucket.signs and self._bucket.keeps_what_was_put()

    def _new_key(self, digest: str) -> str:
        return new_upload_key() if must_copy(self._bucket) else new_blob_key(digest)

    def _told(self, upload: UploadRow, wanted: dict[int, str] | None = None) -> Upload:
        """`wanted`: the SHA-256 of parts that the sender wants to send next."""
        checks = self._checks_sums
        if checks and upload.part_count == 1:
            wanted = {0: upload.digest}
            self._ledger.promise_part(upload.id, 0, upload.digest)
        numbers = wanted or [number for number in range(upload.part_count) if number not in upload.parts][:TOLD_AT_ONCE]
        parts = [self._part(upload, number, (wanted or {}).get(number, ""), checks) for number in numbers]
        return Upload(upload.id, upload.part_size, checks, parts, sorted(upload.parts))

    def _part(self, upload: UploadRow, number: int, sha256: str, checks: bool) -> UploadPart:
        size = upload.part_nbytes(number)
        if not self._bucket.signs:
            return UploadPart(number, size, f"/v1/uploads/{upload.id}/parts/{number}")
        if checks and not sha256:
            return UploadPart(number, size, "")
        signed = self._bucket.sign_put(upload.part_key(number), size, sha256, URL_S)
        return UploadPart(number, size, signed.url, signed.headers)

    def _has(self, project_id: int, digest: str, size: int) -> bool:
        """Whether the project has the blob and its block list, all of it touched."""
        held = self._ledger.hold(project_id, [digest]).get(digest)
        if held is None:
            return False
        if held.size != size:
            raise UsageError(f"blob {digest} has not {size:,} bytes")
        if not held.blocks or held.blocks not in self._ledger.hold(project_id, [held.blocks]):
            return False
        if not has_lower_list(size):
            return True
        found = self._ledger.find(None, [held.blocks], project_id).get(held.blocks)
        if found is None:
            return False
        lower = lower_list(b"".join(bytes(data) for _, data in self._service.reader.read([found])))
        return lower is not None and lower in self._ledger.hold(project_id, [lower])

    def _drop_objects(self, upload: UploadRow) -> None:
        self._service.delete_later([upload.part_key(number) for number in range(upload.part_count)])

    # checking ---------------------------------------------------------------------------------------------------
    async def finish(self, upload: UploadRow) -> AsyncIterator[FinishLine]:
        """Lines about a check, which begins with the first caller who asks for it. It goes on for a while when the caller is cut
        off, so that asking again costs nothing. The last line has `done` or `error`."""
        check = self._checks.get(upload.id)
        if check is None:
            self._limiter = self._limiter or anyio.CapacityLimiter(CHECKS_AT_ONCE)
            check = self._checks[upload.id] = _Check(self._service, upload, self._limiter)
            check.task = asyncio.create_task(check.run())
            check.task.add_done_callback(lambda _: self._checks.pop(upload.id, None))
        check.listeners += 1
        try:
            while True:
                line = check.line
                yield line
                if line.done or line.error is not None:
                    return
                await check.changed(LINE_S)
        finally:
            check.listeners -= 1

    def _notify(self, upload_id: str) -> None:
        check = self._checks.get(upload_id)
        if check is not None:
            check.wake()


class _Check:
    """One reading back. `line`: what there is to tell."""

    def __init__(self, service: BlobService, upload: UploadRow, limiter: anyio.CapacityLimiter) -> None:
        self._service = service
        self._upload = upload
        self._limiter = limiter
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()  # of parts that came
        self._progress = asyncio.Event()
        self._sha256 = hashlib.sha256()
        self._blocks = BlockHasher()
        # As it was when the upload began.
        self._copies = not upload.key.startswith("blobs/")
        self._key = new_blob_key(upload.digest) if self._copies else upload.key
        self._verified = 0
        self._given_up = False
        self._touched = time.monotonic()
        self._end: FinishLine | None = None
        self.task: asyncio.Task[None] | None = None
        self.listeners = 0

    @property
    def line(self) -> FinishLine:
        return self._end or FinishLine(self._verified)

    async def changed(self, limit_s: float) -> None:
        """Waits for progress, but not longer than that."""
        seen = self._progress
        try:
            async with asyncio.timeout(limit_s):
                await seen.wait()
        except TimeoutError:
            pass

    def wake(self) -> None:
        """A part came. From any thread."""
        self._loop.call_soon_threadsafe(self._news.set)

    async def run(self) -> None:
        try:
            blocks = await self._check()
            self._finish(FinishLine(self._verified, done=True, blocks=blocks))
        except ArtfsError as error:
            fields = {name: str(value) for name, value in error_fields(error).items()}
            self._finish(FinishLine(self._verified, error=fields))
        except Exception:
            log.exception("checking an upload failed")
            fields = {"kind": "error", "message": "the server made a mistake; its log says more"}
            self._finish(FinishLine(self._verified, error=fields))

    def _finish(self, line: FinishLine) -> None:
        self._end = line
        self._tell()

    def _tell(self) -> None:
        seen, self._progress = self._progress, asyncio.Event()
        seen.set()

    async def _check(self) -> str:
        upload = self._upload
        if upload.is_done:
            return await self._in_thread(self._blocks_of_done)
        coming = asyncio.create_task(self._bring(0))
        try:
            for number in range(upload.part_count):
                await coming
                if number + 1 < upload.part_count:
                    # While this one is read.
                    coming = asyncio.create_task(self._bring(number + 1))
                await anyio.to_thread.run_sync(partial(self._read, number), limiter=self._limiter)
        except BaseException:
            self._given_up = True
            self._news.set()
            # So that no copy is made after they were dropped.
            await asyncio.gather(coming, return_exceptions=True)
            self._drop_copies()
            raise
        return await self._in_thread(self._register)

    async def _bring(self, number: int) -> None:
        """That part is where nobody else can change it."""
        await self._wait_for(number)
        await self._touch()
        if self._copies:
            await anyio.to_thread.run_sync(partial(self._copy, number), limiter=self._limiter)

    async def _touch(self) -> None:
        if time.monotonic() - self._touched > TOUCH_S:
            self._touched = time.monotonic()
            await anyio.to_thread.run_sync(partial(self._service.ledger.add_parts, self._upload.id, {}))

    async def _in_thread(self, call: Callable[[], str]) -> str:
        return await anyio.to_thread.run_sync(call, limiter=self._limiter)

    def _blocks_of_done(self) -> str:
        """Somebody asks again who did not get the answer."""
        upload = self._upload
        held = self._service.ledger.hold(upload.project.id, [upload.digest]).get(upload.digest)
        if held is None:
            raise no_upload()
        self._verified = upload.size
        return held.blocks

    async def _wait_for(self, number: int) -> None:
        """Until that part is there. Raises UnavailableError when it does not come, NotFoundError when the upload went."""
        since = time.monotonic()
        known: frozenset[int] = frozenset()
        while True:
            self._news.clear()
            if self._given_up:
                raise UnavailableError("the check was given up")
            upload = await anyio.to_thread.run_sync(partial(self._service.ledger.upload, self._upload.id))
            if upload is None or upload.key != self._upload.key:
                raise no_upload()
            if number in upload.parts:
                return
            if frozenset(upload.parts) != known:
                known, since = frozenset(upload.parts), time.monotonic()
            waited = time.monotonic() - since
            if waited > (PATIENCE_S if self.listeners else DESERTED_S):
                raise UnavailableError(f"part {number} of blob {upload.digest} did not come")
            if self.listeners:
                await self._touch()
            try:
                async with asyncio.timeout(min(LOOK_S + waited / 20, 2.0)):
                    await self._news.wait()
            except TimeoutError:
                pass

    def _kept_key(self, number: int) -> str:
        return self._upload._replace(key=self._key).part_key(number)

    def _copy(self, number: int) -> None:
        """In a thread."""
        with self._needing(number):
            self._service.bucket.copy(self._upload.part_key(number), self._kept_key(number))

    def _read(self, number: int) -> None:
        """In a thread: hashes a part."""
        bucket, key, size = self._service.bucket, self._kept_key(number), self._upload.part_nbytes(number)
        with self._needing(number):
            found = bucket.try_size(key)
            if found != size:
                raise StorageError(f"part {number} has {found} bytes instead of {size}")
            for piece in bucket.stream(key, 0, size):
                self._sha256.update(piece)
                self._blocks.update(piece)
                self._verified += len(piece)
                self._loop.call_soon_threadsafe(self._tell)

    @contextmanager
    def _needing(self, number: int) -> Iterator[None]:
        """A part that is not there as it should be has to be sent again."""
        try:
            yield
        except (BlobMissingError, StorageError) as error:
            self._service.ledger.drop_parts(self._upload.id, [number])
            raise UnavailableError(f"part {number} of blob {self._upload.digest} has to be sent again: {error}") from error

    def _register(self) -> str:
        upload, service = self._upload, self._service
        objects: Sequence[bytes] = encode_block_list(upload.size, self._blocks.finish())
        blocks = digest_bytes(objects[-1])
        if self._sha256.hexdigest() != upload.digest:
            service.ledger.drop_upload(upload.id)
            service.delete_later(self._all_keys())
            raise BadBlobError(f"the bytes that were sent are not blob {upload.digest}", upload.digest)
        try:
            service.store_blobs(upload.project.id, objects)
            new = NewObject(upload.digest, upload.size, self._key, upload.part_size, blocks)
            useless = service.ledger.add(upload.project.id, None, [new], upload=upload)
        except (QuotaError, NotFoundError):
            # Only then: after any other error nobody knows whether the row is there.
            self._drop_copies()
            raise
        kept = [] if useless else _keys(upload, self._key)
        service.delete_later([key for key in self._all_keys() if key not in kept])
        return blocks

    def _all_keys(self) -> list[str]:
        return list({*_keys(self._upload, self._upload.key), *_keys(self._upload, self._key)})

    def _drop_copies(self) -> None:
        if self._copies:
            self._service.delete_later(_keys(self._upload, self._key))


def must_copy(bucket: Bucket) -> bool:
    """Whether who put a part may change it afterwards."""
    return not bucket.signs or not (bucket.trusts_senders or bucket.keeps_what_was_put())


def _all_done(upload: UploadRow) -> Upload:
    return Upload(upload.id, upload.part_size, done=list(range(upload.part_count)))


def _keys(upload: UploadRow, key: str) -> list[str]:
    return [upload._replace(key=key).part_key(number) for number in range(upload.part_count)]


def no_upload() -> NotFoundError:
    return NotFoundError("there is no such upload (any more): begin it again")
