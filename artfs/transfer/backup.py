"""Backups: a second state folder with the same versions, made while the first is in use.

    TARGET/catalog.db      a consistent copy of the catalog
    TARGET/store/          at least the blobs that this catalog names
    TARGET/backup.json     written last; says that the two above belong together
    TARGET/backup.lock     flock: exclusive for a backup, shared by restores

A backup is itself a state folder (`ARTFS_HOME=TARGET artfs …` works). Drafts are not part of it. A later backup to the
same target copies only what is new there, and an interrupted one leaves the earlier one usable: blobs are added first,
then the catalog's copy takes its place in one step.
"""

from __future__ import annotations

import fcntl
import filecmp
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from pathlib import Path

import msgspec

from artfs.catalog import open_catalog
from artfs.catalog.base import Catalog
from artfs.errors import ConflictError, NotFoundError, SourceChangedError, StorageError
from artfs.model.records import Content
from artfs.model.unreadable import UNREADABLE
from artfs.settings import Settings
from artfs.store.base import LocalStore, StoreBatch
from artfs.store.folder import FolderStore
from artfs.store.linux import make_folder, sync_path
from artfs.store.verify import OnBytes
from artfs.transfer.ahead import Ahead, in_groups
from artfs.transfer.progress import Meter, OnProgress
from artfs.typed import read_json

MARKER = "backup.json"
"""Name of the file that says that a backup is complete."""

LOCK = "backup.lock"
"""Name of the file that is locked while the backup is made or read. It stays: removing it would let two lock two files."""

_RESTORING = ".restoring"
_FORMAT = 1


class Marker(msgspec.Struct, frozen=True):
    """What `backup.json` holds. `finished_at`: seconds since 1970, UTC."""

    format: int
    finished_at: float
    blobs: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Copied:
    """What a backup or a restore did. `blobs`, `nbytes`: all that were to be there; `copied`, `copied_nbytes`: those that
    were copied now; `damaged`: digests of blobs that could not be copied, as their bytes are not what they should be."""

    blobs: int
    nbytes: int
    copied: int
    copied_nbytes: int
    damaged: tuple[str, ...]


def backup(
    catalog: Catalog, store: LocalStore, target: Path, *, on_progress: OnProgress | None = None, workers: int = 0
) -> Copied:
    """Makes or renews a backup in the folder `target` (made when missing, 0700), durably. Others may go on working.

    A damaged blob is left out and told in the result; the backup is complete otherwise.
    `on_progress`: phase "backup". Raises ConflictError when `target` holds anything that is no backup, is in use as a state
    folder, or another backup to it or a restore from it is under way, StorageError (an earlier backup there stays as it was),
    CatalogError.
    """
    home = Settings(home=Path(target).absolute())
    _check_target(home.home)
    with _disk(f"making the backup {home.home}"):
        make_folder(str(home.home))
    with _locked(home.home, fcntl.LOCK_EX, f"another backup to {home.home} is being made, or it is being restored from"):
        return _backup(catalog, store, home, on_progress, workers)


def _backup(
    catalog: Catalog, store: LocalStore, home: Settings, on_progress: OnProgress | None, workers: int
) -> Copied:
    _end_log(home.catalog_path)
    new_catalog = home.home / "catalog.db.new"
    copy = FolderStore(home.store_path)
    # The shared lock of the store: what the catalog's copy names must not be swept while it is copied.
    with store.begin():
        with _disk(f"making the backup {home.home}"):
            new_catalog.unlink(missing_ok=True)
        catalog.backup(new_catalog)
        done = _copy_blobs(store, copy, on_progress, "backup", workers)
    with _disk(f"finishing the backup {home.home}"):
        sync_path(str(new_catalog))
        _end_log(home.catalog_path)
        new_catalog.rename(home.catalog_path)
        marker = Marker(_FORMAT, time.time(), done.blobs, done.nbytes)
        _write(home.home / MARKER, msgspec.json.encode(marker))
    return done


def restore(
    source: Path, home: Path, *, on_progress: OnProgress | None = None, workers: int = 0
) -> Copied:
    """Makes the state folder `home` (missing, or empty but for an interrupted restore) from a backup, durably.

    Every blob is checked while it is copied; damaged ones are left out and told in the result. `on_progress`: phase
    "restore". Raises NotFoundError when `source` is no complete backup, ConflictError when `home` is not empty, or has versions
    that were made since it was interrupted, or when the backup is being renewed, StorageError (then the same restore may be
    called again, and goes on).
    """
    old, new = Settings(home=Path(source).absolute()), Settings(home=Path(home).absolute())
    read_marker(old.home)
    with _locked(old.home, fcntl.LOCK_SH, f"a backup to {old.home} is being made"):
        return _restore(old, new, on_progress, workers)


def _restore(old: Settings, new: Settings, on_progress: OnProgress | None, workers: int) -> Copied:
    restoring = new.home / _RESTORING
    with _disk(f"restoring {new.home}"):
        if new.home.exists() and any(new.home.iterdir()) and not restoring.exists():
            raise ConflictError(f"{new.home} is not empty; restore into a new folder (ARTFS_HOME)")
        make_folder(str(new.home))
        _write(restoring, b"")
    _refuse_used(old, new)
    done = _copy_blobs(FolderStore(old.store_path), FolderStore(new.store_path), on_progress, "restore", workers)
    with _disk(f"restoring {new.home}"):
        # Somebody may have used the backup as a state folder: then a part of its catalog is in the log beside it.
        for suffix in ("-wal", ""):
            path = old.catalog_path.with_name(old.catalog_path.name + suffix)
            if path.exists():
                copy = new.catalog_path.with_name(new.catalog_path.name + suffix)
                part = copy.with_name(f"{copy.name}.new")
                shutil.copyfile(path, part)
                part.chmod(0o600)
                sync_path(str(part))
                part.rename(copy)
        restoring.unlink()
        sync_path(str(new.home))
    return done


def _refuse_used(old: Settings, new: Settings) -> None:
    """Somebody may have worked in the state folder since a restore to it was interrupted: its catalog would be replaced. Raises
    ConflictError."""
    if not new.catalog_path.exists():
        return
    with _disk(f"restoring {new.home}"):
        if filecmp.cmp(old.catalog_path, new.catalog_path, shallow=False):
            return  # it was interrupted at its very end
    with open_catalog(new.catalog_path) as catalog:
        count = len(catalog.versions())
    if count:
        made = "1 version that was" if count == 1 else f"{count:,} versions that were"
        raise ConflictError(
            f"{new.home} has {made} made since its restore was interrupted; restore into a new folder (ARTFS_HOME)"
        )


def read_marker(target: Path) -> Marker:
    """What the complete backup in `target` says of itself. Raises NotFoundError when it is none, or not complete."""
    try:
        marker = read_json((target / MARKER).read_bytes(), Marker)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError(f"{target} is no complete backup: it has no {MARKER}") from None
    except OSError as error:
        raise StorageError.wrap(error, f"reading {target / MARKER}") from error
    except UNREADABLE as error:
        raise NotFoundError(f"{target} is no complete backup: {MARKER} cannot be understood ({error})") from None
    if marker.format != _FORMAT:
        raise NotFoundError(f"{target} was made by a newer version of artfs (format {marker.format})")
    return marker


def _check_target(target: Path) -> None:
    allowed = {MARKER, LOCK, "catalog.db.new", "store", f"{MARKER}.new"}
    with _disk(f"looking at {target}"):
        if not target.exists():
            return
        if not target.is_dir():
            raise ConflictError(f"{target} is not a folder")
        names = {path.name for path in target.iterdir()}
    if MARKER not in names and not names <= allowed:
        raise ConflictError(f"{target} is neither empty nor a backup of artfs; give another folder")


@contextmanager
def _locked(backup: Path, how: int, taken: str) -> Iterator[None]:
    """Raises ConflictError, which says `taken`, when somebody has the lock. A reader goes without one where no backup was made
    since there are locks, or where it cannot have one: what nobody may write to does not change."""
    path = backup / LOCK
    is_reader = how == fcntl.LOCK_SH
    try:
        fd = os.open(path, os.O_CLOEXEC | (os.O_RDONLY if is_reader else os.O_RDWR | os.O_CREAT), 0o600)
    except OSError as error:
        if not is_reader:
            raise StorageError.wrap(error, f"locking the backup {backup}") from error
        yield
        return
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise ConflictError(f"{taken}: try again when that has ended") from None
    except OSError as error:
        os.close(fd)
        raise StorageError.wrap(error, f"locking the backup {backup}") from error
    try:
        yield
    finally:
        os.close(fd)


def _end_log(catalog: Path) -> None:
    """Somebody may have used the earlier backup as a state folder, and been killed: SQLite would read what is in the log beside
    it as changes of the catalog that takes its place, and show an old one. Raises ConflictError while somebody uses it."""
    log = catalog.with_name(f"{catalog.name}-wal")
    if log.exists():
        open_catalog(catalog).close()  # the last one that closes it takes the log in
        if log.exists():
            raise ConflictError(f"the backup {catalog.parent} is in use as a state folder: end what uses it, and back up again")


def _copy_blobs(
    source: LocalStore, target: FolderStore, on_progress: OnProgress | None, phase: str, workers: int
) -> Copied:
    blobs = nbytes = 0
    for _, size in source.blobs():
        blobs += 1
        nbytes += size
    ahead = Ahead(workers)
    copied = copied_nbytes = 0
    damaged: list[str] = []
    with Meter(on_progress, phase, blobs, nbytes) as meter, target.begin() as batch:

        def wanted() -> Iterator[tuple[str, int]]:
            for digest, size in source.blobs():
                if target.try_size(digest) == size:
                    meter.advance(1, size)
                else:
                    yield digest, size

        copy = partial(_copy_group, source, batch, meter, ahead.count(meter))
        with closing(ahead.run(in_groups(wanted(), itemgetter(1), copy))) as results:
            for part in results:
                for size, digest in part:
                    if digest:
                        damaged.append(digest)
                    else:
                        copied += 1
                        copied_nbytes += size
        batch.sync()
    return Copied(blobs, nbytes, copied, copied_nbytes, tuple(sorted(damaged)))


def _copy_group(
    source: LocalStore, batch: StoreBatch, meter: Meter, on_bytes: OnBytes, group: list[tuple[str, int]]
) -> list[tuple[int, str]]:
    """(bytes copied, "") or (0, digest of a damaged blob) for each."""
    done = []
    for digest, size in group:
        try:
            batch.put_file(source.path_of(digest), expect=Content(digest, size), on_bytes=on_bytes)
            done.append((size, ""))
        except SourceChangedError:
            done.append((0, digest))
        meter.advance(1)
    return done


def _write(path: Path, data: bytes) -> None:
    new = path.with_name(f"{path.name}.new")
    new.write_bytes(data)
    sync_path(str(new))
    new.rename(path)
    sync_path(str(path.parent))


@contextmanager
def _disk(doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError.wrap(error, doing) from error
