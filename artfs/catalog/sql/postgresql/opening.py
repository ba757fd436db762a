"""Opening a catalog on a PostgreSQL server: seeing that it is one, of this program's schema; making or migrating it when told."""

from __future__ import annotations

from sqlalchemy import text

from artfs.catalog.schema import MARK, REVISIONS
from artfs.catalog.sql.catalog import SqlCatalog
from artfs.catalog.sql.engine import Clock
from artfs.catalog.sql.postgresql.database import CONNECTIONS, PostgresqlDatabase
from artfs.errors import CatalogError, CatalogVersionError

_STATE = text(
    """
    SELECT current_setting('server_encoding') AS encoding, current_schema() AS schema,
        obj_description(to_regclass(quote_ident(current_schema()) || '.alembic_version'), 'pg_class') AS mark,
        (SELECT count(*) FROM pg_class found WHERE relnamespace = to_regnamespace(quote_ident(current_schema()))
            AND NOT EXISTS (SELECT 1 FROM pg_depend WHERE objid = found.oid AND deptype = 'e')) AS things
    """
)


def open_url(
    url: str, *, migrate: bool = False, clock: Clock | None = None, connections: int = CONNECTIONS
) -> SqlCatalog:
    """The catalog in the database `url`; see artfs.catalog.open_catalog. `connections`: at most so many, for this process."""
    database = PostgresqlDatabase(url, clock=clock, connections=connections)
    try:
        found = _revision(database)
        if found != REVISIONS[-1]:
            if not migrate:
                was = f"has the schema {found}, and this program wants {REVISIONS[-1]}" if found else "holds no catalog yet"
                raise CatalogError(f"{database.place} {was}: run `artfs serve --migrate` once")
            _migrate(database)
    except BaseException:
        database.close()
        raise
    return SqlCatalog(database)


def _revision(database: PostgresqlDatabase) -> str:
    """Of the catalog's schema; "": there is nothing yet. Raises CatalogVersionError when it is of a newer program, and
    CatalogError when the database cannot hold a catalog, or something else."""
    place = database.place
    with database.read() as conn:
        state = conn.execute(_STATE).one()
        if state.encoding != "UTF8":
            raise CatalogError(f"{place} has the encoding {state.encoding}; artfs needs one made with ENCODING 'UTF8'")
        if state.schema is None:
            raise CatalogError(f"{place} has no schema that its search_path names; make one, or set the search_path")
        if state.mark != MARK:
            if state.things:
                raise CatalogError(
                    f"{place} holds something of another program in its schema {state.schema}; give artfs a database of its own"
                )
            return ""
        revisions = conn.execute(text("SELECT version_num FROM alembic_version")).scalars().all()
    if len(revisions) != 1:
        raise CatalogError(f"{place} is damaged: it says nothing of its schema; restore it from a backup")
    found = str(revisions[0])
    if found not in REVISIONS:
        raise CatalogVersionError(
            f"{place} was made by a newer artfs (its schema is {found}, this program knows {REVISIONS[-1]}): update artfs"
        )
    return found


def _migrate(database: PostgresqlDatabase) -> None:
    # What only a new or an older catalog needs is loaded only then. Two that migrate at once: the second waits for the
    # writers' lock, and finds nothing to do.
    from artfs.catalog.sql.migrate import migrate

    migrate(database)
