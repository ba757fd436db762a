"""What a writer that died leaves behind, and how it is made good.

Every batch has a folder of its own under `tmp/`. It holds the batch's temporary files, its lock (`flock`) says that the
batch lives, and its presence says that blobs made since it began may not be durable yet. Hence the rules:

- Its name is durable before the first blob of the batch has one: else a disk could keep the blob's name and not this.
- A folder that can be locked belongs to a dead batch: its temporary files go at once.
- The folder itself goes only after a sync of the whole file system that began later (then the dead batch's blobs are
  durable like all others).
- A folder from before the last boot means that the machine went down first. A blob renamed into place before its data
  reached the disk may then be short or hold zeros, so every blob as young as the folder is hashed before anybody counts
  on it, and torn ones are removed. No version names them: a catalog row is written after a sync only. The same is done
  for the folder of a batch whose sync failed.

The name of a folder is BOOT.BEGAN.PID.NUMBER: the first digits of the kernel's boot id (or "failed"), the time in
nanoseconds, and two numbers that make it unique (the process id is for people).
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from artfs.errors import SourceChangedError
from artfs.store.linux import sync_path
from artfs.store.verify import hash_file

log = logging.getLogger(__name__)

_FAILED = "failed"
_CLOCK_SLACK_NS = 60 * 1_000_000_000
"""How far a blob's time may seem older than the folder's: time stamps are coarse and clocks are corrected."""

_numbers = itertools.count(1)


def read_boot_id() -> str:
    """A word that is another one after each boot of the machine."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
        return stream.read().strip().replace("-", "")[:16]


class BatchFolder:
    """One live batch's folder for temporary files.

    Attributes:
        fd: the folder, opened before anything was written to it.
        umask_hides: the process's umask takes a permission to read away from new files.
    Raises OSError.
    """

    def __init__(self, tmp: str, boot_id: str) -> None:
        self._tmp = tmp
        self._began_ns = time.time_ns()
        self._temp_numbers = itertools.count(1)
        self._threads = threading.local()
        while True:
            self._name = f"{boot_id}.{self._began_ns}.{os.getpid()}.{next(_numbers)}"
            self._path = f"{tmp}/{self._name}"
            os.mkdir(self._path, 0o755)
            self.fd = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(self.fd, fcntl.LOCK_EX)
            status = os.fstat(self.fd)
            if status.st_nlink:
                self.umask_hides = status.st_mode & 0o044 != 0o044
                return
            os.close(self.fd)  # Somebody took it for a dead one before it was locked.

    def remind(self) -> None:
        """Makes the folder's own name durable: from here on the next boot will know that this batch was under way. Once, before
        the first blob gets its name. Raises OSError."""
        sync_path(self._tmp)

    def temp_path(self) -> str:
        """A new path for a temporary file; safe to call from several threads. Raises OSError.

        Each thread has a subfolder: in one folder, they would wait for each other at every file that they create (the
        kernel's time for 20,000 files halves).
        """
        try:
            folder: str = self._threads.folder
        except AttributeError:
            folder = f"{self._path}/t{next(self._temp_numbers)}"
            os.mkdir(folder, 0o700)
            self._threads.folder = folder
        return f"{folder}/{next(self._temp_numbers)}"

    def close(self, *, durable: bool, failed: bool = False) -> None:
        """`durable`: all that the batch put is; otherwise the folder stays as the reminder that it is not. `failed`: a
        sync failed, so that even what can be read now may be gone later."""
        try:
            _empty(self._path)
            if failed:
                os.rename(self._path, f"{self._tmp}/{_FAILED}.{self._name.partition('.')[2]}")
            elif durable:
                os.rmdir(self._path)
        except OSError as error:
            log.warning("cannot tidy up %s: %s", self._path, error.strerror)
        finally:
            os.close(self.fd)


class DeadFolder(NamedTuple):
    """A dead batch's folder, locked through `fd`."""

    path: str
    fd: int
    began_ns: int


def _parse(name: str) -> tuple[str, int] | None:
    boot_id, _, rest = name.partition(".")
    began = rest.partition(".")[0]
    return (boot_id, int(began)) if began.isdecimal() else None


def _empty(path: str) -> None:
    with os.scandir(path) as found:
        for item in found:
            if item.is_dir(follow_symlinks=False):
                _empty(item.path)
                os.rmdir(item.path)
            else:
                os.unlink(item.path)


def try_lock(path: str) -> int | None:
    """A descriptor of the folder, locked, when no live batch has it; None otherwise. Raises OSError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


@contextlib.contextmanager
def dead_folders(tmp: str, wanted: Callable[[str], bool]) -> Iterator[list[DeadFolder]]:
    """The dead folders with a boot id that is `wanted`, emptied, and locked inside the `with`."""
    dead: list[DeadFolder] = []
    try:
        for name in os.listdir(tmp):
            parsed = _parse(name)
            if parsed is None or not wanted(parsed[0]):
                continue
            path = f"{tmp}/{name}"
            if (fd := try_lock(path)) is not None:
                dead.append(DeadFolder(path, fd, parsed[1]))
                _empty(path)
        yield dead
    finally:
        for folder in dead:
            os.close(folder.fd)


def forget(folders: list[DeadFolder]) -> None:
    """Removes folders whose blobs are known to be durable now."""
    for folder in folders:
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(folder.path)


def recover(tmp: str, boot_id: str, blob_paths: Callable[[], Iterator[str]], on_wait: Callable[[str], None]) -> bool:
    """Empties dead folders and checks the blobs that those from before the last boot make doubtful.

    Arguments:
        blob_paths: gives the path of every blob, the last part of which is the digest.
        on_wait: told in one line when this takes long.
    Returns whether dead folders of this boot remain, to be removed after a sync. Raises OSError.
    """
    names = [parsed[0] for name in os.listdir(tmp) if (parsed := _parse(name)) is not None]
    if any(name != boot_id for name in names):
        with _serialised(tmp), dead_folders(tmp, lambda name: name != boot_id) as doubtful:
            if doubtful:
                on_wait("checking the blobs that were being written when the machine went down")
                _check_young(blob_paths(), min(folder.began_ns for folder in doubtful) - _CLOCK_SLACK_NS)
                forget(doubtful)
    if boot_id not in names:
        return False
    with dead_folders(tmp, lambda name: name == boot_id) as dead:
        return bool(dead)


@contextlib.contextmanager
def _serialised(tmp: str) -> Iterator[None]:
    # Others wait here: nobody may count on a blob while it is doubtful.
    fd = os.open(tmp, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _check_young(paths: Iterator[str], since_ns: int) -> None:
    removed = 0
    for path in paths:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            status = os.fstat(fd)
            if status.st_ctime_ns < since_ns:
                continue
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)  # what the disk has, not what memory remembers
            try:
                sound = hash_file(fd, status.st_size).content.digest == os.path.basename(path)
            except SourceChangedError:
                sound = False
        finally:
            os.close(fd)
        if not sound:
            os.unlink(path)
            removed += 1
    if removed:
        log.warning(
            "removed %d blobs that were not completely written when the machine went down; no version had them", removed
        )
