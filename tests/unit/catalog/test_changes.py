"""What each call leaves in `changes`, for those who watch from elsewhere."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from artfs.catalog.sql.catalog import SqlCatalog
from artfs.catalog.sql.changes import KEPT
from artfs.catalog.sql.ledger.ledger import SqlLedger
from artfs.errors import LatestMovedError
from artfs.model.access import Changes
from artfs.model.records import HistoryRow, NewPart
from artfs.testing.catalog_contract.making import C, E, P, digest, log, new

Place = tuple[str, str | None, str | None]


class Watch:
    """`watch(act)`: the places that it changed, in no order, without doubles."""

    def __init__(self, catalog: SqlCatalog) -> None:
        self.ledger = SqlLedger(catalog.database)
        self.seen = self.ledger.newest_change()

    def __call__(self, act: Callable[[], Any]) -> set[Place]:
        act()
        found = self.ledger.changes_after(self.seen)
        assert not found.is_gap
        self.seen = found.last
        assert self.seen == self.ledger.newest_change()
        places = [(row.entity, row.project, row.collection) for row in found.rows]
        assert len(places) == len(set(places))
        return set(places)


@pytest.fixture
def catalog(any_catalog: SqlCatalog) -> SqlCatalog:
    return any_catalog


@pytest.fixture
def watch(catalog: SqlCatalog) -> Watch:
    log(catalog, 1)
    return Watch(catalog)


PROJECTS, PROJECT, CARS = (E, None, None), (E, P, None), (E, P, C)


def test_names(catalog: SqlCatalog, watch: Watch) -> None:
    assert watch(lambda: catalog.create_project(E, "new")) == {PROJECTS}
    assert watch(lambda: catalog.delete_project(E, "new")) == {PROJECTS}
    assert watch(lambda: catalog.create_collection(E, "a", "b")) == {PROJECTS, (E, "a", None), (E, "a", "b")}
    assert watch(lambda: catalog.create_collection(E, "a", "b", type="model")) == {(E, "a", "b")}
    assert watch(lambda: catalog.create_collection(E, "a", "b")) == set()
    found = catalog.try_collection(E, P, C)
    assert found is not None
    assert watch(lambda: catalog.update_collection(found.id, description="d", tags=["t"])) == {CARS}
    assert watch(lambda: catalog.update_collection(found.id, tags=["t"])) == set()
    assert watch(lambda: catalog.update_collection(found.id, name="lorries")) == {PROJECT, CARS, (E, P, "lorries")}
    assert watch(lambda: catalog.delete_collection(found.id)) == {PROJECT, (E, P, "lorries")}


def test_commits_and_aliases(catalog: SqlCatalog, watch: Watch) -> None:
    assert watch(lambda: log(catalog, 1, "new")) == {PROJECT, (E, P, "new")}
    assert watch(lambda: log(catalog, 1, project="other")) == {PROJECTS, (E, "other", None), (E, "other", C)}
    assert watch(lambda: log(catalog, 2)) == {CARS}
    assert watch(lambda: catalog.commit(new(2))) == set()
    assert watch(lambda: catalog.commit(new(2, aliases=("best",)))) == {CARS}
    member = catalog.resolve(E, P, C, "latest")
    assert watch(lambda: catalog.set_aliases(member.id, remove=["best"])) == {CARS}
    assert watch(lambda: catalog.set_aliases(member.id, remove=["best"])) == set()
    with pytest.raises(LatestMovedError):
        catalog.commit(new(3, project="fresh", expect_latest=7))
    assert watch(lambda: None) == set()


def test_links(catalog: SqlCatalog, watch: Watch) -> None:
    member = catalog.resolve(E, P, C, "latest")
    prod = (E, "registry", "prod")
    assert watch(lambda: catalog.link(member.version.id, *prod)) == {PROJECTS, (*prod[:2], None), prod}
    assert watch(lambda: catalog.link(member.version.id, *prod, ["a"])) == {prod}
    # What belongs to the version shows wherever it is linked.
    assert watch(lambda: catalog.update_version(member.version.id, description="d")) == {CARS, prod}
    assert watch(lambda: catalog.update_version(member.version.id, ttl=timedelta(days=1))) == {CARS, prod}
    assert watch(lambda: catalog.commit(new(1, tags=("t",)))) == {CARS, prod}
    assert watch(lambda: catalog.update_version(member.version.id, add_tags=["t"])) == set()
    link = catalog.resolve(*prod, "latest")
    assert watch(lambda: catalog.unlink(link.id)) == {prod}
    catalog.link(member.version.id, *prod)
    watch(lambda: None)
    assert watch(lambda: catalog.delete_version(member.id, delete_aliases=True)) == {CARS, prod}


def test_a_deleted_collection_takes_its_links(catalog: SqlCatalog, watch: Watch) -> None:
    member = catalog.resolve(E, P, C, "latest")
    catalog.link(member.version.id, E, P, "prod")
    watch(lambda: None)
    assert watch(lambda: catalog.delete_collection(member.collection_id)) == {PROJECT, CARS, (E, P, "prod")}


def test_policies(catalog: SqlCatalog, watch: Watch) -> None:
    assert watch(lambda: catalog.protect_aliases(E, P, add=["prod"])) == {PROJECT}
    assert watch(lambda: catalog.protect_aliases(E, P, add=["prod"])) == set()
    assert watch(lambda: catalog.protect_aliases(E, P, remove=["prod"])) == {PROJECT}
    assert watch(lambda: catalog.set_default_ttl(E, P, timedelta(days=1))) == {PROJECT}
    assert watch(lambda: catalog.set_default_ttl(E, None, timedelta(days=1))) == {PROJECTS}
    assert watch(lambda: catalog.set_default_ttl(E, None, timedelta(days=1))) == set()


def test_expiry(catalog: SqlCatalog, watch: Watch) -> None:
    with catalog.database.write() as tx:
        tx.conn.exec_driver_sql("UPDATE versions SET created_at = 1, ttl_s = 1")
    assert watch(catalog.expire) == {CARS}
    assert watch(catalog.expire) == set()


def test_runs(catalog: SqlCatalog, watch: Watch) -> None:
    version = catalog.resolve(E, P, C, "latest").version
    assert watch(lambda: catalog.create_run(E, "runs")) == {PROJECTS, (E, "runs", None)}
    [run] = catalog.runs(E, "runs")
    here = (E, "runs", None)
    assert watch(lambda: catalog.record_use(run.id, version.id)) == {here}
    assert watch(lambda: catalog.record_use(run.id, version.id)) == set()
    row = HistoryRow(step=0, at=run.created_at, values={"loss": 1})
    assert watch(lambda: catalog.add_history(run.id, [row])) == set()
    assert watch(lambda: catalog.update_run(run.id, summary={"a": 1}, config={"b": 2}, history_steps=7)) == set()
    for changed in ({"state": "finished"}, {"name": "new"}, {"tags": ["t"]}, {"notes": "n"}):
        assert watch(lambda changed=changed: catalog.update_run(run.id, **changed)) == {here}
        assert watch(lambda changed=changed: catalog.update_run(run.id, **changed)) == set()
    assert catalog.run(run.id).summary == {"loss": 1, "a": 1}


def test_parts_of_versions_show_nowhere(catalog: SqlCatalog, watch: Watch) -> None:
    part = NewPart(entity=E, project=P, collection="new", type="dataset", distributed_id="d", digest=digest(2))
    assert watch(lambda: catalog.add_part(part)) == set()
    assert watch(lambda: catalog.add_part(replace(part, project="fresh"))) == {PROJECTS}
    ids = tuple(found.id for found in catalog.parts(E, P, "new", "d"))
    made = new(3, "new", distributed_id="d", parts=ids)
    assert watch(lambda: catalog.commit(made)) == {PROJECT, (E, P, "new")}


def test_numbers_follow_the_commits(catalog: SqlCatalog) -> None:
    ledger = SqlLedger(catalog.database)
    assert ledger.newest_change() == 0
    assert ledger.changes_after(0) == Changes(0, ())
    tokens = [catalog.change_token()]
    for name in ("a", "b", "c"):
        catalog.create_project(name, name)
        tokens.append(catalog.change_token())
    assert len(set(tokens)) == 4
    found = ledger.changes_after(0)
    assert [row.entity for row in found.rows] == ["a", "b", "c"]
    assert found.last == found.rows[-1].number == ledger.newest_change()
    assert [row.number for row in found.rows] == sorted(row.number for row in found.rows)
    first = ledger.changes_after(0, limit=2)
    assert first.rows == found.rows[:2]
    assert ledger.changes_after(first.last, limit=2).rows == found.rows[2:]
    assert ledger.changes_after(found.last).rows == ()
    assert found.rows[0].at.tzinfo is not None


def test_old_numbers_are_forgotten(catalog: SqlCatalog) -> None:
    ledger = SqlLedger(catalog.database)
    catalog.create_project(E, "first")
    with catalog.database.write() as tx:
        # As if there had been many.
        tx.conn.exec_driver_sql("INSERT INTO changes (id, at, entity) VALUES (101998, 0, 'e')")
        if tx.conn.dialect.name == "postgresql":
            tx.conn.exec_driver_sql("SELECT setval('changes_id_seq', 101998)")
    catalog.create_project(E, "101,999")
    assert ledger.changes_after(0).rows[0].number == 1
    catalog.create_project(E, "102,000")
    found = ledger.changes_after(0)
    assert (found.is_gap, found.rows, found.last) == (True, (), 102_000)
    assert [row.number for row in ledger.changes_after(101_998).rows] == [101_999, 102_000]
    assert ledger.changes_after(101_997).rows[0].number == 101_998 > 102_000 - KEPT
    assert ledger.changes_after(101_996).is_gap
    # A number from a future that a restored backup does not know.
    assert ledger.changes_after(102_001).is_gap
