"""What may go wrong with a catalog on a PostgreSQL server: lost connections, limits, errors of all kinds."""

import errno
import signal
from collections.abc import Callable
from subprocess import Popen

import pytest

from artfs.catalog import open_catalog, schema
from artfs.catalog.sql.catalog import SqlCatalog
from artfs.catalog.sql.postgresql.database import PostgresqlDatabase
from artfs.errors import (
    ArtfsError,
    CatalogError,
    StorageError,
    UnavailableError,
    UsageError,
)
from artfs.testing.catalog_contract.making import C, E, P, log, new
from artfs.testing.postgres import Postgres, name_of, one_line, opened, postgres
from artfs.testing.schemarules import check_rules

StartPython = Callable[..., Popen[str]]


def cut(server: Postgres, url: str) -> None:
    """Ends all connections to the database, as a restart of the server would."""
    server.execute(f"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = '{name_of(url)}'")


def test_connections_that_died_while_nobody_used_them_are_replaced(postgres_url: str, postgres: Postgres) -> None:
    with opened(postgres_url, fresh_s=-1) as catalog:
        log(catalog, 1)
        for act in (
            lambda: catalog.resolve(E, P, C, "latest"), lambda: catalog.collections(E, P), catalog.change_token,
            lambda: log(catalog, 2),
        ):
            # Several, so that a second dead one would be met.
            with catalog.database.read(), catalog.database.read():
                pass
            cut(postgres, postgres_url)
            act()
        assert catalog.resolve(E, P, C, "latest").index == 1


def test_a_connection_lost_in_the_middle_is_reported_and_the_next_call_works(
    database: PostgresqlDatabase, postgres_url: str, postgres: Postgres
) -> None:
    catalog = SqlCatalog(database)
    with pytest.raises(UnavailableError, match="does not answer") as caught, database.write() as tx:
        tx.conn.execute(schema.projects.insert().values(entity=E, name=P, created_at=0))
        cut(postgres, postgres_url)
        tx.conn.execute(schema.projects.insert().values(entity=E, name="q", created_at=0))
    assert "may have been made" not in one_line(caught.value)
    assert catalog.projects(E) == []
    with pytest.raises(UnavailableError), database.read() as conn:
        cut(postgres, postgres_url)
        conn.exec_driver_sql("SELECT 1")
    catalog.create_project(E, P)
    cut(postgres, postgres_url)
    with pytest.raises(UnavailableError):
        catalog.projects(E)
    assert [project.name for project in catalog.projects(E)] == [P]


def test_a_connection_lost_at_the_commit_says_that_nobody_knows(
    database: PostgresqlDatabase, postgres_url: str, postgres: Postgres
) -> None:
    with pytest.raises(UnavailableError, match="may have been made or not") as caught, database.write() as tx:
        tx.conn.execute(schema.projects.insert().values(entity=E, name=P, created_at=0))
        cut(postgres, postgres_url)
    one_line(caught.value)
    assert caught.value.may_be_done
    SqlCatalog(database).create_project(E, "other")


def test_a_server_that_restarts_is_found_again() -> None:
    with postgres() as server, server.database(server.template) as name, opened(server.url(name), fresh_s=-1) as catalog:
        log(catalog, 1)
        server.stop(signal.SIGQUIT)
        for act in (lambda: log(catalog, 2), lambda: catalog.resolve(E, P, C, "latest"), catalog.change_token):
            with pytest.raises(UnavailableError, match="does not answer") as caught:
                act()
            one_line(caught.value)
        server.start()
        assert catalog.resolve(E, P, C, "latest").index == 0
        assert log(catalog, 2).index == 1


def test_what_takes_too_long_is_given_up(postgres_url: str) -> None:
    with opened(postgres_url, statement_timeout_s=0.05) as catalog:
        with pytest.raises(UnavailableError, match="took too long") as caught, catalog.database.read() as conn:
            conn.exec_driver_sql("SELECT pg_sleep(60)")
        one_line(caught.value)
        assert catalog.projects(E) == []


def test_a_read_only_database_is_erofs(postgres_url: str, postgres: Postgres) -> None:
    postgres.execute(f"ALTER DATABASE {name_of(postgres_url)} SET default_transaction_read_only = on")
    with open_catalog(postgres_url) as catalog:
        with pytest.raises(StorageError, match="is read-only") as caught:
            catalog.create_project(E, P)
        assert caught.value.errno == errno.EROFS
        assert catalog.projects(E) == []


@pytest.mark.parametrize(
    ("code", "error", "said"),
    [
        ("53100", StorageError, "disk of .* is full"),
        ("40001", UnavailableError, "try again"),
        ("40P01", UnavailableError, "try again"),
        ("53300", UnavailableError, "does not answer"),
        ("57P01", UnavailableError, "does not answer"),
        ("XX001", CatalogError, "is damaged"),
        ("42501", CatalogError, "why not"),
        ("23505", CatalogError, "why not"),
    ],
)
def test_each_kind_of_error_has_its_own(database: PostgresqlDatabase, code: str, error: type[ArtfsError], said: str) -> None:
    with pytest.raises(error, match=said) as caught, database.write() as tx:
        tx.conn.execute(schema.projects.insert().values(entity=E, name=P, created_at=0))
        tx.conn.exec_driver_sql(f"DO $$ BEGIN RAISE EXCEPTION 'why not' USING ERRCODE = '{code}', DETAIL = 'more'; END $$")
    assert type(caught.value) is error
    assert "more" not in one_line(caught.value)
    if isinstance(caught.value, StorageError):
        assert caught.value.errno == errno.ENOSPC
    catalog = SqlCatalog(database)
    assert catalog.projects(E) == []
    catalog.create_project(E, P)


def test_the_schema_keeps_its_own_rules(database: PostgresqlDatabase) -> None:
    check_rules(database)
    catalog = SqlCatalog(database)
    catalog.create_project(E, P)
    with pytest.raises(CatalogError, match="uq_projects_living"), database.write() as tx:
        tx.conn.execute(schema.projects.insert().values(entity=E, name=P, created_at=0))
    catalog.delete_project(E, P)
    catalog.create_project(E, P)


def test_what_postgresql_cannot_keep_is_a_usage_error(postgres_url: str) -> None:
    with open_catalog(postgres_url) as catalog:
        for description in ("a\0b", "\udcff"):
            with pytest.raises(UsageError) as caught:
                catalog.commit(new(1, description=description))
            one_line(caught.value)
        with pytest.raises(UsageError, match="larger than what a catalog holds"):
            catalog.member(2**63)
        assert catalog.entities() == []


def test_a_pooler_that_loses_prepared_statements_is_found_out(postgres_url: str) -> None:
    """Each of its transactions may get another connection, with other statements or none."""

    def lose(catalog: SqlCatalog) -> None:
        with catalog.database.ask() as conn:
            # Inside a block, where psycopg does not see it.
            conn.exec_driver_sql("DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$")

    with opened(postgres_url, connections=1) as catalog:
        for number in range(10):
            log(catalog, number)
        lose(catalog)
        with pytest.raises(UnavailableError, match="forgets prepared statements .*: try again") as caught:
            log(catalog, "a")
        one_line(caught.value)
        for number in range(10):
            log(catalog, ("b", number))
        lose(catalog)
        assert log(catalog, "c").index == 20
