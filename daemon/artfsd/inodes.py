"""Inode numbers and what they stand for.

Two kinds live in one table. A *node* (a directory, a draft's file, a status file) is a Python object of its own. The
files of a version are too many for that: each listing of a version's directory owns a contiguous range of numbers,
one for each entry, and a file's node is made on the spot from (listing, index) when a request names it.

Counts: the kernel holds a number of references to each inode that it knows (lookups), given back by forget. A node
may go when its count is zero; a listing when the sum over its files is. The sum is enough, because every count is
given back exactly.
"""

from __future__ import annotations

import bisect
import errno
import stat
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

ROOT_INODE = 1
FOREVER_S = 1e7
"""What the kernel may keep 'for ever', in seconds (116 days; larger values overflow in some kernels)."""


NAME_MAX = 255
"""The longest name of one entry, in bytes."""

HOT_NODES = 2048
"""Nodes of ranges that were made lately are kept, up to this many: whoever opens a file asks for it several times."""


class Later(Exception):
    """Raised by a vfs operation that has to block: `call` runs in a thread, under the request's deadline.

    `then(result)` runs in the loop's thread afterwards. `again`: the operation is tried again from its beginning,
    which is also so without `then`; otherwise the result of `then` is the operation's. `patient`: no deadline,
    because `call` cannot be left half done (a commit).
    """

    def __init__(
        self, call: Callable[[], Any], then: Callable[[Any], Any] | None = None, *, again: bool = False, patient: bool = False
    ) -> None:
        self.call = call
        self.then = then
        self.again = again or then is None
        self.patient = patient


class Wait(Later):
    """Raised by an operation that needs something which others bring (a transfer). `start(notify)` asks for it: True when
    it is there after all, or will not come (then trying again says why); otherwise `notify` is called, from any thread,
    when it is worth trying again. No thread waits; the deadline of the request counts: when it comes, `give_up` is called, so
    that those who ask for the same a moment later (the kernel does) need not wait as well. `for_s`: after so long the
    operation gives up and is tried again all the same, and says what its caller gets."""

    def __init__(
        self,
        start: Callable[[Callable[[], None]], bool],
        give_up: Callable[[], None] = lambda: None,
        *,
        for_s: float | None = None,
    ) -> None:
        super().__init__(lambda: None)
        self.start = start
        self.give_up = give_up
        self.for_s = for_s


class Told(OSError):
    """An error whose cause stands in the log already."""


class Attr:
    """What stat shows, plus how long the kernel may believe it. Times in ns, sizes in bytes, timeouts in s."""

    __slots__ = (
        "atime_ns",
        "attr_timeout",
        "ctime_ns",
        "entry_timeout",
        "gid",
        "ino",
        "mode",
        "mtime_ns",
        "nlink",
        "size",
        "uid",
    )

    def __init__(
        self,
        ino: int,
        mode: int,
        size: int,
        time_ns: int,
        uid: int,
        gid: int,
        *,
        nlink: int = 1,
        entry_timeout: float = FOREVER_S,
        attr_timeout: float = FOREVER_S,
    ) -> None:
        self.ino = ino
        self.mode = mode
        self.size = size
        self.atime_ns = self.mtime_ns = self.ctime_ns = time_ns
        self.uid = uid
        self.gid = gid
        self.nlink = nlink
        self.entry_timeout = entry_timeout
        self.attr_timeout = attr_timeout


Emit = Callable[[bytes, Attr, int], bool]
"""readdir's sink: (name, attributes, offset of the next entry) -> False when the reply is full."""


def refuse(number: int) -> NoReturn:
    raise OSError(number, None)


def negative(timeout_s: float) -> Attr:
    """The answer 'there is no such name', which the kernel may keep for `timeout_s`."""
    return Attr(0, 0, 0, 0, 0, 0, entry_timeout=timeout_s, attr_timeout=timeout_s)


NO_SUCH_NAME = negative(FOREVER_S)
"""The same where names change through the kernel alone, or never."""


class Node:
    """One inode. The defaults refuse everything as a read-only file system does; kinds override what they can.

    `lookups` is the kernel's count. `parent` and `name` are the one path of a directory; files of drafts may move. `above`: of a
    directory, the inode that `..` in it is, as far as a listing tells.
    """

    __slots__ = ("above", "ino", "lookups", "reply")
    is_dir = False
    frozen = False
    """Whether it is of a version, which nothing changes."""
    has_owner = False
    """Whether it belongs to who made it."""
    constant = False
    """Whether `attr` never changes, so that a transport may keep what it makes of it in `reply`."""

    @property
    def lasting(self) -> bool:
        """Whether the node stays although the kernel forgot it, because its owner will name it again."""
        return False

    def __init__(self) -> None:
        self.ino = 0
        self.lookups = 0
        self.above = ROOT_INODE
        self.reply: Any = None

    def attr(self) -> Attr:
        raise NotImplementedError

    def label(self) -> str:
        """What it is, for people: a path below the mount, or a version's name and a path in it; costs nothing until then."""
        return f"#{self.ino}"

    def forgotten(self) -> None:
        """The kernel knows the inode no more."""

    # names
    def lookup(self, name: bytes) -> Attr:
        refuse(errno.ENOTDIR)

    def open_dir(self) -> DirHandle:
        refuse(errno.ENOTDIR)

    def mkdir(self, name: bytes, mode: int) -> Attr:
        refuse(errno.EROFS)

    def create(self, name: bytes, mode: int, flags: int) -> tuple[FileHandle, Attr]:
        refuse(errno.EROFS)

    def symlink(self, name: bytes, target: bytes) -> Attr:
        refuse(errno.EROFS)

    def unlink(self, name: bytes) -> None:
        refuse(errno.EROFS)

    def rmdir(self, name: bytes) -> None:
        refuse(errno.EROFS)

    def link_here(self, node: Node, name: bytes) -> Attr:
        refuse(errno.EROFS)

    def rename_from(self, name: bytes, target: Node, new_name: bytes, flags: int) -> None:
        refuse(errno.EROFS)

    # contents
    def readlink(self) -> bytes:
        refuse(errno.EINVAL)

    def open(self, flags: int) -> FileHandle:
        refuse(errno.EISDIR if self.is_dir else errno.EACCES)

    def setattr(self, changes: dict[str, int]) -> Attr:
        refuse(errno.EROFS)

    # extended attributes
    def xattrs(self) -> dict[bytes, bytes]:
        return {}

    def setxattr(self, name: bytes, value: bytes) -> None:
        refuse(errno.EROFS)

    def removexattr(self, name: bytes) -> None:
        refuse(errno.EROFS)


class FileHandle:
    """An open file. `direct`: the kernel must not cache its pages (their size is not known beforehand).

    `shared`: every open of the same content gets this very object, so it keeps its number (and the transport's `reply`) until
    its owner drops it; `close` is called once for each open.
    """

    __slots__ = ("number", "reply")
    direct = False
    keep_cache = True
    shared = False

    def __init__(self) -> None:
        self.number = 0  # 0: it has none yet
        self.reply: Any = None

    def label(self) -> str:
        """As Node.label."""
        return f"handle-{self.number}"

    def read(self, offset: int, size: int) -> bytes | memoryview:
        refuse(errno.EBADF)

    def write(self, offset: int, data: bytes) -> int:
        refuse(errno.EBADF)

    def fsync(self, data_only: bool) -> None:
        return None

    def close(self) -> None:
        return None


class DirHandle:
    """An open directory, of `node`."""

    __slots__ = ("node",)
    node: Node

    def read(self, offset: int, emit: Emit) -> None:
        """Emits entries from `offset` on (0: the first) until `emit` says that the reply is full. `.` and `..` are not among
        them."""
        raise NotImplementedError

    def fsync(self) -> None:
        return None

    def close(self) -> None:
        return None


class FileRange:
    """What owns a range of inode numbers: a listing (see versions.py)."""

    __slots__ = ("base", "lookups", "length")

    def __init__(self, length: int) -> None:
        self.base = 0
        self.length = length
        self.lookups = 0

    def node_at(self, index: int) -> Node:
        """The node of the entry at `index`; may raise Later."""
        raise NotImplementedError

    def forgotten(self) -> None:
        """No file of it is known to the kernel any more."""


class InodeTable:
    """Every inode that the kernel may name. Numbers are never used twice while a daemon lives."""

    def __init__(self) -> None:
        self._nodes: dict[int, Node] = {}
        self._hot: dict[int, Node] = {}
        self._next = ROOT_INODE
        self._bases: list[int] = []
        self._ranges: list[FileRange] = []

    def __len__(self) -> int:
        return len(self._nodes)

    @property
    def range_count(self) -> int:
        return len(self._ranges)

    def add(self, node: Node) -> int:
        node.ino = self._next
        self._nodes[node.ino] = node
        self._next += 1
        return node.ino

    def add_range(self, owner: FileRange) -> None:
        owner.base = self._next
        self._next += max(1, owner.length)
        self._bases.append(owner.base)
        self._ranges.append(owner)

    def drop_range(self, owner: FileRange) -> None:
        at = bisect.bisect_left(self._bases, owner.base)
        if at < len(self._bases) and self._ranges[at] is owner:
            del self._bases[at], self._ranges[at]
            self._hot.clear()

    def get(self, ino: int) -> Node:
        """The node; ESTALE when there is none (a number from before a restart, through NFS). May raise Later."""
        node = self._nodes.get(ino)
        if node is not None:
            return node
        node = self._hot.get(ino)
        if node is not None:
            return node
        owner, index = self._find_range(ino)
        if owner is None:
            refuse(errno.ESTALE)
        node = owner.node_at(index)
        if len(self._hot) >= HOT_NODES:
            self._hot.clear()
        self._hot[ino] = node
        return node

    def _find_range(self, ino: int) -> tuple[FileRange | None, int]:
        at = bisect.bisect_right(self._bases, ino) - 1
        if at >= 0:
            owner = self._ranges[at]
            index = ino - owner.base
            if index < owner.length:
                return owner, index
        return None, 0

    def count_lookup(self, ino: int) -> None:
        """The kernel was told of `ino` once more."""
        node = self._nodes.get(ino)
        if node is not None:
            node.lookups += 1
            return
        owner, _ = self._find_range(ino)
        if owner is not None:
            owner.lookups += 1

    def forget(self, pairs: Sequence[tuple[int, int]]) -> None:
        """Takes back counts: (inode, how many)."""
        for ino, count in pairs:
            node = self._nodes.get(ino)
            if node is not None:
                node.lookups -= count
                if node.lookups <= 0 and not node.lasting:
                    del self._nodes[ino]
                    node.forgotten()
                continue
            owner, _ = self._find_range(ino)
            if owner is not None:
                owner.lookups -= count
                if owner.lookups <= 0:
                    owner.forgotten()


class ListHandle(DirHandle):
    """A directory whose listing is a plain list made when it is opened or rewound. `sync`: makes its names durable; it may
    block. None: they are at once."""

    __slots__ = ("_entries", "_list", "_sync", "_table")

    def __init__(
        self,
        table: InodeTable,
        list_entries: Callable[[], list[tuple[bytes, Callable[[], Attr | None]]]],
        sync: Callable[[], None] | None = None,
    ) -> None:
        self._table = table
        self._list = list_entries
        self._sync = sync
        self._entries: list[tuple[bytes, Callable[[], Attr | None]]] = []

    def read(self, offset: int, emit: Emit) -> None:
        if offset == 0:
            self._entries = self._list()
        for at in range(offset, len(self._entries)):
            name, make_attr = self._entries[at]
            try:
                attr = make_attr()
            except Later:
                if at == offset:
                    raise
                return  # what was emitted is the reply; the kernel asks on from here
            if attr is None:
                continue  # it went away since the listing
            if not emit(name, attr, at + 1):
                break
            self._table.count_lookup(attr.ino)

    def fsync(self) -> None:
        if self._sync is not None:
            raise Later(self._sync, lambda _: None)


DIR_MODE = stat.S_IFDIR | 0o755
FILE_MODE = stat.S_IFREG | 0o644
LINK_MODE = stat.S_IFLNK | 0o777
