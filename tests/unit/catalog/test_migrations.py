"""The migrations build exactly the tables of schema.py."""

import errno
import re
import sqlite3
import subprocess
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, create_engine

from artfs.catalog import open_catalog, schema
from artfs.catalog.sql.ledger import schema as ledger_schema
from artfs.catalog.sql.sqlite.database import SqliteDatabase
from artfs.catalog.sql.sqlite.opening import backup_path
from artfs.errors import StorageError
from artfs.model.ttl import INHERIT
from artfs.testing.disks import SmallDisk
from artfs.testing.postgres import Postgres


def test_migrations_produce_the_metadata_of_the_schema(template: Path) -> None:
    database = SqliteDatabase(template)
    with database.read() as conn:
        assert compare_metadata(MigrationContext.configure(conn, opts={"compare_type": True}), ledger_schema.metadata) == []
    database.close()


def test_migrations_produce_the_same_sql_as_the_schema(template: Path, tmp_path: Path) -> None:
    """compare_metadata sees neither CHECK constraints nor AUTOINCREMENT nor partial indexes; the text shows all."""
    direct = tmp_path / "direct.db"
    engine = create_engine(f"sqlite:///{direct}")
    ledger_schema.metadata.create_all(engine)
    engine.dispose()
    assert _statements(template) == _statements(direct)


def _statements(path: Path) -> dict[str, list[str]]:
    connection = sqlite3.connect(path)
    found = {}
    for name, sql in connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'"
    ):
        if name != "alembic_version":
            # Neither the order of a table's constraints matters, nor on which line a column stands that was added later.
            lines = re.split(r"\n|, (?=(?:ttl_s|summary|quota|group_name|tags|notes) )", sql.rstrip().removesuffix(")"))
            found[name] = sorted(filter(None, (re.sub(r"\s+", " ", line).strip(" ,") for line in lines)))
    connection.close()
    return found


def test_migrations_produce_the_same_in_postgresql(postgres: Postgres) -> None:
    """Both as pg_dump writes them, which is all that there is: columns, orders, constraints, partial indexes, sequences."""
    tables = MetaData(naming_convention=ledger_schema.metadata.naming_convention)
    for table in ledger_schema.metadata.sorted_tables:
        for index in table.to_metadata(tables).indexes:
            # The migrations say it for PostgreSQL, too; schema.py does not, as it is in the way of a quick start.
            if (where := index.dialect_options["sqlite"]["where"]) is not None:
                index.dialect_options["postgresql"]["where"] = where
    with postgres.database() as direct:
        engine = create_engine(postgres.url(direct).replace("postgresql:", "postgresql+psycopg:"))
        tables.create_all(engine)
        engine.dispose()
        made = _dumped(postgres, direct)
    migrated = _dumped(postgres, postgres.template)
    assert migrated.keys() - made.keys() == {"TABLE alembic_version", "COMMENT TABLE alembic_version"} | {
        name for name in migrated if "alembic_version_pkc" in name
    }
    assert {name: migrated[name] for name in made} == made
    assert len(made) > 60


def _dumped(postgres: Postgres, name: str) -> dict[str, list[str]]:
    """By their names, the things in a database: the lines that make them, in an order that does not matter."""
    command = [postgres.programs / "pg_dump", "--schema-only", "--no-owner", "--no-privileges", postgres.url(name)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = {}
    for part in text.partition("\n-- PostgreSQL database dump complete")[0].split("\n-- Name: ")[1:]:
        title, _, body = part.partition("\n")
        thing, kind = re.match(r"(.*?); Type: (.*?);", title).groups()
        found[f"{kind} {thing}"] = sorted(line.strip().rstrip(",") for line in body.splitlines() if line.strip(" -"))
    return found


def of_the_first_schema(path: Path) -> None:
    """Makes a catalog as the first artfs did, with one version."""
    config = Config()
    config.set_main_option("script_location", "artfs.catalog:migrations")
    sqlite3.connect(path).close()
    database = SqliteDatabase(path)
    with database.write() as tx:
        config.attributes["connection"] = tx.conn
        command.upgrade(config, "0001")
        for row in (
            "projects (id, entity, name, created_at) VALUES (1, 'local', 'p', 5)",
            "collections (id, project_id, name, type, kind, next_index, created_at, updated_at) "
            "VALUES (1, 1, 'c', 'dataset', 'sequence', 1, 5, 5)",
            "runs (id, project_id, name, config, state, history_steps, created_at) VALUES ('r', 1, 'r', '{}', 'running', 0, 5)",
            "versions (id, collection_id, source_index, state, digest, size, file_count, metadata, created_at, updated_at) "
            f"VALUES (1, 1, 0, 'COMMITTED', '{'0' * 64}', 1, 1, '{{}}', 5, 5)",
            "memberships (id, collection_id, version_id, member_index, created_at) VALUES (1, 1, 1, 0, 5)",
        ):
            tx.conn.exec_driver_sql(f"INSERT INTO {row}")
    database.close()


def test_a_catalog_of_the_first_schema_is_migrated_with_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "catalog.db"
    of_the_first_schema(path)
    with open_catalog(path) as catalog:
        version = catalog.resolve("local", "p", "c", "v0").version
        assert (version.ttl, version.lifetime) == (INHERIT, None)
        assert (catalog.run("r").summary, catalog.run("r").group, catalog.run("r").tags) == ({}, None, ())
        catalog.set_default_ttl("local", "p", timedelta(days=1))
        assert catalog.resolve("local", "p", "c", "v0").version.lifetime == timedelta(days=1)


def test_a_migrated_catalog_is_kept_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "catalog.db"
    of_the_first_schema(path)
    open_catalog(path).close()
    kept = backup_path(path, "0001")
    assert kept.stat().st_mode & 0o777 == 0o600
    inode = kept.stat().st_ino
    with closing(sqlite3.connect(kept)) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("0001",)]
        assert connection.execute("SELECT name FROM collections").fetchall() == [("c",)]
    open_catalog(path).close()
    assert kept.stat().st_ino == inode
    kept.rename(tmp_path / "again.db")
    with open_catalog(tmp_path / "again.db") as catalog:
        assert catalog.resolve("local", "p", "c", "v0").index == 0


def test_without_room_for_the_copy_nothing_is_migrated(tmp_path: Path) -> None:
    with SmallDisk(tmp_path, 4 * 1024 * 1024) as disk:
        path = tmp_path / "catalog.db"
        of_the_first_schema(path)
        disk.fill(leave=64 * 1024)
        with pytest.raises(StorageError) as raised:
            open_catalog(path)
        assert raised.value.errno == errno.ENOSPC
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("0001",)]
        assert not backup_path(path, "0001").exists()
        disk.relieve()
        open_catalog(path).close()
        assert backup_path(path, "0001").exists()


def test_a_new_catalog_has_no_copy(tmp_path: Path) -> None:
    open_catalog(tmp_path / "catalog.db").close()
    assert list(tmp_path.glob("*before*")) == []


def test_the_revisions_that_the_program_knows_are_those_that_exist() -> None:
    config = Config()
    config.set_main_option("script_location", "artfs.catalog:migrations")
    scripts = list(ScriptDirectory.from_config(config).walk_revisions())
    assert tuple(script.revision for script in reversed(scripts)) == schema.REVISIONS


def test_a_catalog_is_marked_as_ours(template: Path) -> None:
    connection = sqlite3.connect(template)
    assert connection.execute("PRAGMA application_id").fetchone() == (schema.APPLICATION_ID,)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
