"""What makes members: the commit of a version, and linking one."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import func, insert, select, update

from artfs.catalog import schema
from artfs.catalog.sql import labels, names, parts, queries, rows, runs
from artfs.catalog.sql.engine import Writing
from artfs.catalog.sql.labels import LATEST
from artfs.errors import ConflictError, LatestMovedError, UsageError
from artfs.model.digests import MAX_SIZE, check_digest
from artfs.model.metadata import check_metadata
from artfs.model.names import check_type
from artfs.model.records import Collection, Committed, Member, NewVersion
from artfs.model.ttl import check_ttl

DEFAULT_TYPE = "dataset"

_m, _v = schema.memberships, schema.versions


def commit(tx: Writing, new: NewVersion) -> Committed:
    """See Catalog.commit.

    The content is compared with `latest` before `expect_latest` is: somebody who commits what is there already has lost
    nothing, and a commit whose answer got lost may be sent again.
    """
    check_digest(new.digest)
    if new.index is not None and not 0 <= new.index < 2**31 - 1:
        raise UsageError(f"v{new.index} is no version")
    if not (0 <= new.size <= MAX_SIZE and 0 <= new.file_count <= MAX_SIZE):
        raise UsageError(f"impossible totals of a version: {new.size} bytes, {new.file_count} files")
    metadata = check_metadata(new.metadata)
    ttl = queries.from_ttl(check_ttl(new.ttl))
    aliases = labels.check_aliases(new.aliases)
    tags = labels.check_tags(new.tags)
    collection = _sequence(tx, new)
    if new.run_id is not None:
        rows.need_run(tx.conn, new.run_id)
    loggers = [*([] if new.run_id is None else [new.run_id]), *parts.take(tx, new)]
    latest = queries.MEMBER_NAMED.first(tx.conn, collection_id=collection.id, alias=LATEST)
    there = latest if new.index is None else queries.MEMBER_AT.first(tx.conn, collection_id=collection.id, index=new.index)
    if there is not None and there.version.digest == new.digest:
        return Committed(_same_again(tx, there, aliases, tags, loggers, new), created=False)
    _check_latest(collection, latest, new.expect_latest)
    labels.check_protected(tx, collection.id, aliases, new.allow_protected)
    index, stamp = labels.take_index(tx, collection.id, new.index)
    created = _time_kept(tx, collection.id, new) or stamp
    version_id = tx.conn.execute(
        insert(_v)
        .values(
            collection_id=collection.id, source_index=index, state="COMMITTED", digest=new.digest, size=new.size,
            file_count=new.file_count, description=new.description, metadata=queries.to_json(metadata),
            run_id=new.run_id, history_step=new.history_step, created_at=created, updated_at=stamp, ttl_s=ttl,
        )
        .returning(_v.c.id)
    ).scalar_one()
    if tags:
        labels.tag_version(tx, version_id, tags)
    for run_id in loggers:
        runs.relate(tx, run_id, version_id, "logged")
    made = _join(tx, collection.id, version_id, index, created, aliases)
    tx.did("commit", made.entity, made.project, made.name, digest=new.digest, aliases=list(aliases), tags=list(tags))
    return Committed(made, created=True)


def _time_kept(tx: Writing, collection_id: int, new: NewVersion) -> int | None:
    """When it was committed in the catalog that it comes from, if it is younger than everything here."""
    if new.created_at is None:
        return None
    if new.created_at.tzinfo is None:
        raise UsageError(f"a time without a zone: {new.created_at}")
    created = queries.to_stamp(new.created_at)
    events = schema.alias_events
    newest = tx.conn.execute(
        select(func.coalesce(func.max(_v.c.created_at), -1)).where(_v.c.collection_id == collection_id)
    ).scalar_one()
    event = tx.conn.execute(
        select(func.coalesce(func.max(events.c.at), -1)).where(events.c.collection_id == collection_id)
    ).scalar_one()
    return created if max(newest, event) < created <= tx.now else None


def _sequence(tx: Writing, new: NewVersion) -> Collection:
    """The collection to commit to, made when missing, with its type settled."""
    if new.type:
        # Also when the collection has another: a bad type deserves its own message.
        check_type(new.type, new.collection)
    names.check_home_of_sequences(new.project)
    found = rows.find_collection(tx.conn, new.entity, new.project, new.collection)
    if found is not None and found.kind != "sequence":
        raise ConflictError(
            f"{new.entity}/{new.project}/{new.collection} is a portfolio: it holds links; "
            f"versions cannot be logged to it"
        )
    if found is None:
        type_ = new.type or DEFAULT_TYPE
        return names.create_collection(tx, new.entity, new.project, new.collection, type_, "sequence", None)
    return names.settle_type(tx, found, new.type or found.type or DEFAULT_TYPE)


def _check_latest(collection: Collection, latest: Member | None, expected: int | None) -> None:
    found = -1 if latest is None else latest.index
    if expected is None or found == expected:
        return
    name = f"{collection.project}/{collection.name}:{LATEST}"
    now = f"{name} is v{found} now" if found >= 0 else f"{name} is gone"
    then = f"was v{expected}" if expected >= 0 else "did not exist"
    raise LatestMovedError(f"{now}; it {then} when this draft began")


def _same_again(
    tx: Writing, there: Member, aliases: tuple[str, ...], tags: tuple[str, ...], loggers: list[str], new: NewVersion
) -> Member:
    labels.set_aliases(tx, there.id, aliases, (), new.allow_protected)
    if labels.tag_version(tx, there.version.id, tags):
        stamp = labels.touch(tx, there.collection_id)
        tx.conn.execute(update(_v).where(_v.c.id == there.version.id).values(updated_at=stamp))
        tx.note_version(there.version.id)
        tx.did("update_version", there.entity, there.project, there.name, changed=["tags"])
    for run_id in loggers:
        runs.relate(tx, run_id, there.version.id, "logged")
    return rows.need_member(tx.conn, there.id)


def _join(
    tx: Writing, collection_id: int, version_id: int, index: int, stamp: int, aliases: tuple[str, ...]
) -> Member:
    """A new member, which gets `latest` and `aliases`. `index`, `stamp`: as labels.take_index gave them."""
    member_id = tx.conn.execute(
        insert(_m)
        .values(collection_id=collection_id, version_id=version_id, member_index=index, created_at=stamp)
        .returning(_m.c.id)
    ).scalar_one()
    labels.place(tx, collection_id, stamp, dict.fromkeys((LATEST, *aliases)), member_id, index)
    return rows.need_member(tx.conn, member_id)


def link(
    tx: Writing, version_id: int, entity: str, project: str, collection: str, given: Iterable[str],
    allow_protected: bool,
) -> Member:
    """See Catalog.link. Linking again what is linked moves `latest` to it as well, and makes no new index."""
    aliases = labels.check_aliases(given)
    source = rows.need_living_version(tx.conn, version_id)
    found = rows.find_collection(tx.conn, entity, project, collection)
    if found is None:
        target = names.create_collection(tx, entity, project, collection, source.version.type, "portfolio", None)
    elif found.kind == "sequence":
        raise ConflictError(
            f"{entity}/{project}/{collection} is where versions are logged, so nothing can be linked to it; "
            f"choose another name"
        )
    else:
        target = names.settle_type(tx, found, source.version.type)
    here = queries.MEMBERSHIP_IN.first(tx.conn, version_id=version_id, collection_id=target.id)
    if here is not None:
        return labels.set_aliases(tx, here.id, (LATEST, *aliases), (), allow_protected)
    labels.check_protected(tx, target.id, aliases, allow_protected)
    made = _join(tx, target.id, version_id, *labels.take_index(tx, target.id), aliases)
    tx.did("link", made.entity, made.project, made.name, source=source.qualified_name, aliases=list(aliases))
    return made
