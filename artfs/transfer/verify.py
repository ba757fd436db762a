"""Verifying: a version against the store, the store against its names, a folder against a version."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Literal

from artfs.errors import BlobMissingError, CorruptError, NotFoundError, SourceChangedError, StorageError
from artfs.model.digests import digest_bytes
from artfs.model.entry import DirEntry, Entry, FileEntry, LinkEntry, RefEntry, link_stays_inside
from artfs.model.manifest import Manifest
from artfs.model.pages import MAX_DEPTH
from artfs.model.records import Content
from artfs.model.tree import Directory, PageCache, PageSource
from artfs.store.base import BlobStore, FarStore
from artfs.store.verify import OnBytes, digest_file, hash_file
from artfs.transfer.ahead import Ahead, in_groups
from artfs.transfer.announce import announced
from artfs.transfer.progress import Meter, OnProgress

_REMEMBERED_ABOVE = 64 * 1024


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        path: in the version or folder, a directory with "/" behind it; "" for the root and for blobs of a whole store.
        digest: what should be there; "" for what should not be.
        kind: "missing", "damaged" (bytes that do not match their name), "changed" (a file that differs), "extra".
        what: one line without the path.
    """

    path: str
    digest: str
    kind: Literal["missing", "damaged", "changed", "extra"]
    what: str

    def __str__(self) -> str:
        return f"{self.path or self.digest or 'the root'}: {self.what}"


def verify_version(
    store: BlobStore, root: str, *, on_progress: OnProgress | None = None, workers: int = 0
) -> list[Problem]:
    """Reads all that the version `root` (digest of its root tree) needs, and checks it: trees, files, block lists.

    References are not read. A tree that cannot be read is one problem, with all below it. Sorted by path; [] means that
    all is well. `on_progress`: phase "verify". Raises StorageError when the disk itself fails.
    """
    problems: list[Problem] = []
    ahead = Ahead(workers)
    source = PageCache(store.read_page)
    seen: set[str] = set()
    nbytes = files = 0
    try:
        totals = Manifest(source, root).totals
        nbytes, files = totals.size, totals.file_count
    except (BlobMissingError, CorruptError):
        pass  # found again by the walk
    with Meter(on_progress, "verify", files, nbytes) as meter:
        check = _Check(store, meter, ahead.count(meter))

        def wanted() -> Iterator[tuple[str, Content]]:
            for path, entry in _files(source, root, problems):
                if entry.size > _REMEMBERED_ABOVE:
                    # Small ones may be read twice; remembering a million of them costs more.
                    if entry.digest in seen:
                        meter.advance(1, entry.size)
                        continue
                    seen.add(entry.digest)
                yield path, Content(entry.digest, entry.size, entry.blocks.hex())

        with closing(
            ahead.run(in_groups(announced(wanted(), lambda pair: (pair[1],), store), _size_of, check.blobs))
        ) as done:
            for found in done:
                problems += found
    return sorted(problems)


def verify_store(
    store: BlobStore, *, on_progress: OnProgress | None = None, workers: int = 0
) -> list[Problem]:
    """Reads every blob of the store and checks it against its name. Sorted; [] means that all is well.

    No sweep runs meanwhile. What was half-written when the machine went down is removed first.
    `on_progress`: phase "verify", without totals. Raises StorageError.
    """
    problems: list[Problem] = []
    ahead = Ahead(workers)
    with Meter(on_progress, "verify") as meter:
        check = _Check(store, meter, ahead.count(meter))
        wanted = (("", Content(digest, size)) for digest, size in store.blobs())
        # The batch is for its lock, and for the recovery when it begins.
        with store.begin(), closing(ahead.run(in_groups(wanted, _size_of, check.blobs))) as done:
            for found in done:
                problems += found
    return sorted(problems)


def verify_directory(
    store: BlobStore, root: str, path: str | os.PathLike[str], *, on_progress: OnProgress | None = None,
    workers: int = 0,
) -> list[Problem]:
    """Compares the folder `path` with the version `root`: files by their bytes and executable bits, links by their
    targets, and what the version does not have is "extra". References are not compared, and may be there or not.

    Symbolic links in the folder are not followed. Sorted by path; [] means that they are equal. `on_progress`: phase
    "verify". Raises BadObjectError, BadBlobError, BlobMissingError for the version's trees; StorageError.
    """
    problems: list[Problem] = []
    ahead = Ahead(workers)
    manifest = Manifest(PageCache(store.read_page), root)
    top = os.path.abspath(path)
    with Meter(on_progress, "verify", manifest.totals.file_count, manifest.totals.size) as meter:
        compare = partial(_compare_files, top, meter, ahead.count(meter))
        wanted = _present(manifest, top, problems)
        with closing(ahead.run(in_groups(wanted, _size_of, compare))) as done:
            for found in done:
                problems += found
    return sorted(problems)


def _size_of(item: tuple[str, Content | FileEntry]) -> int:
    return item[1].size


class _Check:
    """Reads blobs of a store on worker threads."""

    def __init__(self, store: BlobStore, meter: Meter, on_bytes: OnBytes) -> None:
        self._store = store
        self._meter = meter
        self._on_bytes = on_bytes

    def blobs(self, group: list[tuple[str, Content]]) -> list[Problem]:
        problems = []
        for path, content in group:
            problem = self._blob(path, content)
            far = self._store
            if problem is not None and isinstance(far, FarStore) and far.forget_damaged(content.digest):
                problem = self._blob(path, content)
            if problem is not None:
                problems.append(problem)
        self._meter.advance(len(group))
        return problems

    def _blob(self, path: str, content: Content) -> Problem | None:
        digest = content.digest
        try:
            fd = self._store.open_blob(digest, content)
        except BlobMissingError:
            return Problem(path, digest, "missing", "its blob is not in the store")
        try:
            size = os.fstat(fd).st_size
            if size != content.size:
                return Problem(path, digest, "damaged", f"its blob has {size} bytes instead of {content.size}")
            if not content.blocks:
                if digest_file(fd, size, on_bytes=self._on_bytes) != digest:
                    return Problem(path, digest, "damaged", "its blob's bytes have another digest")
                return None
            hashed = hash_file(fd, size, on_bytes=self._on_bytes)
        except SourceChangedError:
            return Problem(path, digest, "damaged", "its blob changes while it is read")
        except OSError as error:
            if error.errno == errno.EIO:
                return Problem(path, digest, "damaged", "its blob cannot be read: the disk reports an error")
            raise StorageError.wrap(error, f"reading blob {digest}") from error
        finally:
            os.close(fd)
        if hashed.content.digest != digest:
            return Problem(path, digest, "damaged", "its blob's bytes have another digest")
        if hashed.content.blocks != content.blocks:
            return Problem(path, content.blocks, "damaged", "its block list is not that of its bytes")
        for data in hashed.block_objects:
            name = digest_bytes(data)
            try:
                if self._store.read(name) != data:
                    return Problem(path, name, "damaged", "its block list is not that of its bytes")
            except BlobMissingError:
                return Problem(path, name, "missing", "its block list is not in the store")
            except CorruptError:
                return Problem(path, name, "damaged", "its block list has another digest")
        return None


def _files(source: PageSource, root: str, problems: list[Problem]) -> Iterator[tuple[str, FileEntry]]:
    """All files of a version; what is wrong with its trees goes to `problems`, and the rest is walked all the same."""
    todo: list[tuple[str, DirEntry | None]] = [("", None)]
    while todo:
        prefix, above = todo.pop()
        parts = tuple(prefix.split("/"))[:-1]
        digest = root if above is None else above.digest
        try:
            directory = Directory(source, root) if above is None else Directory.of(source, above)
            for _, entry in directory.entries():
                path = prefix + os.fsdecode(entry.name)
                if isinstance(entry, FileEntry):
                    yield path, entry
                elif isinstance(entry, DirEntry):
                    if len(parts) == MAX_DEPTH:
                        problems.append(Problem(path + "/", digest, "damaged", "directories are nested too deep"))
                    else:
                        todo.append((path + "/", entry))
                elif isinstance(entry, LinkEntry) and not link_stays_inside(parts, entry.target):
                    problems.append(Problem(path, digest, "damaged", "a link that leaves the artifact"))
        except BlobMissingError as error:
            problems.append(Problem(prefix, error.digest, "missing", f"its tree {error.digest} is not in the store"))
        except CorruptError as error:
            problems.append(Problem(prefix, error.digest, "damaged", str(error)))


def _present(manifest: Manifest, top: str, problems: list[Problem]) -> Iterator[tuple[str, FileEntry]]:
    """The files that are in the folder as well, with the size that they should have; other differences go to
    `problems`."""
    directory = manifest.directory()
    assert directory is not None
    todo = [("", directory)]
    while todo:
        prefix, directory = todo.pop()
        found = _listing(f"{top}/{prefix}")
        for _, entry in directory.entries():
            path = prefix + os.fsdecode(entry.name)
            there = found.pop(entry.name, None)
            if isinstance(entry, RefEntry):
                continue
            digest = "" if isinstance(entry, LinkEntry) else entry.digest
            shown = path + "/" if isinstance(entry, DirEntry) else path
            if there is None:
                problems.append(Problem(shown, digest, "missing", "it is not there"))
            elif (difference := _difference(entry, there)) is not None:
                problems.append(Problem(shown, digest, "changed", difference))
            elif isinstance(entry, FileEntry):
                yield path, entry
            elif isinstance(entry, DirEntry):
                todo.append((shown, Directory.of(manifest.source, entry)))
        for name, there in found.items():
            end = "/" if there.is_dir(follow_symlinks=False) else ""
            problems.append(Problem(f"{prefix}{os.fsdecode(name)}{end}", "", "extra", "the version does not have it"))


def _listing(path: str) -> dict[bytes, os.DirEntry[bytes]]:
    try:
        with os.scandir(os.fsencode(path)) as entries:
            return {entry.name: entry for entry in entries}
    except FileNotFoundError:
        raise NotFoundError(f"there is no folder {path}") from None
    except OSError as error:
        raise _unreadable(path, error) from error


def _difference(entry: Entry, there: os.DirEntry[bytes]) -> str | None:
    """What differs as far as it can be seen without reading a file."""
    if isinstance(entry, DirEntry):
        return None if there.is_dir(follow_symlinks=False) else "it is not a directory"
    if isinstance(entry, LinkEntry):
        if not there.is_symlink():
            return "it is not a symbolic link"
        target = os.readlink(there.path)
        return None if target == entry.target else f"it is a link to {os.fsdecode(target)}"
    assert isinstance(entry, FileEntry)
    if not there.is_file(follow_symlinks=False):
        return "it is not a regular file"
    status = there.stat(follow_symlinks=False)
    if status.st_size != entry.size:
        return f"it has {status.st_size} bytes instead of {entry.size}"
    if bool(status.st_mode & stat.S_IXUSR) != entry.executable:
        return f"it is {'not ' if entry.executable else ''}executable"
    return None


def _compare_files(
    top: str, meter: Meter, on_bytes: OnBytes, group: list[tuple[str, FileEntry]]
) -> list[Problem]:
    problems = []
    for path, entry in group:
        try:
            fd = os.open(f"{top}/{path}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                same = digest_file(fd, entry.size, on_bytes=on_bytes) == entry.digest
            finally:
                os.close(fd)
        except (SourceChangedError, FileNotFoundError):
            same = False
        except OSError as error:
            raise _unreadable(f"{top}/{path}", error) from error
        if not same:
            problems.append(Problem(path, entry.digest, "changed", "its bytes differ"))
    meter.advance(len(group))
    return problems


def _unreadable(path: str, error: OSError) -> StorageError:
    number = error.errno or errno.EIO
    return StorageError(f"cannot read {path}: {os.strerror(number)}", number)
