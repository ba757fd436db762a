"""A bucket that is a folder on the server's machine: each object a plain file, at its key.

    blobs/…, packs/…   objects; a name appears with its whole content (rename), and only then
    tmp/               objects on their way. Told as objects, too, so that what a killed server left is found and deleted
                       once it is old
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from artfs.errors import BlobMissingError, StorageError, UsageError
from artfs.store.bucket import Buffer, SignedPut, StoredObject, check_key
from artfs.store.linux import aligned_buffer, make_folder, start_writeback, sync_path, try_reflink
from artfs.store.verify import write_all

_PIECE = 4 * 1024 * 1024
_WRITEBACK = 8 * 1024 * 1024
_CANNOT_LINK = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV, errno.ENOENT})
_CREATE = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC


class FolderBucket:
    """See artfs.store.bucket.Bucket. Several processes may use one folder. Raises StorageError when it cannot be made."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self._root = os.path.abspath(root)
        try:
            make_folder(self._root)
            make_folder(os.path.join(self._root, "tmp"))
        except OSError as error:
            raise StorageError.wrap(error, f"opening the bucket {self._root}") from error

    @property
    def name(self) -> str:
        return self._root

    @property
    def signs(self) -> bool:
        return False

    @property
    def is_near(self) -> bool:
        return True

    def keeps_what_was_put(self) -> bool:
        return False

    @property
    def trusts_senders(self) -> bool:
        return False

    def path_of(self, key: str) -> Path:
        """Where the object's file is or would be."""
        return Path(self._path(key))

    def put(self, key: str, data: Buffer) -> None:
        with self.writer(key, len(data)) as writer:
            writer.write(data)
            writer.commit()

    @contextlib.contextmanager
    def writer(self, key: str, size: int) -> Iterator[FolderWriter]:
        writer = FolderWriter(self._root, self._path(key), size)
        try:
            yield writer
        finally:
            writer.close()

    def copy(self, source: str, target: str) -> None:
        """As a second name of the same file, where the file system has such: what is under a key is never written to, only
        replaced."""
        fd = self._open(source)
        try:
            if self._try_link(source, target):
                return
            size = os.fstat(fd).st_size
            with self.writer(target, size) as writer:
                writer.copy_from(fd)
                writer.commit()
        finally:
            os.close(fd)

    def _try_link(self, source: str, target: str) -> bool:
        folder = os.path.dirname(self._path(target))
        try:
            make_folder(folder)
            os.link(self._path(source), self._path(target), follow_symlinks=False)
            sync_path(folder)
        except OSError as error:
            if error.errno in _CANNOT_LINK:
                return False
            raise StorageError.wrap(error, f"copying the object {source}") from error
        return True

    def try_size(self, key: str) -> int | None:
        try:
            status = os.stat(self._path(key))
            return status.st_size if stat.S_ISREG(status.st_mode) else None
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StorageError.wrap(error, f"looking for the object {key}") from error

    def read(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[Buffer]:
        fd = self._open(key)
        try:
            return [_read(fd, offset, nbytes, key) for offset, nbytes in ranges]
        finally:
            os.close(fd)

    def stream(self, key: str, offset: int, nbytes: int) -> Iterator[Buffer]:
        fd = self._open(key)
        try:
            buffer = aligned_buffer(min(_PIECE, max(nbytes, 1)))
            while nbytes:
                got = os.preadv(fd, [buffer[: min(len(buffer), nbytes)]], offset)
                if not got:
                    raise _short(key)
                yield buffer[:got]
                offset += got
                nbytes -= got
        except OSError as error:
            raise StorageError.wrap(error, f"reading the object {key}") from error
        finally:
            os.close(fd)

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            try:
                os.unlink(self._path(key))
            except (FileNotFoundError, NotADirectoryError):
                pass
            except OSError as error:
                raise StorageError.wrap(error, f"deleting the object {key}") from error

    def objects(self, prefix: str = "") -> Iterator[StoredObject]:
        top = f"{self._root}/{prefix}".rstrip("/")
        todo = [top]
        while todo:
            folder = todo.pop()
            try:
                with os.scandir(folder) as found:
                    entries = list(found)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise StorageError.wrap(error, f"listing the bucket {self._root}") from error
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    todo.append(entry.path)
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                yield StoredObject(entry.path[len(self._root) + 1 :], status.st_size, status.st_mtime)

    def sign_get(self, keys: Sequence[str], seconds: float) -> list[str]:
        raise UsageError("a folder has no URLs")

    def sign_put(self, key: str, size: int, sha256: str, seconds: float) -> SignedPut:
        raise UsageError("a folder has no URLs")

    def close(self) -> None:
        pass

    def _path(self, key: str) -> str:
        return f"{self._root}/{check_key(key)}"

    def _open(self, key: str) -> int:
        try:
            fd = os.open(self._path(key), os.O_RDONLY | os.O_CLOEXEC)
            if stat.S_ISREG(os.fstat(fd).st_mode):
                return fd
            os.close(fd)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            raise StorageError.wrap(error, f"opening the object {key}") from error
        raise BlobMissingError(f"the object {key} is not in the bucket {self._root}")


class FolderWriter:
    """See artfs.store.bucket.ObjectWriter."""

    def __init__(self, root: str, target: str, size: int) -> None:
        self._target = target
        self._size = size
        self._at = 0
        self._started = 0
        self._temp = os.path.join(root, "tmp", secrets.token_hex(16))
        try:
            self._fd = os.open(self._temp, _CREATE, 0o600)
        except OSError as error:
            raise self._failed(error) from error

    def write(self, data: Buffer) -> None:
        if self._at + len(data) > self._size:
            raise UsageError(f"more than {self._size:,} bytes for an object of that size")
        try:
            write_all(self._fd, data, self._at)
        except OSError as error:
            raise self._failed(error) from error
        self._at += len(data)
        # So that the sync at the end is short.
        if self._at - self._started >= _WRITEBACK:
            start_writeback(self._fd, self._started, self._at - self._started)
            self._started = self._at

    def copy_from(self, source: int) -> None:
        """All bytes from another open file of that size, shared where the file system can."""
        try:
            if try_reflink(source, self._fd):
                self._at = self._size
                return
            while self._at < self._size:
                got = os.copy_file_range(source, self._fd, self._size - self._at, self._at, self._at)
                if not got:
                    break
                self._at += got
        except OSError as error:
            raise self._failed(error) from error

    def commit(self) -> None:
        if self._at != self._size:
            raise UsageError(f"{self._at:,} bytes for an object of {self._size:,}")
        folder = os.path.dirname(self._target)
        try:
            os.fsync(self._fd)
            make_folder(folder)
            os.rename(self._temp, self._target)
            self._temp = ""
            sync_path(folder)
        except OSError as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Idempotent; what was not committed goes."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._temp:
            with contextlib.suppress(OSError):
                os.unlink(self._temp)
            self._temp = ""

    def _failed(self, error: OSError) -> StorageError:
        return StorageError.wrap(error, f"storing the object {os.path.basename(self._target)}")


def _read(fd: int, offset: int, nbytes: int, key: str) -> bytes:
    try:
        data = os.pread(fd, nbytes, offset)
        while len(data) < nbytes and (more := os.pread(fd, nbytes - len(data), offset + len(data))):
            data += more
    except OSError as error:
        raise StorageError.wrap(error, f"reading the object {key}") from error
    if len(data) != nbytes:
        raise _short(key)
    return data


def _short(key: str) -> StorageError:
    return StorageError(f"the object {key} is damaged: it is shorter than it was")
