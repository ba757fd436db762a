"""The first schema. Written out, not taken from schema.py: a migration must stay what it was. schema.py says what the
columns mean."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_NAME = sa.String(128).with_variant(sa.String(128, collation="C"), "postgresql")
_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _column(name: str, type_: Any, *more: Any, **options: Any) -> sa.Column[Any]:
    return sa.Column(name, type_, *more, **{"nullable": False, **options})


def _id() -> sa.Column[Any]:
    return _column("id", _ID, autoincrement=True)


def _time(name: str, **options: Any) -> sa.Column[Any]:
    return _column(name, sa.BigInteger(), **options)


def _check(table: str, name: str, rule: str) -> sa.CheckConstraint:
    return sa.CheckConstraint(rule, name=op.f(f"ck_{table}_{name}"))


def _key(table: str, *columns: str) -> sa.PrimaryKeyConstraint:
    return sa.PrimaryKeyConstraint(*columns, name=op.f(f"pk_{table}"))


def _unique(table: str, *columns: str) -> sa.UniqueConstraint:
    return sa.UniqueConstraint(*columns, name=op.f(f"uq_{table}_{'_'.join(columns)}"))


def _foreign(table: str, column: str, target: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [target], name=op.f(f"fk_{table}_{column}"))


def _living() -> dict[str, Any]:
    """Of the index of names. Only the dialect in use is named, as naming one imports it."""
    return {f"{op.get_bind().dialect.name}_where": sa.text("deleted_at IS NULL")}


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute("PRAGMA application_id = 1634890854")
    else:
        op.execute("COMMENT ON TABLE alembic_version IS 'artfs catalog'")
    op.create_table(
        "projects",
        _id(),
        _column("entity", _NAME),
        _column("name", _NAME),
        _time("created_at"),
        _time("deleted_at", nullable=True),
        _key("projects", "id"),
        sqlite_autoincrement=True,
    )
    op.create_index("uq_projects_living", "projects", ["entity", "name"], unique=True, **_living())
    op.create_table(
        "collections",
        _id(),
        _column("project_id", _ID),
        _column("name", _NAME),
        _column("type", _NAME),
        _column("kind", sa.String(16), _check("collections", "kind", "kind IN ('sequence', 'portfolio')")),
        _column("description", sa.Text(), nullable=True),
        _column("next_index", sa.Integer(), _check("collections", "next_index", "next_index >= 0")),
        _time("created_at"),
        _time("updated_at"),
        _time("deleted_at", nullable=True),
        _key("collections", "id"),
        _foreign("collections", "project_id", "projects.id"),
        sqlite_autoincrement=True,
    )
    op.create_index("uq_collections_living", "collections", ["project_id", "name"], unique=True, **_living())
    op.create_table(
        "collection_tags",
        _id(),
        _column("collection_id", _ID),
        _column("tag", _NAME),
        _key("collection_tags", "id"),
        _unique("collection_tags", "collection_id", "tag"),
        _foreign("collection_tags", "collection_id", "collections.id"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "runs",
        _column("id", sa.String(64)),
        _column("project_id", _ID),
        _column("name", _TEXT),
        _column("job_type", sa.Text(), nullable=True),
        _column("config", sa.Text()),
        _column(
            "state", sa.String(16),
            _check("runs", "state", "state IN ('running', 'finished', 'failed', 'crashed')"),
        ),
        _column("history_steps", sa.BigInteger(), _check("runs", "history_steps", "history_steps >= 0")),
        _time("created_at"),
        _time("finished_at", nullable=True),
        _key("runs", "id"),
        _foreign("runs", "project_id", "projects.id"),
    )
    op.create_index("ix_runs_project_id", "runs", ["project_id", "created_at"])
    op.create_table(
        "versions",
        _id(),
        _column("collection_id", _ID),
        _column("source_index", sa.Integer()),
        _column(
            "state", sa.String(16), _check("versions", "state", "state IN ('PENDING', 'COMMITTED', 'DELETED')"),
        ),
        _column("digest", sa.String(64), _check("versions", "digest", "length(digest) = 64")),
        _column("size", sa.BigInteger(), _check("versions", "size", "size >= 0")),
        _column("file_count", sa.BigInteger(), _check("versions", "file_count", "file_count >= 0")),
        _column("description", sa.Text(), nullable=True),
        _column("metadata", sa.Text()),
        _column("run_id", sa.String(64), nullable=True),
        _column("history_step", sa.BigInteger(), nullable=True),
        _time("created_at"),
        _time("updated_at"),
        _time("deleted_at", nullable=True),
        _key("versions", "id"),
        _unique("versions", "collection_id", "source_index"),
        _check("versions", "deleted_at", "(state = 'DELETED') = (deleted_at IS NOT NULL)"),
        _foreign("versions", "collection_id", "collections.id"),
        _foreign("versions", "run_id", "runs.id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_versions_state", "versions", ["state"])
    op.create_table(
        "version_tags",
        _id(),
        _column("version_id", _ID),
        _column("tag", _NAME),
        _key("version_tags", "id"),
        _unique("version_tags", "version_id", "tag"),
        _foreign("version_tags", "version_id", "versions.id"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "memberships",
        _id(),
        _column("collection_id", _ID),
        _column("version_id", _ID),
        _column("member_index", sa.Integer(), _check("memberships", "member_index", "member_index >= 0")),
        _time("created_at"),
        _key("memberships", "id"),
        _unique("memberships", "collection_id", "member_index"),
        _unique("memberships", "version_id", "collection_id"),
        _foreign("memberships", "collection_id", "collections.id"),
        _foreign("memberships", "version_id", "versions.id"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "aliases",
        _column("collection_id", _ID),
        _column("alias", _NAME),
        _column("membership_id", _ID),
        _key("aliases", "collection_id", "alias"),
        _foreign("aliases", "collection_id", "collections.id"),
        _foreign("aliases", "membership_id", "memberships.id"),
    )
    op.create_index("ix_aliases_membership_id", "aliases", ["membership_id"])
    op.create_table(
        "alias_events",
        _id(),
        _column("collection_id", _ID),
        _time("at"),
        _column("alias", _NAME),
        _column("member_index", sa.Integer(), nullable=True),
        _key("alias_events", "id"),
        _foreign("alias_events", "collection_id", "collections.id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_alias_events_collection_id_alias_at", "alias_events", ["collection_id", "alias", "at"])
    op.create_table(
        "run_versions",
        _column("run_id", sa.String(64)),
        _column("version_id", _ID),
        _column(
            "relation", sa.String(8), _check("run_versions", "relation", "relation IN ('logged', 'used')"),
        ),
        _time("at"),
        _key("run_versions", "run_id", "version_id", "relation"),
        _foreign("run_versions", "run_id", "runs.id"),
        _foreign("run_versions", "version_id", "versions.id"),
    )
    op.create_index("ix_run_versions_version_id", "run_versions", ["version_id"])


def downgrade() -> None:
    for table in (
        "run_versions", "alias_events", "aliases", "memberships", "version_tags", "versions", "runs",
        "collection_tags", "collections", "projects",
    ):
        op.drop_table(table)
