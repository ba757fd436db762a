from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artfs.errors import InvalidNameError
from artfs.model.entry import (
    DirEntry,
    Entry,
    FileEntry,
    LinkEntry,
    RefEntry,
    check_entry,
    entry_totals,
    link_stays_inside,
    wrong_name,
    wrong_names,
)
from artfs.testing import strategies

RAW = bytes(range(32))


@given(strategies.entries())
def test_allowed_entries_pass(entry: Entry):
    assert check_entry(entry) is entry


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (FileEntry(b"", 0, RAW, b"", False), "empty name"),
        (FileEntry(b".", 0, RAW, b"", False), "means a directory itself"),
        (FileEntry(b"..", 0, RAW, b"", False), "its parent"),
        (FileEntry(b"a/b", 0, RAW, b"", False), "holds a '/'"),
        (FileEntry(b"a\0b", 0, RAW, b"", False), "NUL"),
        (FileEntry(b"x" * 256, 0, RAW, b"", False), "256 bytes"),
        (FileEntry(b"f", -1, RAW, b"", False), ">= 0"),
        (FileEntry(b"f", 2**63, RAW, RAW, False), "<="),
        (FileEntry(b"f", 2**70, RAW, RAW, False), "f"),
        (FileEntry(b"f", 0, RAW[1:], b"", False), ">= 32"),
        (FileEntry(b"f", 0, RAW, RAW, False), "0 bytes with a block list"),
        (FileEntry(b"f", 2**20 + 1, RAW, b"", False), "without a block list"),
        (FileEntry(b"f", 2**20 + 1, RAW, b"x", False), "block list"),
        (FileEntry("f", 0, RAW, b"", False), "bytes"),
        (DirEntry(b"d", b"", 0, 0), ">= 32"),
        (DirEntry(b"d", RAW, 0, -1), ">= 0"),
        (LinkEntry(b"l", b""), ">= 1"),
        (LinkEntry(b"l", b"/etc/passwd"), "absolute"),
        (LinkEntry(b"l", b"a\0b"), "NUL"),
        (LinkEntry(b"l", b"x" * 4096), "<= 4095"),
        (RefEntry(b"r", "", None, "", ""), ">= 1"),
        (RefEntry(b"r", "x" * 4097, None, "", ""), "<= 4096"),
        (RefEntry(b"r", "\u4e2d" * 2000, None, "", ""), "URI of over 4096 bytes"),
        (RefEntry(b"r", "s3://b/k", -1, "", ""), ">= 0"),
        (RefEntry(b"r", "s3://b/\0", 1, "", ""), "NUL in its URI"),
        (RefEntry(b"r", "s3://b/\udcff", 1, "", ""), "surrogates"),
        (RefEntry(b"r", "s3://b/k", 1, "\u00e9" * 1000, ""), "checksum of over 1024 bytes"),
        (RefEntry(b"r", "s3://b/k", 1, "", "x" * 1025), "<= 1024"),
    ],
)
def test_broken_rules_are_named(entry: Entry, why: str):
    with pytest.raises(InvalidNameError) as caught:
        check_entry(entry)
    assert why in str(caught.value)


def test_digests_are_shown_in_hex():
    assert FileEntry(b"f", 0, RAW, b"", False).digest == RAW.hex()
    assert DirEntry(b"d", RAW, 0, 0).digest == RAW.hex()


@pytest.mark.parametrize(
    ("entry", "totals"),
    [
        (FileEntry(b"f", 7, RAW, b"", False), (7, 1)),
        (DirEntry(b"d", RAW, 70, 10), (70, 10)),
        (LinkEntry(b"l", b"x"), (0, 0)),
        (RefEntry(b"r", "s3://b/k", 9, "", ""), (9, 1)),
        (RefEntry(b"r", "s3://b/k", None, "", ""), (0, 1)),
    ],
)
def test_what_an_entry_adds_to_totals(entry: Entry, totals: tuple[int, int]):
    assert entry_totals(entry) == totals


@given(st.lists(st.binary(max_size=3) | st.sampled_from([b".", b"..", b"x" * 256])))
def test_names_are_checked_together_as_they_would_be_one_by_one(names: list[bytes]):
    singly = any(wrong_name(name) for name in names)
    in_order = all(before < after for before, after in pairwise(names))
    assert (wrong_names(names) is None) == (not singly and in_order)


@pytest.mark.parametrize(
    ("depth", "target", "inside"),
    [
        (0, b"a", True),
        (0, b"a/b", True),
        (0, b"./a", True),
        (0, b".", True),
        (0, b"..", False),
        (0, b"../a", False),
        (1, b"..", True),
        (1, b"../a", True),
        (1, b".././/a/", True),
        (1, b"../../a", False),
        (2, b"../../a", True),
        (5, b"a/../b", False),  # if `a` is a link, this is somewhere else
        (5, b"../a/..", False),
        (5, b"", False),
        (5, b"/", False),
        (5, b"/a", False),
        (5, b"a\0", False),
        (0, b"...", True),
        (0, b"a..", True),
        (5, b"x" * 4096, False),
    ],
)
def test_links_stay_inside(depth: int, target: bytes, inside: bool):
    assert link_stays_inside(("d",) * depth, target) is inside
