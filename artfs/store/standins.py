"""Stand-ins: how a draft on disk names content that it did not stage itself.

A draft's files lie in an ordinary directory tree. Some things in it are symbolic links with targets that no user's
link can have (they begin with `/.artfs/`, which `symlink(2)` through the mount refuses), so each of them is made,
moved and removed by one atomic system call and survives a killed daemon as ordinary files do:

    NAME         -> /.artfs/file/SHA256/SIZE/MODE/BLOCKS|-    a file whose bytes are a blob of the store; MODE is `-` (0644),
                                                              `x` (0755) or its permission bits (four octal digits)
    NAME         -> /.artfs/ref/BASE64                        a reference: its entry, encoded as in a tree
    NAME         -> /.artfs/gone                              the base has NAME, the draft has not
    .artfs-base  -> /.artfs/tree/SHA256/COUNT/SIZE/FILES      inside a directory: it starts as this tree; what else lies
                                                              in the directory comes on top

The owner and the time of a file are those of its stand-in. A directory without `.artfs-base` has no base: it holds just what lies
in it.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import errno
import itertools
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from artfs.errors import CorruptError
from artfs.model.digests import MAX_SIZE, check_digest, from_raw, to_raw
from artfs.model.entry import MAX_TARGET, FileEntry, RefEntry, wrong_entry
from artfs.model.tree import Totals
from artfs.model.unreadable import UNREADABLE
from artfs.store.linux import within_reach

BASE_NAME = b".artfs-base"
PREFIX = b"/.artfs/"
GONE = PREFIX + b"gone"

T = TypeVar("T")

_RENAME_EXCHANGE = 2
_CANNOT_EXCHANGE = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})
_AT_FDCWD = -100
_libc = ctypes.CDLL(None, use_errno=True)
_serial = itertools.count()
_ref_decoder = msgspec.msgpack.Decoder(RefEntry)


@dataclass(frozen=True, slots=True)
class Slot:
    """What lies under one name. Exactly one of the kinds:

    `stat` a regular file or directory of the draft's own (look at its mode); `target` not None: a user's symbolic link;
    `entry` not None: a stand-in file or reference, with `mode` as permission bits; `gone`: a whiteout.
    """

    stat: os.stat_result
    target: bytes | None = None
    entry: FileEntry | RefEntry | None = None
    gone: bool = False
    mode: int = 0


@dataclass(frozen=True, slots=True)
class TreeBase:
    """The tree that a draft's directory starts as."""

    digest: str
    totals: Totals


def plain_mode(entry: FileEntry | RefEntry) -> int:
    """The permission bits of an entry that nobody gave others."""
    return 0o755 if isinstance(entry, FileEntry) and entry.executable else 0o644


def entry_target(entry: FileEntry | RefEntry, mode: int | None = None) -> bytes:
    """`mode`: permission bits, None for `plain_mode`; a reference has no others.

    Raises OSError (ENAMETOOLONG) for a reference with a URI too long for a link's target (some 3,000 bytes)."""
    if isinstance(entry, RefEntry):
        target = PREFIX + b"ref/" + base64.urlsafe_b64encode(msgspec.msgpack.encode(entry))
        if len(target) > MAX_TARGET:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), os.fsdecode(entry.name))
        return target
    blocks = from_raw(entry.blocks).encode() if entry.blocks else b"-"
    plain = plain_mode(entry)
    mark = (b"x" if entry.executable else b"-") if mode is None or mode == plain else b"%04o" % mode
    return PREFIX + b"file/%s/%d/%s/%s" % (entry.digest.encode(), entry.size, mark, blocks)


def tree_target(base: TreeBase) -> bytes:
    totals = base.totals
    return PREFIX + b"tree/%s/%d/%d/%d" % (base.digest.encode(), totals.count, totals.size, totals.file_count)


def parse_entry(name: bytes, target: bytes) -> FileEntry | RefEntry:
    """The entry behind a stand-in's target. Raises CorruptError for one that we did not write."""
    return _parse(name, target)[0]


def _parse(name: bytes, target: bytes) -> tuple[FileEntry | RefEntry, int]:
    """(the entry, its permission bits)"""
    try:
        if target.startswith(PREFIX + b"ref/"):
            data = base64.urlsafe_b64decode(target[len(PREFIX) + len(b"ref/") :])
            reference = msgspec.structs.replace(_ref_decoder.decode(data), name=name)
            return reference, plain_mode(reference)
        kind, digest, size, mark, blocks = target[len(PREFIX) :].split(b"/")
        mode = {b"x": 0o755, b"-": 0o644}.get(mark)
        if mode is None:
            mode = int(mark, 8)
        raw_blocks = b"" if blocks == b"-" else to_raw(blocks.decode())
        entry = FileEntry(name, int(size), to_raw(digest.decode()), raw_blocks, bool(mode & 0o100))
        right = kind == b"file" and 0 <= mode <= 0o7777 and entry.size <= MAX_SIZE and wrong_entry(entry) is None
        if not right or entry_target(entry, mode) != target:
            raise ValueError
        return entry, mode
    except (ValueError, *UNREADABLE) as error:
        raise CorruptError(f"the draft's stand-in {os.fsdecode(name)!r} is malformed: {target!r}") from error


def read_base(directory: bytes) -> TreeBase | None:
    """The base of a draft's directory, None when it has none. Raises OSError, CorruptError."""
    try:
        target = os.readlink(directory + b"/" + BASE_NAME)
    except FileNotFoundError:
        return None
    return parse_base(directory, target)


def parse_base(directory: bytes, target: bytes) -> TreeBase:
    """The base behind a link's target. Raises CorruptError for one that we did not write."""
    try:
        _, digest, count, size, files = target[len(PREFIX) :].split(b"/")
        base = TreeBase(check_digest(digest.decode()), Totals(int(count), int(size), int(files)))
        if tree_target(base) != target:
            raise ValueError
        return base
    except ValueError as error:
        raise CorruptError(f"the draft directory {os.fsdecode(directory)!r} has a malformed base: {target!r}") from error


def read_slot(path: bytes, name: bytes) -> Slot | None:
    """What lies at `path` (whose last part is `name`), None when nothing does. Raises OSError."""
    try:
        status = os.lstat(path)
        if not stat.S_ISLNK(status.st_mode):
            return Slot(status)
        target = os.readlink(path)
    except FileNotFoundError:
        return None
    if not target.startswith(PREFIX):
        return Slot(status, target=target)
    if target == GONE:
        return Slot(status, gone=True)
    entry, mode = _parse(name, target)
    return Slot(status, entry=entry, mode=mode)


def exchange(one: bytes, other: bytes) -> None:
    """Swaps two names atomically (renameat2 RENAME_EXCHANGE), or, on a file system that cannot do that (NFS), in three steps;
    a kill between these leaves what was `one` beside it, under a name that ends in `.artfs-moving`."""
    if not _libc.renameat2(_AT_FDCWD, one, _AT_FDCWD, other, _RENAME_EXCHANGE):
        return
    number = ctypes.get_errno()
    if number not in _CANNOT_EXCHANGE:
        raise OSError(number, os.strerror(number), os.fsdecode(one), None, os.fsdecode(other))
    aside = one + b".artfs-moving"
    os.rename(one, aside)
    try:
        os.rename(other, one)
    except BaseException:
        os.rename(aside, one)
        raise
    os.rename(aside, other)


@contextlib.contextmanager
def keeping_times(directory: bytes) -> Iterator[None]:
    """For what moves something into `directory` that shows no other name there: its times stay those of its names."""
    status = os.lstat(directory)
    yield
    os.utime(directory, ns=(status.st_atime_ns, status.st_mtime_ns))


class Scratch:
    """Temporary names on the draft's own file system, for things that are made aside and then moved into place."""

    def __init__(self, path: bytes) -> None:
        self._path = path

    def name(self) -> bytes:
        """A new path that does not exist; its folder does."""
        os.makedirs(self._path, mode=0o700, exist_ok=True)
        return self._path + b"/%d-%d" % (os.getpid(), next(_serial))

    def place_link(self, target: bytes, path: bytes) -> None:
        """Puts a link (a stand-in, mostly) at `path`, over a file or link there, atomically."""
        try:
            os.symlink(target, path)
            return
        except FileExistsError:
            pass
        aside = self.name()
        os.symlink(target, aside)
        try:
            os.rename(aside, path)
        except BaseException:
            os.unlink(aside)
            raise

    def place_stand_in(self, target: bytes, path: bytes, times_ns: tuple[int, int], owner: tuple[int, int]) -> None:
        """Puts a stand-in (or a user's link) at `path`, over a file or link there, in one step with its times (of access, of
        change) and owner (uid, gid)."""
        aside = self.name()
        os.symlink(target, aside)
        try:
            status = os.lstat(aside)
            if (status.st_uid, status.st_gid) != owner:
                os.lchown(aside, *owner)
            os.utime(aside, ns=times_ns, follow_symlinks=False)
            os.rename(aside, path)
        except BaseException:
            os.unlink(aside)
            raise

    def replace_directory(self, path: bytes, target: bytes | None) -> None:
        """Removes the directory at `path` with all that lies in it; `target` not None: that link takes its place, in
        one step."""
        aside = self.name()
        if target is None:
            os.rename(path, aside)
        else:
            os.symlink(target, aside)
            exchange(aside, path)
        remove_tree(aside)

    def clear(self) -> None:
        """Removes what an earlier process left."""
        remove_tree(self._path)


def remove_tree(path: bytes) -> None:
    """Removes a directory and all below it; links are not followed; not there is fine. However deep it is: nothing here calls
    itself."""
    folders = [path]
    for folder in folders:  # grows
        with within_reach(folder) as near:
            for entry in _entries(near):
                if entry.is_dir(follow_symlinks=False):
                    folders.append(folder + b"/" + entry.name)
                else:
                    _allowed(os.unlink, entry.path, near)
    for folder in reversed(folders):
        parent, name = os.path.split(folder)
        with within_reach(parent) as near, contextlib.suppress(FileNotFoundError):
            _allowed(os.rmdir, near + b"/" + name, near)


def _entries(folder: bytes) -> list[os.DirEntry[bytes]]:
    with contextlib.suppress(FileNotFoundError):
        return _allowed(lambda path: list(os.scandir(path)), folder, folder)
    return []


def _allowed(call: Callable[[bytes], T], path: bytes, folder: bytes) -> T:
    """`call(path)`, with `folder` made a private one when its mode, which was its user's, forbids it."""
    try:
        return call(path)
    except PermissionError:
        os.chmod(folder, 0o700)
        return call(path)
