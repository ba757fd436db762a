"""The process that fetches for a daemon: what becomes of readers, of the cache and of it when one of the two ends."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from artfs.model.digests import BLOCK_SIZE
from artfs.testing.corner import Corner
from artfs.testing.farside import FarWorkspace, check_sound, open_files
from artfs.testing.mount import Daemon
from artfs.testing.store_contract import some_bytes
from artfs.testing.trees import make
from artfs.testing.waiting import until

SMALL = {f"d{number % 5}/f{number:03}": some_bytes(3000 + number, seed=number) for number in range(200)}
LARGE = {f"large{number}": some_bytes(9 * BLOCK_SIZE + 77, seed=500 + number) for number in range(4)}
PLAN = {**SMALL, **LARGE, "huge": some_bytes(80 * BLOCK_SIZE, seed=600)}
HAS_ENDED = r"the process that fetches has ended"


@pytest.fixture
def root(far: FarWorkspace, project: str, tmp_path: Path) -> Path:
    """Where a version will be mounted of which the workstation has seen nothing: another one logs it, past the proxy."""
    assert far.far.process is not None
    elsewhere = FarWorkspace(far=far.far, extra={"ARTFS_SERVER": far.far.process.url})
    try:
        Corner(Daemon(elsewhere), project).log(make(tmp_path / "v0", PLAN), refresh=False)
    finally:
        elsewhere.remove()
    return Path(project) / "c" / "latest"


def helper_of(daemon: Daemon) -> int | None:
    return cast("int | None", daemon.status()["transfers"]["process"])


def is_there(pid: int) -> bool:
    """And not only because nobody has waited for it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def read_all(root: Path) -> dict[str, bytes]:
    return {name: (root / name).read_bytes() for name in PLAN}


def kill_when(far: FarWorkspace, nbytes: int, pid: int) -> threading.Thread:
    """Kills the process once so many bytes have come; to be joined."""

    def kill() -> None:
        until(lambda: far.far.proxy.counts().down > nbytes, "bytes come")
        os.kill(pid, signal.SIGKILL)

    made = threading.Thread(target=kill)
    made.start()
    return made


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.7])
def test_readers_do_not_notice_that_it_is_killed(
    far: FarWorkspace, far_daemon: Daemon, project: str, root: Path, share: float
) -> None:
    """At any moment: the daemon fetches itself from then on, what has not come as well."""
    far_daemon.expect_log(HAS_ENDED)
    pid = helper_of(far_daemon)
    assert pid is not None
    far.far.proxy.reset_counts()
    far.far.proxy.set_direction("down", rate=60_000_000)
    if share:
        killer = kill_when(far, int(share * sum(map(len, PLAN.values()))), pid)
    else:
        os.kill(pid, signal.SIGKILL)
        until(lambda: helper_of(far_daemon) is None, "the daemon has noticed it")
    assert read_all(far_daemon.mountpoint / root) == PLAN
    if share:
        killer.join()
    until(lambda: helper_of(far_daemon) is None, "the daemon has noticed it")
    assert not is_there(pid)
    check_sound(far, project, far_daemon)


def test_it_ends_with_the_daemon(far: FarWorkspace, far_daemon: Daemon, project: str, root: Path) -> None:
    """Also when that is killed; what had come is in the cache of the next."""
    pid = helper_of(far_daemon)
    assert pid is not None
    for name in SMALL:
        (far_daemon.mountpoint / root / name).read_bytes()
    far_daemon.kill()
    until(lambda: not is_there(pid), "it ends")
    far.far.proxy.reset_counts()
    far_daemon.start()
    for name, data in SMALL.items():
        assert (far_daemon.mountpoint / root / name).read_bytes() == data
    assert far.far.proxy.counts().down < sum(map(len, SMALL.values())) / 2
    check_sound(far, project, far_daemon)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_what_is_sent_to_both_ends_the_daemon_in_order(far_daemon: Daemon, root: Path, number: signal.Signals) -> None:
    """Ctrl-C at a terminal, and systemd, signal all processes: readers are answered to the end."""
    pid = helper_of(far_daemon)
    assert pid is not None
    (far_daemon.mountpoint / root / "large0").read_bytes()
    os.killpg(far_daemon.pid, number)
    assert far_daemon.wait() == 0
    assert not is_there(pid)


@pytest.mark.parametrize("size", ["0", "1000000"])
def test_without_room_in_the_cache(
    far: FarWorkspace, make_daemon: Callable[..., Daemon], project: str, root: Path, size: str
) -> None:
    """What it has checked is handed over in memory."""
    daemon = make_daemon(far, environ={"ARTFS_CACHE_SIZE": size}).start()
    assert read_all(daemon.mountpoint / root) == PLAN
    assert helper_of(daemon) is not None
    check_sound(far, project, daemon)


def test_it_keeps_no_files_open_that_nobody_reads(
    far: FarWorkspace, far_daemon: Daemon, project: str, root: Path, tmp_path: Path
) -> None:
    pid = helper_of(far_daemon)
    assert pid is not None
    for name in [*LARGE, "huge"]:
        with (far_daemon.mountpoint / root / name).open("rb") as stream:
            stream.seek(BLOCK_SIZE)
            stream.read(10)
    until(lambda: open_files(pid)["blob"] >= len(LARGE) + 1, "it has them open")
    # A daemon keeps blobs that were closed until names move.
    Corner(far_daemon, project).log(make(tmp_path / "v1", {"x": "x"}))
    until(lambda: not open_files(pid)["blob"], "it has let go of them")
