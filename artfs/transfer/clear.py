"""Removing from a folder what a version does not have."""

from __future__ import annotations

import errno
import os
import shutil

from artfs.errors import StorageError
from artfs.model.entry import DirEntry
from artfs.model.manifest import Manifest
from artfs.model.tree import Directory
from artfs.transfer.landing import OPEN_DIRECTORY, is_landing


def clear(manifest: Manifest, path: str | os.PathLike[str], *, conflicts_only: bool) -> int:
    """Removes files, links and folders of the folder `path` that the version `manifest` does not have; returns how many
    (a folder counts as one). No symbolic link is followed.

    `conflicts_only`: only a folder where the version has a file or link, and the other way round, which a pull would
    refuse to replace. Raises StorageError; what was removed until then is gone.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return _clear(fd, manifest, manifest.top, conflicts_only, top=True)
        finally:
            os.close(fd)
    except OSError as error:
        number = error.errno or errno.EIO
        raise StorageError(f"clearing {os.fspath(path)} failed: {os.strerror(number)}", number) from error


def _clear(folder: int, manifest: Manifest, directory: Directory, conflicts_only: bool, *, top: bool = False) -> int:
    removed = 0
    with os.scandir(folder) as entries:
        found = {os.fsencode(entry.name): entry.is_dir(follow_symlinks=False) for entry in entries}
    for _, entry in directory.entries():
        is_dir = found.pop(entry.name, None)
        if is_dir is None:
            continue
        if is_dir != isinstance(entry, DirEntry):
            _remove(os.fsdecode(entry.name), folder, is_dir=is_dir)
            removed += 1
        elif isinstance(entry, DirEntry):
            below = os.open(entry.name, OPEN_DIRECTORY, dir_fd=folder)
            try:
                removed += _clear(below, manifest, Directory.of(manifest.source, entry), conflicts_only)
            finally:
                os.close(below)
    if not conflicts_only:
        for name, is_dir in found.items():
            # Another pull may be at work in a landing folder; a dead one's is dealt with by the next pull.
            if not (top and is_dir and is_landing(os.fsdecode(name))):
                _remove(os.fsdecode(name), folder, is_dir=is_dir)
                removed += 1
    return removed


def _remove(name: str, folder: int, *, is_dir: bool) -> None:
    if is_dir:
        shutil.rmtree(name, dir_fd=folder)
    else:
        os.unlink(name, dir_fd=folder)
