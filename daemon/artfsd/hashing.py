"""Digests of a draft's files, computed while they are written and finished when they are closed, so that a commit has
little to read.

Sequential writers (cp, tar, rsync, most of all) are followed: small files are hashed on the spot from the bytes that
pass, larger ones by a thread that reads what was written from the page cache. Whatever writes otherwise is read once
more after its last close. A result is recorded with the file's fingerprint and the count of writes it saw; one that
comes too late is thrown away.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from typing import TYPE_CHECKING

from artfs.errors import SourceChangedError
from artfs.model.digests import digest_bytes
from artfs.model.records import Content
from artfs.store.linux import aligned_buffer, start_writeback
from artfs.store.staging import HashLog, record_for
from artfs.store.verify import StreamHasher, hash_file

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

INLINE_LIMIT = 128 * 1024
"""Files up to this many bytes are hashed on the loop's thread from the written bytes (14 µs for 20 KB)."""

FOLLOW_STEP = 4 * 1024 * 1024
"""A thread follows a larger file when this many bytes wait for it."""

QUEUE_LIMIT = 512
"""Files waiting for a thread (each holds a descriptor); beyond it the commit hashes what is left."""

_CHUNK = 1024 * 1024
_WRITE_BACK_STEP = 32 * 1024 * 1024


class FileHash:
    """What is known of the digest of one file that is, or was, open for writing. Changed on the loop's thread; a
    thread reads `end` and `broken` and owns `hasher` while `following`."""

    __slots__ = ("_ahead", "broken", "changes", "done", "end", "following", "hasher", "inline", "parts")

    def __init__(self, fresh: bool) -> None:
        self.hasher: StreamHasher | None = None  # made by the first thread that follows
        self.parts: list[bytes] = []  # all bytes written, while they are few
        self.end = 0  # bytes written contiguously from 0
        self.done = 0  # bytes hashed
        self.inline = True
        self.broken = not fresh  # cannot be followed: read it all at the end
        self.following = False
        self.changes = 0
        self._ahead: dict[int, int] = {}

    def wrote(self, offset: int, data: bytes) -> None:
        self.changes += 1
        if self.broken:
            return
        if offset != self.end:
            # The kernel may send write-back a little out of order; anything behind `end` overwrites what was hashed.
            if offset < self.end or len(self._ahead) > 64:
                self.broken = True
            else:
                self._outgrown()
                self._ahead[offset] = offset + len(data)
            return
        self.end += len(data)
        while self._ahead and self.end in self._ahead:
            self.end = self._ahead.pop(self.end)
        if self.inline:
            if self.end <= INLINE_LIMIT:
                self.parts.append(data)
            else:
                self._outgrown()

    def _outgrown(self) -> None:
        self.inline = False
        self.parts.clear()

    def disturbed(self) -> None:
        """The content changed in a way that cannot be followed (truncate)."""
        self.changes += 1
        self.broken = True


class HashPool:
    """Threads that hash. `busy_with(log)` tells whether something of a draft is still under way."""

    def __init__(self, threads: int) -> None:
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._pending: dict[int, int] = {}
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._threads = [threading.Thread(target=self._work, name=f"hash-{n}", daemon=True) for n in range(threads)]
        for thread in self._threads:
            thread.start()

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            try:
                job()
            except (OSError, SourceChangedError) as error:
                log.info("a closed file could not be hashed yet (%s); the commit will read it", error)
            except Exception:
                log.exception("hashing a closed file failed; the commit will read it again")

    def close(self) -> None:
        for _ in self._threads:
            self._queue.put(None)

    @property
    def pending(self) -> int:
        return sum(self._pending.values())

    def _submit(self, owner: HashLog, job: Callable[[], None]) -> None:
        key = id(owner)
        with self._lock:
            self._pending[key] = self._pending.get(key, 0) + 1

        def counted() -> None:
            try:
                job()
            finally:
                with self._idle:
                    self._pending[key] -= 1
                    if not self._pending[key]:
                        del self._pending[key]
                    self._idle.notify_all()

        self._queue.put(counted)

    def wait_idle(self, owner: HashLog, timeout_s: float | None = None) -> bool:
        """Waits until nothing of the draft is under way; None: as long as it takes. False: time is up."""
        with self._idle:
            return self._idle.wait_for(lambda: id(owner) not in self._pending, timeout_s)

    def follow(self, owner: HashLog, state: FileHash, fd: int) -> None:
        """After a write: lets a thread catch up when enough waits for it."""
        if state.inline or state.broken or state.following or state.end - state.done < FOLLOW_STEP:
            return
        state.following = True
        own = os.dup(fd)

        def job() -> None:
            try:
                self._catch_up(state, own)
            finally:
                state.following = False
                os.close(own)

        self._submit(owner, job)

    def _catch_up(self, state: FileHash, fd: int) -> StreamHasher:
        """Hashes what was written contiguously and not yet hashed."""
        hasher = state.hasher
        if hasher is None:
            hasher = state.hasher = StreamHasher()
        buffer = aligned_buffer(_CHUNK)
        written_back = state.done
        while not state.broken and state.done < state.end:
            got = os.preadv(fd, [buffer[: min(_CHUNK, state.end - state.done)]], state.done)
            if not got:
                state.broken = True
                break
            hasher.update(buffer[:got])
            state.done += got
            if state.done - written_back >= _WRITE_BACK_STEP:
                # The commit syncs it anyway; begun now, that is short.
                start_writeback(fd, written_back, state.done - written_back)
                written_back = state.done
        return hasher

    def finish(self, owner: HashLog, state: FileHash, fd: int) -> None:
        """At the last close of a changed file: records its digest now or soon. Takes `fd` over."""
        status = os.fstat(fd)
        if state.inline and not state.broken and state.end == status.st_size:
            os.close(fd)
            owner.add(record_for(status, Content(digest_bytes(b"".join(state.parts)), state.end), ()))
            return
        if self.pending >= QUEUE_LIMIT:
            os.close(fd)
            return
        changes = state.changes

        def job() -> None:
            try:
                self._finish_large(owner, state, fd, changes)
            finally:
                os.close(fd)

        self._submit(owner, job)

    def _finish_large(self, owner: HashLog, state: FileHash, fd: int, changes: int) -> None:
        while state.following:
            time.sleep(0.001)
        before = os.fstat(fd)
        hasher = self._catch_up(state, fd)
        if not state.broken and state.done == before.st_size:
            content, objects = hasher.finish()
        else:
            content, objects = hash_file(fd, before.st_size)
        after = os.fstat(fd)
        same = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
        if same and state.changes == changes and content.size == after.st_size:
            owner.add(record_for(after, content, objects))
