"""What the directories of names share: the catalog, time-outs, and how a reading of the catalog is taken over.

These are the only names of the read-only part that move, so they are re-read when the catalog changes, and the kernel is told
which of them it must ask for again.
"""

from __future__ import annotations

import errno
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from artfsd.inodes import DIR_MODE, Attr, InodeTable, Later, Node, refuse
from artfsd.versions import DIR_SIZE, Trees

if TYPE_CHECKING:
    from artfs.catalog.base import Catalog


@dataclass(frozen=True, slots=True)
class Invalidation:
    """The kernel must ask again for `name` in the directory `parent`."""

    parent: int
    name: bytes


@dataclass
class NamesContext:
    """What the nodes of this file share. `timeout_s`: how long the kernel may keep their names; long while changes
    are watched."""

    catalog: Catalog
    trees: Trees
    entity: str
    symlinked_aliases: bool
    timeout_s: float
    started_ns: int
    table: InodeTable = field(init=False)
    tickets: Iterator[int] = field(default_factory=lambda: itertools.count(1), init=False)

    def __post_init__(self) -> None:
        self.table = self.trees.table

    def dir_attr(self, ino: int, when_ns: int) -> Attr:
        attr = Attr(ino, DIR_MODE, DIR_SIZE, when_ns, self.trees.uid, self.trees.gid)
        attr.entry_timeout = attr.attr_timeout = self.timeout_s
        return attr


def decode(name: bytes) -> str:
    """A name of the catalog; what is not UTF-8 names nothing there."""
    try:
        return name.decode()
    except UnicodeDecodeError:
        refuse(errno.ENOENT)


class MovingDir(Node):
    """A directory whose names are the catalog's.

    Several readings may be under way at once: the watcher's, and that of a request which changed the catalog itself. Each
    takes a ticket before it reads, so it knows every change that was made before; one that ends after a younger one
    was applied is thrown away, otherwise a name that was made just now would vanish again for a moment.
    """

    __slots__ = ("_applied", "ctx")

    def __init__(self, ctx: NamesContext) -> None:
        super().__init__()
        self.ctx = ctx
        self._applied = 0

    def read(self) -> Callable[[], list[Invalidation]]:
        """In a thread: reads the names. The result, called on the loop, takes them over and says which ones moved."""
        raise NotImplementedError

    def reload(self) -> Callable[[], list[Invalidation]]:
        """`read`, whose result does nothing when a younger one was faster."""
        ticket = next(self.ctx.tickets)
        take = self.read()

        def apply() -> list[Invalidation]:
            if ticket < self._applied:
                return []
            self._applied = ticket
            return take()

        return apply

    def load(self) -> NoReturn:
        """Has the names read for the first time, then the operation begin again."""
        raise Later(self.reload, lambda apply: apply(), again=True)
