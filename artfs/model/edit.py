"""Making trees from flat maps of paths, whole or as changes to a tree that is there."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

import msgspec

from artfs.errors import ConflictError, InvalidNameError
from artfs.model.digests import Digest
from artfs.model.entry import DirEntry, Entry, LinkEntry, link_stays_inside, names_of
from artfs.model.pages import (
    EMPTY_TREE,
    MAX_DEPTH,
    BuiltTree,
    IndexItem,
    LeafPage,
    Totals,
    build_index,
    build_tree,
    encode_leaf,
    split_items,
)
from artfs.model.tree import Directory, PageSource


@dataclass(frozen=True, slots=True)
class BuiltManifest:
    """Trees that were made. `objects`: (digest, bytes) of every new page, children before parents, none
    twice; a page may be in the store already. Nothing else that the trees refer to (blobs, pages that were
    kept) is among them."""

    root: Digest
    totals: Totals
    objects: list[tuple[Digest, bytes]]


class _Same(Enum):
    SAME = 0


_SAME: Final = _Same.SAME
_EMPTY_DIR = build_tree(()).as_entry(b"-")


class _Node:
    """What happens at one path: `change` to what is there (None: it goes), then `children` below it."""

    __slots__ = ("change", "children")

    def __init__(self) -> None:
        self.change: Entry | _Same | None = _SAME
        self.children: dict[bytes, _Node] = {}


def build_manifest(files: Mapping[str, Entry], empty_dirs: Iterable[str] = ()) -> BuiltManifest:
    """Makes the trees of a version from a map of paths (normalised, see paths.check_path) to entries; `name`
    of an entry is ignored, the path says it. `empty_dirs`: directories that exist even if nothing is in them.

    Raises ConflictError when a path is a file and, for another path, a directory; InvalidNameError for an
    entry or a path that no tree can hold, or over MAX_DEPTH directories deep.
    """
    top = _collect(files)
    wanted = {path: _node_at(top, _split(path)) for path in empty_dirs}
    for path, node in wanted.items():
        if node.change is not _SAME:
            raise _two_kinds([os.fsencode(path)])
        if not node.children:
            node.change = _EMPTY_DIR
    return _finish(None, None, top)


def edit_tree(source: PageSource, top: Directory, changes: Mapping[str, Entry | None]) -> BuiltManifest:
    """The tree `top`, an artifact's root, with `changes`: path -> what is there then (`name` is ignored), or
    None: what is there goes, with all below it; removing what is not there changes nothing. A directory that
    loses its last entry this way goes, too.

    A DirEntry puts a whole tree there, as it is. Reads and makes only pages that change (and reads the index
    pages of directories that change). Raises ConflictError when a path leads through what is (and stays) a
    file; otherwise as build_manifest, and what reading pages raises.
    """
    return _finish(source, top, _collect(changes))


def _finish(source: PageSource | None, old: Directory | None, top: _Node) -> BuiltManifest:
    out: dict[Digest, bytes] = {}
    built = _apply(source, old, top, (), out)
    out.update(built.pages)
    return BuiltManifest(built.digest, built.totals, list(out.items()))


def _split(path: str) -> list[bytes]:
    try:
        parts = os.fsencode(path).split(b"/")
    except UnicodeEncodeError:
        raise InvalidNameError(
            f"invalid artifact path {path!r}: it holds text that cannot be a file name"
        ) from None
    if len(parts) > MAX_DEPTH + 1:
        raise InvalidNameError(f"invalid artifact path {path[:80]!r}…: over {MAX_DEPTH} directories deep")
    return parts


def _node_at(top: _Node, parts: Sequence[bytes]) -> _Node:
    node = top
    for part in parts:
        below = node.children.get(part)
        if below is None:
            below = node.children[part] = _Node()
        node = below
    return node


def _collect(changes: Mapping[str, Entry | None]) -> _Node:
    top = _Node()
    for path, change in changes.items():
        parts = _split(path)
        if isinstance(change, LinkEntry) and not link_stays_inside(parts[:-1], change.target):
            raise InvalidNameError(
                f"the link {path!r} to {os.fsdecode(change.target)!r} leaves the artifact; "
                "a link must be relative and stay inside (with '..' only at its beginning)"
            )
        _node_at(top, parts).change = change
    return top


def _two_kinds(where: Sequence[bytes]) -> ConflictError:
    path = os.fsdecode(b"/".join(where))
    return ConflictError(f"{path!r} is a file or link, and a directory for another path; it cannot be both")


def _apply(
    source: PageSource | None,
    old: Directory | None,
    node: _Node,
    where: tuple[bytes, ...],
    out: dict[Digest, bytes],
) -> BuiltTree:
    """The directory `old` (None: an empty one) with what `node` says below it. New pages below it go to
    `out`; its own do not, because it may turn out not to be wanted."""
    updates: dict[bytes, Entry | None] = {}
    for name, child in node.children.items():
        here = (*where, name)
        if not child.children:
            if child.change is not _SAME:
                updates[name] = _named(child.change, name, out)
            continue
        found = old.lookup(name) if old is not None and child.change is _SAME else None
        before = found[1] if found is not None else None
        base = Directory.of(source, before) if source is not None and isinstance(before, DirEntry) else None
        made = _apply(source, base, child, here, out)
        goes = made.totals.count == 0 and (base is None or base.digest != made.digest)
        if base is None and (before is not None or isinstance(child.change, Entry)):
            if not goes:
                raise _two_kinds(here)
            if child.change is not _SAME:
                updates[name] = _named(child.change, name, out)
        elif not goes:
            out.update(made.pages)
            updates[name] = made.as_entry(name)
        elif base is not None or child.change is None:
            updates[name] = None
    if old is None:
        return build_tree(entry for entry in updates.values() if entry is not None)
    return update_directory(old, updates)


def _named(change: Entry | None, name: bytes, out: dict[Digest, bytes]) -> Entry | None:
    if change is None:
        return None
    if isinstance(change, DirEntry) and change.digest == EMPTY_TREE:
        out.update(build_tree(()).pages)  # nobody else may have made the empty page
    return change if change.name == name else msgspec.structs.replace(change, name=name)


def _merge(
    entries: Sequence[Entry], updates: Mapping[bytes, Entry | None], names: Iterable[bytes]
) -> list[Entry]:
    merged: dict[bytes, Entry | None] = dict(zip(names_of(entries), entries, strict=True))
    for name in names:
        merged[name] = updates[name]
    return [entry for _, entry in sorted(merged.items()) if entry is not None]


def update_directory(old: Directory, updates: Mapping[bytes, Entry | None]) -> BuiltTree:
    """`old` with the entries of `updates` set, by name (which must be the entry's own), or removed (None; one
    that is not there is fine). Pages that it had already are not in the result: none, if nothing changed.

    Raises InvalidNameError for what no tree can hold, and what reading pages raises.
    """
    if not updates:
        return BuiltTree(old.digest, old.totals, [])
    if isinstance(old.root, LeafPage):
        built = build_tree(_merge(old.root.entries, updates, updates))
        return built if built.digest != old.digest else BuiltTree(old.digest, old.totals, [])
    names = sorted(updates)
    pages: list[tuple[Digest, bytes]] = []
    items: list[IndexItem] = []

    def finish(entries: Sequence[Entry]) -> None:
        item, _, digest, data = encode_leaf(entries)
        assert item is not None
        items.append(item)
        pages.append((digest, data))

    # A page that begins where one began before is the same unless one of its names changes: so pages are made
    # anew only from the first changed name on, until a new page ends where an old one did.
    pending: list[Entry] = []
    done = 0
    refs = list(old.page_refs())
    for ref in refs:
        if ref.level:
            continue
        until = done
        while until < len(names) and (ref.upper is None or names[until] < ref.upper):
            until += 1
        if until == done and not pending:
            items.append(ref.item)
            continue
        page = old.read(ref)
        assert isinstance(page, LeafPage)
        pending += _merge(page.entries, updates, names[done:until])
        done = until
        start = 0
        for end in split_items(names_of(pending), 0, closed=False):
            finish(pending[start:end])
            start = end
        del pending[:start]
    if pending:
        finish(pending)
    if not items:
        return build_tree(())
    built = build_index(items)
    known = {old.digest, *(ref.item.digest for ref in refs)}
    return BuiltTree(
        built.digest, built.totals, [page for page in pages + built.pages if page[0] not in known]
    )
