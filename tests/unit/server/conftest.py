"""A server without a socket, over a real database: two projects of one entity, one of another, a link between them."""

from __future__ import annotations

import io
import itertools
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from artfs.catalog import open_catalog
from artfs.catalog.sql.catalog import SqlCatalog
from artfs.catalog.sql.ledger.ledger import SqlLedger
from artfs.model.access import COMMAND_LINE, Grant, Role
from artfs.server.accesslog import AccessLog
from artfs.server.app import AppOptions, make_app
from artfs.server.calls import ServerParts
from artfs.server.failures import FailureRates, Failures
from artfs.store.bucket import open_bucket
from artfs.testing.asgi import Answer, Asgi
from artfs.testing.blobworld import BlobWorld
from artfs.testing.catalog_contract.making import digest, log, new
from artfs.testing.s3 import CREDENTIALS, S3Server

_numbers = itertools.count()  # of buckets
E = "team"
OPEN, SECRET, OTHER = "open", "secret", "elsewhere"


@dataclass
class World:
    """`ids`: of what is in the catalog, by "project/what"."""

    catalog: SqlCatalog
    ledger: SqlLedger
    asgi: Asgi
    log: io.StringIO
    tokens: dict[str, str] = field(default_factory=dict)
    ids: dict[str, Any] = field(default_factory=dict)

    def token(self, name: str, *grants: tuple[str, str, Role], is_admin: bool = False) -> str:
        """Makes a token and returns its secret."""
        given = [Grant(*grant) for grant in grants]
        self.tokens[name] = self.ledger.create_token(name, grants=given, is_admin=is_admin, by=COMMAND_LINE)[1]
        return self.tokens[name]

    def get(self, target: str, token: str | None = "root") -> Answer:
        return self.ask("GET", target, token)

    def ask(self, method: str, target: str, token: str | None = "root", body: Any = None) -> Answer:
        """`token`: the name of one, or None."""
        secret = None if token is None else self.tokens[token]
        return self.asgi.request(method, target, token=secret, json_body=body)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Of the access log."""
        return [json.loads(line) for line in self.log.getvalue().splitlines()]


@pytest.fixture(scope="session")
def server_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "catalog.db"
    open_catalog(path).close()
    return path


@pytest.fixture
def database(tmp_path: Path, server_template: Path) -> Path:
    return Path(shutil.copy(server_template, tmp_path / "server.db"))


@pytest.fixture
def world(database: Path) -> Iterator[World]:
    catalog = open_catalog(database)
    ledger = SqlLedger(catalog.database)
    written = io.StringIO()
    app = make_app(
        ServerParts(catalog, ledger, checks={"database": ledger.newest_change}, close=catalog.close),
        AppOptions(),
        access_log=AccessLog(written),
        failures=Failures(FailureRates(burst=5, per_s=0.001)),
    )
    with Asgi(app) as asgi:
        made = World(catalog, ledger, asgi, written)
        made.token("root", is_admin=True)
        fill(made)
        yield made


@pytest.fixture
def blobs(database: Path, tmp_path: Path) -> Iterator[BlobWorld]:
    """A server's blobs, in a folder."""
    with BlobWorld(database, open_bucket(str(tmp_path / "bucket"))) as made:
        yield made


@pytest.fixture
def remote(
    tmp_path: Path, server_template: Path, rclone: S3Server, monkeypatch: pytest.MonkeyPatch
) -> Iterator[BlobWorld]:
    """A server's blobs in an object store, with URLs."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    database = Path(shutil.copy(server_template, tmp_path / "remote.db"))
    with BlobWorld(database, open_bucket(rclone.url(f"blobs{next(_numbers)}"))) as made:
        yield made


def fill(world: World) -> None:
    catalog = world.catalog
    for number, (entity, project) in enumerate(((E, OPEN), (E, SECRET), (OTHER, "private"))):
        run = catalog.create_run(entity, project)
        member = log(catalog, number, "cars", entity=entity, project=project, run_id=run.id, aliases=("best",))
        world.ids[f"{project}/run"] = run.id
        world.ids[f"{project}/member"] = member.id
        world.ids[f"{project}/version"] = member.version.id
        world.ids[f"{project}/collection"] = member.collection_id


def new_body(project: str = OPEN, content: object = "x", **more: Any) -> dict[str, Any]:
    """What `commit` takes."""
    made = new(content, "cars", entity=E, project=project)
    fields = {"entity": E, "project": project, "collection": "cars", "type": "", "size": made.size, "file_count": 1}
    return {**fields, "digest": digest(content), **more}
