"""An http server that does what a script says, well or badly, one request after the other."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Seen:
    """A request. `headers`: by lower-case name."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Reply:
    """What is sent; `cut`: so many bytes of the body are held back, and the connection closed, or with `hold` kept open.
    `drop_s`: seconds after each byte of the body. `silent`: nothing is ever sent. `hang_up`: the connection is closed without an
    answer. `then`: called before the answer."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: int = 0
    hold: bool = False
    drop_s: float = 0.0
    silent: bool = False
    hang_up: bool = False
    then: Callable[[], None] = lambda: None

    @classmethod
    def of(cls, value: Any, status: int = 200, **headers: str) -> Reply:
        given = {name.replace("_", "-"): text for name, text in headers.items()}
        return cls(status, json.dumps(value).encode(), {"Content-Type": "application/json", **given})


class ScriptedServer:
    """Answers with `replies` in their order; the last one again and again. `seen`: what was asked. A context manager."""

    def __init__(self, *replies: Reply) -> None:
        self.replies = list(replies)
        self.seen: list[Seen] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def _start(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self._open.append(connection)
            self._start(lambda connection=connection: self._serve(connection))  # type: ignore[misc]

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), connection, connection.makefile("rb") as stream:
            while (request := _read(stream)) is not None:
                with self._lock:
                    self.seen.append(request)
                    reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
                reply.then()
                if reply.silent:
                    self._closed.wait()
                if reply.hang_up or reply.silent:
                    return
                head = f"HTTP/1.1 {reply.status} Said\r\nContent-Length: {len(reply.body)}\r\n"
                head += "".join(f"{name}: {value}\r\n" for name, value in reply.headers.items())
                body = reply.body[: len(reply.body) - reply.cut]
                if reply.drop_s:
                    self._send_in_drops(connection, head.encode() + b"\r\n", body, reply.drop_s)
                else:
                    connection.sendall(head.encode() + b"\r\n" + body)
                if reply.hold:
                    self._closed.wait()
                if reply.cut:
                    return

    def _send_in_drops(self, connection: socket.socket, head: bytes, body: bytes, each_s: float) -> None:
        connection.sendall(head)
        for number in range(len(body)):
            if self._closed.wait(each_s):
                return
            connection.sendall(body[number : number + 1])

    def close(self) -> None:
        self._closed.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> ScriptedServer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def _read(stream: Any) -> Seen | None:
    first = stream.readline()
    if not first:
        return None
    method, target, _ = first.decode("latin-1").split()
    headers: dict[str, str] = {}
    while (line := stream.readline().strip()) != b"":
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    return Seen(method, target, headers, stream.read(int(headers.get("content-length", 0))))
