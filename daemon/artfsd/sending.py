"""Sending what is closed in drafts to the server at once, so that a commit finds it there.

It is only ahead of the commit: what could not be sent (no network, too much at once, changed again meanwhile) the commit
sends itself. So nothing here waits for anything, and errors are told once and forgotten.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable

from artfs.errors import ArtfsError
from artfs.model.records import Content
from artfs.store.base import SendingBatch

log = logging.getLogger(__name__)

QUEUED_NBYTES = 32 * 1024 * 1024
"""Bytes of small files that wait; beyond it they are left to the commit."""
QUEUED_FILES = 64
"""Larger files that wait, each with a descriptor."""
SETTLE_S = 0.5
"""After so long without another file, what was begun is waited for."""
PAUSE_S = 10.0
"""After an error, in seconds."""


class DraftSender:
    """Of one project. `offer` is for any thread; a thread of its own sends."""

    def __init__(self, begin: Callable[[], SendingBatch], label: str) -> None:
        self._begin = begin
        self._label = label
        self._queue: queue.SimpleQueue[tuple[Content, bytes | int] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._queued_nbytes = 0
        self._queued_files = 0
        self._paused_until = 0.0
        self._batch: SendingBatch | None = None
        self._ended = False
        self.sent = 0
        self._thread = threading.Thread(target=self._run, name="artfs-sending", daemon=True)
        self._thread.start()

    def offer(self, content: Content, data: bytes | int) -> None:
        """A file was closed that has `content`: its bytes, or a descriptor of it, which is duplicated. Does not block."""
        with self._lock:
            if time.monotonic() < self._paused_until:
                return
            if isinstance(data, bytes):
                if self._queued_nbytes + len(data) > QUEUED_NBYTES:
                    return
                self._queued_nbytes += len(data)
            else:
                if self._queued_files >= QUEUED_FILES:
                    return
                self._queued_files += 1
                data = os.dup(data)
        self._queue.put((content, data))

    def close(self) -> None:
        """Ends the thread. What was not sent yet is left to the commit."""
        with self._lock:
            self._ended = True
            batch = self._batch
        if batch is not None:
            batch.abandon()
        self._queue.put(None)
        self._thread.join(5.0)

    def _run(self) -> None:
        while True:
            try:
                item = self._queue.get(timeout=SETTLE_S if self._batch is not None else None)
            except queue.Empty:
                self._guarded(self._settle)
                continue
            if item is None:
                self._guarded(self._settle)
                return
            self._guarded(lambda item=item: self._send(*item))  # type: ignore[misc]

    def _guarded(self, call: Callable[[], None]) -> None:
        try:
            call()
        except ArtfsError as error:
            log.info("files of drafts in %s are not sent ahead, the commit will send them: %s", self._label, error)
            self._give_up()
        except Exception:
            log.exception("sending files of drafts ahead failed; the commit will send them")
            self._give_up()

    def _send(self, content: Content, data: bytes | int) -> None:
        with self._lock:
            if isinstance(data, bytes):
                self._queued_nbytes -= len(data)
            else:
                self._queued_files -= 1
            if not self._ended and time.monotonic() >= self._paused_until and self._batch is None:
                self._batch = self._begin().__enter__()
            batch = self._batch
        try:
            if batch is None:
                return
            if isinstance(data, bytes):
                batch.put_bytes(data)
            else:
                batch.send_open(data, f"a file of a draft in {self._label}", content)
            self.sent += 1
        finally:
            if isinstance(data, int):
                os.close(data)

    def _settle(self) -> None:
        batch = self._batch
        if batch is not None:
            batch.sync()
            self._end(batch)

    def _give_up(self) -> None:
        with self._lock:
            self._paused_until = time.monotonic() + PAUSE_S
        if self._batch is not None:
            self._end(self._batch)

    def _end(self, batch: SendingBatch) -> None:
        batch.__exit__(None, None, None)
        with self._lock:
            self._batch = None
