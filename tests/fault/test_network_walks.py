"""Programs that read many small files through a mount: what comes next is there already, so requests are few."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from artfs.model.digests import BLOCK_SIZE
from artfs.testing.corner import Corner
from artfs.testing.farside import FarServer, FarWorkspace, check_sound
from artfs.testing.mount import Daemon
from artfs.testing.store_contract import some_bytes
from artfs.testing.torture import Tally
from artfs.testing.trees import make
from artfs.testing.waiting import until

FOLDERS, FILES = 12, 200
PLAN = {
    f"d{folder:02}/f{number:03}": some_bytes(600 + number, seed=folder * FILES + number)
    for folder in range(FOLDERS) for number in range(FILES)
}
"""Folders of so many entries have several pages, of which each must come before what it names can be asked for."""


@pytest.fixture
def daemon(far: FarWorkspace, project: str, tmp_path: Path, make_daemon: Callable[..., Daemon]) -> Daemon:
    """Of a workstation that has seen nothing of the version project/c:latest, which has PLAN."""
    assert far.far.process is not None
    elsewhere = FarWorkspace(far=far.far)
    elsewhere.extra = {"ARTFS_SERVER": far.far.process.url}
    try:
        Corner(Daemon(elsewhere), project).log(make(tmp_path / "v0", PLAN), refresh=False)
    finally:
        elsewhere.remove()
    far.far.proxy.set_link(delay_s=0.005)
    return make_daemon(far, environ={"ARTFS_DEADLINE_S": "60", "ARTFS_NETWORK_TIMEOUT_S": "60"}).start()


def read(root: Path, names: list[str], threads: int) -> None:
    with ThreadPoolExecutor(threads) as pool:
        for name, data in zip(names, pool.map(lambda name: (root / name).read_bytes(), names), strict=True):
            assert data == PLAN[name], name


@pytest.mark.parametrize(("threads", "most"), [(1, 80), (16, 90)])
def test_a_reader_of_all_files_in_order_asks_seldom(
    far: FarWorkspace, daemon: Daemon, project: str, threads: int, most: int
) -> None:
    root = daemon.mountpoint / project / "c" / "latest"
    read(root, sorted(PLAN), threads)
    transfers = daemon.status()["transfers"]
    assert transfers["requests"] <= most, transfers
    assert transfers["waited"] < len(PLAN) / 4, transfers
    far.far.heal()
    check_sound(far, project, daemon)


def test_a_reader_of_all_files_in_any_order_asks_seldom(far: FarWorkspace, daemon: Daemon, project: str) -> None:
    names = sorted(PLAN)
    random.Random(3).shuffle(names)
    read(daemon.mountpoint / project / "c" / "latest", names, 8)
    transfers = daemon.status()["transfers"]
    assert transfers["requests"] <= len(PLAN) / 8, transfers
    far.far.heal()
    check_sound(far, project, daemon)


def test_a_reader_of_a_few_files_moves_few(far: FarWorkspace, daemon: Daemon, project: str) -> None:
    """One of each folder, in order: neither the rest of a folder nor the next folder is fetched."""
    names = [f"d{folder:02}/f{(folder * 37) % FILES:03}" for folder in range(FOLDERS)]
    read(daemon.mountpoint / project / "c" / "latest", names, 1)
    nbytes = daemon.status()["transfers"]["nbytes"]
    trees = 4 * 80 * len(PLAN)
    assert nbytes < trees + 4 * sum(len(PLAN[name]) for name in names)
    far.far.heal()
    check_sound(far, project, daemon)


def test_the_first_read_finds_connections(
    bucket_server: FarServer, workspaces: ExitStack, project: str, tmp_path: Path, make_daemon: Callable[..., Daemon]
) -> None:
    """Whoever looks for a name has connections made to the server and to its bucket: two, as the first block of a large file
    and its block list come at the same time."""
    workspace = FarWorkspace(far=bucket_server)
    workspaces.callback(workspace.remove)
    data = some_bytes(20_000_000, seed=5)
    elsewhere = FarWorkspace(far=bucket_server)
    workspaces.callback(elsewhere.remove)
    Corner(Daemon(elsewhere), project).log(make(tmp_path / "v0", {"file": data}), refresh=False)
    bucket = bucket_server.bucket
    assert bucket is not None
    bucket.reset_counts()
    daemon = make_daemon(workspace).start()
    path = daemon.mountpoint / project / "c" / "latest" / "file"
    assert path.stat().st_size == len(data)
    until(lambda: bucket.counts().recent.count("GET /") == 2, "connections to the bucket")
    time.sleep(1.0)  # the answers are read, and their connections free
    made = [proxy.counts().connections for proxy in bucket_server.proxies()]
    with path.open("rb", buffering=0) as stream:
        stream.seek(12_345_678)
        assert stream.read(4096) == data[12_345_678 : 12_345_678 + 4096]
    assert [proxy.counts().connections for proxy in bucket_server.proxies()] == made
    check_sound(workspace, project, daemon)


READER = """
import sys
from pathlib import Path
Path("/proc/self/comm").write_text(sys.argv[1])
for path in sys.argv[2:]:
    with open(path, "rb", buffering=0) as stream:
        stream.read(4096)
"""


def read_as(program: str, *paths: Path) -> None:
    """Reads the beginnings of files, as a process that the kernel calls `program`."""
    done = subprocess.run([sys.executable, "-c", READER, program, *paths], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_walk_that_reads_no_file_moves_no_file(far: FarWorkspace, daemon: Daemon, project: str, tally: Tally) -> None:
    """updatedb, `find -ls`, `du`, `ls -lR`: trees and nothing else, once."""
    root = daemon.mountpoint / project
    done = subprocess.run(["find", root, "-ls"], capture_output=True, text=True)
    assert done.stdout.count("\n") >= 2 * len(PLAN)  # latest, v0
    transfers = daemon.status()["transfers"]
    assert transfers["reads"] == 0
    with daemon.counting() as counts:
        for command in (["du", "-a"], ["ls", "-lR"]):
            assert subprocess.run([*command, root], stdout=subprocess.DEVNULL).returncode == 0
    assert counts["read"] == counts["open"] == 0
    again = daemon.status()["transfers"]
    assert (again["nbytes"], again["reads"]) == (transfers["nbytes"], 0)
    assert not list(far.settings.cache_path.glob("partial/*"))
    tally("walks that read no file", 3)


def test_indexers_and_backups_get_nothing_ahead(far: FarWorkspace, daemon: Daemon, project: str, tally: Tally) -> None:
    """They get what they read, and others everything as ever."""
    root = daemon.mountpoint / project / "c" / "latest"
    assert subprocess.run(["find", root], stdout=subprocess.DEVNULL).returncode == 0
    names = sorted(PLAN)
    begun = daemon.status()["transfers"]["nbytes"]
    read_as("restic", *(root / name for name in names[: FILES // 2]))
    moved = daemon.status()["transfers"]["nbytes"] - begun
    assert moved <= sum(len(PLAN[name]) for name in names[: FILES // 2])
    begun = daemon.status()["transfers"]["nbytes"]
    others = names[FILES : FILES + FILES // 2]
    read_as("cat", *(root / name for name in others))
    until(
        lambda: daemon.status()["transfers"]["nbytes"] - begun > sum(len(PLAN[name]) for name in others) * 1.5,
        "files are fetched ahead",
    )
    far.far.heal()
    check_sound(far, project, daemon)
    tally("files read by a backup", FILES // 2)


@pytest.mark.parametrize(("program", "most"), [("restic", 2), ("cat", 64)])
def test_of_a_large_file_an_indexer_gets_the_blocks_that_it_reads(
    far: FarWorkspace, project: str, tmp_path: Path, make_daemon: Callable[..., Daemon], program: str, most: int
) -> None:
    """`file`, thumbnails: the beginning. Somebody else who reads a file of 4 MiB from its beginning gets all of it."""
    assert far.far.process is not None
    elsewhere = FarWorkspace(far=far.far)
    try:
        Corner(Daemon(elsewhere), project).log(make(tmp_path / "v0", {"large": some_bytes(4 << 20, seed=1)}), refresh=False)
    finally:
        elsewhere.remove()
    daemon = make_daemon(far).start()
    path = daemon.mountpoint / project / "c" / "latest" / "large"
    path.stat()
    begun = daemon.status()["transfers"]["nbytes"]
    read_as(program, path)
    if program == "cat":
        until(lambda: daemon.status()["transfers"]["nbytes"] - begun >= 4 << 20, "the rest is fetched ahead")
    assert daemon.status()["transfers"]["nbytes"] - begun <= most * BLOCK_SIZE
