"""The folder of a FolderStore: its paths, its lock, and what to do about dead writers. The store and its batches
share it.

    blobs/ab/<digest>     what is kept; a name appears with its whole content (rename), and only then
    tmp/<batch>/          temporary files of one batch, see recovery.py
    lock                  flock: shared by every batch, exclusive for a sweep
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator

from artfs.errors import StorageError
from artfs.folders import check_format
from artfs.model.digests import check_digest
from artfs.store.linux import make_folder, syncfs
from artfs.store.recovery import dead_folders, forget, read_boot_id, recover

_POLL_S = 0.1


def ignore_wait(message: str) -> None:
    """Tells nobody."""


class Layout:
    """Arguments as for FolderStore. Raises StorageError when the folder cannot be made, StateVersionError when a newer artfs made
    it."""

    def __init__(self, root: str, free_floor: int, on_wait: Callable[[str], None]) -> None:
        self.root = root
        self.free_floor = free_floor
        self.blobs = f"{root}/blobs"
        self.tmp = os.path.join(root, "tmp")
        self.boot_id = read_boot_id()
        self._on_wait = on_wait
        try:
            for path in (root, self.blobs, self.tmp):
                make_folder(path)
            check_format(root, "store")
            # Only space is at stake here, and somebody may read a store that he cannot write. Folders from before the
            # last boot wait for `recover`.
            with contextlib.suppress(PermissionError), dead_folders(self.tmp, lambda boot: boot == self.boot_id):
                pass
        except OSError as error:
            raise StorageError.wrap(error, f"opening the store {root}") from error

    def blob_path(self, digest: str) -> str:
        """Where the blob's file is or would be. Raises InvalidNameError when `digest` is not one."""
        check_digest(digest)
        return f"{self.blobs}/{digest[:2]}/{digest}"

    def blob_paths(self) -> Iterator[str]:
        """Of every blob, by digest."""
        for fan in sorted(os.listdir(self.blobs)):
            for name in sorted(os.listdir(f"{self.blobs}/{fan}")):
                if len(name) == 64:
                    yield f"{self.blobs}/{fan}/{name}"

    def lock_shared(self) -> int:
        """A descriptor that holds the shared lock until it is closed; waits while a sweep is under way."""
        fd = self._open_lock()
        try:
            if not _try_flock(fd, fcntl.LOCK_SH):
                self._on_wait("waiting for a sweep of the store")
                fcntl.flock(fd, fcntl.LOCK_SH)
        except BaseException:
            os.close(fd)
            raise
        return fd

    @contextlib.contextmanager
    def exclusive(self, on_wait: Callable[[str], None]) -> Iterator[None]:
        """See FolderStore.exclusive."""
        fd = self._open_lock()
        try:
            told = False
            while not _try_flock(fd, fcntl.LOCK_EX):
                if not told:
                    on_wait("waiting for a commit or a push that is under way")
                    told = True
                time.sleep(_POLL_S)
            try:
                if self.recover():
                    self.sync_all(fd)
            except OSError as error:
                raise StorageError.wrap(error, "cleaning up after an interrupted writer") from error
            yield
        finally:
            os.close(fd)

    def recover(self) -> bool:
        """Deals with what dead writers left (see recovery.py); True: some of it is to be forgotten after a sync of all.
        Raises OSError."""
        return recover(self.tmp, self.boot_id, self.blob_paths, self._on_wait)

    def sync_all(self, fd: int) -> None:
        """Makes all of the file system of `fd` durable, whoever wrote it, dead writers included. Raises OSError."""
        with dead_folders(self.tmp, lambda boot: boot == self.boot_id) as dead:
            syncfs(fd)
            forget(dead)

    def _open_lock(self) -> int:
        try:
            return os.open(f"{self.root}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageError.wrap(error, f"locking the store {self.root}") from error


def _try_flock(fd: int, how: int) -> bool:
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
