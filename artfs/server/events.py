"""Server-sent events: what changes, to whoever may read it (docs/wire.md, "Names").

One task per process asks the database whether anything changed, as long as somebody listens, and reads the new rows once for all
listeners. A listener that is behind, because it comes with an old number or reads slowly, reads by itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import anyio.to_thread
import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from artfs.errors import AccessError, ArtfsError, RateLimitedError
from artfs.model.access import Change, Changes
from artfs.server.calls import Call, Caller, Endpoint, ServerParts
from artfs.server.lifecycle import Lifecycle
from artfs.server.metrics import Metrics
from artfs.wire import bodies
from artfs.wire.routes import EVENT_STREAM, SERVER_ROUTES, by_name

POLL_S = 0.2
"""How often the database is asked."""

HEARTBEAT_S = 15.0
"""A comment line this often tells the listener that the connection lives, and us that the listener does."""

MAX_STREAMS = 4000
"""Most listeners of one process."""

_PAGE = 1000
_KEPT = 5000

log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode

Reauthorise = Callable[[], Awaitable[Caller]]


class Hub:
    """Knows the newest rows of `changes`."""

    def __init__(self, parts: ServerParts, lifecycle: Lifecycle) -> None:
        self._ledger = parts.ledger
        self._catalog = parts.catalog
        self._lifecycle = lifecycle
        self._recent: deque[Change] = deque(maxlen=_KEPT)
        self._floor = 0  # `_recent` has every row above this number, up to `_newest`
        self._newest = 0
        self._moved = asyncio.Condition()
        self._listeners = 0
        self._task: asyncio.Task[None] | None = None
        self._limiter = anyio.CapacityLimiter(4)

    @property
    def listeners(self) -> int:
        return self._listeners

    async def join(self) -> int:
        """A listener more; returns the newest number."""
        newest = await self._call(self._ledger.newest_change)
        self._listeners += 1
        if self._task is None:
            self._recent.clear()
            self._floor = self._newest = newest
            self._task = asyncio.create_task(self._watch())
        return int(newest)

    def leave(self) -> None:
        self._listeners -= 1
        if not self._listeners and self._task is not None:
            self._task.cancel()
            self._task = None

    async def after(self, number: int) -> Changes:
        """The next rows above `number`, without waiting."""
        if number > self._newest:
            # The database was asked more lately than this process's watcher was; nothing newer is known.
            return Changes(number, ())
        if number < self._floor or (self._recent and number < self._recent[0].number - 1):
            found: Changes = await self._call(self._ledger.changes_after, number, _PAGE)
            return found
        rows = tuple(row for row in self._recent if row.number > number)
        return Changes(self._newest, rows)

    async def wait(self, number: int, timeout_s: float) -> bool:
        """Until there may be rows above `number` or the process stops (True), or the time is up (False)."""
        try:
            async with asyncio.timeout(timeout_s), self._moved:
                await self._moved.wait_for(lambda: self._newest > number or self._lifecycle.stopping.is_set())
        except TimeoutError:
            return False
        return True

    async def wake(self) -> None:
        async with self._moved:
            self._moved.notify_all()

    async def _watch(self) -> None:
        token: int | None = None
        failing = False
        while True:
            try:
                now = await self._call(self._catalog.change_token)
                if now != token:
                    await self._read_on()
                    token = now
                failing = False
            except ArtfsError as error:
                # Said once; those who listen hear nothing until it works again, and then all that happened.
                if not failing:
                    log.warning("the changes cannot be read: %s", error)
                failing = True
            except Exception:
                # A defect, or no thread is to be had. Without this task listeners would hear signs of life, and nothing else.
                if not failing:
                    log.exception("the changes cannot be read")
                failing = True
            await asyncio.sleep(POLL_S)

    async def _read_on(self) -> None:
        while True:
            found: Changes = await self._call(self._ledger.changes_after, self._newest, _PAGE)
            if found.is_gap:
                self._recent.clear()
                self._floor = found.last
            self._recent.extend(found.rows)
            if not found.rows and not found.is_gap:
                return
            async with self._moved:
                self._newest = found.last
                self._moved.notify_all()

    async def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await anyio.to_thread.run_sync(lambda: function(*arguments), limiter=self._limiter)


class Events:
    def __init__(self, parts: ServerParts, lifecycle: Lifecycle, metrics: Metrics) -> None:
        self._metrics = metrics
        self.hub = Hub(parts, lifecycle)
        self._lifecycle = lifecycle

    def endpoint(self) -> Endpoint:
        return Endpoint(by_name(SERVER_ROUTES)["events"], stream=self._open)

    async def _open(self, call: Call, request: Request) -> Response:
        if self.hub.listeners >= MAX_STREAMS:
            raise RateLimitedError("this server has too many listeners", 10)
        query: bodies.EventsQuery = call.query
        newest = await self.hub.join()
        self._metrics.listeners(self.hub.listeners)
        lines = self._lines(newest, query.after, request.state.again)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return _Stream(lines, self._left, media_type=EVENT_STREAM, headers=headers)

    def _left(self) -> None:
        self.hub.leave()
        self._metrics.listeners(self.hub.listeners)

    async def _lines(self, newest: int, after: int | None, again: Reauthorise) -> AsyncIterator[bytes]:
        yield _event("hello", bodies.Hello(newest))
        at = newest if after is None else after
        if at > newest:
            # It comes from another past, before a backup was restored.
            yield _event("reset", bodies.Hello(newest))
            at = newest
        while not self._lifecycle.stopping.is_set():
            found = await self.hub.after(at)
            is_new = found.last != at or found.is_gap
            if not is_new and await self.hub.wait(at, HEARTBEAT_S):
                continue
            # Asked anew, as the token may have been revoked or got other grants meanwhile.
            try:
                caller = await again()
            except AccessError:
                return
            if not is_new:
                yield b": \n\n"
                continue
            if found.is_gap:
                yield _event("reset", bodies.Hello(found.last))
            for row in found.rows:
                if _may_see(caller, row):
                    place = bodies.EventData(row.entity, row.project, row.collection)
                    yield b"id: %d\ndata: %s\n\n" % (row.number, _encode(place))
            at = found.last


def _may_see(caller: Caller, row: Change) -> bool:
    """The list of an entity's projects is told to whoever sees the entity: what it has then, it asks for by itself."""
    if row.project is None:
        return caller.sees_entity(row.entity)
    return caller.reads(row.entity, row.project)


def _event(name: str, data: bodies.Hello) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), _encode(data))


class _Stream(StreamingResponse):
    """Calls `leave` once, however it ends, also when it never began."""

    def __init__(self, lines: AsyncIterator[bytes], leave: Callable[[], None], **more: Any) -> None:
        super().__init__(lines, **more)
        self._leave = leave

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._leave()
