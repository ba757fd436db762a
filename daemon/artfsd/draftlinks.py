"""What lies in a draft's directories as symbolic links: those that users made, and what the stand-ins of files show."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from artfs.model.entry import FileEntry, RefEntry
from artfs.store.standins import PREFIX, Slot, keeping_times
from artfsd.inodes import LINK_MODE, Attr, Node, refuse

if TYPE_CHECKING:
    from artfsd.drafts import DraftDir
    from artfsd.livedraft import LiveDraft


class Style(NamedTuple):
    """What a link or a stand-in shows beside its content: permission bits, owner, times. All but the bits are those of the link
    on disk, or of the draft's base while there is none."""

    mode: int
    uid: int
    gid: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, slot: Slot) -> Style:
        return cls(slot.mode, 0, 0, 0, 0, 0).shown_by(slot.stat)

    def shown_by(self, status: os.stat_result) -> Style:
        """Of a link on disk, with these permission bits."""
        return Style(self.mode, status.st_uid, status.st_gid, status.st_atime_ns, status.st_mtime_ns, status.st_ctime_ns)

    def changed(self, changes: dict[str, int], entry: FileEntry | RefEntry | None) -> Style:
        """After a SETATTR. A reference keeps its mode: its entry has no place for one; nor has a link (`entry` None)."""
        mode = stat.S_IMODE(changes.get("mode", self.mode)) if isinstance(entry, FileEntry) else self.mode
        shown = {name: changes.get(name, getattr(self, name)) for name in ("uid", "gid", "atime_ns", "mtime_ns")}
        return self._replace(mode=mode, **shown)

    def attr(self, ino: int, kind: int, size: int, nlink: int) -> Attr:
        attr = Attr(ino, kind | self.mode, size, self.mtime_ns, self.uid, self.gid, nlink=nlink)
        attr.atime_ns, attr.ctime_ns = self.atime_ns, self.ctime_ns
        return attr

    @property
    def owner(self) -> tuple[int, int]:
        return self.uid, self.gid

    @property
    def times_ns(self) -> tuple[int, int]:
        """As utimensat(2) sets them."""
        return self.atime_ns, self.mtime_ns


OWN = Style(0, 0, 0, 0, 0, 0)
"""Of a file of the draft's own, which has the backing file's."""


class DraftLink(Node):
    """A symbolic link of a draft. `placed`: it lies in the backing directory; otherwise it is inherited and was not touched."""

    __slots__ = ("draft", "name", "parent", "placed", "style", "target")
    has_owner = True

    def __init__(
        self, draft: LiveDraft, parent: DraftDir, name: bytes, target: bytes, style: Style, *, placed: bool = True
    ) -> None:
        super().__init__()
        self.draft = draft
        self.parent: DraftDir | None = parent
        self.name = name
        self.target = target
        self.style = style._replace(mode=stat.S_IMODE(LINK_MODE))
        self.placed = placed
        draft.trees.table.add(self)

    def attr(self) -> Attr:
        return self.style.attr(self.ino, stat.S_IFLNK, len(self.target), 1 if self.parent is not None else 0)

    def readlink(self) -> bytes:
        return self.target

    def place(self, path: bytes) -> None:
        """Puts such a link at `path`, of this owner and time. EPERM for what would be a stand-in there, as in a made-up tree."""
        if self.target.startswith(PREFIX):
            refuse(errno.EPERM)
        self.draft.staged.scratch.place_stand_in(self.target, path, self.style.times_ns, self.style.owner)

    def _placed_at(self, path: bytes) -> None:
        self.placed = True
        self.style = self.style.shown_by(os.lstat(path))

    def renamed(self, parent: DraftDir, name: bytes, new_parent: DraftDir, new_name: bytes) -> None:
        self.parent, self.name = new_parent, new_name
        self._placed_at(new_parent.path + b"/" + new_name)

    def lost_name(self, parent: DraftDir, name: bytes) -> None:
        self.parent = None

    def forgotten(self) -> None:
        if self.parent is not None:
            self.parent.forget_child(self.name, self)

    def setattr(self, changes: dict[str, int]) -> Attr:
        self.draft.check_writable()
        style = self.style.changed(changes, None)
        if self.parent is None:
            self.style = style  # it has no name any more, and goes with whoever holds it
        elif self.placed or style != self.style:
            self._restyle(self.parent, style)
        return self.attr()

    def _restyle(self, parent: DraftDir, style: Style) -> None:
        parent.materialize()
        path = parent.path + b"/" + self.name
        if not self.placed:
            with keeping_times(parent.path):
                self.place(path)
        if style.owner != self.style.owner:
            os.lchown(path, *style.owner)
        os.utime(path, ns=style.times_ns, follow_symlinks=False)
        self._placed_at(path)
