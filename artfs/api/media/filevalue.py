"""What all values with one file share."""

from __future__ import annotations

import os
import shutil
from typing import Any, BinaryIO, ClassVar, Self

from artfs.api.media.base import NAME_DIGITS, Placed, Sink, Source, Value
from artfs.api.media.content import Content, InArtifact
from artfs.api.media.fields import as_object, required


class FileValue(Value):
    """A value that is one file, and a little JSON that names it.

    Its file is named after its content: `folder/DIGITS.ending`, or `folder/DIGITS/name` for a file of the user's.

    Attributes:
        folder: where its file lies in an artifact.
    """

    folder: ClassVar[str]

    def __init__(self, content: Content, ending: str) -> None:
        """`ending`: of the name that a file without one gets, with its dot."""
        self._content = content
        self._ending = ending

    # its bytes ------------------------------------------------------------------------------------

    @property
    def sha256(self) -> str:
        """Of the file, 64 hex digits."""
        return self._content.sha256

    @property
    def name(self) -> str | None:
        """The last part of its file's path; None while it has none."""
        return self._content.name

    def open(self) -> BinaryIO:
        """The file, to be read, and closed by the caller."""
        return self._content.open()

    def read(self) -> bytes:
        """All of the file."""
        with self.open() as stream:
            return stream.read()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Copies the file to `path`, replacing what is there."""
        with self.open() as stream, open(path, "wb") as target:
            shutil.copyfileobj(stream, target, 1024 * 1024)

    # storing --------------------------------------------------------------------------------------

    def _name(self, digest: str) -> str:
        digits = digest[:NAME_DIGITS]
        # One that comes from memory was named after its digest when it was first stored.
        if self._content.name is None or self._content.name == f"{digits}{self._ending}":
            return f"{self.folder}/{digits}{self._ending}"
        return f"{self.folder}/{digits}/{self._content.name}"

    def _place(self, sink: Sink) -> Placed:
        return sink.place(self._content, self._name)

    def _more(self) -> dict[str, Any]:
        """What else is in its JSON; what is None is left out."""
        return {}

    def to_json(self, sink: Sink) -> dict[str, Any]:
        placed = self._place(sink)
        more = {key: value for key, value in self._more().items() if value is not None}
        return {"_type": self.kind, "path": placed.path, "sha256": placed.digest, **more}

    @classmethod
    def from_json(cls, given: Any, source: Source) -> Self:
        fields = as_object(given, cls.kind)
        path = required(fields, "path", str)
        value = cls.__new__(cls)
        FileValue.__init__(value, InArtifact(source, path), ending_of(path))
        value._read_more(fields, source)
        return value

    def _read_more(self, fields: dict[str, Any], source: Source) -> None:
        """The opposite of `_more`."""

    def _key(self) -> object:
        return self.sha256, self._more()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._content.name or f'of {self.sha256[:NAME_DIGITS]}…'}>"


def ending_of(path: str) -> str:
    """From the first dot of the last part: "a/b.pts.json" has ".pts.json"; "" when there is none."""
    return "".join(path.rpartition("/")[2].partition(".")[1:])
