"""What a source of references is: one class for each scheme, found by `router.References`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from artfs.errors import InvalidArgumentError
from artfs.model.entry import RefEntry

MAX_OBJECTS = 10_000_000
"""How many objects one reference may stand for, unless the caller says otherwise."""

OnBytes = Callable[[int], None]
"""Told how many bytes were done since the last call; what it raises ends the work and is passed on."""


def ignore_bytes(nbytes: int) -> None:
    """An OnBytes for whoever does not care."""


@dataclass(frozen=True, slots=True)
class Found:
    """One object that a source has.

    Attributes:
        path: its place in the artifact, below the name that the caller gives (or the root).
        uri, size, checksum, version_id: as in RefEntry.
    """

    path: str
    uri: str
    size: int | None = None
    checksum: str = ""
    version_id: str = ""

    def entry(self, name: bytes) -> RefEntry:
        """Its line in a tree."""
        return RefEntry(name, self.uri, self.size, self.checksum, self.version_id)


@dataclass(frozen=True, slots=True)
class Examined:
    """What a URI stands for: one object (`single`), whose path is its default name ("": it has none), or all objects of a
    directory or prefix, sorted by path."""

    single: bool
    objects: list[Found]


class Source(Protocol):
    """All methods block, and may be called by several threads at once.

    They raise ReferenceMissingError (nothing is there), ReferenceChangedError (something else is there),
    ReferenceRefusedError (it must not be read), ReferenceUnsupportedError, UnavailableError (it cannot be reached now).
    """

    def examine(self, uri: str, *, checksum: bool, max_objects: int) -> Examined:
        """What is at `uri` now. Not `checksum`: nothing is asked, and a directory or prefix is one object.

        Raises InvalidArgumentError for a URI that means nothing, and for more than `max_objects` objects.
        """
        ...

    def fetch(self, ref: RefEntry, target: int, on_bytes: OnBytes) -> None:
        """Writes the bytes of `ref` to the empty file `target`, a descriptor. When it raises, what was written is worth
        nothing. Also raises StorageError."""
        ...

    def check(self, ref: RefEntry) -> None:
        """Asks whether the source still has what `ref` names, without reading it."""
        ...


def check_count(uri: str, count: int, max_objects: int) -> None:
    """Raises InvalidArgumentError when there are more objects than allowed."""
    if count > max_objects:
        raise InvalidArgumentError(
            f"{uri} has more than {max_objects} objects; give a larger max_objects, or add parts of it"
        )
