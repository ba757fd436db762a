"""Parts of versions that several runs make together; groups, tags and notes of runs. schema.py says what the columns mean."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_NAME = sa.String(128).with_variant(sa.String(128, collation="C"), "postgresql")
_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("runs", sa.Column("group_name", _NAME, nullable=True))
    op.add_column("runs", sa.Column("tags", sa.Text(), nullable=True))
    op.add_column("runs", sa.Column("notes", sa.Text(), nullable=True))
    op.create_table(
        "version_parts",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("project_id", _ID, nullable=False),
        sa.Column("collection", _NAME, nullable=False),
        sa.Column("type", _NAME, nullable=False),
        sa.Column("distributed_id", _NAME, nullable=False),
        sa.Column(
            "digest", sa.String(64), sa.CheckConstraint("length(digest) = 64", name=op.f("ck_version_parts_digest")),
            nullable=False,
        ),
        sa.Column("aliases", sa.Text(), nullable=False),
        sa.Column("run_id", sa.String(64), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_version_parts")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_version_parts_project_id")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_version_parts_run_id")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_version_parts_project_id", "version_parts", ["project_id", "collection", "distributed_id"])


def downgrade() -> None:
    op.drop_table("version_parts")
    for column in ("notes", "tags", "group_name"):
        op.drop_column("runs", column)
