"""One request: who calls, what is wanted, may they, do it, say what came of it, write down that it was.

The event loop reads and writes; whatever asks the database runs in a worker thread.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import re
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from artfs.errors import (
    AccessError,
    ArtfsError,
    ForbiddenError,
    RateLimitedError,
    UnauthorizedError,
    UnavailableError,
    UsageError,
)
from artfs.model.access import CallId
from artfs.model.unreadable import read_number
from artfs.server.accesslog import AccessLog
from artfs.server.auth import Gate
from artfs.server.calls import Call, Caller, Endpoint, ServerParts
from artfs.server.lifecycle import Lifecycle
from artfs.server.matching import Matcher, read_body, read_query
from artfs.server.metrics import Metrics
from artfs.server.peers import Network, client_address, is_in, is_loopback
from artfs.server.rights import Rights
from artfs.server.statuses import status_of
from artfs.typed import json_decoder
from artfs.wire.errors import error_fields
from artfs.wire.routes import CALL_HEADER, CALL_ID, CHANGE_HEADER, JSON, Route

THREADS = 24
"""How many calls about names run at once in a process; others wait for their turn."""

BODY_SILENCE_S = 30.0
"""How long a caller may send nothing of a body that it has announced."""

RETRY_AFTER_S = 2
"""What a caller is asked to wait when the database or the bucket does not answer."""

IN_DOUBT = 504
"""What is said of a call that may have been carried out, as 503 means that it was not begun: a client makes it again only if
that does no harm (wire.backoff.NOT_BEGUN)."""

log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """`open_to_all`: nobody needs a token, and who calls must come from this machine. `proxies`: whose X-Forwarded-For and
    X-Request-ID are believed."""

    open_to_all: bool = False
    proxies: Sequence[Network] = ()


@dataclass(slots=True)
class _Seen:
    """What the log says of a request."""

    request_id: str
    address: str
    began: float = field(default_factory=time.monotonic)
    route: str = "none"
    place: str | None = None
    caller: str | None = None
    status: int = 0
    received: int = 0
    sent: int = 0
    kind: str | None = None


class _RefusedError(Exception):
    """An answer that is no ArtfsError's: a status of HTTP's own."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}


class Dispatcher:
    """An ASGI application for everything but the lifespan."""

    def __init__(
        self, endpoints: Sequence[Endpoint], parts: ServerParts, rights: Rights, gate: Gate, lifecycle: Lifecycle,
        options: HttpOptions, metrics: Metrics, access_log: AccessLog | None,
    ) -> None:
        self._matcher = Matcher(endpoints)
        self._parts = parts
        self._rights = rights
        self._gate = gate
        self._lifecycle = lifecycle
        self._options = options
        self._metrics = metrics
        self._access_log = access_log
        self._decoders = {
            endpoint.route.name: json_decoder(endpoint.route.body)
            for endpoint in endpoints
            if endpoint.route.body is not None and endpoint.run is not None
        }
        self._threads = anyio.CapacityLimiter(THREADS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = _headers(scope)
        seen = self._seen(scope, headers)
        done = False

        async def sending(message: Message) -> None:
            nonlocal done
            if message["type"] == "http.response.start":
                seen.status = message["status"]
                own = [(b"x-request-id", seen.request_id.encode()), (b"x-content-type-options", b"nosniff")]
                if self._lifecycle.stopping.is_set():
                    own.append((b"connection", b"close"))
                message = {**message, "headers": [*message.get("headers", ()), *own]}
            else:
                seen.sent += len(message.get("body", b""))
                done = not message.get("more_body", False)
            await send(message)

        async def receiving() -> Message:
            message = await receive()
            seen.received += len(message.get("body", b""))
            return message

        self._metrics.running(1)
        try:
            with self._lifecycle.request():
                response = await self._answer(scope, receiving, headers, seen)
                await response(scope, receiving, sending)
        except ClientDisconnect:
            seen.kind = "gone"
        except Exception:
            # The answer had begun: all that is left is to cut it off, so that nobody takes it for whole.
            log.exception("request %s: cut off", seen.request_id)
            seen.kind = "internal"
            raise
        finally:
            self._metrics.running(-1)
            if seen.status and not done and seen.kind is None:
                seen.kind = "gone"
            self._tell(scope, seen)

    def _seen(self, scope: Scope, headers: dict[bytes, list[bytes]]) -> _Seen:
        peer = scope["client"][0] if scope.get("client") else ""
        forwarded = [value.decode("latin-1") for value in headers.get(b"x-forwarded-for", ())]
        given = _first(headers, b"x-request-id")
        believed = bool(given and _REQUEST_ID.fullmatch(given)) and is_in(peer, self._options.proxies)
        return _Seen(
            given if believed and given else secrets.token_hex(8), client_address(peer, forwarded, self._options.proxies)
        )

    def _tell(self, scope: Scope, seen: _Seen) -> None:
        seconds = time.monotonic() - seen.began
        self._metrics.request(seen.route, seen.status, seconds, seen.received, seen.sent)
        if self._access_log is not None:
            self._access_log.write(
                id=seen.request_id, address=seen.address, method=scope["method"], route=seen.route, place=seen.place,
                caller=seen.caller, status=seen.status, error=seen.kind, ms=round(seconds * 1000, 1),
                received=seen.received, sent=seen.sent,
            )

    # an answer --------------------------------------------------------------------------------------------------
    async def _answer(
        self, scope: Scope, receive: Receive, headers: dict[bytes, list[bytes]], seen: _Seen
    ) -> Response:
        """Whatever goes wrong is an answer, too."""
        try:
            return await self._respond(scope, receive, headers, seen)
        except ArtfsError as error:
            return self._refusal(error, seen)
        except _RefusedError as error:
            seen.kind = "usage"
            body = {"kind": "usage", "message": str(error)}
            return Response(_encode(body), error.status, error.headers, JSON)
        except ClientDisconnect:
            raise
        except Exception:
            log.exception("request %s: a defect of the server", seen.request_id)
            seen.kind = "internal"
            message = f"the server made a mistake; its log says more about request {seen.request_id}"
            return Response(_encode({"kind": "error", "message": message}), 500, media_type=JSON)

    def _refusal(self, error: ArtfsError, seen: _Seen) -> Response:
        seen.kind = error.kind
        status = status_of(error)
        if isinstance(error, UnavailableError) and error.may_be_done:
            status = IN_DOUBT
        headers: dict[str, str] = {}
        if isinstance(error, RateLimitedError):
            headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
        elif status == 503:
            headers["Retry-After"] = str(RETRY_AFTER_S)
        if isinstance(error, UnauthorizedError):
            headers["WWW-Authenticate"] = "Bearer"
        if isinstance(error, AccessError | RateLimitedError):
            self._metrics.refused(error.kind)
        if status >= 500:
            log.warning("request %s (%s): %s", seen.request_id, seen.route, error)
        return Response(_encode(error_fields(error)), status, headers, JSON)

    async def _respond(
        self, scope: Scope, receive: Receive, headers: dict[bytes, list[bytes]], seen: _Seen
    ) -> Response:
        method = scope["method"]
        if self._options.open_to_all:
            _check_local(headers)
        endpoint, found = self._matcher.find(method, scope.get("raw_path") or scope["path"].encode())
        if endpoint is None:
            allowed = ", ".join(found)
            raise _RefusedError(405, f"this path takes {allowed}, not {method}", {"Allow": allowed})
        assert isinstance(found, dict)
        route = endpoint.route
        seen.route = route.name
        caller = Caller(None)
        if route.right != "public":
            authorization = _first(headers, b"authorization")
            caller = await self._gate.caller(authorization, seen.address)
            seen.caller = caller.actor.name
        query = read_query(scope["query_string"], route.query)
        call = Call(route, caller, found, query, request_id=seen.request_id)
        if endpoint.stream is not None:
            return await self._stream(endpoint, call, scope, receive, headers, seen)
        assert endpoint.run is not None
        content = b""
        if route.body is not None:
            content = await _read_body(receive, headers, route.max_body)
            call.body = read_body(self._decoders[route.name], content)
        if route.once:
            call.id = _call_id(scope, headers, route, content)
        work = partial(self._work, endpoint.run, call)
        try:
            answer, change = await anyio.to_thread.run_sync(work, limiter=self._threads)
        finally:
            seen.place = "/".join(call.place) if call.place is not None else None
        more = {CHANGE_HEADER: str(change)} if change is not None else {}
        if route.result is None:
            return Response(None, 204, more)
        return Response(answer, 200, {"Cache-Control": "no-store", **more}, JSON)

    def _work(self, run: Callable[[Call], Any], call: Call) -> tuple[bytes, int | None]:
        """In a worker thread: all that may wait for the database."""
        self._rights.admit(call)
        result = run(call)
        change = None if call.route.only_reads else self._newest_change()
        return (b"" if call.route.result is None else _encode(result)), change

    def _newest_change(self) -> int | None:
        """None: the database does not say any more. What was asked for is done all the same, and a refusal would have it made
        again; listeners hear of it."""
        try:
            return self._parts.ledger.newest_change()
        except ArtfsError as error:
            log.warning("the number of the newest change cannot be read: %s", error)
            return None

    async def _stream(
        self, endpoint: Endpoint, call: Call, scope: Scope, receive: Receive, headers: dict[bytes, list[bytes]],
        seen: _Seen,
    ) -> Response:
        assert endpoint.stream is not None
        await anyio.to_thread.run_sync(partial(self._rights.admit, call), limiter=self._threads)
        seen.place = "/".join(call.place) if call.place is not None else None
        _check_length(headers, call.route.max_body)
        request = Request(scope, receive)
        authorization = _first(headers, b"authorization")

        async def again() -> Caller:
            return await self._gate.caller(authorization, seen.address)

        request.state.again = again
        return await endpoint.stream(call, request)

async def _read_body(receive: Receive, headers: dict[bytes, list[bytes]], limit: int) -> bytes:
    kind = (_first(headers, b"content-type") or "").partition(";")[0].strip().lower()
    if kind != JSON:
        # A form of a web page can send everything but this without asking.
        raise _RefusedError(415, f"the body must be {JSON}", {"Accept": JSON})
    _check_length(headers, limit)
    pieces: list[bytes] = []
    size = 0
    while True:
        try:
            async with asyncio.timeout(BODY_SILENCE_S):
                message = await receive()
        except TimeoutError:
            raise _RefusedError(408, "the body did not come", {"Connection": "close"}) from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        if size > limit:
            raise _too_large(limit)
        if not message.get("more_body", False):
            return b"".join(pieces)


def _call_id(scope: Scope, headers: dict[bytes, list[bytes]], route: Route, content: bytes) -> CallId | None:
    given = _first(headers, CALL_HEADER.encode())
    if given is None:
        return None
    if not CALL_ID.fullmatch(given):
        raise UsageError(f"the header {CALL_HEADER} takes 1 to 64 printable ASCII characters without blanks")
    asked = hashlib.sha256()
    for part in (route.name.encode(), scope.get("raw_path") or scope["path"].encode(), scope["query_string"], content):
        asked.update(b"%d " % len(part) + part)
    return CallId(given, asked.digest(), route.result)


def _check_length(headers: dict[bytes, list[bytes]], limit: int) -> None:
    length = _first(headers, b"content-length")
    if length is not None and length.isascii() and length.isdigit() and read_number(length, limit) is None:
        raise _too_large(limit)


def _too_large(limit: int) -> _RefusedError:
    # What is left of it is not read, so the connection is of no use any more.
    return _RefusedError(413, f"the body is too large; at most {limit:,} bytes", {"Connection": "close"})


def _check_local(headers: dict[bytes, list[bytes]]) -> None:
    """Without tokens everything that runs on this machine may call, but no web page may that a browser here shows: neither by
    a name that leads to this machine, nor across origins."""
    host = _first(headers, b"host") or ""
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    origin = _first(headers, b"origin")
    if not is_loopback(name) or (origin is not None and origin.partition("://")[2] != host):
        raise ForbiddenError("a server without tokens answers only calls from this machine to localhost or 127.0.0.1")


def _headers(scope: Scope) -> dict[bytes, list[bytes]]:
    found: dict[bytes, list[bytes]] = {}
    for name, value in scope["headers"]:
        found.setdefault(name.lower(), []).append(value)
    return found


def _first(headers: dict[bytes, list[bytes]], name: bytes) -> str | None:
    values = headers.get(name)
    return values[0].decode("latin-1") if values else None


class Health:
    """/healthz: this process answers. /readyz: its parts do as well, and it is not stopping."""

    CHECK_S = 5.0
    BELIEVED_S = 1.0

    def __init__(self, parts: ServerParts, lifecycle: Lifecycle) -> None:
        self._checks = dict(parts.checks)
        self._lifecycle = lifecycle
        self._limiter = anyio.CapacityLimiter(max(1, len(self._checks)) * 2)
        self._last: tuple[float, dict[str, str]] | None = None
        self._lock = asyncio.Lock()

    async def healthz(self) -> tuple[int, dict[str, str]]:
        return 200, {"status": "ok"}

    async def readyz(self) -> tuple[int, dict[str, str]]:
        found = {"process": "stopping"} if self._lifecycle.stopping.is_set() else await self._ask()
        is_ready = all(state == "ok" for state in found.values())
        return (200, {"status": "ok", **found}) if is_ready else (503, {"status": "not ready", **found})

    async def _ask(self) -> dict[str, str]:
        async with self._lock:
            # Anybody may ask this, as often as they like.
            if self._last is None or time.monotonic() - self._last[0] > self.BELIEVED_S:
                states = await asyncio.gather(*(self._check(name) for name in self._checks))
                self._last = (time.monotonic(), dict(zip(self._checks, states, strict=True)))
            return self._last[1]

    async def _check(self, name: str) -> str:
        try:
            async with asyncio.timeout(self.CHECK_S):
                await anyio.to_thread.run_sync(self._checks[name], limiter=self._limiter, abandon_on_cancel=True)
        except (ArtfsError, OSError, TimeoutError) as error:
            # Why stands in the log: whoever may ask this need not know.
            log.warning("/readyz: the %s does not answer: %s", name, str(error) or "too slow")
            return "does not answer"
        return "ok"


class Front:
    """Questions about the process's health are answered before all else, and neither counted nor logged."""

    def __init__(self, health: Health, dispatcher: Dispatcher) -> None:
        self._health = {"/healthz": health.healthz, "/readyz": health.readyz}
        self._dispatcher = dispatcher

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        ask = self._health.get(scope["path"])
        if ask is None:
            await self._dispatcher(scope, receive, send)
            return
        if scope["method"] == "GET":
            status, body = await ask()
            response = Response(_encode(body), status, {"Cache-Control": "no-store"}, JSON)
        else:
            error = {"kind": "usage", "message": f"{scope['path']} takes GET"}
            response = Response(_encode(error), 405, {"Allow": "GET"}, JSON)
        await response(scope, receive, send)
