"""What a folder that artfs keeps things in must be: of a format that this program knows, and on a disk on which SQLite's locks
and maps work.

Each folder (the state folder, its store, its drafts, a cache) has a file `.format`: JSON, whose number says how what is below
it is laid out. It is raised when an older program would misread the folder. A folder without one was made before there were such
files, and has format 1. What is older is brought up to date by whoever opens it (the catalog and the cache's index after a copy
was made of them); what is newer is refused and not touched.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

from artfs.errors import CorruptError, StateVersionError, StorageError, UsageError

Part = Literal["state", "store", "drafts", "cache"]

FORMATS: Final[dict[Part, int]] = {"state": 1, "store": 1, "drafts": 1, "cache": 1}
"""What this program reads and writes."""

NAME: Final = ".format"

NETWORK_KINDS: Final = frozenset(
    ["nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "afs", "coda", "lustre", "fuse.artfs"]
    + [f"fuse.{name}" for name in ("blobfuse", "blobfuse2", "ceph-fuse", "davfs", "gcsfuse", "glusterfs", "goofys", "juicefs",
                                   "mfs", "mountpoint-s3", "rclone", "s3fs", "seaweedfs", "sshfs", "virtiofs")]
)  # fmt: skip
"""File systems, as /proc/mounts names them, on which other machines may write the same files: their locks do not hold everywhere,
and maps of one machine do not show what another one wrote. SQLite's write-ahead log needs both
(https://www.sqlite.org/wal.html, https://www.sqlite.org/howtocorrupt.html, 2.1)."""

# linux/magic.h, and those file systems' own sources
_MAGIC = {
    0x6969: "nfs", 0xFF534D42: "cifs", 0xFE534D42: "smb3", 0x517B: "smbfs", 0x01021997: "9p", 0x00C36400: "ceph",
    0x5346414F: "afs", 0x6B414653: "afs", 0x73757245: "coda", 0x0BD00BD0: "lustre",
}  # fmt: skip
_FUSE = 0x65735546


def check_format(folder: str | os.PathLike[str], part: Part) -> None:
    """Raises StateVersionError when a newer artfs made the folder, CorruptError when nobody can tell, StorageError. A folder that
    says nothing gets the number of this program, if it may be written to."""
    path = os.path.join(os.fspath(folder), NAME)
    known = FORMATS[part]
    try:
        with open(path, "rb") as stream:
            data = stream.read(4096)
    except FileNotFoundError:
        _write(path, known)
        return
    except OSError as error:
        raise StorageError.wrap(error, f"reading {path}") from error
    if not data:  # a power cut after it was made
        _write(path, known)
        return
    try:
        found = json.loads(data)["format"]
        if not isinstance(found, int) or found < 1:
            raise ValueError(f"{found!r} is no format")
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptError(
            f"{path} is damaged ({error}): if no newer artfs has used {folder}, remove that file; otherwise update artfs"
        ) from error
    if found > known:
        raise StateVersionError(
            f"{folder} was made by a newer artfs (its format is {found}, this program knows {known}): update artfs"
        )


def _write(path: str, number: int) -> None:
    aside = f"{path}.{os.getpid()}"
    with contextlib.suppress(OSError):  # full, or read-only for this user: it counts as what it is without the file
        try:
            with open(aside, "x", encoding="ascii") as stream:
                stream.write(f'{{"format": {number}}}\n')
                stream.flush()
                os.fsync(stream.fileno())  # or a power cut leaves the name and zeros
            os.replace(aside, path)
        except OSError:
            os.unlink(aside)
            raise


def kind_of_disk(path: str | os.PathLike[str]) -> str:
    """The type of the file system of `path` (or of the nearest folder above it that exists), as /proc/mounts names it where
    it is one of those that matter here; "" of all others. Raises StorageError."""
    there = _existing(Path(path).absolute())
    number = _magic_of(there)
    if number == _FUSE:
        return _mounted_type(there.resolve())
    return _MAGIC.get(number, "")


def _existing(path: Path) -> Path:
    return next(place for place in (path, *path.parents) if os.path.lexists(place))


def _magic_of(path: Path) -> int:
    """statfs(2)'s f_type, its first field, which Python does not tell."""
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = (ctypes.c_ulong * 64)()
    if libc.statfs(os.fsencode(path), buffer) != 0:
        raise StorageError.wrap(OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno())), f"looking at the disk of {path}")
    return int(buffer[0]) & 0xFFFFFFFF


def _mounted_type(path: Path) -> str:
    best, kind = "", "fuse"
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        left, _, right = line.partition(" - ")
        place = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), left.split()[4])
        # Of several at one place the last one is seen.
        if len(place) >= len(best) and path.is_relative_to(place):
            best, kind = place, right.split()[0]
    return kind


def check_disk(
    folder: str | os.PathLike[str], setting: str, kind_of: Callable[[str | os.PathLike[str]], str] = kind_of_disk
) -> None:
    """Raises UsageError when SQLite is not safe in `folder`, which `setting` names; StorageError."""
    kind = kind_of(folder)
    if kind in NETWORK_KINDS:
        raise UsageError(
            f"{folder} is on a file system ({kind}) on which SQLite's locks are not safe: "
            f"set {setting} to a folder on a disk of this machine"
        )
