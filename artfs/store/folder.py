"""A store that is a folder on this machine: each blob a plain file, `blobs/ab/<64 hex digits>`, mode 0444."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from artfs.errors import BadBlobError, BlobMissingError, StorageError
from artfs.model.digests import digest_bytes
from artfs.model.records import Content
from artfs.store.base import Place
from artfs.store.batch import FolderBatch
from artfs.store.layout import Layout, ignore_wait


class FolderStore:
    """See artfs.store.base.LocalStore. Thread-safe; several processes may use one folder.

    Arguments:
        root: the folder; made (0700) with its parts when missing.
        free_floor: bytes that must stay free on its file system; a put that would go below raises StorageError(ENOSPC).
        on_wait: told in one line what a batch waits for when it cannot begin at once.
    Raises StorageError when the folder cannot be made, StateVersionError when a newer artfs made it.
    """

    def __init__(
        self, root: Path, *, free_floor: int = 0, on_wait: Callable[[str], None] = ignore_wait
    ) -> None:
        self._root = Path(root).absolute()
        self._layout = Layout(str(self._root), free_floor, on_wait)

    @property
    def root(self) -> Path:
        return self._root

    def path_of(self, digest: str) -> Path:
        return Path(self._layout.blob_path(digest))

    def text_path_of(self, digest: str) -> str:
        """`path_of` for whoever asks for thousands: making a Path costs as much as opening the file."""
        return self._layout.blob_path(digest)

    def try_size(self, digest: str) -> int | None:
        try:
            return os.stat(self._layout.blob_path(digest)).st_size
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError.wrap(error, f"looking for blob {digest}") from error

    def open_blob(self, digest: str, content: Content | None = None) -> int:
        try:
            return os.open(self._layout.blob_path(digest), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise BlobMissingError(f"blob {digest} is not in the store {self._root}", digest) from None
        except OSError as error:
            raise StorageError.wrap(error, f"opening blob {digest}") from error

    def read(self, digest: str) -> bytes:
        fd = self.open_blob(digest)
        try:
            with open(fd, "rb", buffering=0) as stream:
                data = stream.readall()
        except OSError as error:
            raise StorageError.wrap(error, f"reading blob {digest}") from error
        if digest_bytes(data) != digest:
            raise BadBlobError(f"blob {digest} is damaged: its {len(data)} bytes have another digest", digest)
        return data

    def read_page(self, digest: str) -> bytes:
        return self.read(digest)

    def begin(self, place: Place | None = None) -> FolderBatch:
        return FolderBatch(self._layout)

    def blobs(self) -> Iterator[tuple[str, int]]:
        for path in self._layout.blob_paths():
            with contextlib.suppress(FileNotFoundError):
                yield path[-64:], os.stat(path).st_size

    def remove(self, digest: str) -> None:
        try:
            os.unlink(self._layout.blob_path(digest))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise StorageError.wrap(error, f"removing blob {digest}") from error

    def exclusive(self, on_wait: Callable[[str], None] = ignore_wait) -> contextlib.AbstractContextManager[None]:
        """Inside, no batch of any process is under way and none begins.

        Waits for the batches that are, after telling `on_wait` so; a thread that is inside a batch of its own would
        wait for ever. Also removes what dead writers left. Raises StorageError.
        """
        return self._layout.exclusive(on_wait)
