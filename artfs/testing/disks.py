"""Small real disks for tests of full and broken ones: an ext4 in a file, mounted through a loop device (root only)."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

_FILL_CHUNK = 1024 * 1024


class SmallDisk:
    """An ext4 file system of its own, mounted at a folder that exists. A context manager; unmounted and gone afterwards.

    Arguments:
        mountpoint: an empty folder.
        size: of the image, in bytes; the file system itself needs some 5 % of it.
    Raises AssertionError when this machine cannot do it: these tests never skip.
    """

    def __init__(self, mountpoint: Path, size: int = 64 * 1024 * 1024) -> None:
        self.mountpoint = mountpoint
        self._size = size
        self._image = Path()
        self._ballast = mountpoint / "ballast"

    def __enter__(self) -> Self:
        mode = self.mountpoint.stat().st_mode & 0o777
        descriptor, name = tempfile.mkstemp(prefix="artfs-disk-", dir="/tmp")
        self._image = Path(name)
        try:
            os.truncate(descriptor, self._size)
            os.close(descriptor)
            _run("mkfs.ext4", "-q", "-m", "0", "-I", "256", "-e", "remount-ro", name)
            _run("mount", "-o", "loop", name, str(self.mountpoint))
        except BaseException:
            self._image.unlink()
            raise
        self.mountpoint.chmod(mode)
        with contextlib.suppress(FileNotFoundError):
            (self.mountpoint / "lost+found").rmdir()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Lazily: a process that a failed test left behind must not hide why the test failed.
        _run("umount", "--lazy", str(self.mountpoint))
        self._image.unlink()

    @property
    def image(self) -> Path:
        """The file that the disk is. A copy of it is what the disk would hold if the machine went down now."""
        return self._image

    @property
    def free(self) -> int:
        """Bytes that can still be written."""
        status = os.statvfs(self.mountpoint)
        return status.f_bavail * status.f_frsize

    def fill(self, leave: int = 0) -> None:
        """Takes all space but `leave` bytes away, with a file of its own; called again it takes or gives back so that
        this much is left."""
        os.sync()  # what is delayed is not counted as used before it is allocated
        with self._ballast.open("ab", buffering=0) as stream:
            taken = stream.tell()
            excess = self.free - leave
            if excess < 0:
                os.ftruncate(stream.fileno(), max(0, taken + excess))
                os.fsync(stream.fileno())
                return
            with contextlib.suppress(OSError):  # fragments: the rest is written bit by bit
                os.posix_fallocate(stream.fileno(), taken, excess)
            self._fill_crumbs(stream.fileno(), leave)

    def _fill_crumbs(self, descriptor: int, leave: int) -> None:
        chunk = _FILL_CHUNK
        while chunk >= 4096:
            if self.free - leave < chunk:
                chunk //= 2
                continue
            end = os.lseek(descriptor, 0, os.SEEK_END)
            try:
                os.posix_fallocate(descriptor, end, chunk)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                chunk //= 2

    def relieve(self) -> None:
        """Gives back what `fill` took."""
        self._ballast.unlink()

    def remount_read_only(self) -> None:
        """Nobody may have a file open for writing."""
        _run("mount", "-o", "remount,ro", str(self.mountpoint))

    def fail(self) -> None:
        """As after an error of the device: from now on every write is refused (EROFS), also through descriptors that
        were open before, and reads go on."""
        _run("mount", "-o", "remount,abort", str(self.mountpoint))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"`{' '.join(command)}` exited {done.returncode}: {done.stderr.strip()}")
