"""Shapes: whoever checks upwards, page by page, comes to the same verdict as whoever reads the whole version downwards."""

from itertools import count, islice, pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from artfs.errors import BadObjectError
from artfs.model.entry import DirEntry, Entry, FileEntry, LinkEntry, link_climbs, link_stays_inside
from artfs.model.manifest import Manifest, build_manifest
from artfs.model.pages import MAX_DEPTH, IndexItem, build_tree, ends_page, split_items
from artfs.model.shape import Outline, Shape, check_root, decode_shape, encode_shape
from artfs.testing import strategies
from artfs.testing.pages import PageShelf

RAW = bytes(range(32))
NAMES = [b"n%05d" % (2 * at) for at in range(3000)]


def file(name: bytes, size: int = 1) -> FileEntry:
    return FileEntry(name, size, RAW, b"", False)


def shape_of(shelf: PageShelf, root: str) -> Shape:
    """The shape of a page, from its leaves up, each page met once. Raises BadObjectError."""
    shapes: dict[str, Shape] = {}
    outlines: dict[str, Outline] = {}
    todo = [root]
    while todo:
        digest = todo[-1]
        if digest in shapes:
            todo.pop()
            continue
        if digest not in outlines:
            outlines[digest] = Outline(digest, shelf.page(digest))
        unknown = [below for below in outlines[digest].below if below not in shapes]
        if unknown:
            todo += unknown
        else:
            shapes[digest] = outlines[digest].shape(shapes.__getitem__)
    return shapes[root]


def judged_upwards(shelf: PageShelf, root: str) -> bool:
    try:
        check_root(root, shape_of(shelf, root))
    except BadObjectError:
        return False
    return True


def judged_downwards(shelf: PageShelf, root: str) -> bool:
    try:
        for _ in Manifest(shelf, root).walk(include_dirs=True):
            pass
    except BadObjectError:
        return False
    return True


def cut(shelf: PageShelf, entries: list[Entry], ends: list[int]) -> str:
    """A directory whose leaf pages end at those positions, under one index page when there are several."""
    items = []
    for start, end in pairwise([0, *ends]):
        some = entries[start:end]
        digest = shelf.put(msgspec.msgpack.encode((1, 0, some)))
        sizes = [entry.size or 0 for entry in some if not isinstance(entry, LinkEntry)]
        files = [entry.file_count if isinstance(entry, DirEntry) else 1 for entry in some if not isinstance(entry, LinkEntry)]
        items.append(IndexItem(some[0].name, bytes.fromhex(digest), len(some), sum(sizes), sum(files)))
    if len(items) == 1:
        return items[0].digest
    return shelf.put(msgspec.msgpack.encode((1, 1, items)))


@given(strategies.file_maps())
def test_what_was_built_has_a_shape(files: dict[str, Entry]):
    built = build_manifest(files)
    shelf = PageShelf(built.objects)
    shape = shape_of(shelf, built.root)
    assert shape.totals == built.totals
    assert shape.depth == max((path.count("/") for path in files), default=0)
    assert shape.climb == 0
    check_root(built.root, shape)
    assert decode_shape(encode_shape(shape)) == shape


@st.composite
def hostile(draw: st.DrawFn) -> tuple[PageShelf, str]:
    """Pages that are each well-formed, put together by somebody who may lie: about totals, about where pages end, with pages out
    of their places and links that may leave."""
    shelf = PageShelf()
    pages: list[tuple[str, int, int]] = [(build_tree([]).digest, 0, 0)]
    shelf.add(build_tree([]).pages)
    for _ in range(draw(st.integers(1, 5))):
        length = draw(st.sampled_from([1, 2, 3, 40, 300, 700]))
        entries: list[Entry] = [file(name) for name in NAMES[:length]]
        for at in draw(st.lists(st.integers(0, length - 1), max_size=3, unique=True)):
            name = entries[at].name
            digest, size, files = draw(st.sampled_from(pages))
            lie = draw(st.sampled_from([0, 0, 0, 1]))
            entries[at] = DirEntry(name, bytes.fromhex(digest), size + lie, files)
            if draw(st.booleans()):
                entries[at] = LinkEntry(name, b"../" * draw(st.integers(0, 3)) + b"x")
        ends = split_items([entry.name for entry in entries], 0)
        if draw(st.booleans()) and length > 3:
            ends = sorted({*ends, draw(st.integers(1, length - 1))})
        digest = cut(shelf, entries, ends)
        try:
            totals = shelf.page(digest).totals
        except BadObjectError:
            return shelf, digest
        pages.append((digest, totals.size, totals.file_count))
        # Single pages of it are directories, too; or are taken for such.
        pages.extend((other, 0, 0) for other in list(shelf.objects)[-2:])
    return shelf, pages[draw(st.integers(-4, -1)) % len(pages)][0]


@given(hostile())
def test_both_directions_come_to_the_same_verdict(made: tuple[PageShelf, str]):
    shelf, root = made
    assert judged_upwards(shelf, root) == judged_downwards(shelf, root)


def two_levels() -> tuple[PageShelf, list[IndexItem], str]:
    """A directory with two levels of index pages, made cheap by names that all end leaf pages, and its index pages' items."""
    names = list(islice((name for name in (b"%07d" % at for at in count()) if ends_page(name, 0)), 16 * 300))
    built = build_tree(file(name) for name in names)
    shelf = PageShelf(built.pages)
    root = shelf.page(built.digest)
    assert root.level >= 2
    return shelf, list(root.items), built.digest  # type: ignore[union-attr]


def test_levels_of_index_pages():
    shelf, items, root = two_levels()
    shape = shape_of(shelf, root)
    assert (shape.count, shape.file_count, shape.first) == (4800, 4800, items[0].name)
    assert judged_upwards(shelf, root)
    for forged in (
        items[:1],  # a single page below the root
        [items[1], items[0]] if len(items) == 2 else items[1:] + items[:1],  # not sorted
        [msgspec.structs.replace(items[0], count=items[0].count - 1), *items[1:]],
        [msgspec.structs.replace(items[0], size=items[0].size + 1), *items[1:]],
        [msgspec.structs.replace(items[0], name=b"0"), *items[1:]],
        [items[0], msgspec.structs.replace(items[0], name=items[1].name)],
        [*items, msgspec.structs.replace(items[0], name=b"z")],
    ):
        digest = shelf.put(msgspec.msgpack.encode((1, 2, forged)))
        assert not judged_downwards(shelf, digest)
        assert not judged_upwards(shelf, digest)


def test_the_last_page_of_a_directory_is_no_other_directorys_first():
    """It may end anywhere only as long as nothing follows it, on whatever level."""
    shelf, items, _ = two_levels()
    last = items[-1]
    assert not shape_of(shelf, last.digest).ended
    data = msgspec.msgpack.encode((1, 0, [file(b"x%d" % at) for at in range(20)]))
    tail = IndexItem(b"x0", bytes.fromhex(shelf.put(data)), 20, 20, 20)
    inner = shelf.put(msgspec.msgpack.encode((1, 1, [tail])))
    after = IndexItem(b"x0", bytes.fromhex(inner), 20, 20, 20)
    digest = shelf.put(msgspec.msgpack.encode((1, 2, [last, after])))
    assert not judged_downwards(shelf, digest)
    assert not judged_upwards(shelf, digest)


def test_depth_is_bounded():
    shelf = PageShelf()
    built = build_tree([file(b"f")])
    shelf.add(built.pages)
    for depth in range(1, MAX_DEPTH + 2):
        built = build_tree([built.as_entry(b"d")])
        shelf.add(built.pages)
        assert judged_upwards(shelf, built.digest) == (depth <= MAX_DEPTH)
    assert not judged_downwards(shelf, built.digest)


@pytest.mark.parametrize(("target", "climbs"), [
    (b"a", 0), (b"./a/b", 0), (b"..", 1), (b"../../a", 2), (b"a/../b", None), (b"/a", None), (b"", None), (b"a\0", None),
])  # fmt: skip
def test_how_far_a_link_climbs(target: bytes, climbs: int | None):
    assert link_climbs(target) == climbs
    for depth in range(4):
        assert link_stays_inside((b"d",) * depth, target) == (climbs is not None and climbs <= depth)


def test_a_link_is_judged_where_it_stands():
    shelf = PageShelf()
    inner = build_tree([LinkEntry(b"up", b"../x")])
    shelf.add(inner.pages)
    assert shape_of(shelf, inner.digest).climb == 1
    assert not judged_upwards(shelf, inner.digest)
    outer = build_tree([inner.as_entry(b"d")])
    shelf.add(outer.pages)
    assert judged_upwards(shelf, outer.digest)
