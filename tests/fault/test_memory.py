"""Memory, descriptors and threads of a daemon are bounded, however much is looked at and however long it runs."""

from __future__ import annotations

import os
import random
import subprocess
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from artfs.testing.cgroup import MemoryGroup
from artfs.testing.corner import Corner
from artfs.testing.farside import FarWorkspace, open_files, thread_names
from artfs.testing.kernelcaches import drop_caches
from artfs.testing.mount import Daemon, Workspace
from artfs.testing.torture import Tally
from artfs.testing.trees import make
from artfs.testing.waiting import until
from artfs.testing.wide import log_wide

MakeDaemon = Callable[..., Daemon]
Scale = Callable[[int, int], int]

LIMIT = 300 * 1000 * 1000
"""Resident bytes of a daemon at the most."""

NOISE = 12 * 1000 * 1000
"""What a second round of the same may add: buffers that are as large as they ever were, arenas of malloc."""

POOLED = 8
"""Descriptors of the catalog's connections, which are opened when they are first needed at once: four, a database and its log."""

GROUP = 512 * 1024 * 1024
READERS = 256


def peak(daemon: Daemon) -> int:
    """Resident bytes at the most since the last `forget_peak`."""
    for line in Path(f"/proc/{daemon.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")


def forget_peak(daemon: Daemon) -> None:
    Path(f"/proc/{daemon.pid}/clear_refs").write_text("5")


def what_it_holds(daemon: Daemon) -> tuple[Counter[str], list[str]]:
    """What a daemon has open, and its threads. Those of trio come and go, up to its limit."""
    return open_files(daemon.pid), [name for name in thread_names(daemon.pid) if not name.startswith("Trio")]


def holds_no_more(daemon: Daemon, before: tuple[Counter[str], list[str]]) -> bool:
    """Than before, but for connections of the catalog that were needed for the first time."""
    files, threads = what_it_holds(daemon)
    return threads == before[1] and (files - before[0]).total() <= POOLED


def count(root: Path) -> int:
    done = subprocess.run(f"find {root} -type f -size 1c | wc -l", shell=True, capture_output=True, text=True)
    assert done.stderr == ""
    return int(done.stdout)


@pytest.mark.parametrize("shape", ["folders", "folder"])
def test_a_walk_of_a_million_files(daemon: Daemon, scale: Scale, shape: str, tally: Tally) -> None:
    """In a thousand folders, and in one. What the kernel forgets the daemon forgets; a second walk adds nothing."""
    files = scale(20_000, 1_000_000)
    corner = Corner(daemon, "p")
    log_wide(corner, "c", files=files, folders=scale(50, 1000) if shape == "folders" else 0)
    root = corner.path / "c" / "v0"
    os.listdir(daemon.mountpoint)
    fresh, held = daemon.status(), what_it_holds(daemon)
    sizes = []
    for _ in range(2):
        forget_peak(daemon)
        assert count(root) == files
        sizes.append(peak(daemon))
        tally("files that were looked at, before and after all was forgotten", files)

        def is_forgotten() -> bool:
            drop_caches()  # each time a few names may get a second chance
            status = daemon.status()
            # The names above the version may stay.
            return status["listings"]["listings"] <= fresh["listings"]["listings"] and status["inodes"] <= fresh["inodes"] + 4

        until(is_forgotten, "what the kernel forgets is forgotten")
        assert daemon.status()["handles"] == {"files": 0, "directories": 0}
        until(lambda: holds_no_more(daemon, held), f"descriptors and threads are {held}")
    assert max(sizes) < LIMIT, sizes
    assert sizes[1] < sizes[0] + NOISE, sizes


def read_at_random(paths: list[Path], nbytes: int, seed: int) -> None:
    """Pieces of files, past the kernel's pages of them."""
    chance = random.Random(seed)
    while nbytes > 0:
        path = chance.choice(paths)
        with path.open("rb", buffering=0) as stream:
            size = os.fstat(stream.fileno()).st_size
            at = chance.randrange(0, size, 4096)
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            data = os.pread(stream.fileno(), 1 << 20, at)
        assert data == pattern(at, size), (path, at)
        nbytes -= len(data)


STRIPE = bytes(range(256)) * (1 << 12)


def pattern(at: int, size: int) -> bytes:
    """The bytes of a large file from `at` on, up to a megabyte: its own numbers, so that each piece is another one."""
    stop = min(at + (1 << 20), size)
    first = at // 4096
    blocks = (number.to_bytes(8, "little") + STRIPE[:4088] for number in range(first, -(-stop // 4096)))
    return b"".join(blocks)[at - first * 4096 : stop - first * 4096]


def make_large(folder: Path, files: int, size: int) -> Path:
    folder.mkdir()
    for number in range(files):
        with (folder / f"large{number}").open("wb") as stream:
            for at in range(0, size - 4096 * number, 1 << 20):
                stream.write(pattern(at, size - 4096 * number))  # each a content of its own
    return folder


def read_by_many(root: Path, nbytes: int) -> None:
    """READERS threads read `nbytes` in all. What went wrong is raised."""
    wrong: list[BaseException] = []
    paths = sorted(root.iterdir())

    def work(number: int) -> None:
        try:
            read_at_random(paths, nbytes // READERS, number)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(READERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, wrong[:3]


def test_many_readers_of_large_files(daemon: Daemon, scale: Scale, tmp_path: Path, tally: Tally) -> None:
    corner = Corner(daemon, "p")
    corner.log(make_large(tmp_path / "source", 4, scale(12, 250) << 20))
    root = corner.path / "c" / "v0"
    nbytes = scale(256, 4000) << 20
    read_by_many(root, nbytes)
    first, held = peak(daemon), what_it_holds(daemon)
    read_by_many(root, nbytes)
    assert peak(daemon) < min(LIMIT, first + NOISE), (first, peak(daemon))
    assert holds_no_more(daemon, held), (what_it_holds(daemon), held)
    tally("megabytes read by 256 at once", 2 * nbytes >> 20)


def test_a_weeks_worth_of_alias_moves(daemon: Daemon, scale: Scale, tmp_path: Path, tally: Tally) -> None:
    """One a minute, while somebody looks below the alias each time, somebody stands in an old one, and a file of it is open."""
    moves = scale(200, 7 * 24 * 60)
    corner = Corner(daemon, "p")
    members = [
        corner.log(make(tmp_path / f"v{number}", {"folder/file": str(number), **{f"n{n}": f"{number}" for n in range(50)}}))
        for number in range(2)
    ]
    root = corner.path / "c" / "moving"
    held = []
    sizes: list[int] = []
    with corner.session() as session:
        for move in range(moves):
            session.catalog.set_aliases(members[move % 2].id, add=["moving"])
            corner.refresh()
            assert (root / "folder" / "file").read_text() == str(move % 2)
            if move == 0:
                standing = os.open(root, os.O_RDONLY)
                opened = (root / "n7").open("rb", buffering=0)
            if move % 10 == 0:
                assert len(os.listdir(root)) == 51
            if move + 1 in (moves // 4, moves):
                until(lambda: drop_caches() or daemon.status()["inodes"] < 40, "old directories are forgotten")
                held.append(what_it_holds(daemon))
                sizes.append(peak(daemon))
    assert opened.read() == b"0"
    assert sorted(os.listdir(standing))[0] == "folder"
    opened.close()
    os.close(standing)
    (files, threads), (files_later, threads_later) = held
    assert threads == threads_later
    assert (files_later - files).total() <= POOLED, (files, files_later)
    assert sizes[1] < min(LIMIT, sizes[0] + NOISE), sizes
    tally("moves of an alias", moves)


@pytest.mark.parametrize("where", ["embedded", "server"])
def test_it_works_in_half_a_gigabyte(
    request: pytest.FixtureRequest, make_daemon: MakeDaemon, scale: Scale, tmp_path: Path, project: str, where: str, tally: Tally
) -> None:
    """A cgroup that holds the daemon (with a server, the process that fetches as well), and the pages of what it reads from its
    disk."""
    workspace: Workspace = request.getfixturevalue("workspace" if where == "embedded" else "far")
    each = scale(25 if where == "embedded" else 8, 250) << 20
    source = make_large(tmp_path / "source", 4, each)
    if isinstance(workspace, FarWorkspace):
        elsewhere = FarWorkspace(far=workspace.far)
        with closing(_Removed(elsewhere)):
            Corner(Daemon(elsewhere), project).log(source, refresh=False)
    daemon = make_daemon(workspace)
    with MemoryGroup(GROUP) as group:
        command = group.command(daemon.command())
        daemon.command = lambda: command  # type: ignore[method-assign]
        try:
            daemon.start()
            corner = Corner(daemon, project)
            if where == "embedded":
                corner.log(source)
            nbytes = scale(128, 2000) << 20
            read_by_many(corner.path / "c" / "v0", nbytes)
            draft = corner.begin("d")
            (draft / "file").write_bytes(pattern(0, 1 << 20) * scale(20, 800))
            assert corner.commit("d").version == "v0"
            assert (group.killed, daemon.is_running) == (0, True)
            assert peak(daemon) < LIMIT
            tally("megabytes read by 256 at once, in a cgroup of 512 MB", nbytes >> 20)
        finally:
            daemon.close()
            until(lambda: (group.path / "cgroup.procs").read_text() == "", "all of it has ended")


class _Removed:
    def __init__(self, workspace: Workspace) -> None:
        self.close = workspace.remove
