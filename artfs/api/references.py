"""References in artifacts: adding them to a draft, and fetching what they name."""

from __future__ import annotations

import errno
import logging
import os
import secrets
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

from artfs.api.draft import DraftArtifact, StrPath
from artfs.api.manifest import ManifestEntry
from artfs.errors import ArtfsError, ConflictError, InvalidArgumentError, SourceChangedError, StorageError
from artfs.model.entry import RefEntry
from artfs.model.manifest import Manifest
from artfs.model.names import check_path
from artfs.references.base import Examined
from artfs.references.router import References
from artfs.references.uris import has_digest, shown
from artfs.store.verify import digest_file
from artfs.transfer.landing import open_landing, refused

log = logging.getLogger(__name__)

_AT_ONCE = 16
_SHOWN = 5


def add_reference(
    draft: DraftArtifact,
    uri: ManifestEntry | str,
    name: StrPath | None,
    *,
    checksum: bool,
    max_objects: int | None,
) -> list[ManifestEntry]:
    """See Artifact.add_reference."""
    draft.check_open("add_reference")
    if not isinstance(uri, ManifestEntry | str):
        raise TypeError(f"add_reference takes a URI or an entry of an artifact, not {type(uri).__name__}")
    text = uri if isinstance(uri, str) else uri.ref_url()
    placed = examine(draft.session.references, text, name, checksum=checksum, max_objects=max_objects)
    draft.put_all(dict(placed), [], overwrite=False)
    return [draft.view(path, entry) for path, entry in placed]


def examine(
    references: References,
    uri: str,
    name: StrPath | None = None,
    *,
    checksum: bool = True,
    max_objects: int | None = None,
) -> list[tuple[str, RefEntry]]:
    """Paths and entries of what a URI names, as they stand in an artifact that it is added to. Raises what
    References.examine raises; InvalidArgumentError, InvalidNameError, ConflictError for the places."""
    examined = references.examine(uri, checksum=checksum, max_objects=max_objects)
    return _placed(examined, uri, None if name is None else os.fspath(name))


def _placed(examined: Examined, uri: str, name: str | None) -> list[tuple[str, RefEntry]]:
    if examined.single:
        (found,) = examined.objects
        if not name and not found.path:
            raise InvalidArgumentError(f"the reference {shown(uri)} needs a name: its URI gives none")
        places = {name or found.path: found}
    else:
        prefix = f"{check_path(name)}/" if name and name.strip("./") else ""
        places = {prefix + found.path: found for found in examined.objects}
    placed: dict[str, RefEntry] = {}
    for place, found in places.items():
        path = check_path(place)
        if path in placed:
            raise ConflictError(f"{shown(uri)} has two objects that would both be {path!r}")
        placed[path] = found.entry(os.fsencode(path.rpartition("/")[2]))
    for path in placed:
        while path := path.rpartition("/")[0]:
            if path in placed:
                raise ConflictError(
                    f"{shown(uri)} has an object {path!r} and others below that, which as a file or directory is only one of "
                    "them; add parts of it"
                )
    return list(placed.items())


def download_references(
    references: References, manifest: Manifest, paths: list[str], dest: str, *, allow_missing: bool
) -> int:
    """Makes the references at `paths` of an artifact ordinary files below the directory `dest`; how many were made.

    A file is fetched under another name, checked, and then moved into place. One that is there stays when its digest is
    known and right. All are tried before the first error is raised, with the number of others; `allow_missing`: those that
    cannot be fetched are left out, with a warning each. Raises what Source.fetch raises; ConflictError, StorageError.
    """

    def fetch(path: str) -> ArtfsError | None:
        entry = manifest.get(path)
        assert isinstance(entry, RefEntry)
        try:
            _fetch_to(references, entry, dest, path, landing)
        except (ConflictError, StorageError):
            raise
        except ArtfsError as error:
            return error
        return None

    with _open_landing(dest) as landing, ThreadPoolExecutor(_AT_ONCE, "artfs-reference") as pool:
        try:
            results = list(pool.map(fetch, paths))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    failed = [(path, error) for path, error in zip(paths, results, strict=True) if error is not None]
    if failed and not allow_missing:
        path, first = failed[0]
        others = f", and {len(failed) - 1} other references" if len(failed) > 1 else ""
        raise type(first)(
            f"{path}{others} cannot be fetched: {first}; everything else was downloaded "
            f"(allow_missing_references=True leaves them out)"
        ) from first
    for path, error in failed[:_SHOWN]:
        log.warning("left out %s: %s", path, error)
    if len(failed) > _SHOWN:
        log.warning("left out %d other references", len(failed) - _SHOWN)
    return len(paths) - len(failed)


def fetch_to(references: References, entry: RefEntry, dest: str, path: str) -> None:
    """Makes one reference the file `dest`/`path`, as download_references does. No symbolic link below `dest` is
    followed."""
    with _open_landing(dest) as landing:
        _fetch_to(references, entry, dest, path, landing)


@contextmanager
def _open_landing(dest: str) -> Iterator[int]:
    """A hidden folder in `dest`, which is gone afterwards; the next pull removes that of a killed process."""
    with _directory(dest, "") as dest_fd, open_landing(dest_fd, dest, lambda path: None) as landing:
        yield landing.fd


def _fetch_to(references: References, entry: RefEntry, dest: str, path: str, landing: int) -> None:
    above, _, name = path.rpartition("/")
    with _directory(dest, above) as dir_fd:
        if _is_there(entry, name, dir_fd):
            return
        temp = secrets.token_hex(8)
        try:
            fd = os.open(temp, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=landing)
            try:
                references.fetch(entry, fd)
            finally:
                os.close(fd)
            os.rename(temp, name, src_dir_fd=landing, dst_dir_fd=dir_fd)
        except ArtfsError:
            raise
        except IsADirectoryError:
            raise ConflictError(f"{dest}/{path} is a directory, and the version has a file there") from None
        except OSError as error:
            raise refused(error, f"writing {dest}/{path}") from error


@contextmanager
def _directory(dest: str, path: str) -> Iterator[int]:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    done = dest
    try:
        os.makedirs(dest, exist_ok=True)
        fd = os.open(dest, flags)
    except OSError as error:
        raise refused(error, f"making the folder {dest}") from error
    try:
        for name in path.split("/") if path else ():
            done = f"{done}/{name}"
            try:
                with suppress(FileExistsError):
                    os.mkdir(name, dir_fd=fd)
                below = os.open(name, flags | os.O_NOFOLLOW, dir_fd=fd)
            except OSError as error:
                if error.errno in (errno.ENOTDIR, errno.ELOOP):
                    raise ConflictError(f"{done} is no directory, and the version has one there; move it away") from None
                raise refused(error, f"opening {done}") from error
            os.close(fd)
            fd = below
        yield fd
    finally:
        os.close(fd)


def _is_there(entry: RefEntry, name: str, dir_fd: int) -> bool:
    """Whether a file is there that is known to be right: only where the checksum is a digest."""
    if not has_digest(entry.uri) or not entry.checksum:
        return False
    try:
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=dir_fd)
    except OSError:
        return False
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size != entry.size:
            return False
        return digest_file(fd, status.st_size) == entry.checksum
    except (OSError, SourceChangedError):
        return False
    finally:
        os.close(fd)
