"""What a server keeps: changes in order, tokens, audit, where blobs are, quotas. schema.py and sql/ledger/schema.py say
what the columns mean."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_NAME = sa.String(128).with_variant(sa.String(128, collation="C"), "postgresql")
_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_RAW = sa.LargeBinary(32)


def _check(table: str, name: str, condition: str) -> sa.CheckConstraint:
    return sa.CheckConstraint(condition, name=op.f(f"ck_{table}_{name}"))


def _pk(table: str, *columns: str) -> sa.PrimaryKeyConstraint:
    return sa.PrimaryKeyConstraint(*columns, name=op.f(f"pk_{table}"))


def _fk(table: str, column: str, target: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [target], name=op.f(f"fk_{table}_{column}"))


def upgrade() -> None:
    op.execute("ALTER TABLE projects ADD COLUMN quota BIGINT CONSTRAINT ck_projects_quota CHECK (quota >= 0)")
    op.create_table(
        "changes",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("entity", _NAME, nullable=False),
        sa.Column("project", _NAME, nullable=True),
        sa.Column("collection", _NAME, nullable=True),
        _pk("changes", "id"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "tokens",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("name", _NAME, nullable=False),
        sa.Column("secret_sha256", _RAW, nullable=False),
        sa.Column("is_admin", sa.Integer(), _check("tokens", "is_admin", "is_admin IN (0, 1)"), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.Column("used_at", sa.BigInteger(), nullable=True),
        _pk("tokens", "id"),
        sa.UniqueConstraint("secret_sha256", name=op.f("uq_tokens_secret_sha256")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "grants",
        sa.Column("token_id", _ID, nullable=False),
        sa.Column("entity", _NAME, nullable=False),
        sa.Column("project", _NAME, nullable=False),
        sa.Column(
            "role", sa.String(8), _check("grants", "role", "role IN ('reader', 'writer', 'admin')"), nullable=False
        ),
        _pk("grants", "token_id", "entity", "project"),
        _fk("grants", "token_id", "tokens.id"),
    )
    op.create_table(
        "audit",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("actor", _NAME, nullable=False),
        sa.Column("token_id", _ID, nullable=True),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("entity", _NAME, nullable=True),
        sa.Column("project", _NAME, nullable=True),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        _pk("audit", "id"),
        _fk("audit", "token_id", "tokens.id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_audit_at", "audit", ["at"])
    _create_blob_tables()


def _create_blob_tables() -> None:
    op.create_table(
        "server_identity",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        _pk("server_identity", "id"),
    )
    op.create_table(
        "packs",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("project_id", _ID, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        _pk("packs", "id"),
        _fk("packs", "project_id", "projects.id"),
        sa.UniqueConstraint("key", name=op.f("uq_packs_key")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "blobs",
        sa.Column("digest", _RAW, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("blocks", _RAW, nullable=True),
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("part_size", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        _pk("blobs", "digest"),
        sa.UniqueConstraint("key", name=op.f("uq_blobs_key")),
    )
    op.create_table(
        "project_blobs",
        sa.Column("digest", _RAW, nullable=False),
        sa.Column("project_id", _ID, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("pack_id", _ID, nullable=True),
        sa.Column("pack_offset", sa.BigInteger(), nullable=True),
        sa.Column("shape", sa.LargeBinary(), nullable=True),
        sa.Column("touched_at", sa.BigInteger(), nullable=False),
        _pk("project_blobs", "digest", "project_id"),
        _fk("project_blobs", "project_id", "projects.id"),
        _fk("project_blobs", "pack_id", "packs.id"),
    )
    op.create_index("ix_project_blobs_project_id", "project_blobs", ["project_id"])
    op.create_index("ix_project_blobs_pack_id", "project_blobs", ["pack_id"])
    op.create_table(
        "project_usage",
        sa.Column("project_id", _ID, autoincrement=False, nullable=False),
        sa.Column("blobs", sa.BigInteger(), nullable=False),
        sa.Column("nbytes", sa.BigInteger(), nullable=False),
        _pk("project_usage", "project_id"),
        _fk("project_usage", "project_id", "projects.id"),
    )
    op.create_table(
        "uploads",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("project_id", _ID, nullable=False),
        sa.Column("digest", _RAW, nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("part_size", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("touched_at", sa.BigInteger(), nullable=False),
        _pk("uploads", "id"),
        _fk("uploads", "project_id", "projects.id"),
        sa.UniqueConstraint("key", name=op.f("uq_uploads_key")),
    )
    op.create_index("ix_uploads_project_id_digest", "uploads", ["project_id", "digest"])
    op.create_table(
        "upload_parts",
        sa.Column("upload_id", sa.String(32), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("sha256", _RAW, nullable=True),
        sa.Column("done", sa.Integer(), _check("upload_parts", "done", "done IN (0, 1)"), nullable=False),
        _pk("upload_parts", "upload_id", "number"),
        _fk("upload_parts", "upload_id", "uploads.id"),
    )


def downgrade() -> None:
    for table in (
        "upload_parts", "uploads", "project_usage", "project_blobs", "blobs", "packs", "server_identity", "audit", "grants",
        "tokens", "changes",
    ):
        op.drop_table(table)
    op.drop_column("projects", "quota")
