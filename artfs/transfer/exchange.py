"""Moving versions between catalogs: what `artfs push` and `artfs pull` do.

A collection goes over with its versions in their order, each with its index and the time of its commit where those are free
there, their descriptions, metadata, tags and lifetimes, and their aliases. Only blobs that the other side has not travel.
What is there already (the same tree under the same index, or under any) is not made again, so the same call again goes
on where an interrupted one ended. Links go over when what they lead to did. `latest` is given to what has it here, unless
others have made younger versions there; other aliases, unless they were changed there later than here.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from artfs.catalog.base import Catalog
from artfs.errors import BadBlobError, BadObjectError, ConflictError, SourceChangedError
from artfs.model.entry import DirEntry, FileEntry, LinkEntry, link_stays_inside
from artfs.model.pages import MAX_DEPTH, LeafPage
from artfs.model.records import Collection, Content, Member, NewVersion
from artfs.model.tree import Directory, PageCache
from artfs.store.base import LocalStore, StoreBatch
from artfs.transfer.announce import announced
from artfs.transfer.progress import Meter, OnProgress, sync

LATEST = "latest"

_GROUP = 2000
"""Blobs that are asked about together."""


@dataclass(frozen=True, slots=True)
class Side:
    """A catalog with its store."""

    catalog: Catalog
    store: LocalStore


@dataclass(frozen=True, slots=True)
class Moved:
    """One version: where it is on the other side, and whether it was made there just now."""

    source: Member
    target: Member
    created: bool


@dataclass(slots=True)
class Exchanged:
    """`versions` in the order of their commits; `links`: those that were made, as members of the other side; `left_out`: links
    whose versions were not moved; `kept`: names of aliases that were changed there later than here, and stay; `nbytes`, `blobs`:
    what travelled."""

    versions: list[Moved] = field(default_factory=list)
    links: list[Member] = field(default_factory=list)
    left_out: list[Member] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    nbytes: int = 0
    blobs: int = 0


def exchange(
    source: Side, target: Side, collections: Sequence[Collection], *, entity: str | None = None,
    only: Mapping[int, Container[int]] | None = None, allow_protected: bool = False, on_progress: OnProgress | None = None,
) -> Exchanged:
    """Moves `collections` of `source` to `target`.

    Arguments:
        entity: whose they are there; None: the same as here.
        only: by a collection's id the indexes of the versions or links to move; of collections that are not in it, all.
        on_progress: phases "copy" and "send", once a version.
    Raises ConflictError when a collection is of another kind there, or two would be one, TypeConflictError,
    AliasProtectedError, and what reading and writing raise. Whole versions that went over by then stay.
    """
    _refuse_mixing(collections, entity)
    done = Exchanged()
    over: dict[int, Member] = {}  # by the version's id here
    for collection in sorted(collections, key=lambda each: each.kind == "portfolio"):
        owner = entity or collection.entity
        members = source.catalog.members(collection.id)
        chosen = None if only is None else only.get(collection.id)
        wanted = [member for member in members if chosen is None or member.index in chosen]
        if collection.kind == "sequence":
            _move_sequence(source, target, collection, owner, members, wanted, allow_protected, on_progress, done, over)
        else:
            _move_portfolio(source, target, collection, owner, wanted, allow_protected, done, over)
    return done


def _refuse_mixing(collections: Sequence[Collection], entity: str | None) -> None:
    """Histories of two collections, one behind the other, are no history of anything."""
    first: dict[tuple[str, str, str], Collection] = {}
    for each in collections:
        other = first.setdefault((entity or each.entity, each.project, each.name), each)
        if other.id != each.id:
            names = " and ".join(f"{one.entity}/{one.project}/{one.name}" for one in (other, each))
            raise ConflictError(
                f"{names} would both be {entity}/{each.project}/{each.name}; name the projects of one entity at a time (--entity)"
            )


def _move_sequence(
    source: Side, target: Side, collection: Collection, entity: str, members: Sequence[Member], wanted: Sequence[Member],
    allow_protected: bool, on_progress: OnProgress | None, done: Exchanged, over: dict[int, Member],
) -> None:
    there = target.catalog.try_collection(entity, collection.project, collection.name)
    if there is not None and there.kind != "sequence":
        raise ConflictError(f"{entity}/{collection.project}/{collection.name} holds links there; versions cannot be logged to it")
    known = target.catalog.members(there.id) if there is not None else []
    same = _same(members, known)
    latest = _Latest(members, known, same, [member for member in wanted if member.id not in same])
    seen: set[str] = set()
    moved: list[Moved] = []
    for member in wanted:
        if member.id in same:
            moved.append(Moved(member, same[member.id], created=False))
        else:
            with target.store.begin((entity, collection.project)) as batch:
                nbytes, blobs = _copy_blobs(source.store, batch, member, seen, on_progress)
                sync(batch, on_progress, "send")
                made = target.catalog.commit(_new_version(member, entity))
            done.nbytes += nbytes
            done.blobs += blobs
            moved.append(Moved(member, made.member, made.created))
            if (owner := latest.owner_after(member, made.member)) is not None:
                target.catalog.set_aliases(owner.id, add=[LATEST])
        over[member.version.id] = moved[-1].target
    if not moved:
        return
    # Afterwards, because giving an alias is younger than any commit that comes along.
    _give_aliases(source, target, [(each.source, each.target) for each in moved], allow_protected, done)
    _describe(target.catalog, entity, collection)
    # All in one call: over a network, one for each takes longer than finding out that nothing is to be done.
    now = {member.id: member for member in target.catalog.members(moved[0].target.collection_id)}
    done.versions += [Moved(each.source, now.get(each.target.id, each.target), each.created) for each in moved]


def _same(members: Sequence[Member], known: Sequence[Member]) -> dict[int, Member]:
    """What is there already, by the id of the member here that it is: the same tree under the same index, or else under any.
    None is two: a version that went back to an earlier content is another one."""
    same: dict[int, Member] = {}
    left: dict[str, list[Member]] = {}
    there = {other.index: other for other in known}
    for member in members:
        other = there.get(member.index)
        if other is not None and other.version.digest == member.version.digest:
            same[member.id] = there.pop(member.index)
    for other in there.values():
        left.setdefault(other.version.digest, []).append(other)
    for member in members:
        if member.id not in same and (alike := left.get(member.version.digest)):
            same[member.id] = alike.pop(0)
    return same


class _Latest:
    """Whose `latest` is there. Each commit takes it, also that of an older version that comes later than a younger one."""

    def __init__(
        self, members: Sequence[Member], known: Sequence[Member], same: dict[int, Member], to_make: Sequence[Member]
    ) -> None:
        self._mine = _latest_of(members)
        self._is_coming = self._mine is not None and self._mine in to_make
        self._stays: Member | None = None  # None: with whom was made last
        holder = _latest_of(known)
        if holder is None or self._is_coming:
            return
        source = next((member for member in members if member.id in same and same[member.id].id == holder.id), None)
        if source is None:
            self._stays = holder  # somebody else's, and not ours to take
        elif self._mine is not None and self._mine.id in same:
            self._stays = same[self._mine.id]
        elif to_make and source.index > to_make[-1].index:
            self._stays = holder

    def owner_after(self, member: Member, made: Member) -> Member | None:
        """To whom `latest` is to be given when `made`, which is `member` there, has taken it; None: it stays with that."""
        if self._is_coming and self._mine is not None and member.id == self._mine.id:
            self._stays = made
            return None
        return self._stays


def _latest_of(members: Sequence[Member]) -> Member | None:
    return next((member for member in members if LATEST in member.aliases), None)


def _give_aliases(
    source: Side, target: Side, pairs: Sequence[tuple[Member, Member]], allow_protected: bool, done: Exchanged
) -> None:
    """Gives members of a collection there the aliases that they have here, but for those that were given, moved or removed there
    later than here: the same call again must not undo what others did meanwhile."""
    wanted = [
        (theirs, alias)
        for mine, theirs in pairs
        for alias in mine.aliases
        if alias not in theirs.aliases and alias != LATEST
    ]
    if not wanted:
        return
    here = _changed_at(source.catalog, pairs[0][0].collection_id)
    there = _changed_at(target.catalog, pairs[0][1].collection_id)
    given: dict[int, list[str]] = {}
    for member, alias in wanted:
        if alias in there and alias in here and there[alias] > here[alias]:
            done.kept.append(f"{member.entity}/{member.project}/{member.collection}:{alias}")
        else:
            given.setdefault(member.id, []).append(alias)
    for member_id, aliases in given.items():
        target.catalog.set_aliases(member_id, add=aliases, allow_protected=allow_protected)


def _changed_at(catalog: Catalog, collection_id: int) -> dict[str, datetime]:
    """When each alias changed last, also those that were removed."""
    return {alias: at for at, alias, _ in catalog.alias_history(collection_id)}


def _new_version(member: Member, entity: str) -> NewVersion:
    version = member.version
    return NewVersion(
        entity=entity,
        project=member.project,
        collection=member.collection,
        type=version.type,
        digest=version.digest,
        size=version.size,
        file_count=version.file_count,
        description=version.description,
        metadata=version.metadata,
        tags=version.tags,
        ttl=version.ttl,
        index=member.index,
        created_at=version.created_at,
    )


def _describe(catalog: Catalog, entity: str, collection: Collection) -> None:
    """Says of the collection there what is said here, as far as nothing is said there: also when an interrupted move made it."""
    there = catalog.try_collection(entity, collection.project, collection.name)
    if there is None:
        return
    description = None if there.description else collection.description
    tags = None if there.tags else collection.tags
    if description or tags:
        catalog.update_collection(there.id, description=description or None, tags=tags or None)


def _move_portfolio(
    source: Side, target: Side, collection: Collection, entity: str, wanted: Sequence[Member], allow_protected: bool,
    done: Exchanged, over: dict[int, Member],
) -> None:
    catalog = target.catalog
    there = catalog.try_collection(entity, collection.project, collection.name)
    known = catalog.members(there.id) if there is not None else []
    linked = {member.version.id: member for member in known}
    made: dict[int, Member] = {}  # by the link's id here
    pairs: list[tuple[Member, Member]] = []
    for member in wanted:
        version = over.get(member.version.id)
        if version is None:
            done.left_out.append(member)
        elif version.version.id in linked:
            # Linking it again would take `latest` from others.
            pairs.append((member, linked[version.version.id]))
        else:
            made[member.id] = catalog.link(version.version.id, entity, collection.project, collection.name)
            pairs.append((member, made[member.id]))
    if made:
        mine, holder = _latest_of(wanted), _latest_of(known)
        owner = made.get(mine.id, holder) if mine is not None else holder
        if owner is not None:
            catalog.set_aliases(owner.id, add=[LATEST])
    _give_aliases(source, target, pairs, allow_protected, done)
    done.links += [catalog.member(each.id) for each in made.values()]
    if made or linked:
        _describe(catalog, entity, collection)


# blobs ------------------------------------------------------------------------------------------------------------
def _copy_blobs(
    store: LocalStore, batch: StoreBatch, member: Member, seen: set[str], on_progress: OnProgress | None
) -> tuple[int, int]:
    """(bytes, blobs) of what the other side had not. `seen`: pages of trees that are there, with all below them."""
    nbytes = blobs = 0
    version = member.version
    with Meter(on_progress, f"copy {member.name}", version.file_count, version.size) as meter:
        for group in _groups(_objects(store, version.digest, seen)):
            lacking = batch.lacks([content.digest for content in group])
            wanted = {content.digest: content for content in group if content.digest in lacking}
            for content in announced(wanted.values(), _file_of, store):
                nbytes += _copy_blob(store, batch, content, meter)
                blobs += 1
    return nbytes, blobs


def _file_of(content: Content) -> tuple[Content, ...]:
    return (content,) if content.size >= 0 else ()


def _copy_blob(store: LocalStore, batch: StoreBatch, content: Content, meter: Meter) -> int:
    if content.size < 0:
        data = store.read_page(content.digest)
        batch.put_page(data)
        return len(data)
    fd = store.open_blob(content.digest, content)
    try:
        # The door computes every digest itself, so what is damaged here does not get there.
        batch.put_file(f"/proc/self/fd/{fd}", expect=content)
        meter.advance(1, content.size)
    except SourceChangedError:
        raise BadBlobError(
            f"blob {content.digest} is damaged: its bytes have another digest; `artfs verify` tells which versions have it",
            content.digest,
        ) from None
    finally:
        os.close(fd)
    return content.size


def _objects(store: LocalStore, root: str, seen: set[str]) -> Iterator[Content]:
    """The blobs of a version and the pages of its trees (size -1), without those below pages that were seen. (Block lists
    are made where the blobs arrive.) The trees are checked as readers check them: what comes from somebody else must not become
    ours with totals that lie, links that leave it, or folders without an end. Raises BadObjectError."""
    pages = PageCache(store.read_page)
    todo: list[tuple[DirEntry | None, int]] = [(None, 0)]
    while todo:
        folder, depth = todo.pop()
        if (root if folder is None else folder.digest) in seen:
            continue
        if folder is not None and depth > MAX_DEPTH:
            raise BadObjectError(f"the tree {folder.digest} is more than {MAX_DEPTH} directories deep", folder.digest)
        directory = Directory(pages, root) if folder is None else Directory.of(pages, folder)
        for digest, page in directory.read_pages(seen):
            seen.add(digest)
            yield Content(digest, -1)
            for entry in page.entries if isinstance(page, LeafPage) else ():
                if isinstance(entry, FileEntry):
                    yield entry.content
                elif isinstance(entry, DirEntry):
                    todo.append((entry, depth + 1))
                elif isinstance(entry, LinkEntry) and not link_stays_inside((b"",) * depth, entry.target):
                    raise BadObjectError(f"the tree {digest} is damaged: its link {entry.name!r} leaves the artifact", digest)


def _groups(contents: Iterator[Content]) -> Iterator[list[Content]]:
    group: list[Content] = []
    for content in contents:
        group.append(content)
        if len(group) == _GROUP:
            yield group
            group = []
    if group:
        yield group
