"""How fast the mount and `artfs log` are, beside ext4 on the same disk and a file system that does nothing, in the same run.

    python bench/mount.py [--small FOLDER] [--big FILE] [--work FOLDER] [--rounds N] [--only copy,read,list,floor,tree]
                          [--json FILE]

As root (it drops caches and pins processes). Parts:

    copy    20,000 files of 20 KB, and one file of 2 GiB, durable, in turn: `cp -r` + `sync` on ext4; `cp -r` into a draft +
            `artfs commit`; `artfs log`. Each round has a state folder of its own
    read    the first and the second sequential read of the 2 GiB file, its blob in the page cache; READ requests of each
    list    the first `find -ls` of 100,000 files, inode caches dropped, against ext4; requests of a second one; the
            daemon's resident memory
    floor   µs (median) of getattr, open+close and a 4 KiB read, client and daemon pinned to one CPU, against a pyfuse3
            file system over the same loop whose handlers return constants, and against docs' figures of a quiet machine
    tree    the 20,000 files as a version: `diff -r` through `latest` and `v0`; requests of a second `find` and `ls -lR`

Copies are removed at the very end only: for minutes after files were deleted, ext4 passes their inodes over one by one
when it makes new ones, which slows whoever comes next.
"""

from __future__ import annotations

import argparse
import ctypes
import mmap
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from common import Record, drop_caches, enough_space, process_cpu_s, timed, warm
from floor_fs import serve_constants
from ingest import make_big, make_small

from artfs.testing.mount import Daemon, Workspace

AT_EMPTY_PATH = 0x1000
AT_STATX_FORCE_SYNC = 0x2000
FLOOR_REQUESTS = 4000
FLOOR = {"getattr": 10.5, "open + close": 18.5, "read of 4 KiB": 11.1}
"""µs of constant handlers behind the polling shim, measured when the project began (its notes on FUSE, 5.8)."""


def new_workspace(made: list[Workspace]) -> Workspace:
    workspace = Workspace()
    made.append(workspace)
    return workspace


def new_daemon(made: list[Workspace]) -> Daemon:
    return Daemon(new_workspace(made)).start()


def copy_in(
    source: Path, work: Path, rounds: int, made: list[Workspace], label: str, limits: tuple[float, float], record: Record
) -> None:
    """`limits`: for the mount and for `artfs log`."""
    times: dict[str, list[float]] = {"cp": [], "mount": [], "log": []}
    cpu: list[float] = []
    warm(source)
    for number in range(rounds):
        daemon = new_daemon(made)
        workspace = new_workspace(made)
        workspace.artfs("ls")  # makes the state folder
        draft = daemon.mountpoint / "drafts" / "bench" / "c"
        draft.mkdir(parents=True)

        def copy() -> None:
            subprocess.run(["cp", "-r", source, work / f"{label}-{number}"], check=True)  # noqa: B023
            subprocess.run(["sync"], check=True)

        def mount() -> None:
            subprocess.run(["cp", "-r", source, draft / "x"], check=True)  # noqa: B023
            daemon.workspace.artfs("commit", "bench/c")  # noqa: B023

        def log() -> None:
            workspace.artfs("log", source, "bench/c")  # noqa: B023

        turns = [("cp", copy), ("mount", mount), ("log", log)]
        turns = turns[number % 3 :] + turns[: number % 3]  # whoever comes first has another disk than who comes last
        for name, action in turns:
            os.sync()
            before = process_cpu_s(daemon.pid)
            begin = time.perf_counter()
            action()
            times[name].append(time.perf_counter() - begin)
            if name == "mount":
                cpu.append(process_cpu_s(daemon.pid) - before)
        daemon.terminate()
    used = "the daemon used " + ", ".join(f"{value:.1f}" for value in cpu) + " s of CPU"
    record.ratio(f"{label}, cp into a draft and commit", times["mount"], times["cp"], limit=limits[0], note=used)
    record.ratio(f"{label}, artfs log", times["log"], times["cp"], limit=limits[1])


def read_big(big: Path, made: list[Workspace], record: Record) -> None:
    daemon = new_daemon(made)
    daemon.workspace.artfs("log", big, "bench/big")
    blob = max((daemon.workspace.home / "store" / "blobs").rglob("*"), key=lambda path: path.stat().st_size)
    path = next((daemon.mountpoint / "bench" / "big" / "latest").iterdir())
    size = blob.stat().st_size
    drop_caches(1)
    plain = [timed("dd", f"if={blob}", "of=/dev/null", "bs=1M", "status=none") for _ in range(2)][1]
    record.value(f"its blob of {size >> 20} MiB, read directly from the page cache", size / plain / 1e9, "GB/s")
    for turn in ("first", "second"):
        with daemon.counting() as during:
            seconds = timed("dd", f"if={path}", "of=/dev/null", "bs=1M", "status=none")
        least = 1.2 if turn == "first" else None
        record.value(f"{turn} sequential read through the mount", size / seconds / 1e9, "GB/s", least=least)
        most = None if turn == "first" else 0
        record.value(f"READ requests of the {turn} read", during["read"], "requests", most=most)
    daemon.terminate()


def list_many(work: Path, rounds: int, made: list[Workspace], record: Record) -> None:
    tree = work / "many"
    for number in range(100_000):
        path = tree / f"dir{number % 100:03}" / f"file{number:06}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % (number % 500))
    daemon = new_daemon(made)
    daemon.workspace.artfs("log", tree, "bench/many")
    ours, theirs = [], []
    for _ in range(rounds):
        daemon.terminate()
        daemon.start()
        drop_caches(2)
        theirs.append(timed("find", tree, "-ls"))
        drop_caches(2)
        ours.append(timed("find", daemon.mountpoint / "bench" / "many" / "latest", "-ls"))
    record.ratio("first find -ls of 100,000 files", ours, theirs, limit=2)
    with daemon.counting() as during:
        timed("find", daemon.mountpoint / "bench" / "many" / "latest", "-ls")
    tell_requests("a second find of 100,000 files", during, record)
    record.value("resident memory of the daemon with 100,000 files listed", daemon.status()["rss"] / 1e6, "MB", most=150)
    daemon.terminate()


def tell_requests(name: str, during: Counter[str], record: Record) -> None:
    """What should not be asked a second time; the kernel and `ls` ask once a command for the folder that it names (a GETATTR
    after each listing of it, for the atime; two GETXATTR by `ls`)."""
    print(f"requests of {name}: {dict(during)}", flush=True)
    asked = sum(during[kind] for kind in ("lookup", "getattr", "getxattr", "read"))
    record.value(f"LOOKUP, GETATTR, GETXATTR and READ of {name}", asked, "requests", most=3 if "ls" in name else 1)


def use_tree(small: Path, made: list[Workspace], record: Record) -> None:
    daemon = new_daemon(made)
    daemon.workspace.artfs("log", small, "bench/small")
    collection = daemon.mountpoint / "bench" / "small"
    for name in ("latest", "v0"):
        record.value(f"diff -r of {small} through {name} (clean)", timed("diff", "-r", small, collection / name), "s")
    for command in (["find"], ["ls", "-lR"]):
        timed(*command, collection / "latest")
        with daemon.counting() as during:
            timed(*command, collection / "latest")
        tell_requests(f"a second {' '.join(command)} of 20,000 files", during, record)
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
    # O_DIRECT: each read is one request of exactly this size, whatever the page cache holds and reads ahead.
    direct = os.open(path, os.O_RDONLY | os.O_DIRECT)
    page = mmap.mmap(-1, 4096)

    def read() -> None:
        os.preadv(direct, [page], 4096)

    found = (
        median_us(lambda: libc.statx(fd, b"", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, 0x7FF, buffer)),
        median_us(lambda: os.close(os.open(path, os.O_RDONLY))),
        median_us(read),
    )
    os.close(fd)
    os.close(direct)
    return found


def floor(work: Path, made: list[Workspace], record: Record) -> None:
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
    for at, (name, quiet) in enumerate(FLOOR.items()):
        ours, theirs = [ours[at] for ours, _ in rounds], [theirs[at] for _, theirs in rounds]
        record.ratio(f"{name}, against handlers that return constants", ours, theirs, unit="µs")
        record.ratio(f"{name}, against the figure of a quiet machine", ours, [quiet] * len(ours), limit=1.5, unit="µs")
    daemon.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", type=Path)
    parser.add_argument("--big", type=Path)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="copy,read,list,floor,tree")
    parser.add_argument("--json", type=Path, help="where all numbers go besides")
    args = parser.parse_args()
    parts = args.only.split(",")
    work = Path(tempfile.mkdtemp(prefix="artfs-bench-", dir=args.work or "/tmp"))
    made: list[Workspace] = []
    record = Record.begin(work)
    try:
        small, big = args.small, args.big
        enough_space(work, 8_000_000_000 * args.rounds if "copy" in parts else 6_000_000_000)
        if small is None and {"copy", "tree"} & set(parts):
            small = work / "small"
            make_small(small)
        if big is None and {"copy", "read"} & set(parts):
            big = work / "big"
            make_big(big)
        if "copy" in parts:
            copy_in(small, work, args.rounds, made, "20,000 files of 20 KB", (6, 2.5), record)
            copy_in(big, work, args.rounds, made, "one file of 2 GiB", (3, 1.4), record)
        if "read" in parts:
            read_big(big, made, record)
        if "list" in parts:
            list_many(work, args.rounds, made, record)
        if "floor" in parts:
            floor(work, made, record)
        if "tree" in parts:
            use_tree(small, made, record)
        record.write(args.json)
    finally:
        for workspace in made:
            workspace.remove()
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
