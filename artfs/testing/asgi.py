"""An ASGI application called without a socket: for tests of what it answers, not of how it is served."""

from __future__ import annotations

import asyncio
import json
import queue
import threading
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")
_WAIT_S = 30.0


@dataclass
class Answer:
    """`headers`: by lower-case name."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Stream:
    """An answer that comes bit by bit. `pieces` gets None at its end."""

    def __init__(self) -> None:
        self.answer = Answer()
        self.pieces: queue.Queue[bytes | None] = queue.Queue()
        self._gone = asyncio.Event()
        self._task: Any = None

    def next(self) -> bytes | None:
        return self.pieces.get(timeout=_WAIT_S)


class Asgi:
    """The application with its lifespan, on an event loop in a thread of its own. A context manager."""

    def __init__(self, app: Any, *, client: str = "127.0.0.1") -> None:
        self._app = app
        self._client = client
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._life: asyncio.Queue[dict[str, Any]] = self._do(self._make_queue())
        self._lifespan = asyncio.run_coroutine_threadsafe(self._live(), self._loop)
        self._do(self._life.put({"type": "lifespan.startup"}))

    @staticmethod
    async def _make_queue() -> asyncio.Queue[dict[str, Any]]:
        return asyncio.Queue()

    async def _live(self) -> None:
        async def send(message: dict[str, Any]) -> None:
            return None

        await self._app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, self._life.get, send)

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_WAIT_S)

    def close(self) -> None:
        try:
            self._do(self._life.put({"type": "lifespan.shutdown"}))
            self._lifespan.result(_WAIT_S)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def __enter__(self) -> Asgi:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _scope(self, method: str, target: str, headers: Iterable[tuple[str, str]]) -> dict[str, Any]:
        path, _, query = target.partition("?")
        return {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": method,
            "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": query.encode(), "root_path": "",
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
            "client": (self._client, 12345), "server": ("127.0.0.1", 80), "state": {},
        }

    def request(
        self, method: str, target: str, *, token: str | None = None, json_body: Any = None,
        body: bytes | list[bytes] | None = None,
        headers: Iterable[tuple[str, str]] = (),
    ) -> Answer:
        """`target`: path and query as they stand in a request. `body` as a list: comes in pieces."""
        own = [] if any(name == "host" for name, _ in headers) else [("host", "localhost")]
        sent = [*own, *headers]
        if token is not None:
            sent.append(("authorization", f"Bearer {token}"))
        if json_body is not None:
            body = json.dumps(json_body).encode()
        if body is not None and not any(name.lower() == "content-type" for name, _ in sent):
            sent.append(("content-type", "application/json"))
        pieces = [body or b""] if not isinstance(body, list) else body
        return self._do(self._request(self._scope(method, target, sent), pieces))

    async def _request(self, scope: dict[str, Any], pieces: list[bytes]) -> Answer:
        answer = Answer()
        waiting = list(pieces)

        async def receive() -> dict[str, Any]:
            if waiting:
                piece = waiting.pop(0)
                return {"type": "http.request", "body": piece, "more_body": bool(waiting)}
            await asyncio.sleep(_WAIT_S)
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                _begin(answer, message)
            else:
                answer.body += message.get("body", b"")

        await self._app(scope, receive, send)
        return answer

    def open(self, target: str, *, token: str | None = None) -> Stream:
        """A GET whose answer is read bit by bit; `leave` ends it."""
        headers = [("host", "localhost"), *([("authorization", f"Bearer {token}")] if token is not None else [])]
        return self._do(self._open(self._scope("GET", target, headers)))

    async def _open(self, scope: dict[str, Any]) -> Stream:
        stream = Stream()
        begun = asyncio.Event()
        asked = False

        async def receive() -> dict[str, Any]:
            nonlocal asked
            if not asked:
                asked = True
                return {"type": "http.request", "body": b"", "more_body": False}
            await stream._gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                _begin(stream.answer, message)
                begun.set()
            elif message.get("body"):
                stream.pieces.put(message["body"])

        async def run() -> None:
            try:
                await self._app(scope, receive, send)
            finally:
                begun.set()
                stream.pieces.put(None)

        stream._task = asyncio.create_task(run())
        await begun.wait()
        return stream

    def leave(self, stream: Stream) -> None:
        """The caller goes away; returns when the application has noticed."""
        self._do(self._leave(stream))

    async def _leave(self, stream: Stream) -> None:
        stream._gone.set()
        await stream._task


def _begin(answer: Answer, message: dict[str, Any]) -> None:
    answer.status = message["status"]
    answer.headers = {name.decode().lower(): value.decode("latin-1") for name, value in message["headers"]}
