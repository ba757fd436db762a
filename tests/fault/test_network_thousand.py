"""A thousand faults, of all kinds that take no time, in one life of a daemon and of a server: no reader sees a wrong byte, and
neither of them keeps a descriptor, a thread, or memory for any of it."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from artfs.errors import ArtfsError
from artfs.testing.corner import Corner
from artfs.testing.farside import FarWorkspace, check_sound, open_files, thread_names
from artfs.testing.faultproxy import Fault, answer, garbage, html_page
from artfs.testing.mount import Daemon
from artfs.testing.serving import children
from artfs.testing.store_contract import some_bytes
from artfs.testing.trees import make
from artfs.testing.waiting import until

FAULTS = 1000
WAITING = 2
PACE_S = 0.02
"""Faults that wait for somebody to meet them, and the pause between two: most requests meet none."""
READERS = 12
VERSIONS, SMALL, LARGE = 4, 100, 4
LARGE_SIZE = 6_000_000
CACHE = 8_000_000
"""Bytes: a third of what is read, so that it has to be fetched again and again."""
GROWTH = 24 * 1024 * 1024
"""How much larger each process may be after the last two thirds of the faults, in bytes: 36 KiB for each of them."""
SPARE = {"socket": 8, "blob": 8, "cache": 8, "file": 8, "thread": 4}
"""What may be more after hundreds of faults: connections (to a database, too) that stay, blobs that were looked at, threads of
pools. A leak would be hundreds."""
PATIENT = {"ARTFS_DEADLINE_S": "60", "ARTFS_NETWORK_TIMEOUT_S": "60", "ARTFS_CACHE_SIZE": str(CACHE)}


def some_fault(chance: random.Random) -> Fault:
    """Of any kind, in any call: before the answer, in it, in the question, or instead of both."""
    after = chance.choice([None, 0, chance.randrange(2_000), chance.randrange(100_000)])
    return chance.choice([
        Fault("cut", after=after),
        Fault("reset", after=after),
        Fault("cut", side="up", after=chance.choice([None, 0, 20])),
        Fault("reset", side="up", after=chance.choice([None, 0, 20])),
        Fault("corrupt", after=chance.randrange(1_500)),
        answer(chance.choice([500, 502, 503, 504]), "<html>oops"),
        answer(429, Retry_After="0"),
        garbage(),
        html_page(chance.choice([200, 503])),
    ])


class Readers:
    """Threads that read anything, anywhere, in any order, until they are stopped. `wrong`: what was not right. `failed`: errors
    by number; `read`: how often it went well."""

    def __init__(self, wanted: dict[Path, bytes], chance: random.Random) -> None:
        self._wanted = wanted
        self._stopped = threading.Event()
        self.wrong: list[str] = []
        self.failed: Counter[int | None] = Counter()
        self.read = 0
        seeds = [chance.random() for _ in range(READERS)]
        self._threads = [threading.Thread(target=self._run, args=(random.Random(seed),)) for seed in seeds]

    def __enter__(self) -> Readers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _run(self, chance: random.Random) -> None:
        paths = sorted(self._wanted)
        large = [path for path in paths if path.name.startswith("large")]
        while not self._stopped.is_set():
            path = chance.choice(paths if chance.random() < 0.5 else large)
            try:
                self._look(path, chance)
                self.read += 1
            except OSError as error:
                self.failed[error.errno] += 1
                time.sleep(0.05)

    def _look(self, path: Path, chance: random.Random) -> None:
        wanted = self._wanted[path]
        nbytes = chance.choice([1, 4096, 300_000])
        nbytes = min(nbytes, len(wanted))
        offset = chance.randrange(len(wanted) - nbytes + 1)
        fd = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)  # the kernel has it, too
            while nbytes:  # a read that fails after some pages gives those first
                data = os.pread(fd, nbytes, offset)
                if not data or data != wanted[offset : offset + len(data)]:
                    self.wrong.append(f"{path}: {len(data)} bytes at {offset}")
                    break
                nbytes -= len(data)
                offset += len(data)
        finally:
            os.close(fd)


def write_versions(corner: Corner, stopped: threading.Event, made: list[bytes]) -> None:
    """Commits one draft after the other through the mount; each, once it is there, is in `made`."""
    while not stopped.wait(0.2):
        data = some_bytes(1_500_000, seed=5000 + len(made))
        name = f"new{len(made)}"
        draft = corner.drafts / name
        while not draft.exists():
            try:
                draft.mkdir()
            except OSError:
                time.sleep(0.1)
        (draft / "file").write_bytes(data)
        (draft / "small").write_bytes(data[:1000])
        while True:
            try:
                corner.commit(name)
            except ArtfsError:
                time.sleep(0.1)
                if not draft.exists():
                    break  # it was done, but nobody could say so
            else:
                break
        made.append(data)


def sizes(pids: list[int]) -> list[int]:
    """Resident bytes of each."""
    page = os.sysconf("SC_PAGESIZE")
    return [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page for pid in pids]


class Held:
    """What a process holds: descriptors by kind, and threads by name."""

    def __init__(self, pid: int) -> None:
        self.files = open_files(pid)
        self.threads = Counter(thread_names(pid))

    def exceeds(self, before: Held) -> dict[str, int]:
        """What there is more of than a few (of SPARE)."""
        more = self.files - before.files
        more["thread"] = self.threads.total() - before.threads.total()
        return {kind: number for kind, number in more.items() if number > SPARE.get(kind, 0)}


def test_a_thousand_faults_leave_nothing_behind(
    far: FarWorkspace, make_daemon: Callable[..., Daemon], project: str, chance: random.Random, tmp_path: Path
) -> None:
    assert far.far.process is not None
    elsewhere = FarWorkspace(far=far.far, extra={"ARTFS_SERVER": far.far.process.url})
    daemon = make_daemon(far, environ=PATIENT)
    wanted: dict[Path, bytes] = {}
    for number in range(VERSIONS):
        plan = {f"d{n % 5}/f{n}": some_bytes(2000 + n, seed=1000 * number + n) for n in range(SMALL)}
        plan |= {f"large{n}": some_bytes(LARGE_SIZE, seed=1000 * number + 500 + n) for n in range(LARGE)}
        Corner(Daemon(elsewhere), project).log(make(tmp_path / f"{number}", plan), f"c{number}", refresh=False)
        root = daemon.mountpoint / project / f"c{number}" / "v0"
        wanted |= {root / name: data for name, data in plan.items()}
    elsewhere.remove()
    daemon.start()
    daemon.expect_log("")  # whatever it says of these, it says that it goes on
    proxy = far.far.proxy
    server = [far.far.process.pid, *children(far.far.process.pid)]
    pids = [daemon.pid, *server]
    corner = Corner(daemon, project)

    def settle() -> None:
        """What has to do with faults has ended, and its connections are gone."""
        proxy.clear()
        until(lambda: daemon.status()["server"]["online"], "it is online")
        until(lambda: not daemon.status()["in_flight"], "all requests are answered")
        proxy.reset_now()
        for path in sorted(wanted):
            if path.name in ("large0", "large1"):  # many requests, so that no dead connection is kept
                until(partial(readable, path), "what went wrong is forgotten")
        until(lambda: not daemon.status()["transfers"]["under_way"], "all transfers have ended")

    made: list[bytes] = []
    stopped = threading.Event()
    proxy.reset_counts()
    before: list[Held] = []
    rss: list[int] = []
    for goal in (FAULTS // 3, FAULTS):
        stopped.clear()
        writer = threading.Thread(target=write_versions, args=(corner, stopped, made))
        with Readers(wanted, chance) as readers:
            writer.start()
            added = acted = proxy.counts().faults
            while acted < goal:
                if added - acted < WAITING:
                    proxy.add(some_fault(chance))
                    added += 1
                time.sleep(PACE_S)
                acted = proxy.counts().faults
            proxy.clear()
            stopped.set()
            writer.join()
        assert readers.wrong == []
        assert readers.read > goal / 10, readers.failed
        settle()
        print(acted, proxy.counts().requests, readers.read, dict(readers.failed), len(made), sizes(pids))
        if not before:
            before, rss = [Held(pid) for pid in pids], sizes(pids)
    assert len(made) >= 2
    for pid, held in zip(pids, before, strict=True):
        until(partial(has_let_go, pid, held), f"{pid} has let go of {Held(pid).exceeds(held)}")
    # Freed memory goes back a moment after the last transfer.
    until(lambda: all(now - then < GROWTH for now, then in zip(sizes(pids), rss, strict=True)), f"memory is as it was: {rss}")
    print(sizes(pids))
    for number, data in enumerate(made):
        assert (corner.path / f"new{number}" / "latest" / "file").read_bytes() == data
    far.extra.update(PATIENT)  # it is about what is there, not how fast it comes
    check_sound(far, project, daemon)
    assert "Traceback" not in far.far.log


def has_let_go(pid: int, before: Held) -> bool:
    return not Held(pid).exceeds(before)


def readable(path: Path) -> bool:
    """Past the kernel's memory of it."""
    try:
        with path.open("rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            stream.read()
    except OSError:
        return False
    return True
