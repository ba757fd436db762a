"""How fast the mount is, beside ext4 on the same disk and a file system that does nothing, in the same run.

    python bench/mount.py [--small FOLDER] [--big FILE] [--work FOLDER] [--rounds N] [--only copy,read,list,floor]

As root (it drops caches and pins processes). Parts:

    copy    cp -r + sync on ext4 against cp -r into a draft + `artfs commit`, of 20,000 files of 20 KB and of one of 2 GiB,
            in turn; each round has a state folder of its own
    read    the first and the second sequential read of the 2 GiB file, its blob in the page cache; READ requests of each
    list    the first `find -ls` of 100,000 files, inode caches dropped, against ext4; requests of a second one; the
            daemon's resident memory
    floor   µs (median) of getattr, open+close and a 4 KiB read, client and daemon pinned to one CPU, against a pyfuse3
            file system over the same loop whose handlers return constants

Copies are removed at the very end only: for minutes after files were deleted, ext4 passes their inodes over one by one
when it makes new ones, which slows whoever comes next.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from floor_fs import serve_constants
from ingest import make_big, make_small

from artfs.testing.mount import Daemon, Workspace

AT_EMPTY_PATH = 0x1000
AT_STATX_FORCE_SYNC = 0x2000
FLOOR_REQUESTS = 4000


def timed(*command: str | os.PathLike[str]) -> float:
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def drop_caches(which: int) -> None:
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text(str(which))


def report(name: str, ours: list[float], theirs: list[float], unit: str = "s") -> None:
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    print(
        f"{name:34} {statistics.median(ours):9.2f} {unit}  against {statistics.median(theirs):9.2f} {unit}"
        f"   ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
        flush=True,
    )


def new_daemon(made: list[Workspace]) -> Daemon:
    workspace = Workspace()
    made.append(workspace)
    return Daemon(workspace).start()


def copy_in(source: Path, work: Path, rounds: int, made: list[Workspace], label: str) -> None:
    ours, theirs = [], []
    for number in range(rounds):
        os.sync()
        begin = time.perf_counter()
        subprocess.run(["cp", "-r", source, work / f"{label}-{number}"], check=True)
        os.sync()
        theirs.append(time.perf_counter() - begin)
        daemon = new_daemon(made)
        draft = daemon.mountpoint / "drafts" / "bench" / "c"
        draft.mkdir(parents=True)
        os.sync()
        begin = time.perf_counter()
        subprocess.run(["cp", "-r", source, draft / "x"], check=True)
        daemon.workspace.artfs("commit", "bench/c")
        ours.append(time.perf_counter() - begin)
        daemon.terminate()
    report(f"copy {label}: cp + commit / cp + sync", ours, theirs)


def read_big(big: Path, made: list[Workspace]) -> None:
    daemon = new_daemon(made)
    daemon.workspace.artfs("log", big, "bench/big")
    blob = max((daemon.workspace.home / "store" / "blobs").rglob("*"), key=lambda path: path.stat().st_size)
    path = next((daemon.mountpoint / "bench" / "big" / "latest").iterdir())
    size = blob.stat().st_size
    drop_caches(1)
    plain = [timed("dd", f"if={blob}", "of=/dev/null", "bs=1M", "status=none") for _ in range(2)][1]
    for turn in ("first", "second"):
        with daemon.counting() as during:
            seconds = timed("dd", f"if={path}", "of=/dev/null", "bs=1M", "status=none")
        print(
            f"{turn} read of {size >> 20} MiB: {size / seconds / 1e9:.2f} GB/s, {during['read']} READ requests"
            f"   (its blob, directly: {size / plain / 1e9:.2f} GB/s)",
            flush=True,
        )
    daemon.terminate()


def list_many(work: Path, made: list[Workspace]) -> None:
    tree = work / "many"
    for number in range(100_000):
        path = tree / f"dir{number % 100:03}" / f"file{number:06}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % (number % 500))
    daemon = new_daemon(made)
    daemon.workspace.artfs("log", tree, "bench/many")
    ours, theirs = [], []
    for _ in range(3):
        daemon.terminate()
        daemon.start()
        drop_caches(2)
        theirs.append(timed("find", tree, "-ls"))
        drop_caches(2)
        ours.append(timed("find", daemon.mountpoint / "bench" / "many" / "latest", "-ls"))
    report("first find -ls of 100,000 files", ours, theirs)
    with daemon.counting() as during:
        timed("find", daemon.mountpoint / "bench" / "many" / "latest", "-ls")
    print(f"second find -ls: requests {dict(during)}; daemon RSS {daemon.status()['rss'] / 1e6:.0f} MB", flush=True)
    daemon.terminate()


def median_us(action: Callable[[], Any]) -> float:
    taken = []
    for _ in range(FLOOR_REQUESTS):
        begin = time.perf_counter_ns()
        action()
        taken.append(time.perf_counter_ns() - begin)
    return statistics.median(taken) / 1000


def requests_us(path: Path, pid: int) -> tuple[float, float, float]:
    for task in os.listdir(f"/proc/{pid}/task"):
        os.sched_setaffinity(int(task), {0})
    libc = ctypes.CDLL(None)
    buffer = ctypes.create_string_buffer(256)
    fd = os.open(path, os.O_RDONLY)
    os.read(fd, 4096)

    def read() -> None:
        os.posix_fadvise(fd, 0, 4096, os.POSIX_FADV_DONTNEED)
        os.pread(fd, 4096, 0)

    found = (
        median_us(lambda: libc.statx(fd, b"", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, 0x7FF, buffer)),
        median_us(lambda: os.close(os.open(path, os.O_RDONLY))),
        median_us(read),
    )
    os.close(fd)
    return found


def floor(work: Path, made: list[Workspace]) -> None:
    folder = work / "floor"
    folder.mkdir()
    (folder / "f").write_bytes(b"x" * 20_480)
    daemon = new_daemon(made)
    daemon.workspace.artfs("log", folder, "bench/floor")
    affinity = os.sched_getaffinity(0)
    with serve_constants(work / "constant") as (pid, path):
        os.sched_setaffinity(0, {0})
        rounds = [
            (requests_us(daemon.mountpoint / "bench/floor/latest/f", daemon.pid), requests_us(path, pid)) for _ in range(5)
        ]
        os.sched_setaffinity(0, affinity)
    for at, name in enumerate(("getattr", "open + close", "read 4 KiB (and fadvise)")):
        report(name, [ours[at] for ours, _ in rounds], [theirs[at] for _, theirs in rounds], "µs")
    daemon.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", type=Path)
    parser.add_argument("--big", type=Path)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="copy,read,list,floor")
    args = parser.parse_args()
    parts = args.only.split(",")
    work = Path(tempfile.mkdtemp(prefix="artfs-bench-", dir=args.work or "/tmp"))
    made: list[Workspace] = []
    try:
        small, big = args.small, args.big
        if small is None and "copy" in parts:
            small = work / "small"
            make_small(small)
        if big is None and {"copy", "read"} & set(parts):
            big = work / "big"
            make_big(big)
        if "copy" in parts:
            copy_in(small, work, args.rounds, made, "20,000 files of 20 KB")
            copy_in(big, work, args.rounds, made, "one file of 2 GiB")
        if "read" in parts:
            read_big(big, made)
        if "list" in parts:
            list_many(work, made)
        if "floor" in parts:
            floor(work, made)
    finally:
        for workspace in made:
            workspace.remove()
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
