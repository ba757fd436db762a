"""Writing a pull's files below one folder: into the landing folder, or beside what the destination has already."""

from __future__ import annotations

import errno
import itertools
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from artfs.errors import BadBlobError, ConflictError, SourceChangedError
from artfs.model.digests import BLOCKS_ABOVE, digest_bytes
from artfs.model.entry import FileEntry, LinkEntry
from artfs.store.base import BlobStore, FarStore
from artfs.store.blockcopy import BlockCopier
from artfs.store.blocks import BlobChecker
from artfs.store.folder import FolderStore
from artfs.store.verify import OnBytes, read_small, write_all
from artfs.transfer.landing import OPEN_DIRECTORY, Landing, move_file, not_a_directory, refused
from artfs.transfer.smallcopy import File, NotThatBlob, Reflinks, copy_files

_LONG_PATH = 3000
"""Bytes of a path from which on the kernel is given one directory at a time (it takes 4,095)."""


@dataclass(slots=True)
class Pulled:
    """What a pull did. `written`, `nbytes`: files that were written and their bytes; `unchanged`: files and links that
    were there already; `links`: links that were made; `references`: paths of references, which it leaves to others."""

    written: int = 0
    nbytes: int = 0
    unchanged: int = 0
    links: int = 0
    references: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Entries of one directory. `fresh`: the destination has no such directory, so it is filled in the landing folder.
    `heavy`: one large file."""

    directory: str
    fresh: bool
    entries: list[FileEntry | LinkEntry]
    heavy: bool


class Writer:
    """Writes below one folder, never through a symbolic link. Its groups may be written on several threads."""

    def __init__(
        self, store: BlobStore, landing: Landing, dest_fd: int, dest_path: str, copier: BlockCopier, on_bytes: OnBytes,
        *, hard_links: bool,
    ) -> None:
        self.store = store
        self._landing = landing
        self._dest_fd = dest_fd
        self._dest_path = dest_path
        self._copier = copier
        self._on_bytes = on_bytes
        self._hard_links = hard_links
        self._reflinks = Reflinks()
        self._temp_prefix = f".artfs-{secrets.token_hex(4)}-"
        self._temp_numbers = itertools.count(1)
        self._fresh: dict[str, bool] = {"": False}
        self._unfinished: set[Group] = set()
        self._running: set[Group] = set()

    @property
    def has_plain_blobs(self) -> bool:
        """Whether `plain_files` may say anything."""
        return isinstance(self.store, FolderStore) and not self._hard_links

    def make_directory(self, path: str) -> bool:
        """Makes it, with those above it, unless it is there; whether it is new."""
        known = self._fresh.get(path)
        if known is None:
            above, _, name = path.rpartition("/")
            known = self.make_directory(above) or not self._has_directory(above, name, path)
            if known:
                self._make_in_landing(path)
            self._fresh[path] = known
        return known

    def _has_directory(self, above: str, name: str, path: str) -> bool:
        with self._open_directory(above) as fd:
            try:
                os.stat(name, dir_fd=fd, follow_symlinks=False)
            except FileNotFoundError:
                return False
            except OSError as error:
                raise refused(error, f"looking at {self._shown(path)}") from error
            self._check_directory(name, fd, path)
            return True

    def _make_in_landing(self, path: str) -> None:
        above, _, name = path.rpartition("/")
        try:
            try:
                with self._open_landed(above) as fd:
                    os.mkdir(name, dir_fd=fd)
            except FileNotFoundError:  # those above it are in the destination only
                self._make_in_landing(above)
                with self._open_landed(above) as fd:
                    os.mkdir(name, dir_fd=fd)
        except FileExistsError:
            pass
        except OSError as error:
            raise refused(error, f"making the directory {self._shown(path)}") from error

    # groups ----------------------------------------------------------------------------------------------------------

    def begin(self, group: Group) -> None:
        """From now on, until `end`, what there is of a new directory's group may be half-written."""
        self._unfinished.add(group)

    def end(self, group: Group) -> None:
        self._unfinished.discard(group)

    def plain_files(self, group: Group) -> list[File] | None:
        """The group for `copy_files`; None when it needs more than that."""
        store = self.store
        if not isinstance(store, FolderStore) or self._hard_links or not group.fresh or len(group.directory) > 1000:
            return None
        files: list[File] = []
        for entry in group.entries:
            if not isinstance(entry, FileEntry):
                return None
            digest = entry.digest
            files.append((entry.name, os.fsencode(store.text_path_of(digest)), digest, entry.size, _mode_of(entry)))
        return files

    def write_group(self, group: Group) -> Pulled:
        self._running.add(group)
        try:
            self.begin(group)
            done = self._write_quickly(group) or self._write_slowly(group)
            self.end(group)
            return done
        finally:
            self._running.discard(group)

    def publish_finished(self) -> None:
        """After an error: moves what is whole into place. Nobody writes any more."""
        if self._running:
            return  # a second Ctrl-C: a thread may still be writing, so nothing here can be relied on
        for group in self._unfinished:
            if group.fresh:
                with suppress(FileNotFoundError), self._open_landed(group.directory) as fd:
                    for entry in group.entries:
                        with suppress(FileNotFoundError):
                            os.unlink(entry.name, dir_fd=fd)
        for name in os.listdir(self._landing.fd):
            if name.startswith(self._temp_prefix):
                os.unlink(name, dir_fd=self._landing.fd)
        self._landing.publish()

    def _write_quickly(self, group: Group) -> Pulled | None:
        """None when it needs more than that, or does not work: then the slow way finds out why."""
        files = None if group.heavy else self.plain_files(group)
        if files is None:
            return None
        try:
            with self._open_landed(group.directory) as fd:
                nbytes = copy_files(fd, files, self._reflinks)
        except (NotThatBlob, OSError):
            return None
        self._on_bytes(nbytes)
        return Pulled(written=len(files), nbytes=nbytes)

    def _write_slowly(self, group: Group) -> Pulled:
        done = Pulled()
        prefix = f"{group.directory}/" if group.directory else ""
        open_it = self._open_landed if group.fresh else self._open_directory
        with open_it(group.directory) as fd:
            for entry in group.entries:
                path = prefix + os.fsdecode(entry.name)
                try:
                    if isinstance(entry, LinkEntry):
                        if self._make_link(entry, fd, group.fresh, path):
                            done.links += 1
                        else:
                            done.unchanged += 1
                    elif not group.fresh and self._is_there(entry, fd):
                        done.unchanged += 1
                        self._on_bytes(entry.size)
                    else:
                        self._put_file(entry, fd, group.fresh, path)
                        done.written += 1
                        done.nbytes += entry.size
                except IsADirectoryError:
                    raise ConflictError(
                        f"{self._shown(path)} is a directory, and the version has a file there; move it away"
                    ) from None
                except OSError as error:
                    raise refused(error, f"writing {self._shown(path)}") from error
        return done

    # one file ----------------------------------------------------------------------------------------------------------

    def _put_file(self, entry: FileEntry, folder: int, fresh: bool, path: str) -> None:
        if fresh:
            self._write_file(entry, folder, entry.name, path)
            return
        with self._temporary() as temp:
            self._write_file(entry, self._landing.fd, temp, path)
            move_file(temp, self._landing.fd, folder, entry.name, self._shown(path))

    def _write_file(self, entry: FileEntry, folder: int, name: str | bytes, path: str) -> None:
        try:
            self._try_write_file(entry, folder, name, path)
        except BadBlobError:
            store = self.store
            if not isinstance(store, FarStore) or not store.forget_damaged(entry.digest):
                raise
            self._try_write_file(entry, folder, name, path)

    def _try_write_file(self, entry: FileEntry, folder: int, name: str | bytes, path: str) -> None:
        blob = self.store.open_blob(entry.digest, entry.content)
        try:
            with suppress(FileNotFoundError):  # of an attempt before
                os.unlink(name, dir_fd=folder)
            if self._hard_links and self._try_hard_link(entry, blob, folder, name, path):
                return
            target = os.open(name, _CREATE, _mode_of(entry), dir_fd=folder)
            try:
                self._fill(entry, blob, target, path)
            finally:
                os.close(target)
        finally:
            os.close(blob)

    def _fill(self, entry: FileEntry, blob: int, target: int, path: str) -> None:
        size = entry.size
        cloned = self._reflinks.work and self._reflinks.try_clone(blob, target)
        if size <= BLOCKS_ABOVE:
            data = self._read_small(entry, target if cloned else blob, path)
            self._on_bytes(size)
            if not cloned:
                write_all(target, data, 0)
            return
        # What is read back from a clone is what the user gets, so that is what is checked.
        self._copy_large(entry, target if cloned else blob, None if cloned else target, path, self._on_bytes)

    def _read_small(self, entry: FileEntry, fd: int, path: str) -> bytes:
        try:
            data = read_small(fd, entry.size)
        except SourceChangedError:
            raise _damaged(entry, path) from None
        if digest_bytes(data) != entry.digest:
            raise _damaged(entry, path)
        return data

    def _copy_large(
        self, entry: FileEntry, source: int, target: int | None, path: str, on_bytes: OnBytes | None
    ) -> None:
        assert entry.blocks is not None
        checker = BlobChecker(entry.digest, entry.size, entry.blocks.hex(), self.store.read)
        try:
            self._copier.copy(source, target, checker, on_bytes=on_bytes)
        except BadBlobError:
            raise _damaged(entry, path) from None

    def _check(self, entry: FileEntry, fd: int, path: str) -> None:
        """Raises BadBlobError unless the open file has the entry's bytes."""
        if entry.size <= BLOCKS_ABOVE:
            self._read_small(entry, fd, path)
        else:
            self._copy_large(entry, fd, None, path, None)

    def _try_hard_link(self, entry: FileEntry, blob: int, folder: int, name: str | bytes, path: str) -> bool:
        if entry.executable or not isinstance(self.store, FolderStore):
            return False  # the mode would be that of the store's file, too
        self._check(entry, blob, path)
        try:
            os.link(self.store.path_of(entry.digest), name, dst_dir_fd=folder)
        except OSError as error:
            if error.errno in _CANNOT_LINK:
                return False
            raise
        self._on_bytes(entry.size)
        return True

    @contextmanager
    def _temporary(self) -> Iterator[str]:
        """A name in the landing folder, free again afterwards."""
        temp = f"{self._temp_prefix}{next(self._temp_numbers)}.tmp"
        try:
            yield temp
        except BaseException:
            with suppress(OSError):
                os.unlink(temp, dir_fd=self._landing.fd)
            raise

    def _is_there(self, entry: FileEntry, dir_fd: int) -> bool:
        try:
            fd = os.open(entry.name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=dir_fd)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.EACCES):
                return False  # nothing there, or what rename may replace
            raise
        try:
            status = os.fstat(fd)
            if stat.S_ISDIR(status.st_mode):
                raise IsADirectoryError
            if not stat.S_ISREG(status.st_mode) or status.st_size != entry.size:
                return False
            if status.st_nlink > 1 and not self._hard_links and self._is_the_stores(status, entry):
                return False
            try:
                self._check(entry, fd, "")
            except BadBlobError:
                return False
            if bool(status.st_mode & stat.S_IXUSR) != entry.executable:
                if self._is_the_stores(status, entry):
                    return False
                mode = stat.S_IMODE(status.st_mode)
                # Who may read it may execute it.
                os.fchmod(fd, mode | (mode & 0o444) >> 2 if entry.executable else mode & ~0o111)
            return True
        finally:
            os.close(fd)

    def _is_the_stores(self, status: os.stat_result, entry: FileEntry) -> bool:
        """A hard link of an earlier pull: the store's own file, which is not ours to change."""
        if not isinstance(self.store, FolderStore):
            return False
        with suppress(FileNotFoundError):
            return os.path.samestat(status, os.stat(self.store.path_of(entry.digest)))
        return False

    def _make_link(self, entry: LinkEntry, folder: int, fresh: bool, path: str) -> bool:
        if fresh:
            with suppress(FileNotFoundError):
                os.unlink(entry.name, dir_fd=folder)
            os.symlink(entry.target, entry.name, dir_fd=folder)
            return True
        with suppress(OSError):
            if os.readlink(entry.name, dir_fd=folder) == entry.target:
                return False
        with self._temporary() as temp:
            os.symlink(entry.target, temp, dir_fd=self._landing.fd)
            move_file(temp, self._landing.fd, folder, entry.name, self._shown(path))
        return True

    @contextmanager
    def _open_landed(self, path: str) -> Iterator[int]:
        """A directory in the landing folder, which nobody else writes to. Raises FileNotFoundError, OSError."""
        if len(path) > _LONG_PATH // 3:
            fd = os.dup(self._landing.fd)
            for name in path.split("/"):
                try:
                    below = os.open(name, OPEN_DIRECTORY, dir_fd=fd)
                finally:
                    os.close(fd)
                fd = below
        else:
            fd = os.open(path or ".", OPEN_DIRECTORY, dir_fd=self._landing.fd)
        try:
            yield fd
        finally:
            os.close(fd)

    @contextmanager
    def _open_directory(self, path: str) -> Iterator[int]:
        fd = os.dup(self._dest_fd)
        try:
            done = ""
            for name in path.split("/") if path else ():
                done = f"{done}/{name}" if done else name
                try:
                    below = os.open(name, OPEN_DIRECTORY, dir_fd=fd)
                except OSError as error:
                    self._check_directory(name, fd, done)
                    raise refused(error, f"opening {self._shown(done)}") from error
                os.close(fd)
                fd = below
            yield fd
        finally:
            os.close(fd)

    def _check_directory(self, name: str, dir_fd: int, path: str) -> None:
        try:
            mode = os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_mode
        except OSError as error:
            raise refused(error, f"looking at {self._shown(path)}") from error
        if not stat.S_ISDIR(mode):
            raise ConflictError(not_a_directory(self._shown(path), mode))

    def _shown(self, path: str) -> str:
        return f"{self._dest_path}/{path}"


_CREATE = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
_CANNOT_LINK = frozenset({errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.EOPNOTSUPP})


def _mode_of(entry: FileEntry) -> int:
    return 0o755 if entry.executable else 0o644


def _damaged(entry: FileEntry, path: str) -> BadBlobError:
    return BadBlobError(f"blob {entry.digest} ({path}) is damaged: its bytes have another digest or length", entry.digest)
