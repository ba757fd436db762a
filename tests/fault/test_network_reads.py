"""Reading through a network that goes wrong, in each of the ways that there are: what can be mended is, what cannot is an errno
in time, and no wrong byte reaches a reader."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from artfs.model.digests import BLOCK_SIZE
from artfs.model.records import Member
from artfs.testing.corner import Corner
from artfs.testing.farside import LIMIT_S, FarServer, FarWorkspace, at_most, check_sound, open_files, until
from artfs.testing.faultproxy import Fault, answer, garbage, html_page
from artfs.testing.mount import Daemon
from artfs.testing.store_contract import some_bytes
from artfs.testing.trees import make

MakeDaemon = Callable[..., Daemon]

BIG = some_bytes(24 * BLOCK_SIZE + 77, seed=5)
SMALL = {f"d{number % 4}/f{number:03}": some_bytes(2000 + number, seed=number) for number in range(60)}
PATIENT = {"ARTFS_DEADLINE_S": "60", "ARTFS_NETWORK_TIMEOUT_S": "60"}
"""For faults after which a try later all is well: tests tell whether it was, not how fast."""

RANGES, SMALLS, TREES, PLACES = "GET /v1/objects", "POST /v1/blobs/read", "POST /v1/trees", "POST /v1/blobs/locate"


def log(far: FarWorkspace, project: str, folder: Path) -> Member:
    """A version that nothing of the workstation has seen: another one logs it, past the proxy."""
    plan = {**SMALL, "big": BIG}
    assert far.far.process is not None
    elsewhere = FarWorkspace(far=far.far)
    elsewhere.extra = {"ARTFS_SERVER": far.far.process.url}
    try:
        return Corner(Daemon(elsewhere), project).log(make(folder, plan), refresh=False)
    finally:
        elsewhere.remove()


def read_all(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*")) if path.is_file()
    }


def errno_of(read: Callable[[], object]) -> int:
    with pytest.raises(OSError) as caught:
        read()
    assert caught.value.errno is not None
    return caught.value.errno


@pytest.fixture
def start(far: FarWorkspace, make_daemon: MakeDaemon) -> Callable[..., Daemon]:
    """`start(**environ)`: a daemon."""
    return lambda **environ: make_daemon(far, environ=environ).start()


# what goes better the next time ---------------------------------------------------------------------------------------
ONCE = {
    "cut before the answer": lambda match: [Fault("cut", match=match)],
    "cut in the middle": lambda match: [Fault("cut", after=1_500, match=match, times=3)],
    "reset in the middle": lambda match: [Fault("reset", after=1_500, match=match, times=3)],
    "reset in the question": lambda match: [Fault("reset", side="up", match=match)],
    "stalled": lambda match: [Fault("stall", after=1_000, match=match)],
    "500": lambda match: [answer(500, "<html>oops", match=match)],
    "502 of a proxy": lambda match: [answer(502, "bad gateway", match=match, times=2)],
    "503 and 429, later": lambda match: [answer(429 if match in (RANGES, TREES) else 503, "x", match=match, Retry_After="1")],
    "garbage": lambda match: [garbage(match=match)],
    "wrong bytes": lambda match: [Fault("corrupt", after=700, match=match)],
}


@pytest.mark.parametrize("what", ONCE)
def test_what_goes_wrong_once_is_not_noticed(
    far: FarWorkspace, start: Callable[..., Daemon], project: str, tmp_path: Path, what: str
) -> None:
    """In trees, in small blobs, where blobs are, and in ranges of a large one."""
    log(far, project, tmp_path / "v0")
    limit = "8" if what == "stalled" else "60"  # a third of it is waited for an answer that does not come
    daemon = start(ARTFS_DEADLINE_S=limit, ARTFS_NETWORK_TIMEOUT_S=limit)
    for match in (RANGES, SMALLS, TREES, PLACES):
        far.far.proxy.add(*ONCE[what](match))
    if what == "wrong bytes":
        daemon.expect_log("a server sent wrong bytes")
    root = daemon.mountpoint / project / "c" / "latest"
    assert read_all(root) == {**SMALL, "big": BIG}
    counts = far.far.proxy.counts()
    assert counts.faults >= 4, counts
    daemon.expect_log("cannot be reached")
    check_sound(far, project, daemon)
