"""Drafts as writable directories: inodes and handles over the staged tree on disk (artfs.store.staging, standins).

Names and bytes are the backing file system's; a node remembers where its backing is. A directory shows what lies in
its backing directory on top of the tree that it started as (its base). Content that the draft did not write is a
stand-in until somebody writes to it (copy on write). The kernel is the only one who changes a draft, so it may keep
names and attributes for ever.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from artfs.model.entry import DirEntry, Entry, FileEntry, LinkEntry, RefEntry
from artfs.model.tree import Directory, Totals
from artfs.store.linux import PATH_MAX, sync_path
from artfs.store.standins import (
    BASE_NAME,
    GONE,
    PREFIX,
    Slot,
    TreeBase,
    entry_target,
    exchange,
    keeping_times,
    plain_mode,
    read_base,
    read_slot,
    tree_target,
)
from artfsd.draftfiles import DraftFile
from artfsd.draftinfo import info_xattrs, with_xattr
from artfsd.draftlinks import OWN, DraftLink, Style
from artfsd.draftmoves import rename
from artfsd.inodes import (
    DIR_MODE,
    NAME_MAX,
    NO_SUCH_NAME,
    Attr,
    DirHandle,
    FileHandle,
    ListHandle,
    Node,
    refuse,
)
from artfsd.versions import DIR_SIZE, VersionFile

if TYPE_CHECKING:
    from artfsd.livedraft import LiveDraft


class Backing(NamedTuple):
    """Where a draft's directory is: `backed` in a backing directory, otherwise (not touched yet) only in the tree
    `base`."""

    backed: bool
    base: TreeBase | None


class DraftDir(Node):
    """A directory of a draft."""

    __slots__ = (
        "_directory",
        "_path",
        "_path_moves",
        "backed",
        "base",
        "children",
        "complete",
        "draft",
        "name",
        "parent",
    )
    has_owner = True
    is_dir = True

    def __init__(
        self,
        draft: LiveDraft,
        parent: DraftDir | None,
        name: bytes,
        where: Backing,
        *,
        complete: bool = False,
    ) -> None:
        super().__init__()
        self.draft = draft
        self.parent = parent
        if parent is not None:
            self.above = parent.ino
        self.name = name
        self.backed = where.backed
        self.base = where.base
        self.children: dict[bytes, DraftDir | DraftFile | DraftLink] = {}
        self.complete = complete  # `children` is all that there is: it was made here, and no child was forgotten
        self._path = b""
        self._path_moves = -1
        self._directory: Directory | None = None
        draft.trees.table.add(self)

    @property
    def lasting(self) -> bool:
        return self.parent is None and not self.draft.dead

    # where it is -------------------------------------------------------------------------------------------------
    @property
    def path(self) -> bytes:
        if self._path_moves != self.draft.moves:
            self._find_path()
        return self._path

    def _find_path(self) -> None:
        """Nor does this call itself: folders may be nested thousands deep."""
        moves, stale, node = self.draft.moves, [self], self.parent
        while node is not None and node._path_moves != moves:
            stale.append(node)
            node = node.parent
        for node in reversed(stale):
            node._path = self.draft.staged.files if node.parent is None else node.parent._path + b"/" + node.name
            node._path_moves = moves

    def display_path(self, name: bytes = b"") -> bytes:
        parts = [name] if name else []
        node: DraftDir = self
        while node.parent is not None:
            parts.append(node.name)
            node = node.parent
        return b"/".join(reversed(parts))

    def label(self) -> str:
        return f"drafts/{self.draft.staged.label}/{os.fsdecode(self.display_path())}".rstrip("/")

    def in_base(self, name: bytes) -> Entry | None:
        """What the base has under `name`, whether or not the draft hides it. May raise Later."""
        if self.base is None:
            return None
        if self._directory is None:
            self._directory = Directory(self.draft.trees.pages, self.base.digest, None)
        found = self._directory.lookup(name)
        return found[1] if found is not None else None

    def slot(self, name: bytes) -> Slot | None:
        return read_slot(self.path + b"/" + name, name) if self.backed else None

    def materialize(self) -> None:
        """Gives the directory a backing directory, which starts as its tree."""
        if self.backed:
            return
        assert self.parent is not None and self.base is not None
        self.parent.materialize()
        aside = self.make_aside()
        with keeping_times(self.parent.path):
            os.rename(aside, self.path)
        self.backed = True

    def make_aside(self) -> bytes:
        """A new directory with this one's base and time, under a scratch name."""
        aside = self.draft.staged.scratch.name()
        os.mkdir(aside, 0o755)
        os.chmod(aside, DIR_MODE & 0o777)  # whatever the umask is
        if self.base is not None:
            os.symlink(tree_target(self.base), aside + b"/" + BASE_NAME)
        os.utime(aside, ns=(self.draft.base_ns, self.draft.base_ns))
        return aside

    # looking -----------------------------------------------------------------------------------------------------
    def find(self, name: bytes) -> DraftDir | DraftFile | DraftLink | None:
        """The node under `name`, made when it is there. May raise Later."""
        node = self.children.get(name)
        if node is not None:
            return node
        if self.draft.dead or self.complete:
            return None
        return self._find_on_disk(name)

    def _find_on_disk(self, name: bytes) -> DraftDir | DraftFile | DraftLink | None:
        if name == BASE_NAME:
            return None
        slot = self.slot(name)
        if slot is None:
            node = self._inherited(name, self.in_base(name))
        elif slot.gone:
            return None
        elif slot.entry is not None:
            node = DraftFile(self.draft, self, name, slot.entry, Style.of(slot))
        elif slot.target is not None:
            known = self.draft.by_inode.get(slot.stat.st_ino)
            if isinstance(known, DraftLink):
                node = known
                node.add_name(self, name)
            else:
                node = DraftLink(self.draft, self, name, slot.target, Style.of(slot))
                node.own(slot.stat)
        elif stat.S_ISDIR(slot.stat.st_mode):
            node = DraftDir(self.draft, self, name, Backing(True, read_base(self.path + b"/" + name)))
        elif stat.S_ISREG(slot.stat.st_mode):
            known = self.draft.by_inode.get(slot.stat.st_ino)
            if isinstance(known, DraftFile):
                node = known
                node.add_name(self, name)
            else:
                node = DraftFile(self.draft, self, name)
                node.own(slot.stat)
        else:
            return None  # nothing that the mount makes
        if node is not None:
            self.children[name] = node
        return node

    def _inherited(self, name: bytes, entry: Entry | None) -> DraftDir | DraftFile | DraftLink | None:
        base_ns, trees = self.draft.base_ns, self.draft.trees
        style = Style(0, trees.uid, trees.gid, base_ns, base_ns, base_ns)
        if isinstance(entry, FileEntry | RefEntry):
            return DraftFile(self.draft, self, name, entry, style._replace(mode=plain_mode(entry)))
        if isinstance(entry, DirEntry):
            totals = Totals(0, entry.size, entry.file_count)  # its count stands in its own tree
            return DraftDir(self.draft, self, name, Backing(False, TreeBase(entry.digest, totals)))
        if isinstance(entry, LinkEntry):
            return DraftLink(self.draft, self, name, entry.target, style)
        return None

    def lookup(self, name: bytes) -> Attr:
        if len(name) > NAME_MAX:
            refuse(errno.ENAMETOOLONG)
        node = self.find(name)
        if node is None:
            if self.draft.dead:
                refuse(errno.ENOENT)
            return NO_SUCH_NAME
        return node.attr()

    def forgotten(self) -> None:
        if self.parent is not None:
            self.parent.forget_child(self.name, self)

    def forget_child(self, name: bytes, node: Node) -> None:
        """The kernel knows the child no more; it is found again when somebody asks for it."""
        if self.children.get(name) is node:
            del self.children[name]
            self.complete = False

    @property
    def removed(self) -> bool:
        """Whether it has no name any more, and is still known because somebody stands in it or holds it open."""
        return self.draft.dead or (self.parent is not None and self.parent.children.get(self.name) is not self)

    def attr(self) -> Attr:
        trees, removed = self.draft.trees, self.removed
        if self.backed and not removed:
            try:
                status = os.lstat(self.path)
            except FileNotFoundError:
                status = None  # removed, but somebody stands in it
            if status is not None:
                attr = Attr(self.ino, status.st_mode, DIR_SIZE, status.st_mtime_ns, status.st_uid, status.st_gid)
                attr.ctime_ns = status.st_ctime_ns
                attr.atime_ns = status.st_atime_ns
                return attr
        nlink = 0 if removed else 1
        return Attr(self.ino, DIR_MODE, DIR_SIZE, self.draft.base_ns, trees.uid, trees.gid, nlink=nlink)

    def names(self) -> list[bytes]:
        """Every name that the directory shows. May raise Later, in the middle of a large base more than once."""
        if self.draft.dead:
            return []
        shown: list[bytes] = []
        hidden: set[bytes] = set()
        if self.backed:
            try:
                entries = list(os.scandir(self.path))
            except FileNotFoundError:
                return []
            for entry in entries:
                if entry.name == BASE_NAME:
                    continue
                hidden.add(entry.name)
                if not (entry.is_symlink() and os.readlink(entry.path) == GONE):
                    shown.append(entry.name)
        if self.base is not None:
            self.in_base(b"\0")  # loads the directory
            assert self._directory is not None
            shown.extend(entry.name for _, entry in self._directory.entries() if entry.name not in hidden)
        return shown

    def open_dir(self) -> DirHandle:
        def entries() -> list[tuple[bytes, Callable[[], Attr | None]]]:
            return [(name, lambda name=name: self._attr_or_none(name)) for name in self.names()]  # type: ignore[misc]

        return ListHandle(self.draft.trees.table, entries, self._sync)

    def _sync(self) -> None:
        """In a thread. A directory that the draft has not changed, or that is gone, has nothing to sync."""
        with contextlib.suppress(FileNotFoundError):
            if self.backed:
                sync_path(os.fsdecode(self.path))

    def _attr_or_none(self, name: bytes) -> Attr | None:
        node = self.find(name)
        return node.attr() if node is not None else None

    # changing ----------------------------------------------------------------------------------------------------
    def _prepare(self, name: bytes, *, exclusive: bool = False) -> bytes:
        """Where `name` is to be made. Refuses names that cannot be, and those that are there; `exclusive`: the system call that
        makes it refuses what lies in the backing directory itself. Of a draft whose commit may have ended nothing is made before
        that was taken back: otherwise it would go with the draft when the commit is found to have ended."""
        self.draft.check_settled()
        if len(name) > NAME_MAX:
            refuse(errno.ENAMETOOLONG)
        if name == BASE_NAME:
            refuse(errno.EPERM)
        if (self.base is not None or not exclusive) and self.find(name) is not None:
            refuse(errno.EEXIST)
        self.materialize()
        return self.path + b"/" + name

    def create(self, name: bytes, mode: int, flags: int) -> tuple[FileHandle, Attr]:
        path = self._prepare(name, exclusive=True)
        how = os.O_RDWR | os.O_CREAT | os.O_EXCL
        try:
            fd = self.draft.open_backing(path, how, mode & 0o7777)
        except FileExistsError:
            self._only_whiteout(name)
            aside = self.draft.staged.scratch.name()
            fd = self.draft.open_backing(aside, how, mode & 0o7777)
            self._as_made_here(aside)
            os.rename(aside, path)
        status = os.fstat(fd)
        if mode & ~status.st_mode & 0o777:
            # The kernel took the caller's umask off, the system call ours.
            os.fchmod(fd, status.st_mode & 0o7000 | mode & 0o777)
            status = os.fstat(fd)
        node = DraftFile(self.draft, self, name)
        node.own(status)
        self.children[name] = node
        handle = node.opened(fd, flags, status.st_mode, fresh=True)
        return handle, node.attr_from(status)

    def _as_made_here(self, made: bytes) -> None:
        """What was made aside gets the group that it would have been made with, where this folder gives its own."""
        status = os.lstat(self.path)
        if not status.st_mode & stat.S_ISGID:
            return
        mode = os.lstat(made).st_mode
        os.lchown(made, -1, status.st_gid)
        if not stat.S_ISLNK(mode):
            os.chmod(made, stat.S_IMODE(mode) | (stat.S_ISGID if stat.S_ISDIR(mode) else 0))

    def _only_whiteout(self, name: bytes) -> None:
        slot = self.slot(name)
        if slot is None or not slot.gone:
            refuse(errno.EEXIST)

    def mkdir(self, name: bytes, mode: int) -> Attr:
        path = self._prepare(name, exclusive=True)
        if len(path) + len(b"/" + BASE_NAME) > PATH_MAX:
            refuse(errno.ENAMETOOLONG)  # nobody could look into it
        try:
            os.mkdir(path, mode & 0o7777)
        except FileExistsError:
            self._only_whiteout(name)
            aside = self.draft.staged.scratch.name()
            os.mkdir(aside, mode & 0o7777)
            self._as_made_here(aside)
            exchange(aside, path)
            os.unlink(aside)
        node = DraftDir(self.draft, self, name, Backing(True, None), complete=True)
        self.children[name] = node
        attr = node.attr()
        if mode & ~attr.mode & 0o777:
            os.chmod(path, attr.mode & 0o7000 | mode & 0o777)  # as in `create`
            attr = node.attr()
        return attr

    def symlink(self, name: bytes, target: bytes) -> Attr:
        if target.startswith(PREFIX):
            refuse(errno.EPERM)
        path = self._prepare(name)
        self.draft.staged.scratch.place_link(target, path)
        if self.base is not None:  # only there it may have been made aside, over a whiteout
            self._as_made_here(path)
        node = DraftLink(self.draft, self, name, target, OWN)
        node.own(os.lstat(path))
        self.children[name] = node
        return node.attr()

    def link_here(self, node: Node, name: bytes) -> Attr:
        self.draft.check_settled()
        path = self._prepare(name)
        place = self.draft.staged.scratch.place_link
        if isinstance(node, VersionFile):
            entry = node.entry
            if isinstance(entry, LinkEntry):
                place(entry.target, path)
            else:
                assert isinstance(entry, FileEntry | RefEntry)
                place(entry_target(entry), path)
        elif isinstance(node, DraftFile) and node.draft is self.draft:
            node.copy_up()  # two stand-ins would be two files
            known = node.known_record()
            self._link_backing(node.path, path)
            node.refresh_record(known)
        elif isinstance(node, DraftLink) and node.draft is self.draft:
            node.materialize()
            self._link_backing(node.path, path)
        else:
            refuse(errno.EXDEV)
        found = self._find_on_disk(name)
        assert found is not None
        return found.attr()

    def _link_backing(self, old: bytes, path: bytes) -> None:
        """Over a whiteout, if there is one, in one step."""
        try:
            os.link(old, path, follow_symlinks=False)
        except FileExistsError:
            aside = self.draft.staged.scratch.name()
            os.link(old, aside, follow_symlinks=False)
            os.rename(aside, path)

    def unlink(self, name: bytes) -> None:
        self.draft.check_writable()
        node = self.find(name)
        if node is None:
            refuse(errno.ENOENT)
        if isinstance(node, DraftDir):
            refuse(errno.EISDIR)
        node.hold()
        self._take_away(name)
        node.lost_name(self, name)
        self.children.pop(name, None)

    def _take_away(self, name: bytes) -> None:
        """Removes a file, link or stand-in from the backing, and hides the base's entry of that name."""
        hide = self.in_base(name) is not None
        self.materialize()
        path = self.path + b"/" + name
        if hide:
            self.draft.staged.scratch.place_link(GONE, path)
        else:
            os.unlink(path)

    def rmdir(self, name: bytes) -> None:
        self.draft.check_writable()
        node = self.find(name)
        if node is None:
            refuse(errno.ENOENT)
        if not isinstance(node, DraftDir):
            refuse(errno.ENOTDIR)
        if node.names():
            refuse(errno.ENOTEMPTY)
        hide = self.in_base(name) is not None
        self.materialize()
        self._remove_empty(node, hide)
        del self.children[name]

    def _remove_empty(self, node: DraftDir, hide: bool) -> None:
        scratch = self.draft.staged.scratch
        path = node.path
        if not node.backed:
            scratch.place_link(GONE, path)
        elif hide:
            scratch.replace_directory(path, GONE)
        elif node.base is None:
            try:
                os.rmdir(path)
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:
                    raise
                scratch.replace_directory(path, None)
        else:
            scratch.replace_directory(path, None)

    def rename_from(self, name: bytes, target: Node, new_name: bytes, flags: int) -> None:
        if not isinstance(target, DraftDir):
            refuse(errno.EROFS)
        if target.draft is not self.draft:
            refuse(errno.EXDEV)
        rename(self, name, target, new_name, flags)

    # attributes --------------------------------------------------------------------------------------------------
    def setattr(self, changes: dict[str, int]) -> Attr:
        self.draft.check_writable()
        self.materialize()
        path = self.path
        if "uid" in changes or "gid" in changes:
            os.chown(path, changes.get("uid", -1), changes.get("gid", -1))  # which may clear bits of the mode
        if "mode" in changes:
            os.chmod(path, stat.S_IMODE(changes["mode"]))
        if "atime_ns" in changes or "mtime_ns" in changes:
            status = os.lstat(path)
            os.utime(
                path,
                ns=(changes.get("atime_ns", status.st_atime_ns), changes.get("mtime_ns", status.st_mtime_ns)),
            )
        return self.attr()

    def xattrs(self) -> dict[bytes, bytes]:
        if self.parent is not None:
            return {}
        return info_xattrs(self.draft.staged.info)

    def setxattr(self, name: bytes, value: bytes) -> None:
        if self.parent is not None:
            refuse(errno.EOPNOTSUPP)
        self.draft.check_settled()
        self.draft.staged.change_info(lambda info: with_xattr(info, name, value))

    def removexattr(self, name: bytes) -> None:
        if self.parent is not None:
            refuse(errno.ENODATA)
        self.draft.check_settled()
        self.draft.staged.change_info(lambda info: with_xattr(info, name, None))

