"""A server of names alone: `python -m artfs.testing.nameserver DATABASE`. It takes versions of trees that nobody sent, as the
contract of catalogs makes them; for the rest it is `artfs serve --no-auth`."""

from __future__ import annotations

import sys
from functools import partial

from artfs.catalog import open_catalog
from artfs.catalog.sql.ledger.ledger import SqlLedger
from artfs.server.calls import ServerParts
from artfs.server.serve import ServeOptions, serve


def open_names(database: str) -> ServerParts:
    catalog = open_catalog(database)
    return ServerParts(catalog, SqlLedger(catalog.database), close=catalog.close)


def main(database: str) -> None:
    open_catalog(database).close()
    options = ServeOptions("127.0.0.1", 0, open_to_all=True, access_log=False)
    serve(options, partial(open_names, database), say)


def say(url: str) -> None:
    sys.stdout.write(f"{url}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
