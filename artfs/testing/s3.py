"""Servers that speak S3, for tests: rclone's, which checks signatures but no checksums, and moto's, which checks neither."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

ACCESS_KEY, SECRET_KEY = "artfs-test-key", "artfs-test-secret"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
"""For the environment of whoever opens a bucket of these servers."""

BUCKET = "artfs-test"
_START_S = 30.0


class S3Server:
    """A running server. `endpoint`: its URL. `folder`: where the objects of `BUCKET` are files; None: in its memory."""

    def __init__(self, endpoint: str, folder: Path | None) -> None:
        self.endpoint = endpoint
        self.folder = folder

    def url(self, prefix: str, **options: str) -> str:
        """What open_bucket takes."""
        return f"s3://{BUCKET}/{prefix}?{urlencode({'endpoint': self.endpoint, 'region': 'us-east-1', **options})}"


@contextmanager
def rclone_server(root: Path) -> Iterator[S3Server]:
    """`rclone serve s3` over a new folder below `root`, which nobody else must write to: it remembers listings. (With
    `--dir-cache-time 0s` a PUT takes seconds.)"""
    folder = root / BUCKET
    folder.mkdir(parents=True)
    port = _free_port()
    command = [
        str(Path(sys.executable).with_name("rclone")), "serve", "s3", "--addr", f"127.0.0.1:{port}",
        "--auth-key", f"{ACCESS_KEY},{SECRET_KEY}", "--config", "/dev/null", "--vfs-cache-mode", "off", str(root),
    ]  # fmt: skip
    with _running(command, port):
        yield S3Server(f"http://127.0.0.1:{port}", folder)


@contextmanager
def moto_server() -> Iterator[S3Server]:
    """moto's server, with an empty bucket."""
    port = _free_port()
    with _running([sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port):
        request = urllib.request.Request(f"http://127.0.0.1:{port}/{BUCKET}", method="PUT")
        with urllib.request.urlopen(request) as answer:
            answer.read()
        yield S3Server(f"http://127.0.0.1:{port}", None)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@contextmanager
def _running(command: list[str], port: int) -> Iterator[None]:
    environ = {**os.environ, **CREDENTIALS}
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environ)
    try:
        deadline = time.monotonic() + _START_S
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/").close()
                break
            except urllib.error.HTTPError as error:
                error.close()
                break
            except OSError:
                if server.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{command[0]} does not start") from None
                time.sleep(0.05)
        yield
    finally:
        server.kill()
        server.wait()
