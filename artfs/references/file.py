"""References to files of this machine (or of whatever is mounted on it)."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from artfs.errors import (
    InvalidArgumentError,
    ReferenceChangedError,
    ReferenceMissingError,
    ReferenceRefusedError,
    ReferenceUnsupportedError,
    SourceChangedError,
    StorageError,
)
from artfs.model.entry import RefEntry
from artfs.references.base import Examined, Found, OnBytes, check_count
from artfs.references.trust import Trust
from artfs.references.uris import file_path, file_uri, given_file_paths
from artfs.store.linux import try_reflink
from artfs.store.verify import copy_digesting, digest_file, write_all

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
_CHUNK = 1024 * 1024


class FileSource:
    """The checksum of a file is its SHA-256, the size its own."""

    def __init__(self, trust: Trust, workers: int) -> None:
        self._trust = trust
        self._workers = workers

    def given_path(self, uri: str) -> str:
        """The path that somebody means who wrote `uri`. Raises InvalidArgumentError when nothing is there."""
        path = next(filter(os.path.exists, given_file_paths(uri)), None)
        if path is None:
            raise InvalidArgumentError(f"cannot add {uri}: there is no such file or directory")
        return path

    def examine(self, uri: str, *, checksum: bool, max_objects: int) -> Examined:
        top = self.given_path(uri)
        name = os.path.basename(top)
        if not checksum:
            return Examined(True, [Found(name, file_uri(top))])
        if not os.path.isdir(top):
            return Examined(True, [self._examine_file(name, top)])
        found = self._walk(uri, top, max_objects)
        with ThreadPoolExecutor(self._workers, "artfs-reference") as pool:
            return Examined(False, list(pool.map(lambda path: self._examine_file(path, f"{top.rstrip('/')}/{path}"), found)))

    def _walk(self, uri: str, top: str, max_objects: int) -> list[str]:
        found: list[str] = []
        todo = [""]
        while todo:
            prefix = todo.pop()
            try:
                entries = list(os.scandir(f"{top}/{prefix}"))
            except OSError as error:
                raise StorageError.wrap(error, f"reading the directory {top}/{prefix}") from error
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    todo.append(f"{prefix}{entry.name}/")
                elif not entry.is_dir():  # a link to a directory is not followed
                    found.append(prefix + entry.name)
            check_count(uri, len(found), max_objects)
        return sorted(found)

    def _examine_file(self, path: str, full: str) -> Found:
        try:
            fd = os.open(full, _FLAGS)
        except OSError as error:
            raise InvalidArgumentError(f"cannot add {full}: {error.strerror}") from None
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise InvalidArgumentError(f"cannot add {full}: it is neither a file nor a directory")
            return Found(path, file_uri(full), status.st_size, digest_file(fd, status.st_size))
        except OSError as error:
            raise StorageError.wrap(error, f"reading {full}") from error
        finally:
            os.close(fd)

    def open(self, ref: RefEntry) -> int:
        """A descriptor of the file, of the right size. Its bytes are not read."""
        path = file_path(ref.uri)
        try:
            # First only named, not opened: opening a device may do something.
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
            try:
                self._trust.check_file(ref.uri, os.readlink(f"/proc/self/fd/{place}"))
                status = os.fstat(place)
                if stat.S_ISDIR(status.st_mode):
                    raise ReferenceUnsupportedError(
                        f"{ref.uri} is a directory, which was added with checksum=False: what is in it is not known"
                    )
                if not stat.S_ISREG(status.st_mode):
                    raise ReferenceChangedError(f"{ref.uri} is not a file any more")
                if ref.size is not None and status.st_size != ref.size:
                    raise ReferenceChangedError(f"{ref.uri} changed: it has {status.st_size} bytes, and had {ref.size}")
                return os.open(f"/proc/self/fd/{place}", _FLAGS)
            finally:
                os.close(place)
        except (FileNotFoundError, NotADirectoryError):
            raise ReferenceMissingError(f"{ref.uri} is gone: there is no such file any more") from None
        except PermissionError:
            raise ReferenceRefusedError(f"{ref.uri} may not be read by this user") from None
        except OSError as error:
            raise StorageError.wrap(error, f"reading {ref.uri}") from error

    def verify(self, ref: RefEntry, fd: int) -> None:
        """Reads all of what `open` opened. Raises ReferenceChangedError, StorageError."""
        if ref.checksum:
            self._compare(ref, lambda size: digest_file(fd, size))

    def fetch(self, ref: RefEntry, target: int, on_bytes: OnBytes) -> None:
        source = self.open(ref)
        try:
            if not ref.checksum:
                _copy(source, target, on_bytes)
            elif try_reflink(source, target):
                self._compare(ref, lambda size: digest_file(target, size, on_bytes=on_bytes))
            else:
                self._compare(ref, lambda size: copy_digesting(source, target, size, on_bytes=on_bytes))
        except OSError as error:
            raise StorageError.wrap(error, f"copying {ref.uri}") from error
        finally:
            os.close(source)

    def check(self, ref: RefEntry) -> None:
        fd = self.open(ref)
        try:
            self.verify(ref, fd)
        finally:
            os.close(fd)

    def _compare(self, ref: RefEntry, digest_of: Callable[[int], str]) -> None:
        assert ref.size is not None
        try:
            digest = digest_of(ref.size)
        except SourceChangedError as error:
            raise ReferenceChangedError(f"{ref.uri} changed: {error}") from None
        if digest != ref.checksum:
            raise ReferenceChangedError(f"{ref.uri} changed: its SHA-256 is {digest}, and was {ref.checksum}")


def _copy(source: int, target: int, on_bytes: OnBytes) -> None:
    at = 0
    while data := os.pread(source, _CHUNK, at):
        write_all(target, data, at)
        at += len(data)
        on_bytes(len(data))
