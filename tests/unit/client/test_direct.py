"""What a bucket sends: over which connection, through which proxy, and in which words it fails."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from artfs.client.direct import Direct
from artfs.client.http import Http
from artfs.errors import CatalogError, UnavailableError
from artfs.testing.scripted import Reply, ScriptedServer

BODY = bytes(range(256)) * 8000
GOOD = Reply(206, BODY, {"Content-Range": "bytes 0-2047999/2048000", "X-Some": "thing"})
SECRET = "X-Signature=topsecret"
MakeDirect = Callable[..., Direct]


@pytest.fixture
def sockets() -> list[socket.socket]:
    """That a Direct has told."""
    return []


@pytest.fixture
def direct(sockets: list[socket.socket]) -> Iterator[MakeDirect]:
    made: list[Direct] = []

    def make(context: ssl.SSLContext | None = None, *, proxy: str = "", from_environ: bool = False) -> Direct:
        made.append(
            Direct(
                context or ssl.create_default_context(), proxy=proxy, from_environ=from_environ, connections=4, connect_s=2.0,
                on_socket=sockets.append,
            )
        )
        return made[-1]

    yield make
    for each in made:
        each.close()


def read(direct: Direct, url: str, silence_s: float = 5.0) -> bytes:
    with direct.get(url, {"Range": "bytes=0-2047999"}, silence_s) as answer:
        return b"".join(answer.pieces)


def test_a_connection_is_kept_for_the_next_answer(direct: MakeDirect, sockets: list[socket.socket]) -> None:
    with ScriptedServer(GOOD) as server:
        made = direct()
        with made.get(f"{server.url}/a?{SECRET}", {"Range": "bytes=0-2047999"}, 5.0) as answer:
            assert (answer.status, answer.host) == (206, "127.0.0.1")
            assert answer.headers["x-some"] == answer.headers["X-Some"] == "thing"
            assert b"".join(answer.pieces) == BODY
        assert read(made, f"{server.url}/b") == BODY
        assert [seen.target for seen in server.seen] == [f"/a?{SECRET}", "/b"]
        assert server.seen[0].headers["range"] == "bytes=0-2047999"
    assert len(sockets) == 1


def test_an_answer_that_is_given_up_takes_its_connection_along(direct: MakeDirect, sockets: list[socket.socket]) -> None:
    with ScriptedServer(GOOD) as server:
        made = direct()
        with made.get(server.url, {}, 5.0) as answer:
            assert BODY.startswith(next(answer.pieces))
        assert read(made, server.url) == BODY
    assert len(sockets) == 2


def test_any_answer_is_given_as_it_is(direct: MakeDirect) -> None:
    for status in (200, 302, 403, 404, 503):
        with ScriptedServer(Reply(status, b"words", {"Location": "http://elsewhere.invalid/"})) as server:
            with direct().get(server.url, {}, 5.0) as answer:
                assert (answer.status, b"".join(answer.pieces)) == (status, b"words")
            assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(206, BODY, cut=1000), "closed in the middle of an answer"),
        (Reply(hang_up=True), "Remote end closed connection|closed|reset"),
        (Reply(silent=True), "says nothing for too long"),
        (Reply(206, BODY, cut=1000, hold=True), "says nothing for too long"),
    ],
    ids=["cut", "hung up", "silent", "stalled"],
)
def test_what_goes_wrong_is_said_without_the_secret(direct: MakeDirect, reply: Reply, words: str) -> None:
    """And what came before it was given."""
    came: list[bytes] = []
    with ScriptedServer(reply) as server:
        with pytest.raises(UnavailableError, match=words) as caught, direct().get(f"{server.url}/a?{SECRET}", {}, 0.5) as answer:
            came.extend(answer.pieces)
        assert server.url in str(caught.value) and "topsecret" not in str(caught.value)
    if reply.cut:
        assert b"".join(came) == BODY[:-1000]


def test_nobody_listens(direct: MakeDirect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(UnavailableError, match="refused"):
        read(direct(), f"http://127.0.0.1:{port}/a?{SECRET}")
    with pytest.raises(UnavailableError, match=r"bucket\.invalid does not answer: .*[Nn]ame"):
        read(direct(), f"http://bucket.invalid/a?{SECRET}")


def test_a_wait_ends_when_its_socket_is_shut_down(direct: MakeDirect, sockets: list[socket.socket]) -> None:
    with ScriptedServer(Reply(206, BODY, cut=1000, hold=True)) as server:
        timer = threading.Timer(0.3, lambda: sockets[0].shutdown(socket.SHUT_RDWR))
        timer.start()
        begun = time.monotonic()
        with pytest.raises(UnavailableError):
            read(direct(), server.url, silence_s=30.0)
        assert time.monotonic() - begun < 10
        timer.join()


def test_a_client_that_is_closed_says_so(sockets: list[socket.socket]) -> None:
    with ScriptedServer(Reply(206, BODY, cut=1000, hold=True)) as server:
        client = Http("http://127.0.0.1:1", "")
        timer = threading.Timer(0.3, client.close)
        timer.start()
        with (
            pytest.raises(CatalogError, match="closed by this program"),
            client.fetch(server.url, headers={}, silence_s=30) as answer,
        ):
            for _ in answer.pieces:
                pass
        timer.join()


# proxies ------------------------------------------------------------------------------------------------------------
def test_the_proxy_that_is_set(direct: MakeDirect) -> None:
    with ScriptedServer(GOOD) as proxy:
        address = proxy.url.removeprefix("http://")
        assert read(direct(proxy=f"http://me:p%40ss@{address}"), f"http://bucket.invalid/a?{SECRET}") == BODY
        assert proxy.seen[0].target == f"http://bucket.invalid/a?{SECRET}"
        assert proxy.seen[0].headers["proxy-authorization"] == "Basic bWU6cEBzcw=="


def test_a_proxy_of_the_environment(direct: MakeDirect, monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedServer(GOOD) as proxy, ScriptedServer(GOOD) as server:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        made = direct(from_environ=True)
        assert read(made, "http://bucket.invalid/a") == BODY
        assert [seen.target for seen in proxy.seen] == ["http://bucket.invalid/a"]
        assert read(made, server.url) == BODY
        assert len(server.seen) == 1
        with pytest.raises(UnavailableError):
            read(direct(), "http://bucket.invalid/a")  # that knows of no environment


def test_a_proxy_of_another_kind_is_not_for_it(direct: MakeDirect) -> None:
    assert not direct(proxy="socks5://127.0.0.1:1").can("http://bucket.invalid/a")
    assert direct(proxy="http://127.0.0.1:1").can("http://bucket.invalid/a")
    assert direct().can("https://bucket.invalid/a")


# TLS ------------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    command = [
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
        "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem",
    ]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


def test_certificates_are_checked(direct: MakeDirect, certificate: Path, sockets: list[socket.socket]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"https://127.0.0.1:{listening.getsockname()[1]}/a"

        def serve() -> None:
            for _ in range(2):
                connection, _ = listening.accept()
                try:
                    with context.wrap_socket(connection, server_side=True) as secure:
                        secure.recv(10_000)
                        secure.sendall(b"HTTP/1.1 206 Partial\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
                except OSError:
                    connection.close()

        serving = threading.Thread(target=serve)
        serving.start()
        with pytest.raises(UnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
            read(direct(), url)
        assert read(direct(ssl.create_default_context(cafile=str(certificate / "cert.pem"))), url) == b"hello"
        serving.join()
    assert len(sockets) == 1
