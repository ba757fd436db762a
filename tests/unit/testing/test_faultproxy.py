"""The proxy does what it is told, when it is told, and to no other connection."""

from __future__ import annotations

import hashlib
import http.client
import random
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from artfs.testing.faultpipe import Link
from artfs.testing.faultproxy import Fault, FaultProxy, answer, garbage, html_page
from artfs.testing.waiting import until

PATIENCE_S = 30.0
SILENCE_S = 0.3
"""How long a client listens to be sure that nothing comes."""

DATA = random.Random(4).randbytes(5_000_000)


class Server(ThreadingHTTPServer):
    """GET /N: N bytes; PUT: the SHA-256 of the body; GET /all/N: answers when N of them are there. `seen`: all request lines."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[str] = []
        self.waiting: list[threading.Barrier] = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def do_GET(self) -> None:
        self.server.seen.append(f"GET {self.path}")
        if self.path.startswith("/all/"):
            self.server.waiting[0].wait(PATIENCE_S)
            return self._say(b"all")
        return self._say(DATA[: int(self.path.rpartition("/")[2])])

    def do_PUT(self) -> None:
        self.server.seen.append(f"PUT {self.path}")
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._say(hashlib.sha256(body).hexdigest().encode())

    def _say(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        return None

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:
            self.close_connection = True  # these connections are cut on purpose


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(server: Server) -> Iterator[FaultProxy]:
    with FaultProxy(("127.0.0.1", server.server_address[1])) as proxy:
        yield proxy


def get(proxy: FaultProxy, path: str, connection: http.client.HTTPConnection | None = None) -> bytes:
    made = connection or http.client.HTTPConnection(proxy.host, proxy.port, timeout=PATIENCE_S)
    try:
        made.request("GET", path)
        said = made.getresponse()
        assert said.status == 200
        return said.read()
    finally:
        if connection is None:
            made.close()


def put(proxy: FaultProxy, path: str, body: bytes) -> str:
    with closing(http.client.HTTPConnection(proxy.host, proxy.port, timeout=PATIENCE_S)) as connection:
        connection.request("PUT", path, body)
        return connection.getresponse().read().decode()


def test_what_is_said_passes_and_is_counted(proxy: FaultProxy, server: Server) -> None:
    with closing(http.client.HTTPConnection(proxy.host, proxy.port, timeout=PATIENCE_S)) as connection:
        assert get(proxy, "/5000000", connection) == DATA
        assert get(proxy, "/0", connection) == b""
    assert put(proxy, "/x", DATA) == hashlib.sha256(DATA).hexdigest()
    counts = proxy.counts()
    assert (counts.connections, counts.requests, counts.methods) == (2, 3, {"GET": 2, "PUT": 1})
    assert counts.recent == server.seen == ["GET /5000000", "GET /0", "PUT /x"]
    assert 5_000_000 < counts.down < 5_001_000
    assert 5_000_000 < counts.up < 5_001_000
    until(lambda: proxy.counts().open == 0)
    proxy.reset_counts()
    assert proxy.counts().down == proxy.counts().requests == 0


@pytest.mark.parametrize(("delay_s", "rate"), [(0.0, 0.0), (0.005, 0.0), (0.0, 50e6), (0.002, 80e6)])
def test_many_connections_at_once_get_their_own_bytes(proxy: FaultProxy, delay_s: float, rate: float) -> None:
    proxy.set_link(delay_s=delay_s, rate=rate)

    def work(number: int) -> None:
        size = 1 + number * 40_009
        assert get(proxy, f"/{size}") == DATA[:size]
        assert put(proxy, f"/{number}", DATA[number:size]) == hashlib.sha256(DATA[number:size]).hexdigest()

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(48)))


def test_delays_are_never_shorter(proxy: FaultProxy) -> None:
    proxy.set_direction("up", delay_s=0.05)
    proxy.set_direction("down", delay_s=0.08)
    with closing(http.client.HTTPConnection(proxy.host, proxy.port, timeout=PATIENCE_S)) as connection:
        begin = time.monotonic()
        get(proxy, "/10", connection)
        first = time.monotonic() - begin
        begin = time.monotonic()
        get(proxy, "/10", connection)
        second = time.monotonic() - begin
    assert first >= 0.26, "a new connection costs a round trip more"
    assert second >= 0.13


def test_what_is_delayed_is_under_way_at_once(proxy: FaultProxy, server: Server) -> None:
    """The server answers nobody before all have asked, which cannot be when one waits for another's answer."""
    server.waiting.append(threading.Barrier(60))
    proxy.set_link(delay_s=0.2)
    with ThreadPoolExecutor(60) as pool:
        assert set(pool.map(lambda _: get(proxy, "/all/60"), range(60))) == {b"all"}


def test_a_link_delays_and_limits() -> None:
    link = Link(delay_s=1.0, rate=100.0)
    assert link.due(10.0, 50) == 11.5
    assert link.due(10.0, 50) == 12.0, "bytes of others come after those that are under way"
    assert link.due(20.0, 100) == 22.0
    assert Link(delay_s=1.0).due(10.0, 10**9) == 11.0


def test_a_limit_is_a_limit(proxy: FaultProxy) -> None:
    proxy.set_direction("down", rate=4e6)
    begin = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: get(proxy, "/250000"), range(4)))
    assert time.monotonic() - begin >= 0.24


@pytest.mark.parametrize("after", [0, 1, 70_000, 1_048_576])
def test_an_answer_is_cut_where_it_should_be(proxy: FaultProxy, after: int) -> None:
    proxy.add(Fault("cut", after=after, match="/5000000"))
    assert get(proxy, "/10") == DATA[:10], "another request"
    with pytest.raises(http.client.IncompleteRead) as caught:
        get(proxy, "/5000000")
    assert caught.value.partial == DATA[:after]
    assert proxy.counts().faults == 1
    assert get(proxy, "/5000000") == DATA


def test_a_fault_waits_for_a_body_that_is_long_enough(proxy: FaultProxy) -> None:
    proxy.add(Fault("cut", after=100))
    assert get(proxy, "/100") == DATA[:100]
    assert proxy.counts().faults == 0
    with pytest.raises(http.client.IncompleteRead):
        get(proxy, "/101")


def test_an_answer_is_cut_before_it_begins(proxy: FaultProxy, server: Server) -> None:
    proxy.add(Fault("cut"))
    with pytest.raises(http.client.RemoteDisconnected):
        get(proxy, "/10")
    assert server.seen == ["GET /10"], "the server did not notice"


def test_a_request_is_cut_before_the_server_sees_it(proxy: FaultProxy, server: Server) -> None:
    proxy.add(Fault("cut", side="up"))
    with pytest.raises(http.client.RemoteDisconnected):
        get(proxy, "/10")
    assert server.seen == []


@pytest.mark.parametrize("kind", ["cut", "reset"])
def test_an_upload_ends_in_the_middle(proxy: FaultProxy, server: Server, kind: str) -> None:
    proxy.add(Fault(kind, side="up", after=4_000_000, times=2))  # type: ignore[arg-type]
    for _ in range(2):
        with pytest.raises(OSError):
            put(proxy, "/part", DATA)
    assert proxy.counts().faults == 2
    assert put(proxy, "/part", DATA) == hashlib.sha256(DATA).hexdigest()
    assert server.seen == ["PUT /part"] * 3


def test_a_reset_is_one(proxy: FaultProxy) -> None:
    proxy.add(Fault("reset", after=70_000))
    with pytest.raises(ConnectionResetError):
        get(proxy, "/5000000")


@pytest.mark.parametrize("delay_s", [0.0, 0.01])
def test_one_byte_is_wrong(proxy: FaultProxy, delay_s: float) -> None:
    proxy.set_link(delay_s=delay_s)
    proxy.add(Fault("corrupt", after=2_345_678))
    said = get(proxy, "/5000000")
    assert [at for at in range(2_345_600, 2_345_700) if said[at] != DATA[at]] == [2_345_678]
    assert said[:2_345_678] == DATA[:2_345_678] and said[2_345_679:] == DATA[2_345_679:]
    assert get(proxy, "/5000000") == DATA


def test_several_faults_in_one_body(proxy: FaultProxy) -> None:
    proxy.add(Fault("corrupt", after=0), Fault("corrupt", after=999_999), Fault("cut", after=1_000_000))
    with pytest.raises(http.client.IncompleteRead) as caught:
        get(proxy, "/5000000")
    said = caught.value.partial
    assert [at for at in range(len(said)) if said[at] != DATA[at]] == [0, 999_999]
    assert len(said) == 1_000_000
    assert proxy.counts().faults == 3


def test_a_corrupted_upload(proxy: FaultProxy) -> None:
    proxy.add(Fault("corrupt", side="up", after=17))
    wrong = DATA[:17] + bytes([DATA[17] ^ 0xFF]) + DATA[18:]
    assert put(proxy, "/x", DATA) == hashlib.sha256(wrong).hexdigest()


@pytest.mark.parametrize(("side", "after"), [("down", None), ("down", 0), ("down", 1_500_000), ("up", None)])
@pytest.mark.parametrize("times", [1, None])
def test_what_stalls_says_nothing_and_goes_on_later(proxy: FaultProxy, side: str, after: int | None, times: int | None) -> None:
    proxy.add(Fault("stall", side=side, after=after, times=times, match="/5000000"))  # type: ignore[arg-type]
    with socket.create_connection((proxy.host, proxy.port)) as client:
        client.sendall(b"GET /5000000 HTTP/1.1\r\n\r\n")
        client.settimeout(SILENCE_S)
        said = b""
        with pytest.raises(TimeoutError):
            while True:
                said += client.recv(1 << 20)
        if after is None:
            assert said == b""
        else:
            assert said.partition(b"\r\n\r\n")[2] == DATA[:after]
        assert get(proxy, "/10") == DATA[:10], "others are served"
        proxy.clear()
        client.settimeout(PATIENCE_S)
        while not said.endswith(DATA[-1000:]):
            said += client.recv(1 << 20)
        assert said.partition(b"\r\n\r\n")[2] == DATA


def test_who_gives_up_a_stalled_request_leaves_nothing_behind(proxy: FaultProxy, server: Server) -> None:
    proxy.add(Fault("stall", side="up", times=1), Fault("stall", side="down", times=1))
    for _ in range(2):
        with pytest.raises(TimeoutError), closing(http.client.HTTPConnection(proxy.host, proxy.port, timeout=SILENCE_S)) as gone:
            get(proxy, "/5000000", gone)
    until(lambda: proxy.counts().open == 0)
    proxy.clear()
    get(proxy, "/1")
    assert server.seen == ["GET /5000000", "GET /1"], "the first one never arrived"


def test_silence(proxy: FaultProxy, server: Server) -> None:
    proxy.silence()
    with socket.create_connection((proxy.host, proxy.port)) as client:
        client.sendall(b"GET /10 HTTP/1.1\r\n\r\n")
        client.settimeout(SILENCE_S)
        with pytest.raises(TimeoutError):
            client.recv(1)
        assert server.seen == []
        assert proxy.counts().connections == 1
        proxy.silence(False)
        client.settimeout(PATIENCE_S)
        said = b""
        while DATA[:10] not in said:
            said += client.recv(1 << 20)


def test_refused_connections(proxy: FaultProxy) -> None:
    with closing(http.client.HTTPConnection(proxy.host, proxy.port, timeout=PATIENCE_S)) as there:
        get(proxy, "/10", there)
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            get(proxy, "/10")
        assert get(proxy, "/20", there) == DATA[:20], "who is there stays"
        proxy.refuse(False)
        assert get(proxy, "/10") == DATA[:10]


@pytest.mark.parametrize("reset", [False, True])
def test_all_connections_end_now(proxy: FaultProxy, reset: bool) -> None:
    with socket.create_connection((proxy.host, proxy.port)) as client:
        until(lambda: proxy.counts().open == 1)
        if reset:
            proxy.reset_now()
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        else:
            proxy.cut_now()
            assert client.recv(1) == b""
    assert proxy.counts().open == 0


def test_answers_in_the_servers_place(proxy: FaultProxy, server: Server) -> None:
    proxy.add(answer(503, "later", times=2, Retry_After="7"), answer(429, match="PUT"))
    with closing(http.client.HTTPConnection(proxy.host, proxy.port, timeout=PATIENCE_S)) as connection:
        for _ in range(2):
            connection.request("PUT", "/x", DATA)
            said = connection.getresponse()
            assert (said.status, said.headers["Retry-After"], said.read()) == (503, "7", b"later")
        assert get(proxy, "/10", connection) == DATA[:10], "on the same connection"
        connection.request("PUT", "/x", DATA)
        said = connection.getresponse()
        assert (said.status, said.read()) == (429, b"")
        connection.request("PUT", "/y", DATA)
        assert connection.getresponse().read().decode() == hashlib.sha256(DATA).hexdigest()
    assert server.seen == ["GET /10", "PUT /y"]
    assert proxy.counts().connections == 1


def test_who_waits_for_100_continue_is_answered_at_once(proxy: FaultProxy, server: Server) -> None:
    proxy.add(answer(507))
    with socket.create_connection((proxy.host, proxy.port), timeout=PATIENCE_S) as client:
        client.sendall(b"PUT /x HTTP/1.1\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n")
        said = b""
        while more := client.recv(1 << 16):
            said += more
    assert said.startswith(b"HTTP/1.1 507 ") and b"Connection: close" in said
    assert server.seen == []


def test_garbage_and_pages(proxy: FaultProxy) -> None:
    proxy.add(garbage(), html_page())
    with pytest.raises(http.client.BadStatusLine):
        get(proxy, "/10")
    assert b"<html>" in get(proxy, "/10")
    assert get(proxy, "/10") == DATA[:10]


def test_clear_forgets_faults(proxy: FaultProxy) -> None:
    proxy.add(answer(500, times=None), Fault("cut", times=None))
    proxy.clear()
    assert get(proxy, "/10") == DATA[:10]


def test_a_server_that_is_away_and_another_one(proxy: FaultProxy, server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    proxy.retarget(("127.0.0.1", port))
    with pytest.raises(ConnectionResetError):
        get(proxy, "/10")
    proxy.retarget(f"http://127.0.0.1:{server.server_address[1]}")
    assert get(proxy, "/10") == DATA[:10]


def test_other_protocols_pass(proxy: FaultProxy) -> None:
    """A server that speaks first, then echoes; the fault counts all bytes."""

    class Echo(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(b"\x00hello")
            while data := self.request.recv(1000):
                self.request.sendall(data)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as echo:
        thread = threading.Thread(target=echo.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        proxy.retarget(echo.server_address)  # type: ignore[arg-type]
        proxy.add(Fault("corrupt", after=8))
        with socket.create_connection((proxy.host, proxy.port), timeout=PATIENCE_S) as client, client.makefile("rb") as stream:
            assert stream.read(6) == b"\x00hello"
            client.sendall(b"\x16\x03\x01abc")
            assert stream.read(6) == b"\x16\x03\xfeabc"
            client.shutdown(socket.SHUT_WR)
            assert stream.read() == b"", "half-closed in one direction, then in the other"
        assert proxy.counts().requests == 0
        until(lambda: proxy.counts().open == 0)
        echo.shutdown()
        thread.join()


def test_a_thousand_faults_leave_no_connection(proxy: FaultProxy) -> None:
    """Nor, in the proxy, a descriptor."""
    proxy.add(Fault("cut", after=5, times=400), Fault("reset", times=300), answer(500, times=300))

    def work(_number: int) -> None:
        try:
            get(proxy, "/10")
        except (OSError, http.client.HTTPException, AssertionError):
            return

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(1000)))
    assert proxy.counts().faults == 1000
    until(lambda: proxy.counts().open == 0)
    assert get(proxy, "/10") == DATA[:10]


def test_it_ends_with_whoever_made_it(proxy: FaultProxy) -> None:
    with socket.create_connection((proxy.host, proxy.port), timeout=PATIENCE_S) as client:
        until(lambda: proxy.counts().open == 1)
        proxy.close()
        assert client.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        get(proxy, "/10")
