"""Making trees from maps of paths, and changing them page by page."""

import os
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artfs.errors import ConflictError, InvalidNameError
from artfs.model.entry import DirEntry, Entry, FileEntry, LinkEntry
from artfs.model.manifest import BuiltManifest, Manifest, build_manifest, edit
from artfs.model.pages import EMPTY_TREE, MAX_DEPTH, MAX_ITEMS, build_tree, ends_page
from artfs.testing import strategies
from artfs.testing.pages import PageShelf

RAW = bytes(range(32))


def file(name: str = "x", size: int = 1) -> FileEntry:
    return FileEntry(os.fsencode(name.rpartition("/")[2]), size, RAW, b"", False)


def opened(built: BuiltManifest) -> tuple[PageShelf, Manifest]:
    shelf = PageShelf(built.objects)
    return shelf, Manifest(shelf, built.root)


def apply(shelf: PageShelf, built: BuiltManifest) -> Manifest:
    shelf.add(built.objects)
    manifest = Manifest(shelf, built.root)
    assert manifest.totals == built.totals
    return manifest


def changes_between(old: Mapping[str, Entry], new: Mapping[str, Entry]) -> dict[str, Entry | None]:
    gone: dict[str, Entry | None] = {path: None for path in old if path not in new}
    return gone | {path: entry for path, entry in new.items() if old.get(path) != entry}


@given(strategies.file_maps(), strategies.file_maps())
def test_an_edit_makes_what_building_anew_makes(old: Mapping[str, Entry], new: Mapping[str, Entry]):
    shelf, manifest = opened(build_manifest(old))
    built = edit(manifest, changes_between(old, new))
    assert built.root == build_manifest(new).root
    assert dict(apply(shelf, built).walk()) == new


BASE = {f"n{2 * at:05}": file(f"n{2 * at:05}") for at in range(3000)}


@settings(max_examples=20)
@given(
    st.sets(st.integers(0, 2999), max_size=5),
    st.sets(st.integers(0, 6000), max_size=5),
    st.tuples(st.integers(0, 2999), st.integers(0, 700)),
    st.tuples(st.integers(0, 5000), st.integers(0, 300)),
)
def test_paged_directories_are_edited_in_place(
    touched: set[int], added: set[int], cut: tuple[int, int], run: tuple[int, int]
):
    new: dict[str, Entry] = {
        name: entry for at, (name, entry) in enumerate(BASE.items()) if not cut[0] <= at < cut[0] + cut[1]
    }
    names = list(BASE)
    for at in touched:
        new[names[at]] = file(names[at], 9)
    for name in [f"n{at:05}+" for at in added] + [f"n{run[0]:05}~{at}" for at in range(run[1])]:
        new[name] = file(name)
    shelf, manifest = opened(build_manifest(BASE))
    old_pages = set(shelf.objects)
    built = edit(manifest, changes_between(BASE, new))
    anew = build_manifest(new)
    assert built.root == anew.root
    assert not old_pages & {digest for digest, _ in built.objects}
    assert {digest for digest, _ in built.objects} <= {digest for digest, _ in anew.objects}
    assert dict(apply(shelf, built).walk()) == new


def test_growing_and_shrinking_through_all_sizes():
    files: dict[str, Entry] = {}
    shelf, manifest = opened(build_manifest({}))
    for step in range(12):
        batch = {f"{at * 7919 % 100_003:06}": file() for at in range(step * 300, step * 300 + 300)}
        files |= batch
        manifest = apply(shelf, edit(manifest, batch))
        assert manifest.root == build_manifest(files).root
    while files:
        batch = list(files)[:500]
        for path in batch:
            del files[path]
        manifest = apply(shelf, edit(manifest, dict.fromkeys(batch)))
        assert manifest.root == build_manifest(files).root
    assert manifest.root == EMPTY_TREE


def test_names_that_never_end_pages_are_edited_right():
    names = [name for name in (f"{at:06}" for at in range(6000)) if not ends_page(name.encode(), 0)]
    files: dict[str, Entry] = {name: file(name) for name in names}
    shelf, manifest = opened(build_manifest(files))
    first = next(name for name in (f"!{at}" for at in range(999)) if not ends_page(name.encode(), 0))
    for changes in (
        {first: file(first)},
        {names[0]: None},
        {names[MAX_ITEMS]: None, names[MAX_ITEMS + 1]: file("x", 5)},
    ):
        new = {path: entry for path, entry in {**files, **changes}.items() if entry is not None}
        built = edit(manifest, changes)
        assert built.root == build_manifest(new).root
        assert dict(apply(shelf, built).walk()).keys() == new.keys()


def test_an_edit_reads_and_makes_only_what_changes():
    files = {f"dir{d}/{n:06}": file() for d in range(3) for n in range(10_000)}
    shelf, manifest = opened(build_manifest(files))
    shelf.loads.clear()
    built = edit(manifest, {"dir1/005000": file("y", 5)})
    assert len(built.objects) == 3  # a leaf, dir1's index page, the root
    assert sum(len(data) for _, data in built.objects) < 100_000
    assert len(set(shelf.loads)) == 2  # dir1's index page and the leaf; the root was read already


def test_an_edit_that_changes_nothing_makes_nothing():
    for files in ({"a/b": file("b"), "c": file("c")}, {f"a/{at:05}": file() for at in range(3000)}):
        _, manifest = opened(build_manifest(files, ["empty"]))
        path = next(iter(files))
        for changes in (
            {},
            {path: file()},
            {
                "none": None,
                "none/x": None,
                "a/none": None,
                "a/none/x/y": None,
                f"{path}/below": None,
                "empty/x": None,
            },
        ):
            built = edit(manifest, changes)
            assert (built.root, built.totals, built.objects) == (manifest.root, manifest.totals, [])


def test_removing_what_is_not_there_beside_a_change():
    _, manifest = opened(build_manifest({"c": file("c")}))
    assert edit(manifest, {"c": file("c", 2), "d/e": None}).root == build_manifest({"c": file("c", 2)}).root


def test_objects_come_children_first_and_once():
    built = build_manifest({f"{a}/{b}/x": file() for a in "ab" for b in "ab"}, ["e", "f"])
    digests = [digest for digest, _ in built.objects]
    assert len(set(digests)) == len(digests)
    assert digests[-1] == built.root
    shelf = PageShelf(built.objects)
    for at, digest in enumerate(digests):
        for entry in shelf.page(digest).entries:
            if isinstance(entry, DirEntry):
                assert entry.digest in digests[:at]


# directories ------------------------------------------------------------------------------------------------


def test_a_directory_goes_with_its_last_file():
    shelf, manifest = opened(
        build_manifest({"a/b/c": file("c"), "a/d": file("d"), "k": file("k")}, ["empty"])
    )
    after = apply(shelf, edit(manifest, {"a/b/c": None}))
    assert [path for path, _ in after.walk(include_dirs=True)] == ["a", "a/d", "empty", "k"]
    after = apply(shelf, edit(after, {"a/d": None}))
    assert [path for path, _ in after.walk(include_dirs=True)] == ["empty", "k"]


def test_a_directory_is_removed_with_all_below():
    shelf, manifest = opened(build_manifest({"a/b/c": file("c"), "a/d": file("d"), "k": file("k")}))
    after = apply(shelf, edit(manifest, {"a": None}))
    assert [path for path, _ in after.walk()] == ["k"]
    after = apply(shelf, edit(manifest, {"a": None, "a/new": file("new")}))
    assert [path for path, _ in after.walk()] == ["a/new", "k"]


def test_files_and_directories_take_each_others_place():
    shelf, manifest = opened(build_manifest({"d/x": file("x"), "f": file("f")}))
    after = apply(shelf, edit(manifest, {"d": file("d"), "f": None, "f/y": file("y")}))
    assert [path for path, _ in after.walk()] == ["d", "f/y"]
    after = apply(shelf, edit(manifest, {"d": file("d"), "d/x": None}))
    assert [path for path, _ in after.walk()] == ["d", "f"]


def test_a_whole_tree_is_put_in_place():
    part = build_manifest({"x": file("x"), "y/z": file("z")})
    shelf, manifest = opened(build_manifest({"k": file("k")}))
    shelf.add(part.objects)
    entry = DirEntry(b"ignored", bytes.fromhex(part.root), part.totals.size, part.totals.file_count)
    built = edit(manifest, {"copies/one": entry})
    assert [path for path, _ in apply(shelf, built).walk()] == ["copies/one/x", "copies/one/y/z", "k"]
    assert len(built.objects) == 2


def test_an_empty_directory_brings_its_page():
    shelf, manifest = opened(build_manifest({"k": file("k")}))
    built = edit(manifest, {"e": build_tree([]).as_entry(b"e")})
    assert EMPTY_TREE in dict(built.objects)
    assert [path for path, _ in apply(shelf, built).walk(include_dirs=True)] == ["e", "k"]


def test_empty_directories_of_a_map():
    _, manifest = opened(build_manifest({"a/x": file()}, ["c", "a", "b", "c/d", "b"]))
    assert [path for path, _ in manifest.walk(include_dirs=True)] == ["a", "a/x", "b", "c", "c/d"]
    assert build_manifest({}).root == EMPTY_TREE
    assert dict(build_manifest({}).objects).keys() == {EMPTY_TREE}


# errors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("files", [["k", "k/z"], ["k/z", "k"], ["a/k/y/z", "a/k", "b"]])
def test_a_path_is_a_file_or_a_directory(files: list[str]):
    with pytest.raises(ConflictError, match="k' is a file or link, and a directory"):
        build_manifest({path: file() for path in files})
    _, manifest = opened(build_manifest({}))
    with pytest.raises(ConflictError, match="it cannot be both"):
        edit(manifest, {path: file() for path in files})


def test_no_directory_takes_a_files_place_unasked():
    _, manifest = opened(build_manifest({"k": file("k"), "l": LinkEntry(b"l", b"k")}))
    for path in ("k/z", "l/z/y"):
        with pytest.raises(ConflictError, match="is a file or link"):
            edit(manifest, {path: file()})


def test_an_empty_directory_is_no_file():
    with pytest.raises(ConflictError, match="is a file or link"):
        build_manifest({"k": file()}, ["k/e"])
    with pytest.raises(ConflictError, match="is a file or link"):
        build_manifest({"k": file()}, ["k"])


@pytest.mark.parametrize(
    "path",
    ["", "/", "/a", "a/", "a//b", ".", "a/./b", "..", "../a", "a\0", "x" * 256, "\ud800", "d/" * 257 + "f"],
)
def test_paths_that_no_tree_holds(path: str):
    with pytest.raises(InvalidNameError):
        build_manifest({path: file()})
    _, manifest = opened(build_manifest({"k": file()}))
    with pytest.raises(InvalidNameError):
        edit(manifest, {path: file()})


def test_paths_to_the_limit():
    path = "d/" * MAX_DEPTH + "f"
    _, manifest = opened(build_manifest({path: file()}))
    assert [found for found, _ in manifest.walk()] == [path]


def test_links_may_not_leave():
    for path, target in (
        ("l", b"../x"),
        ("a/l", b"../../x"),
        ("a/l", b"b/../../x"),
        ("l", b"/x"),
        ("l", b""),
    ):
        with pytest.raises(InvalidNameError, match="leaves the artifact"):
            build_manifest({path: LinkEntry(b"l", target)})
    assert build_manifest({"a/l": LinkEntry(b"l", b"../x")}).totals.file_count == 0
