"""A change that is asked for twice under one id is made once, in each kind of database."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select, update

from artfs.catalog.sql.catalog import SqlCatalog
from artfs.catalog.sql.ledger import schema as tables
from artfs.catalog.sql.ledger.calls import KEPT_US
from artfs.catalog.sql.ledger.ledger import SqlLedger
from artfs.errors import NotFoundError, UsageError
from artfs.model.access import Actor, CallId
from artfs.model.records import Committed
from artfs.testing.catalog_contract.making import C, E, P, log, new

ALICE = Actor("alice")
CALL = CallId("c1", b"1" * 32, Committed)


def kept(catalog: SqlCatalog) -> int:
    with catalog.database.read() as conn:
        return int(conn.execute(select(func.count()).select_from(tables.calls)).scalar_one())


def test_the_answer_is_that_of_the_first_time(any_catalog: SqlCatalog, ledger: SqlLedger) -> None:
    mine = new("mine", metadata={"a": [1.5, None, "é"]}, aliases=("x",), tags=("t",))
    first = ledger.acting(ALICE, CALL).commit(mine)
    log(any_catalog, "theirs", aliases=("x",))
    before = ledger.newest_change()
    assert ledger.acting(ALICE, CALL).commit(mine) == first
    assert first.member.aliases == ("latest", "x")
    assert any_catalog.resolve(E, P, C, "latest").index == any_catalog.resolve(E, P, C, "x").index == 1
    assert [row.action for row in ledger.audit()].count("commit") == 1
    assert ledger.newest_change() == before


def test_an_id_is_of_one_actor(ledger: SqlLedger) -> None:
    first = ledger.acting(ALICE, CALL).commit(new(1))
    other = ledger.acting(Actor("bob"), CALL).commit(new(2))
    assert (first.member.index, other.member.index) == (0, 1)


def test_an_id_is_of_one_request(ledger: SqlLedger) -> None:
    ledger.acting(ALICE, CALL).commit(new(1))
    with pytest.raises(UsageError, match="something else"):
        ledger.acting(ALICE, CallId(CALL.text, b"2" * 32, Committed)).commit(new(2))


def test_what_failed_may_be_tried_under_its_id(any_catalog: SqlCatalog, ledger: SqlLedger) -> None:
    with pytest.raises(NotFoundError):
        ledger.acting(ALICE, CALL).commit(new(1, run_id="nobody"))
    assert kept(any_catalog) == 0
    assert ledger.acting(ALICE, CALL).commit(new(1)).created


def test_old_answers_are_forgotten(any_catalog: SqlCatalog, ledger: SqlLedger) -> None:
    for text in ("old", "young"):
        ledger.acting(ALICE, CallId(text, b"1" * 32, Committed)).commit(new(text))
    with any_catalog.database.write() as tx:
        tx.conn.execute(
            update(tables.calls).where(tables.calls.c.call_id == "old").values(at=tables.calls.c.at - KEPT_US - 10**6)
        )
    assert (ledger.forget_calls(), kept(any_catalog)) == (1, 1)
    assert ledger.forget_calls() == 0
