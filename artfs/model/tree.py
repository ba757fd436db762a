"""Trees: a directory read through its pages, wherever they come from. `pages` says how a directory is encoded.

A tree may come from somebody else. `pages.decode_page` checks each page by itself; Directory checks, as pages are met, that
they fit together: levels, bounds of names, totals, and where pages end.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import Protocol

import cachetools

from artfs.errors import BadObjectError
from artfs.model.digests import Digest
from artfs.model.entry import DirEntry, Entry
from artfs.model.pages import (
    EMPTY_TREE,
    MAX_DEPTH,
    MAX_ITEMS,
    MAX_PAGE_BYTES,
    MIN_ITEMS,
    UNKNOWN,
    BuiltTree,
    IndexItem,
    IndexPage,
    LeafPage,
    Page,
    Totals,
    build_tree,
    decode_page,
    ends_page,
)

__all__ = [
    "EMPTY_TREE",
    "MAX_DEPTH",
    "MAX_ITEMS",
    "MAX_PAGE_BYTES",
    "MIN_ITEMS",
    "UNKNOWN",
    "BuiltTree",
    "Directory",
    "IndexItem",
    "IndexPage",
    "LeafPage",
    "Page",
    "PageCache",
    "PageSource",
    "Totals",
    "build_tree",
    "decode_page",
]

_name_of = attrgetter("name")


class PageSource(Protocol):
    """Where pages come from. Reading may be I/O; a page that is not there raises what the store raises."""

    def page(self, digest: Digest) -> Page: ...


class PageCache:
    """A page source that reads bytes with `load` and keeps decoded pages, the most recently used ones.

    Thread-safe; two threads that miss the same page at once may both load it.
    """

    def __init__(self, load: Callable[[Digest], bytes], capacity: int = 1 << 16) -> None:
        """Keeps pages of at most `capacity` entries and index items in all (about 250 bytes each); 0 keeps none."""
        self._load = load
        self._lock = threading.Lock()
        self._pages: cachetools.LRUCache[Digest, Page] = cachetools.LRUCache(capacity, getsizeof=lambda page: len(page) + 1)

    def page(self, digest: Digest) -> Page:
        """Raises what `load` raises, and BadObjectError."""
        with self._lock:
            page = self._pages.get(digest)
        if page is None:
            page = decode_page(digest, self._load(digest))
            with self._lock:
                if len(page) < self._pages.maxsize:
                    self._pages[digest] = page
        return page


class Directory:
    """One directory as its pages show it. Reads its root page when made, others when needed, and checks how they fit.

    Every method may read pages: it raises what the source raises, and BadObjectError (naming the page that is wrong or makes
    false claims).
    """

    def __init__(self, source: PageSource, digest: Digest, expect: Totals | None = None) -> None:
        """`expect`: what the parent's entry says of it; None when nothing vouches for it (a root)."""
        self._source = source
        self.digest = digest
        self._root = source.page(digest)
        if isinstance(self._root, IndexPage) and len(self._root) < 2:
            raise BadObjectError(f"the tree {digest} is damaged: its root page has a single page below it", digest)
        self.totals = self._root.totals
        if expect is not None and (
            (expect.size, expect.file_count) != (self.totals.size, self.totals.file_count)
            or expect.count not in (UNKNOWN, self.totals.count)
        ):
            raise BadObjectError(f"the tree {digest} does not have the totals that its parent gives it", digest)

    @classmethod
    def of(cls, source: PageSource, entry: DirEntry) -> Directory:
        """The directory that `entry` stands for, its totals checked."""
        return cls(source, entry.digest, Totals(UNKNOWN, entry.size, entry.file_count))

    @property
    def root(self) -> Page:
        """The root page."""
        return self._root

    def __len__(self) -> int:
        """How many entries it has."""
        return self.totals.count

    def lookup(self, name: bytes) -> tuple[int, Entry] | None:
        """(position, entry) of that name, or None."""
        page, upper, start = self._root, None, 0
        while isinstance(page, IndexPage):
            at = bisect_right(page.items, name, key=_name_of) - 1
            if at < 0:
                return None
            start += page.starts[at]
            page, upper = self._below(page, at, upper)
        at = bisect_left(page.entries, name, key=_name_of)
        if at < len(page.entries) and page.entries[at].name == name:
            return start + at, page.entries[at]
        return None

    def at(self, index: int) -> Entry:
        """The entry at that position, 0 <= index < len(self). Raises IndexError."""
        if not 0 <= index < self.totals.count:
            raise IndexError(index)
        page, upper = self._root, None
        while isinstance(page, IndexPage):
            at = bisect_right(page.starts, index) - 1
            index -= page.starts[at]
            page, upper = self._below(page, at, upper)
        return page.entries[index]

    def entries(self, start: int = 0) -> Iterator[tuple[int, Entry]]:
        """(position, entry) of all from position `start` on, in the order of names."""
        if start >= self.totals.count:
            return
        position = skip = max(start, 0)
        # (page, next item, upper bound of names) of each index page above the current leaf
        path: list[tuple[IndexPage, int, bytes | None]] = []
        page, upper = self._root, None
        while True:
            while isinstance(page, IndexPage):
                at = bisect_right(page.starts, skip) - 1
                skip -= page.starts[at]
                path.append((page, at + 1, upper))
                page, upper = self._below(page, at, upper)
            for entry in page.entries[skip:] if skip else page.entries:
                yield position, entry
                position += 1
            skip = 0
            while path and path[-1][1] == len(path[-1][0]):
                path.pop()
            if not path:
                return
            above, at, bound = path[-1]
            path[-1] = (above, at + 1, bound)
            page, upper = self._below(above, at, bound)

    def pages(self) -> Iterator[Digest]:
        """The digests of all pages of this directory (not of those below it), the root first. Reads index pages only."""
        yield self.digest
        for item, _ in self._index_items():
            yield item.digest

    def leaf_items(self) -> list[IndexItem]:
        """The leaf pages as the items of the index pages above them, in order; [] if the root is a leaf itself."""
        return [item for item, level in self._index_items() if level == 0]

    def _index_items(self) -> Iterator[tuple[IndexItem, int]]:
        """(item, level of the page that it names) of all items of all index pages, parents first."""
        todo: list[tuple[Page, bytes | None]] = [(self._root, None)]
        while todo:
            page, upper = todo.pop()
            if not isinstance(page, IndexPage):
                continue
            for item in page.items:
                yield item, page.level - 1
            if page.level > 1:
                todo.extend(self._below(page, at, upper) for at in reversed(range(len(page))))

    def below(self, page: IndexPage, at: int, upper: bytes | None) -> tuple[Page, bytes | None]:
        """The page that item `at` of `page` names, checked against it, and the name that bounds its names from above.

        `upper`: that bound for `page`; None: there is none, `page` is the last of its level.
        """
        return self._below(page, at, upper)

    def _below(self, page: IndexPage, at: int, upper: bytes | None) -> tuple[Page, bytes | None]:
        item = page.items[at]
        if at + 1 < len(page.items):
            upper = page.items[at + 1].name
        child = self._source.page(item.digest)
        names: Sequence[Entry] | Sequence[IndexItem] = child.items if isinstance(child, IndexPage) else child.entries
        if child.level != page.level - 1 or not names or names[0].name != item.name:
            raise BadObjectError(f"the tree {self.digest} is damaged: its page {item.digest} is out of place", item.digest)
        if child.totals != Totals(item.count, item.size, item.file_count):
            raise BadObjectError(f"the tree {self.digest} is damaged: totals of its page {item.digest} differ", self.digest)
        if upper is not None:
            last = names[-1].name
            if last >= upper:
                raise BadObjectError(f"the tree {self.digest} is damaged: its pages overlap at {last!r}", self.digest)
            if len(names) < MIN_ITEMS or (len(names) < MAX_ITEMS and not ends_page(last, child.level)):
                raise BadObjectError(f"the tree {self.digest} is damaged: its page {item.digest} ends too early", item.digest)
        return child, upper
