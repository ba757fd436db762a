"""A network that goes wrong when told to: a TCP proxy between a client and a server (ours, or an S3 server), in a process of
its own, set from the test while it runs.

It delays, limits, counts, cuts, resets, stalls, corrupts, refuses, and answers in the server's place. Faults are named by what
is said in a connection, not by packets: "cut the answer to the next `GET /v1/objects…` after 1,000 bytes of its body". That
works for HTTP/1.1 without TLS; in anything else all bytes of a connection are one body of a request without a name.

    with FaultProxy(("127.0.0.1", port)) as proxy:
        proxy.set_link(delay_s=0.005)  # 10 ms there and back
        proxy.add(Fault("cut", after=1_000, match="GET /v1/objects"))
        …                              # a client that was given proxy.url
        assert proxy.counts().faults == 1

The process is artfs/testing/faultloop.py, with faultconnection.py and faultpipe.py. It ends with this object, and with the
process that made it, however that ends.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import urlsplit

import msgspec

Kind = Literal["cut", "reset", "stall", "corrupt", "answer"]
Side = Literal["up", "down"]

_STOP_S = 10.0


class Fault(msgspec.Struct, frozen=True):
    """What shall go wrong, in the next `times` exchanges for which it can (None: in all, until `clear`).

    Attributes:
        kind: "cut": both sides see the connection closed, in the usual way (FIN); "reset": in the rude way (RST); "stall":
            nothing more comes in that direction, until `clear`, and nobody is told; "corrupt": one byte is another (all its
            bits flipped); "answer": the request is read, but the proxy answers, and the server learns nothing of it.
        side: where it happens: in the answer on its way "down" to the client, or in the request on its way "up".
        after: how many bytes of the body pass before it; 0: when the head has passed. None: before anything has. The bytes
            of chunked bodies are counted with what frames the chunks.
        times: how often it acts; an exchange whose body is shorter does not count.
        match: a part of "METHOD /path?query"; "": any.
        status, headers, body: of an "answer". With `raw` they are not used: these bytes are said and the connection closed.
    """

    kind: Kind
    side: Side = "down"
    after: int | None = None
    times: int | None = 1
    match: str = ""
    status: int = 500
    headers: dict[str, str] = {}
    body: str = ""
    raw: bytes = b""

    def __post_init__(self) -> None:
        if self.kind == "corrupt" and self.after is None:
            raise ValueError("which byte of the body?")


def answer(status: int, body: str = "", *, times: int | None = 1, match: str = "", **headers: str) -> Fault:
    """The next `times` requests get this answer. `headers`: Retry_After="1"."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Fault("answer", times=times, match=match, status=status, body=body, headers=named)


def html_page(status: int = 200, *, times: int | None = 1, match: str = "") -> Fault:
    """What a hotel's network says instead of what was asked for."""
    return answer(status, "<html><body>Please log in</body></html>", times=times, match=match, Content_Type="text/html")


def garbage(*, times: int | None = 1, match: str = "") -> Fault:
    """An answer that is no HTTP."""
    return Fault("answer", times=times, match=match, raw=bytes(range(255, -1, -1)))


class Counts(msgspec.Struct, frozen=True):
    """What passed since the start or `reset_counts`.

    Attributes:
        connections: that were accepted. `open`: that are there now.
        requests: HTTP requests whose heads were read, also those that the server never saw; `methods`: by method.
        up, down: bytes that were passed on to the server, and to the client.
        faults: how often faults acted.
        recent: the last requests, at most 1,000, as "METHOD /path?query".
    """

    connections: int
    open: int
    requests: int
    up: int
    down: int
    faults: int
    methods: dict[str, int]
    recent: list[str]


class FaultProxy:
    """One proxy, listening on a free port of 127.0.0.1. Thread-safe. A context manager, which ends it.

    Arguments:
        target: (host, port) of the server, or its URL. It need not be there yet.
    Attributes:
        host, port, url: where it listens. Whoever signs URLs for a client behind it must sign them for this address.
    """

    def __init__(self, target: tuple[str, int] | str) -> None:
        host, port = _place(target)
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "artfs.testing.faultloop", host, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.host = "127.0.0.1"
        self.port = int(self._read())
        self.url = f"http://{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        return self._process.pid

    def set_link(self, *, delay_s: float = 0.0, rate: float = 0.0) -> None:
        """How far away the server is, from now on.

        Arguments:
            delay_s: that every byte takes in each direction, so half of a round trip; a new connection costs a round trip of
                its own, as it would. Bytes of all connections are under way at once, at most 16 MiB in each.
            rate: bytes per second in each direction, of all connections together; 0: no limit.
        """
        self.set_direction("up", delay_s=delay_s, rate=rate)
        self.set_direction("down", delay_s=delay_s, rate=rate)

    def set_direction(self, side: Side, *, delay_s: float = 0.0, rate: float = 0.0) -> None:
        """As `set_link`, for the bytes to the server ("up") or those to the client ("down")."""
        self._call("set_direction", side=side, delay_s=delay_s, rate=rate)

    def add(self, *faults: Fault) -> None:
        """From now on, after those that are there. The first one that fits acts."""
        self._call("add", faults=faults)

    def clear(self) -> None:
        """Forgets all faults; what stalled goes on."""
        self._call("clear")

    def cut_now(self) -> None:
        """Closes all connections (FIN)."""
        self._call("drop", reset=False)

    def reset_now(self) -> None:
        """Closes all connections (RST)."""
        self._call("drop", reset=True)

    def silence(self, silent: bool = True) -> None:
        """No byte goes anywhere, and nobody is told: connections are accepted, that is all. Afterwards everything goes on."""
        self._call("silence", silent=silent)

    def refuse(self, refused: bool = True) -> None:
        """New connections are refused, as if nobody listened; those that are there stay (`cut_now`)."""
        self._call("refuse", refused=refused)

    def retarget(self, target: tuple[str, int] | str) -> None:
        """New connections lead to another server."""
        host, port = _place(target)
        self._call("retarget", host=host, port=port)

    def counts(self) -> Counts:
        return msgspec.convert(self._call("counts"), Counts)

    def reset_counts(self) -> None:
        """`open` is what it is."""
        self._call("reset_counts")

    def close(self) -> None:
        """Ends the process and with it all connections."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise AssertionError("the proxy did not end") from None
        finally:
            self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, name: str, **arguments: Any) -> Any:
        with self._lock:
            assert self._process.stdin is not None
            self._process.stdin.write(msgspec.json.encode({"name": name, "arguments": arguments}) + b"\n")
            self._process.stdin.flush()
            return msgspec.json.decode(self._read())

    def _read(self) -> bytes:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise AssertionError(f"the proxy ended with {self._process.wait()}")
        return line


def _place(target: tuple[str, int] | str) -> tuple[str, int]:
    if not isinstance(target, str):
        return target
    parts = urlsplit(target)
    assert parts.hostname, target
    return parts.hostname, parts.port or 80
