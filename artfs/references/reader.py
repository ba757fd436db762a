"""Reading references in pieces, for the mount: what is read was checked first, whole.

A file of this machine is read where it is: hashed once, and again when its fingerprint (inode, size, mtime, ctime) moved.
What servers have is fetched whole into a folder of the state folder, so that a later look at it costs one question to the
server instead of its bytes, and none at all while the server cannot be reached. The folder is a cache: it forgets what was
not used for longest when it is over its limit.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from pathlib import Path

from artfs.errors import (
    ReferenceChangedError,
    SourceChangedError,
    StorageError,
    UnavailableError,
    WaitTimeoutError,
)
from artfs.model.entry import FileEntry, RefEntry
from artfs.references.router import References
from artfs.references.uris import ARTIFACT_SCHEMES, scheme_of, shown
from artfs.settings import Settings
from artfs.store.verify import digest_file

log = logging.getLogger(__name__)

THREADS = 8
"""References that are fetched at once."""

_FLOOR_STEP = 64 * 1024 * 1024

Fingerprint = tuple[int, int, int, int, int]


def fingerprint(fd: int) -> Fingerprint:
    """What says that a file is still the same."""
    status = os.fstat(fd)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


class OpenReference:
    """The bytes of a reference. `size`: how many."""

    def __init__(self, uri: str, fd: int, watch: Fingerprint | None = None) -> None:
        """Takes `fd` over. `watch`: the file may be changed by others; what it must stay."""
        self._uri = uri
        self._fd = fd
        self._watch = watch
        self.size = os.fstat(fd).st_size

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes; b"" at the end. Raises ReferenceChangedError, StorageError."""
        try:
            data = os.pread(self._fd, size, offset)
            # Afterwards: what was read before it changed is right.
            if self._watch is not None and fingerprint(self._fd) != self._watch:
                raise ReferenceChangedError(f"{self._uri} changed while it was open")
        except OSError as error:
            raise StorageError.wrap(error, f"reading {self._uri}") from error
        return data

    def close(self) -> None:
        """Once."""
        os.close(self._fd)


Opened = OpenReference | FileEntry
"""A FileEntry: the bytes are a blob of the store."""


class ReferenceReader:
    """Thread-safe. `folder`: where fetched bytes are kept; made when it is needed."""

    def __init__(self, references: References, settings: Settings) -> None:
        self.references = references
        self._folder = settings.home / "references"
        self._limit = settings.reference_cache
        self._settings = settings
        self._lock = threading.Lock()
        self._flights: dict[str, Future[Callable[[], Opened]]] = {}
        self._verified: dict[str, Fingerprint] = {}
        self._closed = False
        self._pool = ThreadPoolExecutor(THREADS, "artfs-reference")

    def close(self) -> None:
        """Begins nothing more, and ends fetches that are under way."""
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)

    def begin(self, ref: RefEntry) -> Future[Callable[[], Opened]]:
        """Makes the bytes of `ref` ready; the result opens them. All who want them at once wait for one fetch. The future
        raises what Source.fetch raises; StorageError."""
        key = _key(ref)
        with self._lock:
            flight = self._flights.get(key)
            if flight is not None:
                return flight
            flight = self._flights[key] = self._pool.submit(self._prepare, key, ref)
        flight.add_done_callback(lambda _: self._landed(key))  # without the lock: it may be done already
        return flight

    def open(self, ref: RefEntry, wait_s: float) -> Opened:
        """Waits for `begin`. Raises WaitTimeoutError when that takes longer than `wait_s`; the fetch goes on."""
        try:
            return self.begin(ref).result(wait_s)()
        except FutureTimeoutError:
            raise WaitTimeoutError(f"{shown(ref.uri)} is still being fetched after {wait_s:.0f} s") from None

    def _landed(self, key: str) -> None:
        with self._lock:
            self._flights.pop(key, None)

    def _prepare(self, key: str, ref: RefEntry) -> Callable[[], Opened]:
        scheme = scheme_of(ref.uri)
        if scheme == "file":
            return self._local(key, ref)
        if scheme in ARTIFACT_SCHEMES:
            entry = self.references.artifacts.find(ref)
            return lambda: entry
        return self._remote(key, ref)

    # files of this machine ---------------------------------------------------------------------------------------
    def _local(self, key: str, ref: RefEntry) -> Callable[[], Opened]:
        files = self.references.files
        fd = files.open(ref)
        try:
            now = fingerprint(fd)
            if self._verified.get(key) != now:
                files.verify(ref, fd)
                if fingerprint(fd) != now:
                    raise ReferenceChangedError(f"{ref.uri} changed while it was read")
                self._remember(key, now)
        finally:
            os.close(fd)

        def opened() -> Opened:
            fd = files.open(ref)
            if ref.checksum and fingerprint(fd) != now:
                os.close(fd)
                raise ReferenceChangedError(f"{ref.uri} changed while it was opened")
            return OpenReference(ref.uri, fd, now if ref.checksum else None)

        return opened

    def _remember(self, key: str, now: Fingerprint) -> None:
        with self._lock:
            if len(self._verified) > 100_000:
                self._verified.clear()
            self._verified[key] = now

    # what servers have -------------------------------------------------------------------------------------------
    def _remote(self, key: str, ref: RefEntry) -> Callable[[], Opened]:
        lasting = bool(ref.checksum or ref.version_id)
        path = self._kept(key) if lasting else None
        if path is not None:
            try:
                self.references.check(ref)
            except UnavailableError as error:
                log.info("%s is read from the cache: %s", shown(ref.uri), error)
        else:
            path = self._fetch(key, ref)
        fd = _open(path)
        if lasting:
            with suppress(OSError):
                # Used just now, by the fine clock: the kernel's own has steps of milliseconds. It is the copy that was checked.
                os.utime(fd, ns=(now := time.time_ns(), now))
                self._remember(key, fingerprint(fd))
            self._evict(path)
        else:
            os.unlink(path)
        return _Copies(shown(ref.uri), fd)

    def _kept(self, key: str) -> Path | None:
        """The fetched copy, if it is there and still what it was."""
        for path in self._folder.glob(f"{key}.*"):
            try:
                fd = _open(path)
            except StorageError:
                continue
            try:
                now = fingerprint(fd)
                if self._verified.get(key) == now or digest_file(fd, now[2]) == path.suffix[1:]:
                    self._remember(key, now)
                    return path
            except (OSError, SourceChangedError):
                pass
            finally:
                os.close(fd)
            log.info("a fetched copy in %s was damaged; it is fetched again", self._folder)
            with suppress(OSError):
                path.unlink()
        return None

    def _fetch(self, key: str, ref: RefEntry) -> Path:
        aside = self._folder / f"new-{secrets.token_hex(8)}"
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            fd = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageError.wrap(error, "storing a fetched reference") from error
        try:
            try:
                self.references.fetch(ref, fd, self._room())
                digest = digest_file(fd, os.fstat(fd).st_size)
            finally:
                os.close(fd)
            path = self._folder / f"{key}.{digest}"
            if not (ref.checksum or ref.version_id):
                return aside
            aside.rename(path)
        except BaseException as error:
            with suppress(OSError):
                aside.unlink()
            if isinstance(error, OSError):
                raise StorageError.wrap(error, "storing a fetched reference") from error
            raise
        return path

    def _room(self) -> Callable[[int], None]:
        """An OnBytes that ends a fetch before the disk is full: a source may send without end."""
        waiting = _FLOOR_STEP

        def on_bytes(nbytes: int) -> None:
            nonlocal waiting
            if self._closed:
                raise UnavailableError("the daemon ends")
            waiting += nbytes
            if waiting >= _FLOOR_STEP:
                waiting = 0
                disk = os.statvfs(self._folder)
                if disk.f_bavail * disk.f_frsize < self._settings.floor_on(disk) + _FLOOR_STEP:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._folder))

        return on_bytes

    def _evict(self, keep: Path) -> None:
        found = []
        for entry in os.scandir(self._folder):
            with suppress(FileNotFoundError):
                status = entry.stat()
                found.append((status.st_mtime_ns, status.st_size, Path(entry.path)))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self._limit:
                break
            if path != keep and not path.name.startswith("new-"):
                with suppress(OSError):
                    path.unlink()
                total -= size
        if total > self._limit:
            with suppress(OSError):
                keep.unlink()


class _Copies:
    """Opens one file for each who waits. It may have no name any more, so one descriptor stays until nobody can ask."""

    def __init__(self, uri: str, fd: int) -> None:
        self._uri = uri
        self._fd = fd

    def __call__(self) -> Opened:
        return OpenReference(self._uri, os.dup(self._fd))

    def __del__(self) -> None:
        os.close(self._fd)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise StorageError.wrap(error, "reading a fetched reference") from error


def _key(ref: RefEntry) -> str:
    facts = "\0".join((ref.uri, str(ref.size), ref.checksum, ref.version_id))
    return hashlib.sha256(os.fsencode(facts)).hexdigest()
