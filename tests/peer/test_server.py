"""`artfs serve` as a process: who reaches it, what it says, how it ends."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import resource
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from artfs.catalog import open_catalog
from artfs.catalog.sql.ledger.ledger import SqlLedger
from artfs.client.catalog import RemoteCatalog
from artfs.client.http import Http
from artfs.errors import ForbiddenError, RateLimitedError, UnauthorizedError, UnavailableError
from artfs.model.access import COMMAND_LINE, Grant
from artfs.testing.account import ROOT
from artfs.testing.catalog_contract.making import new
from artfs.testing.sending import logged, sent
from artfs.testing.serving import ServerProcess, artfs_serve, children
from artfs.wire.bodies import EventData

E, P = "team", "vision"
Serve = Callable[..., ServerProcess]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def serve(home: Path) -> Iterator[Serve]:
    with ExitStack() as stack:

        def start(*arguments: str | Path, **more: Any) -> ServerProcess:
            return stack.enter_context(artfs_serve("--home", home, *arguments, **more))

        yield start


@pytest.fixture
def clients() -> Iterator[Callable[..., RemoteCatalog]]:
    with ExitStack() as stack:

        def make(url: str, token: str = "", **more: Any) -> RemoteCatalog:
            return stack.enter_context(RemoteCatalog(Http(url, token, **more)))

        yield make


def make_token(home: Path, name: str = "ann", *grants: Grant, is_admin: bool = False) -> str:
    (home / "server").mkdir(parents=True, exist_ok=True)
    with open_catalog(home / "server" / "catalog.db") as catalog:
        return SqlLedger(catalog.database).create_token(name, grants=grants, is_admin=is_admin, by=COMMAND_LINE)[1]


def get(url: str, path: str, **headers: str) -> tuple[int, Any]:
    place = url.partition("://")[2]
    connection = http.client.HTTPConnection(place, timeout=30)
    try:
        connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def wait_until(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < limit, "it did not come to pass"
        time.sleep(0.01)


def until_refused(url: str) -> bool:
    host, port = url.rpartition("/")[2].split(":")
    try:
        socket.create_connection((host, int(port)), 5).close()
    except OSError:
        return True
    return False


# who, and from where ----------------------------------------------------------------------------------------------
def test_tokens_open_what_they_were_granted(serve: Serve, home: Path, clients: Callable[..., RemoteCatalog]) -> None:
    reader = make_token(home, "reader", Grant(E, P, "reader"))
    root = make_token(home, "root", is_admin=True)
    server = serve()
    logged(clients(server.url, root), 1, E, P)
    logged(clients(server.url, root), 1, E, "secret")
    catalog = clients(server.url, reader)
    assert [project.name for project in catalog.projects(E)] == [P]
    for name in ("secret", "nothing"):
        with pytest.raises(ForbiddenError, match=f"no role in a project {E}/{name}"):
            catalog.collections(E, name)
    for token in ("", "artfs_" + "x" * 43):
        with pytest.raises(UnauthorizedError):
            clients(server.url, token).entities()


def test_guessing_is_slowed_down(serve: Serve, home: Path, clients: Callable[..., RemoteCatalog]) -> None:
    root = make_token(home, "root", is_admin=True)
    server = serve()
    known = clients(server.url, root)
    known.entities()
    kinds = []
    for number in range(30):
        guess = clients(server.url, "artfs_" + f"{number:x<43}", timeout_s=0.5)
        try:
            guess.entities()
        except (UnauthorizedError, RateLimitedError) as error:
            kinds.append(error.kind)
    assert kinds == ["unauthorized"] * 20 + ["rate-limited"] * 10
    assert make_token(home, "late", is_admin=True)


def test_others_can_reach_it_only_when_it_has_tokens(serve: Serve, home: Path) -> None:
    command = [sys.executable, "-m", "artfs.cli", "--home", str(home), "serve", "--listen", "0.0.0.0:0"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("artfs: other machines could reach this server")
    make_token(home, is_admin=True)
    server = serve("--listen", "0.0.0.0:0")
    assert get(server.url.replace("0.0.0.0", "127.0.0.1"), "/healthz")[0] == 200


def test_a_web_page_cannot_use_a_server_without_tokens(serve: Serve) -> None:
    server = serve("--no-auth")
    assert get(server.url, "/v1/entities") == (200, "[]")
    assert get(server.url, "/v1/entities", Host="evil.example")[0] == 403
    assert get(server.url, "/v1/entities", Origin="https://evil.example")[0] == 403


def test_addresses_behind_a_proxy_are_told_by_it(serve: Serve, home: Path) -> None:
    root = make_token(home, "root", is_admin=True)
    server = serve("--trust-proxy", "127.0.0.1")
    given = {"Authorization": f"Bearer {root}", "X_Forwarded_For": "6.6.6.6, 198.51.100.7", "X_Request_Id": "from-proxy-1"}
    assert get(server.url, "/v1/projects/team/vision/collections/c/resolve?alias=HUSH", **given)[0] == 404
    wait_until(lambda: "from-proxy-1" in server.log)
    line = json.loads(next(line for line in server.log.splitlines() if "from-proxy-1" in line))
    assert (line["address"], line["route"], line["caller"], line["status"]) == ("198.51.100.7", "resolve", "root", 404)
    assert root not in server.log
    assert "HUSH" not in server.log


# TLS --------------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    command = [
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
        "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem",
    ]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "cert.pem", folder / "key.pem"


def test_tls_with_a_certificate_of_ones_own(
    serve: Serve, certificate: tuple[Path, Path], clients: Callable[..., RemoteCatalog]
) -> None:
    server = serve("--no-auth", "--tls-cert", certificate[0], "--tls-key", certificate[1])
    assert server.url.startswith("https://127.0.0.1:")
    catalog = clients(server.url, ca_bundle=certificate[0])
    assert catalog.entities() == []
    with pytest.raises(UnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
        clients(server.url, timeout_s=0.5).entities()
    context = ssl.create_default_context(cafile=certificate[0])
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    host, port = server.url.rpartition("/")[2].split(":")
    with socket.create_connection((host, int(port))) as raw, context.wrap_socket(raw, server_hostname=host) as secured:
        assert secured.version() == "TLSv1.2"


@pytest.mark.parametrize("wrong", ["absent", "swapped", "old format"])
def test_a_certificate_that_cannot_be_used_is_told(
    home: Path, certificate: tuple[Path, Path], tmp_path: Path, wrong: str
) -> None:
    cert, key = certificate
    if wrong == "absent":
        key = tmp_path / "absent.pem"
    elif wrong == "swapped":
        cert, key = key, cert
    else:
        old = tmp_path / "old.pem"
        subprocess.run(["openssl", "ec", "-in", str(key), "-out", str(old)], check=True, capture_output=True)
        key = old
    command = [sys.executable, "-m", "artfs.cli", "--home", str(home), "serve", "--listen", "127.0.0.1:0", "--no-auth"]
    done = subprocess.run(
        [*command, "--tls-cert", str(cert), "--tls-key", str(key)], capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    assert done.returncode == 2
    assert ("pkcs8" if wrong == "old format" else "cannot use the certificate") in done.stderr
    assert done.stderr.count("\n") == 1


# its life ---------------------------------------------------------------------------------------------------------
def test_ready_means_that_the_database_answers(serve: Serve) -> None:
    server = serve("--no-auth")
    assert get(server.url, "/healthz") == (200, '{"status":"ok"}')
    status, body = get(server.url, "/readyz")
    assert (status, json.loads(body)["database"]) == (200, "ok")


def test_a_port_that_is_taken_is_told(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "artfs.cli", "--home", str(home), "serve", "--no-auth", "--listen", f"127.0.0.1:{port}"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 9
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in done.stderr


def test_sigterm_lets_requests_end(serve: Serve, home: Path, clients: Callable[..., RemoteCatalog]) -> None:
    """A commit that waits for the database's lock when the signal comes, is done; who connects later, is not served."""
    metrics = a_free_port()
    server = serve("--no-auth", "--stop-delay", "0.5", "--metrics", f"127.0.0.1:{metrics}")
    catalog = clients(server.url)
    version = sent(catalog, 1, E, P)
    events: list[EventData | None] = []
    listener = catalog.listen(events.append)
    assert listener.wait_connected(30)
    results: list[Any] = []
    with open_catalog(home / "server" / "catalog.db") as direct:
        with direct.database.write():
            worker = clients(server.url)
            thread = threading.Thread(target=lambda: results.append(worker.commit(version)))
            thread.start()
            wait_until(lambda: _commits(metrics))
            server.terminate()
            wait_until(lambda: get_or_none(server.url, "/readyz") in (503, None))
            assert not results
        thread.join(30)
    assert results[0].created
    assert server.wait() == 0
    assert until_refused(server.url)
    assert "still running" not in server.log


def a_free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


def _commits(metrics: int) -> bool:
    """Whether a request is under way that is no listener's, as the server's metrics say."""
    url = f"http://127.0.0.1:{metrics}"
    if get_or_none(url, "/metrics") != 200:
        return False
    told = dict(line.rsplit(" ", 1) for line in get(url, "/metrics")[1].splitlines() if not line.startswith("#"))
    return float(told["artfs_requests_running"]) > float(told["artfs_listeners"])


def get_or_none(url: str, path: str) -> int | None:
    try:
        return get(url, path)[0]
    except OSError:
        return None


def test_sigterm_does_not_wait_for_ever(serve: Serve, home: Path, clients: Callable[..., RemoteCatalog]) -> None:
    metrics = a_free_port()
    server = serve("--no-auth", "--stop-timeout", "0.3", "--metrics", f"127.0.0.1:{metrics}")
    catalog = clients(server.url, timeout_s=20)
    version = sent(catalog, 1, E, P)
    failures: list[Exception] = []

    def commit() -> None:
        try:
            clients(server.url, timeout_s=5).commit(version)
        except UnavailableError as error:
            failures.append(error)

    with open_catalog(home / "server" / "catalog.db") as direct, direct.database.write():
        thread = threading.Thread(target=commit)
        thread.start()
        wait_until(lambda: _commits(metrics))
        server.terminate()
        wait_until(lambda: "still running after" in server.log)
        thread.join(30)
    assert failures
    assert server.wait(30) == 0


def test_clients_connect_again_to_a_server_that_was_restarted(
    home: Path, clients: Callable[..., RemoteCatalog], tmp_path: Path
) -> None:
    port = a_free_port()
    address = ["--listen", f"127.0.0.1:{port}"]
    with artfs_serve("--home", home, "--no-auth", *address) as server:
        catalog = clients(server.url)
        told: list[EventData | None] = []
        listener = catalog.listen(told.append)
        logged(catalog, 1, E, P)
        wait_until(lambda: EventData(E, P, "cars") in told)
    wait_until(lambda: not listener.is_connected)
    with open_catalog(home / "server" / "catalog.db") as direct:
        direct.commit(new(2, "meanwhile", entity=E, project=P))
    with artfs_serve("--home", home, "--no-auth", *address):
        wait_until(lambda: EventData(E, P, "meanwhile") in told)
        # At the beginning, and once more because something was missed: until that is told, nothing that is known counts as new.
        assert [told.index(None), told.count(None)] == [0, 2]
        assert told[-1] is not None
        assert catalog.resolve(E, P, "meanwhile", "latest").index == 0
        catalog.close()


def test_a_change_through_one_server_is_told_by_another(
    serve: Serve, clients: Callable[..., RemoteCatalog]
) -> None:
    """Servers know nothing of each other: the database is what they share."""
    one, two = serve("--no-auth"), serve("--no-auth")
    told: list[EventData | None] = []
    listener = clients(one.url)
    assert listener.listen(told.append).wait_connected(30)
    member = logged(clients(two.url), 1, E, P)
    wait_until(lambda: EventData(E, P, "cars") in told)
    assert listener.resolve(E, P, "cars", "latest") == member


def test_a_worker_that_dies_is_replaced(serve: Serve, clients: Callable[..., RemoteCatalog]) -> None:
    server = serve("--no-auth")
    catalog = clients(server.url)
    catalog.create_project(E, P)
    (worker,) = children(server.pid)
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: children(server.pid) not in ([worker], []))
    assert [project.name for project in catalog.projects(E)] == [P]


def test_sighup_starts_workers_anew(serve: Serve, clients: Callable[..., RemoteCatalog]) -> None:
    server = serve("--no-auth")
    catalog = clients(server.url)
    before = children(server.pid)
    os.kill(server.pid, signal.SIGHUP)
    wait_until(lambda: len(children(server.pid)) == 1 and children(server.pid) != before)
    assert catalog.entities() == []


def test_several_workers_answer_together(serve: Serve, home: Path, clients: Callable[..., RemoteCatalog]) -> None:
    server = serve("--no-auth", "--workers", "2", "--metrics", "0")
    assert len(children(server.pid)) == 2
    made = [clients(server.url) for _ in range(8)]
    threads = [
        threading.Thread(target=lambda one=one, n=n: [logged(one, (n, k), E, P) for k in range(5)])  # type: ignore[misc]
        for n, one in enumerate(made)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    collection = made[0].try_collection(E, P, "cars")
    assert collection is not None
    assert [member.index for member in made[0].members(collection.id)] == list(range(40))


def test_a_hundred_commits_at_once_are_in_order(serve: Serve, clients: Callable[..., RemoteCatalog]) -> None:
    server = serve("--no-auth", "--no-access-log")
    catalog = clients(server.url)
    versions = [sent(catalog, n, E, P) for n in range(100)]
    indexes: list[int] = []
    threads = [
        threading.Thread(target=lambda n=n: indexes.append(catalog.commit(versions[n]).member.index))  # type: ignore[misc]
        for n in range(100)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(indexes) == list(range(100))
    found = catalog.members(catalog.resolve(E, P, "cars", "latest").collection_id)
    assert [member.aliases for member in found] == [()] * 99 + [("latest",)]


def test_a_thousand_clients_read_at_once(serve: Serve, home: Path) -> None:
    """Each with a connection of its own, all open at the same time."""
    token = make_token(home, is_admin=True)
    server = serve("--no-access-log")
    host, port = server.url.rpartition("/")[2].split(":")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(limits[0], min(4096, limits[1])), limits[1]))
    request = f"GET /v1/entities HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n".encode()

    async def read(everybody: asyncio.Barrier) -> bytes:
        reader, writer = await asyncio.open_connection(host, int(port))
        await everybody.wait()
        statuses = b""
        for _ in range(2):
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(2) == b"[]"
            statuses += head.split()[1]
        writer.close()
        return statuses

    async def run() -> set[bytes]:
        everybody = asyncio.Barrier(1000)
        return set(await asyncio.gather(*(read(everybody) for _ in range(1000))))

    assert asyncio.run(run()) == {b"200200"}


def test_metrics_have_a_door_of_their_own(serve: Serve, clients: Callable[..., RemoteCatalog]) -> None:
    port = a_free_port()
    server = serve("--no-auth", "--workers", "2", "--metrics", f"127.0.0.1:{port}")
    catalog = clients(server.url)
    catalog.listen(lambda event: None).wait_connected(30)
    for _ in range(5):
        catalog.entities()
    assert get(server.url, "/metrics")[0] == 404
    wait_until(lambda: get_or_none(f"http://127.0.0.1:{port}", "/metrics") == 200)
    told = get(f"http://127.0.0.1:{port}", "/metrics")[1]
    assert 'artfs_requests_total{route="entities",status="200"} 5.0' in told
    assert "artfs_listeners 1.0" in told
    assert 'artfs_request_seconds_count{route="entities"} 5.0' in told


# systemd ----------------------------------------------------------------------------------------------------------
def test_a_socket_from_systemd_is_served_and_readiness_told(home: Path, tmp_path: Path) -> None:
    """As systemd does it: the listening socket is descriptor 3, and LISTEN_PID is the process."""
    notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notified.bind(str(tmp_path / "notify"))
    notified.settimeout(60)
    with socket.create_server(("127.0.0.1", 0)) as listening, notified:
        port = listening.getsockname()[1]
        launcher = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3); os.set_inheritable(3, True);"
            " os.environ['LISTEN_PID'] = str(os.getpid());"
            " os.environ['LISTEN_FDS'] = '1';"
            " os.execv(sys.executable, [sys.executable, '-m', 'artfs.cli', *sys.argv[2:]])"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", launcher, str(listening.fileno()), "--home", str(home), "serve", "--no-auth"],
            pass_fds=[listening.fileno()], cwd=ROOT, env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")},
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )
        try:
            assert notified.recv(100) == b"READY=1"
            assert get(f"http://127.0.0.1:{port}", "/healthz")[0] == 200
            process.terminate()
            assert notified.recv(100) == b"STOPPING=1"
            out, _ = process.communicate(timeout=60)
        finally:
            process.kill()
            process.wait()
    assert out == f"artfs serves http://127.0.0.1:{port}\n"
    assert process.returncode == 0


def test_a_newer_database_is_refused(home: Path) -> None:
    make_token(home)
    path = home / "server" / "catalog.db"
    with open_catalog(path) as catalog, catalog.database.write() as tx:
        tx.conn.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    done = subprocess.run(
        [sys.executable, "-m", "artfs.cli", "--home", str(home), "serve", "--listen", "127.0.0.1:0", "--migrate"],
        capture_output=True, text=True, cwd=ROOT, timeout=60,
    )
    assert done.returncode == 10
    assert "newer artfs" in done.stderr
    assert done.stderr.count("\n") == 1
