"""usage, quota and gc of a server: with a real one, and on its database and bucket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from artfs.testing.serving import ServerProcess, artfs_serve

from .conftest import Artfs


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("upkeep")


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[ServerProcess]:
    with artfs_serve("--home", home, "--no-auth", environ={"ARTFS_CONFIG": "/dev/null"}) as server:
        yield server


@pytest.fixture
def there(artfs: Artfs, server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> Artfs:
    """The command line, with the server's catalog."""
    monkeypatch.setenv("ARTFS_SERVER", server.url)
    return artfs


def log(artfs: Artfs, folder: Path, name: str, **files: str) -> None:
    folder.mkdir(exist_ok=True)
    for path, text in files.items():
        (folder / path).write_text(text)
    artfs("log", str(folder), name)


def test_usage(there: Artfs, tmp_path: Path) -> None:
    log(there, tmp_path / "data", "used/cars", a="a" * 1000, b="b" * 5000)
    log(there, tmp_path / "data", "used/cars", a="A" * 1000)
    log(there, tmp_path / "data", "used/boats")
    (used,) = there("usage", "used", "--json").json
    assert (used["entity"], used["project"], used["quota"]) == ("local", "used", None)
    cars, boats = sorted(used["collections"], key=lambda each: -each["versions"])
    assert (cars["name"], cars["versions"], cars["size"]) == ("cars", 2, 12_000)
    assert (boats["name"], boats["versions"], boats["size"]) == ("boats", 1, 6_000)
    # Three files and two trees, the second of which both have.
    assert used["blobs"] == 5
    assert 7_000 < cars["unique_size"] == used["unique_size"] < 8_000
    assert 6_000 < boats["unique_size"] < cars["unique_size"]
    assert "used/cars" in there("usage").out
    assert "7." in there("usage", "used").lines[-1]
    assert "no project 'none'" in there("usage", "none", code=3).err


def test_usage_of_this_machines_own(artfs: Artfs, tmp_path: Path) -> None:
    assert artfs("usage").lines == ["there are no projects of local"]
    log(artfs, tmp_path / "data", "used/cars", a="a" * 1000, b="b" * 5000)
    log(artfs, tmp_path / "data", "used/cars", a="A" * 1000)
    (used,) = artfs("usage", "--json").json
    (cars,) = used["collections"]
    assert (used["blobs"], used["quota"], cars["versions"], cars["size"]) == (5, None, 2, 12_000)
    assert cars["unique_size"] == used["unique_size"]
    assert "12,000" not in artfs("usage").out
    assert "11.7 KiB" in artfs("usage").out


def test_quotas(there: Artfs, home: Path, tmp_path: Path) -> None:
    log(there, tmp_path / "data", "full/cars", a="a" * 1000)
    assert there("quota", "full").out.endswith("as much as there is room for\n")
    shown = there("quota", "full", "2000", "--json").json
    assert (shown["project"], shown["quota"], 1000 < shown["unique_size"] < 1200) == ("full", 2000, True)
    (tmp_path / "data" / "b").write_text("b" * 1000)
    refused = there("log", str(tmp_path / "data"), "full/cars", code=9)
    assert "quota of local/full is used up" in refused.err
    assert "of 2.0 KiB" in there("quota", "full").out
    # On the database alone, as an administrator beside the server does.
    database = str(home / "server" / "catalog.db")
    assert there("quota", "full", "none", "--database", database).out.endswith("room for\n")
    there("log", str(tmp_path / "data"), "full/cars")
    assert [row["detail"] for row in there("audit", "full", "--action", "set_quota", "--json").json] == [
        {"nbytes": None}, {"nbytes": 2000},
    ]
    assert "bad size" in there("quota", "full", "much", code=2).err
    assert there("quota", "none", code=3).err


def test_gc_by_a_call(there: Artfs, tmp_path: Path) -> None:
    log(there, tmp_path / "data", "swept/cars", a="swept")
    there("delete", "-y", "--delete-aliases", "swept/cars:v0")
    done = there("gc", "--dry-run", "--json").json
    assert done["dry_run"]
    assert done["kept"] >= 2
    # What was deleted a moment ago stays for the grace period.
    done = there("gc", "--grace", "1h", "--json").json
    assert (done["removed"], done["unread"], done["dry_run"]) == (0, [], False)
    assert "are needed" in there("gc").out
    assert "marking what versions need" in there("gc").err


@pytest.mark.parametrize(("grace", "words"), [("5m", "grace"), ("never", "write a time"), ("soon", "bad ttl")])
def test_grace_periods_that_are_none(there: Artfs, grace: str, words: str) -> None:
    assert words in there("gc", "--grace", grace, code=2).err


def test_gc_on_database_and_bucket(artfs: Artfs, home: Path, server: ServerProcess, tmp_path: Path) -> None:
    database, blobs = str(home / "server" / "catalog.db"), str(home / "server" / "blobs")
    done = artfs("gc", "--database", database, "--blobs", blobs, "--json").json
    assert (done["removed"], done["orphans"]) == (0, 0)
    assert "is not this database's" in artfs("gc", "--database", database, "--blobs", str(tmp_path / "other"), code=2).err
    assert "no database" in artfs("gc", "--database", str(tmp_path / "none.db"), code=3).err


def test_gc_wants_an_administrator(
    artfs: Artfs, refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "closed"
    with artfs_serve("--home", home, environ={"ARTFS_CONFIG": "/dev/null"}) as closed:
        database = str(home / "server" / "catalog.db")
        secret = artfs("token", "create", "ann", "--grant", "vision=admin", "--database", database).out.strip()
        monkeypatch.setenv("ARTFS_SERVER", closed.url)
        monkeypatch.setenv("ARTFS_TOKEN", secret)
        assert "administrator" in refused("gc", code=13)
        assert "administrator" in refused("quota", "vision", "5G", code=13)
