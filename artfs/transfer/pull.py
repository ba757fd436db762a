"""Pulling: the files of a version become ordinary files of the user's, each checked while it is copied."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial

from artfs.errors import ArtfsError, ConflictError
from artfs.model.entry import DirEntry, Entry, FileEntry, LinkEntry, RefEntry
from artfs.model.manifest import Manifest
from artfs.model.records import Content
from artfs.store.base import BlobStore
from artfs.store.blockcopy import BlockCopier
from artfs.transfer.ahead import HEAVY_ABOVE, Ahead, Light
from artfs.transfer.announce import announced
from artfs.transfer.helpers import Helpers
from artfs.transfer.landing import open_landing, refused
from artfs.transfer.progress import Meter, OnProgress
from artfs.transfer.writer import Group, Pulled, Writer

_GROUP = 64
_HELPERS_AFTER = 4
"""Groups of small files after which helpers are worth starting (20 ms each)."""


def pull(
    store: BlobStore, manifest: Manifest, dest: str | os.PathLike[str], *, path_prefix: str | None = None,
    on_progress: OnProgress | None = None, workers: int = 0, hard_links: bool = False,
) -> Pulled:
    """Makes the version's files, links and directories below the folder `dest`, which is made when missing.

    A file is written elsewhere (see `landing`), checked, and then moved into place: no name ever shows half a file. Equal
    ones that are there stay as they are, different ones are replaced, and what the version does not know is left alone.
    Files get 0644 or 0755, less the umask, and share their bytes with the store where the file system has reflinks. Only
    `dest` itself may be a symbolic link: none below it is followed.

    Ended by an error or Ctrl-C, it leaves the files that were whole by then, under their names, and nothing else.

    Arguments:
        path_prefix: only paths that begin with this text ("" and None: all).
        on_progress: phase "pull".
        workers: threads and processes; 0: one for each CPU.
        hard_links: new files are the store's own, read-only (0444): nobody may change them in place. Executable ones,
            and those on other file systems, are copied all the same.
    Raises ConflictError when a directory is where a file or link should be, or something else where a directory should;
    BadBlobError, BlobMissingError, BadObjectError (nothing wrong is left behind); StorageError.
    """
    prefix = path_prefix or ""
    nbytes, files = (0, 0) if prefix else (manifest.totals.size, manifest.totals.file_count)
    ahead = Ahead(workers)
    with (
        Meter(on_progress, "pull", files, nbytes) as meter,
        _open_dest(dest) as (dest_fd, dest_path),
        open_landing(dest_fd, dest_path, partial(_entry_at, manifest, prefix)) as landing,
    ):
        writer = Writer(
            store, landing, dest_fd, dest_path, BlockCopier(ahead.workers), ahead.count(meter), hard_links=hard_links
        )
        work = _Pull(writer, meter, Helpers(ahead.workers - 1 if writer.has_plain_blobs else 0, landing.fd))
        try:
            work.run(manifest, prefix, ahead)
        except BaseException:
            # The helpers first: what they are at is not whole.
            work.helpers.close()
            with suppress(ArtfsError, OSError):
                writer.publish_finished()
            raise
        work.helpers.close()
        try:
            landing.publish()
        except OSError as error:
            raise refused(error, f"moving files into place in {dest_path}") from error
    return work.result


def _entry_at(manifest: Manifest, prefix: str, path: str) -> Entry | None:
    return manifest.get(path) if path.startswith(prefix) else None


class _Pull:
    """One pull: which group is written by whom, and what was done."""

    def __init__(self, writer: Writer, meter: Meter, helpers: Helpers[Group]) -> None:
        self.result = Pulled()
        self.helpers = helpers
        self._writer = writer
        self._meter = meter

    def run(self, manifest: Manifest, prefix: str, ahead: Ahead) -> None:
        groups = _groups(manifest, prefix, self._writer, self.result)
        with closing(ahead.run(self._tasks(groups))) as done:
            for part in done:
                self._count(part)
        self._collect(wait=True)

    def _tasks(self, groups: Iterator[Group]) -> Iterator[Light[Pulled] | Callable[[], Pulled]]:
        small = 0
        for group in announced(groups, _blobs_of, self._writer.store):
            task = partial(self._writer.write_group, group)
            if group.heavy:
                yield task
                continue
            small += 1
            self._collect(wait=False)
            if small <= _HELPERS_AFTER or not self._help(group):
                yield Light(task)

    def _help(self, group: Group) -> bool:
        """Whether a helper writes it."""
        if self.helpers.are_busy or (files := self._writer.plain_files(group)) is None:
            return False
        self._writer.begin(group)
        return self.helpers.offer(group, os.fsencode(group.directory) or b".", files)

    def _collect(self, *, wait: bool) -> None:
        for group, nbytes in self.helpers.done(wait=wait):
            if nbytes < 0:
                self._count(self._writer.write_group(group))
            else:
                self._writer.end(group)
                self._count(Pulled(written=len(group.entries), nbytes=nbytes))
                self._meter.advance(0, nbytes)

    def _count(self, part: Pulled) -> None:
        self.result.written += part.written
        self.result.nbytes += part.nbytes
        self.result.unchanged += part.unchanged
        self.result.links += part.links
        self._meter.advance(part.written + part.unchanged)


def _blobs_of(group: Group) -> Iterator[Content]:
    return (entry.content for entry in group.entries if isinstance(entry, FileEntry))


def _groups(manifest: Manifest, prefix: str, writer: Writer, result: Pulled) -> Iterator[Group]:
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
            yield Group(directory, fresh, entries, False)
            entries = []
        if above != directory:
            directory = above
            fresh = writer.make_directory(above)
        if isinstance(entry, FileEntry) and entry.size > HEAVY_ABOVE:
            yield Group(directory, fresh, [entry], True)
        else:
            entries.append(entry)
    if entries:
        assert directory is not None
        yield Group(directory, fresh, entries, False)


def _wanted(manifest: Manifest, prefix: str) -> Iterator[tuple[str, Entry]]:
    for path, entry in manifest.walk(prefix.rpartition("/")[0], include_dirs=True):
        if (path + "/" if isinstance(entry, DirEntry) else path).startswith(prefix):
            yield path, entry


@contextmanager
def _open_dest(dest: str | os.PathLike[str]) -> Iterator[tuple[int, str]]:
    path = os.path.abspath(dest)
    try:
        os.makedirs(path, exist_ok=True)
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileExistsError, NotADirectoryError):
        raise ConflictError(f"{path} is not a folder (or something above it is a file)") from None
    except OSError as error:
        raise refused(error, f"making the folder {path}") from error
    try:
        yield fd, path
    finally:
        os.close(fd)
