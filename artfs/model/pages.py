"""Pages: a directory as one or more immutable objects, in one encoding only.

    leaf page   msgpack [1, 0, [entry, …]]
    index page  msgpack [1, level, [[first name, page, count, size, file_count], …]]      level >= 1

Entries are sorted by name bytes. A page ends after an item whose name's XXH3-64, seeded with the page's
level, is 0 modulo 256; but holds at least 16 items (the last page of a level aside) and at most 1024, so no
choice of names makes a giant page or a deep index. The pages of a level, if there are several, are the items
of index pages one level up, by the same rule, until one page is left: the root, whose digest is the tree's.
An index item has the first name below it and, of all entries of this directory below it, their number and
their totals (of whole subtrees). So one changed entry changes one page a level, and a lookup in a million
entries decodes three pages.

This file makes pages and checks single ones; `tree` reads a directory through its pages. A page may come from
somebody else: everything is checked, and what is wrong is a BadObjectError that names its digest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import attrgetter
from typing import Annotated, Final, Literal, NamedTuple

import msgspec
from xxhash import xxh3_64_intdigest

from artfs.errors import BadObjectError, InvalidNameError
from artfs.model.digests import BLOCKS_ABOVE, MAX_SIZE, RAW_LENGTH, Digest, digest_bytes
from artfs.model.entry import (
    MAX_CHECKSUM,
    MAX_NAME,
    MAX_TARGET,
    MAX_URI,
    DirEntry,
    Entry,
    FileEntry,
    RefEntry,
    check_entry,
    names_of,
    wrong_entry,
    wrong_names,
)

FORMAT: Final = 1
"""First number of every page."""

MIN_ITEMS = 16
MAX_ITEMS = 1024
"""Fewest (the last page of a level aside) and most items of a page."""

MAX_LEVEL = 16
"""Highest level of an index page. With at least 16 items in a page, that is more than 2**63 entries."""

MAX_PAGE_BYTES = MAX_ITEMS * (MAX_NAME + max(MAX_TARGET, MAX_URI + 2 * MAX_CHECKSUM) + 32) + 16
"""No page is larger (6.3 MiB: 1024 references with the longest strings). Usual ones have some 20 KiB."""

MAX_DEPTH = 256
"""Most directories nested in each other below the root of an artifact."""

UNKNOWN = -1
"""As Totals.count: not told."""


class Totals(msgspec.Struct, frozen=True, gc=False):
    """Of a directory.

    Attributes:
        count: entries in the directory itself; UNKNOWN (-1) where only a parent's entry was seen.
        size: bytes of all files below it; references count with their size where it is known, links with
            nothing.
        file_count: files and references below it; links and directories do not count.
    """

    count: int
    size: int
    file_count: int


class IndexItem(msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """One page below an index page. `name`: the first name in it; `page`: its raw digest; the rest are totals
    of the directory's entries in it."""

    name: Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_NAME)]
    page: Annotated[bytes, msgspec.Meta(min_length=RAW_LENGTH, max_length=RAW_LENGTH)]
    count: Annotated[int, msgspec.Meta(ge=1, le=MAX_SIZE)]
    size: Annotated[int, msgspec.Meta(ge=0, le=MAX_SIZE)]
    file_count: Annotated[int, msgspec.Meta(ge=0, le=MAX_SIZE)]

    @property
    def digest(self) -> Digest:
        return self.page.hex()


class LeafPage(msgspec.Struct, frozen=True):
    """A decoded and checked leaf page. Do not change `entries`: pages are shared by a cache."""

    entries: list[Entry]
    totals: Totals

    @property
    def level(self) -> int:
        return 0

    def __len__(self) -> int:
        return len(self.entries)


class IndexPage(msgspec.Struct, frozen=True):
    """A decoded and checked index page. `starts[i]`: how many entries are before item i in this page. Do not
    change the lists."""

    level: int
    items: list[IndexItem]
    starts: list[int]
    totals: Totals

    def __len__(self) -> int:
        return len(self.items)


Page = LeafPage | IndexPage

_encoder = msgspec.msgpack.Encoder()
_leaf_decoder = msgspec.msgpack.Decoder(
    tuple[Literal[1], Literal[0], Annotated[list[Entry], msgspec.Meta(max_length=MAX_ITEMS)]]
)
_index_decoder = msgspec.msgpack.Decoder(
    tuple[
        Literal[1],
        Annotated[int, msgspec.Meta(ge=1, le=MAX_LEVEL)],
        Annotated[list[IndexItem], msgspec.Meta(min_length=1, max_length=MAX_ITEMS)],
    ]
)
_LEAF_PREFIX = b"\x93\x01\x00"
_NO_TOTALS = Totals(0, 0, 0)
_name_of = attrgetter("name")


def ends_page(name: bytes, level: int) -> bool:
    """Whether an item of that name ends a page of that level that has at least MIN_ITEMS."""
    return not xxh3_64_intdigest(name, level) & 0xFF


def _leaf_totals(entries: Sequence[Entry]) -> tuple[Totals, str | None]:
    """The totals of `entries`, and what is wrong with one of them (names aside) or None. One pass, because it
    is most of the time of decoding a page."""
    size = files = 0
    for entry in entries:
        if type(entry) is FileEntry:
            size += entry.size
            files += 1
            if (entry.blocks or entry.size > BLOCKS_ABOVE) and (wrong := wrong_entry(entry)) is not None:
                return _NO_TOTALS, wrong
        elif type(entry) is DirEntry:
            size += entry.size
            files += entry.file_count
        elif (wrong := wrong_entry(entry)) is not None:
            return _NO_TOTALS, wrong
        elif type(entry) is RefEntry:
            size += entry.size or 0
            files += 1
    if size > MAX_SIZE or files > MAX_SIZE:
        return _NO_TOTALS, "more than 2**63 bytes or files"
    return Totals(len(entries), size, files), None


def decode_page(digest: Digest, data: bytes) -> Page:
    """The page whose bytes are `data`, checked in every respect that it shows by itself.

    Raises BadObjectError, naming `digest`, if the bytes have another digest, are no page, are not in the one
    canonical encoding, or break a rule for entries, names, order, totals or paging. How pages of one
    directory fit together is checked by Directory.
    """

    def bad(why: str) -> BadObjectError:
        return BadObjectError(f"the tree {digest} is damaged: {why}", digest)

    if len(data) > MAX_PAGE_BYTES:
        raise bad(f"it has {len(data)} bytes; at most {MAX_PAGE_BYTES} are possible")
    if digest_bytes(data) != digest:
        raise bad("its bytes have another digest")
    page: Page
    try:
        if data[:3] == _LEAF_PREFIX:
            leaf = _leaf_decoder.decode(data)
            canonical = _encoder.encode(leaf) == data
            level, entries = 0, leaf[2]
            names = names_of(entries)
            totals, wrong = _leaf_totals(entries)
            page = LeafPage(entries, totals)
        else:
            index = _index_decoder.decode(data)
            canonical = _encoder.encode(index) == data
            level, items = index[1], index[2]
            names = list(map(_name_of, items))
            count, size, files = (sum(map(attrgetter(key), items)) for key in ("count", "size", "file_count"))
            wrong = "more than 2**63 bytes or files" if max(count, size, files) > MAX_SIZE else None
            starts = list(accumulate((item.count for item in items[:-1]), initial=0))
            page = IndexPage(level, items, starts, Totals(count, size, files))
    except (msgspec.MsgspecError, UnicodeError, OverflowError, RecursionError) as error:
        # The message may quote what the page holds: any length of any text.
        raise bad(f"it is not a page of a tree ({' '.join(str(error).split())[:200]})") from None
    if not canonical:
        raise bad("it is not encoded canonically")
    wrong = wrong_names(names) or wrong
    if wrong is not None:
        raise bad(f"it holds {wrong}")
    for name in names[MIN_ITEMS - 1 : -1]:
        if not xxh3_64_intdigest(name, level) & 0xFF:
            raise bad(f"it should end after {name!r}")
    return page


class Below(NamedTuple):
    """Digests of pages that a page names: of its own directory, and of directories in it."""

    pages: tuple[Digest, ...]
    directories: tuple[Digest, ...]


def try_below(data: bytes | memoryview) -> Below | None:
    """What the page whose bytes are `data` names, hardly checked; None when it is no page. For who sends pages on to others
    who will check them, in a tenth of the time of decode_page."""
    try:
        if data[:3] == _LEAF_PREFIX:
            trees = [entry.digest for entry in _leaf_decoder.decode(data)[2] if type(entry) is DirEntry]
            return Below((), tuple(dict.fromkeys(trees)))
        return Below(tuple(dict.fromkeys(item.digest for item in _index_decoder.decode(data)[2])), ())
    except (msgspec.MsgspecError, UnicodeError, OverflowError, RecursionError):
        return None


@dataclass(frozen=True, slots=True)
class BuiltTree:
    """A directory made into pages. `pages`: (digest, bytes) of each, children before parents, the root last;
    a page may be in the store already."""

    digest: Digest
    totals: Totals
    pages: list[tuple[Digest, bytes]]

    def as_entry(self, name: bytes) -> DirEntry:
        """The entry that stands for this directory in its parent."""
        return DirEntry(name, bytes.fromhex(self.digest), self.totals.size, self.totals.file_count)


def split_items(names: Sequence[bytes], level: int, *, closed: bool = True) -> list[int]:
    """Where pages end: the positions after the last item of each page, for items with these sorted names.

    With `closed` False the last page is left out unless the rule itself ends it there: more items may follow.
    """
    ends: list[int] = []
    start = 0
    total = len(names)
    while start < total:
        stop = min(start + MAX_ITEMS, total)
        for at in range(start + MIN_ITEMS - 1, stop):
            if not xxh3_64_intdigest(names[at], level) & 0xFF:
                stop = at + 1
                break
        else:
            if stop - start < MAX_ITEMS and not closed:
                return ends
        ends.append(stop)
        start = stop
    return ends


def encode_leaf(entries: Sequence[Entry]) -> tuple[IndexItem | None, Totals, Digest, bytes]:
    """One leaf page of these sorted entries: (its item for an index page, totals, digest, bytes); no item for
    an empty one.

    Raises InvalidNameError for entries that no tree may hold.
    """
    try:
        data = _encoder.encode((FORMAT, 0, entries))
        _leaf_decoder.decode(data)  # checks types, lengths and ranges in C
    except (msgspec.MsgspecError, UnicodeError, OverflowError, TypeError) as error:
        for entry in entries:
            check_entry(entry)  # raises for the first bad one, by its name
        raise InvalidNameError(f"a directory cannot hold these entries: {error}") from None
    names = names_of(entries)
    totals, wrong = _leaf_totals(entries)
    wrong = wrong_names(names) or wrong
    if wrong is not None:
        raise InvalidNameError(f"a directory cannot hold {wrong}")
    digest = digest_bytes(data)
    if not names:
        return None, totals, digest, data
    item = IndexItem(names[0], bytes.fromhex(digest), totals.count, totals.size, totals.file_count)
    return item, totals, digest, data


def build_index(items: list[IndexItem]) -> BuiltTree:
    """The index pages over the leaf pages `items` (at least one, in order): only index pages are in the
    result's `pages`.

    Raises InvalidNameError when totals exceed 2**63.
    """
    pages: list[tuple[Digest, bytes]] = []
    level = 0
    while len(items) > 1:
        level += 1
        above: list[IndexItem] = []
        start = 0
        for end in split_items([item.name for item in items], level):
            below = items[start:end]
            data = _encoder.encode((FORMAT, level, below))
            count, size, files = (sum(map(attrgetter(key), below)) for key in ("count", "size", "file_count"))
            if max(count, size, files) > MAX_SIZE:
                raise InvalidNameError("a directory cannot hold more than 2**63 bytes or files")
            digest = digest_bytes(data)
            above.append(IndexItem(below[0].name, bytes.fromhex(digest), count, size, files))
            pages.append((digest, data))
            start = end
        items = above
    root = items[0]
    return BuiltTree(root.digest, Totals(root.count, root.size, root.file_count), pages)


def build_tree(entries: Iterable[Entry]) -> BuiltTree:
    """Makes a directory of `entries`, given in any order; none makes the empty directory.

    Raises InvalidNameError for an entry that breaks a rule, and for two with one name.
    """
    ordered = sorted(entries, key=_name_of)
    if not ordered:
        _, totals, digest, data = encode_leaf(())
        return BuiltTree(digest, totals, [(digest, data)])
    pages: list[tuple[Digest, bytes]] = []
    items: list[IndexItem] = []
    start = 0
    last = b""
    for end in split_items(names_of(ordered), 0):
        item, _, digest, data = encode_leaf(ordered[start:end])
        assert item is not None
        if item.name == last:
            raise InvalidNameError(f"a directory cannot hold the name {last!r} twice")
        last = ordered[end - 1].name
        items.append(item)
        pages.append((digest, data))
        start = end
    index = build_index(items)
    return BuiltTree(index.digest, index.totals, pages + index.pages)


EMPTY_TREE: Digest = build_tree(()).digest
"""The digest of the empty directory."""
