"""Digests of a draft's files, computed while they are written and finished when they are closed, so that a commit has
little to read.

Sequential writers (cp, tar, rsync, most of all) are followed: small files are hashed from the bytes that passed, on the
loop's thread when it has nothing else to do, larger ones by a thread that reads what was written from the page cache.
Whatever writes otherwise is read once more after its last close. A result is recorded with the file's fingerprint; one
that comes too late, because the file was opened for writing again, is thrown away.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

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

SMALL_LIMIT = 32
"""Small files that were closed and wait for the loop to be idle (each holds its bytes and a descriptor)."""

QUEUE_LIMIT = 512
"""Files waiting for a thread (each holds a descriptor); beyond it the commit hashes what is left."""

NOT_HASHED = "a closed file could not be hashed yet (%s); the commit will read it"

_CHUNK = 1024 * 1024
_WRITE_BACK_STEP = 32 * 1024 * 1024


class FileHash:
    """What is known of the digest of one file that is, or was, open for writing. Changed on the loop's thread; a
    thread reads `end` and `broken` and owns `hasher` while `following`."""

    __slots__ = (
        "_ahead",
        "broken",
        "changed",
        "done",
        "end",
        "following",
        "hasher",
        "inline",
        "parts",
        "superseded",
        "unanswered",
    )

    def __init__(self, fresh: bool) -> None:
        self.hasher: StreamHasher | None = None  # made by the first thread that follows
        self.parts: list[bytes] = []  # all bytes written, while they are few
        self.end = 0  # bytes written contiguously from 0
        self.done = 0  # bytes hashed
        self.inline = True
        self.broken = not fresh  # cannot be followed: read it all at the end
        self.following = False
        self.changed = False
        self.superseded = False
        self.unanswered = 0  # writes in threads that were not told to have succeeded
        self._ahead: dict[int, int] = {}

    def wrote(self, offset: int, data: bytes) -> None:
        self.changed = True
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
        self.changed = True
        self.broken = True


class _Closed(NamedTuple):
    """A file that was closed. `fd` is its own."""

    owner: HashLog
    inode: int
    state: FileHash
    fd: int


class HashPool:
    """Threads that hash, and what the loop's thread hashes itself. All but `wait_idle` is for that thread alone.

    `on_hashed`: told of each digest that was recorded, with the bytes, or a descriptor that is valid during the call; from any
    thread, must not block.
    """

    def __init__(self, threads: int) -> None:
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._small: deque[_Closed] = deque()
        self._unfinished: dict[
            tuple[int, int], FileHash
        ] = {}  # by (draft, inode): closed, and its digest not known yet
        self._pending: dict[int, int] = {}
        self.on_hashed: Callable[[HashLog, Content, bytes | int], None] | None = None
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
                log.info(NOT_HASHED, error)
            except Exception:
                log.exception("hashing a closed file failed; the commit will read it again")

    def close(self) -> None:
        for _ in self._threads:
            self._queue.put(None)

    @property
    def pending(self) -> int:
        return sum(self._pending.values()) + len(self._small)

    def has_threads_at_work(self) -> bool:
        return bool(self._pending)

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
        """Waits until no thread works for the draft; None: as long as it takes. False: time is up. (What waits for
        the loop's own thread is done with `drain`.)"""
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

    def finish(self, owner: HashLog, inode: int, state: FileHash, fd: int) -> None:
        """At the last close of a changed file: records its digest soon. Takes `fd` over."""
        closed = _Closed(owner, inode, state, fd)
        with self._lock:
            self._unfinished[id(owner), inode] = state
        if not state.inline or state.broken:
            self._finish_in_thread(closed)
            return
        self._small.append(closed)
        if len(self._small) > SMALL_LIMIT:
            self.hash_small()

    def supersede(self, owner: HashLog, inode: int) -> None:
        """The file's content may change from here on: a digest of what it was when it was closed comes too late."""
        with self._lock:
            state = self._unfinished.pop((id(owner), inode), None)
        if state is not None:
            state.superseded = True

    def hash_small(self) -> bool:
        """Hashes one small file that was closed. False: there was none."""
        if not self._small:
            return False
        closed = self._small.popleft()
        state = closed.state
        try:
            if state.superseded:
                os.close(closed.fd)
                return True
            status = os.fstat(closed.fd)
            if state.end != status.st_size:
                self._finish_in_thread(closed)
                return True
            os.close(closed.fd)
        except OSError as error:
            log.info(NOT_HASHED, error)
        else:
            data = b"".join(state.parts)
            content = Content(digest_bytes(data), state.end)
            closed.owner.add(record_for(status, content, ()))
            if self.on_hashed is not None:
                self.on_hashed(closed.owner, content, data)
        self._finished(closed)
        return True

    def drain(self) -> None:
        """Hashes all of them."""
        while self.hash_small():
            pass

    def _finished(self, closed: _Closed) -> None:
        key = (id(closed.owner), closed.inode)
        with self._lock:
            if self._unfinished.get(key) is closed.state:
                del self._unfinished[key]

    def _finish_in_thread(self, closed: _Closed) -> None:
        if self.pending >= QUEUE_LIMIT:
            os.close(closed.fd)
            self._finished(closed)
            return

        def job() -> None:
            try:
                self._finish_large(closed.owner, closed.state, closed.fd)
            finally:
                os.close(closed.fd)
                self._finished(closed)

        self._submit(closed.owner, job)

    def _finish_large(self, owner: HashLog, state: FileHash, fd: int) -> None:
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
        if same and not state.superseded and content.size == after.st_size:
            owner.add(record_for(after, content, objects))
            if self.on_hashed is not None:
                self.on_hashed(owner, content, fd)
