"""Pages: one encoding, the limits of paging, and hostile bytes."""

import random
from itertools import count, islice

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from artfs.errors import BadObjectError, InvalidNameError
from artfs.model.digests import digest_bytes
from artfs.model.entry import DirEntry, Entry, FileEntry, LinkEntry, RefEntry, entry_totals
from artfs.model.pages import (
    EMPTY_TREE,
    MAX_ITEMS,
    MAX_LEVEL,
    MAX_PAGE_BYTES,
    MIN_ITEMS,
    BuiltTree,
    IndexPage,
    LeafPage,
    Totals,
    build_tree,
    decode_page,
    ends_page,
    split_items,
)
from artfs.model.tree import Directory
from artfs.testing import strategies
from artfs.testing.pages import PageShelf

RAW = bytes(range(32))
encode = msgspec.msgpack.encode


def file(name: bytes, size: int = 1) -> FileEntry:
    return FileEntry(name, size, RAW, b"", False)


def decoded(built: BuiltTree) -> list[Entry]:
    return [entry for _, entry in Directory(PageShelf(built.pages), built.digest, built.totals).entries()]


# one encoding -----------------------------------------------------------------------------------------------


@given(strategies.entry_lists(), st.randoms(use_true_random=False))
def test_any_order_gives_the_same_tree(entries: list[Entry], order: random.Random):
    built = build_tree(entries)
    shuffled = list(entries)
    order.shuffle(shuffled)
    assert build_tree(shuffled) == built
    assert build_tree(iter(shuffled)) == built


@given(strategies.entry_lists())
def test_entries_come_back_as_they_went_in(entries: list[Entry]):
    built = build_tree(entries)
    found = decoded(built)
    assert found == sorted(entries, key=lambda entry: entry.name)
    assert built.totals == Totals(
        len(entries), sum(entry_totals(e)[0] for e in entries), sum(entry_totals(e)[1] for e in entries)
    )
    assert built.as_entry(b"d") == DirEntry(
        b"d", bytes.fromhex(built.digest), built.totals.size, built.totals.file_count
    )


def test_the_encoding_is_fixed():
    """Digests of stored versions must never change: if this test fails, a new format number is due."""
    assert (
        EMPTY_TREE
        == digest_bytes(b"\x93\x01\x00\x90")
        == ("953ef63de68810b150156be803f18ee678fb08f931093a1a92d36a8ebdf545b4")
    )
    built = build_tree(
        [
            FileEntry(b"f", 5, RAW, b"", True),
            DirEntry(b"d", RAW, 70, 3),
            LinkEntry(b"l", b"f"),
            RefEntry(b"r", "s3://b/k", None, "etag", ""),
        ]
    )
    ((digest, data),) = built.pages
    assert data == (
        b"\x93\x01\x00\x94"
        b"\x95\xa1d\xc4\x01d\xc4\x20" + RAW + b"\x46\x03"
        b"\x96\xa1f\xc4\x01f\x05\xc4\x20" + RAW + b"\xc4\x00\xc3"
        b"\x93\xa1l\xc4\x01l\xc4\x01f"
        b"\x96\xa1r\xc4\x01r\xa8s3://b/k\xc0\xa4etag\xa0"
    )
    assert digest == built.digest == digest_bytes(data)


def test_a_large_directory_has_one_encoding():
    """As above, for the rule that ends pages and for index pages."""
    built = build_tree(file(b"%05d" % at) for at in range(20_000))
    assert built.digest == "fb8a2c773cad2c0f172fb503561cb343a69aa6e3a04139da9200f342d4a7f4c9"
    assert built.totals == Totals(20_000, 20_000, 20_000)


@pytest.mark.parametrize("size", [15, 16, 17, 255, 1023, 1024, 1025, 5000])
def test_paged_directories_do_not_depend_on_order(size: int):
    entries: list[Entry] = [file(b"n%d" % at, at) for at in range(size)]
    built = build_tree(entries)
    order = random.Random(size)
    for _ in range(3):
        order.shuffle(entries)
        assert build_tree(entries) == built
    assert decoded(built) == sorted(entries, key=lambda entry: entry.name)


def test_one_name_once():
    with pytest.raises(InvalidNameError, match="b'a' twice"):
        build_tree([file(b"a"), file(b"b"), DirEntry(b"a", RAW, 0, 0)])
    names = [name for _, name in zip(range(16), ending_names(True), strict=False)]
    entries = [file(name) for name in sorted(names)]
    with pytest.raises(InvalidNameError, match="twice"):  # the second one would begin the next page
        build_tree([*entries, entries[-1]])


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (file(b""), "an empty name"),
        (file(b".."), "parent"),
        (file(b"a/b"), "'/'"),
        (file(b"\0"), "NUL"),
        (file(b"x" * 256), "256 bytes"),
        (file(b"f", -1), "the entry b'f'.* >= 0"),
        (file(b"f", 2**63), "<="),
        (file(b"f", 2**20 + 1), "without a block list"),
        (FileEntry(b"f", 1, RAW[:31], b"", False), ">= 32"),
        (FileEntry(b"f", 1, RAW, b"", 1), "bool"),
        (LinkEntry(b"l", b"/x"), "absolute"),
        (RefEntry(b"r", "\udcff", 1, "", ""), "surrogates"),
    ],
)
def test_what_no_tree_holds_is_not_built(entry: Entry, why: str):
    with pytest.raises(InvalidNameError, match=why):
        build_tree([entry])


def test_totals_have_a_limit():
    half = DirEntry(b"a", RAW, 2**62, 1)
    assert build_tree([half]).totals.size == 2**62
    with pytest.raises(InvalidNameError, match=r"2\*\*63"):
        build_tree([half, DirEntry(b"b", RAW, 2**62, 1)])
    with pytest.raises(InvalidNameError, match=r"2\*\*63"):  # no page exceeds it, all together do
        build_tree([DirEntry(b"%04d" % at, RAW, 2**53 + 1, 1) for at in range(1100)])


# paging -----------------------------------------------------------------------------------------------------


def ending_names(ends: bool, level: int = 0):
    """Names that end (or do not end) a page."""
    return (name for name in (b"%07d" % at for at in count()) if ends_page(name, level) is ends)


def page_lengths(built: BuiltTree) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for digest, data in built.pages:
        page = decode_page(digest, data)
        found.setdefault(page.level, []).append(len(page))
    return found


def test_names_that_all_end_pages_do_not_make_small_ones():
    built = build_tree(file(name) for name in islice(ending_names(True), 700))
    leaves, *_ = page_lengths(built).values()
    assert leaves == [MIN_ITEMS] * 43 + [700 - 43 * MIN_ITEMS]


def test_names_that_never_end_pages_do_not_make_large_ones():
    built = build_tree(file(name) for name in islice(ending_names(False), 5000))
    assert page_lengths(built) == {0: [MAX_ITEMS] * 4 + [5000 - 4 * MAX_ITEMS], 1: [5]}


def test_the_longest_entries_fill_no_page_over_the_limit():
    names = (name.rjust(255, b"x") for name in (b"%d" % at for at in count(10**6)))
    widest = (
        RefEntry(name, "u" * 4096, 2**63 // 2000, "c" * 1024, "v" * 1024)
        for name in names
        if not ends_page(name, 0)
    )
    built = build_tree(islice(widest, MAX_ITEMS))
    assert page_lengths(built) == {0: [MAX_ITEMS]}
    ((digest, data),) = built.pages
    assert MAX_PAGE_BYTES * 0.98 < len(data) <= MAX_PAGE_BYTES
    assert len(decode_page(digest, data)) == MAX_ITEMS


@given(st.lists(st.binary(min_size=1, max_size=3), max_size=80, unique=True), st.integers(0, 3))
def test_pages_end_by_the_rule_alone(names: list[bytes], level: int):
    names = [b"p%d" % at for at in range(200)] + names
    ends = split_items(names, level)
    assert ends[-1] == len(names)
    start = 0
    for end in ends:
        inside = names[start:end]
        assert len(inside) <= MAX_ITEMS
        assert not any(xxh3_64_intdigest(name, level) % 256 == 0 for name in inside[MIN_ITEMS - 1 : -1])
        if end < len(names):
            assert xxh3_64_intdigest(inside[-1], level) % 256 == 0
            assert len(inside) >= MIN_ITEMS
        start = end
    open_ends = split_items(names, level, closed=False)
    assert open_ends == ends or open_ends == ends[:-1]


def test_one_more_name_changes_one_page_a_level():
    entries = [file(b"file %06d" % at) for at in range(50_000)]
    before = dict(build_tree(entries).pages)
    after = dict(build_tree([*entries, file(b"file 025000 and a half")]).pages)
    assert len(after.keys() - before.keys()) == 2  # one leaf, one index page


# hostile bytes ----------------------------------------------------------------------------------------------


def refuse(data: bytes, why: str = "") -> None:
    digest = digest_bytes(data)
    with pytest.raises(BadObjectError, match=why) as caught:
        decode_page(digest, data)
    assert digest in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1500
    assert caught.value.digest == digest


def wire(*entries: object) -> bytes:
    return encode([1, 0, list(entries)])


F = ["f", b"name", 1, RAW, b"", False]


def changed(entry: list[object], at: int, value: object) -> list[object]:
    return [*entry[:at], value, *entry[at + 1 :]]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "truncated"),
        (b"\xc1", "not a page"),
        (b"tree", "not a page"),
        (encode(None), "array"),
        (encode({"version": 1}), "array"),
        (encode([]), "length"),
        (encode([1, 0]), "length"),
        (encode([1, 0, [], []]), "length"),
        (encode([2, 0, []]), "Invalid enum value 2"),
        (encode([True, 0, []]), "bool"),
        (encode([1, -1, []]), "not a page"),
        (encode([1, "0", []]), "not a page"),
        (encode([1, 0, {}]), "array"),
        (encode([1, 0, None]), "array"),
        (wire(F)[:-1], "truncated"),
        (wire(F) + b"\0", "trailing"),
        (wire([]), "not a page"),
        (wire(["x", b"name"]), "Invalid value 'x'"),
        (wire([1, b"name"]), "not a page"),
        (wire(["two\n lines" * 1000, b"name"]), "two lines"),
        (wire([None]), "not a page"),
        (wire([b"f", b"name", 1, RAW, b"", False]), "not a page"),
        (wire(F[:-1]), "length"),
        (wire([*F, 1]), "length"),
        (wire(changed(F, 1, b"")), ">= 1"),
        (wire(changed(F, 1, "name")), "bytes"),
        (wire(changed(F, 1, b".")), "directory itself"),
        (wire(changed(F, 1, b"..")), "its parent"),
        (wire(changed(F, 1, b"a/b")), "holds a '/'"),
        (wire(changed(F, 1, b"/")), "holds a '/'"),
        (wire(changed(F, 1, b"a\0")), "NUL"),
        (wire(changed(F, 1, b"x" * 256)), "<= 255"),
        (wire(changed(F, 2, -1)), ">= 0"),
        (wire(changed(F, 2, 2**63)), "<="),
        (wire(changed(F, 2, 1.0)), "float"),
        (wire(changed(F, 2, None)), "None"),
        (wire(changed(F, 3, b"")), ">= 32"),
        (wire(changed(F, 3, RAW + b"x")), "<= 32"),
        (wire(changed(F, 3, RAW.hex())), "bytes"),
        (wire(changed(F, 4, RAW)), "with a block list"),
        (wire(changed(F, 4, b"x")), "block list"),
        (wire(changed(F, 2, 2**20 + 1)), "without a block list"),
        (wire(changed(F, 5, 0)), "bool"),
        (wire(F, F), "twice"),
        (wire(F, changed(F, 1, b"a")), "not sorted"),
        (wire(changed(F, 1, b"a"), F, changed(F, 1, b"b")), "not sorted"),
        (wire(["d", b"a", RAW, 2**63 - 1, 0], ["d", b"b", RAW, 1, 0]), "more than"),
        (wire(["d", b"a", RAW, 0, 2**63 - 1], ["d", b"b", RAW, 0, 1]), "more than"),
        (wire(["d", b"a", RAW[:5], 0, 0]), ">= 32"),
        (wire(["l", b"a", b""]), ">= 1"),
        (wire(["l", b"a", b"/etc"]), "absolute"),
        (wire(["l", b"a", b"x\0"]), "NUL"),
        (wire(["l", b"a", b"x" * 4096]), "<= 4095"),
        (wire(["r", b"a", "", 0, "", ""]), ">= 1"),
        (wire(["r", b"a", "u\0", 0, "", ""]), "NUL"),
        (wire(["r", b"a", "é" * 4000, 0, "", ""]), "over 4096"),
        (wire(["r", b"a", "u", 0, "c" * 1025, ""]), "<= 1024"),
        (b"\x93\x01\x00\x91\x96\xa1r\xc4\x01a\xa1\xff\x01\xa0\xa0", "not a page"),  # no UTF-8
        # the same content in other words
        (b"\x93\x01\x00\xdc\x00\x00", "canonical"),
        (b"\x93\x01\x00\xdd\x00\x00\x00\x00", "canonical"),
        (b"\xdc\x00\x03\x01\x00\x90", "not a page|canonical"),
        (b"\x93\xcc\x01\x00\x90", "not a page|canonical"),
        (b"\x93\x01\xcc\x00\x90", "not a page|canonical"),
        (wire(F).replace(b"\xc4\x04name", b"\xc5\x00\x04name"), "canonical"),
        (wire(F).replace(b"\xa1f", b"\xd9\x01f"), "canonical"),
        (wire(F).replace(b"name\x01", b"name\xcc\x01"), "canonical"),
        # absurd lengths and depths
        (b"\x93\x01\x00\xdd\xff\xff\xff\xff", "length|truncated"),
        (b"\x93\x01\x00\x91\x96\xa1f\xc6\xff\xff\xff\xff", "not a page"),
        (b"\x91" * 200_000, "not a page"),
        (b"\x93\x01\x00" + b"\x91" * 200_000, "not a page"),
        (b"\x81" * 200_000, "not a page"),
        (b"\x93\x01\x00\x91\x92\xa1l" + b"\x91" * 200_000, "not a page"),
        (encode([1, 0, []]) + b"\0" * MAX_PAGE_BYTES, "are possible"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_malformed_leaf_pages(data: bytes, why: str):
    refuse(data, why)


def test_too_many_entries():
    names = list(islice(ending_names(False), 1025))
    refuse(wire(*(changed(F, 1, name) for name in names)), "<= 1024")
    decode_page(digest_bytes(data := wire(*(changed(F, 1, name) for name in names[:1024]))), data)


def test_a_page_that_should_have_ended():
    ordinary = list(islice(ending_names(False), 15))
    end = next(name for name in ending_names(True) if name > ordinary[-1])
    assert decode_page(digest_bytes(data := wire(*(changed(F, 1, n) for n in [*ordinary, end]))), data)
    refuse(wire(*(changed(F, 1, name) for name in [*ordinary, end, b"zzz"])), "should end after")


I = [b"a", RAW, 10, 10, 10]  # noqa: E741


def index(*items: object, level: object = 1) -> bytes:
    return encode([1, level, list(items)])


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (index(), ">= 1"),
        (index(I, level=MAX_LEVEL + 1), "<= 16"),
        (index(I, level=2**40), "<= 16"),
        (index(changed(I, 0, b"")), ">= 1"),
        (index(changed(I, 0, b"..")), "parent"),
        (index(changed(I, 0, b"a/b")), "'/'"),
        (index(changed(I, 0, b"a\0b")), "NUL"),
        (index(changed(I, 0, b"a" * 256)), "<= 255"),
        (index(changed(I, 1, b"")), ">= 32"),
        (index(changed(I, 2, 0)), ">= 1"),
        (index(changed(I, 2, -5)), ">= 1"),
        (index(changed(I, 3, 2**64 - 1)), "<="),
        (index(changed(I, 4, -1)), ">= 0"),
        (index(I[:-1]), "length"),
        (index([*I, 1]), "length"),
        (index(I, I), "twice"),
        (index(changed(I, 0, b"b"), I), "not sorted"),
        (index(changed(I, 3, 2**63 - 1), changed(changed(I, 0, b"b"), 3, 1)), "more than"),
        (index(changed(I, 2, 2**63 - 1), changed(changed(I, 0, b"b"), 2, 1)), "more than"),
        (index(["f", b"a", 1, RAW, b"", False]), "not a page"),
        (index(I).replace(b"\xc4\x01a", b"\xc5\x00\x01a"), "canonical"),
        (index(*(changed(I, 0, b"%07d" % at) for at in range(1025))), "<= 1024"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_malformed_index_pages(data: bytes, why: str):
    refuse(data, why)


def test_an_index_page_that_should_have_ended():
    ordinary = list(islice(ending_names(False, 1), 15))
    end = next(name for name in ending_names(True, 1) if name > ordinary[-1])
    items = [changed(I, 0, name) for name in [*ordinary, end]]
    page = decode_page(digest_bytes(data := index(*items)), data)
    assert isinstance(page, IndexPage)
    assert (page.starts, page.totals) == (list(range(0, 160, 10)), Totals(160, 160, 160))
    refuse(index(*items, changed(I, 0, b"zzz")), "should end after")


def test_bytes_of_another_digest():
    data = wire(F)
    with pytest.raises(BadObjectError, match="another digest"):
        decode_page("0" * 64, data)


VALID = [wire(), wire(F, ["l", b"zz", b"name"]), index(I, changed(I, 0, b"b"))]

json_like = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.binary(max_size=33)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=20,
)
pages_of_anything = st.one_of(
    json_like,
    st.tuples(st.just(1), st.integers(0, 3), json_like),
    st.tuples(
        st.just(1), st.just(0), st.lists(st.tuples(st.sampled_from("fdlr"), strategies.components, json_like))
    ),
).map(encode)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from(VALID)))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(["cut", "insert", "change", "swap"])):
            case "cut":
                del data[at : at + draw(st.integers(1, 8))]
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=4))
            case "change":
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case _:
                data[:] = data[at:] + data[:at]
    return bytes(data)


@given(st.one_of(damaged(), pages_of_anything, st.binary(max_size=80)))
def test_any_bytes_are_a_canonical_page_or_a_bad_object(data: bytes):
    digest = digest_bytes(data)
    try:
        page = decode_page(digest, data)
    except BadObjectError as error:
        assert digest in str(error)
        return
    if isinstance(page, LeafPage):
        assert build_tree(page.entries).pages == [(digest, data)]
    else:
        assert encode((1, page.level, page.items)) == data
