"""Shapes: what has to be known of a page, and of all below it, to check a page above that names it, without reading it.

A server that checks a commit keeps the shape of each page that it has found right. A version of a million files in which one
changed then costs it the few pages that are new: what they say of the others is compared with shapes. The rules are those of
`tree.Directory` and `manifest.Manifest`, which check the same as they read downwards; here it goes upwards.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import msgspec

from artfs.errors import BadObjectError
from artfs.model.digests import Digest
from artfs.model.entry import DirEntry, LinkEntry, link_climbs
from artfs.model.pages import MAX_DEPTH, MAX_ITEMS, MIN_ITEMS, IndexPage, LeafPage, Page, Totals, ends_page


class Shape(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Of a page and everything below it, all of it checked.

    Attributes:
        level: of the page; 0 is a leaf.
        items: entries or index items in the page itself.
        first, last: the first and the last name of the directory's entries below the page; b"" when it is empty.
        ended: every page on the way to the last entry ends where the rule for pages ends it, so another may follow.
        count, size, file_count: Totals of the directory's entries below the page.
        depth: directories nested in each other below this one, as far as this page shows; 0: none.
        climb: how many directories above this one the links below the page reach at most; 0: none leaves it.
    """

    level: int
    items: int
    first: bytes
    last: bytes
    ended: bool
    count: Annotated[int, msgspec.Meta(ge=0)]
    size: Annotated[int, msgspec.Meta(ge=0)]
    file_count: Annotated[int, msgspec.Meta(ge=0)]
    depth: int
    climb: int

    @property
    def totals(self) -> Totals:
        return Totals(self.count, self.size, self.file_count)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Shape)

Known = Callable[[Digest], Shape]
"""The shape of a page below, which is known."""


def encode_shape(shape: Shape) -> bytes:
    return _encoder.encode(shape)


def decode_shape(data: bytes) -> Shape:
    """What encode_shape made. Raises ValueError (msgspec.MsgspecError) for anything else."""
    return _decoder.decode(data)


class Outline:
    """A decoded page without its files: what is left to compare when the shapes of the pages below it are known.

    `below`: the pages that it names, each once. Raises BadObjectError, naming the page, for what it shows by itself.
    """

    __slots__ = ("_directories", "_page", "_shape", "below", "digest")

    def __init__(self, digest: Digest, page: Page) -> None:
        self.digest = digest
        self._page: IndexPage | None = None
        self._directories: list[DirEntry] = []
        if isinstance(page, IndexPage):
            self._page = page
            names = [item.name for item in page.items]
            self.below = tuple(dict.fromkeys(item.digest for item in page.items))
            climb = 0
        else:
            names = [entry.name for entry in page.entries]
            self._directories = [entry for entry in page.entries if type(entry) is DirEntry]
            self.below = tuple(dict.fromkeys(entry.digest for entry in self._directories))
            climb = self._climb(page)
        ended = len(names) == MAX_ITEMS or (len(names) >= MIN_ITEMS and ends_page(names[-1], page.level))
        first, last = (names[0], names[-1]) if names else (b"", b"")
        self._shape = Shape(
            page.level, len(names), first, last, ended, page.totals.count, page.totals.size, page.totals.file_count, 0, climb
        )

    def shape(self, known: Known) -> Shape:
        """The page's shape, its pages below compared with what it says of them. Raises BadObjectError naming this page, and
        what `known` raises."""
        found = self._shape
        if self._page is not None:
            return self._index_shape(self._page, known)
        depth, climb = 0, found.climb
        for entry in self._directories:
            below = known(entry.digest)
            if below.level and below.items < 2:
                raise self._bad(f"the directory {entry.name!r} has a root page with a single page below it")
            if (below.size, below.file_count) != (entry.size, entry.file_count):
                raise self._bad(f"the directory {entry.name!r} does not have the totals that stand there")
            depth = max(depth, below.depth + 1)
            climb = max(climb, below.climb - 1)
        if depth > MAX_DEPTH:
            raise self._bad(f"more than {MAX_DEPTH} directories are nested below it")
        return msgspec.structs.replace(found, depth=depth, climb=climb)

    def _index_shape(self, page: IndexPage, known: Known) -> Shape:
        depth = climb = 0
        last: Shape | None = None
        for item in page.items:
            if last is not None:
                if last.last >= item.name:
                    raise self._bad(f"its pages overlap at {last.last!r}")
                if not last.ended:
                    raise self._bad(f"its page before {item.name!r} ends too early")
            last = known(item.digest)
            if last.level != page.level - 1 or last.first != item.name or not last.items:
                raise self._bad(f"its page {item.digest} is out of place")
            if last.totals != Totals(item.count, item.size, item.file_count):
                raise self._bad(f"its page {item.digest} does not have the totals that stand there")
            depth, climb = max(depth, last.depth), max(climb, last.climb)
        assert last is not None  # the decoder takes no index page without items
        return msgspec.structs.replace(
            self._shape, last=last.last, ended=self._shape.ended and last.ended, depth=depth, climb=climb
        )

    def _climb(self, page: LeafPage) -> int:
        climb = 0
        for entry in page.entries:
            if type(entry) is LinkEntry:
                climbs = link_climbs(entry.target)
                if climbs is None:
                    raise self._bad(f"its link {entry.name!r} leaves the artifact")
                climb = max(climb, climbs)
        return climb

    def _bad(self, why: str) -> BadObjectError:
        return BadObjectError(f"the tree {self.digest} is damaged: {why}", self.digest)


def check_root(digest: Digest, shape: Shape) -> None:
    """Raises BadObjectError unless a page of that shape can be the root of a version."""
    if shape.level and shape.items < 2:
        raise BadObjectError(f"the tree {digest} is damaged: its root page has a single page below it", digest)
    if shape.climb:
        raise BadObjectError(f"the tree {digest} is damaged: a link below it leaves the artifact", digest)
