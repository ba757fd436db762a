"""A PostgreSQL server whose disk is full."""

import errno
import os
from pathlib import Path

import pytest

from artfs.catalog import open_catalog
from artfs.errors import StorageError
from artfs.testing.catalog_contract.making import C, E, P, log, new
from artfs.testing.disks import SmallDisk
from artfs.testing.postgres import Postgres


def test_a_full_database_is_enospc_and_can_be_read_and_goes_on_when_there_is_room(postgres: Postgres) -> None:
    folder = postgres.folder / "small"
    folder.mkdir()
    with SmallDisk(folder) as disk:
        home = folder / "home"
        home.mkdir(mode=0o700)
        os.chown(home, *owner(postgres.data))
        postgres.execute(f"CREATE TABLESPACE small LOCATION '{home}'")
        with postgres.database(postgres.template, "TABLESPACE small") as name, open_catalog(postgres.url(name)) as catalog:
            log(catalog, 0)
            disk.fill(leave=0)
            with pytest.raises(StorageError, match="the disk of postgresql://.* is full") as caught:
                for number in range(1, 1000):
                    catalog.commit(new(number, description=os.urandom(30_000).hex()))
            assert caught.value.errno == errno.ENOSPC
            assert "\n" not in str(caught.value)
            there = catalog.members(1)
            assert catalog.resolve(E, P, C, "latest") == there[-1]
            disk.relieve()
            assert log(catalog, "after").index == there[-1].index + 1
        postgres.execute("DROP TABLESPACE small")


def owner(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_uid, status.st_gid
