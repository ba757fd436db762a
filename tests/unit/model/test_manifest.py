"""Manifests: the view over a version's trees."""

import os
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artfs.errors import BadObjectError, BlobMissingError, PathNotFoundError
from artfs.model.blocklist import HASHES_PER_BLOCK, encode_block_list
from artfs.model.digests import BLOCK_SIZE, digest_bytes
from artfs.model.entry import DirEntry, Entry, FileEntry, LinkEntry, RefEntry, entry_totals
from artfs.model.manifest import BuiltManifest, Manifest, build_manifest, diff
from artfs.model.pages import EMPTY_TREE, MAX_DEPTH, Totals, build_tree
from artfs.testing import strategies
from artfs.testing.pages import PageShelf

RAW = bytes(range(32))


def file(name: str = "x", size: int = 1, raw: bytes = RAW) -> FileEntry:
    return FileEntry(os.fsencode(name), size, raw, b"", False)


def opened(built: BuiltManifest) -> tuple[PageShelf, Manifest]:
    shelf = PageShelf(built.objects)
    return shelf, Manifest(shelf, built.root)


FILES: dict[str, Entry] = {
    "README": file("README"),
    "data/a": file("a", 10),
    "data/b": LinkEntry(b"b", b"../README"),
    "data/deep/er/c": RefEntry(b"c", "s3://bucket/c", 100, "", ""),
    "data.txt": file("data.txt"),
}


def test_a_version_is_walked_directory_by_directory():
    _, manifest = opened(build_manifest(FILES, ["empty", "data/none", "data"]))
    assert list(manifest.walk()) == [
        (path, FILES[path]) for path in ("README", "data/a", "data/b", "data/deep/er/c", "data.txt")
    ]
    assert [path for path, _ in manifest.walk(include_dirs=True)] == [
        "README",
        "data",
        "data/a",
        "data/b",
        "data/deep",
        "data/deep/er",
        "data/deep/er/c",
        "data/none",
        "data.txt",
        "empty",
    ]
    assert [path for path, _ in manifest.files()] == ["README", "data/a", "data.txt"]
    assert manifest.totals == Totals(4, 112, 4)  # the link counts as no file


def test_a_walk_goes_on_after_a_path():
    _, manifest = opened(build_manifest(FILES, ["empty", "data/none"]))
    everything = list(manifest.walk())
    for seen, (path, _) in enumerate(everything):
        assert list(manifest.walk_after(path)) == everything[seen + 1 :]
    for path in ("nothing", "README/x", "data/nothing", "data/none/x"):
        with pytest.raises(PathNotFoundError):
            list(manifest.walk_after(path))


def test_a_part_is_walked():
    _, manifest = opened(build_manifest(FILES))
    assert [path for path, _ in manifest.walk("data/deep", include_dirs=True)] == [
        "data/deep",
        "data/deep/er",
        "data/deep/er/c",
    ]
    assert list(manifest.walk("data/a")) == [("data/a", FILES["data/a"])]
    assert list(manifest.walk("data/b")) == [("data/b", FILES["data/b"])]
    assert list(manifest.walk("dat")) == list(manifest.walk("data/x/y")) == []


def test_single_paths_are_found():
    _, manifest = opened(build_manifest(FILES))
    for path, entry in FILES.items():
        assert manifest.get(path) == entry
    assert isinstance(manifest.get("data/deep"), DirEntry)
    for absent in (
        "",
        "/",
        "x",
        "data/",
        "/data",
        "data/x",
        "README/x",
        "data/b/x",
        "data/../README",
        "./README",
        "\ud800",
    ):
        assert manifest.get(absent) is None


def test_directories_can_be_opened():
    _, manifest = opened(build_manifest(FILES))
    assert manifest.directory() is manifest.top
    assert manifest.top.digest == manifest.root
    inner = manifest.directory("data/deep")
    assert inner is not None
    assert inner.lookup(b"er") is not None
    assert manifest.directory("README") is manifest.directory("none") is None


@given(strategies.file_maps())
def test_a_flat_map_comes_back(files: Mapping[str, Entry]):
    _, manifest = opened(build_manifest(files))
    assert dict(manifest.walk()) == files
    assert manifest.totals.size == sum(entry_totals(entry)[0] for entry in files.values())
    assert manifest.totals.file_count == sum(entry_totals(entry)[1] for entry in files.values())
    for path, entry in files.items():
        assert manifest.get(path) == entry


@given(strategies.file_maps(names=strategies.components), st.randoms(use_true_random=False))
def test_the_order_of_a_map_does_not_matter(files: Mapping[str, Entry], order):
    pairs = list(files.items())
    order.shuffle(pairs)
    assert build_manifest(dict(pairs)).root == build_manifest(files).root


def test_names_that_are_no_text_survive():
    path = os.fsdecode(b"\xff/\xfe")
    _, manifest = opened(build_manifest({path: file()}))
    assert [found for found, _ in manifest.walk()] == [path]
    assert os.fsencode(path) == b"\xff/\xfe"


def test_only_what_is_asked_for_is_read():
    built = build_manifest(
        {f"{a}/{b}/{c}": file() for a in "abc" for b in "abc" for c in "abc"} | {"a/a/z": file()}
    )
    shelf, manifest = opened(built)
    shelf.loads.clear()
    assert manifest.get("b/c/a") is not None
    assert len(shelf.loads) == 2
    shelf.loads.clear()
    walk = manifest.walk()
    for _ in range(3):
        next(walk)
    assert len(shelf.loads) == 2


def test_a_missing_tree_is_the_sources_error():
    built = build_manifest(FILES)
    with pytest.raises(BlobMissingError, match=built.root):
        Manifest(PageShelf(), built.root)
    manifest = Manifest(PageShelf(built.objects[-1:]), built.root)
    with pytest.raises(BlobMissingError):
        list(manifest.walk())


# objects ----------------------------------------------------------------------------------------------------


def big(name: bytes, size: int) -> tuple[FileEntry, list[bytes]]:
    hashes = b"h" * 32 * -(-size // BLOCK_SIZE)
    objects = encode_block_list(size, hashes)
    return FileEntry(name, size, RAW, bytes.fromhex(digest_bytes(objects[-1])), False), objects


def test_objects_are_all_that_a_version_needs():
    large, large_objects = big(b"large", 2**20 + 1)
    huge, huge_objects = big(b"huge", HASHES_PER_BLOCK * BLOCK_SIZE + 1)
    built = build_manifest({**FILES, "large": large, "data/huge": huge}, ["empty"])
    _, manifest = opened(built)
    blobs = {entry.digest for _, entry in manifest.files()}
    tops = {digest_bytes(objects[-1]) for objects in (large_objects, huge_objects)}
    assert set(manifest.objects()) == {digest for digest, _ in built.objects} | blobs | tops
    store = {digest_bytes(data): data for data in large_objects + huge_objects}
    assert set(manifest.objects(read=store.__getitem__)) == set(manifest.objects()) | store.keys()


def test_marking_skips_what_was_marked():
    files: dict[str, Entry] = {
        f"d{at}/{n:05}": file(raw=bytes([at]) * 32) for at in range(3) for n in range(2000)
    }
    shelf, first = opened(build_manifest(files))
    built = build_manifest({**files, "d1/new": file(raw=b"n" * 32)})
    shelf.add(built.objects)
    second = Manifest(shelf, built.root)
    everything = set(second.objects())
    seen: set[str] = set()
    marked = set(first.objects(seen))
    shelf.loads.clear()
    marked |= set(second.objects(seen))
    assert marked >= everything
    assert len(shelf.loads) == 2  # the page of d1 with the new name in it, and d1's index page
    shelf.loads.clear()
    assert list(second.objects(seen)) == []
    assert shelf.loads == []


def test_a_blob_that_looks_like_a_tree_hides_nothing():
    """A file may hold the very bytes of a tree; marking it must not mark what the tree refers to."""
    inner = build_manifest({"secret": file("secret", raw=b"s" * 32)})
    page = bytes.fromhex(inner.root)
    built = build_manifest({"a copy": file(raw=page), "z/secret": file("secret", raw=b"s" * 32)})
    _, manifest = opened(built)
    told = list(manifest.objects(set()))
    assert (b"s" * 32).hex() in told


# hostile trees ----------------------------------------------------------------------------------------------


def nested(depth: int, entries: list[Entry]) -> tuple[PageShelf, str]:
    built = build_tree(entries)
    shelf = PageShelf(built.pages)
    for _ in range(depth):
        built = build_tree([built.as_entry(b"d")])
        shelf.add(built.pages)
    return shelf, built.digest


def every_way(manifest: Manifest, other: Manifest) -> list[object]:
    return [
        lambda: list(manifest.walk()),
        lambda: list(manifest.walk(include_dirs=True)),
        lambda: list(manifest.walk("d", include_dirs=True)),
        lambda: list(diff(manifest, other)),
        lambda: list(diff(other, manifest)),
    ]


def test_directories_nested_to_the_limit():
    shelf, root = nested(MAX_DEPTH, [file("f")])
    manifest = Manifest(shelf, root)
    path = "d/" * MAX_DEPTH + "f"
    assert list(manifest.walk()) == [(path, file("f"))]
    assert manifest.get(path) == file("f")
    assert len(list(manifest.objects())) == MAX_DEPTH + 2
    shelf.add(build_tree([]).pages)
    assert [change.path for change in diff(Manifest(shelf, EMPTY_TREE), manifest)] == [path]


def test_directories_nested_too_deep():
    shelf, root = nested(MAX_DEPTH + 1, [file("f")])
    shelf.add(build_tree([]).pages)
    manifest = Manifest(shelf, root)
    culprit = build_tree([file("f")]).digest
    ways = every_way(manifest, Manifest(shelf, EMPTY_TREE))
    for way in [*ways, lambda: list(manifest.objects())]:
        with pytest.raises(BadObjectError, match="more than 256 directories deep") as caught:
            way()
        assert caught.value.digest == culprit


@pytest.mark.parametrize("target", [b"../../x", b"a/../../x", b"../../../../../../etc/passwd"])
def test_links_that_leave_the_artifact(target: bytes):
    link = LinkEntry(b"l", target)
    shelf, root = nested(1, [link])
    shelf.add(build_tree([]).pages)
    manifest = Manifest(shelf, root)
    culprit = build_tree([link]).digest
    ways = every_way(manifest, Manifest(shelf, EMPTY_TREE))
    del ways[-2]  # what was removed may be anything
    for way in [*ways, lambda: manifest.get("d/l"), lambda: list(manifest.walk("d/l"))]:
        with pytest.raises(BadObjectError, match="leaves the artifact") as caught:
            way()
        assert caught.value.digest == culprit
    assert culprit in list(manifest.objects())  # marking goes on


def test_links_to_the_limit_of_their_depth():
    shelf, root = nested(3, [LinkEntry(b"l", b"../../../x")])
    assert [path for path, _ in Manifest(shelf, root).walk()] == ["d/d/d/l"]
    assert [path for path, _ in Manifest(shelf, root).walk("d/d")] == ["d/d/d/l"]


def test_totals_of_directories_must_be_right():
    inner = build_tree([file("f", 7)])
    for wrong in (
        DirEntry(b"d", bytes.fromhex(inner.digest), 8, 1),
        DirEntry(b"d", bytes.fromhex(inner.digest), 7, 2),
    ):
        outer = build_tree([wrong])
        shelf = PageShelf(inner.pages + outer.pages + build_tree([]).pages)
        manifest = Manifest(shelf, outer.digest)
        ways = every_way(manifest, Manifest(shelf, EMPTY_TREE))
        for way in [*ways, lambda: list(manifest.objects()), lambda: manifest.get("d/f")]:  # noqa: B023
            with pytest.raises(BadObjectError, match="totals") as caught:
                way()
            assert caught.value.digest == inner.digest
