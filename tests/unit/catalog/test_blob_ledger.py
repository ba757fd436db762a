"""Which project has which blob, in each kind of database."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import update

from artfs.catalog.blobledger import Held, NewObject, NewPack, Packed, Row, new_blob_key, part_keys
from artfs.catalog.sql.catalog import SqlCatalog
from artfs.catalog.sql.ledger import schema as tables
from artfs.catalog.sql.ledger.blobledger import SqlBlobLedger
from artfs.catalog.sql.ledger.ledger import SqlLedger
from artfs.errors import NotFoundError, QuotaError
from artfs.model.access import Actor, Grant, Token
from artfs.model.records import NewVersion, Project

MIB = 1024 * 1024
HOUR_US = 3600 * 1_000_000
BY = Actor("tests", None)


def d(name: object) -> str:
    return hashlib.sha256(str(name).encode()).hexdigest()


@pytest.fixture
def ledger(any_catalog: SqlCatalog) -> SqlBlobLedger:
    return SqlBlobLedger(any_catalog.database, touch_every_us=600 * 1_000_000)


@pytest.fixture
def make_token(any_catalog: SqlCatalog) -> Callable[..., Token]:
    ledger = SqlLedger(any_catalog.database)

    def make(*projects: str, admin: bool = False) -> Token:
        grants = [Grant(*project.split("/"), "reader") for project in projects]
        return ledger.create_token(f"t{len(ledger.tokens())}", grants=grants, is_admin=admin, by=BY)[0]

    return make


def project(ledger: SqlBlobLedger, name: str, entity: str = "e") -> Project:
    found = ledger.project(entity, name, make=True)
    assert found is not None
    return found


def pack_of(key: str, *names: object, size: int = 10) -> NewPack:
    blobs = [Packed(d(name), size, at * size) for at, name in enumerate(names)]
    return NewPack(key, size * len(blobs), blobs)


def all_rows(ledger: SqlBlobLedger, project_id: int, *, closed: bool = False) -> list[Row]:
    return [row for row in ledger.rows(None, 1_000_000, closed=closed) if row.project_id == project_id]


def age(ledger: SqlBlobLedger, by_us: int = 48 * HOUR_US) -> None:
    """Makes every row so much older."""
    with ledger._db.write() as tx:
        for table, column in (
            (tables.project_blobs, "touched_at"), (tables.uploads, "touched_at"), (tables.packs, "created_at")
        ):
            tx.conn.execute(update(table).values({column: table.c[column] - by_us}))


# reading ----------------------------------------------------------------------------------------------------------------
def test_what_was_added_is_found_where_it_is(ledger: SqlBlobLedger) -> None:
    p = project(ledger, "p")
    large = NewObject(d("large"), 200 * MIB, "blobs/large", 64 * MIB, d("list"))
    small = NewObject(d("small"), 200_000, "blobs/small", 64 * MIB)
    assert ledger.add(p.id, pack_of("packs/1", "a", "b"), [large, small]) == []
    found = ledger.find(None, [d("b"), d("large"), d("small"), d("none")])
    assert set(found) == {d("b"), d("large"), d("small")}
    b = found[d("b")]
    assert (b.key, b.offset, b.size, b.object_size, b.project_id) == ("packs/1", 10, 10, 20, p.id)
    assert (b.is_packed, b.whole) == (True, True)
    each = found[d("large")]
    assert (each.key, each.offset, each.size, each.part_size, each.blocks) == ("blobs/large", 0, 200 * MIB, 64 * MIB, d("list"))
    assert (each.is_packed, each.whole) == (False, True)
    assert found[d("small")].blocks == ""
    assert ledger.find(None, []) == {}
    assert ledger.usage(p.id)[:2] == (4, 20 + 200 * MIB + 200_000)


def test_only_who_may_read_a_project_finds_what_is_in_it(ledger: SqlBlobLedger, make_token: Callable[..., Token]) -> None:
    for name in ("p", "q", "it's a name"):
        ledger.add(project(ledger, name).id, pack_of(f"packs/{name[0]}", f"in {name}"), [])
    ledger.add(project(ledger, "p", "other").id, pack_of("packs/o", "in other"), [])
    everything = [d("in p"), d("in q"), d("in it's a name"), d("in other")]
    for token, visible in (
        (make_token(), []), (make_token("e/p"), everything[:1]), (make_token("e/it's a name", "e/q"), everything[1:3]),
        (make_token("e/*"), everything[:3]), (make_token("other/*"), everything[3:]), (make_token(admin=True), everything),
        (None, everything),
    ):
        assert sorted(ledger.find(token, everything)) == sorted(visible)
        keys = ["packs/p", "packs/q", "packs/i", "packs/o"]
        assert [key for key in keys if ledger.reads_object(token, key) is not None] == [
            key for key, digest in zip(keys, everything, strict=True) if digest in visible
        ]


def test_a_blob_that_is_in_several_projects_is_found_once_and_at_its_best_place(
    ledger: SqlBlobLedger, make_token: Callable[..., Token]
) -> None:
    p, q, r = (project(ledger, name) for name in "pqr")
    ledger.add(q.id, pack_of("packs/q", "x", "y"), [])
    assert ledger.share(q.id, p.id, [d("x")]) == set()
    ledger.add(r.id, pack_of("packs/r", "x"), [])
    only_p = ledger.find(make_token("e/p"), [d("x")])[d("x")]
    assert (only_p.key, only_p.whole, only_p.project_id) == ("packs/q", False, p.id)
    both = ledger.find(make_token("e/*"), [d("x")])[d("x")]
    assert both.whole
    # Where the pack is somebody else's, it must not be told as a whole.
    assert ledger.reads_object(make_token("e/p"), "packs/q") is None
    assert ledger.find(None, [d("x")], r.id)[d("x")].key == "packs/r"


def test_parts_are_objects_of_their_own(ledger: SqlBlobLedger, make_token: Callable[..., Token]) -> None:
    p, q = project(ledger, "p"), project(ledger, "q")
    ledger.add(p.id, None, [NewObject(d("l"), 150 * MIB, "blobs/l", 64 * MIB), NewObject(d("s"), 5, "blobs/s.7", 64 * MIB)])
    assert part_keys("blobs/l", 150 * MIB, 64 * MIB) == ["blobs/l.0", "blobs/l.1", "blobs/l.2"]
    reader, other = make_token("e/p"), make_token("e/q")
    sizes = {"blobs/l.0": 64 * MIB, "blobs/l.1": 64 * MIB, "blobs/l.2": 22 * MIB, "blobs/s.7": 5}
    for key in (*sizes, "blobs/l", "blobs/l.3", "blobs/l.00", "blobs/s", "blobs/none"):
        assert ledger.reads_object(reader, key) == sizes.get(key)
        assert ledger.reads_object(other, key) is None
    assert ledger.share(p.id, q.id, [d("l")]) == set()
    assert ledger.reads_object(other, "blobs/l.2") == 22 * MIB


# writing ----------------------------------------------------------------------------------------------------------------
def test_holding_tells_what_the_project_has_and_touches_it(ledger: SqlBlobLedger) -> None:
    p, q = project(ledger, "p"), project(ledger, "q")
    ledger.add(p.id, pack_of("packs/1", "a", "b"), [NewObject(d("l"), 2 * MIB, "blobs/l", 64 * MIB, d("list"))])
    wanted = [d("a"), d("l"), d("none")]
    for _ in range(2):
        assert ledger.hold(p.id, wanted) == {d("a"): Held(10, "", None), d("l"): Held(2 * MIB, d("list"), None)}
        assert ledger.hold(q.id, wanted) == {}
        age(ledger)
    ledger.hold(p.id, [d("a")])
    now = ledger.now()
    touched = {row.digest: row.touched_at for row in all_rows(ledger, p.id)}
    assert touched[d("a")] > now - HOUR_US
    assert touched[d("b")] < now - HOUR_US


def test_what_was_touched_a_moment_ago_is_not_written_again(ledger: SqlBlobLedger) -> None:
    p = project(ledger, "p")
    ledger.add(p.id, pack_of("packs/1", "a"), [])
    before = all_rows(ledger, p.id)
    ledger.hold(p.id, [d("a")])
    assert all_rows(ledger, p.id) == before


def test_many_digests_at_once(ledger: SqlBlobLedger) -> None:
    p, q = project(ledger, "p"), project(ledger, "q")
    for part in range(3):
        ledger.add(p.id, pack_of(f"packs/{part}", *range(part * 9000, part * 9000 + 9000)), [])
    wanted = [d(number) for number in range(26_000, 28_000)] + [d(number) for number in range(20_000)]
    absent = {d(number) for number in range(27_000, 28_000)}
    assert set(ledger.hold(p.id, wanted)) == set(wanted) - absent
    assert ledger.share(p.id, q.id, wanted) == absent
    assert ledger.usage(q.id)[:2] == (21_000, 210_000)
    assert len(ledger.find(None, wanted[:10_000])) == 9_000
    rows = all_rows(ledger, p.id)
    assert [row.digest for row in rows] == sorted(d(number) for number in range(27_000))
    assert {(row.size, row.is_closed) for row in rows} == {(10, False)}
    every = ledger.rows(None, 100_000)
    assert every == sorted(every, key=lambda row: (row.digest, row.project_id))
    assert len(every) == 48_000
    for after in (0, 1, 2, 999):
        assert ledger.rows(every[after], 5) == every[after + 1 : after + 6]
    assert ledger.rows(every[-1], 5) == []


def test_adding_again_changes_nothing_but_the_touch(ledger: SqlBlobLedger) -> None:
    p = project(ledger, "p")
    ledger.add(p.id, pack_of("packs/1", "a", "b"), [])
    age(ledger)
    ledger.add(p.id, pack_of("packs/2", "b", "c"), [])
    found = ledger.find(None, [d("a"), d("b"), d("c")])
    assert {digest: each.key for digest, each in found.items()} == {d("a"): "packs/1", d("b"): "packs/1", d("c"): "packs/2"}
    assert found[d("c")].offset == 10
    now = ledger.now()
    assert [row.touched_at > now - HOUR_US for row in all_rows(ledger, p.id)] == [
        row.digest != d("a") for row in all_rows(ledger, p.id)
    ]


def test_objects_are_shared_by_projects(ledger: SqlBlobLedger) -> None:
    p, q = project(ledger, "p"), project(ledger, "q")
    first, second = (NewObject(d("l"), 2 * MIB, f"blobs/{name}", 64 * MIB, d("list")) for name in "pq")
    assert ledger.add(p.id, None, [first]) == []
    assert ledger.find(None, [d("l")], q.id) == {}
    assert ledger.add(q.id, None, [second]) == [second]
    assert ledger.find(None, [d("l")], q.id)[d("l")].key == "blobs/p"


def test_quotas(ledger: SqlBlobLedger) -> None:
    p, q = project(ledger, "p"), project(ledger, "q")
    ledger.set_quota(p.id, 45)
    ledger.add(p.id, pack_of("packs/1", "a", "b"), [])
    ledger.check_quota(p.id, 25)
    with pytest.raises(QuotaError, match=r"e/p.* 20 of 45 bytes, and 26 more"):
        ledger.check_quota(p.id, 26)
    # What is there already counts once.
    ledger.add(p.id, pack_of("packs/2", "a", "b", "c", "d"), [])
    for new in ((pack_of("packs/3", "e"), []), (None, [NewObject(d("o"), 6, "blobs/o", 64 * MIB)])):
        with pytest.raises(QuotaError):
            ledger.add(p.id, *new)
    assert ledger.find(None, [d("e"), d("o")]) == {}
    assert ledger.unknown_keys(["packs/3", "blobs/o"]) == {"packs/3", "blobs/o"}
    ledger.add(q.id, pack_of("packs/q", "e"), [])
    with pytest.raises(QuotaError):
        ledger.share(q.id, p.id, [d("e")])
    assert ledger.usage(p.id) == (4, 40, 45)
    ledger.set_quota(p.id, None)
    assert ledger.share(q.id, p.id, [d("e"), d("a")]) == set()
    assert ledger.usage(p.id) == (5, 50, None)


def test_shapes_of_trees(ledger: SqlBlobLedger) -> None:
    p, q = project(ledger, "p"), project(ledger, "q")
    ledger.add(p.id, pack_of("packs/1", "a", "b"), [])
    ledger.close_trees(p.id, {d("a"): b"shape", d("none"): b"x"})
    ledger.close_trees(p.id, {})
    assert ledger.hold(p.id, [d("a"), d("b")]) == {d("a"): Held(10, "", b"shape"), d("b"): Held(10, "", None)}
    # They say something of one project only.
    ledger.share(p.id, q.id, [d("a"), d("b")])
    assert ledger.hold(q.id, [d("a")]) == {d("a"): Held(10, "", None)}
    assert [row.digest for row in all_rows(ledger, p.id, closed=True)] == [d("a")]
    assert all_rows(ledger, q.id, closed=True) == []


# uploads ------------------------------------------------------------------------------------------------------------------
def test_an_upload_is_gone_on_with(ledger: SqlBlobLedger) -> None:
    p, q = project(ledger, "p"), project(ledger, "q")
    upload = ledger.begin_upload(p.id, d("l"), 150 * MIB, 64 * MIB, "blobs/1")
    assert (upload.project, upload.digest, upload.size, upload.key) == (p, d("l"), 150 * MIB, "blobs/1")
    assert (upload.part_count, [upload.part_nbytes(n) for n in range(3)]) == (3, [64 * MIB, 64 * MIB, 22 * MIB])
    ledger.add_parts(upload.id, {0: d("part"), 2: ""})
    again = ledger.begin_upload(p.id, d("l"), 150 * MIB, 64 * MIB, "blobs/2")
    assert again == upload._replace(parts={0: d("part"), 2: ""})
    assert ledger.upload(upload.id) == again
    for other in ((q.id, d("l"), 150 * MIB), (p.id, d("m"), 150 * MIB), (p.id, d("l"), 150 * MIB + 1)):
        assert ledger.begin_upload(*other, 64 * MIB, f"blobs/{other[0]}{other[1]}{other[2]}").id != upload.id
    ledger.drop_parts(upload.id, [0])
    assert ledger.begin_upload(p.id, d("l"), 150 * MIB, 64 * MIB, "blobs/2").parts == {2: ""}
    assert ledger.drop_upload(upload.id) is not None
    assert ledger.upload(upload.id) is None
    assert ledger.drop_upload(upload.id) is None
    ledger.add_parts(upload.id, {1: ""})
    assert ledger.upload(upload.id) is None


def test_one_url_for_one_part(ledger: SqlBlobLedger) -> None:
    upload = ledger.begin_upload(project(ledger, "p").id, d("l"), 150 * MIB, 64 * MIB, "blobs/1")
    assert ledger.promise_part(upload.id, 1, d("one"))
    assert ledger.promise_part(upload.id, 1, d("one"))
    assert not ledger.promise_part(upload.id, 1, d("other"))
    found = ledger.upload(upload.id)
    assert found is not None
    assert (found.parts, found.promised) == ({}, {1: d("one")})
    # Who says that other bytes were sent does not change what the URL is good for.
    ledger.add_parts(upload.id, {1: d("other")})
    assert not ledger.promise_part(upload.id, 1, d("other"))
    ledger.drop_parts(upload.id, [1])
    assert not ledger.promise_part(upload.id, 1, d("other"))
    found = ledger.upload(upload.id)
    assert found is not None
    assert (found.parts, found.promised) == ({}, {1: d("one")})


def test_an_upload_becomes_a_blob(ledger: SqlBlobLedger) -> None:
    p = project(ledger, "p")
    upload = ledger.begin_upload(p.id, d("l"), 150 * MIB, 64 * MIB, "blobs/1")
    ledger.add_parts(upload.id, {0: ""})
    assert ledger.add(p.id, None, [NewObject(d("l"), 150 * MIB, "blobs/1", 64 * MIB, d("list"))], upload=upload) == []
    assert ledger.find(None, [d("l")])[d("l")].blocks == d("list")
    # It is remembered, for who did not hear of it; but has nothing to do with the objects any more.
    done = ledger.upload(upload.id)
    assert done is not None
    assert (done.is_done, done.parts) == (True, {})
    # Two checks of one upload: neither finds that the objects are of no use, and nobody begins anew what is done.
    again = NewObject(d("l"), 150 * MIB, "blobs/1", 64 * MIB, d("list"))
    assert ledger.add(p.id, None, [again], upload=upload) == []
    assert not ledger.restart_upload(upload, "blobs/2")
    assert ledger.unknown_keys([done.part_key(0)]) == set()
    assert ledger.begin_upload(p.id, d("l"), 150 * MIB, 64 * MIB, "blobs/2").id != upload.id


def test_an_upload_can_begin_anew(ledger: SqlBlobLedger) -> None:
    upload = ledger.begin_upload(project(ledger, "p").id, d("l"), 150 * MIB, 64 * MIB, "blobs/1")
    ledger.promise_part(upload.id, 0, d("wrong"))
    ledger.add_parts(upload.id, {0: "", 1: ""})
    assert ledger.restart_upload(upload, "blobs/2")
    assert ledger.upload(upload.id) == upload._replace(key="blobs/2")
    # Who looked at it before that can neither begin it anew nor end it: other objects are meant now.
    assert not ledger.restart_upload(upload, "blobs/3")
    with pytest.raises(NotFoundError, match="begun anew"):
        ledger.add(upload.project.id, None, [NewObject(d("l"), 150 * MIB, "blobs/1", 64 * MIB)], upload=upload)
    assert ledger.find(None, [d("l")]) == {}
    assert ledger.promise_part(upload.id, 0, d("right"))


# garbage ------------------------------------------------------------------------------------------------------------------
def version(catalog: SqlCatalog, name: str, where: str = "p") -> Any:
    return catalog.commit(NewVersion("e", where, "c", "dataset", d(name), 1, 1)).member


def test_roots(ledger: SqlBlobLedger, any_catalog: SqlCatalog) -> None:
    one, two = version(any_catalog, "one"), version(any_catalog, "two")
    three = version(any_catalog, "three", "q")
    any_catalog.link(one.version.id, "e", "registry", "linked")
    ids = {each.id: each.name for each in ledger.projects()}

    def found(since: int) -> set[tuple[str, str]]:
        return {(ids[root.project_id], root.digest) for root in ledger.roots(since)}

    now = ledger.now()
    everything = {("p", d("one")), ("registry", d("one")), ("p", d("two")), ("q", d("three"))}
    assert found(now) == everything
    any_catalog.delete_version(two.id, delete_aliases=True)
    any_catalog.delete_collection(three.collection_id)
    assert found(now) == everything
    assert found(ledger.now() + HOUR_US) == {("p", d("one")), ("registry", d("one"))}


def test_removing_looks_at_the_touch_again(ledger: SqlBlobLedger) -> None:
    p, q = project(ledger, "p"), project(ledger, "q")
    ledger.add(p.id, pack_of("packs/1", "a", "b", "c", "d"), [])
    ledger.share(p.id, q.id, [d("a")])
    ledger.close_trees(p.id, {d("c"): b"shape"})
    assert ledger.remove(p.id, [d("a")], ledger.now() - HOUR_US) == 0
    age(ledger)
    before = ledger.now() - HOUR_US
    ledger.hold(p.id, [d("b")])
    assert ledger.remove(p.id, [d("a"), d("b"), d("c"), d("none")], before) == 1
    assert {row.digest for row in all_rows(ledger, p.id)} == {d("b"), d("c"), d("d")}
    assert len(all_rows(ledger, q.id)) == 1
    ledger.open_trees(p.id, [d("c"), d("b")], before)
    assert ledger.remove(p.id, [d("c")], before) == 1


def test_a_touched_tree_stays_closed(ledger: SqlBlobLedger) -> None:
    p = project(ledger, "p")
    ledger.add(p.id, pack_of("packs/1", "a"), [])
    ledger.close_trees(p.id, {d("a"): b"shape"})
    age(ledger)
    before = ledger.now() - HOUR_US
    assert [row.is_closed for row in all_rows(ledger, p.id)] == [True]
    ledger.hold(p.id, [d("a")])
    ledger.open_trees(p.id, [d("a")], before)
    assert [row.digest for row in all_rows(ledger, p.id, closed=True)] == [d("a")]


def test_blobs_and_packs_that_no_project_has(ledger: SqlBlobLedger) -> None:
    p, q = project(ledger, "p"), project(ledger, "q")
    objects = [NewObject(d("l"), 150 * MIB, "blobs/l", 64 * MIB), NewObject(d("m"), 5, "blobs/m", MIB)]
    ledger.add(p.id, pack_of("packs/1", "a"), objects)
    ledger.add(p.id, pack_of("packs/2", "b"), [])
    ledger.share(p.id, q.id, [d("b"), d("m")])
    age(ledger)
    before = ledger.now() - HOUR_US
    assert ledger.usage(p.id) == (4, 20 + 150 * MIB + 5, None)
    assert ledger.remove(p.id, [d("a"), d("b"), d("l"), d("m")], before) == 4
    assert ledger.usage(p.id) == (0, 0, None)
    assert ledger.remove_packs(10, 0) == []
    assert ledger.remove_packs(10, before) == ["packs/1"]
    assert ledger.remove_blobs(10) == [("blobs/l", 150 * MIB, 64 * MIB)]
    assert (ledger.remove_packs(10, before), ledger.remove_blobs(10)) == ([], [])
    assert set(ledger.find(None, [d("b"), d("m")])) == {d("b"), d("m")}


def test_sparse_packs_are_moved(ledger: SqlBlobLedger, make_token: Callable[..., Token]) -> None:
    p, q = project(ledger, "p"), project(ledger, "q")
    ledger.add(p.id, pack_of("packs/1", *range(10)), [])
    ledger.add(p.id, pack_of("packs/2", "x", "y"), [])
    ledger.share(p.id, q.id, [d(1), d(2)])
    age(ledger)
    before = ledger.now() - HOUR_US
    assert ledger.packs_to_move(0, before, 0) == []
    assert [each.key for each in ledger.packs_to_move(21, before, 0)] == ["packs/2"]
    ledger.remove(p.id, [d(number) for number in range(10) if number not in (2, 7)], before)
    (sparse,) = ledger.packs_to_move(0, before, 0)
    assert (sparse.project_id, sparse.key, sparse.size, sparse.used) == (p.id, "packs/1", 100, 30)
    assert ledger.packs_to_move(0, 0, 0) == []
    kept = ledger.pack_blobs(sparse.id)
    assert kept == sorted([Packed(d(number), 10, 10 * number) for number in (1, 2, 7)], key=lambda each: each.offset)
    new = NewPack("packs/3", 30, [Packed(each.digest, 10, 20 - 10 * at) for at, each in enumerate(kept)])
    assert not ledger.move_packs([sparse.id], new._replace(blobs=new.blobs[:2]))
    assert ledger.move_packs([sparse.id], new)
    assert not ledger.move_packs([sparse.id], new._replace(key="packs/4"))
    # URLs of the old one may still be in use.
    assert ledger.remove_packs(10, before) == []
    assert ledger.remove_packs(10, ledger.now() + 1) == ["packs/1"]
    found = ledger.find(None, [d(1), d(2), d(7), d("x")])
    assert {digest: (each.key, each.offset) for digest, each in found.items()} == {
        d(1): ("packs/3", 20), d(2): ("packs/3", 10), d(7): ("packs/3", 0), d("x"): ("packs/2", 0),
    }
    assert found[d(7)].whole
    assert not ledger.find(make_token("e/q"), [d(1)])[d(1)].whole


def test_packs_are_joined(ledger: SqlBlobLedger) -> None:
    p, q = project(ledger, "p"), project(ledger, "q")
    ledger.add(p.id, pack_of("packs/1", "a", "b"), [])
    ledger.share(p.id, q.id, [d("a")])
    age(ledger)
    ledger.remove(p.id, [d("a")], ledger.now() - HOUR_US)
    ledger.add(p.id, pack_of("packs/2", "c", "a"), [])  # q has it from the first, p from the second
    ids = [each.id for each in ledger.packs_to_move(100, ledger.now() + 1, 0)]
    new = NewPack("packs/3", 30, [Packed(d(name), 10, at * 10) for at, name in enumerate("abc")])
    assert ledger.move_packs(ids, new)
    for each in (p, q):
        assert ledger.find(None, [d("a")], each.id)[d("a")][2:4] == ("packs/3", 0)
    assert sorted(ledger.remove_packs(10, ledger.now() + 1)) == ["packs/1", "packs/2"]


def test_a_pack_goes_to_whom_alone_it_serves(ledger: SqlBlobLedger, make_token: Callable[..., Token]) -> None:
    p, q = project(ledger, "p"), project(ledger, "q")
    ledger.add(p.id, pack_of("packs/1", *range(10)), [])
    ledger.share(p.id, q.id, [d(1)])
    age(ledger)
    ledger.remove(p.id, [d(number) for number in range(10)], ledger.now() - HOUR_US)
    (sparse,) = ledger.packs_to_move(0, ledger.now(), 0)
    assert ledger.move_packs([sparse.id], NewPack("packs/2", 10, [Packed(d(1), 10, 0)]))
    assert ledger.find(make_token("e/q"), [d(1)])[d(1)].whole


def test_uploads_that_nobody_goes_on_with_end(ledger: SqlBlobLedger) -> None:
    p = project(ledger, "p")
    for name in ("old", "touched"):
        upload = ledger.begin_upload(p.id, d(name), 150 * MIB, 64 * MIB, f"blobs/{name}")
        ledger.add_parts(upload.id, {0: d("part")})
    age(ledger)
    before = ledger.now() - HOUR_US
    ledger.add_parts(upload.id, {1: ""})
    (ended,) = ledger.stale_uploads(before, 10)
    assert (ended.key, ended.parts) == ("blobs/old", {0: d("part")})
    assert ledger.stale_uploads(before, 10) == []
    assert ledger.upload(upload.id) is not None
    # Its objects may be deleted already: whoever was still checking it has come too late.
    with pytest.raises(NotFoundError, match="given up"):
        ledger.add(p.id, None, [NewObject(d("old"), 150 * MIB, ended.key, 64 * MIB)], upload=ended)
    assert ledger.find(None, [d("old")]) == {}


def test_keys_that_belong_to_nothing(ledger: SqlBlobLedger) -> None:
    p = project(ledger, "p")
    objects = [NewObject(d("l"), 150 * MIB, "blobs/l", 64 * MIB), NewObject(d("m"), 5, "blobs/m", MIB)]
    ledger.add(p.id, pack_of("packs/1", "a"), objects)
    ledger.begin_upload(p.id, d("u"), 150 * MIB, 64 * MIB, "blobs/u")
    known = {"packs/1", "blobs/l.0", "blobs/l.2", "blobs/m", "blobs/u.1"}
    unknown = {"packs/2", "blobs/x", "blobs/x.0", "tmp/abc"}
    # What a check copies belongs to nothing until the check is over.
    coming, other = new_blob_key(d("u")), new_blob_key(d("v"))
    known |= {coming, f"{coming}.17"}
    unknown |= {other, f"{other}.17"}
    assert ledger.unknown_keys([*known, *unknown]) == unknown
    assert ledger.unknown_keys([]) == set()
