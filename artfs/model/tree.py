"""Trees: a directory read through its pages, wherever they come from. `pages` says how a directory is
encoded.

A tree may come from somebody else. `pages.decode_page` checks each page by itself; Directory checks, as pages
are met, that they fit together: levels, bounds of names, totals, and where pages end.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Container, Iterator, Sequence
from operator import attrgetter
from typing import NamedTuple, Protocol

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
    "PageRef",
    "PageSource",
    "Totals",
    "build_tree",
    "decode_page",
    "is_deeper",
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
        """Keeps pages of `capacity` entries and index items in all (about 250 bytes each); 0 keeps none."""
        self._load = load
        self._lock = threading.Lock()
        self._pages: cachetools.LRUCache[Digest, Page] = cachetools.LRUCache(
            capacity, getsizeof=lambda page: len(page) + 1
        )

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


class PageRef(NamedTuple):
    """A page of a directory that may not have been read: the item that names it, its level, and the name that
    bounds its names from above (None: there is none, it is the last page of its level)."""

    item: IndexItem
    level: int
    upper: bytes | None


class Directory:
    """One directory as its pages show it. Reads its root page when made, others when needed, and checks how
    they fit.

    Every method may read pages: it raises what the source raises, and BadObjectError (naming the page that is
    wrong by itself, or this directory when its pages do not fit together).
    """

    def __init__(self, source: PageSource, digest: Digest, expect: Totals | None = None) -> None:
        """`expect`: what the parent's entry says of it; None when nothing vouches for it (a root)."""
        self._source = source
        self.digest = digest
        self._root = source.page(digest)
        if isinstance(self._root, IndexPage) and len(self._root) < 2:
            raise self._damaged("its root page has a single page below it")
        self.totals = self._root.totals
        if expect is not None and (
            (expect.size, expect.file_count) != (self.totals.size, self.totals.file_count)
            or expect.count not in (UNKNOWN, self.totals.count)
        ):
            raise BadObjectError(
                f"the tree {digest} does not have the totals that its parent gives it", digest
            )

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
        """The digests of all pages of this directory (not of those below it), the root first. Reads only
        index pages."""
        yield self.digest
        for ref in self.page_refs():
            yield ref.item.digest

    def page_refs(self) -> Iterator[PageRef]:
        """All pages of this directory but the root, those of one level in order. Reads index pages only."""
        todo: list[tuple[Page, bytes | None]] = [(self._root, None)]
        while todo:
            page, upper = todo.pop()
            below = self.refs(page, upper)
            yield from below
            if page.level > 1:
                todo.extend((self.read(ref), ref.upper) for ref in reversed(below))

    def leaf_refs(self) -> list[PageRef]:
        """The leaf pages, in order; [] if the root is a leaf itself. Reads index pages only."""
        return [ref for ref in self.page_refs() if ref.level == 0]

    def read_pages(self, skip: Container[Digest] = ()) -> Iterator[tuple[Digest, Page]]:
        """(digest, page) of all pages of this directory, parents before children; those in `skip`, with all
        that is below them, are left out unread. `skip` is asked when a page's turn comes."""
        todo: list[PageRef] = []
        if self.digest not in skip:
            yield self.digest, self._root
            todo.extend(reversed(self.refs(self._root, None)))
        while todo:
            ref = todo.pop()
            digest = ref.item.digest
            if digest not in skip:
                page = self.read(ref)
                yield digest, page
                todo.extend(reversed(self.refs(page, ref.upper)))

    def refs(self, page: Page, upper: bytes | None) -> list[PageRef]:
        """The pages right below `page`, whose names are bounded by `upper` (None: they are not); [] below a
        leaf."""
        if not isinstance(page, IndexPage):
            return []
        bounds = [*(item.name for item in page.items[1:]), upper]
        return [PageRef(item, page.level - 1, bound) for item, bound in zip(page.items, bounds, strict=True)]

    def read(self, ref: PageRef) -> Page:
        """The page that `ref` stands for, checked against it."""
        item = ref.item
        page = self._source.page(item.digest)
        names: Sequence[Entry] | Sequence[IndexItem] = (
            page.items if isinstance(page, IndexPage) else page.entries
        )
        if page.level != ref.level or not names or names[0].name != item.name:
            raise self._damaged(f"its page {item.digest} is out of place")
        if page.totals != Totals(item.count, item.size, item.file_count):
            raise self._damaged(
                f"its page {item.digest} does not have the totals that the page above gives it"
            )
        if ref.upper is not None:
            last = names[-1].name
            if last >= ref.upper:
                raise self._damaged(f"its pages overlap at {last!r}")
            if len(names) < MIN_ITEMS or (len(names) < MAX_ITEMS and not ends_page(last, ref.level)):
                raise self._damaged(f"its page {item.digest} ends too early")
        return page

    def _below(self, page: IndexPage, at: int, upper: bytes | None) -> tuple[Page, bytes | None]:
        if at + 1 < len(page.items):
            upper = page.items[at + 1].name
        return self.read(PageRef(page.items[at], page.level - 1, upper)), upper

    def _damaged(self, why: str) -> BadObjectError:
        return BadObjectError(f"the tree {self.digest} is damaged: {why}", self.digest)


def is_deeper(source: PageSource, digest: Digest, limit: int) -> bool:
    """Whether more than `limit` directories are nested in each other below this one. Reads all of them, one again for each depth
    at which it is. Raises what `source` raises."""
    level = {digest}
    for _ in range(limit + 1):
        level = {
            entry.digest
            for each in level
            for _, entry in Directory(source, each).entries()
            if isinstance(entry, DirEntry)
        }
        if not level:
            return False
    return True
