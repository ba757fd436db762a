"""Manifests: all entries of a version, as a view over its trees; what differs between two; making new ones.

Nothing is kept here but the root's digest and page: every method reads pages from the source, raises what
that raises, and BadObjectError for trees that are malformed, over MAX_DEPTH deep, or hold a link that leaves
the artifact. Paths are text as `os.fsdecode` makes it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from artfs.errors import BadObjectError, PathNotFoundError
from artfs.model.blocklist import decode_block_list, has_lower_list
from artfs.model.digests import Digest
from artfs.model.edit import BuiltManifest, build_manifest, edit_tree
from artfs.model.entry import DirEntry, Entry, FileEntry, LinkEntry, link_stays_inside
from artfs.model.pages import MAX_DEPTH, LeafPage, Page, Totals
from artfs.model.tree import Directory, PageRef, PageSource

__all__ = ["BuiltManifest", "Change", "Manifest", "build_manifest", "diff", "edit"]


class Manifest:
    """The entries of one version."""

    def __init__(self, source: PageSource, root: Digest) -> None:
        """Reads the root's page."""
        self.source = source
        self.root = root
        self._top = Directory(source, root)

    @property
    def totals(self) -> Totals:
        """Of the root directory: sizes and files of the whole version."""
        return self._top.totals

    @property
    def top(self) -> Directory:
        """The root directory."""
        return self._top

    def directory(self, path: str = "") -> Directory | None:
        """The directory at `path` ("" is the root); None when nothing, or something else, is there."""
        if not path:
            return self._top
        entry = self.get(path)
        return Directory.of(self.source, entry) if isinstance(entry, DirEntry) else None

    def get(self, path: str) -> Entry | None:
        """The entry at `path` (normalised, see paths.check_path); None when nothing is there. Links are not
        followed. The root has no entry: "" is None."""
        try:
            *parents, name = os.fsencode(path).split(b"/")
        except UnicodeEncodeError:
            return None
        directory = self._top
        for part in parents:
            found = directory.lookup(part)
            if found is None or not isinstance(found[1], DirEntry):
                return None
            directory = Directory.of(self.source, found[1])
        found = directory.lookup(name)
        if found is None:
            return None
        _check_link(directory, found[1], len(parents))
        return found[1]

    def walk(self, below: str = "", *, include_dirs: bool = False) -> Iterator[tuple[str, Entry]]:
        """(path, entry) of all files, links and references at or below the path `below` ("": everywhere;
        nothing there: nothing), and with `include_dirs` of directories, each before what is in it.

        In the order of name bytes, directory by directory. Reads pages as it goes. Paths begin at the root.
        """
        top, prefix, depth = self._top, "", 0
        if below:
            entry = self.get(below)
            if entry is None:
                return
            if not isinstance(entry, DirEntry):
                yield below, entry
                return
            if include_dirs:
                yield below, entry
            top, prefix, depth = Directory.of(self.source, entry), below + "/", below.count("/") + 1
        yield from self._walk([(prefix, top, top.entries())], depth, include_dirs)

    def walk_after(self, path: str) -> Iterator[tuple[str, Entry]]:
        """What `walk()` tells after `path`, which is in the manifest, without reading what comes before.

        Raises PathNotFoundError.
        """
        directory, prefix = self._top, ""
        todo: list[tuple[str, Directory, Iterator[tuple[int, Entry]]]] = []
        *parents, name = os.fsencode(path).split(b"/")
        for part in [*parents, name]:
            found = directory.lookup(part)
            if found is None:
                raise PathNotFoundError(f"there is no {path!r} in this artifact")
            at, entry = found
            todo.append((prefix, directory, directory.entries(at + 1)))
            if len(todo) <= len(parents):
                if not isinstance(entry, DirEntry):
                    raise PathNotFoundError(f"there is no {path!r} in this artifact")
                directory, prefix = Directory.of(self.source, entry), f"{prefix}{os.fsdecode(part)}/"
        yield from self._walk(todo, 0, False)

    def _walk(
        self,
        todo: list[tuple[str, Directory, Iterator[tuple[int, Entry]]]],
        depth: int,
        include_dirs: bool,
    ) -> Iterator[tuple[str, Entry]]:
        """`todo`: of each directory from `depth` down to where it begins, what is left of it."""
        while todo:
            prefix, directory, entries = todo[-1]
            for _, entry in entries:
                path = prefix + os.fsdecode(entry.name)
                if isinstance(entry, DirEntry):
                    if include_dirs:
                        yield path, entry
                    inner = _open(self.source, entry, depth + len(todo))
                    todo.append((path + "/", inner, inner.entries()))
                    break
                if isinstance(entry, LinkEntry):
                    _check_link(directory, entry, depth + len(todo) - 1)
                yield path, entry
            else:
                todo.pop()

    def files(self) -> Iterator[tuple[str, FileEntry]]:
        """(path, entry) of the files whose bytes we keep: no links, no references. Ordered as by `walk`."""
        for path, entry in self.walk():
            if isinstance(entry, FileEntry):
                yield path, entry

    def objects(
        self, seen: set[Digest] | None = None, read: Callable[[Digest], bytes] | None = None
    ) -> Iterator[Digest]:
        """The digests of everything that the version needs in the store: pages of trees, blobs of files,
        block lists.

        Arguments:
            seen: digests of pages whose objects were told before; they and all below them are skipped, and
                the pages told now are added. Share one set between versions to mark a store in time
                proportional to what is in it. (If the iterator is not run to its end, the set is worthless.)
            read: reads a blob. When given, block lists in two levels (files over 2 GiB) are read and their
                lower lists told, too; otherwise only their tops are.
        A blob that several files have may be told several times. Links are not checked.
        """
        seen = set() if seen is None else seen
        todo: list[tuple[DirEntry | None, int]] = [(None, 0)]
        while todo:
            entry, depth = todo.pop()
            if (self.root if entry is None else entry.digest) in seen:
                continue
            directory = self._top if entry is None else _open(self.source, entry, depth)
            for digest, page in directory.read_pages(seen):
                seen.add(digest)
                yield digest
                if not isinstance(page, LeafPage):
                    continue
                for item in page.entries:
                    if isinstance(item, FileEntry):
                        yield item.digest
                        if item.blocks:
                            blocks = item.blocks.hex()
                            yield blocks
                            if read is not None and has_lower_list(item.size):
                                yield decode_block_list(blocks, read(blocks), item.size).lower.hex()
                    elif isinstance(item, DirEntry):
                        todo.append((item, depth + 1))


def _open(source: PageSource, entry: DirEntry, depth: int) -> Directory:
    """The directory of `entry`, which is `depth` directories below the root."""
    if depth > MAX_DEPTH:
        raise BadObjectError(
            f"the tree {entry.digest} is more than {MAX_DEPTH} directories deep", entry.digest
        )
    return Directory.of(source, entry)


def _check_link(directory: Directory, entry: Entry, depth: int) -> None:
    if isinstance(entry, LinkEntry) and not link_stays_inside((b"",) * depth, entry.target):
        raise BadObjectError(
            f"the tree {directory.digest} is damaged: its link {entry.name!r} leaves the artifact",
            directory.digest,
        )


def edit(manifest: Manifest, changes: Mapping[str, Entry | None]) -> BuiltManifest:
    """The version with `changes` to it: see edit.edit_tree."""
    return edit_tree(manifest.source, manifest.top, changes)


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. `old` is None when it was added, `new` when it was removed."""

    path: str
    kind: Literal["added", "removed", "changed"]
    old: Entry | None
    new: Entry | None


_Head = PageRef | Entry


class _Side:
    """What is still to compare of one version's directory, the next on top: entries, and unread pages."""

    __slots__ = ("directory", "todo")

    def __init__(self, directory: Directory | None) -> None:
        self.directory = directory
        self.todo: list[_Head] = []
        if directory is not None:
            self._push(directory, directory.root, None)

    def _push(self, directory: Directory, page: Page, upper: bytes | None) -> None:
        self.todo.extend(
            reversed(page.entries if isinstance(page, LeafPage) else directory.refs(page, upper))
        )

    def expand(self) -> None:
        """Replaces the page on top by what it holds."""
        ref = self.todo.pop()
        assert isinstance(ref, PageRef)
        assert self.directory is not None
        self._push(self.directory, self.directory.read(ref), ref.upper)

    def first_name(self) -> bytes | None:
        if not self.todo:
            return None
        head = self.todo[-1]
        return head.item.name if isinstance(head, PageRef) else head.name


def _next_pair(old: _Side, new: _Side) -> tuple[Entry | None, Entry | None] | None:
    """The next name that is not the same on both sides: (its old entry, its new entry). None when there is
    none left.

    Equal pages are dropped unread. Of two different ones that begin at different names only the earlier is
    read: the other may turn out to equal a later one.
    """
    while old.todo or new.todo:
        before, after = old.first_name(), new.first_name()
        left = old.todo[-1] if before is not None and (after is None or before <= after) else None
        right = new.todo[-1] if after is not None and (before is None or after <= before) else None
        if isinstance(left, PageRef) and isinstance(right, PageRef):
            if left.item.page == right.item.page:
                old.todo.pop()
                new.todo.pop()
                continue
            if left.level >= right.level:
                old.expand()
            if right.level >= left.level:
                new.expand()
        elif isinstance(left, PageRef):
            old.expand()
        elif isinstance(right, PageRef):
            new.expand()
        else:
            if left is not None:
                old.todo.pop()
            if right is not None:
                new.todo.pop()
            if left != right:
                return left, right
    return None


def diff(old: Manifest, new: Manifest, *, include_dirs: bool = False) -> Iterator[Change]:
    """What changed from `old` to `new`, in time proportional to it: equal trees and pages are skipped unread.

    Files, links and references; with `include_dirs` also directories that were added or removed (one whose
    content changed did not change itself). What became a directory, or was one, is removed and added. Ordered
    as by `walk`.
    """
    if old.root == new.root:
        return
    todo = [("", _Side(old.top), _Side(new.top))]
    while todo:
        prefix, left, right = todo[-1]
        pair = _next_pair(left, right)
        if pair is None:
            todo.pop()
            continue
        before, after = pair
        path = prefix + os.fsdecode((before or after).name)  # type: ignore[union-attr]
        was, now = isinstance(before, DirEntry), isinstance(after, DirEntry)
        if right.directory is not None and after is not None:
            _check_link(right.directory, after, len(todo) - 1)
        if before is not None and after is not None and not was and not now:
            yield Change(path, "changed", before, after)
            continue
        if before is not None and not (was and now) and (include_dirs or not was):
            yield Change(path, "removed", before, None)
        if after is not None and not (was and now) and (include_dirs or not now):
            yield Change(path, "added", None, after)
        if was or now:
            todo.append(
                (
                    path + "/",
                    _Side(_open(old.source, before, len(todo)) if isinstance(before, DirEntry) else None),
                    _Side(_open(new.source, after, len(todo)) if isinstance(after, DirEntry) else None),
                )
            )
