"""References as open files: nothing is fetched before the first read, and nothing is handed out before all of it was checked."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING, TypeVar

from artfs.errors import ArtfsError, WaitTimeoutError
from artfs.model.entry import FileEntry, RefEntry
from artfs.references.reader import Opened, OpenReference, ReferenceReader
from artfs.references.uris import shown
from artfsd.errnos import errno_of
from artfsd.inodes import FileHandle, Later, Told

if TYPE_CHECKING:
    from artfsd.fetch import Blobs
    from artfsd.remote import RemoteBlobs

log = logging.getLogger(__name__)

Result = TypeVar("Result")


class RefHandle(FileHandle):
    """One open reference. `keep_cache` False: each opening asks the source whether it still has what was added.

    `direct`: its size is not known, so reads must reach us to find its end. `failed`: what a reader is told from then on;
    the kernel asks again after an error, and who opens the file again starts anew.
    """

    __slots__ = ("_blobs", "_coming", "_entry", "_failed", "_label", "_opened", "_reader", "_wait_s", "direct")
    keep_cache = False

    def __init__(
        self, reader: ReferenceReader, blobs: Blobs | RemoteBlobs, entry: RefEntry, wait_s: float, label: Callable[[], str]
    ) -> None:
        super().__init__()
        self.direct = entry.size is None
        self._reader = reader
        self._blobs = blobs
        self._entry = entry
        self._wait_s = wait_s
        self._label = label
        self._coming: Future[Callable[[], Opened]] | None = None
        self._opened: OpenReference | FileHandle | None = None
        self._failed: int | None = None

    def label(self) -> str:
        return self._label()

    def read(self, offset: int, size: int) -> bytes | memoryview:
        if self._failed is not None:
            raise Told(self._failed, None)
        opened = self._opened
        if opened is None:
            if self._coming is None:
                self._coming = self._reader.begin(self._entry)
            coming = self._coming
            raise Later(lambda: self._wait(coming), self._ready, again=True)
        if isinstance(opened, FileHandle):
            return opened.read(offset, size)
        raise Later(lambda: _caught(lambda: opened.read(offset, size)), self._checked)

    def _wait(self, coming: Future[Callable[[], Opened]]) -> Opened | ArtfsError:
        try:
            return _caught(coming.result(self._wait_s))
        except FutureTimeoutError:
            raise WaitTimeoutError(
                f"{self._label()}: {shown(self._entry.uri)} is still being fetched after {self._wait_s:.0f} s"
            ) from None
        except ArtfsError as error:
            return error

    def _ready(self, opened: Opened | ArtfsError) -> None:
        self._coming = None
        if isinstance(opened, ArtfsError):
            self._fail(opened)
        elif self._opened is not None:
            if isinstance(opened, OpenReference):
                opened.close()  # another read was faster
        elif isinstance(opened, FileEntry):
            self._opened = self._blobs.open(opened, self._label)
        else:
            self._opened = opened

    def _checked(self, data: bytes | ArtfsError) -> bytes:
        if isinstance(data, ArtfsError):
            self._fail(data)
            raise Told(self._failed, None)
        return data

    def _fail(self, error: ArtfsError) -> None:
        if self._failed is None:
            self._failed = errno_of(error)
            log.error("%s cannot be read: %s", self._label(), error)

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None


def _caught(ask: Callable[[], Result]) -> Result | ArtfsError:
    """Errors as values, so that the loop's thread tells of each once."""
    try:
        return ask()
    except ArtfsError as error:
        return error


def ref_xattrs(entry: RefEntry) -> dict[bytes, bytes]:
    """What is known of a reference. Others may read it, so a presigned URL does not show its signature."""
    values = {
        "uri": shown(entry.uri),
        "digest": entry.checksum,
        "version_id": entry.version_id,
        "size": "" if entry.size is None else str(entry.size),
    }
    return {b"user.artfs." + key.encode(): value.encode() for key, value in values.items() if value}
