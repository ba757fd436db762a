"""A value's bytes, wherever they are: in memory, in a file of the user's, or in an artifact."""

from __future__ import annotations

import hashlib
import io
import os
from functools import cached_property
from typing import BinaryIO, Protocol

from artfs.api.media.base import Source
from artfs.errors import InvalidArgumentError, StorageError


def digest_of(stream: BinaryIO) -> str:
    """SHA-256 of the rest of the stream, 64 hex digits."""
    found = hashlib.sha256()
    while part := stream.read(1024 * 1024):
        found.update(part)
    return found.hexdigest()


class Content(Protocol):
    @property
    def sha256(self) -> str:
        """64 hex digits. A file of the user's is read for it."""
        ...

    @property
    def name(self) -> str | None:
        """The last part of its path; None when it has none."""
        ...

    @property
    def local_path(self) -> str | None:
        """Of a file of the user's: where it is, absolute."""
        ...

    def open(self) -> BinaryIO:
        """To be read, and closed by the caller."""
        ...


class InMemory:
    """Bytes."""

    name = None
    local_path = None

    def __init__(self, data: bytes) -> None:
        self.data = data

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    def open(self) -> BinaryIO:
        return io.BytesIO(self.data)


class LocalFile:
    """A file of the user's. It is read when the value is added, and not before unless the value is asked."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Raises InvalidArgumentError when there is no such file."""
        self.local_path = os.path.abspath(path)
        self.name = os.path.basename(self.local_path)
        if not os.path.isfile(self.local_path):
            raise InvalidArgumentError(f"there is no file {os.fspath(path)!r}")

    @property
    def sha256(self) -> str:
        with self.open() as stream:
            return digest_of(stream)

    def open(self) -> BinaryIO:
        try:
            return open(self.local_path, "rb")
        except OSError as error:
            raise StorageError.wrap(error, f"reading {self.local_path}") from error


class InArtifact:
    """A file of an artifact, which is read when it is asked for."""

    local_path = None

    def __init__(self, source: Source, path: str) -> None:
        """Raises BadObjectError when there is no such file."""
        self._source = source
        self._path = path
        self.name = path.rpartition("/")[2]
        self._digest = source.digest(path)

    @property
    def sha256(self) -> str:
        if self._digest is None:
            with self.open() as stream:
                self._digest = digest_of(stream)
        return self._digest

    def open(self) -> BinaryIO:
        return self._source.open(self._path)
