"""Answers of calls that may be asked for again. ledger/schema.py says what the columns mean."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_NAME = sa.String(128).with_variant(sa.String(128, collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "calls",
        sa.Column("actor", _NAME, nullable=False),
        sa.Column("call_id", sa.String(64), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("request", sa.LargeBinary(32), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("actor", "call_id", name=op.f("pk_calls")),
    )
    op.create_index("ix_calls_at", "calls", ["at"])


def downgrade() -> None:
    op.drop_table("calls")
