"""What a commit must find: all of the tree in the project, and everything as the tree says."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
import pytest

from artfs.catalog.blobledger import NewObject
from artfs.errors import BadObjectError, BlobMissingError, InvalidNameError, QuotaError, UsageError
from artfs.model.blocklist import encode_block_list
from artfs.model.digests import BLOCK_SIZE, digest_bytes
from artfs.model.entry import DirEntry, Entry, FileEntry, LinkEntry
from artfs.model.manifest import build_manifest
from artfs.model.pages import MAX_DEPTH, BuiltTree, IndexItem, build_tree
from artfs.model.records import Project
from artfs.testing.blobworld import BlobWorld, file_entry, some_data
from artfs.wire.messages import LocateRequest

MIB = 1024 * 1024
FILES = {f"d{n % 5}/e{n % 3}/f{n}": b"%d" % n for n in range(100)} | {f"many/{n:05}": b"%d" % (n % 40) for n in range(1500)}


def large(world: BlobWorld, project: Project, size: int, seed: object = 1) -> FileEntry:
    """An entry for a blob of that size, which the project has as if it had been sent and checked."""
    digest, hashes = digest_bytes(f"{size} {seed}".encode()), some_data(-(-size // BLOCK_SIZE) * 32, seed)
    objects = encode_block_list(size, hashes)
    blocks = digest_bytes(objects[-1])
    world.service.store_blobs(project.id, objects)
    world.ledger.add(project.id, None, [NewObject(digest, size, f"blobs/{digest}", 64 * MIB, blocks)])
    return FileEntry(b"f", size, bytes.fromhex(digest), bytes.fromhex(blocks), False)


def stored(world: BlobWorld, project: Project, entries: Mapping[str, Entry] | BuiltTree) -> str:
    """Sends the pages of a tree; returns its digest."""
    if isinstance(entries, BuiltTree):
        world.send(project, dict(entries.pages))
        return entries.digest
    built = build_manifest(entries)
    world.send(project, dict(built.objects))
    return built.root


@pytest.fixture
def reads(blobs: BlobWorld, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The digest of every page that is read."""
    seen: list[str] = []
    read = blobs.service.reader.read

    def watched(wanted):  # type: ignore[no-untyped-def]
        for found, data in read(wanted):
            seen.append(found.digest)
            yield found, data

    monkeypatch.setattr(blobs.service.reader, "read", watched)
    return seen


# what is right ------------------------------------------------------------------------------------------------------------
def test_a_whole_version(blobs: BlobWorld) -> None:
    built, everything = blobs.build(FILES)
    p = blobs.project()
    blobs.send(p, everything)
    shape = blobs.closure.check(p.id, built.root)
    assert shape.totals == built.totals
    assert shape.depth == 2
    held = blobs.ledger.hold(p.id, everything)
    pages = dict(built.objects)
    assert {digest for digest, each in held.items() if each.shape is not None} == set(pages)
    assert blobs.commit(FILES).version.digest == built.root


def test_the_next_version_costs_what_is_new(blobs: BlobWorld, reads: list[str]) -> None:
    blobs.commit(FILES)
    first = set(reads)
    reads.clear()
    changed = {**FILES, "many/00700": b"changed", "d1/e1/new": b"new"}
    built, everything = blobs.build(changed)
    p = blobs.project()
    blobs.send(p, everything)
    blobs.closure.check(p.id, built.root)
    new = set(dict(built.objects)) - first
    assert set(reads) == new
    assert 4 <= len(new) <= 8
    reads.clear()
    blobs.closure.check(p.id, built.root)
    assert reads == []


def test_directories_may_move(blobs: BlobWorld, reads: list[str]) -> None:
    blobs.commit(FILES)
    reads.clear()
    moved = {path.replace("d1/", "x/y/z/"): data for path, data in FILES.items() if not path.startswith("d2/")}
    member = blobs.commit(moved, collection="moved")
    assert member.version.file_count == len(moved)
    assert len(reads) <= 4


def test_large_files_with_their_block_lists(blobs: BlobWorld) -> None:
    p = blobs.project()
    files = {"small": large(blobs, p, 3 * MIB), "large": large(blobs, p, 3 * 1024 * MIB)}
    entries = {path: msgspec.structs.replace(entry, name=path.encode()) for path, entry in files.items()}
    root = stored(blobs, p, entries)
    assert blobs.closure.check(p.id, root).size == 3 * MIB + 3 * 1024 * MIB


def test_the_empty_version(blobs: BlobWorld) -> None:
    p = blobs.project()
    root = stored(blobs, p, build_tree([]))
    blobs.closure.check_version(p.id, root, 0, 0)


def test_what_is_checked_is_touched(blobs: BlobWorld) -> None:
    p = blobs.project()
    entry = large(blobs, p, 3 * 1024 * MIB)
    root = stored(blobs, p, {"f": entry, "d/g": file_entry("g", b"small")})
    blobs.put(p, b"small", b"not in it")
    blobs.clock.move(48)
    blobs.closure.check(p.id, root)
    now = blobs.ledger.now()
    rows = blobs.ledger.rows(None, 10_000)
    old = {row.digest for row in rows if row.touched_at < now - 3_600_000_000}
    assert old == {digest_bytes(b"not in it")}
    assert len(rows) == 7


# what is missing ----------------------------------------------------------------------------------------------------------
def test_all_that_is_missing_is_told(blobs: BlobWorld) -> None:
    built, everything = blobs.build(FILES)
    p = blobs.project()
    inner = next(digest for digest, _ in built.objects if digest != built.root)
    absent = {digest_bytes(b"7"), digest_bytes(b"33"), inner}
    blobs.send(p, {digest: data for digest, data in everything.items() if digest not in absent})
    with pytest.raises(BlobMissingError) as caught:
        blobs.closure.check(p.id, built.root)
    # What is below a page that is missing nobody knows.
    assert set(caught.value.digests) <= absent
    assert inner in caught.value.digests
    blobs.send(p, everything)
    blobs.closure.check(p.id, built.root)


@pytest.mark.parametrize("what", ["root", "page", "file", "block list", "lower list"])
def test_each_kind_of_blob_must_be_there(blobs: BlobWorld, what: str) -> None:
    p = blobs.project()
    entry = large(blobs, p, 3 * 1024 * MIB)
    built = build_manifest({"d/f": entry})
    blobs.send(p, dict(built.objects))
    inner = next(digest for digest, _ in built.objects if digest != built.root)
    blocks = entry.blocks.hex()
    lower = blobs.service.locate(None, _lists(blocks)).blobs[0].digest
    gone = {"root": built.root, "page": inner, "file": entry.digest, "block list": blocks, "lower list": lower}[what]
    blobs.closure.check(p.id, built.root)
    before = blobs.ledger.now() + 3_600_000_000
    blobs.ledger.open_trees(p.id, [built.root, inner], before)
    assert blobs.ledger.remove(p.id, [gone], before) == 1
    with pytest.raises(BlobMissingError) as caught:
        blobs.closure.check(p.id, built.root)
    assert caught.value.digests == (gone,)


def _lists(digest: str) -> LocateRequest:
    return LocateRequest([], [digest])


def test_a_digest_opens_nothing(blobs: BlobWorld) -> None:
    """A tree that names what another project has is refused, in the words for what nobody has."""
    p, q = blobs.project("p"), blobs.project("q")
    blobs.put(p, b"the others' secret")
    inner = build_tree([file_entry("f", b"the others' secret")])
    stored(blobs, p, inner)
    nobody = build_tree([file_entry("f", b"nobody has this")])
    for tree, data in ((inner, b"the others' secret"), (nobody, b"nobody has this")):
        for root, missing in (
            (tree.digest, tree.digest),
            (stored(blobs, q, build_tree([tree.as_entry(b"d")])), tree.digest),
            (stored(blobs, q, build_tree([file_entry("g", data)])), digest_bytes(data)),
        ):
            with pytest.raises(BlobMissingError) as caught:
                blobs.closure.check(q.id, root)
            assert caught.value.digests == (missing,)
            assert str(caught.value) == f"blob {missing} is not in the project"


def test_at_most_a_thousand_are_told(blobs: BlobWorld) -> None:
    p = blobs.project()
    built, _ = blobs.build({f"f{n}": b"%d" % n for n in range(2000)})
    blobs.send(p, dict(built.objects))
    with pytest.raises(BlobMissingError, match="and 1,999 more") as caught:
        blobs.closure.check(p.id, built.root)
    assert len(caught.value.digests) == 1000


# lies ---------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("size", "files"), [(4, 2), (2, 2), (3, 1), (3, 3)])
def test_totals_of_a_version(blobs: BlobWorld, size: int, files: int) -> None:
    p = blobs.project()
    blobs.put(p, b"a", b"bb")
    root = stored(blobs, p, {"a": file_entry("a", b"a"), "b": file_entry("b", b"bb")})
    with pytest.raises(UsageError, match="2 files of 3 bytes"):
        blobs.closure.check_version(p.id, root, size, files)
    blobs.closure.check_version(p.id, root, 3, 2)


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("change", [{"size": 4}, {"file_count": 3}, {"size": 0, "file_count": 0}])
def test_totals_of_a_directory(blobs: BlobWorld, change: dict[str, int], closed: bool) -> None:
    p = blobs.project()
    blobs.put(p, b"a", b"bb")
    inner = build_tree([file_entry("a", b"a"), file_entry("b", b"bb")])
    stored(blobs, p, inner)
    if closed:
        blobs.closure.check(p.id, inner.digest)
    root = stored(blobs, p, build_tree([msgspec.structs.replace(inner.as_entry(b"d"), **change)]))
    with pytest.raises(BadObjectError, match="totals") as caught:
        blobs.closure.check(p.id, root)
    assert caught.value.digest == root


@pytest.mark.parametrize("closed", [False, True])
def test_pages_that_do_not_fit_together(blobs: BlobWorld, closed: bool) -> None:
    p = blobs.project()
    files = {f"{n:05}": b"%d" % (n % 40) for n in range(1500)}
    built, everything = blobs.build(files)
    blobs.send(p, everything)
    if closed:
        blobs.closure.check(p.id, built.root)
    _, level, items = msgspec.msgpack.decode(dict(built.objects)[built.root], type=tuple[int, int, list[IndexItem]])
    replace = msgspec.structs.replace
    for forged in (
        items[:1], [replace(items[0], count=items[0].count + 1), *items[1:]], [replace(items[0], size=0), *items[1:]],
        [items[0], replace(items[0], name=items[1].name), *items[2:]], [replace(items[0], name=b"0"), *items[1:]],
    ):  # fmt: skip
        (root,) = blobs.put(p, msgspec.msgpack.encode((1, level, forged)))
        with pytest.raises(BadObjectError) as caught:
            blobs.closure.check(p.id, root)
        assert caught.value.digest == root


@pytest.mark.parametrize(("size", "data"), [(5, b"four"), (3, b"four"), (0, b"four"), (1, b"")])
def test_sizes_of_files(blobs: BlobWorld, size: int, data: bytes) -> None:
    p = blobs.project()
    blobs.put(p, data)
    root = stored(blobs, p, {"f": file_entry("f", data, size=size)})
    with pytest.raises(BadObjectError, match=f"has {len(data)} bytes, not {size}") as caught:
        blobs.closure.check(p.id, root)
    assert caught.value.digest == root


def test_one_blob_with_two_sizes(blobs: BlobWorld) -> None:
    p = blobs.project()
    blobs.put(p, b"four")
    for sizes in ((4, 5), (5, 4)):
        root = stored(blobs, p, {f"f{n}": file_entry(f"f{n}", b"four", size=size) for n, size in enumerate(sizes)})
        with pytest.raises(BadObjectError, match="has 4 bytes, not 5"):
            blobs.closure.check(p.id, root)


@pytest.mark.parametrize("blocks", ["another's", "nobody's", "a file"])
def test_block_lists(blobs: BlobWorld, blocks: str) -> None:
    p = blobs.project()
    one, other = large(blobs, p, 3 * MIB, 1), large(blobs, p, 3 * MIB, 2)
    blobs.put(p, b"a file")
    wrong = {"another's": other.blocks, "nobody's": bytes(32), "a file": bytes.fromhex(digest_bytes(b"a file"))}[blocks]
    root = stored(blobs, p, {"f": msgspec.structs.replace(one, blocks=wrong)})
    with pytest.raises(BadObjectError, match="is not the block list of blob"):
        blobs.closure.check(p.id, root)


def test_a_size_that_needs_a_block_list_where_there_is_none(blobs: BlobWorld) -> None:
    """A small blob as a large file, with a block list that somebody made for it."""
    p = blobs.project()
    blobs.put(p, b"small", b"a list")
    root = stored(blobs, p, {"f": file_entry("f", b"small", size=2 * MIB, blocks=digest_bytes(b"a list"))})
    with pytest.raises(BadObjectError, match="has 5 bytes"):
        blobs.closure.check(p.id, root)


@pytest.mark.parametrize("make", [
    lambda: b"no page", lambda: b"", lambda: msgspec.msgpack.encode((1, 0, [("f", b"..", 0, bytes(32), b"", False)])),
    lambda: msgspec.msgpack.encode((1, 0, [("f", b"b", 0, bytes(32), b"", False), ("f", b"a", 0, bytes(32), b"", False)])),
    lambda: build_tree([]).pages[0][1] + b"\0", lambda: some_data(900_000),
])  # fmt: skip
def test_what_is_no_tree(blobs: BlobWorld, make: Callable[[], bytes]) -> None:
    p = blobs.project()
    (digest,) = blobs.put(p, make())
    for root in (digest, stored(blobs, p, build_tree([DirEntry(b"d", bytes.fromhex(digest), 0, 0)]))):
        with pytest.raises(BadObjectError) as caught:
            blobs.closure.check(p.id, root)
        assert caught.value.digest == digest


def test_what_is_much_too_large_for_a_page_is_not_read(blobs: BlobWorld, reads: list[str]) -> None:
    p = blobs.project()
    entry = large(blobs, p, 100 * MIB)
    with pytest.raises(BadObjectError, match="are no page"):
        blobs.closure.check(p.id, entry.digest)
    assert reads == []


@pytest.mark.parametrize("closed", [False, True])
def test_links_stay_inside(blobs: BlobWorld, closed: bool) -> None:
    p = blobs.project()
    inner = build_tree([LinkEntry(b"up", b"../x")])
    stored(blobs, p, inner)
    outer = stored(blobs, p, build_tree([inner.as_entry(b"d")]))
    if closed:
        blobs.closure.check(p.id, outer)
    with pytest.raises(BadObjectError, match="leaves the artifact"):
        blobs.closure.check(p.id, inner.digest)
    blobs.closure.check(p.id, outer)


@pytest.mark.parametrize("closed", [False, True])
def test_depth_is_bounded(blobs: BlobWorld, closed: bool) -> None:
    p = blobs.project()
    tree = build_tree([])
    trees = [tree]
    for _ in range(MAX_DEPTH + 1):
        tree = build_tree([tree.as_entry(b"d")])
        trees.append(tree)
    blobs.put(p, *(each.pages[0][1] for each in trees))
    if closed:
        blobs.closure.check(p.id, trees[MAX_DEPTH].digest)
    with pytest.raises(BadObjectError, match="nested"):
        blobs.closure.check(p.id, tree.digest)


def test_a_tree_that_is_everywhere_in_itself(blobs: BlobWorld) -> None:
    """Few pages, and more paths than anybody could count: the check costs the pages."""
    p = blobs.project()
    blobs.put(p, b"x")
    tree = build_tree([file_entry("f", b"x")])
    pages = [tree.pages[0]]
    for _ in range(62):
        tree = build_tree([tree.as_entry(b"a"), tree.as_entry(b"b")])
        pages.append(tree.pages[0])
    blobs.send(p, dict(pages))
    assert blobs.closure.check(p.id, tree.digest).file_count == 2**62
    forged = msgspec.msgpack.encode((1, 0, [DirEntry(name, bytes.fromhex(tree.digest), 2**62, 2**62) for name in (b"a", b"b")]))
    (root,) = blobs.put(p, forged)
    with pytest.raises(BadObjectError):
        blobs.closure.check(p.id, root)


@pytest.mark.parametrize("root", ["", "x", "../../etc", "AB" * 32])
def test_roots_that_are_no_digests(blobs: BlobWorld, root: str) -> None:
    with pytest.raises(InvalidNameError):
        blobs.closure.check(blobs.project().id, root)


# links --------------------------------------------------------------------------------------------------------------------
def test_a_link_lets_the_other_project_read_it_all(blobs: BlobWorld) -> None:
    p = blobs.project("p")
    entry = large(blobs, p, 3 * 1024 * MIB)
    built, everything = blobs.build(FILES)
    blobs.send(p, everything)
    inner = DirEntry(b"all", bytes.fromhex(built.root), built.totals.size, built.totals.file_count)
    root = stored(blobs, p, build_tree([msgspec.structs.replace(entry, name=b"large"), inner]))
    blobs.closure.check(p.id, root)
    q = blobs.project("q")
    blobs.closure.share(p.id, q.id, root)
    reader = blobs.token("e/q reader")
    assert set(blobs.ledger.find(reader, list(everything))) == set(everything)
    lower = blobs.service.locate(reader, _lists(entry.blocks.hex())).blobs[0].digest
    assert set(blobs.ledger.find(reader, [root, entry.digest, entry.blocks.hex(), lower])) == {
        root, entry.digest, entry.blocks.hex(), lower,
    }
    # It is closed there, too: a version of the other project may have it in itself.
    assert blobs.ledger.hold(q.id, [root])[root].shape is not None
    whole = DirEntry(b"d", bytes.fromhex(root), built.totals.size + entry.size, built.totals.file_count + 1)
    assert blobs.closure.check(q.id, stored(blobs, q, build_tree([whole]))).depth == 4


def test_the_next_link_costs_what_is_new(blobs: BlobWorld, reads: list[str]) -> None:
    blobs.link(blobs.commit(FILES), "q")
    second = blobs.commit({**FILES, "many/00700": b"changed"})
    reads.clear()
    blobs.link(second, "q")
    assert len(set(reads)) <= 3
    assert set(blobs.read(blobs.token("e/q reader"), digest_bytes(b"changed"))) == {digest_bytes(b"changed")}


def test_links_count_for_the_quota(blobs: BlobWorld) -> None:
    member = blobs.commit({"a": b"x" * 1000})
    q = blobs.project("q")
    blobs.ledger.set_quota(q.id, 1000)
    with pytest.raises(QuotaError, match="e/q"):
        blobs.link(member, "q")
    blobs.ledger.set_quota(q.id, 2000)
    blobs.link(member, "q")
