"""The contract of stores over real servers: `artfs serve` in processes of their own, with a folder, with rclone's S3 and with
moto's."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from artfs.catalog import open_catalog
from artfs.catalog.sql.catalog import SqlCatalog
from artfs.catalog.sql.ledger.blobledger import SqlBlobLedger
from artfs.catalog.sql.ledger.ledger import SqlLedger
from artfs.client.http import Http
from artfs.client.store import RemoteStore
from artfs.errors import BlobMissingError, UsageError
from artfs.model.access import COMMAND_LINE, Grant
from artfs.store.base import BlobStore, Place
from artfs.store.bucket import Bucket, open_bucket
from artfs.testing.s3 import CREDENTIALS, moto_server, rclone_server
from artfs.testing.serving import artfs_serve
from artfs.testing.store_contract import StoreContract

_numbers = itertools.count()


@dataclass
class Running:
    """A server, and what only it should see: its database and its bucket."""

    url: str
    catalog: SqlCatalog
    bucket: Bucket

    @property
    def ledger(self) -> SqlBlobLedger:
        return SqlBlobLedger(self.catalog.database)


class Placed(RemoteStore):
    """A store that remembers which project is its own. Blobs of others cannot be seen through it."""

    def __init__(self, http: Http, place: Place, running: Running) -> None:
        super().__init__(http, place=place)
        self.place = place
        self.running = running


@pytest.fixture(scope="module", params=["folder", "rclone", "moto"])
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    root = tmp_path_factory.mktemp(request.param)
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        match request.param:
            case "folder":
                blobs = str(root / "bucket")
            case "rclone":
                blobs = stack.enter_context(rclone_server(root / "s3")).url("blobs")
            case _:
                blobs = stack.enter_context(moto_server()).url("blobs")
        server = stack.enter_context(artfs_serve("--home", root, "--blobs", blobs, "--no-access-log", environ=CREDENTIALS))
        catalog = stack.enter_context(open_catalog(root / "server" / "catalog.db"))
        bucket = open_bucket(blobs)
        stack.callback(bucket.close)
        yield Running(server.url, catalog, bucket)


@pytest.fixture
def make_store(running: Running) -> Iterator[Callable[[], Placed]]:
    """`make_store()`: a store whose token may write one project, which is empty."""
    with ExitStack() as stack:

        def make() -> Placed:
            project = f"p{next(_numbers)}"
            grants = [Grant("e", project, "writer")]
            _, secret = SqlLedger(running.catalog.database).create_token(project, grants=grants, by=COMMAND_LINE)
            http = Http(running.url, secret)
            stack.callback(http.close)
            return Placed(http, ("e", project), running)

        yield make


class TestRemoteStore(StoreContract):
    @pytest.fixture
    def store(self, make_store: Callable[[], Placed]) -> Placed:
        return make_store()

    def stored(self, store: BlobStore) -> list[tuple[str, int]]:
        assert isinstance(store, Placed)
        ledger = store.running.ledger
        project = ledger.project(*store.place)
        if project is None:
            return []
        return [(row.digest, row.size) for row in ledger.rows(None, 1_000_000) if row.project_id == project.id]

    def damage(self, store: BlobStore, digest: str, data: bytes) -> None:
        assert isinstance(store, Placed)
        project = store.running.ledger.project(*store.place)
        assert project is not None
        found = store.running.ledger.find(None, [digest], project.id)[digest]
        whole = bytearray(store.running.bucket.read(found.key, [(0, found.object_size)])[0])
        whole[found.offset : found.offset + found.size] = data.ljust(found.size, b"\0")[: found.size]
        store.running.bucket.put(found.key, bytes(whole))

    def test_what_only_a_server_does(self, store: Placed) -> None:
        with store.begin() as batch:
            digest = batch.put_bytes(b"hello")
            batch.sync()
        with pytest.raises(UsageError):
            list(store.blobs())
        with pytest.raises(UsageError):
            store.remove(digest)
        assert store.read(digest) == b"hello"

    def test_another_project_has_nothing_of_it(self, make_store: Callable[[], Placed]) -> None:
        mine, other = make_store(), make_store()
        with mine.begin() as batch:
            digest = batch.put_bytes(b"secret")
            batch.sync()
        assert mine.try_size(digest) == 6
        assert other.try_size(digest) is None
        assert list(other.read_small([digest], deadline=time.monotonic() + 30)) == []
        with pytest.raises(BlobMissingError):
            other.read(digest)
