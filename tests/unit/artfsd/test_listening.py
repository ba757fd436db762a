"""What a daemon listens on beside the kernel: whatever comes, or goes wrong, the mount goes on."""

from __future__ import annotations

import json
import os
import resource
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from artfsd.control import ControlServer
from artfsd.metrics import MetricsServer

STATUS: dict[str, Any] = {
    "requests": {}, "in_flight": 0, "inodes": 1, "blobs": {"open": 0}, "drafts": [], "hashing": 0, "invalidations": 0,
    "server": {"online": True, "events": True, "latency_s": None},
    "transfers": dict.fromkeys(
        ("waiting", "under_way", "reads", "waited", "nbytes", "requests", "failures", "wrong", "damaged"), 0
    ),
}  # fmt: skip


async def ask_metrics(path: Path) -> bytes:
    async with await trio.open_unix_socket(str(path)) as stream:
        await stream.send_all(b"GET /metrics HTTP/1.1\r\nHost: m\r\n\r\n")
        answer = b""
        while data := await stream.receive_some():
            answer += data
    return answer


def test_metrics_of_a_cache_that_cannot_be_asked(tmp_path: Path) -> None:
    path = tmp_path / "metrics"

    async def main() -> None:
        server = MetricsServer(f"unix:{path}", lambda: {**STATUS, "cache": {"error": "the disk has failed"}})
        async with trio.open_nursery() as nursery:
            await nursery.start(server.serve)
            answer = await ask_metrics(path)
            assert answer.startswith(b"HTTP/1.1 200")
            assert b"artfs_server_up 1.0" in answer
            assert b"artfs_cache_bytes" not in answer
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_metrics_that_cannot_be_collected_are_a_500(tmp_path: Path, expect_log: Callable[..., None]) -> None:
    expect_log("collecting metrics failed", level=40)
    path = tmp_path / "metrics"

    async def main() -> None:
        def fail() -> dict[str, Any]:
            raise OSError(5, "Input/output error")

        async with trio.open_nursery() as nursery:
            await nursery.start(MetricsServer(f"unix:{path}", fail).serve)
            for _ in range(2):
                assert (await ask_metrics(path)).startswith(b"HTTP/1.1 500")
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_a_daemon_without_descriptors_answers_when_it_has_some_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, expect_log: Callable[..., None]
) -> None:
    expect_log("accept", level=40)
    nothing: Any = None
    path = str(tmp_path / "control")

    async def main() -> None:
        server = ControlServer(nothing, "/mnt", nothing, nothing)
        async with trio.open_nursery() as nursery:
            await nursery.start(server.serve, path)
            with trio.socket.socket(socket.AF_UNIX) as client:
                soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
                free = os.open("/dev/null", os.O_RDONLY)
                os.close(free)
                resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
                try:
                    await client.connect(path)
                    await trio.sleep(0.05)
                finally:
                    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                await client.send(b'{"op": "ping"}\n')
                with trio.fail_after(10):
                    assert json.loads(await client.recv(10_000))["result"]["pid"] == os.getpid()
            nursery.cancel_scope.cancel()

    trio.run(main)
