"""What must be true of a mountpoint, and the tuning of a fresh mount. Nothing here touches a living mount of ours."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import logging
import os
import stat
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from artfs.errors import AlreadyMountedError, MountpointError, StorageError

log = logging.getLogger(__name__)

READ_AHEAD_KB = 4096
REMOTE_READ_AHEAD_KB = 32
"""With a server the daemon reads ahead itself, and knows better. What the kernel asks for around a page that somebody
touches is fetched in blocks of 256 KiB, and a window that reaches into the next block doubles what is moved."""
MAX_BACKGROUND = 64
CONGESTION_THRESHOLD = 48


def resolve(path: str) -> str:
    """The absolute mountpoint, its last part untouched (it may be a dead mount, which cannot be looked at)."""
    given = Path(os.path.abspath(path))
    return str(given.parent.resolve() / given.name)


def check_apart(mountpoint: str, home: Path) -> None:
    """The state folder may not be in the mount (the daemon would wait for itself), nor the mount in the state folder."""
    place, state = Path(mountpoint), home.resolve()
    if place == state or place in state.parents:
        raise MountpointError(f"the state folder {home} is below the mountpoint {mountpoint}; move one of them")
    if state in place.parents:
        raise MountpointError(f"the mountpoint {mountpoint} is inside the state folder {home}; choose another one")


def mount_id(mountpoint: str) -> str:
    return hashlib.sha256(os.fsencode(mountpoint)).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Mounted:
    device: str
    kind: str


def find_mount(mountpoint: str) -> Mounted | None:
    """What is mounted there, by the kernel's table."""
    found = None
    wanted = mountpoint.replace("\\", "\\134").replace(" ", "\\040").replace("\t", "\\011").replace("\n", "\\012")
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        for line in table:
            fields = line.split(" ")
            if fields[4] == wanted:
                found = Mounted(fields[2], fields[fields.index("-") + 1])
    return found


def lock(run_path: Path, mountpoint: str) -> int:
    """One daemon a mountpoint: holds until the process ends. AlreadyMountedError when another one has it; StorageError."""
    path = run_path / f"{mount_id(mountpoint)}.lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageError.wrap(error, "locking the mountpoint") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise AlreadyMountedError(
            f"{mountpoint} is served by a running artfs already; see `artfs status`, or `artfs umount {mountpoint}` first"
        ) from None
    return descriptor


def prepare(mountpoint: str, *, was_killed: bool = False) -> None:
    """Checks that a file system can be mounted there; clears what a killed daemon left. `was_killed`: the last daemon of this
    mountpoint was; then what programs have written into the bare folder since is set aside, as nobody is there to do it.
    Raises MountpointError, AlreadyMountedError."""
    mounted = find_mount(mountpoint)
    if mounted is not None and mounted.kind.startswith("fuse"):
        if not _is_dead(mountpoint):
            raise AlreadyMountedError(f"a {mounted.kind} file system is mounted at {mountpoint} already; unmount it first")
        log.info("clearing the stale mount at %s, whose daemon is gone", mountpoint)
        detach(mountpoint)
    try:
        status = os.stat(mountpoint)
    except FileNotFoundError:
        raise MountpointError(f"the mountpoint {mountpoint} does not exist; `mkdir -p {mountpoint}` makes it") from None
    except OSError as error:
        raise MountpointError(f"cannot use the mountpoint {mountpoint}: {error.strerror}") from error
    if not stat.S_ISDIR(status.st_mode):
        raise MountpointError(f"the mountpoint {mountpoint} is not a directory")
    try:
        if was_killed and os.listdir(mountpoint):
            _set_aside(mountpoint)
        if os.listdir(mountpoint):
            raise MountpointError(f"the mountpoint {mountpoint} is not empty; mount on an empty directory")
    except PermissionError:
        raise MountpointError(f"the mountpoint {mountpoint} cannot be read; you must own it") from None
    if not os.access(mountpoint, os.W_OK):
        raise MountpointError(f"you may not write to the mountpoint {mountpoint}; choose a directory of your own")


def _set_aside(mountpoint: str) -> None:
    """Moves what is in the bare folder to a new one beside it, of which the log tells; empty folders only go. What cannot be
    moved stays."""
    _remove_empty(mountpoint)
    left = os.listdir(mountpoint)
    if not left:
        return
    aside = f"{mountpoint}.found-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
    try:
        os.mkdir(aside, 0o700)
        for name in left:
            os.rename(f"{mountpoint}/{name}", f"{aside}/{name}")
    except OSError as error:
        log.error("cannot move what was written to %s while nothing was mounted there: %s", mountpoint, error)
    else:
        log.warning("what was written to %s while nothing was mounted there is in %s now", mountpoint, aside)


def _remove_empty(folder: str) -> None:
    """Removes folders below `folder` in which there is no file at all. Best effort."""
    for path, _, _ in os.walk(folder, topdown=False):
        if path != folder:
            with contextlib.suppress(OSError):
                os.rmdir(path)


def _is_dead(mountpoint: str) -> bool:
    """Whether the daemon behind the mount is gone. Asked by another process, with a limit: a living one may be
    stuck."""
    try:
        done = subprocess.run(
            ["stat", "-f", "--", mountpoint],
            capture_output=True,
            timeout=10,
            check=False,
            env={"LC_ALL": "C", "PATH": os.defpath},
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode != 0 and os.strerror(errno.ENOTCONN).encode() in done.stderr


def detach(mountpoint: str) -> None:
    """Takes a dead mount away. Raises MountpointError."""
    commands = [["fusermount3", "-u", "-z", "--", mountpoint]]
    if os.geteuid() == 0:
        commands.append(["umount", "-l", "--", mountpoint])
    said = ""
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        if done.returncode == 0:
            return
        said = done.stderr.strip()
    raise MountpointError(f"cannot clear the dead mount at {mountpoint}: {said}")


def tune(mountpoint: str, read_ahead_kb: int) -> dict[str, str]:
    """Sets read-ahead and the connection's limits where this user may. Returns what is in force, for the status: a number, and
    where it is not what was wished, why."""
    mounted = find_mount(mountpoint)
    if mounted is None:
        return {}
    minor = mounted.device.partition(":")[2]
    wishes = {
        "read_ahead_kb": (Path(f"/sys/class/bdi/{mounted.device}/read_ahead_kb"), read_ahead_kb),
        "max_background": (Path(f"/sys/fs/fuse/connections/{minor}/max_background"), MAX_BACKGROUND),
        "congestion_threshold": (Path(f"/sys/fs/fuse/connections/{minor}/congestion_threshold"), CONGESTION_THRESHOLD),
    }
    found = {}
    for name, (path, wish) in wishes.items():
        refused = ""
        try:
            path.write_text(str(wish))
        except OSError as error:
            refused = error.strerror or str(error)
            if not path.parent.exists():
                refused = "the control file system of FUSE is not mounted (mount -t fusectl none /sys/fs/fuse/connections)"
        try:
            value = path.read_text().strip()
        except OSError:
            value = "unknown"
        found[name] = value if value == str(wish) or not refused else f"{value}, not {wish}: {refused}"
        log.info("%s: %s", name, found[name])
    return found
