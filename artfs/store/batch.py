"""One writer's set of new blobs in a FolderStore: the verifying door."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from artfs.errors import NotFoundError, SourceChangedError, StorageError, UsageError
from artfs.model.digests import BLOCKS_ABOVE, digest_bytes
from artfs.model.records import Content
from artfs.store.floor import Floor
from artfs.store.layout import Layout
from artfs.store.linux import sync_path, try_reflink
from artfs.store.recovery import BatchFolder
from artfs.store.verify import Hashed, OnBytes, copy_hashing, hash_file, write_all

SYNC_EACH = 32
"""Up to so many blobs are synced one by one; for more, one sync of the whole file system is faster."""

_MODE = 0o444
_CREATE = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
_CANNOT_LINK = frozenset({errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.EOPNOTSUPP})


class FolderBatch:
    """See artfs.store.base.StoreBatch. Puts raise RuntimeError outside of the `with`."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._lock_fd = -1
        self._folder: BatchFolder | None = None
        self._unsynced: list[str] = []  # paths; more than SYNC_EACH are not kept
        self._sync_all = False
        self._reminded = False  # of this batch, if the machine goes down
        self._failed = False
        self._floor = Floor(layout.root, layout.free_floor, f"the store {layout.root}")
        self._cannot_reflink: set[int] = set()  # devices of sources

    def __enter__(self) -> Self:
        if self._folder is not None:
            raise RuntimeError("a batch cannot be entered twice")
        self._lock_fd = self._layout.lock_shared()
        try:
            self._sync_all = self._layout.recover()
            self._folder = BatchFolder(self._layout.tmp, self._layout.boot_id)
        except OSError as error:
            os.close(self._lock_fd)
            raise StorageError.wrap(error, f"beginning to write to the store {self._layout.root}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open_folder().close(durable=not self._unsynced, failed=self._failed)
        self._folder = None
        os.close(self._lock_fd)

    def put_bytes(self, data: bytes) -> str:
        digest = digest_bytes(data)
        self._store_bytes(data, digest)
        return digest

    put_page = put_bytes  # each has a file of its own

    def put_file(
        self, path: str | os.PathLike[str], *, expect: Content | None = None, on_bytes: OnBytes | None = None
    ) -> Content:
        source = _open_source(path)
        try:
            before = os.fstat(source)
            if not stat.S_ISREG(before.st_mode):
                raise UsageError(f"{os.fspath(path)} is not a regular file")
            if before.st_size <= BLOCKS_ABOVE:
                content = self._put_small(source, before, path, expect)
                if on_bytes is not None:
                    on_bytes(content.size)
            else:
                content = self._put_large(source, before, path, expect, on_bytes)
        finally:
            os.close(source)
        return content

    def adopt_file(self, path: str | os.PathLike[str], content: Content, block_objects: tuple[bytes, ...]) -> None:
        if (digest_bytes(block_objects[-1]) if block_objects else "") != content.blocks:
            raise ValueError(f"these are not the block list objects of {content}")
        target = self._layout.blob_path(content.digest)
        self._open_folder()
        status = _stat_staged(path)
        if status.st_size != content.size:
            raise SourceChangedError(
                f"{os.fspath(path)} changed after it was hashed: {content.size} bytes became {status.st_size}"
            )
        # The block list first: whoever finds the blob finds that, too, also after a kill in between.
        for data in block_objects:
            self.put_bytes(data)
        self._remember(target)
        try:
            if not _has(target, content.size):
                # Before the name is there: a blob's file is never writable.
                os.chmod(path, _MODE)
                self._link(path, target)
        except OSError as error:
            if error.errno not in _CANNOT_LINK:
                raise StorageError.wrap(error, f"taking {os.fspath(path)} into the store") from error
            self.put_file(path, expect=content)

    def lacks(self, digests: Sequence[str]) -> set[str]:
        return {digest for digest in digests if not os.path.exists(self._layout.blob_path(digest))}

    def keep(self, path: str | os.PathLike[str], content: Content) -> None:
        """It has a name in the store already."""

    def sync(self) -> None:
        folder = self._open_folder()
        try:
            if self._sync_all or len(self._unsynced) > SYNC_EACH:
                self._layout.sync_all(folder.fd)
            elif self._unsynced:
                paths = dict.fromkeys(self._unsynced)
                for path in (*paths, *dict.fromkeys(map(os.path.dirname, paths)), self._layout.blobs):
                    sync_path(path)
        except OSError as error:
            self._failed = True
            raise StorageError.wrap(error, f"syncing the store {self._layout.root}") from error
        self._unsynced.clear()
        self._sync_all = False

    def _put_small(
        self, source: int, before: os.stat_result, path: str | os.PathLike[str], expect: Content | None
    ) -> Content:
        size = before.st_size
        try:
            data = os.pread(source, size + 1, 0)
            after = os.fstat(source)
        except OSError as error:
            raise _unreadable(path, error) from error
        content = Content(digest_bytes(data), size)
        _check_unchanged(path, before, after, len(data), content, expect)
        self._store_bytes(data, content.digest)
        return content

    def _put_large(
        self, source: int, before: os.stat_result, path: str | os.PathLike[str], expect: Content | None,
        on_bytes: OnBytes | None,
    ) -> Content:
        size = before.st_size
        if expect is not None and expect.size == size and _has(known := self._layout.blob_path(expect.digest), size):
            # Remembered first: while this is hashed, it must not look as if nothing were unsynced.
            self._remember(known)
            try:
                hashed = hash_file(source, size, on_bytes=on_bytes)
                _check_unchanged(path, before, os.fstat(source), size, hashed.content, expect)
            except OSError as error:
                raise _unreadable(path, error) from error
        else:
            hashed = self._copy_large(source, before, path, expect, on_bytes)
        for data in hashed.block_objects:
            self.put_bytes(data)
        return hashed.content

    def _copy_large(
        self, source: int, before: os.stat_result, path: str | os.PathLike[str], expect: Content | None,
        on_bytes: OnBytes | None,
    ) -> Hashed:
        size = before.st_size
        self._floor.check(size)
        temp = ""
        try:
            temp = self._open_folder().temp_path()
            fd = os.open(temp, _CREATE, _MODE)
            try:
                os.fchmod(fd, _MODE)
                if self._try_reflink(source, before.st_dev, fd):
                    hashed = hash_file(fd, size, on_bytes=on_bytes)
                else:
                    hashed = copy_hashing(source, fd, size, on_bytes=on_bytes)
            finally:
                os.close(fd)
            _check_unchanged(path, before, os.fstat(source), size, hashed.content, expect)
            target = self._layout.blob_path(hashed.content.digest)
            self._remember(target)
            if _has(target, size):
                os.unlink(temp)
            else:
                _rename(temp, target)
        except BaseException as error:
            _discard(temp)
            if isinstance(error, SourceChangedError):
                raise SourceChangedError(f"{os.fspath(path)}: {error}") from None
            if isinstance(error, OSError):
                raise StorageError.wrap(error, f"copying {os.fspath(path)} into the store") from error
            raise
        return hashed

    def _try_reflink(self, source: int, device: int, target: int) -> bool:
        if device in self._cannot_reflink:
            return False
        if try_reflink(source, target):
            return True
        self._cannot_reflink.add(device)
        return False

    def _store_bytes(self, data: bytes, digest: str) -> None:
        target = f"{self._layout.blobs}/{digest[:2]}/{digest}"
        self._remember(target)
        folder = self._open_folder()
        temp = ""
        try:
            if _has(target, len(data)):
                return
            self._floor.check(len(data))
            temp = folder.temp_path()
            fd = os.open(temp, _CREATE, _MODE)
            try:
                if folder.umask_hides:
                    os.fchmod(fd, _MODE)
                write_all(fd, data, 0)
            finally:
                os.close(fd)
            _rename(temp, target)
        except BaseException as error:
            _discard(temp)
            if isinstance(error, OSError):
                raise StorageError.wrap(error, f"storing blob {digest}") from error
            raise

    def _link(self, path: str | os.PathLike[str], target: str) -> None:
        try:
            _in_fan(lambda: os.link(path, target, follow_symlinks=False), target)
        except FileExistsError:
            # A torn blob of the same name, or another writer was faster. Replacing it serves both.
            temp = self._open_folder().temp_path()
            os.link(path, temp, follow_symlinks=False)
            try:
                os.rename(temp, target)
            finally:
                _discard(temp)  # still there when both names were the same file already

    def _remember(self, path: str) -> None:
        # Called before a blob's name appears, so that a batch left at any instant knows what is not durable.
        folder = self._open_folder()
        if not self._reminded:
            try:
                folder.remind()
            except OSError as error:
                raise StorageError.wrap(error, f"beginning to write to the store {self._layout.root}") from error
            self._reminded = True
        if len(self._unsynced) <= SYNC_EACH:
            self._unsynced.append(path)

    def _open_folder(self) -> BatchFolder:
        if self._folder is None:
            raise RuntimeError("a batch is used inside its `with` only")
        return self._folder


def _open_source(path: str | os.PathLike[str]) -> int:
    try:
        # O_NONBLOCK: a FIFO must not make us wait for its writer.
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise NotFoundError(f"there is no file {os.fspath(path)}") from None
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str | os.PathLike[str], error: OSError) -> StorageError:
    number = error.errno or errno.EIO
    return StorageError(f"cannot read {os.fspath(path)}: {os.strerror(number)}", number)


def _stat_staged(path: str | os.PathLike[str]) -> os.stat_result:
    try:
        status = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        raise NotFoundError(f"there is no staged file {os.fspath(path)}") from None
    except OSError as error:
        raise _unreadable(path, error) from error
    if not stat.S_ISREG(status.st_mode):
        raise UsageError(f"{os.fspath(path)} is not a regular file")
    return status


def _check_unchanged(
    path: str | os.PathLike[str], before: os.stat_result, after: os.stat_result, nbytes: int, content: Content,
    expect: Content | None,
) -> None:
    if not before.st_size == nbytes == after.st_size or before.st_mtime_ns != after.st_mtime_ns:
        raise SourceChangedError(f"{os.fspath(path)} changed while it was read")
    if expect is not None and (content.digest, content.size) != (expect.digest, expect.size):
        raise SourceChangedError(f"{os.fspath(path)} has not the content any more that it had when it was added")


def _has(path: str, size: int) -> bool:
    # Another size: torn by a crash of the machine. Storing the blob again replaces it.
    try:
        return os.stat(path).st_size == size
    except FileNotFoundError:
        return False


def _rename(temp: str, target: str) -> None:
    _in_fan(lambda: os.rename(temp, target), target)


def _in_fan(make: Callable[[], None], target: str) -> None:
    try:
        make()
    except FileNotFoundError:
        with contextlib.suppress(FileExistsError):
            os.mkdir(os.path.dirname(target), 0o700)
        make()


def _discard(temp: str) -> None:
    if temp:
        with contextlib.suppress(OSError):
            os.unlink(temp)
