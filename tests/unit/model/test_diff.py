"""What differs between two versions, and what finding it out costs."""

import os
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artfs.model.entry import DirEntry, Entry, FileEntry, LinkEntry, RefEntry
from artfs.model.manifest import Change, Manifest, build_manifest, diff
from artfs.testing import strategies
from artfs.testing.pages import PageShelf

RAW = bytes(range(32))


def file(name: str = "x", size: int = 1, raw: bytes = RAW, *, executable: bool = False) -> FileEntry:
    return FileEntry(os.fsencode(name.rpartition("/")[2]), size, raw, b"", executable)


def pair(
    old: Mapping[str, Entry],
    new: Mapping[str, Entry],
    old_dirs: tuple[str, ...] = (),
    new_dirs: tuple[str, ...] = (),
) -> tuple[PageShelf, Manifest, Manifest]:
    before, after = build_manifest(old, old_dirs), build_manifest(new, new_dirs)
    shelf = PageShelf(before.objects + after.objects)
    return shelf, Manifest(shelf, before.root), Manifest(shelf, after.root)


def by_hand(
    old: Mapping[str, Entry], new: Mapping[str, Entry]
) -> dict[tuple[str, str], tuple[Entry | None, Entry | None]]:
    found: dict[tuple[str, str], tuple[Entry | None, Entry | None]] = {}
    for path in old.keys() | new.keys():
        before, after = old.get(path), new.get(path)
        if before != after:
            kind = "added" if before is None else "removed" if after is None else "changed"
            found[path, kind] = before, after
    return found


def found(old: Manifest, new: Manifest) -> dict[tuple[str, str], tuple[Entry | None, Entry | None]]:
    changes = list(diff(old, new))
    assert len({(change.path, change.kind) for change in changes}) == len(changes)
    return {(change.path, change.kind): (change.old, change.new) for change in changes}


@given(strategies.file_maps(), strategies.file_maps())
def test_differences_are_those_of_the_maps(old: Mapping[str, Entry], new: Mapping[str, Entry]):
    _, before, after = pair(old, new)
    assert found(before, after) == by_hand(old, new)
    assert found(after, before) == by_hand(new, old)
    assert found(after, after) == {}


BASE = [f"n{2 * at:05}" for at in range(3000)]


@settings(max_examples=20)
@given(
    st.sets(st.integers(0, 2999), max_size=6),
    st.sets(st.integers(0, 6000), max_size=6),
    st.sampled_from([0, 1, 17, 1500, 2990]),
    st.integers(0, 400),
)
def test_differences_of_paged_directories(touched: set[int], added: set[int], cut: int, length: int):
    old = {name: file(name) for name in BASE}
    new = {name: entry for at, (name, entry) in enumerate(old.items()) if not cut <= at < cut + length}
    for at in touched:
        new[BASE[at]] = file(BASE[at], 9)
    for at in added:
        new.setdefault(f"n{at:05}+", file(f"n{at:05}+"))
    _, before, after = pair(old, new)
    assert found(before, after) == by_hand(old, new)
    assert found(after, before) == by_hand(new, old)


def test_kinds_of_change():
    old = {
        "bits": file("bits"),
        "gone": file("gone"),
        "link": LinkEntry(b"link", b"bits"),
        "size": file("size", 1),
        "same": file("same"),
        "ref": RefEntry(b"ref", "s3://b/k", 1, "e1", ""),
        "turns/x": file("x"),
        "turned": file("turned"),
    }
    new = {
        "bits": file("bits", executable=True),
        "fresh": file("fresh"),
        "link": file("link"),
        "size": file("size", 2),
        "same": file("same"),
        "ref": RefEntry(b"ref", "s3://b/k", 1, "e2", ""),
        "turns": file("turns"),
        "turned/y": file("y"),
    }
    _, before, after = pair(old, new)
    assert [(change.kind, change.path) for change in diff(before, after)] == [
        ("changed", "bits"),
        ("added", "fresh"),
        ("removed", "gone"),
        ("changed", "link"),
        ("changed", "ref"),
        ("changed", "size"),
        ("removed", "turned"),
        ("added", "turned/y"),
        ("added", "turns"),
        ("removed", "turns/x"),
    ]
    assert Change("bits", "changed", old["bits"], new["bits"]) in list(diff(before, after))


def test_directories_are_told_on_request():
    _, before, after = pair({"a/b/x": file(), "k": file()}, {"k/e/f": file()}, ("none",), ("some", "a"))
    assert [(change.kind, change.path) for change in diff(before, after, include_dirs=True)] == [
        ("removed", "a/b"),
        ("removed", "a/b/x"),
        ("removed", "k"),
        ("added", "k"),
        ("added", "k/e"),
        ("added", "k/e/f"),
        ("removed", "none"),
        ("added", "some"),
    ]
    kinds = [type(change.new or change.old) for change in diff(before, after, include_dirs=True)]
    assert kinds.count(DirEntry) == 6 - 1
    assert [change.path for change in diff(before, after)] == ["a/b/x", "k", "k/e/f"]


# what it costs ----------------------------------------------------------------------------------------------

MANY = {f"dir{d}/{n:06}": file(f"{n:06}") for d in range(3) for n in range(6000)}


@pytest.fixture(scope="module")
def many() -> tuple[PageShelf, str]:
    built = build_manifest(MANY)
    return PageShelf(built.objects), built.root


@pytest.mark.parametrize(
    ("changes", "most"),
    [
        ({}, 0),
        (
            {"dir2/005000": file("005000", 2)},
            2 * (1 + 2),
        ),  # on each side: the root, dir2's index page, one leaf
        ({"dir2/005000+": file("005000+")}, 2 * (1 + 2)),
        ({"dir2/000000-": file("000000-")}, 2 * (1 + 2)),
        ({"dir2/zzz": file("zzz")}, 2 * (1 + 2)),
        ({"dir2/005000": None}, 2 * (1 + 2)),
        ({"dir0/005000": None, "dir1/000007": file("000007", 9)}, 2 * (1 + 4)),
        ({"top": file("top")}, 2),
        ({"new/one": file("one")}, 3),
    ],
)
def test_equal_pages_are_not_read(many: tuple[PageShelf, str], changes: dict[str, Entry | None], most: int):
    shelf, root = many
    files = {path: entry for path, entry in {**MANY, **changes}.items() if entry is not None}
    built = build_manifest(files)
    both = PageShelf([*shelf.objects.items(), *built.objects])
    old, new = Manifest(both, root), Manifest(both, built.root)
    both.loads.clear()
    assert found(old, new) == by_hand(MANY, files)
    # The roots are open already. An entry that ends (or begins to end) a page costs its neighbour, too.
    assert len(both.loads) <= most + 2
