"""Small blobs, trees and places: what is there for whom, and what is in a bucket afterwards."""

from __future__ import annotations

import httpx
import msgspec
import pytest

from artfs.catalog.blobledger import NewObject
from artfs.errors import BadBlobError, BlobMissingError, NotFoundError, QuotaError, StorageError, UsageError
from artfs.model.blocklist import encode_block_list, hash_blocks
from artfs.model.digests import BLOCK_SIZE, EMPTY, digest_bytes
from artfs.model.entry import DirEntry, FileEntry
from artfs.model.pages import build_tree, try_below
from artfs.server.blobservice import PACKED_NBYTES, URL_S, lower_list
from artfs.store.bucket import Bucket
from artfs.testing.blobworld import BlobWorld, frames, some_data, unframed
from artfs.wire.frames import encode_frames, split_frames
from artfs.wire.messages import MAX_FRAMES, MAX_SMALL, Located, LocateRequest, TreesRequest

KIB = 1024


def fetched(world: BlobWorld, located: Located, digest: str) -> bytes:
    """A blob's bytes, from where it was told to be."""
    (blob,) = (each for each in located.blobs if each.digest == digest)
    data = b""
    for index in blob.objects:
        told = located.objects[index]
        if "://" in told.url:
            data += httpx.get(told.url).content
        else:
            place = world.service.open_object(None, told.url.removeprefix("/v1/objects/"))
            assert place.size == told.size
            data += world.service.read_object(place, 0, place.size)
    return data[blob.offset : blob.offset + blob.size]


# sending ------------------------------------------------------------------------------------------------------------------
def test_small_blobs_come_in_one_pack_and_larger_ones_alone(blobs: BlobWorld) -> None:
    p = blobs.project()
    sent = [b"one", b"", some_data(PACKED_NBYTES), some_data(PACKED_NBYTES + 1), some_data(MAX_SMALL)]
    digests = blobs.put(p, *sent)
    assert len(blobs.keys("packs/")) == 1
    # Named by their digests, so that people find them.
    assert sorted(key.split("/")[2][:64] for key in blobs.keys("blobs/")) == sorted(digests[3:])
    assert blobs.read(None, *digests) == dict(zip(digests, sent, strict=True))
    assert digests[1] == EMPTY
    assert blobs.ledger.usage(p.id)[:2] == (5, sum(map(len, sent)))


def test_a_pack_has_its_frames(blobs: BlobWorld) -> None:
    """So that it can be read without the database."""
    sent = [b"one", b"two", b"three"]
    body = frames(*sent)
    p = blobs.project()
    blobs.service.store(p.id, body)
    (first,) = blobs.keys("packs/")
    assert bytes(blobs.bucket.read(first, [(0, len(body))])[0]) == body
    # What is there already, is not kept again; nor what comes twice.
    blobs.put(p, b"two", b"four", some_data(PACKED_NBYTES + 1), b"four", b"five")
    (second,) = set(blobs.keys("packs/")) - {first}
    size = blobs.bucket.try_size(second)
    assert size is not None
    assert [data for _, data in unframed(bytes(blobs.bucket.read(second, [(0, size)])[0]))] == [b"four", b"five"]
    everything = [b"one", b"two", b"three", b"four", b"five"]
    assert list(blobs.read(None, *map(digest_bytes, everything)).values()) == everything


def test_what_is_there_is_not_stored_again(blobs: BlobWorld) -> None:
    p = blobs.project()
    blobs.put(p, b"one", some_data(200 * KIB))
    before = blobs.keys()
    assert blobs.service.store(p.id, frames(b"one", some_data(200 * KIB))).count == 2
    assert blobs.keys() == before
    assert blobs.service.store(p.id, b"").count == 0


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_wrong_digest_spoils_all(blobs: BlobWorld, number: int) -> None:
    p = blobs.project()
    sent = [(digest_bytes(data), data) for data in (b"one", some_data(200 * KIB), b"three")]
    # Somebody else's digest: naming it gives nobody anything.
    sent[number] = (digest_bytes(b"the others' secret"), sent[number][1])
    with pytest.raises(BadBlobError) as caught:
        blobs.service.store(p.id, b"".join(encode_frames(sent)))
    assert caught.value.digest == digest_bytes(b"the others' secret")
    blobs.settle()
    assert blobs.keys() == []
    assert blobs.ledger.usage(p.id)[:2] == (0, 0)
    assert blobs.service.missing(p.id, [digest for digest, _ in sent]).digests == [digest for digest, _ in sent]


def test_bodies_that_are_none(blobs: BlobWorld) -> None:
    good = frames(b"one", b"two")
    one = bytes(32)
    for body in (
        good[:-1], good[:50], good + b"x", b"x", one + (MAX_SMALL + 1).to_bytes(8, "big") + bytes(MAX_SMALL + 1),
        one + (2**63).to_bytes(8, "big"), frames(b"") * 10_001, frames(*[some_data(MAX_SMALL, n) for n in range(33)]),
    ):  # fmt: skip
        with pytest.raises(UsageError):
            blobs.service.store(blobs.project().id, body)
    assert len(split_frames(frames(b"") * 10_000)) == 10_000
    assert blobs.keys() == []


def test_quotas_are_looked_at_before_and_when_it_counts(blobs: BlobWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    p = blobs.project()
    blobs.ledger.set_quota(p.id, 250 * KIB)
    blobs.put(p, some_data(100 * KIB), some_data(140 * KIB))
    before = blobs.keys()
    with pytest.raises(QuotaError, match=r"e/p .* 245,760 of 256,000 bytes, and 10,241 more"):
        blobs.put(p, some_data(10 * KIB + 1))
    assert blobs.keys() == before
    # Somebody else was faster.
    monkeypatch.setattr(blobs.ledger, "check_quota", lambda *given: None)
    with pytest.raises(QuotaError):
        blobs.put(p, some_data(10 * KIB + 1), some_data(150 * KIB))
    blobs.settle()
    assert blobs.keys() == before
    blobs.put(p, some_data(10 * KIB))


def test_what_the_bucket_refuses_is_in_no_project(blobs: BlobWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    p = blobs.project()
    put = blobs.bucket.put

    def refuse(key: str, data: bytes) -> None:
        if key.startswith("blobs/"):
            raise StorageError("no", 28)
        put(key, data)

    monkeypatch.setattr(blobs.bucket, "put", refuse)
    digests = [digest_bytes(b"one"), digest_bytes(some_data(200 * KIB))]
    with pytest.raises(StorageError):
        blobs.put(p, b"one", some_data(200 * KIB))
    assert blobs.service.missing(p.id, digests).digests == digests
    monkeypatch.undo()
    assert blobs.put(p, b"one", some_data(200 * KIB)) == digests


# who may read what --------------------------------------------------------------------------------------------------------
def test_a_digest_opens_nothing(blobs: BlobWorld) -> None:
    p, q = blobs.project("p"), blobs.project("q")
    tree = build_tree([FileEntry(b"f", 6, bytes.fromhex(digest_bytes(b"secret")), b"", False)])
    secret = blobs.put(p, b"secret", some_data(200 * KIB), tree.pages[0][1])
    blobs.put(q, b"known")
    reader = blobs.token("e/q reader")
    never = [digest_bytes(b"%d" % n) for n in range(3)]
    for asked, absent in ((secret, secret), (never, never)):
        assert blobs.read(reader, *asked) == {}
        assert blobs.service.locate(reader, LocateRequest(asked, asked)) == Located([], [], absent, [])
        with pytest.raises(BlobMissingError, match="there is no blob .*, or you may not read it"):
            blobs.service.trees(reader, TreesRequest(asked[2]))
        assert blobs.service.missing(q.id, asked).digests == asked
    for token in (blobs.token("e/p reader"), blobs.token("e/* reader"), blobs.token(admin=True), None):
        assert set(blobs.read(token, *secret)) == set(secret)


def test_what_others_have_saves_nobody_work(blobs: BlobWorld) -> None:
    """Nor does it show in what is stored: who sends what others have finds no less to do, and leaves no more behind."""
    p, q, r = (blobs.project(name) for name in "pqr")
    sent = [b"one", some_data(200 * KIB)]
    digests = blobs.put(p, *sent)
    before = blobs.keys()
    stored = []
    for project in (q, r):
        other = [*sent] if project is q else [b"ONE", some_data(200 * KIB, "other")]
        asked = [digest_bytes(data) for data in other]
        assert blobs.service.missing(project.id, asked).digests == asked
        stored.append(blobs.service.store(project.id, frames(*other)))
        assert blobs.service.missing(project.id, asked).digests == []
    assert stored[0] == stored[1]
    blobs.settle()
    # The large one is there once, the pack is q's own.
    assert len(set(blobs.keys()) - set(before)) == 3
    assert blobs.ledger.find(None, [digests[1]], q.id)[digests[1]].key in before
    assert blobs.read(blobs.token("e/q reader"), *digests) == dict(zip(digests, sent, strict=True))


# reading ------------------------------------------------------------------------------------------------------------------
def test_frames_come_in_the_order_asked_for(blobs: BlobWorld, remote: BlobWorld) -> None:
    for world in (blobs, remote):
        p = world.project()
        sent = [some_data(size, n) for n, size in enumerate([5, 200 * KIB, 0, 100 * KIB, 7, 900 * KIB, 300 * KIB] * 6)]
        digests = [*world.put(p, *sent[:20]), *world.put(p, *sent[20:])]
        backwards = list(dict.fromkeys(reversed(digests)))
        planned, more = world.service.plan_read(None, [*backwards, digest_bytes(b"none"), *digests])
        got = unframed(b"".join(world.service.frames(planned)))
        assert [digest for digest, _ in got] == backwards
        assert all(digest_bytes(data) == digest for digest, data in got)
        assert not more


def test_too_many_bytes_are_told_to_be_more(blobs: BlobWorld) -> None:
    p = blobs.project()
    digests = [digest for n in range(40) for digest in blobs.put(p, some_data(MAX_SMALL, n))]
    planned, more = blobs.service.plan_read(None, digests)
    assert more
    assert [found.digest for found in planned] == digests[: MAX_FRAMES // MAX_SMALL]
    pieces = list(blobs.service.frames(planned))
    assert max(map(len, pieces)) < 3 * MAX_SMALL


def test_a_row_whose_object_is_gone_is_an_error_and_no_other_bytes(blobs: BlobWorld) -> None:
    (digest,) = blobs.put(blobs.project(), b"one")
    blobs.bucket.delete(blobs.keys())
    planned, _ = blobs.service.plan_read(None, [digest])
    with pytest.raises(BlobMissingError):
        list(blobs.service.frames(planned))


# places -------------------------------------------------------------------------------------------------------------------
def test_places(blobs: BlobWorld, remote: BlobWorld) -> None:
    for world in (blobs, remote):
        p = world.project()
        sent = [b"one", some_data(100 * KIB), some_data(200 * KIB), b"four"]
        digests = [*world.put(p, *sent[:3]), *world.put(p, sent[3])]
        none = digest_bytes(b"none")
        located = world.service.locate(None, LocateRequest([digests[3], none, *digests, none]))
        assert [blob.digest for blob in located.blobs] == [digests[3], *digests[:3]]
        assert located.missing == [none]
        assert len(located.objects) == 3
        assert {each.seconds for each in located.objects} == {URL_S}
        packed = [blob for blob in located.blobs if blob.digest in digests[:2]]
        assert packed[0].objects == packed[1].objects
        assert packed[0].offset != packed[1].offset
        for digest, data in zip(digests, sent, strict=True):
            assert fetched(world, located, digest) == data


def test_parts_are_told_in_their_order(blobs: BlobWorld, remote: BlobWorld) -> None:
    for world in (blobs, remote):
        data = some_data(2_500_000)
        digest = digest_bytes(data)
        for number in range(3):
            world.bucket.put(f"blobs/x.{number}", data[number * 1_000_000 : (number + 1) * 1_000_000])
        world.ledger.add(world.project().id, None, [NewObject(digest, len(data), "blobs/x", 1_000_000, digest_bytes(b"list"))])
        located = world.service.locate(None, LocateRequest([digest]))
        (blob,) = located.blobs
        assert (len(blob.objects), blob.part_size, blob.size) == (3, 1_000_000, len(data))
        assert [located.objects[index].size for index in blob.objects] == [1_000_000, 1_000_000, 500_000]
        assert fetched(world, located, digest) == data


def test_a_pack_of_others_is_told_by_no_more_than_the_blob(blobs: BlobWorld, remote: BlobWorld) -> None:
    for world in (blobs, remote):
        p, q = world.project("p"), world.project("q")
        one, two = world.put(p, b"one", b"two")
        world.ledger.share(p.id, q.id, [one])
        reader = world.token("e/q reader")
        located = world.service.locate(reader, LocateRequest([one, two]))
        assert located.missing == [two]
        (blob,) = located.blobs
        if world is remote:
            # A URL of the bucket would open all of it.
            assert (blob.objects, located.objects) == ([], [])
        else:
            (told,) = located.objects
            assert (blob.objects, blob.offset, told.size) == ([0], 0, 3)
            assert fetched(world, located, one) == b"one"
            place = world.service.open_object(reader, told.url.removeprefix("/v1/objects/"))
            assert world.service.read_object(place, 0, place.size) == b"one"
        assert world.read(reader, one, two) == {one: b"one"}


def test_block_lists_come_along(blobs: BlobWorld) -> None:
    p = blobs.project()
    hashes = hash_blocks(some_data(3 * BLOCK_SIZE))
    short = encode_block_list(3 * 512 * KIB, (hashes * 2)[: 6 * 32])[0]
    size = 9000 * BLOCK_SIZE
    lower, top = encode_block_list(size, some_data(9000 * 32))
    blobs.put(p, short, top, lower, b"no list")
    asked = [digest_bytes(data) for data in (short, top, b"no list", b"none")]
    located = blobs.service.locate(None, LocateRequest([], asked))
    assert {each.digest: each.data for each in located.lists} == {asked[0]: short, asked[1]: top, asked[2]: b"no list"}
    (blob,) = located.blobs
    assert (blob.digest, blob.size) == (digest_bytes(lower), len(lower))
    assert fetched(blobs, located, blob.digest) == lower
    # Whoever may not read the lower list is not told where it is.
    q = blobs.project("q")
    blobs.ledger.share(p.id, q.id, [digest_bytes(top)])
    assert blobs.service.locate(blobs.token("e/q reader"), LocateRequest([], asked)).blobs == []


def test_lower_lists_of_what_is_none() -> None:
    lower, top = encode_block_list(9000 * BLOCK_SIZE, some_data(9000 * 32))
    assert lower_list(top) == digest_bytes(lower)
    short = encode_block_list(2**21, some_data(8 * 32))[0]
    for data in (b"", b"x", lower[:1000], short, top[:-1], msgspec.msgpack.encode([1, 2**40, b"x", b""])):
        assert lower_list(data) is None


def test_a_place_opens_nothing_by_itself(blobs: BlobWorld) -> None:
    p, q = blobs.project("p"), blobs.project("q")
    packed, alone = blobs.put(p, b"one", some_data(200 * KIB))
    mine, others, nobody = blobs.token("e/p reader"), blobs.token("e/q reader"), blobs.token()
    located = blobs.service.locate(mine, LocateRequest([packed, alone]))
    for told in located.objects:
        token = told.url.removeprefix("/v1/objects/")
        for reader in (mine, None, mine):
            assert blobs.service.open_object(reader, token).size == told.size
        for reader in (others, nobody):
            with pytest.raises(NotFoundError):
                blobs.service.open_object(reader, token)
    # With a link the large one is theirs, too; the pack is not.
    blobs.ledger.share(p.id, q.id, [packed, alone])
    for blob in located.blobs:
        token = located.objects[blob.objects[0]].url.removeprefix("/v1/objects/")
        if blob.digest == alone:
            assert blobs.service.open_object(others, token).size == 200 * KIB
        else:
            with pytest.raises(NotFoundError):
                blobs.service.open_object(others, token)


def test_places_end(blobs: BlobWorld) -> None:
    (digest,) = blobs.put(blobs.project(), b"one")
    token = blobs.service.locate(None, LocateRequest([digest])).objects[0].url.removeprefix("/v1/objects/")
    blobs.clock.now += round((URL_S - 30) * 1e6)
    assert blobs.service.open_object(None, token).size == 43
    blobs.clock.now += 31_000_000
    with pytest.raises(NotFoundError, match="not good any more"):
        blobs.service.open_object(None, token)


def test_a_right_that_is_taken_back_ends_places_soon(blobs: BlobWorld) -> None:
    p, q = blobs.project("p"), blobs.project("q")
    (digest,) = blobs.put(p, some_data(200 * KIB))
    blobs.ledger.share(p.id, q.id, [digest])
    reader = blobs.token("e/q reader")
    token = blobs.service.locate(reader, LocateRequest([digest])).objects[0].url.removeprefix("/v1/objects/")
    blobs.service.open_object(reader, token)
    blobs.ledger.remove(q.id, [digest], blobs.ledger.now() + 1)
    blobs.clock.now += 11_000_000
    with pytest.raises(NotFoundError):
        blobs.service.open_object(reader, token)


@pytest.mark.parametrize("token", ["", "x", "é", "AAAA", "k" * 5000, "kwEBAQ", "//", "a" * 100])
def test_places_that_never_were(blobs: BlobWorld, token: str) -> None:
    with pytest.raises(NotFoundError):
        blobs.service.open_object(None, token)


# trees --------------------------------------------------------------------------------------------------------------------
def test_trees_come_level_by_level(blobs: BlobWorld, remote: BlobWorld) -> None:
    files = {f"d{n % 7}/e{n % 3}/f{n}": b"%d" % n for n in range(600)} | {f"many/{n:05}": b"%d" % (n % 50) for n in range(2000)}
    for world in (blobs, remote):
        built, all_blobs = world.build(files)
        world.send(world.project(), all_blobs)
        pages, more = world.service.trees(None, TreesRequest(built.root))
        got = {digest: bytes(data) for digest, data in pages}
        assert got == dict(built.objects)
        assert not more
        assert pages[0][0] == built.root
        place = {digest: number for number, (digest, _) in enumerate(pages)}
        for digest, data in pages:
            below = try_below(bytes(data))
            assert below is not None
            assert all(place[each] > 0 for each in (*below.pages, *below.directories))
            del digest


def test_trees_end_at_a_number_of_bytes(blobs: BlobWorld) -> None:
    built, all_blobs = blobs.build({f"d{n}/f": b"%d" % n for n in range(100)})
    blobs.send(blobs.project(), all_blobs)
    root = len(dict(built.objects)[built.root])
    for max_bytes, count in ((1, 1), (root, 1), (root + 10, 1), (root + 300, 8)):
        pages, more = blobs.service.trees(None, TreesRequest(built.root, max_bytes))
        assert more
        assert pages[0][0] == built.root
        assert 1 <= len(pages) <= count
        assert sum(len(data) for _, data in pages[1:]) <= max(max_bytes - root, 0)


def test_one_directory_only(blobs: BlobWorld) -> None:
    built, all_blobs = blobs.build({f"many/{n:05}/f": b"%d" % (n % 50) for n in range(2000)})
    blobs.send(blobs.project(), all_blobs)
    objects = dict(built.objects)
    (many,) = try_below(objects[built.root]).directories  # type: ignore[union-attr]
    pages, more = blobs.service.trees(None, TreesRequest(many, recursive=False))
    assert {digest for digest, _ in pages} == {many, *try_below(objects[many]).pages}  # type: ignore[union-attr]
    assert not more


def test_what_is_no_page_comes_alone(blobs: BlobWorld) -> None:
    p = blobs.project()
    (digest,) = blobs.put(p, b"no page at all")
    assert blobs.service.trees(None, TreesRequest(digest)) == ([(digest, b"no page at all")], False)
    # Also where a tree names it, and what is nobody's.
    tree = build_tree([DirEntry(b"d", bytes.fromhex(digest), 0, 0), DirEntry(b"e", bytes(32), 0, 0)])
    blobs.put(p, tree.pages[0][1])
    pages, more = blobs.service.trees(None, TreesRequest(tree.digest))
    assert [each for each, _ in pages] == [tree.digest, digest]
    assert not more


def test_a_tree_of_mine_shows_nothing_of_others(blobs: BlobWorld) -> None:
    p, q = blobs.project("p"), blobs.project("q")
    inner = build_tree([FileEntry(b"f", 6, bytes.fromhex(digest_bytes(b"secret")), b"", False)])
    blobs.put(p, inner.pages[0][1])
    outer = build_tree([inner.as_entry(b"d")])
    blobs.put(q, outer.pages[0][1])
    pages, more = blobs.service.trees(blobs.token("e/q writer"), TreesRequest(outer.digest))
    assert [digest for digest, _ in pages] == [outer.digest]
    assert not more


def test_an_endless_tree_ends(blobs: BlobWorld) -> None:
    """A chain of directories as deep as somebody likes: it costs an answer, not the server."""
    p = blobs.project()
    chain = [build_tree([])]
    for _ in range(1200):
        chain.append(build_tree([chain[-1].as_entry(b"d")]))
    for start in range(0, len(chain), 400):
        blobs.put(p, *(tree.pages[0][1] for tree in chain[start : start + 400]))
    pages, more = blobs.service.trees(None, TreesRequest(chain[-1].digest))
    assert more
    assert len(pages) == 1024


def test_buckets_of_both_kinds(blobs: BlobWorld, remote: BlobWorld) -> None:
    def kind(bucket: Bucket) -> tuple[bool, bool]:
        return bucket.signs, bucket.is_near

    assert (kind(blobs.bucket), kind(remote.bucket)) == ((False, True), (True, False))
