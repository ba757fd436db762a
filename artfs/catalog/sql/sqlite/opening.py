"""Opening a catalog file: making it, migrating it, or seeing that neither is needed (which imports no Alembic)."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from artfs.catalog.schema import APPLICATION_ID, REVISIONS
from artfs.catalog.sql.catalog import SqlCatalog
from artfs.catalog.sql.engine import Clock, system_clock
from artfs.catalog.sql.sqlite.database import BUSY_TIMEOUT_S, SqliteDatabase, connect
from artfs.catalog.sql.sqlite.errors import translated
from artfs.errors import CatalogError, CatalogVersionError, StorageError
from artfs.folders import check_disk

# Bytes of the smallest page that SQLite knows, so of the smallest database.
_SMALLEST = 512


def open_file(
    path: Path, *, migrate: bool = True, clock: Clock = system_clock, busy_timeout_s: float = BUSY_TIMEOUT_S
) -> SqlCatalog:
    """The catalog in the file `path`, made or migrated when needed; see artfs.catalog.open_catalog."""
    path = path.absolute()
    check_disk(path.parent, "ARTFS_HOME")
    if not _is_current(path):
        if not migrate:
            raise CatalogError(f"{path} holds no catalog of this program's schema, and it was not to be made or migrated")
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError.wrap(error, "making the catalog's folder") from error
        with _lock(path, busy_timeout_s):
            # Somebody else may have done it while this process waited.
            if not _is_current(path):
                _prepare(path)
    return SqlCatalog(SqliteDatabase(path, clock=clock, busy_timeout_s=busy_timeout_s))


def _is_current(path: Path) -> bool:
    """Whether the file is there with the schema of this program; False when it is to be made or migrated.

    Raises StorageError when it cannot be opened, CatalogVersionError when it is of a newer program, and CatalogError
    when it is something else.
    """
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StorageError.wrap(error, "opening the catalog") from error
    if not path.is_file():
        raise CatalogError(f"{path} is not a catalog: it is no regular file")
    _check_access(path)
    if size == 0:
        return False
    if size < _SMALLEST:
        # SQLite would take it for an empty database, and write over it.
        raise CatalogError(f"{path} is not a catalog: it is no SQLite database")
    with translated(path, "opening the catalog"), closing(connect(path)) as connection:
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if application == 0 and not tables:
            return False
        if application != APPLICATION_ID or "alembic_version" not in tables:
            raise CatalogError(f"{path} is not a catalog: it is an SQLite database of another program")
        revisions = [row[0] for row in connection.execute("SELECT version_num FROM alembic_version")]
        if len(revisions) != 1:
            raise CatalogError(f"{path} is damaged: it says nothing of its schema; restore it from a backup")
        found = revisions[0]
        if found not in REVISIONS:
            raise CatalogVersionError(
                f"{path} was made by a newer artfs (its schema is {found}, this program knows {REVISIONS[-1]}): "
                f"update artfs"
            )
        return bool(found == REVISIONS[-1] and _journal_mode(connection) == "wal")


def _check_access(path: Path) -> None:
    # By access(2) and not by opening it: see engine about POSIX locks. WAL needs to write files beside it as well.
    if not os.access(path, os.R_OK):
        raise StorageError(f"opening the catalog failed: {path} is not readable by this user", errno.EACCES)
    for place in (path, path.parent):
        if not os.access(place, os.W_OK):
            raise StorageError(
                f"opening the catalog failed: {place} is read-only for this user "
                f"(look at its mode, owner and file system)",
                errno.EROFS,
            )


def backup_path(path: Path, revision: str) -> Path:
    """Where the catalog `path` is kept as it was with schema `revision`, when it is migrated from that."""
    return path.with_name(f"{path.name}.before-{REVISIONS[-1]}-from-{revision}")


def _revision(path: Path) -> str | None:
    """The schema of the file; None: it has none yet."""
    with translated(path, "opening the catalog"), closing(connect(path)) as connection:
        if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone() is None:
            return None
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return None if row is None else str(row[0])


def _journal_mode(connection: sqlite3.Connection, wanted: str = "") -> str:
    return str(connection.execute(f"PRAGMA journal_mode{f'={wanted}' if wanted else ''}").fetchone()[0])


@contextmanager
def _lock(path: Path, timeout_s: float) -> Iterator[None]:
    """The right to make or migrate the catalog, over all processes. The lock's file stays: removing it would let two
    processes lock two different files of that name."""
    name = path.with_name(f"{path.name}.lock")
    try:
        descriptor = os.open(name, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageError.wrap(error, "locking the catalog") from error
    try:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise CatalogError(
                        f"another process has been preparing {path} for {timeout_s:g} s; `fuser {name}` shows which"
                    ) from None
                time.sleep(0.02)
            except OSError as error:
                raise StorageError.wrap(error, "locking the catalog") from error
        yield
    finally:
        os.close(descriptor)


def _prepare(path: Path) -> None:
    # What only a new or an older catalog needs is loaded only then: Alembic takes as long to import as all the rest.
    from artfs.catalog.sql.migrate import migrate

    if not path.exists():
        try:
            # SQLite gives -wal and -shm the mode of the database itself.
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise StorageError.wrap(error, "making the catalog") from error
    with translated(path, "preparing the catalog"), closing(connect(path)) as connection:
        mode = _journal_mode(connection, "wal")
    if mode != "wal":
        raise CatalogError(
            f"{path} cannot be used: its file system does not support SQLite's write-ahead log; "
            f"put the state folder on a local disk"
        )
    if _is_current(path):
        # A backup, for example, comes back without WAL.
        return
    database = SqliteDatabase(path)
    try:
        found = _revision(path)
        if found is not None:
            # Nobody can go back otherwise: a program that is older than the new schema refuses it.
            database.backup(backup_path(path, found))
        migrate(database)
    finally:
        database.close()
