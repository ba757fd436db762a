"""Policies: how long versions live, and protected aliases. What runs log. schema.py says what the columns mean.

Columns are added by hand: Alembic would add their CHECKs in a second step, which SQLite cannot do.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_NAME = sa.String(128).with_variant(sa.String(128, collation="C"), "postgresql")
_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    for table in ("projects", "versions"):
        op.execute(f"ALTER TABLE {table} ADD COLUMN ttl_s BIGINT CONSTRAINT ck_{table}_ttl_s CHECK (ttl_s >= 0)")
    # Only the dialect in use is named, as naming one imports it.
    few: Any = {f"{op.get_bind().dialect.name}_where": sa.text("ttl_s IS NOT NULL")}
    op.create_index("ix_versions_ttl_s", "versions", ["ttl_s"], **few)
    op.add_column("runs", sa.Column("summary", sa.Text(), nullable=True))
    op.create_table(
        "entity_ttls",
        sa.Column("entity", _NAME, nullable=False),
        sa.Column(
            "ttl_s", sa.BigInteger(), sa.CheckConstraint("ttl_s > 0", name=op.f("ck_entity_ttls_ttl_s")), nullable=False
        ),
        sa.PrimaryKeyConstraint("entity", name=op.f("pk_entity_ttls")),
    )
    op.create_table(
        "protected_aliases",
        sa.Column("project_id", _ID, nullable=False),
        sa.Column("alias", _NAME, nullable=False),
        sa.PrimaryKeyConstraint("project_id", "alias", name=op.f("pk_protected_aliases")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_protected_aliases_project_id")),
    )
    op.create_table(
        "run_history",
        sa.Column("run_id", sa.String(64), nullable=False),
        sa.Column(
            "step", sa.BigInteger(), sa.CheckConstraint("step >= 0", name=op.f("ck_run_history_step")), nullable=False
        ),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "step", name=op.f("pk_run_history")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_run_history_run_id")),
    )


def downgrade() -> None:
    for table in ("run_history", "protected_aliases", "entity_ttls"):
        op.drop_table(table)
    op.drop_column("runs", "summary")
    op.drop_index("ix_versions_ttl_s", "versions")
    for table in ("versions", "projects"):
        op.drop_column(table, "ttl_s")
