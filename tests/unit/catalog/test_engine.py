"""One database file under many users: transactions, errors, the token, backups."""

import errno
import os
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from subprocess import Popen

import pytest
from sqlalchemy import event

from artfs.catalog import open_catalog, schema
from artfs.catalog.sql.catalog import SqlCatalog
from artfs.catalog.sql.queries import to_stamp
from artfs.catalog.sql.sqlite.database import SqliteDatabase
from artfs.catalog.sql.sqlite.opening import open_file
from artfs.errors import CatalogError, ConflictError, NotFoundError, StorageError, UsageError
from artfs.testing.catalog_contract.making import C, E, P, at, digest, log, new
from artfs.testing.schemarules import check_rules

StartPython = Callable[..., Popen[str]]


@pytest.fixture
def database(empty_catalog: Path) -> Iterator[SqliteDatabase]:
    database = SqliteDatabase(empty_catalog, busy_timeout_s=0.05)
    yield database
    database.close()


# settings ---------------------------------------------------------------------------------------------------------


def test_every_connection_is_durable_and_checks_references(database: SqliteDatabase) -> None:
    wanted = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 50}
    with database.read() as one, database.read() as two:
        for conn in (one, two):
            assert {name: conn.exec_driver_sql(f"PRAGMA {name}").scalar() for name in wanted} == wanted


def test_the_default_busy_timeout_is_30_seconds(empty_catalog: Path) -> None:
    database = SqliteDatabase(empty_catalog)
    with database.read() as conn:
        assert conn.exec_driver_sql("PRAGMA busy_timeout").scalar() == 30_000
    database.close()


# transactions -----------------------------------------------------------------------------------------------------


def test_a_read_sees_one_state(database: SqliteDatabase) -> None:
    catalog = SqlCatalog(database)
    with database.read() as conn:
        count = "SELECT count(*) FROM projects"
        assert conn.exec_driver_sql(count).scalar() == 0
        catalog.create_project(E, P)
        assert conn.exec_driver_sql(count).scalar() == 0
    with database.read() as conn:
        assert conn.exec_driver_sql(count).scalar() == 1


def test_a_write_has_the_lock_from_its_start(database: SqliteDatabase, empty_catalog: Path) -> None:
    with database.write(), closing(sqlite3.connect(empty_catalog, timeout=0)) as other:
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")


def test_a_write_that_fails_is_undone_and_releases_its_locks(database: SqliteDatabase) -> None:
    catalog = SqlCatalog(database)
    with pytest.raises(ZeroDivisionError), database.write() as tx:
        tx.conn.execute(schema.projects.insert().values(entity=E, name=P, created_at=0))
        raise ZeroDivisionError
    assert catalog.projects(E) == []
    catalog.create_project(E, P)


def test_the_schema_keeps_its_own_rules(database: SqliteDatabase) -> None:
    check_rules(database)


# errors -----------------------------------------------------------------------------------------------------------


def test_a_lock_held_for_longer_than_the_timeout_is_reported(database: SqliteDatabase, empty_catalog: Path) -> None:
    catalog = SqlCatalog(database)
    with closing(sqlite3.connect(empty_catalog, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(CatalogError, match="stayed locked by another user of it .*fuser"):
            catalog.create_project(E, P)
        assert catalog.projects(E) == []
        other.execute("ROLLBACK")
    catalog.create_project(E, P)


def test_writers_of_one_process_wait_for_each_other(database: SqliteDatabase) -> None:
    caught: list[BaseException] = []

    def write() -> None:
        try:
            SqlCatalog(database).create_project(E, P)
        except CatalogError as error:
            caught.append(error)

    thread = threading.Thread(target=write)
    with database.write():
        thread.start()
        thread.join()
    assert "stayed locked" in str(caught[0])


def test_a_full_disk_is_enospc_and_leaves_the_catalog_as_it_was(database: SqliteDatabase) -> None:
    event.listen(database.engine, "connect", lambda connection, _: connection.execute("PRAGMA max_page_count=1"))
    catalog = SqlCatalog(database)
    log(catalog, 1)
    with pytest.raises(StorageError, match="No space left") as caught:
        catalog.commit(new(2, description="x" * 1_000_000))
    assert caught.value.errno == errno.ENOSPC
    assert "\n" not in str(caught.value)
    assert log(catalog, 2).index == 1


def test_a_read_only_file_is_erofs(database: SqliteDatabase) -> None:
    event.listen(database.engine, "connect", lambda connection, _: connection.execute("PRAGMA query_only=1"))
    catalog = SqlCatalog(database)
    with pytest.raises(StorageError, match="is read-only") as caught:
        catalog.create_project(E, P)
    assert caught.value.errno == errno.EROFS
    assert catalog.projects(E) == []


def test_damage_is_reported_as_such(database: SqliteDatabase) -> None:
    catalog = SqlCatalog(database)
    log(catalog, 1)
    catalog.close()
    content = bytearray(database.path.read_bytes())
    content[8192:] = b"\xff" * (len(content) - 8192)
    database.path.write_bytes(content)
    with pytest.raises(CatalogError, match="damaged"), open_catalog(database.path) as reopened:
        reopened.resolve(E, P, C, "latest")


def test_a_file_that_went_away_is_reported(database: SqliteDatabase) -> None:
    catalog = SqlCatalog(database)
    database.path.rename(database.path.with_suffix(".gone"))
    with pytest.raises(StorageError, match="cannot be opened"):
        catalog.projects(E)


def test_nothing_works_after_close(catalog: SqlCatalog) -> None:
    catalog.close()
    catalog.close()
    for act in (lambda: catalog.projects(E), lambda: catalog.create_project(E, P), catalog.change_token):
        with pytest.raises(CatalogError, match="was closed"):
            act()


# time -------------------------------------------------------------------------------------------------------------


def test_commits_are_in_order_when_the_clock_is_not(empty_catalog: Path) -> None:
    times = iter([2_000_000, 2_000_000, 1_000_000, 5_000_000])
    last = 0

    def clock() -> int:
        nonlocal last
        last = next(times, 9_000_000)
        return last

    with open_file(empty_catalog, clock=clock) as catalog:
        members = [log(catalog, number) for number in range(4)]
        stamps = [to_stamp(member.created_at) for member in members]
        assert stamps == [2_000_000, 2_000_001, 2_000_002, 5_000_000]
        for member in members:
            assert catalog.resolve(E, P, C, at(member.created_at)) == catalog.member(member.id)
        with pytest.raises(NotFoundError, match="still to come"):
            catalog.resolve(E, P, C, "@1970-01-01")


def test_a_date_is_the_end_of_its_day(empty_catalog: Path) -> None:
    day = 86_400_000_000
    now = 0
    with open_file(empty_catalog, clock=lambda: now) as catalog:
        for number, when in enumerate((day // 2, day - 1, day, 3 * day)):
            now = when
            log(catalog, number)
        assert catalog.resolve(E, P, C, "@1970-01-01").index == 1
        assert catalog.resolve(E, P, C, "@1970-01-02").index == 2
        assert catalog.resolve(E, P, C, "@1970-01-01T12:00").index == 0
        assert catalog.resolve(E, P, C, "@1970-01-01T14:00+02:00").index == 0
        with pytest.raises(NotFoundError, match="had no version yet at 1970-01-01T11:59:59Z; its first is of 1970-01-01T12"):
            catalog.resolve(E, P, C, "@1970-01-01T11:59:59")


def test_times_are_exact_to_the_microsecond(empty_catalog: Path) -> None:
    with open_file(empty_catalog, clock=lambda: 1_789_123_456_789_123) as catalog:
        assert log(catalog, 1).created_at.isoformat() == "2026-09-11T10:44:16.789123+00:00"


# the change token -------------------------------------------------------------------------------------------------


def test_the_token_sees_other_connections(catalog: SqlCatalog) -> None:
    first = catalog.change_token()
    with closing(sqlite3.connect(catalog.database.path)) as other:
        other.execute("INSERT INTO projects (entity, name, created_at) VALUES ('e', 'p', 0)")
        assert catalog.change_token() == first
        other.commit()
    second = catalog.change_token()
    assert second != first
    assert catalog.change_token() == second


def test_calls_that_change_nothing_leave_the_token(catalog: SqlCatalog) -> None:
    member = log(catalog, 1, aliases=("a",), tags=("t",))
    before = catalog.change_token()
    catalog.create_project(E, P)
    catalog.create_collection(E, P, C)
    catalog.set_aliases(member.id, add=["a"], remove=["b"])
    catalog.update_version(member.version.id, description=None, metadata={}, add_tags=["t"], remove_tags=["u"])
    catalog.update_collection(member.collection_id, name=C, tags=[])
    assert not catalog.commit(new(1, aliases=("a",), tags=("t",))).created
    assert catalog.change_token() == before


# backups ----------------------------------------------------------------------------------------------------------


def test_a_backup_replaces_the_one_before_at_once(catalog: SqlCatalog, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    log(catalog, 1)
    catalog.backup(target)
    before = target.stat().st_ino
    log(catalog, 2)
    catalog.backup(target)
    assert target.stat().st_ino != before
    with open_catalog(target) as copy:
        assert copy.resolve(E, P, C, "latest").version.digest == digest(2)


def test_a_backup_is_consistent_while_others_write(catalog: SqlCatalog, tmp_path: Path) -> None:
    done = threading.Event()

    def write() -> None:
        number = 0
        while not done.is_set():
            number += 1
            log(catalog, number)

    writer = threading.Thread(target=write)
    log(catalog, 0)
    writer.start()
    try:
        for step in range(3):
            catalog.backup(tmp_path / f"{step}.db")
    finally:
        done.set()
        writer.join()
    for step in range(3):
        with open_catalog(tmp_path / f"{step}.db") as copy:
            members = copy.members(1)
            assert [member.index for member in members] == list(range(len(members)))
            assert members[-1].aliases == ("latest",)


def test_a_backup_that_cannot_be_written_leaves_nothing(catalog: SqlCatalog, tmp_path: Path) -> None:
    there = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(UsageError, match="onto itself"):
        catalog.backup(catalog.database.path)
    with pytest.raises(StorageError) as caught:
        catalog.backup(tmp_path / "missing" / "copy.db")
    assert caught.value.errno == errno.ENOENT
    with pytest.raises(StorageError):
        catalog.backup(tmp_path)
    (tmp_path / "used.db-wal").touch()
    with pytest.raises(ConflictError, match="in use"):
        catalog.backup(tmp_path / "used.db")
    assert {path.name for path in tmp_path.iterdir()} == there | {"used.db-wal"}


# many processes ---------------------------------------------------------------------------------------------------

COMMITS = """
import sys
from artfs.catalog import open_catalog
from artfs.testing.catalog_contract.making import new
path, name, count = sys.argv[1:]
with open_catalog(path) as catalog:
    for number in range(int(count)):
        print(catalog.commit(new((name, number))).member.index, flush=True)
"""


def test_four_processes_commit_100_versions_to_one_collection(catalog: SqlCatalog, python: StartPython) -> None:
    before = catalog.change_token()
    processes = [python(COMMITS, catalog.database.path, name, 25) for name in "abcd"]
    results = [process.communicate() for process in processes]
    assert [err for _, err in results] == [""] * 4
    assert sorted(int(line) for out, _ in results for line in out.split()) == list(range(100))
    members = catalog.members(1)
    assert [member.name for member in members] == [f"{C}:v{index}" for index in range(100)]
    assert len({member.version.digest for member in members}) == 100
    assert [member.index for member in members if member.aliases] == [99]
    assert [event[2] for event in catalog.alias_history(1)] == list(range(100))
    assert catalog.change_token() != before


def test_what_was_reported_as_committed_survives_a_kill(catalog: SqlCatalog, python: StartPython) -> None:
    process = python(COMMITS, catalog.database.path, "a", 100_000)
    assert process.stdout is not None
    reported = [int(process.stdout.readline()) for _ in range(10)]
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    members = catalog.members(1)
    assert [member.index for member in members][: len(reported)] == reported
    assert catalog.resolve(E, P, C, "latest") == members[-1]
    assert log(catalog, "after").index == members[-1].index + 1
