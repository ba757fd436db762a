"""How fast files get into a store and out of it, compared with `cp` on the same disk.

    python bench/ingest.py [--small FOLDER] [--big FILE] [--work FOLDER] [--rounds N]

Without --small and --big it makes 20,000 files of 20 KB in 100 directories, and one file of 2 GiB, below --work. Each round
runs, one after the other:

    cp -r + sync      and   push + sync + commit   of the small files
    cp -r             and   pull                   of the small files
    cp + sync         and   push + sync + commit   of the large file
    cp                and   pull                   of the large file

and the report gives the best and the median time of each, and their ratios. The best times compare the programs, the
medians also the weather on a disk that others use. Copies of small files are removed at the very end only: for some
minutes after a file was deleted, ext4 passes its inode over when it makes new ones, which makes the next run look slow.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from artfs.catalog import open_catalog
from artfs.model.manifest import Manifest
from artfs.model.records import NewVersion
from artfs.model.tree import PageCache
from artfs.store.folder import FolderStore
from artfs.transfer.pull import pull
from artfs.transfer.push import push_directory, push_entries, push_file

SMALL_FILES = 20_000
SMALL_NBYTES = 20_000
SMALL_FOLDERS = 100
BIG_NBYTES = 2 * 1024**3


def make_small(folder: Path) -> None:
    for number in range(SMALL_FILES):
        path = folder / f"d{number % SMALL_FOLDERS:03}" / f"f{number:06}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(SMALL_NBYTES))


def make_big(path: Path) -> None:
    with path.open("wb") as stream:
        for _ in range(BIG_NBYTES // (1 << 24)):
            stream.write(os.urandom(1 << 24))


def warm(path: Path) -> None:
    """Reads everything once, so that all compete with their input in memory."""
    for file in [path] if path.is_file() else sorted(path.rglob("*")):
        if file.is_file():
            with file.open("rb", buffering=0) as stream:
                while stream.read(1 << 22):
                    pass


class Home:
    """A state folder of its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700)
        self.store = FolderStore(folder / "store")
        self.catalog = open_catalog(folder / "catalog.db")
        self.root = ""

    def push(self, path: Path) -> None:
        with self.store.begin() as batch:
            if path.is_dir():
                pushed = push_directory(batch, path)
                root, totals = pushed.root, pushed.totals
            else:
                entry = push_file(batch, path)
                built = push_entries(batch, {path.name: entry})
                root, totals = built.root, built.totals
            batch.sync()
            new = NewVersion("local", "bench", "data", "dataset", root, totals.size, totals.file_count)
            self.root = self.catalog.commit(new).member.version.digest

    def pull(self, dest: Path) -> None:
        pull(self.store, Manifest(PageCache(self.store.read), self.root), dest)


def timed(times: dict[str, list[float]], name: str, work: Callable[[], object]) -> None:
    os.sync()
    begin, cpu = time.perf_counter(), os.times()
    work()
    took, now = time.perf_counter() - begin, os.times()
    times.setdefault(name, []).append(took)
    user, system = (now[at] + now[at + 2] - cpu[at] - cpu[at + 2] for at in (0, 1))
    print(f"    {name:24} {took:7.2f} s   CPU: {user:6.2f} s, kernel {system:6.2f} s", flush=True)


def copy(source: Path, target: Path, *, sync: bool = False) -> None:
    subprocess.run(["cp", "-r", source, target], check=True)
    if sync:
        subprocess.run(["sync", "--file-system", target], check=True)


def run(what: str, source: Path, work: Path, rounds: int, *, keep: bool) -> None:
    times: dict[str, list[float]] = {}
    warm(source)
    for number in range(rounds):
        print(f"{what}, round {number + 1}", flush=True)
        home = Home(work / f"{what}-home{number}")
        targets = [work / f"{what}-{name}{number}" for name in ("cp", "cp-again", "pull")]
        # Whoever comes later finds less free memory and a busier disk: they take turns.
        works: list[tuple[str, Callable[[], object]]] = [
            ("cp + sync", partial(copy, source, targets[0], sync=True)),
            ("push + sync + commit", partial(home.push, source)),
        ]
        for name, work_now in works if number % 2 else reversed(works):
            timed(times, name, work_now)
        works = [("cp", partial(copy, source, targets[1])), ("pull", partial(home.pull, targets[2]))]
        for name, work_now in works if number % 2 else reversed(works):
            timed(times, name, work_now)
        home.catalog.close()
        if not keep:
            for path in (*targets, work / f"{what}-home{number}"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    for ours, theirs in (("push + sync + commit", "cp + sync"), ("pull", "cp")):
        best = min(times[ours]) / min(times[theirs])
        median = statistics.median(times[ours]) / statistics.median(times[theirs])
        print(f"  {what}: {ours} / {theirs} = {best:.2f} (best of {rounds}), {median:.2f} (medians)", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", type=Path, help="a folder of many small files")
    parser.add_argument("--big", type=Path, help="a large file")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()), help="where copies go")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("small", "big"))
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="artfs-ingest-", dir=chosen.work) as folder:
        work = Path(folder)
        if chosen.only != "big":
            small = chosen.small or work / "small"
            if chosen.small is None:
                make_small(small)
            run("small", small, work, chosen.rounds, keep=True)
        if chosen.only != "small":
            big = chosen.big or work / "big"
            if chosen.big is None:
                make_big(big)
            run("big", big, work, chosen.rounds, keep=False)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(f"most memory: {usage.ru_maxrss // 1024} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
