"""Blobs of a server as the mount reads them: from the cache where they are, from the server what is not.

The two kinds of handle keep nothing of their own but what makes the next read fast; what is here and what is on its way knows
the fetcher (artfs/transfer/fetch.py). Nothing here waits: a read that needs a transfer raises `Wait`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

from artfs.errors import ArtfsError, BadBlobError
from artfs.model.digests import BLOCK_SIZE, BLOCKS_ABOVE, digest_bytes
from artfs.model.entry import FileEntry
from artfs.store.cache import Partial, Spot
from artfs.store.linux import aligned_buffer
from artfs.transfer.fetch import Fetcher
from artfs.transfer.largeblob import LargeBlob
from artfsd.fetch import IDLE_DESCRIPTORS, MAX_READ
from artfsd.inodes import FileHandle, Later, Wait
from artfsd.readahead import Pattern

log = logging.getLogger(__name__)

_NOWAIT = getattr(os, "RWF_NOWAIT", 0)

Label = Callable[[], str]


class RemoteBlob(FileHandle):
    """One blob that is open, or was a moment ago: all who open it share it."""

    shared = True

    __slots__ = ("_blobs", "_label", "entry", "is_frugal", "users")

    def __init__(self, blobs: RemoteBlobs, entry: FileEntry, label: Label) -> None:
        super().__init__()
        self._blobs = blobs
        self.entry = entry
        self._label = label
        self.users = 0
        self.is_frugal = False

    def read_by(self, is_frugal: bool) -> None:
        """Who has taken it just now: for a frugal reader (readers.py) nothing is fetched ahead, unless somebody else reads it,
        too."""
        self.is_frugal = is_frugal and (self.is_frugal or self.users == 1)

    def label(self) -> str:
        return self._label()

    @property
    def is_open(self) -> bool:
        return True

    def take(self) -> None:
        """One more has it open."""
        if not self.users:
            self._blobs.taken()
        self.users += 1

    def close(self) -> None:
        self.users -= 1
        if not self.users:
            self._blobs.released(self)

    def drop(self) -> None:
        """For good."""
        raise NotImplementedError

    def failed(self, error: ArtfsError) -> ArtfsError:
        """Tells which file of which version it is."""
        log.error("%s cannot be read: %s", self.label(), error)
        return error


class RemoteSmall(RemoteBlob):
    """A blob of at most 1 MiB: it comes whole. `on_miss`: called when it is read and is not here."""

    __slots__ = ("_checked", "_gone", "_own_fd", "_spot", "on_miss")

    def __init__(self, blobs: RemoteBlobs, entry: FileEntry, label: Label) -> None:
        super().__init__(blobs, entry, label)
        self._spot: Spot | None = None
        self._own_fd = -1  # of a file of its own in the cache
        self.on_miss: Callable[[], None] | None = None
        self._checked: tuple[int, int] | None = None
        self._gone = False

    @property
    def is_open(self) -> bool:
        return not self._gone

    def read(self, offset: int, size: int) -> bytes | memoryview:
        end = min(offset + size, self.entry.size)
        if offset >= end:
            return b""
        fetcher = self._blobs.fetcher
        digest = self.entry.digest
        held = fetcher.recent(digest)
        if held is not None:
            fetcher.stats.reads += 1
            if end == self.entry.size:
                fetcher.was_read(digest)  # the kernel has it now
            return memoryview(held)[offset:end]
        if self._spot is None and self._own_fd < 0:
            self._spot = fetcher.cache.find_small(digest)
            if self._spot is None and (opened := fetcher.cache.try_open_file(digest)) is not None:
                self._own_fd = opened
        if self._spot is not None or self._own_fd >= 0:
            fetcher.stats.reads += 1
        if self._spot is not None:
            # A tree may say another size: then the next blob of the pack would be read as well.
            if self._spot.size == self.entry.size and fetcher.is_just_kept(digest):
                buffer = self._blobs.buffer(end - offset)
                if try_read(self._spot.pack.fd, buffer, self._spot.offset + offset):
                    if end == self.entry.size:
                        fetcher.was_read(digest)
                    return buffer
            return self._read_file(self._spot.pack.fd, self._spot.offset, offset, end)
        if self._own_fd >= 0:
            return self._read_file(self._own_fd, 0, offset, end)
        if self.on_miss is not None and not self.is_frugal:
            self.on_miss()

        def start(notify: Callable[[], None]) -> bool:
            here = fetcher.need_small(digest, self.entry.size, notify, looked=True)
            if here:
                self._raise_failure()
            else:
                fetcher.stats.waited += 1
            return here

        raise Wait(start, lambda: fetcher.give_up_small(digest))

    def _raise_failure(self) -> None:
        try:
            self._blobs.fetcher.raise_small_failure(self.entry.digest)
        except ArtfsError as error:
            raise self.failed(error) from error

    def _read_file(self, fd: int, base: int, offset: int, end: int) -> bytes | memoryview:
        """The blob begins at `base` of the file."""
        status = os.fstat(fd)
        fingerprint = (status.st_mtime_ns, status.st_ctime_ns)
        if self._checked == fingerprint:
            start, stop = offset, end
        else:
            start, stop = 0, self.entry.size

        def take(data: memoryview, *, cold: bool) -> memoryview:
            if (cold or self._checked != fingerprint) and (start, stop) == (0, self.entry.size):
                if len(data) != stop or digest_bytes(data) != self.entry.digest:
                    return self._mend(offset, end)
                self._checked = fingerprint
                if end - offset < stop:
                    # The rest is about to be read, and a pack that grows looks changed each time.
                    self._blobs.fetcher.remember(self.entry.digest, bytes(data))
            return data[offset - start : end - start]

        buffer = self._blobs.buffer(stop - start)
        if try_read(fd, buffer, base + start):
            return take(buffer, cold=False)
        if (start, stop) != (0, self.entry.size):
            self._checked = None  # from the disk: all of it, so that it can be checked
            return self._read_file(fd, base, offset, end)
        # The spot keeps its file open until the thread has read it.
        spot = self._spot
        raise Later(lambda: read_cold(fd, base, stop, spot), lambda data: take(data, cold=True))

    def _mend(self, offset: int, end: int) -> memoryview:
        self._close_file()
        self._blobs.fetcher.found_damaged(self.entry.digest)
        return memoryview(self.read(offset, end - offset))

    def _close_file(self) -> None:
        self._spot = None
        fd, self._own_fd = self._own_fd, -1
        self._checked = None
        if fd >= 0:
            os.close(fd)

    def drop(self) -> None:
        self._close_file()
        self._gone = True


class RemoteLarge(RemoteBlob):
    """A blob of more than 1 MiB: its blocks come as they are read, and a little before."""

    __slots__ = ("_blob", "_pattern")

    def __init__(self, blobs: RemoteBlobs, entry: FileEntry, label: Label) -> None:
        super().__init__(blobs, entry, label)
        self._blob: LargeBlob | None = blobs.fetcher.large(entry.digest, entry.size, entry.blocks.hex())
        self._pattern = Pattern(self._blob.count)

    @property
    def is_open(self) -> bool:
        return self._blob is not None

    @property
    def is_whole(self) -> bool:
        """Whether all of it has come, and nobody has made it a complete one yet."""
        return self._blob is not None and isinstance(self._blob.file, Partial) and self._blob.file.is_complete

    def read(self, offset: int, size: int) -> bytes | memoryview:
        end = min(offset + size, self.entry.size)
        if offset >= end:
            return b""
        blob = self._blob
        assert blob is not None
        first, stop = offset // BLOCK_SIZE, (end - 1) // BLOCK_SIZE + 1
        ahead = self._pattern.note(first, stop)
        if ahead is not None and not self.is_frugal:
            blob.prefetch(*ahead)
        if blob.missing(first, stop):

            def start(notify: Callable[[], None]) -> bool:
                here = blob.need(first, stop, notify)
                if here:
                    try:
                        blob.raise_failure(first, stop)
                    except ArtfsError as error:
                        raise self.failed(error) from error
                else:
                    self._blobs.fetcher.stats.waited += 1
                return here

            raise Wait(start, lambda: blob.give_up(first, stop))
        self._blobs.fetcher.stats.reads += 1
        return self._read_file(blob, offset, end, first, stop)

    def _read_file(self, blob: LargeBlob, offset: int, end: int, first: int, stop: int) -> memoryview:
        file = blob.file
        if file is None or any(not file.has(index) for index in range(first, stop)):
            # The cache has no room for it: it is in memory, for now.
            held = [blob.recent(index) for index in range(first, stop)]
            if None in held:
                return memoryview(self.read(offset, end - offset))  # it has just gone
            start = first * BLOCK_SIZE
            return memoryview(b"".join(data for data in held if data is not None))[offset - start : end - start]
        if 0 in blob.verified[first:stop]:
            start, nbytes = blob.span_of(first, stop)
            buffer = self._blobs.buffer(nbytes)
            if try_read(file.fd, buffer, start):
                return self._checked(blob, buffer, offset, end, first, cold=False)
        else:
            start, nbytes = offset, end - offset
            buffer = self._blobs.buffer(nbytes)
            if try_read(file.fd, buffer, start):
                return buffer
            # From the disk: whole blocks, so that they can be checked.
            start, nbytes = blob.span_of(first, stop)
        fd = file.fd
        raise Later(
            lambda: read_cold(fd, start, nbytes),
            lambda data: self._checked(blob, data, offset, end, first, cold=True),
        )

    def _checked(
        self, blob: LargeBlob, data: memoryview, offset: int, end: int, first: int, *, cold: bool
    ) -> memoryview:
        wrong = blob.damaged_in(first, (end - 1) // BLOCK_SIZE + 1, data, all_of_them=cold)
        if wrong:
            try:
                blob.found_damaged(wrong)
            except BadBlobError as error:
                raise self.failed(error) from error
            return memoryview(self.read(offset, end - offset))
        start = first * BLOCK_SIZE
        return data[offset - start : end - start]

    def drop(self) -> None:
        blob, self._blob = self._blob, None
        if blob is not None:
            blob.close()


def try_read(fd: int, buffer: memoryview, offset: int) -> bool:
    """Fills `buffer` if the file's bytes are in memory."""
    try:
        return os.preadv(fd, [buffer], offset, _NOWAIT) == len(buffer)
    except (BlockingIOError, OSError):
        return False  # a thread may wait for the disk, and says what is wrong with it


def read_cold(fd: int, offset: int, nbytes: int, held: object = None) -> memoryview:
    """As many of these bytes as the file has. `held`: what keeps it open. Raises OSError."""
    view = aligned_buffer(nbytes)
    done = 0
    while done < nbytes and (got := os.preadv(fd, [view[done:]], offset + done)):
        done += got
    return view[:done]


class RemoteBlobs:
    """What artfsd.fetch.Blobs is for blobs of this machine. `on_drop` gets the handle number of one that is closed for
    good."""

    def __init__(self, fetcher: Fetcher) -> None:
        self.fetcher = fetcher
        self.on_drop: Callable[[int], None] = lambda number: None
        self._blobs: dict[bytes, RemoteBlob] = {}
        self._idle = 0
        self._buffer = aligned_buffer(MAX_READ + 2 * BLOCK_SIZE)

    def buffer(self, size: int) -> memoryview:
        """Room for one read. Shared: valid until the loop's next request, which is after the reply was sent."""
        return aligned_buffer(size) if size > len(self._buffer) else self._buffer[:size]

    @staticmethod
    def blocks_of(entry: FileEntry) -> str:
        return entry.blocks.hex() if entry.blocks else ""

    def open(self, entry: FileEntry, label: Label) -> RemoteBlob:
        """The blob of `entry`. Asks nobody yet. `label` names the file in the log."""
        key = entry.sha256 + entry.blocks
        blob = self._blobs.get(key)
        if blob is None:
            kind = RemoteLarge if entry.size > BLOCKS_ABOVE else RemoteSmall
            blob = self._blobs[key] = kind(self, entry, label)
            self._idle += 1
        blob.take()
        return blob

    def prefetch(self, blobs: list[tuple[str, int]]) -> None:
        """(digest, size) of small blobs that will be read soon."""
        self.fetcher.prefetch_small(blobs)

    def taken(self) -> None:
        self._idle -= 1

    def released(self, blob: RemoteBlob) -> None:
        self._idle += 1
        if isinstance(blob, RemoteLarge) and blob.is_whole:
            self._drop(blob)  # it becomes a complete one of the cache
        elif self._idle > 2 * IDLE_DESCRIPTORS:
            self.drop_idle(keep=IDLE_DESCRIPTORS)

    def drop_idle(self, keep: int = 0) -> None:
        """Lets go of what nobody has open; the `keep` youngest stay."""
        idle = [blob for blob in self._blobs.values() if not blob.users]
        for blob in idle[: len(idle) - keep]:
            self._drop(blob)

    def _drop(self, blob: RemoteBlob) -> None:
        self._idle -= 1
        del self._blobs[blob.entry.sha256 + blob.entry.blocks]
        blob.drop()
        self.on_drop(blob.number)

    def status(self) -> dict[str, Any]:
        return {"open": len(self._blobs) - self._idle, "idle": self._idle}
