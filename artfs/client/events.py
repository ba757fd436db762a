"""What a server says that changed: a thread that reads its events, reconnects, and catches up."""

from __future__ import annotations

import logging
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from artfs.client.http import Http, shut
from artfs.errors import AccessError, ArtfsError, UnavailableError
from artfs.model.unreadable import UNREADABLE, read_number
from artfs.typed import read_json
from artfs.wire.backoff import Backoff
from artfs.wire.bodies import EventData, EventsQuery, Hello
from artfs.wire.routes import SERVER_ROUTES, by_name

SILENCE_S = 40.0
"""The server says something every 15 s; after so much silence the connection counts as lost."""

LONGEST_WAIT_S = 15.0
"""Longest wait between two tries to connect."""

MAX_EVENT = 65_536
"""Bytes of one event, which is two short names and a number."""

log = logging.getLogger(__name__)
_ROUTE = by_name(SERVER_ROUTES)["events"]

OnEvent = Callable[[EventData | None], None]
"""Told what changed; None: anything may have. Called on the thread of the events; it should not wait for the network."""


class OnNumber(Protocol):
    def __call__(self, number: int, *, anew: bool = False) -> None: ...


class EventThread:
    """Reads events until it is closed. `heard_at`: when something came last, an event or a sign of life; a time of
    time.monotonic()."""

    def __init__(self, http: Http, on_event: OnEvent, on_number: OnNumber) -> None:
        # With a connection of its own, which can be shut down while the thread waits for it.
        self._http = http.apart()
        self._on_event = on_event
        self._on_number = on_number
        self.heard_at = float("-inf")
        self._after: int | None = None
        self._closed = threading.Event()
        self._connected = threading.Event()
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="artfs-events", daemon=True)
        self._thread.start()

    @property
    def is_connected(self) -> bool:
        """Whether events come; what is known then is at most as old as an event takes."""
        return self._connected.is_set()

    def wait_connected(self, timeout_s: float) -> bool:
        return self._connected.wait(timeout_s)

    def close(self) -> None:
        """Ends the thread, and waits for it unless it is the caller. Idempotent."""
        self._closed.set()
        with self._lock:
            if self._socket is not None:
                shut(self._socket)
        if threading.current_thread() is not self._thread:
            self._thread.join()
        self._http.close()

    def _run(self) -> None:
        tried = 0
        backoff = Backoff(float("inf"), 0.2, LONGEST_WAIT_S, tries=2**60)
        while not self._closed.is_set():
            try:
                self._read()
                tried = 0  # it ended in order: the server is being restarted
            except AccessError as error:
                log.warning("no events from %s: %s", self._http.base_url, error)
                tried = max(tried, 6)
            except ArtfsError as error:
                if not self._closed.is_set():
                    log.info("no events: %s", error)
            if self._connected.is_set():
                tried = 0
            self._connected.clear()
            tried += 1
            self._closed.wait(backoff.wait_s(tried, 0.0, random.random()))  # noqa: S311

    def _read(self) -> None:
        query = EventsQuery(self._after)
        with self._http.stream(_ROUTE, None, query, silence_s=SILENCE_S, on_socket=self._connected_by) as response:
            for kind, number, data in parse_events(self._heard(response.iter_bytes())):
                if self._closed.is_set():
                    return
                self._take(kind, number, data)

    def _heard(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self.heard_at = time.monotonic()
            yield piece

    def _connected_by(self, connection: socket.socket) -> None:
        with self._lock:
            self._socket = connection
            if self._closed.is_set():
                shut(connection)

    def _take(self, kind: str, number: int | None, data: bytes) -> None:
        try:
            if kind in ("hello", "reset"):
                newest = read_json(data, Hello).newest
                if self._after is None or kind == "reset":
                    # From here on nothing is missed; whatever was known before may be old.
                    self._after = newest
                    self._on_number(newest, anew=kind == "reset")
                    self._on_event(None)
                elif newest > self._after:
                    # What was missed is told now, one by one; until it is through, what is known must not count as new.
                    self._on_event(None)
                self._connected.set()
            elif kind == "message" and number is not None:
                place = read_json(data, EventData)
                self._after = number
                self._on_number(number)
                self._on_event(place)
        except UNREADABLE as error:
            raise UnavailableError(f"{self._http.base_url} sends events that this artfs does not understand ({error})") from error


def parse_events(pieces: Iterator[bytes]) -> Iterator[tuple[str, int | None, bytes]]:
    """(event, id, data) of a `text/event-stream` (https://html.spec.whatwg.org/multipage/server-sent-events.html); comments are
    left out. `id` None: none, or no number. Raises UnavailableError for an event over MAX_EVENT."""
    buffer = b""
    kind, number, data = "message", None, list[bytes]()
    nbytes = 0  # of the lines of this event
    for piece in pieces:
        buffer += piece
        *lines, buffer = buffer.split(b"\n")
        for line in lines:
            nbytes += len(line)
            if nbytes > MAX_EVENT:
                raise UnavailableError("an event is too long")
            line = line.removesuffix(b"\r")
            if not line:
                if data:
                    yield kind, number, b"\n".join(data)
                kind, number, data = "message", None, []
                nbytes = 0
                continue
            name, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if name == b"data":
                data.append(value)
            elif name == b"event":
                kind = value.decode("utf-8", "replace")
            elif name == b"id":
                number = read_number(value.decode("latin-1"))
        if len(buffer) + nbytes > MAX_EVENT:
            raise UnavailableError("an event is too long")
