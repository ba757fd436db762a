"""How fast a server takes and gives bytes, and what that costs: `python bench/server.py [folder|rclone] [--large MIB]`.

One client (artfs.client.store) and one server process on this machine. CPU seconds are of the server's processes, of the
client, and of rclone where that is the bucket; each for a gigabyte.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from artfs.client.http import Http
from artfs.client.store import RemoteStore
from artfs.model.digests import digest_bytes
from artfs.testing.s3 import CREDENTIALS, rclone_server
from artfs.testing.serving import artfs_serve
from artfs.wire.frames import encode_frames

TICKS = os.sysconf("SC_CLK_TCK")
FOREVER = float("inf")


def cpu_s(pids: list[int]) -> float:
    total = 0.0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += (int(fields[11]) + int(fields[12])) / TICKS
    return total


def family(pid: int) -> list[int]:
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += family(int(child))
    return found


def pids_of(word: str) -> list[int]:
    """Of children of ours whose command line has that word."""
    mine = family(os.getpid())[1:]
    return [pid for pid in mine if word in Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")]


class Meter:
    def __init__(self, server: int, bucket: list[int]) -> None:
        self._server = server
        self._bucket = bucket

    @contextmanager
    def __call__(self, what: str, nbytes: int) -> Iterator[None]:
        parts = [family(self._server), self._bucket]
        before, own, began = [cpu_s(pids) for pids in parts], time.process_time(), time.monotonic()
        yield
        took = time.monotonic() - began
        server, bucket = (cpu_s(pids) - then for pids, then in zip(parts, before, strict=True))
        own = time.process_time() - own
        gb = nbytes / 1e9
        more = f"  bucket {bucket / gb:5.2f}" if self._bucket else ""
        cost = f"server {server / gb:5.2f}  client {own / gb:5.2f}{more}"
        print(f"{what:44} {took:7.2f} s {nbytes / 1e6 / took:7.0f} MB/s   CPU s/GB: {cost}", flush=True)


def measure(meter: Meter, url: str, folder: Path, large_mib: int) -> None:
    http = Http(url, "", timeout_s=600.0)
    store = RemoteStore(http, place=("e", "p"))
    for size, count in ((20_000, 5_000), (2_000, 20_000), (600_000, 200)):
        blobs = [random.randbytes(size) for _ in range(count)]
        digests = [digest_bytes(data) for data in blobs]
        with meter(f"send {count:,} blobs of {size:,} bytes", size * count):
            with store.begin() as batch:
                for data in blobs:
                    batch.put_bytes(data)
                batch.sync()
        with meter(f"read {count:,} blobs of {size:,} bytes", size * count):
            got = sum(len(data) for _, data in store.read_small(digests, deadline=FOREVER))
        assert got == size * count
    bodies = []
    for _ in range(4):
        blobs = [random.randbytes(20_000) for _ in range(1_600)]
        bodies.append(b"".join(encode_frames((digest_bytes(data), data) for data in blobs)))
    with httpx.Client(base_url=url, timeout=600.0) as client:
        with meter("frames alone, bodies of 32 MB", sum(map(len, bodies))):
            for body in bodies:
                answer = client.post(
                    "/v1/projects/e/p/blobs", content=body, headers={"Content-Type": "application/vnd.artfs.frames"}
                )
                answer.raise_for_status()
    path = folder / "large"
    with path.open("wb") as file:
        for _ in range(large_mib):
            file.write(random.randbytes(1 << 20))
    size = large_mib << 20
    with meter(f"send one blob of {large_mib:,} MiB", size):
        with store.begin() as batch:
            content = batch.put_file(path)
            batch.sync()
    path.unlink()
    with meter(f"read one blob of {large_mib:,} MiB", size):
        got = sum(len(piece) for piece in store.read_range(content.digest, size, 0, size, deadline=FOREVER))
    assert got == size
    with meter("read 400 ranges of 256 KiB of it", 400 << 18):
        for _ in range(400):
            offset = random.randrange(size // (1 << 18)) << 18
            for _ in store.read_range(content.digest, size, offset, 1 << 18, deadline=FOREVER):
                pass
    http.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bucket", choices=["folder", "rclone"], default="folder", nargs="?")
    parser.add_argument("--large", type=int, default=2048, metavar="MIB")
    parser.add_argument("--dir", help="Where files and blobs are. [default: the system's folder for temporary files]")
    parser.add_argument("--copies", choices=["yes", "no"], default="yes", help="See artfs.store.bucket.open_bucket.")
    given = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="artfs-bench-", dir=given.dir))
    try:
        with ExitStack() as stack:
            os.environ.update(CREDENTIALS)
            blobs = str(root / "bucket")
            if given.bucket == "rclone":
                blobs = stack.enter_context(rclone_server(root / "s3")).url("blobs", copies=given.copies)
            server = stack.enter_context(
                artfs_serve("--home", root, "--blobs", blobs, "--no-auth", "--no-access-log", environ=CREDENTIALS)
            )
            measure(Meter(server.pid, pids_of("s3")), server.url, root, given.large)
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    sys.exit(main())
