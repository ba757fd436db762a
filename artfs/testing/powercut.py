"""What a disk may hold after a power cut: a model that replays what tests/fault/recording_disk.py wrote down.

Its rules are POSIX's and no file system's own, so they are harder than those of ext4, xfs or btrfs: fsync of a file makes its
bytes, its length and its mode durable, and not its names; fsync of a directory makes the names in it durable. Everything else
may survive a power cut or not: each write as a whole, in part (sectors of 512 bytes) or not at all, and of the changes of each
directory those up to some moment. One thing is promised besides, as every journal does: a rename is there in both directories
or in neither.
"""

from __future__ import annotations

import enum
import hashlib
import os
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

SECTOR = 512


class Survival(enum.Enum):
    """What becomes of that which was not synced."""

    NOTHING = "nothing of it is there"
    NAMES = "names are there, bytes are not"
    LENGTHS = "names are there, and zeros where bytes should be"
    TORN = "names are there, and of bytes some sectors"
    BYTES = "bytes are there, names are not"
    CHANCE = "of each directory the changes up to some moment, and some sectors"
    ALL = "everything is there"

    @property
    def keeps_names(self) -> bool:
        return self in (Survival.NAMES, Survival.LENGTHS, Survival.TORN, Survival.ALL)


@dataclass
class _Change:
    """Of one name: it is now `node`, or (None) nothing. `other`: the directory where the other half of a rename is, and that
    half."""

    name: bytes
    node: int | None
    other: tuple[int, _Change] | None = None


@dataclass
class _Node:
    """A file, directory or link. `synced` is durable, `pending` is not."""

    kind: str
    mode: int = 0
    target: bytes = b""
    data: bytes = b""
    pending: list[tuple[int, bytes]] = field(default_factory=list)  # writes; (size, None as b"") of a truncate: see `cuts`
    cuts: set[int] = field(default_factory=set)  # which of `pending` are truncates
    synced_mode: int = 0
    names: dict[bytes, int] = field(default_factory=dict)
    changes: list[_Change] = field(default_factory=list)

    def now(self) -> dict[bytes, int]:
        """The names that a directory shows to a running system."""
        return _after(self.names, self.changes)


@dataclass(frozen=True)
class Found:
    """One thing of an image. `number` is equal where two names are one file."""

    kind: str
    number: int
    mode: int = 0
    data: bytes = b""


Image = dict[bytes, Found]
"""Path, from the root of the disk on -> what is there; parents come before what is in them."""


def _after(names: dict[bytes, int], changes: list[_Change]) -> dict[bytes, int]:
    result = dict(names)
    for change in changes:
        if change.node is None:
            result.pop(change.name, None)
        else:
            result[change.name] = change.node
    return result


class Disk:
    """A disk, as it was when the recording began, and then change by change.

    Arguments:
        folder: what it holds at the beginning, all of it durable.
    """

    def __init__(self, folder: Path) -> None:
        self._nodes: dict[int, _Node] = {1: _Node("dir", folder.stat().st_mode & 0o7777, synced_mode=0o700)}
        self._serial = 1
        self._scan(os.fsencode(folder), self._nodes[1], {})

    def _scan(self, folder: bytes, node: _Node, known: dict[int, int]) -> None:
        for entry in sorted(os.scandir(folder), key=lambda found: found.name):
            number = known.get(entry.inode())
            if number is None:
                self._serial += 1
                number = known[entry.inode()] = self._serial
                mode = entry.stat(follow_symlinks=False).st_mode & 0o7777
                if entry.is_symlink():
                    made = _Node("link", mode, os.readlink(entry.path), synced_mode=mode)
                elif entry.is_dir():
                    made = _Node("dir", mode, synced_mode=mode)
                    self._scan(entry.path, made, known)
                else:
                    made = _Node("file", mode, data=Path(os.fsdecode(entry.path)).read_bytes(), synced_mode=mode)
                self._nodes[number] = made
            node.names[entry.name] = number

    # changes ---------------------------------------------------------------------------------------------------------
    def apply(self, record: list[Any]) -> None:
        """The next change that was written down. A "mark" changes nothing."""
        what, *rest = record
        getattr(self, f"_{what}")(*rest)

    def _mark(self, text: bytes) -> None:
        """Nothing happens to the disk."""

    def _add(self, parent: int, name: bytes, number: int, node: _Node) -> None:
        self._nodes[number] = node
        self._nodes[parent].changes.append(_Change(name, number))

    def _create(self, parent: int, name: bytes, number: int, mode: int) -> None:
        self._add(parent, name, number, _Node("file", mode, synced_mode=mode))

    def _mkdir(self, parent: int, name: bytes, number: int, mode: int) -> None:
        self._add(parent, name, number, _Node("dir", mode, synced_mode=mode))

    def _symlink(self, parent: int, name: bytes, number: int, target: bytes) -> None:
        self._add(parent, name, number, _Node("link", 0o777, target, synced_mode=0o777))

    def _link(self, parent: int, name: bytes, number: int) -> None:
        self._nodes[parent].changes.append(_Change(name, number))

    def _remove(self, parent: int, name: bytes) -> None:
        self._nodes[parent].changes.append(_Change(name, None))

    def _rename(self, old_parent: int, old: bytes, new_parent: int, new: bytes) -> None:
        number = self._nodes[old_parent].now()[old]
        if self._nodes[new_parent].now().get(new) == number:
            return  # two names of one file: nothing happens
        there, gone = _Change(new, number), _Change(old, None)
        there.other, gone.other = (old_parent, gone), (new_parent, there)
        self._nodes[new_parent].changes.append(there)
        self._nodes[old_parent].changes.append(gone)

    def _write(self, number: int, offset: int, data: bytes) -> None:
        self._nodes[number].pending.append((offset, data))

    def _truncate(self, number: int, size: int) -> None:
        node = self._nodes[number]
        node.cuts.add(len(node.pending))
        node.pending.append((size, b""))

    def _mode(self, number: int, mode: int) -> None:
        self._nodes[number].mode = mode

    def _fsync(self, number: int) -> None:
        node = self._nodes[number]
        node.data = self._bytes_of(node, Survival.ALL, random.Random(0))
        node.pending, node.cuts, node.synced_mode = [], set(), node.mode
        if node.kind == "dir":
            self._settle({number: len(node.changes)})

    def _syncfs(self) -> None:
        for number in self._nodes:
            self._fsync(number)

    def _settle(self, lengths: dict[int, int]) -> None:
        """Makes so many changes of these directories durable, and what hangs on them elsewhere."""
        for number, length in self._with_renames(lengths).items():
            node = self._nodes[number]
            node.names = _after(node.names, node.changes[:length])
            for change in node.changes[:length]:
                if change.other is not None:
                    change.other[1].other = None
            node.changes = node.changes[length:]

    def _with_renames(self, lengths: dict[int, int]) -> dict[int, int]:
        """So many changes of each directory, and more where only one half of a rename would be among them."""
        result = dict(lengths)
        todo = [number for number, length in result.items() if length]
        while todo:
            number = todo.pop()
            for change in self._nodes[number].changes[: result[number]]:
                if change.other is None:
                    continue
                other, half = change.other
                at = next(at for at, found in enumerate(self._nodes[other].changes, 1) if found is half)
                if result.get(other, 0) < at:
                    result[other] = at
                    todo.append(other)
        return result

    # power cuts ------------------------------------------------------------------------------------------------------
    def after_power_cut(self, survival: Survival, chance: random.Random) -> Image:
        """What the disk holds if the machine goes down now."""
        lengths = {}
        for number, node in self._nodes.items():
            if survival is Survival.CHANCE:
                lengths[number] = chance.randint(0, len(node.changes))
            elif survival.keeps_names:
                lengths[number] = len(node.changes)
        lengths = self._with_renames(lengths)
        image: Image = {}
        for path, number in self._walk(b"", 1, lengths):
            node = self._nodes[number]
            mode = node.synced_mode if survival in (Survival.NOTHING, Survival.BYTES) else node.mode
            data = node.target if node.kind == "link" else self._bytes_of(node, survival, chance)
            image[path] = Found(node.kind, number, mode, data)
        return image

    def _walk(self, path: bytes, number: int, lengths: dict[int, int]) -> Iterator[tuple[bytes, int]]:
        node = self._nodes[number]
        for name, child in sorted(_after(node.names, node.changes[: lengths.get(number, 0)]).items()):
            below = path + b"/" + name
            yield below, child
            if self._nodes[child].kind == "dir":
                yield from self._walk(below, child, lengths)

    def _bytes_of(self, node: _Node, survival: Survival, chance: random.Random) -> bytes:
        if not node.pending or survival in (Survival.NOTHING, Survival.NAMES):
            return node.data
        result = bytearray(node.data)
        for at, (offset, data) in enumerate(node.pending):
            if at in node.cuts:
                result = result[:offset] + bytes(max(0, offset - len(result)))
                continue
            end = offset + len(data)
            result.extend(bytes(max(0, end - len(result))))
            if survival in (Survival.ALL, Survival.BYTES):
                result[offset:end] = data
            elif survival in (Survival.TORN, Survival.CHANCE):
                for begin in range(offset - offset % SECTOR, end, SECTOR):
                    if chance.random() < 0.5:
                        part = slice(max(begin, offset), min(begin + SECTOR, end))
                        result[part] = data[part.start - offset : part.stop - offset]
        return bytes(result)


def read_log(path: Path) -> list[list[Any]]:
    """What a recording disk has written down."""
    data, at, records = path.read_bytes(), 0, []
    decoder = msgspec.msgpack.Decoder()
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "little")
        records.append(decoder.decode(data[at + 4 : at + 4 + length]))
        at += 4 + length
    # msgpack has text and bytes; of text are only the words that say what a change is.
    return [[record[0], *record[1:]] for record in records]


def signature(image: Image) -> bytes:
    """Equal for equal images."""
    digest = hashlib.blake2b(digest_size=16)
    for path, found in image.items():
        digest.update(repr((path, found.kind, found.number, found.mode, len(found.data))).encode())
        digest.update(found.data)
    return digest.digest()


def materialize(image: Image, folder: Path) -> None:
    """Makes the image's files in `folder`, which is new."""
    folder.mkdir(mode=0o700)
    root = os.fsencode(folder)
    first: dict[int, bytes] = {}
    folders = []
    for path, found in image.items():
        place = root + path
        if found.kind == "dir":
            os.mkdir(place, 0o700)
            folders.append((place, found.mode))
        elif found.number in first:
            os.link(first[found.number], place, follow_symlinks=False)
        elif found.kind == "link":
            os.symlink(found.data, place)
        else:
            with open(place, "wb") as stream:
                stream.write(found.data)
            os.chmod(place, found.mode)
            first[found.number] = place
    for place, mode in reversed(folders):
        os.chmod(place, mode)


@contextmanager
def restarted(image: Image, folder: Path, what: str) -> Iterator[Path]:
    """`folder` as the image has it, for as long as somebody looks at it. What goes wrong there gets `what` as a note, and leaves
    the folder for a person."""
    materialize(image, folder)
    try:
        yield folder
    except Exception as error:
        error.add_note(f"power cut {what}")
        raise
    shutil.rmtree(folder)
