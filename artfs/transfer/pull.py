"""Pulling: the files of a version become ordinary files of the user's, each checked while it is copied."""

from __future__ import annotations

import errno
import itertools
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

from artfs.errors import BadBlobError, ConflictError, SourceChangedError, StorageError
from artfs.model.digests import BLOCKS_ABOVE, digest_bytes
from artfs.model.entry import DirEntry, Entry, FileEntry, LinkEntry, RefEntry
from artfs.model.manifest import Manifest
from artfs.store.base import BlobStore
from artfs.store.linux import try_reflink
from artfs.store.verify import OnBytes, copy_digesting, digest_file, read_small, write_all
from artfs.transfer.ahead import HEAVY_ABOVE, Ahead, Light
from artfs.transfer.progress import Meter, OnProgress

_GROUP = 64


@dataclass(slots=True)
class Pulled:
    """What a pull did. `written`, `nbytes`: files that were written and their bytes; `unchanged`: files and links that
    were there already; `links`: links that were made; `references`: paths of references, which it leaves to others."""

    written: int = 0
    nbytes: int = 0
    unchanged: int = 0
    links: int = 0
    references: list[str] = field(default_factory=list)


def pull(
    store: BlobStore, manifest: Manifest, dest: str | os.PathLike[str], *, path_prefix: str | None = None,
    on_progress: OnProgress | None = None, workers: int = 0,
) -> Pulled:
    """Makes the version's files, links and directories below the folder `dest`, which is made when missing.

    A file is written under another name, checked, and then moved into place: no name ever shows half a file. Equal ones
    that are there stay as they are, different ones are replaced, and what the version does not know is left alone. Files
    get 0644 or 0755, less the umask. Only `dest` itself may be a symbolic link: none below it is followed.

    Arguments:
        path_prefix: only paths that begin with this text ("" and None: all).
        on_progress: phase "pull".
        workers: threads; 0: one for each CPU.
    Raises ConflictError when a directory is where a file or link should be, or something else where a directory should;
    BadBlobError, BlobMissingError, BadObjectError (nothing wrong is left behind); StorageError.
    """
    prefix = path_prefix or ""
    nbytes, files = (0, 0) if prefix else (manifest.totals.size, manifest.totals.file_count)
    result = Pulled()
    ahead = Ahead(workers)
    with Meter(on_progress, "pull", files, nbytes) as meter, _open_dest(dest) as (dest_fd, dest_path, fresh):
        writer = _Writer(store, dest_fd, dest_path, fresh, ahead.count(meter))
        groups = _groups(manifest, prefix, writer, result)
        tasks = (_task(writer, group) for group in groups)
        with closing(ahead.run(tasks)) as done:
            for part in done:
                result.written += part.written
                result.nbytes += part.nbytes
                result.unchanged += part.unchanged
                result.links += part.links
                meter.advance(part.written + part.unchanged)
    return result


@dataclass(frozen=True, slots=True)
class _Group:
    """Entries of one directory. `fresh`: the pull made the directory, so nothing else is in it. `heavy`: one large file."""

    directory: str
    fresh: bool
    entries: list[FileEntry | LinkEntry]
    heavy: bool


def _task(writer: _Writer, group: _Group) -> Light[Pulled] | Callable[[], Pulled]:
    task = partial(writer.write_group, group)
    return task if group.heavy else Light(task)


def _groups(manifest: Manifest, prefix: str, writer: _Writer, result: Pulled) -> Iterator[_Group]:
    directory: str | None = None
    fresh = False
    entries: list[FileEntry | LinkEntry] = []
    for path, entry in _wanted(manifest, prefix):
        if isinstance(entry, RefEntry):
            result.references.append(path)
            continue
        if isinstance(entry, DirEntry):
            # Made here, so that an empty one is there, too.
            writer.make_directory(path)
            continue
        above = path.rpartition("/")[0]
        if entries and (above != directory or len(entries) == _GROUP):
            assert directory is not None
            yield _Group(directory, fresh, entries, False)
            entries = []
        if above != directory:
            directory = above
            fresh = writer.make_directory(above)
        if isinstance(entry, FileEntry) and entry.size > HEAVY_ABOVE:
            yield _Group(directory, fresh, [entry], True)
        else:
            entries.append(entry)
    if entries:
        assert directory is not None
        yield _Group(directory, fresh, entries, False)


def _wanted(manifest: Manifest, prefix: str) -> Iterator[tuple[str, Entry]]:
    for path, entry in manifest.walk(prefix.rpartition("/")[0], include_dirs=True):
        if (path + "/" if isinstance(entry, DirEntry) else path).startswith(prefix):
            yield path, entry


class _Writer:
    """Writes below one folder, never through a symbolic link."""

    def __init__(self, store: BlobStore, dest_fd: int, dest_path: str, fresh: bool, on_bytes: OnBytes) -> None:
        self._store = store
        self._dest_fd = dest_fd
        self._dest_path = dest_path
        self._on_bytes = on_bytes
        self._can_reflink = True
        self._temp_prefix = f".artfs-{secrets.token_hex(4)}-"
        self._temp_numbers = itertools.count(1)
        self._fresh: dict[str, bool] = {"": fresh}

    def make_directory(self, path: str) -> bool:
        """Makes it, with those above it, unless it is there; whether this pull made it."""
        known = self._fresh.get(path)
        if known is None:
            above, _, name = path.rpartition("/")
            self.make_directory(above)
            with self._open_directory(above) as fd:
                try:
                    os.mkdir(name, dir_fd=fd)
                    known = True
                except FileExistsError:
                    known = False
                    self._check_directory(name, fd, path)
                except OSError as error:
                    raise self._refused(error, f"making the directory {self._shown(path)}") from error
            self._fresh[path] = known
        return known

    def write_group(self, group: _Group) -> Pulled:
        done = Pulled()
        prefix = f"{group.directory}/" if group.directory else ""
        with self._open_directory(group.directory) as fd:
            for entry in group.entries:
                path = prefix + os.fsdecode(entry.name)
                try:
                    if isinstance(entry, LinkEntry):
                        if self._make_link(entry, fd, group.fresh):
                            done.links += 1
                        else:
                            done.unchanged += 1
                    elif not group.fresh and self._is_there(entry, fd):
                        done.unchanged += 1
                        self._on_bytes(entry.size)
                    else:
                        self._write_file(entry, fd, path)
                        done.written += 1
                        done.nbytes += entry.size
                except IsADirectoryError:
                    raise ConflictError(
                        f"{self._shown(path)} is a directory, and the version has"
                        f" a {'link' if isinstance(entry, LinkEntry) else 'file'} there; move it away"
                    ) from None
                except OSError as error:
                    raise self._refused(error, f"writing {self._shown(path)}") from error
        return done

    def _write_file(self, entry: FileEntry, dir_fd: int, path: str) -> None:
        blob = self._store.open_blob(entry.digest)
        try:
            if entry.size <= BLOCKS_ABOVE:
                data = read_small(blob, entry.size)
                if digest_bytes(data) != entry.digest:
                    raise _damaged(entry, path)
                self._on_bytes(entry.size)
                self._write_small(data, entry, dir_fd)
            else:
                with self._temporary(entry, dir_fd) as target:
                    if self._copy(blob, target, entry.size) != entry.digest:
                        raise _damaged(entry, path)
        except SourceChangedError:
            raise _damaged(entry, path) from None
        finally:
            os.close(blob)

    def _write_small(self, data: bytes, entry: FileEntry, dir_fd: int) -> None:
        temp = self._temp_name()
        fd = os.open(temp, _CREATE, 0o755 if entry.executable else 0o644, dir_fd=dir_fd)
        try:
            try:
                write_all(fd, data, 0)
            finally:
                os.close(fd)
            os.rename(temp, entry.name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
        except BaseException:
            with suppress(OSError):
                os.unlink(temp, dir_fd=dir_fd)
            raise

    def _copy(self, blob: int, target: int, size: int) -> str:
        if self._can_reflink:
            if try_reflink(blob, target):
                return digest_file(target, size, on_bytes=self._on_bytes)
            self._can_reflink = False
        return copy_digesting(blob, target, size, on_bytes=self._on_bytes)

    def _temp_name(self) -> str:
        return f"{self._temp_prefix}{next(self._temp_numbers)}.tmp"

    @contextmanager
    def _temporary(self, entry: FileEntry, dir_fd: int) -> Iterator[int]:
        """A new file that gets the entry's name when the `with` ends well, and is gone otherwise."""
        temp = self._temp_name()
        fd = os.open(temp, _CREATE, 0o755 if entry.executable else 0o644, dir_fd=dir_fd)
        try:
            try:
                yield fd
            finally:
                os.close(fd)
            os.rename(temp, entry.name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
        except BaseException:
            with suppress(OSError):
                os.unlink(temp, dir_fd=dir_fd)
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
            try:
                if digest_file(fd, entry.size) != entry.digest:
                    return False
            except SourceChangedError:
                return False
            if bool(status.st_mode & stat.S_IXUSR) != entry.executable:
                mode = stat.S_IMODE(status.st_mode)
                # Who may read it may execute it.
                os.fchmod(fd, mode | (mode & 0o444) >> 2 if entry.executable else mode & ~0o111)
            return True
        finally:
            os.close(fd)

    def _make_link(self, entry: LinkEntry, dir_fd: int, fresh: bool) -> bool:
        if not fresh:
            with suppress(OSError):
                if os.readlink(entry.name, dir_fd=dir_fd) == entry.target:
                    return False
        temp = self._temp_name()
        os.symlink(entry.target, temp, dir_fd=dir_fd)
        try:
            os.rename(temp, entry.name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
        except BaseException:
            with suppress(OSError):
                os.unlink(temp, dir_fd=dir_fd)
            raise
        return True

    @contextmanager
    def _open_directory(self, path: str) -> Iterator[int]:
        fd = os.dup(self._dest_fd)
        try:
            done = ""
            for name in path.split("/") if path else ():
                done = f"{done}/{name}" if done else name
                try:
                    below = os.open(name, _DIRECTORY, dir_fd=fd)
                except OSError as error:
                    self._check_directory(name, fd, done)
                    raise self._refused(error, f"opening {self._shown(done)}") from error
                os.close(fd)
                fd = below
            yield fd
        finally:
            os.close(fd)

    def _check_directory(self, name: str, dir_fd: int, path: str) -> None:
        try:
            mode = os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_mode
        except OSError as error:
            raise self._refused(error, f"looking at {self._shown(path)}") from error
        if not stat.S_ISDIR(mode):
            what = "a symbolic link" if stat.S_ISLNK(mode) else "a file"
            raise ConflictError(f"{self._shown(path)} is {what}, and the version has a directory there; move it away")

    def _refused(self, error: OSError, doing: str) -> StorageError:
        number = error.errno or errno.EIO
        return StorageError(f"{doing} failed: {os.strerror(number)}", number)

    def _shown(self, path: str) -> str:
        return f"{self._dest_path}/{path}"


_CREATE = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW


@contextmanager
def _open_dest(dest: str | os.PathLike[str]) -> Iterator[tuple[int, str, bool]]:
    path = os.path.abspath(dest)
    fresh = not os.path.lexists(path)
    try:
        os.makedirs(path, exist_ok=True)
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileExistsError, NotADirectoryError):
        raise ConflictError(f"{path} is not a folder (or something above it is a file)") from None
    except OSError as error:
        raise StorageError(f"making the folder {path} failed: {error.strerror}", error.errno or errno.EIO) from error
    try:
        yield fd, path, fresh
    finally:
        os.close(fd)


def _damaged(entry: FileEntry, path: str) -> BadBlobError:
    return BadBlobError(f"blob {entry.digest} ({path}) is damaged: its bytes have another digest or length", entry.digest)
