"""The cache's files: taking blobs in, finding them, making room. See the package for what lies where."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from artfs.errors import BadBlobError, SourceChangedError, StorageError
from artfs.folders import check_disk, check_format
from artfs.model.blocklist import HASHES_PER_BLOCK, BlockList
from artfs.model.digests import BLOCKS_ABOVE, check_digest
from artfs.store.cache.index import CacheIndex, Pin
from artfs.store.cache.packs import PACK_NBYTES, CheckedBlob, Packs, Spot, check_blob
from artfs.store.cache.partial import Partial
from artfs.store.cache.room import Room
from artfs.store.linux import make_folder
from artfs.store.verify import OnBytes, digest_file, write_all

log = logging.getLogger(__name__)

_MIB = 1024 * 1024
_NOTES = 512
_FLUSH_S = 5.0
_STALE_S = 60.0
"""A file that is half-written for so long belongs to a process that was killed."""
_WRITING = 0o200
_WHOLE = 0o444
_SMALLEST_PACK = 64 * 1024


@dataclass(frozen=True, slots=True)
class CacheStatus:
    """Bytes and numbers of blobs: `nbytes`, `count` of all, `pinned_nbytes`, `pinned_count` of those that are pinned.
    `limit`: what all but the pinned may take. `free`: of the disk; `floor`: what is left free of it."""

    path: str
    nbytes: int
    count: int
    pinned_nbytes: int
    pinned_count: int
    limit: int
    free: int
    floor: int


class Cache:
    """See artfs.store.cache. Thread-safe; any number of processes may use one folder.

    Arguments:
        root: the folder; made (0700) with its parts when missing.
        size: bytes that it may take, without what is pinned; None: a fifth of its file system.
        floor: bytes that it leaves free on its file system; None: a twentieth of it, at most 10 GiB.
    Raises StorageError when the folder cannot be made, StateVersionError when a newer artfs made it, UsageError when it is on a
    file system of a network.
    """

    def __init__(self, root: Path, *, size: int | None = None, floor: int | None = None) -> None:
        self.root = Path(root).absolute()
        self._blobs = f"{self.root}/blobs"
        self._partial = f"{self.root}/partial"
        packs = f"{self.root}/packs"
        check_disk(self.root, "ARTFS_CACHE_PATH")
        try:
            for path in (str(self.root), self._blobs, self._partial, packs):
                make_folder(path)
            disk = os.statvfs(self.root)
        except OSError as error:
            raise StorageError.wrap(error, f"making the cache {self.root}") from error
        check_format(self.root, "cache")
        whole = disk.f_blocks * disk.f_frsize
        self.limit = whole // 5 if size is None else size
        self.floor = min(whole // 20, 10 * 1024 * _MIB) if floor is None else floor
        self.index = CacheIndex(f"{self.root}/index.db")
        self.packs = Packs(packs, self.index, max(min(PACK_NBYTES, self.limit // 64), _SMALLEST_PACK))
        self._lock = threading.Lock()
        self._added: dict[str, bool] = {}
        self._touched: set[str] = set()
        self._flushed_at = time.monotonic()
        self._room = Room(self)
        if self.index.is_new and (os.listdir(self._blobs) or os.listdir(packs)):
            self.rescan()

    def path_of(self, digest: str) -> Path:
        """Where a complete blob is, or would be, if it is a file of its own."""
        return Path(self._path(digest))

    def _path(self, digest: str) -> str:
        check_digest(digest)
        return f"{self._blobs}/{digest[:2]}/{digest}"

    def file_of(self, digest: str, complete: bool) -> str:
        """Where its file is, or would be."""
        return self._path(digest) if complete else f"{self._partial}/{digest}"

    # complete blobs ---------------------------------------------------------------------------------------------
    def try_open(self, digest: str) -> int | None:
        """A descriptor of the complete blob, which the caller closes; eviction leaves it alone until then. Its bytes are
        unchecked. None: it is not here. Raises StorageError."""
        fd = self.try_open_file(digest)
        return self._try_copy(digest) if fd is None else fd

    def try_open_file(self, digest: str) -> int | None:
        """As `try_open`; None also when it is in a pack."""
        try:
            fd = os.open(self._path(digest), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except (FileNotFoundError, PermissionError):
            return None  # PermissionError: one that is being written
        except OSError as error:
            raise StorageError.wrap(error, f"opening the cached blob {digest}") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            if stat.S_IMODE(os.fstat(fd).st_mode) & 0o400:
                self._touched.add(digest)
                return fd
        except BlockingIOError:
            pass  # it is being evicted
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        return None

    def _try_copy(self, digest: str) -> int | None:
        """A blob of a pack as a file in memory."""
        data = self.packs.try_read(digest)
        if data is None:
            return None
        fd = os.memfd_create(digest[:16], os.MFD_CLOEXEC)
        try:
            with open(fd, "wb", buffering=0, closefd=False) as stream:
                stream.write(data)
                stream.seek(0)
        except OSError as error:
            os.close(fd)
            raise StorageError.wrap(error, f"reading the cached blob {digest}") from error
        return fd

    def find_small(self, digest: str) -> Spot | None:
        """Where in a pack the blob is. None: in none; it may be a file of its own. Raises StorageError."""
        return self.packs.find(digest)

    def try_read(self, digest: str) -> bytes | None:
        """All bytes of a complete blob, unchecked; None: it is not here. Raises StorageError."""
        data = self.packs.try_read(digest)
        if data is not None:
            return data
        fd = self.try_open(digest)
        if fd is None:
            return None
        try:
            with open(fd, "rb", buffering=0) as stream:
                return stream.readall()
        except OSError as error:
            raise StorageError.wrap(error, f"reading the cached blob {digest}") from error

    def has(self, digest: str) -> bool:
        """Whether the complete blob is here, as far as its name says."""
        return self._has_file(digest) or self.packs.find(digest) is not None

    def which(self, digests: Sequence[str]) -> set[str]:
        """Those of which the complete blob is here, as `can_open` says. Raises StorageError."""
        found = self.packs.which(digests)
        found.update(digest for digest in digests if digest not in found and self._can_open_file(digest))
        return found

    def try_size(self, digest: str) -> int | None:
        """The bytes of a complete blob; None: it is not here. Raises StorageError."""
        spot = self.packs.find(digest)
        if spot is not None:
            return spot.size
        try:
            return os.stat(self._path(digest)).st_size if self._has_file(digest) else None
        except FileNotFoundError:
            return None

    def _has_file(self, digest: str) -> bool:
        try:
            return bool(os.stat(self._path(digest)).st_mode & 0o400)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise StorageError.wrap(error, f"looking for the cached blob {digest}") from error

    def keep_small(self, blobs: Sequence[CheckedBlob]) -> bool:
        """Takes in blobs, together. False: there is no room (or the disk refuses), and some were not kept."""
        if not blobs:
            return True
        if not self._room.take(sum(len(data) for _, data in blobs)):
            return False
        try:
            self.packs.append(blobs)
        except (OSError, StorageError) as error:
            self._refused(error, blobs[0][0])
            return False
        self._note_time()
        return True

    def can_open(self, digest: str) -> bool:
        """Whether `try_open` would find it. Unlike `has` it is sure: one that is being evicted is not here."""
        return self.packs.find(digest) is not None or self._can_open_file(digest)

    def _can_open_file(self, digest: str) -> bool:
        fd = self.try_open_file(digest)
        if fd is None:
            return False
        os.close(fd)
        return True

    def put(self, digest: str, data: bytes | memoryview) -> bool:
        """The door for whole blobs: raises BadBlobError unless `data` has that digest. False: there is no room (or the
        disk refuses), nothing was kept."""
        blob = check_blob(digest, data)
        if len(data) <= BLOCKS_ABOVE:
            return self.packs.find(digest) is not None or self.keep_small([blob])
        if not self._room.take(len(data)):
            return False
        path = self._path(digest)
        try:
            fd = self._create(path)
            if fd is None:
                return True
            try:
                write_all(fd, data, 0)
                os.fchmod(fd, _WHOLE)
            except BaseException:
                with suppress(OSError):
                    os.unlink(path)
                raise
            finally:
                os.close(fd)
        except OSError as error:
            self._refused(error, digest)
            return False
        self._note(digest, True)
        return True

    def take_file(self, path: str | os.PathLike[str], digest: str) -> bool:
        """Moves a file, whose bytes the caller says are the blob, into the cache without copying it. False: it stayed where it is
        (another file system, no room). Readers check it as everything else."""
        target = self._path(digest)
        try:
            size = os.stat(path).st_size
            if self.has(digest) or not self._room.take(size):
                return False
            os.chmod(path, _WHOLE)
            try:
                os.rename(path, target)
            except FileNotFoundError:
                with suppress(FileExistsError):
                    os.mkdir(os.path.dirname(target), 0o700)
                os.rename(path, target)
        except OSError:
            return False
        self._note(digest, True)
        return True

    def _create(self, path: str) -> int | None:
        """None: somebody else has it, or is at it."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        for _ in range(3):
            try:
                return os.open(path, flags, _WRITING)
            except FileNotFoundError:
                with suppress(FileExistsError):
                    os.mkdir(os.path.dirname(path), 0o700)
            except FileExistsError:
                with suppress(FileNotFoundError):
                    status = os.stat(path)
                    if status.st_mode & 0o400 or time.time() - status.st_mtime < _STALE_S:
                        return None
                    os.unlink(path)
        return None

    def _refused(self, error: OSError | StorageError, digest: str) -> None:
        """The disk said no: what was fetched is used all the same, and nothing is kept for a while."""
        told = error if isinstance(error, StorageError) else StorageError.wrap(error, f"caching blob {digest}")
        log.warning("%s", told)
        self._room.close_for(_FLUSH_S)

    def discard(self, digest: str) -> None:
        """Removes a complete blob that was found wrong. Not there is fine."""
        with suppress(StorageError):
            self.packs.forget(digest)
        with suppress(StorageError):
            self.index.remove([digest])
        with suppress(FileNotFoundError):
            os.unlink(self._path(digest))

    # large blobs ------------------------------------------------------------------------------------------------
    def open_partial(self, digest: str, blocks: str, top: BlockList) -> Partial:
        """What is here of a large blob. `top`: the block list of that digest, checked. The caller closes it; eviction
        leaves it alone until then. On a disk without room nothing of it is here, and nothing will be kept. Raises
        StorageError."""
        try:
            partial = Partial(f"{self._partial}/{check_digest(digest)}", digest, blocks, top)
        except StorageError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            self._refused(error, digest)
            return Partial("", digest, blocks, top)
        self._note(digest, False)
        return partial

    def keep_block(self, partial: Partial, index: int, data: bytes | memoryview) -> bool:
        """Keeps a block that `partial.check` found right. False: there is no room (or the disk refuses)."""
        if not partial.path or not self._room.take(len(data)):
            return False
        try:
            partial.write(index, data)
        except OSError as error:
            self._refused(error, partial.digest)
            return False
        self._note(partial.digest, False)
        return True

    def promote(self, partial: Partial, *, on_bytes: OnBytes | None = None) -> bool:
        """Makes a blob of which every block is here a complete one, when its SHA-256 is right. False: it is not complete,
        or gone (or another file has its name by now). Raises BadBlobError when the digest is wrong, and then has dropped all of
        it; OSError."""
        if not partial.is_complete:
            return False
        try:
            digest = digest_file(partial.fd, partial.size, on_bytes=on_bytes)
        except SourceChangedError:
            digest = ""
        if digest != partial.digest:
            # Single blocks may have been torn by a power cut before anybody looked at them.
            bad = [index for index in range(partial.count) if not self._is_right(partial, index)]
            if bad:
                log.warning("%d blocks of the cached blob %s were damaged; they are fetched again", len(bad), partial.digest)
                partial.drop(bad)
                return False
            self._remove_partial(partial.path)
            raise BadBlobError(
                f"blob {partial.digest} is not what it is called, although every block fits its block list; whoever "
                f"logged it, or the server, lied",
                partial.digest,
            )
        target = self._path(partial.digest)
        if partial.lower:
            with suppress(LookupError):
                self.put(partial.lower, partial.all_hashes())
        with suppress(FileExistsError):
            os.mkdir(os.path.dirname(target), 0o700)
        try:
            if not os.path.samestat(os.stat(partial.path), os.fstat(partial.fd)):
                return False  # somebody discarded it, and somebody else begins anew
            os.fchmod(partial.fd, _WHOLE)
            os.rename(partial.path, target)
        except FileNotFoundError:
            return False
        with suppress(FileNotFoundError):
            os.unlink(f"{partial.path}.map")
        self._note(partial.digest, True)
        return True

    def _is_right(self, partial: Partial, index: int) -> bool:
        try:
            partial.check(index, partial.read(index))
        except (BadBlobError, LookupError, OSError):
            return False
        return True

    def demote(self, digest: str, blocks: str, top: BlockList, hashes: bytes, bad: list[int]) -> Partial:
        """Makes a complete blob, of which the blocks `bad` were found wrong, a partial one without them. `hashes`: of all
        its blocks, checked. Raises StorageError."""
        path = f"{self._partial}/{check_digest(digest)}"
        try:
            with suppress(FileNotFoundError):
                os.chmod(self._path(digest), 0o600)
                os.rename(self._path(digest), path)
        except OSError as error:
            raise StorageError.wrap(error, f"mending the cached blob {digest}") from error
        partial = self.open_partial(digest, blocks, top)
        for page in range(-(-partial.count // HASHES_PER_BLOCK)):
            offset, nbytes = partial.page_span(page)
            partial.put_hashes(page, hashes[offset : offset + nbytes])
        partial.mark_all()
        partial.drop(bad)
        return partial

    def _remove_partial(self, path: str) -> None:
        with suppress(StorageError):
            self.index.remove([os.path.basename(path)])
        for end in (".map", ""):
            with suppress(FileNotFoundError):
                os.unlink(path + end)

    # room -------------------------------------------------------------------------------------------------------
    def evict(self, nbytes: int, on_blob: Callable[[int], None] | None = None) -> int:
        """Removes what was not used for longest, but nothing that is pinned or open, until `nbytes` are free that were
        not, or nothing is left; how many bytes that were. `on_blob`: told the bytes of each."""
        self.flush()
        return self._room.evict(nbytes, on_blob)

    # notes ------------------------------------------------------------------------------------------------------
    def touch(self, digest: str) -> None:
        """It was used just now."""
        self._touched.add(digest)

    def _note(self, digest: str, complete: bool) -> None:
        """It came, or grew."""
        with self._lock:
            self._added[digest] = complete
            due = len(self._added) >= _NOTES
        self._note_time(due=due)

    def _note_time(self, *, due: bool = False) -> None:
        if due or time.monotonic() - self._flushed_at > _FLUSH_S:
            try:
                self.flush()
            except StorageError as error:
                log.warning("%s", error)

    def flush(self) -> None:
        """Writes down what came and what was used. Raises StorageError; then it is tried again later."""
        with self._lock:
            added, self._added = self._added, {}
            touched, self._touched = self._touched, set()
            self._flushed_at = time.monotonic()
        try:
            if added:
                self.index.add(self._measured(added))
            if rest := touched.difference(added):
                self.index.touch(rest)
            self.packs.flush()
        except StorageError:
            with self._lock:
                self._added = {**added, **self._added}
            raise

    def _measured(self, added: dict[str, bool]) -> Iterator[tuple[str, int, bool]]:
        for digest, complete in added.items():
            path = self.file_of(digest, complete)
            with suppress(FileNotFoundError):
                status = os.stat(path)
                yield digest, status.st_size if complete else status.st_blocks * 512, complete

    def rescan(self) -> None:
        """Makes the index anew from the files. Raises StorageError, OSError."""
        found = []
        for path, complete in self.files():
            with suppress(FileNotFoundError):
                status = os.stat(path)
                size = status.st_size if complete else status.st_blocks * 512
                found.append((os.path.basename(path), size, int(status.st_mtime), complete))
        self.index.replace_all(found, self._scanned_packs())

    def _scanned_packs(self) -> Iterator[tuple[str, int, int, list[tuple[bytes, int, int]]]]:
        for name in self.packs.names():
            with suppress(FileNotFoundError):
                status = os.stat(f"{self.root}/packs/{name}")
                yield name, status.st_size, int(status.st_mtime), list(self.packs.scan(name))

    def files(self) -> Iterator[tuple[str, bool]]:
        """(path, complete) of each blob's file."""
        for fan in sorted(os.listdir(self._blobs)):
            for name in sorted(os.listdir(f"{self._blobs}/{fan}")):
                if len(name) == 64:
                    yield f"{self._blobs}/{fan}/{name}", True
        for name in sorted(os.listdir(self._partial)):
            if len(name) == 64:
                yield f"{self._partial}/{name}", False

    # the whole --------------------------------------------------------------------------------------------------
    def status(self) -> CacheStatus:
        """Raises StorageError."""
        self.flush()
        nbytes, count = self.index.totals()
        pinned_nbytes, pinned_count = self.index.pinned_totals()
        disk = os.statvfs(self.root)
        return CacheStatus(
            str(self.root), nbytes, count, pinned_nbytes, pinned_count, self.limit,
            disk.f_bavail * disk.f_frsize, self.floor,
        )

    # pins -------------------------------------------------------------------------------------------------------
    def pins(self) -> list[Pin]:
        """By server and name."""
        return self.index.pins()

    def pin(self, server: str, name: str, root: str, digests: Iterable[str]) -> Pin:
        """Has eviction leave `digests` alone, whether they are here yet or not, until `unpin`. A pin of that name before
        gives up what it kept. `root`: the tree that was meant. Raises StorageError."""
        self._room.forget_pins()
        return self.index.pin(server, name, root, digests)

    def unpin(self, server: str, name: str) -> bool:
        """Whether there was such a pin. Raises StorageError."""
        self._room.forget_pins()
        return self.index.unpin(server, name)

    def close(self) -> None:
        with suppress(StorageError):
            self.flush()
        with suppress(StorageError):
            self.packs.close()
        self.index.close()

    def __enter__(self) -> Cache:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
