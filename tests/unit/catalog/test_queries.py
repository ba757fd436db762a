"""How much a question costs: the number of statements does not depend on the number of answers, and each statement goes
by an index."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from artfs.catalog.sql.catalog import SqlCatalog
from artfs.catalog.sql.sqlite.database import SqliteDatabase, connect
from artfs.model.paging import PageRequest, make_cursor
from artfs.model.ttl import INHERIT
from artfs.testing.catalog_contract.making import C, E, P, at, digest, log

MANY = 1000


@pytest.fixture(scope="module")
def database(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqliteDatabase]:
    """A collection of MANY versions, each with an alias and two tags, and a link to each; a second collection."""
    path = tmp_path_factory.mktemp("many") / "catalog.db"
    path.write_bytes(template.read_bytes())
    database = SqliteDatabase(path)
    catalog = SqlCatalog(database)
    log(catalog, "other", "other")
    log(catalog, 0, aliases=("a0",))
    with database.write() as tx:
        # As commits would leave them, in one transaction.
        versions, places, events = [], [], []
        for number in range(1, MANY):
            versions.append((number + 2, 2, number, digest(number), number))
            places.append((number + 2, 2, number + 2, number, number))
            events.append((2, number, "latest", number))
        for statement, rows in (
            (
                "INSERT INTO versions (id, collection_id, source_index, state, digest, size, file_count, metadata, "
                "created_at, updated_at) VALUES (?, ?, ?, 'COMMITTED', ?, 1, 1, '{}', 0, ?)",
                versions,
            ),
            ("INSERT INTO memberships (id, collection_id, version_id, member_index, created_at) VALUES (?,?,?,?,?)", places),
            ("INSERT INTO alias_events (collection_id, at, alias, member_index) VALUES (?, ?, ?, ?)", events),
            ("INSERT INTO aliases VALUES (2, ?, ?)", [(f"a{row[3]}", row[0]) for row in places]),
            ("INSERT INTO version_tags (version_id, tag) VALUES (?, ?)", [(row[0], tag) for row in versions for tag in "ba"]),
        ):
            tx.conn.exec_driver_sql(statement, rows)
        tx.conn.exec_driver_sql("UPDATE collections SET next_index = ? WHERE id = 2", (MANY,))
    yield database
    database.close()


@contextmanager
def statements(database: SqliteDatabase) -> Iterator[list[tuple[str, Any]]]:
    seen: list[tuple[str, Any]] = []

    def note(_conn: object, _cursor: object, statement: str, parameters: Any, _context: object, is_many: bool) -> None:
        if not statement.startswith("BEGIN"):
            seen.append((statement, parameters[0] if is_many else parameters))

    event.listen(database.engine, "before_cursor_execute", note)
    yield seen
    event.remove(database.engine, "before_cursor_execute", note)


PLACE = make_cursor(PageRequest("index"), 500, 500)
NAMED = make_cursor(PageRequest("name"), "a", 1)

QUESTIONS: dict[str, tuple[int, Callable[[SqlCatalog], object]]] = {
    "by alias": (1, lambda catalog: catalog.resolve(E, P, C, "a500")),
    "by version": (1, lambda catalog: catalog.resolve(E, P, C, "v500")),
    "by time": (3, lambda catalog: catalog.resolve(E, P, C, "@2020-01-01")),
    "by id": (1, lambda catalog: catalog.member(500)),
    "members": (1, lambda catalog: catalog.members(2)),
    "memberships": (1, lambda catalog: catalog.memberships(500)),
    "collection": (1, lambda catalog: catalog.try_collection(E, P, C)),
    "collections": (2, lambda catalog: catalog.collections(E, P)),
    "page of members": (3, lambda catalog: catalog.page_of_members(2, PageRequest("index", 10, PLACE))),
    "page of collections": (3, lambda catalog: catalog.page_of_collections(E, P, PageRequest("name", 10, NAMED))),
    "protected aliases": (2, lambda catalog: catalog.protected_aliases(E, P)),
    "history": (2, lambda catalog: catalog.alias_history(2)),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_is_few_statements_by_index(database: SqliteDatabase, question: str) -> None:
    count, ask = QUESTIONS[question]
    with statements(database) as seen:
        ask(SqlCatalog(database))
    assert len(seen) == count
    with closing(connect(database.path)) as connection:
        for statement, parameters in seen:
            plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]
            assert not [step for step in plan if step.startswith("SCAN")], (statement, plan)


@pytest.mark.parametrize("ask", [SqlCatalog.next_expiry, SqlCatalog.expire])
def test_what_expires_is_found_without_looking_at_every_version(
    database: SqliteDatabase, ask: Callable[[SqlCatalog], object]
) -> None:
    catalog = SqlCatalog(database)
    for ttl in (timedelta(days=36_000), INHERIT):
        catalog.set_default_ttl(E, P, ttl)
        with statements(database) as seen:
            ask(catalog)
        with closing(connect(database.path)) as connection:
            for statement, parameters in seen:
                plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]
                scans = [step for step in plan if step.startswith("SCAN")]
                # Of projects and of parts that wait there are few.
                assert all(step.startswith(("SCAN projects", "SCAN version_parts")) for step in scans), (statement, plan)
                assert not [step for step in plan if "ix_versions_state" in step], (statement, plan)


def test_all_members_come_with_their_labels(database: SqliteDatabase) -> None:
    members = SqlCatalog(database).members(2)
    assert [member.index for member in members] == list(range(MANY))
    assert all(f"a{member.index}" in member.aliases for member in members)
    assert all(member.version.tags == ("b", "a") for member in members[1:])
    assert members[0].version.tags == ()


def test_a_commit_does_not_look_at_the_other_versions(database: SqliteDatabase) -> None:
    catalog = SqlCatalog(database)
    counts = []
    for collection in ("other", C):
        with statements(database) as seen:
            member = log(catalog, "new", collection, aliases=("best",), tags=("t",))
        counts.append(len(seen))
        with closing(connect(database.path)) as connection:
            for statement, parameters in seen:
                plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]
                assert not [step for step in plan if step.startswith("SCAN")], (statement, plan)
    # To a server each is a message, while all other writers wait.
    assert counts == [12, 12]
    assert catalog.resolve(E, P, C, at(member.created_at)) == member


def test_deleting_a_collection_is_few_statements(database: SqliteDatabase) -> None:
    catalog = SqlCatalog(database)
    collection = catalog.create_collection(E, P, "long")
    for number in range(5):
        log(catalog, number, "long")
    with statements(database) as seen:
        catalog.delete_collection(collection.id)
    assert len(seen) < 15
