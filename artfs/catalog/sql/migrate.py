"""Bringing a catalog to the newest schema. The only file that imports Alembic outside of migrations/."""

from __future__ import annotations

from alembic import command
from alembic.config import Config

from artfs.catalog.sql.engine import Database


def migrate(database: Database) -> None:
    """Runs what is missing of migrations/versions in one transaction: an error or a crash leaves the old schema."""
    config = Config()
    config.set_main_option("script_location", "artfs.catalog:migrations")
    with database.write() as tx:
        config.attributes["connection"] = tx.conn
        command.upgrade(config, "head")
