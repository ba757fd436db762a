"""What Alembic runs to migrate a catalog: `sql.migrate.migrate` passes the connection, inside a transaction of its own.

There is no alembic.ini and no URL here: a migration happens only when a catalog is opened, under its lock.
"""

from __future__ import annotations

from alembic import context

import artfs.catalog.sql.ledger.schema  # noqa: F401  (its tables are in the metadata then)
from artfs.catalog.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # All revisions in the one transaction that the caller began: a crash leaves the old schema, whole.
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
