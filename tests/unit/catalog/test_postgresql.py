"""A catalog on a PostgreSQL server: opening it, transactions, what may go wrong, many writers."""

import os
import signal
import threading
from collections.abc import Callable
from subprocess import Popen

import pytest

from artfs.catalog import open_catalog, schema
from artfs.catalog.sql.catalog import SqlCatalog
from artfs.catalog.sql.migrate import migrate
from artfs.catalog.sql.postgresql.database import PostgresqlDatabase
from artfs.errors import (
    CatalogError,
    CatalogVersionError,
    NotFoundError,
    StorageError,
    UnavailableError,
    UsageError,
)
from artfs.model.ttl import INHERIT
from artfs.testing.catalog_contract.making import C, E, P, at, log, new
from artfs.testing.postgres import Postgres, name_of, one_line, opened, postgres

StartPython = Callable[..., Popen[str]]


# opening ----------------------------------------------------------------------------------------------------------


def test_a_catalog_is_made_only_when_told(empty_url: str) -> None:
    for options in ({}, {"migrate": False}):
        with pytest.raises(CatalogError, match=r"holds no catalog yet: run `artfs serve --migrate` once") as caught:
            open_catalog(empty_url, **options)
        one_line(caught.value)
    with open_catalog(empty_url, migrate=True) as catalog:
        log(catalog, 1)
    with open_catalog(empty_url) as catalog:
        assert catalog.resolve(E, P, C, "latest").index == 0
    with open_catalog(empty_url.replace("postgresql:", "postgres:"), migrate=True) as catalog:
        assert catalog.resolve(E, P, C, "latest").index == 0


def test_an_older_schema_is_migrated_only_when_told(empty_url: str) -> None:
    database = PostgresqlDatabase(empty_url)
    migrate(database, "0001")
    with database.write() as tx:
        for row in (
            "projects (id, entity, name, created_at) VALUES (1, 'local', 'p', 5)",
            "collections (id, project_id, name, type, kind, next_index, created_at, updated_at) "
            "VALUES (1, 1, 'c', 'dataset', 'sequence', 1, 5, 5)",
            "versions (id, collection_id, source_index, state, digest, size, file_count, metadata, created_at, updated_at) "
            f"VALUES (1, 1, 0, 'COMMITTED', '{'0' * 64}', 1, 1, '{{}}', 5, 5)",
            "memberships (id, collection_id, version_id, member_index, created_at) VALUES (1, 1, 1, 0, 5)",
        ):
            tx.conn.exec_driver_sql(f"INSERT INTO {row}")
    database.close()
    with pytest.raises(CatalogError, match=r"has the schema 0001, and this program wants \d+: run `artfs serve --migrate`"):
        open_catalog(empty_url)
    with open_catalog(empty_url, migrate=True) as catalog:
        version = catalog.resolve("local", "p", "c", "v0").version
        assert (version.ttl, version.lifetime) == (INHERIT, None)
    open_catalog(empty_url).close()


def test_a_newer_schema_is_refused(postgres_url: str, postgres: Postgres) -> None:
    postgres.execute("UPDATE alembic_version SET version_num = '9999'", name_of(postgres_url))
    for may_migrate in (False, True):
        with pytest.raises(CatalogVersionError, match=r"newer artfs .*9999.*: update artfs") as caught:
            open_catalog(postgres_url, migrate=may_migrate)
        one_line(caught.value)
    postgres.execute("DELETE FROM alembic_version", name_of(postgres_url))
    with pytest.raises(CatalogError, match="damaged"):
        open_catalog(postgres_url)


def test_another_programs_database_is_refused(empty_url: str, postgres: Postgres) -> None:
    name = name_of(empty_url)
    # What extensions bring is nobody's.
    postgres.execute("CREATE EXTENSION pg_buffercache", name)
    postgres.execute("CREATE TABLE alembic_version (version_num text)", name)
    postgres.execute("INSERT INTO alembic_version VALUES ('0001')", name)
    for may_migrate in (False, True):
        with pytest.raises(CatalogError, match="holds something of another program in its schema public") as caught:
            open_catalog(empty_url, migrate=may_migrate)
        one_line(caught.value)
    assert postgres.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", name) == [(1,)]
    # Beside it there is room.
    postgres.execute("CREATE SCHEMA beside", name)
    with open_catalog(f"{empty_url}&options=-csearch_path%3Dbeside", migrate=True) as catalog:
        log(catalog, 1)
    assert postgres.execute("SELECT count(*) FROM beside.versions", name) == [(1,)]
    with pytest.raises(CatalogError, match="no schema that its search_path names"):
        open_catalog(f"{empty_url}&options=-csearch_path%3Dnowhere", migrate=True)
    postgres.execute("DROP TABLE alembic_version", name)
    open_catalog(empty_url, migrate=True).close()


def test_a_database_of_another_encoding_is_refused(postgres: Postgres) -> None:
    options = "ENCODING 'LATIN1' LOCALE 'C' LOCALE_PROVIDER libc"
    with postgres.database("template0", options) as name:
        with pytest.raises(CatalogError, match="encoding LATIN1"):
            open_catalog(postgres.url(name), migrate=True)


def test_a_migration_that_fails_leaves_nothing(empty_url: str, postgres: Postgres) -> None:
    name = name_of(empty_url)
    database = PostgresqlDatabase(empty_url)
    # In the way of the last step.
    postgres.execute("CREATE TABLE upload_parts (x int)", name)
    with pytest.raises(CatalogError, match="already exists") as caught:
        migrate(database)
    one_line(caught.value)
    database.close()
    assert postgres.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", name) == [("upload_parts",)]


def test_two_that_migrate_at_once_both_succeed(empty_url: str, python: StartPython) -> None:
    code = (
        "import sys; from artfs.catalog import open_catalog\n"
        "open_catalog(sys.argv[1], migrate=True).create_project('e', sys.argv[2])"
    )
    processes = [python(code, empty_url, f"p{number}") for number in range(3)]
    assert [process.communicate()[1] for process in processes] == [""] * 3
    with open_catalog(empty_url) as catalog:
        assert [project.name for project in catalog.projects("e")] == ["p0", "p1", "p2"]


def test_a_server_that_cannot_be_reached_is_unavailable(postgres: Postgres) -> None:
    secret = "letmein"
    wrong = f"postgresql://artfs:{secret}@127.0.0.1:{postgres.port}/postgres"
    for url, said in (
        (f"postgresql://artfs:{secret}@127.0.0.1:1/x", "Connection refused"),
        (wrong, "password authentication failed"),
        (postgres.url("nothing"), 'database "nothing" does not exist'),
    ):
        with pytest.raises(UnavailableError, match=f"does not answer: .*{said}") as caught:
            open_catalog(url)
        assert secret not in one_line(caught.value)
    for url in (f"{wrong}?bogus=1", "postgresql://host:port:/x"):
        with pytest.raises((UsageError, UnavailableError)) as refused:
            open_catalog(url)
        assert secret not in one_line(refused.value)
    with open_catalog(postgres.tcp_url(postgres.template)) as catalog:
        assert postgres.password not in repr(catalog)


def test_without_psycopg_the_message_says_what_to_install(python: StartPython) -> None:
    code = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from artfs.catalog import open_catalog; from artfs.errors import MissingExtraError\n"
        "try: open_catalog('postgresql://127.0.0.1:1/x')\n"
        "except MissingExtraError as error: print(error)"
    )
    out, err = python(code).communicate()
    assert err == ""
    assert out.endswith("install it with: pip install 'artfs[server]'\n")
    assert out.count("\n") == 1


# transactions -----------------------------------------------------------------------------------------------------


def test_sessions_have_limits(database: PostgresqlDatabase) -> None:
    wanted = {"statement_timeout": "30s", "lock_timeout": "25s", "idle_in_transaction_session_timeout": "1min"}
    with database.read() as one, database.write() as tx, database.ask() as other:
        for conn in (one, tx.conn, other):
            assert {name: conn.exec_driver_sql(f"SHOW {name}").scalar() for name in wanted} == wanted


def test_a_read_sees_one_state(database: PostgresqlDatabase) -> None:
    catalog = SqlCatalog(database)
    count = "SELECT count(*) FROM projects"
    with database.read() as conn, database.ask() as asking:
        assert conn.exec_driver_sql(count).scalar() == 0
        catalog.create_project(E, P)
        assert conn.exec_driver_sql(count).scalar() == 0
        assert asking.exec_driver_sql(count).scalar() == 1


def test_a_read_cannot_write(database: PostgresqlDatabase) -> None:
    with pytest.raises(StorageError), database.read() as conn:
        conn.execute(schema.projects.insert().values(entity=E, name=P, created_at=0))


def test_a_write_that_fails_is_undone_and_releases_its_locks(database: PostgresqlDatabase, postgres_url: str) -> None:
    with pytest.raises(ZeroDivisionError), database.write() as tx:
        tx.conn.execute(schema.projects.insert().values(entity=E, name=P, created_at=0))
        raise ZeroDivisionError
    with opened(postgres_url, lock_timeout_s=0.05) as other:
        assert other.projects(E) == []
        other.create_project(E, P)


def test_writers_are_one_after_the_other(database: PostgresqlDatabase, postgres_url: str) -> None:
    with opened(postgres_url, lock_timeout_s=0.05) as other:
        with database.write() as tx:
            tx.conn.execute(schema.projects.insert().values(entity=E, name=P, created_at=0))
            with pytest.raises(UnavailableError, match="another writer has held .* for too long") as caught:
                other.create_project(E, "q")
            one_line(caught.value)
            # Readers do not wait.
            assert other.projects(E) == []
        assert other.create_project(E, P) == SqlCatalog(database).try_project(E, P)


def test_writers_of_one_process_wait_without_connections(postgres_url: str) -> None:
    caught: list[BaseException] = []

    def write(catalog: SqlCatalog) -> None:
        try:
            catalog.create_project(E, P)
        except UnavailableError as error:
            caught.append(error)

    with opened(postgres_url, lock_timeout_s=0.05, connections=2) as catalog:
        threads = [threading.Thread(target=write, args=(catalog,)) for _ in range(4)]
        with catalog.database.write():
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert catalog.projects(E) == []
    assert len(caught) == 4


def test_more_readers_than_connections_wait_for_one(postgres_url: str) -> None:
    with opened(postgres_url, connections=1, pool_timeout_s=0.05) as catalog:
        with catalog.database.read():
            with pytest.raises(UnavailableError, match="all connections of this process to .* are in use") as caught:
                catalog.projects(E)
            one_line(caught.value)
        assert catalog.projects(E) == []


def test_commits_are_stamped_by_the_databases_clock(postgres_url: str, postgres: Postgres) -> None:
    with open_catalog(postgres_url) as catalog:
        [[before]] = postgres.execute("SELECT clock_timestamp()")
        member = log(catalog, 1)
        [[after]] = postgres.execute("SELECT clock_timestamp()")
        assert before <= member.created_at <= after
        assert catalog.resolve(E, P, C, at(after)) == member
        with pytest.raises(NotFoundError, match="still to come"):
            catalog.resolve(E, P, C, at(after.replace(year=after.year + 1)))


def test_times_never_go_back(postgres_url: str) -> None:
    times = iter([2_000_000, 2_000_000, 1_000_000, 5_000_000])
    database = PostgresqlDatabase(postgres_url, clock=lambda: next(times))
    catalog = SqlCatalog(database)
    stamps = [log(catalog, number).created_at.timestamp() for number in range(4)]
    database.close()
    assert stamps == [2, 2.000001, 2.000002, 5]


def test_nothing_works_after_close(postgres_url: str) -> None:
    catalog = open_catalog(postgres_url)
    catalog.close()
    catalog.close()
    for act in (
        lambda: catalog.projects(E), lambda: catalog.create_project(E, P), lambda: catalog.collections(E, P),
        catalog.change_token,
    ):
        with pytest.raises(CatalogError, match="was closed"):
            act()


# many writers -----------------------------------------------------------------------------------------------------

COMMITS = """
import sys
from artfs.catalog import open_catalog
from artfs.testing.catalog_contract.making import new
url, name, count = sys.argv[1:]
with open_catalog(url) as catalog:
    for number in range(int(count)):
        print(catalog.commit(new((name, number), aliases=("best",))).member.index, flush=True)
"""


def test_100_parallel_commits_give_v0_to_v99_and_each_move_of_an_alias_is_atomic(
    postgres_url: str, python: StartPython
) -> None:
    """Two processes, and twelve threads of a third; two more threads read meanwhile."""
    indexes: list[int] = []
    failures: list[BaseException] = []
    done = threading.Event()

    def work(act: Callable[[], None]) -> None:
        try:
            act()
        except BaseException as error:
            failures.append(error)

    with open_catalog(postgres_url) as catalog:
        place = catalog.create_collection(E, P, C).id

        def commit(name: int) -> None:
            for number in range(5):
                indexes.append(catalog.commit(new((name, number), aliases=("best",))).member.index)

        def read() -> None:
            seen = -1
            while not done.is_set():
                members = catalog.members(place)
                assert [member.index for member in members] == list(range(len(members)))
                named = [member.index for member in members if member.aliases]
                assert named == [len(members) - 1] if members else named == []
                assert all(member.aliases in ((), ("best", "latest")) for member in members)
                assert len(members) > seen
                seen = len(members) - 1

        processes = [python(COMMITS, postgres_url, name, 20) for name in "ab"]
        readers = [threading.Thread(target=work, args=(read,)) for _ in range(2)]
        writers = [threading.Thread(target=work, args=(lambda n=n: commit(n),)) for n in range(12)]
        for thread in readers + writers:
            thread.start()
        for thread in writers:
            thread.join()
        results = [process.communicate() for process in processes]
        done.set()
        for thread in readers:
            thread.join()
        assert failures == []
        assert [err for _, err in results] == [""] * 2
        indexes += [int(line) for out, _ in results for line in out.split()]
        assert sorted(indexes) == list(range(100))
        members = catalog.members(place)
        assert [member.index for member in members] == list(range(100))
        assert len({member.version.digest for member in members}) == 100
        history = catalog.alias_history(place)
        for alias in ("latest", "best"):
            assert [index for _, name, index in history if name == alias] == list(range(100))


def test_a_writer_that_is_killed_lets_others_write(postgres_url: str, python: StartPython) -> None:
    code = (
        "import sys; from artfs.catalog import open_catalog\n"
        "catalog = open_catalog(sys.argv[1])\n"
        "with catalog.database.write() as tx:\n"
        "    tx.conn.exec_driver_sql(\"INSERT INTO projects (entity, name, created_at) VALUES ('e', 'p', 0)\")\n"
        "    print('writing', flush=True); sys.stdin.read()"
    )
    process = python(code, postgres_url)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    os.kill(process.pid, signal.SIGKILL)
    with open_catalog(postgres_url) as catalog:
        assert catalog.create_project("e", "p").id
        assert len(catalog.projects("e")) == 1


def test_what_was_reported_as_committed_survives_a_crash_of_the_server(python: StartPython) -> None:
    with postgres() as server, server.database(server.template) as name:
        process = python(COMMITS, server.url(name), "a", 100_000)
        assert process.stdout is not None
        reported = [int(process.stdout.readline()) for _ in range(10)]
        server.stop(signal.SIGQUIT)
        rest, err = process.communicate()
        assert "UnavailableError" in err
        reported += [int(line) for line in rest.split()]
        server.start()
        with open_catalog(server.url(name)) as catalog:
            members = catalog.members(1)
            assert [member.index for member in members][: len(reported)] == reported
            assert catalog.resolve(E, P, C, "latest") == members[-1]
            # The last one may be there though nobody was told.
            assert len(members) in (len(reported), len(reported) + 1)
            assert log(catalog, "after").index == members[-1].index + 1
