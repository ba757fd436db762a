"""Where a pull writes before anything gets its name: a hidden folder `.artfs-….tmp` in the destination.

A file is written there, at the path that it is to have, checked, and only then moved to the destination; a directory that
the destination has not is filled there and moved as a whole. So no name ever shows half a file, and a new file costs no
rename of its own.

A pull that ends, well or with an error, leaves no such folder. One that was killed leaves one, which the next pull to the
same destination empties: what is whole and wanted is kept, and the rest removed. The folder's lock (`flock`), which
helpers share, tells a dead one from one that is in use.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from artfs.errors import ConflictError, SourceChangedError, StorageError
from artfs.model.entry import Entry, FileEntry
from artfs.store.verify import copy_digesting, digest_file

_NAME = re.compile(r"\.artfs-[0-9a-f]{16}\.tmp")
OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
_CREATE = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW

Wanted = Callable[[str], Entry | None]
"""What the pull is to put at a path; None: nothing."""


def is_landing(name: str) -> bool:
    """Whether a landing folder may be called so."""
    return _NAME.fullmatch(name) is not None


class Landing:
    """Attributes:
    fd: the folder, open and locked.
    """

    def __init__(self, fd: int, dest_fd: int, dest_path: str) -> None:
        self.fd = fd
        self._dest_fd = dest_fd
        self._dest_path = dest_path

    def publish(self) -> None:
        """Moves everything in the folder to its place. Raises ConflictError where a file and a directory meet, OSError;
        what was moved stays moved, and the rest is still in the folder."""
        _merge(self.fd, self._dest_fd, self._dest_path)


@contextmanager
def open_landing(dest_fd: int, dest_path: str, wanted: Wanted) -> Iterator[Landing]:
    """A new landing folder in the open directory `dest_fd`, after those of dead pulls were emptied. It is gone
    afterwards, with all that was not published. Raises StorageError, ConflictError."""
    try:
        for name in os.listdir(dest_fd):
            if is_landing(name):
                _settle_dead(name, dest_fd, dest_path, wanted)
    except OSError as error:
        raise refused(error, f"removing what an interrupted download left in {dest_path}") from error
    name = f".artfs-{secrets.token_hex(8)}.tmp"
    fd: int | None = None
    # Ctrl-C may come anywhere in here: before we know that there is a folder, and while it is removed.
    try:
        try:
            while fd is None:
                with suppress(FileExistsError):  # another pull took it for a dead one's, and is about to remove it
                    os.mkdir(name, 0o700, dir_fd=dest_fd)
                fd = _try_lock(name, dest_fd)
        except OSError as error:
            raise refused(error, f"making a folder in {dest_path}") from error
        yield Landing(fd, dest_fd, dest_path)
    finally:
        try:
            shutil.rmtree(name, dir_fd=dest_fd, ignore_errors=True)
        except KeyboardInterrupt:
            shutil.rmtree(name, dir_fd=dest_fd, ignore_errors=True)
            raise
        finally:
            if fd is not None:
                os.close(fd)


def _try_lock(name: str, dest_fd: int) -> int | None:
    """The folder, open and locked; None when somebody else has it, or removed it."""
    try:
        fd = os.open(name, OPEN_DIRECTORY, dir_fd=dest_fd)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES):
            return None
        raise
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(fd), os.stat(name, dir_fd=dest_fd, follow_symlinks=False)):
            return fd
    except BlockingIOError:
        pass
    except FileNotFoundError:
        pass
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def _settle_dead(name: str, dest_fd: int, dest_path: str, wanted: Wanted) -> None:
    if wanted(name) is not None:
        return  # a folder of the version that happens to be called like this
    fd = _try_lock(name, dest_fd)
    if fd is None:
        return
    try:
        _drop_unwanted(fd, "", wanted)
        _merge(fd, dest_fd, dest_path)
        shutil.rmtree(name, dir_fd=dest_fd, ignore_errors=True)
    finally:
        os.close(fd)


def _drop_unwanted(folder: int, prefix: str, wanted: Wanted) -> None:
    for name in os.listdir(folder):
        path = prefix + name
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            with _opened(name, folder) as inner:
                _drop_unwanted(inner, f"{path}/", wanted)
            with suppress(OSError):
                os.rmdir(name, dir_fd=folder)  # the pull makes it again if it is to be empty
        elif not (stat.S_ISREG(mode) and _is_whole(name, folder, wanted(path))):
            os.unlink(name, dir_fd=folder)


def _is_whole(name: str, folder: int, entry: Entry | None) -> bool:
    if not isinstance(entry, FileEntry):
        return False
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=folder)
    try:
        return os.fstat(fd).st_size == entry.size and digest_file(fd, entry.size) == entry.digest
    except SourceChangedError:
        return False
    finally:
        os.close(fd)


@contextmanager
def _opened(name: str, folder: int) -> Iterator[int]:
    fd = os.open(name, OPEN_DIRECTORY, dir_fd=folder)
    try:
        yield fd
    finally:
        os.close(fd)


def _merge(source: int, target: int, shown: str) -> None:
    for name in os.listdir(source):
        if not stat.S_ISDIR(os.stat(name, dir_fd=source, follow_symlinks=False).st_mode):
            move_file(name, source, target, name, f"{shown}/{name}")
            continue
        try:
            mode = os.stat(name, dir_fd=target, follow_symlinks=False).st_mode
        except FileNotFoundError:
            try:
                os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)
                continue
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EEXIST, errno.ENOTEMPTY):
                    raise
                if error.errno == errno.EXDEV:
                    os.mkdir(name, dir_fd=target)
        else:
            if not stat.S_ISDIR(mode):
                raise ConflictError(not_a_directory(f"{shown}/{name}", mode))
        with _opened(name, source) as inner, _opened(name, target) as there:
            _merge(inner, there, f"{shown}/{name}")
        os.rmdir(name, dir_fd=source)


def refused(error: OSError, doing: str) -> StorageError:
    """As StorageError.wrap, where the disk is the user's own and not the state folder's."""
    number = error.errno or errno.EIO
    return StorageError(f"{doing} failed: {os.strerror(number)}", number)


def not_a_directory(shown: str, mode: int) -> str:
    """What to say when the version has a directory where something else is."""
    what = "a symbolic link" if stat.S_ISLNK(mode) else "a file"
    return f"{shown} is {what}, and the version has a directory there; move it away"


def move_file(temp: str, source: int, target: int, name: str | bytes, shown: str) -> None:
    """Moves a file or link to its name, replacing what is no directory. Raises ConflictError, OSError."""
    try:
        try:
            os.rename(temp, name, src_dir_fd=source, dst_dir_fd=target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _move_across(temp, source, target, name)
    except IsADirectoryError:
        raise ConflictError(f"{shown} is a directory, and the version has a file or link there; move it away") from None


def _move_across(temp: str, source: int, target: int, name: str | bytes) -> None:
    """The same to another file system, which somebody mounted in the destination. (Killed in the middle, this leaves a
    hidden file there.)"""
    status = os.stat(temp, dir_fd=source, follow_symlinks=False)
    beside = f".artfs-{secrets.token_hex(8)}.tmp"
    try:
        if stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(temp, dir_fd=source), beside, dir_fd=target)
        else:
            there = os.open(beside, _CREATE, stat.S_IMODE(status.st_mode), dir_fd=target)
            try:
                with open(os.open(temp, os.O_RDONLY | os.O_CLOEXEC, dir_fd=source), "rb", buffering=0) as stream:
                    before = copy_digesting(stream.fileno(), there, status.st_size)
                if digest_file(there, status.st_size) != before:
                    raise StorageError("a file changed while it was moved to another file system")
            finally:
                os.close(there)
        os.rename(beside, name, src_dir_fd=target, dst_dir_fd=target)
    except BaseException:
        with suppress(OSError):
            os.unlink(beside, dir_fd=target)
        raise
    os.unlink(temp, dir_fd=source)
