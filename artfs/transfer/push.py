"""Pushing: a folder, a file, or a map of entries becomes trees and blobs of a store.

A folder is read in one order (names sorted, each directory's own place), files are hashed and copied by worker threads in
groups, and trees are written as soon as their entries are known. So memory does not grow with the number of files: what
is held is the names of the directories that the walk is in, and a bounded window of groups under way.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from artfs.errors import NotFoundError, SourceChangedError, StorageError
from artfs.model.digests import to_raw
from artfs.model.entry import Entry, FileEntry, LinkEntry, link_stays_inside
from artfs.model.ignore import IgnoreRules
from artfs.model.manifest import BuiltManifest, build_manifest
from artfs.model.pages import BuiltTree, Totals
from artfs.model.records import Content
from artfs.store.base import StoreBatch
from artfs.transfer.ahead import Ahead, Light, Ready
from artfs.transfer.progress import Meter, OnProgress
from artfs.transfer.scan import Kind, Listing, Place, check_bad, list_directory, read_rules, root_place, scan
from artfs.transfer.treewriter import TreeWriter

_GROUP = 32


@dataclass(frozen=True, slots=True)
class Pushed:
    """`root`: digest of the root tree. `totals`: of all below it. `ignored`: relative paths that were left out, a directory
    with "/" behind it; `collisions`: groups of paths that are one path where case or the form of accented letters does not
    matter. Both sorted."""

    root: str
    totals: Totals
    ignored: tuple[str, ...]
    collisions: tuple[tuple[str, ...], ...]


def push_directory(
    batch: StoreBatch, root: str | os.PathLike[str], *, ignore: IgnoreRules | None = None,
    on_progress: OnProgress | None = None, workers: int = 0,
) -> Pushed:
    """Stores all of the folder `root`, not yet synced.

    Empty directories are kept. A symbolic link stays one when it is relative and leads to inside of the folder; otherwise
    what it leads to is stored. A file is executable when its owner may execute it.

    Arguments:
        ignore: what is left out; None: what the folder's `.artfsignore` says, or the default rules.
        on_progress: phases "scan" and "push".
        workers: threads that hash and copy; 0: one for each CPU.
    Raises DraftInvalidError that lists sockets, pipes, devices, broken and endless links, before anything is stored;
    SourceChangedError when a file changes or goes meanwhile; NotFoundError, UsageError (no such folder); StorageError.
    """
    place = root_place(root)
    rules = read_rules(root) if ignore is None else ignore
    with Meter(on_progress, "scan") as meter:
        found = scan(place, rules, meter)
    with Meter(on_progress, "push", found.file_count, found.size) as meter:
        tree = _Push(batch, rules, found.listings, meter, workers).run(place)
    return Pushed(tree.digest, tree.totals, tuple(found.ignored), tuple(sorted(found.collisions)))


def push_file(
    batch: StoreBatch, path: str | os.PathLike[str], *, name: bytes | None = None, expect: Content | None = None,
    on_progress: OnProgress | None = None,
) -> FileEntry:
    """Stores one file, not yet synced, and returns its entry, called `name` (None: the file's own name).

    Raises what StoreBatch.put_file raises.
    """
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise NotFoundError(f"there is no file {os.fspath(path)}") from None
    except OSError as error:
        raise StorageError.wrap(error, f"reading {os.fspath(path)}") from error
    with Meter(on_progress, "push", 1, status.st_size) as meter:
        content = batch.put_file(path, expect=expect, on_bytes=lambda nbytes: meter.advance(0, nbytes))
        meter.advance(1)
    return file_entry(os.fsencode(os.path.basename(path)) if name is None else name, content, status.st_mode)


def push_entries(batch: StoreBatch, files: Mapping[str, Entry], empty_dirs: Iterable[str] = ()) -> BuiltManifest:
    """Makes and stores the trees of a map of paths to entries (see build_manifest); the blobs are there already.

    Raises what build_manifest raises; StorageError.
    """
    built = build_manifest(files, empty_dirs)
    for _, data in built.objects:
        batch.put_page(data)
    return built


def file_entry(name: bytes, content: Content, mode: int) -> FileEntry:
    """The entry of a stored file; `mode` as in st_mode."""
    blocks = to_raw(content.blocks) if content.blocks else b""
    return FileEntry(name, content.size, to_raw(content.digest), blocks, bool(mode & stat.S_IXUSR))


@dataclass(frozen=True, slots=True)
class _Begin:
    name: bytes


@dataclass(frozen=True, slots=True)
class _End:
    pass


_Step = _Begin | _End | LinkEntry | list[FileEntry]
_Task = Ready[_Step] | Light[_Step] | Callable[[], _Step]


class _Push:
    """One walk. It makes steps in order; the files of some are put by workers; they are taken in that order."""

    def __init__(
        self, batch: StoreBatch, rules: IgnoreRules, listings: dict[str, Listing], meter: Meter, workers: int
    ) -> None:
        self._batch = batch
        self._rules = rules
        self._listings = listings
        self._meter = meter
        self._ahead = Ahead(workers)
        self._on_bytes = self._ahead.count(meter)

    def run(self, root: Place) -> BuiltTree:
        # (name, writer) of the directories that are being written
        open_trees: list[tuple[bytes, TreeWriter]] = []
        result: BuiltTree | None = None
        with closing(self._ahead.run(self._tasks(root))) as steps:
            for step in steps:
                if isinstance(step, _Begin):
                    open_trees.append((step.name, TreeWriter(self._batch.put_page)))
                elif isinstance(step, LinkEntry):
                    open_trees[-1][1].add((step,))
                elif isinstance(step, _End):
                    name, writer = open_trees.pop()
                    result = writer.finish()
                    if open_trees:
                        open_trees[-1][1].add((result.as_entry(name),))
                else:
                    open_trees[-1][1].add(step)
        assert result is not None
        return result

    def _tasks(self, root: Place) -> Iterator[_Task]:
        todo = [(root, self._items(root))]
        yield Ready(_Begin(b""))
        while todo:
            place, items = todo[-1]
            group: list[tuple[bytes, bool]] = []
            for name, kind, heavy in items:
                is_file = kind is Kind.FILE or kind is Kind.PROGRAM
                if group and (heavy or not is_file or len(group) == _GROUP):
                    yield Light(partial(self._put_group, place.path, group))
                    group = []
                if heavy:
                    yield partial(self._put_group, place.path, [(name, kind is Kind.PROGRAM)])
                elif is_file:
                    group.append((name, kind is Kind.PROGRAM))
                elif kind is Kind.LINK:
                    yield Ready(_read_link(place, name))
                else:
                    child = place.child(name)
                    todo.append((child, self._items(child)))
                    yield Ready(_Begin(name))
                    break
            else:
                if group:
                    yield Light(partial(self._put_group, place.path, group))
                todo.pop()
                yield Ready(_End())

    def _items(self, place: Place) -> Iterator[tuple[bytes, Kind, bool]]:
        found = self._listings.pop(place.relative, None)
        if found is None:
            found = list_directory(place, self._rules)
            check_bad(place, found.bad, self._rules)
        return found.weighed_items()

    def _put_group(self, directory: str, files: list[tuple[bytes, bool]]) -> list[FileEntry]:
        entries = []
        for name, executable in files:
            path = f"{directory}/{os.fsdecode(name)}"
            try:
                content = self._batch.put_file(path, on_bytes=self._on_bytes)
            except NotFoundError:
                raise SourceChangedError(f"{path} was removed while it was pushed") from None
            entries.append(file_entry(name, content, stat.S_IXUSR if executable else 0))
        self._meter.advance(len(entries))
        return entries


def _read_link(place: Place, name: bytes) -> LinkEntry:
    path = f"{place.path}/{os.fsdecode(name)}"
    try:
        target = os.fsencode(os.readlink(path))
    except OSError:
        raise SourceChangedError(f"{path} changed while it was pushed") from None
    if not link_stays_inside(place.link_parts(), target):
        raise SourceChangedError(f"{path} changed while it was pushed: it leads outside now")
    return LinkEntry(name, target)
