"""Reading through a network that goes wrong, in each of the ways that there are: what can be mended is, what cannot is an errno
in time, and no wrong byte reaches a reader."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import pytest

from artfs.model.digests import BLOCK_SIZE
from artfs.model.records import Member
from artfs.testing.corner import Corner
from artfs.testing.farside import LIMIT_S, FarWorkspace, at_most, check_sound, readable
from artfs.testing.faultproxy import Fault, answer, garbage
from artfs.testing.mount import Daemon
from artfs.testing.store_contract import some_bytes
from artfs.testing.torture import Tally
from artfs.testing.trees import make
from artfs.testing.waiting import until

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


@pytest.mark.parametrize("match", [RANGES, SMALLS, TREES])
def test_wrong_bytes_reach_no_reader(
    far: FarWorkspace, start: Callable[..., Daemon], project: str, tmp_path: Path, match: str
) -> None:
    """A server, or somebody before it, that never sends what was asked for: EIO, and the log says of what. Not a byte of it is
    kept."""
    member = log(far, project, tmp_path / "v0")
    daemon = start()
    daemon.expect_log("a server sent wrong bytes")
    daemon.expect_log("fetching (blocks|[0-9]+ small|the tree).*(damaged|came wrong)")
    daemon.expect_log(r"local/.*/c:v0/(big|d0/f000) cannot be read: blob [0-9a-f]{64} (is damaged in block 0|came wrong)")
    daemon.expect_log("request .* (came wrong|is damaged)")
    far.far.proxy.add(Fault("corrupt", after=100, match=match, times=None))
    root = daemon.mountpoint / project / "c" / "latest"
    name = "big" if match == RANGES else "d0/f000"
    assert errno_of(lambda: (root / name).read_bytes()) == errno.EIO
    tree = f"{member.version.digest}.*came wrong"
    damaged = {RANGES: "blob .* is damaged in block 0", SMALLS: "blob .* came wrong", TREES: tree}
    assert re.search(damaged[match], daemon.log())
    assert far.check_cache().damaged == []
    far.far.heal()
    until(lambda: readable(root / name), "what went wrong is forgotten")
    assert read_all(root) == {**SMALL, "big": BIG}
    check_sound(far, project, daemon)


def test_a_place_that_is_not_good_any_more_is_asked_for_again(
    far: FarWorkspace, start: Callable[..., Daemon], project: str, tmp_path: Path
) -> None:
    log(far, project, tmp_path / "v0")
    daemon = start()
    root = daemon.mountpoint / project / "c" / "latest"
    with (root / "big").open("rb") as stream:
        assert stream.read(10) == BIG[:10]
        gone = '{"kind": "not-found", "message": "this object is not there any more"}'
        far.far.proxy.reset_counts()  # before: what the kernel reads ahead may be under way
        far.far.proxy.add(answer(404, gone, match=RANGES, Content_Type="application/json"))
        assert stream.read() == BIG[10:]
    asked = far.far.proxy.counts()
    assert asked.faults == 1
    assert [line for line in asked.recent if line.startswith(PLACES)]
    check_sound(far, project, daemon)


@pytest.mark.parametrize("kind", ["cut", "reset"])
def test_a_cut_transfer_goes_on_where_it_stopped(
    far: FarWorkspace, start: Callable[..., Daemon], project: str, tmp_path: Path, kind: Literal["cut", "reset"]
) -> None:
    """No byte comes twice, but those that the network had under way when it was reset: what a kernel has received and
    nobody has read yet is lost with a connection that is reset, however much that is; one that is closed gives it out."""
    log(far, project, tmp_path / "v0")
    daemon = start(**PATIENT)
    root = daemon.mountpoint / project / "c" / "latest"
    os.listdir(root)
    far.far.proxy.reset_counts()
    far.far.proxy.add(Fault(kind, after=200_000, match=RANGES, times=24))
    assert (root / "big").read_bytes() == BIG
    counts = far.far.proxy.counts()
    assert counts.faults > 10
    if kind == "cut":
        assert counts.down < 1.1 * len(BIG) + 100_000
    check_sound(far, project, daemon)


def test_a_slow_link_is_slow_and_no_more(
    far: FarWorkspace, start: Callable[..., Daemon], project: str, tmp_path: Path
) -> None:
    """All together takes several times the limit of a system call."""
    log(far, project, tmp_path / "v0")
    daemon = start()
    far.far.proxy.set_direction("down", rate=700_000)
    root = daemon.mountpoint / project / "c" / "latest"
    begun = time.monotonic()
    assert read_all(root) == {**SMALL, "big": BIG}
    assert time.monotonic() - begun > 2 * LIMIT_S
    check_sound(far, project, daemon)


def test_a_link_that_is_too_slow_is_an_error_in_time(
    far: FarWorkspace, start: Callable[..., Daemon], project: str, tmp_path: Path
) -> None:
    """A block would take a minute. The kernel's second try is answered at once, from memory."""
    log(far, project, tmp_path / "v0")
    daemon = start()
    root = daemon.mountpoint / project / "c" / "latest"
    os.listdir(root)
    daemon.expect_log("no answer within 4 s")
    daemon.expect_log("fetching blocks .*: an answer came too slowly")
    daemon.expect_log("did not come from the server in time|came too slowly")
    daemon.expect_log("can(not)? be reached")  # at 4 kB a second the stream of events may be silent for too long, too
    far.far.proxy.set_direction("down", rate=4_000)
    with at_most(LIMIT_S):
        assert errno_of(lambda: (root / "big").read_bytes()) == errno.ETIMEDOUT
    far.far.heal()
    until(lambda: readable(root / "big"), "what went wrong is forgotten")
    check_sound(far, project, daemon)


# a server that is not there ----------------------------------------------------------------------------------------------
def test_a_server_that_is_killed_and_started_again_while_it_is_read(
    far: FarWorkspace, start: Callable[..., Daemon], project: str, tmp_path: Path
) -> None:
    log(far, project, tmp_path / "v0")
    daemon = start(**PATIENT)
    daemon.expect_log("can(not)? be reached")
    root = daemon.mountpoint / project / "c" / "latest"
    far.far.proxy.set_direction("down", rate=3_000_000)
    found: dict[str, bytes] = {}
    reader = threading.Thread(target=lambda: found.update(read_all(root)))
    far.far.proxy.reset_counts()
    reader.start()
    until(lambda: far.far.proxy.counts().down > 1_000_000, "some of it has come")
    far.far.kill()
    time.sleep(0.5)  # for tries that fail
    far.far.start()
    reader.join()
    assert found == {**SMALL, "big": BIG}
    check_sound(far, project, daemon)


def test_a_mount_begins_without_its_server(
    far: FarWorkspace, make_daemon: MakeDaemon, project: str, tmp_path: Path
) -> None:
    """Names that nobody saw yet are EHOSTUNREACH, in time; drafts work; and all is there once the server is."""
    log(far, project, tmp_path / "v0")
    far.far.go_away()
    daemon = make_daemon(far)
    with at_most(1):
        daemon.start()
    daemon.expect_log("cannot be reached|can be reached again|does not answer")
    with at_most(LIMIT_S):
        assert errno_of(lambda: os.listdir(daemon.mountpoint)) == errno.EHOSTUNREACH
    far.far.heal()
    until(lambda: readable(daemon.mountpoint / project / "c" / "latest" / "big"), "the names are there")
    assert {"drafts", project} <= set(os.listdir(daemon.mountpoint))
    check_sound(far, project, daemon)


def test_a_silent_server_holds_up_nothing(
    far: FarWorkspace, start: Callable[..., Daemon], project: str, tmp_path: Path
) -> None:
    """Nobody is told that nothing comes. What is here is read meanwhile as always, however many wait; each who waits gets an
    errno in time, and the next one at once."""
    for name in ("one", "two"):
        plan = {f"d{number}/file": f"{name} {number}" for number in range(40)}
        assert far.far.process is not None
        elsewhere = FarWorkspace(far=far.far, extra={"ARTFS_SERVER": far.far.process.url})
        Corner(Daemon(elsewhere), project).log(make(tmp_path / name, {**plan, "big": BIG}), name, refresh=False)
        elsewhere.remove()
    daemon = start()
    daemon.expect_log("cannot be reached|can be reached again|no answer within|does not answer|did not come")
    one, two = (daemon.mountpoint / project / name / "latest" for name in ("one", "two"))
    # What was asked before that counts as old from then on.
    until(lambda: daemon.status()["server"]["events"], "it hears of what changes")
    read_all(one)
    os.listdir(two)
    time.sleep(0.5)  # until trees that were asked for ahead are through
    far.far.proxy.silence()
    said: list[int] = []
    waiting = [
        threading.Thread(target=lambda at=at: said.append(errno_of(lambda: (two / f"d{at}" / "file").read_bytes())))
        for at in range(40)
    ]
    with at_most(LIMIT_S):
        for thread in waiting:
            thread.start()
        until(lambda: daemon.status()["in_flight"] >= 40, "all of them wait", LIMIT_S)
        with at_most(-3):
            assert read_all(one)["big"] == BIG
            (daemon.mountpoint / "drafts" / project / "c").mkdir(parents=True)
            (daemon.mountpoint / "drafts" / project / "c" / "file").write_text("written meanwhile")
        for thread in waiting:
            thread.join()
    assert set(said) <= {errno.EHOSTUNREACH, errno.ETIMEDOUT}
    with at_most(-3):
        assert errno_of(lambda: (two / "d0" / "file").read_bytes()) in (errno.EHOSTUNREACH, errno.ETIMEDOUT)
    shown = daemon.status()["server"]
    assert not shown["online"]
    far.far.heal()
    until(lambda: daemon.status()["server"]["online"], "it is back")
    until(lambda: all(readable(two / f"d{at}" / "file") for at in range(40)), "what went wrong is forgotten")
    assert read_all(two).keys() == read_all(one).keys()
    check_sound(far, project, daemon)


def has(path: Path, text: str) -> bool:
    return path.read_text() == text


def test_names_move_while_pages_are_on_their_way(
    far: FarWorkspace, start: Callable[..., Daemon], project: str, tmp_path: Path, tally: Tally
) -> None:
    """What tells the kernel that a name has moved waits for no read, and no read for it: each reader gets one version to its
    end, and each look finds the newest."""
    contents = [BIG, some_bytes(len(BIG), seed=6)]
    assert far.far.process is not None
    elsewhere = FarWorkspace(far=far.far, extra={"ARTFS_SERVER": far.far.process.url})
    corner = Corner(Daemon(elsewhere), project)
    members = [
        corner.log(make(tmp_path / str(number), {"big": content, "which": str(number)}), refresh=False)
        for number, content in enumerate(contents)
    ]
    wrong: list[str] = []

    def read(at: int) -> None:
        # Not mapped: a page fault would hold this process's interpreter lock.
        with (root / "big").open("rb", buffering=0) as stream:
            # From the end and from the beginning, so that reads are scattered and in flight at once.
            for index in range(len(BIG) // BLOCK_SIZE)[:: 1 if at % 2 else -1]:
                place = index * BLOCK_SIZE + at
                if os.pread(stream.fileno(), 100, place) not in [content[place : place + 100] for content in contents]:
                    wrong.append(f"reader {at} at {place}")
            if stream.readall() not in contents:
                wrong.append(f"reader {at} got a mixture")

    with corner.session() as session:
        session.catalog.set_aliases(members[0].id, add=["moving"])
        daemon = start(**PATIENT)
        root = daemon.mountpoint / project / "c" / "moving"
        for number in range(2):
            assert (root.parent / f"v{number}" / "which").read_text() == str(number)
        far.far.proxy.add(Fault("stall", after=1_000, match=RANGES, times=None))
        readers = [threading.Thread(target=read, args=(at,), daemon=True) for at in range(8)]
        for reader in readers:
            reader.start()
        # Those who want the same page are one request.
        until(lambda: daemon.status()["in_flight"] >= 2, "they wait")
        moves = 20
        for move in range(1, moves + 1):
            session.catalog.set_aliases(members[move % 2].id, add=["moving"])
            with at_most(1):
                until(partial(has, root / "which", str(move % 2)), "the move is seen")
        assert daemon.status()["in_flight"] >= 2
        far.far.proxy.clear()
        far.far.proxy.cut_now()
        for reader in readers:
            reader.join()
    elsewhere.remove()
    assert not wrong
    daemon.expect_log("cannot be reached|can be reached again")
    tally("moves of an alias while pages of it are on their way", moves)
    check_sound(far, project, daemon)


def test_the_end_does_not_wait_for_a_silent_server(
    far: FarWorkspace, start: Callable[..., Daemon], project: str, tmp_path: Path
) -> None:
    log(far, project, tmp_path / "v0")
    daemon = start(**PATIENT)
    root = daemon.mountpoint / project / "c" / "latest"
    os.listdir(root)
    far.far.proxy.silence()
    readers = [
        subprocess.Popen(["cat", str(root / name)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for name in ("big", "d0/f000", "d1/f001")
    ]
    daemon.expect_log("this process ends|can(not)? be reached")
    until(lambda: daemon.status()["in_flight"] >= 3, "they wait")
    with at_most(0):
        assert daemon.terminate() == 0
        for reader in readers:
            assert reader.wait(30) != 0
    far.far.heal()
    check_sound(far, project)
