"""Prometheus's metrics of a mount."""

from __future__ import annotations

import http.client
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from artfs.testing.corner import Corner
from artfs.testing.mount import Daemon, Workspace
from artfs.testing.trees import make


def ask(address: str | tuple[str, int], target: str = "/metrics", method: str = "GET") -> tuple[int, str]:
    connection = http.client.HTTPConnection("metrics", timeout=30)
    if isinstance(address, str):
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(address)
    else:
        connection.sock = socket.create_connection(address)
    connection.request(method, target)
    answer = connection.getresponse()
    try:
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def values(text: str) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    }


def test_on_a_unix_socket(workspace: Workspace, make_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    path = workspace.path / "metrics"
    daemon = make_daemon(workspace, environ={"ARTFS_METRICS": f"unix:{path}"}).start()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    corner = Corner(daemon, "p")
    corner.log(make(tmp_path / "f", {"a": "1"}))
    before = values(ask(str(path))[1])
    assert (corner.path / "c" / "v0" / "a").read_text() == "1"
    after = values(ask(str(path))[1])
    assert after['artfs_mount_requests_total{op="read"}'] == before.get('artfs_mount_requests_total{op="read"}', 0) + 1
    assert after["artfs_mount_inodes"] >= 1
    assert after["process_resident_memory_bytes"] > 1_000_000
    assert ("artfs_server_up" in after) == (workspace.server is not None)
    if workspace.server is not None:
        assert (after["artfs_server_up"], after["artfs_fetched_bytes_total"]) == (1, before["artfs_fetched_bytes_total"] + 1)
    assert ask(str(path), "/other")[0] == 404
    assert ask(str(path), method="POST")[0] == 405
    assert ask(str(path), method="HEAD") == (200, "")
    daemon.terminate()
    assert not path.exists()


def test_on_a_port_of_this_machine(workspace: Workspace, make_daemon: Callable[..., Daemon]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    make_daemon(workspace, environ={"ARTFS_METRICS": str(port)}).start()
    status, text = ask(("127.0.0.1", port))
    assert (status, "# TYPE artfs_mount_requests_total counter" in text) == (200, True)


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("0.0.0.0:9000", "metrics are served on unix:PATH, PORT or 127.0.0.1:PORT, not on '0.0.0.0:9000'"),
        ("unix:", "not on 'unix:'"),
        ("127.0.0.1:no", "not on '127.0.0.1:no'"),
    ],
)
def test_another_address_is_refused(
    workspace: Workspace, make_daemon: Callable[..., Daemon], address: str, why: str
) -> None:
    code, said = make_daemon(workspace, environ={"ARTFS_METRICS": address}).failed_start()
    assert (code, why in said) == (1, True)


def test_a_port_that_is_taken_is_said(workspace: Workspace, make_daemon: Callable[..., Daemon]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = make_daemon(workspace, environ={"ARTFS_METRICS": str(port)}).failed_start()
    assert code == 1
    assert f"serving metrics on 127.0.0.1:{port}" in said
