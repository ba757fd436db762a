"""A store of one process for a while: where bytes are until it is known for which project of a server they are.

Each is a folder of its own beside others, with a locked file in it for as long as its process lives. Whoever makes the next
one removes those that nobody holds any more.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import time
from contextlib import suppress
from pathlib import Path

from artfs.errors import StorageError
from artfs.store.folder import FolderStore
from artfs.store.linux import make_folder

_HELD = "held"
_NEW_S = 60.0
"""A folder without its locked file is just being made, unless it is older than this."""


class ScratchStore(FolderStore):
    """See FolderStore. `close` removes it with all that is in it.

    Arguments:
        parent: the folder of such folders; made (0700) when missing, but not what is above it.
        free_floor: see FolderStore.
    Raises StorageError.
    """

    def __init__(self, parent: Path, *, free_floor: int = 0) -> None:
        try:
            make_folder(str(parent))
            _clear_dead(parent)
            path, self._held = _make_held(parent)
        except OSError as error:
            raise StorageError.wrap(error, f"making room for files in {parent}") from error
        super().__init__(path, free_floor=free_floor)

    def close(self) -> None:
        """Once. What cannot be removed is left for the next one."""
        shutil.rmtree(self.root, ignore_errors=True)
        os.close(self._held)


def _make_held(parent: Path) -> tuple[Path, int]:
    """A new folder, and its locked file."""
    while True:
        path = parent / secrets.token_hex(8)
        path.mkdir(mode=0o700)
        held = os.open(path / _HELD, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(held, fcntl.LOCK_EX)
        if (path / _HELD).exists():
            return path, held
        os.close(held)  # somebody took it for a dead one's before it was locked


def _clear_dead(parent: Path) -> None:
    for entry in os.scandir(parent):
        with suppress(OSError):
            try:
                held = os.open(f"{entry.path}/{_HELD}", os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                if time.time() - entry.stat().st_mtime > _NEW_S:
                    shutil.rmtree(entry.path, ignore_errors=True)
                continue
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(entry.path, ignore_errors=True)
            finally:
                os.close(held)
