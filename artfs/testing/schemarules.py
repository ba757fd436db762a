"""What the schema refuses, whatever writes to it, and in whichever database."""

from __future__ import annotations

import pytest

from artfs.catalog import schema
from artfs.catalog.sql.engine import Database
from artfs.errors import CatalogError


def check_rules(database: Database) -> None:
    """A collection without its project, and a run in a state that there is not, are refused."""
    for wrong in (
        schema.collections.insert().values(
            project_id=7, name="c", type="", kind="sequence", next_index=0, created_at=0, updated_at=0
        ),
        schema.runs.insert().values(id="r", project_id=1, name="", config="", state="odd", history_steps=0, created_at=0),
    ):
        with pytest.raises(CatalogError), database.write() as tx:
            tx.conn.execute(wrong)
