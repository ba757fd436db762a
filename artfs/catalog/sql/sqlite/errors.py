"""From SQLite's errors, bare or inside SQLAlchemy's, to ours. The one place that knows SQLite's result codes
(https://www.sqlite.org/rescode.html); nothing of either library leaves the catalog's files."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import exc

from artfs.errors import ArtfsError, CatalogError, StorageError, UsageError


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
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return StorageError(
                f"{doing} failed: {path}, or the folder that it is in, cannot be opened for writing", errno.EACCES
            )
        case sqlite3.SQLITE_IOERR:
            if _is_full(path):
                # What it cannot get is the 32 KiB of shared memory that WAL needs, at the first connection.
                return StorageError.wrap(OSError(errno.ENOSPC, "", str(path)), doing)
            return StorageError(f"{doing} failed: input/output error with {path} ({cause})", errno.EIO)
    # SQLAlchemy adds lines about its documentation.
    said = str(cause).partition("\n")[0]
    return CatalogError(f"{doing} failed: {path}: {said}")


def _is_full(path: Path) -> bool:
    try:
        status = os.statvfs(path.parent)
    except OSError:
        return False
    return status.f_bavail * status.f_frsize < 64 * 1024


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
