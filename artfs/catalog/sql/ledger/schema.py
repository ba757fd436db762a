"""The tables that only a server fills: tokens, audit, and which blobs are where. A part of the catalog's schema
(`artfs.catalog.schema`, whose rules hold here too), in a file of its own because an embedded catalog never needs it.
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
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from artfs.catalog.schema import NAME, id_column, metadata, ref_column, time_column

_DIGEST = LargeBinary(32)  # raw SHA-256; half of what hex would take, and there are millions


def _digest(name: str, *, nullable: bool = False, primary_key: bool = False) -> Column[Any]:
    return Column(name, _DIGEST, nullable=nullable, primary_key=primary_key)


tokens = Table(
    "tokens",
    metadata,
    id_column(),
    # Who uses it, for people and for the audit log; unique among those that are not revoked.
    Column("name", NAME, nullable=False),
    # SHA-256 of the secret, raw. The secret has 256 random bits, so nothing slower is needed.
    _digest("secret_sha256"),
    # May do everything on this server: all projects, tokens, garbage collection.
    Column("is_admin", Integer, CheckConstraint("is_admin IN (0, 1)", name="is_admin"), nullable=False),
    time_column("created_at"),
    # NULL: never.
    time_column("expires_at", nullable=True),
    time_column("revoked_at", nullable=True),
    # About a minute old at most. NULL: not yet.
    time_column("used_at", nullable=True),
    UniqueConstraint("secret_sha256"),
    sqlite_autoincrement=True,
)

grants = Table(
    "grants",
    metadata,
    ref_column("token_id", "tokens.id", primary_key=True),
    Column("entity", NAME, primary_key=True),
    # "*": every project of the entity, those to come too; whoever may write all of them may make new ones.
    Column("project", NAME, primary_key=True),
    # Each may what the ones before may. 'admin': delete, policies, quotas of the project.
    Column("role", String(8), CheckConstraint("role IN ('reader', 'writer', 'admin')", name="role"), nullable=False),
)

audit = Table(
    "audit",
    metadata,
    id_column(),
    time_column("at"),
    # tokens.name, or "command line" for what was done beside the server, or "server" for what it does by itself.
    Column("actor", NAME, nullable=False),
    # NULL: no token.
    ref_column("token_id", "tokens.id", nullable=True),
    # The name of the call ("commit", "delete_version", "token.create" …).
    Column("action", String(64), nullable=False),
    Column("entity", NAME, nullable=True),
    Column("project", NAME, nullable=True),
    # What it was done to ("cars:v3"), for people.
    Column("target", Text, nullable=False),
    # A JSON object as text: arguments that matter. Never a secret.
    Column("detail", Text, nullable=False),
    Index("ix_audit_at", "at"),
    sqlite_autoincrement=True,
)

calls = Table(
    "calls",
    metadata,
    # Answers of changes that may be asked for again (model.access.CallId), for a day.
    Column("actor", NAME, primary_key=True),
    Column("call_id", String(64), primary_key=True),
    time_column("at"),
    # SHA-256 of what was asked for.
    _digest("request"),
    # JSON.
    Column("answer", LargeBinary, nullable=False),
    Index("ix_calls_at", "at"),
)

server_identity = Table(
    "server_identity",
    metadata,
    # One row, made when the first server begins: which bucket is this database's. The bucket has an object that says the same, so
    # that no garbage collection takes another's blobs for its own garbage.
    Column("id", String(32), primary_key=True),
    time_column("created_at"),
)

packs = Table(
    "packs",
    metadata,
    id_column(),
    # Where it is in the bucket. Never used again, so who deletes an object can only hit the one that it means.
    Column("key", String(255), nullable=False),
    # A pack has blobs of one project only: who may read the project may read the pack as a whole.
    ref_column("project_id", "projects.id"),
    Column("size", BigInteger, nullable=False),
    # Or when it was emptied, what was in it being in another pack since: URLs that were told stay good for a while.
    time_column("created_at"),
    UniqueConstraint("key"),
    sqlite_autoincrement=True,
)

blobs = Table(
    "blobs",
    metadata,
    # Blobs that are objects of their own (more than 128 KiB), each whole and verified by this server. Projects share them.
    _digest("digest", primary_key=True),
    Column("size", BigInteger, nullable=False),
    # Its top block list, computed by the server; NULL for at most 1 MiB.
    _digest("blocks", nullable=True),
    # Where it is in the bucket: the object `key`, or, when the blob is larger than a part, `key.0`, `key.1` … of part_size
    # bytes each (the last one less). Never used again.
    Column("key", String(255), nullable=False),
    Column("part_size", BigInteger, nullable=False),
    time_column("created_at"),
    UniqueConstraint("key"),
)

project_blobs = Table(
    "project_blobs",
    metadata,
    # A row says: who may read the project may read this blob, and who may write it need not send it again. It is made
    # when the project was sent the bytes, or got a link to a version that has them.
    _digest("digest", primary_key=True),
    ref_column("project_id", "projects.id", primary_key=True),
    Column("size", BigInteger, nullable=False),
    # NULL: it is in `blobs`. The pack may be another project's (after a link); then only its own range may be handed out.
    ref_column("pack_id", "packs.id", nullable=True),
    Column("pack_offset", BigInteger, nullable=True),
    # Of a page of a tree with everything below it in this project, as a commit has found: what the page above it must say of it
    # (model.shape), so that the next commit need not read it. NULL: not known to be such a page.
    Column("shape", LargeBinary, nullable=True),
    # When it was sent, asked for as "missing?", or committed. A sweep leaves alone what was touched in the grace period.
    time_column("touched_at"),
    # No index on (project_id, digest): each index in the order of digests doubles what a million new rows cost.
    Index("ix_project_blobs_project_id", "project_id"),
    Index("ix_project_blobs_pack_id", "pack_id"),
)

project_usage = Table(
    "project_usage",
    metadata,
    # The sums over a project's rows of project_blobs, kept by whatever adds or removes one. No row: nothing yet.
    ref_column("project_id", "projects.id", primary_key=True),
    Column("blobs", BigInteger, nullable=False),
    # What projects.quota limits.
    Column("nbytes", BigInteger, nullable=False),
)

uploads = Table(
    "uploads",
    metadata,
    # A large blob on its way. Random.
    Column("id", String(32), primary_key=True),
    ref_column("project_id", "projects.id"),
    _digest("digest"),
    Column("size", BigInteger, nullable=False),
    # As in `blobs`, which it becomes a row of when all bytes were verified.
    Column("key", String(255), nullable=False),
    Column("part_size", BigInteger, nullable=False),
    time_column("created_at"),
    # The last part or question. One that nobody touched for the grace period is given up.
    time_column("touched_at"),
    UniqueConstraint("key"),
    Index("ix_uploads_project_id_digest", "project_id", "digest"),
)

upload_parts = Table(
    "upload_parts",
    metadata,
    Column("upload_id", String(32), ForeignKey("uploads.id"), primary_key=True),
    # 0 is the first.
    Column("number", Integer, primary_key=True),
    # What the sender says; the store enforces it where it can, and no URL is signed for other bytes of this part. The blob counts
    # only after its own digest was found right. NULL: nobody said.
    _digest("sha256", nullable=True),
    # 0: a URL was signed for it. 1: it was sent.
    Column("done", Integer, CheckConstraint("done IN (0, 1)", name="done"), nullable=False),
)
