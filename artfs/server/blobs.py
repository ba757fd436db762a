"""The endpoints of the calls about blobs: who may, bodies in and out as they come, and everything that blocks in threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from artfs.catalog.blobledger import Upload as UploadRow
from artfs.catalog.ledger import Ledger
from artfs.errors import (
    BlobMissingError,
    ConflictError,
    NotFoundError,
    RateLimitedError,
    UnavailableError,
    UsageError,
)
from artfs.model.access import Token, is_enough
from artfs.model.records import Project
from artfs.model.unreadable import read_number
from artfs.server.auth import forbidden
from artfs.server.blobservice import BlobService, ObjectRange
from artfs.server.budget import Budget
from artfs.server.calls import Call, Caller, Endpoint
from artfs.server.closure import Closure
from artfs.server.collecting import collection
from artfs.server.longcall import LongCall
from artfs.server.matching import read_body, read_range
from artfs.server.uploads import Uploads, no_upload
from artfs.server.usage import usage_of
from artfs.typed import json_decoder
from artfs.wire import blobroutes as routes
from artfs.wire.bodies import UsageQuery
from artfs.wire.frames import HEAD_NBYTES, MEDIA_TYPE
from artfs.wire.messages import (
    BlobHost,
    BlobList,
    CheckLine,
    CollectLine,
    CollectRequest,
    Located,
    LocateRequest,
    ProjectUsage,
    QuotaBody,
    TreeCheck,
    TreesRequest,
    Upload,
    UploadRequest,
)
from artfs.wire.routes import JSON

THREADS = 32
"""Reads and writes of the bucket that run at once in a process, for all callers."""

BODIES_NBYTES = 384 * 1024 * 1024
"""Of bodies of frames, and of parts that a bucket keeps in memory until they are whole, at once: six of the longest."""

CHECKS_AT_ONCE = 2
"""Trees that a process looks through for `check_tree` at once; others wait."""

CHECKS_WAITING = 64
"""How many there are at the most, with those that wait: each has a thread, and goes on when its caller is cut off."""

CHECK_AGAIN_S = 5.0

PIECE_NBYTES = 1024 * 1024
BODY_SILENCE_S = 30.0
"""How long a caller may send nothing of a body."""

_T = TypeVar("_T")
_S = TypeVar("_S", bound=msgspec.Struct)
_encode = msgspec.json.Encoder().encode


class Blobs:
    """For one event loop. `ledger`: writes down who makes a project. `part_size`: of new uploads, in bytes."""

    def __init__(self, service: BlobService, ledger: Ledger, *, part_size: int = routes.MAX_PART) -> None:
        self._service = service
        self._uploads = Uploads(service, part_size=part_size)
        self._ledger = ledger
        self._bodies = Budget(BODIES_NBYTES)
        # Bound to the event loop when it is first used.
        self._limiter: anyio.CapacityLimiter | None = None
        self._collection: LongCall[CollectLine] | None = None
        self._closure = Closure(service)
        self._checks = threading.BoundedSemaphore(CHECKS_AT_ONCE)
        # By project and root: who was cut off and asks again listens to what he began.
        self._checking: dict[tuple[int | None, str], LongCall[CheckLine]] = {}

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint(routes.READ_BLOBS, stream=self.read_blobs),
            Endpoint(routes.LOCATE_BLOBS, run=self.locate_blobs),
            Endpoint(routes.BLOB_HOST, run=self.blob_host),
            Endpoint(routes.READ_OBJECT, stream=self.read_object),
            Endpoint(routes.READ_TREES, stream=self.read_trees),
            Endpoint(routes.MISSING_BLOBS, run=self.missing_blobs),
            Endpoint(routes.STORE_BLOBS, stream=self.store_blobs),
            Endpoint(routes.BEGIN_UPLOAD, run=self.begin_upload),
            Endpoint(routes.PUT_PART, stream=self.put_part),
            Endpoint(routes.PARTS_DONE, run=self.parts_done),
            Endpoint(routes.FINISH_UPLOAD, stream=self.finish_upload),
            Endpoint(routes.CHECK_TREE, stream=self.check_tree),
            Endpoint(routes.USAGE, run=self.usage),
            Endpoint(routes.SET_QUOTA, run=self.set_quota),
            Endpoint(routes.COLLECT_GARBAGE, stream=self.collect_garbage),
        ]

    # reading ----------------------------------------------------------------------------------------------------
    async def read_blobs(self, call: Call, request: Request) -> Response:
        asked = await _read_json(request, BlobList, call.route.max_body)
        planned, more = await self._thread(self._service.plan_read, _token(call), asked.digests)
        nbytes = sum(found.size + HEAD_NBYTES for found in planned)
        return self._frames(self._service.frames(planned), nbytes, more)

    async def read_trees(self, call: Call, request: Request) -> Response:
        asked = await _read_json(request, TreesRequest, call.route.max_body)
        pages, more = await self._thread(self._service.trees, _token(call), asked)
        nbytes = sum(len(data) + HEAD_NBYTES for _, data in pages)
        return self._frames(self._service.encoded(pages), nbytes, more)

    def locate_blobs(self, call: Call) -> Located:
        asked: LocateRequest = call.body
        return self._service.locate(_token(call), asked)

    def blob_host(self, call: Call) -> BlobHost:
        return BlobHost(self._service.blob_host())

    async def read_object(self, call: Call, request: Request) -> Response:
        place = await self._thread(self._service.open_object, _token(call), call.arguments["token"])
        asked = request.headers.get("range")
        span = read_range(asked, place.size)
        if span is None:
            return Response(None, 416, {"Content-Range": f"bytes */{place.size}"})
        offset, nbytes = span
        headers = {"Accept-Ranges": "bytes", "Content-Length": str(nbytes), "Cache-Control": "no-store"}
        status = 200
        if asked is not None:
            status = 206
            headers["Content-Range"] = f"bytes {offset}-{offset + nbytes - 1}/{place.size}"
        # The first piece before the answer begins, so that an object that is gone is a 404.
        first = await self._thread(self._piece, place, offset, min(nbytes, PIECE_NBYTES))
        if len(first) == nbytes:
            return Response(first, status, headers, routes.OCTETS)
        body = self._object_pieces(place, offset, nbytes, first)
        return StreamingResponse(body, status, headers, routes.OCTETS)

    async def _object_pieces(
        self, place: ObjectRange, offset: int, nbytes: int, first: bytes
    ) -> AsyncIterator[bytes]:
        yield first
        for at in range(offset + len(first), offset + nbytes, PIECE_NBYTES):
            yield await self._thread(self._piece, place, at, min(PIECE_NBYTES, offset + nbytes - at))

    def _piece(self, place: ObjectRange, offset: int, nbytes: int) -> bytes:
        try:
            return self._service.read_object(place, offset, nbytes)
        except BlobMissingError:
            raise NotFoundError("this object is not there any more: ask where the blob is") from None

    def _frames(self, pieces: Iterator[bytes], nbytes: int, more: bool) -> Response:
        headers = {"Content-Length": str(nbytes), "Cache-Control": "no-store", **({routes.MORE_HEADER: "1"} if more else {})}
        return StreamingResponse(self._iterate(pieces), 200, headers, MEDIA_TYPE)

    async def _iterate(self, pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
        while (piece := await self._thread(next, pieces, None)) is not None:
            yield piece

    # writing ----------------------------------------------------------------------------------------------------
    def missing_blobs(self, call: Call) -> BlobList:
        asked: BlobList = call.body
        project = self._find_project(call)
        return self._service.missing(None if project is None else project.id, asked.digests)

    async def store_blobs(self, call: Call, request: Request) -> Response:
        _check_media(request, MEDIA_TYPE)
        length = read_number(request.headers.get("content-length", ""))
        async with self._bodies.take(call.route.max_body if length is None else length):
            body = await _read_body(request, call.route.max_body)
            project = await self._thread(self._need_project, call)
            stored = await self._thread(self._service.store, project.id, body)
        return Response(_encode(stored), 200, {"Cache-Control": "no-store"}, JSON)

    def begin_upload(self, call: Call) -> Upload:
        asked: UploadRequest = call.body
        return self._uploads.begin(self._need_project(call), asked.digest, asked.size)

    def parts_done(self, call: Call) -> Upload:
        return self._uploads.parts_done(self._upload(call.caller, call.arguments["upload_id"]), call.body)

    async def put_part(self, call: Call, request: Request) -> Response:
        upload = await self._thread(self._upload, call.caller, call.arguments["upload_id"])
        number: int = call.arguments["number"]
        length = request.headers.get("content-length")
        async with self._bodies.take(0 if self._service.bucket.is_near else upload.part_nbytes(number)):
            opened = self._uploads.part_writer(upload, number, read_number(length or ""))
            writer = await self._thread(opened.__enter__)
            try:
                async for data in _pieces(request):
                    await self._thread(writer.write, data)
                await self._thread(writer.commit)
            finally:
                with anyio.CancelScope(shield=True):
                    await self._thread(opened.__exit__, None, None, None)
        await self._thread(self._uploads.part_came, upload, number)
        return Response(None, 204)

    async def finish_upload(self, call: Call, request: Request) -> Response:
        upload = await self._thread(self._upload, call.caller, call.arguments["upload_id"])
        return _lines(self._uploads.finish(upload))

    async def check_tree(self, call: Call, request: Request) -> Response:
        asked = await _read_json(request, TreeCheck, call.route.max_body)
        project = await self._thread(self._find_project, call)

        def work(tell: Callable[[CheckLine], None]) -> CheckLine:
            if project is None:
                raise BlobMissingError(f"blob {asked.root} is not in the project", asked.root)
            files = 0

            def count(more: int) -> None:
                nonlocal files
                files += more
                tell(CheckLine(files))

            with self._checks:
                self._closure.check(project.id, asked.root, on_files=count)
            return CheckLine(files, done=True)

        which = (None if project is None else project.id, asked.root)
        self._checking = {key: running for key, running in self._checking.items() if not running.is_over}
        running = self._checking.get(which)
        if running is None:
            if len(self._checking) >= CHECKS_WAITING:
                raise RateLimitedError("this server is looking through too many trees already", CHECK_AGAIN_S)
            running = LongCall("artfs-check", CheckLine(0), work, lambda error: CheckLine(0, error=error))
            self._checking[which] = running
        return _lines(running.lines())

    # upkeep -----------------------------------------------------------------------------------------------------
    def usage(self, call: Call) -> ProjectUsage:
        project = self._find_project(call)
        if project is None:
            raise NotFoundError(f"there is no project {call.arguments['project']!r}")
        asked: UsageQuery = call.query
        catalog = self._ledger.acting(call.caller.actor)
        return usage_of(catalog, self._service, project, collections=asked.collections)

    def set_quota(self, call: Call) -> None:
        place = (call.arguments["entity"], call.arguments["project"])
        project = self._service.ledger.project(*place)
        if project is None:
            raise NotFoundError(f"there is no project {'/'.join(place)}")
        asked: QuotaBody = call.body
        self._service.ledger.set_quota(project.id, asked.nbytes, by=call.caller.actor)

    async def collect_garbage(self, call: Call, request: Request) -> Response:
        asked = await _read_json(request, CollectRequest, call.route.max_body)
        if self._collection is not None and not self._collection.is_over:
            raise ConflictError("this server is collecting garbage already")
        self._collection = collection(self._ledger.acting(call.caller.actor), self._service, asked)
        return _lines(self._collection.lines())

    # who, and where ---------------------------------------------------------------------------------------------
    def _find_project(self, call: Call) -> Project | None:
        assert call.place is not None
        return self._service.ledger.project(*call.place)

    def _need_project(self, call: Call) -> Project:
        """Of a caller who may make it, if it is not there."""
        assert call.place is not None
        found = self._find_project(call)
        return found or self._ledger.acting(call.caller.actor).create_project(*call.place)

    def _upload(self, caller: Caller, upload_id: str) -> UploadRow:
        """Raises NotFoundError, also for uploads to projects that the caller may not read; ForbiddenError."""
        upload = self._uploads.upload(upload_id)
        role = caller.role_in(upload.project.entity, upload.project.name)
        if role is None:
            raise no_upload()
        if not is_enough(role, "writer"):
            raise forbidden(caller, "writer", f"{upload.project.entity}/{upload.project.name}")
        return upload

    # threads ----------------------------------------------------------------------------------------------------
    async def _thread(self, call: Callable[..., _T], *given: Any) -> _T:
        self._limiter = self._limiter or anyio.CapacityLimiter(THREADS)
        return await anyio.to_thread.run_sync(partial(call, *given), limiter=self._limiter)


def _lines(lines: AsyncIterator[Any]) -> Response:
    async def encoded() -> AsyncIterator[bytes]:
        async for line in lines:
            yield _encode(line) + b"\n"

    return StreamingResponse(encoded(), 200, {"Cache-Control": "no-store"}, routes.NDJSON)


def _token(call: Call) -> Token | None:
    return call.caller.token


# bodies -----------------------------------------------------------------------------------------------------------------
def _check_media(request: Request, wanted: str) -> None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != wanted:
        raise UsageError(f"the body must be {wanted}, not {kind[:100] or 'nothing'}")


async def _read_json(request: Request, type_: type[_S], limit: int) -> _S:
    _check_media(request, JSON)
    body: _S = read_body(json_decoder(type_), await _read_body(request, limit))
    return body


async def _read_body(request: Request, limit: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    async for piece in _messages(request):
        size += len(piece)
        if size > limit:
            raise UsageError(f"the body is too large; at most {limit:,} bytes")
        pieces.append(piece)
    return b"".join(pieces)


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    """A body in pieces of a megabyte or more, so that few of them need a thread."""
    pieces: list[bytes] = []
    size = 0
    async for piece in _messages(request):
        pieces.append(piece)
        size += len(piece)
        if size >= PIECE_NBYTES:
            yield b"".join(pieces)
            pieces, size = [], 0
    if pieces:
        yield b"".join(pieces)


async def _messages(request: Request) -> AsyncIterator[bytes]:
    while True:
        try:
            async with asyncio.timeout(BODY_SILENCE_S):
                message = await request.receive()
        except TimeoutError:
            raise UnavailableError("the body did not come") from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        if body := message.get("body", b""):
            yield body
        if not message.get("more_body", False):
            return
