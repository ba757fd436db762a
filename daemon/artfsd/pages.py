"""Pages of trees, decoded, as the mount keeps them in memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from artfs.model.pages import IndexPage, LeafPage, decode_page
from artfsd.inodes import Later, Wait

if TYPE_CHECKING:
    from artfs.transfer.fetch import Fetcher

PAGE_BUDGET = 100_000
"""Decoded entries kept in memory over all trees (some 250 bytes each)."""


class PageLater(Later):
    """A page is not in memory: it is read and checked in a thread, or fetched."""

    def __init__(self, pages: TreePages, digest: str) -> None:
        super().__init__(lambda: pages.load(digest), lambda is_here: is_here or pages.fetch(digest), again=True)
        self.digest = digest


class TreePages:
    """Decoded tree pages, least recently used first to go. A page that is not in memory costs a Later: the store reads and
    checks it in a thread, and the operation starts again. One that is not on this machine costs a Wait behind it."""

    def __init__(self, load: Callable[[str], bytes], fetcher: Fetcher | None = None) -> None:
        """`load`: gives the bytes of a page, checked; in a thread. With a `fetcher`, that gives and fetches them."""
        self._load_bytes: Callable[[str], bytes | None] = load if fetcher is None else fetcher.trees.try_page
        self._fetcher = fetcher
        self._pages: OrderedDict[str, LeafPage | IndexPage] = OrderedDict()
        self._weight = 0

    def page(self, digest: str) -> LeafPage | IndexPage:
        page = self._pages.get(digest)
        if page is None:
            # A thread would cost more than it takes.
            if not self.load_near(digest) or (page := self._pages.get(digest)) is None:
                raise PageLater(self, digest)
            return page
        self._pages.move_to_end(digest)
        return page

    def load_near(self, digest: str) -> bool:
        """Decodes a page whose bytes are in memory, which takes a tenth of a millisecond. Whether it was one. Raises what is
        wrong with it."""
        return self._fetcher is not None and self._fetcher.trees.has_in_memory(digest) and self.load(digest)

    def fetch(self, digest: str) -> NoReturn:
        fetcher = self._fetcher
        assert fetcher is not None
        raise Wait(lambda notify: fetcher.trees.need_page(digest, notify), lambda: fetcher.give_up_small(digest))

    def load(self, digest: str) -> bool:
        """Whether it is on this machine."""
        data = self._load_bytes(digest)
        if data is None:
            return False
        # In a thread: the single assignment is atomic, and two threads that load one page put equal values.
        page = decode_page(digest, data)
        if digest not in self._pages:
            self._pages[digest] = page
            self._weight += page_weight(page)
            while self._weight > PAGE_BUDGET and len(self._pages) > 8:
                _, old = self._pages.popitem(last=False)
                self._weight -= page_weight(old)
        return True

    def status(self) -> dict[str, int]:
        return {"pages": len(self._pages), "entries": self._weight}


def page_weight(page: LeafPage | IndexPage) -> int:
    return len(page.entries) if isinstance(page, LeafPage) else len(page.items)
