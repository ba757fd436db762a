"""Aliases and tags, and the clock of a collection: the changes that most writing operations share.

Every change of an alias goes through `place` or `drop`, which record it in alias_events.
"""

from __future__ import annotations

from collections.abc import Collection as Some
from collections.abc import Iterable

from sqlalchemy import Column, ColumnElement, Table, case, delete, insert, select, text, update

from artfs.catalog import schema
from artfs.catalog.sql import queries, rows
from artfs.catalog.sql.engine import Writing
from artfs.errors import AliasInUseError, AliasProtectedError
from artfs.model import names
from artfs.model.records import Member

LATEST = "latest"

_aliases, _events = schema.aliases, schema.alias_events
_c, _m, _v = schema.collections, schema.memberships, schema.versions


def as_names(given: Iterable[str], what: str) -> tuple[str, ...]:
    """`given` without duplicates, in its order. A lone str is a TypeError: its letters are hardly what was meant."""
    if isinstance(given, str):
        raise TypeError(f"{what} must be several str, not one: [{given!r}]")
    return tuple(dict.fromkeys(given))


def check_aliases(given: Iterable[str]) -> tuple[str, ...]:
    return tuple(names.check_alias(alias) for alias in as_names(given, "aliases"))


def check_tags(given: Iterable[str]) -> tuple[str, ...]:
    return tuple(names.check_tag(tag) for tag in as_names(given, "tags"))


def touch(tx: Writing, collection_id: int) -> int:
    """Marks the collection as changed by this transaction, and returns the transaction's stamp there: now, but later
    than that of any transaction before."""
    if collection_id in tx.stamps:
        return tx.stamps[collection_id]
    query = update(_c).where(_c.c.id == collection_id).values(updated_at=_later(tx)).returning(_c.c.updated_at)
    stamp = int(tx.conn.execute(query).scalar_one())
    tx.stamps[collection_id] = stamp
    return stamp


def take_index(tx: Writing, collection_id: int, least: int | None = None) -> tuple[int, int]:
    """N of the next vN of the collection (at least `least`), and the transaction's stamp there (see `touch`)."""
    following_index = _c.c.next_index + 1
    if least is not None:
        following_index = case((_c.c.next_index < least, least), else_=_c.c.next_index) + 1
    known = tx.stamps.get(collection_id)
    query = (
        update(_c)
        .where(_c.c.id == collection_id)
        .values(next_index=following_index, updated_at=_later(tx) if known is None else known)
        .returning(_c.c.next_index, _c.c.updated_at)
    )
    following, stamp = tx.conn.execute(query).one()
    tx.stamps[collection_id] = stamp
    return following - 1, stamp


def _later(tx: Writing) -> ColumnElement[int]:
    return case((_c.c.updated_at < tx.now, tx.now), else_=_c.c.updated_at + 1)


# Both databases know it in these words; SQLAlchemy has a construct for each.
_PLACE = text(
    "INSERT INTO aliases (collection_id, alias, membership_id) VALUES (:collection_id, :alias, :membership_id) "
    "ON CONFLICT (collection_id, alias) DO UPDATE SET membership_id = excluded.membership_id"
)


def place(tx: Writing, collection_id: int, stamp: int, given: Iterable[str], member_id: int, index: int) -> None:
    """Makes the aliases, which this member has not yet, name it, wherever they were before."""
    new = list(given)
    if new:
        named = [{"collection_id": collection_id, "alias": alias, "membership_id": member_id} for alias in new]
        tx.conn.execute(_PLACE, named)
        _record(tx, collection_id, stamp, new, index)


def drop(tx: Writing, collection_id: int, stamp: int, given: Iterable[str]) -> None:
    """Removes aliases that are there."""
    gone = list(given)
    if gone:
        tx.conn.execute(delete(_aliases).where(_aliases.c.collection_id == collection_id, _aliases.c.alias.in_(gone)))
        _record(tx, collection_id, stamp, gone, None)


def vacate(tx: Writing, member: Member, stamp: int) -> None:
    """Takes all aliases from a member that is about to leave its collection. `latest` moves to the newest member that
    stays (the largest index); when there is none, it goes too."""
    others = [alias for alias in member.aliases if alias != LATEST]
    drop(tx, member.collection_id, stamp, others)
    if LATEST not in member.aliases:
        return
    newest = tx.conn.execute(
        select(_m.c.id, _m.c.member_index)
        .join(_v, _m.c.version_id == _v.c.id)
        .where(_m.c.collection_id == member.collection_id, _m.c.id != member.id, queries.IS_COMMITTED)
        .order_by(_m.c.member_index.desc())
        .limit(1)
    ).one_or_none()
    if newest is None:
        drop(tx, member.collection_id, stamp, [LATEST])
    else:
        place(tx, member.collection_id, stamp, [LATEST], newest.id, newest.member_index)


def refuse_if_aliased(members: Iterable[Member]) -> None:
    used = [f"{member.collection}:{alias}" for member in members for alias in member.aliases]
    if used:
        raise AliasInUseError(
            f"{rows.some(used)} would go with it; remove the aliases first, or delete with delete_aliases=True "
            f"(`--delete-aliases`)"
        )


def _record(tx: Writing, collection_id: int, stamp: int, given: Iterable[str], index: int | None) -> None:
    rows = [{"collection_id": collection_id, "at": stamp, "alias": alias, "member_index": index} for alias in given]
    tx.conn.execute(insert(_events), rows)


def check_protected(tx: Writing, collection_id: int, changed: Iterable[str], allowed: bool) -> None:
    """Raises AliasProtectedError when one of the aliases is protected in the collection's project, and this is not
    `allowed`."""
    others = [alias for alias in changed if alias != LATEST]
    if allowed or not others:
        return
    protected = schema.protected_aliases
    query = (
        select(protected.c.alias)
        .join(_c, protected.c.project_id == _c.c.project_id)
        .where(_c.c.id == collection_id, protected.c.alias.in_(others))
        .order_by(protected.c.alias)
    )
    if found := list(tx.conn.execute(query).scalars()):
        collection = rows.need_collection_id(tx.conn, collection_id)
        raise AliasProtectedError(
            f"{rows.some([f'{collection.name}:{alias}' for alias in found])} is protected in "
            f"{collection.entity}/{collection.project}: it can be given, moved or removed only with --allow-protected "
            f"(ARTFS_ALLOW_PROTECTED=1)"
        )


def set_aliases(
    tx: Writing, member_id: int, add: Iterable[str], remove: Iterable[str], allow_protected: bool = False
) -> Member:
    """See Catalog.set_aliases. An alias both removed and added stays. When nothing changes, nothing is written."""
    wanted = check_aliases(add)
    unwanted = as_names(remove, "aliases")
    member = rows.need_living_member(tx.conn, member_id)
    gone = [alias for alias in unwanted if alias in member.aliases and alias not in wanted]
    new = [alias for alias in wanted if alias not in member.aliases]
    if not gone and not new:
        return member
    check_protected(tx, member.collection_id, [*gone, *new], allow_protected)
    stamp = touch(tx, member.collection_id)
    drop(tx, member.collection_id, stamp, gone)
    place(tx, member.collection_id, stamp, new, member.id, member.index)
    tx.did("set_aliases", member.entity, member.project, member.name, add=new, remove=gone)
    return rows.need_member(tx.conn, member_id)


def change_tags(
    tx: Writing, table: Table, owner: Column[int], owner_id: int, *, add: Iterable[str], remove: Some[str]
) -> bool:
    """Removes, then adds, tags in `table` (version_tags or collection_tags). Returns whether anything changed."""
    mine = owner == owner_id
    there = set(tx.conn.execute(select(table.c.tag).where(mine)).scalars())
    gone = there.intersection(remove).difference(add)
    new = [tag for tag in add if tag not in there]
    if gone:
        tx.conn.execute(delete(table).where(mine, table.c.tag.in_(gone)))
    if new:
        tx.conn.execute(insert(table), [{owner.name: owner_id, "tag": tag} for tag in new])
    return bool(gone or new)


def tag_version(tx: Writing, version_id: int, add: Iterable[str], remove: Some[str] = ()) -> bool:
    table = schema.version_tags
    return change_tags(tx, table, table.c.version_id, version_id, add=add, remove=remove)
