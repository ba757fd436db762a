"""A database and its bucket know each other."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from artfs.errors import NotFoundError, UsageError
from artfs.server.collecting import collect_beside
from artfs.server.identity import PREFIX, bind
from artfs.store.bucket import open_bucket
from artfs.testing.blobworld import BlobWorld


@pytest.fixture
def other(tmp_path: Path, server_template: Path) -> Iterator[BlobWorld]:
    """Another server."""
    database = Path(shutil.copy(server_template, tmp_path / "other.db"))
    with BlobWorld(database, open_bucket(str(tmp_path / "other"))) as made:
        yield made


def test_the_first_server_binds_them(blobs: BlobWorld) -> None:
    assert blobs.ledger.identity() is None
    for _ in range(2):
        bind(blobs.ledger, blobs.bucket, make=True)
        bind(blobs.ledger, blobs.bucket, make=False)
    identity = blobs.ledger.identity()
    assert blobs.keys(PREFIX) == [f"{PREFIX}{identity}"]
    blobs.clock.move(1000)
    blobs.collect()
    assert blobs.keys(PREFIX) == [f"{PREFIX}{identity}"]


def test_neither_takes_another_for_its_own(blobs: BlobWorld, other: BlobWorld) -> None:
    with pytest.raises(UsageError, match="has no server's blobs yet"):
        bind(blobs.ledger, blobs.bucket, make=False)
    bind(other.ledger, other.bucket, make=True)
    for make in (False, True):
        with pytest.raises(UsageError, match="is another database's"):
            bind(blobs.ledger, other.bucket, make=make)
    assert blobs.ledger.identity() is None
    bind(blobs.ledger, blobs.bucket, make=True)
    for make in (False, True):
        with pytest.raises(UsageError, match="is another database's"):
            bind(blobs.ledger, other.bucket, make=make)


def test_a_bucket_that_was_emptied_is_not_swept(blobs: BlobWorld) -> None:
    """Or the database's bucket is somewhere else now; nothing says that what is in this one is garbage."""
    bind(blobs.ledger, blobs.bucket, make=True)
    blobs.bucket.delete(blobs.keys())
    with pytest.raises(UsageError, match="is not this database's"):
        bind(blobs.ledger, blobs.bucket, make=False)
    bind(blobs.ledger, blobs.bucket, make=True)


def test_garbage_is_collected_of_what_belongs_together_only(blobs: BlobWorld, other: BlobWorld, tmp_path: Path) -> None:
    paths = {world: (world.catalog.database.place, str(tmp_path / name)) for world, name in ((blobs, "bucket"), (other, "other"))}
    for world in (blobs, other):
        bind(world.ledger, world.bucket, make=True)
        world.put(world.project(), b"garbage")
        assert collect_beside(*paths[world], grace_s=3600.0, dry_run=False, on_step=lambda step: None).kept == 1
    for database, bucket in ((paths[blobs][0], paths[other][1]), (paths[other][0], paths[blobs][1])):
        with pytest.raises(UsageError, match="another database's"):
            collect_beside(database, bucket, grace_s=3600.0, dry_run=False, on_step=lambda step: None)
    with pytest.raises(NotFoundError):
        collect_beside(tmp_path / "none.db", paths[blobs][1], grace_s=3600.0, dry_run=False, on_step=lambda step: None)
    assert not (tmp_path / "none.db").exists()
