"""From SQLite's errors, bare or inside SQLAlchemy's, to ours. The one place that knows SQLite's result codes
(https://www.sqlite.org/rescode.html); nothing of either library leaves the catalog's files."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import exc

from artfs.errors import ArtfsError, CatalogError, StorageError, UsageError

_SPARE = 64 * 1024
"""What SQLite may need for one step, in bytes."""


def translate(error: BaseException, path: Path, doing: str) -> ArtfsError:
    """The error to raise for `error`, which came up while `doing` (a verb phrase) with the catalog at `path`."""
    cause = error.orig if isinstance(error, exc.DBAPIError) else error
    code = getattr(cause, "sqlite_errorcode", None)
    # The low byte is the result code, the rest says more about it.
    primary = code & 0xFF if isinstance(code, int) else None
    match primary:
        case sqlite3.SQLITE_FULL:
            return StorageError.wrap(OSError(errno.ENOSPC, "", str(path)), doing)
        case sqlite3.SQLITE_READONLY:
            return StorageError(
                f"{doing} failed: {path} is read-only (look at its mode, owner and file system)", errno.EROFS
            )
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return locked(path, doing)
        case sqlite3.SQLITE_NOTADB:
            return CatalogError(f"{path} is not a catalog: it is no SQLite database")
        case sqlite3.SQLITE_CORRUPT:
            return CatalogError(f"{doing} failed: {path} is damaged ({cause}); restore it from a backup")
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM | sqlite3.SQLITE_IOERR if number := _lacks_room(path):
            # It does not tell the errno, nor that what it could not make are the files beside the database.
            return StorageError.wrap(OSError(number, "", str(path)), doing)
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return StorageError(
                f"{doing} failed: {path}, or the folder that it is in, cannot be opened for writing", errno.EACCES
            )
        case sqlite3.SQLITE_IOERR:
            return StorageError(f"{doing} failed: input/output error with {path} ({cause})", errno.EIO)
    # SQLAlchemy adds lines about its documentation.
    said = str(cause).partition("\n")[0]
    return CatalogError(f"{doing} failed: {path}: {said}")


def _lacks_room(path: Path) -> int:
    """ENOSPC or EDQUOT when a small write beside the catalog fails so; else 0."""
    aside = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.try")
    try:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.unlink(aside)
            os.posix_fallocate(descriptor, 0, _SPARE)
        finally:
            os.close(descriptor)
    except OSError as error:
        return error.errno if error.errno in (errno.ENOSPC, errno.EDQUOT) else 0
    return 0


def locked(path: Path, doing: str) -> CatalogError:
    return CatalogError(
        f"{doing} failed: {path} stayed locked by another user of it (a daemon, a script, or a program that looks into "
        f"the database); `fuser {path}` shows who has it open"
    )


@contextmanager
def translated(path: Path, doing: str) -> Iterator[None]:
    """Whatever SQLAlchemy or SQLite raise in its body comes out as an ArtfsError."""
    try:
        yield
    except (exc.SQLAlchemyError, sqlite3.Error) as error:
        raise translate(error, path, doing) from error
    except UnicodeEncodeError as error:
        # A lone surrogate, as os.fsdecode makes it of bytes that are no UTF-8.
        raise UsageError(f"{doing} failed: {error.object!r} is not valid Unicode text") from error
    except OverflowError as error:
        raise UsageError(f"{doing} failed: a number is outside of what a catalog holds (64 bits)") from error
