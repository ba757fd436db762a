"""Renames inside a draft, over its own files, stand-ins and inherited names."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeAlias

from artfs.store.standins import BASE_NAME, GONE, exchange
from artfsd.draftfiles import DraftFile
from artfsd.draftlinks import DraftLink
from artfsd.inodes import NAME_MAX, refuse

if TYPE_CHECKING:
    from artfsd.drafts import DraftDir
    from artfsd.livedraft import LiveDraft

    Item: TypeAlias = DraftDir | DraftFile | DraftLink

RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
FILES = (DraftFile, DraftLink)
"""What is not a directory."""


def rename(source: DraftDir, name: bytes, target: DraftDir, new_name: bytes, flags: int) -> None:
    """rename(2) of `name` in `source` to `new_name` in `target`, a directory of the same draft. Raises OSError with
    rename's errno values."""
    source.draft.check_settled()
    if len(new_name) > NAME_MAX:
        refuse(errno.ENAMETOOLONG)
    if new_name == BASE_NAME:
        refuse(errno.EPERM)
    node = source.find(name)
    over = target.find(new_name)
    if node is None:
        refuse(errno.ENOENT)
    if flags not in (0, RENAME_NOREPLACE, RENAME_EXCHANGE):
        refuse(errno.EINVAL)
    if over is not None and flags & RENAME_NOREPLACE:
        refuse(errno.EEXIST)
    if over is node:
        return
    if flags & RENAME_EXCHANGE:
        if over is None:
            refuse(errno.ENOENT)
        _swap(source, name, node, target, new_name, over)
        return
    if isinstance(node, FILES):
        if over is not None and not isinstance(over, FILES):
            refuse(errno.EISDIR)
    elif isinstance(over, FILES):
        refuse(errno.ENOTDIR)
    elif over is not None and over.names():
        refuse(errno.ENOTEMPTY)
    hide = source.in_base(name) is not None
    target.in_base(new_name)  # loads what moving may need before anything changes
    source.materialize()
    target.materialize()
    if isinstance(over, FILES):
        over.hold()
    known = node.known_record() if isinstance(node, DraftFile) else None
    if isinstance(node, FILES):
        _move_file(source, node, name, target, new_name, hide, over is None)
    else:
        _move_directory(node, target, new_name, over, hide)
    source.children.pop(name, None)
    if over is not None:
        target.children.pop(new_name, None)
        if isinstance(over, FILES):
            over.lost_name(target, new_name)
    _has_moved(node, source, name, target, new_name)
    if isinstance(node, DraftFile):
        node.refresh_record(known)


def _has_moved(node: Item, source: DraftDir, name: bytes, target: DraftDir, new_name: bytes) -> None:
    target.children[new_name] = node
    if isinstance(node, FILES):
        node.renamed(source, name, target, new_name)
    else:
        node.parent, node.name = target, new_name
        node.above = target.ino
        node.draft.moves += 1


def _swap(source: DraftDir, name: bytes, node: Item, target: DraftDir, new_name: bytes, over: Item) -> None:
    source.materialize()
    target.materialize()
    known = [(each, each.known_record()) for each in (node, over) if isinstance(each, DraftFile)]
    exchange(_on_disk(source, name, node), _on_disk(target, new_name, over))
    _has_moved(node, source, name, target, new_name)
    _has_moved(over, target, new_name, source, name)
    for each, record in known:
        each.refresh_record(record)


def _on_disk(folder: DraftDir, name: bytes, node: Item) -> bytes:
    """Where it is in the backing. What is inherited is put there, which shows nothing that was not there."""
    path = folder.path + b"/" + name
    if not isinstance(node, FILES):
        node.materialize()
    elif not os.path.lexists(path):
        _place(node, path)
    return path


def _place(node: DraftFile | DraftLink, path: bytes) -> None:
    if isinstance(node, DraftFile):
        node.place_stand_in(path)
    else:
        node.place(path)


def _move_file(
    source: DraftDir, node: DraftFile | DraftLink, name: bytes, target: DraftDir, new_name: bytes, hide: bool, is_free: bool
) -> None:
    old, dest = source.path + b"/" + name, target.path + b"/" + new_name
    if hide and is_free:
        with _free(dest):
            exchange(_on_disk(source, name, node), dest)
        return
    with _hiding(source.draft, old, hide):
        if os.path.lexists(old):
            os.rename(old, dest)
        else:
            _place(node, dest)


def _move_directory(
    node: DraftDir, target: DraftDir, new_name: bytes, over: Item | None, hide: bool
) -> None:
    old, dest = node.path, target.path + b"/" + new_name
    hide = hide or not node.backed
    if over is None and (hide or os.path.lexists(dest)):
        with _free(dest):
            node.materialize()
            exchange(old, dest)
        if not hide:
            os.unlink(old)  # nothing is below it
        return
    moved = old if node.backed else node.make_aside()
    with _hiding(target.draft, old, hide):
        if over is not None and not isinstance(over, FILES) and over.backed:
            target.draft.staged.scratch.replace_directory(dest, None)
        os.rename(moved, dest)
    node.backed = True


@contextlib.contextmanager
def _free(dest: bytes) -> Iterator[None]:
    """Where there is nothing to be seen lies a whiteout then, to be exchanged with what is moved there: in one step that has its
    new name, and what the base has at its old one is hidden. After an error it is as before."""
    made = not os.path.lexists(dest)
    if made:
        os.symlink(GONE, dest)
    try:
        yield
    except BaseException:
        if made:
            os.unlink(dest)
        raise


@contextlib.contextmanager
def _hiding(draft: LiveDraft, old: bytes, hide: bool) -> Iterator[None]:
    """Hides what the base has at `old` after it was moved. What does that is made before, so that a full disk is met while
    nothing has been moved: otherwise the base's entry would be there again, and what was moved nowhere that anybody knows of."""
    if not hide:
        yield
        return
    aside = draft.staged.scratch.name()
    os.symlink(GONE, aside)
    try:
        yield
    except BaseException:
        os.unlink(aside)
        raise
    os.rename(aside, old)
