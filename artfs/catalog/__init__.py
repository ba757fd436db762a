"""Where names are. `base` is the interface; `open_catalog` gives the implementation over a database: SQLite or PostgreSQL."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from artfs.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    from artfs.catalog.sql.catalog import SqlCatalog

_FORMS = "give a path, sqlite:///PATH, or postgresql://USER@HOST/DATABASE"


def open_catalog(target: str | Path, *, migrate: bool | None = None) -> SqlCatalog:
    """Opens the catalog in a database.

    Arguments:
        target: the path of an SQLite file, or the same as `sqlite:///relative` or `sqlite:////absolute`. It is made
            with mode 0600, its folder, when missing, with 0700. It must be on a local file system (SQLite's WAL).
            Or `postgresql://…`, a connection URI as libpq has it; that needs the extra `artfs[server]`.
        migrate: whether the catalog is made, or brought to this program's schema, when needed. None: a file is; a
            PostgreSQL database, which others may be using with an older program, is not.
    Two processes that make or migrate one catalog at once agree by a lock (for a file: `<file>.lock`, which stays).
    Raises StorageError when the file cannot be made, read or written (errno says why), UnavailableError when the server
    does not answer, CatalogVersionError when a newer artfs made it, CatalogError when it is something else, stays locked, or
    would have to be migrated, MissingExtraError, and UsageError for another kind of URL.
    """
    # SQLAlchemy takes 0.4 s to import; whoever only imports this package must not wait for it.
    if isinstance(target, str):
        scheme, separator, rest = target.partition("://")
        if scheme in ("postgresql", "postgres") and separator:
            return _open_url(target, migrate=bool(migrate))
        if separator:
            if scheme != "sqlite" or not rest.startswith("/") or rest == "/":
                raise UsageError(f"not a catalog: {target.partition('@')[2] or target!r} ({_FORMS})")
            target = rest[1:]
        elif not target:
            raise UsageError(f"not a catalog: {target!r} ({_FORMS})")
    from artfs.catalog.sql.sqlite.opening import open_file

    return open_file(Path(target), migrate=migrate is not False)


def _open_url(url: str, *, migrate: bool) -> SqlCatalog:
    try:
        from artfs.catalog.sql.postgresql.opening import open_url
    except ImportError as error:
        said = str(error).partition("\n")[0]
        raise MissingExtraError(
            f"a PostgreSQL database needs psycopg, which cannot be imported here ({said}); "
            "install it with: pip install 'artfs[server]'"
        ) from error
    return open_url(url, migrate=migrate)
