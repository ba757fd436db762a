"""What lies in a draft's directories as symbolic links: those that users made, and what the stand-ins of files show."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from artfs.model.entry import FileEntry, RefEntry
from artfs.store.standins import PREFIX, Slot, keeping_times
from artfsd.draftleaf import DraftLeaf
from artfsd.inodes import LINK_MODE, Attr, refuse

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


class DraftLink(DraftLeaf):
    """A symbolic link of a draft: its own, in the backing, or one that it inherited, which goes there when its owner or its time
    is changed, or it is moved or linked. `style`: what it shows, or showed last."""

    __slots__ = ("style", "target")

    def __init__(self, draft: LiveDraft, parent: DraftDir, name: bytes, target: bytes, style: Style) -> None:
        super().__init__(draft, parent, name)
        self.target = target
        self.style = style._replace(mode=stat.S_IMODE(LINK_MODE))

    def attr(self) -> Attr:
        nlink = 1 if self.names else 0
        if self.inode and self.names and not self.draft.dead:
            status = os.lstat(self.path)
            self.style = self.style.shown_by(status)
            nlink = status.st_nlink
        return self.style.attr(self.ino, stat.S_IFLNK, len(self.target), nlink)

    def readlink(self) -> bytes:
        return self.target

    def place(self, path: bytes) -> None:
        """Puts what is inherited at `path`, with its owner and time. EPERM for what would be a stand-in there, as in a made-up
        tree."""
        if self.target.startswith(PREFIX):
            refuse(errno.EPERM)
        self.draft.staged.scratch.place_stand_in(self.target, path, self.style.times_ns, self.style.owner)
        self.own(os.lstat(path))

    def materialize(self) -> None:
        """Gives it a link of the backing."""
        if self.inode:
            return
        parent, _ = self.names[0]
        parent.materialize()
        with keeping_times(parent.path):
            self.place(self.path)

    def setattr(self, changes: dict[str, int]) -> Attr:
        self.draft.check_writable()
        style = self.style.changed(changes, None)
        if not self.names:
            self.style = style  # it goes with whoever holds it
        elif self.inode or style != self.style:
            self.materialize()
            if style.owner != self.style.owner:
                os.lchown(self.path, *style.owner)
            os.utime(self.path, ns=style.times_ns, follow_symlinks=False)
        return self.attr()
