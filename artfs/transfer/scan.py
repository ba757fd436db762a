"""Reading a folder that is to become a version: what each name in it becomes, and what no version can hold."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum

from xxhash import xxh3_64_intdigest

from artfs.errors import DraftInvalidError, NotFoundError, StorageError, UsageError
from artfs.model.collide import case_collisions, folded
from artfs.model.entry import link_stays_inside
from artfs.model.ignore import IGNORE_FILE, IgnoreRules
from artfs.model.pages import MAX_DEPTH
from artfs.transfer.ahead import HEAVY_ABOVE
from artfs.transfer.progress import Meter

_TOLD = 20
_REMEMBERED = 100_000
_WHAT = {
    stat.S_IFSOCK: "a socket",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class Kind(IntEnum):
    """What a name becomes. A symbolic link that leads outside becomes what it leads to."""

    FILE = 0
    DIRECTORY = 1
    LINK = 2
    PROGRAM = 3
    """A file that its owner may execute."""


_KINDS = tuple(Kind)
_HEAVY = 4
_PACKED = tuple(bytes((0, flags)) for flags in range(8))


@dataclass(frozen=True, slots=True)
class Place:
    """A directory that is read.

    Attributes:
        path: for system calls.
        relative: in the version, "" for the root.
        above: (device, inode) of the directories that it is in, itself included.
        followed: how many directories of `relative` lead to the last one that was entered through a symbolic link.
            Links below that one mean what they say only as long as they stay below it.
    """

    path: str
    relative: str
    above: tuple[tuple[int, int], ...]
    followed: int = 0

    def child(self, name: bytes) -> Place:
        """The directory of that name in it. Raises StorageError."""
        text = os.fsdecode(name)
        path = f"{self.path}/{text}"
        relative = f"{self.relative}/{text}" if self.relative else text
        followed = self.depth() + 1 if os.path.islink(path) else self.followed
        return Place(path, relative, (*self.above, _identity(path)), followed)

    def link_parts(self) -> tuple[str, ...]:
        """The components of the path that a link in this directory may climb."""
        return tuple(self.relative.split("/"))[self.followed :] if self.relative else ()

    def depth(self) -> int:
        """Directories above it in the version; 0 for the root."""
        return len(self.above) - 1


@dataclass(slots=True)
class Listing:
    """One directory. `names`: each name with b"\\0" and a byte behind it (its Kind, + 4 for a file worth a thread),
    sorted; that is smaller than tuples, and sorts like the names, as no name holds a NUL.
    `bad`: (relative path, why) of what no version can hold."""

    names: list[bytes] = field(default_factory=list)
    size: int = 0
    file_count: int = 0
    ignored: list[str] = field(default_factory=list)
    bad: list[tuple[str, str]] = field(default_factory=list)

    def items(self) -> Iterator[tuple[bytes, Kind]]:
        """(name, kind) in the order of names."""
        for packed in self.names:
            yield packed[:-2], _KINDS[packed[-1] & ~_HEAVY]

    def weighed_items(self) -> Iterator[tuple[bytes, Kind, bool]]:
        """(name, kind, whether it is a file of more than HEAVY_ABOVE bytes) in the order of names."""
        for packed in self.names:
            flags = packed[-1]
            yield packed[:-2], _KINDS[flags & ~_HEAVY], flags >= _HEAVY


def root_place(root: str | os.PathLike[str]) -> Place:
    """Raises NotFoundError and UsageError when `root` is no directory."""
    path = os.path.abspath(root)
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise NotFoundError(f"there is no folder {path}") from None
    except OSError as error:
        raise StorageError.wrap(error, f"reading {path}") from error
    if not stat.S_ISDIR(status.st_mode):
        raise UsageError(f"{path} is not a folder")
    return Place(path, "", ((status.st_dev, status.st_ino),))


def read_rules(root: str | os.PathLike[str]) -> IgnoreRules:
    """The rules of the folder's own `.artfsignore`, or the default ones. Raises InvalidNameError, StorageError."""
    path = os.path.join(root, IGNORE_FILE)
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            return IgnoreRules.parse(stream.read())
    except FileNotFoundError:
        return IgnoreRules.defaults()
    except OSError as error:
        raise StorageError.wrap(error, f"reading {path}") from error


def list_directory(place: Place, rules: IgnoreRules) -> Listing:
    """Reads one directory, not what is below it. Raises StorageError when it cannot be read."""
    found = Listing()
    prefix = f"{place.relative}/" if place.relative else ""
    try:
        with os.scandir(os.fsencode(place.path)) as entries:
            for entry in entries:
                kind = _kind_of(entry, place)
                relative = prefix + os.fsdecode(entry.name)
                is_dir = kind is Kind.DIRECTORY or (isinstance(kind, str) and os.path.isdir(entry.path))
                if rules.ignores(relative, is_dir):
                    found.ignored.append(relative + "/" if is_dir else relative)
                elif isinstance(kind, str):
                    found.bad.append((relative, kind))
                else:
                    flags = int(kind)
                    if kind is Kind.FILE:
                        status = entry.stat()
                        found.file_count += 1
                        found.size += status.st_size
                        if status.st_mode & stat.S_IXUSR:
                            flags = int(Kind.PROGRAM)
                        if status.st_size > HEAVY_ABOVE:
                            flags += _HEAVY
                    found.names.append(entry.name + _PACKED[flags])
    except OSError as error:
        raise StorageError.wrap(error, f"reading the folder {place.path}") from error
    found.names.sort()
    return found


def _kind_of(entry: os.DirEntry[bytes], place: Place) -> Kind | str:
    """What the entry becomes, or why no version can hold it."""
    if entry.is_file(follow_symlinks=False):
        return Kind.FILE
    followed = entry.is_symlink()
    if followed:
        target = os.readlink(entry.path)
        if link_stays_inside(place.link_parts(), target):
            return Kind.LINK
        if not os.path.exists(entry.path):
            return f"a link to {os.fsdecode(target)}, which is not there"
    if entry.is_dir():
        if place.depth() >= MAX_DEPTH:
            return f"more than {MAX_DEPTH} directories deep"
        if followed and _identity(entry.path) in place.above:
            return "a link to a directory that it is in"
        return Kind.DIRECTORY
    if entry.is_file():
        return Kind.FILE
    return _WHAT.get(stat.S_IFMT(entry.stat().st_mode), "neither a file nor a directory")


@dataclass(slots=True)
class Scan:
    """What a folder holds.

    Attributes:
        size, file_count: in bytes; of files that are not ignored.
        ignored: relative paths, directories with a "/" behind them.
        collisions: groups of paths that differ only in case or in the form of accented letters.
        listings: by `relative` of the place; {} when there are too many names to remember.
    """

    size: int = 0
    file_count: int = 0
    ignored: list[str] = field(default_factory=list)
    collisions: list[tuple[str, ...]] = field(default_factory=list)
    listings: dict[str, Listing] = field(default_factory=dict)


def scan(root: Place, rules: IgnoreRules, meter: Meter) -> Scan:
    """Reads all of the folder's directories, no file.

    Raises DraftInvalidError that lists what no version can hold (sockets, pipes, devices, links to nothing, endless
    links), StorageError.
    """
    result = Scan()
    bad: list[tuple[str, str]] = []
    todo = [root]
    names = 0
    while todo:
        place = todo.pop()
        found = list_directory(place, rules)
        result.size += found.size
        result.file_count += found.file_count
        result.ignored += found.ignored
        bad += found.bad
        prefix = f"{place.relative}/" if place.relative else ""
        for group in _collisions(found):
            result.collisions.append(tuple(prefix + name for name in group))
        todo.extend(place.child(name) for name, kind in reversed(list(found.items())) if kind is Kind.DIRECTORY)
        names += len(found.names) + 1
        if names <= _REMEMBERED:
            result.listings[place.relative] = found
        else:
            result.listings.clear()
        meter.advance(found.file_count, found.size)
    check_bad(root, bad, rules)
    result.ignored.sort()
    return result


def _collisions(found: Listing) -> list[tuple[str, ...]]:
    # case_collisions keeps every name twice, too much for a million of them. So it is given only those that share a bit
    # of a bitmap with another one: by chance one in sixteen.
    bits = 16 * len(found.names) + 1
    bitmap = bytearray(bits // 8 + 1)
    shared: set[int] = set()
    for packed in found.names:
        bit = _folded_hash(packed) % bits
        mask = 1 << (bit & 7)
        if bitmap[bit >> 3] & mask:
            shared.add(bit)
        bitmap[bit >> 3] |= mask
    if not shared:
        return []
    names = (packed[:-2] for packed in found.names if _folded_hash(packed) % bits in shared)
    return case_collisions(map(os.fsdecode, names))


def _folded_hash(packed: bytes) -> int:
    return xxh3_64_intdigest(os.fsencode(folded(os.fsdecode(packed[:-2]))))


def check_bad(root: Place, bad: list[tuple[str, str]], rules: IgnoreRules) -> None:
    """Raises DraftInvalidError when there is anything `bad`: (relative path, why). `rules`: those that it passed."""
    if bad:
        bad.sort()
        told = ", ".join(f"{path} ({why})" for path, why in bad[:_TOLD])
        more = f" and {len(bad) - _TOLD} more" if len(bad) > _TOLD else ""
        raise DraftInvalidError(
            f"{root.path} holds what no version can hold: {told}{more}; remove them or "
            + ("add only the folders beside them" if rules.ignores_nothing else f"name them in {IGNORE_FILE}"),
            tuple(path for path, _ in bad),
        )


def _identity(path: str | bytes) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError as error:
        raise StorageError.wrap(error, f"reading the folder {os.fsdecode(path)}") from error
    return status.st_dev, status.st_ino
