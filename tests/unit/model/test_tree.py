"""Directories read through their pages: positions, what a lookup costs, and pages that do not fit
together."""

from bisect import bisect_left
from itertools import count, islice, pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from artfs.errors import BadObjectError, BlobMissingError
from artfs.model.digests import digest_bytes
from artfs.model.entry import DirEntry, Entry, FileEntry
from artfs.model.pages import (
    EMPTY_TREE,
    UNKNOWN,
    BuiltTree,
    IndexItem,
    IndexPage,
    Totals,
    build_tree,
    decode_page,
    ends_page,
    split_items,
)
from artfs.model.tree import Directory, PageCache
from artfs.testing import strategies
from artfs.testing.pages import PageShelf

RAW = bytes(range(32))


def file(name: bytes, size: int = 1) -> FileEntry:
    return FileEntry(name, size, RAW, b"", False)


def opened(built: BuiltTree) -> tuple[PageShelf, Directory]:
    shelf = PageShelf(built.pages)
    return shelf, Directory(shelf, built.digest)


NAMES = [b"n%05d" % (2 * at) for at in range(3000)]
PAGED = build_tree(file(name, at) for at, name in enumerate(NAMES))


# reading ----------------------------------------------------------------------------------------------------


@given(strategies.entry_lists(), st.data())
def test_a_directory_shows_its_entries(entries: list[Entry], data: st.DataObject):
    _, directory = opened(build_tree(entries))
    entries.sort(key=lambda entry: entry.name)
    assert list(directory.entries()) == list(enumerate(entries))
    assert len(directory) == len(entries)
    for at, entry in enumerate(entries):
        assert directory.lookup(entry.name) == (at, entry)
        assert directory.at(at) == entry
    start = data.draw(st.integers(-2, len(entries) + 2))
    assert list(directory.entries(start)) == list(enumerate(entries))[max(start, 0) :]
    absent = data.draw(strategies.components.filter(lambda name: all(name != e.name for e in entries)))
    assert directory.lookup(absent) is None


def test_a_paged_directory_shows_its_entries():
    _, directory = opened(PAGED)
    assert isinstance(directory.root, IndexPage)
    assert [entry.name for _, entry in directory.entries()] == NAMES
    for at in (0, 1, 299, 1500, 2999):
        assert directory.at(at).name == NAMES[at]
        assert directory.lookup(NAMES[at]) == (at, file(NAMES[at], at))
        assert next(directory.entries(at)) == (at, file(NAMES[at], at))
    assert list(directory.entries(2998)) == [(2998, file(NAMES[2998], 2998)), (2999, file(NAMES[2999], 2999))]
    assert list(directory.entries(3000)) == []
    for absent in (b"", b"a", b"n00001", b"n05999", b"z"):
        assert directory.lookup(absent) is None
    for index in (-1, 3000):
        with pytest.raises(IndexError):
            directory.at(index)


@given(st.binary(max_size=7))
def test_lookups_agree_with_a_sorted_list(name: bytes):
    _, directory = opened(PAGED)
    at = bisect_left(NAMES, name)
    expected = (at, file(name, at)) if at < len(NAMES) and NAMES[at] == name else None
    assert directory.lookup(name) == expected


def test_the_pages_of_a_directory():
    shelf, directory = opened(PAGED)
    shelf.loads.clear()
    assert sorted(directory.pages()) == sorted(digest for digest, _ in PAGED.pages)
    assert shelf.loads == []  # only the root is an index page, and that was read
    assert next(ref.item.name for ref in directory.leaf_refs()) == NAMES[0]
    shelf, directory = opened(build_tree([file(b"a")]))
    assert list(directory.pages()) == [directory.digest]
    assert directory.leaf_refs() == []


def test_read_pages_skips_what_is_known():
    shelf, directory = opened(PAGED)
    everything = list(directory.read_pages())
    assert dict(everything) == {digest: decode_page(digest, data) for digest, data in PAGED.pages}
    assert everything[0] == (directory.digest, directory.root)
    known = {everything[3][0]}
    shelf.loads.clear()
    assert list(directory.read_pages(known)) == [each for each in everything if each[0] not in known]
    assert not known.intersection(shelf.loads)
    assert list(directory.read_pages({directory.digest})) == []


def test_the_empty_directory():
    _, directory = opened(build_tree([]))
    assert directory.digest == EMPTY_TREE
    assert directory.totals == Totals(0, 0, 0)
    assert list(directory.entries()) == []
    assert directory.lookup(b"a") is None


# two levels of index pages, made cheap by names that all end leaf pages


def deep_tree() -> tuple[list[bytes], BuiltTree]:
    ending = (name for name in (b"%07d" % at for at in count()) if ends_page(name, 0))
    names = list(islice(ending, 16 * 300))
    return names, build_tree(file(name) for name in names)


def test_directories_with_several_index_levels():
    names, built = deep_tree()
    _, directory = opened(built)
    assert directory.root.level >= 2
    assert [entry.name for _, entry in directory.entries()] == names
    for at in range(0, len(names), 97):
        assert directory.at(at).name == names[at]
        assert [entry.name for _, entry in islice(directory.entries(at), 40)] == names[at : at + 40]
        found = directory.lookup(names[at])
        assert found is not None
        assert found[0] == at
    assert sorted(directory.pages()) == sorted(digest for digest, _ in built.pages)
    assert sorted(digest for digest, _ in directory.read_pages()) == sorted(
        digest for digest, _ in built.pages
    )
    assert len(directory.leaf_refs()) == 300


# the cache --------------------------------------------------------------------------------------------------


def test_a_cache_reads_a_page_once():
    reads: list[str] = []
    pages = dict(PAGED.pages)

    def load(digest: str) -> bytes:
        reads.append(digest)
        return pages[digest]

    cache = PageCache(load)
    directory = Directory(cache, PAGED.digest)
    for _ in range(3):
        assert sum(1 for _ in directory.entries()) == 3000
    assert sorted(reads) == sorted(pages)


@pytest.mark.parametrize("capacity", [0, 1, 600])
def test_a_cache_forgets_what_it_cannot_hold(capacity: int):
    reads: list[str] = []
    pages = dict(PAGED.pages)

    def load(digest: str) -> bytes:
        reads.append(digest)
        return pages[digest]

    directory = Directory(PageCache(load, capacity), PAGED.digest)
    for _ in range(2):
        assert sum(1 for _ in directory.entries()) == 3000
    assert len(reads) > len(pages)


def test_what_the_loader_raises_comes_through_and_nothing_is_kept():
    shelf = PageShelf()
    cache = PageCache(lambda digest: shelf.objects[digest])
    with pytest.raises(KeyError):
        cache.page(EMPTY_TREE)
    shelf.objects[EMPTY_TREE] = b"x"
    with pytest.raises(BadObjectError):
        cache.page(EMPTY_TREE)
    shelf.add(build_tree([]).pages)
    assert len(cache.page(EMPTY_TREE)) == 0


def test_a_missing_page_is_the_sources_error():
    with pytest.raises(BlobMissingError, match=PAGED.digest):
        Directory(PageShelf(), PAGED.digest)


# pages that do not fit together -----------------------------------------------------------------------------


def test_totals_must_be_what_the_parent_says():
    shelf = PageShelf(PAGED.pages)
    totals = PAGED.totals
    entry = PAGED.as_entry(b"d")
    assert Directory(shelf, PAGED.digest, totals).totals == totals
    assert Directory(shelf, PAGED.digest, Totals(UNKNOWN, totals.size, totals.file_count)).totals == totals
    assert Directory.of(shelf, entry).totals == totals
    for wrong in (
        Totals(totals.count + 1, totals.size, totals.file_count),
        Totals(totals.count, totals.size + 1, totals.file_count),
        Totals(UNKNOWN, totals.size, totals.file_count - 1),
    ):
        with pytest.raises(BadObjectError, match=PAGED.digest):
            Directory(shelf, PAGED.digest, wrong)
    with pytest.raises(BadObjectError, match="totals that its parent"):
        Directory.of(shelf, DirEntry(b"d", entry.tree, entry.size, entry.file_count + 1))


def use_everything(shelf: PageShelf, digest: str) -> None:
    directory = Directory(shelf, digest)
    for way in (
        lambda: list(directory.entries()),
        lambda: [directory.at(at) for at in range(min(len(directory), 5000))],
        lambda: [directory.lookup(name) for name in (b"a", NAMES[0], NAMES[20], NAMES[-1], b"z")],
        lambda: list(directory.read_pages()),
    ):
        with pytest.raises(BadObjectError, match=digest):
            way()
    raise BadObjectError("all ways", digest)


def forged(
    *changes: tuple[int, dict[str, object]], drop: slice | None = None, level: int = 1
) -> tuple[PageShelf, str]:
    """PAGED with another root page: some items changed, some left out."""
    shelf = PageShelf(PAGED.pages)
    root = shelf.page(PAGED.digest)
    assert isinstance(root, IndexPage)
    items: list[IndexItem] = list(root.items)
    for at, fields in changes:
        items[at] = msgspec.structs.replace(items[at], **fields)
    if drop is not None:
        del items[drop]
    return shelf, shelf.put(msgspec.msgpack.encode((1, level, items)))


def check_forged(shelf: PageShelf, digest: str, why: str) -> None:
    with pytest.raises(BadObjectError, match="all ways"):
        use_everything(shelf, digest)
    with pytest.raises(BadObjectError, match=why) as caught:
        list(Directory(shelf, digest).entries())
    assert digest in str(caught.value)
    assert caught.value.digest == digest


@pytest.mark.parametrize("field", ["count", "size", "file_count"])
def test_totals_of_pages_must_be_right(field: str):
    for at in (0, -1):
        item = Directory(PageShelf(PAGED.pages), PAGED.digest).leaf_refs()[at].item
        shelf, digest = forged((at, {field: getattr(item, field) + 1}))
        with pytest.raises(BadObjectError, match="totals") as caught:
            list(Directory(shelf, digest).entries())
        assert caught.value.digest == digest


def test_a_page_must_begin_where_its_item_says():
    check_forged(*forged((0, {"name": b"a"})), "out of place")


def test_a_page_must_end_before_the_next_one():
    items = [ref.item for ref in Directory(PageShelf(PAGED.pages), PAGED.digest).leaf_refs()]
    wrong = {
        "page": items[0].page,
        "count": items[0].count,
        "size": items[0].size,
        "file_count": items[0].file_count,
    }
    second = NAMES.index(items[1].name)
    shelf, digest = forged((0, wrong), (1, {"name": NAMES[second - 1]}))
    with pytest.raises(BadObjectError, match=r"overlap|out of place"):
        list(Directory(shelf, digest).entries())
    with pytest.raises(BadObjectError, match="overlap"):
        Directory(shelf, digest).at(0)


def test_a_page_must_have_the_level_below():
    check_forged(*forged(level=2), "out of place")
    check_forged(*forged((0, {"page": bytes.fromhex(PAGED.digest)})), "out of place")


def test_a_root_with_one_page_below_it_is_not_canonical():
    shelf, digest = forged(drop=slice(1, None))
    with pytest.raises(BadObjectError, match="single page") as caught:
        Directory(shelf, digest)
    assert caught.value.digest == digest


def test_only_the_last_page_may_end_anywhere():
    shelf = PageShelf()
    items = []
    for names in (NAMES[:100], NAMES[100:110]):
        if any(ends_page(name, 0) for name in names[:-1]) or ends_page(names[-1], 0):
            pytest.fail("the test needs other names")
        data = msgspec.msgpack.encode((1, 0, [file(name) for name in names]))
        items.append(IndexItem(names[0], bytes.fromhex(shelf.put(data)), len(names), len(names), len(names)))
    digest = shelf.put(msgspec.msgpack.encode((1, 1, items)))
    with pytest.raises(BadObjectError, match="ends too early") as caught:
        list(Directory(shelf, digest).entries())
    assert caught.value.digest == digest


@given(st.integers(0, 900), st.integers(0, 5), st.lists(st.integers(0, 900), max_size=4), st.booleans())
def test_whatever_can_be_read_whole_is_canonical(length: int, drop: int, cuts: list[int], index_always: bool):
    """A directory cut into other pages than the rule says is refused, though each page is right by itself."""
    names = NAMES[:length]
    ends = split_items(names, 0)
    if ends:
        ends = sorted({*(ends[:drop] + ends[drop + 1 :]), *(cut for cut in cuts if 0 < cut < length), length})
    shelf = PageShelf()
    items = []
    for start, end in pairwise([0, *ends]):
        page = shelf.put(msgspec.msgpack.encode((1, 0, [file(name) for name in names[start:end]])))
        items.append(IndexItem(names[start], bytes.fromhex(page), end - start, end - start, end - start))
    if len(items) == 1 and not index_always:
        digest = items[0].digest
    else:
        digest = shelf.put(msgspec.msgpack.encode((1, 1, items)))
    try:
        found = [entry for _, entry in Directory(shelf, digest).entries()]
    except BadObjectError:
        assert build_tree(file(name) for name in names).digest != digest
        return
    assert build_tree(found).digest == digest


def test_an_empty_page_is_in_place_nowhere():
    shelf, digest = forged((0, {"page": bytes.fromhex(EMPTY_TREE)}))
    shelf.add(build_tree([]).pages)
    check_forged(shelf, digest, "out of place")


def test_a_damaged_page_is_named_itself():
    shelf = PageShelf(PAGED.pages)
    digest = Directory(shelf, PAGED.digest).leaf_refs()[1].item.digest
    shelf.objects[digest] = shelf.objects[digest][:-1] + b"\xc3"
    directory = Directory(shelf, PAGED.digest)
    with pytest.raises(BadObjectError, match=digest):
        list(directory.entries())
    assert digest_bytes(shelf.objects[digest]) != digest
