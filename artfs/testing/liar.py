"""A server that lies: what a real one says, but for what it is told to say otherwise.

It stands before the real one as a proxy does. A *lie* is a blob or a page of a tree: bytes that are sent for a digest, whether
they have it or not. And wherever the real server names one digest in its JSON, the liar may name another, so that a version's
root is a tree that no server would have taken.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import httpx
import msgspec

from artfs.wire.frames import MEDIA_TYPE, encode_frames

_PASSED = ("content-type", "artfs-change", "artfs-more", "content-range", "etag", "retry-after")


def _own(headers: Mapping[str, str]) -> dict[str, str]:
    """What is passed on."""
    return {name: value for name, value in headers.items() if name.lower() not in ("host", "content-length", "accept-encoding")}


class Liar:
    """Attributes, to be changed at any time:

    lies: the bytes that are sent for a digest.
    instead: for digests in JSON, what is named instead. totals: (size, number of files) that are told of such a one.
    pages: (media type, body) that is said to a path, whatever was asked.
    """

    def __init__(self, target: str) -> None:
        self.lies: dict[str, bytes] = {}
        self.instead: dict[str, str] = {}
        self.totals: dict[str, tuple[int, int]] = {}
        self.pages: dict[str, tuple[str, bytes]] = {}
        self._client = httpx.Client(base_url=target, timeout=30.0)
        liar = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _any(self) -> None:
                if self.path.startswith("/v1/events"):
                    self._events()
                    return
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                status, headers, content = liar.answer(self.command, self.path, dict(self.headers), body)
                with suppress(ConnectionError):  # who asked has left
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)
                    self.wfile.flush()

            def _events(self) -> None:
                """As they are, until one side ends it."""
                self.close_connection = True
                passed = _own(dict(self.headers))
                with suppress(OSError, httpx.HTTPError), liar._client.stream("GET", self.path, headers=passed) as told:
                    self.send_response(told.status_code)
                    self.send_header("Content-Type", told.headers["content-type"])
                    self.end_headers()
                    for piece in told.iter_raw():
                        self.wfile.write(piece)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _any

            def log_message(self, format: str, *args: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def answer(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """(status, headers, body)."""
        if path in self.pages:
            kind, content = self.pages[path]
            return 200, {"Content-Type": kind}, content
        if path == "/v1/trees":
            root = msgspec.json.decode(body)["root"]
            if root in self.lies:
                return self._frames([root])
        if path == "/v1/blobs/read":
            asked = msgspec.json.decode(body)["digests"]
            lies = [digest for digest in asked if digest in self.lies]
            if lies:
                rest = msgspec.json.encode({"digests": [digest for digest in asked if digest not in self.lies]})
                status, kept, content = self.answer(method, path, headers, rest)
                return status, kept, content + self._frames(lies)[2]
        response = self._client.request(method, path, headers=_own(headers), content=body)
        content = response.content
        if response.headers.get("content-type", "").startswith("application/json"):
            for true, false in self.instead.items():
                content = content.replace(true.encode(), false.encode())
            if any(digest.encode() in content for digest in self.totals):
                content = msgspec.json.encode(self._with_totals(msgspec.json.decode(content)))
        kept = {name: response.headers[name] for name in _PASSED if name in response.headers}
        return response.status_code, kept, content

    def _with_totals(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._with_totals(item) for item in value]
        if not isinstance(value, dict):
            return value
        found = {key: self._with_totals(item) for key, item in value.items()}
        told = self.totals.get(str(found.get("digest")))
        if told is not None:
            found["size"], found["file_count"] = told
        return found

    def _frames(self, digests: list[str]) -> tuple[int, dict[str, str], bytes]:
        told = ((digest, self.lies[digest]) for digest in digests)
        return 200, {"Content-Type": MEDIA_TYPE}, b"".join(bytes(piece) for piece in encode_frames(told))

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
