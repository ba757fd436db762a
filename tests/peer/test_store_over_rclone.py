"""A server over `rclone serve s3`, which answers ranges with status 200 (docs/server-tested.md), as a client sees it."""

from __future__ import annotations

import random
import time
from pathlib import Path

from artfs.client.http import Http
from artfs.client.store import RemoteStore
from artfs.testing.s3 import CREDENTIALS, rclone_server
from artfs.testing.serving import artfs_serve

PATIENCE_S = 60.0


def test_ranges_come_from_the_bucket(tmp_path: Path) -> None:
    data = random.Random(3).randbytes(3_000_000)
    (tmp_path / "file").write_bytes(data)
    with rclone_server(tmp_path / "s3") as s3:
        blobs = s3.url("blobs")
        with artfs_serve("--home", tmp_path, "--blobs", blobs, "--no-auth", environ=CREDENTIALS) as server:
            http = Http(server.url, "")
            store = RemoteStore(http, place=("local", "p"))
            with store.begin() as batch:
                content = batch.put_file(tmp_path / "file")
                batch.sync()
            for offset, nbytes in ((0, len(data)), (0, 10), (262_144, 262_144), (2_999_000, 1_000)):
                pieces = store.read_range(content.digest, len(data), offset, nbytes, deadline=time.monotonic() + PATIENCE_S)
                assert b"".join(bytes(piece) for piece in pieces) == data[offset : offset + nbytes]
            http.close()
            reads = [line for line in server.log.splitlines() if "/v1/objects/" in line or "/v1/blobs/read" in line]
    assert reads == [], "no byte came through our server"
