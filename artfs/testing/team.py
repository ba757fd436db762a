"""Several people's workstations, and the servers that they share."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from artfs.catalog import open_catalog
from artfs.catalog.sql.catalog import SqlCatalog
from artfs.catalog.sql.ledger.blobledger import SqlBlobLedger
from artfs.catalog.sql.ledger.ledger import SqlLedger
from artfs.client.catalog import RemoteCatalog
from artfs.client.http import Http
from artfs.model.access import COMMAND_LINE, Grant, Role
from artfs.testing.mount import Workspace
from artfs.testing.serving import ServerProcess, artfs_serve

ENTITY = "team"


@dataclass(frozen=True)
class Address:
    """Of a server that somebody else ends."""

    url: str

    def close(self) -> None:
        """Nothing."""


@dataclass(kw_only=True)
class Desk(Workspace):
    """A person's workstation: a workspace that uses a server with that person's token. `remove` leaves the server.

    Attributes:
        url: the server's. token: what it knows the person by.
        extra: more of the environment of all that runs there.
    """

    url: str
    token: str
    extra: dict[str, str] = field(default_factory=dict)

    def serve(self) -> None:
        self.server = Address(self.url)

    @property
    def environ(self) -> dict[str, str]:
        return {**super().environ, "ARTFS_TOKEN": self.token, "ARTFS_ENTITY": ENTITY, **self.extra}


class Team:
    """Servers with tokens over one database and one place for bytes.

    Attributes:
        processes: the servers. catalog: their database, opened beside them.
    """

    def __init__(self, processes: Sequence[ServerProcess], catalog: SqlCatalog) -> None:
        self.processes = list(processes)
        self.catalog = catalog
        self._numbers = itertools.count()

    @property
    def ledger(self) -> SqlLedger:
        return SqlLedger(self.catalog.database)

    @property
    def blobs(self) -> SqlBlobLedger:
        return SqlBlobLedger(self.catalog.database)

    def url(self, server: int = 0) -> str:
        return self.processes[server].url

    def project(self) -> str:
        """A name that no other test has."""
        return f"p{next(self._numbers)}"

    def token(self, name: str, *, is_admin: bool = False, **roles: Role) -> str:
        """A new token of a name that begins with `name`. `roles`: by project."""
        grants = [Grant(ENTITY, project, role) for project, role in roles.items()]
        full = f"{name}-{next(self._numbers)}"
        return self.ledger.create_token(full, is_admin=is_admin, grants=grants, by=COMMAND_LINE)[1]

    def make_project(self, name: str) -> None:
        self.catalog.create_project(ENTITY, name)

    @contextmanager
    def client(self, token: str, server: int = 0) -> Iterator[RemoteCatalog]:
        with RemoteCatalog(Http(self.url(server), token)) as catalog:
            yield catalog


@contextmanager
def team(
    home: Path, *, servers: int = 1, database: str | None = None, blobs: str | None = None, environ: dict[str, str] | None = None
) -> Iterator[Team]:
    """Running servers. `database`, `blobs`: as `artfs serve` takes them; None: SQLite and a folder below `home`."""
    arguments: list[str | Path] = ["--home", home, "--no-access-log"]
    arguments += [] if database is None else ["--database", database]
    arguments += [] if blobs is None else ["--blobs", blobs]
    with ExitStack() as stack:
        (home / "server").mkdir(parents=True, exist_ok=True)
        catalog = stack.enter_context(open_catalog(home / "server" / "catalog.db" if database is None else database))
        processes = [
            stack.enter_context(artfs_serve(*arguments, environ={"ARTFS_CONFIG": "/dev/null", **(environ or {})}))
            for _ in range(servers)
        ]
        yield Team(processes, catalog)
