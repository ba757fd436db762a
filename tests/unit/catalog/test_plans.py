"""PostgreSQL keeps the plan that it made for a statement while a table was new. It must be right for a full one: what a statement
reads must not grow with what it is not about. Counted in rows, as PostgreSQL counts them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest

from artfs.catalog.blobledger import NewObject, NewPack, Packed
from artfs.catalog.sql.ledger.blobledger import SqlBlobLedger
from artfs.catalog.sql.ledger.ledger import SqlLedger
from artfs.model.access import Actor, Grant
from artfs.model.digests import digest_bytes
from artfs.testing.catalog_contract.making import C, E, P, log
from artfs.testing.postgres import Postgres, opened

BATCHES = 40
COUNT = 100
FOREVER = 2**60

_READ = (
    "SELECT relname, seq_tup_read + coalesce(idx_tup_fetch, 0), seq_tup_read FROM pg_stat_user_tables"
    " WHERE seq_tup_read + coalesce(idx_tup_fetch, 0) > 0"
)


@pytest.fixture(params=["never looked at", "known to be empty"])
def url(request: pytest.FixtureRequest, postgres: Postgres) -> Iterator[str]:
    """Of an empty catalog. What PostgreSQL knows of its tables; it guesses more of those that it never looked at."""
    with postgres.database(postgres.template) as name:
        if request.param == "known to be empty":
            postgres.execute("VACUUM ANALYZE", name)
        yield postgres.url(name)


def rows_read(url: str) -> dict[str, tuple[int, int]]:
    """By table: how many rows were read since the database was made, by sessions that have ended; and by going through it."""
    with closing(psycopg.connect(url, autocommit=True)) as connection:
        return {name: (read, in_order) for name, read, in_order in connection.execute(_READ).fetchall()}


def digests(number: int) -> list[str]:
    return [digest_bytes(b"%d/%d" % (number, at)) for at in range(COUNT)]


def send(ledger: SqlBlobLedger, project_id: int, number: int) -> None:
    """As an upload of small files does it: those that are missing are asked for, and added; then all are there."""
    names = digests(number)
    assert ledger.hold(project_id, names) == {}
    *packed, large = names
    pack = NewPack(f"packs/{number}", 10 * COUNT, [Packed(digest, 10, 10 * at) for at, digest in enumerate(packed)])
    ledger.add(project_id, pack, [NewObject(large, 2_000_000, f"blobs/{number}", 64 << 20, digest_bytes(b"blocks"))])
    assert len(ledger.hold(project_id, names)) == COUNT


def test_what_is_asked_of_digests_costs_as_many_rows_however_many_others_there_are(url: str) -> None:
    with opened(url) as catalog:
        # None was touched lately: each question touches what it is about.
        ledger = SqlBlobLedger(catalog.database, touch_every_us=-FOREVER)
        grants = [Grant(E, name, "reader") for name in "pq"]
        token = SqlLedger(catalog.database).create_token("t", grants=grants, is_admin=False, by=Actor("tests", None))[0]
        p, q = (project.id for name in "pq" if (project := ledger.project(E, name, make=True)) is not None)
        for number in range(BATCHES):
            send(ledger, p, number)
            for reader, place in ((None, p), (token, None)):
                assert len(ledger.find(reader, digests(number), place)) == COUNT
            assert ledger.share(p, q, digests(number)) == set()
            ledger.close_trees(q, dict.fromkeys(digests(number)[:5], b"shape"))
            ledger.open_trees(q, digests(number), FOREVER)
            if number % 2:
                assert ledger.remove(q, digests(number), FOREVER) == COUNT
    read = rows_read(url)
    # A dozen questions and changes, and some rows of other projects that have the same blob.
    assert read["project_blobs"][0] < 30 * COUNT * BATCHES, read
    for table in ("project_blobs", "packs", "blobs"):
        assert read[table][1] == 0, read


def test_no_table_of_versions_is_gone_through(url: str) -> None:
    with opened(url) as catalog:
        for number in range(20):
            member = log(catalog, number, aliases=("best",), tags=("t",))
            for name in (f"v{number}", "latest", "best", "v0"):
                assert catalog.resolve(E, P, C, name).index in (0, number)
            assert catalog.member(member.id) == member
            assert catalog.memberships(member.version.id) == [member]
    assert {name: in_order for name, (_, in_order) in rows_read(url).items() if in_order} == {}
