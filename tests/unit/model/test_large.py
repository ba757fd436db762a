"""A directory of a million files: what it costs to look into it, to change it, and to compare it."""

import pytest

from artfs.model.entry import FileEntry
from artfs.model.manifest import Manifest, diff, edit
from artfs.model.pages import MAX_ITEMS, BuiltTree, Totals, build_tree
from artfs.model.tree import Directory
from artfs.testing.pages import PageShelf

MILLION = 1_000_000
RAW = bytes(range(32))


def name(at: int) -> bytes:
    return b"%07d.jpg" % at


@pytest.fixture(scope="module")
def built() -> BuiltTree:
    return build_tree(FileEntry(name(at), at, RAW, b"", False) for at in range(MILLION))


@pytest.fixture
def shelf(built: BuiltTree) -> PageShelf:
    return PageShelf(built.pages)


def test_its_totals_and_pages(built: BuiltTree, shelf: PageShelf):
    assert built.totals == Totals(MILLION, MILLION * (MILLION - 1) // 2, MILLION)
    directory = Directory(shelf, built.digest)
    assert directory.root.level == 2
    leaves = directory.leaf_refs()
    assert 3000 < len(leaves) < 5000
    assert max(len(shelf.page(ref.item.digest)) for ref in leaves[:50]) <= MAX_ITEMS


def test_a_lookup_decodes_at_most_three_pages(built: BuiltTree, shelf: PageShelf):
    for at in (0, 1, 499_999, 654_321, MILLION - 1):
        shelf.loads.clear()
        found = Directory(shelf, built.digest).lookup(name(at))
        assert found is not None
        assert (found[0], found[1].name) == (at, name(at))
        assert len(shelf.loads) <= 3
        shelf.loads.clear()
        assert Directory(shelf, built.digest).lookup(name(at) + b"x") is None
        assert len(shelf.loads) <= 3
        shelf.loads.clear()
        assert Directory(shelf, built.digest).at(at).name == name(at)
        assert len(shelf.loads) <= 3
        shelf.loads.clear()
        assert next(Directory(shelf, built.digest).entries(at))[0] == at
        assert len(shelf.loads) <= 3


def test_one_changed_file_costs_a_few_small_objects(built: BuiltTree, shelf: PageShelf):
    old = Manifest(shelf, built.digest)
    changes = {
        "0500000.jpg": FileEntry(b"", 7, RAW, b"", True),
        "0500000.jpg.txt": FileEntry(b"", 7, RAW, b"", False),
    }
    shelf.loads.clear()
    made = edit(old, changes)
    assert len(shelf.loads) < 20  # the index pages and the one leaf
    assert len(made.objects) <= 6
    assert sum(len(data) for _, data in made.objects) < 200_000
    shelf.add(made.objects)
    new = Manifest(shelf, made.root)
    assert new.totals.count == MILLION + 1
    shelf.loads.clear()
    assert [(change.kind, change.path) for change in diff(old, new)] == [
        ("changed", "0500000.jpg"),
        ("added", "0500000.jpg.txt"),
    ]
    assert len(shelf.loads) <= 8  # an index page and a leaf on each side, and what begins or ends beside it
