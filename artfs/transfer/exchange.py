"""Moving versions between catalogs: what `artfs push` and `artfs pull` do.

A collection goes over with its versions in their order, each with its index and the time of its commit where those are free
there, their descriptions, metadata, tags and lifetimes, and their aliases. Only blobs that the other side has not travel.
What is there already (the same tree under the same index, or under any) is not made again, so the same call again goes
on where an interrupted one ended. Links go over when what they lead to did.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from artfs.catalog.base import Catalog
from artfs.errors import BadBlobError, BadObjectError, ConflictError, SourceChangedError
from artfs.model.entry import DirEntry, FileEntry, LinkEntry, link_stays_inside
from artfs.model.pages import MAX_DEPTH, LeafPage
from artfs.model.records import Collection, Content, Member, NewVersion
from artfs.model.tree import Directory, PageCache
from artfs.store.base import LocalStore, StoreBatch
from artfs.transfer.announce import announced
from artfs.transfer.progress import Meter, OnProgress, sync

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
    whose versions were not moved; `nbytes`, `blobs`: what travelled."""

    versions: list[Moved] = field(default_factory=list)
    links: list[Member] = field(default_factory=list)
    left_out: list[Member] = field(default_factory=list)
    nbytes: int = 0
    blobs: int = 0


def exchange(
    source: Side, target: Side, collections: Sequence[Collection], *, entity: str | None = None,
    only: Sequence[int] | None = None, allow_protected: bool = False, on_progress: OnProgress | None = None,
) -> Exchanged:
    """Moves `collections` of `source` to `target`.

    Arguments:
        entity: whose they are there; None: the same as here.
        only: indexes of the versions to move; None: all. (For one collection.)
        on_progress: phases "copy" and "send", once a version.
    Raises ConflictError when a collection is of another kind there, TypeConflictError, AliasProtectedError, and what
    reading and writing raise. Whole versions that went over by then stay.
    """
    done = Exchanged()
    over: dict[int, Member] = {}  # by the version's id here
    for collection in sorted(collections, key=lambda each: each.kind == "portfolio"):
        owner = entity or collection.entity
        if collection.kind == "sequence":
            _move_sequence(source, target, collection, owner, only, allow_protected, on_progress, done, over)
        else:
            _move_portfolio(source, target, collection, owner, allow_protected, done, over)
    return done


def _move_sequence(
    source: Side, target: Side, collection: Collection, entity: str, only: Sequence[int] | None, allow_protected: bool,
    on_progress: OnProgress | None, done: Exchanged, over: dict[int, Member],
) -> None:
    there = target.catalog.try_collection(entity, collection.project, collection.name)
    if there is not None and there.kind != "sequence":
        raise ConflictError(f"{entity}/{collection.project}/{collection.name} holds links there; versions cannot be logged to it")
    known = target.catalog.members(there.id) if there is not None else []
    seen: set[str] = set()
    moved: list[Moved] = []
    for member in source.catalog.members(collection.id):
        if only is not None and member.index not in only:
            continue
        same = _same(member, known)
        if same is None:
            with target.store.begin((entity, collection.project)) as batch:
                nbytes, blobs = _copy_blobs(source.store, batch, member, seen, on_progress)
                sync(batch, on_progress, "send")
                made = target.catalog.commit(_new_version(member, entity)).member
            done.nbytes += nbytes
            done.blobs += blobs
            moved.append(Moved(member, made, created=True))
        else:
            moved.append(Moved(member, same, created=False))
        over[member.version.id] = moved[-1].target
    # Afterwards, because giving an alias is younger than any commit that comes along.
    for each in moved:
        wanted = [alias for alias in each.source.aliases if alias not in each.target.aliases and alias != "latest"]
        if wanted:
            target.catalog.set_aliases(each.target.id, add=wanted, allow_protected=allow_protected)
    if there is None and moved:
        _describe(target.catalog, moved[0].target.collection_id, collection)
    done.versions += [Moved(each.source, target.catalog.member(each.target.id), each.created) for each in moved]


def _same(member: Member, known: Sequence[Member]) -> Member | None:
    """What is this version there already."""
    alike = [other for other in known if other.version.digest == member.version.digest]
    return next((other for other in alike if other.index == member.index), alike[0] if alike else None)


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


def _describe(catalog: Catalog, collection_id: int, collection: Collection) -> None:
    if collection.description or collection.tags:
        catalog.update_collection(collection_id, description=collection.description, tags=collection.tags)


def _move_portfolio(
    source: Side, target: Side, collection: Collection, entity: str, allow_protected: bool, done: Exchanged,
    over: dict[int, Member],
) -> None:
    made: Member | None = None
    for member in source.catalog.members(collection.id):
        there = over.get(member.version.id)
        if there is None:
            done.left_out.append(member)
            continue
        aliases = [alias for alias in member.aliases if alias != "latest"]
        made = target.catalog.link(
            there.version.id, entity, collection.project, collection.name, aliases, allow_protected=allow_protected
        )
        done.links.append(made)
    if made is not None:
        _describe(target.catalog, made.collection_id, collection)


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
        batch.put_bytes(data)
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
