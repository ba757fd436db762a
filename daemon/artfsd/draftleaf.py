"""What files and symbolic links of drafts share: their names, and the number of what the backing has of them."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING

from artfsd.inodes import Node, refuse

if TYPE_CHECKING:
    from artfsd.drafts import DraftDir
    from artfsd.livedraft import LiveDraft


class DraftLeaf(Node):
    """What is no directory. With several names (hard links) it is one node.

    `names` are those that the mount has seen. `inode` is the backing's, 0 while nothing of its own is there.
    """

    __slots__ = ("draft", "inode", "names")
    has_owner = True

    def __init__(self, draft: LiveDraft, parent: DraftDir, name: bytes) -> None:
        super().__init__()
        self.draft = draft
        self.inode = 0
        self.names: list[tuple[DraftDir, bytes]] = [(parent, name)]
        draft.trees.table.add(self)

    def own(self, status: os.stat_result) -> None:
        """From now on it has this inode of the backing."""
        self.inode = status.st_ino
        self.draft.by_inode[self.inode] = self

    @property
    def path(self) -> bytes:
        """One of its backing names. ENOENT once all are removed."""
        if not self.names:
            refuse(errno.ENOENT)
        parent, name = self.names[0]
        return parent.path + b"/" + name

    def display_path(self) -> bytes:
        if not self.names:
            return b"(deleted)"
        parent, name = self.names[0]
        return parent.display_path(name)

    def add_name(self, parent: DraftDir, name: bytes) -> None:
        if (parent, name) not in self.names:
            self.names.append((parent, name))

    def renamed(self, parent: DraftDir, name: bytes, new_parent: DraftDir, new_name: bytes) -> None:
        self.names.remove((parent, name))
        self.names.append((new_parent, new_name))

    def hold(self) -> None:
        """Before it loses a name."""

    def lost_name(self, parent: DraftDir, name: bytes) -> None:
        with contextlib.suppress(ValueError):
            self.names.remove((parent, name))
        if not self.names and not self.has_other_names():
            self._number_is_free()

    def has_other_names(self) -> bool:
        """Whether it is open, and has hard links that nobody has looked at: to the kernel they are to be the same inode, with the
        same pages."""
        return False

    def forgotten(self) -> None:
        for parent, name in self.names:
            parent.forget_child(name, self)
        self._number_is_free()

    def _number_is_free(self) -> None:
        if self.draft.by_inode.get(self.inode) is self:
            del self.draft.by_inode[self.inode]
