"""How fast the Python interface logs and downloads, compared with `cp -r` on the same disk.

    python bench/api.py [--small FOLDER] [--big FILE] [--work FOLDER] [--rounds N] [--only small|big] [--json FILE]

Without --small and --big it makes 20,000 files of 20 KB in 100 directories, and one file of 2 GiB, below --work. Each round
runs, in turn, for each of the two:

    cp -r + sync      and   Artifact.add_dir + save
    cp -r             and   Artifact.download

A call of ours runs in a process of its own with a state folder of its own; its time is that of the calls (not of starting
Python), and its memory the most that it, or a helper of it, had resident. Where the disk has reflinks, `--reflink` of cp is
what coreutils do by themselves. Copies of small files are removed at the very end only: for some minutes after a file was
deleted, ext4 passes its inode over when it makes new ones, which makes the next run look slow.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import Record, enough_space, warm

SMALL_FILES, SMALL_NBYTES, SMALL_FOLDERS = 20_000, 20_000, 100
BIG_NBYTES = 2 * 1024**3
LIMITS = {"small": (2.5, 1.0), "big": (1.4, 1.0)}
MEMORY_MB = 150


def make_small(folder: Path) -> None:
    for number in range(SMALL_FILES):
        path = folder / f"d{number % SMALL_FOLDERS:03}" / f"f{number:06}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(SMALL_NBYTES))


def make_big(folder: Path) -> None:
    folder.mkdir()
    with (folder / "big").open("wb") as stream:
        for _ in range(BIG_NBYTES // (1 << 24)):
            stream.write(os.urandom(1 << 24))


def call(what: str, path: str) -> None:
    """In the child: logs the folder `path`, or downloads to it; says seconds and megabytes."""
    import artfs

    with artfs.progress(None):
        if what == "log":
            artfs.Api()  # opens the catalog, which makes it
            begin = time.perf_counter()
            artifact = artfs.Artifact("data", "dataset")
            artifact.add_dir(path)
            artifact.save("bench")
        else:
            artifact = artfs.Api().artifact("bench/data")
            begin = time.perf_counter()
            artifact.download(path)
    took = time.perf_counter() - begin
    most = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(json.dumps([took, most * 1024 / 1e6]))


def ours(home: Path, what: str, path: Path) -> tuple[float, float]:
    environ = os.environ | {"ARTFS_HOME": str(home), "ARTFS_CONFIG": str(home.with_suffix(".toml"))}
    home.with_suffix(".toml").touch()
    child = subprocess.run(
        [sys.executable, __file__, "--call", what, str(path)], env=environ, stdout=subprocess.PIPE, text=True, check=True
    )
    took, most = json.loads(child.stdout)
    return took, most


def theirs(source: Path, target: Path, *, sync: bool) -> float:
    begin = time.perf_counter()
    subprocess.run(["cp", "-r", source, target], check=True)
    if sync:
        subprocess.run(["sync", "--file-system", target], check=True)
    return time.perf_counter() - begin


def measure(record: Record, what: str, source: Path, work: Path, rounds: int) -> float:
    log: tuple[list[float], list[float]] = ([], [])
    download: tuple[list[float], list[float]] = ([], [])
    most = 0.0
    warm(source)
    for number in range(rounds):
        home = work / f"{what}-home{number}"
        out = [work / f"{what}-{name}{number}" for name in ("cp", "cp-again", "download")]
        for turn in (0, 1) if number % 2 else (1, 0):
            os.sync()
            if turn:
                took, memory = ours(home, "log", source)
                log[0].append(took)
                most = max(most, memory)
            else:
                log[1].append(theirs(source, out[0], sync=True))
        for turn in (0, 1) if number % 2 else (1, 0):
            os.sync()
            if turn:
                took, memory = ours(home, "download", out[2])
                download[0].append(took)
                most = max(most, memory)
            else:
                download[1].append(theirs(source, out[1], sync=False))
        subprocess.run(["diff", "-r", source, out[2]], check=True)
        if what == "big":
            for path in (home, *out):
                shutil.rmtree(path)
    record.ratio(f"{what}: add_dir + save against cp -r + sync", *log, limit=LIMITS[what][0])
    record.ratio(f"{what}: download against cp -r", *download, limit=LIMITS[what][1])
    return most


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", type=Path, help="a folder of many small files")
    parser.add_argument("--big", type=Path, help="a large file")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()), help="where copies go")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("small", "big"))
    parser.add_argument("--json", type=Path, help="keep all numbers in this file")
    parser.add_argument("--call", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.call:
        call(*chosen.call)
        return 0
    enough_space(chosen.work, chosen.rounds * 4 * SMALL_FILES * SMALL_NBYTES + 5 * BIG_NBYTES)
    record = Record.begin(chosen.work)
    with tempfile.TemporaryDirectory(prefix="artfs-api-", dir=chosen.work) as folder:
        work = Path(folder)
        most = 0.0
        if chosen.only != "big":
            small = chosen.small or work / "small"
            if chosen.small is None:
                make_small(small)
            most = measure(record, "small", small, work, chosen.rounds)
        if chosen.only != "small":
            big = work / "big"
            if chosen.big is None:
                make_big(big)
            else:
                big.mkdir()
                shutil.copy(chosen.big, big)
            most = max(most, measure(record, "big", big, work, chosen.rounds))
        record.value("most memory of a process", most, "MB", most=MEMORY_MB)
    record.write(chosen.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
