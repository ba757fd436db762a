"""From psycopg's errors, bare or inside SQLAlchemy's, to ours. The one place that knows PostgreSQL's codes
(https://www.postgresql.org/docs/current/errcodes-appendix.html); nothing of either library leaves the catalog's files.

What may be right a moment later is UnavailableError, which a server's clients try again after.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from sqlalchemy import exc

from artfs.errors import ArtfsError, CatalogError, StorageError, UnavailableError, UsageError

# Classes (two letters) and codes of what has nothing to do with what was asked.
_AWAY = {"08", "53", "57P01", "57P02", "57P03", "57P05", "25P03", "25P04"}
_AGAIN = {"40001", "40P01"}
_BAD_TEXT = {"22021", "22P05"}
_TOO_LARGE = {"22001", "22003"}


def translate(error: BaseException, place: str, doing: str) -> ArtfsError:
    """The error to raise for `error`, which came up while `doing` (a verb phrase) with the database at `place`."""
    if isinstance(error, exc.TimeoutError):
        return UnavailableError(f"{doing} failed: all connections of this process to {place} are in use")
    cause = error.orig if isinstance(error, exc.DBAPIError) else error
    code = getattr(cause, "sqlstate", None) or ""
    # SQLAlchemy adds lines about its documentation, PostgreSQL details and hints.
    said = str(cause).partition("\n")[0].removeprefix("connection failed: ")
    if code == "53100":
        return StorageError(f"{doing} failed: the disk of {place} is full", errno.ENOSPC)
    if code == "25006":
        return StorageError(f"{doing} failed: {place} is read-only (a standby?)", errno.EROFS)
    if code == "55P03":
        return busy(place, doing)
    if code == "57014":
        return UnavailableError(f"{doing} took too long, and was given up: {place}")
    if code in _AGAIN:
        return UnavailableError(f"{doing} failed: others changed the same at that moment in {place}; try again")
    if is_lost_statement(error):
        return UnavailableError(
            f"{doing} failed: {place} forgets prepared statements (an older pgbouncer in front of it?); "
            f"artfs does without them from now on: try again"
        )
    if not code and isinstance(cause, psycopg.DataError) and "NUL" in said:
        return UsageError(f"{doing} failed: a text has the character NUL in it, which PostgreSQL does not keep")
    if code in _BAD_TEXT:
        return UsageError(f"{doing} failed: a text has a character that {place} does not keep")
    if code in _TOO_LARGE:
        return UsageError(f"{doing} failed: a number or a text is larger than what a catalog holds ({said})")
    if code in _AWAY or code[:2] in _AWAY or (not code and isinstance(cause, psycopg.OperationalError)):
        return UnavailableError(f"{doing} failed: {place} does not answer: {said}")
    if code.startswith("XX"):
        return CatalogError(f"{doing} failed: {place} is damaged ({said}); restore it from a backup")
    return CatalogError(f"{doing} failed: {place}: {said}")


def is_lost_statement(error: BaseException) -> bool:
    """Whether the database knows another set of prepared statements than we made: one pooler gives each transaction another
    connection."""
    cause = error.orig if isinstance(error, exc.DBAPIError) else error
    return getattr(cause, "sqlstate", None) in ("26000", "42P05")


def busy(place: str, doing: str) -> UnavailableError:
    return UnavailableError(
        f"{doing} failed: another writer has held {place} for too long; its view pg_stat_activity shows which"
    )


@contextmanager
def translated(place: str, doing: str) -> Iterator[None]:
    """Whatever SQLAlchemy or psycopg raise in its body comes out as an ArtfsError."""
    try:
        yield
    except (exc.SQLAlchemyError, psycopg.Error) as error:
        raise translate(error, place, doing) from error
    except UnicodeEncodeError as error:
        # A lone surrogate, as os.fsdecode makes it of bytes that are no UTF-8.
        raise UsageError(f"{doing} failed: {error.object!r} is not valid Unicode text") from error
    except OverflowError as error:
        raise UsageError(f"{doing} failed: a number is outside of what a catalog holds (64 bits)") from error
