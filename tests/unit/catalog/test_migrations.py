"""The migrations build exactly the tables of schema.py."""

import re
import sqlite3
from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from artfs.catalog import schema
from artfs.catalog.sql.engine import Database


def test_migrations_produce_the_metadata_of_the_schema(template: Path) -> None:
    database = Database(template)
    with database.read() as conn:
        assert compare_metadata(MigrationContext.configure(conn, opts={"compare_type": True}), schema.metadata) == []
    database.close()


def test_migrations_produce_the_same_sql_as_the_schema(template: Path, tmp_path: Path) -> None:
    """compare_metadata sees neither CHECK constraints nor AUTOINCREMENT nor partial indexes; the text shows all."""
    direct = tmp_path / "direct.db"
    engine = create_engine(f"sqlite:///{direct}")
    schema.metadata.create_all(engine)
    engine.dispose()
    assert _statements(template) == _statements(direct)


def _statements(path: Path) -> dict[str, list[str]]:
    connection = sqlite3.connect(path)
    found = {}
    for name, sql in connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'"
    ):
        if name != "alembic_version":
            # The order of a table's constraints does not matter.
            found[name] = sorted(re.sub(r"\s+", " ", line).strip(" ,") for line in sql.split("\n"))
    connection.close()
    return found


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
