"""What Linux says about mounts and about who uses them, read from /proc without touching the mounts
themselves (a mount whose daemon hangs would hang the reader)."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class MountInfo:
    """A line of mountinfo: where, its file system type ("fuse.artfs") and its source as the mounting program
    named it."""

    mountpoint: str
    fstype: str
    source: str
    device: str

    @property
    def is_artfs(self) -> bool:
        return self.fstype == "fuse.artfs" or (
            self.fstype.startswith("fuse") and self.source.startswith("artfs")
        )


def mounts() -> list[MountInfo]:
    """Every mount that this process sees; of several on one mountpoint the last one is the one seen."""
    found = []
    for line in (PROC / "self/mountinfo").read_text(errors="surrogateescape").splitlines():
        # "36 35 98:0 /root /mnt opts tag:1 - fstype source superopts": the optional fields end at the lone
        # "-".
        left, _, right = line.partition(" - ")
        fields, rest = left.split(), right.split()
        found.append(MountInfo(_unescape(fields[4]), rest[0], _unescape(rest[1]), fields[2]))
    return found


def try_mount(mountpoint: Path) -> MountInfo | None:
    """What is mounted at `mountpoint` (as `resolve_mountpoint` gives it), or None."""
    wanted = str(mountpoint)
    return next((mount for mount in reversed(mounts()) if mount.mountpoint == wanted), None)


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def resolve_mountpoint(path: str | os.PathLike[str]) -> Path:
    """`path` absolute and without symbolic links, found without a request to what is mounted there."""
    absolute = Path(os.path.abspath(path))
    with contextlib.suppress(OSError):
        # readlink of a mounted directory is answered by the kernel alone (EINVAL), unlike stat.
        target = os.readlink(absolute)
        return resolve_mountpoint(absolute.parent / target)
    return absolute.parent.resolve() / absolute.name if absolute.name else absolute


def probe(path: Path, timeout_s: float) -> int | None:
    """The errno of a system call on `path` (0: done), made by a child so that a hanging mount cannot hang us;
    None when there was no answer within `timeout_s`. A child that the kernel does not let go is left
    behind."""
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _PROBE, os.fspath(path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
    )
    try:
        return child.wait(timeout_s)
    except subprocess.TimeoutExpired:
        child.kill()
        # Popen warns in its destructor about a child that still runs; this one may not end before the mount
        # does.
        child.returncode = -1
        return None


_PROBE = """
import os, sys
try:
    os.stat(sys.argv[1])
    # The kernel may answer stat from its cache, and does so even for a dead mount; this it passes on.
    os.statvfs(sys.argv[1])
except OSError as error:
    sys.exit(error.errno)
"""


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that keeps a mount busy: `how` is "works in", "has open", "runs" or "maps"; `path` is
    where."""

    pid: int
    command: str
    how: str
    path: str


def holders(mountpoint: Path, *, skip: frozenset[int] = frozenset()) -> list[Holder]:
    """Who uses what is below `mountpoint`, one entry a process, as far as we may look into them."""
    found = []
    for entry in PROC.iterdir():
        if entry.name.isdigit() and int(entry.name) not in skip:
            with contextlib.suppress(OSError):  # it ended meanwhile, or is another user's
                use = next(_uses(entry, str(mountpoint)), None)
                if use is not None:
                    command = (entry / "comm").read_text(errors="replace").strip()
                    found.append(Holder(int(entry.name), command, *use))
    return sorted(found, key=lambda holder: holder.pid)


def _uses(process: Path, mountpoint: str) -> Iterator[tuple[str, str]]:
    def below(path: str) -> bool:
        return path == mountpoint or path.startswith(mountpoint.rstrip("/") + "/")

    for link, how in (("cwd", "works in"), ("root", "works in"), ("exe", "runs")):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a kernel thread has none
            if below(target := os.readlink(process / link)):
                yield how, target
    for descriptor in os.listdir(process / "fd"):
        with contextlib.suppress(OSError):  # closed meanwhile
            if below(target := os.readlink(process / "fd" / descriptor)):
                yield "has open", target
    for line in (process / "maps").read_text(errors="surrogateescape").splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and below(fields[5]):
            yield "maps", fields[5]


def is_running(pid: int) -> bool:
    """Whether process `pid` lives; one that ended and was not waited for does not."""
    try:
        stat = (PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESRCH):
            return False
        raise
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")
