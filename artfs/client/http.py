"""Calls to one server over HTTP: blocking, thread-safe, over kept connections, tried again as long as that may help."""

from __future__ import annotations

import random
import secrets
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import msgspec

from artfs.client.answer import AS_IT_IS, Answer, read_whole
from artfs.client.connections import CONNECT_S, LOCAL, make_client, make_context, make_direct
from artfs.errors import (
    ArtfsError,
    CatalogError,
    RateLimitedError,
    UnauthorizedError,
    UnavailableError,
    UsageError,
)
from artfs.model.unreadable import UNREADABLE, read_number
from artfs.settings import Settings
from artfs.typed import json_decoder
from artfs.wire.backoff import AGAIN, NOT_BEGUN, Backoff, read_retry_after
from artfs.wire.bodies import NoQuery, Query
from artfs.wire.errors import error_from
from artfs.wire.routes import CALL_HEADER, CHANGE_HEADER, JSON, Route, encode_query

if TYPE_CHECKING:
    from artfs.client.direct import Direct

PROBE_S = 3.0
"""How long a call may take that finds out whether a server is back, in seconds."""

_LEAST_S = 0.05
"""A try has at least so long, also when the wait before it took longer than was meant: no socket takes less than nothing."""

_encode = msgspec.json.Encoder().encode
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)


class Http:
    """One server.

    Attributes:
        base_url: without a slash at its end.
        on_change: told the number of the newest change by each answer to a call that changed something.
        on_contact: told whether a try reached the server: True, or False with what went wrong.
        on_give_up: told when a call that had all its time has failed, because the server was not reached to the end.
        gate: asked before each call (not for events). Raises UnavailableError to refuse it; True: it should find out
            quickly whether the server answers.
    """

    def __init__(
        self, base_url: str, token: str, *, timeout_s: float = 30.0, ca_bundle: Path | None = None, proxy: str = "",
    ) -> None:
        """Raises UsageError for a token, a CA bundle or a proxy's URL that cannot be used."""
        if not (token.isascii() and token.isprintable()):
            raise UsageError("the token holds characters that no token has: `artfs login` keeps a right one")
        self.base_url = base_url.rstrip("/")
        self.timeout_s = timeout_s
        self.on_change: Callable[[int], None] = lambda number: None
        self.on_contact: Callable[[bool, str], None] = lambda reached, what: None
        self.on_give_up: Callable[[], None] = lambda: None
        self.gate: Callable[[], bool] = lambda: False
        self._closed = threading.Event()
        self._patience = threading.local()
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._sockets_lock = threading.Lock()
        self._headers = {"Accept": JSON, **AS_IT_IS, "User-Agent": "artfs"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        context = make_context(ca_bundle)
        from_environ = not proxy and (urlsplit(self.base_url).hostname or "") not in LOCAL
        self._client = make_client(context, proxy, from_environ=from_environ)
        self._direct: Direct | None = None
        self._make_direct = partial(make_direct, context, proxy, self._add_socket, from_environ=from_environ)
        self._direct_lock = threading.Lock()
        self._again = partial(Http, base_url, token, timeout_s=timeout_s, ca_bundle=ca_bundle, proxy=proxy)

    def apart(self) -> Http:
        """Another one to the same server, with connections of its own."""
        made = self._again()
        made.on_contact = lambda reached, what: self.on_contact(reached, what)
        return made

    @classmethod
    def of(cls, settings: Settings, token: str) -> Http:
        """As `settings` say. Raises UsageError."""
        return cls(
            settings.server, token, timeout_s=settings.network_timeout_s, ca_bundle=settings.ca_bundle, proxy=settings.proxy
        )

    def close(self) -> None:
        """Ends calls that are under way in other threads, too. Idempotent."""
        self._closed.set()
        self.hang_up()
        self._client.close()
        with self._direct_lock:
            if self._direct is not None:
                self._direct.close()

    def hang_up(self) -> None:
        """Cuts all that is under way; what may be tried again is tried again over other connections. From any thread."""
        with self._sockets_lock:
            open_now = list(self._sockets)
        for connection in open_now:
            shut(connection)

    @contextmanager
    def within(self, limit_s: float) -> Iterator[None]:
        """Calls of this thread in the body take at most so long, in seconds, with all tries."""
        self._patience.limit_s = limit_s
        try:
            yield
        finally:
            del self._patience.limit_s

    @contextmanager
    def ending_with(self, end: threading.Event) -> Iterator[None]:
        """Calls of this thread in the body are not tried again once `end` is set."""
        self._patience.end = end
        try:
            yield
        finally:
            del self._patience.end

    def call(
        self, route: Route, arguments: Mapping[str, str | int] | None = None, query: Query | None = None, body: Any = None, *,
        timeout_s: float | None = None,
    ) -> Any:
        """Makes a call and returns its result.

        `timeout_s`: how long it may take with all tries; None: as the settings say. Raises the error that the server reports;
        UnavailableError when it cannot be reached, or answers with nothing of ours, until the time is up; UsageError for what
        JSON cannot hold; CatalogError after `close`.
        """
        content = None if route.body is None else encode_body(body)
        headers = {"Content-Type": JSON} if content is not None else {}
        if route.once:
            headers[CALL_HEADER] = secrets.token_hex(16)
        response = self.exchange(route, arguments, query, content=content, headers=headers, timeout_s=timeout_s)
        try:
            return self.result(route, response)
        except UnavailableError:
            if not route.idempotent:
                raise
            # Once more: something on the way may have damaged it.
            response = self.exchange(route, arguments, query, content=content, headers=headers, timeout_s=timeout_s)
            return self.result(route, response)

    def result(self, route: Route, response: httpx.Response) -> Any:
        """What a successful answer says."""
        number = read_number(response.headers.get(CHANGE_HEADER, ""))
        if number is not None:
            self.on_change(number)
        if route.result is None:
            return None
        try:
            return json_decoder(route.result)(response.content)
        except UNREADABLE as error:
            raise UnavailableError(
                f"{self.base_url} answers {route.name} in a way that this artfs does not understand ({error}); is it an artfs "
                f"server, and of the same version?"
            ) from error

    def exchange(
        self, route: Route, arguments: Mapping[str, str | int] | None = None, query: Query | None = None, *,
        content: bytes | None = None, headers: Mapping[str, str] | None = None, timeout_s: float | None = None,
    ) -> httpx.Response:
        """As `call`, with bodies as they are: returns a successful answer, read."""
        limit_s = self.timeout_s if timeout_s is None else timeout_s
        limit_s = min(limit_s, getattr(self._patience, "limit_s", limit_s))
        if self.gate():
            limit_s = min(limit_s, PROBE_S)
        # A long limit is for an answer that takes long, not for a server that cannot be reached.
        backoff = Backoff(min(limit_s, self.timeout_s))
        began = time.monotonic()
        tried, is_open = 0, False  # is_open: an earlier try may have done it
        while True:
            tried += 1
            left_s = max(limit_s - (time.monotonic() - began), _LEAST_S)
            try:
                response = self._send(route, arguments, query, content, headers, left_s)
            except UnavailableError as error:
                failure: ArtfsError = error
                not_begun = isinstance(error.__cause__, _NOT_SENT)
                asked: float | None = None
            else:
                if _is_ours(route, response):
                    self.on_contact(True, "")
                    return response
                failure = self._failure(response)
                if route.vanishes and is_open and failure.kind == "not-found":
                    return httpx.Response(204, headers=response.headers)
                status = response.status_code
                if status not in AGAIN:
                    raise failure
                not_begun = status in NOT_BEGUN
                asked = read_retry_after(response.headers.get("retry-after"), datetime.now(UTC))
                if isinstance(failure, RateLimitedError) and asked is None:
                    asked = failure.retry_after_s
            is_open = is_open or not not_begun
            wait_s = backoff.wait_s(tried, time.monotonic() - began, random.random(), asked)  # noqa: S311
            if wait_s is None or not (route.idempotent or not_begun):
                if wait_s is None and limit_s >= self.timeout_s and isinstance(failure, UnavailableError):
                    self.on_give_up()
                raise failure
            if getattr(self._patience, "end", self._closed).wait(wait_s):
                raise failure

    @contextmanager
    def stream(
        self, route: Route, arguments: Mapping[str, str | int] | None = None, query: Query | None = None, *,
        content: Any = None, headers: Mapping[str, str] | None = None, silence_s: float,
        on_socket: Callable[[socket.socket], None] | None = None,
    ) -> Iterator[httpx.Response]:
        """One try, whose answer is read by the body of the `with`; there may be `silence_s` between two pieces of it. Raises as
        `call`; what goes wrong in the body comes out as UnavailableError. `on_socket`: told each connection that is made for it
        as soon as there is one; to shut it down is to end the wait."""
        self._check_open()
        if route.name != "events" and self.gate():
            silence_s = min(silence_s, PROBE_S)
        timeout = httpx.Timeout(silence_s, connect=min(CONNECT_S, silence_s))
        request = self._request(route, arguments, query, content, headers, timeout)
        if on_socket is not None:
            self._tell_socket(request, on_socket)
        with self._translated():
            response = self._client.send(request, stream=True)
        try:
            if not _is_ours(route, response):
                with self._translated():
                    response = self._whole(response, silence_s)
                failure = self._failure(response)
                if response.status_code in AGAIN:
                    raise to_be_tried_again(response, f"{self.base_url}: {failure}")
                raise failure
            self.on_contact(True, "")
            with self._translated():
                yield response
        finally:
            response.close()

    @contextmanager
    def own(
        self, path: str, *, method: str = "GET", headers: Mapping[str, str] | None = None, content: Any = None,
        silence_s: float,
    ) -> Iterator[httpx.Response]:
        """One request to a path that the server told, with our token; otherwise as `elsewhere`."""
        self._check_open()
        if self.gate():
            silence_s = min(silence_s, PROBE_S)
        timeout = httpx.Timeout(silence_s, connect=min(CONNECT_S, silence_s))
        request = self._build(method, self.base_url + path, {**self._headers, **(headers or {})}, content, timeout)
        with self._translated():
            response = self._client.send(request, stream=True)
        try:
            if response.is_success:
                self.on_contact(True, "")
            with self._translated():
                yield response
        finally:
            response.close()

    @contextmanager
    def elsewhere(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, content: Any = None, silence_s: float,
    ) -> Iterator[httpx.Response]:
        """One request to a URL that the server told (a bucket's), without our token; any answer is given as it is, and not
        read. What goes wrong on the way comes out as UnavailableError."""
        self._check_open()
        timeout = httpx.Timeout(silence_s, connect=min(CONNECT_S, silence_s))
        with self._reworded(url):
            response = self._client.send(self._build(method, url, headers, content, timeout), stream=True)
        try:
            with self._reworded(url):
                yield response
        finally:
            response.close()

    @contextmanager
    def fetch(self, url: str, *, headers: Mapping[str, str], silence_s: float) -> Iterator[Answer]:
        """A GET of a URL that the server told, or of a path of it (then with our token); any answer is given as it is. What goes
        wrong on the way comes out as UnavailableError."""
        self._check_open()
        if "://" not in url:
            with self.own(url, headers=headers, silence_s=silence_s) as response:
                yield _answer(response)
            return
        with self._direct_lock:
            direct = self._direct = self._direct or self._make_direct()
        if not direct.can(url):
            with self.elsewhere("GET", url, headers=headers, silence_s=silence_s) as response:
                yield _answer(response)
        else:
            try:
                with direct.get(url, headers, silence_s) as answer:
                    yield answer
            except UnavailableError:
                self._check_open()
                raise

    # one try ----------------------------------------------------------------------------------------------------
    def _send(
        self, route: Route, arguments: Mapping[str, str | int] | None, query: Query | None, content: bytes | None,
        headers: Mapping[str, str] | None, left_s: float,
    ) -> httpx.Response:
        self._check_open()
        # A server that has gone silent is asked again while there is time; what changes something may take all of it.
        silence_s = max(left_s / 3, 1.0) if route.only_reads else left_s
        timeout = httpx.Timeout(left_s, connect=min(CONNECT_S, left_s), read=min(silence_s, left_s))
        with self._translated():
            response = self._client.send(self._request(route, arguments, query, content, headers, timeout), stream=True)
            return self._whole(response, left_s)

    def _whole(self, response: httpx.Response, limit_s: float) -> httpx.Response:
        """The answer, read. Raises UnavailableError for one that is too long, or has not come to its end by then."""
        try:
            return read_whole(response, limit_s)
        except UnavailableError as error:
            self.on_contact(False, str(error))
            raise UnavailableError(f"the server {self.base_url} {error}") from None
        finally:
            response.close()

    def _request(
        self, route: Route, arguments: Mapping[str, str | int] | None, query: Query | None, content: Any,
        headers: Mapping[str, str] | None, timeout: httpx.Timeout,
    ) -> httpx.Request:
        path = route.url(arguments or {})
        behind = encode_query(query) if query is not None and not isinstance(query, NoQuery) else ""
        url = f"{self.base_url}{path}{'?' + behind if behind else ''}"
        return self._build(route.method, url, {**self._headers, **(headers or {})}, content, timeout)

    def _build(
        self, method: str, url: str, headers: Mapping[str, str] | None, content: Any, timeout: httpx.Timeout
    ) -> httpx.Request:
        request = self._client.build_request(method, url, headers=headers, content=content, timeout=timeout)
        self._tell_socket(request)
        return request

    def _tell_socket(self, request: httpx.Request, also: Callable[[socket.socket], None] = lambda connection: None) -> None:
        """Has a connection that is made for `request` known as soon as there is one, so that it can be cut. (httpcore's
        extension "trace".)"""

        def trace(name: str, info: dict[str, Any]) -> None:
            if name.endswith(("connect_tcp.complete", "start_tls.complete")):
                connection = info["return_value"].get_extra_info("socket")
                if connection is not None:
                    self._add_socket(connection)
                    also(connection)

        request.extensions = {**request.extensions, "trace": trace}

    def _add_socket(self, connection: socket.socket) -> None:
        with self._sockets_lock:
            self._sockets.add(connection)
        if self._closed.is_set():
            shut(connection)  # `close` may not have seen it

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except httpx.HTTPError as error:
            self._check_open()
            words = _words(error)
            self.on_contact(False, words)
            raise UnavailableError(f"the server {self.base_url} does not answer: {words}") from error
        except RuntimeError:
            self._check_open()  # httpx says so of a client that is closed
            raise

    @contextmanager
    def _reworded(self, url: str) -> Iterator[None]:
        """Without the query, which is a presigned URL's secret."""
        try:
            yield
        except httpx.HTTPError as error:
            self._check_open()
            parts = urlsplit(url)
            raise UnavailableError(f"{parts.scheme}://{parts.netloc} does not answer: {_words(error)}") from None
        except RuntimeError:
            self._check_open()
            raise

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise CatalogError(f"the connection to {self.base_url} was closed by this program")

    def _failure(self, response: httpx.Response) -> ArtfsError:
        """What an answer means that is not the one that was hoped for. Only our own words count as contact with the server."""
        try:
            fields = msgspec.json.decode(response.content)
        except UNREADABLE:
            fields = None
        if not response.is_success and isinstance(fields, dict) and isinstance(fields.get("kind"), str):
            self.on_contact(True, "")
            error = error_from(fields)
            if isinstance(error, UnauthorizedError):
                return UnauthorizedError(f"{self.base_url}: {error}")
            return error
        words = self._words_of(response)
        self.on_contact(False, words)
        return UnavailableError(words)

    def _words_of(self, response: httpx.Response) -> str:
        if response.is_redirect:
            where = response.headers.get("location", "")
            return f"{self.base_url} says that it is elsewhere ({where}); `artfs login` with that address"
        if response.is_success:
            kind = response.headers.get("content-type", "") or "nothing known"
            return f"{self.base_url}, or a proxy before it, answers with {kind}; does this network want a login first?"
        first = next((line.strip() for line in response.text.splitlines() if line.strip()), response.reason_phrase)
        return f"{self.base_url}, or a proxy before it, answers {response.status_code}: {first[:200]}"


def to_be_tried_again(response: httpx.Response | Answer, words: str) -> UnavailableError:
    """What to raise for an answer whose status is in AGAIN: it knows how long the server wants us to wait, if it does."""
    asked = read_retry_after(response.headers.get("retry-after"), datetime.now(UTC))
    return UnavailableError(words) if asked is None else RateLimitedError(words, asked)


def _is_ours(route: Route, response: httpx.Response) -> bool:
    """Whether an answer is a successful one of an artfs server, and no page of a proxy or a hotel."""
    if not response.is_success:
        return False
    if route.result is None:
        return response.status_code == 204
    return bool(response.headers.get("content-type", "").startswith(route.result_media))


def shut(connection: socket.socket) -> None:
    """Wakes up whoever reads from it or writes to it, which closing it would not do."""
    with suppress(OSError):  # it has ended
        connection.shutdown(socket.SHUT_RDWR)


def _answer(response: httpx.Response) -> Answer:
    return Answer(response.status_code, response.headers, response.url.host, response.iter_raw())


def encode_body(body: Any) -> bytes:
    """Raises UsageError for what JSON cannot hold."""
    try:
        return _encode(body)
    except UnicodeEncodeError as error:
        raise UsageError(f"{error.object!r} is not valid Unicode text") from None
    except (OverflowError, RecursionError) as error:
        raise UsageError(f"this cannot be sent: {error}") from None


def _words(error: httpx.HTTPError) -> str:
    match error:
        case httpx.ConnectTimeout():
            return "connecting takes too long"
        case httpx.ReadTimeout() | httpx.WriteTimeout():
            return "it says nothing for too long"
        case httpx.PoolTimeout():
            return "all connections to it are in use"
    return str(error) or type(error).__name__
