"""artfsd with one more directory at the root of its mount, `faulty`: what is in it can be looked up, and every other operation
on it fails in a way that nobody foresaw.

    python faulty_daemon.py FAULT MOUNTPOINT … (as artfsd)

`faulty/` holds `file`, `dir` and `link`, which cannot be opened or read, and `opened` and `listed`, a file and a directory that
can be opened, and then fail. FAULT is the name of the exception that is raised.
"""

import builtins
import os
import stat
import sys
from typing import Any

from artfsd import run
from artfsd.__main__ import main
from artfsd.inodes import DIR_MODE, FILE_MODE, LINK_MODE, Attr, DirHandle, FileHandle, InodeTable, Node
from artfsd.vfs import Vfs

FAULT = sys.argv[1]


def fail(*arguments: Any, **options: Any) -> Any:
    raise getattr(builtins, FAULT)("nobody foresaw this")


class FaultyFile(FileHandle):
    read = write = fsync = close = fail


class FaultyListing(DirHandle):
    read = fsync = close = fail


class Faulty(Node):
    def __init__(self, table: InodeTable, mode: int, *, opens: bool = False) -> None:
        super().__init__()
        self.mode = mode
        self.opens = opens
        self.is_dir = stat.S_ISDIR(mode)
        self.children: dict[bytes, Faulty] = {}
        table.add(self)

    def found(self) -> Attr:
        return Attr(self.ino, self.mode, 4096, 0, os.getuid(), os.getgid())

    def lookup(self, name: bytes) -> Attr:
        child = self.children.get(name)
        return child.found() if child is not None else fail()

    def open(self, flags: int) -> Any:
        return FaultyFile() if self.opens else fail()

    def open_dir(self) -> Any:
        return FaultyListing() if self.opens else fail()

    mkdir = create = symlink = unlink = rmdir = link_here = rename_from = fail
    attr = readlink = setattr = xattrs = setxattr = removexattr = fail


class FaultyVfs(Vfs):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._faulty = Faulty(self.table, DIR_MODE)
        below = self._faulty.children
        for name, mode in ((b"file", FILE_MODE), (b"dir", DIR_MODE), (b"link", LINK_MODE)):
            below[name] = Faulty(self.table, mode)
        below[b"opened"] = Faulty(self.table, FILE_MODE, opens=True)
        below[b"listed"] = Faulty(self.table, DIR_MODE, opens=True)

    def lookup(self, parent: int, name: bytes) -> Attr:
        return self._faulty.found() if name == b"faulty" else super().lookup(parent, name)


run.Vfs = FaultyVfs  # type: ignore[misc]
del sys.argv[1]
sys.exit(main())
