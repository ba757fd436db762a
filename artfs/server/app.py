"""The application: everything put together."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import anyio
import anyio.to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from artfs.errors import ArtfsError
from artfs.model.access import Token
from artfs.server.accesslog import AccessLog
from artfs.server.admin import Admin
from artfs.server.auth import Gate
from artfs.server.calls import Call, Endpoint, ServerParts
from artfs.server.dispatch import Dispatcher, Front, Health, HttpOptions
from artfs.server.events import Events
from artfs.server.failures import Failures
from artfs.server.lifecycle import Lifecycle
from artfs.server.metrics import Metrics, NoMetrics
from artfs.server.names import Names
from artfs.server.openapi import describe
from artfs.server.rights import Rights
from artfs.wire.routes import JSON, SERVER_ROUTES, by_name

NOTING_S = 5.0
"""How long the end waits for the last uses of tokens to be written down, in seconds."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AppOptions:
    """How an application runs.

    Attributes:
        http: who is let in, and from where.
        linger_s, drain_s: see Lifecycle.drain, when SIGTERM comes. With `drain_s` None signals are left alone.
        on_ready: called when it can answer; on_drained: when it was asked to end, and nothing runs any more.
    """

    http: HttpOptions = field(default_factory=HttpOptions)
    linger_s: float = 0.0
    drain_s: float | None = None
    on_ready: Callable[[], None] = lambda: None
    on_drained: Callable[[], None] = lambda: None


class _Draining:
    """What SIGTERM begins; a second one changes nothing."""

    def __init__(self, lifecycle: Lifecycle, events: Events, options: AppOptions, limit_s: float) -> None:
        self._lifecycle = lifecycle
        self._events = events
        self._options = options
        self._limit_s = limit_s
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        self._lifecycle.stopping.set()
        await self._events.hub.wake()
        if not await self._lifecycle.drain(self._options.linger_s, self._limit_s):
            log.warning("%d requests were still running after %g s", self._lifecycle.running, self._limit_s)
        self._options.on_drained()


def make_app(
    parts: ServerParts, options: AppOptions | None = None, *, metrics: Metrics | None = None,
    access_log: AccessLog | None = None, failures: Failures | None = None,
) -> Starlette:
    """The server as an ASGI application. It closes `parts` when its lifespan ends."""
    options = options or AppOptions()
    metrics = metrics or NoMetrics()
    lifecycle = Lifecycle()
    limiter, noting_limiter = anyio.CapacityLimiter(8), anyio.CapacityLimiter(1)
    noting: set[asyncio.Task[None]] = set()

    async def look_up(secret: str) -> Token:
        found: Token = await anyio.to_thread.run_sync(partial(parts.ledger.authenticate, secret), limiter=limiter)
        task = asyncio.create_task(note_use(found))
        noting.add(task)
        task.add_done_callback(noting.discard)
        return found

    async def note_use(token: Token) -> None:
        # Beside the answer, as it may have to wait for others who write.
        try:
            await anyio.to_thread.run_sync(partial(parts.ledger.note_use, token), limiter=noting_limiter)
        except ArtfsError as error:
            log.warning("the use of the token %r could not be written down: %s", token.name, error)

    rights = Rights(parts.catalog, parts.ledger)
    events = Events(parts, lifecycle, metrics)
    endpoints = [*Names(parts, rights).endpoints(), *Admin(parts).endpoints(), events.endpoint(), *parts.endpoints]
    description = describe([*(endpoint.route for endpoint in endpoints), by_name(SERVER_ROUTES)["openapi"]])

    async def openapi(call: Call, request: Request) -> Response:
        return Response(description, media_type=JSON)

    endpoints.append(Endpoint(by_name(SERVER_ROUTES)["openapi"], stream=openapi))
    gate = Gate(look_up, open_to_all=options.http.open_to_all, failures=failures)
    dispatcher = Dispatcher(endpoints, parts, rights, gate, lifecycle, options.http, metrics, access_log)
    health = Health(parts, lifecycle)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        if options.drain_s is not None:
            stop = _Draining(lifecycle, events, options, options.drain_s).begin
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
        options.on_ready()
        try:
            yield
        finally:
            if noting:
                await asyncio.wait(noting, timeout=NOTING_S)
            parts.close()

    app = Starlette(lifespan=lifespan)
    # Not Starlette's routes: our paths are taken apart before they are decoded.
    app.router.default = Front(health, dispatcher)
    return app
