"""The tables of the catalog, as SQLAlchemy Core objects. Comments state what a column means; they are the definition.

Rules that hold for all tables:
- Times are integers: microseconds since 1970-01-01 UTC. Exact, and they sort; a float or a text would be neither.
- Ids are never used again (AUTOINCREMENT): a daemon may hold one for as long as it lives.
- JSON is text, written with ASCII escapes only, so that no string of a user's metadata can be unstorable.
- What is deleted by a user stays as a row with `deleted_at` where something else may still name it (projects,
  collections, versions); a name is free again at once because only living rows are unique.
- `migrations/versions/` builds exactly these tables (tests/unit/catalog/test_migrations.py compares both).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

# Alembic revisions, oldest first. The last is what this program reads and writes. A database at a revision that is not
# here was made by a newer program. Compared by SQL when a catalog is opened, so that Alembic need not be imported.
REVISIONS = ("0001", "0002", "0003", "0004", "0005")

# `PRAGMA application_id` of a catalog ("artf" in ASCII): tells our file from any other SQLite database.
APPLICATION_ID = 0x61727466

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# What a PostgreSQL database says of itself (a comment on alembic_version), so that no other program's is taken for ours.
MARK = "artfs catalog"

# Names sort by their code points, wherever they are kept. SQLite does so by itself.
NAME = String(128).with_variant(String(128, collation="C"), "postgresql")
TEXT = Text().with_variant(Text(collation="C"), "postgresql")

# 64 bits everywhere; on SQLite only a column declared INTEGER can be the row id.
_Id = BigInteger().with_variant(Integer(), "sqlite")
_Time = BigInteger

# The rows that a partial index is about. `postgresql_where`, which is in the migrations, would make every start of a command
# import the PostgreSQL dialect here (60 ms).
_LIVING = text("deleted_at IS NULL")


def id_column() -> Column[Any]:
    return Column("id", _Id, primary_key=True, autoincrement=True)


def ref_column(name: str, target: str, *, nullable: bool = False, primary_key: bool = False) -> Column[Any]:
    return Column(name, _Id, ForeignKey(target), nullable=nullable, primary_key=primary_key)


def _ttl() -> Column[Any]:
    """A policy of how long versions live, in whole seconds counted from their commit. NULL: what is above decides (the
    project, then the entity, then: for ever). 0: for ever. See model.ttl."""
    return Column("ttl_s", BigInteger, CheckConstraint("ttl_s >= 0", name="ttl_s"), nullable=True)


def time_column(name: str, *, nullable: bool = False) -> Column[Any]:
    return Column(name, _Time, nullable=nullable)


projects = Table(
    "projects",
    metadata,
    id_column(),
    # The owner: a user or team name (model.names.check_entity_name). The embedded catalog has no table of entities; an
    # entity is there as long as it has a project.
    Column("entity", NAME, nullable=False),
    # model.names.check_project_name. Unique among the living projects of the entity.
    Column("name", NAME, nullable=False),
    time_column("created_at"),
    # NULL: it lives. Its runs stay readable by their ids after that.
    time_column("deleted_at", nullable=True),
    # For its versions that have none of their own.
    _ttl(),
    # Bytes that the blobs of a project may take on a server (the sum of project_blobs.size). NULL: as many as there is room for.
    Column("quota", BigInteger, CheckConstraint("quota >= 0", name="quota"), nullable=True),
    Index("uq_projects_living", "entity", "name", unique=True, sqlite_where=_LIVING),
    sqlite_autoincrement=True,
)

entity_ttls = Table(
    "entity_ttls",
    metadata,
    # The default of an entity, for projects that have none. No row: versions live for ever.
    Column("entity", NAME, primary_key=True),
    Column("ttl_s", BigInteger, CheckConstraint("ttl_s > 0", name="ttl_s"), nullable=False),
)

protected_aliases = Table(
    "protected_aliases",
    metadata,
    ref_column("project_id", "projects.id", primary_key=True),
    # model.names.check_alias, never "latest". In all collections of the project this alias is given, moved and removed
    # only by who is allowed to; what has it can neither be deleted nor unlinked nor expire.
    Column("alias", NAME, primary_key=True),
)

collections = Table(
    "collections",
    metadata,
    id_column(),
    ref_column("project_id", "projects.id"),
    # model.names.check_collection_name. Sequences and portfolios share one name space: unique among the living
    # collections of the project.
    Column("name", NAME, nullable=False),
    # The artifact type of all its versions (model.names.check_type). "": made empty, the first version decides. It is
    # a property of the collection and stands nowhere else, so a version cannot contradict it.
    Column("type", NAME, nullable=False),
    # 'sequence': versions are logged to it. 'portfolio': it holds links to versions of sequences. Never changes.
    Column("kind", String(16), CheckConstraint("kind IN ('sequence', 'portfolio')", name="kind"), nullable=False),
    # NULL: none given.
    Column("description", Text, nullable=True),
    # N of the next vN: one more than the largest ever given out, so an index is never used again even when its
    # version is deleted or unlinked.
    Column("next_index", Integer, CheckConstraint("next_index >= 0", name="next_index"), nullable=False),
    time_column("created_at"),
    # The last change of the collection, its members or its aliases. It grows strictly with each changing transaction,
    # also when the clock stands still or goes back (then: last + 1 µs), because it stamps versions.created_at and
    # alias_events.at, whose order must be that of the commits.
    time_column("updated_at"),
    # NULL: it lives. Its versions are then DELETED (sequence) or its links gone (portfolio).
    time_column("deleted_at", nullable=True),
    Index("uq_collections_living", "project_id", "name", unique=True, sqlite_where=_LIVING),
    sqlite_autoincrement=True,
)

collection_tags = Table(
    "collection_tags",
    metadata,
    # Orders the tags as they were added.
    id_column(),
    ref_column("collection_id", "collections.id"),
    # model.names.check_tag.
    Column("tag", NAME, nullable=False),
    UniqueConstraint("collection_id", "tag"),
    sqlite_autoincrement=True,
)

runs = Table(
    "runs",
    metadata,
    # model.names.check_run_id, or 8 characters of a-z0-9, random; unique over the whole catalog because it is how users
    # name a run.
    Column("id", String(64), primary_key=True),
    ref_column("project_id", "projects.id"),
    # What is shown; the id when none was given. Not unique.
    Column("name", TEXT, nullable=False),
    # NULL: none given.
    Column("job_type", Text, nullable=True),
    # A JSON object as text.
    Column("config", Text, nullable=False),
    Column(
        "state", String(16),
        CheckConstraint("state IN ('running', 'finished', 'failed', 'crashed')", name="state"), nullable=False,
    ),
    # How often the run logged a step; versions.history_step is taken from it. 0: nothing logged yet.
    Column("history_steps", BigInteger, CheckConstraint("history_steps >= 0", name="history_steps"), nullable=False),
    time_column("created_at"),
    # NULL: it is running.
    time_column("finished_at", nullable=True),
    # A JSON object as text: the last value that was logged of each name, and what the run put there. NULL: nothing.
    Column("summary", Text, nullable=True),
    # What runs that belong together have in common (model.names.check_label). NULL: none given.
    Column("group_name", NAME, nullable=True),
    # A JSON list of texts. NULL: none.
    Column("tags", Text, nullable=True),
    # NULL: none given.
    Column("notes", Text, nullable=True),
    Index("ix_runs_project_id", "project_id", "created_at"),
)

versions = Table(
    "versions",
    metadata,
    id_column(),
    # The sequence that it was logged to, never a portfolio. Its membership there exists as long as this row.
    ref_column("collection_id", "collections.id"),
    # N of vN in that sequence; equal to the source membership's member_index, kept here because links show it too.
    Column("source_index", Integer, nullable=False),
    # 'COMMITTED', or 'DELETED': hidden from every listing, its bytes are garbage, but its index stays taken and its
    # id stays known. 'PENDING' is for a catalog that learns of versions before they are whole; the embedded one never
    # writes it.
    Column(
        "state", String(16),
        CheckConstraint("state IN ('PENDING', 'COMMITTED', 'DELETED')", name="state"), nullable=False,
    ),
    # The root tree: SHA-256, 64 lower-case hex digits.
    Column("digest", String(64), CheckConstraint("length(digest) = 64", name="digest"), nullable=False),
    # Bytes of all files, references included as far as their size is known.
    Column("size", BigInteger, CheckConstraint("size >= 0", name="size"), nullable=False),
    # Files and references; directories do not count.
    Column("file_count", BigInteger, CheckConstraint("file_count >= 0", name="file_count"), nullable=False),
    # NULL: none given.
    Column("description", Text, nullable=True),
    # A JSON object as text, within the limits of model.names.check_metadata.
    Column("metadata", Text, nullable=False),
    # The run that made it. NULL: no run did. Runs that logged the same content later stand in run_versions only.
    Column("run_id", String(64), ForeignKey("runs.id"), nullable=True),
    # The last step that the run had logged then (0 is the first). NULL: none yet, or no run.
    Column("history_step", BigInteger, nullable=True),
    # The commit. Unique in its sequence, and in the order of source_index (see collections.updated_at).
    time_column("created_at"),
    # The last change of description, metadata, tags or state.
    time_column("updated_at"),
    # NULL: not deleted. Set exactly when state is 'DELETED'.
    time_column("deleted_at", nullable=True),
    _ttl(),
    UniqueConstraint("collection_id", "source_index"),
    # For the mark of a sweep and the listing by state.
    Index("ix_versions_state", "state"),
    # For "which have a policy of their own": few.
    Index("ix_versions_ttl_s", "ttl_s", sqlite_where=text("ttl_s IS NOT NULL")),
    CheckConstraint("(state = 'DELETED') = (deleted_at IS NOT NULL)", name="deleted_at"),
    sqlite_autoincrement=True,
)

version_tags = Table(
    "version_tags",
    metadata,
    # Orders the tags as they were added.
    id_column(),
    # Tags belong to the version, so all its memberships show the same.
    ref_column("version_id", "versions.id"),
    # model.names.check_tag.
    Column("tag", NAME, nullable=False),
    UniqueConstraint("version_id", "tag"),
    sqlite_autoincrement=True,
)

memberships = Table(
    "memberships",
    metadata,
    id_column(),
    # The collection that it is a place in. Equal to the version's own collection: the source membership, which is
    # made with the version and never removed. Another one (a portfolio): a link, which is removed when it is unlinked.
    ref_column("collection_id", "collections.id"),
    ref_column("version_id", "versions.id"),
    # N of vN in this collection, < collections.next_index.
    Column("member_index", Integer, CheckConstraint("member_index >= 0", name="member_index"), nullable=False),
    # The commit, or when it was linked.
    time_column("created_at"),
    UniqueConstraint("collection_id", "member_index"),
    # A version is in a collection at most once. The version first: this is also the index for "where is it linked".
    UniqueConstraint("version_id", "collection_id"),
    sqlite_autoincrement=True,
)

aliases = Table(
    "aliases",
    metadata,
    ref_column("collection_id", "collections.id", primary_key=True),
    # model.names.check_alias: never looks like vN or @TIME. Names one member of a collection; moving it is an update.
    Column("alias", NAME, primary_key=True),
    # In this same collection, and its version is COMMITTED.
    ref_column("membership_id", "memberships.id"),
    Index("ix_aliases_membership_id", "membership_id"),
)

alias_events = Table(
    "alias_events",
    metadata,
    # Orders the events of one transaction, which share their time.
    id_column(),
    ref_column("collection_id", "collections.id"),
    # The stamp of the transaction (see collections.updated_at).
    time_column("at"),
    Column("alias", NAME, nullable=False),
    # Which member the alias names from then on, by its index (the membership of a link may be gone, an index stays).
    # NULL: none, the alias was removed.
    Column("member_index", Integer, nullable=True),
    # For "what did this alias name at that time".
    Index("ix_alias_events_collection_id_alias_at", "collection_id", "alias", "at"),
    sqlite_autoincrement=True,
)

version_parts = Table(
    "version_parts",
    metadata,
    # What runs have contributed to versions that are not made yet. A row goes with the commit of its version, or
    # PARTS_LIVE after the last part with its distributed_id came. Its id orders the parts.
    id_column(),
    ref_column("project_id", "projects.id"),
    # The sequence that the version will be logged to, which may not exist yet, and its type.
    Column("collection", NAME, nullable=False),
    Column("type", NAME, nullable=False),
    # Which parts make one version (model.names.check_label).
    Column("distributed_id", NAME, nullable=False),
    # As versions.digest.
    Column("digest", String(64), CheckConstraint("length(digest) = 64", name="digest"), nullable=False),
    # A JSON list of aliases.
    Column("aliases", Text, nullable=False),
    # NULL: no run did.
    Column("run_id", String(64), ForeignKey("runs.id"), nullable=True),
    time_column("created_at"),
    Index("ix_version_parts_project_id", "project_id", "collection", "distributed_id"),
    sqlite_autoincrement=True,
)

run_versions = Table(
    "run_versions",
    metadata,
    Column("run_id", String(64), ForeignKey("runs.id"), primary_key=True),
    ref_column("version_id", "versions.id", primary_key=True),
    # 'logged': an output of the run (also when its content was there already). 'used': an input.
    Column(
        "relation", String(8), CheckConstraint("relation IN ('logged', 'used')", name="relation"), primary_key=True,
    ),
    # The first time.
    time_column("at"),
    Index("ix_run_versions_version_id", "version_id"),
)

run_history = Table(
    "run_history",
    metadata,
    Column("run_id", String(64), ForeignKey("runs.id"), primary_key=True),
    # 0 is the first; < runs.history_steps. Steps may be left out.
    Column("step", BigInteger, CheckConstraint("step >= 0", name="step"), primary_key=True),
    # When the step was first logged to.
    time_column("at"),
    # A JSON object as text: the values of the step by their names. NaN and the infinities are the texts "NaN",
    # "Infinity" and "-Infinity".
    Column("data", Text, nullable=False),
)

changes = Table(
    "changes",
    metadata,
    # Grows with each commit of a transaction, in their order (writers are one after the other), so a reader that knows a
    # number asks for those above it and misses none. The newest 100,000 are kept (sql.changes).
    id_column(),
    time_column("at"),
    Column("entity", NAME, nullable=False),
    # NULL: the list of the entity's projects changed, or its policy.
    Column("project", NAME, nullable=True),
    # NULL: the list of the project's collections or runs changed, or its policies. Else the collection did, or what is seen in
    # it: versions, aliases. What a run logs of itself (history, summary, config) is no change.
    Column("collection", NAME, nullable=True),
    sqlite_autoincrement=True,
)
