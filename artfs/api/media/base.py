"""What a value is, and the two small interfaces between values and artifacts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Protocol, Self

if TYPE_CHECKING:
    from artfs.api.media.content import Content

NAME_DIGITS = 20
"""How many digits of a file's digest stand in its name."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Where something is in an artifact. `digest`: SHA-256 of its bytes, 64 hex digits."""

    path: str
    digest: str


class Sink(Protocol):
    """Takes what belongs to a value, while the value is being added."""

    def place(self, content: Content, name: Callable[[str], str]) -> Placed:
        """Adds a file under the path that `name` makes of its digest. Equal files become one, and a file of the
        user's that the artifact has already is used where it is."""
        ...

    def keep(self, value: Value, name: Callable[[str], str]) -> Placed:
        """Adds another value, under the name that `name` makes of the digest of its JSON (without its suffix); or
        finds it, if that object is in the artifact already."""
        ...

    def refer(self, uri: str, folder: str) -> str:
        """Adds a reference in `folder`; returns its path. Raises InvalidArgumentError where that cannot be done."""
        ...


class Source(Protocol):
    """Gives back what a Sink took. Paths come from JSON that somebody else may have written."""

    def open(self, path: str) -> BinaryIO:
        """The file at `path`, to be closed by the caller. Raises BadObjectError when there is none."""
        ...

    def digest(self, path: str) -> str | None:
        """SHA-256 of the file at `path`; None for a reference. Raises BadObjectError when there is none."""
        ...

    def uri(self, path: str) -> str | None:
        """Where the reference at `path` leads; None for a file. Raises as `digest`."""
        ...

    def value(self, path: str) -> Value:
        """The value whose JSON is at `path`. Raises BadObjectError when there is none."""
        ...

    def inline(self, given: dict[str, Any]) -> Value | None:
        """The value that is described by JSON inside of other JSON; None when it describes none."""
        ...

    def below(self, folder: str) -> Iterator[str]:
        """The paths of all files in a folder and those below it, sorted."""
        ...


class Value(ABC):
    """Something that `Artifact.add` takes and `Artifact.get` returns. Values compare by what they hold.

    Attributes:
        kind: its `_type` in JSON, and the first part of its suffix.
        origin: set by `Artifact.get`: where it was got from. None for a value made here.
    """

    kind: ClassVar[str]
    origin: object | None = None

    @classmethod
    def suffix(cls) -> str:
        """What the name of its JSON file ends with."""
        return f".{cls.kind}.json"

    @classmethod
    def stored_name(cls, name: str) -> str:
        """The path of its JSON file when it is added as `name`."""
        return name if name.endswith(cls.suffix()) else name + cls.suffix()

    @abstractmethod
    def to_json(self, sink: Sink) -> Any:
        """Its JSON, once its files are in `sink`."""

    @classmethod
    @abstractmethod
    def from_json(cls, given: Any, source: Source) -> Self:
        """The value of that JSON, which is used up: parts of it may become parts of the value. Raises BadObjectError
        when it is malformed."""

    @abstractmethod
    def _key(self) -> object:
        """What makes two values of a class equal."""

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        assert isinstance(other, Value)
        return other is self or bool(self._key() == other._key())

    __hash__ = None  # type: ignore[assignment] # what it holds may change
