"""Copying, or only checking, a large blob on several threads, against its block list.

SHA-256 goes through a file from end to end, on one processor; the hashes of a block list can be compared anywhere at
once, and BLAKE3 is five times as fast. A list that was loaded by its digest proves the same thing: the bytes are the blob's.
"""

from __future__ import annotations

import os
import threading

from artfs.errors import BadBlobError, BlobMissingError, CorruptError, SourceChangedError
from artfs.store.blocks import BlobChecker
from artfs.store.linux import aligned_buffer
from artfs.store.verify import OnBytes, copy_digesting, digest_file, write_all

_PIECE = 2
"""Blocks that a thread reads, checks and writes at once: 512 KiB, which stays in the processor's cache."""
_MIN_PIECES = 8
"""Fewer for each thread are not worth starting one."""


class BlockCopier:
    """Copies large blobs. Thread-safe: calls made at the same time share the threads.

    Arguments:
        workers: threads that a blob is copied on at the most, the caller's among them.
    """

    def __init__(self, workers: int) -> None:
        self._spare = threading.BoundedSemaphore(max(workers - 1, 1))
        self._workers = workers

    def copy(self, source: int, target: int | None, checker: BlobChecker, *, on_bytes: OnBytes | None = None) -> None:
        """Reads the open file `source`, checks it to be the blob of `checker`, and writes each piece that was found right
        to the same place in the file `target` (None: only checks).

        A blob whose block list is missing or damaged is checked by its SHA-256. Raises BadBlobError when the bytes or
        their number are not the blob's, OSError, and what `on_bytes` raises; the target is then half-written.
        """
        if os.fstat(source).st_size != checker.size:
            raise BadBlobError(
                f"blob {checker.digest} has {os.fstat(source).st_size} bytes instead of {checker.size}", checker.digest
            )
        try:
            checker.prepare()
        except (BlobMissingError, CorruptError):
            _copy_in_order(source, target, checker, on_bytes)
            return
        work = _Copy(source, target, checker, on_bytes)
        threads = []
        try:
            for _ in range(min(self._workers, checker.block_count // (_PIECE * _MIN_PIECES)) - 1):
                if not self._spare.acquire(blocking=False):
                    break
                thread = threading.Thread(target=work.run, name="artfs-copy", daemon=True)
                threads.append(thread)
                thread.start()
            work.run()
        finally:
            work.stop()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
                self._spare.release()
        if work.error is not None:
            raise work.error


def _copy_in_order(source: int, target: int | None, checker: BlobChecker, on_bytes: OnBytes | None) -> None:
    try:
        if target is None:
            digest = digest_file(source, checker.size, on_bytes=on_bytes)
        else:
            digest = copy_digesting(source, target, checker.size, on_bytes=on_bytes)
    except SourceChangedError as error:
        raise BadBlobError(f"blob {checker.digest} is damaged: {error}", checker.digest) from None
    if digest != checker.digest:
        raise BadBlobError(f"blob {checker.digest} is damaged: its bytes have another digest", checker.digest)


class _Copy:
    """One copy, which `run` does on as many threads as call it. `error`: the first one, which ends all."""

    def __init__(self, source: int, target: int | None, checker: BlobChecker, on_bytes: OnBytes | None) -> None:
        self.error: BaseException | None = None
        self._source = source
        self._target = target
        self._checker = checker
        self._on_bytes = on_bytes
        self._lock = threading.Lock()
        self._next = 0

    def stop(self) -> None:
        """Has every `run` end after its present piece."""
        with self._lock:
            self._next = self._checker.block_count

    def run(self) -> None:
        buffer = aligned_buffer(_PIECE * self._checker.block_size)
        try:
            while (first := self._claim()) < self._checker.block_count:
                self._piece(first, buffer)
        except BaseException as error:
            with self._lock:
                self.error = self.error or error
            self.stop()

    def _claim(self) -> int:
        with self._lock:
            first = self._next
            self._next = first + _PIECE
        return first

    def _piece(self, first: int, buffer: memoryview) -> None:
        checker = self._checker
        offset, _ = checker.span(first)
        done = 0
        wanted = min(len(buffer), checker.size - offset)
        while done < wanted and (got := os.preadv(self._source, [buffer[done:wanted]], offset + done)):
            done += got
        for index in range(first, min(first + _PIECE, checker.block_count)):
            at = (index - first) * checker.block_size
            # A file that ended early gives a short block, which is a wrong one.
            checker.check_block(index, buffer[at : min(at + checker.block_size, done)])
        if self._target is not None:
            write_all(self._target, buffer[:done], offset)
        if self._on_bytes is not None:
            self._on_bytes(done)
