"""Copy on write: how inherited content becomes a file of the draft's own."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from artfs.errors import BadBlobError
from artfs.model.entry import FileEntry, RefEntry
from artfs.store.linux import try_reflink
from artfs.store.verify import write_all

if TYPE_CHECKING:
    from artfsd.livedraft import LiveDraft

log = logging.getLogger(__name__)

_CHUNK = 1024 * 1024


class CopyUp:
    """A copy of one file's inherited content, made under a scratch name.

    A large file on a slow disk takes longer than a system call may wait. So a copy goes on after the deadline of whoever wanted
    it first, and belongs to all who want it: they wait for it, and who comes afterwards finds it `done`.

    Attributes:
        aside: the scratch name. It holds all of the content once `done` is True.
    """

    def __init__(self, draft: LiveDraft, entry: FileEntry | RefEntry) -> None:
        self.draft = draft
        self.entry = entry
        self.aside = draft.staged.scratch.name()
        self.done = False
        self._wanted = True
        self._lock = threading.Lock()

    def is_of(self, entry: FileEntry | RefEntry) -> bool:
        """Whether it copies what `entry` has (a mode may have been changed meanwhile)."""
        if isinstance(entry, FileEntry) and isinstance(self.entry, FileEntry):
            return entry.content == self.entry.content
        return entry == self.entry

    def run(self) -> None:
        """Copies, or waits for another thread that does; after a failure whoever waited tries again. Raises BadBlobError, OSError
        and what references raise; nothing is left then."""
        with self._lock:
            if self.done:
                return
            if isinstance(self.entry, RefEntry):
                self._copy_reference(self.entry)
            else:
                self._copy_blob(self.entry)
            self.done = True
        if not self._wanted:
            self.discard()

    def discard(self) -> None:
        """Nobody wants it any more: what there is of it goes, now or as soon as it is done."""
        self._wanted = False
        if self.done:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.aside)

    def _copy_blob(self, entry: FileEntry) -> None:
        source = self.draft.store.open_blob(entry.digest, entry.content)
        try:
            with self._target() as target:
                cloned = try_reflink(source, target)
                if not cloned:
                    self.draft.floor.check(entry.size)
                digest = hashlib.sha256()
                at = 0
                while chunk := os.pread(source, _CHUNK, at):
                    digest.update(chunk)
                    if not cloned:
                        write_all(target, chunk, at)
                    at += len(chunk)
                if digest.hexdigest() != entry.digest:
                    log.error("blob %s is damaged; the draft cannot change a file that has it", entry.digest)
                    raise BadBlobError(f"blob {entry.digest} does not match its digest", entry.digest)
        finally:
            os.close(source)

    def _copy_reference(self, entry: RefEntry) -> None:
        trees = self.draft.trees
        opened = trees.references.open(entry, trees.wait_s)
        if isinstance(opened, FileEntry):
            self._copy_blob(opened)
            return
        try:
            with self._target() as target:
                at = 0
                while data := opened.read(at, _CHUNK):
                    self.draft.floor.check(len(data))
                    write_all(target, data, at)
                    at += len(data)
        finally:
            opened.close()

    @contextlib.contextmanager
    def _target(self) -> Iterator[int]:
        target = os.open(self.aside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            yield target
        except BaseException:
            os.unlink(self.aside)
            raise
        finally:
            os.close(target)
