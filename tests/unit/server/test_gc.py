"""Garbage collection of a server: what stays, what goes, and what survives a crash between the two."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from artfs.errors import BlobMissingError, UnavailableError, UsageError
from artfs.model.digests import digest_bytes
from artfs.model.entry import FileEntry
from artfs.model.pages import LeafPage, build_tree, decode_page
from artfs.server import gc
from artfs.server.gc import Collected
from artfs.store.bucket import open_bucket
from artfs.testing.blobworld import BlobServer, BlobWorld, file_entry, some_data
from artfs.wire.messages import LocateRequest, TreesRequest

MIB = 1024 * 1024
DATA = some_data(3 * MIB)


@pytest.fixture(params=["sqlite", "postgresql"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BlobWorld]:
    """A server's blobs, in a folder, with each kind of database."""
    database = request.getfixturevalue("database" if request.param == "sqlite" else "postgres_url")
    with BlobWorld(database, open_bucket(str(tmp_path / "bucket"))) as made:
        yield made


@pytest.fixture
def server(blobs: BlobWorld) -> Iterator[BlobServer]:
    with blobs.serve() as made:
        yield made


def sound(world: BlobWorld, where: str, root: str) -> bool:
    """All of a version can be read by who may read the project."""
    reader = world.token(f"e/{where} reader")
    todo, seen = [root], set()
    while todo:
        pages, _ = world.service.trees(reader, TreesRequest(todo.pop()))
        for digest, data in pages:
            assert digest_bytes(data) == digest
            if digest not in seen:
                seen.add(digest)
                for entry in _files(digest, bytes(data)):
                    got = world.read(reader, entry)
                    if entry not in got or digest_bytes(got[entry]) != entry:
                        return False
    return True


def _files(digest: str, data: bytes) -> list[str]:
    page = decode_page(digest, data)
    return [each.digest for each in page.entries if isinstance(each, FileEntry)] if isinstance(page, LeafPage) else []


# what stays, what goes ------------------------------------------------------------------------------------------------------
def test_what_a_version_needs_stays(blobs: BlobWorld) -> None:
    member = blobs.commit({f"d{n % 5}/f{n}": b"%d" % n for n in range(300)})
    linked = blobs.link(member, "q")
    blobs.clock.move(1000)
    done = blobs.collect()
    assert (done.removed, done.orphans, done.objects) == (0, 0, 0)
    assert done.kept == 2 * 306
    assert sound(blobs, "p", member.version.digest)
    assert sound(blobs, "q", linked.version.digest)


def test_what_no_version_needs_goes_after_the_grace_period(blobs: BlobWorld, server: BlobServer) -> None:
    secret = blobs.token_and_secret("e/p writer")[1]
    p = blobs.project()
    kept = blobs.commit({"a": b"kept", "b": b"shared"})
    gone = blobs.commit({"b": b"shared", "c": b"gone" * 50_000, "d": b"gone too"})
    server.upload(secret, "e/p", DATA)
    blobs.put(p, b"never in a version")
    blobs.settle()
    assert blobs.collect().removed == 0
    blobs.clock.move(23)
    blobs.catalog.delete_version(gone.id, delete_aliases=True)
    blobs.clock.move(23)
    # Not touched for so long; but its readers may not have noticed yet.
    done = blobs.collect()
    assert done.removed == 3  # the upload with its block list, and what was in no version
    assert sound(blobs, "p", gone.version.digest)
    blobs.clock.move(2)
    done = blobs.collect()
    assert done.removed == 3  # a tree, two files
    assert sound(blobs, "p", kept.version.digest)
    assert not blobs.has(p, digest_bytes(b"gone too"))
    assert blobs.ledger.usage(p.id)[0] == 3
    assert blobs.keys("blobs/") == []
    blobs.clock.move(2)
    blobs.collect()
    # What is left of the first two packs is in one, or they are still half full.
    assert 1 <= len(blobs.keys("packs/")) <= 3
    assert sound(blobs, "p", kept.version.digest)


def test_a_touch_keeps(blobs: BlobWorld) -> None:
    p = blobs.project()
    asked, forgotten = blobs.put(p, b"asked for again", b"forgotten")
    blobs.clock.move(23)
    assert blobs.service.missing(p.id, [asked]).digests == []
    blobs.clock.move(2)
    assert blobs.collect().removed == 1
    assert (blobs.has(p, asked), blobs.has(p, forgotten)) == (True, False)


def test_a_tree_that_somebody_counts_on_keeps_all_below(blobs: BlobWorld) -> None:
    """Its version was deleted; then a client asks for a directory's tree, hears that it is there, and so sends nothing below."""
    p = blobs.project()
    member = blobs.commit({"d/e/f": b"deep", "d/g": b"file", "h": b"top"})
    blobs.catalog.delete_version(member.id, delete_aliases=True)
    blobs.clock.move(100)
    inner = build_tree([build_tree([file_entry("f", b"deep")]).as_entry(b"e"), file_entry("g", b"file")])
    assert blobs.service.missing(p.id, [inner.digest]).digests == []
    done = blobs.collect()
    assert done.removed == 2  # the root and its file
    root = build_tree([inner.as_entry(b"again")])
    blobs.send(p, dict(root.pages))
    blobs.closure.check(p.id, root.digest)
    assert sound(blobs, "p", root.digest)


def test_a_tree_that_nobody_counts_on_is_opened(blobs: BlobWorld) -> None:
    """If only the tree is touched after it was opened, a commit looks below it, and finds what is missing."""
    p = blobs.project()
    member = blobs.commit({"d/f": b"file", "h": b"top"})
    blobs.catalog.delete_version(member.id, delete_aliases=True)
    blobs.clock.move(100)
    inner = build_tree([file_entry("f", b"file")])
    run = gc._Run(blobs.service, 24 * 3600.0, Collected())
    run.mark_roots()
    run.open_trees()
    # Now somebody asks; too late for what is below.
    assert blobs.service.missing(p.id, [inner.digest]).digests == []
    run.mark_closed_trees()
    run.sweep_rows()
    assert blobs.has(p, inner.digest)
    root = build_tree([inner.as_entry(b"again")])
    blobs.send(p, dict(root.pages))
    with pytest.raises(BlobMissingError) as caught:
        blobs.closure.check(p.id, root.digest)
    assert caught.value.digests == (digest_bytes(b"file"),)


@pytest.mark.parametrize("step", ["mark_roots", "open_trees", "mark_closed_trees"])
def test_a_commit_in_the_middle(blobs: BlobWorld, step: str) -> None:
    """Of a version whose directories come from one that was deleted."""
    p = blobs.project()
    files = {f"d{n % 4}/f{n}": b"%d" % n for n in range(40)}
    old = blobs.commit(files)
    blobs.catalog.delete_version(old.id, delete_aliases=True)
    blobs.clock.move(100)
    run = gc._Run(blobs.service, 24 * 3600.0, Collected())
    for name in ("mark_roots", "open_trees", "mark_closed_trees", "sweep_rows"):
        getattr(run, name)()
        if name == step:
            changed = {**files, "d1/new": b"new"}
            built, everything = blobs.build(changed)
            # As a client does that knows nothing of it: it asks for all.
            blobs.send(p, everything)
            blobs.closure.check(p.id, built.root)
    blobs.commit_tree(p, built)
    assert sound(blobs, "p", built.root)
    run.sweep_objects()
    run.sweep_orphans()
    assert sound(blobs, "p", built.root)


def test_a_link_in_the_middle(blobs: BlobWorld) -> None:
    member = blobs.commit({"d/f": b"file", "h": b"top"})
    first = blobs.link(member, "q")
    blobs.catalog.unlink(first.id)
    blobs.clock.move(100)
    run = gc._Run(blobs.service, 24 * 3600.0, Collected())
    run.mark_roots()
    run.open_trees()
    blobs.link(member, "q")
    run.mark_closed_trees()
    run.sweep_rows()
    assert run.done.removed == 0
    assert sound(blobs, "q", member.version.digest)


def test_expired_versions_go(blobs: BlobWorld) -> None:
    member = blobs.commit({"f": b"short-lived"})
    blobs.catalog.set_default_ttl("e", "p", timedelta(hours=5))
    blobs.clock.move(6)
    done = blobs.collect()
    assert [each.qualified_name for each in done.expired] == ["e/p/c:v0"]
    assert done.removed == 0
    blobs.clock.move(30)
    assert blobs.collect().removed == 2
    assert not blobs.has(blobs.project(), member.version.digest)


def test_a_dry_run_changes_nothing(blobs: BlobWorld) -> None:
    member = blobs.commit({"d/f": b"gone", "g": b"kept"})
    blobs.commit({"g": b"kept"})
    blobs.catalog.delete_version(member.id, delete_aliases=True)
    blobs.bucket.put("packs/ab/orphan", b"x" * 77)
    blobs.clock.move(100)
    before = blobs.keys()
    rows = blobs.ledger.rows(None, 10_000)
    planned = blobs.collect(dry_run=True)
    assert (planned.removed, planned.removed_nbytes > 4, planned.kept) == (3, True, 2)
    # The bucket's clock is not the one that was moved.
    assert planned.orphans <= 1
    assert blobs.keys() == before
    assert blobs.ledger.rows(None, 10_000) == rows
    done = blobs.collect()
    assert (done.removed, done.removed_nbytes, done.kept) == (planned.removed, planned.removed_nbytes, planned.kept)


def test_a_short_grace_period_is_refused(blobs: BlobWorld) -> None:
    with pytest.raises(UsageError, match="too short"):
        blobs.collect(3599.0)
    blobs.collect(3600.0)


# what cannot be read --------------------------------------------------------------------------------------------------------
def test_of_a_project_that_cannot_be_read_nothing_goes(blobs: BlobWorld, expect_log: Callable[..., None]) -> None:
    expect_log("nothing of e/p is removed", level=40)
    member = blobs.commit({"d/f": b"file"})
    p, q = blobs.project("p"), blobs.project("q")
    garbage = blobs.put(p, b"garbage of p")
    blobs.put(q, b"garbage of q")
    found = blobs.ledger.find(None, [member.version.digest])[member.version.digest]
    data = bytearray(blobs.bucket.read(found.key, [(0, found.object_size)])[0])
    data[found.offset] ^= 1
    blobs.bucket.put(found.key, data)
    blobs.clock.move(100)
    done = blobs.collect()
    assert done.unread == ["e/p"]
    assert done.removed == 1
    assert blobs.has(p, garbage[0])


# objects ------------------------------------------------------------------------------------------------------------------
def test_uploads_that_nobody_went_on_with(blobs: BlobWorld, server: BlobServer) -> None:
    secret = blobs.token_and_secret("e/p writer")[1]
    for seed, finished in ((1, False), (2, True)):
        data = some_data(3 * MIB, seed)
        begun = server.ask("POST", "/v1/projects/e/p/uploads", secret, {"digest": digest_bytes(data), "size": len(data)}).json
        for number in range(3 if finished else 2):
            path = f"/v1/uploads/{begun['id']}/parts/{number}"
            server.ask("PUT", path, secret, data[number * MIB : (number + 1) * MIB], content_type="application/octet-stream")
        if finished:
            assert server.finish(secret, begun["id"])[-1]["done"]
    blobs.settle()
    assert len(blobs.keys("uploads/")) == 2
    large = digest_bytes(some_data(3 * MIB, 2))
    blobs.clock.move(100)
    blobs.service.missing(blobs.project().id, [large])
    done = blobs.collect()
    assert done.uploads == 1
    assert blobs.keys("uploads/") == []
    # What became a blob has nothing to do with its upload any more.
    assert len(blobs.keys("blobs/")) == 3
    assert blobs.service.locate(None, LocateRequest([large])).missing == []


def test_who_dies_between_a_row_and_its_object_leaves_an_orphan(blobs: BlobWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    p = blobs.project()
    blobs.put(p, b"packed", b"x" * 200_000)
    blobs.clock.move(100)

    def die(keys: list[str]) -> None:
        raise UnavailableError("the bucket is away")

    monkeypatch.setattr(blobs.bucket, "delete", die)
    for _ in range(3):
        with pytest.raises(UnavailableError):
            blobs.collect()
    monkeypatch.undo()
    assert blobs.ledger.usage(p.id)[:2] == (0, 0)
    left = len(blobs.keys())
    assert left >= 1
    done = blobs.collect()
    assert done.orphans >= 1
    assert blobs.keys() == []


def test_orphans_are_left_alone_as_long_as_somebody_may_be_writing_them(blobs: BlobWorld) -> None:
    kept = blobs.commit({"f": b"kept"})
    for key in ("packs/ab/orphan", "blobs/ab/orphan.0", "unknown"):
        blobs.bucket.put(key, b"x" * 100)
    writer = blobs.bucket.writer("k", 5)
    writer.__enter__().write(b"hel")
    assert len(blobs.keys()) == 5
    blobs.clock.move(20)
    assert blobs.collect().orphans == 0
    blobs.clock.move(20)
    done = blobs.collect()
    assert (done.orphans, done.orphans_nbytes) == (4, 303)
    assert len(blobs.keys()) == 1
    assert sound(blobs, "p", kept.version.digest)
    writer.__exit__(None, None, None)


def test_a_check_that_goes_on_keeps_its_copies(blobs: BlobWorld, server: BlobServer) -> None:
    """Of an upload that takes longer than the grace period."""
    secret = blobs.token_and_secret("e/p writer")[1]
    begun = server.ask("POST", "/v1/projects/e/p/uploads", secret, {"digest": digest_bytes(DATA), "size": len(DATA)}).json
    blobs.bucket.put(f"blobs/ab/{digest_bytes(DATA)}-0123456789abcdef.0", DATA[:MIB])
    for _ in range(3):
        blobs.clock.move(23)
        blobs.ledger.add_parts(begun["id"], {})
        done = blobs.collect()
        assert (done.orphans, done.uploads) == (0, 0)
    blobs.clock.move(48)
    done = blobs.collect()
    assert (done.orphans, done.uploads) == (1, 1)


# packs --------------------------------------------------------------------------------------------------------------------
def test_packs_that_are_mostly_empty_are_written_anew(blobs: BlobWorld) -> None:
    p = blobs.project()
    kept = {f"f{n}": some_data(10_000, n) for n in range(3)}
    built, everything = blobs.build(kept)
    blobs.put(p, *everything.values(), *(some_data(10_000, n) for n in range(100, 500)))
    member = blobs.commit_tree(p, built)
    link = blobs.link(member, "q")
    (old,) = blobs.keys("packs/")
    url = blobs.service.locate(None, LocateRequest([built.root])).objects[0].url
    blobs.clock.move(100)
    done = blobs.collect()
    assert (done.removed, done.moved) == (400, 1)
    (new,) = set(blobs.keys("packs/")) - {old}
    assert (blobs.bucket.try_size(new) or 0) < 40_000
    # URLs of the old one are still good for a while.
    assert blobs.bucket.try_size(old) is not None
    assert sound(blobs, "p", member.version.digest)
    assert sound(blobs, "q", link.version.digest)
    assert url.startswith("/v1/objects/")
    blobs.clock.move(2)
    assert blobs.collect().objects == 1
    assert blobs.bucket.try_size(old) is None
    assert sound(blobs, "q", link.version.digest)
    blobs.clock.move(100)
    assert blobs.collect().moved == 0


def test_packs_of_tiny_blobs_are_left_alone(blobs: BlobWorld) -> None:
    """Most of such a pack are the heads of its frames."""
    blobs.commit({f"f{n}": b"%d" % n for n in range(100)})
    before = blobs.keys()
    blobs.clock.move(100)
    assert blobs.collect().moved == 0
    assert blobs.keys() == before


def test_many_small_packs_become_one(blobs: BlobWorld) -> None:
    members = [blobs.commit({f"f{n}": b"%d" % n}) for n in range(20)]
    assert len(blobs.keys("packs/")) == 20
    blobs.clock.move(100)
    assert blobs.collect().moved == 20
    blobs.clock.move(100)
    blobs.collect()
    assert len(blobs.keys("packs/")) == 1
    for member in members:
        assert sound(blobs, "p", member.version.digest)


def test_damage_in_a_pack_is_not_written_on(blobs: BlobWorld, expect_log: Callable[..., None]) -> None:
    expect_log("cannot be written anew", level=40)
    p = blobs.project()
    kept = blobs.put(p, b"kept" * 1000, *(some_data(10_000, n) for n in range(50)))[0]
    built, everything = blobs.build({"f": b"kept" * 1000})
    blobs.send(p, everything)
    blobs.commit_tree(p, built)
    found = blobs.ledger.find(None, [kept])[kept]
    data = bytearray(blobs.bucket.read(found.key, [(0, found.object_size)])[0])
    data[found.offset] ^= 1
    blobs.bucket.put(found.key, data)
    blobs.clock.move(100)
    assert blobs.collect().moved == 0
    assert blobs.bucket.try_size(found.key) is not None
