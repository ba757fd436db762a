"""Bringing a catalog to the newest schema. The only file that imports Alembic outside of migrations/."""

from __future__ import annotations

from alembic import command
from alembic.config import Config

from artfs.catalog.sql.engine import Database


def migrate(database: Database, revision: str = "head") -> None:
    """Runs what is missing of migrations/versions in one transaction: an error or a crash leaves the old schema."""
    config = Config()
    config.set_main_option("script_location", "artfs.catalog:migrations")
    with database.write() as tx:
        if tx.conn.dialect.name == "postgresql":
            # Rewriting a large table takes its time.
            tx.conn.exec_driver_sql("SET LOCAL statement_timeout = 0")
        config.attributes["connection"] = tx.conn
        command.upgrade(config, revision)
