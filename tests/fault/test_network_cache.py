"""The cache of a workstation, whose daemon is killed while it fills it, and whose files are damaged: what is served is right, and
what was damaged is fetched again."""

from __future__ import annotations

import os
import random
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from artfs.model.digests import BLOCK_SIZE
from artfs.testing.corner import Corner
from artfs.testing.crash import Toll
from artfs.testing.farside import FarWorkspace, check_sound
from artfs.testing.mount import Daemon
from artfs.testing.store_contract import some_bytes
from artfs.testing.trees import make
from artfs.testing.waiting import until

KILLS = 20
SMALL = {f"d{number % 4}/f{number:03}": some_bytes(2000 + number, seed=number) for number in range(80)}
LARGE = {f"large{number}": some_bytes(8 * BLOCK_SIZE + 77, seed=100 + number) for number in range(3)}
PLAN = {**SMALL, **LARGE, "huge": some_bytes(48 * BLOCK_SIZE, seed=200)}
NBYTES = sum(map(len, PLAN.values()))


def log(far: FarWorkspace, project: str, folder: Path) -> None:
    """A version that nothing of the workstation has seen: another one logs it, past the proxy."""
    assert far.far.process is not None
    elsewhere = FarWorkspace(far=far.far, extra={"ARTFS_SERVER": far.far.process.url})
    try:
        Corner(Daemon(elsewhere), project).log(make(folder, PLAN), refresh=False)
    finally:
        elsewhere.remove()


def read_all(root: Path) -> dict[str, bytes]:
    return {name: (root / name).read_bytes() for name in PLAN}


def test_a_daemon_that_is_killed_while_it_fetches(
    far: FarWorkspace, project: str, tmp_path: Path, make_daemon: Callable[..., Daemon], chance: random.Random, toll: Toll
) -> None:
    """Nothing of what is in the cache is wrong, and the next daemon goes on with it. Every fourth time the cache is empty."""
    log(far, project, tmp_path / "v0")
    daemon = make_daemon(far)
    daemon.expect_log("can(not)? be reached")
    root = daemon.mountpoint / project / "c" / "latest"
    proxy = far.far.proxy
    found = 0
    for number in range(KILLS):
        if number % 4 == 0:
            shutil.rmtree(far.path / "cache")
        daemon.start()
        proxy.set_direction("down", rate=40_000_000)
        proxy.reset_counts()
        names = chance.sample(sorted(PLAN), len(PLAN))
        readers = [threading.Thread(target=read_some, args=(root, names[start::3])) for start in range(3)]
        for reader in readers:
            reader.start()
        # What is here already is not fetched: the share that is waited for is one of the rest.
        goal = chance.uniform(0, 0.3) * NBYTES
        while proxy.counts().down < goal and any(map(threading.Thread.is_alive, readers)):
            time.sleep(0.005)
        daemon.kill()
        toll.count("daemon of a server", "fetching")
        for reader in readers:
            reader.join()
        checked = far.check_cache()
        assert checked.damaged == []
        found += checked.checked + checked.unknown > 0
    assert found > KILLS / 2
    proxy.set_direction("down")
    daemon.start()
    assert read_all(root) == PLAN
    check_sound(far, project, daemon)


def read_some(root: Path, names: list[str]) -> None:
    """Until the mount is dead. What comes is right."""
    with suppress(OSError):
        for name in names:
            assert (root / name).read_bytes() == PLAN[name]


# damage ------------------------------------------------------------------------------------------------------------------
def flip(path: Path) -> None:
    """A byte in the middle."""
    with path.open("r+b") as stream:
        stream.seek(path.stat().st_size // 2)
        (byte,) = stream.read(1)
        stream.seek(-1, os.SEEK_CUR)
        stream.write(bytes([byte ^ 0xFF]))


def zero(path: Path) -> None:
    """The size is right, and no byte: as after a power cut."""
    with path.open("r+b") as stream:
        stream.write(bytes(path.stat().st_size))


def tear(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def swap(path: Path) -> None:
    """With another file of its kind, if there is one: `damage_all` calls it for one after the other."""
    others = sorted(other for other in path.parent.rglob("*") if other.is_file() and other.suffix == path.suffix)
    if path.parent.parent.name == "blobs":
        others = sorted(path.parent.parent.glob("*/*"))
    other = others[others.index(path) - 1]
    if other == path:
        return  # there is none
    aside = path.with_name("aside")
    path.rename(aside)
    other.rename(path)
    aside.rename(other)


DAMAGES = [flip, zero, tear, empty, swap, Path.unlink]


def damage_all(folder: Path, damage: Callable[[Path], None]) -> list[Path]:
    """Every file below it. As a disk does it: the kernel remembers nothing of them."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    if damage is swap:
        paths = paths[:-1]  # all of them in a circle would be back where they were when there are two
    for path in paths:
        path.chmod(0o600)
        fd = os.open(path, os.O_RDONLY)
        damage(path)
        os.fsync(fd)  # only what is on the disk can be forgotten
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)
    return paths


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("running", [True, False], ids=["while a daemon runs", "while none runs"])
def test_what_is_damaged_in_the_cache_is_fetched_again(
    far: FarWorkspace, project: str, tmp_path: Path, make_daemon: Callable[..., Daemon],
    damage: Callable[[Path], None], running: bool,
) -> None:
    """Packs of small blobs and trees, large blobs, and parts of large ones; the log tells."""
    log(far, project, tmp_path / "v0")
    daemon = make_daemon(far).start()
    root = daemon.mountpoint / project / "c" / "latest"
    for name in (*SMALL, *LARGE):
        assert (root / name).read_bytes() == PLAN[name]
    with (root / "huge").open("rb") as stream:
        assert stream.read(BLOCK_SIZE) == PLAN["huge"][:BLOCK_SIZE]
    until(lambda: not daemon.status()["transfers"]["under_way"], "all transfers have ended")
    if running:
        for name in PLAN:  # the kernel has it all
            fd = os.open(root / name, os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)
    else:
        assert daemon.terminate() == 0
    for folder in ("packs", "blobs", "partial"):
        assert damage_all(far.path / "cache" / folder, damage) or damage is swap, folder
    daemon.expect_log("damaged; (it is|they are) fetched again")
    if not running:
        daemon.start()
    far.far.proxy.reset_counts()
    assert read_all(root) == PLAN
    if damage not in (Path.unlink, swap):
        assert "damaged; " in daemon.log()
        assert daemon.status()["transfers"]["damaged"] >= len(LARGE)
    far.check_cache()  # takes away what nobody read
    check_sound(far, project, daemon)
