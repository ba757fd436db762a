"""A large blob that is read from a server, as all its readers in a process share it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from artfs.errors import ArtfsError, BadBlobError, BadObjectError, UnavailableError
from artfs.model.digests import BLOCK_SIZE
from artfs.store.cache import Cache, Complete, Partial
from artfs.store.linux import aligned_buffer
from artfs.wire.messages import MAX_BLOB

if TYPE_CHECKING:
    from artfs.model.blocklist import BlockList
    from artfs.transfer.fetch import Fetcher

Notify = Callable[[], None]

_TRIES = 100
_DAMAGED = 3
"""So often a block is fetched again that goes before it is read, or is wrong in the file."""


def large_key(digest: str, blocks: str) -> str:
    """What names a large blob and how it is checked: two trees may say different things of one digest (one of them
    lies), and their readers must not meet."""
    return f"{digest}{blocks}"


class Waiter:
    """Somebody who waits for the blocks `left`."""

    __slots__ = ("left", "notify")

    def __init__(self, left: set[int], notify: Notify) -> None:
        self.left = left
        self.notify = notify


class BlobFile:
    """What is here of a large blob, once it is open.

    Attributes:
        key: see `large_key`.
        count: of its blocks.
        file: what is here of it; None as long as nobody waited for a block.
        top: its block list, once `file` is there.
        verified: a byte for each block: 1 when this process has found it right (or the one that it had fetch it).
    """

    def __init__(self, digest: str, size: int, blocks: str) -> None:
        """Raises BadObjectError for a size that no server takes: what is noted of its blocks would fill the memory."""
        if size > MAX_BLOB:
            raise BadObjectError(f"blob {digest} is said to have {size:,} bytes, more than any server takes", digest)
        self.digest = digest
        self.size = size
        self.blocks = blocks
        self.key = large_key(digest, blocks)
        self.count = -(-size // BLOCK_SIZE)
        self.file: Partial | Complete | None = None
        self.top: BlockList | None = None
        self.verified = bytearray(self.count)
        self.prepare_lock = threading.Lock()

    def span_of(self, first: int, stop: int) -> tuple[int, int]:
        """(offset, length) of the blocks first … stop - 1 in bytes."""
        offset = first * BLOCK_SIZE
        return offset, min(stop * BLOCK_SIZE, self.size) - offset

    def open_file(self, cache: Cache, top: BlockList, hashes: Callable[[], bytes]) -> None:
        """Opens what is here. `hashes`: gives all of them (it may block), asked only when the blob is complete."""
        fd = cache.try_open(self.digest)
        self.top = top
        if fd is None:
            self.file = cache.open_partial(self.digest, self.blocks, top)
            return
        try:
            if os.fstat(fd).st_size != self.size:
                cache.discard(self.digest)
                self.file = cache.open_partial(self.digest, self.blocks, top)
                os.close(fd)
                return
            self.file = Complete(self.digest, self.size, fd, hashes())
        except BaseException:
            os.close(fd)
            raise

    def close_file(self) -> None:
        """Nobody reads from it any more. Again is fine."""
        file, self.file = self.file, None
        if file is not None:
            file.close()


class LargeBlob(BlobFile):
    """Made by `Fetcher.large`; `close` ends one use. Thread-safe; what blocks says so."""

    def __init__(self, fetcher: Fetcher, digest: str, size: int, blocks: str) -> None:
        super().__init__(digest, size, blocks)
        self.users = 0
        # The fetcher's, below its lock:
        self.waiters: list[Waiter] = []
        self.failed: dict[int, tuple[ArtfsError, float]] = {}
        self._fetcher = fetcher
        self._outgrown: list[Complete] = []

    # what is here -----------------------------------------------------------------------------------------------
    def missing(self, first: int, stop: int) -> list[int]:
        """Which of the blocks first … stop - 1 are not here."""
        file = self.file
        if file is None:
            return list(range(first, stop))
        absent = file.missing(first, stop)
        return [index for index in absent if not self._fetcher.has_recent((self.digest, index))] if absent else absent

    def has(self, index: int) -> bool:
        return (self.file is not None and self.file.has(index)) or self._fetcher.has_recent((self.digest, index))

    def need(self, first: int, stop: int, notify: Notify) -> bool:
        """Whether the blocks are all here, or known not to come (then `raise_failure` raises). Otherwise they are fetched,
        and `notify` is called once when that is so, from another thread; it must not block."""
        return self._fetcher.need_blocks(self, first, stop, notify)

    def raise_failure(self, first: int, stop: int) -> None:
        """Raises what went wrong lately with one of the blocks, if anything did."""
        self._fetcher.raise_failure(self, first, stop)

    def give_up(self, first: int, stop: int) -> None:
        """Somebody waited for the blocks as long as they can: for a while nobody else begins to wait for those that are not
        here."""
        self._fetcher.give_up_blocks(self, first, stop)

    def prefetch(self, first: int, stop: int) -> None:
        """Has the blocks fetched when there is nothing more urgent."""
        self._fetcher.prefetch_blocks(self, first, stop)

    def cancel_prefetch(self) -> None:
        """What was asked for ahead, and was not begun, is not wanted any more."""
        self._fetcher.cancel_prefetch(self)

    def recent(self, index: int) -> bytes | None:
        """A block that is in memory; it was checked."""
        return self._fetcher.recent((self.digest, index))

    # reading ----------------------------------------------------------------------------------------------------
    def damaged_in(self, first: int, stop: int, data: memoryview, *, all_of_them: bool = False) -> list[int]:
        """`data` are the blocks first … stop - 1, as the file has them; shorter, when the file is. Checks those that were not
        checked yet (or `all_of_them`: they were read from the disk again) and returns those that are wrong."""
        file = self.file
        assert file is not None
        wrong = []
        whole = len(data) == self.span_of(first, stop)[1]
        for index in range(first, stop):
            if self.verified[index] and whole and not all_of_them:
                continue
            at = (index - first) * BLOCK_SIZE
            try:
                file.check(index, data[at : at + BLOCK_SIZE])
                self.verified[index] = 1
            except (BadBlobError, LookupError):
                wrong.append(index)
        return wrong

    def found_damaged(self, indexes: list[int]) -> None:
        """These blocks of the file are not what they were: they are forgotten, and will be fetched again."""
        for index in indexes:
            self.verified[index] = 0
        file = self.file
        if isinstance(file, Complete):
            assert self.top is not None
            # Not closed before the last use: a thread may be reading from it.
            self._outgrown.append(file)
            self._fetcher.forget_open(self)
            self.file = self._fetcher.cache.demote(self.digest, self.blocks, self.top, file.hashes, indexes)
        elif file is not None:
            file.drop(indexes)
        self._fetcher.count_damaged(
            f"{len(indexes)} block(s) of the cached blob {self.digest} were damaged; they are fetched again", len(indexes)
        )

    def read(self, offset: int, nbytes: int, *, timeout_s: float) -> memoryview:
        """Those bytes, as far as the blob goes, checked. Blocks; `timeout_s`: how long nothing may come, in seconds. Raises
        BadBlobError, BlobMissingError, UnavailableError, StorageError."""
        end = min(offset + nbytes, self.size)
        if offset >= end:
            return memoryview(b"")
        first, stop = offset // BLOCK_SIZE, (end - 1) // BLOCK_SIZE + 1
        start, nbytes = self.span_of(first, stop)
        buffer = aligned_buffer(nbytes)
        if stop - first > 1:
            self.prefetch(first, stop)  # with the first one, in one range; not waited for together: see _read_block
        for index in range(first, stop):
            at = index * BLOCK_SIZE - start
            self._read_block(index, buffer[at : at + BLOCK_SIZE], timeout_s)
        return buffer[offset - start : end - start]

    def _read_block(self, index: int, part: memoryview, timeout_s: float) -> None:
        """Fills `part` with a block. Without room in the cache it comes to memory only, and may go for others before we look."""
        damaged = 0
        for _ in range(_TRIES):
            self.wait(index, index + 1, timeout_s)
            file = self.file
            if file is None or not file.has(index):
                held = self.recent(index)
                if held is not None:
                    part[:] = held
                    return
            else:
                done = 0
                while done < len(part) and (got := os.preadv(file.fd, [part[done:]], index * BLOCK_SIZE + done)):
                    done += got
                wrong = self.damaged_in(index, index + 1, part[:done])
                if not wrong:
                    return
                self.found_damaged(wrong)
                damaged += 1
                if damaged == _DAMAGED:
                    raise BadBlobError(
                        f"blob {self.digest} is damaged in the cache again and again; is the disk sound?", self.digest
                    )
        raise UnavailableError(
            f"blob {self.digest} goes from memory before it is read: the cache has no room for all that is read at once"
        )

    def wait(self, first: int, stop: int, timeout_s: float) -> None:
        """Blocks until each of the blocks has come; without room in the cache some may have gone again. Raises as `read`."""
        while True:
            came = threading.Event()
            if self.need(first, stop, came.set):
                self.raise_failure(first, stop)
                if not self.missing(first, stop):
                    return
                continue
            if not self._fetcher.wait_for(came, timeout_s):
                raise UnavailableError(f"nothing came from the server for {timeout_s:.0f} s, nor did blob {self.digest}")
            # Not looked for again: what there is no room for would be fetched for ever.
            self.raise_failure(first, stop)
            return

    def try_open_whole(self) -> int | None:
        """A descriptor for reading of its own, which the caller closes; None when the file has not all blocks. They were checked
        when they came. Raises OSError."""
        file = self.file
        if file is None or file.missing(0, self.count):
            return None
        return os.open(f"/proc/self/fd/{file.fd}", os.O_RDONLY | os.O_CLOEXEC)

    # the end ----------------------------------------------------------------------------------------------------
    def close(self) -> None:
        """Ends one use. After the last one a blob that is all here may be made a complete one of the cache (in a thread)."""
        self._fetcher.release(self)

    def take_file(self) -> Partial | None:
        """After the last use: closes what is here; a partial that has become whole is returned instead."""
        file, self.file = self.file, None
        for old in self._outgrown:
            old.close()
        if isinstance(file, Partial) and file.is_complete:
            return file
        if file is not None:
            file.close()
        return None
