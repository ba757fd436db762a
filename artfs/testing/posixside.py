"""One side of a comparison of two file systems: system calls below a root, with answers that can be compared.

What is compared is what a program can rely on: errno values, bytes, sizes, kinds, permission bits, owners, link counts of files,
whether two names are one file, times that were set. Inode numbers, block counts, and link counts and sizes of directories are
each file system's own.
"""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from artfs.testing.syscalls import RENAME_EXCHANGE, RENAME_NOREPLACE, libc, renameat2

RECENT_NS = 1_700_000_000 * 10**9
"""Times before this one were set by the test; all others are "now", which differs between two sides."""


def brief(data: bytes) -> str:
    """Of long data its length and digest."""
    return data.hex() if len(data) <= 16 else f"{len(data)} bytes {hashlib.sha256(data).hexdigest()[:12]}"


class Side:
    """The folder `root` and what is open in it. Paths are relative to it, slots are places in `open_files` and `maps`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.open_files: list[int] = []
        self.maps: list[mmap.mmap] = []
        self.mapped: list[int] = []  # the descriptor of each

    def at(self, path: str) -> str:
        return f"{self.root}/{path}"

    def end(self) -> None:
        for fd in self.open_files:
            os.close(fd)
        while self.maps:
            self.unmap(0)
        self.open_files.clear()

    # open files -------------------------------------------------------------------------------------------------------
    def open(self, path: str, flags: int, mode: int) -> Any:
        fd = os.open(self.at(path), flags | os.O_CLOEXEC, mode)
        self.open_files.append(fd)
        return self.shown(os.fstat(fd))

    def close(self, slot: int) -> None:
        os.close(self.open_files.pop(slot))

    def read(self, slot: int, at: int, size: int) -> str:
        return brief(os.pread(self.open_files[slot], size, at))

    def write(self, slot: int, at: int, data: bytes) -> int:
        return os.pwrite(self.open_files[slot], data, at)

    def write_on(self, slot: int, data: bytes) -> tuple[int, int]:
        """At the descriptor's place, or at the end with O_APPEND; where it is then."""
        fd = self.open_files[slot]
        return os.write(fd, data), os.lseek(fd, 0, os.SEEK_CUR)

    def seek_end(self, slot: int) -> int:
        return os.lseek(self.open_files[slot], -3, os.SEEK_END)

    def ftruncate(self, slot: int, size: int) -> Any:
        _truncate(self.open_files[slot], size)
        return self.fstat(slot)

    def fsync(self, slot: int, data_only: bool) -> None:
        (os.fdatasync if data_only else os.fsync)(self.open_files[slot])

    def fstat(self, slot: int) -> Any:
        return self.shown(os.fstat(self.open_files[slot]))

    def fchmod(self, slot: int, mode: int) -> Any:
        os.fchmod(self.open_files[slot], mode)
        return self.fstat(slot)

    def futime(self, slot: int, seconds: int) -> Any:
        os.utime(self.open_files[slot], ns=(seconds * 10**9, seconds * 10**9 + 7))
        return self.fstat(slot)

    def copy_range(self, slot: int, other: int, size: int, at: int, to: int) -> Any:
        copied = os.copy_file_range(self.open_files[slot], self.open_files[other], size, at, to)
        return copied, self.fstat(other)

    def make_in(self, slot: int, name: str) -> Any:
        """Below an open directory, wherever it is by now."""
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640, dir_fd=self.open_files[slot]))
        return self.list_open(slot)

    def list_open(self, slot: int) -> list[str]:
        return sorted(os.listdir(self.open_files[slot]))

    # maps: they live on when the file is closed, cut or removed ----------------------------------------------------------
    def map(self, slot: int, write: bool) -> int:
        fd = self.open_files[slot]
        size = os.fstat(fd).st_size
        if not size or stat.S_ISDIR(os.fstat(fd).st_mode):
            return 0  # Python refuses the first itself
        self.maps.append(mmap.mmap(fd, size, prot=mmap.PROT_READ | (mmap.PROT_WRITE if write else 0)))
        self.mapped.append(os.dup(fd))  # once it is mapped: what may only be read cannot be, for writing
        return size

    def unmap(self, slot: int) -> None:
        self.maps.pop(slot).close()
        os.close(self.mapped.pop(slot))

    def reads_map(self, slot: int, at: int, size: int) -> str:
        view = self.maps[slot]
        return brief(view[at : min(at + size, view.size())])  # beyond the end of the file is a SIGBUS

    def writes_map(self, slot: int, at: int, data: bytes) -> int:
        """Its pages are then clean and the time is set, because POSIX leaves open when a map changes it."""
        view = self.maps[slot]
        if at + len(data) > min(view.size(), len(view)):
            return 0
        try:
            view[at : at + len(data)] = data
        except TypeError:
            return -1  # it was mapped for reading
        view.flush()
        os.utime(self.mapped[slot], ns=(10**18, 10**18))
        return len(data)

    # names ------------------------------------------------------------------------------------------------------------
    def mkdir(self, path: str, mode: int) -> Any:
        os.mkdir(self.at(path), mode)
        return self.lstat(path)

    def rmdir(self, path: str) -> None:
        os.rmdir(self.at(path))

    def unlink(self, path: str) -> None:
        os.unlink(self.at(path))

    def rename(self, old: str, new: str) -> None:
        os.rename(self.at(old), self.at(new))

    def rename_noreplace(self, old: str, new: str) -> None:
        renameat2(Path(self.at(old)), Path(self.at(new)), RENAME_NOREPLACE)

    def rename_exchange(self, old: str, new: str) -> None:
        renameat2(Path(self.at(old)), Path(self.at(new)), RENAME_EXCHANGE)

    def link(self, old: str, new: str) -> Any:
        """Of a symbolic link itself, too."""
        os.link(self.at(old), self.at(new), follow_symlinks=False)
        return self.lstat(old), self.lstat(new)

    def symlink(self, target: str, path: str) -> Any:
        os.symlink(target, self.at(path))
        return self.lstat(path)

    def readlink(self, path: str) -> str:
        return os.readlink(self.at(path))

    def mknod(self, path: str, mode: int) -> Any:
        os.mknod(self.at(path), stat.S_IFREG | mode)
        return self.lstat(path)

    def listing(self, path: str) -> Any:
        return sorted((e.name, e.is_dir(follow_symlinks=False), e.is_symlink()) for e in os.scandir(self.at(path)))

    def samefile(self, one: str, other: str) -> bool:
        return os.path.samestat(os.lstat(self.at(one)), os.lstat(self.at(other)))

    # attributes -------------------------------------------------------------------------------------------------------
    def shown(self, status: os.stat_result) -> Any:
        kind, mode = stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode)
        time_ns = status.st_mtime_ns if status.st_mtime_ns < RECENT_NS else "recent"
        owner = status.st_uid, status.st_gid
        if stat.S_ISDIR(status.st_mode):
            return kind, mode, time_ns, owner, status.st_nlink > 0
        return kind, mode, time_ns, owner, status.st_size, status.st_nlink

    def lstat(self, path: str) -> Any:
        return self.shown(os.lstat(self.at(path)))

    def stat(self, path: str) -> Any:
        return self.shown(os.stat(self.at(path)))

    def access(self, path: str, mode: int) -> bool:
        return os.access(self.at(path), mode)

    def chmod(self, path: str, mode: int) -> Any:
        os.chmod(self.at(path), mode)
        return self.stat(path)

    def chown(self, path: str, uid: int, gid: int, follow: bool) -> Any:
        os.chown(self.at(path), uid, gid, follow_symlinks=follow)
        return self.stat(path) if follow else self.lstat(path)

    def utime(self, path: str, seconds: int, follow: bool) -> Any:
        os.utime(self.at(path), ns=(seconds * 10**9, seconds * 10**9 + 5), follow_symlinks=follow)
        return self.stat(path) if follow else self.lstat(path)

    def touch(self, path: str) -> Any:
        os.utime(self.at(path))
        return self.stat(path)

    def truncate(self, path: str, size: int) -> Any:
        _truncate(self.at(path), size)
        return self.stat(path)

    def contents(self, path: str) -> str:
        return brief(Path(self.at(path)).read_bytes())

    def getxattr(self, path: str, name: str) -> bytes:
        return os.getxattr(self.at(path), name)

    def removexattr(self, path: str, name: str) -> None:
        os.removexattr(self.at(path), name)

    def statfs(self, path: str) -> Any:
        status = os.statvfs(self.at(path))
        return status.f_namemax, status.f_bsize > 0, status.f_blocks >= status.f_bfree >= status.f_bavail


def fallocate(fd: int, mode: int, at: int, size: int) -> None:
    """fallocate(2); the C library's posix_fallocate, which Python has, writes where that is refused."""
    call: Callable[..., int] = libc.fallocate64
    if call(fd, mode, ctypes.c_longlong(at), ctypes.c_longlong(size)):
        raise OSError(ctypes.get_errno(), "fallocate")


def _truncate(target: str | int, size: int) -> None:
    """A tmpfs leaves the time of what is empty and stays so; every other file system sets it."""
    was_empty = not os.stat(target).st_size
    os.truncate(target, size)
    if was_empty and not size:
        os.utime(target)
