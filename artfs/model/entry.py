"""Entries: the lines of a tree. Encoded as MessagePack arrays that begin with a tag ("f", "d", "l", "r").

What the annotations say (lengths, ranges) is checked by the decoder, in C; the rest by `wrong_names`
and `wrong_entry`, in as few passes as possible, because a version may have a million of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from operator import attrgetter, lt
from typing import Annotated

import msgspec

from artfs.errors import InvalidNameError
from artfs.model.digests import BLOCKS_ABOVE, MAX_SIZE, RAW_LENGTH, Digest
from artfs.model.records import Content

MAX_NAME = 255
"""Longest name of an entry, in bytes: what Linux file systems hold."""

MAX_TARGET = 4095
"""Longest target of a symbolic link, in bytes (PATH_MAX without the NUL)."""

MAX_URI = 4096
"""Longest URI of a reference, in bytes of UTF-8."""

MAX_CHECKSUM = 1024
"""Longest checksum and longest version id of a reference, in bytes of UTF-8 (S3 allows 1024)."""

_Name = Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_NAME)]
_Raw = Annotated[bytes, msgspec.Meta(min_length=RAW_LENGTH, max_length=RAW_LENGTH)]
_Size = Annotated[int, msgspec.Meta(ge=0, le=MAX_SIZE)]


class FileEntry(msgspec.Struct, frozen=True, array_like=True, tag="f", gc=False, forbid_unknown_fields=True):
    """A file whose bytes we keep.

    Attributes:
        name: one component of a path, raw bytes as the file system has them (`os.fsencode`).
        size: bytes.
        sha256: raw digest of the content.
        blocks: raw digest of the top block list; b"" exactly when `size` is at most BLOCKS_ABOVE.
        executable: the owner may execute it.
    """

    name: _Name
    size: _Size
    sha256: _Raw
    blocks: Annotated[bytes, msgspec.Meta(max_length=RAW_LENGTH)]
    executable: bool

    @property
    def digest(self) -> Digest:
        """SHA-256 of the content, in hex."""
        return self.sha256.hex()

    @property
    def content(self) -> Content:
        """The content as stores know it."""
        return Content(self.sha256.hex(), self.size, self.blocks.hex())


class DirEntry(msgspec.Struct, frozen=True, array_like=True, tag="d", gc=False, forbid_unknown_fields=True):
    """A directory. `tree`: raw digest of its tree; `size`, `file_count`: totals of all below it."""

    name: _Name
    tree: _Raw
    size: _Size
    file_count: _Size

    @property
    def digest(self) -> Digest:
        """Digest of the directory's tree, in hex."""
        return self.tree.hex()


class LinkEntry(msgspec.Struct, frozen=True, array_like=True, tag="l", gc=False, forbid_unknown_fields=True):
    """A symbolic link. `target`: relative, and inside the artifact (see `link_stays_inside`). A link counts
    as no file and has no size in totals: what it shows is counted where it is."""

    name: _Name
    target: Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_TARGET)]


class RefEntry(msgspec.Struct, frozen=True, array_like=True, tag="r", gc=False, forbid_unknown_fields=True):
    """A file whose bytes live elsewhere.

    Attributes:
        uri: where, never empty.
        size: bytes; None: the source did not tell. It counts as a file, and as 0 bytes when not known.
        checksum: as the source gives it (an ETag, a digest, the URI itself), "" when there is none.
        version_id: the source's own version of the object, "" when it has none.
    """

    name: _Name
    uri: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_URI)]
    size: _Size | None
    checksum: Annotated[str, msgspec.Meta(max_length=MAX_CHECKSUM)]
    version_id: Annotated[str, msgspec.Meta(max_length=MAX_CHECKSUM)]


Entry = FileEntry | DirEntry | LinkEntry | RefEntry

_NOT_NAMES = frozenset((b"", b".", b".."))
_name_of = attrgetter("name")
_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Entry] = msgspec.msgpack.Decoder(Entry)


def names_of(entries: Sequence[Entry]) -> list[bytes]:
    """The names, in the order of `entries`."""
    return list(map(_name_of, entries))


def wrong_name(name: bytes) -> str | None:
    """Which rule for a component of a path `name` breaks, or None."""
    if not name:
        return "an empty name"
    if name in _NOT_NAMES:
        return f"the name {name.decode()!r}, which means a directory itself or its parent"
    if b"/" in name:
        return f"the name {name!r}, which holds a '/'"
    if b"\0" in name:
        return f"the name {name!r}, which holds a NUL byte"
    if len(name) > MAX_NAME:
        return f"the name {name[:20]!r}…, which has {len(name)} bytes (at most {MAX_NAME} are allowed)"
    return None


def wrong_names(names: Sequence[bytes]) -> str | None:
    """What is wrong with `names` as the sorted names of a directory (or keys of an index page), or None."""
    joined = b"/".join(names)
    if (
        joined.count(b"/") >= max(len(names), 1)
        or b"\0" in joined
        or not _NOT_NAMES.isdisjoint(names)
        or max(map(len, names), default=0) > MAX_NAME
    ):
        return next(filter(None, map(wrong_name, names)))
    if not all(map(lt, names, names[1:])):
        for before, after in pairwise(names):
            if before == after:
                return f"the name {before!r} twice"
            if before > after:
                return f"the name {after!r} after {before!r}: names are not sorted"
    return None


def wrong_entry(entry: Entry) -> str | None:
    """Which rule that the decoder does not check `entry` breaks (its name aside), or None."""
    if type(entry) is FileEntry:
        if len(entry.blocks) != (RAW_LENGTH if entry.size > BLOCKS_ABOVE else 0):
            having = "with" if entry.blocks else "without"
            return f"the file {entry.name!r} of {entry.size} bytes {having} a block list"
    elif type(entry) is LinkEntry:
        if entry.target[:1] == b"/":
            return f"the link {entry.name!r} with an absolute target"
        if b"\0" in entry.target:
            return f"the link {entry.name!r} with a NUL byte in its target"
    elif type(entry) is RefEntry:
        for what, text, limit in (
            ("URI", entry.uri, MAX_URI),
            ("checksum", entry.checksum, MAX_CHECKSUM),
            ("version id", entry.version_id, MAX_CHECKSUM),
        ):
            if "\0" in text:
                return f"the reference {entry.name!r} with a NUL in its {what}"
            if len(text) * 4 > limit and len(text.encode("utf-8", "surrogatepass")) > limit:
                return f"the reference {entry.name!r} with a {what} of over {limit} bytes"
    return None


def check_entry(entry: Entry) -> Entry:
    """Returns `entry` if it may stand in a tree. Raises InvalidNameError that says which rule it breaks."""
    wrong: str | None
    try:
        _decoder.decode(_encoder.encode(entry))
    except (msgspec.MsgspecError, UnicodeError, OverflowError, TypeError) as error:
        name: object = entry.name
        wrong = (wrong_name(name) if isinstance(name, bytes) else None) or f"the entry {name!r}: {error}"
    else:
        wrong = wrong_name(entry.name) or wrong_entry(entry)
    if wrong is not None:
        raise InvalidNameError(f"a directory cannot hold {wrong}")
    return entry


def entry_totals(entry: Entry) -> tuple[int, int]:
    """(size, file_count) that `entry` adds to the totals of its directory."""
    if type(entry) is FileEntry:
        return entry.size, 1
    if type(entry) is DirEntry:
        return entry.size, entry.file_count
    if type(entry) is RefEntry:
        return entry.size or 0, 1
    return 0, 0


def link_stays_inside(dir_path_parts: Sequence[str] | Sequence[bytes], target: bytes) -> bool:
    """Whether a symbolic link in the directory of that path (below the root, which is ()) points into the
    artifact.

    It must be relative, climb no higher than the root, and have `..` only at its beginning: `x/../y` means
    something else when `x` is itself a link, and a chain of such links could climb out although each one,
    read as text, stays inside. That the target exists is not asked.
    """
    climbs = link_climbs(target)
    return climbs is not None and climbs <= len(dir_path_parts)


def link_climbs(target: bytes) -> int | None:
    """How many directories a symbolic link with this target climbs before it descends; None for one that no directory of an
    artifact may hold (see `link_stays_inside`)."""
    if not target or target[:1] == b"/" or b"\0" in target or len(target) > MAX_TARGET:
        return None
    climbs = 0
    below = False
    for part in target.split(b"/"):
        if part == b"..":
            if below:
                return None
            climbs += 1
        elif part not in (b"", b"."):
            below = True
    return climbs
