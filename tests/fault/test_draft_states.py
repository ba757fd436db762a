"""A draft and a tmpfs, driven side by side by any sequence of system calls."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from artfs.model.entry import link_stays_inside
from artfs.testing.account import ROOT
from artfs.testing.corner import Corner
from artfs.testing.mount import Daemon
from artfs.testing.posixside import Side, fallocate
from artfs.testing.torture import Tally
from artfs.testing.trees import Link, Plan, make, picture

PLAN: Plan = {
    "a": b"0123456789",
    "b*": "#!/bin/sh\n",
    "c/a": bytes(range(256)) * 5000,
    "c/b": b"",
    "c/d/a": b"x" * 5000,
    "d": None,
    "e": Link("c/d"),
}
"""What a draft that began as a version inherits."""

NAMES = ("a", "b", "c", "d", "e")
LONG = "n" * 255


class Nth(int):
    """The path of the nth name that is there, counted on for ever."""


PATHS = st.one_of(
    st.integers(0, 40).map(Nth),
    st.integers(0, 40).map(Nth),
    st.sampled_from((*NAMES, "c/a", "c/b", "c/d", "c/d/a")),
    st.sampled_from((*NAMES, "c/a", "c/d", "c/d/a", "d/a", "d/b", "d/c", "new", "c/new")),
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map("/".join),
    st.sampled_from(("a/", "d/", "c/..", "c/.", ".", LONG, LONG + "n", "d/\N{SNOWMAN}", "e/a", "e/..", "c/../d/a")),
)
TARGETS = st.sampled_from(("a", "c", "c/d/a", "b/a", "nowhere", "e"))  # none that could lead out of the draft and its peer
CREATE = os.O_CREAT | os.O_EXCL
FLAGS = st.tuples(
    st.sampled_from((os.O_RDONLY, os.O_WRONLY, os.O_RDWR)),
    st.sampled_from((0, 0, os.O_CREAT, os.O_CREAT, CREATE, os.O_TRUNC, os.O_CREAT | os.O_TRUNC, os.O_DIRECTORY)),
    st.sampled_from((0, 0, 0, os.O_APPEND, os.O_NOFOLLOW, os.O_SYNC, os.O_PATH)),
).map(sum)
MODES = st.sampled_from((0o644, 0o755, 0o600, 0o444, 0o700, 0o111, 0o000, 0o4755, 0o2711, 0o1777))
OFFSETS = st.sampled_from((0, 1, 5, 4095, 4096, 5000, 70_000, 1_300_000))
SIZES = st.sampled_from((0, 1, 7, 4096, 4097, 70_000, 1_280_000))
DATA = st.tuples(st.binary(min_size=1, max_size=6), st.sampled_from((1, 1, 900, 30_000))).map(lambda pair: pair[0] * pair[1])
TIMES = st.integers(1_000_000_000, 1_600_000_000)
OWNERS = st.sampled_from((-1, 0, 7, 2**32 - 2))
SLOTS = st.integers(0, 9)

Refused = Callable[[Path], object]

DIFFERENCES: dict[str, tuple[int, Refused]] = {
    "O_TMPFILE": (errno.EOPNOTSUPP, lambda path: os.open(path.parent, os.O_TMPFILE | os.O_RDWR)),
    "fallocate": (errno.EOPNOTSUPP, lambda path: on_open(path, lambda fd: fallocate(fd, 0, 0, 9000))),
    "punching holes": (errno.EOPNOTSUPP, lambda path: on_open(path, lambda fd: fallocate(fd, 3, 0, 5))),
    "FIFOs": (errno.EPERM, lambda path: os.mkfifo(path.parent / "fifo")),
    "devices": (errno.EPERM, lambda path: os.mknod(path.parent / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))),
    "extended attributes of files": (errno.EOPNOTSUPP, lambda path: os.setxattr(path, "user.some", b"x")),
    "the name .artfs-base": (errno.EPERM, lambda path: os.mkdir(path.parent / ".artfs-base")),
    "links into /.artfs/": (errno.EPERM, lambda path: os.symlink("/.artfs/x", path.parent / "link")),
}
"""All that a draft refuses and a tmpfs does: with which errno, and how it is asked for with a file that exists.
docs/known-issues.md tells why. Each must change nothing, which the comparison that goes on shows."""


def on_open(path: Path, call: Callable[[int], object]) -> None:
    fd = os.open(path, os.O_RDWR)
    try:
        call(fd)
    finally:
        os.close(fd)


class Beside(RuleBasedStateMachine):
    """`corner` and `peers` are of the class, set by the test: where drafts are begun, and a folder of a tmpfs."""

    corner: Corner
    peers: Path
    tally: Tally
    serial = itertools.count()

    @initialize(inherits=st.booleans())
    def begin(self, inherits: bool) -> None:
        self.mask = os.umask(0o022)
        self.corner = Corner(type(self).corner.daemon, f"s{next(self.serial)}")
        peer = Path(tempfile.mkdtemp(dir=self.peers))
        peer.chmod(0o755)
        if inherits:
            make(peer, PLAN)
            self.corner.log(peer)
        self.draft = self.corner.begin("c:latest" if inherits else "c")
        self.ours, self.theirs = Side(self.draft), Side(peer)
        self.inherited = {str(path.relative_to(peer)) for path in peer.rglob("*")}

    def both(self, call: str, *arguments: Any) -> Any:
        """Does it on both sides; both must answer the same. Returns the answer, None for an errno."""
        self.tally("system calls on a draft and a tmpfs, side by side")
        there = sorted(str(path.relative_to(self.theirs.root)) for path in self.theirs.root.rglob("*")) or ["none"]
        arguments = tuple(there[one % len(there)] if isinstance(one, Nth) else one for one in arguments)
        answers = []
        for side in (self.theirs, self.ours):
            try:
                answers.append(("is", getattr(side, call)(*arguments)))
            except OSError as error:
                answers.append(("fails", errno.errorcode.get(error.errno or 0)))
        assert answers[1] == answers[0], f"{call}{arguments}: {answers[1]} instead of {answers[0]}"
        return answers[0][1] if answers[0][0] == "is" else None

    def slot(self, number: int, slots: list[Any]) -> int:
        return number % len(slots)

    @property
    def has_open(self) -> bool:
        return bool(self.theirs.open_files)

    # open files -------------------------------------------------------------------------------------------------------
    @rule(path=PATHS, flags=FLAGS, mode=MODES)
    def open(self, path: str, flags: int, mode: int) -> None:
        self.both("open", path, flags, mode)
        assert len(self.ours.open_files) == len(self.theirs.open_files)

    @rule(path=PATHS)
    def open_to_read_and_write(self, path: str) -> None:
        self.both("open", path, os.O_RDWR | os.O_CREAT, 0o644)

    @precondition(lambda self: self.has_open)
    @rule(number=SLOTS)
    def close(self, number: int) -> None:
        self.both("close", self.slot(number, self.theirs.open_files))

    @precondition(lambda self: self.has_open)
    @rule(number=SLOTS, at=OFFSETS, size=SIZES)
    def read(self, number: int, at: int, size: int) -> None:
        self.both("read", self.slot(number, self.theirs.open_files), at, size)

    @precondition(lambda self: self.has_open)
    @rule(number=SLOTS, at=OFFSETS, data=DATA)
    def write(self, number: int, at: int, data: bytes) -> None:
        self.both("write", self.slot(number, self.theirs.open_files), at, data)

    @precondition(lambda self: self.has_open)
    @rule(number=SLOTS, data=DATA)
    def write_on(self, number: int, data: bytes) -> None:
        self.both("write_on", self.slot(number, self.theirs.open_files), data)

    @precondition(lambda self: self.has_open)
    @rule(number=SLOTS, size=SIZES)
    def ftruncate(self, number: int, size: int) -> None:
        self.both("ftruncate", self.slot(number, self.theirs.open_files), size)

    @precondition(lambda self: self.has_open)
    @rule(number=SLOTS, data_only=st.booleans())
    def fsync(self, number: int, data_only: bool) -> None:
        self.both("fsync", self.slot(number, self.theirs.open_files), data_only)

    @precondition(lambda self: self.has_open)
    @rule(number=SLOTS)
    def look_at_what_is_open(self, number: int) -> None:
        slot = self.slot(number, self.theirs.open_files)
        self.both("fstat", slot)
        self.both("list_open", slot)
        if not stat.S_ISDIR(os.fstat(self.theirs.open_files[slot]).st_mode):  # where a directory ends is its own affair
            self.both("seek_end", slot)

    @precondition(lambda self: self.has_open)
    @rule(number=SLOTS, mode=MODES)
    def fchmod(self, number: int, mode: int) -> None:
        self.both("fchmod", self.slot(number, self.theirs.open_files), mode)

    @precondition(lambda self: self.has_open)
    @rule(number=SLOTS, seconds=TIMES)
    def futime(self, number: int, seconds: int) -> None:
        self.both("futime", self.slot(number, self.theirs.open_files), seconds)

    @precondition(lambda self: self.has_open)
    @rule(number=SLOTS, other=SLOTS, size=SIZES, at=OFFSETS, to=OFFSETS)
    def copy_range(self, number: int, other: int, size: int, at: int, to: int) -> None:
        slots = self.theirs.open_files
        self.both("copy_range", self.slot(number, slots), self.slot(other, slots), size, at, to)

    @precondition(lambda self: self.has_open)
    @rule(number=SLOTS, name=st.sampled_from(NAMES))
    def make_in_an_open_directory(self, number: int, name: str) -> None:
        self.both("make_in", self.slot(number, self.theirs.open_files), name)

    # maps -------------------------------------------------------------------------------------------------------------
    @precondition(lambda self: self.has_open)
    @rule(number=SLOTS, write=st.booleans())
    def map(self, number: int, write: bool) -> None:
        self.both("map", self.slot(number, self.theirs.open_files), write)
        assert len(self.ours.maps) == len(self.theirs.maps)

    @precondition(lambda self: self.theirs.maps)
    @rule(number=SLOTS, at=OFFSETS, size=SIZES)
    def read_map(self, number: int, at: int, size: int) -> None:
        self.both("reads_map", self.slot(number, self.theirs.maps), at, size)

    @precondition(lambda self: self.theirs.maps)
    @rule(number=SLOTS, at=OFFSETS, data=DATA)
    def write_map(self, number: int, at: int, data: bytes) -> None:
        self.both("writes_map", self.slot(number, self.theirs.maps), at, data)

    @precondition(lambda self: self.theirs.maps)
    @rule(number=SLOTS)
    def unmap(self, number: int) -> None:
        self.both("unmap", self.slot(number, self.theirs.maps))

    # names ------------------------------------------------------------------------------------------------------------
    @rule(path=PATHS, mode=MODES)
    def mkdir(self, path: str, mode: int) -> None:
        self.both("mkdir", path, mode & 0o777)

    @rule(path=PATHS)
    def rmdir(self, path: str) -> None:
        self.both("rmdir", path)

    @rule(path=PATHS)
    def unlink(self, path: str) -> None:
        self.both("unlink", path)

    @rule(old=PATHS, new=PATHS)
    def rename(self, old: str, new: str) -> None:
        self.both("rename", old, new)

    @rule(old=PATHS, new=PATHS)
    def rename_noreplace(self, old: str, new: str) -> None:
        self.both("rename_noreplace", old, new)

    @rule(one=PATHS, other=PATHS)
    def rename_exchange(self, one: str, other: str) -> None:
        self.both("rename_exchange", one, other)

    @rule(old=PATHS, new=PATHS)
    def link(self, old: str, new: str) -> None:
        self.both("link", old, new)

    @rule(leads=TARGETS, path=PATHS)
    def symlink(self, leads: str, path: str) -> None:
        self.both("symlink", leads, path)

    @rule(path=PATHS, mode=MODES)
    def mknod(self, path: str, mode: int) -> None:
        self.both("mknod", path, mode)

    # attributes -------------------------------------------------------------------------------------------------------
    @rule(path=PATHS, other=PATHS)
    def look(self, path: str, other: str) -> None:
        for call in ("lstat", "stat", "contents", "listing", "readlink", "statfs"):
            self.both(call, path)
        for mode in (os.F_OK, os.R_OK, os.W_OK, os.X_OK):
            self.both("access", path, mode)
        self.both("samefile", path, other)
        self.both("getxattr", path, "user.none")
        self.both("removexattr", path, "user.none")

    @rule(path=PATHS, mode=MODES)
    def chmod(self, path: str, mode: int) -> None:
        self.both("chmod", path, mode)

    @rule(path=PATHS, uid=OWNERS, gid=OWNERS, follow=st.booleans())
    def chown(self, path: str, uid: int, gid: int, follow: bool) -> None:
        self.both("chown", path, uid, gid, follow)

    @rule(path=PATHS, seconds=TIMES, follow=st.booleans())
    def utime(self, path: str, seconds: int, follow: bool) -> None:
        self.both("utime", path, seconds, follow)

    @rule(path=PATHS)
    def touch(self, path: str) -> None:
        self.both("touch", path)

    @rule(path=PATHS, size=SIZES)
    def truncate(self, path: str, size: int) -> None:
        self.both("truncate", path, size)

    @rule(mask=st.sampled_from((0, 0o022, 0o077)))
    def umask(self, mask: int) -> None:
        os.umask(mask)

    @rule(what=st.sampled_from(sorted(DIFFERENCES)))
    def is_refused(self, what: str) -> None:
        number, call = DIFFERENCES[what]
        if self.both("open", "asked", os.O_CREAT | os.O_RDWR, 0o644) is None:
            return  # something else was exchanged with it
        self.tally("what a draft refuses")
        with pytest.raises(OSError) as raised:
            call(self.draft / "asked")
        assert raised.value.errno == number

    # the end ----------------------------------------------------------------------------------------------------------
    def teardown(self) -> None:
        if not hasattr(self, "ours"):
            return
        try:
            os.umask(self.mask)
            for side in (self.theirs, self.ours):
                make_fit(side.root)
            assert picture(self.ours.root) == picture(self.theirs.root)
        finally:
            self.ours.end()
            self.theirs.end()
        self.corner.commit(self.draft.name)
        self.tally("drafts committed after that, compared again")
        assert picture(self.corner.path / "c" / "latest") == picture(self.theirs.root)
        shutil.rmtree(self.theirs.root)


def make_fit(root: Path) -> None:
    """For a version: no link leads out of it."""
    for path in root.rglob("*"):
        where = tuple(os.fsencode(part) for part in path.relative_to(root).parts[:-1])
        if path.is_symlink() and not link_stays_inside(where, os.fsencode(os.readlink(path))):
            path.unlink()


def test_any_system_calls_do_the_same_in_a_draft_and_in_a_tmpfs(
    daemon: Daemon, tally: Tally, scale: Callable[[int, int], int]
) -> None:
    with tempfile.TemporaryDirectory(prefix="artfs-peer-", dir="/dev/shm") as peers:
        Beside.corner, Beside.peers, Beside.tally = Corner(daemon, "p"), Path(peers), tally
        run_state_machine_as_test(  # type: ignore[no-untyped-call]
            Beside,
            settings=settings(
                max_examples=scale(10, 100),
                derandomize=bool(scale(1, 0)),  # chance has its time in the full form
                stateful_step_count=scale(40, 80),
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
                phases=(Phase.generate,),  # making an example smaller takes minutes: add Phase.shrink for that
            ),
        )


def test_every_difference_is_documented() -> None:
    table = (ROOT / "docs" / "known-issues.md").read_text(encoding="utf-8")
    for what, (number, _) in DIFFERENCES.items():
        (row,) = [line for line in table.splitlines() if line.startswith(f"| {what} in a draft")]
        assert f"| {errno.errorcode[number].replace('ENOTSUP', 'EOPNOTSUPP')}" in row
